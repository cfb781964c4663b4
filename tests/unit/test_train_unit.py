"""From the names of a plan to objects, and the lines that a waiting person reads."""

import io
from dataclasses import replace

import numpy as np
import pytest
import torch

import skelbook.learner.train as training
from skelbook.data.catalogue import CATALOGUE
from skelbook.data.loading import split_steps
from skelbook.data.store import Source, open_store, write_store
from skelbook.learner.group import Group
from skelbook.learner.loop import make_optimizer
from skelbook.learner.recipes import AS_PUBLISHED, DEMO, OWN, plan
from skelbook.learner.train import Setup, make_model, make_pipeline, prepare_run
from skelbook.transforms.pipelines import GraphPipeline, WholeClipPipeline
from skelbook.transforms.sequences import SequencePipeline
from skelbook.transforms.volumes import HeatmapPipeline

ENTRY = CATALOGUE["synthetic"]


@pytest.fixture
def toy(monkeypatch, tmp_path):
    "`Setup` on seven random clips, the last two of them for testing."
    rng = np.random.default_rng(0)
    samples = [dict(name=f"clip {i}", label=i, joints=rng.normal(size=(1, 9, 25, 3)))
               for i in range(7)]
    names = [sample["name"] for sample in samples]
    source = Source("toy", "nturgb+d", tuple("abcdefghijkl"), {ENTRY.train: names[:5],
                    ENTRY.test: names[5:]}, lambda: iter(samples), 7, {}, np.float32)
    store = open_store(write_store(tmp_path / "toy.skel", source))
    monkeypatch.setattr(training, "open_data", lambda name, data_root, log: store)
    monkeypatch.setattr(training, "project_root", lambda: tmp_path)
    planned = plan(out=str(tmp_path / "run"), batch=2, clips=3)
    recipe = replace(planned.recipe, width=4, clip_len=6)
    return prepare_run(replace(planned, recipe=recipe), log=io.StringIO())


# -- objects

@pytest.mark.parametrize("recipe", OWN.values(), ids=lambda r: f"{r.model}-{r.data}-{r.stream}")
def test_a_pipeline_has_the_settings_of_its_recipe(recipe):
    layout = "coco" if recipe.pipeline == "heatmap" else "nturgb+d"
    pipeline = make_pipeline(replace(recipe, seed=5), layout, persons=1)
    kinds = {"graph": GraphPipeline, "whole-clip": WholeClipPipeline, "sequence": SequencePipeline,
             "heatmap": HeatmapPipeline}
    assert type(pipeline) is kinds[recipe.pipeline]
    assert (pipeline.stream, pipeline.clip_len, pipeline.clips) == (
        recipe.stream, recipe.clip_len, recipe.clips)
    assert (pipeline.layout, pipeline.persons, pipeline.seed) == (layout, 1, 5)


def test_a_heatmap_pipeline_has_the_sizes_of_its_recipe():
    recipe = replace(AS_PUBLISHED["posec3d"], size=12, test_size=14, stretch=True)
    pipeline = make_pipeline(recipe, "coco", persons=3)
    assert (pipeline.size, pipeline.test_size, pipeline.stretch) == (12, 14, True)
    assert pipeline.double and pipeline.sigma == 0.6 and pipeline.persons == 3


@pytest.mark.parametrize("nesterov", [True, False])
def test_momentum_looks_ahead_where_the_recipe_says_so(nesterov):
    recipe = replace(DEMO, lr=0.5, momentum=0.5, weight_decay=0.0, nesterov=nesterov)
    model = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.zeros_(model.weight)
    optimizer = make_optimizer(model, recipe)
    for _ in range(2):
        model.weight.grad = torch.ones(1, 1)
        optimizer.step()
    # velocities are 1 and 1.5; looking ahead, the steps are 1 + 0.5 and 1 + 0.75
    assert model.weight.item() == -0.5 * ((1.5 + 1.75) if nesterov else (1 + 1.5))


@pytest.mark.parametrize("clips, shards, count", [(1, 8, 16), (10, 8, 1), (2, 8, 4), (10, 1, 6)])
def test_as_many_views_are_tested_at_once_as_clips_are_trained(clips, shards, count):
    recipe = replace(AS_PUBLISHED["posec3d"], shards=shards)
    assert training._samples_at_once(recipe, clips) == count
    assert training._samples_at_once(DEMO, clips) == DEMO.batch


def test_all_people_of_a_clip_are_drawn(toy, monkeypatch, tmp_path):
    samples = [dict(name=f"clip {i}", label=i, joints=np.ones((i + 1, 4, 17, 2))) for i in range(4)]
    source = Source("crowd", "coco", tuple("abcdefghijkl"), {
        ENTRY.train: ["clip 0", "clip 1"], ENTRY.test: ["clip 2", "clip 3"]},
        lambda: iter(samples), 4, {}, np.float32)
    store = open_store(write_store(tmp_path / "crowd.skel", source))
    monkeypatch.setattr(training, "open_data", lambda name, data_root, log: store)
    log = io.StringIO()
    planned = plan(model="posec3d", data="synthetic-2d", out=str(tmp_path / "run"))
    assert prepare_run(planned, log).pipeline.persons == 4 and not log.getvalue()


def test_weights_depend_on_the_seed_and_on_nothing_drawn_before():
    recipe = replace(DEMO, width=4)
    torch.manual_seed(1)
    first = make_model(recipe, ENTRY)
    torch.manual_seed(2)
    state = torch.get_rng_state()
    second = make_model(recipe, ENTRY)
    assert torch.equal(torch.get_rng_state(), state), "drawing weights must not disturb others"
    other = make_model(replace(recipe, seed=1), ENTRY)
    same = [torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True)]
    assert all(same)
    assert not torch.equal(first.classifier.weight, other.classifier.weight)


