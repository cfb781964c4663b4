"""Faults of files, processes and machines, each made to happen: what is said and what is left.

`nbs/faults.csv` names the test of every fault; these are the ones that fit nowhere else.
"""

import gc
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
import torch
from jupyter_client.kernelspec import KernelSpecManager
from small_run import few_clips, finish, small_setup
from terminal import in_pipe
from test_launch import started
from test_training import outcome, whole  # noqa: F401 (a fixture)

from skelbook.data.loading import Batch
from skelbook.learner import runs
from skelbook.learner.group import ECHO, joined, listening
from skelbook.learner.loop import train_epoch
from skelbook.learner.runs import locked, read_record, read_scores, run_state
from skelbook.learner.train import train
from skelbook.transforms.pipelines import GraphPipeline

HERE = Path(__file__).parent
ENVIRONMENT = os.environ | {"PYTHONPATH": f"{HERE}:{HERE.parents[1]}", "OMP_NUM_THREADS": "1"}
PRIVATE = ["unshare", "--map-root-user", "--mount", "sh", "-c"]     # mounts that end with the shell


def half_written(folder):
    "Names of files in a folder that do not belong there."
    known = {".lock", "DONE", "last.safetensors", "last-but-one.safetensors", "log.csv",
             "recipe.json", "scores.npz"}
    return {path.name for path in folder.iterdir()} - known


# -- files

ON_A_SMALL_DISK = """
import sys
from unittest import mock
from small_run import finish, small_setup
with mock.patch("skelbook.learner.train.SHARE", 0):
    finish(small_setup(sys.argv[1] + "/run"))
"""


@pytest.mark.skipif(subprocess.run([*PRIVATE, "mount -t tmpfs none /mnt"],
                                   capture_output=True).returncode != 0,
                    reason="a small file system cannot be mounted here")
def test_a_disk_that_fills_up_keeps_the_last_whole_checkpoint(whole, tmp_path):  # noqa: F811
    (tmp_path / "small").mkdir()
    (tmp_path / "after").mkdir()
    words = ('mount -t tmpfs -o size=250k none small; "$@" small; status=$?; '       # room for one
             "cp -r small/run after; exit $status")
    done = subprocess.run([*PRIVATE, words, "sh", sys.executable, "-c", ON_A_SMALL_DISK],
                          cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True,
                          timeout=120)
    folder = tmp_path / "after/run"
    assert done.returncode == 1 and "No space left on device" in done.stderr
    assert "last.safetensors cannot be written" in done.stderr
    assert not half_written(folder) and run_state(folder) == "unfinished"
    assert [path.name for path in folder.glob("*.safetensors")] == ["last.safetensors"]
    finish(small_setup(folder))                             # where there is space again
    assert outcome(folder) == outcome(whole)


def told(work):
    "The error of some work that is done by somebody who may not write everywhere."
    read, write = os.pipe()
    process = os.fork()
    if process == 0:
        try:
            if os.geteuid() == 0:
                os.setresuid(65534, 65534, 65534)
            work()
        except BaseException as error:
            os.write(write, f"{type(error).__name__}: {error}".encode())
        finally:
            os._exit(0)
    os.close(write)
    os.waitpid(process, 0)
    with open(read, encoding="utf-8") as file:
        return file.read()


@pytest.mark.parametrize("below", ["", "new"])
def test_a_folder_that_cannot_be_written_stops_a_run_before_its_first_step(below):
    with tempfile.TemporaryDirectory() as place:
        parent = Path(place) / "others"
        parent.mkdir()
        setup = small_setup(parent / below)
        setup.model.forward = None                          # a step would end in a TypeError
        for folder, mode in ((place, 0o755), (parent, 0o555)):
            os.chmod(folder, mode)
        said = told(lambda: train(setup))
        assert said.startswith("PermissionError: ") and f"'{parent}/{below or '.lock'}'" in said
        assert not list(parent.iterdir())


def test_a_run_needs_no_links(whole, tmp_path, monkeypatch):  # noqa: F811
    def refused(*given, **options):
        raise OSError("this file system has no links")

    for name in ("link", "symlink"):
        monkeypatch.setattr(os, name, refused)
    finish(small_setup(tmp_path / "run"))
    assert outcome(tmp_path / "run") == outcome(whole)


