"""Every fault of the list has one row in the book, and every test that a row names exists."""

import ast
from functools import cache

import pytest
from pages import ROOT, code_cells

from skelbook.report.faults import STATES, fault_rows, read_faults
from skelbook.report.tables import markdown_table

FAULTS = read_faults()


@cache
def names_in(file):
    "Names of the tests that pytest collects from a file."
    tree = ast.parse((ROOT / "tests" / file).read_text(encoding="utf-8"))
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def test_every_fault_is_there_once_and_in_order():
    assert FAULTS["number"].tolist() == [f"F{k}" for k in range(1, 61)]


@pytest.mark.parametrize("row", FAULTS.to_dict("records"), ids=lambda row: row["number"])
def test_a_row_names_tests_that_exist(row):
    assert row["state"] in STATES and row["fault"] and row["here"]
    named = row["tests"].split()
    assert bool(named) == (row["state"] != "not yet"), "what is done is tested, and nothing else"
    assert len(set(named)) == len(named)
    for test in named:
        file, name = test.split("::")
        assert file.split("/")[-1].startswith("test_") and name.startswith("test_")
        assert name in names_in(file), f"{file} has no {name}"


@pytest.mark.parametrize("first, last", [(1, 10), (37, 50), (51, 60)])
def test_the_page_shows_the_rows_as_they_are_now(first, last):
    page = ROOT / "nbs" / "88_report.faults.ipynb"
    shown = ["".join(output.get("data", {}).get("text/markdown", ""))
             for cell in code_cells(page) for output in cell["outputs"]]
    table = markdown_table(fault_rows(FAULTS, first, last, "../")).rstrip()
    assert table in map(str.rstrip, shown), "run nbs/88_report.faults.ipynb again"
