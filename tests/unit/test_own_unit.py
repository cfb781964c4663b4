"""A folder of one's own: mistakes in tables, arrays and layouts; frames of OpenPose; the README."""

import json
import re
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from skelbook.data.own import BODY_25, read_openpose, read_plain, read_table
from skelbook.data.store import open_store, write_store
from skelbook.graph import LAYOUTS, find_layout

ROOT = Path(__file__).resolve().parents[2]
RNG = np.random.default_rng(0)


def clip(persons=1, frames=4, joints=25, numbers=3):
    return RNG.uniform(0.1, 0.4, (persons, frames, joints, numbers)).astype(np.float32)


def said(read, *args, **kwargs):
    "The one line with which a reader refuses, at once or while it is read."
    with pytest.raises(ValueError) as error:
        list(read(*args, **kwargs).samples())
    assert "\n" not in str(error.value) and len(str(error.value)) < 500
    return str(error.value)


# -- OpenPose

def openpose(folder, clips, table=None):
    for name, frames in clips.items():
        (folder / name).mkdir(parents=True)
        for t, people in enumerate(frames):
            record = dict(people=[dict(pose_keypoints_2d=pose.ravel().tolist()) for pose in people])
            (folder / name / f"{name}_{t}_keypoints.json").write_text(json.dumps(record))
    table = table or "clip,label,split\n" + "".join(f"{name},run,train\n" for name in clips)
    (folder / "labels.csv").write_text(table)
    return folder


def test_openpose_frames_follow_each_other_by_number(tmp_path):
    frames = [[np.full((18, 3), t + 1.0)] for t in range(12)]     # film_10 sorts before film_2
    source = read_openpose(openpose(tmp_path, {"film7": frames}))
    assert next(source.samples())["joints"][0, :, 3, 0].tolist() == list(range(1, 13))


def test_openpose_knows_both_of_its_bodies(tmp_path):
    source = read_openpose(openpose(tmp_path / "a", {"x": [[]], "y": [[], [np.ones((25, 3))]]}))
    assert source.layout == BODY_25
    samples = list(source.samples())
    assert [sample["joints"].shape for sample in samples] == [(0, 1, 25, 2), (1, 2, 25, 2)]
    assert read_openpose(openpose(tmp_path / "b", {"x": [[np.ones((18, 3))]]})).layout.name \
        == "openpose"
    assert "has 21 joints, expected 18 or 25" in said(
        read_openpose, openpose(tmp_path / "c", {"x": [[np.ones((21, 3))]]}))
    assert "nobody was found" in said(read_openpose, openpose(tmp_path / "d", {"x": [[], []]}))


def test_openpose_body_survives_the_store(tmp_path):
    folder = openpose(tmp_path / "a", {"x": [[np.ones((25, 3))]]})
    assert open_store(write_store(tmp_path / "a.skel", read_openpose(folder))).layout == BODY_25


def test_openpose_refuses_other_frames(tmp_path):
    folder = openpose(tmp_path / "a", {"x": [[np.ones((18, 3))]] * 2})
    frame = folder / "x" / "x_1_keypoints.json"
    for content in ("[]", '{"people": [{}]}', '{"people": [{"pose_keypoints_2d": [1, 2]}]}',
                    '{"people": [{"pose_keypoints_2d": "x"}]}', '{"people": 3}', '{"peo', ""):
        frame.write_text(content)
        assert "x_1_keypoints.json" in said(read_openpose, folder)
    frame.write_text(json.dumps(dict(people=[dict(pose_keypoints_2d=[1] * 75)])))
    assert "found 25 joints in frame 1, expected 18" in said(read_openpose, folder)
    (folder / "y").mkdir()
    assert "the table lacks 1 of its clips, first 'y'" in said(read_openpose, folder)


# -- tables

def table(tmp_path, content):
    path = tmp_path / "clips.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_table(path)


@pytest.mark.parametrize("content", [
    "clip,label\na,run\n", "clip,label\r\na,run\r\n", "\ufeffclip,label\na,run",
    "label,clip\nrun,a",
    "clip, label\n a , run \n\n\n", '"clip","label"\n"a","run"\n', "clip,label\n\n,\na,run\n"])
