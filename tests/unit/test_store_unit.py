"""The store against damage, hostile files and hard cases."""

import json
import os
import pickle
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from skelbook.data import store as module
from skelbook.data.store import Clips, check_clips, collect_clips, open_store, write_store

ROOT = Path(__file__).resolve().parents[2]
ABOUT = dict(name="toy", layout="coco", classes=["wave", "hug"], source={"made": "here"})
SPLITS = {"train": ["c", "a"], "test": ["b"]}


def samples(scored=True):
    "Three clips of COCO joints with 1, 2 and 1 persons and 4, 3 and 1 frames."
    rng = np.random.default_rng(0)
    for name, label, m, t in (("a", 0, 1, 4), ("b", 1, 2, 3), ("c", 0, 1, 1)):
        more = dict(scores=rng.random((m, t, 17)), image_size=(100 + t, 200)) if scored else {}
        yield dict(name=name, label=label, joints=rng.random((m, t, 17, 2)), **more)


@pytest.fixture
def path(tmp_path):
    return write_store(tmp_path / "toy.skel", collect_clips(samples()), splits=SPLITS, **ABOUT)


def change_index(path, **changes):
    with np.load(path / "index.npz") as file:
        columns = dict(file) | changes
    np.savez(path / "index.npz", **columns)


# -- what comes back is what went in

@pytest.mark.parametrize("scored", [True, False])
@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_round_trip(tmp_path, scored, dtype):
    clips = collect_clips(samples(scored), dtype)
    store = open_store(write_store(tmp_path / "a.skel", clips, splits=SPLITS, **ABOUT))
    assert store.clips.joints.dtype == dtype
    for one, sample in enumerate(samples(scored)):
        want = sample["joints"].astype(dtype).astype(np.float32)
        assert np.array_equal(store.clips.clip(one), want)
        assert store.clips.names[one] == sample["name"]
    for name in ("joints", "scores", "num_persons", "num_frames", "labels", "names", "image_size"):
        assert np.array_equal(getattr(store.clips, name), getattr(clips, name)), name
    assert (store.clips.scores is None, store.clips.image_size is None) == (not scored, not scored)
    assert {split: numbers.tolist() for split, numbers in store.splits.items()} == {
        "train": [2, 0], "test": [1]}
    assert store.meta["classes"] == ABOUT["classes"] and store.meta["source"] == ABOUT["source"]


def test_scores_are_laid_flat_like_joints():
    clips = collect_clips(samples())
    want = np.concatenate([sample["scores"].reshape(-1, 17) for sample in samples()])
    assert np.array_equal(clips.scores, want.astype(np.float32))
    assert clips.image_size.tolist() == [[104, 200], [103, 200], [101, 200]]


def test_equal_clips_have_equal_content(tmp_path):
    meta = [open_store(write_store(tmp_path / f"{k}.skel", collect_clips(samples()), splits={},
                                   **ABOUT)).meta for k in range(2)]
    other = collect_clips(samples())
    other.joints[0, 0, 0] += 1
    changed = open_store(write_store(tmp_path / "o.skel", other, splits={}, **ABOUT)).meta
    assert meta[0]["content"] == meta[1]["content"] != changed["content"]


def test_a_clip_may_be_changed_without_touching_the_store(path):
    store = open_store(path)
    clip = store.clips.clip(1)
    clip += 1
    assert np.array_equal(store.clips.clip(1) + 1, clip)
    with pytest.raises(ValueError, match="read-only"):
        store.clips.joints[0] = 0


def test_names_in_other_scripts(tmp_path):
    one = dict(next(samples()), name="跳_ü")
    about = ABOUT | dict(name="été", classes=["wäve"])
    store = open_store(write_store(tmp_path / "a.skel", collect_clips([one]),
                                   splits={"all": ["跳_ü"]}, **about))
    assert (store.clips.names[0], store.meta["classes"]) == ("跳_ü", ["wäve"])


# -- what is not written

def clean(**changes):
    return replace(collect_clips(samples()), **changes)


def with_value(array, place, value):
    array = array.copy()
    array[place] = value
    return array


GOOD = collect_clips(samples())
FAULTS = {
    "clip 'b' has numbers that are not finite":
        dict(joints=with_value(GOOD.joints, (9, 16, 1), np.nan)),
    "clip 'c' has numbers that are not finite":
        dict(joints=with_value(GOOD.joints, (10, 0, 0), -np.inf)),
    "clip 'a' has numbers that are not finite":
        dict(scores=with_value(GOOD.scores, (0, 5), np.nan)),
    r"clip 'a' \(and 2 more\) has numbers": dict(joints=GOOD.joints * np.nan),
    "clip 'b' has a label outside 0 … 1": dict(labels=np.array([0, 2, 0])),
    "clip 'c' has a label outside 0 … 1": dict(labels=np.array([0, 1, -1])),
    r"clip 'a' \(and 1 more\) appears twice": dict(names=np.array(["a", "b", "a"])),
    r"clip 'c' has no person or no frame": dict(num_frames=np.array([5, 3, 0])),
    r"count \[11, 12\] rows": dict(num_frames=np.array([5, 3, 1])),
    r"count \[10, 11\] rows": dict(scores=GOOD.scores[:10]),
    r"columns count \[2, 3\] clips": dict(labels=np.array([0, 1])),
    r"\(16, 2\) where layout 'coco' has \(17, 2\)": dict(joints=GOOD.joints[:, :16]),
    r"\(17, 3\) where layout 'coco' has \(17, 2\)": dict(joints=np.zeros((11, 17, 3))),
    r"\(34,\) where layout": dict(joints=np.zeros((11, 34))),
}


