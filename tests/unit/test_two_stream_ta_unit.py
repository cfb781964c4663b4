"""Corner cases of the parts and configurations of Two-Stream CNN and Ta-CNN.

What holds for all convolutional networks is tested in `test_sequence_models_unit.py`.
"""

import pytest
import torch
import torch.nn as nn
import torch.nn.functional as F

from skelbook.models.blocks import count_parameters
from skelbook.models.sequence_blocks import count_module_operations, merge_persons
from skelbook.models.ta_cnn import AugmentationUnit, GroupedPair, SqueezeExcitation, TaCNN
from skelbook.models.two_stream_cnn import SkeletonTransformer, TwoStreamCNN, pooled_conv
from skelbook.models.weights import from_reference, to_reference

FRAMES = {TwoStreamCNN: 32, TaCNN: 20}
every = pytest.mark.parametrize("network", FRAMES)


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def clips(network, n=2, m=2, v=25, c=3):
    return torch.randn(n, m, FRAMES[network], v, c)


# -- both networks

@every
def test_an_empty_second_person_takes_part_in_the_maximum(network):
    model, x = network().eval(), clips(network)
    x[:, 1] = 0
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):       # fresh biases are zero, and so is all that comes of zeros
            parameter.data.normal_()
    merged, dropout = [], model.drop4 if network is TwoStreamCNN else model.drop
    dropout.register_forward_pre_hook(lambda module, args: merged.append(args[0]))
    for part in (x[:, :1], x[:, 1:], x):
        model(part)
    first, empty, both = merged
    torch.testing.assert_close(both, torch.maximum(first, empty))
    assert (empty > first).any() and (empty < first).any()


# -- Two-Stream CNN

@pytest.mark.parametrize("frames", [0, -8, 4, 20, 33])
def test_a_length_that_cannot_be_halved_three_times_is_refused(frames):
    with pytest.raises(ValueError, match=f"clip_len is {frames}, but must be a multiple of 8"):
        TwoStreamCNN(clip_len=frames)


@pytest.mark.parametrize("frames", [8, 24, 64])
def test_other_lengths(frames):
    model = TwoStreamCNN(clip_len=frames)
    assert model(torch.randn(1, 1, frames, 25, 3)).shape == (1, 60)
    assert count_parameters(model) == 1_013_020 + (frames - 32) * 64 * 256
    with pytest.raises(ValueError, match=rf"\({frames + 8}, 25, 3\), .* \({frames}, 25, 3\)"):
        model(torch.randn(1, 1, frames + 8, 25, 3))


def test_the_size_is_not_the_published_one():
    model, giga = TwoStreamCNN(), {}
    for persons in (1, 2):
        counts = count_module_operations(model, torch.zeros(1, persons, 32, 25, 3))
        giga[persons] = round(sum(counts.values()) / 1e9, 4)
    assert sum(counts.values()) == 82_861_952 and giga == {1: 0.0417, 2: 0.0829}


@pytest.mark.parametrize("count", [1, 25, 30])
def test_a_fresh_transformer_of_up_to_30_joints_loses_nothing(count):
    mixing = SkeletonTransformer(count).mixing
    torch.testing.assert_close(mixing @ mixing.T, torch.eye(count))


def test_a_fresh_transformer_of_more_joints_has_orthonormal_columns():
    mixing = SkeletonTransformer(40).mixing
    torch.testing.assert_close(mixing.T @ mixing, torch.eye(30))


@pytest.mark.parametrize("slope, same", [(0.3, True), (0.0, True), (-0.4, False)])
def test_pooling_comes_before_the_activation(slope, same):
    conv, pool, activation = pooled_conv(3, 5)
    activation.weight.data.fill_(slope)
    x = torch.randn(2, 3, 8, 10)
    y = nn.Sequential(conv, pool, activation)(x)
    torch.testing.assert_close(y, F.prelu(F.max_pool2d(conv(x), 2), torch.tensor([slope])))
    other = F.max_pool2d(F.prelu(conv(x), torch.tensor([slope])), 2)
    assert torch.allclose(y, other) == same


