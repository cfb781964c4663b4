"""Corner cases of layouts and adjacency matrices."""
import dataclasses
import json

import numpy as np
import pytest

from skelbook.graph import (
    LAYOUTS,
    Layout,
    adjacency,
    edge_matrix,
    find_layout,
    hop_distance,
    normalise_columns,
    rest_pose,
)

ARM = dict(num_node=3, inward=[(1, 0), (2, 1)], center=0)


@pytest.mark.parametrize("change, message", [
    (dict(inward=[(1, 0), (3, 1)]), r"inward edge \(3, 1\): joint 3 is outside 0 .. 2"),
    (dict(inward=[(-1, 0)]), "joint -1 is outside"),
    (dict(inward=[(1, 1)]), "not its own neighbour"),
    (dict(inward=[(1, 0, 2)]), "expected a pair"),
    (dict(inward=[1, 0]), "expected a pair"),
    (dict(inward=[(1.0, 0)]), "whole numbers"),
    (dict(center=3), "centre: joint 3 is outside"),
    (dict(center=None), "whole numbers"),
    (dict(num_node=0, inward=[], center=0), "outside"),
    (dict(num_node="3"), "num_node"),
])
def test_dictionaries_that_cannot_work(change, message):
    with pytest.raises(ValueError, match=message):
        find_layout(ARM | change)


def test_dictionary_keys():
    with pytest.raises(ValueError, match="'centre': did you mean 'center'"):
        find_layout(dict(num_node=3, inward=[], centre=0))
    with pytest.raises(ValueError, match="needs inward, center"):
        find_layout(dict(num_node=3))


@pytest.mark.parametrize("changes, message", [
    (dict(bones=(0, 0)), "2 bones"),
    (dict(bones=(0, 0, 3)), "bones: joint 3"),
    (dict(sides=("left", "left", "middle")), "unknown side 'middle'"),
    (dict(sides=("left",)), "1 sides for 3 joints"),
    (dict(dims=4), "2 or 3 dimensions"),
])
def test_layouts_that_cannot_work(changes, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(Layout("arm", ("a", "b", "c"), ((1, 0), (2, 1)), 0), **changes)


def test_nearest_names():
    with pytest.raises(ValueError, match="did you mean 'nturgb\\+d'"):
        adjacency("ntu-rgb+d")
    with pytest.raises(ValueError, match="did you mean 'stgcn_spatial'"):
        adjacency("coco", "stgcn")
    with pytest.raises(ValueError, match="unknown layout"):
        adjacency(17)


def test_a_layout_is_a_value():
    coco = LAYOUTS["coco"]
    assert find_layout(coco) is coco
    assert dataclasses.replace(coco) == coco and hash(dataclasses.replace(coco)) == hash(coco)
    assert json.loads(json.dumps(dataclasses.asdict(coco)))["centre"] == 0


def test_numbers_from_arrays_become_plain_ones():
    layout = find_layout(dict(num_node=3, inward=np.array([[1, 0], [2, 1]]), center=np.int64(0)))
    assert layout == find_layout(ARM)
    json.dumps(dataclasses.asdict(layout))


def test_forests_loops_and_repeated_edges_are_allowed():
    forest = dict(num_node=4, inward=[(1, 0), (3, 2)], center=0)
    assert hop_distance(forest, 3)[0].tolist() == [0, 1, np.inf, np.inf]
    loop = dict(num_node=3, inward=[(1, 0), (2, 1), (0, 2)], center=0)
    assert hop_distance(loop, 2).max() == 1
    twice = dict(ARM, inward=[(1, 0), (1, 0), (2, 1)])
    for mode in ("spatial", "stgcn_spatial", "binary_adj"):
        np.testing.assert_array_equal(adjacency(twice, mode), adjacency(ARM, mode))


def test_a_joint_with_two_inward_edges_has_the_first_as_bone():
    assert find_layout(dict(num_node=3, inward=[(2, 1), (2, 0)], center=0)).bones == (0, 1, 1)


def test_a_single_joint_and_no_edges():
    alone = dict(num_node=1, inward=[], center=0)
    assert adjacency(alone, "binary_adj").tolist() == [[[0]]]
    assert adjacency(alone, "spatial").tolist() == [[[1]], [[0]], [[0]]]
    assert adjacency(alone, "stgcn_spatial").tolist() == [[[1]], [[0]], [[0]]]


def test_max_hop():
    assert adjacency("coco", "stgcn_spatial", max_hop=0).tolist() == [np.eye(17).tolist()]
    with pytest.raises(ValueError, match="max_hop is -1"):
        adjacency("coco", "stgcn_spatial", max_hop=-1)
    np.testing.assert_array_equal(adjacency("coco", "spatial", max_hop=3), adjacency("coco"))


def test_random_mode():
    rng = np.random.default_rng(0)
    A = adjacency("coco", "random", num_filter=8, nx_node=2, init_std=0, init_off=0.5, rng=rng)
    assert A.shape == (8, 34, 34) and (A == 0.5).all()
    with pytest.raises(ValueError, match="pass rng"):
        adjacency("coco", "random")
    with pytest.raises(ValueError, match="only mode 'random'"):
        adjacency("coco", "spatial", nx_node=2)


def test_empty_columns_stay_zero_without_a_warning():
    M = normalise_columns(np.array([[0.0, 2], [0, 2]]))
    assert M.tolist() == [[0, 0.5], [0, 0.5]]
    assert normalise_columns(np.ones((5, 2, 2), dtype=int)).dtype == np.float64
    assert edge_matrix([], 2).tolist() == [[0, 0], [0, 0]]


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=lambda layout: layout.name)
def test_sides_pair_up_in_order(layout):
    """The k-th left joint mirrors the k-th right one."""
    left, right = ([joint.removeprefix(side) for v, joint in enumerate(layout.joints)
                    if layout.sides[v] == side] for side in ("left", "right"))
    assert left == right
    assert layout.dims == (3 if layout.name in ("nturgb+d", "kinect_v1", "utd_mhad", "sbu") else 2)


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=lambda layout: layout.name)
def test_a_layout_is_one_tree_with_the_centre_as_its_root(layout):
    count = len(layout.joints)
    assert len(layout.inward) == count - 1 and len(set(layout.joints)) == count
    assert np.isfinite(hop_distance(layout, count)).all()
    assert [v for v in range(count) if v not in dict(layout.inward)] == [layout.centre]


