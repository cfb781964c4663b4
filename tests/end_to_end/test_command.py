"""The command of the front page, as it is typed: it runs, or it says at once why not."""

import hashlib
import json
import time

import pytest
from terminal import ROOT, in_pipe, on_terminal

from skelbook.command import claim

TRAIN = "nbs/train.ipynb"
SMALL = ["-p", "model", "agcn", "-p", "epochs", 1, "-p", "clips", 1]
ONE_RUN = pytest.mark.xdist_group("one run")            # these share a fixture that takes a minute
RECORD = {"recipe.json", "log.csv", "scores.npz", "last.safetensors", "train.ipynb", "DONE"}
WRONG = {
    "modle agcn": "did you mean 'model'",
    "model agnc": "did you mean 'agcn'",
    "epochs ten": "epochs",
    "stream depth": "joint",
}


def written():
    "Run folders and notebook copies of this project."
    outputs = ROOT / "outputs"
    return sorted(path for folder in ("runs", "notebooks") for path in (outputs / folder).glob("*"))


def digest(path):
    "Fingerprint of a file."
    return hashlib.sha256(path.read_bytes()).hexdigest()


def check_record(folder):
    "A complete run: every record file, and an executed notebook without errors."
    assert RECORD <= {path.name for path in folder.iterdir()}
    notebook = json.loads((folder / "train.ipynb").read_text())
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert all(cell["execution_count"] for cell in cells if "".join(cell["source"]).strip())
    outputs = [output for cell in cells for output in cell["outputs"]]
    assert sum("image/png" in output.get("data", {}) for output in outputs) >= 4
    assert "error" not in {output["output_type"] for output in outputs}
    assert json.loads((folder / "recipe.json").read_text())["settings"]["model"] == "agcn"


# -- it runs

@pytest.fixture(scope="module")
def run(tmp_path_factory):
    "The literal command on a terminal, one epoch long, into a folder of its own."
    folder = tmp_path_factory.mktemp("typed") / "run"
    before, source = written(), digest(ROOT / TRAIN)
    status, shown = on_terminal(TRAIN, *SMALL, "-p", "out", folder)
    assert status == 0, shown[-3000:]
    assert written() == before and digest(ROOT / TRAIN) == source
    return folder, shown


@ONE_RUN
def test_typed_on_a_terminal_without_an_output_path(run):
    folder, shown = run
    check_record(folder)
    assert "Output Notebook" in shown


@ONE_RUN
def test_typed_again_it_says_that_the_run_is_complete_and_changes_nothing(run):
    folder, _ = run
    before = {path.name: digest(path) for path in folder.iterdir()}
    status, shown = on_terminal(TRAIN, *SMALL, "-p", "out", folder)
    assert status == 0 and "complete" in shown
    assert {path.name: digest(path) for path in folder.iterdir()} == before


def test_in_a_pipe_from_another_folder(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    source = digest(ROOT / TRAIN)
    status, out, err = in_pipe(ROOT / TRAIN, *SMALL, "-p", "out", tmp_path / "run",
                               cwd=tmp_path / "elsewhere")
    assert status == 0, err[-3000:]
    check_record(tmp_path / "run")
    assert '"cells"' not in out, "the notebook was printed instead of written"
    assert digest(ROOT / TRAIN) == source and not list((tmp_path / "elsewhere").iterdir())


@ONE_RUN
def test_an_explicit_output_path_is_used(run, tmp_path):
    folder, _ = run
    before = {path.name: digest(path) for path in folder.iterdir() if path.name in RECORD}
    status, shown = on_terminal(TRAIN, tmp_path / "mine.ipynb", *SMALL, "-p", "out", folder)
    assert status == 0, shown[-3000:]
    assert [path.name for path in tmp_path.iterdir()] == ["mine.ipynb"]
    assert {path.name: digest(path) for path in folder.iterdir() if path.name in RECORD} == before


@ONE_RUN
def test_other_settings_do_not_touch_the_folder(run):
    folder, _ = run
    before = {path.name: digest(path) for path in folder.iterdir()}
    status, shown = on_terminal(TRAIN, *SMALL, "-p", "out", folder, "-p", "epochs", 2)
    assert status == 2 and "epochs: 1 there, 2 here" in shown
    assert {path.name: digest(path) for path in folder.iterdir()} == before


# -- it says why not

def test_while_another_one_runs_it_is_refused_and_the_notebook_is_left_alone(tmp_path):
    copy = tmp_path / "train.ipynb"
    lock = claim(copy)                          # as if it were being written
    copy.write_text("the record of another one")
    status, out, err = in_pipe(TRAIN, *SMALL, "-p", "out", tmp_path, timeout=60)
    lock.release()
    assert status == 2 and out == "" and len(err.strip().splitlines()) == 1, err
    assert "another process is writing" in err and "wait for it, or stop it" in err
    assert copy.read_text() == "the record of another one"
    assert {path.name for path in tmp_path.iterdir()} == {"train.ipynb", ".train.ipynb.lock"}


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize("way", ["terminal", "pipe", "explicit"])
def test_a_wrong_parameter_stops_at_once_and_leaves_nothing(wrong, way, tmp_path):
    before, started = written(), time.monotonic()
    if way == "terminal":
        status, shown = on_terminal(TRAIN, "-p", *wrong.split(), timeout=60)
    elif way == "pipe":
        status, out, shown = in_pipe(TRAIN, "-p", *wrong.split(), timeout=60)
        assert out == ""
    else:
        copy = tmp_path / "copy.ipynb"
        status, shown = on_terminal(TRAIN, copy, "-p", *wrong.split(), timeout=60)
    assert status == 2, shown
    assert WRONG[wrong] in shown and "Traceback" not in shown
    assert len(shown.strip().splitlines()) == 1, shown
    assert time.monotonic() - started < 20
    assert written() == before and not list(tmp_path.iterdir())


def test_other_notebooks_do_not_notice(tmp_path):
    notebook = {"cells": [{"cell_type": "code", "metadata": {"tags": ["parameters"]}, "outputs": [],
                           "source": ["a = 1"], "execution_count": None}],
                "metadata": {"kernelspec": {"name": "python3", "language": "python",
                                            "display_name": "python3"}},
                "nbformat": 4, "nbformat_minor": 4}
    (tmp_path / "own.ipynb").write_text(json.dumps(notebook))
    status, shown = on_terminal("own.ipynb", "-p", "modle", "agcn", cwd=tmp_path)
    assert status == 2 and "Missing argument 'OUTPUT_PATH'" in shown
    status, shown = on_terminal("own.ipynb", "out.ipynb", "-p", "modle", "agcn", cwd=tmp_path)
    assert status == 0 and "Passed unknown parameter: modle" in shown
    assert (tmp_path / "out.ipynb").is_file()