@pytest.mark.parametrize("message", FAULTS)
def test_faults_are_named_and_nothing_is_written(tmp_path, message):
    with pytest.raises(ValueError, match=message):
        write_store(tmp_path / "a.skel", clean(**FAULTS[message]), splits=SPLITS, **ABOUT)
    assert os.listdir(tmp_path) == []


def test_no_coordinate_of_half_precision_overflows_unseen():
    one = dict(next(samples()), joints=np.full((1, 4, 17, 2), 1e6))
    with np.errstate(over="ignore"), pytest.raises(ValueError, match="not finite"):
        check_clips(collect_clips([one], np.float16), "coco", ["wave"])


def test_unknown_layout_and_no_clip():
    with pytest.raises(ValueError, match="did you mean 'coco'"):
        check_clips(GOOD, "cocco", ["wave", "hug"])
    with pytest.raises(ValueError, match="no clip"):
        collect_clips(iter(()))


@pytest.mark.parametrize("splits, message", [
    ({"train": ["a", "d"]}, "split 'train' names clip 'd', which is not in the data"),
    ({"train": ["a"], "test": ["b", "a", "b"]}, "split 'test' names a clip twice"),
])
def test_wrong_splits_are_refused(tmp_path, splits, message):
    with pytest.raises(ValueError, match=message):
        write_store(tmp_path / "a.skel", clean(), splits=splits, **ABOUT)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("kind", [Path.mkdir, Path.touch])
def test_whatever_is_there_stays(tmp_path, kind):
    kind(tmp_path / "a.skel")
    with pytest.raises(FileExistsError, match="never overwritten"):
        write_store(tmp_path / "a.skel", clean(), splits=SPLITS, **ABOUT)


