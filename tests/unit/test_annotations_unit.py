"""Annotation files of every protocol and age, their relatives, and what is no annotation."""

import io
import os
import pickle
from pathlib import Path
from types import FunctionType

import numpy as np
import pytest

from skelbook.data.annotations import decompress, read_annotations
from skelbook.data.origins import PUBLIC
from skelbook.data.store import open_store, write_store

ROOT = Path(__file__).resolve().parents[2]
DATA = Path(os.environ.get("SKELBOOK_DATA", ROOT.parent / "shared" / "data"))
REAL = DATA / "coco17_hrnet_16" / "ntu60_hrnet.pkl"


class OldNumPy(pickle._Pickler):
    "Writes arrays under the names that NumPy 1 gave to their builders."

    def save_global(self, obj, name=None):
        module = (getattr(obj, "__module__", None) or "").replace("numpy._core", "numpy.core")
        if not module.startswith("numpy.core"):
            return super().save_global(obj, name)
        if self.proto < 4:
            self.write(pickle.GLOBAL + f"{module}\n{obj.__name__}\n".encode())
        else:
            self.save(module)
            self.save(obj.__name__)
            self.write(pickle.STACK_GLOBAL)
        self.memoize(obj)

    dispatch = pickle._Pickler.dispatch | {FunctionType: save_global}


def dump(content, protocol=4, old=False):
    "The bytes of a pickle."
    file = io.BytesIO()
    (OldNumPy if old else pickle.Pickler)(file, protocol).dump(content)
    return file.getvalue()


def annotation(name="a", label=0, shape=(1, 5, 17, 2), scores=True, dtype=np.float16, **changes):
    "One clip with numbers of its own."
    rng = np.random.default_rng(sum(map(ord, str(name))))
    clip = dict(frame_dir=name, label=label, img_shape=(240, 320), original_shape=(240, 320),
                total_frames=shape[1] if len(shape) > 1 else 0,
                keypoint=(100 * rng.random(shape)).astype(dtype))
    if scores:
        clip["keypoint_score"] = rng.random(shape[:3]).astype(dtype)
    return clip | changes


@pytest.fixture
def save(tmp_path):
    "A function that writes a pickle below a folder of the test."
    def write(content, *parts, **options):
        path = tmp_path.joinpath(*(parts or ("own.pkl",)))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(dump(content, **options))
        return path
    return write


def read(path, **options):
    "Source and samples of a file."
    source = read_annotations(path, **options)
    samples = list(source.samples())
    assert len(samples) == source.count
    return source, samples


# -- one file

@pytest.mark.parametrize("old", [False, True], ids=["numpy 2", "numpy 1"])
@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_every_protocol_and_both_numpys(save, protocol, old):
    clips = [annotation("a"), annotation("b", 1, (2, 3, 17, 2))]
    path = save({"split": {"train": ["b", "a"]}, "annotations": clips}, protocol=protocol, old=old)
    assert (b"numpy.core" in path.read_bytes()) == old
    source, samples = read(path)
    assert source.splits == {"train": ["a", "b"]}         # in the order of the annotations
    for clip, sample in zip(clips, samples, strict=True):
        assert sample["name"] == clip["frame_dir"] and sample["label"] == clip["label"]
        np.testing.assert_array_equal(sample["joints"], clip["keypoint"])
        np.testing.assert_array_equal(sample["scores"], clip["keypoint_score"])
        assert sample["image_size"] == (240, 320)
        assert sample["num_frames"] == clip["total_frames"]


def test_a_source_can_be_read_twice(save):
    source, samples = read(save([annotation("a"), annotation("b")]))
    for first, second in zip(samples, source.samples(), strict=True):
        assert first["name"] == second["name"]
        np.testing.assert_array_equal(first["joints"], second["joints"])


def test_a_bare_list_has_no_splits(save):
    source, samples = read(save([annotation(shape=(2, 4, 25, 3), scores=False)]))
    assert (source.layout.name, source.splits, source.classes) == ("nturgb+d", {}, ("class 0",))
    assert set(samples[0]) == {"name", "label", "joints", "num_frames"}    # no picture in 3D


