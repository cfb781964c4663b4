"""The store against damage, hostile files and hard cases."""

import io
import json
import os
import pickle
import platform
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from skelbook.data import store as module
from skelbook.data.store import (
    Clips,
    Source,
    collect_clips,
    open_store,
    protocols,
    verify_store,
    write_store,
)
from skelbook.graph import Layout

ROOT = Path(__file__).resolve().parents[2]
SPLITS = {"train": ["c", "a"], "test": ["b"]}
FILES = ["keypoint.npy", "score.npy", "index.npz", "splits.json", "meta.json"]


def samples(scored=True):
    "Three clips of COCO joints with 1, 2 and 1 persons and 4, 3 and 1 frames."
    rng = np.random.default_rng(0)
    for name, label, m, t in (("a", 0, 1, 4), ("b", 1, 2, 3), ("c", 0, 1, 1)):
        more = dict(scores=rng.random((m, t, 17)), image_size=(100 + t, 200)) if scored else {}
        yield dict(name=name, label=label, joints=rng.random((m, t, 17, 2)), **more)


def source(clips=None, **changes):
    "The three clips, or others, as a source."
    clips = list(samples() if clips is None else clips)
    parts = dict(name="toy", layout="coco", classes=("wave", "hug"), splits=SPLITS,
                 samples=lambda: iter(clips), count=len(clips), origin={"made": "here"},
                 dtype=np.float32)
    return Source(**(parts | changes))


def changed(which, **changes):
    "The three clips, one of them with changes; a change of None takes the key away."
    for sample in samples():
        if sample["name"] == which:
            sample = {k: v for k, v in (sample | changes).items() if v is not None}
        yield sample


def with_value(array, place, value):
    array = array.copy()
    array[place] = value
    return array


@pytest.fixture
def path(tmp_path):
    return write_store(tmp_path / "toy.skel", source())


def change_index(path, **changes):
    with np.load(path / "index.npz") as file:
        columns = dict(file) | changes
    np.savez(path / "index.npz", **columns)


# -- what comes back is what went in

@pytest.mark.parametrize("scored", [True, False])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_round_trip(tmp_path, scored, dtype):
    clips = collect_clips(samples(scored), dtype)
    store = open_store(write_store(tmp_path / "a.skel", source(samples(scored), dtype=dtype)))
    assert store.clips.joints.dtype == dtype and store.meta["dtype"] == np.dtype(dtype).name
    for one, sample in enumerate(samples(scored)):
        want = sample["joints"].astype(dtype).astype(np.float32)
        assert np.array_equal(store.clips.clip(one), want)
        assert store.clips.names[one] == sample["name"]
    for name in ("joints", "scores", "num_persons", "num_frames", "labels", "names", "image_size"):
        assert np.array_equal(getattr(store.clips, name), getattr(clips, name)), name
    assert (store.clips.scores is None, store.clips.image_size is None) == (not scored, not scored)
    assert {split: numbers.tolist() for split, numbers in store.splits.items()} == {
        "train": [2, 0], "test": [1]}
    assert store.meta["classes"] == ["wave", "hug"] and store.meta["source"] == {"made": "here"}


def test_a_stream_is_stored_byte_for_byte_as_arrays_are(path, tmp_path):
    clips = collect_clips(samples())
    np.save(tmp_path / "joints.npy", clips.joints)
    np.save(tmp_path / "scores.npy", clips.scores)
    np.savez(tmp_path / "index.npz", offset=clips.offset, num_person=clips.num_persons,
             total_frames=clips.num_frames, label=clips.labels, name=clips.names,
             img_h=clips.image_size[:, 0], img_w=clips.image_size[:, 1])
    pairs = {"keypoint.npy": "joints.npy", "score.npy": "scores.npy", "index.npz": "index.npz"}
    for made, saved in pairs.items():
        assert (path / made).read_bytes() == (tmp_path / saved).read_bytes(), made