def test_the_scores_of_a_network_by_hand():
    "Written out once more with functions, position first, and three negative slopes."
    model = TwoStreamCNN("coco", 4, in_channels=2).double().eval()
    x = clips(TwoStreamCNN, v=17, c=2).double()
    p = {key: value.detach() for key, value in model.named_parameters()}
    for name, slope in (("conv3.2", -0.4), ("conv4.2", -0.7), ("fc5.1", -0.3)):
        p[f"{name}.weight"].fill_(slope)
    image = x.permute(0, 1, 4, 2, 3).reshape(4, 2, 32, 17)
    motion = torch.cat([0 * image[:, :, :1], image[:, :, 1:] - image[:, :, :-1]], 2)
    maps = [F.max_pool2d(F.conv2d(y @ p[f"{name}.0.mixing"], p[f"{name}.1.weight"],
                                  p[f"{name}.1.bias"], padding=(1, 0)), 2)
            for name, y in (("position", image), ("motion", motion))]
    y = torch.cat(maps, 1)
    for name in ("conv3", "conv4"):
        y = F.conv2d(y, p[f"{name}.0.weight"], p[f"{name}.0.bias"], padding=(1, 0))
        y = F.prelu(F.max_pool2d(y, 2), p[f"{name}.2.weight"])
    y = merge_persons(y, 2)
    for name in ("fc5", "fc6"):
        y = F.prelu(F.linear(y, p[f"{name}.0.weight"], p[f"{name}.0.bias"]), p[f"{name}.1.weight"])
    expected = F.linear(y, p["classifier.weight"], p["classifier.bias"])
    torch.testing.assert_close(model(x), expected, rtol=1e-12, atol=1e-14)


def test_the_layer_with_more_weight_decay_is_three_tensors():
    model = TwoStreamCNN()
    by_reference = to_reference(model, dict(model.named_parameters()))
    tenfold = {id(p) for key, p in by_reference.items() if "backbone.fc5" in key}
    ours = [name for name, p in model.named_parameters() if id(p) in tenfold]
    assert ours == ["fc5.0.weight", "fc5.0.bias", "fc5.1.weight"]


# -- Ta-CNN

@pytest.mark.parametrize("frames", [16, 17, 31, 64])
def test_ta_cnn_takes_any_number_of_frames_from_16_on(frames):
    assert TaCNN()(torch.randn(1, 1, frames, 25, 3)).shape == (1, 60)


def test_ta_cnn_refuses_too_few_frames():
    with pytest.raises(ValueError, match="15 frames, but the model needs 16"):
        TaCNN()(torch.randn(1, 1, 15, 25, 3))


@pytest.mark.parametrize("groups", [(9, 6), (10, 5), (0, 6), (10, -2), (34, 6), (10, 33)])
def test_odd_absent_or_too_many_groups_are_refused(groups):
    with pytest.raises(ValueError, match="groups: an even number from 2 to 32 is needed"):
        TaCNN(groups=groups)


@pytest.mark.parametrize("groups", [(10,), (10, 6, 2), ()])
def test_groups_are_two_numbers(groups):
    with pytest.raises(ValueError, match="two numbers are needed"):
        TaCNN(groups=groups)


@pytest.mark.parametrize("factor", [0, -1, 31, 100])
def test_a_squeeze_to_nothing_is_refused(factor):
    with pytest.raises(ValueError, match=f"squeeze_factor is {factor}, but must be from 1 to 30"):
        TaCNN(squeeze_factor=factor)


@pytest.mark.parametrize("groups, width", [(2, 32), (6, 30), (10, 30), (12, 24), (18, 18),
                                           (32, 32)])