def test_tables_of_all_programs_are_read(tmp_path, content):
    row, = table(tmp_path, content)
    assert (row["clip"], row["label"]) == ("a", "run")


@pytest.mark.parametrize("content, message", [
    ("", "found the columns none"), ("clip,label\n", "there is no clip in this table"),
    ("clip;label\na;run\n", "separated by ';'"), ("clip\tlabel\na\trun\n", r"separated by '\t'"),
    ("clip,klass\na,run\n", "line 1: unknown column 'klass'"),
    ("clip,split\na,train\n", "line 1: found the columns clip, split"),
    ("clip,label,label\na,run,run\n", "each once"),
    ("clip,label\na,run\nb\n", "line 3: found 1 cells for 2 columns"),
    ("clip,label\na,run,train\n", "line 2: found 3 cells for 2 columns"),
    ("clip,label\na,run\n\nb,  \n", "line 4: no label"), ("clip,label\n,run\n", "line 2: no clip"),
    ("clip,label,split\na,run,\n", "line 2: no split"),
    ("clip,label\na,run\nb,run\na,sit\n", "line 4: clip 'a' stands in line 2 already"),
    ("clip,label,height,width\na,run,480,x\n", "line 2: found height 480 and width x"),
    ("clip,label,height,width\na,run,0,640\n", "line 2: found height 0"),
    ("clip,label,height\na,run,480\n", "line 2: found height 480 and width None"),
    ('clip,label\na,"run\n', "line"), ('clip,label\n"a"b,run\n', "line 2: ',' expected"),
    ("clip,label\ná,run\n".encode("latin1"), "the text is not UTF-8"),
    ("clip,label\na,run\n".encode("utf-16"), "the text is not UTF-8"),
    (bytes(range(9, 120)), "line"),
])
def test_a_mistake_in_a_table_is_named_with_its_line(tmp_path, content, message):
    with pytest.raises(ValueError) as error:
        table(tmp_path, content)
    assert message in str(error.value) and str(error.value).startswith(f"{tmp_path.name}/clips.csv")
    assert "\n" not in str(error.value)


# -- the plain format

@pytest.fixture
def plain(tmp_path):
    "Two clips of one and two persons, in both kinds of file."
    folder = tmp_path / "own"
    folder.mkdir()
    np.save(folder / "a.npy", clip(1, 4, 17, 2)[0])
    np.savez(folder / "b.npz", keypoint=clip(2, 3, 17, 2))
    (folder / "clips.csv").write_text("clip,label,split\na,run,train\nb,sit,test\n")
    (folder / "layout.json").write_text('"coco"')
    return folder


def test_plain_keeps_the_order_of_the_table(plain):
    (plain / "clips.csv").write_text("clip,label,split\nb,sit,test\na,run,train\n")
    samples = list(read_plain(plain).samples())
    assert [(sample["name"], sample["label"]) for sample in samples] == [("b", 1), ("a", 0)]
    assert [sample["joints"].shape for sample in samples] == [(2, 3, 17, 2), (1, 4, 17, 2)]


def test_plain_labels_by_number_and_by_list(plain):
    (plain / "clips.csv").write_text("clip,label\na,0\nb,10\n")
    source = read_plain(plain)
    assert [sample["label"] for sample in source.samples()] == [0, 10]
    assert source.classes[10] == "class 10" and source.splits == {}
    (plain / "classes.txt").write_bytes(b"\xef\xbb\xbfstand\r\nwalk\r\n\r\n")
    assert read_plain(plain).classes == ("stand", "walk")                # 10: for the doctor
    assert read_plain(plain, classes=["x"]).classes == ("x",)


def test_plain_a_label_that_is_in_no_list(plain):
    (plain / "classes.txt").write_text("run\nsitting\n")
    assert said(read_plain, plain).startswith("own/clips.csv line 3: unknown label 'sit': did you")
    (plain / "classes.txt").write_text("run\nsit\nrun\n")
    assert "two classes are called 'run'" in said(read_plain, plain)


