"""The readers of the small real sets: damaged archives, contradictions, odd files."""

import io
import json
import pickle
import re
import zipfile

import numpy as np
import pytest
from scipy.io import savemat

from skelbook.data.small_sets import (
    EXPECTED,
    PENN_ACTIONS,
    SBU_ACTIONS,
    SBU_FOLDS,
    UCLA_ACTIONS,
    UTD_ACTIONS,
    read_coco17,
    read_nw_ucla,
    read_penn_action,
    read_sbu,
    read_utd_mhad,
    take_stock,
)
from skelbook.data.store import open_store, write_store


def ucla(label=1, frames=2, **changes):
    "A clip of NW-UCLA."
    joints = np.arange(frames * 60.).reshape(frames, 20, 3) / 60
    return json.dumps({"file_name": "x", "label": label, "skeletons": joints.tolist()} | changes)


def matlab(**arrays):
    file = io.BytesIO()
    savemat(file, arrays)
    return file.getvalue()


def penn(frames=2, **changes):
    "A label file of Penn Action."
    x = np.arange(frames * 13, dtype=np.uint8).reshape(frames, 13)
    return matlab(**dict(action="bowl", pose="front", x=x, y=x[:, ::-1], visibility=x % 2,
                         train=np.int32(1), bbox=np.zeros((frames - 1, 4)),
                         dimensions=np.uint16([[270, 480, frames]]), nframes=np.uint16(frames))
                  | changes)


def sbu(frames=2):
    "The lines of a clip of SBU: both bodies upright, the second one to the right in the picture."
    body = np.stack([np.full(15, .25), np.linspace(.3, .9, 15), np.full(15, 2.)], axis=1)
    row = np.concatenate([body, body + [.5, 0, 0]]).ravel()
    return "".join(",".join(map(str, [31 + t, *row])) + "\r\n" for t in range(frames))


CLIPS = {   # reader -> name of a clip's file in the archive, its content
    read_nw_ucla: ("all_sqe/a12_s10_e00_v02.json", ucla(10)),
    read_utd_mhad: ("Skeleton/a27_s8_t1_skeleton.mat", matlab(d_skel=np.zeros((20, 3, 41)))),
    read_sbu: ("SBU/s06s03/08/011/skeleton_pos.txt", sbu()),
    read_penn_action: ("labels/0007.mat", penn()),
}
READERS = pytest.mark.parametrize("read", CLIPS, ids=lambda read: read.__name__)


def pack(path, *members):
    "An archive of (name, content)."
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as files:
        for name, content in members:
            files.writestr(name, content)
    return path


@pytest.fixture
def archive(tmp_path):
    return lambda *members: pack(tmp_path / "set.zip", *members)


def only(source):
    "The one sample of a source."
    sample, = source.samples()
    return sample


# -- what all archives have in common

@READERS
def test_a_clip_and_what_is_known_of_its_set(read, archive):
    source = read(archive(CLIPS[read]))
    sample = only(source)
    assert source.count == 1 and source.dtype is np.float32
    assert sample["joints"].dtype == np.float32 and sample["joints"].ndim == 4
    assert source.name in EXPECTED and len(source.classes) == len(EXPECTED[source.name]["classes"])
    assert set(source.splits) == set(EXPECTED[source.name]["splits"])
    assert sum(source.splits.values(), []).count(sample["name"]) == len(source.splits) // 2
    assert source.origin["reader"] == source.name and source.origin["file"] == "set.zip"
    assert len(source.origin["sha256"]) == 64


@READERS
def test_samples_can_be_asked_for_again(read, archive):
    source = read(archive(CLIPS[read]))
    one, other = only(source), only(source)
    np.testing.assert_array_equal(one["joints"], other["joints"])


@READERS
def test_an_unpacked_folder_is_the_same_set(read, archive, tmp_path):
    path = archive(CLIPS[read])
    with zipfile.ZipFile(path) as files:
        files.extractall(tmp_path / "folder")
    packed, unpacked = read(path), read(str(tmp_path / "folder"))
    assert (unpacked.splits, unpacked.count) == (packed.splits, packed.count)
    np.testing.assert_array_equal(only(packed)["joints"], only(unpacked)["joints"])
    name, content = CLIPS[read]
    assert (unpacked.origin["files"], unpacked.origin["bytes"]) == (1, len(content))
    assert "file" not in unpacked.origin


@READERS
def test_classes_and_layout_can_be_named(read, archive):
    own = [f"own {k}" for k in range(27)]
    source = read(archive(CLIPS[read]), layout="nturgb+d", classes=own)
    assert (source.layout, source.classes) == ("nturgb+d", tuple(own))


