"""A run's folder: files that are whole or not there, and one process at a time."""

import json
import os
import subprocess
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import nn

from skelbook.core import atomic_write
from skelbook.learner import runs
from skelbook.learner.recipes import DEMO, SMALL, Recipe
from skelbook.learner.runs import (
    check_same,
    load_checkpoint,
    locked,
    read_log,
    read_record,
    read_scores,
    run_state,
    save_checkpoint,
    update_record,
    write_log,
    write_record,
    write_scores,
)
from skelbook.models.transfer import load_weights

ROW = {"epoch": 1, "lr": 0.1, "loss": 2.5, "train_top1": 10.0, "test_top1": None, "seconds": 3.25}


def network(seed=0, width=4):
    "A small network with a normalisation layer, and its optimiser."
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(3, width), nn.BatchNorm1d(width), nn.Linear(width, 1))
    return model, torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)


def step(model, optimizer):
    "One step on fixed numbers."
    optimizer.zero_grad()
    model(torch.arange(12.).view(4, 3)).square().sum().backward()
    optimizer.step()


# -- state and settings

def test_the_state_of_a_folder_is_the_state_of_its_files(tmp_path):
    folder = tmp_path / "run"
    assert run_state(folder) == "new"
    folder.mkdir()
    (folder / "train.ipynb").touch()                # papermill may have been there first
    assert run_state(folder) == "new"
    write_record(folder, {})
    assert run_state(folder) == "unfinished"
    (folder / "DONE").touch()
    assert run_state(folder) == run_state(str(folder)) == "complete"


def test_all_settings_that_differ_are_listed(tmp_path):
    write_record(tmp_path, {"settings": asdict(DEMO), "data_hash": "a"})
    with pytest.raises(ValueError) as error:
        check_same(tmp_path, asdict(replace(DEMO, lr=0.2, seed=3)), "b")
    differ = "(lr: 0.1 there, 0.2 here; seed: 0 there, 3 here; data_hash: a there, b here)"
    assert differ in str(error.value)
    assert tmp_path.name in str(error.value) and "-p out ANOTHER_FOLDER" in str(error.value)


def test_a_setting_that_is_younger_than_the_run_has_its_default(tmp_path):
    old = asdict(DEMO)
    del old["eval_every"]
    write_record(tmp_path, {"settings": old, "data_hash": "a"})
    check_same(tmp_path, asdict(DEMO), "a")
    with pytest.raises(ValueError, match="eval_every: 1 there, 5 here"):
        check_same(tmp_path, asdict(replace(DEMO, eval_every=5)), "a")


def test_the_record_of_a_run_that_began_before_is_accepted(tmp_path):
    "The fields of `Recipe` when the first runs on real data were made."
    settings = {"model": "agcn", "data": "nw-ucla-xview", "stream": "joint",
                "pipeline": "whole-clip", "clip_len": 52, "clips": 1, "width": 32, "depth": 10,
                "epochs": 120, "repeat": 1, "batch": 16, "lr": 0.05, "momentum": 0.9,
                "weight_decay": 0.0002, "eval_every": 10, "precision": "float32", "seed": 0,
                "published": None}
    write_record(tmp_path, {"settings": settings, "data_hash": "63f7"})
    kept = Recipe("agcn", "nw-ucla-xview", pipeline="whole-clip", clip_len=52, clips=1,
                  width=32, depth=10, epochs=120, repeat=1, batch=16, lr=0.05,
                  weight_decay=2e-4, eval_every=10)
    check_same(tmp_path, asdict(kept), "63f7")


def test_a_record_that_is_no_recipe_is_refused_by_name(tmp_path):
    write_record(tmp_path, {"settings": asdict(DEMO) | {"warm_up": 3}, "data_hash": "a"})
    with pytest.raises(ValueError, match="not of a recipe of this version: warm_up"):
        check_same(tmp_path, asdict(DEMO), "a")


def test_entries_beside_the_settings_are_compared_too_and_older_records_lack_them(tmp_path):
    write_record(tmp_path, {"settings": asdict(DEMO), "data_hash": "a"})
    check_same(tmp_path, asdict(DEMO), "a", compile=False)
    with pytest.raises(ValueError, match="compile: False there, True here"):
        check_same(tmp_path, asdict(DEMO), "a", compile=True)
    update_record(tmp_path, 1.0, compile=True)
    check_same(tmp_path, asdict(DEMO), "a", compile=True)


