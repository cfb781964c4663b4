"""Corner cases of PoseC3D, of its flat convolutions, and of the configurations that describe it."""

import pytest
import torch
import torch.nn as nn
import torch.nn.functional as F

from skelbook.models.posec3d import (
    Bottleneck,
    FlatConv,
    PoseC3D,
    each_frame,
    num_maps,
    volume_stage,
)
from skelbook.models.transfer import load_weights, save_weights, transfer_weights
from skelbook.models.weights import from_reference, load_reference, to_reference
from skelbook.models.zoo import create_model

HAND = {"num_node": 7, "inward": [(joint, 0) for joint in range(1, 7)], "center": 0}
TINY = {"base_width": 4, "stage_blocks": (1, 2, 1)}


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def awake(model):
    "The model with blocks that speak, and statistics that are nowhere special."
    for name, tensor in model.state_dict().items():
        if name.endswith(("norm.weight", "running_var")):
            tensor.uniform_(0.5, 1.5)
        if name.endswith(("norm.bias", "running_mean")):
            tensor.normal_()
    return model


def textbook(model, x):
    "The scores of a PoseC3D, step by step with three-dimensional convolutions."
    def normed(part, x):
        conv, norm = part.conv, part.norm
        y = F.conv3d(x, conv.weight, stride=conv.stride, padding=conv.padding)
        return F.batch_norm(y, norm.running_mean, norm.running_var, norm.weight, norm.bias,
                            training=False)

    x = F.max_pool3d(normed(model.stem, x).relu(), (1, 3, 3), 1, (0, 1, 1))
    for block in (block for stage in model.stages for block in stage):
        y = normed(block.squeeze, x).relu()
        y = normed(block.expand, normed(block.look, y).relu())
        skip = x if isinstance(block.shortcut, nn.Identity) else normed(block.shortcut, x)
        x = (y + skip).relu()
    return F.linear(x.flatten(2).mean(2), model.classifier.weight, model.classifier.bias)


# -- the network

@pytest.mark.parametrize("size", [(48, 12, 12), (7, 13, 9), (1, 8, 8), (2, 1, 1), (1, 1, 1)])
@pytest.mark.parametrize("options", [{}, {"spatial_strides": (1, 2, 1)},
                                     {"temporal_strides": (2, 1, 3)}, {"stream": "limb"}])
def test_the_network_is_the_textbooks(size, options):
    model = awake(PoseC3D(HAND, 5, **TINY, **options)).double().eval()
    x = torch.rand(3, model.num_maps, *size, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(model(x), textbook(model, x), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("layout, joints, limbs", [("coco", 17, 17), ("nturgb+d", 25, 24),
                                                   (HAND, 7, 6), ("openpose", 18, 17)])
def test_the_skeleton_says_how_many_maps_there_are(layout, joints, limbs):
    assert (num_maps(layout, "joint"), num_maps(layout, "limb")) == (joints, limbs)
    for stream, maps in {"joint": joints, "limb": limbs}.items():
        model = create_model("posec3d", layout, 3, stream=stream, **TINY)
        assert model(torch.rand(2, maps, 4, 8, 8)).shape == (2, 3)


@pytest.mark.parametrize("frames, left", [(48, 24), (7, 4), (2, 1), (1, 1)])
def test_sides_are_halved_and_rounded_up(frames, left):
    model = PoseC3D("coco", 3, **TINY).eval()
    y = model.stages(each_frame(model.pool, model.stem(torch.rand(2, 17, frames, 19, 33))))
    assert y.shape == (2, 64, left, 3, 5)


def test_memory_layout_and_gradients_do_not_depend_on_each_other():
    x = torch.rand(2, 17, 5, 12, 12, dtype=torch.float64)
    found = []
    for memory in (torch.contiguous_format, torch.channels_last_3d):
        torch.manual_seed(3)
        model = awake(PoseC3D("coco", 3, **TINY, dropout=0)).double().train()
        given = x.clone(memory_format=memory).requires_grad_()
        model(given)[:, 1].sum().backward()
        found.append([given.grad, *(p.grad for p in model.parameters())])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("frames", [4, 5])
def test_channels_stay_last_in_memory_to_the_end(frames):
    model, seen = PoseC3D("coco", 3, **TINY).eval(), []
    for part in model.modules():
        if isinstance(part, FlatConv):
            part.register_forward_hook(lambda module, args, y: seen.append(y))
    model(torch.rand(2, 17, frames, 16, 16))
    assert len(seen) == 1 + 4 * 3 + 3
    assert all(y.is_contiguous(memory_format=torch.channels_last_3d) for y in seen)


def test_a_batch_of_one_can_be_trained_on():
    model = PoseC3D("coco", 5, **TINY).train()
    F.cross_entropy(model(torch.rand(1, 17, 1, 12, 12)), torch.tensor([1])).backward()
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())


def test_an_empty_volume_is_finite_and_so_are_its_gradients():
    model, x = PoseC3D("coco", 5, **TINY), torch.zeros(2, 17, 6, 12, 12)
    assert model.eval()(x).isfinite().all()
    F.cross_entropy(model.train()(x), torch.tensor([0, 1])).backward()
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())
    assert all(buffer.isfinite().all() for buffer in model.buffers())


