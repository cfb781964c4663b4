"""Corner cases of the blocks, of 2s-AGCN, and of reading weights and configurations."""

import subprocess
import sys

import pytest
import torch

from skelbook.graph import adjacency
from skelbook.models.agcn import AGCN
from skelbook.models.blocks import (
    DataNorm,
    TemporalUnit,
    count_multiply_adds,
    count_operations,
    count_parameters,
    pool_persons,
    spread,
    stage_plan,
)
from skelbook.models.weights import from_reference, load_reference, to_reference
from skelbook.models.zoo import create_model, list_models


def small(**options):
    torch.manual_seed(0)
    options = {"num_classes": 5, "base_width": 8, "num_stages": 3, "inflate_stages": (2,),
               "down_stages": (2,), **options}
    return AGCN("coco", **options)


def config(**backbone):
    return {"type": "RecognizerGCN",
            "backbone": {"type": "AAGCN", "graph_cfg": {"layout": "coco", "mode": "spatial"},
                         "gcn_attention": False, **backbone},
            "cls_head": {"type": "GCNHead", "num_classes": 7, "in_channels": 256}}


# -- blocks

@pytest.mark.parametrize("layer, shape", [
    ("blocks import TemporalUnit as Unit; Unit(8, 16, 1, 2)", (32, 8, 52, 20)),
    ("stgcnpp import MultiScaleUnit as Unit; Unit(8, 2)", (32, 8, 52, 20)),
    ("posec3d import FlatConv as Unit; Unit(8, 16, stride=(1, 2, 2))", (16, 8, 2, 56, 56))])
def test_few_channels_and_a_stride_do_not_write_past_the_memory(layer, shape):
    "oneDNN 3.x does, and a process dies of it (issue 6035 there); where it does not, this passes."
    place, build = layer.split("; ")
    last = "channels_last" if len(shape) == 4 else "channels_last_3d"
    code = ("import torch; torch.set_num_threads(1)\n"
            f"from skelbook.models.{place}\n"
            f"unit, x = {build}, torch.randn{shape}.contiguous(memory_format=torch.{last})\n"
            "for half in (False, True):\n"
            "    for _ in range(10):\n"
            "        with torch.autocast('cpu', torch.bfloat16, enabled=half):\n"
            "            y = unit(x)\n"
            "        y.float().square().sum().backward()\n")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-1000:]


@pytest.mark.parametrize("persons", [None, 2])
def test_data_norm_keeps_the_channel_order_of_checkpoints(persons):
    norm = DataNorm(3, 2, persons).eval()
    size = norm.norm.num_features
    norm.norm.bias.data = torch.arange(float(size))
    y = norm(torch.zeros(1, 2, 4, 3, 2)).unflatten(0, (1, 2))          # (N, M, C, T, V)
    for m in range(2):
        for v in range(3):
            for c in range(2):
                channel = ((m if persons else 0) * 3 + v) * 2 + c
                assert (y[0, m, c, :, v] == channel).all()


@pytest.mark.parametrize("shape", [(2, 1, 4, 3, 2), (2, 2, 4, 6, 2), (2, 2, 4, 3, 3)])
def test_data_norm_refuses_other_shapes(shape):
    with pytest.raises(ValueError, match=r"\(M, V, C\) is .* made for \(2, 3, 2\)"):
        DataNorm(3, 2, 2)(torch.zeros(shape))


@pytest.mark.parametrize("frames", [1, 2, 7, 8])
def test_stride_two_halves_the_frames_rounding_up(frames):
    assert TemporalUnit(3, 4, stride=2)(torch.zeros(2, 3, frames, 5)).shape[2] == (frames + 1) // 2


def test_plan_of_one_stage():
    assert stage_plan(2, 16, num_stages=1) == [(2, 16, 1, False)]


def test_pooling_keeps_samples_apart():
    x = torch.arange(6.)[:, None, None, None].expand(6, 2, 3, 4)       # three samples, two persons
    assert pool_persons(x, 2).tolist() == [[0.5] * 2, [2.5] * 2, [4.5] * 2]


def test_counting_leaves_the_model_as_it_was():
    model = small().train()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    x = torch.zeros(1, 2, 8, 17, 3)
    total = count_multiply_adds(model, x)
    assert model.training and total == sum(count_operations(model.eval(), x).values())
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert count_multiply_adds(model, torch.zeros(2, 2, 8, 17, 3)) == 2 * total


