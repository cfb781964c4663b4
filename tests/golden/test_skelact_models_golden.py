"""Every number of SkelAct's five models: scores, stages, gradients, statistics, ten steps.

As in `test_models_golden.py`, weights and inputs are rebuilt from names and seeds, and travel
through `from_reference` and `to_reference`. SkelAct takes clips as (N, C, T, V, M), this book as
(N, M, T, V, C). All dropout probabilities are zero here, as they were in the reference.
"""

import json
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import recipe
import torch
import torch.nn as nn
import torch.nn.functional as F

from skelbook.models.blocks import TemporalUnit, count_operations, count_parameters
from skelbook.models.checkpoints import read_checkpoint
from skelbook.models.dynamic_gcn import JointProjection, bone_graph
from skelbook.models.sequence_blocks import count_module_operations
from skelbook.models.weights import KEY_MAPS, from_reference, to_reference

DATA = Path(__file__).parent / "data"
MODELS = ("two_stream_cnn", "hcn", "hcn_baseline", "ta_cnn", "dynamic_gcn")
CASES = {f"{name}-{variant}": case for name in MODELS for variant, case in
         json.loads((DATA / f"{name}.json").read_text())["variants"].items()}
every = pytest.mark.parametrize("name", CASES)
fresh = pytest.mark.parametrize("name", [name for name, case in CASES.items() if "init" in case])
OPTIMIZERS = {"Adam": torch.optim.Adam, "SGD": torch.optim.SGD}


def weights(case):
    given = {key: recipe.tensor(key, shape, kind) for key, shape, kind in case["state_dict"]
             if kind != "fixed_buffer"}
    return given | {key: np.array(value) for key, value in case.get("overrides", {}).items()}


def build(case, dtype=torch.float64, filled=True):
    "The model of a case, without dropout."
    model = from_reference({"type": "SkeletonGCN", **case["config"]},
                           weights(case) if filled else None, dtype)
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0
    return model


def batch(case):
    given = case["input"]
    n, c, t, v, m = given["shape_NCTVM"]
    x = torch.tensor(recipe.skeletons(given["seed"], (n, m, t, v, c)))
    x[given["zero_person2"], 1] = 0
    given = case["labels"]
    return x, torch.tensor(recipe.labels(given["seed"], given["n"], given["num_classes"]))


def checksum(x):
    "Mean, norm, and a sum that depends on the place of every number."
    x = x.detach().double().flatten()
    return torch.stack([x.mean(), x.norm(), (x * torch.arange(len(x)).to(x).cos()).sum()]).numpy()


def reference_modules(model):
    "Name of every module in the reference -> module."
    pairs, named = KEY_MAPS[type(model)][0], {}
    for name, module in model.named_modules():
        name += "."
        for ours, theirs in pairs:
            name = name.replace(ours, theirs)
        named[name.removesuffix(".")] = module
    return named


def stages(model, case, x):
    "The checksums of the outputs of a case's stages, in their order."
    found, modules = {}, reference_modules(model)
    for name, shape in case["stages"]:
        def keep(module, args, y, name=name, shape=shape):
            if name.endswith("data_bn"):                  # (N·T·M, V·C) -> (N·M, V·C, T)
                y = y.unflatten(0, x.shape[:3:2] + x.shape[1:2]).permute(0, 2, 3, 1).flatten(0, 1)
            assert list(y.shape) == shape, name
            found[name] = checksum(y)
        modules[name].register_forward_hook(keep)
    with torch.no_grad():
        model(x)
    return np.stack([found[name] for name, _ in case["stages"]])


def trajectory(model, optimizer, x, y, steps):
    "The loss before each of some steps and after the last."
    losses = [F.cross_entropy(model(x), y)]
    for _ in range(steps):
        optimizer.zero_grad()
        losses[-1].backward()
        optimizer.step()
        losses.append(F.cross_entropy(model(x), y))
    return torch.stack(losses).detach().numpy()


