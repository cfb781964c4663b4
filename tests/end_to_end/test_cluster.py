"""Sweeps on several processes and on a Slurm of one machine, whose jobs die on the way."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from filelock import FileLock
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


def test_a_sweep_on_this_machine_ends_complete_though_a_job_is_killed(clips, tmp_path, sweeping):
    jobs = plan_sweep(data=clips, out=str(tmp_path / "runs"), **GIVEN)
    future, shown = sweeping("local", jobs)
    wait_until(lambda: begun(jobs[0].folder))
    keepers = processes(["skelbook.evaluate.cluster", str(jobs[0].folder)])
    task = int(Path(f"/proc/{keepers[0]}/stat").read_text().rsplit(")")[1].split()[1])
    os.kill(task, signal.SIGKILL)                           # the keeper's parent
    assert future.result(timeout=900) == [], shown
    name = jobs[0].folder.name
    assert f"{name}: was taken away and is sent again" in shown
    assert [run_state(job.folder) for job in jobs] == ["complete"] * 3
    assert outcome(jobs[0].folder) == undisturbed(jobs[0], tmp_path / "whole")
    table = results_table(collect_runs(tmp_path / "runs"))
    assert table["stream"].tolist() == ["joint", "bone", "two-stream"]
    assert not processes([str(tmp_path)])
    shown.clear()
    assert cluster.run_on("local", jobs, tell=shown.append) == []
    assert shown == ["3 of 3 are complete"]


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
def test_a_slurm_job_that_is_killed_is_sent_again(clips, slurm, tmp_path, sweeping):
    jobs = plan_sweep(data=clips, out=str(tmp_path), **GIVEN | {"streams": "joint", "epochs": 20})
    future, shown = sweeping("slurm", jobs)
    wait_until(lambda: begun(jobs[0].folder))
    subprocess.run(["scancel", number_of(jobs[0].folder)], check=True)
    assert future.result(timeout=900) == [], shown
    assert f"{jobs[0].folder.name}: was taken away and is sent again" in shown
    assert run_state(jobs[0].folder) == "complete"


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
