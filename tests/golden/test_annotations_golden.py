"""Person slots of the Kinetics form against the numbers of the reference (MMAction2)."""

import json
from pathlib import Path

import numpy as np
import pytest

from skelbook.data.annotations import decompress

DATA = Path(__file__).parent / "data"
CASES = json.loads((DATA / "heatmap_extra.json").read_text())["decompress"]
ARRAYS = {**np.load(DATA / "heatmap_pipeline.npz"), **np.load(DATA / "heatmap_extra.npz")}


@pytest.mark.parametrize("name, total_frames, max_person",
                         [("squeeze", None, 10), ("nosqueeze", 11, 10), ("max2", None, 2)])
def test_slots(name, total_frames, max_person):
    rng = np.random.default_rng(78)
    count = rng.integers(18, 26)
    frames = np.sort(rng.choice([0, 1, 2, 4, 5, 8], size=count))
    found = (rng.random((count, 17, 3)) * [100, 80, 1]).astype(np.float16)
    check(f"decompress_{name}", *decompress(found, frames, total_frames, max_person))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_ties(case):
    found = np.array(case["keypoint"], case["dtype"])
    frames = None if case["squeeze"] else case["total_frames"]
    joints, scores = decompress(found, np.array(case["frame_inds"]), frames, case["max_person"])
    assert [*joints.shape] == case["result"]["keypoint_shape"]
    check(case["name"], joints, scores)


def check(name, joints, scores):
    "Bit by bit."
    assert joints.dtype == scores.dtype == np.float16
    np.testing.assert_array_equal(joints, ARRAYS[f"{name}/keypoint"])
    np.testing.assert_array_equal(scores, ARRAYS[f"{name}/score"])
