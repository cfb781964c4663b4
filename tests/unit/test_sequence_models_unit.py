"""Corner cases of the convolutional networks, and of the blocks and configurations of HCN."""

import pytest
import torch
import torch.nn as nn
import torch.nn.functional as F

from skelbook.models.blocks import count_parameters
from skelbook.models.hcn import HCN
from skelbook.models.hcn_baseline import HCNBaseline
from skelbook.models.sequence_blocks import (
    SwapJoints,
    check_clips,
    count_module_operations,
    fold_persons,
    frame_motion,
    merge_persons,
    xavier,
)
from skelbook.models.ta_cnn import TaCNN
from skelbook.models.two_stream_cnn import TwoStreamCNN
from skelbook.models.weights import from_reference

FRAMES = {HCN: 64, HCNBaseline: 64, TwoStreamCNN: 32, TaCNN: 20}
every = pytest.mark.parametrize("network", FRAMES)
both = pytest.mark.parametrize("network", [HCN, HCNBaseline])


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def clips(network, n=2, m=2, v=25, c=3, t=None):
    return torch.randn(n, m, t or FRAMES[network], v, c)


def hand(count):
    "A skeleton of that many joints, the first of which holds all others."
    return {"num_node": count, "inward": [(joint, 0) for joint in range(1, count)], "center": 0}


# -- networks

@every
@pytest.mark.parametrize("persons", [1, 3])
def test_scores_do_not_depend_on_the_order_of_persons_or_on_twins(network, persons):
    model, x = network().eval(), clips(network, m=persons)
    assert model(x).shape == (2, 60)
    torch.testing.assert_close(model(x.flip(1)), model(x))
    torch.testing.assert_close(model(torch.cat([x, x], 1)), model(x))


@both
@pytest.mark.parametrize("persons", [1, 2, 3])
def test_any_number_of_persons(network, persons):
    model, x = network().eval(), clips(network, m=persons)
    single = torch.stack([model.body(x[:, [m]]) for m in range(persons)], 1).flatten(0, 1)
    torch.testing.assert_close(model.body(x), single)


@both
def test_an_empty_person_takes_part_in_the_maximum(network):
    model, x = network().eval(), clips(network)
    x[:, 1] = 0
    first, empty = model.body(x[:, :1]), model.body(x[:, 1:])
    both = merge_persons(model.body(x), 2)
    torch.testing.assert_close(both, torch.maximum(first, empty).flatten(1))
    x[:, 1] += 1e-3
    assert not torch.equal(merge_persons(model.body(x), 2), both)


@every
def test_an_empty_clip_is_finite_and_so_are_its_gradients(network):
    model, x = network(), torch.zeros(2, 2, FRAMES[network], 25, 3)
    assert model.eval()(x).isfinite().all()
    F.cross_entropy(model.train()(x), torch.tensor([0, 1])).backward()
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())


@every
@pytest.mark.parametrize("count, channels", [(1, 3), (7, 2), (17, 2), (33, 4)])
def test_odd_numbers_of_joints_and_other_channels(network, count, channels):
    model = network(hand(count), 5, in_channels=channels).eval()
    x = clips(network, v=count, c=channels)
    assert model(x).shape == (2, 5)
    torch.testing.assert_close(model(x)[:1], model(x[:1]))


@every
def test_every_parameter_has_a_gradient_from_a_batch_of_one(network):
    model = network(num_classes=5).train()
    model(clips(network, n=1, m=1)).square().sum().backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in model.parameters())


@every
@pytest.mark.parametrize("shape, message", [
    ((2, 2, 64, 24, 3), "(T, V, C) is (64, 24, 3), but the model is made for"),
    ((2, 2, 64, 25, 2), "(T, V, C) is (64, 25, 2), but the model is made for"),
    ((2, 3, 64, 25), "five axes, (N, M, T, V, C); found (2, 3, 64, 25)"),
    ((2, 2, 3, 64, 25, 3), "five axes"),
    ((2, 2, 15, 25, 3), "15")])
def test_clips_of_another_shape_are_refused_with_the_reason(network, shape, message):
    for call in (network(), network().features):
        with pytest.raises(ValueError) as refusal:
            call(torch.zeros(shape))
        assert message in str(refusal.value)


@every
def test_joints_are_those_of_the_layout(network):
    with pytest.raises(ValueError, match="did you mean"):
        network("nturgbd+")


@every
def test_dropout_works_in_training_only(network):
    model, x = network(), clips(network, n=4)
    assert not torch.equal(model.train()(x), model(x))
    assert torch.equal(model.eval()(x), model(x))