def test_plain_clip_in_several_splits(plain):
    (plain / "clips.csv").write_text("clip,label,split\na,run,xsub_train xview_test\n"
                                     "b,sit,xsub_test  xview_train\n")
    assert read_plain(plain).splits == {"xsub_train": ["a"], "xview_test": ["a"],
                                        "xsub_test": ["b"], "xview_train": ["b"]}


def test_plain_layout_by_option_by_fields_and_wrong(plain):
    (plain / "layout.json").unlink()
    assert "layout.json is missing" in said(read_plain, plain)
    assert read_plain(plain, "coco").layout == LAYOUTS["coco"]
    own = dict(name="own", joints=[f"j{v}" for v in range(17)], centre=0, dims=2,
               inward=[[v, 0] for v in range(1, 17)])
    (plain / "layout.json").write_text(json.dumps(own))
    assert read_plain(plain).layout == find_layout(own)
    (plain / "layout.json").write_text(json.dumps(asdict(LAYOUTS["mediapipe"])))
    assert read_plain(plain).layout == LAYOUTS["mediapipe"]
    for content in (json.dumps(own | dict(centre=17)), json.dumps(dict(joints=[])), "3", '"cocco"',
                    "[", "null"):
        (plain / "layout.json").write_text(content)
        assert "layout.json" in said(read_plain, plain)


def test_plain_third_number_of_a_picture_is_the_score(plain):
    poses = clip(1, 4, 17, 3)
    np.save(plain / "a.npy", poses)
    sample = next(read_plain(plain).samples())
    assert np.array_equal(sample["joints"], poses[..., :2])
    assert np.array_equal(sample["scores"], poses[..., 2])
    space = dict(name="own", joints=[f"j{v}" for v in range(17)], inward=[], centre=0)
    assert "scores" not in next(read_plain(plain, space).samples())


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", ">f8", "i2", "u1"])
def test_plain_numbers_of_any_kind(plain, dtype):
    poses = RNG.integers(0, 99, (2, 3, 17, 2)).astype(dtype)
    np.savez_compressed(plain / "b.npz", keypoint=poses, score=poses[..., 0], img_h=480, img_w=640.)
    sample = list(read_plain(plain).samples())[1]
    assert sample["joints"].dtype.kind == sample["scores"].dtype.kind == "f"
    assert np.array_equal(sample["joints"], poses) and sample["image_size"] == (480, 640)


def test_plain_content_is_left_to_the_doctor(plain):
    np.save(plain / "a.npy", np.full((1, 0, 25, 4), np.nan))
    assert next(read_plain(plain).samples())["joints"].shape == (1, 0, 25, 4)


@pytest.mark.parametrize("arrays, message", [
    (dict(), "found nothing"), (dict(keypoint=np.zeros((17, 2))), "shape (17, 2), expected"),
    (dict(keypoint=np.array("x")), "expected numbers"), (dict(pose=np.zeros(3)), "unknown array"),
    (dict(keypoint=np.zeros((1, 4, 17, 2), complex)), "b.npz"),
    (dict(keypoint=np.zeros((1, 4, 17, 2), bool)), "keypoint (bool)"),
    (dict(keypoint=np.zeros((1, 4, 17, 2)), score=np.zeros((4, 17))), "score (float64) of shape"),
    (dict(keypoint=np.zeros((1, 4, 17, 3)), score=np.zeros((1, 4, 17))), "a score belongs to"),
    (dict(keypoint=np.zeros((4, 17, 2)), img_h=np.nan, img_w=3), "found img_h nan"),
    (dict(keypoint=np.zeros((4, 17, 2)), img_h=480.5, img_w=3), "found img_h 480.5"),
    (dict(keypoint=np.zeros((4, 17, 2)), img_h=[1, 2], img_w=3), "found img_h [1, 2]"),
    (dict(keypoint=np.array([None, {}])), "b.npz"),
])
def test_plain_arrays_that_are_no_clip(plain, arrays, message):
    np.savez(plain / "b.npz", **arrays)
    assert message in said(read_plain, plain)