def recipe_optimizer(model, settings):
    "The optimiser of a configuration, whose groups are told by the reference's names."
    settings = dict(settings)
    make, base = OPTIMIZERS[settings.pop("type")], settings["weight_decay"]
    special = settings.pop("paramwise_cfg", {}).get("custom_keys", {})
    groups = []
    for name, parameter in model.named_parameters():
        keys = " ".join(to_reference(model, {name: parameter}))
        decay = [rule["decay_mult"] for part, rule in special.items() if part in keys]
        groups.append({"params": [parameter], "weight_decay": base * (decay[0] if decay else 1)})
    return make(groups, **settings)


@cache
def measured(name):
    "Every array of the golden file, computed here."
    case, found = CASES[name], {}
    x, y = batch(case)
    model = build(case).eval()
    found["stage_checksums"] = stages(model, case, x)
    with torch.no_grad():
        found["eval_logits"] = model(x).numpy()
        found["eval_features"] = model.features(x).numpy()

    model = build(case).train()
    loss = F.cross_entropy(model(x), y)
    loss.backward()
    grads = to_reference(model, {key: p.grad for key, p in model.named_parameters()})
    state = to_reference(model)
    found["train_loss"] = loss.item()
    found["grad_l2"] = np.array([grads[key].norm() for key in case["grad_keys"]])
    found["bn_stat_l2_after_one_forward"] = np.array(
        [state[key].norm() for key in case["bn_stat_keys"]])

    settings = dict(case["sgd"])
    steps, model = settings.pop("steps"), build(case).train()
    optimizer = torch.optim.SGD(model.parameters(), **settings)
    found["sgd_losses"] = trajectory(model, optimizer, x, y, steps)
    model = build(case).train()
    optimizer = recipe_optimizer(model, case["recipe_optimizer"])
    found["recipe_losses"] = trajectory(model, optimizer, x, y, steps)
    return found


def golden(name):
    return np.load(DATA / CASES[name]["file"])


ARRAYS = ("stage_checksums", "eval_logits", "eval_features", "train_loss", "grad_l2",
          "bn_stat_l2_after_one_forward", "sgd_losses", "recipe_losses")


@pytest.mark.parametrize("array", ARRAYS)
@every
def test_array_equals_the_reference(name, array):
    if array == "eval_features" and array not in golden(name).files:
        pytest.skip("the reference's features are large and were not stored")
    assert set(golden(name).files) | {"eval_features"} == set(ARRAYS)
    expected = golden(name)[array]
    largest = np.abs(expected).max() if expected.size else 0     # sums may be zero up to rounding
    zero = {"stage_checksums": 1e-9 * largest, "eval_logits": 1e-10 * largest,
            "grad_l2": 1e-14 if name.startswith("dynamic") else 1e-15}       # 75 that are zero
    np.testing.assert_allclose(measured(name)[array], expected, rtol=1e-9, atol=zero.get(array, 0))


@every
def test_every_tensor_has_one_reference_name(name):
    case = CASES[name]
    model = build(case)
    fixed = {key for key, _, kind in case["state_dict"] if kind == "fixed_buffer"}
    expected = {key: shape for key, shape, _ in case["state_dict"]}
    found = {key: list(value.shape) for key, value in to_reference(model).items()}
    assert found.items() <= expected.items() and expected.keys() - found.keys() <= fixed
    assert set(to_reference(model, dict(model.named_parameters()))) == set(case["grad_keys"])


