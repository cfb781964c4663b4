"""The code of a run is what can change its numbers; a package is what its chapters say."""

import json
import shutil

import pytest

from skelbook.core import project_root
from skelbook.learner.code import PIPELINES, START, code_hash, computing_code, stale_chapters
from skelbook.learner.recipes import AS_PUBLISHED

NET = '''
"A network."
import torch

from ..core import choose
from skelbook.models.blocks import half as part

class Net:
    "Shapes: (N, C) -> (N, C)."

    def forward(self, x):
        if x < 0:
            raise ValueError("negative")
        return part(x) * 2    # why
'''
BLOCKS = """
FACTOR = 0.5

def half(x):
    return FACTOR * x

def unused(x):
    return 3 * x
"""


def package(folder, net=NET, blocks=BLOCKS):
    "Folder of a package with two networks that share a block."
    files = {f"{module.replace('.', '/')}.py": "".join(f"def {name}(): 1\n" for name in names)
             for module, names in START.items()}
    files |= {"models/net.py": net, "models/blocks.py": blocks, "core.py": "def choose(): 1\n",
              "models/other.py": "class Other: pass\n", "models/zoo.py": "MODELS = {'net': Net}\n"}
    files["learner/train.py"] += "from ..models.zoo import MODELS\ndef make_model(): MODELS\n"
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    return folder


def test_what_takes_part_is_what_can_be_reached(tmp_path):
    begun = {f"{module}.{name}" for module, names in START.items() for name in names}
    assert set(computing_code("net", "graph", package(tmp_path))) == begun | {
        "models.net.Net", "models.blocks.half", "models.blocks.FACTOR"}


def test_a_start_that_is_gone_is_an_error(tmp_path):
    (package(tmp_path) / "learner/loop.py").write_text("")
    with pytest.raises(KeyError, match="make_optimizer"):
        computing_code("net", "graph", tmp_path)


@pytest.mark.parametrize("where, old, new", [
    ("net", "Shapes:", "Units:"), ("net", "# why", "# why not"), ("net", "negative", "below 0"),
    ("net", "x < 0:", "(x\n            < 0):"), ("net", "A network.", "The network."),
    ("blocks", "3 * x", "4 * x"), ("blocks", "def unused", "def new():\n    pass\n\ndef unused")])
def test_words_and_what_is_not_reached_do_not_count(tmp_path, where, old, new):
    texts = {"net": NET, "blocks": BLOCKS}
    assert old in texts[where]
    changed = texts | {where: texts[where].replace(old, new)}
    assert (code_hash("net", "graph", package(tmp_path / "a"))
            == code_hash("net", "graph", package(tmp_path / "b", **changed)))


@pytest.mark.parametrize("where, old, new", [
    ("net", "* 2", "* 2.0"), ("net", "x < 0", "x <= 0"), ("net", "half as part", "unused as part"),
    ("blocks", "0.5", "0.25"), ("blocks", "FACTOR * x", "x * FACTOR"),
    ("blocks", "def half(x)", "def half(x=0)")])
def test_what_can_change_a_number_counts(tmp_path, where, old, new):
    texts = {"net": NET, "blocks": BLOCKS}
    assert old in texts[where]
    changed = package(tmp_path / "b", **texts | {where: texts[where].replace(old, new)})
    before = package(tmp_path / "a")
    assert code_hash("net", "graph", before) != code_hash("net", "graph", changed)
    assert code_hash("other", "graph", before) == code_hash("other", "graph", changed)


def test_what_only_a_gpu_does_counts_there_alone(tmp_path):
    loop = "class Replay:\n    TRIALS = 3\n\ndef make_optimizer(): Replay\n"
    (package(tmp_path / "a") / "learner/loop.py").write_text(loop)
    (package(tmp_path / "b") / "learner/loop.py").write_text(loop.replace("3", "4"))
    hashes = {gpu: {code_hash("net", "graph", tmp_path / name, gpu=gpu) for name in "ab"}
              for gpu in (False, True)}
    assert [len(found) for found in hashes.values()] == [1, 2]


@pytest.mark.parametrize("model", AS_PUBLISHED)
def test_a_run_has_one_network_and_one_pipeline(model):
    pipeline = AS_PUBLISHED[model].pipeline
    found = computing_code(model, pipeline)
    modules = {name.rpartition(".")[0] for name in found}
    assert modules & {f"models.{name}" for name in AS_PUBLISHED} == {f"models.{model}"}
    classes = {name.rpartition(".")[2] for name in found} & set(PIPELINES.values())
    assert classes == {PIPELINES[pipeline]}
    assert {"learner.train.train_one", "learner.loop.make_optimizer",
            "evaluate.clips.predict_test", "keyed.philox"} <= found.keys()


# -- is the package what its chapters say?

@pytest.fixture
def checkout(tmp_path):
    "Folder with two chapters and their modules, one of which imports from a folder above."
    for name in ("nbs/10_graph.ipynb", "skelbook/graph.py", "nbs/56_models.zoo.ipynb",
                 "skelbook/models/zoo.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(project_root() / name, tmp_path / name)
    assert "\nfrom ..core import" in (tmp_path / "skelbook/models/zoo.py").read_text()
    return tmp_path


def test_the_package_of_this_book_is_what_its_chapters_say():
    assert stale_chapters() == []


@pytest.mark.parametrize("name, old, new, stale", [
    ("nbs/56_models.zoo.ipynb", "def list_models()", "def models()", True),
    ("nbs/56_models.zoo.ipynb", "skelbook.core import", "skelbook.graph import", True),
    ("skelbook/models/zoo.py", "def list_models()", "def models()", True),
    ("nbs/56_models.zoo.ipynb", "# The zoo", "# The park", False)])
def test_an_edited_chapter_or_module_is_stale_and_prose_is_not(checkout, name, old, new, stale):
    text = (checkout / name).read_text(encoding="utf-8")
    (checkout / name).write_text(text.replace(old, new), encoding="utf-8")
    assert stale_chapters(checkout) == (["56_models.zoo.ipynb"] if stale else [])


def test_a_chapter_without_its_module_is_stale_and_one_that_exports_nothing_is_not(checkout):
    (checkout / "skelbook/graph.py").unlink()
    page = {"cells": [{"cell_type": "code", "id": "a", "source": ["1 + 1"]}]}
    (checkout / "nbs/99_own.ipynb").write_text(json.dumps(page))
    assert stale_chapters(checkout) == ["10_graph.ipynb"]


def test_a_half_saved_chapter_is_stale(checkout):
    page = checkout / "nbs/10_graph.ipynb"
    page.write_text(page.read_text()[:5000])
    assert stale_chapters(checkout) == ["10_graph.ipynb"]
