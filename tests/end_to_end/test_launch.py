"""Processes that a notebook starts: killed, interrupted, orphaned, refused."""

import os
import re
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
from small_run import few_clips
from test_training import outcome

from skelbook.learner.runs import run_state

ROOT = Path(__file__).resolve().parents[2]
GIVEN = dict(model="hcn_baseline", epochs=12, batch=8, shards=2, processes=2, exact=True)
PARENT = """
from skelbook.evaluate.launch import train_in_processes
from skelbook.learner.recipes import plan
given = {given}
train_in_processes(plan(**given), given, lambda line: print(line, flush=True))
"""


def started(folder, **changes):
    "A process that stands for a notebook's kernel and starts the training of a run."
    given = GIVEN | {"data": str(few_clips().path), "out": str(folder)} | changes
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen([sys.executable, "-c", PARENT.format(given=given)], env=environment,
                            text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def children(folder):
    "Numbers of the processes that work on a run, by rank, and of their launcher, None."
    found = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0")
            environment = (entry / "environ").read_bytes().split(b"\0")
        except OSError:                                     # it has ended meanwhile
            continue
        if str(folder).encode() in words and b"skelbook.evaluate.launch" in words:
            rank = [line[5:] for line in environment if line.startswith(b"RANK=")]
            found[int(rank[0]) if rank and b"torch.distributed.run" not in words else None] = int(
                entry.name)
    return found


def wait_for(shown, process, pattern):
    "Reads what a process shows until a line matches."
    for line in process.stdout:
        shown.append(line)
        if re.search(pattern, line):
            return
    pytest.fail("it ended before: " + "".join(shown)[-3000:])


@contextmanager
def at_work(folder, pattern="^epoch 2 "):
    "A process that trains and has shown a line of a pattern, and what it has shown."
    process, shown = started(folder), []
    try:
        wait_for(shown, process, pattern)
        yield process, shown
    finally:
        process.kill()
        process.communicate()


def nobody_left(folder, seconds=30):
    "Does every process of a run end in time?"
    end = time.monotonic() + seconds
    while children(folder) and time.monotonic() < end:
        time.sleep(0.2)
    return not children(folder)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    "The run of one process that nobody disturbed."
    folder = tmp_path_factory.mktemp("launch") / "whole"
    process = started(folder, processes=1)
    shown, _ = process.communicate(timeout=120)
    assert process.returncode == 0, shown[-3000:]
    return folder


def test_a_killed_process_is_replaced_and_the_bits_are_the_same(whole, tmp_path):
    folder = tmp_path / "run"
    with at_work(folder) as (process, shown):
        os.kill(children(folder)[1], signal.SIGKILL)
        rest, _ = process.communicate(timeout=120)
    assert process.returncode == 0, rest[-3000:]
    assert "process 1 was killed (signal 9): all start again at the last checkpoint" in rest
    assert run_state(folder) == "complete" and outcome(folder) == outcome(whole)
    assert nobody_left(folder, 0)


def test_an_interrupt_is_passed_on_and_everything_is_saved(whole, tmp_path):
    folder = tmp_path / "run"
    with at_work(folder) as (process, _):
        process.send_signal(signal.SIGINT)
        rest, _ = process.communicate(timeout=60)
    assert "Stopped: run was stopped and is saved: the same command continues it" in rest
    assert run_state(folder) == "unfinished" and nobody_left(folder, 0)
    with at_work(folder, "^run continues: ") as (process, _):        # once more, and to the end
        rest, _ = process.communicate(timeout=120)
    assert process.returncode == 0 and outcome(folder) == outcome(whole)


def test_children_do_not_outlive_a_kernel_that_is_killed(tmp_path):
    with at_work(tmp_path / "run") as (process, _):
        process.kill()
        assert nobody_left(tmp_path / "run")
    assert (tmp_path / "run/last.safetensors").is_file()
    assert not (tmp_path / "run/.owner").exists(), "it ended properly"


def test_the_error_of_a_process_is_shown_once_with_its_cause(whole):
    before = outcome(whole)
    (whole / "DONE").unlink()
    process = started(whole, epochs=13)
    shown, _ = process.communicate(timeout=60)
    (whole / "DONE").touch()
    assert process.returncode == 1 and nobody_left(whole, 0)
    assert shown.count("was made with other settings (epochs: 12 there, 13 here") == 1
    assert "training in 2 processes failed: process " in shown and outcome(whole) == before
