"""Corner cases of bodies and cameras, and the recursion written out joint by joint."""
import numpy as np
import pytest

from skelbook.data.bodies import (
    ANGLE,
    BALLS,
    PARENTS,
    SHAKY,
    camera_pose,
    coco_joints,
    detect,
    drifting_noise,
    hidden_coco,
    hidden_joints,
    joint_frames,
    lost_frames,
    move_body,
    random_body,
    sense_depth,
    to_pixels,
)

RNG = np.random.default_rng


def turn(axis, degrees):
    "Right-handed rotation about x, y or z."
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    i, j = {"x": (1, 2), "y": (2, 0), "z": (0, 1)}[axis]
    matrix = np.eye(3)
    matrix[i, i], matrix[j, j], matrix[i, j], matrix[j, i] = c, c, -s, s
    return matrix


def own_turns(angle):
    "The turn of each joint, from a function name -> degrees."
    turns = {
        0: turn("y", angle("yaw")),
        1: turn("x", angle("trunk pitch")) @ turn("z", angle("trunk roll")),
        20: turn("x", angle("spine bend")),
        3: turn("x", angle("neck pitch")) @ turn("z", angle("neck roll"))}
    for side, mirror, shift in (("left", 1, 0), ("right", -1, 4)):
        def a(name, side=side):
            return angle(f"{side} {name}")
        turns[5 + shift] = (turn("y", a("shoulder swing"))
                            @ turn("z", mirror * a("shoulder abduction"))
                            @ turn("x", -a("shoulder flexion"))
                            @ turn("y", mirror * a("shoulder twist")))
        turns[6 + shift] = turn("x", -a("elbow flexion"))
        turns[13 + shift] = turn("z", mirror * a("hip abduction")) @ turn("x", -a("hip flexion"))
        turns[14 + shift] = turn("x", a("knee flexion"))
        turns[15 + shift] = turn("x", a("hip flexion") - a("knee flexion"))
    return turns


def test_move_body_equals_the_recursion_joint_by_joint():
    rng = RNG(0)
    pose, place = rng.uniform(-90, 90, (2, 3, 22)), rng.normal(size=(2, 3, 2))
    bones = np.stack([random_body(rng)[1] for _ in range(2)])
    joints, head = move_body(pose, bones, place)
    for m, t in np.ndindex(2, 3):
        turns = own_turns(lambda name, angles=pose[m, t]: angles[ANGLE[name]])
        R, X = {0: turns[0]}, np.zeros((25, 3))
        for j in (1, 20, 2, 3, 4, 5, 6, 7, 21, 22, 8, 9, 10, 11, 23, 24, *range(12, 20)):
            R[j] = R[PARENTS[j]] @ turns.get(j, np.eye(3))
            X[j] = X[PARENTS[j]] + R[j] @ bones[m, j]
        X[:, [0, 2]] += place[m, t] - X[[14, 18]][:, [0, 2]].mean(0)
        X[:, 1] += 0.02 - X[[15, 19], 1].min()
        np.testing.assert_allclose(joints[m, t], X, atol=1e-12)
        np.testing.assert_allclose(head[m, t], R[3], atol=1e-12)


def test_every_frame_is_a_rotation():
    frames = joint_frames(RNG(1).uniform(-180, 180, (2, 4, 22)))
    product = frames @ frames.swapaxes(-1, -2)
    np.testing.assert_allclose(product, np.broadcast_to(np.eye(3), frames.shape), atol=1e-12)
    np.testing.assert_allclose(np.linalg.det(frames), 1)


def test_bodies_differ_within_their_limits():
    bodies = [random_body(RNG(k)) for k in range(200)]
    heights = np.array([height for height, _ in bodies])
    assert 1.5 <= heights.min() and heights.max() <= 1.9
    thigh = np.array([np.linalg.norm(bones[13]) for _, bones in bodies]) / (0.235 * heights)
    assert 0.85 - 1e-9 <= thigh.min() and thigh.max() <= 1.15 + 1e-9
    assert thigh.std() == pytest.approx(0.05, abs=0.015)


@pytest.mark.parametrize("setup", range(1, 9))
@pytest.mark.parametrize("camera", (1, 2, 3))
def test_cameras_look_at_the_scene(setup, camera):
    position, axes = camera_pose(setup, camera)
    x, y, z = axes @ (np.array([0, 0.95, 0]) - position)
    assert (x, y) == pytest.approx((0, 0), abs=1e-12) and z > 2.4 - 1e-9
    assert np.linalg.det(axes) == pytest.approx(1)
    assert axes[0, 1] == pytest.approx(0) and axes[1, 1] > 0                # level, and y is up


def test_setups_have_eight_heights_and_eight_distances():
    spots = np.array([camera_pose(setup, 1)[0] for setup in range(1, 9)])
    np.testing.assert_allclose(sorted(spots[:, 1]), 1.2 + 0.18 * np.arange(8))
    np.testing.assert_allclose(sorted(spots[:, 2]), 2.4 + 0.25 * np.arange(8))


def crowd():
    "Two people whose joints are all at one spot each, far apart, (2, 1, 25, 3)."
    joints = np.zeros((2, 1, 25, 3))
    joints[0], joints[1] = (-1.5, 0, 3), (1.5, 0, 3)
    return joints


