"""The built-in data set: names, bits, statistics, how hard it is, raw files with faults."""
import collections
import hashlib
import json

import numpy as np
import pytest
import torch

from skelbook.data.bodies import camera_pose
from skelbook.data.synthetic import (
    CLASSES,
    FAULTS,
    clip_names,
    make_clip,
    make_clip_2d,
    make_performer,
    observe,
    observe_video,
    parse_name,
    perform,
    performers_of,
    split_names,
    synthetic_clips,
    write_skeleton_file,
)
from skelbook.transforms.normalize import align_3d

NAMES = clip_names()
ONE, TWO = "S003C002P007R002A003", "S006C001P005R001A009"          # of one person, of two


def scene(name, seed=0):
    "The performance of a clip and its true joints in camera coordinates."
    code = parse_name(name)
    performance = perform(seed, code.setup, code.performer, code.replication, code.action)
    position, axes = camera_pose(code.setup, code.camera)
    return performance, (performance.joints - position) @ axes.T


# -- names and splits

def test_every_performer_visits_one_odd_and_one_even_setup():
    setups = collections.defaultdict(list)
    for setup in range(1, 9):
        assert len(set(performers_of(setup))) == 4
        for performer in performers_of(setup):
            setups[performer].append(setup % 2)
    assert sorted(setups) == list(range(1, 17))
    assert all(sorted(visits) == [0, 1] for visits in setups.values())


def test_names_are_a_full_grid():
    codes = [parse_name(name) for name in NAMES]
    assert len(set(NAMES)) == 2304 and NAMES == sorted(NAMES)
    for part, count in ((1, 768), (3, 1152), (4, 192)):
        assert set(collections.Counter(code[part] for code in codes).values()) == {count}


@pytest.mark.parametrize("name", [
    "", "S001C001P001R001A013", "S001C004P001R001A001", "S001C001P002R001A001",
    "S009C001P001R001A001", "S001C001P001R003A001", "S000C001P001R001A001", " " + NAMES[0],
    NAMES[0] + ".skeleton"])
def test_names_outside_the_grid_are_refused(name):
    with pytest.raises(ValueError, match="no clip of synthetic12"):
        parse_name(name)
    with pytest.raises(ValueError, match="no clip of synthetic12"):
        make_clip(name)


def test_splits_have_their_sizes_and_cover_everything():
    splits = split_names()
    sizes = {name: len(members) for name, members in splits.items()}
    assert sizes == {"xsub_train": 1440, "xsub_val": 864, "xview_train": 1536, "xview_val": 768,
                     "xset_train": 1152, "xset_val": 1152}
    for rule, part in (("xsub", 2), ("xview", 1), ("xset", 0)):
        train, val = splits[f"{rule}_train"], splits[f"{rule}_val"]
        assert sorted(train + val) == NAMES
        assert not {parse_name(n)[part] for n in train} & {parse_name(n)[part] for n in val}
        assert train == sorted(train) and val == sorted(val)


# -- the same bits

@pytest.mark.parametrize("view", ("3d", "2d"))
def test_a_clip_is_the_same_alone_in_sequence_and_backwards(view):
    some = [ONE, TWO, NAMES[5], ONE.replace("C002", "C003"), NAMES[2000]]
    ahead = {name: rest for name, *rest in synthetic_clips(some, view=view)}
    back = {name: rest for name, *rest in synthetic_clips(some[::-1], view=view)}
    for name in some:
        alone = (make_clip(name), None) if view == "3d" else make_clip_2d(name)
        for joints, scores, label in (ahead[name], back[name]):
            assert joints.dtype == np.float16 and label == parse_name(name).action - 1
            np.testing.assert_array_equal(joints, alone[0])
            np.testing.assert_array_equal(scores, alone[1])


def test_the_first_clips_of_the_sequence_are_those_of_the_names():
    for name, (made, joints, scores, label) in zip(NAMES[:30], synthetic_clips(), strict=False):
        assert (made, scores, label) == (name, None, parse_name(name).action - 1)
        assert joints.shape[0] == (2 if label >= 8 else 1) and joints.shape[2:] == (25, 3)


