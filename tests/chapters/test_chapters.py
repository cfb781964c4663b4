"""Every chapter runs from top to bottom, and shows again what is stored with it.

Numbers are left out of the comparison: accuracies of small trainings differ from processor to
processor, and times from moment to moment.
"""

import copy
import os
import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from skelbook.core import project_root

NBS = project_root() / "nbs"
CHAPTERS = [*sorted(NBS.glob("[0-9]*.ipynb")), NBS / "index.ipynb"]
DATA = Path(os.environ.get("SKELBOOK_DATA", project_root().parent / "shared" / "data"))
IF_THERE = re.compile(r"(.*\n)*if (present|samples):")
NUMBER = re.compile(r"[-+]?\d[\d.,]*(e[-+]?\d+)?")


def words(text):
    "A text without its numbers and the space that they need."
    return " ".join(NUMBER.sub("#", text).split())


def shown(cell):
    "What a cell shows: the words of its texts, and the kinds of everything else."
    said, kinds = "", []
    for output in cell.get("outputs", []):
        if output["output_type"] == "stream":
            said += output["text"] if output["name"] == "stdout" else ""
        else:
            kinds.append(sorted(output["data"]))
            if "image/png" not in output["data"]:
                said += output["data"].get("text/plain", "")
    return words(said), kinds


def run(notebook):
    "A notebook after it was run as it is run in JupyterLab."
    notebook = copy.deepcopy(notebook)
    environment = {name: value for name, value in os.environ.items() if name != "MPLBACKEND"}
    client = NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(NBS)}})
    client.execute(env=environment)
    return notebook


def changes(stored, now, data=True):
    """Cells that show something else now, each with what is stored and what it shows.

    A cell that shows recordings shows nothing where there are none, so where `data` is False.
    """
    pairs = enumerate(zip(stored["cells"], now["cells"], strict=True))
    found = {number: (shown(old), shown(new)) for number, (old, new) in pairs
             if data or not IF_THERE.match(old["source"]) or shown(new) != ("", [])}
    return {number: (old, new) for number, (old, new) in found.items() if old != new}


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_a_chapter_runs_and_shows_what_is_stored_with_it(path):
    stored = nbformat.read(path, as_version=4)
    assert not changes(stored, run(stored), DATA.is_dir()), f"run {path.name} again and save it"


def test_what_is_stale_is_found_and_other_numbers_are_not():
    cells = [nbformat.v4.new_code_cell(code) for code in (
        "3.25", "print('loss 1.5, 20 s')", "print('new words')", "x = 1", "import this, sys")]
    stored = nbformat.v4.new_notebook(cells=cells)
    now = run(stored)
    assert sorted(changes(stored, now)) == [0, 1, 2, 4]          # nothing is stored
    stored = copy.deepcopy(now)
    stored["cells"][1]["outputs"][0]["text"] = "loss 12.75, 3 s\n"
    assert changes(stored, now) == {}
    stored["cells"][2]["outputs"][0]["text"] = "old words\n"
    assert changes(stored, now) == {2: (("old words", []), ("new words", []))}


def test_a_cell_without_its_recordings_may_show_nothing_and_no_other_cell_may():
    cells = [nbformat.v4.new_code_cell(code) for code in (
        "present = True", "if present:\n    print('a clip')", "print('always')")]
    now = run(nbformat.v4.new_notebook(cells=cells))
    bare = copy.deepcopy(now)
    bare["cells"][1]["outputs"] = []
    assert changes(now, bare, data=False) == {}
    assert changes(now, bare, data=True) == {1: (("a clip", []), ("", []))}
    bare["cells"][2]["outputs"] = []
    assert list(changes(now, bare, data=False)) == [2]
