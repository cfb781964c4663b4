"""The catalogue: entries that fit their data, refusals by name, stores made once, own stores."""

import io
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from inspect import signature
from pathlib import Path

import numpy as np
import pytest

from skelbook.data import catalogue, synthetic
from skelbook.data.catalogue import (
    CATALOGUE,
    READERS,
    Entry,
    convert,
    find_entry,
    find_store,
    open_data,
    read_source,
    recognise,
)
from skelbook.data.origins import PUBLIC
from skelbook.data.small_sets import EXPECTED
from skelbook.data.store import Source, open_store, protocols, write_store
from skelbook.graph import find_layout

POSE = np.arange(34.).reshape(1, 1, 17, 2)


def source(*joints, **changes):
    "Clips a, b, … of class 0, 1, 0 …; the first half to train on."
    names = [chr(97 + i) for i in range(len(joints))]
    half = len(names) // 2
    samples = [dict(name=name, label=i % 2, joints=x, image_size=(80, 60),
                    scores=np.ones(x.shape[:3]))
               for i, (name, x) in enumerate(zip(names, joints, strict=True))]
    return Source(**dict(name="toy", layout="coco", classes=("wave", "sit"), dtype=np.float32,
                         splits={"train": names[:half], "test": names[half:]}, count=len(names),
                         samples=lambda: iter(samples), origin={"file": "toy", "sha256": "0"})
                  | changes)


def moving(seed, frames=12):
    "A pose that moves a little, (1, T, 17, 2)."
    rng = np.random.default_rng(seed)
    return 20 + POSE / 2 + rng.normal(0, 0.5, (1, frames, 17, 2))


CLEAN = source(*(moving(seed) for seed in range(4)))


@pytest.fixture
def root(tmp_path, monkeypatch):
    "A project without any store."
    monkeypatch.setattr(catalogue, "project_root", lambda: tmp_path)
    return tmp_path


@pytest.fixture
def toy(root, monkeypatch):
    "An entry whose reader counts how often it is asked."
    asked = []

    def read(path):
        asked.append(path)
        return replace(CLEAN, origin={"sha256": catalogue.file_hash(path)})
    monkeypatch.setitem(READERS, "toy", read)
    entry = Entry("toy.skel", "train", "test", "coco", 2, 1, ("toy/clips.zip",), "toy", "ask me")
    monkeypatch.setitem(CATALOGUE, "toy", entry)
    return asked


def bring(folder):
    (folder / "toy").mkdir()
    (folder / "toy" / "clips.zip").write_text("clips")


# -- the entries

@pytest.mark.parametrize("name", CATALOGUE)
def test_entries_have_a_layout_two_splits_and_a_reader(name):
    entry = CATALOGUE[name]
    find_layout(entry.layout)
    assert (entry.train, entry.test) in protocols([entry.train, entry.test]).values()
    assert entry.num_classes >= 2 and entry.persons in (1, 2)
    assert entry.store.endswith(".skel") and entry.reader in READERS


def test_a_store_belongs_to_one_file():
    files = {}
    for entry in CATALOGUE.values():
        assert files.setdefault(entry.store, entry.files) == entry.files


def test_entries_agree_with_their_readers():
    entry = CATALOGUE["synthetic"]
    assert entry.num_classes == len(synthetic.CLASSES)
    assert {entry.train, entry.test} < set(synthetic.split_names())
    stores = {entry.store.removesuffix(".skel") for entry in CATALOGUE.values()}
    assert set(EXPECTED) | set(PUBLIC) <= stores


@pytest.mark.parametrize("name", sorted(READERS.keys() - {"store", "synthetic", "synthetic-2d"}))
def test_every_reader_is_asked_in_the_same_way(name):
    words = list(signature(READERS[name]).parameters)
    assert words[:4] == ["path", "layout", "classes", "progress"]


def test_every_name_of_the_plan_is_there():
    names = ["nw-ucla-xview", "utd-mhad-xsub", "penn-action", "coco17-16", "ntu60-xsub-2d",
             "ntu60-xsub-3d", "ntu60-xview-2d", "ntu60-xview-3d", "ntu120-xsub-2d",
             "ntu120-xsub-3d", "ntu120-xset-2d", "ntu120-xset-3d", "gym", "k400", "diving48",
             *(f"{name}-split{k}" for name in ("ucf101", "hmdb51") for k in (1, 2, 3)),
             *(f"sbu-fold{k}" for k in range(1, 6))]
    assert set(names) | {"synthetic", "synthetic-2d"} == set(CATALOGUE)


