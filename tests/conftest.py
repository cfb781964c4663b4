"""One thread and no figure windows for every test; ctrl-C reaches the programs that tests start."""

import os
import signal
import sys

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MPLBACKEND", "Agg")

# A shell starts what runs in its background with SIGINT ignored, and programs inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def closed_figures():
    "No figure stays open for the next test."
    yield
    if pyplot := sys.modules.get("matplotlib.pyplot"):
        pyplot.close("all")
