"""The book as files: its notebooks, its modules, and what stands in them."""

import ast
import json
import re
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = sorted((ROOT / "nbs").rglob("*.ipynb"))
NOTEBOOKS = [path for path in NOTEBOOKS if ".ipynb_checkpoints" not in path.parts]
MODULES = sorted(path for path in (ROOT / "skelbook").rglob("*.py")
                 if path.name not in ("__init__.py", "_modidx.py"))
TEXT = {".py", ".md", ".ipynb", ".ini", ".toml", ".txt", ".csv", ".json", ".yml", ".mjs", ""}


@cache
def read(path):
    "A notebook as nbformat's nested dicts and lists."
    return json.loads(path.read_text(encoding="utf-8"))


def source(cell):
    "The text of a cell."
    return "".join(cell["source"])


def code_cells(path):
    "The code cells of a notebook."
    return [cell for cell in read(path)["cells"] if cell["cell_type"] == "code"]


def default_exp(path):
    "The module a notebook exports to, as in `data.store`; None for runs and pages."
    found = re.search(r"^#\|\s*default_exp\s+(\S+)", "\n".join(map(source, code_cells(path))), re.M)
    return found and found[1]


def exports(cell):
    "True for a cell that goes into the module."
    return re.search(r"^#\|\s*export", source(cell), re.M) is not None


def module_name(path):
    "Dotted name of a module file, as in `skelbook.data.store`."
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


def public_definitions(path):
    "Functions and classes of a module whose names carry no underscore, as syntax trees."
    return [node for node in ast.parse(path.read_text(encoding="utf-8")).body
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not node.name.startswith("_")]


def name(path):
    "A path as a test's name."
    return str(Path(path).relative_to(ROOT))


def committed_text():
    "Text files that belong to the project: sources, tests, pages and the records of real runs."
    kept = [path for path in ROOT.iterdir() if path.is_file()]
    for folder in ("nbs", "skelbook", "tests", "data_prep", ".ci", ".github"):
        kept += (ROOT / folder).rglob("*")
    kept += (ROOT / "outputs").glob("*/*.*")
    kept += (path for path in (ROOT / "outputs/runs").glob("*/*") if "_synthetic" not in str(path))
    skip = {"__pycache__", ".ipynb_checkpoints", "data"}
    return sorted(path for path in set(kept) if path.is_file() and path.suffix in TEXT
                  and not skip & set(path.relative_to(ROOT).parts[:-1]))


CHAPTERS = [path for path in NOTEBOOKS if default_exp(path)]
RUNS = [path for path in NOTEBOOKS if not default_exp(path) and path.stem != "index"]
