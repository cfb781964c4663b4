"""PoseC3D by its name: trained on two streams, tested in twenty views, added up, tuned."""

import io
from contextlib import suppress
from dataclasses import replace
from unittest import mock

import numpy as np
import pytest
import torch
from small_run import FOLDER, few_clips
from test_training import outcome

import skelbook.learner.train as training
from skelbook.core import file_hash
from skelbook.evaluate.clips import score_run
from skelbook.evaluate.derived import compare, finish, fuse_runs
from skelbook.evaluate.interpret import attribution
from skelbook.evaluate.plans import plan_fusion
from skelbook.learner.recipes import plan
from skelbook.learner.runs import read_record, read_scores, run_state
from skelbook.models.weights import to_reference

TINY = dict(width=2, clip_len=6, size=12, test_size=14, epochs=2, batch=8)


def small_setup(folder, stream="joint", weights="", log=None, **changes):
    "`Setup` of a tiny run of PoseC3D in a folder, on 16 clips of the built-in data in pictures."
    planned = plan(model="posec3d", data="synthetic-2d", stream=stream, weights=str(weights),
                   out=str(folder))
    planned = replace(planned, recipe=replace(planned.recipe, **TINY | changes))
    with (mock.patch.object(training, "open_data", lambda *names: few_clips("synthetic-2d")),
          mock.patch.object(training, "project_root", lambda: FOLDER)):
        return training.prepare_run(planned, log or io.StringIO())


def run(folder, stream="joint", **given):
    "A complete run in a folder."
    setup = small_setup(folder, stream, **given)
    training.train(setup, lambda line: None)
    score_run(setup)
    return setup


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    "`Setup` of a complete run of each stream."
    folder = tmp_path_factory.mktemp("runs")
    return {stream: run(folder / stream, stream) for stream in ("joint", "limb")}


@pytest.mark.parametrize("stream", ["joint", "limb"])
def test_scores_are_means_over_ten_clips_and_their_mirror_images(runs, stream):
    setup = runs[stream]
    scores = read_scores(setup.plan.folder)
    assert run_state(setup.plan.folder) == "complete" and len(scores["labels"]) == 8
    batches = list(setup.batches("xsub_val"))
    assert [len(batch.labels) for batch in batches] == [1] * 8, "twenty views are a batch of eight"
    x = setup.pipeline.inputs(batches[3])
    assert x.shape == (1, 20, 17, 6, 14, 14)
    with torch.no_grad():
        views = setup.model.eval()(x[0]).double().softmax(-1)
    assert views.std(0).max() > 0, "the views differ"
    np.testing.assert_allclose(scores["scores"][3], views.mean(0), rtol=1e-6)


def test_the_streams_see_other_pictures_and_are_added_one_to_one(runs, tmp_path):
    folders = [setup.plan.folder for setup in runs.values()]
    planned = plan_fusion(runs=",".join(map(str, folders)), out=str(tmp_path / "sum"))
    assert planned.weights == [1, 1] and planned.settings["stream"] == "joint-limb"
    fused = fuse_runs(planned)
    finish(planned.folder)
    joint, limb = (read_scores(folder)["scores"] for folder in folders)
    assert not np.allclose(joint, limb)
    np.testing.assert_array_equal(fused["scores"], joint.astype(float) + limb)
    assert [row["run"] for row in compare(planned, fused)] == ["joint", "limb", "sum"]


def test_an_interrupted_run_ends_with_the_same_bits(runs, tmp_path):
    def stop(line):
        if line.startswith("epoch 1 "):
            raise KeyboardInterrupt

    with suppress(KeyboardInterrupt):
        training.train(small_setup(tmp_path / "cut", "limb"), stop)
    assert run_state(tmp_path / "cut") == "unfinished"
    run(tmp_path / "cut", "limb")
    assert outcome(tmp_path / "cut") == outcome(runs["limb"].plan.folder)


def test_a_batch_in_shards_with_the_longer_network_trains_too(tmp_path):
    form = dict(shards=4, blocks=(1, 2, 1), stretch=True, clip_norm=0.01, clips=1)
    setup = run(tmp_path / "published", **form)
    assert [len(stage) for stage in setup.model.stages] == [1, 2, 1] and setup.pipeline.stretch
    scores = read_scores(setup.plan.folder)["scores"]
    assert np.isfinite(scores).all() and np.allclose(scores.sum(1), 1)
    (parts,) = list(setup.shards([[slice(0, 2), slice(2, 4), slice(4, 6), slice(6, 8)]],
                                 setup.store.splits["xsub_train"], np.zeros(16, int)))
    assert [setup.pipeline.inputs(part).shape[:2] for part in parts] == [(2, 1)] * 4


def test_what_a_trained_network_looks_at_has_a_column_for_each_map(runs):
    setup = runs["limb"]
    (batch,) = setup.batches(order=setup.store.splits["xsub_val"], clips=1)
    seen = attribution(setup.model, setup.pipeline.inputs(batch)[:, 0])
    assert seen.shape == (8, 6, 17) and seen.isfinite().all() and seen.sum() > 0


def test_a_tuned_network_begins_with_all_but_the_last_layer_of_another(runs, tmp_path):
    file, said = runs["joint"].plan.folder / "last.safetensors", io.StringIO()
    setup = small_setup(tmp_path / "tuned", weights=file, log=said, seed=1)
    assert "begins with last.safetensors: 78 tensors are taken over, new are classifier.weight, " \
           "classifier.bias" in said.getvalue()
    given, fresh = (runs["joint"].model.state_dict(),
                    training.make_model(setup.plan.recipe, setup.plan.entry).state_dict())
    for name, tensor in setup.model.state_dict().items():
        assert torch.equal(tensor, (fresh if "classifier" in name else given)[name]), name
    training.train(setup, lambda line: None)
    record = read_record(setup.plan.folder)
    assert record["settings"]["start"] == file_hash(file)
    with pytest.raises(ValueError, match="start: .* there,  here"):
        training.train(small_setup(tmp_path / "tuned", seed=1), lambda line: None)


def test_weights_of_another_size_are_refused(runs, tmp_path):
    file = runs["joint"].plan.folder / "last.safetensors"
    with pytest.raises(ValueError, match="last.safetensors are of another network") as error:
        small_setup(tmp_path / "wide", weights=file, width=4)
    assert "\n" not in str(error.value)


def test_a_checkpoint_of_a_toolbox_with_other_classes_is_read(tmp_path):
    setup = small_setup(tmp_path / "any")
    twin = training.make_model(setup.plan.recipe, replace(setup.plan.entry, num_classes=400))
    state = {name: tensor.clone() for name, tensor in to_reference(twin).items()}
    torch.save({"state_dict": state, "meta": {"epoch": 24}}, tmp_path / "k400.pth")
    tuned = small_setup(tmp_path / "any", weights=tmp_path / "k400.pth").model
    assert torch.equal(tuned.stem.conv.weight, twin.stem.conv.weight)
    assert tuned.classifier.out_features == 12
