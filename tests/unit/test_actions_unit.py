"""The two members of a pair show the same frames; everything else is a matter of order or phase."""
import numpy as np
import pytest

from skelbook.data.actions import (
    ANGLE,
    CLASSES,
    FIRST_DUET,
    HABITS,
    REVERSED,
    SWAYING,
    act,
    face_and_place,
    hump,
    idle_pose,
    minimum_jerk,
    random_habit,
    time_course,
    window,
)

RNG = np.random.default_rng
T = 61
U, SECONDS = np.linspace(-0.2, 1.2, T), np.arange(T) / 30


def motions(action, seed, u=U):
    "All angles of all persons of an action, (M, T, 22), and the distance."
    moved, distance = act(RNG(seed), action, u, SECONDS, 1.0)
    poses = np.zeros((len(moved), T, len(ANGLE)))
    for pose, motion in zip(poses, moved, strict=True):
        for angle, degrees in motion.items():
            pose[:, ANGLE[angle]] += degrees
    return poses, np.broadcast_to(distance, T)


def without(poses, *angles):
    "Poses with some angles set to zero."
    poses = poses.copy()
    poses[..., [ANGLE[angle] for angle in angles]] = 0
    return poses


def test_there_are_twelve_classes_and_four_run_backwards():
    assert len(CLASSES) == len(set(CLASSES)) == 12
    assert REVERSED == (2, 4, 10, 12) and FIRST_DUET == 9


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("action", (1, 11))
def test_a_reversed_member_shows_the_same_frames_backwards(action, seed):
    forward, gap = motions(action, seed)
    backward, gap_back = motions(action + 1, seed, 1 - U)
    np.testing.assert_allclose(backward, forward[:, ::-1], atol=1e-9)
    np.testing.assert_allclose(gap_back, gap[::-1])


@pytest.mark.parametrize("seed", range(5))
def test_pick_up_reversed_but_for_the_distractor(seed):
    forward, backward = motions(3, seed)[0], motions(4, seed, 1 - U)[0]
    same = [np.allclose(backward[..., k], forward[:, ::-1, k], atol=1e-9) for k in range(22)]
    distracted = [name for name, k in ANGLE.items() if not same[k]]
    assert distracted in ([], ["left shoulder flexion", "left elbow flexion"],
                          ["right shoulder flexion", "right elbow flexion"])


@pytest.mark.parametrize("seed", range(5))
def test_bow_and_shake_reversed_but_for_the_pumping(seed):
    forward, backward = motions(9, seed)[0], motions(10, seed, 1 - U)[0]
    pumped = "right shoulder flexion"
    np.testing.assert_allclose(without(backward, pumped), without(forward, pumped)[:, ::-1],
                               atol=1e-9)
    k = ANGLE[pumped]
    assert np.abs(backward[..., k] - forward[:, ::-1, k]).max() <= 14


@pytest.mark.parametrize("seed", range(8))
def test_circles_differ_by_their_sense_alone(seed):
    one, other = motions(5, seed)[0], motions(6, seed)[0]
    side = "left" if np.ptp(one[..., ANGLE["left shoulder swing"]]) else "right"
    moved = (f"{side} shoulder flexion", f"{side} shoulder swing")
    np.testing.assert_array_equal(without(one, *moved), without(other, *moved))
    swing, lift = (one[0, :, ANGLE[f"{side} shoulder {a}"]] for a in ("swing", "flexion"))
    on = (U > 0.12) & (U < 0.88)
    turned = np.unwrap(np.arctan2((lift - lift[on].mean())[on], swing[on]))
    assert turned[-1] > turned[0] + 2                          # swing is to the left: clockwise


@pytest.mark.parametrize("seed", range(5))
def test_circles_make_whole_turns(seed):
    fine = np.linspace(0.13, 0.87, T)
    poses = motions(5, seed, fine)[0]
    side = "left" if np.ptp(poses[..., ANGLE["left shoulder swing"]]) else "right"
    swing = poses[0, :, ANGLE[f"{side} shoulder swing"]]
    r = np.abs(swing).max()
    w = np.unwrap(np.arccos(np.clip(swing / r, -1, 1)))        # folded, but with the right speed
    speed = np.median(np.abs(np.diff(w))) / (fine[1] - fine[0]) / (2 * np.pi)
    assert speed == pytest.approx(round(speed), abs=0.03) and round(speed) in (1, 2, 3)


