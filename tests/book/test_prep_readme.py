"""The commands of data_prep/README.md exist, and their words are understood."""

import ast
import re
import shlex

import pytest
from pages import ROOT

from skelbook.command import declared_parameters
from skelbook.prep import read_words

README = (ROOT / "data_prep" / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```\w*\n(.*?)```", README, re.S)
COMMANDS = [shlex.split(line, comments=True) for block in BLOCKS for line in block.splitlines()]
SCRIPTS = [words for words in COMMANDS if words[:1] == ["python"]]
TRAININGS = [words for words in COMMANDS if words[:2] == ["papermill", "nbs/train.ipynb"]]


def settled(text):
    "Positional names in a script's call of `settle`."
    calls = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Call)]
    call = next(call for call in calls if getattr(call.func, "id", "") == "settle")
    return [argument.value for argument in call.args[1:]]


def test_every_script_is_shown():
    scripts = {path.name for path in (ROOT / "data_prep").glob("*.py")}
    assert {f"data_prep/{name}" for name in scripts} == {words[1] for words in SCRIPTS}


@pytest.mark.parametrize("words", SCRIPTS, ids=" ".join)
def test_a_command_parses(words):
    script = ROOT / words[1]
    text = script.read_text(encoding="utf-8")
    positional = settled(text)
    values = read_words(text, words[2:], positional, {}, script.name)
    assert all(values[name] for name in positional)


@pytest.mark.parametrize("words", TRAININGS, ids=" ".join)
def test_a_training_names_data_that_the_catalogue_knows(words):
    from skelbook.data.catalogue import CATALOGUE

    given = dict(zip(words[3::3], words[4::3], strict=True))
    assert set(given) <= set(declared_parameters(ROOT / "nbs" / "train.ipynb"))
    assert given["data"] in CATALOGUE or ".skel" in given["data"]


def test_the_catalogue_and_the_page_know_the_same_data():
    from skelbook.data.catalogue import CATALOGUE

    shown = set(re.findall(r"`([\w-]+)`", README))
    missing = set(CATALOGUE) - shown - {f"sbu-fold{fold}" for fold in (2, 3, 4)}
    assert not missing


def test_conversions_go_where_the_catalogue_looks():
    from skelbook.data.catalogue import CATALOGUE

    written = {words[3].removeprefix("outputs/data/") for words in SCRIPTS
               if words[1].endswith(("convert.py", "ntu_from_raw.py"))}
    expected = {entry.store for entry in CATALOGUE.values() if entry.files}
    assert expected <= written
