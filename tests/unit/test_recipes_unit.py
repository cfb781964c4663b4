"""Parameters of a run: what is accepted, what is refused, and in which words."""

import csv
from dataclasses import asdict, fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import skelbook.data.catalogue as catalogue
import skelbook.learner.recipes as recipes
from skelbook.command import declared_parameters
from skelbook.core import MAP_STREAMS, STREAMS, file_hash, project_root
from skelbook.evaluate.fusion import FUSIONS
from skelbook.graph import find_layout
from skelbook.learner.recipes import (
    AS_PUBLISHED,
    CPU,
    DEMO,
    GRAPH,
    MODEL_NAMES,
    OWN,
    PARAMETERS,
    SMALL,
    TURNED,
    find_recipe,
    plan,
    published_recipes,
    published_results,
    recipe_table,
    run_name,
)
from skelbook.learner.schedule import linear_scaling, rate_of
from skelbook.learner.train import make_model
from skelbook.models.blocks import count_multiply_adds, count_parameters
from skelbook.models.zoo import MODELS

REAL = dict(data="nw-ucla-xview")


@pytest.fixture
def empty(tmp_path, monkeypatch):
    "A project without any data."
    monkeypatch.setattr(catalogue, "project_root", lambda: tmp_path)
    monkeypatch.setattr(recipes, "project_root", lambda: tmp_path)
    return tmp_path


@pytest.fixture
def brought(empty):
    "The same, and the parameters of a run on data that a user brought."
    (empty / "nw_ucla").mkdir()
    (empty / "nw_ucla/all_sqe.zip").touch()
    return REAL | {"data_root": str(empty)}


# -- recipes

EVERY = [*OWN.values(), *published_recipes().values()]


def test_every_recipe_is_found_by_its_three_names():
    names = [(recipe.model, recipe.data, recipe.stream) for recipe in EVERY]
    assert len(set(names)) == len(names), "a name has two recipes"
    for name, recipe in zip(names, EVERY, strict=True):
        if recipe.model in MODELS:
            assert find_recipe(*name) == recipe
    for model in AS_PUBLISHED:
        own = {recipe.stream for recipe in OWN.values() if recipe.model == model}
        assert own == set(MAP_STREAMS if model == "posec3d" else STREAMS)


MAY_BE_0 = {"seed", "width", "depth", "rotation", "warmup", "clip_norm", "ema", "size", "test_size"}


def test_every_recipe_names_data_and_gives_positive_numbers():
    for recipe in EVERY:
        assert recipe.data in catalogue.CATALOGUE
        numbers = {k: v for k, v in asdict(recipe).items() if type(v) in (int, float)}
        assert all(value > 0 for name, value in numbers.items() if name not in MAY_BE_0), numbers


def printed(*systems):
    "Rows of the published tables that print an accuracy of a model of this book."
    with open(project_root() / "nbs/published_results.csv", newline="", encoding="utf-8") as file:
        return [row for row in csv.DictReader(file) if row["system"] in systems
                and row["model"] in MODEL_NAMES and "top1" in row["metric"]]


GRAPHS, VOLUMES = ([row for row in printed("MMAction2") if ("PoseC3D" in row["model"]) is volumes]
                   for volumes in (False, True))


@pytest.mark.parametrize("row", GRAPHS, ids=lambda row: row["source"][29:])
def test_every_published_row_of_the_graph_networks_has_exactly_one_recipe(row):
    model = MODEL_NAMES[row["model"]]
    data = f"{row['dataset'].lower()}-{row['split']}-{row['keypoints']}"
    streams = FUSIONS.get(row["modality"], (row["modality"],))
    for stream in streams:
        same = [recipe for recipe in EVERY
                if (recipe.model, recipe.data, recipe.stream) == (model, data, stream)]
        assert len(same) == 1
        assert (same[0].batch, same[0].shards, same[0].epochs, same[0].repeat) == (128, 8, 16, 5)
        assert (same[0].lr, same[0].schedule, same[0].weight_decay) == (0.1, "cosine", 5e-4)
        assert same[0].clips == 10 and row["testing"] in ("10 clips", "")
        assert f"uniform {same[0].clip_len}" == row["sampling"] or not row["sampling"]
    assert published_results()[model, data, row["modality"]] == float(row["value"])
    if row["modality"] in STREAMS:
        assert same[0].published == float(row["value"])


