# ---
# jupyter:
#   kernelspec:
#     display_name: python3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Convert a data set
#
# > Any known format becomes a store
#
# The files are read once, looked at by the data doctor, and written as a store, which is what
# training opens. Nothing in them is run, and they are not changed. The store is there when it is
# complete, or not at all; beside it lies a report, NAME.report.json.

# %%
from skelbook.core import progress_printer
from skelbook.data.catalogue import READERS, convert, read_source, recognise
from skelbook.data.store import open_store
from skelbook.prep import listed, reader_options, settle, write_report

# %% tags=["parameters"]
source = ""        # file or folder with the data
dest = ""          # store to write, NAME.skel
reader = ""        # format of the data (recognised if not said)
policy = "error"   # error | drop | interpolate: what happens to faulty clips
allow = ""         # faults to accept, such as F25,F28
layout = ""        # joint layout: a name, or a JSON file that describes one's own
classes = ""       # text file with the name of a class on each line
options = ""       # options of the reader: NAME=VALUE,NAME=VALUE

# %%
settle(globals(), "source", "dest", reader=["", *READERS], policy=["error", "drop", "interpolate"])

# %% [markdown]
# What is it? The reader looks at the outside: names, splits, classes.

# %%
reader = reader or recognise(source)
data = read_source(source, reader, **reader_options(READERS[reader], layout, classes, options))
print(f"{data.name}: {data.count:,} clips, {len(data.classes)} classes, read as {reader}")

# %% [markdown]
# Two passes: the first looks at every clip, the second writes.

# %%
findings = convert(data, dest, policy, listed(allow), progress_printer("converting"))

# %%
if findings is None:
    print(f"already complete: {dest}")
else:
    write_report(open_store(dest), findings)
