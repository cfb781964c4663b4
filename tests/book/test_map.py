"""The map of the book is drawn again whenever a chapter joins."""

from pages import CHAPTERS, ROOT, code_cells, read, source

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
