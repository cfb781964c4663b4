"""The reader of NW-UCLA: damaged archives, contradictions, and the real files where they are."""

import json
import os
import re
import zipfile
from pathlib import Path

import numpy as np
import pytest

from skelbook.data.nw_ucla import ACTIONS, build_nw_ucla, read_clip
from skelbook.data.store import open_store

ROOT = Path(__file__).resolve().parents[2]
DATA = Path(os.environ.get("SKELBOOK_DATA", ROOT.parent / "shared" / "data"))


def text(label=1, frames=2, **changes):
    joints = np.arange(frames * 60.).reshape(frames, 20, 3) / 60
    return json.dumps({"file_name": "x", "label": label, "skeletons": joints.tolist()} | changes)


@pytest.fixture
def archive(tmp_path):
    "Two actions seen by three cameras, compressed."
    path = tmp_path / "nw_ucla" / "all_sqe.zip"
    path.parent.mkdir()
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as files:
        files.writestr("all_sqe/", "")
        files.writestr("all_sqe/README.txt", "not a clip")
        for view in (3, 1, 2):
            for code, label in ((12, 10), (1, 1)):
                files.writestr(f"all_sqe/a{code:02}_s01_e00_v0{view}.json", text(label, view))
    return path


# -- one file

@pytest.mark.parametrize("label, code", list(enumerate(ACTIONS, start=1)))
def test_codes_and_labels_of_all_actions(label, code):
    clip = read_clip(f"a{code:02}_s10_e05_v02.json", text(label))
    assert (clip["name"], clip["label"]) == (f"a{code:02}_s10_e05_v02", label - 1)
    assert clip["joints"].shape == (1, 2, 20, 3) and clip["joints"].dtype == np.float32
    assert clip["joints"][0, 1, 3, 2] == np.float32((60 + 11) / 60)


@pytest.mark.parametrize("name, label", [
    ("a02_s01_e00_v01.json", 1), ("a07_s01_e00_v01.json", 7), ("a10_s01_e00_v01.json", 9),
    ("a01_s01_e00_v04.json", 1), ("a01_s01_v01.json", 1), ("b01_s01_e00_v01.json", 1),
    ("a01_s01_e00_v01_copy.json", 1), ("a01_s01_e00_v01.json", 0), ("a01_s01_e00_v01.json", 11)])
def test_names_that_do_not_fit_the_label(name, label):
    with pytest.raises(ValueError, match=f"^{re.escape(name)}: label {label} does not fit"):
        read_clip(name, text(label))


@pytest.mark.parametrize("content", [
    "", "[1, 2]", "null", '{"label": 1}', '{"skeletons": []}', text()[:-9], text(label="one"),
    text(label=None), text(skeletons=[[[1, 2, 3]], [[1, 2]]]), text(skeletons="none"),
    text(skeletons={"a": 1}), b"\xff\xfe{", b"\x00\x01"])
def test_what_is_no_clip_is_named(content):
    with pytest.raises(ValueError, match="^a01_s01_e00_v01.json: not a clip .* fetch the file"):
        read_clip("a01_s01_e00_v01.json", content)


@pytest.mark.parametrize("skeletons", [[], [[]], [[[1, 2, 3]]], [[[0, 0]] * 20], [0] * 60])
def test_other_shapes_are_named(skeletons):
    with pytest.raises(ValueError, match=r"^a01_s01_e00_v01.json: found shape .*frames, 20, 3"):
        read_clip("a01_s01_e00_v01.json", text(skeletons=skeletons))


# -- the archive

def test_cameras_one_and_two_train_and_camera_three_tests(archive, tmp_path):
    seen = []
    store = open_store(build_nw_ucla(tmp_path, tmp_path / "a.skel", lambda *now: seen.append(now)))
    names = store.clips.names
    assert names.tolist() == sorted(names)
    assert [name[-1] for name in names[store.splits["xview_train"]]] == ["1", "2", "1", "2"]
    assert [name[-1] for name in names[store.splits["xview_val"]]] == ["3", "3"]
    assert store.clips.labels.tolist() == [0, 0, 0, 9, 9, 9]
    assert store.clips.num_frames.tolist() == [1, 2, 3, 1, 2, 3]
    assert store.meta["classes"] == list(ACTIONS.values())
    assert seen == [(i, 6) for i in range(1, 7)]