@pytest.mark.parametrize("shape", [(25, 3), (17,), (133, 2)])
def test_the_head_has_room_for_any_number_of_rows(shape):
    file, sizes = io.BytesIO(), []
    for count in (0, 1, np.int64(4_590_000), 10 ** 15):
        module._write_head(file, count, np.zeros((2, 9, *shape), np.float16))
        sizes.append(file.tell())
        file.seek(0)
        np.lib.format.read_magic(file)
        assert np.lib.format.read_array_header_1_0(file) == ((count, *shape), False, np.float16)
    assert len(set(sizes)) == 1


def test_rows_in_any_order_of_memory(tmp_path):
    joints = np.random.default_rng(0).random((2, 17, 3, 2)).swapaxes(1, 2)
    one = dict(name="a", label=0, joints=joints)
    store = open_store(write_store(tmp_path / "a.skel", source([one], splits={})))
    assert np.array_equal(store.clips.clip(0), joints.astype(np.float32))


def test_writing_takes_no_more_memory_than_a_few_clips(tmp_path):
    count, one = 3000, np.ones((1, 100, 17, 2), np.float32)

    def many():
        return (dict(name=f"{i:05}", label=0, joints=one + i) for i in range(count))
    tracemalloc.start()
    path = write_store(tmp_path / "a.skel", source((), samples=many, count=count, splits={}))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (path / "keypoint.npy").stat().st_size > count * one.nbytes > 40e6 > 10 * peak


def test_equal_clips_have_equal_content(tmp_path):
    same = [open_store(write_store(tmp_path / f"{k}.skel", source(splits=splits))).meta["content"]
            for k, splits in enumerate(({}, SPLITS))]
    other = source(changed("b", label=0))
    assert same[0] == same[1] != open_store(write_store(tmp_path / "o", other)).meta["content"]


def test_a_clip_may_be_changed_without_touching_the_store(path):
    store = open_store(path)
    clip = store.clips.clip(1)
    clip += 1
    assert np.array_equal(store.clips.clip(1) + 1, clip)
    with pytest.raises(ValueError, match="read-only"):
        store.clips.joints[0] = 0


def test_names_in_other_scripts(tmp_path):
    one = dict(next(samples()), name="跳_ü")
    made = source([one], name="été", classes=["wäve"], splits={"all": ["跳_ü"]})
    store = open_store(write_store(tmp_path / "a.skel", made))
    assert (store.clips.names[0], store.meta["classes"]) == ("跳_ü", ["wäve"])


def test_a_store_is_a_source_again(path, tmp_path):
    store = open_store(path)
    again = store.source()
    assert (again.name, again.classes, again.count) == ("toy", ("wave", "hug"), 3)
    assert again.splits == SPLITS and again.origin == {"made": "here"}
    for made, sample in zip(again.samples(), samples(), strict=True):
        assert made.keys() == sample.keys()
        assert (made["name"], made["label"]) == (sample["name"], sample["label"])
        assert np.array_equal(made["joints"], sample["joints"].astype(np.float32))
        assert np.array_equal(made["scores"], sample["scores"].astype(np.float32))
        assert made["image_size"] == sample["image_size"]
    copy = write_store(tmp_path / "copy.skel", again)
    assert all((copy / file).read_bytes() == (path / file).read_bytes() for file in FILES)


def test_a_layout_of_ones_own_is_kept_with_the_data(tmp_path):
    arm = Layout("arm", ("shoulder", "elbow", "hand"), ((1, 0), (2, 1)), centre=0, dims=2)
    one = dict(name="a", label=0, joints=np.ones((1, 2, 3, 2)))
    store = open_store(write_store(tmp_path / "a.skel", source([one], layout=arm, splits={})))
    assert store.layout == store.source().layout == arm
    assert open_store(write_store(tmp_path / "b.skel", store.source())).layout == arm
    meta = json.loads((tmp_path / "a.skel" / "meta.json").read_text())
    assert meta["layout"]["joints"] == ["shoulder", "elbow", "hand"]


def test_changes_are_on_record(tmp_path):
    path = write_store(tmp_path / "a.skel", source(), changes={"dropped": ["d"]})
    assert open_store(path).meta["changes"] == {"dropped": ["d"]}


def test_progress_counts_every_clip(tmp_path):
    seen = []
    write_store(tmp_path / "a.skel", source(), progress=lambda *counts: seen.append(counts))
    assert seen == [(1, 3), (2, 3), (3, 3)]


