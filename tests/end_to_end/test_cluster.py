"""Sweeps on several processes and on a Slurm of one machine, whose jobs die on the way."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest
from filelock import FileLock
from small_run import few_clips
from terminal import PAPERMILL
from test_derived import random_clips
from test_training import outcome

import skelbook.evaluate.cluster as cluster
from skelbook.evaluate.clips import score_run
from skelbook.evaluate.plans import plan_sweep
from skelbook.learner.group import joined
from skelbook.learner.recipes import plan
from skelbook.learner.runs import read_record, run_state
from skelbook.learner.train import prepare_run, train
from skelbook.report.tables import collect_runs, results_table

pytest.importorskip("submitit", reason="the extra `cluster` is not installed")

ROOT = Path(__file__).resolve().parents[2]
SLURM = ROOT / "tests/end_to_end/slurm.sh"
ONE_SLURM = pytest.mark.xdist_group("slurm")        # two of them would want the same ports
GIVEN = dict(model="hcn_baseline", streams="joint, bone", epochs=5, batch=8, clips=1)


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    "Path of a store of a few clips."
    return str(random_clips(tmp_path_factory.mktemp("clips") / "noise.skel"))


def processes(words):
    "Numbers of the processes whose commands hold all of these words."
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            command = (entry / "cmdline").read_text(errors="replace")
        except OSError:                                     # it has ended meanwhile
            continue
        if all(word in command for word in words):
            found.append(int(entry.name))
    return found


def wait_until(happened, seconds=300):
    "What `happened` returns, once that is true."
    end = time.monotonic() + seconds
    while not (answer := happened()):
        assert time.monotonic() < end, "it never happened"
        time.sleep(0.1)
    return answer


def begun(folder):
    "Has a run trained an epoch, and is there more to do?"
    return (folder / "log.csv").is_file() and run_state(folder) == "unfinished"


def undisturbed(job, folder, **changes):
    "The outcome of a job's training in this process."
    planned = plan(**job.parameters | {"out": str(folder)} | changes)
    with joined("cpu", planned.exact) as group:
        setup = prepare_run(planned, group=group)
        train(setup, lambda line: None)
        score_run(setup)
    return outcome(folder)


def program(**given):
    "A process that stands for the kernel of `sweep.ipynb`."
    lines = ("from skelbook.evaluate.cluster import run_on",
             "from skelbook.evaluate.plans import plan_sweep",
             f"run_on('local', plan_sweep(**{given!r}))")
    return subprocess.Popen([sys.executable, "-c", "\n".join(lines)], stderr=subprocess.PIPE,
                            stdout=subprocess.DEVNULL, text=True)


@pytest.fixture
def sweeping(monkeypatch):
    "Starts a sweep beside this test: its future, and what it tells."
    monkeypatch.setattr(cluster, "LOOK", {"local": 0.3, "slurm": 1})
    with ThreadPoolExecutor(1) as pool:
        def start(kind, jobs, **given):
            shown = []
            return pool.submit(cluster.run_on, kind, jobs, tell=shown.append, **given), shown
        yield start


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_jobs_of_this_machine_end_with_their_sweep_and_save(number, clips, tmp_path):
    given = GIVEN | {"data": clips, "out": str(tmp_path), "epochs": 500, "streams": "joint"}
    job, = plan_sweep(**given)
    process = program(**given)
    try:
        wait_until(lambda: begun(job.folder))
    finally:
        process.send_signal(number)
        process.communicate(timeout=300)
    wait_until(lambda: not processes([str(tmp_path)]))
    assert begun(job.folder) and (job.folder / "last.safetensors").is_file()
    assert not (job.folder / ".owner").exists(), "it ended properly"


def test_failures_are_told_with_the_last_lines_and_are_not_tried_again(clips, tmp_path, sweeping):
    jobs = plan_sweep(data=clips, out=str(tmp_path), **GIVEN)
    for job in jobs[:2]:
        job.parameters["gpus"] = 99
    future, shown = sweeping("local", jobs)
    failed = future.result(timeout=600)
    assert len(failed) == 3 and failed[2].endswith("its parts are not complete")
    assert "gpus" in failed[0] and not any("sent again" in line for line in shown)


# -- Slurm

def answers():
    "Is there a Slurm?"
    found = shutil.which("sinfo")
    return bool(found) and subprocess.run(["sinfo"], capture_output=True).returncode == 0


@pytest.fixture(scope="module")
def slurm(tmp_path_factory):
    "A Slurm: the one that is there, or one of this machine for the time of these tests."
    if answers():
        yield
        return
    if not shutil.which("slurmctld") or not shutil.which("munged") or os.geteuid():
        pytest.skip("no Slurm here: on Debian, as root, sh tests/end_to_end/slurm.sh install")
    folder = tmp_path_factory.mktemp("slurm")
    for parent in (folder, *folder.parents):                # munge's own user has to get there
        if parent.name.startswith(("slurm", "popen-", "pytest-")):
            parent.chmod(0o755)
    with FileLock(Path(tempfile.gettempdir()) / "skelbook-slurm.lock"):     # one at a time
        try:
            subprocess.run(["sh", SLURM, "start", folder], check=True, timeout=60)
            os.environ["SLURM_CONF"] = str(folder / "slurm.conf")
            yield
        finally:
            os.environ.pop("SLURM_CONF", None)
            subprocess.run(["sh", SLURM, "stop", folder], check=True, timeout=60)


def number_of(folder):
    "Slurm's number of the job of a run."
    words = ["squeue", "--noheader", "--format=%i", f"--name={folder.name}"]
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()


@ONE_SLURM
def test_slurm_takes_jobs_away_and_the_bits_are_the_same(clips, slurm, tmp_path, sweeping):
    jobs = plan_sweep(data=clips, out=str(tmp_path / "runs"), **GIVEN | {"epochs": 60})
    future, shown = sweeping("slurm", jobs)
    disturb = {jobs[0].folder: ["scancel", "--signal=USR2"],       # as before the end of its hours
               jobs[1].folder: ["scontrol", "requeue"]}            # as by an administrator
    while disturb:
        folder = wait_until(lambda: [folder for folder in disturb if begun(folder)])[0]
        subprocess.run([*disturb.pop(folder), number_of(folder)], check=True)
    assert future.result(timeout=900) == [], shown
    assert [run_state(job.folder) for job in jobs] == ["complete"] * 3
    for job in jobs[:2]:
        assert outcome(job.folder) == undisturbed(job, tmp_path / job.folder.name)
    logs = [path.read_text() for path in (tmp_path / "runs/jobs").rglob("*_log.out")]
    assert sum("continues: " in log for log in logs) == 2


@ONE_SLURM
def test_two_tasks_of_slurm_train_together(clips, slurm, tmp_path):
    job = plan_sweep(data=clips, out=str(tmp_path), **GIVEN | {"streams": "joint", "epochs": 2})[0]
    same = dict(batch=8, shards=2, exact=True)
    words = [word for name, value in (job.parameters | same).items()
             for word in ("-p", name, str(value))]
    command = ("RANK=$SLURM_PROCID LOCAL_RANK=$SLURM_LOCALID WORLD_SIZE=$SLURM_NTASKS "
               'exec "$0" -m skelbook.evaluate.launch "$@"')
    variables = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29517", "PYTHONPATH": str(ROOT)}
    subprocess.run(["srun", "--ntasks=2", "sh", "-c", command, sys.executable, *words],
                   env=os.environ | variables, check=True, timeout=600)
    assert read_record(job.folder)["processes"] == 2
    assert outcome(job.folder) == undisturbed(job, tmp_path / "whole", **same)


# -- as typed: two models, two streams, two seeds

def kill_training(folder):
    "Kills the process that trains in a run's folder, as its lock names it."
    os.kill(int((folder / ".owner").read_text().split()[1]), signal.SIGKILL)


def cancel_job(folder):
    "Takes a run's job out of Slurm's queue."
    subprocess.run(["scancel", number_of(folder)], check=True)


def marked(mark):
    "Numbers of the living processes whose environment holds a text."
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):                             # not ours, or it has ended
            if mark.encode() in (entry / "environ").read_bytes():
                found.append(int(entry.name))
    return found


@pytest.fixture
def cluster_of(request):
    "A function that makes sure that a cluster is there."
    return lambda kind: kind == "slurm" and request.getfixturevalue("slurm")


@pytest.mark.parametrize("kind, streams, end", [
    ("local", ["joint", "bone", "two-stream"], kill_training),
    pytest.param("slurm", ["joint", "joint-motion"], cancel_job, marks=ONE_SLURM)])
def test_the_sweep_that_is_typed_ends_complete_though_a_job_is_killed(
        kind, streams, end, cluster_of, tmp_path):
    cluster_of(kind)
    models, runs = ["two_stream_cnn", "hcn_baseline"], tmp_path / "runs"
    given = {"model": ",".join(models), "data": few_clips().path, "streams": ",".join(streams[:2]),
             "seeds": "0,1", "epochs": 1, "batch": 8, "out": runs, "cluster": kind}
    words = [str(word) for pair in given.items() for word in ("-p", *pair)]
    sweep = subprocess.Popen([PAPERMILL, "nbs/sweep.ipynb", tmp_path / "sweep.ipynb", *words],
                             cwd=ROOT, env=os.environ | {"MARK": str(tmp_path)}, text=True,
                             stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                             stderr=subprocess.STDOUT)
    try:
        owner = wait_until(lambda: sweep.poll() or next(runs.glob("*/.owner"), None), seconds=900)
        assert not sweep.poll(), sweep.communicate()[0][-3000:]
        end(owner.parent)
        shown, _ = sweep.communicate(timeout=1800)
    finally:
        sweep.terminate()
    assert sweep.returncode == 0, shown[-3000:]
    cells = json.loads((tmp_path / "sweep.ipynb").read_text())["cells"]
    told = str([cell.get("outputs") for cell in cells])
    assert f"{owner.parent.name}: was taken away and is sent again" in told
    folders = [path.parent for path in runs.glob("*/recipe.json")]
    assert len(folders) == 4 * len(streams)
    assert {run_state(folder) for folder in folders} == {"complete"}
    table = results_table(collect_runs(runs))
    assert sorted(zip(table["model"], table["stream"], table["seeds"], strict=True)) == sorted(
        (model, stream, 2) for model in models for stream in streams)
    assert not marked(f"MARK={tmp_path}"), "a process is left"
    assert all(cluster.nobody_in(folder) for folder in folders)
    assert not list(runs.glob("*/.owner")) and not list(runs.glob("*/.*-*"))
