"""Every number of the reference models: logits, stages, gradients, statistics, five steps of SGD.

The weights are rebuilt from the names of the reference and travel through `from_reference`, as a
published checkpoint would; gradients and statistics come back through `to_reference`.
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
from skelbook.models.weights import from_reference, to_reference

DATA = Path(__file__).parent / "data"
MODELS = {name: json.loads((DATA / f"{name}.json").read_text())
          for name in ("stgcn", "stgcnpp", "agcn") if (DATA / f"{name}.json").exists()}
CASES = {f"{name}-{case['variant']}": case for name, golden in MODELS.items()
         for case in golden["cases"]}
GOLDEN = [name for name in CASES if "-small_" not in name]
SMALL = [name for name in CASES if "-small_" in name]
SIZES = {f"{name}-{row['layout']}-{row['num_classes']}": (name, row)
         for name, golden in MODELS.items() for row in golden["complexity"]}


def toolbox_config(case):
    return {"type": "RecognizerGCN", "backbone": case["backbone"],
            "cls_head": {"type": "GCNHead", **case["head"]}}


def build(case):
    weights = {key: recipe.tensor(key, shape, kind) for key, shape, kind in case["state_dict"]
               if kind != "fixed_buffer"}
    return from_reference(toolbox_config(case), weights, torch.float64)


def batch(case):
    x = torch.tensor(recipe.skeletons(case["input_seed"], case["input_shape"]))
    y = torch.tensor(recipe.labels(case["label_seed"], len(x), case["num_classes"]))
    assert y.tolist() == case["labels"]
    return x, y


def statistic(x):
    flat = x.flatten()
    some = flat[::max(1, len(flat) // 16)][:16]
    return torch.cat([torch.stack([flat.sum(), flat.abs().sum(), flat.norm()]), some]).numpy()


def stage_module(model, name):
    if name == "data_bn":
        return model.data_norm
    stage, _, unit = name.removeprefix("stage").partition(".")
    part = model.stages[int(stage)]
    return {"": part, "gcn": getattr(part, "spatial", None), "tcn": part.temporal}[unit]


def watch(model, case):
    outputs = {}
    for name, shape in case["stage_shapes"].items():
        def keep(module, args, y, name=name, shape=shape):
            if name == "data_bn":      # (N·M, C, T, V) -> (N, M·V·C, T) or (N·M, V·C, T)
                persons = case["input_shape"][1]
                y = y.unflatten(0, (-1, persons)).permute(0, 1, 4, 2, 3).reshape(shape)
            assert list(y.shape) == shape
            outputs[name] = statistic(y)
        stage_module(model, name).register_forward_hook(keep)
    return outputs


@cache
def measured(name):
    """Every array of the golden file, computed here."""
    case, found = CASES[name], {}
    x, y = batch(case)
    model = build(case).eval()
    outputs = watch(model, case)
    with torch.no_grad():
        found["eval_logits"] = model(x).numpy()
    found["eval_stage_stats"] = np.stack([outputs[stage] for stage in case["stage_names"]])

    model = build(case).train()
    logits = model(x)
    loss = F.cross_entropy(logits, y)
    loss.backward()
    grads = to_reference(model, {key: p.grad for key, p in model.named_parameters()})
    found["train_logits"], found["train_loss"] = logits.detach().numpy(), loss.item()
    found["grad_l2"] = np.array([grads[key].norm() for key in case["param_names"]])
    found["grad_sum"] = np.array([grads[key].sum() for key in case["param_names"]])
    state = to_reference(model)
    found["bn_stat_sum_after_one_train_forward"] = np.array(
        [state[key].sum() for key in case["bn_stat_names"]])

    model = build(case).train()
    sgd = case["sgd"]
    optimizer = torch.optim.SGD(model.parameters(), lr=sgd["lr"], momentum=sgd["momentum"],
                                weight_decay=sgd["weight_decay"], nesterov=sgd["nesterov"],
                                dampening=sgd["dampening"])
    losses = []
    for _ in range(sgd["steps"]):
        losses.append(F.cross_entropy(model(x), y))
        optimizer.zero_grad()
        losses[-1].backward()
        optimizer.step()
    losses.append(F.cross_entropy(model(x), y))
    found["sgd_losses"] = torch.stack(losses).detach().numpy()
    state = to_reference(model)
    found["param_l2_after_sgd"] = np.array([state[key].norm() for key in case["param_names"]])
    with torch.no_grad():
        found["eval_logits_after_sgd"] = model.eval()(x).numpy()
    return found


ARRAYS = ("eval_logits", "eval_stage_stats", "train_logits", "train_loss", "grad_l2", "grad_sum",
          "bn_stat_sum_after_one_train_forward", "sgd_losses", "eval_logits_after_sgd",
          "param_l2_after_sgd")


@pytest.mark.parametrize("array", ARRAYS)
@pytest.mark.parametrize("name", GOLDEN)
def test_array_equals_the_reference(name, array):
    golden = np.load(DATA / CASES[name]["file"])
    assert set(golden.files) == set(ARRAYS)
    zero = 1e-9 if array.startswith("grad") else 0    # gradients that are zero in exact arithmetic
    np.testing.assert_allclose(measured(name)[array], golden[array], rtol=1e-9, atol=zero)


@pytest.mark.parametrize("name", GOLDEN)
def test_every_tensor_has_one_reference_name(name):
    case = CASES[name]
    model = build(case)
    fixed = {key for key, _, kind in case["state_dict"] if kind == "fixed_buffer"}
    expected = {key: shape for key, shape, _ in case["state_dict"]}
    found = {key: list(value.shape) for key, value in to_reference(model).items()}
    assert found.items() <= expected.items() and expected.keys() - found.keys() <= fixed
    parameters = to_reference(model, dict(model.named_parameters()))
    assert set(parameters) == set(case["param_names"])
    assert count_parameters(model) == case["num_params"]


@pytest.mark.parametrize("size", SIZES)
def test_published_size(size):
    model, row = SIZES[size]
    case = CASES[next(name for name in GOLDEN if name.startswith(f"{model}-"))]
    config = toolbox_config(case)
    config["backbone"] = config["backbone"] | {
        "graph_cfg": config["backbone"]["graph_cfg"] | {"layout": row["layout"]}}
    config["cls_head"] |= {"num_classes": row["num_classes"]}
    network = from_reference(config)
    assert count_parameters(network) == row["num_params"]
    counts = count_operations(network, torch.zeros(row["input_shape"]))
    assert sum(counts.values()) == row["flops_mac_convention_with_head"]
    head = counts["pooling"] + counts["linear"]
    assert sum(counts.values()) - head == row["flops_mac_convention_backbone"]


@pytest.mark.parametrize("name", SMALL)
def test_options_without_a_published_result_are_refused_by_name(name):
    case = CASES[name]
    unneeded = {key for key in case["backbone"] if key.startswith(("gcn_", "data_bn_type"))}
    with pytest.raises(ValueError) as refusal:
        build(case)
    assert any(key in str(refusal.value) for key in unneeded)