@pytest.mark.parametrize("depth, frames", [(10, 13), (5, 13)])
def test_both_depths_double_the_width_and_halve_the_frames_twice(depth, frames):
    model = make_model(replace(DEMO, width=4, depth=depth), ENTRY)
    stages = model.stages(model.data_norm(torch.zeros(1, 2, 52, 25, 3)))
    assert len(model.stages) == depth and stages.shape == (2, 16, frames, 25)


def test_a_gpu_that_is_not_there_is_named(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(RuntimeError, match="gpus 1 was asked for, but this PyTorch sees no GPU"):
        prepare_run(plan(gpus=1))


def test_fewer_gpus_than_asked_for_are_counted(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(RuntimeError, match="gpus 2 was asked for, but this PyTorch sees 1 GPU"):
        prepare_run(plan(gpus=2, shards=2))


@pytest.mark.parametrize("exact, words", [
    (False, "8 clips at once (batch 8, shards 4); the same experiment: -p exact True takes them 2"),
    (True, "2 clips at once (batch 8, shards 4); another one, in another folder: -p shards 8")])
def test_a_gpu_without_memory_is_told_what_keeps_the_experiment(toy, exact, words):
    def full(x):
        raise torch.OutOfMemoryError("CUDA out of memory")

    recipe = replace(toy.plan.recipe, batch=8, shards=4, epochs=1)
    setup = replace(toy, plan=replace(toy.plan, recipe=recipe), group=Group(exact=exact))
    setup.model.forward = full
    with pytest.raises(torch.OutOfMemoryError) as error:
        training.train(setup, lambda line: None)
    assert words in str(error.value)


# -- batches

def names_of(batches):
    "Clip numbers of batches, in order."
    return [batch.samples.tolist() for batch in batches]


def test_splits_are_those_of_the_catalogue(toy):
    assert isinstance(toy, Setup) and toy.splits == ("xsub_train", "xsub_val")
    assert names_of(toy.batches("xsub_train")) == [[0, 1], [2, 3], [4]]
    assert names_of(toy.batches("xsub_val")) == [[5, 6]]


def test_an_order_replaces_the_split(toy):
    order = np.array([6, 0, 3])
    assert names_of(toy.batches(order=order)) == [[6, 0], [3]]
    steps = split_steps(3, batch=2)
    again = [toy.pipeline.inputs(next(iter(toy.shards(steps, order, np.full(3, k))))[0])
             for k in (1, 1, 2)]
    assert again[0].shape == (2, 1, 2, 6, 25, 3)                # training: one random clip
    assert torch.equal(again[0], again[1]) and not torch.equal(again[0], again[2])


@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_processes_share_the_batches_of_a_split_and_each_clip_is_seen_once(toy, size):
    parts = [names_of(replace(toy, group=Group(rank, size)).batches("xsub_train"))
             for rank in range(size)]
    assert sum(parts, []) == [[0, 1], [2, 3], [4]]          # in the order of the store


@pytest.mark.parametrize("clips, expected", [(None, 3), (1, 1)])
def test_a_test_batch_has_the_clips_of_the_recipe_or_those_asked_for(toy, clips, expected):
    batch = next(iter(toy.batches("xsub_val", clips=clips)))
    assert toy.pipeline.inputs(batch).shape == (2, expected, 2, 6, 25, 3)


def test_the_data_hash_sees_content_and_splits(toy):
    content = replace(toy.store, meta={"content": "other"})
    splits = replace(toy.store, splits=toy.store.splits | {"xsub_val": np.arange(1)})
    assert len({training.data_hash(store) for store in (toy.store, content, splits)}) == 3


# -- what is shown

@pytest.mark.parametrize("seconds, words", [
    (0, "0 s"), (89.4, "89 s"), (90, "2 min"), (3569, "59 min"), (3599, "1 h 0 min"),
    (5400, "1 h 30 min"), (90_000, "25 h 0 min")])
def test_times_are_said_as_people_say_them(seconds, words):
    assert training._duration(seconds) == words


def test_the_first_estimate_comes_once_and_only_in_the_first_epoch():
    lines = []
    look = training._first_estimate(lines.append, epochs=3)
    for step in range(1, 31):
        look(step, 10)
    assert len(lines) == 1
    assert lines[0].startswith("10 steps per epoch, 0.00 s each: about 0 s")


def test_the_first_estimate_does_not_count_the_first_step_in_which_passes_are_compiled(monkeypatch):
    lines, clock = [], [0.0]
    monkeypatch.setattr(training.time, "monotonic", lambda: clock[0])
    look = training._first_estimate(lines.append, epochs=2)
    for step in range(1, 11):
        clock[0] += 60 if step == 1 else 0.5
        look(step, 10)
    assert lines == ["10 steps per epoch, 0.50 s each: about 10 s in all"]


def test_training_says_what_it_does_in_order(toy):
    shown = []
    setup = replace(toy, plan=replace(toy.plan, recipe=replace(toy.plan.recipe, epochs=2)))
    rows = training.train(setup, shown.append)
    assert [line.split(":")[0] for line in shown] == ["epoch 1 of 2", "epoch 2 of 2"]
    assert shown[1].endswith("; 0 s left") and f"test {rows[1]['test_top1']:.1f} %" in shown[1]
