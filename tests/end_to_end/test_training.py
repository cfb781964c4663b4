"""A run is a function of its recipe and its data, however often it dies on the way."""

import json
import re
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import replace
from unittest import mock

import numpy as np
import pytest
import small_run
import torch
from safetensors import safe_open
from safetensors.numpy import load_file
from small_run import few_clips, finish, small_setup

import skelbook.learner.train as training
from skelbook.data.store import open_store, write_store
from skelbook.evaluate.clips import predict_test, score_run
from skelbook.learner.code import code_hash
from skelbook.learner.group import Stopped
from skelbook.learner.runs import read_log, read_record, read_scores, run_state
from skelbook.learner.train import train

RECORD = [".lock", "DONE", "last.safetensors", "log.csv", "recipe.json", "scores.npz"]


def outcome(folder):
    "Everything a run ends with, apart from times, as comparable values."
    log = [{k: v for k, v in row.items() if k != "seconds"} for row in read_log(folder)]
    arrays = load_file(folder / "last.safetensors") | read_scores(folder)
    return log, {name: (array.dtype, array.tobytes()) for name, array in arrays.items()}


def contents(folder):
    "Bytes of every file of a folder."
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    "The folder of a run that was never interrupted."
    folder = tmp_path_factory.mktemp("runs") / "whole"
    finish(small_setup(folder))
    return folder


def test_a_run_that_is_killed_at_any_moment_ends_with_the_same_bits(whole, tmp_path):
    subprocess.run([sys.executable, small_run.__file__, tmp_path], check=True, timeout=300)
    *killed, last = sorted(tmp_path.iterdir(), key=lambda path: int(path.name))
    assert outcome(last) == outcome(whole), "another process, other bits"
    assert len(killed) == 7 + 13                 # batches that are used, files that get their name
    for folder in killed:
        assert run_state(folder) != "complete", "DONE must be the last file"
        finish(small_setup(folder))
        assert outcome(folder) == outcome(whole), f"killed at moment {folder.name}"
        assert sorted(path.name for path in folder.iterdir()) == RECORD


@pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning")
def test_loading_processes_change_nothing_but_the_speed(whole, tmp_path):
    finish(small_setup(tmp_path / "run", workers=2))
    assert outcome(tmp_path / "run") == outcome(whole)


def test_another_seed_is_another_run(whole, tmp_path):
    finish(small_setup(tmp_path / "run", seed=1))
    assert outcome(tmp_path / "run") != outcome(whole)


def test_the_record_names_what_made_the_run(whole):
    record = read_record(whole)
    assert record["settings"]["width"] == 4 and record["settings"]["seed"] == 0
    assert record["format"] == 1 and record["num_parameters"] > 1000
    assert record["started"] <= record["finished"]
    assert record["seconds"] >= sum(row["seconds"] for row in read_log(whole)) - 0.1
    assert record["peak_memory_mb"] > 50 and len(record["package_hash"]) == 64


def test_a_run_notes_its_code_and_says_which_chapters_were_not_exported(tmp_path):
    with mock.patch.object(training, "stale_chapters", lambda: ["42_models.stgcn.ipynb"]):
        shown = finish(small_setup(tmp_path / "run"))
    warning = "the package is older than 42_models.stgcn.ipynb: `make export` brings it up to date"
    assert warning in shown
    record = read_record(tmp_path / "run")
    assert record["stale_chapters"] == ["42_models.stgcn.ipynb"]
    assert record["code_hash"] == code_hash("agcn", "graph")


# -- a complete run

def test_a_complete_run_is_left_alone_even_without_its_checkpoint(whole, tmp_path):
    folder = tmp_path / "clone"
    folder.mkdir()
    for name in ("recipe.json", "log.csv", "scores.npz", "DONE"):        # what is committed
        (folder / name).write_bytes((whole / name).read_bytes())
    before = contents(folder)
    setup = small_setup(folder)
    shown = []
    rows = train(setup, shown.append)
    scores = score_run(setup)
    assert shown == ["clone is complete: nothing to train"]
    assert rows == read_log(whole)
    np.testing.assert_array_equal(scores["scores"], read_scores(whole)["scores"])
    assert contents(folder) == before


def test_a_complete_run_gives_its_weights_back(whole):
    setup = small_setup(whole)
    train(setup, lambda line: None)
    stored = load_file(whole / "last.safetensors")
    for name, weight in setup.model.state_dict().items():
        np.testing.assert_array_equal(weight.numpy(), stored[f"model.{name}"])


@pytest.mark.parametrize("changes, differ", [
    (dict(lr=0.2), "lr: 0.1 there, 0.2 here"), (dict(epochs=3), "epochs: 2 there, 3 here"),
    (dict(clips=1, seed=7), "clips: 2 there, 1 here; seed: 0 there, 7 here")])