def test_a_source_of_many_is_not_asked_for_more_than_once(tmp_path):
    asked = []

    def once():
        asked.append(1)
        return samples()
    write_store(tmp_path / "a.skel", source(samples=once))
    assert asked == [1]


# -- protocols

@pytest.mark.parametrize("splits, pairs", [
    (["xsub_train", "xsub_val", "xset_train", "xset_val"],
     {"xsub": ("xsub_train", "xsub_val"), "xset": ("xset_train", "xset_val")}),
    (["train1", "test1", "train2"], {"1": ("train1", "test1")}),
    (["train", "val", "test"], {"": ("train", "val")}),
    (["train", "test"], {"": ("train", "test")}),
    (["train-a", "test-a"], {"a": ("train-a", "test-a")}),
    (["all"], {}),
    ([], {}),
])
def test_protocols_are_pairs_of_splits(splits, pairs):
    assert protocols(splits) == protocols(dict.fromkeys(splits, [])) == pairs


# -- what is not written

B = list(samples())[1]
FAULTS = {
    "clip 'b' has numbers that are not finite in float32":
        changed("b", joints=with_value(B["joints"], (1, 2, 16, 1), np.nan)),
    "clip 'c' has numbers that are not finite":
        changed("c", joints=np.full((1, 1, 17, 2), -np.inf)),
    "clip 'a' has numbers that are not finite": changed("a", scores=np.full((1, 4, 17), np.nan)),
    "clip 'b' has label 2, outside 0 … 1": changed("b", label=2),
    "clip 'c' has label -1, outside 0 … 1": changed("c", label=-1),
    "clip 'c' has label 0.5, outside": changed("c", label=0.5),
    "clip 'c' has label '1', outside": changed("c", label="1"),
    "clip 'a' appears twice: names must be unique": changed("c", name="a"),
    "clip 'c' has 1 persons and 0 frames: leave it out":
        changed("c", joints=np.zeros((1, 0, 17, 2)), scores=np.zeros((1, 0, 17))),
    "clip 'c' has 0 persons and 1 frames": changed("c", joints=np.zeros((0, 1, 17, 2))),
    "clip 'b' claims 4 frames and has 3": changed("b", num_frames=4),
    r"clip 'b' has scores of shape \(2, 2, 17\), expected \(2, 3, 17\)":
        changed("b", scores=np.zeros((2, 2, 17))),
    r"clip 'b' has image_size of shape \(3,\), expected \(2,\)":
        changed("b", image_size=(1, 2, 3)),
    "clip 'b' and clip 'a' differ in having scores": changed("b", scores=None),
    "clip 'c' and clip 'a' differ in having image_size": changed("c", image_size=None),
    r"clip 'a' has joints of shape \(1, 4, 16, 2\) where the layout asks for "
    r"\(persons, frames, 17, 2\)": changed("a", joints=np.zeros((1, 4, 16, 2))),
    r"clip 'b' has joints of shape \(2, 3, 17, 3\) where":
        changed("b", joints=np.zeros((2, 3, 17, 3))),
    r"clip 'b' has joints of shape \(3, 34\) where": changed("b", joints=np.zeros((3, 34))),
}
FAULTS = {message: list(clips) for message, clips in FAULTS.items()}


@pytest.mark.parametrize("message", FAULTS)
def test_faults_are_named_and_nothing_is_written(tmp_path, message):
    with pytest.raises(ValueError, match=message):
        write_store(tmp_path / "a.skel", source(FAULTS[message]))
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("largest, dtype, fits", [
    (65504, np.float16, True), (65520, np.float16, False), (1e6, np.float16, False),
    (1e6, np.float32, True), (1e39, np.float32, False), (1e39, np.float64, True)])
@pytest.mark.filterwarnings("error")
def test_a_coordinate_that_overflows_is_refused_and_named(tmp_path, largest, dtype, fits):
    made = source(changed("b", joints=with_value(B["joints"], (0, 0, 0, 0), largest)), dtype=dtype)
    if fits:
        largest = dtype(largest)
        assert open_store(write_store(tmp_path / "a.skel", made)).clips.joints.max() == largest
        return
    with pytest.raises(ValueError, match="clip 'b' has numbers that are not finite in float"):
        write_store(tmp_path / "a.skel", made)


