"""Reading a learned graph without touching the network."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from skelbook.evaluate.interpret import learned_graphs, new_links
from skelbook.graph import adjacency
from skelbook.models.agcn import AGCN


@pytest.fixture
def model():
    "A small AGCN whose graphs bend with every clip."
    torch.manual_seed(0)
    small = AGCN("coco", num_classes=4, num_persons=1, base_width=4, num_stages=2,
                 inflate_stages=(2,), down_stages=(2,))
    for stage in small.stages:
        stage.spatial.alpha.data[:] = 0.5
    return small


def test_graphs_are_means_over_clips(model):
    x = torch.randn(3, 1, 8, 17, 3)
    graphs = learned_graphs(model, x)
    assert graphs.shape == (2, 3, 17, 17) and graphs.dtype == np.float64
    singly = [learned_graphs(model, clip[None]) for clip in x]
    np.testing.assert_allclose(graphs, np.mean(singly, axis=0), atol=1e-6)
    assert not np.allclose(singly[0], singly[1], atol=1e-3)


def test_the_graph_of_the_first_stage_is_the_one_of_the_equation(model):
    x = torch.randn(2, 1, 8, 17, 3)
    unit = model.eval().stages[0].spatial
    with torch.no_grad():
        inside = model.data_norm(x)
        bent = unit.graph + 0.5 * torch.tanh(unit.similarity(inside))
    np.testing.assert_allclose(learned_graphs(model, x)[0], bent.mean(0), atol=1e-6)


def test_listening_leaves_no_trace(model):
    x = torch.randn(2, 1, 8, 17, 3)
    before, state = model.eval()(x), {k: w.clone() for k, w in model.state_dict().items()}
    learned_graphs(model.train(), x)
    assert torch.equal(model(x), before), "it is in evaluation mode again"
    assert all(torch.equal(state[k], w) for k, w in model.state_dict().items())
    assert not any(stage.spatial._forward_hooks for stage in model.stages)


def test_listening_ends_when_the_network_fails(model):
    with pytest.raises(ValueError, match="the model is made for"):
        learned_graphs(model, torch.randn(2, 1, 8, 5, 3))
    assert not any(stage.spatial._forward_hooks for stage in model.stages)


def test_an_untrained_graph_has_no_new_links():
    body = adjacency("coco", "spatial")
    assert [len(part) for part in new_links(body, body, 5)] == [0, 0, 0]


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 1000), st.integers(0, 400))
def test_new_links_are_the_strongest_off_the_body(seed, count):
    body = adjacency("coco", "spatial")
    graph = body + np.random.default_rng(seed).normal(size=body.shape)
    source, target, weight = new_links(graph, body, count)
    free = body.sum(0) == 0
    assert len(weight) == min(count, free.sum())
    assert free[source, target].all() and len({*zip(source, target, strict=True)}) == len(source)
    np.testing.assert_array_equal(weight, graph.sum(0)[source, target])
    left = np.sort(np.abs(graph.sum(0)[free]))[::-1][:len(weight)]
    np.testing.assert_array_equal(np.abs(weight), left)