def test_the_two_orders_of_kinect_v1():
    """The same names and edges; only the trunk is counted the other way round."""
    one, other = LAYOUTS["kinect_v1"], LAYOUTS["utd_mhad"]
    new = [other.joints.index(joint) for joint in one.joints]
    assert new == [3, 2, 1, 0, *range(4, 20)]
    assert {(new[i], new[j]) for i, j in one.inward} == set(other.inward)
    assert new[one.centre] == other.centre


@pytest.mark.parametrize("name", ["sbu", "penn_action", "mediapipe"])
def test_sides_stay_on_their_side(name):
    """No edge leads from the left to the right: a slip of one in a list of edges would."""
    layout = LAYOUTS[name]
    for i, j in layout.inward:
        assert layout.sides[j] in (layout.sides[i], "torso")


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=lambda layout: layout.name)
def test_rest_pose(layout):
    pose = rest_pose(layout)
    assert pose.shape == (len(layout.joints), 2)
    left, right = (pose[[s == side for s in layout.sides]] for side in ("left", "right"))
    np.testing.assert_array_equal(left * [-1, 1], right)
    apart = np.linalg.norm(pose[:, None] - pose, axis=-1) + np.eye(len(pose))
    assert apart.min() > 0.03


@pytest.mark.parametrize("extra", [[], [(4, 0)], [(4, 2)]])     # alone, at the centre, further on
def test_joints_that_no_body_has_fan_out_from_the_centre(extra):
    wand = dict(num_node=5, inward=[(1, 0), (2, 1), (3, 2), *extra], center=0)
    pose, hops = rest_pose(wand), hop_distance(wand, 9)[0]
    np.testing.assert_allclose(np.hypot(*pose.T), np.where(np.isinf(hops), 0, hops), atol=1e-12)


def test_a_ring_of_joints_can_be_drawn():
    ring = dict(num_node=4, inward=[(1, 0), (2, 1), (3, 2), (0, 3)], center=0)
    assert np.isfinite(rest_pose(ring)).all()