def test_frozen_parameters_are_not_counted():
    layer = torch.nn.Linear(3, 2)
    layer.bias.requires_grad_(False)
    assert count_parameters(layer) == 6


# -- 2s-AGCN

def test_initial_spread_of_the_weights():
    """The deviations measured after the reference's initialisation (in brackets)."""
    torch.manual_seed(0)
    model = AGCN("coco")
    first, fifth = model.stages[0], model.stages[4]
    conv_d = to_reference(model)["backbone.gcn.4.gcn.conv_d.0.weight"]
    for tensor, std in ((first.spatial.weight, (2 / (64 * 3 * 3)) ** 0.5),        # 0.0597
                        (conv_d, (2 / (128 * 64 * 3)) ** 0.5),                    # 0.0090
                        (first.spatial.project[0].weight, (2 / 64) ** 0.5),       # 0.177
                        (first.spatial.embed.weight, (2 / 16) ** 0.5),
                        (first.temporal.conv.weight, (2 / (64 * 9)) ** 0.5),      # 0.0592
                        (fifth.shortcut.conv.weight, (2 / 128) ** 0.5),
                        (model.classifier.weight, 0.01)):
        assert tensor.std().item() == pytest.approx(std, rel=4 / tensor.numel() ** 0.5)
    for unit in (stage.spatial for stage in model.stages):
        assert (unit.norm.weight == 1e-6).all() and not unit.norm.bias.any()
        assert not unit.alpha.any() and not unit.bias.any() and not unit.embed.bias.any()
        assert torch.equal(unit.graph, torch.tensor(adjacency("coco"), dtype=torch.float32))
    biases = [value for name, value in model.named_parameters() if name.endswith("bias")]
    assert not any(bias.any() for bias in biases)
    scales = [value for name, value in model.named_parameters()
              if name.endswith("norm.weight") and ".spatial.norm" not in name]
    assert all((scale == 1).all() for scale in scales)


def test_a_gradient_reaches_every_parameter():
    model = small()
    for stage in model.stages:
        stage.spatial.alpha.data.fill_(0.5)
        stage.spatial.norm.weight.data.fill_(1)
    model(torch.randn(4, 2, 9, 17, 3)).square().sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    for stage in model.stages:
        assert stage.spatial.alpha.grad.abs() > 0 and stage.spatial.embed.weight.grad.norm() > 0


def test_stages_do_not_share_their_graph():
    model = small()
    model.stages[0].spatial.graph.data.fill_(0)
    assert model.stages[1].spatial.graph.any()


@pytest.mark.parametrize("frames", [1, 2, 5])
def test_short_clips(frames):
    assert small()(torch.randn(2, 2, frames, 17, 3)).isfinite().all()


def test_two_coordinates_and_three_persons():
    assert small(num_persons=3, in_channels=2)(torch.randn(2, 3, 8, 17, 2)).shape == (2, 5)


def test_a_layout_of_your_own():
    arm = {"num_node": 4, "inward": [(1, 0), (2, 1), (3, 2)], "center": 0}
    model = AGCN(arm, 5, num_persons=1, base_width=8, num_stages=2)
    assert model(torch.randn(2, 1, 6, 4, 3)).shape == (2, 5)


def test_memory_order_of_the_input_does_not_matter():
    model, x = small().eval(), torch.randn(2, 2, 8, 17, 3)
    other = x.permute(4, 3, 2, 1, 0).contiguous().permute(4, 3, 2, 1, 0)
    torch.testing.assert_close(model(other), model(x))


def test_features_stay_channels_last():
    model = small().eval()
    y = model.stages(model.data_norm(torch.randn(2, 2, 8, 17, 3)))
    assert y.is_contiguous(memory_format=torch.channels_last)


def test_spread_takes_any_memory_order():
    x, graph = torch.randn(2, 3, 4, 5), torch.randn(2, 3, 5, 5)
    last = x.contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(spread(last, graph), spread(x, graph))


def test_graph_keeps_its_precision_under_autocast():
    model, seen = small(), []
    unit = model.stages[1].spatial
    similarity = unit.similarity
    unit.similarity = lambda x: seen.append(similarity(x)) or seen[-1]
    with torch.autocast("cpu", torch.bfloat16):
        scores = model(torch.randn(2, 2, 8, 17, 3))
    assert seen[0].dtype == torch.float32 and scores.isfinite().all()


