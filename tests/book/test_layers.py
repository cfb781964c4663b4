"""A module imports only from its left, and importing the package costs nothing."""

import ast
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter

import pytest
from pages import MODULES, ROOT, module_name, name

LAYERS = ["core", "keyed", "viz", "graph", "data", "transforms", "models", "learner", "evaluate",
          "report", "command", "prep"]
NAMES = {module_name(path) for path in MODULES}
LIGHT = ["skelbook", "skelbook.core", "skelbook.keyed", "skelbook.command", "skelbook.prep",
         "skelbook.learner.recipes", "skelbook.learner.runs", "skelbook.evaluate.fusion",
         "skelbook.evaluate.plans", "skelbook.evaluate.viewing"]
HEAVY = {"torch", "matplotlib", "pandas", "IPython"}


def layer(module):
    "Place of a dotted name such as `skelbook.data.store` in `LAYERS`."
    return LAYERS.index(module.split(".")[1])


def imported(path):
    "Dotted names of this package that a module imports anywhere in its text."
    package = module_name(path).split(".")[:-1]
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        if isinstance(node, ast.ImportFrom):
            base = package[:len(package) + 1 - node.level] if node.level else []
            whole = ".".join([*base, *filter(None, [node.module])])
            found |= {whole} | {f"{whole}.{alias.name}" for alias in node.names} & NAMES
    return {module for module in found if module.startswith("skelbook.")}


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_no_module_reaches_a_later_layer(path):
    here = layer(module_name(path))
    upward = [module for module in imported(path) if layer(module) > here]
    assert not upward, f"{name(path)} imports {upward}"


def test_there_are_no_circles():
    try:
        TopologicalSorter({module_name(path): imported(path) for path in MODULES}).prepare()
    except CycleError as circle:
        pytest.fail(" imports ".join(circle.args[1]))


@pytest.mark.parametrize("path", [p for p in MODULES if p.parent.name == "models"], ids=name)
def test_model_chapters_share_blocks_and_nothing_else(path):
    if path.stem in ("zoo", "weights"):
        pytest.skip("these two know every model")
    others = {module for module in imported(path) if module.startswith("skelbook.models.")}
    assert all(module.endswith("blocks") for module in others), others


@pytest.mark.parametrize("module", [m for m in LIGHT if m in NAMES or m == "skelbook"])
def test_light_modules_do_not_load_torch(module):
    check = f"import sys, {module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check], cwd=ROOT, timeout=60).returncode == 0


def test_preparing_data_needs_no_torch_and_no_figures():
    "The scripts in `data_prep/` start in a moment; only the loader knows tensors."
    light = sorted(module for module in NAMES if module.startswith("skelbook.data.")
                   and module != "skelbook.data.loading")
    check = f"""import importlib, sys
for module in {light}:
    importlib.import_module(module)
    if found := {HEAVY} & set(sys.modules):
        sys.exit(f"{{module}} loads {{found}}")"""
    done = subprocess.run([sys.executable, "-c", check], cwd=ROOT, timeout=60, text=True,
                          capture_output=True)
    assert done.returncode == 0, done.stderr


def test_the_command_check_loads_the_standard_library_only():
    check = ("import sys, skelbook.command; seen = {m.split('.')[0] for m in sys.modules}; "
             "sys.exit(bool(seen & {'numpy', 'yaml', 'papermill', 'matplotlib'}))")
    assert subprocess.run([sys.executable, "-c", check], cwd=ROOT, timeout=60).returncode == 0
