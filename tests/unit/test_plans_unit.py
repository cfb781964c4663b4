"""What run notebooks may be asked for: which runs, which weights, into which folder."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

import skelbook.evaluate.plans as plans
from skelbook.command import declared_parameters
from skelbook.evaluate.plans import (
    FUSE,
    SCORE,
    SWEEP,
    find_run,
    plan_fusion,
    plan_scoring,
    plan_sweep,
    plan_training,
)
from skelbook.learner.recipes import DEMO, PARAMETERS, Recipe, find_recipe, run_name
from skelbook.learner.runs import write_log, write_record, write_scores

NBS = Path(__file__).resolve().parents[2] / "nbs"
STREAMS = ("joint", "bone", "joint-motion", "bone-motion")


def make_run(parent, recipe, seed=0, epochs=None, name=None, **changes):
    "A made-up complete run; `epochs` done make it an unfinished one."
    folder = parent / (name or run_name(recipe))
    write_record(folder, {"settings": asdict(recipe), "data_hash": "d"} | changes)
    write_log(folder, [{"epoch": k + 1} for k in range(epochs or recipe.epochs)])
    (folder / "last.safetensors").write_bytes(bytes([seed, epochs or 0]))
    if epochs is None:
        scores = np.random.default_rng(seed).dirichlet(np.ones(3), 6)
        write_scores(folder, list("abcdef"), np.arange(6) % 3, scores, ["wave", "sit", "fall"])
        (folder / "DONE").touch()
    return folder


@pytest.fixture
def project(tmp_path, monkeypatch):
    "A project with four complete streams of the demonstration; the folder of its runs."
    monkeypatch.setattr(plans, "project_root", lambda: tmp_path)
    monkeypatch.chdir(tmp_path)
    for seed, stream in enumerate(STREAMS):
        make_run(tmp_path / "outputs/runs", replace(DEMO, stream=stream), seed)
    return tmp_path / "outputs/runs"


def refusal(function, **given):
    "The one line that a plan is refused with."
    with pytest.raises(ValueError) as error:
        function(**given)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("notebook, defaults", [
    ("train", PARAMETERS), ("fuse", FUSE), ("score", SCORE), ("sweep", SWEEP)])
def test_a_notebook_declares_what_its_plan_takes(notebook, defaults):
    assert declared_parameters(NBS / f"{notebook}.ipynb") == defaults


# -- finding runs

def test_a_run_is_found_by_name_and_by_any_path(project, monkeypatch):
    folder = project / "agcn_synthetic_bone_s0"
    assert find_run(folder.name) == find_run(str(folder)) == folder
    assert find_run("outputs/runs/agcn_synthetic_bone_s0/") == folder
    (project / "else").mkdir()
    monkeypatch.chdir(project / "else")
    assert find_run("outputs/runs/agcn_synthetic_bone_s0") == folder
    assert find_run("../agcn_synthetic_bone_s0") == folder


def test_what_is_not_a_run_gets_the_nearest_name(project):
    assert "did you mean 'agcn_synthetic_bone_s0'?" in refusal(lambda: find_run("agcn_syn_bone_s0"))
    for empty in ("", "outputs", "runs of mine"):
        assert "there is no run" in refusal(lambda name=empty: find_run(name))


# -- fusing

def test_the_two_streams_of_posec3d_are_fused_one_to_one(project):
    recipes = [find_recipe("posec3d", "synthetic-2d", stream) for stream in ("joint", "limb")]
    for seed, recipe in enumerate(recipes):
        make_run(project, recipe, seed)
    planned = plan_fusion(model="posec3d", data="synthetic-2d")
    assert list(planned.runs) == [run_name(recipe) for recipe in recipes]
    assert planned.weights == [1, 1] and planned.settings["stream"] == "joint-limb"
    assert planned.folder == project / "posec3d_synthetic-2d_joint-limb_s0"
    assert plan_fusion(model="posec3d", data="synthetic-2d", fusion="joint-limb") == planned


def test_the_published_sum_of_posec3d_stands_beside_ours(project):
    for seed, stream in enumerate(("joint", "limb")):
        make_run(project, find_recipe("posec3d", "ntu60-xsub-2d", stream), seed)
    same = dict(model="posec3d", data="ntu60-xsub-2d")
    assert plan_fusion(**same).settings["published"] == 94.0
    assert plan_fusion(**same, weights="2,1").settings["published"] is None


def test_streams_of_a_published_fusion_get_its_weights_whatever_their_order(project):
    planned = plan_fusion(fusion="four-stream")
    assert list(planned.runs) == [f"agcn_synthetic_{stream}_s0" for stream in
                                  ("joint", "joint-motion", "bone", "bone-motion")]
    assert planned.weights == [2, 1, 2, 1]
    assert planned.folder == project / "agcn_synthetic_four-stream_s0"
    listed = plan_fusion(runs=", ".join(f"agcn_synthetic_{stream}_s0" for stream in STREAMS))
    assert listed.weights == [2, 2, 1, 1] and listed.folder == planned.folder
    assert listed.settings["stream"] == "four-stream" and listed.settings["width"] == DEMO.width


def test_other_weights_have_another_name(project):
    planned = plan_fusion(weights="0.5, 2")
    assert planned.weights == [0.5, 2]
    assert planned.folder.name == "agcn_synthetic_two-stream-0.5-2_s0"
    assert plan_fusion(weights="1,1").folder.name == "agcn_synthetic_two-stream_s0"


def test_runs_that_are_no_fusion_of_one_model_need_a_name(project):
    for seed in (1, 2):
        make_run(project, replace(DEMO, seed=seed), 10 + seed)
    runs = ",".join(f"agcn_synthetic_joint_s{seed}" for seed in range(3))
    assert "give -p out FOLDER" in refusal(plan_fusion, runs=runs)
    planned = plan_fusion(runs=runs, out="seeds")
    assert planned.weights == [1, 1, 1] and planned.folder.name == "seeds"
    assert planned.settings["seed"] == "0 + 1 + 2" and planned.settings["stream"] == "joint"
    two = "agcn_synthetic_joint_s1,agcn_synthetic_bone_s0"
    assert "give -p out" in refusal(plan_fusion, runs=two)
    assert plan_fusion(runs=two, out="mixed").settings["seed"] == "1 + 0"


def test_a_fused_run_may_be_fused_again(project):
    recipe = replace(DEMO, stream="two-stream", seed=5)
    fused = make_run(project, recipe, 5, made_from=[{"run": "x", "weight": 1}])
    planned = plan_fusion(runs=f"{fused},agcn_synthetic_bone-motion_s0", out="more")
    assert planned.settings["stream"] == "two-stream + bone-motion"


def test_scores_elsewhere_are_fused_beside_each_other(project, tmp_path):
    folders = [make_run(tmp_path / "elsewhere", replace(DEMO, stream=stream), k, name=f"{stream}10")
               for k, stream in enumerate(("joint", "bone"))]
    planned = plan_fusion(runs=",".join(map(str, folders)))
    assert planned.folder == tmp_path / "elsewhere/agcn_synthetic_two-stream_s0"
    assert list(planned.runs) == ["joint10", "bone10"]


@pytest.mark.parametrize("given, message", [
    (dict(seed=4), "there is no run 'agcn_synthetic_joint_s4' in outputs/runs: did you mean"),
    (dict(model="agnc"), "unknown model 'agnc': did you mean 'agcn'?"),
    (dict(model="stgcn"), "did you mean 'agcn_synthetic_joint_s0'"),
    (dict(model="posec3d", fusion="two-stream"), "has no fusion 'two-stream' (valid: joint-limb)"),
    (dict(fusion="joint-limb"), "agcn has no fusion 'joint-limb' (valid: two-stream, four-stream)"),
    (dict(fusion="two-steam"), "did you mean 'two-stream'"),
    (dict(fusoin="a"), "did you mean 'fusion'"),
    (dict(weights="1,1,1"), "3 weights for 2 runs"), (dict(weights="1;1"), "'1;1' are not numbers"),
    (dict(weights="1,nan"), "expected numbers"), (dict(weights="-1,1"), "expected numbers"),
    (dict(weights="1,inf"), "expected numbers"), (dict(weights=1), "weights 1 is not text"),
    (dict(runs="agcn_synthetic_joint_s0"), "two runs or more"), (dict(runs=","), None),
    (dict(runs="agcn_synthetic_joint_s0,agcn_synthetic_joint_s0"), "of different names")])
def test_impossible_fusions_are_refused(project, given, message):
    if message:
        assert message in refusal(plan_fusion, **given)
    else:
        assert plan_fusion(**given) == plan_fusion()


def test_unfinished_runs_and_other_clips_are_refused(project):
    make_run(project, replace(DEMO, seed=1), epochs=5)
    make_run(project, replace(DEMO, stream="bone", seed=1))
    assert "agcn_synthetic_joint_s1 is not complete" in refusal(plan_fusion, seed=1)
    write_scores(project / "agcn_synthetic_bone_s0", list("abcdeg"), np.arange(6) % 3, np.eye(6, 3),
                 ["wave", "sit", "fall"])
    said = refusal(plan_fusion)
    assert "bone_s0 lacks 1 of the 6 clips of agcn_synthetic_joint_s0 (f)" in said and "(g)" in said


def test_a_folder_with_another_result_is_refused(project):
    planned = plan_fusion()
    write_record(planned.folder, {"settings": planned.settings, "made_from": planned.made_from})
    assert plan_fusion() == planned                                  # the same thing again
    out = str(planned.folder)
    assert "the result of other parts" in refusal(plan_fusion, weights="2,1", out=out)
    joint = str(project / "agcn_synthetic_joint_s0")
    assert "the result of a training" in refusal(plan_fusion, out=joint)
    rng = np.random.default_rng(9)
    write_scores(joint, list("abcdef"), np.arange(6) % 3, rng.dirichlet(np.ones(3), 6),
                 ["wave", "sit", "fall"])
    assert "other parts" in refusal(plan_fusion)                     # the same runs, other scores


# -- testing again

def test_scores_are_named_after_run_clips_and_epochs(project, tmp_path):
    place = tmp_path / "outputs/scores"
    assert plan_scoring().folder == place / "agcn_synthetic_joint_s0_c3"
    planned = plan_scoring(clips=10)
    assert planned.folder == place / "agcn_synthetic_joint_s0_c10"
    assert planned.plan.recipe == replace(DEMO, clips=10)
    make_run(project, replace(DEMO, seed=1), epochs=5)
    half = plan_scoring(run="agcn_synthetic_joint_s1", clips=1)
    assert half.folder.name == "agcn_synthetic_joint_s1_e5_c1"
    assert half.made_from[0]["epochs"] == 5 and half.made_from[0]["clips"] == 1
    assert plan_scoring(out="mine").folder == tmp_path / "mine"


def test_a_recipe_of_ones_own_is_tested_as_it_was_trained(project):
    own = replace(DEMO, width=8, depth=5, precision="bf16", seed=7)
    make_run(project, own)
    assert plan_scoring(run="agcn_synthetic_joint_s7").plan.recipe == own


def test_a_published_checkpoint_has_the_published_settings(project, tmp_path):
    (tmp_path / "agcn_80e.pth").write_bytes(b"weights")
    planned = plan_scoring(checkpoint="agcn_80e.pth", stream="bone")
    assert planned.plan.recipe == Recipe("agcn", "synthetic", "bone", shards=8)
    assert planned.folder.name == "agcn_synthetic_bone_s0_agcn_80e_c10"
    assert planned.weights == tmp_path / "agcn_80e.pth"
    other = plan_scoring(checkpoint="agcn_80e.pth", stream="bone", run="no run at all", clips=1)
    assert other.folder.name.endswith("_c1")


@pytest.mark.parametrize("given, message", [
    (dict(run="agcn_synthetic_joint_s9"), "did you mean 'agcn_synthetic_joint_s0'"),
    (dict(run=""), "there is no run ''"), (dict(clips=-1), "clips -1 is negative"),
    (dict(clips="ten"), "'ten' is not a whole number"), (dict(gpus=9), "use gpus 1, or 0"),
    (dict(checkpoint="a.pth"), "checkpoint 'a.pth' is not a file"),
    (dict(out="outputs/runs/agcn_synthetic_joint_s0"), "holds the result of a training")])
def test_impossible_tests_are_refused(project, given, message):
    assert message in refusal(plan_scoring, **given)


@pytest.mark.parametrize("given, message", [
    (dict(model="agnc"), "did you mean 'agcn'"), (dict(stream="bnoe"), "did you mean 'bone'"),
    (dict(data="synthetik"), "did you mean 'synthetic'")])
def test_names_beside_a_checkpoint_are_checked(project, tmp_path, given, message):
    (tmp_path / "a.pth").write_bytes(b"weights")
    assert message in refusal(plan_scoring, checkpoint="a.pth", **given)


def test_runs_without_weights_and_clips_that_cannot_be_cut_are_refused(project, monkeypatch):
    (project / "agcn_synthetic_joint_s0/last.safetensors").unlink()
    assert "has no checkpoint here" in refusal(plan_scoring)
    make_run(project, replace(DEMO, stream="two-stream"), made_from=[{"run": "a", "weight": 1}])
    assert "made from other runs" in refusal(plan_scoring, run="agcn_synthetic_two-stream_s0")
    make_run(project, find_recipe("hcn", "synthetic", "joint"))
    said = refusal(plan_scoring, run="hcn_synthetic_joint_s0", clips=10)
    assert "one fixed clip per sample" in said


def test_weights_that_have_moved_on_are_another_result(project):
    planned = plan_scoring()
    write_record(planned.folder, {"made_from": planned.made_from})
    assert plan_scoring().made_from == planned.made_from
    (project / "agcn_synthetic_joint_s0/last.safetensors").write_bytes(b"later")
    assert "other parts" in refusal(plan_scoring)


def test_a_tuned_network_is_tested_without_the_weights_that_it_began_with(project, tmp_path):
    (tmp_path / "ucf101_2d.pkl").touch()
    (tmp_path / "tuned.pth").write_bytes(b"weights")
    same = dict(data_root=str(tmp_path))
    planned = plan_scoring(checkpoint="tuned.pth", model="posec3d", data="ucf101-split1", **same)
    assert planned.plan.weights is None and planned.plan.recipe.start == ""
    assert planned.plan.recipe == find_recipe("posec3d", "ucf101-split1", "joint")
    recipe = replace(planned.plan.recipe, start="of the file it began with")
    run = make_run(project, recipe).name
    planned = plan_scoring(run=run, clips=1, **same)
    assert planned.plan.recipe == replace(recipe, clips=1) and planned.plan.weights is None


# -- training and sweeping

def test_a_training_is_checked_against_its_folder(project, tmp_path):
    write_record(tmp_path / "run", {"settings": asdict(DEMO), "data_hash": "any"})
    assert plan_training(out="run").recipe == DEMO
    assert "batch: 32 there, 64 here" in refusal(plan_training, out="run", batch=64)
    assert plan_training(out="new", batch=64).recipe.batch == 64


def test_a_sweep_gives_each_training_what_was_given(tmp_path):
    jobs = plan_sweep(streams="bone, joint", seeds="3,5", epochs=2, workers=1, out=str(tmp_path))
    assert [job.notebook for job in jobs] == ["train", "train", "fuse"] * 2
    assert jobs[0].parameters == {"model": "agcn", "data": "synthetic", "stream": "bone", "seed": 3,
                                  "epochs": 2, "workers": 1,
                                  "out": str(tmp_path / "agcn_synthetic_bone_s3")}
    assert jobs[5].folder == tmp_path / "agcn_synthetic_two-stream_s5"
    joint, bone = (str(tmp_path / f"agcn_synthetic_{s}_s5") for s in ("joint", "bone"))
    assert jobs[5].parameters == {"runs": f"{joint},{bone}", "out": str(jobs[5].folder)}


def test_a_sweep_in_the_usual_place_names_no_path(project, monkeypatch):
    monkeypatch.setattr("skelbook.learner.recipes.project_root", lambda: project.parents[1])
    jobs = plan_sweep()
    assert len(jobs) == 6
    for job in jobs:
        assert job.folder.parent == project and "/" not in json.dumps(job.parameters)
    assert jobs[5].parameters == {"model": "agcn", "data": "synthetic", "seed": 0,
                                  "fusion": "four-stream"}
    assert plan_fusion(**jobs[5].parameters).folder == jobs[5].folder
    assert plan_training(**jobs[0].parameters).folder == jobs[0].folder


def test_a_sweep_of_posec3d_trains_and_fuses_its_two_streams(tmp_path):
    jobs = plan_sweep(model="posec3d", data="synthetic-2d", out=str(tmp_path))
    assert [job.folder.name for job in jobs] == [
        f"posec3d_synthetic-2d_{name}_s0" for name in ("joint", "limb", "joint-limb")]
    assert jobs[2].notebook == "fuse"


@pytest.mark.parametrize("streams, fusions", [
    ("joint", []), ("joint, joint-motion", []), ("joint,bone,bone-motion", ["two-stream"])])
def test_only_fusions_that_have_all_their_streams_are_made(streams, fusions, tmp_path):
    jobs = plan_sweep(streams=streams, out=str(tmp_path))
    assert [job.folder.name.split("_")[2] for job in jobs if job.notebook == "fuse"] == fusions


@pytest.mark.parametrize("given, message", [
    (dict(streams="joint bone"), "unknown stream 'joint bone'"),
    (dict(streams="joint, limb"), "unknown stream 'limb'"), (dict(model="posec3d"), "synthetic-2d"),
    (dict(seeds=""), "seeds '' are not"), (dict(seeds="1.5"), "are not whole numbers"),
    (dict(seeds=-1), "seeds -1 are not whole numbers"), (dict(seed=1), "did you mean 'seeds'"),
    (dict(epochs="x"), "not a whole number"), (dict(model="agnc"), "did you mean 'agcn'"),
    (dict(gpus=9), "cannot share the shards")])
def test_impossible_sweeps_are_refused(given, message, tmp_path):
    assert message in refusal(plan_sweep, out=str(tmp_path), **given)


def test_a_sweep_is_refused_when_one_folder_holds_another_run(tmp_path):
    recipe = replace(DEMO, stream="bone", epochs=3)
    make_run(tmp_path, recipe)
    said = refusal(plan_sweep, out=str(tmp_path))
    assert "agcn_synthetic_bone_s0" in said and "epochs: 3 there, 12 here" in said