@READERS
@pytest.mark.parametrize("left", [0, 0.01, 0.5, 0.99])
def test_truncated_archives(read, left, archive):
    path = archive(CLIPS[read])
    content = path.read_bytes()
    path.write_bytes(content[:int(left * len(content))])
    with pytest.raises(ValueError, match="^[^\n]*set.zip: [^\n]*expected a zip archive[^\n]*$"):
        read(path)


@READERS
@pytest.mark.parametrize("damage", [0x00, 0xff])
def test_a_spot_in_the_compressed_bytes(read, damage, archive):
    name, content = CLIPS[read]
    path = archive((name, content))
    start = 30 + len(name)
    content = bytearray(path.read_bytes())
    content[start:start + 20] = [damage] * 20
    path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"^[^\n]*set.zip/{re.escape(name)}: [^\n]*$"):
        only(read(path))


@READERS
@pytest.mark.parametrize("keep", [0, 0.4])
def test_a_clip_that_is_cut_short_is_named(read, keep, archive):
    name, content = CLIPS[read]
    content = content if isinstance(content, bytes) else content.encode()
    with pytest.raises(ValueError, match=rf"^[^\n]*set.zip/{re.escape(name)}[^\n]*fetch[^\n]*$"):
        only(read(archive((name, content[:int(keep * len(content))]))))


@READERS
def test_other_files_are_left_alone_and_no_clip_is_refused(read, archive):
    name, content = CLIPS[read]
    others = [("read.me", "x"), (f"__MACOSX/._{name.split('/')[-1]}", "x"), ("joint_order.txt", "")]
    assert read(archive((name, content), *others)).count == 1
    with pytest.raises(ValueError, match="set.zip: holds no file that ends in .*right set"):
        read(archive(*others))


@READERS
def test_missing_files(read, tmp_path):
    with pytest.raises(FileNotFoundError):
        read(tmp_path / "no.zip")


def test_a_clip_that_is_there_twice_is_kept_for_the_doctor(archive, tmp_path):
    name, content = CLIPS[read_utd_mhad]
    source = read_utd_mhad(archive((name, content), (f"again/{name}", content)))
    assert source.count == 2
    with pytest.raises(ValueError, match="a27_s8_t1"):
        write_store(tmp_path / "never.skel", source)


# -- NW-UCLA

@pytest.mark.parametrize("label, code", list(enumerate(UCLA_ACTIONS, start=1)))
def test_codes_and_labels_of_all_actions(label, code, archive):
    clip = only(read_nw_ucla(archive((f"a{code:02}_s10_e05_v02.json", ucla(label)))))
    assert (clip["name"], clip["label"]) == (f"a{code:02}_s10_e05_v02", label - 1)
    assert clip["joints"].shape == (1, 2, 20, 3)
    assert clip["joints"][0, 1, 3, 2] == np.float32((60 + 11) / 60)


@pytest.mark.parametrize("name", [
    "a01_s01_e00_v04", "a01_s01_v01", "b01_s01_e00_v01", "a01_s01_e00_v01_copy", "a1_s01_e00_v01"])
def test_names_that_are_not_names_of_clips(name, archive):
    with pytest.raises(ValueError, match=f"set.zip: {name}.json is not named like a clip"):
        read_nw_ucla(archive((f"{name}.json", ucla())))


@pytest.mark.parametrize("name, label", [
    ("a02_s01_e00_v01", 1), ("a07_s01_e00_v01", 7), ("a10_s01_e00_v01", 9), ("a01_s01_e00_v01", 0),
    ("a01_s01_e00_v01", 11), ("a01_s01_e00_v01", "one"), ("a01_s01_e00_v01", None)])
def test_names_that_do_not_fit_the_label(name, label, archive):
    with pytest.raises(ValueError, match=f"set.zip/{name}.json is not a clip of this set"):
        only(read_nw_ucla(archive((f"{name}.json", ucla(label)))))


@pytest.mark.parametrize("content", [
    "", "[1, 2]", "null", '{"label": 1}', '{"skeletons": []}', ucla()[:-9],
    ucla(skeletons=[[[1, 2, 3]], [[1, 2]]]), ucla(skeletons="none"), ucla(skeletons={"a": 1}),
    b"\xff\xfe{", b"\x00\x01"])
def test_what_is_no_clip_is_named(content, archive):
    with pytest.raises(ValueError, match="^[^\n]*set.zip/a01_s01_e00_v01.json[^\n]*fetch[^\n]*$"):
        only(read_nw_ucla(archive(("a01_s01_e00_v01.json", content))))


def test_what_a_reader_can_build_is_left_to_the_doctor(archive):
    "Other numbers of joints, no frames, and NaN are no business of a reader."
    joints = np.full((3, 19, 3), np.nan).tolist()
    clip = only(read_nw_ucla(archive(("a01_s01_e00_v01.json", ucla(skeletons=joints)))))
    assert clip["joints"].shape == (1, 3, 19, 3) and np.isnan(clip["joints"]).all()


