"""Corner cases of ST-GCN and ST-GCN++, and of reading their configurations and checkpoints."""

import pytest
import torch
import torch.nn.functional as F
from plain_gcn import PlainGCN

from skelbook.graph import LAYOUTS, adjacency
from skelbook.models.blocks import collect
from skelbook.models.checkpoints import read_checkpoint
from skelbook.models.stgcn import STGCN
from skelbook.models.stgcnpp import MultiScaleUnit, STGCNpp
from skelbook.models.weights import from_original, from_reference, load_reference, to_reference
from skelbook.models.zoo import create_model

PAIR = [STGCN, STGCNpp]
SMALL = {"base_width": 8, "num_stages": 3, "inflate_stages": (2,), "down_stages": (2,)}
STGCNPP = {"gcn_adaptive": "init", "gcn_with_res": True, "tcn_type": "mstcn"}


def small(network, layout="coco", **options):
    torch.manual_seed(0)
    return network(layout, 5, **(SMALL | options))


def randomise(model):
    "The model with parameters and statistics that are nowhere special."
    generator = torch.Generator().manual_seed(1)
    for name, tensor in model.state_dict().items():
        if tensor.is_floating_point() and not name.endswith("gcn.A"):
            tensor.copy_(0.5 + 0.5 * torch.rand(tensor.shape, generator=generator))
            if "weight" in name and tensor.dim() > 1:
                tensor.sub_(0.75)
    return model


def config(network, layout="coco", **backbone):
    mode = "spatial" if network is STGCNpp else "stgcn_spatial"
    return {"type": "RecognizerGCN",
            "backbone": {"type": "STGCN", "graph_cfg": {"layout": layout, "mode": mode},
                         **(STGCNPP if network is STGCNpp else {}), **backbone},
            "cls_head": {"type": "GCNHead", "num_classes": 7, "in_channels": 256}}


# -- the networks

@pytest.mark.parametrize("network", PAIR)
@pytest.mark.parametrize("layout, persons, frames, channels, plan", [
    ("kinect_v1", 1, 7, 3, {"base_width": 13, "num_stages": 3, "down_stages": (3,),
                            "inflate_stages": (2,)}),
    ("openpose", 3, 1, 2, {"base_width": 8, "num_stages": 4, "down_stages": (2, 3),
                           "inflate_stages": (3,)}),
    ("handmp", 2, 10, 6, {"base_width": 6, "num_stages": 3, "down_stages": (),
                          "inflate_stages": (3,)})])
