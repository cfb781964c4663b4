"""Train, fuse, test again: from one command for all streams to tables, on a handful of clips."""

import csv
import io
import json
from contextlib import contextmanager
from dataclasses import replace
from unittest import mock

import numpy as np
import pytest
import small_run
import torch
from small_run import few_clips, finish, small_setup
from terminal import in_pipe

import skelbook.evaluate.plans as plans
import skelbook.learner.train as training
from skelbook.command import complete_command
from skelbook.core import file_hash
from skelbook.data.store import Source, write_store
from skelbook.evaluate.derived import compare, fuse_runs, score_again
from skelbook.evaluate.derived import finish as close
from skelbook.evaluate.plans import plan_fusion, plan_scoring, plan_sweep
from skelbook.evaluate.sweep import command_of
from skelbook.learner.loop import predict
from skelbook.learner.recipes import AS_PUBLISHED
from skelbook.learner.runs import read_record, read_scores, run_state
from skelbook.learner.train import model_options
from skelbook.models.weights import to_reference
from skelbook.models.zoo import create_model
from skelbook.report.tables import collect_runs, results_table

TOGETHER = pytest.mark.xdist_group("one sweep")         # these share a fixture that takes a while


def digests(folder):
    "Fingerprint of every file below a folder."
    return {path.relative_to(folder): file_hash(path) for path in sorted(folder.rglob("*"))
            if path.is_file()}


def random_clips(path):
    "A store of twelve clips of noise: one person, two classes, COCO joints."
    names = [f"clip{k:02}" for k in range(12)]

    def samples():
        rng = np.random.default_rng(0)
        for k, name in enumerate(names):
            yield dict(name=name, label=k % 2, joints=rng.uniform(1, 400, (1, 9 + k, 17, 2)),
                       scores=rng.random((1, 9 + k, 17)), image_size=(480, 640))

    splits = {"xsub_train": names[:8], "xsub_val": names[8:]}
    return write_store(path, Source("noise", "coco", ("sit", "run"), splits, samples, 12, {}))


# -- with the notebooks

@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    "A project folder after `sweep.ipynb` for two streams, one epoch each; parameters and output."
    place = tmp_path_factory.mktemp("swept")
    given = {"data": str(random_clips(place / "noise.skel")), "epochs": 1, "batch": 8, "clips": 1,
             "streams": "joint,bone", "out": str(place / "runs")}
    words = [word for name, value in given.items() for word in ("-p", name, value)]
    status, _, shown = in_pipe("nbs/sweep.ipynb", place / "sweep.ipynb", "--log-output", *words)
    assert status == 0, shown[-3000:]
    return place, given, shown


def check_executed(path):
    "An executed notebook without errors."
    cells = [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "code"]
    assert all(cell["execution_count"] for cell in cells if "".join(cell["source"]).strip())
    assert "error" not in {output["output_type"] for cell in cells for output in cell["outputs"]}


@TOGETHER
def test_a_sweep_leaves_the_folders_of_its_parts_and_of_their_sum(swept):
    place, _, shown = swept
    folders = {folder.name: folder for folder in (place / "runs").iterdir()}
    assert sorted(folders) == ["agcn_noise_bone_s0", "agcn_noise_joint_s0",
                               "agcn_noise_two-stream_s0"]
    for name, folder in folders.items():
        assert run_state(folder) == "complete"
        check_executed(folder / ("fuse.ipynb" if "two" in name else "train.ipynb"))
    for line in ("1 of 3: agcn_noise_joint_s0", "    epoch 1 of 1", "3 of 3: agcn_noise_two"):
        assert line in shown
    check_executed(place / "sweep.ipynb")


@TOGETHER
def test_the_sum_is_the_sum_and_its_record_names_the_parts(swept):
    runs = swept[0] / "runs"
    joint, bone = (runs / f"agcn_noise_{stream}_s0" for stream in ("joint", "bone"))
    fused = read_scores(runs / "agcn_noise_two-stream_s0")
    parts = [read_scores(folder) for folder in (joint, bone)]
    np.testing.assert_array_equal(fused["scores"], parts[0]["scores"] + parts[1]["scores"])
    record = read_record(runs / "agcn_noise_two-stream_s0")
    assert record["made_from"] == [
        {"run": folder.name, "weight": 1, "scores": file_hash(folder / "scores.npz")}
        for folder in (joint, bone)]
    assert record["settings"]["stream"] == "two-stream" and record["finished"]
    assert record["data_hash"] == read_record(joint)["data_hash"]
    written = (runs / "agcn_noise_two-stream_s0/accuracy.csv").read_text().splitlines()
    assert [row["run"] for row in csv.DictReader(written)] == [
        "agcn_noise_joint_s0", "agcn_noise_bone_s0", "agcn_noise_two-stream_s0"]


