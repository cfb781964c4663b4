"""Every real set by its name: from the archive to one epoch of a tiny network and its scores."""

import io
import os
from dataclasses import replace
from pathlib import Path

import pytest

import skelbook.data.catalogue as catalogue
import skelbook.learner.train as training
from skelbook.core import project_root
from skelbook.data.catalogue import CATALOGUE
from skelbook.data.small_sets import EXPECTED
from skelbook.evaluate.clips import score_run
from skelbook.learner.recipes import plan

ROOT = Path(os.environ.get("SKELBOOK_DATA", project_root().parent / "shared" / "data"))
NAMES = ["sbu-fold3"] + [name for name, entry in CATALOGUE.items() if entry.reader not in
                         ("annotations", "synthetic", "synthetic-2d", "sbu")]


@pytest.mark.parametrize("name", NAMES)
def test_a_real_set_trains_by_its_name(name, tmp_path, monkeypatch):
    entry = CATALOGUE[name]
    if not any((ROOT / file).is_file() for file in entry.files):
        pytest.skip(f"{' or '.join(entry.files)} is not below {ROOT.name}: data is not shipped")
    for module in (catalogue, training):
        monkeypatch.setattr(module, "project_root", lambda: tmp_path)      # no store is there yet
    planned = plan(data=name, data_root=str(ROOT), out=str(tmp_path / "run"), epochs=1)
    tiny = replace(planned.recipe, width=4, depth=5, clip_len=8, batch=64, clips=2)
    log = io.StringIO()
    setup = training.prepare_run(replace(planned, recipe=tiny), log=log)
    assert f"preparing {name}" in log.getvalue()
    expected = EXPECTED[entry.store.removesuffix(".skel")]["splits"]
    assert {split: len(setup.store.splits[split]) for split in setup.splits} == {
        split: expected[split] for split in setup.splits}
    rows = training.train(setup, lambda line: None)
    scores = score_run(setup)
    assert len(rows) == 1 and len(scores["labels"]) == expected[entry.test]
    assert scores["classes"].tolist() == setup.store.meta["classes"]
