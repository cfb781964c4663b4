"""Tables say what the run folders say, and nothing else."""

import csv
import shutil
from dataclasses import asdict, replace

import numpy as np
import pandas as pd
import pytest

from skelbook.core import project_root
from skelbook.data.catalogue import CATALOGUE
from skelbook.data.store import Source, open_store, write_store
from skelbook.learner.code import code_hash
from skelbook.learner.metrics import wilson_interval
from skelbook.learner.recipes import DEMO, SMALL, find_recipe, run_name
from skelbook.learner.runs import package_hash, read_record, write_record, write_scores
from skelbook.learner.train import data_hash
from skelbook.report.tables import (
    COLUMNS,
    check_complete,
    collect_runs,
    comparison_table,
    folds_table,
    markdown_table,
    marked_table,
    papers_table,
    results_table,
    run_row,
    unseen_accuracy,
    what_changed,
    write_table,
)


def make_run(parent, recipe=DEMO, right=None, data="d", seconds=90.0):
    "A run folder in which `right` of 100 test clips are right; None: unfinished."
    folder = parent / f"{run_name(recipe)}_{data}"
    write_record(folder, {"settings": asdict(recipe), "data_hash": data, "num_parameters": 1000,
                          "seconds": seconds})
    if right is not None:
        names, labels = np.arange(100).astype(str), np.arange(100) % 12
        guess = np.where(np.arange(100) < right, labels, (labels + 1) % 12)
        write_scores(folder, names, labels, np.eye(12)[guess], list("abcdefghijkl"))
        (folder / "DONE").touch()
    return folder


def table_of(parent):
    "The results table of a folder of runs."
    return results_table(collect_runs(parent))


@pytest.mark.parametrize("right, top1, spread", [
    ([80], "80.00", "–"), ([80, 84], "82.00", "2.00"), ([80, 80, 80], "80.00", "0.00"),
    ([79, 82, 88], "83.00", "3.74")])
def test_seeds_are_one_experiment_with_mean_and_population_spread(tmp_path, right, top1, spread):
    for seed, each in enumerate(right):
        make_run(tmp_path, replace(DEMO, seed=seed), each)
    row, = table_of(tmp_path).to_dict("records")
    assert (row["top-1"], row["spread"], row["seeds"]) == (top1, spread, len(right))
    assert row["test clips"] == 100


def test_limbs_follow_joints_and_the_published_measure_is_named(tmp_path):
    limb, joint = (find_recipe("posec3d", "gym", stream) for stream in ("limb", "joint"))
    for recipe in (limb, joint, replace(joint, stream="joint-limb", published=None)):
        make_run(tmp_path, recipe, 80)
    table = table_of(tmp_path)
    assert list(table["stream"]) == ["joint", "limb", "joint-limb"]
    assert list(table["published"]) == ["93.50 (mean class)", "93.60 (mean class)", "–"]


def test_an_unfinished_seed_does_not_count(tmp_path):
    make_run(tmp_path, DEMO, 80)
    make_run(tmp_path, replace(DEMO, seed=1))
    row, = table_of(tmp_path).to_dict("records")
    assert (row["top-1"], row["spread"], row["seeds"]) == ("80.00", "–", 1)


def test_scores_without_done_are_not_a_result(tmp_path):
    folder = make_run(tmp_path, DEMO, 80)
    (folder / "DONE").unlink()
    assert np.isnan(run_row(folder)["top1"]) and run_row(folder)["state"] == "unfinished"


def test_what_is_not_there_says_missing(tmp_path):
    make_run(tmp_path, SMALL)
    row, = table_of(tmp_path).to_dict("records")
    missing = [name for name, value in row.items() if value == "missing"]
    assert missing == ["top-1", "95 % interval", "top-5", "mean class", "test clips"]
    assert (row["seeds"], row["spread"], row["published"]) == (0, "–", "–")


