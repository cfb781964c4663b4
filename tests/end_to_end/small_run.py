"""A training of a second or two, and a way to die at any moment of it."""

import atexit
import io
import os
import shutil
import signal
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from unittest import mock

import skelbook.learner.train as training
from skelbook.data.catalogue import CATALOGUE, open_data
from skelbook.data.store import open_store, write_store
from skelbook.evaluate.clips import score_run
from skelbook.learner.group import ALONE
from skelbook.learner.loop import make_optimizer
from skelbook.learner.recipes import plan
from skelbook.transforms.pipelines import GraphPipeline

TINY = dict(width=4, clip_len=8, epochs=2, batch=8, clips=2)


FOLDER = Path(tempfile.mkdtemp(prefix="skelbook-"))      # a project with the data of these runs
atexit.register(shutil.rmtree, FOLDER)       # children end without it (os._exit)


def few_clips(data="synthetic"):
    "A built-in store with 16 training clips and 8 test clips."
    path = FOLDER / f"few-{data}.skel"
    if path.exists():
        return open_store(path)
    source, entry = open_data(data).source(), CATALOGUE[data]
    splits = {entry.train: source.splits[entry.train][::90],
              entry.test: source.splits[entry.test][::108]}
    chosen = {name for names in splits.values() for name in names}
    few = replace(source, splits=splits, count=len(chosen), samples=lambda: (
        sample for sample in source.samples() if sample["name"] in chosen))
    return open_store(write_store(path, few))


def small_setup(folder, group=ALONE, model="agcn", data="synthetic", workers=0, compile=False,
                **changes):
    "`Setup` of a tiny run in a folder; `changes` are fields of the recipe."
    planned = plan(out=str(folder), model=model, data=data, workers=workers, compile=compile)
    tiny = {k: v for k, v in TINY.items() if model == "agcn" or k not in ("width", "clips")}
    planned = replace(planned, recipe=replace(planned.recipe, **tiny | changes))
    with (mock.patch.object(training, "open_data", lambda *names: few_clips(data)),
          mock.patch.object(training, "project_root", lambda: FOLDER)):
        return training.prepare_run(planned, io.StringIO(), group)


def finish(setup):
    "Trains and tests; returns the lines that were shown."
    shown = []
    training.train(setup, shown.append)
    score_run(setup)
    return shown


def die_at(moment):
    "Kills this process before batch or file number `moment` of those that it uses or writes."
    left = iter(range(moment))

    def counted(function):
        def call(*given):
            if next(left, None) is None:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*given)
        return call

    GraphPipeline.inputs = counted(GraphPipeline.inputs)
    os.replace = counted(os.replace)


def die_everywhere(parent):
    "Runs in folders 0, 1, 2, …, each killed one moment later than the one before; the last ends."
    setup = small_setup(parent)
    make_optimizer(setup.model, setup.plan.recipe)      # slow the first time; the children share it
    moment, status = 0, None
    while status != 0:
        process = os.fork()
        if process == 0:
            die_at(moment)
            finish(small_setup(f"{parent}/{moment}"))
            os._exit(0)
        status, moment = os.waitpid(process, 0)[1], moment + 1


if __name__ == "__main__":
    die_everywhere(sys.argv[1])