NTU, TUNED = (("cosine", (), 24, 0.2), ("step", (9, 11), 12, 0.01))
POSEC3D = {  # data -> schedule, milestones, epochs, rate; sizes; blocks; what was published
    "ntu60-xsub-2d": (NTU, (56, 64), (), "top1", ""),
    "gym": (NTU, (56, 64), (), "mean_class", ""),
    "ucf101-split1": (TUNED, (48, 56), (3, 4, 6), "top1", "k400"),
    "hmdb51-split1": (TUNED, (48, 56), (3, 4, 6), "top1", "k400")}


@pytest.mark.parametrize("row", VOLUMES, ids=lambda row: row["source"][29:])
def test_every_published_row_of_posec3d_has_exactly_one_recipe(row):
    data = {"NTU60": "ntu60-xsub-2d", "FineGYM": "gym"}.get(
        row["dataset"], f"{row['dataset'].lower()}-{row['split']}")
    stream = {"keypoint": "joint", "limb": "limb", "fusion": "joint-limb"}[row["modality"]]
    assert published_results()["posec3d", data, stream] == float(row["value"])
    for part in FUSIONS.get(stream, [stream]):
        (recipe,) = [recipe for recipe in EVERY
                     if (recipe.model, recipe.data, recipe.stream) == ("posec3d", data, part)]
        course = recipe.schedule, recipe.milestones, recipe.epochs, recipe.lr
        assert (course, (recipe.size, recipe.test_size), recipe.blocks, recipe.metric,
                recipe.pretrained) == POSEC3D[data]
        assert (recipe.batch, recipe.shards, recipe.repeat, recipe.clips) == (128, 8, 10, 10)
        assert (recipe.momentum, recipe.nesterov, recipe.clip_norm) == (0.9, False, 40)
        assert (recipe.weight_decay, recipe.clip_len, recipe.stretch) == (3e-4, 48, False)
        assert (recipe.pipeline, recipe.width, recipe.start) == ("heatmap", 0, "")
        if row["modality"] != "fusion":
            assert recipe.published == float(row["value"])
            assert {"top1": "top1", "mean_top1": "mean_class"}[row["metric"]] == recipe.metric


def test_kinetics_has_a_network_of_its_own():
    recipe = find_recipe("posec3d", "k400", "joint")
    assert (recipe.batch, recipe.shards, recipe.lr, recipe.weight_decay) == (256, 8, 0.4, 1e-4)
    assert recipe.blocks == (3, 4, 6) and recipe.stretch and recipe.published is None
    model = make_model(recipe, catalogue.CATALOGUE["k400"])
    assert count_parameters(model) == 3_208_560
    for data, count in (("ntu60-xsub-2d", 2_024_860), ("gym", 2_044_867),
                        ("hmdb51-split1", 3_029_523), ("ucf101-split1", 3_055_173)):
        recipe = find_recipe("posec3d", data, "joint")
        assert count_parameters(make_model(recipe, catalogue.CATALOGUE[data])) == count


@pytest.mark.parametrize("data", ["penn-action", "coco17-16"])
@pytest.mark.parametrize("stream", MAP_STREAMS)
def test_small_sets_of_pictures_have_the_recipe_for_processors(data, stream):
    recipe = find_recipe("posec3d", data, stream)
    assert recipe == replace(CPU, data=data, stream=stream)
    assert (recipe.width, recipe.clip_len, recipe.lr, recipe.batch) == (16, 16, 0.2, 32)
    assert recipe.epochs * recipe.repeat == 40 and recipe.size == recipe.test_size == 32


