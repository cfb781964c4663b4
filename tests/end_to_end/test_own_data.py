"""Somebody's own data, as the front page says: its lines and commands, typed in a fresh copy."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
SECTION = re.search(r"^## On your own data\n(.*?)(?=^## )",
                    (ROOT / "README.md").read_text(encoding="utf-8"), re.M | re.S)[1]
SNIPPET, COMMANDS = (re.search(rf"```{kind}\n(.*?)```", SECTION, re.S)[1]
                     for kind in ("python", "sh"))
CONVERT, TRAIN = COMMANDS.splitlines()


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    "A copy of the project without any data or run."
    copy = tmp_path_factory.mktemp("project") / "skelbook"
    for part in ("skelbook", "data_prep", "nbs/train.ipynb", "pyproject.toml", "settings.ini"):
        (copy / part).parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / part).is_dir():
            shutil.copytree(ROOT / part, copy / part, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / part, copy / part)
    return copy


def typed(command, copy):
    "What a command shows that is typed in the root of the copy."
    environment = os.environ | {"PYTHONPATH": str(copy), "OMP_NUM_THREADS": "1",
                                "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    done = subprocess.run(command, cwd=copy, text=True, capture_output=True, timeout=120,
                          env=environment, shell=isinstance(command, str))
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.fixture(scope="module")
def converted(copy):
    "What the conversion of the arrays shows, whose store lies in the copy then."
    typed(["python", "-c", SNIPPET], copy)
    return typed(CONVERT, copy)


def test_from_arrays_to_an_accuracy_table(copy, converted):
    assert "72 clips, 3 classes" in converted
    assert re.search(r"splits +train: 54, test: 18", converted)
    assert re.search(r"findings +none", converted)
    typed(re.sub(r"epochs \d+", "epochs 1", TRAIN), copy)

    run = copy / "outputs" / "runs" / "agcn_mine_joint_s0"
    promised = set(re.findall(r"`(\w+\.md)`", SECTION))
    assert {"DONE", "train.ipynb", "learned_graph.png"} | promised <= set(os.listdir(run))
    head, _, row = (run / "accuracy.md").read_text(encoding="utf-8").splitlines()
    cells = dict(zip(re.findall(r"[^|]+", head), re.findall(r"[^|]+", row), strict=True))
    cells = {key.strip(): value.strip() for key, value in cells.items()}
    assert (cells["data"], cells["test clips"]) == ("outputs/data/mine.skel", "18")
    with np.load(run / "scores.npz", allow_pickle=False) as scores:
        assert scores["classes"].tolist() == ["circle hand", "sit down", "swing arms"]
        assert scores["scores"].shape == (18, 3)


def test_converting_again_changes_nothing(copy, converted):
    assert "already complete" in typed(CONVERT, copy)
