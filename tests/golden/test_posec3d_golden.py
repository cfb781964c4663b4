"""Every number of PoseC3D: scores, probes of the stages, gradients, statistics, five steps of SGD.

As in `test_models_golden.py`, weights and inputs are rebuilt from names and seeds, and travel
through `from_reference` and `to_reference`: the even cases from a configuration as MMAction2 writes
it, the odd ones from one as PYSKL does.
"""

import json
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import recipe
import torch
import torch.nn.functional as F

from skelbook.models.blocks import count_operations, count_parameters
from skelbook.models.checkpoints import read_checkpoint
from skelbook.models.posec3d import PoseC3D
from skelbook.models.weights import from_reference, to_reference

DATA = Path(__file__).parent / "data"
CASES = {name: case for name, case in json.loads((DATA / "posec3d.json").read_text()).items()
         if name != "_about"}
TOOLBOXES = dict(zip(CASES, ["mmaction2", "pyskl"] * 3, strict=False))
SIZES = [(name, size) for name, case in CASES.items() for size in case["flops"]]
every = pytest.mark.parametrize("name", CASES)
both = pytest.mark.parametrize("toolbox", ["mmaction2", "pyskl"])


def toolbox_config(case, toolbox):
    "The `model` dictionary around the arguments of a case."
    args = dict(case["args"])
    classes, dropout = args.pop("num_classes"), args.pop("dropout_ratio")
    head = {"type": "I3DHead", "in_channels": 512, "num_classes": classes}
    backbone = {"type": "ResNet3dSlowOnly", "out_indices": (2,), **args}
    if toolbox == "mmaction2":
        head |= {"dropout_ratio": dropout, "average_clips": "prob", "spatial_type": "avg"}
        backbone |= {"depth": 50, "pretrained": None, "conv1_stride_s": 1, "pool1_stride_s": 1,
                     "dilations": (1, 1, 1)}
        return {"type": "Recognizer3D", "backbone": backbone, "cls_head": head,
                "train_cfg": None, "test_cfg": None}
    head |= {"dropout": dropout}
    backbone |= {"conv1_stride": (1, 1), "pool1_stride": (1, 1)}
    return {"type": "Recognizer3D", "backbone": backbone, "cls_head": head,
            "test_cfg": {"average_clips": "prob"}}


def weights(case):
    return {key: recipe.tensor(key, shape, kind) for key, shape, kind in case["state_dict"]}


def build(name, dtype=torch.float64):
    case = CASES[name]
    return from_reference(toolbox_config(case, TOOLBOXES[name]), weights(case), dtype)


def batch(case):
    "Volumes (N, K, T, H, W) and labels (N,)."
    x = np.abs(recipe.noise(case["input"]["seed"], case["input"]["shape"])).clip(0, 1)
    y = recipe.labels(case["labels"]["seed"], len(x), case["args"]["num_classes"])
    assert y.tolist() == case["labels"]["values"]
    return torch.tensor(x), torch.tensor(y)


def probe(x):
    "Mean, mean size, norm, maximum, and sixteen numbers in their order (N, C, T, H, W)."
    flat = x.detach().contiguous().flatten()
    places = np.linspace(0, len(flat) - 1, 16).astype(int)
    moments = torch.stack([flat.mean(), flat.abs().mean(), flat.norm(), flat.max()])
    return torch.cat([moments, flat[places]]).numpy()


def probes(model, case, x):
    "Every `feat_` array of a case."
    found, depth = {}, case["args"]["stage_blocks"]
    ends = {f"layer{k}": model.stages[k - 1] for k in (1, 2, 3)}
    assert [len(stage) for stage in ends.values()] == depth
    ends |= {"stem_conv": model.stem.conv, "pool": model.pool}
    for name, module in ends.items():
        def keep(module, args, y, name=name):
            if name == "pool":                                # a function of images, (N·T, C, H, W)
                before, y = (z.unflatten(0, x.shape[:3:2]).transpose(1, 2) for z in (args[0], y))
                found["feat_stem_act"] = probe(before)
            shape = case["stage_output_shapes"].get(name)
            assert shape is None or list(y.shape) == shape
            found[f"feat_{name}"] = probe(y)
        module.register_forward_hook(keep)
    with torch.no_grad():
        found["feat_pooled"] = model.features(x)[:, :64].numpy()
    return found


def gradient_norms(model, case):
    grads = to_reference(model, {key: p.grad for key, p in model.named_parameters()})
    assert list(grads) == case["grad_norm_order"]
    return np.array([grads[key].norm() for key in case["grad_norm_order"]])


@cache
def measured(name):
    "Every array of the golden file, computed here."
    case = CASES[name]
    x, y = batch(case)
    model = build(name).eval()
    found = probes(model, case, x)
    with torch.no_grad():
        logits = model(x)
    found["eval_logits"], found["eval_clip_prob"] = logits.numpy(), logits.softmax(1).mean(0)

    model = build(name).train()
    logits = model(x)
    loss = F.cross_entropy(logits, y)
    loss.backward()
    found["train_logits"], found["train_loss"] = logits.detach().numpy(), loss.item()
    found["grad_norms"] = gradient_norms(model, case)
    found["grad_total_norm"] = np.linalg.norm(found["grad_norms"])
    state = to_reference(model)
    found["bn_stat_l2_after_one_step"] = np.array(
        [state[key].norm() for key in case["bn_stat_order"]])
    return found | training(name, x, y)