@TOGETHER
def test_tables_show_the_fused_row_last(swept):
    table = results_table(collect_runs(swept[0] / "runs"))
    assert table["stream"].tolist() == ["joint", "bone", "two-stream"]
    assert table["weights"].tolist() == ["–", "–", "1:1"]
    assert "missing" not in table["top-1"].tolist()


@TOGETHER
def test_the_same_sweep_again_says_that_all_is_complete_and_changes_nothing(swept):
    place, given, _ = swept
    before = digests(place / "runs")
    for job in plan_sweep(**given):
        with pytest.raises(FileExistsError, match=f"this run is complete.*{job.folder.name}"):
            complete_command(command_of(job)[3:])
    assert digests(place / "runs") == before


@TOGETHER
def test_a_run_is_tested_again_into_a_folder_of_its_own(swept):
    run, out = swept[0] / "runs/agcn_noise_bone_s0", swept[0] / "again"
    before = digests(run)
    words = ["nbs/score.ipynb", "-p", "run", run, "-p", "clips", 3, "-p", "out", out]
    status, _, shown = in_pipe(*words)
    assert status == 0, shown[-3000:]
    assert digests(run) == before
    assert {path.name for path in out.iterdir()} == {
        ".lock", ".score.ipynb.lock", "recipe.json", "scores.npz", "accuracy.csv", "accuracy.md",
        "classes.csv", "classes.md", "score.ipynb", "DONE"}
    check_executed(out / "score.ipynb")
    assert read_record(out)["settings"]["clips"] == 3 and "top-5" in shown
    first, again = read_scores(run), read_scores(out)
    assert (first["names"] == again["names"]).all() and (first["scores"] != again["scores"]).any()
    status, told, _ = in_pipe(*words)
    assert status == 0 and "complete" in told


@TOGETHER
def test_a_complete_fusion_is_not_started_and_another_one_is_refused(swept):
    place = swept[0] / "runs"
    runs = ",".join(str(place / f"agcn_noise_{stream}_s0") for stream in ("joint", "bone"))
    words = [str(plans.project_root() / "nbs/fuse.ipynb"), "-p", "runs", runs]
    with pytest.raises(FileExistsError, match="this run is complete"):
        complete_command(words)
    other = [*words, "-p", "out", str(place / "agcn_noise_two-stream_s0"), "-p", "weights", "2,1"]
    with pytest.raises(ValueError, match="holds the result of other parts"):
        complete_command(other)


@pytest.mark.parametrize("words, message", [
    ("fuse copy.ipynb -p fusion three-stream", "did you mean 'two-stream'"),
    ("score -p run agcn_none", "there is no run 'agcn_none'"),
    ("sweep -p streams joints", "did you mean 'joint'")])
def test_a_wrong_parameter_stops_at_once_and_leaves_nothing(words, message, tmp_path):
    notebook, *words = words.split()
    path = str(plans.project_root() / f"nbs/{notebook}.ipynb")
    status, out, shown = in_pipe(path, *words, cwd=tmp_path, timeout=60)
    assert status == 2 and message in shown and "Traceback" not in shown
    assert out == "" and len(shown.strip().splitlines()) == 1
    assert not list(tmp_path.iterdir())


# -- without them

@contextmanager
def few():
    "Runs of the demonstration see the few clips of `small_run`."
    with (mock.patch.object(training, "open_data", lambda *names: few_clips()),
          mock.patch.object(training, "project_root", lambda: small_run.FOLDER)):
        yield


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    "Folders of two tiny runs, joint and bone."
    place = tmp_path_factory.mktemp("pair")
    for stream in ("joint", "bone"):
        finish(small_setup(place / stream, stream=stream))
    return place


def once_more(folder, out, **given):
    "Scores of a run's last weights, tested again."
    planned = plan_scoring(run=str(folder), out=str(out), **given)
    with few():
        scores = score_again(planned, io.StringIO())
    close(planned.folder)
    return planned, scores


def test_the_same_clips_give_the_same_bits(pair, tmp_path):
    planned, scores = once_more(pair / "joint", tmp_path / "again")
    np.testing.assert_array_equal(scores["scores"], read_scores(pair / "joint")["scores"])
    rows = compare(planned, scores)
    assert [row["run"] for row in rows] == ["joint", "again"] and rows[0]["p"] == 1


