"""A tiny training that several processes share: a program for a launcher, and its starter."""

import json
import os
import subprocess
import sys
from pathlib import Path

from small_run import finish, small_setup
from torch.distributed.elastic.multiprocessing.errors import record

import skelbook.learner.train as training
from skelbook.learner.group import joined

ROOT = Path(__file__).resolve().parents[2]


def start(folder, processes, exact=True, **changes):
    "The launcher of a tiny run in a folder, at work; `changes` go to `small_setup`."
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    words = [sys.executable, "-m", "torch.distributed.run", "--standalone",
             f"--nproc-per-node={processes}", __file__, folder, json.dumps([exact, changes])]
    return subprocess.Popen(list(map(str, words)), env=environment, text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


@record
def main(folder, exact, changes):
    "What each process does."
    training.SAVE_EVERY, training.SHARE = 0.2, 5         # many checkpoints, within epochs too
    with joined("cpu", exact) as group:
        for line in finish(small_setup(folder, group, **changes)):
            print(line, flush=True)


if __name__ == "__main__":
    main(sys.argv[1], *json.loads(sys.argv[2]))