def test_a_log_that_cannot_be_written_stops_the_run_and_costs_no_bits(whole, tmp_path,  # noqa: F811
                                                                      monkeypatch):
    def full(folder, rows):
        raise OSError("no space left for log.csv")

    with monkeypatch.context() as patch:
        patch.setattr(runs, "write_log", full)
        with pytest.raises(OSError, match="no space left for log.csv"):
            finish(small_setup(tmp_path / "run"))
    assert run_state(tmp_path / "run") == "unfinished" and not half_written(tmp_path / "run")
    shown = finish(small_setup(tmp_path / "run"))
    assert "1 of 2 epochs are done" in shown[0], "the checkpoint came before the log"
    assert outcome(tmp_path / "run") == outcome(whole)


def test_nothing_depends_on_the_time_of_day(whole, tmp_path, monkeypatch):  # noqa: F811
    moments = (f"2026-01-01T00:00:{59 - k // 2:02}+00:00" for k in range(60))    # back, in pairs
    monkeypatch.setattr(runs, "now", lambda: next(moments))
    monkeypatch.setattr(time, "time", lambda: 0.0)
    finish(small_setup(tmp_path / "run"))
    record = read_record(tmp_path / "run")
    assert record["started"] > record["finished"]
    assert 0 <= record["seconds"] < 60
    assert outcome(tmp_path / "run") == outcome(whole)


# -- processes

@pytest.fixture
def in_workers(monkeypatch):
    "A function that makes loading processes do something before they fetch."
    here, fetch = os.getpid(), GraphPipeline.fetch

    def plant(happens):
        def spoilt(*given):
            if os.getpid() != here:
                happens()
            return fetch(*given)
        monkeypatch.setattr(GraphPipeline, "fetch", spoilt)
    return plant


def loaders():
    "Numbers of this process's children."
    found = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split()
    return set(map(int, found))


def broken_clip():
    raise OSError("joints of clip 'S001' cannot be read")


@pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning")
@pytest.mark.parametrize("happens, says", [
    (lambda: os.kill(os.getpid(), signal.SIGKILL), r"DataLoader worker \(pid.*exited unexpectedly"),
    (broken_clip, r"(?s)DataLoader worker process \d.*joints of clip 'S001' cannot be read")])
def test_a_loading_process_that_dies_ends_the_run_within_seconds(whole, tmp_path,  # noqa: F811
                                                                 in_workers, happens, says):
    before = loaders()
    folder, begun = tmp_path / "run", time.monotonic()
    in_workers(happens)
    with pytest.raises((RuntimeError, OSError), match=says) as error:
        train(small_setup(folder, workers=2))
    assert time.monotonic() - begun < 30
    del error
    gc.collect()                            # the traceback held the loader; a program just ends
    assert run_state(folder) == "unfinished" and not half_written(folder)
    end = time.monotonic() + 10
    while loaders() - before and time.monotonic() < end:
        time.sleep(0.1)
    assert not loaders() - before
    in_workers(lambda: None)
    finish(small_setup(folder, workers=2))
    assert outcome(folder) == outcome(whole)


@pytest.mark.parametrize("model, frames", [("agcn", 8), ("hcn_baseline", 16)])
def test_a_last_step_of_one_clip_is_a_step(tmp_path, model, frames):
    setup = small_setup(tmp_path / "run", model=model, clip_len=frames, batch=5)    # 5, 5, 5 and 1
    finish(setup)
    names = read_scores(tmp_path / "run")["names"]
    split = setup.store.splits[setup.splits[1]]
    assert sorted(names) == sorted(setup.clips.names[split]), "every test clip counts once"


def test_launcher_variables_of_somebody_else_and_a_taken_port_do_no_harm(tmp_path, monkeypatch):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        for name, value in (("RANK", "3"), ("WORLD_SIZE", "4"), ("MASTER_ADDR", "127.0.0.1"),
                            ("MASTER_PORT", str(taken.getsockname()[1]))):
            monkeypatch.setenv(name, value)
        process = started(tmp_path / "run", epochs=1)
        shown, _ = process.communicate(timeout=120)
    assert process.returncode == 0, shown[-3000:]
    assert "ignored: MASTER_ADDR, MASTER_PORT, RANK, WORLD_SIZE" in shown
    assert run_state(tmp_path / "run") == "complete"
    assert read_record(tmp_path / "run")["processes"] == 2