@pytest.mark.skipif(not np.__version__.startswith("2.4."), reason="bits belong to a NumPy release")
def test_the_data_set_has_not_changed():
    "A change here moves every number measured on this data set: say so in CHANGELOG.md."
    clips = [ONE, TWO, NAMES[0]]
    data = [x for view in ("3d", "2d") for _, *x, _ in synthetic_clips(clips, view=view)]
    digest = hashlib.sha256(b"".join(x.tobytes() for pair in data for x in pair if x is not None))
    assert digest.hexdigest()[:16] == "9c19e86c5456ad99"


def test_seeds_make_other_data():
    assert not np.array_equal(make_clip(ONE, seed=0)[:, :30], make_clip(ONE, seed=1)[:, :30])
    assert make_performer(0, 1).height != make_performer(1, 1).height


def test_the_cameras_of_a_performance_see_one_movement():
    views = [make_clip(ONE.replace("C002", c), difficulty=0) for c in ("C001", "C003")]
    limbs = [np.linalg.norm((x[:, :, 5] - x[:, :, 10]).astype(float), axis=-1) for x in views]
    np.testing.assert_allclose(*limbs, atol=5e-3)


def test_difficulty_scales_the_noise_and_the_losses():
    clean, plain, hard = (make_clip(ONE, difficulty=d).astype(float) for d in (0, 1, 3))
    np.testing.assert_allclose(hard - clean, 3 * (plain - clean), atol=0.01)
    lost = [(make_clip(n, difficulty=12.5) == 0).all((2, 3)).any(1).all() for n in NAMES[:20]]
    assert all(lost)                                                # 12.5 · .08: always


def test_progress_counts_to_the_end():
    seen = []
    for _ in synthetic_clips(NAMES[:3], progress=lambda done, total: seen.append((done, total))):
        pass
    assert seen == [(1, 3), (2, 3), (3, 3)]


def test_unknown_views_are_refused():
    with pytest.raises(ValueError, match="unknown view '3D'"):
        next(synthetic_clips([ONE], view="3D"))


# -- left and right, in space and in pictures

FACING = [name for name in NAMES if name[16:] == "A007"
          and name[5:8] == {"R001": "002", "R002": "003"}[name[12:16]]]


def test_who_faces_the_depth_camera_has_the_left_shoulder_at_the_smaller_x():
    for name in FACING:
        joints = make_clip(name, difficulty=0)
        assert (joints[0, :, 4, 0] < joints[0, :, 8, 0]).all()


def test_who_faces_the_video_camera_has_the_left_wrist_further_right():
    for name in FACING:
        code = parse_name(name)
        joints, scores = observe_video(scene(name)[0], 0, code)
        gap = (joints[..., 9, 0] - joints[..., 10, 0])[scores[..., 9] > 0]
        assert 60 < np.median(gap) < 400


def test_people_of_a_duet_stand_face_to_face():
    for action in (9, 10, 11, 12):
        joints = perform(0, 1, 5, 1, action).joints
        across = joints[1, :, 0] - joints[0, :, 0]
        shoulders = joints[:, :, 4] - joints[:, :, 8]
        forward = np.cross(shoulders, [0, 1, 0])
        assert ((forward * across).sum(-1) * [[1], [-1]] > 0).all()


# -- statistics of the whole set (section by section of the sensor model)

@pytest.fixture(scope="module")
def whole():
    "All clips with what the camera did to them: errors, hidden joints, losses."
    sums, performed = collections.defaultdict(lambda: np.zeros(2)), {}
    trunk, hands = np.isin(range(25), (0, 1, 20, 4, 8)), np.isin(range(25), (7, 11, 21, 22, 23, 24))
    found = dict(clips=[], hidden=[], losses=[], frames=[])
    for name in NAMES:
        code = parse_name(name)
        key = (code.setup, code.performer, code.replication, code.action)
        if key not in performed:
            performed[key] = perform(0, *key)
        joints, hidden, lost = observe(performed[key], 0, code)
        position, axes = camera_pose(code.setup, code.camera)
        true = (performed[key].joints - position) @ axes.T
        joints = joints.astype(np.float16)
        error = ((joints - true) ** 2).mean(-1)
        there = ~lost[..., None]
        parts = {"trunk": ~hidden & trunk, "hands": ~hidden & hands, "guessed": hidden, "all": True}
        for part, mask in ((part, there & chosen) for part, chosen in parts.items()):
            mask = np.broadcast_to(mask, error.shape)
            sums[part] += error[mask].sum(), mask.sum()
        joints[lost] = 0
        found["clips"].append(joints)
        found["hidden"].append(hidden.mean())
        found["losses"].extend(lost.any(1))
        found["frames"].append(joints.shape[1])
    return found | {part: 1000 * np.sqrt(total / count) for part, (total, count) in sums.items()}