@pytest.mark.parametrize("change", [
    dict(lr=0.2), dict(epochs=3), dict(stream="bone"), dict(width=8), dict(precision="bf16"),
    dict(eval_every=2)])
def test_any_other_setting_is_another_experiment(tmp_path, change):
    make_run(tmp_path / "a", DEMO, 80)
    make_run(tmp_path / "b", replace(DEMO, seed=1, **change), 84)
    runs = pd.concat([collect_runs(tmp_path / "a"), collect_runs(tmp_path / "b")])
    assert results_table(runs)["top-1"].tolist() == ["80.00", "84.00"]


def test_other_data_is_another_experiment(tmp_path):
    make_run(tmp_path, DEMO, 80, data="d")
    make_run(tmp_path, replace(DEMO, seed=1), 84, data="e")
    assert table_of(tmp_path)["top-1"].tolist() == ["80.00", "84.00"]


def test_a_setting_that_is_younger_than_a_run_does_not_part_it_from_others(tmp_path):
    old = make_run(tmp_path, DEMO, 80)
    settings = asdict(DEMO)
    del settings["eval_every"]
    write_record(old, read_record(old) | {"settings": settings})
    make_run(tmp_path, replace(DEMO, seed=1), 84)
    assert table_of(tmp_path)["seeds"].tolist() == [2]


def test_the_published_number_stands_beside_ours(tmp_path):
    make_run(tmp_path, replace(DEMO, published=93.7), 80, seconds=3600)
    row, = table_of(tmp_path).to_dict("records")
    assert (row["published"], row["minutes"]) == ("93.70", "60")


def test_no_runs_make_an_empty_table_with_the_same_columns(tmp_path):
    (tmp_path / "not a run").mkdir()
    empty = table_of(tmp_path)
    make_run(tmp_path, DEMO, 80)
    full = table_of(tmp_path)
    assert list(empty.columns) == list(full.columns) == COLUMNS
    assert len(empty) == 0 and len(full) == 1
    assert results_table(collect_runs(tmp_path).query("data == 'other'")).equals(empty)
    assert markdown_table(empty).count("\n") == 2


def test_both_files_hold_the_same_table(tmp_path):
    make_run(tmp_path / "runs", DEMO, 80)
    table = table_of(tmp_path / "runs")
    files = write_table(table, tmp_path / "tables/results")
    with open(files[0], newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))
    lines = files[1].read_text(encoding="utf-8").splitlines()
    assert rows == [line.strip("| ").split(" | ") for line in lines if "---" not in line]
    assert {path.name for path in (tmp_path / "tables").iterdir()} == {"results.csv", "results.md"}
    before = [file.read_bytes() for file in files]
    write_table(table, tmp_path / "tables/results")
    assert [file.read_bytes() for file in files] == before


# -- fused runs

def fused(parent, stream, right, weights=(1, 1), seed=0):
    "A fused run folder, as `fuse_runs` leaves it."
    recipe = replace(DEMO, stream=stream, seed=seed)
    folder = make_run(parent, recipe, right, seconds=180.0)
    parts = [{"run": f"part {k}", "weight": weight} for k, weight in enumerate(weights)]
    write_record(folder, read_record(folder) | {"made_from": parts, "num_parameters": 2000})
    return folder


def test_fused_runs_stand_behind_their_streams_with_their_weights(tmp_path):
    fused(tmp_path, "four-stream", 88, (2, 1, 2, 1))
    fused(tmp_path, "two-stream", 86)
    for stream, right in (("bone", 82), ("joint-motion", 70), ("joint", 80)):
        make_run(tmp_path, replace(DEMO, stream=stream), right)
    make_run(tmp_path, replace(DEMO, model="a model before agcn", stream="bone"), 50)
    table = table_of(tmp_path)
    assert table["stream"].tolist() == ["bone", "joint", "bone", "joint-motion", "two-stream",
                                        "four-stream"]
    assert table["weights"].tolist() == ["–"] * 4 + ["1:1", "2:1:2:1"]
    assert table["minutes"].tolist()[-1] == "3" and table["top-1"].tolist()[-1] == "88.00"


