"""Corner cases of Dynamic GCN, of its parts, and of reading its configuration."""

import numpy as np
import pytest
import torch
import torch.nn as nn
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from skelbook.evaluate.interpret import learned_graphs
from skelbook.graph import LAYOUTS, adjacency
from skelbook.models.dynamic_gcn import (
    Attention,
    ContextNetwork,
    DynamicGCN,
    DynamicGraphUnit,
    JointProjection,
    bone_graph,
)
from skelbook.models.weights import from_reference, to_reference
from skelbook.models.zoo import create_model

ARM = {"num_node": 4, "inward": [(1, 0), (2, 1), (3, 2)], "center": 0}


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def small(layout="coco", **options):
    return DynamicGCN(layout, **{"num_classes": 5, "clip_len": 8, "base_width": 8} | options)


def awake(model):
    "The model with norms that let its graphs speak, and statistics of its own."
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 1.5)
    for unit in units(model):
        nn.init.normal_(unit.bias)
    return model


def units(model):
    return [stage.spatial for stage in model.stages if not isinstance(stage, JointProjection)]


def clips(n=2, m=2, t=8, v=17, c=3):
    return torch.randn(n, m, t, v, c)


# -- persons

@pytest.mark.parametrize("persons", [1, 2, 3])
def test_any_number_of_persons_is_the_mean_over_them(persons):
    model, x = awake(small()).double().eval(), clips(m=persons).double()
    each = torch.stack([model(x[:, [m]]) for m in range(persons)]).mean(0)
    torch.testing.assert_close(model(x), each, rtol=1e-10, atol=1e-10)


def test_an_empty_person_takes_part():
    model, x = awake(small()).double().eval(), clips().double()
    x[:, 1] = 0
    assert not torch.allclose(model(x), model(x[:, :1]), atol=1e-3)
    nobody = model(torch.zeros_like(x[:, :1]))
    torch.testing.assert_close(model(x), (model(x[:, :1]) + nobody) / 2)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("training", [True, False])
def test_a_clip_of_zeros_gives_finite_scores_and_gradients(dtype, training):
    model = small().to(dtype).train(training)
    x = torch.zeros(2, 2, 8, 17, 3, dtype=dtype, requires_grad=True)
    scores = model(x)
    F.cross_entropy(scores, torch.tensor([0, 1])).backward()
    assert scores.isfinite().all() and x.grad.isfinite().all()
    assert all(p.grad.isfinite().all() for p in model.parameters())


def test_the_guard_is_needed_and_changes_no_other_graph():
    "The formula without it, on zeros and on a clip."
    def unguarded(context, x):
        q = context.norm(context.frames(context.channels(x).transpose(1, 2)).transpose(1, 3))
        graph = context.joints(q).view(len(x), 5, 5)
        return graph / graph.square().sum(1, keepdim=True).sqrt()
    context, x = ContextNetwork(3, 4, 5).eval(), torch.randn(2, 3, 4, 5)
    assert torch.equal(context(x), unguarded(context, x))
    assert unguarded(context, 0 * x).isnan().all() and not context(0 * x).any()


@pytest.mark.parametrize("n, m", [(1, 2), (2, 1), (1, 3)])
def test_two_persons_are_enough_to_train(n, m):
    assert small().train()(clips(n, m)).isfinite().all()


def test_one_person_is_enough_to_be_scored_but_not_to_train():
    model = small()
    assert model.eval()(clips(1, 1)).isfinite().all()
    with pytest.raises(ValueError, match="one person in the whole batch.*two or more"):
        model.train()(clips(1, 1))


# -- frames and joints

@pytest.mark.parametrize("frames", [4, 12, 64])
def test_clips_of_another_length_are_refused(frames):
    with pytest.raises(ValueError, match=f"{frames} frames, .* clips of 8: .* weight for every"):
        small()(clips(t=frames))
    assert small(clip_len=frames)(clips(t=frames)).shape == (2, 5)