def test_cameras_one_and_two_train_and_camera_three_tests(archive, tmp_path):
    path = archive(*((f"all_sqe/a{code:02}_s01_e00_v0{view}.json", ucla(label, view))
                     for view in (3, 1, 2) for code, label in ((12, 10), (1, 1))))
    store = open_store(write_store(tmp_path / "a.skel", read_nw_ucla(path)))
    names = store.clips.names
    assert names.tolist() == sorted(names)
    assert [name[-1] for name in names[store.splits["xview_train"]]] == ["1", "2", "1", "2"]
    assert [name[-1] for name in names[store.splits["xview_val"]]] == ["3", "3"]
    assert store.clips.labels.tolist() == [0, 0, 0, 9, 9, 9]
    assert store.clips.num_frames.tolist() == [1, 2, 3, 1, 2, 3]
    assert store.meta["classes"] == list(UCLA_ACTIONS.values())
    assert store.layout.name == "kinect_v1" and store.clips.joints.dtype == np.float32


# -- UTD-MHAD

@pytest.mark.parametrize("name", ["a0_s1_t1", "a28_s1_t1", "a1_s9_t1", "a1_s0_t1", "a01_s1_t1"])
def test_actions_and_subjects_that_do_not_exist(name, archive):
    with pytest.raises(ValueError, match="is not named like a clip"):
        read_utd_mhad(archive((f"{name}_skeleton.mat", matlab(d_skel=np.zeros((20, 3, 2))))))


def test_odd_subjects_train(archive):
    content = CLIPS[read_utd_mhad][1]
    source = read_utd_mhad(archive(*((f"a{1 + s}_s{s}_t1_skeleton.mat", content)
                                     for s in range(1, 9))))
    assert [name[-4] for name in source.splits["xsub_train"]] == list("1357")
    assert [name[-4] for name in source.splits["xsub_val"]] == list("2468")
    assert len(UTD_ACTIONS) == 27 == len(set(UTD_ACTIONS))


@pytest.mark.parametrize("arrays, message", [
    (dict(skel=np.zeros((20, 3, 2))), "it has no 'd_skel'"),
    (dict(d_skel=np.zeros((20, 3))), "is not a clip of this set"),
    (dict(d_skel="text"), "is not a clip of this set")])
def test_other_matlab_files(arrays, message, archive):
    with pytest.raises(ValueError, match=f"a1_s1_t1_skeleton.mat.*{message}"):
        only(read_utd_mhad(archive(("a1_s1_t1_skeleton.mat", matlab(**arrays)))))


# -- SBU

def test_folds_hold_each_pair_once():
    pairs = [pair for fold in SBU_FOLDS for pair in fold]
    assert len(pairs) == len(set(pairs)) == 21
    assert [len(fold) for fold in SBU_FOLDS] == [4, 4, 4, 4, 5]


def test_metres_stand_upright(archive):
    clip = only(read_sbu(archive(CLIPS[read_sbu])))
    assert (clip["name"], SBU_ACTIONS[clip["label"]]) == ("s06s03_08_011", "punching")
    x, y, z = np.moveaxis(clip["joints"][:, 0], -1, 0)
    np.testing.assert_allclose(x, [[.64] * 15, [-.64] * 15], rtol=1e-6)
    np.testing.assert_allclose(y[0, [0, -1]], [.96 - 1.92 * .3, .96 - 1.92 * .9], rtol=1e-6)
    np.testing.assert_allclose(z, 2.56, rtol=1e-6)


def test_a_clip_tests_in_one_fold_and_trains_in_four(archive):
    source = read_sbu(archive(*((f"{pair}/01/001/skeleton_pos.txt", sbu(1))
                                for fold in SBU_FOLDS for pair in fold)))
    for number, fold in enumerate(SBU_FOLDS, start=1):
        assert {name[:6] for name in source.splits[f"fold{number}_val"]} == set(fold)
        assert len(source.splits[f"fold{number}_train"]) == 21 - len(fold)


@pytest.mark.parametrize("folder", ["s01s05/01/001", "s01s02/09/001", "s01s02/00/001", "s01s02/1"])
def test_pairs_and_classes_that_do_not_exist(folder, archive):
    with pytest.raises(ValueError, match="is not named like a clip"):
        read_sbu(archive((f"{folder}/skeleton_pos.txt", sbu())))


@pytest.mark.parametrize("change", [
    ("31,", "31;"), ("31,", ""), ("\r\n32", "\r\n32,1"), ("0.3", "x"), (",0.25", ", 0.25")])