@pytest.mark.parametrize("model", ["two_stream_cnn", "hcn", "hcn_baseline", "ta_cnn"])
@pytest.mark.parametrize("data, passes", [("nw-ucla-xview", 100), ("utd-mhad-xsub", 400),
                                          ("sbu-fold1", 400)])
def test_what_adam_trains_follows_a_cosine_on_small_sets(model, data, passes):
    recipe = find_recipe(model, data, "joint")
    published = find_recipe(model, "ntu60-xsub-3d", "joint")
    assert (recipe.schedule, recipe.milestones) == ("cosine", ())
    assert recipe.epochs * recipe.repeat == passes
    assert recipe.lr == 2 * published.lr and recipe.optimizer == "adam" and recipe.batch == 32


@pytest.mark.parametrize("stream", MAP_STREAMS)
def test_the_demonstration_of_volumes_is_the_recipe_for_processors_in_small(stream):
    recipe = find_recipe("posec3d", "synthetic-2d", stream)
    assert recipe == replace(CPU, data="synthetic-2d", stream=stream, blocks=(1, 1, 1), size=24,
                             test_size=24, epochs=10, batch=16, eval_every=2,
                             lr=linear_scaling(CPU.lr, 16, CPU.batch))


def test_the_published_tables_have_the_rows_that_the_recipes_were_made_from():
    assert (len(GRAPHS), len(VOLUMES), len(published_results())) == (48, 7, 48 + 7 + 9)


@pytest.mark.parametrize("model, sampling", [
    ("Two-Stream CNN", "resize 32"), ("HCN", "resize 64"), ("HCN-Baseline", "resize 64"),
    ("Ta-CNN", "resize 64"), ("Dynamic GCN", "resize 64")])
def test_every_published_row_of_the_sequence_networks_has_exactly_one_recipe(model, sampling):
    rows = [row for row in printed("SkelAct") if row["model"] == model]
    assert rows
    for row in rows:
        key = MODEL_NAMES[model], f"ntu60-{row['split']}-3d", "joint"
        same = [r for r in EVERY if (r.model, r.data, r.stream) == key]
        assert len(same) == 1 and f"resize {same[0].clip_len}" == sampling == row["sampling"]
        assert (same[0].batch, same[0].shards, same[0].clips) == (64, 2, 1)
        seeds = [float(other["value"]) for other in rows
                 if other["split"] == row["split"] and other["metric"] == "top1"]
        assert same[0].published == pytest.approx(np.mean(seeds), abs=0.006)


def test_the_five_recipes_of_skelact_are_told_apart():
    recipes = {model: recipe for (model, data, _), recipe in published_recipes().items()
               if data == "ntu60-xsub-3d" and recipe.pipeline == "sequence"}
    settings = {model: (r.optimizer, r.lr, r.weight_decay, r.strong_decay, r.epochs, r.milestones,
                        r.test_ratio, r.rotation) for model, r in recipes.items()}
    assert settings == {
        "two_stream_cnn": ("adam", 1e-3, 1e-4, "fc5", 500, (350, 430, 470), 0.9, 0),
        "hcn": ("adam", 1e-3, 1e-4, "fc7", 500, (350, 430, 470), 0.9, 0),
        "hcn_baseline": ("adam", 1e-3, 1e-4, "", 800, (650, 730, 770), 0.95, 18),
        "ta_cnn": ("adam", 1e-3, 1e-4, "", 800, (650, 730, 770), 0.95, 18),
        "dynamic_gcn": ("sgd", 0.1, 4e-4, "", 65, (35, 45, 55), 0.95, 18)}


def test_the_caption_of_the_recipes_counts_parameters_right():
    counts = [count_parameters(make_model(r, catalogue.CATALOGUE[r.data])) for r in (DEMO, SMALL)]
    assert counts == [95_172, 3_449_740]


def test_what_the_chapter_says_of_the_cost_of_volumes():
    costs = []
    for recipe in (AS_PUBLISHED["posec3d"], CPU):
        entry = catalogue.CATALOGUE[recipe.data]
        x = torch.zeros(1, len(find_layout(entry.layout).joints), recipe.clip_len, recipe.size,
                        recipe.size)
        costs.append(count_multiply_adds(make_model(recipe, entry), x) / 1e9)
    assert [round(cost, 1) for cost in costs] == [15.8, 0.5]