def test_other_weights_are_another_experiment_and_seeds_of_one_are_not(tmp_path):
    for seed, right in enumerate((80, 84)):
        fused(tmp_path, "two-stream", right, seed=seed)
    fused(tmp_path / "other", "two-stream", 90, (3, 0.5)).rename(tmp_path / "weighted")
    table = table_of(tmp_path)
    assert table["weights"].tolist() == ["1:1", "3:0.5"]
    assert table["seeds"].tolist() == [2, 1] and table["top-1"].tolist() == ["82.00", "90.00"]


def test_a_run_that_was_tested_again_is_not_another_seed_of_it(tmp_path):
    make_run(tmp_path, DEMO, 80)
    again = make_run(tmp_path / "other", DEMO, 80)
    part = {"run": "agcn", "epochs": 12, "clips": 3, "weights": "0" * 64}
    write_record(again, read_record(again) | {"made_from": [part]})
    again.rename(tmp_path / "again")
    table = table_of(tmp_path)
    assert table["seeds"].tolist() == [1, 1] and table["weights"].tolist() == ["–", "–"]


def test_settings_that_differ_between_parts_are_shown_as_they_are(tmp_path):
    folder = fused(tmp_path, "two-stream", 80)
    record = read_record(folder)
    record["settings"] |= {"width": "16 + 64", "seed": "0 + 1", "model": "agcn + stgcn"}
    write_record(folder, record)
    row, = table_of(tmp_path).to_dict("records")
    assert (row["width"], row["model"], row["seeds"]) == ("16 + 64", "agcn + stgcn", 1)


def test_a_result_is_compared_with_every_part_but_itself():
    numbers = {"top1": 80.0, "top5": 99.5, "mean_class": 79.0, "low": 71.1, "high": 86.7,
               "count": 100}
    parts = [{"run": name} | numbers | {"only_first": 3, "only_second": 12, "p": 0.0352}
             for name in ("joint", "bone", "sum")]
    table = comparison_table(parts)
    assert table["p"].tolist() == ["0.035", "0.035", "–"]
    assert table["only it is right"].tolist() == [3, 3, "–"]
    assert table["95 % interval"][0] == "71.1 … 86.7" and table["top-5"][2] == "99.50"
    assert len(comparison_table(parts[2:])) == 1


def fold_rows(*accuracies, state="complete"):
    "Runs on the folds of a set, as `collect_runs` tells of them."
    return pd.DataFrame([dict(model="hcn", data=f"sbu-fold{k}", stream="joint", seed=0, top1=top1,
                              count=40, state=state, passes=45,
                              changed=["data"] if k == 2 else [])
                         for k, top1 in enumerate(accuracies, start=1)])


def test_folds_are_averaged_and_their_clips_counted_together():
    runs = pd.concat([fold_rows(90.0, 100.0, 95.0), fold_rows(50.0).assign(seed=1),
                      fold_rows(10.0).assign(data="nw-ucla-xview")])
    table = folds_table(runs)
    assert table["seed"].tolist() == [0, 1] and table["folds"].tolist() == [3, 1]
    assert table["changed"].tolist() == ["data", "–"]              # of the second of three folds
    assert table["passes"].tolist() == [45, 45]
    assert table.loc[0, ["top-1", "lowest", "highest"]].tolist() == ["95.00", "90.00", "100.00"]
    low, high = wilson_interval(114, 120)
    assert table.loc[0, "95 % interval"] == f"{100 * low:.1f} … {100 * high:.1f}"


def test_a_fold_that_is_not_complete_does_not_count():
    runs = pd.concat([fold_rows(90.0), fold_rows(99.0, 10.0, state="unfinished")[1:]])
    assert folds_table(runs)["top-1"].tolist() == ["90.00"]