def refused(tmp_path, message):
    with pytest.raises(ValueError, match=message):
        build_nw_ucla(tmp_path, tmp_path / "a.skel")
    assert os.listdir(tmp_path) == ["nw_ucla"]


@pytest.mark.parametrize("left", [0, 0.01, 0.5, 0.99])
def test_truncated_archives(archive, tmp_path, left):
    content = archive.read_bytes()
    archive.write_bytes(content[:int(left * len(content))])
    refused(tmp_path, "all_sqe.zip: .* the archive is damaged, fetch it again")


@pytest.mark.parametrize("damage", [0x00, 0xff])
def test_a_spot_in_the_compressed_bytes(archive, tmp_path, damage):
    with zipfile.ZipFile(archive) as files:
        clip = files.getinfo("all_sqe/a12_s01_e00_v03.json")
        start = clip.header_offset + 30 + len(clip.filename)
    content = bytearray(archive.read_bytes())
    content[start:start + 20] = [damage] * 20
    archive.write_bytes(content)
    refused(tmp_path, "the archive is damaged")


@pytest.mark.parametrize("name, content, message", [
    ("a02_s01_e00_v01", text(1), "a02_s01_e00_v01.json: label 1 does not fit"),
    ("a02_s01_e00_v01", text(2)[:-5], "a02_s01_e00_v01.json: not a clip"),
    ("a02_s01_e00_v01", text(2, skeletons=[[[float("nan")] * 3] * 20]),
     "clip 'a02_s01_e00_v01' has numbers that are not finite"),
    ("again/a01_s01_e00_v01", text(1), r"clip 'a01_s01_e00_v01' appears twice"),
])
def test_a_bad_file_in_the_archive_is_named(archive, tmp_path, name, content, message):
    with zipfile.ZipFile(archive, "a") as files:
        files.writestr(f"all_sqe/{name}.json", content)
    refused(tmp_path, message)


def test_an_archive_of_something_else(archive, tmp_path):
    with zipfile.ZipFile(archive, "w") as files:
        files.writestr("readme.txt", "empty")
    refused(tmp_path, "no clip")


def test_a_missing_archive_names_the_option(tmp_path):
    with pytest.raises(FileNotFoundError, match="all_sqe.zip is missing: set data_root"):
        build_nw_ucla(tmp_path, tmp_path / "a.skel")


# -- the real files

@pytest.fixture(scope="module")
def real(tmp_path_factory):
    if not (DATA / "nw_ucla" / "all_sqe.zip").is_file():
        pytest.skip("no nw_ucla/all_sqe.zip in SKELBOOK_DATA or ../shared/data")
    return open_store(build_nw_ucla(DATA, tmp_path_factory.mktemp("ucla") / "nw-ucla.skel"))


def test_the_real_set_has_the_documented_size(real):
    clips = real.clips
    assert (len(real.splits["xview_train"]), len(real.splits["xview_val"])) == (1020, 464)
    assert (len(clips), int(clips.num_frames.sum()), len(clips.joints)) == (1484, 58534, 58534)
    frames = clips.num_frames
    assert (frames.min(), np.median(frames), frames.max()) == (1, 31, 201)
    assert sorted(clips.names[frames == 1]) == ["a02_s09_e04_v02", "a02_s09_e04_v03"]
    assert (clips.num_persons == 1).all()


def test_the_real_set_has_the_documented_counts(real):
    clips = real.clips
    assert np.bincount(clips.labels).tolist() == [150, 152, 141, 173, 148, 149, 142, 142, 145, 142]
    actors = np.array([int(name[5:7]) for name in clips.names])
    assert np.bincount(actors)[1:].tolist() == [160, 154, 159, 162, 119, 138, 147, 158, 139, 148]
    views = np.array([int(name[-1]) for name in clips.names])
    assert np.bincount(views)[1:].tolist() == [516, 504, 464]
    assert set(views[real.splits["xview_val"]]) == {3}
    assert -2.45 < clips.joints.min() < -2.44 and 5.08 < clips.joints.max() < 5.09     # metres