def test_filename_is_the_older_key(save):
    clips = [annotation(filename=f"video {i}") for i in range(2)]
    source, samples = read(save({"split": {"val": ["video 1"]}, "annotations": clips}))
    assert [sample["name"] for sample in samples] == ["video 0", "video 1"]


def test_names_that_are_numbers(save):
    source, samples = read(save({"split": {"val": [3]}, "annotations": [annotation(3)]}))
    assert source.splits["val"] == [samples[0]["name"]] == ["3"]


@pytest.mark.parametrize("stored, kept", [(np.float16, np.float16), (np.float32, np.float32),
                                          (np.float64, np.float32), (np.int32, np.float32)])
def test_precision_is_that_of_the_file(save, stored, kept):
    source, samples = read(save([annotation(dtype=stored)]))
    assert source.dtype == kept
    assert samples[0]["joints"].dtype.kind == "f"


def test_mixed_precision_keeps_the_better(save):
    clips = [annotation("a"), annotation("b", dtype=np.float32)]
    assert read(save(clips))[0].dtype == np.float32


@pytest.mark.parametrize("path", ["a.pkl", "b.pickle"])
def test_origin_names_the_file_and_no_folder(save, path):
    path = save([annotation(label=1)], path)
    origin = read_annotations(path, first_label=1).origin
    assert origin["reader"] == "annotations" and origin["file"] == path.name
    assert origin["bytes"] == path.stat().st_size and len(origin["sha256"]) == 64
    assert origin["first_label"] == 1 and str(path.parent) not in str(origin)
    assert set(origin) == {"reader", "file", "bytes", "sha256", "first_label"}


def test_progress_counts_files(save):
    calls = []
    read_annotations(save([annotation()]), progress=lambda *call: calls.append(call))
    assert calls == [(1, 1)]


# -- faults in the data are passed on

def test_content_faults_are_left_to_the_doctor(save):
    broken = annotation("nan", label=10**9)
    broken["keypoint"][0, 0, 0] = np.nan
    clips = [annotation("a"), annotation("a"), annotation("long", total_frames=77), broken,
             annotation("text", label="walk"), annotation("none", label=None),
             annotation("empty", shape=(0, 0, 17, 2)), annotation("less", shape=(1, 5, 16, 2)),
             annotation("numpy", label=np.int64(2)), annotation("minus", label=-1)]
    splits = {"train": ["nobody", "a", "a"], "val": []}
    source, samples = read(save({"split": splits, "annotations": clips}))
    assert [sample["name"] for sample in samples][:3] == ["a", "a", "long"]
    assert samples[2]["num_frames"] == 77 and np.isnan(samples[3]["joints"][0, 0, 0]).all()
    assert [sample["label"] for sample in samples[3:6]] == [10**9, "walk", None]
    assert [sample["label"] for sample in samples[8:]] == [2, -1]
    assert source.splits == {"train": ["a", "a", "nobody"], "val": []}
    assert source.classes == ("class 0", "class 1", "class 2")     # 10**9 is no class


# -- what is no annotation at all

