"""What holds for every clip and every seed of the built-in data set."""
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from skelbook.data.bodies import ANGLE, PARENTS, hidden_joints, move_body, random_body
from skelbook.data.synthetic import (
    clip_names,
    make_clip,
    make_clip_2d,
    parse_name,
    perform,
    synthetic_clips,
)

few = settings(max_examples=15, deadline=None)
names, seeds = st.sampled_from(clip_names()), st.integers(0, 2 ** 32)
angles = st.lists(st.floats(-120, 120), min_size=22, max_size=22)


def pose_of(values):
    "One pose, (1, 1, 22)."
    return np.array(values).reshape(1, 1, 22)


@few
@given(names, names, seeds)
def test_a_clip_does_not_know_what_was_made_before(first, second, seed):
    made = {name: joints for name, joints, _, _ in synthetic_clips([first, second], seed)}
    np.testing.assert_array_equal(made[second], make_clip(second, seed))


@few
@given(names, seeds)
def test_shapes_lengths_and_zeros(name, seed):
    joints, (flat, scores) = make_clip(name, seed), make_clip_2d(name, seed)
    M, T = joints.shape[:2]
    assert M == (2 if parse_name(name).action >= 9 else 1) and 32 <= T <= 100
    assert flat.shape == (M, T, 17, 2) and scores.shape == (M, T, 17)
    assert {x.dtype for x in (joints, flat, scores)} == {np.dtype(np.float16)}
    gone = (joints == 0).all((2, 3))
    assert (gone.sum(1) <= 5).all() and (joints[~gone][..., 2] > 0.3).all()
    assert (flat[(scores == 0).all(2)] == 0).all() and np.isfinite(flat).all()
    assert ((scores >= 0.0199) | (scores == 0)).all() and scores.max() <= 1


@few
@given(names, seeds)
def test_bones_keep_their_lengths_and_feet_the_ground(name, seed):
    code = parse_name(name)
    performance = perform(seed, code.setup, code.performer, code.replication, code.action)
    joints = performance.joints
    bones = np.linalg.norm(joints - joints[:, :, list(PARENTS)], axis=-1)
    np.testing.assert_allclose(bones, np.broadcast_to(bones[:, :1], bones.shape), atol=1e-12)
    np.testing.assert_allclose(joints[:, :, [15, 19], 1].min(-1), 0.02)


@few
@given(angles, st.floats(-180, 180), st.floats(-2, 2), st.floats(-2, 2))
def test_turning_and_shifting_a_body_turns_and_shifts_its_joints(values, turn, x, z):
    bones = random_body(np.random.default_rng(0))[1][None]
    pose = pose_of(values)
    before, _ = move_body(pose, bones)
    pose[..., ANGLE["yaw"]] += turn
    after, _ = move_body(pose, bones, np.array([x, z]))
    c, s = np.cos(np.radians(turn)), np.sin(np.radians(turn))
    R = np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]])
    np.testing.assert_allclose(after, before @ R.T + [x, 0, z], atol=1e-9)


@few
@given(angles)
def test_a_mirrored_pose_is_the_mirror_image(values):
    bones = random_body(np.random.default_rng(0))[1][None]
    pose, mirrored = pose_of(values), np.zeros((1, 1, 22))
    for name, k in ANGLE.items():
        here, there = ("left", "right") if name.startswith("left") else ("right", "left")
        other = name.replace(here, there)
        sign = -1 if name in ("yaw", "trunk roll", "neck roll") or name.endswith("swing") else 1
        mirrored[..., ANGLE[other]] = sign * pose[..., k]
    left, _ = move_body(pose, bones)
    right, _ = move_body(mirrored, bones)
    swap = list(range(25))
    for a, b in (*((k, k + 4) for k in (4, 5, 6, 7, 12, 13, 14, 15)), (21, 23), (22, 24)):
        swap[a], swap[b] = b, a
    np.testing.assert_allclose(right, left[:, :, swap] * [-1, 1, 1], atol=1e-9)


@few
@given(names)
def test_hiding_does_not_depend_on_the_order_of_persons(name):
    code = parse_name(name)
    performance = perform(0, code.setup, code.performer, code.replication, code.action)
    joints = performance.joints + [0, 0, 4.0]
    np.testing.assert_array_equal(hidden_joints(joints[::-1])[::-1], hidden_joints(joints))