@every
def test_memory_order_of_the_input_does_not_matter(network):
    model, x = network().eval(), clips(network)
    other = x.permute(4, 3, 2, 1, 0).contiguous().permute(4, 3, 2, 1, 0)
    torch.testing.assert_close(model(other), model(x))


@every
def test_every_convolution_finds_channels_last(network):
    model, found = network().eval(), []
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d | nn.MaxPool2d):
            layer.register_forward_pre_hook(lambda layer, args: found.append(
                args[0].is_contiguous(memory_format=torch.channels_last)))
    model(clips(network))
    assert found and all(found)


@every
def test_the_input_is_left_alone(network):
    x = clips(network)
    before = x.clone()
    network()(x)
    assert torch.equal(x, before)


@pytest.mark.parametrize("frames", [16, 32, 96])
def test_hcn_of_other_lengths(frames):
    model = HCN(clip_len=frames)
    assert model(clips(HCN, t=frames)).shape == (2, 60)
    assert count_parameters(model) == 522_492 + 8192 * frames + 256


def test_hcn_of_32_frames_has_the_size_that_is_published_for_the_two_stream_cnn():
    model = HCN(clip_len=32)
    assert count_parameters(model) == 784_892
    counts = count_module_operations(model, torch.zeros(1, 2, 32, 25, 3))
    assert sum(counts.values()) == 98_190_592


@pytest.mark.parametrize("frames", [0, -16, 8, 40, 63])
def test_hcn_refuses_lengths_that_cannot_be_halved_four_times(frames):
    with pytest.raises(ValueError, match=f"clip_len is {frames}, .* multiple of 16"):
        HCN(clip_len=frames)


def test_hcn_takes_the_frames_it_was_made_for_and_no_others():
    with pytest.raises(ValueError, match=r"\(T, V, C\) is \(48, 25, 3\), .* \(64, 25, 3\)"):
        HCN()(clips(HCN, t=48))


@pytest.mark.parametrize("frames", [16, 17, 31, 64, 100])
def test_hcn_baseline_takes_any_number_of_frames_from_16_on(frames):
    assert HCNBaseline()(clips(HCNBaseline, t=frames)).shape == (2, 60)


def test_hcn_baseline_knows_its_least_number_of_frames():
    with pytest.raises(ValueError, match="15 frames, but the model needs 16"):
        HCNBaseline()(clips(HCNBaseline, t=15))


# -- blocks

def test_folding_and_merging_keep_samples_and_persons_in_order():
    x = torch.arange(6.).view(3, 2, 1, 1, 1).expand(3, 2, 4, 5, 2)
    images = fold_persons(x)
    assert images[:, 0, 0, 0].tolist() == [0, 1, 2, 3, 4, 5]
    assert merge_persons(images, 2)[:, 0].tolist() == [1, 3, 5]
    assert merge_persons(images, 2).shape == (3, 2 * 4 * 5)


def test_merged_features_are_flattened_channel_first():
    x = torch.arange(24.).view(1, 2, 3, 4)
    for order in (x, x.contiguous(memory_format=torch.channels_last)):
        assert merge_persons(order, 1)[0].tolist() == list(range(24))


def test_the_gradient_of_a_tie_goes_to_the_first_person():
    x = torch.ones(2, 3, requires_grad=True)
    merge_persons(x, 2).sum().backward()
    assert x.grad.tolist() == [[1, 1, 1], [0, 0, 0]]


def test_motion_is_a_backward_difference():
    x = torch.randn(2, 3, 5, 4)
    d = frame_motion(x)
    assert not d[:, :, 0].any()
    for t in range(1, 5):
        assert torch.equal(d[:, :, t], x[:, :, t] - x[:, :, t - 1])


def test_swapping_has_no_state_and_takes_any_memory_order():
    swap, x = SwapJoints(), torch.randn(2, 3, 4, 5)
    last = x.contiguous(memory_format=torch.channels_last)
    assert not swap.state_dict() and torch.equal(swap(last), swap(x))
    assert swap(last).stride() == swap(x).stride()


def test_xavier_of_a_grouped_convolution_counts_the_inputs_of_one_group():
    conv = xavier(nn.Conv2d(30, 30, 3, groups=6, bias=False))
    bound = (6 / (5 * 9 + 30 * 9)) ** 0.5
    assert 0.98 * bound < conv.weight.abs().max().item() <= bound