def test_the_built_in_data_in_pictures_is_what_the_detector_finds():
    source = READERS["synthetic-2d"](None)
    assert (source.layout, source.count, source.splits) == ("coco", 2304, synthetic.split_names())
    sample = next(iter(source.samples()))
    joints, scores = synthetic.make_clip_2d(sample["name"])
    np.testing.assert_array_equal(sample["joints"], joints)
    np.testing.assert_array_equal(sample["scores"], scores)
    assert sample["image_size"] == (1080, 1920) and joints.shape[2:] == (17, 2)
    entry = CATALOGUE["synthetic-2d"]
    assert entry.store != CATALOGUE["synthetic"].store
    assert {entry.train, entry.test} < set(source.splits)


# -- refusals

def test_unknown_names_get_the_nearest(root):
    with pytest.raises(ValueError, match="unknown data 'nw-ucla': did you mean 'nw-ucla-xview'?"):
        find_entry("nw-ucla")


def test_data_that_the_user_must_bring(toy, tmp_path):
    with pytest.raises(ValueError, match="toy/clips.zip is needed: ask me; then give -p data_root "
                                         "FOLDER, or run `python data_prep/convert.py FOLDER/toy/"
                                         "clips.zip outputs/data/toy.skel --reader toy`"):
        find_entry("toy")
    elsewhere = str(tmp_path / "else")
    with pytest.raises(ValueError, match=re.escape(f"is not below data_root={elsewhere!r}")):
        find_entry("toy", elsewhere)
    (tmp_path / "toy" / "clips.zip").mkdir(parents=True)           # a folder is not the file
    with pytest.raises(ValueError, match="is not below"):
        open_data("toy", tmp_path)


@pytest.mark.parametrize("name", ["ntu60-xsub-3d", "hmdb51-split2", "k400"])
def test_a_public_file_comes_with_its_commands(root, name):
    with pytest.raises(ValueError) as refusal:
        find_entry(name)
    store = CATALOGUE[name].store
    for words in (f"data_prep/fetch.py {store.removesuffix('.skel')} FOLDER", "size",
                  f"data_prep/convert.py FOLDER/{CATALOGUE[name].files[0]} outputs/data/{store}"):
        assert words in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_built_in_data_needs_nothing(root):
    assert find_entry("synthetic") is CATALOGUE["synthetic"]
    assert not any(root.iterdir())


# -- making a store once

def test_a_store_is_made_once_and_then_needs_no_files(toy, tmp_path):
    bring(tmp_path)
    log = io.StringIO()
    first = open_data("toy", tmp_path, log)
    assert "preparing toy" in log.getvalue()
    assert first.path == tmp_path / "outputs" / "data" / "toy.skel"
    (tmp_path / "toy" / "clips.zip").unlink()
    second = open_data("toy", log=log)
    assert second.clips.names.tolist() == first.clips.names.tolist() == ["a", "b", "c", "d"]
    assert len(toy) == 1


def test_another_file_under_the_same_name_is_noticed(toy, tmp_path):
    bring(tmp_path)
    open_data("toy", tmp_path, io.StringIO())
    (tmp_path / "toy" / "clips.zip").write_text("other clips")
    with pytest.raises(ValueError, match="clips.zip is not the file that toy.skel was made from"):
        open_data("toy", tmp_path, io.StringIO())
    assert len(open_data("toy").clips) == 4


def test_a_failed_build_leaves_no_store_and_may_be_repeated(toy, tmp_path, monkeypatch):
    bring(tmp_path)

    def fail(path):
        raise ValueError("clips.zip: file 3 is damaged")
    with monkeypatch.context() as patch:
        patch.setitem(READERS, "toy", fail)
        with pytest.raises(ValueError, match="file 3 is damaged"):
            open_data("toy", tmp_path)
    assert not (tmp_path / "outputs" / "data" / "toy.skel").exists()
    assert len(open_data("toy", tmp_path, io.StringIO()).clips) == 4


def test_two_first_users_make_it_once(toy, tmp_path):
    bring(tmp_path)
    with ThreadPoolExecutor(4) as users:
        stores = list(users.map(lambda _: open_data("toy", tmp_path, io.StringIO()), range(4)))
    assert [len(store.clips) for store in stores] == [4] * 4
    assert len(toy) == 1


def test_half_a_store_is_neither_opened_nor_overwritten(toy, tmp_path):
    bring(tmp_path)
    path = open_data("toy", tmp_path, io.StringIO()).path
    (path / "DONE").unlink()
    with pytest.raises(FileNotFoundError, match="incomplete"):
        open_data("toy", tmp_path, io.StringIO())


# -- stores of one's own