def test_unknown_layout_and_no_clip(tmp_path):
    with pytest.raises(ValueError, match="did you mean 'coco'"):
        write_store(tmp_path / "a.skel", source(layout="cocco"))
    with pytest.raises(ValueError, match="no clip"):
        write_store(tmp_path / "a.skel", source(()))
    with pytest.raises(ValueError, match="no clip"):
        collect_clips(iter(()))
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("splits, message", [
    ({"train": ["a", "d"]}, "split 'train' names clip 'd', which is not in the data"),
    ({"train": ["a"], "test": ["b", "a", "b"]}, "split 'test' names clip 'b' 2 times"),
])
def test_wrong_splits_are_refused(tmp_path, splits, message):
    with pytest.raises(ValueError, match=message):
        write_store(tmp_path / "a.skel", source(splits=splits))
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("kind", [Path.mkdir, Path.touch])
def test_whatever_is_there_stays(tmp_path, kind):
    kind(tmp_path / "a.skel")
    with pytest.raises(FileExistsError, match="never overwritten"):
        write_store(tmp_path / "a.skel", source())
    assert os.listdir(tmp_path) == ["a.skel"]


def test_a_full_disk_leaves_nothing(tmp_path, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")
    monkeypatch.setattr(module.np, "savez", full)
    with pytest.raises(OSError, match="No space left"):
        write_store(tmp_path / "a.skel", source())
    assert os.listdir(tmp_path) == []


def test_an_interruption_in_the_middle_leaves_nothing(tmp_path):
    there = []

    def interrupt(done, total):
        there.extend(os.listdir(tmp_path))
        if done == 2:
            raise KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt):
        write_store(tmp_path / "a.skel", source(), progress=interrupt)
    assert len(there) == 2 and there[0].startswith(".a.skel-")
    assert os.listdir(tmp_path) == []


def test_a_reader_that_fails_in_the_middle_leaves_nothing(tmp_path):
    def broken():
        yield next(samples())
        raise ValueError("clips.zip: file 2 is damaged")
    with pytest.raises(ValueError, match="file 2 is damaged"):
        write_store(tmp_path / "a.skel", source(samples=broken))
    assert os.listdir(tmp_path) == []


# -- what other processes left behind

def left_behind(folder, pid, host=None, store="a.skel"):
    "A half-written store of another process."
    left = folder / f".{store}-{host or platform.node()}-{pid}"
    left.mkdir()
    (left / "score.npy").write_text("half")
    return left.name


def test_remains_of_dead_processes_are_cleared(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    for pid in (process.pid, 10 ** 20, os.getpid()):      # the last: an earlier life in a container
        left_behind(tmp_path, pid)
    path = write_store(tmp_path / "a.skel", source(samples(scored=False)))
    assert os.listdir(tmp_path) == ["a.skel"] and not (path / "score.npy").exists()


def test_folders_of_living_processes_other_machines_and_other_stores_stay(tmp_path, monkeypatch):
    monkeypatch.setattr(module.platform, "node", lambda: "gpu")
    dead = 2 ** 22 + 1                                    # above the largest number of Linux
    kept = {left_behind(tmp_path, os.getppid()), left_behind(tmp_path, 1),
            left_behind(tmp_path, dead, host="far"), left_behind(tmp_path, dead, host="gpu-1"),
            left_behind(tmp_path, dead, store="b.skel")}
    write_store(tmp_path / "a.skel", source())
    assert set(os.listdir(tmp_path)) == kept | {"a.skel"}


def test_names_with_signs_of_the_shell_clear_nothing_else(tmp_path):
    kept = left_behind(tmp_path, 2 ** 22 + 1, store="ab")
    write_store(tmp_path / "[ab]*", source())
    assert set(os.listdir(tmp_path)) == {kept, "[ab]*"}


def test_the_slower_of_two_writers_changes_nothing(tmp_path, monkeypatch):
    path, write = tmp_path / "a.skel", module._write_arrays

    def overtaken(*args):
        monkeypatch.setattr(module, "_write_arrays", write)
        monkeypatch.setattr(module.os, "getpid", os.getppid)
        write_store(path, source(changed("a", label=1)))
        return write(*args)
    monkeypatch.setattr(module, "_write_arrays", overtaken)
    with pytest.raises(FileExistsError, match="a.skel was written by another process"):
        write_store(path, source())
    assert open_store(path).clips.labels.tolist() == [1, 1, 0]
    assert os.listdir(tmp_path) == ["a.skel"]


# -- what is not opened

@pytest.mark.parametrize("text", ["[1]", "7", "null", '{"a": {"b": 1}}', '{"a": [99]}', '{"a": '])
def test_splits_written_by_hand_are_refused_in_one_line(path, text):
    (path / "splits.json").write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match="store .* is damaged"):
        open_store(path)