@pytest.mark.parametrize("part, millimetres", [("trunk", 13.6), ("hands", 25.1), ("guessed", 76.5),
                                               ("all", 32.7)])
def test_noise_of_the_whole_set(whole, part, millimetres):
    assert whole[part] == pytest.approx(millimetres, rel=0.05)


def test_lengths_hidden_joints_and_losses_of_the_whole_set(whole):
    assert np.mean(whole["frames"]) == pytest.approx(61.3, rel=0.10)
    assert min(whole["frames"]) >= 32 and max(whole["frames"]) <= 100
    assert np.mean(whole["hidden"]) == pytest.approx(0.114, rel=0.10)
    assert len(whole["losses"]) == 3072
    assert np.mean(whole["losses"]) == pytest.approx(0.078, rel=0.20)


def test_the_whole_set_is_what_make_clip_gives(whole):
    for index in (0, 777, 2303):
        np.testing.assert_array_equal(whole["clips"][index], make_clip(NAMES[index]))


# -- how hard it is

@pytest.fixture(scope="module")
def aligned(whole):
    "Aligned clips, padded, (N, 2, 100, 25, 3), and the number of their frames."
    batch = torch.zeros(len(NAMES), 2, 100, 25, 3)
    for row, clip in zip(batch, whole["clips"], strict=True):
        row[:len(clip), :clip.shape[1]] = torch.from_numpy(clip.astype(np.float32))
    lengths = torch.tensor(whole["frames"])
    parts = [align_3d(x, n)[:2] for x, n in zip(batch.split(256), lengths.split(256), strict=True)]
    return tuple(torch.cat(part) for part in zip(*parts, strict=True))


def linear_accuracy(features, steps):
    "Accuracy of logistic regression (standardised, C = .1) on the cross-subject split."
    train = torch.tensor(np.isin(NAMES, split_names()["xsub_train"]))
    labels = torch.tensor([parse_name(name).action - 1 for name in NAMES])
    mean, std = features[train].mean(0), features[train].std(0, correction=0)
    x = (features - mean) / std.where(std > 1e-9, 1)
    weights, bias = (torch.zeros(*size, 12, requires_grad=True) for size in ((x.shape[1],), ()))
    search = torch.optim.LBFGS([weights, bias], max_iter=steps, line_search_fn="strong_wolfe")

    def loss():
        search.zero_grad()
        logits = x[train] @ weights + bias
        value = (0.1 * torch.nn.functional.cross_entropy(logits, labels[train], reduction="sum")
                 + 0.5 * (weights ** 2).sum())
        value.backward()
        return value

    search.step(loss)
    return ((x[~train] @ weights + bias).argmax(1) == labels[~train]).float().mean().item()


def test_the_mean_pose_does_not_tell(aligned):
    x, frames = aligned
    accuracy = linear_accuracy(x.sum(2).flatten(1) / frames[:, None], steps=100)
    assert 0.40 < accuracy < 0.60


def test_sixteen_frames_in_their_order_tell(aligned):
    x, frames = aligned
    at = (torch.linspace(0, 1, 16, dtype=torch.float64) * (frames[:, None] - 1)).round().long()
    picked = x[torch.arange(len(x))[:, None], :, at]
    assert linear_accuracy(picked.flatten(1), steps=60) > 0.75


def test_the_video_is_as_measured():
    chosen = [name for name in NAMES if name[12:16] == "R001" and parse_name(name).setup <= 4]
    hidden_like, means = [], []
    for _, joints, scores, _ in synthetic_clips(chosen[::4], view="2d"):
        there = scores.any(-1)
        hidden_like.append((scores[there] < 0.62).mean(0))
        means.append(scores[there].mean())
        assert joints.shape[-2:] == (17, 2) and scores.dtype == np.float16
    share = np.mean(hidden_like, axis=0)                            # hidden, or jumped (.02)
    assert np.mean(means) == pytest.approx(0.76, abs=0.02)
    assert share.mean() == pytest.approx(0.24, abs=0.03)
    pairs = [share[0], *share[1:].reshape(8, 2).mean(1)]
    expected = [0.29, 0.29, 0.51, 0.34, 0.23, 0.14, 0.27, 0.02, 0.0]
    np.testing.assert_allclose(pairs, np.add(expected, 0.015), atol=0.06)