@pytest.mark.parametrize("model", [name for name in AS_PUBLISHED if name != "posec3d"])
@pytest.mark.parametrize("layout, pipelines", [
    ("sbu", ("whole-clip", "whole-clip")), ("kinect_v1", ("whole-clip", "whole-clip")),
    ("nturgb+d", ("graph", "sequence")), ("coco", ("graph", "sequence"))])
def test_data_of_ones_own_has_a_place_to_start_from(model, layout, pipelines, monkeypatch):
    entry = replace(catalogue.CATALOGUE["synthetic"], layout=layout, reader="store")
    monkeypatch.setattr(recipes, "find_entry", lambda name: entry)
    recipe = find_recipe(model, "mine.skel", "bone")
    graph = AS_PUBLISHED[model].pipeline == "graph"
    assert recipe.pipeline == pipelines[0 if graph else 1]
    assert (recipe.data, recipe.stream, recipe.shards) == ("mine.skel", "bone", 1)
    assert (recipe.width, recipe.repeat) == (32, 1) if graph else recipe.published is None
    make_model(recipe, entry)


def test_a_store_of_pictures_of_ones_own_is_drawn(monkeypatch):
    entry = replace(catalogue.CATALOGUE["synthetic"], layout="coco", reader="store")
    monkeypatch.setattr(recipes, "find_entry", lambda name: entry)
    recipe = find_recipe("posec3d", "mine.skel", "limb")
    assert recipe == replace(CPU, data="mine.skel", stream="limb")
    make_model(recipe, entry)


def test_a_recipe_does_not_change():
    with pytest.raises(AttributeError):
        DEMO.lr = 1.0
    assert replace(DEMO, lr=1.0) != DEMO and replace(DEMO) == DEMO


# -- a plan

def test_the_notebook_and_the_plan_have_the_same_parameters():
    assert declared_parameters(project_root() / "nbs/train.ipynb") == PARAMETERS


def test_nothing_given_is_the_demonstration(empty):
    planned = plan()
    assert planned.recipe == DEMO and (planned.gpus, planned.workers) == (0, 0)
    assert planned.folder == empty / "outputs/runs/agcn_synthetic_joint_s0"
    assert plan(**PARAMETERS) == planned
    assert not list(empty.iterdir()), "planning must write nothing"


@pytest.mark.parametrize("given, changed", [
    (dict(epochs=3), dict(epochs=3)), (dict(clips=1), dict(clips=1)), (dict(seed=9), dict(seed=9)),
    (dict(batch=8), dict(batch=8, lr=0.025)), (dict(batch=32), dict()), (dict(epochs=12), dict()),
    (dict(precision="bf16"), dict(precision="bf16")), (dict(precision="float32"), dict()),
    (dict(ema=0.999), dict(ema=0.999)), (dict(ema=0), dict()), (dict(compile=True), dict()),
    (dict(stream="bone"), dict(stream="bone")),
    (dict(gpus=1, workers=5, processes=0, exact=False, compile=False), dict())])
def test_parameters_change_the_recipe_and_nothing_else(given, changed):
    assert asdict(plan(**given).recipe) == asdict(DEMO) | changed


@pytest.mark.parametrize("recipe, batch, changed", [
    (GRAPH, 128, (128, 8, 0.1)), (GRAPH, 64, (64, 4, 0.05)), (GRAPH, 16, (16, 1, 0.0125)),
    (GRAPH, 256, (256, 16, 0.2)), (GRAPH, 8, (8, 1, 0.00625)), (TURNED, 128, (128, 4, 1e-3)),
    (SMALL, 64, (64, 1, 0.2))])