def test_a_second_signal_ends_at_once_but_an_echo_of_the_first_does_not():
    with pytest.raises(KeyboardInterrupt), listening() as asked:
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGINT)
        assert asked == [signal.SIGTERM]
        time.sleep(ECHO)
        os.kill(os.getpid(), signal.SIGINT)
        pytest.fail("the second signal was not obeyed")


def test_a_process_that_was_asked_to_stop_has_a_status_of_its_own(tmp_path):
    folder = tmp_path / "run"
    words = dict(model="hcn_baseline", data=few_clips().path, epochs=500, batch=8, out=folder)
    process = subprocess.Popen(
        [sys.executable, "-m", "skelbook.evaluate.launch",
         *(str(word) for pair in words.items() for word in ("-p", *pair))],
        env=ENVIRONMENT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        for line in process.stdout:
            if line.startswith("epoch 1 "):
                process.terminate()
                break
        shown, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 75, errors[-2000:]
    assert "the same command continues run" in shown.splitlines()[-1] and "Traceback" not in errors
    assert not half_written(folder)


# -- arithmetic

class Scattered(torch.nn.Module):
    "A network with an operation that has no order: two numbers are put in one place."

    def __init__(self):
        super().__init__()
        self.fc = torch.nn.Linear(2, 3)

    def forward(self, x):
        torch.zeros(3).put_(torch.tensor([0, 0]), torch.tensor([1.0, 2.0]))
        return self.fc(x.mean(dim=(1, 2, 3)))


def test_exact_training_names_an_operation_whose_result_depends_on_the_order():
    one, model = torch.ones(4).long(), Scattered()
    batch = Batch(one, one, torch.zeros(4, 1, 5, 2, 2), one, torch.zeros(4, 5), 5 * one)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)

    def step():
        return train_epoch(model, optimizer, [[batch]], lambda batch: batch.joints[:, None],
                           lambda step: 0.1)

    step()
    with joined("cpu"), pytest.raises(RuntimeError, match="^put_ does not have a determin"):
        step()
    step()


# -- notebooks

def test_a_notebook_that_fails_half_way_keeps_what_it_showed_and_is_not_complete(tmp_path):
    folder = tmp_path / "run"
    with locked(folder):                            # as if another process trained in it
        status, _, err = in_pipe("nbs/train.ipynb", "-p", "model", "hcn_baseline", "-p", "data",
                                 few_clips().path, "-p", "epochs", 1, "-p", "out", folder,
                                 timeout=120)
        owner = (folder / ".owner").read_text()
    assert status == 1
    cause = f"another process is working in run folder run ({owner}): wait for it, or stop it"
    assert cause in err and owner.startswith(f"process {os.getpid()} on {socket.gethostname()}")
    cells = json.loads((folder / "train.ipynb").read_text())["cells"]
    outputs = [output for cell in cells for output in cell.get("outputs", [])]
    errors = [output["evalue"] for output in outputs if output["output_type"] == "error"]
    assert errors == [cause] and any("image/png" in o.get("data", {}) for o in outputs)
    assert run_state(folder) == "new"
    left = [".lock", ".train.ipynb.lock", "train.ipynb"]          # locks that nobody holds
    assert sorted(path.name for path in folder.iterdir()) == left


def test_the_kernel_of_the_book_is_there_without_being_registered(tmp_path):
    kernels = KernelSpecManager(kernel_dirs=[str(tmp_path)])
    assert kernels.get_kernel_spec("python3").argv[0] == sys.executable


def test_a_kernel_that_is_not_there_is_named_and_nothing_is_run(tmp_path):
    copy = tmp_path / "copy.ipynb"
    status, _, err = in_pipe("nbs/train.ipynb", copy, "-k", "nowhere", "-p", "out",
                             tmp_path / "run", timeout=60)
    assert status == 2 and len(err.splitlines()) == 1
    assert err.startswith("papermill: there is no kernel 'nowhere' (there are: ")
    assert "use -k python3, or register" in err
    assert err.strip().endswith("-m ipykernel install --sys-prefix --name nowhere")
    assert not copy.exists() and not (tmp_path / "run").exists()