def test_clips_that_were_seen_before_are_left_out_by_name():
    scores = {"names": np.array(["a02_x", "a05_a02_", "a03_y", "a04_z"]),
              "labels": np.array([0, 0, 1, 1]), "scores": np.eye(2)[[0, 1, 0, 1]]}
    assert unseen_accuracy(scores, "^a0[23]_") == (50.0, 2)


def test_a_class_without_clips_has_a_dash():
    table = pd.DataFrame([{"class": "sit", "clips": 3, "accuracy": 100.0},
                          {"class": "wave", "clips": 0, "accuracy": float("nan")}])
    assert markdown_table(table).splitlines()[2:] == ["| sit | 3 | 100.0 |", "| wave | 0 | – |"]


# -- what has changed since

def note(folder, **more):
    "Adds entries to a run's record."
    write_record(folder, read_record(folder) | more)
    return folder


@pytest.mark.parametrize("known, changed", [
    ({}, "code"), ({"package_hash": "other"}, "code"), ({"code_hash": "other"}, "code"),
    ({"package_hash": package_hash()}, "–"),
    ({"package_hash": package_hash(), "code_hash": "other"}, "–"),
    ({"package_hash": "other", "code_hash": code_hash("agcn", "graph")}, "–"),
    ({"package_hash": "other", "code_hash": code_hash("stgcn", "graph")}, "code"),
    ({"package_hash": "other", "code_hash": code_hash("agcn", "graph"), "device": "H100"}, "code"),
    ({"package_hash": "other", "code_hash": code_hash("agcn", "graph", gpu=True), "device": "H100"},
     "–")])
def test_a_row_says_whether_its_code_is_that_of_today(tmp_path, known, changed):
    note(make_run(tmp_path, replace(DEMO, data="gone"), 80), **known)
    assert table_of(tmp_path)["changed"].tolist() == [changed]


def noise(path, train):
    "A store of four clips of noise, of which these are trained on."
    def samples():
        for k in range(4):
            rng = np.random.default_rng(k)
            yield dict(name=f"c{k}", label=k % 2, joints=rng.uniform(1, 9, (1, 5, 17, 2)))

    source = Source("noise", "coco", ("a", "b"), {"train": train, "test": ["c3"]}, samples, 4, {})
    return open_store(write_store(path, source))


def test_a_row_says_whether_its_data_is_that_of_today_where_it_is_at_hand(tmp_path):
    store = noise(tmp_path / "noise.skel", ["c0", "c1"])
    folder = make_run(tmp_path / "runs", replace(DEMO, data=str(store.path)), 80)
    note(folder, package_hash=package_hash(), data_hash=data_hash(store))
    assert what_changed(folder) == []
    shutil.rmtree(store.path)
    assert what_changed(folder) == [], "what is not here cannot be compared"
    noise(store.path, ["c0", "c2"])
    assert what_changed(folder) == ["data"]
    assert table_of(tmp_path / "runs")["changed"].tolist() == ["data"]
    (store.path / "keypoint.npy").unlink()
    assert what_changed(folder) == [], "nor what cannot be opened"


def test_a_row_of_several_seeds_says_what_has_changed_for_any_that_counts(tmp_path):
    recipe = replace(DEMO, data="gone")
    note(make_run(tmp_path, recipe, 80), package_hash=package_hash())
    make_run(tmp_path, replace(recipe, seed=1))
    assert table_of(tmp_path)["changed"].tolist() == ["–"], "an unfinished seed does not count"
    make_run(tmp_path, replace(recipe, seed=2), 84)
    assert table_of(tmp_path)["changed"].tolist() == ["code"]


def test_a_sum_is_as_old_as_its_parts(tmp_path):
    whole = note(fused(tmp_path, "two-stream", 86), package_hash=package_hash())
    assert what_changed(whole) in ([], ["data"]), "its parts are elsewhere"
    for k, known in enumerate((package_hash(), "other")):
        recipe = replace(DEMO, data="gone", stream=("joint", "bone")[k])
        make_run(tmp_path, recipe, 80).rename(tmp_path / f"part {k}")
        note(tmp_path / f"part {k}", package_hash=known)
    assert what_changed(whole) == ["code"]
    note(tmp_path / "part 1", package_hash=package_hash())
    assert what_changed(whole) == []


