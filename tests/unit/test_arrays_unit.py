"""Readers of arrays and of Kinetics in JSON: padding, copied persons, damaged files."""

import json
import pickle

import numpy as np
import pytest

from skelbook.data.arrays import (
    read_ctrgcn,
    read_kinetics_json,
    read_stgcn,
    stack_people,
    to_pixels,
    trim,
)
from skelbook.data.store import open_store, write_store

RNG = np.random.default_rng(0)


def clip(persons=1, frames=4, joints=25, numbers=3):
    return RNG.uniform(0.1, 0.4, (persons, frames, joints, numbers)).astype(np.float32)


def said(read, *args, **kwargs):
    "The one line with which a reader refuses, at once or while it is read."
    with pytest.raises(ValueError) as error:
        list(read(*args, **kwargs).samples())
    assert "\n" not in str(error.value) and len(str(error.value)) < 500
    return str(error.value)


# -- padding

def test_trim_keeps_gaps_in_front_and_inside_and_cuts_the_end():
    joints = np.zeros((3, 7, 2, 2))
    joints[1, 2], joints[1, 4, 1, 1] = 1, np.nan
    assert trim(joints).shape == (1, 5, 2, 2)


def test_trim_of_a_whole_clip_changes_nothing():
    whole = clip(2, 300)
    assert np.array_equal(trim(whole), whole)


# -- CTR-GCN

def ctrgcn(path, clips, classes=60, frames=300, copy=False, **changes):
    x = np.zeros((len(clips), frames, 150), np.float32)
    for i, joints in enumerate(clips):
        for m, person in enumerate((joints[0], joints[0]) if copy else joints):
            x[i, :len(person), 75 * m:75 * (m + 1)] = person.reshape(len(person), 75)
    y = np.eye(classes)[np.arange(len(clips)) % classes]
    arrays = dict(x_train=x[:-1], y_train=y[:-1], x_test=x[-1:], y_test=y[-1:]) | changes
    np.savez(path, **{name: array for name, array in arrays.items() if array is not None})
    return path


@pytest.mark.parametrize("copy", [False, True])
def test_ctrgcn_gives_back_the_clips(tmp_path, copy):
    clips = [clip(1, 5), clip(1, 1), clip(1, 300)]
    source = read_ctrgcn(ctrgcn(tmp_path / "NTU120_CSub.npz", clips, 120, copy=copy))
    for sample, joints in zip(source.samples(), clips, strict=True):
        assert np.array_equal(sample["joints"], joints)
    assert (source.name, source.count, len(source.classes)) == ("ntu120_csub", 3, 120)
    assert source.splits == {"train": ["train-000000", "train-000001"], "test": ["test-000000"]}
    assert source.origin["copied_persons"] == "dropped"


def test_ctrgcn_keeps_two_persons_who_nearly_move_alike(tmp_path):
    joints = np.repeat(clip(1, 6), 2, axis=0)
    joints[1, 3, 7, 1] = np.nextafter(joints[1, 3, 7, 1], np.float32(9))
    source = read_ctrgcn(ctrgcn(tmp_path / "a.npz", [joints, joints]))
    assert next(source.samples())["joints"].shape[0] == 2


def test_ctrgcn_a_copy_is_seen_where_numbers_are_nan(tmp_path):
    joints = clip(1, 6)
    joints[0, 2, 3] = np.nan
    source = read_ctrgcn(ctrgcn(tmp_path / "a.npz", [joints, joints], copy=True))
    assert next(source.samples())["joints"].shape[0] == 1


def test_ctrgcn_leaves_content_to_the_doctor(tmp_path):
    y = np.zeros((2, 60))
    y[1, [3, 5]] = 1
    source = read_ctrgcn(ctrgcn(tmp_path / "a.npz", [clip(0), clip(), clip()], y_train=y))
    samples = list(source.samples())
    assert [sample["label"] for sample in samples] == [-1, -1, 2]
    assert samples[0]["joints"].shape == (0, 0, 25, 3)


