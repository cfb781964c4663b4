# ---
# jupyter:
#   kernelspec:
#     display_name: python3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Make the built-in data
#
# > Twelve actions, 2,304 clips, from a seed
#
# Training makes the built-in data by itself. This script makes it for other ends: with another
# seed, as a pose detector would see it (2d), harder or easier; or as raw text files of the NTU
# kind with planted faults (raw), and beside each file the truth, to try a preparation on.

# %%
import json
from collections import Counter
from pathlib import Path

from skelbook.core import content_hash, progress_printer
from skelbook.data.catalogue import convert
from skelbook.data.store import Source, open_store
from skelbook.data.synthetic import (
    CLASSES,
    FAULTS,
    clip_names,
    split_names,
    synthetic_clips,
    write_skeleton_file,
)
from skelbook.prep import print_table, settle, write_report

# %% tags=["parameters"]
dest = ""          # store to write, NAME.skel; with --raw the folder for the files
seed = 0           # of the data set
view = "3d"        # 3d: depth camera; 2d: pose detector in a video
difficulty = 1.0   # factor on the noise of the depth camera
clips = 0          # only so many, of all actions and people (0: all)
raw = False        # write raw .skeleton files with planted faults

# %%
settle(globals(), "dest", view=["3d", "2d"])
names = sorted(sorted(clip_names(), key=content_hash)[:clips or None])

# %% [markdown]
# As a store: the clips as a source, checked and written like any other data.

# %%
def samples():
    "The clips, one after the other."
    for name, joints, scores, label in synthetic_clips(names, seed, view, difficulty):
        sample = dict(name=name, label=label, joints=joints)
        yield sample if scores is None else sample | dict(scores=scores, image_size=(1080, 1920))


def write_store():
    "Writes the store and its report."
    splits = {split: sorted(set(names) & set(members)) for split, members in split_names().items()}
    splits = {split: members for split, members in splits.items() if members}
    made = {"generator": "synthetic12", "seed": seed, "view": view, "difficulty": difficulty,
            "clips": len(names)}
    layout = {"3d": "nturgb+d", "2d": "coco"}[view]
    source = Source("synthetic12", layout, tuple(CLASSES), splits, samples, len(names), made)
    findings = convert(source, dest, progress=progress_printer("making"))
    if findings is None:
        return print(f"already complete: {dest}")
    write_report(open_store(dest), findings)

# %% [markdown]
# As raw files: each clip gets one of the faults in turn, or none. A swap of two bodies needs two;
# who is alone is spared.

# %%
def fault_of(name):
    "The fault to plant into a clip, a list of one or none."
    fault = ["none", *FAULTS][int(content_hash(name)[:8], 16) % (len(FAULTS) + 1)]
    alone = int(name[-3:]) < 9
    return [] if fault == "none" or (fault == "order swap" and alone) else [fault]


def write_raw():
    "Writes the raw files that are not there yet, and counts the faults."
    planted, new, tell = Counter(), 0, progress_printer("writing")
    for done, name in enumerate(names, start=1):
        truth = Path(dest, f"{name}.json")
        if not truth.exists():
            write_skeleton_file(dest, name, seed, difficulty, fault_of(name))
            new += 1
        made = json.loads(truth.read_text())
        if (made["seed"], made["difficulty"]) != (seed, difficulty):
            raise ValueError(f"{truth}: made with seed {made['seed']} and difficulty "
                             f"{made['difficulty']}; choose another folder")
        planted.update(list(made["faults"]) or ["none"])
        tell(done, len(names))
    if not new:
        print(f"already complete: {dest}")
    print_table({"files": len(names), "planted": dict(sorted(planted.items()))})

# %%
if raw:
    write_raw()
else:
    write_store()
