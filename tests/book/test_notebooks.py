"""What every page of the book has, whoever wrote it."""

import ast
import re
from collections import Counter

import pytest
from pages import CHAPTERS, NOTEBOOKS, RUNS, code_cells, default_exp, exports, name, read, source

PICTURES = {"image/png", "image/gif", "image/svg+xml", "image/jpeg"}


def outputs(path):
    "All stored outputs of a notebook."
    return [output for cell in code_cells(path) for output in cell["outputs"]]


def has_picture(cell):
    "True for a code cell with a stored picture."
    return any(PICTURES & set(output.get("data", {})) for output in cell.get("outputs", []))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=name)
def test_notebooks_are_stored_the_same_way(path):
    book = read(path)
    assert (book["nbformat"], book["nbformat_minor"]) == (4, 5)
    assert book["metadata"]["kernelspec"]["name"] == "python3"
    ids = [cell["id"] for cell in book["cells"]]
    assert len(set(ids)) == len(ids)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=name)
def test_no_errors_or_warnings_are_stored(path):
    bad = [output.get("evalue") or "".join(output.get("text", [])) for output in outputs(path)
           if output["output_type"] == "error" or output.get("name") == "stderr"]
    assert not bad


@pytest.mark.parametrize("path", NOTEBOOKS, ids=name)
def test_notebooks_begin_with_a_title_and_a_subtitle(path):
    first = read(path)["cells"][0]
    assert first["cell_type"] == "markdown"
    lines = [line for line in source(first).splitlines() if line]
    assert lines[0].startswith("# ") and lines[1].startswith("> ")


@pytest.mark.parametrize("path", CHAPTERS, ids=name)
def test_a_chapter_is_named_after_its_module(path):
    assert re.fullmatch(r"\d\d_" + re.escape(default_exp(path)), path.stem)


@pytest.mark.parametrize("path", CHAPTERS, ids=name)
def test_a_chapter_is_small_enough_to_read_in_a_diff(path):
    assert path.stat().st_size < 300_000


@pytest.mark.parametrize("path", CHAPTERS, ids=name)
def test_every_picture_has_its_caption(path):
    cells, number, captions = read(path)["cells"], int(path.stem[:2]), []
    for cell, following in zip(cells, [*cells[1:], {"source": ""}], strict=True):
        caption = re.match(r"> \*\*Figure (\d+)\.(\d+)\.\*\* \S", source(following))
        if cell["cell_type"] == "code" and has_picture(cell):
            assert caption, f"no caption below:\n{source(cell)[:300]}"
            captions.append((int(caption[1]), int(caption[2])))
    assert captions == [(number, k) for k in range(1, len(captions) + 1)]
    assert captions, "a chapter has at least one picture, stored"


@pytest.mark.parametrize("path", CHAPTERS, ids=name)
def test_a_chapter_closes_with_what_to_remember(path):
    cells = read(path)["cells"]
    text = "\n".join(source(cell) for cell in cells if cell["cell_type"] == "markdown")
    for title in ("What to remember", "Sources", "Exercises"):
        assert re.search(rf"^#+ {title}", text, re.M), f"no section {title!r}"


@pytest.mark.parametrize("path", CHAPTERS, ids=name)
def test_exported_imports_stand_alone(path):
    for cell in filter(exports, code_cells(path)):
        nodes = ast.parse(source(cell)).body
        kinds = {isinstance(node, (ast.Import, ast.ImportFrom)) for node in nodes}
        assert len(kinds) <= 1, f"imports and other code in one cell:\n{source(cell)[:300]}"


@pytest.mark.parametrize("path", CHAPTERS, ids=name)
def test_every_definition_is_used_on_its_page(path):
    cells = code_cells(path)
    nodes = [node for cell in filter(exports, cells) for node in ast.parse(source(cell)).body]
    names = [node.name for node in nodes if isinstance(node, (ast.FunctionDef, ast.ClassDef))]
    page = "\n".join(map(source, cells))
    words = Counter(re.findall(r"\w+", page))
    unused = [each for each in names if each[0] != "_" and words[each] < 2]
    assert not unused, f"exported, but nothing on the page uses or tests it: {unused}"


@pytest.mark.parametrize("path", CHAPTERS, ids=name)
def test_no_cell_is_longer_than_a_screen(path):
    long = [source(cell).splitlines()[0] for cell in code_cells(path)
            if len(source(cell).splitlines()) > 50]
    assert not long


# -- notebooks that papermill runs

def parameter_cells(path):
    "The cells tagged `parameters`."
    return [cell for cell in code_cells(path) if "parameters" in cell["metadata"].get("tags", [])]


@pytest.mark.parametrize("path", RUNS, ids=name)
def test_a_run_has_one_cell_of_plain_parameters(path):
    cell, = parameter_cells(path)
    for node in ast.parse(source(cell)).body:
        assert isinstance(node, ast.Assign) and len(node.targets) == 1
        assert isinstance(node.targets[0], ast.Name)
        ast.literal_eval(node.value)
    for line in source(cell).splitlines():
        assert "#" in line, f"say what it is: {line}"


@pytest.mark.parametrize("path", RUNS, ids=name)
def test_a_run_holds_no_logic(path):
    for cell in code_cells(path):
        assert not exports(cell)
        kinds = [type(node) for node in ast.walk(ast.parse(source(cell)))]
        assert ast.FunctionDef not in kinds and ast.ClassDef not in kinds


def test_there_is_a_run():
    assert [path.stem for path in RUNS if path.stem == "train"]