@pytest.mark.parametrize("clip_len", [-4, 0, 2, 6, 50, 65])
def test_lengths_that_cannot_be_halved_twice_are_refused(clip_len):
    with pytest.raises(ValueError, match=f"clip_len is {clip_len}, .* multiple of 4"):
        small(clip_len=clip_len)


@pytest.mark.parametrize("layout, alpha, left", [
    ("nturgb+d", 0.6, [15, 9]), ("nturgb+d", 0.72, [18, 12]), ("coco", 0.6, [10, 6]),
    ("coco", 1, [17, 17]), ("coco", 0.25, [4, 1]), (ARM, 0.6, [2, 1])])
def test_how_many_joints_are_left(layout, alpha, left):
    model = small(layout, alpha=alpha)
    assert [part.matrix.shape[1] for part in model.stages
            if isinstance(part, JointProjection)] == left
    V = len(model.stages[0].spatial.graph[0])
    assert model(clips(v=V)).isfinite().all()


@pytest.mark.parametrize("layout, alpha", [("coco", 0), ("coco", -0.5), ("coco", 1.01),
                                           ("coco", 0.2), (ARM, 0.4), ("coco", float("nan"))])
def test_an_alpha_that_leaves_no_joint_or_adds_some_is_refused(layout, alpha):
    with pytest.raises(ValueError, match=f"alpha is {alpha}"):
        small(layout, alpha=alpha)


def test_stages_with_all_joints_start_from_the_skeleton():
    body = bone_graph("coco")
    for unit in units(small(alpha=1)):
        assert torch.equal(unit.graph, body)
    *early, _, _, _, _, _ = mixed = units(small())
    assert all(torch.equal(unit.graph, body) for unit in early)
    assert all((unit.graph == torch.tensor(1e-6)).all() for unit in mixed[5:])
    early[0].graph.data.zero_()                                       # none is shared
    assert early[1].graph.any()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_of_the_book(layout):
    V = len(LAYOUTS[layout].joints)
    model = small(layout, in_channels=2).train()
    model(clips(3, 1, v=V, c=2)).sum().backward()
    assert all(p.grad.isfinite().all() for p in model.parameters())
    identity, inward, outward = bone_graph(layout)
    assert torch.equal(identity, torch.eye(V))
    assert inward.sum() == sum(parent != v for v, parent in enumerate(LAYOUTS[layout].bones))
    assert torch.equal(outward.T > 0, inward > 0)


def test_the_graph_of_ntu_is_the_reference_s():
    "Numbers of the specification: sums, columns with several entries, and chained hands."
    graph = bone_graph("nturgb+d")
    assert graph.sum((1, 2)).tolist() == [25, 24, 20]
    outward = graph[2]
    assert outward[:, 20].nonzero().flatten().tolist() == [1, 2, 4, 8]
    assert (outward[[1, 2, 4, 8], 20] == 0.25).all() and (outward[[12, 16], 0] == 0.5).all()
    assert [graph[1, parent, child].item() for child, parent in
            ((21, 22), (22, 7), (23, 24), (24, 11), (21, 7), (23, 11))] == [1, 1, 1, 1, 0, 0]
    other = torch.tensor(adjacency("nturgb+d")).float()
    changed = (graph[1] != other[1]).nonzero().tolist()
    assert changed == [[7, 21], [11, 23], [22, 21], [24, 23]]


def test_other_joints_and_channels_are_refused():
    for x in (clips(v=16), clips(c=2)):
        with pytest.raises(ValueError, match="made for"):
            small()(x)


# -- the unit

