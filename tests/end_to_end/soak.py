"""Kills trainings at random moments, many times, and compares how they end: `make soak`.

Writes a table, `outputs/tables/soak.md`: how many processes were killed in how many runs, and how
many of these runs ended with other bits than the one that nobody disturbed.
"""

import argparse
import os
import random
import signal
import sys
import tempfile
import time
from pathlib import Path

import pandas as pd
import shared_run
from test_training import outcome

from skelbook.core import project_root
from skelbook.learner.runs import run_state
from skelbook.report.tables import write_table

KINDS = {
    "graph network": dict(model="agcn", epochs=12, batch=8, shards=2),
    "convolutional network": dict(model="hcn_baseline", epochs=24, batch=8, shards=2, clip_len=16),
    "heatmap network": dict(model="posec3d", data="synthetic-2d", epochs=6, batch=8, shards=2),
}


def trainers(folder):
    "Numbers of the processes that train in a folder, their launcher left out."
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if str(folder).encode() in words and b"torch.distributed.run" not in words:
            found.append(int(entry.name))
    return found


def run(folder, processes, settings, kill=None):
    "Runs to the end, or until a process of it is killed, `kill` seconds after it has begun."
    process = shared_run.start(folder, processes, **settings)
    if kill is not None:
        while not trainers(folder) and process.poll() is None:
            time.sleep(0.02)
        time.sleep(kill)
        if victims := trainers(folder):
            os.kill(random.choice(victims), signal.SIGKILL)
    shown, _ = process.communicate(timeout=300)
    if kill is None and process.returncode:
        sys.exit(f"{folder} did not end: {shown[-3000:]}")
    return process.returncode != 0


def campaign(kind, processes, workers, kills, folder):
    "How many processes were killed, in how many runs, and how many of these have other bits."
    settings, begun = KINDS[kind] | {"workers": workers}, time.monotonic()
    run(folder / "whole", 1, settings | {"workers": 0})
    length = time.monotonic() - begun                 # to load everything, and to train
    done = runs = other = 0
    while done < kills:
        name = folder / f"run{runs}"
        for _ in range(4):                            # several times on the way of one run
            if run_state(name) == "complete" or done == kills:
                break
            done += run(name, processes, settings, kill=random.uniform(0, length))
        if run_state(name) != "complete":
            run(name, processes, settings)
        runs += 1
        other += outcome(name) != outcome(folder / "whole")
    return {"killed": done, "runs": runs, "other bits": other}


def main():
    "The campaign of the command line."
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=60, help="how many, over all kinds of runs")
    parser.add_argument("--seed", type=int, default=0, help="of the moments and the victims")
    options = parser.parse_args()
    random.seed(options.seed)
    cases = [(kind, processes, workers) for kind in KINDS for processes in (1, 2)
             for workers in (0, 2)]
    rows = []
    for kind, processes, workers in cases:
        with tempfile.TemporaryDirectory() as folder:
            kills = -(-options.kills // len(cases))
            row = campaign(kind, processes, workers, kills, Path(folder))
        rows.append({"network": kind, "processes": processes, "workers": workers} | row)
        print(rows[-1], flush=True)
    table = pd.DataFrame(rows)
    write_table(table, project_root() / "outputs" / "tables" / "soak")
    sys.exit(int(table["other bits"].sum()))


if __name__ == "__main__":
    main()
