"""Folders of one's own, written and read again; tables and JSON that nobody would write."""

import csv
import json
import tempfile
import warnings
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from skelbook.data.arrays import read_kinetics_json, trim
from skelbook.data.own import read_openpose, read_plain, read_table

LAYOUT = dict(name="arm", joints=["shoulder", "elbow", "wrist"], inward=[[1, 0], [2, 1]], centre=0,
              dims=2)
finite = st.floats(-1e3, 1e3, width=32)
names = st.text(st.characters(categories=["L", "N"], include_characters=" ._-;'"), min_size=1,
                max_size=12).map(str.strip).filter(lambda name: name and not name.startswith("."))
shapes = st.tuples(st.integers(1, 2), st.integers(1, 4), st.just(3), st.integers(2, 3))
clips = st.lists(st.tuples(shapes.flatmap(lambda s: arrays(np.float32, s, elements=finite)),
                           st.sampled_from(["wave", "jump, high", 'say "hi"', "été"]),
                           st.sampled_from(["train", "test", "a_train b_test"]), st.booleans()),
                 min_size=1, max_size=4)


@given(clips, st.sampled_from(["utf-8", "utf-8-sig"]), st.sampled_from(["\n", "\r\n"]))
@settings(max_examples=25, deadline=None)
def test_a_plain_folder_comes_back(clips, encoding, line_end):
    with tempfile.TemporaryDirectory() as folder:
        folder, rows = Path(folder), []
        for i, (array, label, split, packed) in enumerate(clips):
            if packed:
                np.savez_compressed(folder / f"c{i}.npz", keypoint=array)
            else:
                np.save(folder / f"c{i}.npy", array[0] if len(array) == 1 else array)
            rows.append([f"c{i}", label, split])
        with open(folder / "clips.csv", "w", encoding=encoding, newline="") as file:
            csv.writer(file, lineterminator=line_end).writerows([["clip", "label", "split"], *rows])
        source = read_plain(folder, LAYOUT)
        for sample, (array, label, split, _) in zip(source.samples(), clips, strict=True):
            assert np.array_equal(sample["joints"], array[..., :2])
            assert np.array_equal(sample.get("scores", array[..., 2:].sum(-1)),
                                  array[..., 2:].sum(-1))
            assert source.classes[sample["label"]] == label
            assert all(sample["name"] in source.splits[part] for part in split.split())


@given(st.lists(names, min_size=1, max_size=5, unique=True))
@settings(max_examples=25, deadline=None)
def test_any_name_of_a_clip_comes_back(names):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clips.csv"
        with open(path, "w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([["clip", "label"], *([name, "x"] for name in names)])
        assert [row["clip"] for row in read_table(path)] == names


@given(st.one_of(st.binary(max_size=200),
                 st.text('clip,labe"\n\r;\0 12', max_size=80).map(str.encode),
                 st.text('a,1"\n\r\0 ', max_size=40).map(lambda t: b"clip,label\n" + t.encode())))
@settings(max_examples=150, deadline=None)
def test_any_bytes_are_a_table_or_one_line_of_complaint(content):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clips.csv"
        path.write_bytes(content)
        try:
            rows = read_table(path)
        except ValueError as error:
            assert "\n" not in str(error) and "clips.csv" in str(error)
        else:
            assert all(row["clip"] and row["label"] for row in rows)


@given(arrays(np.float32, (2, 5, 2, 2), elements=st.sampled_from([0, 0, 0, 0, 1])),
       st.integers(0, 3), st.integers(0, 2))
@settings(max_examples=50, deadline=None)
def test_padding_more_changes_nothing(joints, frames, persons):
    padded = np.pad(joints, ((0, persons), (0, frames), (0, 0), (0, 0)))
    assert np.array_equal(trim(padded), trim(joints))
    assert np.array_equal(trim(trim(joints)), trim(joints))
    assert trim(joints).sum() == joints.sum()


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner,
                                                                max_size=3), max_leaves=8)


def numbers(count):
    "A list of any floats, most of them alike."
    return st.tuples(st.floats(), st.floats(), st.integers(0, count - 1)).map(
        lambda parts: [parts[i == parts[2]] for i in range(count)])


people = st.fixed_dictionaries({"pose": values | numbers(36), "score": values | numbers(18)})
frame = st.fixed_dictionaries({"frame_index": values | st.integers(0, 9),
                               "skeleton": values | st.lists(people, max_size=2)})
kinetics = values | st.fixed_dictionaries({"data": values | st.lists(frame, max_size=3)})
openpose = values | st.fixed_dictionaries({"people": values | st.lists(
    st.fixed_dictionaries({"pose_keypoints_2d": values | numbers(54)}), max_size=2)})


def read_or_one_line(read, folder):
    "Reads a data set to its end; the only error there may be has one line."
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            for sample in read(folder).samples():
                assert sample["joints"].ndim == 4 and sample["joints"].shape[2:] == (18, 2)
        except ValueError as error:
            assert len(str(error).splitlines()) == 1


@given(kinetics, values | st.just({"a": dict(label="x", label_index=0, has_skeleton=True)}))
@settings(max_examples=60, deadline=None)
def test_any_json_is_a_clip_of_kinetics_or_one_line_of_complaint(clip, labels):
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        (folder / "kinetics_val").mkdir()
        (folder / "kinetics_val" / "a.json").write_text(json.dumps(clip))
        (folder / "kinetics_val_label.json").write_text(json.dumps(labels))
        read_or_one_line(read_kinetics_json, folder)


@given(openpose)
@settings(max_examples=60, deadline=None)
def test_any_json_is_a_frame_of_openpose_or_one_line_of_complaint(record):
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        (folder / "a").mkdir()
        (folder / "a" / "a_000.json").write_text(json.dumps(record))
        (folder / "labels.csv").write_text("clip,label\na,x\n")
        read_or_one_line(read_openpose, folder)