def test_a_full_disk_leaves_nothing(tmp_path, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")
    monkeypatch.setattr(module.np, "savez", full)
    with pytest.raises(OSError, match="No space left"):
        write_store(tmp_path / "a.skel", clean(), splits=SPLITS, **ABOUT)
    assert os.listdir(tmp_path) == []


def test_remains_of_a_killed_process_do_not_disturb(tmp_path):
    left = tmp_path / f".a.skel-{os.getpid()}"
    left.mkdir()
    (left / "score.npy").write_text("half")
    path = write_store(tmp_path / "a.skel", clean(scores=None), splits=SPLITS, **ABOUT)
    assert "score.npy" not in os.listdir(path)
    assert os.listdir(tmp_path) == ["a.skel"]


def test_the_slower_of_two_writers_changes_nothing(tmp_path, monkeypatch):
    path, write = tmp_path / "a.skel", module._write_arrays

    def overtaken(folder, clips):
        monkeypatch.setattr(module, "_write_arrays", write)
        write_store(path, clean(labels=np.array([1, 1, 1])), splits={}, **ABOUT)
        return write(folder, clips)
    monkeypatch.setattr(module, "_write_arrays", overtaken)
    monkeypatch.setattr(module.os, "getpid", iter([1, 2]).__next__)
    with pytest.raises(OSError):
        write_store(path, clean(), splits=SPLITS, **ABOUT)
    assert open_store(path).clips.labels.tolist() == [1, 1, 1]
    assert os.listdir(tmp_path) == ["a.skel"]


# -- what is not opened

def test_missing_and_incomplete_stores(tmp_path, path):
    with pytest.raises(FileNotFoundError, match="does not exist"):
        open_store(tmp_path / "no.skel")
    (path / "DONE").unlink()
    with pytest.raises(FileNotFoundError, match="incomplete .* remove it and prepare"):
        open_store(str(path))


@pytest.mark.parametrize("file", ["keypoint.npy", "score.npy", "index.npz", "splits.json",
                                  "meta.json"])
@pytest.mark.parametrize("left", [None, 0.0, 0.04, 0.5, 0.99])
def test_every_file_that_is_missing_or_cut_is_noticed(path, file, left):
    content = (path / file).read_bytes()
    (path / file).unlink()
    if left is not None:
        (path / file).write_bytes(content[:int(left * len(content))])
    with pytest.raises(ValueError, match=r"toy.skel is damaged \(.*\): remove it and prepare"):
        open_store(path)


@pytest.mark.parametrize("changes, message", [
    (dict(offset=np.array([0, 4, 9, 11])), "the offsets are not those"),
    (dict(offset=np.array([0, 4, 10])), "the offsets are not those"),
    (dict(total_frames=np.array([4, 3, 2], np.int32)), r"count \[11, 12\] rows"),
    (dict(num_person=np.array([1, 1, 1], np.int16)), r"count \[8, 11\] rows"),
    (dict(total_frames=np.array([3, 3, 2], np.int32)), "the offsets are not those"),
    (dict(label=np.array([0])), r"columns count \[1, 3\] clips"),
    (dict(name=np.array(["a", "b"])), r"columns count \[2, 3\] clips"),
    (dict(img_h=np.array([1, 2])), "same shape"),
])
def test_index_that_does_not_fit(path, changes, message):
    change_index(path, **changes)
    with pytest.raises(ValueError, match=message):
        open_store(path)


@pytest.mark.parametrize("file", ["keypoint.npy", "score.npy"])
def test_rows_that_do_not_fit(path, file):
    np.save(path / file, np.load(path / file)[:-1])
    with pytest.raises(ValueError, match=r"count \[10, 11\] rows"):
        open_store(path)


@pytest.mark.parametrize("numbers", [[3], [-1], [0, 99]])
def test_splits_that_do_not_fit(path, numbers):
    (path / "splits.json").write_text(json.dumps({"train": numbers}))
    with pytest.raises(ValueError, match="split 'train' counts beyond the 3 clips"):
        open_store(path)


def test_formats_of_the_future_are_refused(path):
    meta = json.loads((path / "meta.json").read_text())
    (path / "meta.json").write_text(json.dumps(meta | {"format_version": 2}))
    with pytest.raises(ValueError, match="its format is 2, this version reads 1"):
        open_store(path)


class Bomb:
    "Unpickling it writes a file."

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (str(self.mark),)


@pytest.mark.parametrize("file", ["keypoint.npy", "score.npy", "index.npz"])
def test_pickles_inside_arrays_are_never_run(path, tmp_path, file):
    bomb = np.empty(3, object)
    bomb[:] = [Bomb(tmp_path / "ran")] * 3
    if file.endswith("npz"):
        change_index(path, name=bomb)
    else:
        np.save(path / file, bomb, allow_pickle=True)
    with pytest.raises(ValueError, match="is damaged"):
        open_store(path)
    assert not (tmp_path / "ran").exists()


def test_names_from_a_table_of_objects_are_stored_as_text(tmp_path):
    clips = clean(names=np.array(["a", "b", "c"], object), labels=np.array([0, 1, 0], object))
    store = open_store(write_store(tmp_path / "b.skel", clips, splits=SPLITS, **ABOUT))
    assert store.clips.names.tolist() == ["a", "b", "c"]
    assert (store.clips.names.dtype.kind, store.clips.labels.dtype) == ("U", np.int32)


# -- across processes

def test_a_spawned_process_maps_the_same_file(path, tmp_path):
    clips = open_store(path).clips
    letter = pickle.dumps(clips)
    assert len(letter) < 3000 and clips.joints.tobytes()[:64] not in letter
    (tmp_path / "letter").write_bytes(letter)
    code = ("import pickle, sys; clips = pickle.load(open(sys.argv[1], 'rb'))\n"
            "print(type(clips.joints).__name__, clips.joints.flags.writeable, clips.scores.shape)\n"
            "print(clips.clip(1).astype(float).sum().hex())")
    out = subprocess.run([sys.executable, "-c", code, tmp_path / "letter"], cwd=ROOT, check=True,
                         capture_output=True, text=True).stdout
    assert out.split("\n")[:2] == ["memmap False (11, 17)",
                                   clips.clip(1).astype(float).sum().hex()]


def test_the_way_there_does_not_matter(path, tmp_path, monkeypatch):
    monkeypatch.chdir(path.parent)
    letter = pickle.dumps(open_store("toy.skel").clips)
    monkeypatch.chdir(ROOT)
    assert np.array_equal(pickle.loads(letter).joints, np.load(path / "keypoint.npy"))


@pytest.mark.parametrize("part", [lambda x: x[2:5], lambda x: x[:, :, :1], lambda x: x[::2],
                                  lambda x: x.astype(np.float64), lambda x: x + 1])
def test_a_part_of_a_map_travels_as_numbers(path, part):
    joints = part(open_store(path).clips.joints)
    clips = Clips(joints, *[np.zeros(1)] * 4)
    assert np.array_equal(pickle.loads(pickle.dumps(clips)).joints, joints)


def test_clips_in_memory_travel_too():
    again = pickle.loads(pickle.dumps(GOOD))
    assert np.array_equal(again.clip(1), GOOD.clip(1)) and again.names.tolist() == ["a", "b", "c"]


# -- large numbers

def test_offsets_do_not_overflow():
    many = Clips(np.zeros((0, 17, 2)), np.full(3, 30_000, np.int16), np.full(3, 100_000, np.int32),
                 np.zeros(3), np.array(["a", "b", "c"]))
    assert many.offset.tolist() == [0, 3 * 10**9, 6 * 10**9, 9 * 10**9]
