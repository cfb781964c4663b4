"""Every adjacency of the reference, bit for bit, and the table of its sums."""
import json
from pathlib import Path

import numpy as np
import pytest

from skelbook.graph import LAYOUTS, adjacency, find_layout

DATA = Path(__file__).parent / "data"
CASES = {case["key"]: case for case in json.loads((DATA / "graph.json").read_text())}
FIXED = {key: case for key, case in CASES.items() if case["mode"] != "random"}
ARRAYS = np.load(DATA / "graph.npz")


def build(case):
    return adjacency(case["layout"], case["mode"], max_hop=case["max_hop"])


def test_every_stored_array_is_a_case():
    assert set(CASES) == set(ARRAYS.files)


@pytest.mark.parametrize("key", FIXED)
def test_adjacency(key):
    ours, theirs = build(FIXED[key]), ARRAYS[key]
    assert ours.dtype == theirs.dtype == np.float64
    np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("key", FIXED)
def test_named_layout_equals_the_stored_edges(key):
    case, layout = FIXED[key], LAYOUTS[key.split("/")[0]]
    assert layout.inward == tuple(map(tuple, case["inward"]))
    assert layout.centre == case["center"]
    np.testing.assert_array_equal(build(case), build(dict(case, layout=layout.name)))


@pytest.mark.parametrize("key", FIXED)
def test_summary(key):
    case, A = FIXED[key], build(FIXED[key])
    assert list(A.shape) == case["shape"]
    assert np.count_nonzero(A, axis=(1, 2)).tolist() == case["nonzero"]
    np.testing.assert_allclose(A.sum((1, 2)), case["subset_sums"], rtol=1e-15)
    columns = A.sum((0, 1))
    np.testing.assert_allclose(columns.min(), case["col_sum_min"], rtol=1e-15)
    np.testing.assert_allclose(columns.max(), case["col_sum_max"], rtol=1e-15)


def test_random_repeats_the_legacy_generator():
    case = CASES["coco/random/seed0"]
    settings = {name: case[name] for name in ("num_filter", "init_std", "init_off")}
    ours = adjacency(case["layout"], "random", rng=np.random.RandomState(0), **settings)
    np.testing.assert_array_equal(ours, ARRAYS["coco/random/seed0"])


@pytest.mark.parametrize("layout, mode, max_hop, sums, nonzero", [
    ("coco", "stgcn_spatial", 1, (6.366667, 7.133333, 3.5), (17, 22, 10)),
    ("coco", "stgcn_spatial", 2, (3.879798, 3.041414, 3.122222, 3.723232, 3.233333),
     (17, 18, 14, 28, 12)),
    ("coco", "spatial", 1, (17, 16, 11), (17, 16, 16)),
    ("coco", "binary_adj", 1, (32,), (32,)),
    ("nturgb+d", "stgcn_spatial", 1, (9.116667, 13.133333, 2.75), (25, 40, 8)),
    ("nturgb+d", "stgcn_spatial", 2, (5.198016, 7.040873, 2.120238, 8.298016, 2.342857),
     (25, 36, 12, 46, 12)),
    ("nturgb+d", "spatial", 1, (25, 24, 18), (25, 24, 24)),
    ("nturgb+d", "binary_adj", 1, (48,), (48,)),
    ("openpose", "stgcn_spatial", 1, (6.666667, 8.583333, 2.75), (18, 25, 9)),
    ("openpose", "spatial", 1, (18, 17, 12), (18, 17, 17)),
    ("openpose", "binary_adj", 1, (34,), (34,)),
    ("handmp", "stgcn_spatial", 1, (7.666667, 10, 3.333333), (21, 30, 10)),
    ("handmp", "spatial", 1, (21, 20, 16), (21, 20, 20)),
    ("kinect_v1", "stgcn_spatial", 1, (7.283333, 10.3, 2.416667), (20, 31, 7)),
    ("kinect_v1", "spatial", 1, (20, 19, 15), (20, 19, 19)),
])
def test_published_table(layout, mode, max_hop, sums, nonzero):
    A = adjacency(layout, mode, max_hop=max_hop)
    np.testing.assert_allclose(A.sum((1, 2)), sums, atol=5e-7)
    assert tuple(np.count_nonzero(A, axis=(1, 2))) == nonzero


ENTRIES = {
    ("coco", "stgcn_spatial"): {
        (0, 0, 0): 0.2, (0, 5, 5): 0.25, (1, 5, 0): 0.2, (1, 7, 9): 0.5, (1, 9, 7): 1 / 3,
        (2, 0, 5): 0.25, (2, 5, 7): 1 / 3, (2, 7, 5): 0},
    ("coco", "spatial"): {
        (1, 0, 5): 1, (1, 5, 0): 0, (2, 5, 0): 0.25, (2, 7, 5): 0.5, (2, 9, 7): 1},
    ("nturgb+d", "stgcn_spatial"): {
        (0, 20, 20): 0.2, (1, 1, 20): 0.2, (1, 0, 12): 1 / 3, (1, 12, 0): 0.25,
        (2, 20, 1): 1 / 3, (2, 2, 3): 0.5},
    ("nturgb+d", "spatial"): {
        (1, 20, 1): 1, (2, 1, 20): 0.25, (2, 12, 0): 0.5, (2, 21, 7): 0.5},
}


@pytest.mark.parametrize("layout, mode", ENTRIES)
def test_published_entries(layout, mode):
    A = adjacency(layout, mode)
    for place, value in ENTRIES[layout, mode].items():
        assert A[place] == value, place


def test_far_edges_of_ntu():
    far = adjacency("nturgb+d", "stgcn_spatial")[2]
    expected = {(20, 1), (20, 2), (20, 4), (20, 8), (1, 0), (2, 3), (4, 5), (8, 9)}
    assert set(map(tuple, np.argwhere(far).tolist())) == expected


BONES = {
    "coco": "0 0 0 1 2 0 0 5 6 7 8 0 0 11 12 13 14",
    "openpose": "0 0 1 2 3 1 5 6 2 8 9 5 11 12 0 0 14 15",
    "nturgb+d": "1 20 20 2 20 4 5 6 20 8 9 10 0 12 13 14 0 16 17 18 20 22 7 24 11",
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_bone_parents(name):
    layout = LAYOUTS[name]
    if name in BONES:
        assert layout.bones == tuple(map(int, BONES[name].split()))
    else:                                        # the root with itself, then the inward edges
        tree = {layout.centre: layout.centre, **dict(layout.inward)}
        assert dict(enumerate(layout.bones)) == tree


def test_chained_hand_tips_of_the_original_repositories():
    """Dynamic GCN's graph: the bone tree of nturgb+d, sums 25, 24, 20."""
    ntu = LAYOUTS["nturgb+d"]
    chained = [(v, parent) for v, parent in enumerate(ntu.bones) if v != parent]
    layout = find_layout(dict(num_node=25, inward=chained, center=ntu.centre))
    A = adjacency(layout, "spatial")
    assert A.sum((1, 2)).tolist() == [25, 24, 20]
