"""Asking a network what it looks at, and reading a learned graph, without touching the network."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from skelbook.evaluate.interpret import attribution, learned_graphs, map_names, new_links
from skelbook.graph import LAYOUTS, adjacency, find_layout
from skelbook.models.agcn import AGCN
from skelbook.models.posec3d import PoseC3D
from skelbook.transforms.heatmap import find_limbs, joint_volume, limb_volume


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


# -- what a network looks at

@pytest.fixture(params=["joint", "limb"])
def volumes(request):
    "A tiny PoseC3D of each stream, and two volumes for it."
    torch.manual_seed(0)
    small = PoseC3D("penn_action", num_classes=3, stream=request.param, base_width=4,
                    stage_blocks=(1, 1, 1))
    joints = torch.cat((15 * torch.rand(2, 2, 6, 13, 2), torch.rand(2, 2, 6, 13, 1)), -1)
    limbs = find_limbs("penn_action")
    return small, (joint_volume(joints, (16, 16)) if request.param == "joint"
                   else limb_volume(joints, limbs, (16, 16)))


def test_maps_of_a_volume_count_as_the_gradient_says(volumes):
    model, x = volumes
    looks = attribution(model, x)
    leaf = x.clone().requires_grad_()
    model.eval()(leaf).max(1).values.sum().backward()
    expected = torch.einsum("nkthw,nkthw->ntk", leaf.grad, x).abs()
    assert looks.shape == (2, 6, model.num_maps) and (looks > 0).any()
    torch.testing.assert_close(looks, expected, rtol=1e-4, atol=1e-7)
    assert not looks.requires_grad and not x.requires_grad


def test_an_empty_map_does_not_count(volumes):
    model, x = volumes
    x[:, 2], x[:, :, 4] = 0, 0
    looks = attribution(model, x)
    assert (looks[..., 2] == 0).all() and (looks[:, 4] == 0).all() and looks.isfinite().all()


def test_joints_of_several_persons_are_added_up():
    class First(torch.nn.Module):
        def forward(self, x):
            return torch.stack((x[..., 0, 0].sum((1, 2)), x.new_zeros(len(x))), 1)

    x = torch.rand(2, 3, 5, 4, 2)
    looks = attribution(First(), x)
    torch.testing.assert_close(looks[..., 0], x[..., 0, 0].sum(1))
    assert looks.shape == (2, 5, 4) and (looks[..., 1:] == 0).all()


def test_asking_leaves_no_gradient_behind(volumes):
    model, x = volumes
    attribution(model, x)
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_map_has_a_name_of_its_own(layout):
    joints = find_layout(layout).joints
    assert map_names(layout, "bone-motion") == list(joints)
    names = map_names(layout, "limb")
    assert len(set(names)) == len(names) == len(find_limbs(layout))
    for (a, b), name in zip(find_limbs(layout), names, strict=True):
        start, end = name.split(" – ")
        assert start == joints[a] and joints[b].endswith(end)