def test_another_batch_scales_the_rate_of_sgd_and_keeps_the_size_of_a_shard(recipe, batch, changed,
                                                                             monkeypatch):
    monkeypatch.setattr(recipes, "find_recipe", lambda *names: recipe)
    monkeypatch.setattr(recipes, "find_entry", lambda *names: None)
    scaled = plan(batch=batch).recipe
    assert (scaled.batch, scaled.shards, scaled.lr) == changed


@pytest.mark.parametrize("epochs, stairs", [(20, (15, 2)), (10, (8, 1)), (200, (150, 20)),
                                            (1, (1, 0))])
def test_milestones_move_with_the_number_of_epochs(brought, epochs, stairs):
    recipe = plan(epochs=epochs, **brought).recipe
    assert (*recipe.milestones, recipe.warmup) == stairs
    for step in range(epochs):
        assert 0 < rate_of(recipe, 1)(step) <= recipe.lr


def test_whether_a_run_is_compiled_is_a_part_of_the_plan_and_not_of_the_experiment():
    assert plan(compile=True, exact=True).compile and not plan(exact=True).compile
    assert plan(compile=True).recipe == plan().recipe


def test_data_that_the_user_brings(brought):
    planned = plan(**brought)
    assert planned.recipe == SMALL and planned.data_root == brought["data_root"]
    assert planned.folder.name == "agcn_nw-ucla-xview_joint_s0"
    assert plan(clips=1, **brought).recipe == SMALL


def test_the_weights_to_begin_with_are_a_part_of_the_recipe(tmp_path):
    path = tmp_path / "k400.pth"
    path.write_bytes(b"numbers")
    planned = plan(weights=str(path))
    assert planned.weights == path and planned.recipe == replace(DEMO, start=file_hash(path))
    assert f"| start | {file_hash(path)} | changed from " in recipe_table(planned)
    assert plan().weights is None and plan().recipe.start == ""


def test_where_a_run_goes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert plan(out="here").folder == tmp_path / "here"
    assert plan(out=str(tmp_path / "a/../b")).folder == tmp_path / "b"
    assert plan(out="~/runs/x").folder == (Path.home() / "runs/x").resolve()


@settings(max_examples=30, deadline=None)
@given(st.sampled_from(EVERY), st.integers(0, 2**32 - 1))
def test_runs_of_other_models_data_streams_and_seeds_never_share_a_folder(recipe, seed):
    name = run_name(replace(recipe, seed=seed))
    assert name == f"{recipe.model}_{recipe.data}_{recipe.stream}_s{seed}"
    assert name.count("_") == 3 + recipe.model.count("_") and "/" not in name


# -- what is refused