# -- zoo and weights

def test_every_name_makes_a_model():
    for name in list_models():
        assert isinstance(create_model(name, "coco", 7), torch.nn.Module)


def test_options_reach_the_constructor():
    assert create_model("agcn", "coco", 7, num_persons=1, base_width=8).classifier.in_features == 32
    with pytest.raises(TypeError, match="num_person"):
        create_model("agcn", "coco", 7, num_person=1)


def test_a_fresh_model_from_a_configuration():
    model = from_reference(config(num_person=3, in_channels=2, base_channels=16, num_stages=4,
                                  inflate_stages=[3], down_stages=[3])
                           | {"cls_head": {"type": "GCNHead", "num_classes": 7, "in_channels": 32,
                                           "dropout": 0.0, "loss_cls": {"type": "CrossEntropyLoss"},
                                           "average_clips": "prob"}, "test_cfg": {}})
    assert model(torch.randn(2, 3, 8, 17, 2)).shape == (2, 7)
    assert next(model.parameters()).dtype == torch.float32


@pytest.mark.parametrize("option, value", [
    ("gcn_attention", True), ("gcn_adaptive", False), ("data_bn_type", "VC"), ("tcn_type", "mstcn"),
    ("tcn_dropout", 0.5), ("data_bn_type", None), ("gcn_attention", (False,) * 9 + (True,)),
    ("graph_cfg", {"layout": "coco", "mode": "stgcn_spatial"}), ("ch_ratio", 4)])
def test_unneeded_options_are_refused_by_name(option, value):
    with pytest.raises(ValueError, match="mode" if option == "graph_cfg" else option):
        from_reference(config(**{option: value}))


def test_attention_is_on_unless_it_is_switched_off():
    silent = config()
    del silent["backbone"]["gcn_attention"]
    with pytest.raises(ValueError, match="gcn_attention is True"):
        from_reference(silent)


def test_an_option_may_be_given_for_every_stage():
    from_reference(config(gcn_attention=(False,) * 10))


def test_other_parts_are_refused_by_name():
    with pytest.raises(ValueError, match="neck"):
        from_reference(config() | {"neck": {}})
    with pytest.raises(ValueError, match="dropout is 0.5"):
        from_reference(config() | {"cls_head": {"num_classes": 7, "in_channels": 256,
                                                "dropout": 0.5}})
    with pytest.raises(ValueError, match="'AAGNC': did you mean 'AAGCN'"):
        from_reference({"backbone": {"type": "AAGNC"}, "cls_head": {"num_classes": 7}})
    with pytest.raises(ValueError, match="GCNHead needs num_classes"):
        from_reference(config() | {"cls_head": {"in_channels": 256}})
    with pytest.raises(ValueError, match="takes 128 features, but the backbone gives 256"):
        from_reference(config() | {"cls_head": {"num_classes": 7, "in_channels": 128}})


def test_pyskl_names_its_head_differently():
    model = small()
    state = {key.replace("cls_head.fc.", "cls_head.fc_cls."): value.clone() + 1
             for key, value in to_reference(model).items()}
    load_reference(small(), state)


def test_a_refused_state_changes_nothing():
    model = small()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    state = {key: value + 1 for key, value in to_reference(model).items()}
    state["backbone.gcn.9.gcn.A"] = torch.zeros(3, 17, 17)
    del state["cls_head.fc.bias"]
    with pytest.raises(ValueError, match="missing: cls_head.fc.bias; .*unexpected: backbone.gcn.9"):
        load_reference(model, state)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_views_cover_every_number_once():
    model = small()
    for tensor in to_reference(model).values():
        tensor.add_(1)
    fresh = small().state_dict()
    for name, value in model.state_dict().items():
        torch.testing.assert_close(value, fresh[name] + 1, msg=name)


def test_a_fixed_graph_of_another_shape_is_told():
    state = dict(to_reference(from_reference(config())))
    state["backbone.A"] = torch.zeros(3, 25, 25)
    with pytest.raises(ValueError, match=r"backbone.A \(3, 25, 25\), not \(3, 17, 17\)"):
        from_reference(config(), state)