def test_missing_and_incomplete_stores(tmp_path, path):
    with pytest.raises(FileNotFoundError, match="does not exist"):
        open_store(tmp_path / "no.skel")
    (path / "DONE").unlink()
    with pytest.raises(FileNotFoundError, match="incomplete .* remove it and prepare"):
        open_store(str(path))


@pytest.mark.parametrize("file", FILES)
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
    (dict(offset=np.array([0, 4, 10])), r"columns count \[2, 3\] clips"),
    (dict(total_frames=np.array([4, 3, 2], np.int32)), "the offsets are not those"),
    (dict(num_person=np.array([1, 1, 1], np.int16)), "the offsets are not those"),
    (dict(offset=np.array([0, 4, 10, 12]), total_frames=np.array([4, 3, 2], np.int32)),
     r"count \[11, 12\] rows"),
    (dict(label=np.array([0])), r"columns count \[1, 3\] clips"),
    (dict(name=np.array(["a", "b"])), r"columns count \[2, 3\] clips"),
    (dict(img_h=np.array([1, 2])), "same shape"),
    (dict(img_h=np.array([1, 2]), img_w=np.array([1, 2])), r"columns count \[2, 3\] clips"),
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


@pytest.mark.parametrize("file", ["keypoint.npy", "score.npy", "index.npz"])
def test_a_single_bit_is_noticed_by_whoever_reads_everything(path, file):
    verify_store(open_store(path))
    content = bytearray((path / file).read_bytes())
    content[-40] ^= 1
    (path / file).write_bytes(content)
    with pytest.raises(ValueError, match="has changed since it was written: remove|is damaged"):
        verify_store(open_store(path))


def test_scores_that_were_taken_away_are_missed(path):
    store = open_store(path)
    (path / "score.npy").unlink()
    with pytest.raises(ValueError, match="has changed since"):
        verify_store(store)


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


def test_names_and_labels_from_a_table_of_objects_are_stored_as_what_they_are(tmp_path):
    table = np.array([("a", 0), ("b", 1), ("c", 0)], object)
    clips = (dict(sample, name=name, label=label)
             for sample, (name, label) in zip(samples(), table, strict=True))
    store = open_store(write_store(tmp_path / "b.skel", source(clips)))
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


def test_a_whole_store_travels_as_the_name_of_its_files(tmp_path):
    big = dict(name="a", label=0, joints=np.ones((1, 5000, 17, 2)))
    store = open_store(write_store(tmp_path / "a.skel", source([big], splits={"all": ["a"]})))
    letter = pickle.dumps(store)
    again = pickle.loads(letter)
    assert len(letter) < 3000 and isinstance(again.clips.joints, np.memmap)
    assert (again.path, again.meta, again.splits["all"].tolist()) == (store.path, store.meta, [0])


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
    clips = collect_clips(samples())
    again = pickle.loads(pickle.dumps(clips))
    assert np.array_equal(again.clip(1), clips.clip(1)) and again.names.tolist() == ["a", "b", "c"]


# -- large numbers

def test_offsets_do_not_overflow():
    many = Clips(np.zeros((0, 17, 2)), np.full(3, 30_000, np.int16), np.full(3, 100_000, np.int32),
                 np.zeros(3), np.array(["a", "b", "c"]))
    assert many.offset.tolist() == [0, 3 * 10**9, 6 * 10**9, 9 * 10**9]