def test_the_inner_width_is_the_largest_multiple_of_the_groups(groups, width):
    unit = AugmentationUnit(7, 32, 3, groups)
    assert unit.map1.weight.shape == (width, 7, 1, 1)
    assert unit.group.conv1.weight.shape == (width, width // groups, 3, 3)
    assert unit.group.conv2.weight.shape == (width, 2 * width // groups, 1, 1)
    assert unit(torch.randn(2, 7, 5, 6)).shape == (2, 32, 5, 6)


@pytest.mark.parametrize("factor, squeeze", [(1, 30), (2, 15), (4, 7), (30, 1)])
def test_the_squeeze_is_the_integer_quotient(factor, squeeze):
    assert AugmentationUnit(7, 32, 3, 6, factor).attend.fc1.out_channels == squeeze


def test_a_unit_by_hand():
    unit, x = AugmentationUnit(5, 8, (3, 1), 4, 2).double(), torch.randn(2, 5, 6, 7).double()
    y = torch.einsum("oc,nchw->nohw", unit.map1.weight[..., 0, 0], x).relu()
    squeezed = (y.mean((2, 3)) @ unit.attend.fc1.weight[..., 0, 0].T).relu()
    y = y * torch.sigmoid(squeezed @ unit.attend.fc2.weight[..., 0, 0].T)[..., None, None]
    fine = [F.conv2d(part, weight, padding=(1, 0)) for part, weight in zip(
        y.split(2, 1), unit.group.conv1.weight.split(2), strict=True)]
    coarse = [F.conv2d(part, weight) for part, weight in zip(
        y.split(4, 1), unit.group.conv2.weight.split(4), strict=True)]
    y = torch.cat(fine, 1).relu() + torch.cat(coarse, 1).relu()
    y = torch.einsum("oc,nchw->nohw", unit.map2.weight[..., 0, 0], y).relu()
    torch.testing.assert_close(unit(x), y, rtol=1e-12, atol=1e-14)


def test_the_pair_cannot_be_one_convolution():
    pair, x = GroupedPair(4, 3, 2), torch.randn(1, 4, 5, 5)
    added = F.relu(pair.conv1(x) + pair.conv2(x))
    assert not torch.allclose(pair(x), added, atol=1e-3)


def test_attention_hears_the_mean_only():
    attend, x = SqueezeExcitation(4, 2), torch.rand(1, 4, 3, 5)
    shuffled = x.flatten(2)[..., torch.randperm(15)].view_as(x)
    torch.testing.assert_close((attend(shuffled) / shuffled), (attend(x) / x).expand_as(x))


def test_an_absent_person_passes_a_unit_as_zeros():
    assert not AugmentationUnit(25, 32, 3, 6)(torch.zeros(1, 25, 4, 4)).any()


def test_the_published_size_of_ta_cnn():
    model = TaCNN()
    assert count_parameters(model) == 531_744
    counts = count_module_operations(model, torch.zeros(1, 2, 64, 25, 3))
    assert sum(counts.values()) == 146_784_560
    mean_of_squeezes = 2 * (2 * 30 * 64 * 25 + 2 * 30 * 64 * 32)
    assert mean_of_squeezes == 437_760 <= counts["pooling"]


# -- configurations

def config(kind, width, **backbone):
    return {"type": "SkeletonGCN", "backbone": {"type": kind} | backbone,
            "cls_head": {"type": "CNNHead", "num_classes": 60, "in_channels": width}}


def test_defaults_of_the_configurations():
    assert from_reference(config("TSCNN", 128)).shape == (32, 25, 3)
    ta = from_reference(config("TaCNN", 512))
    assert ta.shape == (None, 25, 3) and ta.body.motion[2].group.conv1.groups == 10


def test_options_reach_the_networks():
    two = from_reference(config("TSCNN", 128, clip_len=16, num_joints=17, in_channels=2))
    assert two.shape == (16, 17, 2)
    ta = from_reference(config("TaCNN", 512, groups=[4, 8], squeeze_factor=2, num_joints=17))
    assert ta.body.position[4].group.conv1.groups == 8
    assert ta.body.position[4].attend.fc1.out_channels == 16


@pytest.mark.parametrize("given, message", [
    (config("TSCNN", 256), "the head takes 256 features, but the backbone gives 128"),
    (config("TSCNN", 128, clip_len=20), "clip_len is 20"),
    (config("TaCNN", 512, clip_len=64), "'clip_len'"),
    (config("TaCNN", 512, groups=(10, 5)), "5 groups: an even number"),
    (config("TSCNN", 128, with_bn=True), "'with_bn'")])
def test_what_a_configuration_must_not_say(given, message):
    with pytest.raises(ValueError, match=message):
        from_reference(given)
