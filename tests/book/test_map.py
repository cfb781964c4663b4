"""The map of the book is drawn again whenever a chapter joins."""

import re

import pytest
from pages import CHAPTERS, NOTEBOOKS, ROOT, code_cells, name, read, source

from skelbook.command import declared_parameters

INDEX = ROOT / "nbs" / "index.ipynb"


def test_the_stored_table_lists_every_chapter():
    outputs = [output for cell in code_cells(INDEX) for output in cell["outputs"]]
    table = "".join("".join(output.get("data", {}).get("text/markdown", "")) for output in outputs)
    missing = [path.name for path in CHAPTERS if f"]({path.name})" not in table]
    assert not missing, "run nbs/index.ipynb again"


def test_every_path_through_the_book_begins_and_ends():
    text = "\n".join(source(cell) for cell in read(INDEX)["cells"])
    for words in ("Where to begin", "papermill nbs/train.ipynb -p model agcn", "(M, T, V, C)"):
        assert words in text


@pytest.mark.parametrize("page", [*ROOT.glob("*.md"), *NOTEBOOKS], ids=name)
def test_commands_name_notebooks_and_parameters_that_exist(page):
    text = page.read_text(encoding="utf-8")
    if page.suffix == ".ipynb":
        cells = [cell for cell in read(page)["cells"] if cell["cell_type"] == "markdown"]
        text = "\n".join(map(source, cells))
    for notebook, given in re.findall(r"papermill (nbs/\w+\.ipynb)((?: -p \S+ \S+)*)", text):
        names = set(re.findall(r"-p (\S+)", given)) - {"modle"}           # misspelt on purpose
        assert names <= set(declared_parameters(ROOT / notebook)), (notebook, given)