def test_an_unfinished_run_is_tested_where_it_stands(tmp_path):
    def stop(line):
        if line.startswith("epoch 1"):
            raise KeyboardInterrupt

    setup = small_setup(tmp_path / "run")
    with pytest.raises(KeyboardInterrupt):
        training.train(setup, stop)
    batches, inputs = setup.batches(setup.splits[1]), setup.pipeline.inputs
    expected = predict(setup.model, batches, inputs)[2]
    before = digests(tmp_path / "run")
    planned, scores = once_more(tmp_path / "run", tmp_path / "half")
    np.testing.assert_array_equal(scores["scores"], expected)
    assert digests(tmp_path / "run") == before and run_state(tmp_path / "run") == "unfinished"
    assert planned.made_from[0]["epochs"] == 1 and len(compare(planned, scores)) == 1


def test_a_run_is_not_tested_on_other_data(pair, tmp_path):
    store = few_clips()
    train, test = store.splits
    other = replace(store, splits=store.splits | {test: store.splits[test][1:]})
    planned = plan_scoring(run=str(pair / "joint"), out=str(tmp_path / "other"))
    with few(), mock.patch.object(training, "open_data", lambda *names: other):
        with pytest.raises(ValueError, match="not what run joint was trained on"):
            score_again(planned, io.StringIO())
    assert run_state(tmp_path / "other") == "new"


def test_a_fusion_that_was_interrupted_is_made_again(pair, tmp_path):
    planned = plan_fusion(runs=f"{pair / 'joint'},{pair / 'bone'}", out=str(tmp_path / "sum"))
    fuse_runs(planned)
    (tmp_path / "sum/scores.npz").unlink()
    assert run_state(tmp_path / "sum") == "unfinished"
    scores = fuse_runs(planned)
    close(tmp_path / "sum")
    before = digests(tmp_path / "sum")
    np.testing.assert_array_equal(fuse_runs(planned)["scores"], scores["scores"])
    close(tmp_path / "sum")
    assert digests(tmp_path / "sum") == before and run_state(tmp_path / "sum") == "complete"


def test_scores_with_more_clips_are_fused_like_runs(pair, tmp_path):
    folders = [once_more(pair / stream, tmp_path / f"{stream}10", clips=4)[0].folder
               for stream in ("joint", "bone")]
    planned = plan_fusion(runs=",".join(map(str, folders)))
    assert planned.folder == tmp_path / "agcn_synthetic_two-stream_s0"
    assert planned.settings["clips"] == 4 and planned.settings["stream"] == "two-stream"
    fused = fuse_runs(planned)
    np.testing.assert_allclose(fused["scores"].sum(1), 2, rtol=1e-12)


@pytest.mark.parametrize("model", sorted(AS_PUBLISHED.keys() - {"posec3d"}))     # see test_volumes
def test_a_published_checkpoint_is_tested_with_the_published_settings(model, tmp_path):
    data, published = str(random_clips(tmp_path / "noise.skel")), AS_PUBLISHED[model]
    theirs = create_model(model, "coco", num_classes=2, **model_options(published, persons=1))
    state = {f"module.{k}": v.clone() for k, v in to_reference(theirs).items()}
    torch.save({"state_dict": state, "meta": {"epoch": 16}, "optimizer": {"lr": 0.1}},
               tmp_path / "theirs.pth")
    planned = plan_scoring(checkpoint=str(tmp_path / "theirs.pth"), model=model, data=data,
                           stream="bone", out=str(tmp_path / "out"))
    recipe = planned.plan.recipe
    assert recipe == replace(published, data=recipe.data, stream="bone")
    with mock.patch.object(training, "project_root", lambda: tmp_path):
        scores = score_again(planned, io.StringIO())
        setup = training.prepare_run(planned.plan, io.StringIO())
    x = setup.pipeline.inputs(next(iter(setup.batches(setup.splits[1]))))
    with torch.no_grad():
        logits = theirs.eval()(x.flatten(0, 1)).double()
    expected = logits.softmax(-1).unflatten(0, x.shape[:2]).mean(1).numpy()
    np.testing.assert_array_equal(scores["scores"], expected)
    record = read_record(tmp_path / "out")
    assert record["checkpoint"] == {"epoch": 16}
    assert record["made_from"][0]["file"] == "theirs.pth"


def test_a_checkpoint_of_another_model_is_refused_and_leaves_nothing(tmp_path):
    data = str(random_clips(tmp_path / "noise.skel"))
    state = to_reference(create_model("stgcn", "coco", num_classes=2, num_persons=1))
    torch.save({"state_dict": dict(state)}, tmp_path / "stgcn.pth")
    planned = plan_scoring(checkpoint=str(tmp_path / "stgcn.pth"), model="stgcnpp", data=data,
                           out=str(tmp_path / "out"))
    with mock.patch.object(training, "project_root", lambda: tmp_path):
        with pytest.raises(ValueError, match="keys missing"):
            score_again(planned, io.StringIO())
    assert not (tmp_path / "out").exists()
