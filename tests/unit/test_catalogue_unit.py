"""The catalogue: entries that fit their data, refusals by name, and stores made once."""

import io
import re
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from skelbook.data import catalogue, nw_ucla, synthetic
from skelbook.data.catalogue import CATALOGUE, Entry, find_entry, open_data, progress_printer
from skelbook.data.store import Source, write_store
from skelbook.graph import find_layout


@pytest.fixture
def root(tmp_path, monkeypatch):
    "A project without any store."
    monkeypatch.setattr(catalogue, "project_root", lambda: tmp_path)
    return tmp_path


def build(data_root, path, progress=None):
    "A store of one clip; the number of builds is kept beside it."
    count = path.parent / "builds"
    path.parent.mkdir(parents=True, exist_ok=True)
    count.write_text(count.read_text() + "x" if count.exists() else "x")
    samples = [dict(name="a", label=0, joints=np.zeros((1, 2, 17, 2)))]
    return write_store(path, Source("toy", "coco", ("wave",), {"train": ["a"], "test": []},
                                    lambda: iter(samples), 1, {}), progress)


@pytest.fixture
def toy(root, monkeypatch):
    entry = Entry("toy.skel", "train", "test", "coco", 1, 1, build, needs="toy/clips.zip")
    monkeypatch.setitem(CATALOGUE, "toy", entry)
    return entry


# -- the entries

@pytest.mark.parametrize("name", CATALOGUE)
def test_entries_have_a_layout_and_two_splits(name):
    entry = CATALOGUE[name]
    find_layout(entry.layout)
    assert entry.train != entry.test and entry.store.endswith(".skel")
    assert entry.num_classes >= 2 and entry.persons >= 1


def test_stores_are_shared_only_by_one_set():
    builders = {}
    for entry in CATALOGUE.values():
        assert builders.setdefault(entry.store, entry.build) is entry.build


def test_entries_agree_with_their_readers():
    entry = CATALOGUE["synthetic"]
    assert entry.num_classes == len(synthetic.CLASSES)
    assert {entry.train, entry.test} < set(synthetic.split_names())
    assert CATALOGUE["nw-ucla-xview"].num_classes == len(nw_ucla.ACTIONS)


# -- refusals

def test_unknown_names_get_the_nearest(root):
    with pytest.raises(ValueError, match="unknown data 'nw-ucla': did you mean 'nw-ucla-xview'?"):
        find_entry("nw-ucla")


def test_data_that_the_user_must_bring(toy, tmp_path):
    with pytest.raises(ValueError, match="data 'toy' needs toy/clips.zip: data_root is empty; "
                                         "give -p data_root FOLDER"):
        find_entry("toy")
    elsewhere = str(tmp_path / "else")
    with pytest.raises(ValueError, match=re.escape(f"not below data_root={elsewhere!r}; give")):
        find_entry("toy", elsewhere)
    (tmp_path / "toy" / "clips.zip").mkdir(parents=True)           # a folder is not the file
    with pytest.raises(ValueError, match="is not below"):
        open_data("toy", tmp_path)


def test_built_in_data_needs_nothing(root):
    assert find_entry("synthetic") is CATALOGUE["synthetic"]
    assert not any(root.iterdir())


# -- making a store once

def test_a_store_is_made_once_and_then_needs_no_files(toy, tmp_path):
    bring(tmp_path)
    log = io.StringIO()
    first = open_data("toy", tmp_path, log)
    assert log.getvalue() == "preparing toy: 1 of 1, 0 s left\n"
    assert first.path == tmp_path / "outputs" / "data" / "toy.skel"
    (tmp_path / "toy" / "clips.zip").unlink()
    second = open_data("toy", log=log)
    assert second.clips.names.tolist() == first.clips.names.tolist() == ["a"]
    assert (first.path.parent / "builds").read_text() == "x"


def bring(folder):
    (folder / "toy").mkdir()
    (folder / "toy" / "clips.zip").touch()


def test_a_failed_build_leaves_no_store_and_may_be_repeated(toy, tmp_path, monkeypatch):
    bring(tmp_path)

    def fail(data_root, path, progress=None):
        raise ValueError("clips.zip: file 3 is damaged")
    with monkeypatch.context() as patch:
        patch.setitem(CATALOGUE, "toy", Entry("toy.skel", "train", "test", "coco", 1, 1, fail))
        with pytest.raises(ValueError, match="file 3 is damaged"):
            open_data("toy", tmp_path)
    assert not (tmp_path / "outputs" / "data" / "toy.skel").exists()
    assert len(open_data("toy", tmp_path, io.StringIO()).clips) == 1


def test_two_first_users_make_it_once(toy, tmp_path):
    bring(tmp_path)
    with ThreadPoolExecutor(4) as users:
        stores = list(users.map(lambda _: open_data("toy", tmp_path, io.StringIO()), range(4)))
    assert [len(store.clips) for store in stores] == [1] * 4
    assert (stores[0].path.parent / "builds").read_text() == "x"


def test_half_a_store_is_neither_opened_nor_overwritten(toy, tmp_path):
    bring(tmp_path)
    path = open_data("toy", tmp_path, io.StringIO()).path
    (path / "DONE").unlink()
    with pytest.raises(FileExistsError, match="remove it first"):
        open_data("toy", tmp_path, io.StringIO())


# -- progress

def test_progress_says_how_long_the_rest_takes(monkeypatch):
    clock = iter([0.0, 1.0, 2.0, 3.0, 5.0, 5.5])
    monkeypatch.setattr(catalogue.time, "monotonic", clock.__next__)
    page = io.StringIO()
    progress = progress_printer("reading", page)
    for done in (10, 20, 30, 50, 55):
        progress(done, 55)
    assert page.getvalue().splitlines() == ["reading: 20 of 55, 4 s left",
                                            "reading: 50 of 55, 0 s left",
                                            "reading: 55 of 55, 0 s left"]