def reference_operations(model, x):
    "What the modules of the reference's Dynamic GCN cost; ours runs fewer, and some as functions."
    counts = count_operations(model.float().eval(), x.float())
    more = {"biases": model.classifier.out_features, "relus": 0}
    y = model.data_norm(x.float())
    for stage in model.stages:
        x, y = y, stage(y).detach()
        if isinstance(stage, JointProjection):
            continue
        unit, n, (T, V) = stage.spatial, len(x), x.shape[2:]
        width = unit.norm.num_features
        more["biases"] += (4 + isinstance(unit.project, TemporalUnit)) * n * width * T * V
        more["biases"] += (1 + isinstance(stage.shortcut, TemporalUnit)) * y.numel()
        more["biases"] += n * (T * V + V + V * V) + n * (V + T)
        more["relus"] += n * width * T * V + y.numel() + n * width // 2
    seen = {kind: counts[kind] for kind in ("convolution", "batch norm", "linear")}
    return seen | more | {"pooling": y.numel()}


@every
def test_size(name):
    case, x = CASES[name], batch(CASES[name])[0]
    model = build(case, filled=False)
    assert count_parameters(model) == case["num_params"]
    count = reference_operations if name.startswith("dynamic") else count_module_operations
    assert sum(count(model, x[:1]).values()) == case["mmcv_flops_per_sample"]


@every
def test_single_precision_is_close(name):
    case = CASES[name]
    with torch.no_grad():
        scores = build(case, torch.float32).eval()(batch(case)[0].float())
    expected = golden(name)["eval_logits"]
    worst = 1e-3 * np.abs(expected).max() if name.startswith("dynamic") else 1e-4
    np.testing.assert_allclose(scores, expected, rtol=0, atol=worst)


@every
def test_dropout_is_where_the_reference_has_it(name):
    case = CASES[name]
    model = from_reference({"type": "SkeletonGCN", **case["config"]})
    found = {key: module.p for key, module in reference_modules(model).items()
             if isinstance(module, nn.Dropout)}
    assert found == dict(case["dropout"])


@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("new", [True, False])
@fresh
def test_a_checkpoint_file_gives_the_same_scores(name, new, prefix, tmp_path):
    "A file as MMCV writes it: weights, maybe of a model that several devices shared, and the rest."
    case, x = CASES[name], batch(CASES[name])[0]
    model = build(case)
    optimizer = torch.optim.Adam(model.parameters())
    model(x[:1]).sum().backward()
    optimizer.step()
    state = {prefix + key: torch.as_tensor(value) for key, value in weights(case).items()}
    torch.save({"meta": {"epoch": 500, "mmcv_version": "1.5.0", "CLASSES": None, "hook_msgs": {}},
                "state_dict": state, "optimizer": optimizer.state_dict()},
               tmp_path / "best.pth", _use_new_zipfile_serialization=new)
    read, meta = read_checkpoint(tmp_path / "best.pth")
    other = from_reference({"type": "SkeletonGCN", **case["config"]}, read, torch.float64)
    with torch.no_grad():
        assert torch.equal(other.eval()(x), build(case).eval()(x))
    assert meta["epoch"] == 500


@fresh
def test_a_fresh_model_starts_by_the_rules_of_the_reference(name):
    case = CASES[name]
    torch.manual_seed(0)
    tensors = to_reference(build(case, torch.float32, filled=False))
    assert {key for key, *_ in case["init"]} == set(case["grad_keys"])
    for key, rule, *value in case["init"]:
        tensor, slack = tensors[key].detach(), 6 / tensors[key].numel() ** 0.5
        if rule == "constant":
            assert (tensor == torch.tensor(value[0], dtype=tensor.dtype)).all(), key
        elif rule == "uniform":
            assert tensor.abs().max() <= value[0] * (1 + 1e-6), key
            assert tensor.std().item() == pytest.approx(value[0] / 3 ** 0.5, rel=slack), key
        elif rule == "normal":
            assert tensor.std().item() == pytest.approx(value[0], rel=slack), key
            assert tensor.abs().max() > 2 * value[0] or tensor.numel() < 200, key
        elif rule == "orthogonal":
            torch.testing.assert_close(tensor @ tensor.T, torch.eye(len(tensor)))
        elif rule == "copy of A":
            assert torch.equal(tensor, bone_graph("nturgb+d")), key
        else:
            pytest.fail(f"nothing checks the rule {rule!r} of {key}")