def test_the_path_of_a_store_is_a_name(root, tmp_path, monkeypatch):
    path = write_store(tmp_path / "mine.skel", CLEAN)
    entry = find_entry(str(path))
    assert (entry.train, entry.test, entry.num_classes, entry.persons) == ("train", "test", 2, 1)
    assert open_data(str(path)).path == path
    monkeypatch.chdir(tmp_path.parent)                       # from elsewhere, by the project's root
    assert find_store("mine.skel") == path
    assert open_data("mine.skel").path == path
    (tmp_path / "folder").mkdir()
    for name in ("yours.skel", str(tmp_path / "folder"), str(tmp_path / "folder#xsub")):
        with pytest.raises(ValueError, match="there is no complete store; data_prep/convert.py"):
            find_entry(name)


def test_a_store_with_several_protocols_asks_which(root, tmp_path):
    splits = {"xsub_train": ["a", "b"], "xsub_val": ["c"], "2train": ["a"], "2test": ["d"]}
    path = write_store(tmp_path / "mine.skel", replace(CLEAN, splits=splits))
    assert find_entry(f"{path}#xsub").test == "xsub_val"
    assert find_entry(f"{path}#2").test == "2test"
    with pytest.raises(ValueError, match="as in mine.skel#xsub .valid: xsub, 2"):
        find_entry(str(path))
    with pytest.raises(ValueError, match="did you mean 'xsub'"):
        find_entry(f"{path}#xsup")
    lonely = write_store(tmp_path / "lonely.skel", replace(CLEAN, splits={"all": ["a"]}))
    with pytest.raises(ValueError, match="no pair of splits to train and test on, only all"):
        find_entry(str(lonely))


# -- converting

def test_the_same_again_is_complete_and_another_is_refused(tmp_path):
    path = tmp_path / "a.skel"
    assert convert(CLEAN, path) == []
    before = path.stat().st_mtime_ns
    assert convert(CLEAN, path) is None
    for other in (replace(CLEAN, origin={"file": "toy", "sha256": "1"}),
                  replace(CLEAN, origin=CLEAN.origin | {"first_label": 1})):
        with pytest.raises(FileExistsError, match="was made from another source"):
            convert(other, path)
    with pytest.raises(FileExistsError, match="with other options"):
        convert(CLEAN, path, policy="drop")
    assert path.stat().st_mtime_ns == before


@pytest.mark.parametrize("make", [Path.mkdir, Path.touch])
def test_nobody_is_told_to_remove_what_is_no_store(tmp_path, make):
    make(tmp_path / "photos")
    with pytest.raises(FileExistsError, match="photos is there, and no store: choose another"):
        convert(CLEAN, tmp_path / "photos")


def test_policies_and_what_they_leave(tmp_path):
    hole = moving(9)
    hole[0, 3, 5] = np.nan
    faulty = source(hole, *(moving(seed) for seed in range(3)))
    with pytest.raises(ValueError, match="'a'|clip a"):
        convert(faulty, tmp_path / "error.skel")
    assert not (tmp_path / "error.skel").exists()
    convert(faulty, tmp_path / "drop.skel", "drop")
    dropped = open_store(tmp_path / "drop.skel")
    assert dropped.clips.names.tolist() == ["b", "c", "d"] and dropped.meta["changes"]
    convert(faulty, tmp_path / "fill.skel", "interpolate")
    filled = open_store(tmp_path / "fill.skel").clips
    assert len(filled) == 4 and np.isfinite(filled.joints).all()


def test_progress_counts_both_passes(tmp_path):
    seen = []
    convert(CLEAN, tmp_path / "a.skel", progress=lambda done, total: seen.append((done, total)))
    assert seen == [(k // 2, 4) for k in range(1, 9)]


# -- recognising

@pytest.mark.parametrize("names, reader", [
    (["clips.csv", "a.npy"], "plain"), (["labels.csv", "a"], "openpose"),
    (["train_data_joint.npy", "train_label.pkl"], "stgcn"), (["val_data.npy"], "stgcn"),
    (["kinetics_train", "kinetics_train_label.json"], "kinetics-json"),
    (["train.pkl", "val.pkl"], "annotations"), (["xsub", "xview"], "annotations")])
def test_folders_are_recognised_by_what_is_in_them(tmp_path, names, reader):
    for name in names:
        (tmp_path / name).touch()
    assert recognise(tmp_path) == reader


def test_files_and_stores_are_recognised(tmp_path):
    for name, reader in (("a.pkl", "annotations"), ("b.npz", "ctrgcn")):
        (tmp_path / name).touch()
        assert recognise(tmp_path / name) == reader
    path = write_store(tmp_path / "a.skel", CLEAN)
    assert recognise(path) == "store"
    assert read_source(path).count == 4
    with pytest.raises(ValueError, match="no known format; name it with --reader"):
        recognise(tmp_path)
    with pytest.raises(FileNotFoundError, match="nothing does not exist"):
        recognise(tmp_path / "nothing")