def test_plain_two_sizes_of_one_picture(plain):
    (plain / "clips.csv").write_text("clip,label,height,width\na,run,480,640\nb,sit,480,640\n")
    assert [s["image_size"] for s in read_plain(plain).samples()] == [(480, 640)] * 2
    np.savez(plain / "b.npz", keypoint=clip(2, 3, 17, 2), img_h=640, img_w=480)
    assert "height and width (640, 480), the table says (480, 640)" in said(read_plain, plain)


def test_plain_table_and_folder_agree(plain):
    (plain / ".hidden.npy").touch()
    (plain / "notes.txt").touch()
    assert read_plain(plain).count == 2
    np.save(plain / "c.npy", np.zeros(1))
    assert "the table lacks 1 of its clips, first 'c'" in said(read_plain, plain)
    (plain / "c.npy").rename(plain / "b.npy")
    assert "found b.npy and b.npz" in said(read_plain, plain)
    (plain / "b.npy").unlink()
    for name in ("b.npz", "../own/b", "B", str(plain / "b")):
        (plain / "clips.csv").write_text(f"clip,label\na,run\n{name},sit\n")
        assert f"own/clips.csv line 3: there is no .npy or .npz of clip {name!r}" \
            in said(read_plain, plain)


def test_plain_folder_that_is_none(tmp_path, plain):
    assert "no/clips.csv is missing: see `Your own data`" in said(read_plain, tmp_path / "no")
    assert "clips.csv is missing" in said(read_plain, plain / "a.npy")


def test_plain_cut_files_are_named(plain):
    for name in ("a.npy", "b.npz"):
        content = (plain / name).read_bytes()
        for length in range(0, len(content), 97):
            (plain / name).write_bytes(content[:length])
            assert name in said(read_plain, plain)
        (plain / name).write_bytes(content)


def test_plain_origin_notices_every_change(plain):
    before, steps = read_plain(plain).origin, []
    assert read_plain(plain, progress=lambda *step: steps.append(step)).origin == before
    assert steps[-1] == (4, 4)
    assert before["files"] == 4 and "own" not in str(before)
    (plain / "clips.csv").write_text("clip,label,split\na,sit,train\nb,run,test\n")
    assert read_plain(plain).origin != before


# -- the README

def readme_blocks():
    text = (ROOT / "data_prep" / "README.md").read_text(encoding="utf-8")
    section = re.search(r"^## Your own data\n(.*?)(?=^## |\Z)", text, re.M | re.S)[1]
    return section, re.findall(r"```python\n(.*?)```", section, re.S)


def test_the_example_of_the_readme_makes_a_data_set(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    _, (example, layout) = readme_blocks()
    assert len([line for line in example.splitlines() if line.strip()]) <= 15
    exec(example, {})
    source = read_plain(tmp_path / "my-data")
    store = open_store(write_store(tmp_path / "my-data.skel", source))
    assert store.meta["classes"] == ["jump", "wave"] and store.layout.name == "coco"
    assert {split: len(clips) for split, clips in store.splits.items()} == dict(train=14, test=6)
    assert store.clips.scores is not None and store.clips.image_size.tolist() == [[480, 640]] * 20
    exec(layout, {})
    assert find_layout(json.loads(Path("layout.json").read_text())).sides == ("right",) * 3


def test_the_layouts_of_the_readme_exist():
    section, _ = readme_blocks()
    rows = re.findall(r"^\| `(\S+)` \| (\d+) \| (picture|space) \|", section, re.M)
    assert len(rows) == 6
    for name, joints, place in rows:
        assert len(LAYOUTS[name].joints) == int(joints)
        assert LAYOUTS[name].dims == {"picture": 2, "space": 3}[place]


def test_mediapipe_as_the_readme_says(plain):
    class Landmark:
        x, y, visibility = 0.25, 0.5, 0.9
    frame = [[p.x * 640, p.y * 480, p.visibility] for p in [Landmark] * 33]
    for name in ("a", "b"):
        (plain / "b.npz").unlink(missing_ok=True)
        np.save(plain / f"{name}.npy", np.array([frame, np.zeros((33, 3))]))
    (plain / "layout.json").write_text('"mediapipe"')
    sample = next(read_plain(plain).samples())
    assert sample["joints"][0, 0, 7].tolist() == [160, 240] and sample["scores"][0, 0, 7] == 0.9
