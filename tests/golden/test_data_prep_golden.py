"""The four preparations of raw NTU RGB+D text against the results of the four original scripts.

36 recordings: seven general ones and 29 of which each was made so that one rule decides.
"""

import json
from pathlib import Path

import numpy as np
import pytest

from skelbook.data.ntu import parse_recording
from skelbook.data.ntu_persons import METHODS

HERE = Path(__file__).resolve().parent / "data"
NOBODY = "S011C001P009R001A028"
TOLERANCE = {"pyskl": 0, "mmaction2": 0, "skelact": 2.4e-7, "ctrgcn": 1e-6}


def load():
    "All stored arrays by their keys; texts as bytes."
    found = {}
    for part in ("raw", "norm", "rules_raw", "rules_norm"):
        with np.load(HERE / f"data_prep_{part}.npz") as file:
            found |= {key: file[key] for key in file.files if key != "names"}
    return found


ARRAYS = load()
CASES = json.loads((HERE / "data_prep.json").read_text())["cases"]


def wanted(method, name):
    "The reference's result; ours by agreement where the reference raises."
    return ARRAYS.get(f"expected/{method}/{name}", ARRAYS.get(f"{method}/{name}"))


@pytest.mark.parametrize("name", CASES, ids=[f"{name}: {what}" for name, what in CASES.items()])
@pytest.mark.parametrize("method", METHODS)
def test_same_as_the_reference(method, name):
    recording = parse_recording(name, ARRAYS[f"text/{name}"].tobytes())
    joints, notes = METHODS[method](recording)
    if name == NOBODY:
        assert joints is None and notes == {"frames without any body": recording.num_frames}
        return
    expected = wanted(method, name)
    if method == "ctrgcn":
        assert joints.shape[0] * 75 == expected.shape[1]
        joints = joints.transpose(1, 0, 2, 3).reshape(len(expected), -1)
    assert joints.shape == expected.shape and joints.dtype == expected.dtype
    np.testing.assert_allclose(joints, expected, rtol=0, atol=TOLERANCE[method])


def test_every_recording_and_every_agreed_result_is_tested():
    assert len(CASES) == 36
    agreed = {key.split("/", 1)[1] for key in ARRAYS if key.startswith("expected/")}
    assert agreed == {"pyskl/S006C003P005R001A010", "pyskl/S007C002P013R001A013",
                      "ctrgcn/S006C003P005R001A010"}
    for name in set(CASES) - {NOBODY}:
        assert all(wanted(method, name) is not None for method in METHODS)
