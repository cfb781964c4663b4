"""Invariants of crops, resizing, filling and alignment frame by frame."""

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from skelbook.transforms.augment import axis_rotations, turn_angles
from skelbook.transforms.normalize import align_frames, fill_empty_frames, rotate
from skelbook.transforms.resample import centre_crop, neighbours, random_crop, resample

quick = settings(deadline=None, max_examples=40)
seeds = st.integers(0, 2**32 - 1)
lengths = st.lists(st.integers(1, 400), min_size=1, max_size=8).map(np.array)
ratios = st.tuples(st.floats(0, 1), st.floats(0, 1)).map(sorted)


def bodies(seed, *shape):
    "Random positions with every coordinate well away from 0, so that no joint seems missing."
    rng = np.random.default_rng(seed)
    return torch.from_numpy(rng.uniform(0.5, 2, shape) * rng.choice((-1, 1), shape))


@quick
@given(lengths, seeds, ratios, st.integers(0, 100))
def test_a_piece_lies_within_its_clip_and_is_as_long_as_asked(n, seed, parts, min_len):
    keys = np.random.default_rng(seed).random((len(n), 2))
    start, length = random_crop(n, keys, *parts, min_len)
    assert (start >= 0).all() and (length >= 1).all() and (start + length <= n).all()
    assert (length >= np.minimum(n, np.maximum(min_len, (n * parts[0]).astype(int)))).all()
    assert (length <= np.maximum((n * parts[1]).astype(int), max(min_len, 1))).all()


@quick
@given(lengths, st.floats(0.001, 1))
def test_the_middle_is_in_the_middle(n, ratio):
    start, length = centre_crop(n, ratio)
    before, after = start, n - start - length
    assert (length >= 1).all() and ((after - before == 0) | (after - before == 1)).all()


@quick
@given(lengths, st.integers(1, 200))
def test_neighbours_are_next_to_each_other_and_in_order(length, clip_len):
    start = np.arange(len(length)) * 7
    frames, weight = neighbours(start, length, clip_len)
    before, after = (frames - start[:, None, None]).transpose(1, 0, 2)
    assert (before >= 0).all() and (after < length[:, None]).all()
    assert ((after - before == 1) | (after == length[:, None] - 1)).all()
    assert (weight >= 0).all() and (weight < 1).all()
    place = before + weight
    want = np.maximum((np.arange(clip_len) + 0.5) * (length[:, None] / clip_len) - 0.5, 0)
    np.testing.assert_allclose(place, want, atol=1e-4)


@quick
@given(seeds, st.integers(1, 120))
def test_as_many_frames_as_there_were_are_the_same_frames(seed, T):
    x = bodies(seed, 2, 2, T, 3, 3).float()
    assert torch.equal(resample(x, [0, 0], [T, T], T), x)


@quick
@given(seeds, st.integers(1, 100), st.integers(1, 80), st.integers(0, 20))
def test_a_steady_movement_stays_steady(seed, length, clip_len, start):
    a, b = bodies(seed, 2, 2, 1, 3, 3)                                       # (M, 1, V, C) each
    clip = (a + b * torch.arange(start + length + 3)[:, None, None]).float()
    made = resample(clip[None], [start], [length], clip_len)[0]
    place = (torch.arange(clip_len, dtype=torch.float64) + 0.5) * length / clip_len - 0.5
    want = a + b * (start + place.clamp(0, length - 1))[:, None, None]
    torch.testing.assert_close(made.double(), want, atol=1e-4, rtol=1e-6)


@quick
@given(seeds, st.integers(1, 60))
def test_new_frames_lie_between_the_recorded_ones(seed, clip_len):
    x = bodies(seed, 1, 2, 30, 4, 3).float()
    made = resample(x, [5], [20], clip_len)
    piece = x[:, :, 5:25]
    low, high = piece.amin(2, keepdim=True), piece.amax(2, keepdim=True)
    assert (made >= low - 1e-6).all() and (made <= high + 1e-6).all()


@quick
@given(st.lists(st.lists(st.booleans(), min_size=12, max_size=12), min_size=1, max_size=6),
       st.integers(1, 12))
def test_filling_is_the_rule_told_frame_by_frame(there, T):
    x = torch.tensor(there)[:, None, :, None, None] * torch.arange(1, 13)[:, None, None]
    made = fill_empty_frames(x, torch.full((len(x),), T))[:, 0, :T, 0, 0].tolist()
    for row, got in zip(there, made, strict=True):
        clip = [t + 1 if row[t] else 0 for t in range(T)]
        if clip[0] == 0:
            clip = [t for t in clip if t]
        while clip and clip[-1] == 0:
            clip.pop()
        assert got == ([clip[t % len(clip)] for t in range(T)] if clip else [0] * T)


@quick
@given(seeds, st.integers(1, 3))
def test_alignment_ignores_where_the_camera_stands_in_every_frame(seed, M):
    "Moving the room differently in every frame changes nothing: the spine is the origin."
    x = bodies(seed, 2, M, 5, 25, 3)
    moved = x + bodies(seed + 1, 2, 1, 5, 1, 3)
    count = torch.tensor([5, 5])
    torch.testing.assert_close(align_frames(moved, count), align_frames(x, count))


@quick
@given(seeds, st.floats(0, 0.5))
def test_turns_are_rotations_of_no_more_than_three_times_the_limit(seed, half):
    angles = turn_angles(torch.from_numpy(np.random.default_rng(seed).random((5, 3))), half)
    R = axis_rotations(angles)
    assert (angles.abs() <= half * np.pi).all()
    torch.testing.assert_close(R @ R.mT, torch.eye(3).double().expand(5, 3, 3))
    torch.testing.assert_close(torch.linalg.det(R), torch.ones(5).double())
    x = bodies(seed, 5, 4, 3)
    torch.testing.assert_close(rotate(x, R), x @ R.mT)
