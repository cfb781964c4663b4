# ---
# jupyter:
#   kernelspec:
#     display_name: python3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Fetch a public file
#
# > A download that arrives whole or not at all
#
# Nothing in this book downloads by itself; this script does, when it is asked. NAME is one of the
# public annotation files (ntu60-2d, ntu60-3d, ntu120-2d, ntu120-3d, gym, ucf101, hmdb51,
# diving48, k400) or an https address. The same command continues an interrupted download. The
# SHA-256 of what came is kept beside the file; on a later day, under the same address, anything
# else is refused.
#
# The data sets have terms of their own: see data_prep/README.md before you fetch.

# %%
from pathlib import Path
from urllib.parse import unquote, urlsplit

from skelbook.core import choose, progress_printer
from skelbook.data.fetch import fetch, megabytes
from skelbook.data.origins import PUBLIC
from skelbook.prep import settle

# %% tags=["parameters"]
name = ""              # of a public file, or an https address
folder = "."           # where the file goes
offer = "mmaction2"    # mmaction2 | pyskl: whose file (the same data under two names)
sha256 = ""            # the fingerprint that the file must have, if you know it

# %%
settle(globals(), "name", "folder", offer=["mmaction2", "pyskl"])

# %%
if "://" in name:
    address = name
else:
    public = PUBLIC[choose("public file", name, PUBLIC)]
    address = public.addresses[["mmaction2", "pyskl"].index(offer)]
path = Path(folder) / (Path(unquote(Path(urlsplit(address).path).name)).name or "download")
if Path(folder).exists() and not Path(folder).is_dir():
    raise NotADirectoryError(f"{folder} is a file: name a folder for the download")
print(f"{address} -> {path}")

# %%
there = path.exists()
digest = fetch(address, path, sha256, progress_printer("fetching", show=megabytes))
if there:
    print("already complete")
print(f"{path.stat().st_size:,} bytes, SHA-256 {digest}")