def test_the_same_as_a_plain_transcription(network, layout, persons, frames, channels, plan):
    plain = randomise(PlainGCN(network is STGCNpp, layout, 4, channels, **plan)).double()
    ours = network(layout, 4, in_channels=channels, **plan).double()
    load_reference(ours, plain.state_dict())
    x = torch.randn(3, persons, frames, len(LAYOUTS[layout].joints), channels).double()
    for training in (False, True):
        scores, expected = ours.train(training)(x), plain.train(training)(x)
        torch.testing.assert_close(scores, expected, rtol=1e-9, atol=1e-9)
    expected.square().sum().backward()
    scores.square().sum().backward()
    grads = to_reference(ours, {key: p.grad for key, p in ours.named_parameters()})
    for key, parameter in plain.named_parameters():
        scale = parameter.grad.abs().max() + 1
        torch.testing.assert_close(grads[key], parameter.grad, rtol=1e-7, atol=1e-9 * scale)
    state = plain.state_dict()
    for key, value in to_reference(ours).items():
        torch.testing.assert_close(value, state[key], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("network", PAIR)
@pytest.mark.parametrize("layout", [*LAYOUTS, {
    "num_node": 4, "inward": [(1, 0), (2, 1), (3, 2)], "center": 0}], ids=str)
def test_every_layout_any_classes_persons_frames(network, layout):
    model = create_model("stgcnpp" if network is STGCNpp else "stgcn", layout, 3, **SMALL)
    V = model.stages[0].spatial.graph.shape[-1]
    for persons, frames in ((1, 1), (3, 2), (1, 9)):
        assert model(torch.randn(2, persons, frames, V, 3)).shape == (2, 3)


@pytest.mark.parametrize("network", PAIR)
@pytest.mark.parametrize("shape", [(2, 2, 8, 16, 3), (2, 2, 8, 17, 2), (2, 1, 8, 51, 1)])
def test_other_joints_or_channels_are_refused(network, shape):
    with pytest.raises(ValueError, match=r"made for \(None, 17, 3\)"):
        small(network)(torch.zeros(shape))


@pytest.mark.parametrize("name", ["stgcn", "stgcnpp", "agcn"])
def test_data_as_wide_as_the_network_needs_no_first_stage(name):
    model = create_model(name, "coco", 5, in_channels=8, **SMALL)
    assert len(model.stages) == 2 and all(stage.shortcut is not None for stage in model.stages)
    assert model(torch.randn(2, 2, 9, 17, 8)).shape == (2, 5)


@pytest.mark.parametrize("network", PAIR)
def test_an_empty_second_person_takes_part_in_the_mean(network):
    model, x = small(network).eval(), torch.randn(2, 2, 9, 17, 3)
    x[:, 1] = 0
    features = (model.features(x[:, :1]) + model.features(x[:, 1:])) / 2
    torch.testing.assert_close(model.features(x), features)
    assert not torch.allclose(model(x), model(x[:, :1]), atol=1e-3)


@pytest.mark.parametrize("network", PAIR)
def test_a_gradient_reaches_every_parameter(network):
    model = small(network)
    model(torch.randn(8, 2, 9, 17, 3)).square().sum().backward()
    for name, parameter in model.named_parameters():
        followed = ("temporal.conv.bias", "enter.bias", "mix.bias", "shortcut.conv.bias",
                    "project.0.bias")                   # by a batch norm: zero but for rounding
        assert parameter.grad is not None
        assert name.endswith(followed) or parameter.grad.norm() > 0, name


@pytest.mark.parametrize("network", PAIR)
def test_features_stay_channels_last_and_take_any_memory_order(network):
    model, x = small(network).eval(), torch.randn(2, 2, 8, 17, 3)
    y = model.data_norm(x)
    for stage in model.stages:
        y = stage(y)
        assert y.is_contiguous(memory_format=torch.channels_last)
    other = x.permute(4, 3, 2, 1, 0).contiguous().permute(4, 3, 2, 1, 0)
    torch.testing.assert_close(model(other), model(x))


@pytest.mark.parametrize("network", PAIR)
def test_half_precision_stays_close(network):
    model, x = small(network).eval(), torch.randn(2, 2, 8, 17, 3)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        half = model(x).float()
    exact = model(x)
    assert (half - exact).abs().max() < 0.05 * exact.abs().max()


def test_collecting_takes_any_memory_order():
    x, graph = torch.randn(2, 6, 4, 5), torch.randn(3, 5, 5)
    last = x.contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(collect(last, graph), collect(x, graph))
    assert collect(last, graph).is_contiguous(memory_format=torch.channels_last)


def test_initial_spread_of_the_weights():
    """The deviations measured after the reference's initialisation (in brackets)."""
    torch.manual_seed(0)
    first, plus = STGCN("coco"), STGCNpp("coco")
    branch = plus.stages[0].temporal
    uniform = 3 ** -0.5                                                 # deviation of U(-1, 1)
    for tensor, std in (
            (first.stages[0].spatial.conv.weight, uniform * 3 ** -0.5),         # 0.336
            (first.stages[0].temporal.conv.weight, (2 / (64 * 9)) ** 0.5),      # 0.0585
            (first.stages[4].shortcut.conv.weight, (2 / 128) ** 0.5),           # 0.1257
            (first.classifier.weight, 0.01),                                    # 0.00996
            (branch.branches[0].weight, (2 / (14 * 3)) ** 0.5),                 # 0.215
            (branch.enter.weight, uniform * 64 ** -0.5),                        # 0.073
            (branch.plain.weight, uniform * 64 ** -0.5),
            (branch.mix.weight, uniform * 64 ** -0.5),
            (plus.stages[4].spatial.project[0].weight, uniform * 64 ** -0.5),
            (plus.stages[4].shortcut.conv.weight, (2 / 128) ** 0.5),
            (plus.classifier.weight, 0.01)):
        assert tensor.std().item() == pytest.approx(std, rel=4 / tensor.numel() ** 0.5)
    for stage in first.stages:
        assert (stage.spatial.importance == 1).all() and not stage.temporal.conv.bias.any()
        assert stage.spatial.conv.bias.any()
    for stage in plus.stages:
        assert torch.equal(stage.spatial.graph, torch.tensor(adjacency("coco")).float())
        assert not any(branch.bias.any() for branch in stage.temporal.branches[:4])
        assert stage.temporal.enter.bias.any() and stage.temporal.mix.bias.any()


@pytest.mark.parametrize("channels", range(6, 40))
def test_branches_share_the_channels(channels):
    widths = [*MultiScaleUnit(channels).widths, channels // 6]
    assert sum(widths) == channels and len(set(widths[1:])) == 1 and widths[0] >= widths[1]


def test_too_narrow_a_network_is_refused():
    with pytest.raises(ValueError, match="5 channels are too few for six branches"):
        STGCNpp("coco", base_width=5)


def test_stages_do_not_share_their_graph():
    for network in PAIR:
        model = small(network)
        model.stages[0].spatial.graph.data.fill_(0)
        assert model.stages[1].spatial.graph.any()


# -- configurations

@pytest.mark.parametrize("network", PAIR)
def test_a_configuration_gives_its_network(network):
    model = from_reference(config(network, num_person=3, in_channels=2, base_channels=16,
                                  num_stages=4, inflate_stages=[3], down_stages=[3])
                           | {"cls_head": {"num_classes": 7, "in_channels": 32}})
    assert type(model) is network and model(torch.randn(2, 3, 8, 17, 2)).shape == (2, 7)


@pytest.mark.parametrize("network", PAIR)
@pytest.mark.parametrize("option, value", [
    ("gcn_adaptive", "offset"), ("gcn_adaptive", None), ("gcn_conv_pos", "post"),
    ("data_bn_type", "MVC"), ("data_bn_type", None), ("ch_ratio", 4), ("tcn_dropout", 0.5),
    ("tcn_dropout", (0,) * 9 + (0.5,)), ("gcn_with_res", [None] * 10), ("tcn_type", "dgmstcn"),
    ("graph_cfg", {"layout": "coco", "mode": "binary_adj"}),
    ("graph_cfg", {"layout": "coco", "mode": "random"}), ("tcn_ms_cfg", [(3, 1), "1x1"])])
def test_unneeded_options_are_refused_by_name(network, option, value):
    with pytest.raises(ValueError, match="mode" if option == "graph_cfg" else option):
        from_reference(config(network, **{option: value}))


@pytest.mark.parametrize("option", STGCNPP)
def test_half_an_stgcnpp_is_refused(option):
    backbone = dict(config(STGCNpp)["backbone"])
    del backbone[option]
    with pytest.raises(ValueError, match=f"ST-GCN\\+\\+: {option} is"):
        from_reference(config(STGCNpp) | {"backbone": backbone})


@pytest.mark.parametrize("form", [list, tuple])
def test_an_option_may_be_given_for_every_stage(form):
    backbone = {key: form([value] * 10) for key, value in STGCNPP.items()}
    assert type(from_reference(config(STGCNpp, **backbone))) is STGCNpp


def test_a_graph_of_two_hops_is_refused():
    graph = {"layout": "coco", "mode": "stgcn_spatial", "max_hop": 2}
    with pytest.raises(ValueError, match="max_hop is 2"):
        from_reference(config(STGCN, graph_cfg=graph))


# -- weights

@pytest.mark.parametrize("network", PAIR)
def test_views_cover_every_number(network):
    model, fresh = small(network), small(network).state_dict()
    for tensor in to_reference(model).values():
        tensor.zero_().add_(1)
    for name, value in model.state_dict().items():
        assert (value == 1).all() and fresh[name].shape == value.shape, name


def checkpoint(state, toolbox):
    "What a file of that toolbox holds: weights among much else, and PYSKL's name of the head."
    if toolbox == "pyskl":
        state = {key.replace("cls_head.fc.", "cls_head.fc_cls."): value
                 for key, value in state.items()}
        return {"meta": {"epoch": 16, "time": "now"}, "state_dict": state,
                "optimizer": {"state": {0: {"momentum_buffer": torch.ones(3)}}}}
    return {"meta": {"epoch": 16, "cfg": "model = dict()"}, "message_hub": {"log_scalars": {}},
            "state_dict": {f"module.{key}": value for key, value in state.items()},
            "optimizer": {"state": {}}, "param_schedulers": [{"last_step": 7}]}


@pytest.mark.parametrize("network", PAIR)
@pytest.mark.parametrize("toolbox", ["mmaction2", "pyskl"])
def test_a_checkpoint_file_gives_identical_scores(network, toolbox, tmp_path):
    plain = randomise(PlainGCN(network is STGCNpp, "coco", 7)).eval()
    torch.save(checkpoint(plain.state_dict(), toolbox), tmp_path / "a.pth")
    state, meta = read_checkpoint(tmp_path / "a.pth")
    model = from_reference(config(network), state, torch.float64).eval()
    x = torch.randn(2, 2, 9, 17, 3).double()
    torch.testing.assert_close(model(x), plain.double()(x), rtol=1e-9, atol=1e-9)
    assert meta["epoch"] == 16


def test_the_fixed_graph_may_be_absent_but_not_another():
    model = from_reference(config(STGCN))
    state = {key: value.clone() for key, value in to_reference(model).items()}
    key = "backbone.gcn.3.gcn.A"
    graph = state.pop(key)
    assert torch.equal(from_reference(config(STGCN), state).stages[3].spatial.graph, graph)
    state[key] = torch.tensor(adjacency("coco", "stgcn_spatial"))      # before it was rounded
    again = from_reference(config(STGCN), state, torch.float64)
    assert torch.equal(again.stages[3].spatial.graph, graph.double())
    state[key] = graph + 0.1
    with pytest.raises(ValueError, match=f"1 key different from the graph: {key}"):
        from_reference(config(STGCN), state)
    state[key] = torch.zeros(3, 25, 25)
    with pytest.raises(ValueError, match=r"gcn.A \(3, 25, 25\), not \(3, 17, 17\)"):
        from_reference(config(STGCN), state)


def test_weights_of_one_network_do_not_fit_another():
    state = to_reference(from_reference(config(STGCN)))
    with pytest.raises(ValueError, match="keys missing: .* keys unexpected: .*PA"):
        from_reference(config(STGCNpp), state)


# -- the authors' own ST-GCN

def original_weights(V, classes, channels=3, seed=0):
    "Tensors with the names and shapes of the authors' code."
    g = torch.Generator().manual_seed(seed)
    def rand(*shape):
        return torch.rand(shape, generator=g).double()
    def norm(name, width):
        return {f"{name}.weight": 0.5 + rand(width), f"{name}.bias": rand(width) - 0.5,
                f"{name}.running_mean": rand(width) - 0.5, f"{name}.running_var": 0.5 + rand(width),
                f"{name}.num_batches_tracked": torch.tensor(5)}
    def conv(name, wide, narrow, kernel):
        return {f"{name}.weight": (rand(wide, narrow, kernel, 1) - 0.5) / (narrow * kernel) ** 0.5,
                f"{name}.bias": rand(wide) - 0.5}
    state = {"A": rand(3, V, V) / V} | norm("data_bn", V * channels)
    widths = [channels, *4 * [64], *3 * [128], *3 * [256]]
    for i, (narrow, wide) in enumerate(zip(widths, widths[1:], strict=False)):
        stem = f"st_gcn_networks.{i}"
        state |= conv(f"{stem}.gcn.conv", 3 * wide, narrow, 1) | norm(f"{stem}.tcn.0", wide)
        state |= conv(f"{stem}.tcn.2", wide, wide, 9) | norm(f"{stem}.tcn.3", wide)
        if i in (4, 7):
            state |= conv(f"{stem}.residual.0", wide, narrow, 1) | norm(f"{stem}.residual.1", wide)
        state[f"edge_importance.{i}"] = 0.5 + rand(3, V, V)
    return state | conv("fcn", classes, 256, 1)


def original_scores(state, x):
    "The authors' network in evaluation mode, (N, C, T, V, M) -> (N, classes)."
    def norm(name, x):
        parts = (state[f"{name}.{part}"] for part in
                 ("running_mean", "running_var", "weight", "bias"))
        return F.batch_norm(x, *parts)
    def conv(name, x, **options):
        return F.conv2d(x, state[f"{name}.weight"], state[f"{name}.bias"], **options)
    N, C, T, V, M = x.shape
    x = norm("data_bn", x.permute(0, 4, 3, 1, 2).reshape(N * M, V * C, T))
    x = x.view(N * M, V, C, T).permute(0, 2, 3, 1)
    for i in range(10):
        stem, stride = f"st_gcn_networks.{i}", (2 if i in (4, 7) else 1, 1)
        y = conv(f"{stem}.gcn.conv", x).unflatten(1, (3, -1))
        y = torch.einsum("nkctv,kvw->nctw", y, state["A"] * state[f"edge_importance.{i}"])
        y = norm(f"{stem}.tcn.0", y).relu()
        y = norm(f"{stem}.tcn.3", conv(f"{stem}.tcn.2", y, stride=stride, padding=(4, 0)))
        if i in (4, 7):
            x = norm(f"{stem}.residual.1", conv(f"{stem}.residual.0", x, stride=stride))
        x = (y + (x if i else 0)).relu()
    x = x.mean((2, 3)).view(N, M, -1, 1, 1).mean(1)
    return conv("fcn", x).flatten(1)


def test_the_authors_checkpoint_gives_the_authors_scores(tmp_path):
    state = original_weights(18, 11)
    model = from_original(state, torch.float64).eval()
    x = torch.randn(2, 3, 13, 18, 2).double()
    expected = original_scores(state, x)
    torch.testing.assert_close(model(x.permute(0, 4, 2, 3, 1)), expected, rtol=1e-9, atol=1e-9)
    assert torch.equal(model.stages[6].spatial.graph, state["A"])

    fresh = STGCN("openpose", 11).double()                  # the graph travels with the weights
    fresh.load_state_dict(model.state_dict())
    torch.testing.assert_close(fresh.eval()(x.permute(0, 4, 2, 3, 1)), expected)


@pytest.mark.parametrize("lost, message", [
    ("A", "authors' ST-GCN: A missing"), ("fcn.weight", "fcn.weight missing"),
    ("st_gcn_networks.3.tcn.2.bias", "missing: backbone.gcn.3.tcn.conv.bias"),
    ("edge_importance.0", "missing: backbone.gcn.0.gcn.PA")])
def test_an_incomplete_checkpoint_of_the_authors_is_refused(lost, message):
    state = original_weights(5, 2)
    del state[lost]
    with pytest.raises(ValueError, match=message):
        from_original(state)


def test_an_unknown_tensor_among_the_authors_is_told():
    with pytest.raises(ValueError, match="1 key unexpected: teacher.weight"):
        from_original(original_weights(5, 2) | {"teacher.weight": torch.zeros(1)})
