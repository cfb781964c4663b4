"""The real files, where they are present: documented counts, traps, fingerprints, and floors.

A floor is the accuracy of a method that learns no features. All of them were measured by others on
the same files, so they prove that files, labels and splits were read as they are meant.
"""

import os
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from skelbook.data.small_sets import (
    EXPECTED,
    PENN_ACTIONS,
    read_coco17,
    read_nw_ucla,
    read_penn_action,
    read_sbu,
    read_utd_mhad,
    take_stock,
)
from skelbook.data.store import open_store, protocols, write_store

ROOT = Path(__file__).resolve().parents[2]
DATA = Path(os.environ.get("SKELBOOK_DATA", ROOT.parent / "shared" / "data"))
SETS = {"nw-ucla": (read_nw_ucla, "nw_ucla/all_sqe.zip"),
        "utd-mhad": (read_utd_mhad, "utd_mhad/Skeleton.zip"),
        "sbu": (read_sbu, "sbu/SBU.zip"),
        "penn-action": (read_penn_action, "penn_action/labels.zip"),
        "coco17-16": (read_coco17, "coco17_hrnet_16/ntu60_hrnet.pkl")}


@cache
def load(name):
    "Source of a set and its samples by name."
    read, file = SETS[name]
    if not (DATA / file).is_file():
        pytest.skip(f"no {file} in SKELBOOK_DATA or ../shared/data")
    source = read(DATA / file)
    return source, {sample["name"]: sample for sample in source.samples()}


# -- counts

@pytest.mark.parametrize("name", SETS)
def test_the_real_set_has_the_documented_counts(name):
    source, samples = load(name)
    assert take_stock(source) == EXPECTED[name]
    assert source.count == len(samples) == sum(EXPECTED[name]["classes"])
    assert all(np.isfinite(sample["joints"]).all() for sample in samples.values())
    for train, val in protocols(source.splits).values():
        assert sorted(source.splits[train] + source.splits[val]) == sorted(samples)


def test_nw_ucla_by_actor_camera_and_place():
    source, samples = load("nw-ucla")
    actors, views = (np.bincount([int(name[part]) for name in samples])[1:].tolist()
                     for part in (slice(5, 7), slice(-1, None)))
    assert actors == [160, 154, 159, 162, 119, 138, 147, 158, 139, 148]
    assert views == [516, 504, 464]
    frames = {name: sample["joints"].shape[1] for name, sample in samples.items()}
    assert [name for name in frames if frames[name] == 1] == ["a02_s09_e04_v02", "a02_s09_e04_v03"]
    assert sum(count < 10 for count in frames.values()) == 10
    joints = np.concatenate([sample["joints"][0] for sample in samples.values()])
    assert -2.46 < joints.min() < -2.44 and 5.08 < joints.max() < 5.10          # metres


def copies_between_cameras(source, samples):
    "Test clips of NW-UCLA that are the clip of camera 2, number for number."
    return [name for name in source.splits["xview_val"] if name[:-1] + "2" in samples
            and np.array_equal(samples[name]["joints"], samples[name[:-1] + "2"]["joints"])]


def test_a_fifth_of_the_test_clips_of_nw_ucla_is_in_its_training_set():
    source, samples = load("nw-ucla")
    copies = copies_between_cameras(source, samples)
    assert len(copies) == 95 and {name[:3] for name in copies} == {"a02", "a03"}
    assert set(copies) == {name for name in samples if name[:3] in ("a02", "a03")
                           and name.endswith("v03")}
    x, y, number = table(samples, 1)
    train = [number[name] for name in source.splits["xview_train"]]
    others = [name for name in source.splits["xview_val"] if name not in copies]
    known, unseen = (accuracies(x, y, train, [number[name] for name in names], 10)
                     for names in (copies, others))
    np.testing.assert_allclose(known, 100)
    np.testing.assert_allclose(unseen, [59.62, 44.99], atol=50 / 369)


def test_the_store_of_nw_ucla_is_the_one_of_the_recorded_run(tmp_path):
    "The hash stands in the records of runs in this repository."
    source, _ = load("nw-ucla")
    store = open_store(write_store(tmp_path / "nw-ucla.skel", source))
    assert store.meta["content"] == \
        "edc9add16ce7052ca449e6c9271e67f708d8209b87a5fc3bfadc6f35021c9fd1"


