"""Every exported definition says what comes back, and the axes of the arrays it takes."""

import ast
import re

import pytest
from pages import MODULES, name, public_definitions

ARRAYS = {"x", "joints", "scores", "logits", "adjacency", "clip", "points", "matrix", "features",
          "distances", "angles", "volume", "volumes", "pose", "poses", "rotation", "weights"}
AXIS = r"(?:[A-Z0-9][\w·*+|\-/ ]*|\.\.\.|…|rows|columns)"
AXES = re.compile(rf"\({AXIS}(?:, *{AXIS})*,?\)|\blength [A-Z]\b")


def definitions(path):
    "Public functions and classes of a module, each with its text."
    text = path.read_text(encoding="utf-8").splitlines()
    for node in public_definitions(path):
        words = "\n".join(text[node.lineno - 1:node.end_lineno])
        yield pytest.param(node, words, id=f"{name(path)}:{node.name}")


DEFINITIONS = [each for path in MODULES for each in definitions(path)]


@pytest.mark.parametrize("node, words", DEFINITIONS)
def test_every_definition_has_a_docstring(node, words):
    text = ast.get_docstring(node)
    assert text, f"{node.name} has no docstring"
    assert re.match(r"[A-Z`0-9\"(|]", text) and len(text.splitlines()[0]) > 10


def takes_arrays(node):
    "True for networks, and for functions with an array by its name or annotation."
    if isinstance(node, ast.ClassDef):
        return any("Module" in ast.unparse(base) for base in node.bases)
    arguments = node.args.posonlyargs + node.args.args + node.args.kwonlyargs
    kinds = [ast.unparse(a.annotation) for a in arguments if a.annotation]
    return any(a.arg in ARRAYS for a in arguments) or re.search("Tensor|ndarray", " ".join(kinds))


@pytest.mark.parametrize("node, words", [d for d in DEFINITIONS if takes_arrays(d.values[0])])
def test_definitions_that_take_arrays_name_their_axes(node, words):
    comments = "\n".join(re.findall(r"#(.*)", words)) + (ast.get_docstring(node) or "")
    assert AXES.search(comments), f"{node.name}: say the shape, as in (N, M, T, V, C)"


@pytest.mark.parametrize("node, words", DEFINITIONS)
def test_functions_fit_on_a_screen(node, words):
    for part in ast.walk(node):
        if isinstance(part, ast.FunctionDef):
            assert part.end_lineno - part.body[0].lineno < 50, f"{part.name} is long"
