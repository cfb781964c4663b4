"""Weights from one network to another: nothing lost, nothing copied in silence, all or nothing."""

import pytest
import torch

from skelbook.learner.runs import save_checkpoint
from skelbook.models.transfer import load_weights, save_weights, transfer_weights
from skelbook.models.zoo import create_model, list_models

SMALL = {"base_width": 8, "num_stages": 3, "inflate_stages": (2,), "down_stages": (2,)}


def small(layout="coco", num_classes=4, name="agcn"):
    "A small graph network with random statistics."
    torch.manual_seed(1)
    model = create_model(name, layout, num_classes, **SMALL)
    for buffer in model.buffers():
        if buffer.is_floating_point():
            buffer.uniform_(0.5, 1.5)
    return model


@pytest.mark.parametrize("name", list_models())
def test_a_saved_network_comes_back_to_the_last_bit(name, tmp_path):
    if name == "posec3d":
        pytest.skip("takes volumes; its own tests save it")
    torch.manual_seed(0)
    model, other = create_model(name, "coco", 3), create_model(name, "coco", 3)
    save_weights(tmp_path / "w.safetensors", model, why="a test")
    tensors, about = load_weights(tmp_path / "w.safetensors")
    inventory = transfer_weights(other, tensors)
    assert about == {"why": "a test"}
    assert sorted(inventory["kept"]) == sorted(model.state_dict())
    assert all(torch.equal(v, other.state_dict()[k]) for k, v in model.state_dict().items())


def test_a_runs_checkpoint_is_read_without_its_optimiser(tmp_path):
    model = small()
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    model(torch.randn(2, 2, 8, 17, 3)).sum().backward()
    optimizer.step()
    save_checkpoint(tmp_path, model, optimizer, {"step": 1}, [{"epoch": 1, "loss": 1.0}])
    tensors, about = load_weights(tmp_path / "last.safetensors")
    assert tensors.keys() == model.state_dict().keys() and "sha256" in about
    assert transfer_weights(small(), tensors)["not needed"] == []


def test_every_tensor_is_in_the_inventory_once():
    model, tensors = small("nturgb+d", 7), small().state_dict()
    tensors["extra"] = torch.zeros(1)
    del tensors["stages.0.temporal.conv.bias"]
    inventory = transfer_weights(model, tensors, leave=("stages.1.",))
    told = [line.partition(":")[0] for fate, lines in inventory.items() for line in lines
            if fate != "not needed"]
    assert sorted(told) == sorted(model.state_dict())
    assert inventory["missing"] == ["stages.0.temporal.conv.bias"]
    assert inventory["not needed"] == ["extra"]
    assert all(name.startswith("stages.1.") for name in inventory["left"])
    shapes = {line.partition(":")[0] for line in inventory["another shape"]}
    assert {"classifier.weight", "data_norm.norm.weight", "stages.0.spatial.graph"} <= shapes


def test_what_is_not_copied_stays_as_it_was():
    model, tensors = small("nturgb+d", 7), small("coco", 7).state_dict()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    inventory = transfer_weights(model, tensors, leave=("classifier",))
    after = model.state_dict()
    for name, tensor in after.items():
        wanted = tensors[name] if name in inventory["kept"] else before[name]
        assert torch.equal(tensor, wanted), name


def test_nothing_fitting_is_an_error_and_changes_nothing():
    model = small()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    with pytest.raises(ValueError, match="none of 1 tensors fits: this network wants, for example"):
        transfer_weights(model, {"backbone.gcn.0.gcn.A": torch.zeros(3)})
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"\x80\x02}q\x00."])
def test_a_file_that_is_something_else_is_named(content, tmp_path):
    (tmp_path / "odd.safetensors").write_bytes(content)
    with pytest.raises(ValueError, match="odd.safetensors is not a readable safetensors file"):
        load_weights(tmp_path / "odd.safetensors")