def test_utd_mhad_lacks_three_trials_and_stays_in_the_room():
    _, samples = load("utd-mhad")
    every = {f"a{a}_s{s}_t{t}" for a in range(1, 28) for s in range(1, 9) for t in range(1, 5)}
    assert every - set(samples) == {"a8_s1_t4", "a23_s6_t4", "a27_s8_t4"}
    joints = np.concatenate([sample["joints"][0] for sample in samples.values()])
    low, high = joints.min((0, 1)), joints.max((0, 1))
    np.testing.assert_allclose([low, high], [[-.79, -1.46, 1.77], [.78, 1.02, 4.05]], atol=.006)
    height = joints[:, 0, 1] - joints[:, [15, 19], 1].min(1)                    # head over feet
    assert 1.2 < np.median(height) < 1.7


def test_sbu_people_approach_depart_and_embrace():
    "Distance of the two torsos in the file's own units: it tells which class is which."
    _, samples = load("sbu")
    apart = {label: [] for label in range(8)}
    for sample in samples.values():
        x = as_in_the_file(sample["joints"])[:, :, 2, 0]
        apart[sample["label"]].append(np.abs(x[0] - x[1]))
    first, last = ([np.mean([d[k] for d in apart[label]]) for label in (0, 1)] for k in (0, -1))
    np.testing.assert_allclose([first, last], [[.55, .23], [.21, .50]], atol=.006)
    closest = [np.mean([d.min() for d in apart[label]]) for label in range(8)]
    assert np.argmin(closest) == 5 and abs(closest[5] - .08) < .006


def test_sbu_left_is_left():
    "Facing the other person, one has the left shoulder on the left: this is no mirror image."
    _, samples = load("sbu")
    share = []
    for sample in samples.values():
        if sample["label"] in (2, 3, 7):                               # kicking, pushing, punching
            joints = sample["joints"]
            forward = joints[::-1, :, 2] - joints[:, :, 2]
            across = joints[:, :, 3] - joints[:, :, 6]                 # right to left shoulder
            share.append(((np.cross([0, 1, 0], forward) * across).sum(-1) > 0).mean())
    assert np.mean(share) > .95


PENN = {   # training and test clips
    "baseball_pitch": (104, 63), "golf_swing": (89, 77), "situp": (50, 50),
    "baseball_swing": (115, 58), "jump_rope": (40, 42), "squat": (114, 117),
    "bench_press": (69, 71), "jumping_jacks": (56, 56), "strum_guitar": (46, 48),
    "bowl": (135, 85), "pullup": (98, 101), "tennis_forehand": (80, 77),
    "clean_and_jerk": (43, 45), "pushup": (104, 107), "tennis_serve": (115, 71)}


def test_penn_action_by_class_split_and_size():
    source, samples = load("penn-action")
    train, val = (np.bincount([samples[name]["label"] for name in names], minlength=15).tolist()
                  for names in (source.splits["train"], source.splits["val"]))
    assert [PENN[action] for action in PENN_ACTIONS] == list(zip(train, val, strict=True))
    sizes = [sample["image_size"] for sample in samples.values()]
    assert (len(set(sizes)), sizes.count((270, 480)), sizes.count((360, 480))) == (71, 1197, 604)
    assert all(s["num_frames"] == s["joints"].shape[1] for s in samples.values())


def test_penn_action_visibility():
    _, samples = load("penn-action")
    scores = np.concatenate([sample["scores"][0] for sample in samples.values()])
    joints = np.concatenate([sample["joints"][0] for sample in samples.values()])
    assert set(np.unique(scores)) == {0, 1} and round(100 * (scores == 0).mean()) == 22
    dummies = (joints[scores == 0] == 1).all(-1)
    assert round(100 * dummies.mean()) == 2
    assert [name for name, sample in samples.items() if not sample["scores"].any()] == ["1516"]
    outside = 0
    for sample in samples.values():
        height, width = sample["image_size"]
        seen = sample["joints"][sample["scores"] == 1]
        outside += ((seen < 0).any(-1) | (seen > (width, height)).any(-1)).sum()
    assert outside == 1012