@pytest.mark.parametrize("clip, words", [
    (None, "clip 1 is NoneType, expected a dict"),
    ({"label": 0}, "clip 1 has no `frame_dir`"),
    ({"frame_dir": "b", "keypoint": np.zeros((1, 2, 17, 2))}, "clip 'b' has no `label`"),
    (annotation("b") | {"frame_dir": ["b"]}, "clip ['b'] has a list as `frame_dir`"),
    (annotation("b", keypoint=[[1, 2]]), "clip 'b' has `keypoint` of type list"),
    (annotation("b", keypoint=None), "clip 'b' has `keypoint` of type NoneType"),
    (annotation("b", keypoint=np.array(["x"])), "clip 'b' has `keypoint` of type <U1"),
    (annotation("b", shape=(5, 17, 2)), "has `keypoint` of shape (5, 17, 2), expected (persons,"),
    (annotation("b", keypoint_score="x"), "clip 'b' has `keypoint_score` of type str"),
    (annotation("b", keypoint_score=np.ones(3)), "has `keypoint_score` of shape (3,)"),
])
def test_no_clip(save, clip, words):
    path = save([annotation("a"), clip])
    with pytest.raises(ValueError) as error:
        read_annotations(path)
    assert words in str(error.value) and str(error.value).startswith("own.pkl: ")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("content, words", [
    ({"a": 1}, "found a dict with keys ['a'], expected a list of clips or a dict"),
    ("text", "found str, expected a list"),
    ([], "there is no clip in it"),
    ({"split": {"train": "abc"}, "annotations": [annotation()]}, "`split` is not a dict of lists"),
    ({"split": ["a"], "annotations": [annotation()]}, "`split` is not a dict of lists"),
    ({"split": {}, "annotations": {"a": 1}}, "found a dict with keys ['split', 'annotations']"),
])
def test_no_annotation_file(save, content, words):
    path = save(content)
    with pytest.raises(ValueError) as error:
        read_annotations(path)
    assert words in str(error.value) and "\n" not in str(error.value)


# -- layouts and names

@pytest.mark.parametrize("joints, dims, layout", [(17, 2, "coco"), (25, 3, "nturgb+d"),
                                                  (18, 2, "openpose"), (21, 2, "handmp")])
def test_layout_is_guessed_where_there_is_one(save, joints, dims, layout):
    path = save([annotation(shape=(1, 3, joints, dims), scores=False)])
    assert read_annotations(path).layout.name == layout


def test_one_strange_clip_does_not_decide_the_layout(save):
    clips = [annotation("a", shape=(1, 3, 25, 3), scores=False), annotation("b"), annotation("c")]
    assert read_annotations(save(clips)).layout.name == "coco"


@pytest.mark.parametrize("joints, dims, words", [(17, 3, "17 joints with 3 coordinates fit no"),
                                                 (20, 3, "fit kinect_v1 and utd_mhad")])
def test_other_layouts_must_be_named(save, joints, dims, words):
    path = save([annotation(shape=(1, 3, joints, dims), scores=False)])
    with pytest.raises(ValueError, match=words):
        read_annotations(path)
    own = dict(num_node=joints, inward=[(v, v - 1) for v in range(1, joints)], center=0)
    assert len(read_annotations(path, layout=own).layout.joints) == joints


def labelled(count):
    return [annotation(f"clip {i}", i, (1, 1, 17, 2)) for i in range(count)]


@pytest.mark.parametrize("file, count, splits, first", [
    ("ntu60_hrnet.pkl", 60, {}, "drink water"),
    ("ntu120_2d.pkl", 120, {}, "drink water"),
    ("own.pkl", 60, {"xsub_train": ["clip 1"], "xview_val": []}, "drink water"),
    ("own.pkl", 120, {"xset_train": []}, "drink water"),
    ("hmdb51_2d.pkl", 51, {}, "brush_hair"),
    ("own.pkl", 101, {"train1": [], "test1": []}, "ApplyEyeMakeup"),
    ("k400_2d.pkl", 400, {}, "abseiling"),
    ("gym_hrnet.pkl", 99, {"train": [], "val": []},
     "(VT) round-off, flic-flac with 0.5 turn on, stretched salto forward with 0.5 turn off"),
    ("Diving48_2d.pkl", 48, {}, "Back+15som+05Twis+FREE"),
    ("ntu60_hrnet.pkl", 16, {"xsub_train": []}, "class 0"),       # another set under that name
    ("ntu60_hrnet.pkl", 61, {"xsub_train": []}, "class 0"),
    ("own.pkl", 99, {"train": [], "val": []}, "class 0"),         # anybody's 99 classes
])
def test_class_names(save, file, count, splits, first):
    path = save({"split": splits, "annotations": labelled(count)}, file)
    source = read_annotations(path)
    assert len(source.classes) == count and source.classes[0] == first