# -- raw files

def read_raw(path):
    "Frames of a .skeleton file: lists of (id, rows (25, 12))."
    lines = iter(path.read_text().split("\n"))
    frames = []
    for _ in range(int(next(lines))):
        frames.append([])
        for _ in range(int(next(lines))):
            fields = next(lines).split()
            assert len(fields) == 10 and len(fields[0]) == 17
            rows = [next(lines).split() for _ in range(int(next(lines)))]
            frames[-1].append((fields[0], np.array(rows, dtype=float)))
    assert list(lines) == [""]
    return frames


def plant(folder, name, *faults, **options):
    "Frames and truth of a file with faults."
    truth = write_skeleton_file(folder, name, faults=faults, **options)
    assert truth == json.loads((folder / f"{name}.json").read_text())
    assert set(truth["faults"]) == set(faults)
    frames = read_raw(folder / f"{name}.skeleton")
    assert len(frames) == len(truth["source"])
    return frames, truth


@pytest.mark.parametrize("precision", (np.float64, np.float32))
@pytest.mark.parametrize("name", [ONE, TWO])
def test_a_raw_file_read_back_is_the_clip(tmp_path, name, precision):
    frames, truth = plant(tmp_path, name, difficulty=12.5)          # everybody is lost once
    clip = make_clip(name, difficulty=12.5)
    read = np.zeros_like(clip)
    for t, bodies in enumerate(frames):
        for body, rows in bodies:
            read[truth["bodies"].index(body), t] = rows[:, :3].astype(precision)
    np.testing.assert_array_equal(read, clip)
    assert (clip == 0).all((2, 3)).any(1).all()
    assert truth["label"] == parse_name(name).action - 1
    assert truth["source"] == list(range(clip.shape[1]))


def test_states_tell_what_is_hidden_and_pixels_are_mirrored(tmp_path):
    frames, _ = plant(tmp_path, TWO, difficulty=0)
    performance, _ = scene(TWO)
    hidden = observe(performance, 0, parse_name(TWO), 0)[1]
    for t, bodies in enumerate(frames):
        for m, (_, rows) in enumerate(bodies):
            np.testing.assert_array_equal(rows[:, 11], 2 - hidden[m, t])
            x, y, z = rows[:, :3].T
            pixels = [256 + 366 * x / z, 208.5 - 366.5 * y / z,
                      976 + 1057 * x / z, 567 - 1057 * y / z]
            np.testing.assert_allclose(rows[:, 3:7].T, pixels, atol=1e-4)
            assert (rows[:, 7:11] == [1, 0, 0, 0]).all()


@pytest.mark.parametrize("fault", ["empty start", "empty inside", "empty end"])
def test_empty_frames_are_where_the_truth_says(tmp_path, fault):
    frames, truth = plant(tmp_path, ONE, fault)
    empty = truth["faults"][fault]["frames"]
    assert 1 <= len(empty) <= 4 and empty == list(range(empty[0], empty[-1] + 1))
    assert all(not frames[at] and truth["source"][at] is None for at in empty)
    place = {"empty start": empty[0] == 0, "empty end": empty[-1] == len(frames) - 1,
             "empty inside": 0 < empty[0] and empty[-1] < len(frames) - 1}
    assert place[fault]
    clip = make_clip(ONE)
    assert [t for t in truth["source"] if t is not None] == list(range(clip.shape[1]))


def spread(rows):
    "Extent in x over extent in y."
    return np.ptp(rows[:, 0]) / np.ptp(rows[:, 1])


@pytest.mark.parametrize("name", [ONE, TWO])
def test_a_short_ghost_is_gone_in_less_than_twelve_frames(tmp_path, name):
    frames, truth = plant(tmp_path, name, "short ghost")
    told = truth["faults"]["short ghost"]
    seen = [at for at, bodies in enumerate(frames) if told["body"] in dict(bodies)]
    assert seen == told["frames"] and 3 <= len(seen) < 12
    assert told["body"] not in truth["bodies"]


