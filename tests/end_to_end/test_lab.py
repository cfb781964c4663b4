"""The training notebook in JupyterLab, in a real browser: open it, "Run all", look.

Needs Chromium and npm's `playwright-core` where Node finds it (`NODE_PATH`); without them the test
is skipped. Run it alone with `make lab-check`, which prints where the screenshot is.
"""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
from terminal import READER, ROOT

HERE = Path(__file__).resolve().parent
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM = next(filter(None, map(shutil.which, BROWSERS)), None)


def has_playwright():
    "True when Node finds playwright-core."
    if not shutil.which("node"):
        return False
    look = ["node", "-e", "require.resolve('playwright-core')"]
    return subprocess.run(look, cwd=HERE, capture_output=True).returncode == 0


def free_port():
    "A port nobody listens on."
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def lab(tmp_path):
    "Address of a JupyterLab that serves `tmp_path`."
    address = f"http://127.0.0.1:{(port := free_port())}"
    command = [Path(sys.executable).parent / "jupyter-lab", "--allow-root", "--no-browser",
               "--ip=127.0.0.1", f"--port={port}", "--IdentityProvider.token=",
               "--LabApp.expose_app_in_browser=True", f"--ServerApp.root_dir={tmp_path}"]
    with open(tmp_path / "server.log", "w") as log:
        own = {**READER, "JUPYTER_CONFIG_DIR": str(tmp_path / "config")}
        server = subprocess.Popen(command, stdout=log, stderr=log, cwd=tmp_path, env=own)
    try:
        for _ in range(120):
            try:
                urllib.request.urlopen(f"{address}/api", timeout=1).read()
                break
            except OSError:
                time.sleep(0.5)
        yield address
    finally:
        server.terminate()
        server.wait(30)


@pytest.mark.skipif(not CHROMIUM, reason="no Chromium on this machine")
@pytest.mark.skipif(not has_playwright(), reason="no playwright-core where Node looks (NODE_PATH)")
def test_run_all_in_jupyterlab(lab, tmp_path):
    notebook = (ROOT / "nbs/train.ipynb").read_text()
    small, changed = re.subn(r'"(epochs +)= 0', r'"\1= 1', notebook)
    small, named = re.subn(r'"(out +)= \\"\\"', rf'"\1= \\"{tmp_path}/run\\"', small)
    assert changed == named == 1, "the parameters epochs and out were not found"
    (tmp_path / "train.ipynb").write_text(small)
    picture = Path(os.environ.get("SCREENSHOT", tmp_path / "lab.png"))
    done = subprocess.run(["node", HERE / "lab.mjs", f"{lab}/lab/tree/train.ipynb?reset", picture,
                           CHROMIUM], capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    print("screenshot:", picture, seen)
    assert seen["errors"] == [] and seen["ran"] == seen["cells"] > 3 and seen["pictures"] >= 4
    assert (tmp_path / "run/DONE").is_file()