def test_milestones_are_the_same_after_a_record_as_before(tmp_path):
    write_record(tmp_path, {"settings": asdict(SMALL), "data_hash": "a"})
    check_same(tmp_path, asdict(SMALL), "a")
    with pytest.raises(ValueError, match=r"milestones: \(15,\) there, \(40,\) here"):
        check_same(tmp_path, asdict(replace(SMALL, milestones=(40,))), "a")


def test_a_record_is_text_that_people_can_read(tmp_path):
    write_record(tmp_path, {"device": "Prozessor für alle", "finished": None})
    text = (tmp_path / "recipe.json").read_text(encoding="utf-8")
    assert "für" in text and text.endswith("}\n")
    assert read_record(tmp_path) == {"device": "Prozessor für alle", "finished": None}


def test_time_is_replaced_and_memory_is_the_largest(tmp_path):
    write_record(tmp_path, {"seconds": 5.0, "peak_memory_mb": 10**7})
    update_record(tmp_path, 7.26, finished="now")
    assert read_record(tmp_path) == {"seconds": 7.3, "peak_memory_mb": 10**7, "finished": "now"}


# -- the lock

def test_the_lock_makes_the_folder_and_is_given_back_after_an_error(tmp_path):
    with pytest.raises(KeyError), locked(tmp_path / "a/b"):
        raise KeyError
    with locked(tmp_path / "a/b"):
        pass


def test_a_killed_process_gives_the_lock_back(tmp_path):
    process = os.fork()
    if process == 0:
        with locked(tmp_path):
            os.kill(os.getpid(), 9)
    os.waitpid(process, 0)
    with locked(tmp_path):
        pass


def test_other_hidden_files_of_a_folder_are_never_touched(tmp_path):
    others = [".pre-commit-config.yaml", ".last-words.txt", ".log-of-my-year-2026.csv", "a-b"]
    for name in others:
        (tmp_path / name).write_text("mine")
    (tmp_path / ".git-backup").mkdir()
    with locked(tmp_path):
        assert all((tmp_path / name).read_text() == "mine" for name in others)
        assert (tmp_path / ".git-backup").is_dir()


@pytest.mark.parametrize(
    "name", ["recipe.json", "log.csv", "last.safetensors", "scores.npz", "DONE"])
def test_what_a_killed_write_leaves_of_a_record_is_cleared_away(tmp_path, name):
    with atomic_write(tmp_path / name) as temporary:
        temporary.write_bytes(b"half")
    left = tmp_path / temporary.name
    left.write_bytes(b"half")                    # as if the process had died before the rename
    with locked(tmp_path):
        assert not left.exists() and (tmp_path / name).exists()


def test_a_second_process_is_refused_at_once_and_leaves_half_written_files_alone(tmp_path):
    with locked(tmp_path):
        (tmp_path / ".last-half_way.safetensors").touch()
        process = os.fork()
        if process == 0:
            try:
                with locked(tmp_path):
                    os._exit(0)
            except RuntimeError as error:
                os._exit(7 if tmp_path.name in str(error) else 8)
        assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 7
        assert (tmp_path / ".last-half_way.safetensors").exists()
    with locked(tmp_path):
        assert not (tmp_path / ".last-half_way.safetensors").exists()


# -- where a result comes from

def test_without_git_there_is_no_commit(monkeypatch):
    def missing(*given, **options):
        raise FileNotFoundError("git")

    monkeypatch.setattr(subprocess, "run", missing)
    facts = runs.provenance(torch.device("cpu"))
    assert facts["commit"] is None and facts["versions"]["torch"] == torch.__version__