def test_the_input_is_not_changed():
    x = torch.rand(2, 17, 6, 12, 12).contiguous(memory_format=torch.channels_last_3d)
    before = x.clone()
    PoseC3D("coco", 5, **TINY)(x)
    assert torch.equal(x, before)


def test_scores_are_a_matrix_of_the_features():
    model, x = PoseC3D("coco", 5, **TINY).eval(), torch.rand(2, 17, 6, 12, 12)
    torch.testing.assert_close(model(x), model.classifier(model.features(x)))
    assert model.features(x).shape == (2, 64)


def test_dropout_is_half_and_only_in_training():
    model, x = awake(PoseC3D("coco", 5, **TINY)), torch.rand(2, 17, 6, 12, 12)
    assert model.drop.p == 0.5
    assert torch.equal(model.eval()(x), model(x))
    model.stem.norm.momentum = 0.
    assert not torch.equal(model.train()(x), model(x))
    still = PoseC3D("coco", 5, **TINY, dropout=0).train()
    assert torch.equal(still(x), still(x))


def test_half_precision_keeps_its_shape_and_is_close():
    model, x = PoseC3D("coco", 5, **TINY).eval(), torch.rand(2, 17, 6, 12, 12)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        scores = model(x)
    torch.testing.assert_close(scores.float(), model(x), rtol=0.05, atol=0.02)


# -- its parts

def test_a_stage_without_strides_keeps_the_shape_and_its_first_block_widens():
    stage = volume_stage(8, 4, 2)
    assert not isinstance(stage[0].shortcut, nn.Identity)
    assert isinstance(stage[1].shortcut, nn.Identity)
    assert stage(torch.rand(2, 8, 3, 6, 6)).shape == (2, 16, 3, 6, 6)


def test_a_stride_in_time_alone_needs_a_shortcut_too():
    block = Bottleneck(16, 4, frames=3, stride=(2, 1, 1))
    assert block(torch.rand(2, 16, 5, 6, 6)).shape == (2, 16, 3, 6, 6)


# -- what is refused

@pytest.mark.parametrize("shape", [(2, 16, 6, 12, 12), (17, 6, 12, 12), (2, 1, 6, 17, 3),
                                   (2, 6, 17, 12, 12)])
def test_volumes_of_other_maps_are_refused(shape):
    with pytest.raises(ValueError, match=r"takes \(N, 17, T, H, W\): one map per joint"):
        PoseC3D("coco", 5, **TINY)(torch.rand(shape))


def test_the_limb_is_named_when_limbs_are_missing():
    with pytest.raises(ValueError, match="one map per limb"):
        PoseC3D("nturgb+d", 5, "limb", **TINY)(torch.rand(2, 25, 6, 12, 12))


@pytest.mark.parametrize("options, reason", [
    ({"stream": "bone"}, "unknown stream 'bone'"), ({"layout": "cocoo"}, "did you mean 'coco'"),
    ({"stage_blocks": (1, 1)}, "2 stages, but 3 spatial"),
    ({"temporal_strides": (1, 2)}, "3 stages, but 3 spatial and 2 temporal")])
def test_a_network_that_cannot_be_is_refused(options, reason):
    with pytest.raises(ValueError, match=reason):
        PoseC3D(**options)


# -- weights