@pytest.mark.parametrize("ball, radius", BALLS.items())
def test_a_ball_hides_what_is_behind_it_of_any_person(ball, radius):
    for owner in (0, 1):
        joints = crowd()
        joints[owner, 0, ball] = (0, 0, 2)
        joints[0, 0, 7] = (0, 0, 2 + radius)                                # behind
        joints[1, 0, 7] = (0, 0, 2 + 0.4 * radius)                          # inside the ball
        joints[0, 0, 11] = (1.51 * radius, 0, 3)                            # the ray misses
        joints[1, 0, 11] = (1.45 * radius, 0, 3)                            # the ray meets the ball
        hidden = hidden_joints(joints)[:, 0]
        assert hidden[:, 7].tolist() == [True, False]
        assert hidden[:, 11].tolist() == [False, True]


def test_the_middle_of_a_ball_is_not_hidden_by_its_own_kind():
    joints = crowd()
    joints[0, 0, 1], joints[1, 0, 1], joints[1, 0, 2] = (0, 0, 2), (0, 0, 3), (0, 0, 3)
    hidden = hidden_joints(joints)
    assert not hidden[1, 0, 1] and hidden[1, 0, 2]


def test_noise_is_stationary_from_the_first_frame():
    noise = drifting_noise(RNG(0), (200, 12, 25, 3))
    np.testing.assert_allclose(noise.std((0, 2, 3)), np.sqrt(1.36), rtol=0.02)
    lags = [np.mean(noise[:, k:] * noise[:, :12 - k]) for k in range(4)]
    np.testing.assert_allclose(lags, [1.36, 0.8, 0.64, 0.512], atol=0.02)


def test_noise_has_the_recursion_it_claims():
    rng, again = RNG(5), RNG(5)
    noise = drifting_noise(rng, (1, 9, 2, 3))
    slow, fast = again.standard_normal((2, 1, 9, 2, 3))
    x = slow[:, 0]
    for t in range(9):
        x = x if t == 0 else 0.8 * x + 0.6 * slow[:, t]
        np.testing.assert_allclose(noise[:, t], 0.6 * fast[:, t] + x, atol=1e-12)


@pytest.mark.parametrize("depth, joint, hidden, sigma", [
    (2.5, 0, False, 6), (5.0, 0, False, 24), (2.5, 7, False, 10.8), (2.5, 15, False, 9),
    (2.5, 0, True, 24), (2.5, 22, True, 43.2)])
def test_noise_grows_with_depth_joint_and_guessing(depth, joint, hidden, sigma):
    joints = np.full((20, 60, 25, 3), (0.1, 0.2, depth))
    error = sense_depth(RNG(0), joints, np.full((20, 60, 25), hidden)) - joints
    assert 1000 * error[:, :, joint].std() == pytest.approx(1.166 * sigma, rel=0.06)
    assert SHAKY.sum() == pytest.approx(15 + 6 * 1.8 + 4 * 1.5)


def test_losses_never_reach_beyond_the_clip_and_may_begin_at_once():
    lost = lost_frames(RNG(0), 20000, 12, chance=1)
    assert lost.any(1).all() and lost[:, 0].any() and not lost[:, -1].any()
    changes = np.abs(np.diff(np.pad(lost, ((0, 0), (1, 1))).astype(int))).sum(1)
    assert (changes == 2).all()                                             # one run each
    np.testing.assert_allclose(np.bincount(lost.sum(1))[1:], 4000, rtol=0.1)
    assert not lost_frames(RNG(0), 100, 12, chance=0).any()


def test_left_and_right_of_a_video_are_those_of_a_photograph():
    joints, head = move_body(np.zeros((1, 1, 22)), random_body(RNG(0))[1][None])
    position, axes = camera_pose(8, 1)
    coco = coco_joints((joints - position) @ axes.T, axes @ head, [1.7])
    u, v = np.moveaxis(to_pixels(coco)[0, 0], -1, 0)
    assert (u[[1, 3, 5, 7, 9, 11, 13, 15]] > u[[2, 4, 6, 8, 10, 12, 14, 16]]).all()
    assert v[0] < v[5] < v[11] < v[13] < v[15]                             # from the nose downwards
    assert to_pixels(np.array([0, 0, 3.0])).tolist() == [960, 540]


@pytest.mark.parametrize("yaw, gone", [(4, [3]), (-4, [4]), (80, [3]), (100, [0, 1, 2, 3]),
                                       (-100, [0, 1, 2, 4]), (176, [0, 1, 2, 3])])
def test_the_face_hides_by_the_way_it_looks(yaw, gone):
    pose = np.zeros((1, 1, 22))
    pose[..., ANGLE["yaw"]] = yaw
    joints, head = move_body(pose, random_body(RNG(0))[1][None])
    position, axes = camera_pose(8, 1)
    coco = coco_joints((joints - position) @ axes.T, axes @ head, [1.7])
    hidden = hidden_coco(coco, axes @ head, np.zeros((1, 1, 25), bool))
    assert np.flatnonzero(hidden).tolist() == gone


def test_detections_err_by_box_and_tell_by_score():
    pixels = np.tile(np.linspace(0, 400, 17)[:, None], (50, 40, 1, 2))
    hidden = np.zeros((50, 40, 17), bool)
    hidden[:, :, :8] = True
    found, scores = detect(RNG(0), pixels, hidden)
    error = np.abs(found - pixels)
    middle = 0.6745 * 0.012 * 400                                           # median of |normal|
    assert np.median(error[:, :, 8:]) == pytest.approx(middle, rel=0.05)
    assert np.median(error[:, :, :8]) == pytest.approx(4 * middle, rel=0.05)
    assert scores[:, :, 8:].mean() == pytest.approx(0.98 * 0.896 + 0.02 * 0.25, abs=0.01)
    assert scores[:, :, :8].mean() == pytest.approx(0.35, abs=0.01)
    assert 0.02 <= scores.min() and scores.max() <= 1
    assert (scores[:, :, 8:] < 0.6).mean() == pytest.approx(0.02, abs=0.004)