def four_branches(unit, x):
    "The unit as the reference computes it: a product and a convolution for every graph."
    weights, y = unit.weight.chunk(4, 1), 0
    for k in range(3):
        y = y + F.conv2d(x @ unit.graph[k], weights[k], unit.bias[k])
    drawn = unit.context(x)[:, None]
    y = unit.norm(y + unit.strength * F.conv2d(x @ drawn, weights[3], unit.bias[3]))
    y = (y + unit.project(x)).relu()
    gates = unit.attention
    y = y + y * gates.joints(y.mean(2)).sigmoid().unsqueeze(2)
    y = y + y * gates.frames(y.mean(3)).sigmoid().unsqueeze(3)
    gate = gates.excite(gates.squeeze(y.mean(3).mean(2)).relu()).sigmoid()
    return y + y * gate[..., None, None]


@pytest.mark.parametrize("widths", [(3, 8), (8, 8)])
def test_one_product_is_the_four_of_the_reference(widths):
    unit = DynamicGraphUnit(torch.randn(3, 5, 5), *widths, frames=6).double()
    for parameter in unit.parameters():
        nn.init.normal_(parameter)
    x = torch.randn(4, widths[0], 6, 5).double()
    torch.testing.assert_close(unit(x), four_branches(unit, x), rtol=1e-11, atol=1e-11)
    unit.eval()
    torch.testing.assert_close(unit(x), four_branches(unit, x), rtol=1e-11, atol=1e-11)


def test_mixing_holds_the_learned_graphs_and_the_drawn_one():
    unit = DynamicGraphUnit(torch.randn(3, 5, 5), 4, 4, frames=6).eval()
    unit.strength.data.fill_(-0.3)
    x = torch.randn(2, 4, 6, 5)
    graph = unit.mixing(x)
    assert graph.shape == (2, 4, 5, 5)
    assert torch.equal(graph[:, :3], unit.graph.expand(2, -1, -1, -1))
    torch.testing.assert_close(graph[:, 3], -0.3 * unit.context(x))


def test_learned_graphs_are_those_of_the_stages_with_a_body():
    model, x = awake(small()), clips()
    graphs = learned_graphs(model, x)
    assert graphs.shape == (5, 4, 17, 17)
    first = model.stages[0].spatial
    with torch.no_grad():
        inside = first.mixing(model.data_norm(x)).mean(0)
    np.testing.assert_allclose(graphs[0], inside, atol=1e-6)
    np.testing.assert_allclose(graphs[4, :3], model.stages[4].spatial.graph.detach(), atol=1e-6)
    assert learned_graphs(small(alpha=1), x).shape == (10, 4, 17, 17)


def test_a_drawn_graph_depends_on_every_number_of_the_clip():
    context = ContextNetwork(3, 4, 5).eval()
    x = torch.randn(1, 3, 4, 5, requires_grad=True)
    (context(x) * torch.randn(5, 5)).sum().backward()
    assert (x.grad != 0).all()