def test_a_few_labels_outside_do_not_hide_what_a_file_is(save):
    clips = labelled(60) * 5 + [annotation("stray", 60)]
    source = read_annotations(save(clips, "ntu60_2d.pkl"))
    assert source.name == "ntu60-2d" and len(source.classes) == 60


def test_given_class_names_win(save, tmp_path):
    path = save(labelled(60), "ntu60_2d.pkl")
    (tmp_path / "names.txt").write_text("sit\n\n  walk \n", encoding="utf-8")
    assert read_annotations(path, classes=tmp_path / "names.txt").classes == ("sit", "walk")
    many = [f"action {i}" for i in range(70)]
    assert read_annotations(path, classes=many).classes == tuple(many)


def test_public_files_have_their_lists_and_layouts(tmp_path):
    lists = ROOT / "data_prep" / "lists"
    for name, public in PUBLIC.items():
        assert public.name == name and len(public.files) == len(public.addresses) == 2
        assert all(a.endswith("/" + f) for a, f in zip(public.addresses, public.files, strict=True))
        words = (lists / public.class_list).read_text(encoding="utf-8").split("\n")
        assert len([word for word in words if word]) >= public.num_classes
    assert len({file for public in PUBLIC.values() for file in public.files}) == 18


# -- the Kinetics form

def kinetics(name="a", frames=(0, 0, 2, 5), **changes):
    "A line of a table of contents, and the skeletons it is about."
    rng = np.random.default_rng(sum(map(ord, name)))
    count, frames = len(frames), np.array(frames, np.int16)
    line = dict(frame_dir=name, label=0, img_shape=(240, 320), original_shape=(240, 320),
                total_frames=8, frame_inds=frames, valid={0.5: 3, 0.6: 2, 0.7: 2, 0.8: 1, 0.9: 0},
                box_score=np.linspace(0.95, 0.55, count).astype(np.float16))
    return line | changes, (100 * rng.random((count, 17, 3))).astype(np.float16)


def test_kpfiles_of_pyskl_are_read_once_each(save, tmp_path, monkeypatch):
    from skelbook.data import annotations
    lines, packs = [], {0: {}, 1: {}}
    for i, name in enumerate("abcde"):
        line, rows = kinetics(name, raw_file=f"/data/k400/kpfiles/part_{i % 2}.pkl")
        lines.append(line)
        packs[i % 2][name] = {"keypoint": rows}
    for i, pack in packs.items():
        save(pack, "points", "kpfiles", f"part_{i}.pkl")
    path = save({"split": {"val": list("edcba")}, "annotations": lines}, "k400_hrnet.pkl")
    source = read_annotations(path, kpfiles=tmp_path / "points")
    opened = []
    real = annotations.read_pickle
    monkeypatch.setattr(annotations, "read_pickle", lambda p: opened.append(p.name) or real(p))
    samples = list(source.samples())
    assert opened == ["part_0.pkl", "part_1.pkl"]
    assert [sample["name"] for sample in samples] == list("acebd") == source.splits["val"]
    for sample in samples:
        rows = packs["abcde".index(sample["name"]) % 2][sample["name"]]["keypoint"]
        joints, scores = decompress(rows, np.array([0, 0, 2, 5]))
        np.testing.assert_array_equal(sample["joints"], joints)
        np.testing.assert_array_equal(sample["scores"], scores)
    assert source.dtype == np.float16 and source.layout.name == "coco"
    assert source.origin["kpfiles"]["files"] == 2 and source.origin["max_person"] == 10


def test_files_of_mmaction2_are_one_per_clip(save, tmp_path):
    line, rows = kinetics("a.b")
    save({"keypoint": rows, "frame_inds": line.pop("frame_inds"), "label": 7}, "kp", "a.b.pkl")
    _, (sample,) = read(save([line]), kpfiles=tmp_path / "kp")
    assert sample["joints"].shape == (2, 3, 17, 2) and sample["label"] == 0


