# ---
# jupyter:
#   kernelspec:
#     display_name: python3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # NTU RGB+D from its raw files
#
# > The .skeleton files of NTU-60 or NTU-120 become a store
#
# A recording holds bodies, among them furniture and people counted twice. Which of them are people
# is decided by one of four published methods; "pyskl" gives what the public annotation files hold.
# The work is kept in parts beside the store, DEST.parts: the same command continues after an
# interruption. When the store is complete, the parts are removed, and NAME.report.json says
# what became of the files.

# %%
import json
import os
import shutil
from pathlib import Path

from skelbook.core import atomic_write, progress_printer
from skelbook.data.catalogue import convert
from skelbook.data.ntu_persons import (
    METHODS,
    ON_ERROR,
    find_recordings,
    prepare_ntu,
    raw_origin,
    short_report,
)
from skelbook.data.store import Source, open_store
from skelbook.prep import listed, print_table, settle, write_report

# %% tags=["parameters"]
raw = ""             # folder with the .skeleton files, at any depth
dest = ""            # store to write, NAME.skel
task = 60            # 60 or 120 actions
method = "pyskl"     # who counts as a person: pyskl | mmaction2 | skelact | ctrgcn
workers = 0          # number of processes (0: one per processor core)
on_error = "raise"   # raise: a damaged file ends it; skip: it is left out, and reported
policy = "error"     # error | drop | interpolate: what happens to faulty clips
allow = ""           # faults to accept, such as F25,F28

# %%
settle(globals(), "raw", "dest", task=[60, 120], method=list(METHODS), on_error=ON_ERROR,
       policy=["error", "drop", "interpolate"])
store, parts = Path(dest), Path(f"{dest}.parts")

# %% [markdown]
# Is it there already?

# %%
files, _ = find_recordings(raw, task)
if store.exists():
    origin = raw_origin(files, task, method, on_error)
    outline = Source(f"ntu{task}", "nturgb+d", (), {}, list, 0, origin)
    convert(outline, store, policy, listed(allow))           # raises if it is made from others

# %% [markdown]
# Read, clean, examine, write.

# %%
if store.exists():
    print(f"already complete: {dest}")
else:
    data, found = prepare_ntu(raw, task, method, workers or os.cpu_count(), on_error, parts,
                              progress_printer(f"reading {len(files):,} files"))
    print_table(short_report(found))
    findings = convert(data, store, policy, listed(allow), progress_printer("converting"))
    report = write_report(open_store(store), findings)
    with atomic_write(store.with_name(f"{store.stem}.report.json")) as path:
        path.write_text(json.dumps(report | {"raw files": found}, indent=1), encoding="utf-8")
    shutil.rmtree(parts)