@pytest.mark.parametrize("seed", range(5))
def test_swings_differ_by_half_a_period_of_the_right_arm(seed):
    together, apart = motions(7, seed)[0][0], motions(8, seed)[0][0]
    left, right = ANGLE["left shoulder flexion"], ANGLE["right shoulder flexion"]
    np.testing.assert_array_equal(without(together, "right shoulder flexion"),
                                  without(apart, "right shoulder flexion"))
    np.testing.assert_allclose(together[:, left], together[:, right])
    on = (U > 0.12) & (U < 0.88)
    middle = (apart[on, left] + apart[on, right]) / 2
    np.testing.assert_allclose(middle, middle[0])              # opposite about a fixed middle


@pytest.mark.parametrize("action", range(3, 13))
def test_actions_but_sitting_start_and_end_idle(action):
    quiet = [name for name in ANGLE if name.endswith(("shoulder flexion", "elbow flexion"))]
    for seed in range(5):
        poses = motions(action, seed, 1 - U if action in REVERSED else U)[0]
        poses = without(poses, *quiet) if action in (3, 4, 5, 6) else poses      # distractors
        np.testing.assert_allclose(poses[:, [0, -1]], 0, atol=1e-9)


def test_distractors_come_in_a_good_third_of_the_clips():
    def distracted(seed):
        poses = motions(3, seed)[0][0]
        elbows = poses[:, [ANGLE["left elbow flexion"], ANGLE["right elbow flexion"]]]
        return (np.abs(elbows[U < 0]).max(0) > 0).any()
    assert np.mean([distracted(seed) for seed in range(400)]) == pytest.approx(0.35, abs=0.07)


def test_a_grab_is_a_slow_reach_and_a_fast_pull():
    for seed in range(5):
        for action, u in ((11, U), (12, 1 - U)):
            reach = motions(action, seed, u)[0][0, :, ANGLE["trunk pitch"]]
            there = np.flatnonzero(reach > 0.99 * reach.max())
            begun, over = np.flatnonzero(reach > 0)[[0, -1]]
            out, back = there[0] - begun, over - there[-1]
            assert 1.5 * out < back if action == 11 else 1.5 * back < out


@pytest.mark.parametrize("replication, sign", [(1, 1), (2, -1)])
def test_people_face_each_other_and_turn_to_a_camera(replication, sign):
    first = []
    for seed in range(300):
        poses, place = face_and_place(RNG(seed), np.zeros((2, 4, 22)), 0.9, replication)
        yaw = np.radians(poses[:, 0, ANGLE["yaw"]])
        looks = np.stack([np.sin(yaw), np.cos(yaw)], axis=-1)               # x and z
        across = (place[1, 0] - place[0, 0]) / 0.9
        np.testing.assert_allclose([looks[0], looks[1]], [across, -across], atol=1e-9)
        first.append(across @ [np.cos(sign * np.pi / 4), -np.sin(sign * np.pi / 4)] > 0)
    assert 0.4 < np.mean(first) < 0.6                                       # mirrored half the time


def test_poses_handed_in_are_left_alone():
    poses = np.zeros((1, 3, 22))
    face_and_place(RNG(0), poses, 0.0, 1)
    assert not poses.any()


def test_lengths_and_idle_times_follow_one_law_at_both_ends():
    u = [time_course(RNG(seed), 1.0, backward=False)[0] for seed in range(2000)]
    lengths = np.array([len(each) for each in u])
    assert lengths.min() == 32 and lengths.max() <= 100
    assert lengths.mean() == pytest.approx(59.6, abs=1)
    idle = np.array([[(each < 0).mean(), (each > 1).mean()] for each in u])
    np.testing.assert_allclose(idle.mean(0), 0.14, atol=0.01)
    assert len(time_course(RNG(0), 1e-9, False)[0]) == 100
    assert len(time_course(RNG(0), 1e9, False)[0]) == 32


def test_idle_people_sway_about_their_habit():
    poses = np.stack([idle_pose(RNG(seed), np.zeros(22), SECONDS) for seed in range(500)])
    still = np.setdiff1d(range(22), SWAYING)
    assert len(still) == 8 and not poses[..., still].any()
    assert poses[:, 0, SWAYING].std() == pytest.approx(np.sqrt(16 + 1.5), rel=0.05)
    assert np.ptp(poses, axis=1).max() <= 6
    habits = np.stack([random_habit(RNG(seed)) for seed in range(500)])
    assert habits.std(0)[HABITS] == pytest.approx(4, rel=0.15) and (habits.std(0) > 0).sum() == 7


def test_curves_at_their_ends():
    v = np.linspace(-1, 2, 301)
    assert (np.diff(minimum_jerk(v)) >= 0).all()
    np.testing.assert_allclose(minimum_jerk(v) + minimum_jerk(1 - v), 1)
    np.testing.assert_allclose(hump(v, 0.5, 0.3), hump(1 - v, 0.5, 0.3))
    assert not window(v)[(v <= 0) | (v >= 1)].any() and window(v).max() == 1