SHAPE = {"in_channels": 17, "base_channels": 4, "num_stages": 3, "stage_blocks": [1, 2, 1],
         "inflate": [0, 1, 1], "spatial_strides": [2, 2, 2], "temporal_strides": [1, 1, 2]}


def config(head=(), **backbone):
    "A configuration of a tiny network, as JSON keeps it: lists, not tuples."
    return {"type": "Recognizer3D",
            "backbone": {"type": "ResNet3dSlowOnly", **SHAPE, **backbone},
            "cls_head": {"type": "I3DHead", "num_classes": 5, "in_channels": 64, **dict(head)}}


@pytest.mark.parametrize("change, option", [
    ({"conv1_stride": [1, 2]}, "conv1_stride"), ({"conv1_stride_s": 2}, "conv1_stride_s"),
    ({"pool1_stride": (2, 1)}, "pool1_stride"), ({"pool1_stride_t": 2}, "pool1_stride_t"),
    ({"dilations": (1, 2, 1)}, "dilations"), ({"depth": 101}, "depth"),
    ({"inflate": [0, 0, 1]}, "inflate"), ({"inflate": [0, 1]}, "inflate"),
    ({"out_indices": [1]}, "out_indices"), ({"out_indices": (0, 1, 2)}, "out_indices"),
    ({"advanced": True}, "advanced"), ({"lateral": True}, "lateral"), ({"style": "caffe"}, "style"),
    ({"non_local": (0, 1, 0)}, "non_local"), ({"base_channel": 8}, "base_channels"),
    ({"in_channels": None}, "in_channels"), ({"stage_blocks": None}, "stage_blocks")])
def test_an_option_that_nothing_published_uses_is_refused_by_name(change, option):
    with pytest.raises(ValueError, match=option):
        from_reference(config(**change))


@pytest.mark.parametrize("head, reason", [
    ({"spatial_type": "max"}, "spatial_type"), ({"type": "GCNHead"}, "I3DHead"),
    ({"in_channels": 512}, "512 features, but the backbone gives 64"),
    ({"num_classes": None}, "num_classes")])
def test_a_head_that_does_not_fit_is_refused(head, reason):
    with pytest.raises(ValueError, match=reason):
        from_reference(config(head))


def test_the_pose_network_of_rgbpose_keeps_every_frame():
    model = from_reference(config(temporal_strides=[1, 1, 1], out_indices=[2], pretrained=None))
    y = model.stages(each_frame(model.pool, model.stem(torch.rand(2, 17, 8, 16, 16))))
    assert y.shape == (2, 64, 8, 2, 2)


@pytest.mark.parametrize("head", ["fc", "fc_cls"])
def test_the_head_may_have_either_name(head):
    model = awake(from_reference(config()))
    state = {key.replace(".fc_cls.", f".{head}."): value.clone()
             for key, value in to_reference(model).items()}
    other = load_reference(from_reference(config()), state)
    assert all(torch.equal(value, other.state_dict()[key])
               for key, value in model.state_dict().items())
    graph = create_model("agcn", "coco", 5, base_width=8, num_stages=2)
    state = {key.replace(".fc.", f".{head}."): value for key, value in to_reference(graph).items()}
    load_reference(create_model("agcn", "coco", 5, base_width=8, num_stages=2), state)


def test_a_checkpoint_that_lacks_a_tensor_is_refused():
    model = from_reference(config())
    state = {key: value.clone() for key, value in to_reference(model).items()}
    del state["backbone.layer2.1.conv1.bn.running_var"]
    state["backbone.layer2.2.conv1.conv.weight"] = torch.zeros(1)
    with pytest.raises(ValueError, match=r"1 key missing: backbone.layer2.1.*1 key unexpected"):
        from_reference(config(), state)


def test_fine_tuning_takes_everything_but_the_classifier(tmp_path):
    before = awake(PoseC3D("coco", 400, base_width=4, stage_blocks=(1, 1, 2)))
    save_weights(tmp_path / "k400.safetensors", before, why="a test")
    tensors, _ = load_weights(tmp_path / "k400.safetensors")
    model = PoseC3D("coco", 51, base_width=4, stage_blocks=(1, 1, 2))
    inventory = transfer_weights(model, tensors)
    moved = {key for key in model.state_dict() if not key.startswith("classifier.")}
    assert set(inventory["kept"]) == moved
    assert all(torch.equal(model.state_dict()[key], before.state_dict()[key]) for key in moved)