# -- strict

def test_strict_names_every_gap(tmp_path):
    make_run(tmp_path, DEMO, 80)
    check_complete(collect_runs(tmp_path))
    make_run(tmp_path, replace(DEMO, seed=1))
    make_run(tmp_path, SMALL)
    with pytest.raises(ValueError, match="agcn_nw-ucla-xview_joint_s0_d is unfinished; run "
                                         "agcn_synthetic_joint_s1_d is unfinished: the command"):
        check_complete(collect_runs(tmp_path))


def test_strict_wants_all_folds_of_a_set(tmp_path):
    for k in (1, 2, 3, 5):
        make_run(tmp_path, replace(SMALL, data=f"sbu-fold{k}"), 80)
    with pytest.raises(ValueError, match="no run of agcn on sbu-fold4, joint, seed 0: the comm"):
        check_complete(collect_runs(tmp_path))
    make_run(tmp_path, replace(SMALL, data="sbu-fold4"), 80)
    check_complete(collect_runs(tmp_path))


def test_strict_wants_a_run(tmp_path):
    with pytest.raises(ValueError, match="there is no run"):
        check_complete(collect_runs(tmp_path))


def test_results_stand_among_those_of_papers_and_only_where_papers_have_some(tmp_path):
    for seed, right in enumerate([80, 90]):
        make_run(tmp_path, replace(SMALL, model="hcn", seed=seed), right)
    make_run(tmp_path, replace(SMALL, model="hcn", seed=2))                 # unfinished
    make_run(tmp_path, DEMO, 99)                                  # no paper has the built-in data
    table = papers_table(collect_runs(tmp_path))
    ours = table[table["source"] == "this book"]
    assert ours[["data", "result", "stream", "seeds", "top-1", "spread"]].values.tolist() == [
        ["nw-ucla-xview", "hcn", "joint", 2, "85.00", "5.00"]]
    assert table["data"].is_monotonic_increasing
    for _, rows in table.groupby("data"):
        assert rows["top-1"].astype(float).is_monotonic_decreasing


def test_the_mean_over_folds_stands_among_papers_and_a_single_fold_does_not(tmp_path):
    for fold, right in enumerate([100, 90], start=1):
        make_run(tmp_path, replace(SMALL, model="hcn", data=f"sbu-fold{fold}"), right)
    table = papers_table(collect_runs(tmp_path))
    ours = table[table["source"] == "this book"]
    assert ours[["data", "result", "top-1"]].values.tolist() == [["sbu", "hcn", "95.00"]]


def test_every_number_of_a_paper_has_a_source_and_is_for_a_set_of_the_catalogue():
    table = papers_table(collect_runs(project_root() / "nbs"))                   # no runs there
    assert len(table) > 10 and (table["source"].str.len() > 10).all()
    assert table["top-1"].astype(float).between(50, 100).all()
    sets = {name.split("-fold")[0] for name in CATALOGUE}
    assert set(table["data"]) <= sets


def test_a_folder_without_runs_has_tables_without_rows(tmp_path):
    runs = collect_runs(tmp_path)
    tables = [results_table(runs), folds_table(runs)]
    assert [len(table) for table in tables] == [0, 0]
    assert all(len(marked_table(table).splitlines()) == 2 for table in tables)


def test_passes_are_epochs_times_repeat_and_a_dash_where_the_parts_of_a_sum_differ(tmp_path):
    make_run(tmp_path, replace(DEMO, epochs=7, repeat=5), 80)
    make_run(tmp_path, replace(DEMO, epochs="7 + 9", repeat=5, stream="two-stream"), 80)
    assert table_of(tmp_path)["passes"].tolist() == [35, "–"]