def training(name, x, y):
    "Five steps of SGD with clipped gradients, from the start."
    sgd, model = CASES[name]["sgd"], build(name).train()
    optimizer = torch.optim.SGD(model.parameters(), sgd["lr"], sgd["momentum"],
                                weight_decay=sgd["weight_decay"], nesterov=sgd["nesterov"])
    losses, norms = [], []
    for _ in range(sgd["steps"]):
        loss = F.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        norms.append(torch.nn.utils.clip_grad_norm_(model.parameters(),
                                                    sgd["clip_grad"]["max_norm"]).item())
        optimizer.step()
        losses.append(loss.item())
    with torch.no_grad():
        after = model.eval()(x).numpy()
    return {"sgd_losses": np.array(losses), "sgd_grad_norms_before_clip": np.array(norms),
            "eval_logits_after_sgd": after}


@every
def test_every_array_equals_the_reference(name):
    found, golden = measured(name), np.load(DATA / CASES[name]["file"])
    assert set(golden.files) == set(found) and len(found) == 17
    for array, expected in golden.items():
        tolerance = 1e-7 if "sgd" in array else 1e-9           # a trajectory amplifies rounding
        np.testing.assert_allclose(found[array], expected, rtol=0, err_msg=array,
                                   atol=tolerance * np.abs(expected).max())


@every
def test_every_tensor_has_one_reference_name(name):
    case = CASES[name]
    model = build(name)
    found = [[key, list(value.shape)] for key, value in to_reference(model).items()]
    assert found == [entry[:2] for entry in case["state_dict"]] and len(found) == 260
    assert count_parameters(model) == case["num_params"]
    assert count_parameters(model) - count_parameters(model.classifier) \
        == case["num_backbone_params"]


@pytest.mark.parametrize("name, size", SIZES)
def test_arithmetic_at_a_size(name, size):
    model = from_reference(toolbox_config(CASES[name], "mmaction2"))
    expected = CASES[name]["flops"][size]
    with torch.device("meta"):
        counts = count_operations(model.to("meta"), torch.empty(*map(int, size.split("x"))))
    products = counts["convolution"] + counts["linear"]
    assert products == expected["conv_linear_macs"]
    assert products + counts["batch norm"] == expected["mmengine_flops"]


@every
def test_single_precision_is_close(name):
    with torch.no_grad():
        scores = build(name, torch.float32).eval()(batch(CASES[name])[0].float())
    expected = np.load(DATA / CASES[name]["file"])["eval_logits"]
    np.testing.assert_allclose(scores, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


@both
@pytest.mark.parametrize("name", ["ntu60_keypoint", "hmdb51"])
def test_both_toolboxes_describe_the_same_network(name, toolbox):
    case = CASES[name]
    model = from_reference(toolbox_config(case, toolbox), weights(case))
    blocks = tuple(case["args"]["stage_blocks"])
    ours = PoseC3D("coco", case["args"]["num_classes"], stage_blocks=blocks, dropout=0.)
    assert [*map(str, ours.modules())] == [*map(str, model.modules())]
    config = toolbox_config(case, toolbox)
    del config["cls_head"][{"mmaction2": "dropout_ratio", "pyskl": "dropout"}[toolbox]]
    assert from_reference(config).drop.p == 0.5


@both
@pytest.mark.parametrize("new", [True, False])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_a_checkpoint_file_gives_the_same_scores(new, prefix, toolbox, tmp_path):
    "A file as either toolbox writes it: weights, and the rest of a training in between."
    case = CASES["gym_limb"]
    state = {prefix + key: torch.as_tensor(value) for key, value in weights(case).items()}
    meta = {"mmaction2": {"epoch": 24, "cfg": "model = dict()", "dataset_meta": {}, "seed": 1},
            "pyskl": {"epoch": 24, "iter": 9000, "mmcv_version": "1.3.18", "CLASSES": None}}
    torch.save({"meta": meta[toolbox], "state_dict": state, "message_hub": {}},
               tmp_path / "best.pth", _use_new_zipfile_serialization=new)
    read, found = read_checkpoint(tmp_path / "best.pth")
    model = from_reference(toolbox_config(case, toolbox), read, torch.float64).eval()
    with torch.no_grad():
        np.testing.assert_array_equal(model(batch(case)[0][:1]), scores_of_one("gym_limb"))
    assert found["epoch"] == 24


@cache
def scores_of_one(name):
    with torch.no_grad():
        return build(name).eval()(batch(CASES[name])[0][:1]).numpy()


@pytest.mark.parametrize("name", ["ntu60_keypoint", "k400"])
def test_a_fresh_model_starts_by_the_rules_of_the_reference(name):
    torch.manual_seed(0)
    model = from_reference(toolbox_config(CASES[name], "mmaction2"))
    for key, value in to_reference(model).items():
        if key.endswith("conv.weight"):
            fan_out = value.shape[0] * value[0, 0].numel()
            slack = 6 / value.numel() ** 0.5
            assert value.std().item() == pytest.approx((2 / fan_out) ** 0.5, rel=slack), key
            assert abs(value.mean()) < slack * (2 / fan_out) ** 0.5, key
            assert value.abs().max() > 2 * value.std(), key                      # not uniform
        elif key == "cls_head.fc_cls.weight":
            assert value.std().item() == pytest.approx(0.01, rel=0.03)
        elif key.endswith(("running_var", "bn.weight")):
            last = key.endswith("conv3.bn.weight")                               # a block is silent
            assert (value == (0 if last else 1)).all(), key
        else:
            assert (value == 0).all(), key