def test_ctrgcn_names_classes_only_if_they_can_be_those_of_ntu(tmp_path):
    path = ctrgcn(tmp_path / "a.npz", [clip(), clip()], classes=7)
    assert read_ctrgcn(path).classes[-1] == "class 6"
    assert read_ctrgcn(path, classes=list("abcdefg")).classes[-1] == "g"


def test_ctrgcn_is_an_iterator_anew_each_time_and_becomes_a_store(tmp_path):
    source = read_ctrgcn(ctrgcn(tmp_path / "a.npz", [clip(), clip(2, 9)]))
    assert len(list(source.samples())) == len(list(source.samples())) == 2
    store = open_store(write_store(tmp_path / "a.skel", source))
    assert (store.meta["dtype"], store.clips.num_persons.tolist()) == ("float32", [1, 2])


@pytest.mark.parametrize("changes, message", [
    (dict(y_test=None), "y_test of shape ()"),
    (dict(x_train=np.zeros((1, 300, 140))), "expected (clips, frames, persons x 75)"),
    (dict(y_train=np.zeros((9, 60))), "x_train of shape (1, 300, 150) and y_train of shape (9"),
    (dict(y_train=np.array(["a"])), "and y_train of shape (1,)"),
])
def test_ctrgcn_refuses_other_arrays(tmp_path, changes, message):
    path = ctrgcn(tmp_path / "a.npz", [clip(), clip()], **changes)
    assert message in said(read_ctrgcn, path)


def test_ctrgcn_refuses_a_file_that_is_cut(tmp_path):
    path = ctrgcn(tmp_path / "a.npz", [clip(), clip()])
    content = path.read_bytes()
    for length in (0, 10, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:length])
        assert "a.npz" in said(read_ctrgcn, path)


# -- ST-GCN

def stgcn(folder, clips, names=None, labels=None, split="train", ending="", frames=300, persons=2):
    shape = clips[0].shape[2]
    x = np.zeros((len(clips), 3, frames, shape, persons), np.float32)
    for i, joints in enumerate(clips):
        x[i, :, :joints.shape[1], :, :len(joints)] = joints.transpose(3, 1, 2, 0)
    folder.mkdir(exist_ok=True)
    np.save(folder / f"{split}_data{ending}.npy", x)
    names = names or [f"clip{i}.skeleton" for i in range(len(clips))]
    labels = list(range(len(clips))) if labels is None else labels
    (folder / f"{split}_label.pkl").write_bytes(pickle.dumps((names, labels), protocol=2))
    return folder


def test_stgcn_gives_back_the_clips(tmp_path):
    clips = [clip(1, 5), clip(2, 300)]
    source = read_stgcn(stgcn(tmp_path / "own", clips, ending="_joint"))
    samples = list(source.samples())
    assert [sample["name"] for sample in samples] == ["clip0", "clip1"]
    assert source.splits == {"train": ["clip0", "clip1"]}
    assert source.classes == ("class 0", "class 1")
    for sample, joints in zip(samples, clips, strict=True):
        assert np.array_equal(sample["joints"], joints)


def test_stgcn_labels_of_python_2_and_of_numpy(tmp_path):
    folder = stgcn(tmp_path / "own", [clip(), clip()])
    python2 = b"(lp0\nS'a.skeleton'\np1\naS'b.skeleton'\np2\na(lp3\nI5\naI0\natp4\n."
    (folder / "train_label.pkl").write_bytes(b"(" + python2)
    assert [sample["label"] for sample in read_stgcn(folder).samples()] == [5, 0]
    (folder / "train_label.pkl").write_bytes(pickle.dumps((["a", "b"], np.array([3, 1]))))
    assert [sample["label"] for sample in read_stgcn(folder).samples()] == [3, 1]


def test_stgcn_knows_the_classes_of_ntu_when_names_and_labels_agree(tmp_path):
    name = "S001C001P001R001A061.skeleton"
    assert read_stgcn(stgcn(tmp_path / "a", [clip()], [name], [60])).classes[0] == "drink water"
    assert read_stgcn(stgcn(tmp_path / "b", [clip()], [name], [0])).classes == ("class 0",)