def test_a_list_of_skeletons_may_stand_in_the_annotation(save):
    line, rows = kinetics()
    source, (sample,) = read(save([line | {"keypoint": rows}]), squeeze=False)
    assert sample["joints"].shape == (2, 8, 17, 2) and source.layout.name == "coco"
    assert "num_frames" not in sample and source.origin["squeeze"] is False


def test_valid_ratio_chooses_clips_and_skeletons(save):
    clips = []
    for name, valid in (("a", 2), ("b", 6)):
        line, rows = kinetics(name)
        clips.append(line | {"keypoint": rows, "valid": {0.7: valid}})
    path = save({"split": {"val": ["a", "b", "nobody"]}, "annotations": clips})
    source, (sample,) = read(path, valid_ratio=0.5, box_thr=0.7)
    assert sample["name"] == "b" and source.splits["val"] == ["b", "nobody"]
    assert sample["joints"].shape == (2, 1, 17, 2)        # 0.95 and 0.82, both in frame 0
    assert source.origin["valid_ratio"] == 0.5
    everything = read(path, box_thr=0.7)[1]
    assert [sample["joints"].shape[1] for sample in everything] == [3, 3]
    with pytest.raises(ValueError, match="unknown box_thr 0.65: did you mean"):
        read_annotations(path, valid_ratio=0.5, box_thr=0.65)
    with pytest.raises(ValueError, match="no clip is left"):
        read_annotations(path, valid_ratio=1.0, box_thr=0.7)


@pytest.mark.parametrize("options", [{"valid_ratio": -0.1}, {"valid_ratio": 50},
                                     {"max_person": 0}])
def test_options_that_cannot_be(save, options):
    with pytest.raises(ValueError, match="expected a share from 0 to 1"):
        read_annotations(save([annotation()]), **options)


def test_valid_ratio_needs_the_counts(save):
    with pytest.raises(ValueError, match="own.pkl: clip 'a' has no `valid`.*valid_ratio at 0"):
        read_annotations(save([annotation("a")]), valid_ratio=0.5)


@pytest.mark.parametrize("pack, words", [
    ({"b": {}}, "part_0.pkl: no key points of clip 'a' in it"),
    ([1, 2], "part_0.pkl: no key points of clip 'a' in it"),
    ({"a": {"keypoint": "x"}}, "part_0.pkl: clip 'a' has `keypoint` of type str"),
    ({"a": {"keypoint": np.zeros((3, 17, 3))}}, "clip 'a' (`frame_inds` is int16 of shape (4,)"),
    ({"a": {"keypoint": np.zeros((4, 17, 2))}}, "shape (4, 17, 2), expected (skeletons, joints"),
])
def test_key_points_that_do_not_fit(save, tmp_path, pack, words):
    save(pack, "kp", "part_0.pkl")
    path = save([kinetics("a", raw_file="part_0.pkl")[0]])
    source = read_annotations(path, kpfiles=tmp_path / "kp")
    with pytest.raises(ValueError) as error:
        list(source.samples())
    assert words in str(error.value) and "\n" not in str(error.value)


def test_missing_key_points_are_seen_at_once(save, tmp_path):
    path = save([kinetics("a")[0]])
    with pytest.raises(ValueError, match="clip 'a' has no `keypoint`: name the folder"):
        read_annotations(path)
    with pytest.raises(ValueError, match="expected in a.pkl below kp"):
        read_annotations(path, kpfiles=tmp_path / "kp")


@pytest.mark.parametrize("name", ["../secret", "/secret", "kp/../../secret"])
def test_nothing_outside_the_folder_is_opened(save, tmp_path, name):
    save({"keypoint": np.zeros((4, 17, 3))}, "secret.pkl")
    (tmp_path / "kp").mkdir()
    with pytest.raises(ValueError, match="has no `keypoint`"):
        read_annotations(save([kinetics(name)[0]]), kpfiles=tmp_path / "kp")