def test_coco17_twins():
    source, samples = load("coco17-16")
    recordings = {name.removeprefix("JX") for name in samples}
    assert len(recordings) == 243 and all(f"JX{name}" in samples for name in recordings)
    assert all(int(name.rpartition("A")[2]) == s["label"] + 1 for name, s in samples.items())
    leaks = {}
    for protocol, (train, val) in protocols(source.splits).items():
        learnt = {name.removeprefix("JX") for name in source.splits[train]}
        leaks[protocol] = sum(name.removeprefix("JX") in learnt for name in source.splits[val])
    assert leaks == {"infile": 80, "grouped": 0}
    scores = np.concatenate([sample["scores"].ravel() for sample in samples.values()], dtype=float)
    assert (scores.min(), round(scores.max(), 3), round(scores.mean(), 2)) == (0, 1.024, .80)
    assert round(100 * (scores < .3).mean(), 1) == 1.2


# -- floors

def as_in_the_file(joints):
    "SBU in the units of its files: the inverse of what the reader does."
    return (joints - [1.28, .96, 0]) / [-2.56, -1.92, 1.28]


def features(joints, origin=None):
    """Coordinates of 24 frames and twice their differences.

    Shapes: joints (M, T, V, C); the origin is a joint of the first frame, or the mean of all.
    """
    joints = joints.astype(float).transpose(1, 0, 2, 3)                # (T, M, V, C)
    t = np.linspace(0, len(joints) - 1, 24)
    before, after = np.floor(t).astype(int), np.ceil(t).astype(int)
    share = (t - before)[:, None, None, None]
    joints = joints[before] * (1 - share) + joints[after] * share
    joints = joints - (joints[0].mean((0, 1)) if origin is None else joints[0, 0, origin])
    joints /= np.sqrt((joints ** 2).mean())
    return np.concatenate([joints.ravel(), 2 * np.diff(joints, axis=0).ravel()])


def squared_distances(a, b):
    return np.maximum((a ** 2).sum(1)[:, None] + (b ** 2).sum(1) - 2 * a @ b.T, 0)


def accuracies(x, y, train, test, classes):
    "Per cent right of kernel ridge regression (RBF kernel) and of the nearest neighbour."
    within, between = squared_distances(x[train], x[train]), squared_distances(x[test], x[train])
    gamma, wanted = 1 / np.median(within), np.eye(classes)[y[train]]
    mean = wanted.mean(0)
    weights = np.linalg.solve(np.exp(-gamma * within) + .01 * np.eye(len(train)), wanted - mean)
    ridge = (np.exp(-gamma * between) @ weights + mean).argmax(1)
    nearest = y[train][between.argmin(1)]
    return 100 * np.array([(ridge == y[test]).mean(), (nearest == y[test]).mean()])


# joint at the origin, protocol -> per cent of (a) RBF ridge and (b) 1-NN
FLOORS = {"nw-ucla": (1, {"xview": (67.89, 56.25)}), "utd-mhad": (3, {"xsub": (86.05, 82.79)}),
          "penn-action": (None, {"": (94.29, 91.29)}),
          "coco17-16": (None, {"infile": (79.59, 65.31), "grouped": (78.57, 70.54)})}


def table(samples, origin=None, convert=lambda joints: joints):
    "Features and label of every clip, and the row of each name."
    x = np.stack([features(convert(sample["joints"]), origin) for sample in samples.values()])
    y = np.array([sample["label"] for sample in samples.values()])
    return x, y, {name: row for row, name in enumerate(samples)}


def measure(name, origin=None, convert=lambda joints: joints):
    "Both accuracies of every protocol, and how many clips each is tested on."
    source, samples = load(name)
    x, y, number = table(samples, origin, convert)
    found = {}
    for protocol, splits in protocols(source.splits).items():
        train, test = ([number[clip] for clip in source.splits[split]] for split in splits)
        found[protocol] = accuracies(x, y, train, test, len(source.classes)), len(test)
    return found


@pytest.mark.parametrize("name", FLOORS)
def test_floor(name):
    origin, floors = FLOORS[name]
    found = measure(name, origin)
    for protocol, expected in floors.items():
        accuracy, clips = found[protocol]
        np.testing.assert_allclose(accuracy, expected, atol=50 / clips, err_msg=protocol)


def test_floor_of_sbu():
    "Mean of five folds, in the units of the files: in metres the nearest neighbour is another one."
    found = [accuracy for accuracy, _ in measure("sbu", convert=as_in_the_file).values()]
    ridge, nearest = np.array(found).T
    np.testing.assert_allclose(ridge, [90.91, 92.31, 94.64, 90.74, 89.23], atol=.5)
    np.testing.assert_allclose([ridge.mean(), nearest.mean()], [91.57, 78.69], atol=50 / 282)