def test_stgcn_reads_the_arrays_of_babel(tmp_path):
    folder = stgcn(tmp_path / "babel", [clip(1, 150)], frames=150, persons=1)
    assert next(read_stgcn(folder).samples())["joints"].shape == (1, 150, 25, 3)


@pytest.mark.parametrize("ending, sign", [("", 1), ("_joint", -1)])
def test_stgcn_turns_poses_in_pictures_into_pixels(tmp_path, ending, sign):
    poses = clip(1, 3, 18)
    poses[0, 1, 4] = 0                                            # a joint that was not found
    poses[..., :2] -= 0.3 * (poses[..., 2:] > 0)
    folder = stgcn(tmp_path / "kinetics", [poses], ending=ending)
    sample = next(read_stgcn(folder).samples())
    expected = (poses[..., :2] * (1, sign) + 0.5) * (340, 256) * (poses[..., 2:] > 0)
    np.testing.assert_allclose(sample["joints"], expected, rtol=1e-5)
    assert np.array_equal(sample["scores"], poses[..., 2])
    assert sample["image_size"] == (256, 340)


def test_stgcn_asks_for_the_layout_when_two_fit(tmp_path):
    folder = stgcn(tmp_path / "own", [clip(1, 2, 20)])
    assert "20 joints with 2 or 3 coordinates fit kinect_v1 and utd_mhad: say" \
        in said(read_stgcn, folder)
    assert next(read_stgcn(folder, "kinect_v1").samples())["joints"].shape == (1, 2, 20, 3)


def test_stgcn_refuses_what_does_not_fit(tmp_path):
    folder = stgcn(tmp_path / "own", [clip(), clip()])
    for record in ((["a"], [0]), (["a", "b"], 7), ["a", "b"], 5, {}):
        (folder / "train_label.pkl").write_bytes(pickle.dumps(record))
        assert "expected (clips, 3, frames" in said(read_stgcn, folder)
    (folder / "train_label.pkl").write_bytes(b"cos\nsystem\n(S'true'\ntR.")
    assert "system" in said(read_stgcn, folder)
    (folder / "train_label.pkl").unlink()
    assert "lists of nothing in train_label.pkl" in said(read_stgcn, folder)


def test_stgcn_refuses_a_folder_of_bones_and_a_cut_array(tmp_path):
    folder = stgcn(tmp_path / "own", [clip()], ending="_bone")
    assert "expected train_data.npy" in said(read_stgcn, folder)
    (folder / "train_data_bone.npy").rename(file := folder / "train_data.npy")
    file.write_bytes(file.read_bytes()[:-4])
    assert "train_data.npy" in said(read_stgcn, folder)


# -- people of a frame

def test_people_are_kept_by_score_and_tied_ones_in_their_order():
    people = [np.full((1, 3), [i, i, score]) for i, score in enumerate((0.5, 0.9, 0.5, 0.5))]
    assert stack_people([people], 1, 3)[:, 0, 0, 0].tolist() == [1, 0, 2]
    assert stack_people([people, []], 1, 9).shape == (4, 2, 1, 3)
    assert stack_people([], 1).shape == (0, 0, 1, 3)


@pytest.mark.parametrize("persons", [0, -1, "2", 1.5])
def test_people_to_keep_is_a_number(persons):
    with pytest.raises(ValueError, match="persons is"):
        stack_people([], 1, persons)


def test_pixels_keep_the_precision_of_the_poses():
    assert to_pixels(np.float32([[0.5, 0.5, 1]])).dtype == np.float32


# -- Kinetics in JSON

def kinetics(folder, clips, labels=None):
    "A folder with the clips (name -> frames of people, (V, 3)) in its validation part."
    (folder / "kinetics_val").mkdir(parents=True, exist_ok=True)
    for name, frames in clips.items():
        data = [dict(frame_index=t, skeleton=[
            dict(pose=pose[:, :2].ravel().tolist(), score=pose[:, 2].tolist()) for pose in people])
            for t, people in enumerate(frames, start=1)]
        (folder / "kinetics_val" / f"{name}.json").write_text(json.dumps(dict(data=data)))
    labels = labels or {name: dict(label="run", label_index=0, has_skeleton=True) for name in clips}
    (folder / "kinetics_val_label.json").write_text(json.dumps(labels))
    return folder


