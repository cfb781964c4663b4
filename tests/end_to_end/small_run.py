"""A training of a second or two, and a way to die at any moment of it."""

import os
import signal
import sys
from dataclasses import replace
from functools import cache
from unittest import mock

import numpy as np

import skelbook.learner.train as training
from skelbook.data.catalogue import CATALOGUE, open_data
from skelbook.data.store import collect_clips
from skelbook.evaluate.clips import score_run
from skelbook.learner.loop import make_optimizer
from skelbook.learner.recipes import plan
from skelbook.transforms.pipelines import GraphPipeline

TINY = dict(width=4, clip_len=8, epochs=2, batch=8, clips=2)


@cache
def few_clips():
    "The built-in store with 16 training clips and 8 test clips."
    store, entry = open_data("synthetic"), CATALOGUE["synthetic"]
    chosen = np.concatenate([store.splits[entry.train][::90], store.splits[entry.test][::108]])
    clips = collect_clips(dict(name=store.clips.names[i], label=store.clips.labels[i],
                               joints=store.clips.clip(i)) for i in chosen)
    splits = {entry.train: np.arange(16), entry.test: np.arange(16, len(chosen))}
    return replace(store, clips=clips, splits=splits)


def small_setup(folder, **changes):
    "`Setup` of a tiny run in a folder; `changes` are fields of the recipe, or `workers`."
    planned = plan(out=str(folder), workers=changes.pop("workers", 0))
    planned = replace(planned, recipe=replace(planned.recipe, **TINY | changes))
    with mock.patch.object(training, "open_data", lambda *names: few_clips()):
        return training.prepare_run(planned, log=lambda line: None)


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