def test_frames_of_skeletons_must_be_possible(save):
    line, rows = kinetics(frames=(0, 2, 1, 3))
    with pytest.raises(ValueError, match="own.pkl: clip 'a' .*goes back in time"):
        read(save([line | {"keypoint": rows}]))
    line, rows = kinetics(total_frames=5)
    with pytest.raises(ValueError, match="from 0 to 5 in a clip of 5 frames"):
        read(save([line | {"keypoint": rows}]), squeeze=False)
    line, rows = kinetics(total_frames=10**12)
    with pytest.raises(ValueError, match="in a clip of 1000000000000 frames"):
        read(save([line | {"keypoint": rows}]), squeeze=False)
    line.pop("total_frames")
    with pytest.raises(ValueError, match="has no 'total_frames'"):
        read(save([line | {"keypoint": rows}]), squeeze=False)


def test_a_clip_without_any_skeleton_is_empty(save):
    line, rows = kinetics(frames=())
    _, (sample,) = read(save([line | {"keypoint": rows}]))
    assert sample["joints"].shape == (0, 0, 17, 2)


def test_a_crowd_takes_no_more_room_than_is_kept():
    frames = np.repeat(np.arange(2), [3000, 1])
    rows = np.random.default_rng(0).random((3001, 17, 3)).astype(np.float16)
    joints, scores = decompress(rows, frames)
    assert joints.shape == (10, 2, 17, 2)
    sums = rows[:3000, :, 2].sum(-1)
    best = np.argsort(-sums, kind="stable")[:10]
    np.testing.assert_array_equal(scores[:, 0], rows[best, :, 2])
    np.testing.assert_array_equal(joints[0, 1], rows[3000, :, :2])
    assert not joints[1:, 1].any()


@pytest.mark.filterwarnings("error")
def test_numbers_too_large_for_half_become_infinite_in_silence():
    rows = np.full((3, 17, 3), 6e4, np.float32)
    rows[0, 0, 0] = 1e6
    joints, _ = decompress(rows, np.zeros(3, int), max_person=1)
    assert np.isinf(joints[0, 0, 0, 0]) and np.isfinite(joints[0, 0, 1:]).all()


def test_a_score_that_is_not_a_number_loses_no_other_person():
    rows = np.ones((3, 17, 3), np.float16) * np.arange(1, 4)[:, None, None]
    rows[1, 0, 2] = np.nan
    joints, _ = decompress(rows, np.zeros(3, int), max_person=2)
    assert joints[:, 0, 0, 0].tolist() == [3, 1]


# -- lists for training and testing

def lists(save, folder, clips, splits, **options):
    "Writes the lists of a folder: dict of file to clip numbers."
    for file, numbers in splits.items():
        path = save([clips[i] for i in numbers], folder, *f"{file}.pkl".split("/"), **options)
    return path.parents[file.count("/")]


SOLID = [annotation(f"clip {i}", i % 2, (2, 3 + i, 25, 3), scores=False, dtype=np.float32)
         for i in range(4)]


@pytest.mark.parametrize("second, split", [("xview", "xview"), ("xsetup", "xset")])
def test_two_protocols_become_one_data_set(save, second, split):
    files = {"xsub/train": [1, 0], "xsub/val": [2, 3], f"{second}/train": [0, 2],
             f"{second}/val": [3, 1]}
    source, samples = read(lists(save, "skelact", SOLID, files))
    assert source.name == "skelact" and source.layout.name == "nturgb+d"
    order = {"xview": [1, 0, 2, 3], "xsetup": [0, 2, 3, 1]}[second]      # by the names of folders
    assert [sample["name"] for sample in samples] == [f"clip {i}" for i in order]
    parts = {"xsub_train": {0, 1}, "xsub_val": {2, 3},
             f"{split}_train": {0, 2}, f"{split}_val": {1, 3}}
    assert source.splits == {part: [f"clip {i}" for i in order if i in numbers]
                             for part, numbers in parts.items()}
    np.testing.assert_array_equal(samples[0]["joints"], SOLID[order[0]]["keypoint"])
    assert source.dtype == np.float32 and source.origin["files"] == 4
    assert "image_size" not in samples[0]


