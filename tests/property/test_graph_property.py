"""What holds for every skeleton, tried on random trees."""
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skelbook.graph import adjacency, find_layout, hop_distance

MODES = ("spatial", "stgcn_spatial", "binary_adj")


@st.composite
def trees(draw, largest=12):
    """A tree with shuffled joint numbers: every joint but the root has one parent."""
    size = draw(st.integers(1, largest))
    parents = [draw(st.integers(0, v - 1)) for v in range(1, size)]
    name = draw(st.permutations(range(size)))
    inward = [(name[v], name[p]) for v, p in enumerate(parents, start=1)]
    return dict(num_node=size, inward=inward, center=name[0])


few = settings(max_examples=40, deadline=None)


def relabelled(tree, new):
    return dict(tree, inward=[(new[i], new[j]) for i, j in tree["inward"]],
                center=new[tree["center"]])


@few
@given(trees(), st.integers(0, 4), st.data())
@pytest.mark.parametrize("mode", MODES)
def test_renaming_joints_renames_rows_and_columns(mode, tree, max_hop, data):
    new = data.draw(st.permutations(range(tree["num_node"])))
    renamed = adjacency(relabelled(tree, new), mode, max_hop)
    np.testing.assert_allclose(renamed[:, new][:, :, new], adjacency(tree, mode, max_hop),
                               rtol=1e-15)


@few
@given(trees(), st.randoms(use_true_random=False))
@pytest.mark.parametrize("mode", MODES)
def test_the_order_of_edges_does_not_matter(mode, tree, random):
    shuffled = dict(tree, inward=random.sample(tree["inward"], len(tree["inward"])))
    np.testing.assert_array_equal(adjacency(shuffled, mode), adjacency(tree, mode))


@few
@given(trees(), st.integers(0, 4))
def test_stgcn_subsets_deal_out_one_average(tree, max_hop):
    A = adjacency(tree, "stgcn_spatial", max_hop)
    assert len(A) == 2 * max_hop + 1
    np.testing.assert_allclose(A.sum((0, 1)), 1, rtol=1e-14)
    assert (np.count_nonzero(A, axis=0) <= 1).all()
    np.testing.assert_array_equal(A.sum(0) > 0, hop_distance(tree, max_hop) <= max_hop)


@few
@given(trees())
def test_spatial_columns(tree):
    itself, inward, outward = adjacency(tree, "spatial")
    np.testing.assert_array_equal(itself, np.eye(tree["num_node"]))
    np.testing.assert_array_equal((inward > 0).T, outward > 0)
    for subset in (inward, outward):
        sums = subset.sum(0)
        np.testing.assert_allclose(sums, subset.any(0), rtol=1e-14)


@few
@given(trees())
def test_binary_is_symmetric_and_its_rows_count_neighbours(tree):
    A = adjacency(tree, "binary_adj")[0]
    np.testing.assert_array_equal(A, A.T)
    assert A.trace() == 0 and A.sum() == 2 * (tree["num_node"] - 1)


@few
@given(trees())
def test_hops_on_a_tree(tree):
    size = tree["num_node"]
    hops = hop_distance(tree, max_hop=size)
    parents = find_layout(tree).bones
    np.testing.assert_array_equal(hops, hops.T)
    assert np.isfinite(hops).all()
    assert (hops[:, None, :] <= hops[:, :, None] + hops[None]).all()     # triangle inequality
    to_centre = hops[tree["center"]]
    for joint in set(range(size)) - {tree["center"]}:
        assert to_centre[joint] == to_centre[parents[joint]] + 1


@few
@given(trees(), st.integers(0, 5))
def test_a_limit_only_hides_long_distances(tree, max_hop):
    full, limited = hop_distance(tree, tree["num_node"]), hop_distance(tree, max_hop)
    np.testing.assert_array_equal(limited, np.where(full <= max_hop, full, np.inf))