@pytest.mark.parametrize("name", [ONE, TWO, "S001C003P005R001A001"])
def test_a_wide_ghost_is_wide_in_most_frames(tmp_path, name):
    frames, truth = plant(tmp_path, name, "wide ghost")
    told = truth["faults"]["wide ghost"]
    ghost = {at: rows for at, bodies in enumerate(frames) for body, rows in bodies
             if body == told["body"]}
    assert list(ghost) == told["frames"] and len(ghost) >= 12
    assert all(spread(ghost[at]) > 0.8 for at in told["lying"])
    assert np.mean([spread(rows) > 0.8 for rows in ghost.values()]) > 0.7


@pytest.mark.parametrize("name", [ONE, TWO])
def test_an_id_changes_in_mid_clip(tmp_path, name):
    frames, truth = plant(tmp_path, name, "id change")
    told = truth["faults"]["id change"]
    old = [at for at, bodies in enumerate(frames) if told["body"] in dict(bodies)]
    new = [at for at, bodies in enumerate(frames) if told["new_body"] in dict(bodies)]
    assert old[-1] < told["since"] == new[0] and len(old) >= 12 and len(new) >= 11
    assert told["body"] in truth["bodies"] and told["new_body"] not in truth["bodies"]


def test_the_order_of_bodies_swaps_and_stays(tmp_path):
    frames, truth = plant(tmp_path, TWO, "order swap", difficulty=0)
    since, ids = truth["faults"]["order swap"]["since"], truth["bodies"]
    assert 0 < since < len(frames)
    for at, bodies in enumerate(frames):
        assert [body for body, _ in bodies] == (ids[::-1] if at >= since else ids)
    with pytest.raises(ValueError, match="two people"):
        write_skeleton_file(tmp_path, ONE, faults=["order swap"])


def test_a_joint_becomes_nan_and_one_untracked(tmp_path):
    plain, _ = plant(tmp_path, ONE)
    frames, truth = plant(tmp_path, ONE, "nan joint", "untracked joint")
    told = truth["faults"]["nan joint"]
    where = [(at, joint) for at, bodies in enumerate(frames) for _, rows in bodies
             for joint in np.flatnonzero(np.isnan(rows[:, :3]).any(1))]
    assert where == [(told["frame"], told["joint"])]
    told = truth["faults"]["untracked joint"]
    where = [(at, joint) for at, bodies in enumerate(frames) for _, rows in bodies
             for joint in np.flatnonzero(rows[:, 11] == 0)]
    assert where == [(told["frame"], told["joint"])]
    changed = [at for at, (a, b) in enumerate(zip(plain, frames, strict=True))
               if a and not np.array_equal(a[0][1], b[0][1])]
    assert set(changed) == {truth["faults"][fault]["frame"] for fault in truth["faults"]}


def test_line_ends_of_windows(tmp_path):
    write_skeleton_file(tmp_path, ONE, faults=["crlf"])
    text = (tmp_path / f"{ONE}.skeleton").read_bytes()
    assert text.count(b"\r\n") == text.count(b"\n") > 1000
    write_skeleton_file(tmp_path, ONE)
    assert (tmp_path / f"{ONE}.skeleton").read_bytes() == text.replace(b"\r\n", b"\n")


def test_all_faults_together_leave_the_true_bodies_in_the_file(tmp_path):
    frames, truth = plant(tmp_path, TWO, *FAULTS)
    clip, told = make_clip(TWO), truth["faults"]
    change, bad = told["id change"], told["nan joint"]
    for at, bodies in enumerate(frames):
        for m, body in enumerate(truth["bodies"]):
            body = change["new_body"] if body == change["body"] and at >= change["since"] else body
            t = truth["source"][at]
            assert (body in dict(bodies)) == (t is not None and bool(clip[m, t].any()))
            if body in dict(bodies):
                rows, right = dict(bodies)[body][:, :3].astype(np.float16), clip[m, t].copy()
                if (at, body) == (bad["frame"], bad["body"]):
                    right[bad["joint"], 0] = np.nan
                np.testing.assert_array_equal(rows, right)


def test_unknown_faults_are_refused(tmp_path):
    with pytest.raises(ValueError, match="unknown fault 'nan': did you mean"):
        write_skeleton_file(tmp_path, ONE, faults=["nan"])
    assert not list(tmp_path.iterdir())


def test_there_are_twelve_classes_one_per_action():
    assert len(CLASSES) == 12 and {parse_name(name).action for name in NAMES} == set(range(1, 13))