def test_outside_a_repository_there_is_no_commit(monkeypatch, tmp_path):
    monkeypatch.setattr(runs, "project_root", lambda: tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert runs.commit() is None


def test_the_package_hash_is_that_of_the_files(monkeypatch, tmp_path):
    (tmp_path / "skelbook/part").mkdir(parents=True)
    monkeypatch.setattr(runs, "project_root", lambda: tmp_path)
    hashes = {runs.package_hash()}
    for name, text in (("a.py", "1"), ("part/b.py", "2"), ("a.py", "3"), ("notes.txt", "4")):
        (tmp_path / "skelbook" / name).write_text(text)
        hashes.add(runs.package_hash())
    assert len(hashes) == 4                             # the text file is no module


# -- checkpoints and the log

def save(folder, step=1, log=(ROW,), **which):
    "A checkpoint of a small network."
    model, optimizer = network(**which)
    save_checkpoint(folder, model, optimizer, {"step": step}, list(log))
    return model, optimizer


def test_weights_statistics_momentum_position_and_log_return(tmp_path):
    model, optimizer = network()
    step(model, optimizer)
    save_checkpoint(tmp_path, model, optimizer, {"step": 17, "loss": 0.1 + 0.2}, [ROW])
    other, its = network(seed=5)
    assert load_checkpoint(tmp_path, other, its) == ({"step": 17, "loss": 0.1 + 0.2}, [ROW])
    step(model, optimizer)
    step(other, its)
    for a, b in zip(model.state_dict().values(), other.state_dict().values(), strict=True):
        assert torch.equal(a, b)


def test_an_average_and_what_it_follows_return_and_readers_find_the_average(tmp_path):
    (average, _), (live, optimizer) = network(seed=1), network(seed=2)
    step(live, optimizer)
    save_checkpoint(tmp_path, average, optimizer, {"step": 1}, [ROW], live)
    (mean, _), (other, its) = network(seed=3), network(seed=4)
    load_checkpoint(tmp_path, mean, its, live=other)
    step(live, optimizer)
    step(other, its)
    for pair in ((average, mean), (live, other)):
        assert all(map(torch.equal, *(part.state_dict().values() for part in pair)))
    reader, _ = network(seed=5)
    load_checkpoint(tmp_path, reader)
    assert torch.equal(reader[0].weight, average[0].weight)
    tensors, _ = load_weights(tmp_path / "last.safetensors")
    assert torch.equal(tensors["0.weight"], average[0].weight)


def test_a_checkpoint_without_an_average_cannot_continue_one(tmp_path):
    save(tmp_path)
    with pytest.raises(ValueError, match="last.safetensors cannot be used"):
        load_checkpoint(tmp_path, *network(), live=network()[0])


def test_a_checkpoint_before_the_first_step_has_no_momentum(tmp_path):
    save(tmp_path, step=0)
    assert load_checkpoint(tmp_path, *network(seed=1))[0] == {"step": 0}


def test_without_a_checkpoint_nothing_is_done_and_nothing_changed(tmp_path):
    model, optimizer = network()
    before = model[0].weight.clone()
    assert load_checkpoint(tmp_path, model, optimizer) == ({}, [])
    assert torch.equal(model[0].weight, before)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 1000))