def test_any_number_of_frames_is_said_in_words():
    with pytest.raises(ValueError, match=r"made for \(any T, 17, 2\)"):
        check_clips(torch.zeros(1, 1, 20, 25, 3), (None, 17, 2), 16)


# -- counting by modules

@pytest.mark.parametrize("layer, shape, expected", [
    (nn.Conv1d(4, 6, 3, padding=1), (1, 4, 10), {"convolution": 60 * (12 + 1)}),
    (nn.Conv2d(6, 6, 3, groups=3, bias=False), (1, 6, 5, 5), {"convolution": 54 * 18}),
    (nn.Linear(4, 6), (1, 3, 4), {"linear": 12 * 6}),
    (nn.BatchNorm2d(4), (1, 4, 3, 3), {"batch norm": 72}),
    (nn.BatchNorm1d(4), (1, 4, 3), {"batch norm": 24}),
    (nn.MaxPool2d(2), (1, 4, 5, 5), {"pooling": 100}),
    (nn.AdaptiveAvgPool2d(1), (1, 4, 5, 5), {"pooling": 100}),
    (nn.PReLU(), (1, 4, 5), {"activation": 20}),
    (nn.Sequential(nn.Sigmoid(), nn.Dropout(), SwapJoints()), (1, 4, 5, 5), {})])
def test_what_a_module_counts(layer, shape, expected):
    assert count_module_operations(layer, torch.zeros(shape)) == expected


def test_a_module_used_twice_counts_twice():
    relu = nn.ReLU()
    assert count_module_operations(nn.Sequential(relu, relu), torch.zeros(7)) == {"activation": 14}


def test_counting_leaves_the_model_as_it_was():
    model = HCNBaseline().train()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    x = torch.zeros(1, 2, 64, 25, 3)
    total = sum(count_module_operations(model, x).values())
    assert model.training and sum(count_module_operations(model, x[:, :1]).values()) * 2 > total
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert not any(module._forward_hooks for module in model.modules())


def test_hooks_go_even_when_the_forward_pass_fails():
    model = HCN()
    with pytest.raises(ValueError):
        count_module_operations(model.train(), torch.zeros(1, 2, 8, 25, 3))
    assert model.training and not any(module._forward_hooks for module in model.modules())


# -- configurations of SkelAct

def config(head=256, **backbone):
    return {"type": "SkeletonGCN", "backbone": {"type": "HCN"} | backbone,
            "cls_head": {"type": "CNNHead", "num_classes": 60, "in_channels": head,
                         "loss_cls": {"type": "CrossEntropyLoss"}}, "train_cfg": None}


def test_the_switches_decide_between_two_networks():
    assert type(from_reference(config())) is HCN
    assert from_reference(config(clip_len=32)).shape == (32, 25, 3)
    baseline = from_reference(config(512, with_bn=True, reduce="mean", clip_len=99, num_joints=17))
    assert type(baseline) is HCNBaseline and baseline.shape == (None, 17, 3)


@pytest.mark.parametrize("switches", [{"with_bn": True}, {"reduce": "mean"}, {"reduce": "max"}])
def test_other_positions_of_the_switches_are_refused(switches):
    with pytest.raises(ValueError, match="with_bn and reduce are .* published are only"):
        from_reference(config(**switches))


def test_other_parts_of_a_configuration_are_refused_by_name():
    with pytest.raises(ValueError, match="'num_joint': did you mean 'num_joints'"):
        from_reference(config(num_joint=17))
    with pytest.raises(ValueError, match="takes 512 features, but the backbone gives 256"):
        from_reference(config(512))
    with pytest.raises(ValueError, match="clip_len is 60"):
        from_reference(config(clip_len=60))
    with pytest.raises(ValueError, match="CNNHead"):
        from_reference(config() | {"cls_head": {"type": "GCNHead", "num_classes": 60,
                                                "in_channels": 256}})


def test_the_state_of_another_network_is_refused_with_all_that_differs():
    state = {"backbone.net_l.0.weight": torch.zeros(64, 3, 1, 1),
             "backbone.net_l.4.weight": torch.zeros(32, 17, 3, 3),
             "backbone.net_l.9.weight": torch.zeros(1)}
    with pytest.raises(ValueError) as refusal:
        from_reference(config(), state)
    for words in ("22 keys missing: backbone.net_l.0.bias", "backbone.fc7.0.weight",
                  "1 key unexpected: backbone.net_l.9.weight",
                  "backbone.net_l.4.weight (32, 17, 3, 3), not (32, 25, 3, 3)"):
        assert words in str(refusal.value)