@pytest.mark.parametrize("given, words", [
    (dict(modle="agcn"), "unknown parameter 'modle': did you mean 'model'?"),
    (dict(lr=0.1), "unknown parameter 'lr'"),
    (dict(model="agnc"), "unknown model 'agnc': did you mean 'agcn'?"),
    (dict(data="synthetics"), "unknown data 'synthetics': did you mean 'synthetic'?"),
    (dict(stream="bones"), "unknown stream 'bones': did you mean 'bone'?"),
    (dict(stream="depth"), "(valid: joint, bone, joint-motion, bone-motion)"),
    (dict(stream="limb"), "model agcn has no stream 'limb' (valid: joint, bone, joint-motion, "),
    (dict(model="posec3d"), "model posec3d sees joints as pictures, and those of data 'synthetic' "
                            "are in space: use -p data synthetic-2d"),
    (dict(model="posec3d", data="ntu60-xview-3d"), "use -p data ntu60-xview-2d"),
    (dict(model="posec3d", data="sbu-fold1"), "use -p data synthetic-2d, or another set of 2D"),
    (dict(model="posec3d", data="synthetic-2d", stream="bone"),
     "model posec3d has no stream 'bone' (valid: joint, limb)"),
    (dict(model="posec3d", data="synthetic-2d", stream="limbs"),
     "unknown stream 'limbs': did you mean 'limb'? (valid: joint, limb)"),
    (dict(model="posec3d", data="ucf101-split1"), "model posec3d on ucf101-split1 begins with the "
     "weights of one trained on k400: give -p weights FILE, its checkpoint"),
    (dict(weights="nowhere.pth"), "weights 'nowhere.pth' is not a file"),
    (dict(precision="fp16"), "unknown precision 'fp16'"),
    (dict(precision=""), "(valid: recipe, float32, bf16)"),
    (dict(epochs="ten"), "epochs 'ten' is not a whole number"),
    (dict(epochs=1.5), "epochs 1.5 is not a whole number"),
    (dict(epochs=None), "epochs None is not a whole number"),
    (dict(seed=True), "seed True is not a whole number"),
    (dict(model=3), "model 3 is not text"),
    (dict(out=5), "out 5 is not text"),
    (dict(exact=1), "exact 1 is not True or False"),
    (dict(compile="yes"), "compile 'yes' is not True or False"),
    (dict(seed=2**32), "seed 4294967296 is above 4294967295"),
    (dict(gpus=2), "gpus 2 cannot share the shards of this recipe's batch evenly (shards: 1): "
                   "use gpus 1, or -p shards 2, which is another experiment"),
    (dict(processes=4), "processes 4 cannot share the shards of this recipe's batch evenly (shards:"
                        " 1): use processes 1, or -p shards 4, which is another experiment"),
    (dict(processes=3, shards=8), "processes 3 cannot share the shards of this recipe's batch "
     "evenly (shards: 8): use processes 1, 2, 4, 8, or -p shards 3, which is another experiment"),
    (dict(shards=33), "shards 33: a batch of 32 has not so many parts"),
    (dict(gpus=2, processes=2, shards=2), "gpus 2 and processes 2: on GPUs there is one process for"
                                          " each; use processes 1"),
    (dict(compile=True, exact=True, gpus=1), "compile True and exact True: a GPU's kernels are "
     "chosen by the stopwatch in each process, and add in another order: use one of the two"),
    (dict(ema=1), "ema 1 is not below 1: it is the share of the average that stays at each step"),
    (dict(ema=float("nan")), "ema nan is not below 1"),
    (dict(ema=-0.1), "ema -0.1 is negative"), (dict(ema="0.9"), "ema '0.9' is not a number"),
    *(({name: -1}, f"{name} -1 is negative") for name in PARAMETERS
      if type(PARAMETERS[name]) is int),
], ids=str)
def test_a_wrong_parameter_is_refused_in_one_line(given, words):
    with pytest.raises(ValueError) as error:
        plan(**given)
    assert words in str(error.value) and "\n" not in str(error.value)


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(sorted(PARAMETERS)),
       st.one_of(st.none(), st.floats(), st.lists(st.integers()), st.binary()))
def test_values_of_another_kind_are_refused_by_name(name, value):
    assume((name, type(value)) != ("ema", float))
    with pytest.raises(ValueError, match=f"^{name} .* is not "):
        plan(**{name: value})


@pytest.mark.parametrize("data_root, words", [
    ("", "is needed"), ("/nowhere", "is not below data_root='/nowhere'")])
def test_data_that_is_not_there_is_refused(empty, data_root, words):
    with pytest.raises(ValueError, match="nw_ucla/all_sqe.zip is ") as error:
        plan(data_root=data_root, **REAL)
    assert words in str(error.value) and "-p data_root FOLDER" in str(error.value)


def test_sequences_are_tested_once_and_whole_clips_as_often_as_asked(brought):
    with pytest.raises(ValueError, match="clips 10: data 'synthetic' is tested on one fixed"):
        plan(model="hcn", clips=10)
    assert plan(clips=10, **brought).recipe.clips == 10


# -- shown

def test_the_table_shows_every_setting_and_marks_the_changed_ones():
    table = recipe_table(plan(batch=64, seed=2))
    lines = table.splitlines()
    assert len(lines) == 2 + len(fields(DEMO))
    changed = [line for line in lines if "changed" in line]
    assert changed == ["| batch | 64 | changed from 32 |", "| lr | 0.2 | changed from 0.1 |",
                       "| seed | 2 | changed from 0 |"]