def test_a_checkpoint_cut_anywhere_is_refused(tmp_path_factory, part):
    folder = tmp_path_factory.mktemp("cut")
    save(folder)
    path = folder / "last.safetensors"
    data = path.read_bytes()
    path.write_bytes(data[:len(data) * part // 1001])
    with pytest.raises(ValueError, match="last.safetensors cannot be used"):
        load_checkpoint(folder, *network())


@settings(max_examples=60, deadline=None)
@given(st.floats(0, 1, exclude_max=True), st.integers(0, 7))
def test_one_wrong_bit_anywhere_is_found(tmp_path_factory, place, bit):
    folder = tmp_path_factory.mktemp("bit")
    model, _ = save(folder)
    path = folder / "last.safetensors"
    data = bytearray(path.read_bytes())
    data[int(place * len(data))] ^= 1 << bit
    path.write_bytes(data)
    other, _ = network(seed=3)
    try:
        assert load_checkpoint(folder, other, None) == ({"step": 1}, [ROW])
    except ValueError as error:
        assert "cannot be used" in str(error)
    else:                                   # a blank of the header: nothing that counts changed
        assert all(torch.equal(a, b) for a, b in zip(
            model.state_dict().values(), other.state_dict().values(), strict=True))


@pytest.mark.parametrize("damage", ["cut", "bit", "gone", "empty"])
def test_a_broken_newest_checkpoint_is_named_and_passed_over(tmp_path, damage):
    first, _ = save(tmp_path, step=1, seed=1)
    save(tmp_path, step=2, seed=2)
    path = tmp_path / "last.safetensors"
    data = path.read_bytes()
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes({"cut": data[:-1], "empty": b"",
                          "bit": data[:-1] + bytes([data[-1] ^ 1])}[damage])
    heard, (other, its) = [], network(seed=9)
    assert load_checkpoint(tmp_path, other, its, heard.append) == ({"step": 1}, [ROW])
    assert torch.equal(other[0].weight, first[0].weight)
    if damage != "gone":
        assert len(heard) == 1 and f"{tmp_path.name}/last.safetensors cannot be used" in heard[0]


def test_when_both_are_broken_both_are_named(tmp_path):
    for number in (1, 2):
        save(tmp_path, number)
    for path in tmp_path.glob("*.safetensors"):
        path.write_bytes(b"no")
    with pytest.raises(ValueError, match=r"(?s)last.safetensors .*last-but-one.safetensors "):
        load_checkpoint(tmp_path, *network())


@pytest.mark.parametrize("tensors, metadata", [
    ({"model.weight": torch.zeros(2)}, {"state": '{"position": {}, "log": []}', "sha256": ""}),
    ({"weight": torch.zeros(2)}, None)])
def test_a_file_of_another_kind_is_refused(tmp_path, tensors, metadata):
    save_file(tensors, tmp_path / "last.safetensors", metadata)
    with pytest.raises(ValueError, match="cannot be used"):
        load_checkpoint(tmp_path, *network())


def test_a_network_of_another_width_is_refused(tmp_path):
    save(tmp_path)
    with pytest.raises(ValueError, match="size mismatch"):
        load_checkpoint(tmp_path, *network(width=5))


@pytest.mark.parametrize("moment", ["while writing", "before the old one is renamed",
                                    "between the two names"])
def test_a_failed_write_leaves_a_whole_checkpoint(tmp_path, monkeypatch, moment):
    save(tmp_path, step=1)

    def full_disk(tensors, path, metadata):
        path.write_bytes(b"half")
        raise OSError("no space left on device")

    renamed, replace_file = [], os.replace

    def failing(old, new):
        renamed.append(new)
        if len(renamed) == (1 if moment.startswith("before") else 2):
            raise OSError("no space left on device")
        replace_file(old, new)

    if moment == "while writing":
        monkeypatch.setattr("safetensors.torch.save_file", full_disk)
    else:
        monkeypatch.setattr(os, "replace", failing)
    with pytest.raises(OSError, match="no space"):
        save(tmp_path, step=2)
    monkeypatch.undo()
    assert load_checkpoint(tmp_path, *network())[0] == {"step": 1}
    assert len(list(tmp_path.iterdir())) == 1


def test_only_the_two_newest_are_kept(tmp_path):
    for number in range(4):
        save(tmp_path, number)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "last-but-one.safetensors", "last.safetensors"]


rows = st.lists(st.fixed_dictionaries({
    "epoch": st.integers(1, 1000), "loss": st.floats(allow_nan=False, allow_infinity=False),
    "test_top1": st.none() | st.floats(0, 100)}), min_size=1, max_size=5)


@settings(max_examples=40, deadline=None)
@given(rows)
def test_a_log_returns_every_digit(tmp_path_factory, log):
    folder = tmp_path_factory.mktemp("log")
    write_log(folder, log)
    assert read_log(folder) == log == json.loads(json.dumps(log))


# -- scores

def test_scores_are_kept_in_double_precision_and_read_without_pickle(tmp_path):
    p = np.random.default_rng(0).dirichlet(np.ones(3), 4)
    write_scores(tmp_path, np.array(["a", "b", "ü", ""]), torch.arange(4), p, ["x", "y", "z"])
    scores = read_scores(tmp_path)
    np.testing.assert_array_equal(scores["scores"], p)
    assert scores["names"].tolist() == ["a", "b", "ü", ""]
    assert {k: v.dtype.kind for k, v in scores.items()} == {
        "names": "U", "labels": "i", "scores": "f", "classes": "U"}
