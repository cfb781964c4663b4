"""`results.ipynb` as it is typed: tables of the runs of a folder, or, when strict, why not."""

import csv
from dataclasses import asdict, replace

import numpy as np
from terminal import in_pipe

from skelbook.learner.recipes import SMALL
from skelbook.learner.runs import package_hash, write_record, write_scores


def make_run(folder, seed, finished):
    "A run folder of two clips; its code was another one."
    settings = asdict(replace(SMALL, data="elsewhere", seed=seed))
    write_record(folder, {"settings": settings, "data_hash": "d", "num_parameters": 9, "seconds": 9,
                          "package_hash": package_hash() if seed else "other"})
    write_scores(folder, ["a", "b"], [0, 1], np.eye(2)[[0, 1 - seed]], ["sit", "run"])
    if finished:
        (folder / "DONE").touch()


def results(place, *more):
    "Status and errors of the command."
    status, _, err = in_pipe("nbs/results.ipynb", place / "copy.ipynb", "-p", "out", place / "out",
                             "-p", "runs", place / "runs", *more)
    return status, err


def test_strict_results_need_every_run_and_name_the_one_that_is_not_complete(tmp_path):
    make_run(tmp_path / "runs/first", 0, finished=True)
    make_run(tmp_path / "runs/second", 1, finished=False)
    status, err = results(tmp_path, "-p", "strict", "True")
    assert status == 1 and "ValueError: run second is unfinished" in err
    assert not (tmp_path / "out").exists()
    (tmp_path / "runs/second/DONE").touch()
    status, err = results(tmp_path, "-p", "strict", "True")
    assert status == 0, err[-3000:]
    with open(tmp_path / "out/tables/results.csv", newline="", encoding="utf-8") as file:
        row, = csv.DictReader(file)
    assert (row["seeds"], row["top-1"], row["changed"]) == ("2", "75.00", "code")
    said = "Since these runs were made, there were changes to the code that computes them"
    assert said in (tmp_path / "copy.ipynb").read_text()