def test_other_lines(change, archive):
    with pytest.raises(ValueError, match="^[^\n]*skeleton_pos.txt is not a clip of this[^\n]*$"):
        only(read_sbu(archive(("s01s02/01/001/skeleton_pos.txt", sbu().replace(*change)))))


# -- Penn Action

def test_unsigned_integers_become_numbers_before_anybody_subtracts(archive):
    clip = only(read_penn_action(archive(CLIPS[read_penn_action])))
    assert clip["joints"].dtype == clip["scores"].dtype == np.float32
    np.testing.assert_array_equal(clip["joints"][0, 0, :, 0], np.arange(13))
    np.testing.assert_array_equal(clip["joints"][0, 0, :, 1], np.arange(13)[::-1])
    np.testing.assert_array_equal(clip["scores"][0, 0], np.arange(13) % 2)
    assert (clip["image_size"], clip["num_frames"]) == ((270, 480), 2)
    assert clip["label"] == PENN_ACTIONS.index("bowl")


def test_the_size_of_a_long_clip(archive):
    assert only(read_penn_action(archive(("0001.mat", penn(300)))))["num_frames"] == 300


@pytest.mark.parametrize("changes, message", [
    (dict(action="bowling"), "unknown action 'bowling': did you mean 'bowl'"),
    (dict(action=3), "unknown action"), (dict(y=np.zeros((3, 13))), ""), (dict(x="text"), ""),
    (dict(dimensions=np.uint16([[1, 2]])), ""), (dict(train="yes"), ""),
    (dict(train=np.int32(0)), "train is 0, expected 1 or -1")])
def test_other_label_files(changes, message, archive):
    with pytest.raises(ValueError, match=rf"^[^\n]*0001.mat is not a [^\n]*\({message}[^\n]*$"):
        only(read_penn_action(archive(("0001.mat", penn(**changes)))))


def test_progress_of_the_look_into_all_files(archive):
    seen = []
    read_penn_action(archive(("0001.mat", penn()), ("0002.mat", penn())),
                     progress=lambda *now: seen.append(now))
    assert seen == [(1, 2), (2, 2)]


# -- counting

def test_stock_of_a_toy(archive):
    members = [(f"a0{k}_s01_e00_v0{v}.json", ucla(k, 3 * v)) for k in (1, 2) for v in (1, 3)]
    stock = take_stock(read_nw_ucla(archive(*members)))
    assert stock["frames"] == (3, 6, 9, 24) and stock["persons"] == 1
    assert stock["classes"] == (2, 2, *[0] * 8)
    assert stock["splits"] == dict(xview_train=2, xview_val=2)


# -- COCO-17 clips

def coco17(tmp_path, split, **changes):
    "An annotation file of ten recordings of one class, each with its twin."
    clip = dict(label=1, keypoint=np.full((1, 3, 17, 2), 900.5, np.float16), total_frames=3,
                keypoint_score=np.full((1, 3, 17), 1.024, np.float16), img_shape=(1080, 1762))
    names = [f"{twin}P{k:02}A001" for k in range(10) for twin in ("", "JX")]
    content = dict(split={name: names[:12] if "train" in name else names[12:] for name in split},
                   annotations=[clip | changes | dict(frame_dir=name) for name in names])
    path = tmp_path / "clips.pkl"
    path.write_bytes(pickle.dumps(content))
    return read_coco17(path)


def test_twins_stay_together(tmp_path):
    source = coco17(tmp_path, ["xsub_train", "xsub_test"])
    assert source.splits["grouped_val"] == ["P00A001", "JXP00A001", "P05A001", "JXP05A001"]
    assert {split: len(names) for split, names in source.splits.items()} == dict(
        infile_train=12, infile_val=8, grouped_train=16, grouped_val=4)
    assert source.name == "coco17-16" and source.origin["reader"] == "coco17"
    assert source.classes[0] == "class 1" and len(source.classes) == 16


def test_precision_scores_and_labels_of_the_file(tmp_path):
    source = coco17(tmp_path, ["xsub_train", "xsub_test"], label=16)
    sample = next(source.samples())
    assert source.dtype == np.float16 == sample["joints"].dtype
    assert sample["label"] == 15 and sample["scores"].max() > 1
    assert tuple(sample["image_size"]) == (1080, 1762)


@pytest.mark.parametrize("split", [["train", "val"], ["xsub_train", "xsub_val"], ["xsub_train"]])
def test_other_annotation_files(split, tmp_path):
    with pytest.raises(ValueError, match="^[^\n]*clips.pkl: found the splits [^\n]*annotations$"):
        coco17(tmp_path, split)


def test_a_truncated_annotation_file(tmp_path):
    coco17(tmp_path, ["xsub_train", "xsub_test"])
    path = tmp_path / "clips.pkl"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match="^[^\n]*clips.pkl[^\n]*$"):
        read_coco17(path)