def test_kinetics_looks_at_five_people_and_keeps_two(tmp_path):
    people = [np.full((18, 3), score) for score in (0.1, 0.5, 0.3, 0.2, 0.4, 0.9)]
    source = read_kinetics_json(kinetics(tmp_path, {"a": [people, [], people[:1]]}))
    sample, = source.samples()
    np.testing.assert_allclose(sample["scores"][:, :, 0], [[0.5, 0, 0.1], [0.4, 0, 0]], rtol=1e-6)
    assert sample["joints"].shape == (2, 3, 18, 2)
    np.testing.assert_allclose(sample["joints"][0, 0, 0], [170, 128])
    assert not sample["joints"][1, 1:].any()


def test_kinetics_a_frame_that_is_not_listed_is_empty(tmp_path):
    kinetics(tmp_path, {"a": [[np.full((18, 3), 0.5)]] * 4})
    file = tmp_path / "kinetics_val" / "a.json"
    record = json.loads(file.read_text())
    del record["data"][1]
    file.write_text(json.dumps(record))
    joints = next(read_kinetics_json(tmp_path).samples())["joints"]
    assert joints.any(axis=(0, 2, 3)).tolist() == [True, False, True, True]


def test_kinetics_gives_the_same_pixels_as_its_array(tmp_path):
    poses = clip(1, 6, 18)
    poses[0, 2, 5] = 0
    from_json = next(read_kinetics_json(kinetics(tmp_path / "k", {"a": poses.swapaxes(0, 1)}))
                     .samples())
    centred = poses - np.float32([0.5, 0.5, 0]) * (poses[..., 2:] > 0)
    from_array = next(read_stgcn(stgcn(tmp_path / "s", [centred])).samples())
    np.testing.assert_allclose(from_array["joints"], from_json["joints"], rtol=1e-5, atol=1e-4)
    assert np.array_equal(from_array["scores"], from_json["scores"])


@pytest.mark.parametrize("content, message", [
    ('{"data": [', "a.json"), ("[]", "expected a list of frames"), ('{"data": []}', "expected a"),
    ('{"data": [3]}', "a frame that is none"), ('{"data": "x"}', "expected a list of frames"),
    ('{"data": [{"frame_index": 1, "skeleton": [{"pose": [1, 2, 3], "score": [1]}]}]}', "is none"),
    ('{"data": [{"frame_index": 1, "skeleton": [{"pose": [1, 2], "score": [1]}]}]}', "found 1 j"),
    ('{"data": [{"frame_index": 1, "skeleton": []}, {"frame_index": 1e12, "skeleton": []}]}',
     "expected at most 100000 frames"),
    ('{"data": [{"frame_index": Infinity, "skeleton": []}]}', "is none"),
])
def test_kinetics_refuses_what_is_no_clip(tmp_path, content, message):
    kinetics(tmp_path, {"a": [[np.ones((18, 3))]]})
    (tmp_path / "kinetics_val" / "a.json").write_text(content)
    assert message in said(read_kinetics_json, tmp_path)


def test_kinetics_refuses_folders_that_do_not_fit_their_labels(tmp_path):
    assert "expected kinetics_train_label.json" in said(read_kinetics_json, tmp_path)
    kinetics(tmp_path, {"a": [], "b": []}, {"a": dict(label="run", label_index=0)})
    assert "has_skeleton" in said(read_kinetics_json, tmp_path)
    kinetics(tmp_path, {}, {"c": dict(label="run", label_index=0, has_skeleton=True)})
    assert "clips have no file, first kinetics_val/c.json" in said(read_kinetics_json, tmp_path)
    kinetics(tmp_path, {}, {"a": dict(label="run", label_index=0, has_skeleton=True)})
    assert "clips have no label, first b" in said(read_kinetics_json, tmp_path)