def test_one_folder_is_one_protocol(save):
    folder = lists(save, "xview", SOLID, {"train": [0, 1], "val": [2, 3]})
    assert set(read_annotations(folder).splits) == {"xview_train", "xview_val"}
    folder = lists(save, "some", SOLID, {"train": [0, 1], "test": [2, 3]})
    assert set(read_annotations(folder).splits) == {"train", "test"}


def test_older_lists_have_the_protocol_in_their_names(save):
    folder = lists(save, "old", SOLID, {"ntu60_xsub_train": [0, 1], "ntu60_xsub_val": [2, 3]})
    assert set(read_annotations(folder).splits) == {"xsub_train", "xsub_val"}


@pytest.mark.parametrize("changes", [{"label": 9}, {"keypoint": SOLID[0]["keypoint"] + 1},
                                     {"keypoint": SOLID[0]["keypoint"].astype(np.float64)},
                                     {"keypoint_score": np.ones((2, 3, 25))}])
def test_copies_that_differ_are_refused(save, changes):
    clips = [*SOLID, SOLID[0] | changes]
    folder = lists(save, "skelact", clips, {"xsub/train": [0], "xview/train": [4]})
    with pytest.raises(ValueError, match="clip 'clip 0' of xview differs from the one of xsub"):
        read_annotations(folder)


def test_copies_with_the_same_gaps_are_the_same(save):
    gap = SOLID[0] | {"keypoint": SOLID[0]["keypoint"] * np.nan}
    folder = lists(save, "skelact", [gap], {"xsub/train": [0], "xview/train": [0]})
    assert read_annotations(folder).count == 1


def test_a_clip_in_both_lists_of_a_protocol_is_left_to_the_doctor(save):
    folder = lists(save, "xsub", SOLID, {"train": [0, 1], "val": [1]})
    source, samples = read(folder)
    assert source.count == 3 and source.splits["xsub_val"] == ["clip 1"]


def test_folders_that_are_no_lists(save, tmp_path):
    save([annotation()], "empty", "own.pkl")
    with pytest.raises(ValueError, match="empty: no lists in this folder"):
        read_annotations(tmp_path / "empty")
    lists(save, "two", SOLID, {"ntu60_xsub_train": [0], "ntu120_xsub_train": [0]})
    with pytest.raises(ValueError, match="ntu60_xsub_train.pkl are both for xsub_train"):
        read_annotations(tmp_path / "two")
    save({"a": 1}, "dict", "train.pkl")
    with pytest.raises(ValueError, match="train.pkl: found dict, expected a list of clips"):
        read_annotations(tmp_path / "dict")


# -- a real file

@pytest.mark.skipif(not REAL.is_file(), reason="the recordings are not here")
def test_the_real_file(tmp_path):
    source = read_annotations(REAL, first_label=1)
    assert (source.name, source.layout.name, source.dtype) == ("ntu60_hrnet", "coco", np.float16)
    assert source.classes == tuple(f"class {i}" for i in range(16)) and source.count == 486
    assert {split: len(names) for split, names in source.splits.items()} == \
        {"xsub_train": 388, "xsub_test": 98}
    store = open_store(write_store(tmp_path / "real.skel", source))
    clips = store.clips
    assert (clips.num_frames.min(), np.median(clips.num_frames), clips.num_frames.max()) == \
        (10, 52, 201)
    assert set(clips.num_persons) == {1}
    assert {(1080, 1326), (1080, 1762)} <= set(map(tuple, clips.image_size.tolist()))
    assert 26 <= np.bincount(clips.labels).min() <= np.bincount(clips.labels).max() <= 34
    scores = np.asarray(clips.scores, np.float32)
    assert round(float(scores.max()), 3) == 1.024 and round(float(scores.mean()), 2) == 0.80
    assert -97 < clips.joints.min() <= -95 and 2190 < clips.joints.max() < 2194
    for name, label in zip(clips.names, clips.labels, strict=True):
        assert int(name.rpartition("A")[2]) == label + 1