def test_other_settings_in_the_same_folder_are_refused(whole, changes, differ):
    before = contents(whole)
    with pytest.raises(ValueError, match=re.escape(differ)):
        train(small_setup(whole, **changes))
    assert contents(whole) == before


# -- what goes wrong

def interrupted(folder):
    "A run that was stopped after its first epoch."
    def stop(line):
        if line.startswith("epoch 1"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(small_setup(folder), stop)
    assert run_state(folder) == "unfinished" and len(read_log(folder)) == 1


def test_an_unfinished_run_says_where_it_continues_and_cannot_be_scored(whole, tmp_path):
    interrupted(tmp_path / "run")
    with pytest.raises(RuntimeError, match="1 of 2 epochs: train it to the end"):
        score_run(small_setup(tmp_path / "run"))
    assert run_state(tmp_path / "run") == "unfinished"
    (tmp_path / "run/log.csv").unlink()
    shown = finish(small_setup(tmp_path / "run"))
    assert shown[0] == "run continues: 1 of 2 epochs are done, 2 steps"
    assert outcome(tmp_path / "run") == outcome(whole)


@pytest.mark.parametrize("keep", [0, 7, 0.5, 0.999])
def test_a_truncated_checkpoint_is_named_and_nothing_is_changed(keep, tmp_path):
    interrupted(tmp_path / "run")
    path = tmp_path / "run/last.safetensors"
    data = path.read_bytes()
    path.write_bytes(data[:keep if isinstance(keep, int) else int(keep * len(data))])
    before = contents(tmp_path / "run")
    with pytest.raises(ValueError, match="checkpoint run/last.safetensors cannot be used"):
        train(small_setup(tmp_path / "run"), lambda line: None)
    assert contents(tmp_path / "run") == before


class Steps:
    "A list for `asked` that a signal would fill after a number of steps."

    def __init__(self, left):
        self.left = left

    def __bool__(self):
        self.left -= 1
        return self.left < 0


@pytest.mark.parametrize("steps", range(4))
def test_a_run_that_is_asked_to_stop_saves_and_ends_with_the_same_bits(whole, tmp_path, steps):
    @contextmanager
    def listening():
        yield Steps(steps)

    folder = tmp_path / "run"
    with (mock.patch.object(training, "listening", listening),
          pytest.raises(Stopped, match="the same command continues run")):
        train(small_setup(folder), lambda line: None)
    with safe_open(folder / "last.safetensors", "np") as file:
        position = json.loads(file.metadata()["state"])["position"]
    assert position["step"] == steps + 1 and position["clips"] == 8 * (steps % 2 + 1)
    shown = finish(small_setup(folder))
    assert f"{steps + 1} steps" in shown[0]
    assert outcome(folder) == outcome(whole)


def test_a_broken_newest_checkpoint_costs_steps_and_no_bits(whole, tmp_path):
    folder = tmp_path / "run"
    with mock.patch.object(training, "SAVE_EVERY", 0), mock.patch.object(training, "SHARE", 0):
        setup = small_setup(folder)
        with pytest.raises(KeyboardInterrupt):
            train(setup, lambda line: (_ for _ in ()).throw(KeyboardInterrupt))
    path = folder / "last.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    shown = finish(small_setup(folder))
    assert "last.safetensors cannot be used" in shown[0] and "the one before it" in shown[0]
    assert outcome(folder) == outcome(whole)


def test_a_broken_clip_stops_the_run_and_is_named(tmp_path):
    setup = small_setup(tmp_path / "run")
    broken = setup.store.splits["xsub_train"][5]
    joints = np.array(setup.clips.joints)
    joints[setup.clips.offset[broken]:setup.clips.offset[broken + 1]] = np.nan
    setup = replace(setup, clips=replace(setup.clips, joints=joints))
    with pytest.raises(FloatingPointError) as error:
        train(setup, lambda line: None)
    assert f"not finite in clips ['{few_clips().clips.names[broken]}']" in str(error.value)
    assert "at step 0" in str(error.value) or "at step 1" in str(error.value)
    assert run_state(tmp_path / "run") == "unfinished"
    assert not (tmp_path / "run/last.safetensors").exists()


def test_data_that_changes_during_a_run_is_written_into_its_record(tmp_path):
    setup = small_setup(tmp_path / "run")
    store = open_store(write_store(tmp_path / "copy.skel", setup.store.source()))
    setup = replace(setup, store=store)
    train(setup, lambda line: None)
    with open(store.path / "keypoint.npy", "r+b") as file:
        file.seek(-1, 2)
        file.write(b"!")
    score_run(setup)
    assert "copy.skel has changed since it was written" in read_record(
        tmp_path / "run")["data_changed"]
    finish(small_setup(tmp_path / "calm"))
    assert read_record(tmp_path / "calm")["data_changed"] is None


def test_the_test_split_is_looked_at_when_the_recipe_says(tmp_path):
    rows = train(small_setup(tmp_path / "run", epochs=3, eval_every=2), lambda line: None)
    assert [row["test_top1"] is None for row in rows] == [True, False, False]
    assert read_log(tmp_path / "run") == rows
    rates = [row["lr"] for row in rows]
    assert rates[0] == 0.1 and rates == sorted(rates, reverse=True)


def test_half_precision_trains_and_keeps_single_precision_weights(tmp_path):
    setup = small_setup(tmp_path / "run", precision="bf16", epochs=1)
    finish(setup)
    assert {str(weight.dtype) for weight in setup.model.parameters()} == {"torch.float32"}
    scores = read_scores(tmp_path / "run")["scores"]
    np.testing.assert_allclose(scores.sum(1), 1, rtol=1e-12)


# -- the average of the weights

@pytest.fixture(scope="module")
def averaged(tmp_path_factory):
    "The folder of a run that averages its weights."
    folder = tmp_path_factory.mktemp("runs") / "averaged"
    finish(small_setup(folder, ema=0.9))
    return folder


def test_an_average_takes_no_part_in_the_training(whole, averaged):
    stored, plain = load_file(averaged / "last.safetensors"), load_file(whole / "last.safetensors")
    for name, weight in plain.items():
        np.testing.assert_array_equal(stored[name.replace("model.", "live.")], weight)
    assert not np.array_equal(stored["model.classifier.weight"], plain["model.classifier.weight"])
    for one, other in zip(read_log(whole), read_log(averaged), strict=True):
        assert (one["loss"], one["train_top1"]) == (other["loss"], other["train_top1"])


def test_what_a_run_with_an_average_reports_is_the_average(averaged):
    setup = small_setup(averaged, ema=0.9)
    train(setup, lambda line: None)
    stored, kept = load_file(averaged / "last.safetensors"), read_scores(averaged)["scores"]
    for name, weight in setup.model.state_dict().items():
        np.testing.assert_array_equal(weight.numpy(), stored[f"model.{name}"])
    np.testing.assert_array_equal(predict_test(setup)["scores"], kept)
    setup.model.load_state_dict({k.removeprefix("live."): torch.from_numpy(v)
                                 for k, v in stored.items() if k.startswith("live.")})
    assert not np.array_equal(predict_test(setup)["scores"], kept)


def test_the_curve_on_the_test_split_is_that_of_the_average(tmp_path):
    setup, seen = small_setup(tmp_path / "run", ema=0.9), []
    with mock.patch.object(training, "predict", lambda model, *rest, **more: (
            seen.append(model) or (None, np.zeros(1, int), np.eye(1)))):
        train(setup, lambda line: None)
    assert [model is setup.model for model in seen] == [True, True]


@pytest.mark.parametrize("steps", range(3))
def test_a_run_with_an_average_continues_with_the_same_bits(averaged, tmp_path, steps):
    @contextmanager
    def listening():
        yield Steps(steps)

    folder = tmp_path / "run"
    with mock.patch.object(training, "listening", listening), pytest.raises(Stopped):
        train(small_setup(folder, ema=0.9), lambda line: None)
    finish(small_setup(folder, ema=0.9))
    assert outcome(folder) == outcome(averaged)


# -- compiled

def test_a_run_is_not_begun_where_nothing_can_be_compiled(tmp_path):
    setup = small_setup(tmp_path / "run", compile=True)
    with (mock.patch("torch.compile", side_effect=OSError("no compiler")),
          pytest.raises(RuntimeError, match="cannot compile for cpu .no compiler.: install a C")):
        train(setup, lambda line: None)
    assert run_state(tmp_path / "run") == "new"


def test_a_run_that_began_compiled_goes_on_compiled(whole, tmp_path):
    def as_it_is(network, **how):
        return network

    folder = tmp_path / "run"
    with mock.patch("torch.compile", as_it_is), pytest.raises(KeyboardInterrupt):
        train(small_setup(folder, compile=True),
              lambda line: (_ for _ in ()).throw(KeyboardInterrupt))
    assert read_record(folder)["compile"] is True and read_record(whole)["compile"] is False
    with pytest.raises(ValueError, match="compile: True there, False here"):
        train(small_setup(folder), lambda line: None)
    with mock.patch("torch.compile", as_it_is):
        finish(small_setup(folder, compile=True))
    assert outcome(folder) == outcome(whole)        # of a compiler that changes nothing
    train(small_setup(folder), lambda line: None)   # a complete one is left alone
