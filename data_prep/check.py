# ---
# jupyter:
#   kernelspec:
#     display_name: python3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # The data doctor
#
# > Everything that is wrong with a data set, before a network sees it
#
# PATH is a store, or a file or folder in any format that convert.py reads. Each fault is named
# with the clips that have it and with the remedy. The exit status is 0 if there are at most
# warnings, 1 if there are errors. With --out, what --policy can mend is mended, and the rest is
# written as a store that records what was changed.

# %%
import sys
from json import dumps
from pathlib import Path

from skelbook.core import progress_printer
from skelbook.data.catalogue import READERS, convert, read_source, recognise
from skelbook.data.checks import examine_path
from skelbook.data.store import open_store
from skelbook.prep import listed, printable, reader_options, settle, write_report

# %% tags=["parameters"]
path = ""          # store, file or folder to examine
reader = ""        # format of the data (recognised if not said)
allow = ""         # faults to accept, such as F25,F28
layout = ""        # joint layout: a name, or a JSON file that describes one's own
classes = ""       # text file with the name of a class on each line
options = ""       # options of the reader: NAME=VALUE,NAME=VALUE
json = False       # print the findings as JSON, with all names
policy = "error"   # error | drop | interpolate: what is mended on the way to --out
out = ""           # store to write the mended data to, NAME.skel
report = ""        # page with pictures to write, NAME.html

# %%
policies = ["error", "drop", "interpolate"]
program = settle(globals(), "path", reader=["", *READERS], policy=policies)
told = layout or classes or options
given = reader_options(READERS[reader or recognise(path)], layout, classes, options) if told else {}

# %%
progress = progress_printer("examining", sys.stderr if json else sys.stdout)
source, findings = examine_path(
    path, lambda place: read_source(place, reader, **given), listed(allow), progress)
errors = [finding for finding in findings if finding.severity == "error"]

# %% [markdown]
# What was found, errors first:

# %%
if json:
    about = {"path": Path(path).name, "data": source and source.name,
             "clips": source and source.count, "errors": len(errors),
             "warnings": len(findings) - len(errors)}
    print(dumps(about | {"findings": [finding.as_dict() for finding in findings]}, indent=1))
else:
    for finding in findings:
        print(*printable(str(finding)))
    print(f"{Path(path).name}: errors {len(errors)}, warnings {len(findings) - len(errors)}")

# %% [markdown]
# With `report`, a page of pictures; with `out`, what the policy leaves of the data.

# %%
if report and source:
    from skelbook.report.data_page import write_page

    stream = sys.stderr if json else sys.stdout
    write_page(source, findings, report, progress_printer("drawing", stream))
    print(f"page: {report}", file=stream)
if out and source:
    convert(source, out, policy, listed(allow), progress)
    write_report(open_store(out), findings)

# %%
if program and errors and not (out and source):
    sys.exit(1)