@pytest.mark.parametrize("joints", [1, 2, 3, 8, 9])
def test_gates_take_any_number_of_joints(joints):
    attention = Attention(4, joints)
    x = torch.randn(2, 4, 3, joints)
    assert attention(x).shape == x.shape
    assert attention.joints.kernel_size == ((joints - 1) // 2 * 2 + 1,)


def test_a_gradient_reaches_every_parameter():
    model = awake(small())
    for unit in units(model):
        for layer in (unit.attention.frames, unit.attention.excite):
            nn.init.normal_(layer.weight)
    model(clips(4)).square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    for unit in units(model):
        assert unit.strength.grad != 0 and unit.context.joints.weight.grad.norm() > 0


def test_features_stay_channels_last():
    model = small().eval()
    y = model.stages(model.data_norm(clips()))
    assert y.is_contiguous(memory_format=torch.channels_last)


def test_memory_order_of_the_input_does_not_matter():
    model, x = small().eval(), clips()
    other = x.permute(4, 3, 2, 1, 0).contiguous().permute(4, 3, 2, 1, 0)
    torch.testing.assert_close(model(other), model(x))


def test_graphs_keep_their_precision_under_autocast():
    model, seen = small(), []
    model.stages[1].spatial.context.register_forward_hook(lambda unit, args, y: seen.append(y))
    with torch.autocast("cpu", torch.bfloat16):
        scores = model(clips())
    scores.sum().backward()
    assert seen[0].dtype == torch.float32 and scores.isfinite().all()
    torch.testing.assert_close(seen[0].norm(dim=1), torch.ones(4, 17))


def test_compiling_sees_one_graph():
    explained = torch._dynamo.explain(small().eval())(clips())
    assert explained.graph_break_count == 0, explained.break_reasons


quick = settings(deadline=None, max_examples=15)
MODEL = awake(small()).double().eval()


@quick
@given(st.integers(0, 10**6), st.permutations(range(3)), st.permutations(range(2)))
def test_samples_do_not_meet_and_persons_may_change_places(seed, order, persons):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(3, 2, 8, 17, 3, dtype=torch.float64, generator=generator)
    scores = MODEL(x)
    torch.testing.assert_close(MODEL(x[order][:, persons]), scores[order], rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(MODEL(x[:1]), scores[:1], rtol=1e-9, atol=1e-9)


@quick
@given(st.integers(0, 10**6), st.floats(0.1, 10))
def test_a_drawn_graph_has_columns_of_length_one_and_no_scale(seed, scale):
    torch.manual_seed(seed)
    context, x = ContextNetwork(3, 4, 5).double(), torch.randn(3, 3, 4, 5).double()
    torch.testing.assert_close(context(x).norm(dim=1), torch.ones(3, 5).double())
    context.joints.weight.data *= scale
    torch.testing.assert_close(context(x).norm(dim=1), torch.ones(3, 5).double())


# -- zoo and configurations

def config(head=None, graph=None, **backbone):
    graph = {"layout": "ntu-rgb+d", "strategy": "agcn"} | (graph or {})
    head = {"type": "STGCNHead", "num_classes": 7, "in_channels": 256} | (head or {})
    return {"type": "SkeletonGCN", "cls_head": head,
            "backbone": {"type": "DGCN", "graph_cfg": graph, **backbone}}


def test_the_zoo_knows_it():
    model = create_model("dynamic_gcn", "kinect_v1", 10, clip_len=52, base_width=8)
    assert model(torch.randn(2, 1, 52, 20, 3)).shape == (2, 10)


@pytest.mark.parametrize("persons", [1, 2, 3])
def test_a_fresh_model_from_a_configuration(persons):
    model = from_reference(config({"num_person": persons, "loss_cls": {}}, clip_len=16, alpha=0.5,
                                  in_channels=2, data_bn=True, lamb=1.0))
    assert model.eval()(torch.randn(1, persons, 16, 25, 2)).shape == (1, 7)


@pytest.mark.parametrize("wrong, message", [
    (config(lamb=0.5), "lamb is 0.5"), (config(data_bn=False), "data_bn is False"),
    (config(graph={"layout": "openpose-25"}), "layout is 'openpose-25'"),
    (config(graph={"strategy": "spatial"}), "strategy is 'spatial'"),
    (config({"in_channels": 128}), "128 features, but the backbone gives 256"),
    (config({"type": "GCNHead"}), "GCNHead"), (config(base_width=8), "base_width"),
    (config(clip_len=30), "multiple of 4"), (config({"spatial_type": "max"}), "spatial_type")])
def test_what_no_published_result_uses_is_refused_by_name(wrong, message):
    with pytest.raises(ValueError, match=message):
        from_reference(wrong)


def test_the_stored_graph_may_be_absent_but_not_another():
    state = {key: value.clone() for key, value in to_reference(from_reference(config())).items()}
    assert "backbone.A" not in state
    from_reference(config(), state)
    state["backbone.A"] = bone_graph("nturgb+d").double()
    from_reference(config(), state)
    state["backbone.A"] = torch.tensor(adjacency("nturgb+d"))         # other hands
    with pytest.raises(ValueError, match="1 key different from the graph: backbone.A"):
        from_reference(config(), state)
