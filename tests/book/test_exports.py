"""Notebook and module are two faces of one thing: what is exported now is what is stored."""

import ast
import configparser
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from pages import MODULES, NOTEBOOKS, ROOT, name

import skelbook

BIN = Path(sys.executable).parent


@pytest.fixture(scope="module")
def again(tmp_path_factory):
    "A copy of the project in which the package was exported anew and the notebooks were cleaned."
    copy = tmp_path_factory.mktemp("copy")
    shutil.copytree(ROOT / "nbs", copy / "nbs", ignore=shutil.ignore_patterns(".ipynb_checkpoints"))
    (copy / "skelbook").mkdir()
    for file in ("pyproject.toml", "settings.ini", "setup.py", "README.md", "skelbook/__init__.py"):
        shutil.copy(ROOT / file, copy / file)
    for command in ("nbdev-export", "nbdev-clean"):
        subprocess.run([BIN / command], cwd=copy, check=True, capture_output=True, timeout=300)
    return copy


def test_the_package_is_what_the_notebooks_export(again):
    def package(root):
        return {str(p.relative_to(root)): p.read_text() for p in (root / "skelbook").rglob("*.py")}

    stored, exported = package(ROOT), package(again)
    assert sorted(stored) == sorted(exported), "`make export`; remove modules of lost notebooks"
    changed = [file for file in stored if stored[file] != exported[file]]
    assert not changed, f"edit the notebook, then `make export`: {changed}"


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=name)
def test_notebooks_are_clean(notebook, again):
    cleaned = again / notebook.relative_to(ROOT)
    assert notebook.read_text() == cleaned.read_text(), "run `make export`"


def test_export_leaves_the_project_file_alone(again):
    assert (again / "pyproject.toml").read_text() == (ROOT / "pyproject.toml").read_text()


def metadata():
    "The one section of settings.ini."
    config = configparser.ConfigParser(delimiters=["="], interpolation=None)
    config.read(ROOT / "settings.ini")
    return config["DEFAULT"]


def test_metadata_is_said_once_and_the_same():
    settings = metadata()
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text())
    nbdev = pyproject["tool"]["nbdev"]
    assert settings["version"] == skelbook.__version__
    assert settings["lib_name"] == pyproject["project"]["name"] == "skelbook"
    assert pyproject["project"]["requires-python"] == f">={settings['min_python']}"
    assert settings["lib_path"] == nbdev["lib_path"] == "skelbook"
    assert settings["nbs_path"] == nbdev.get("nbs_path", "nbs")
    assert settings["allowed_cell_metadata_keys"].split() == nbdev["allowed_cell_metadata_keys"]
    assert settings["jupyter_hooks"] == "False" and not nbdev.get("jupyter_hooks", False)


def test_every_requirement_has_a_tested_pin():
    kinds = ("requirements", "cluster_requirements", "dev_requirements")
    wanted = " ".join(metadata()[kind] for kind in kinds).split()
    pins = re.findall(r"^([\w.-]+)==[\w.]+$", (ROOT / "constraints.txt").read_text(), re.M)
    assert {re.match(r"[\w-]+", want)[0] for want in wanted} <= set(pins)


def test_every_import_is_a_requirement():
    trees = [ast.parse(path.read_text()) for path in MODULES]
    nodes = [node for tree in trees for node in ast.walk(tree)]
    seen = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    seen |= {node.module for node in nodes if isinstance(node, ast.ImportFrom) and not node.level}
    wanted = metadata()["requirements"].split() + metadata()["cluster_requirements"].split()
    known = {re.match(r"[\w-]+", want)[0] for want in wanted}
    known |= {"skelbook", *sys.stdlib_module_names}
    known |= {"IPython", "jupyter_client", "yaml"}              # come with jupyterlab and papermill
    assert {module.split(".")[0].replace("PIL", "pillow") for module in seen} <= known


def test_every_module_has_one_notebook():
    sources = [re.search(r"File to edit: (\S+)\.", path.read_text())[1] for path in MODULES]
    assert len(set(sources)) == len(sources)
