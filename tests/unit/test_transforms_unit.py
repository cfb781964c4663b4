"""Corner cases of normalisation, streams and sampling."""

import numpy as np
import pytest
import torch

from skelbook.graph import LAYOUTS
from skelbook.keyed import keyed_uniform
from skelbook.transforms import sampling
from skelbook.transforms.normalize import (
    align_3d,
    normalize_2d,
    rotate,
    rotation_onto,
    scale_to_box,
    subtract_first_frame,
)
from skelbook.transforms.sampling import (
    copied_frames,
    pick_frames,
    spread_frames,
    train_frames,
    uniform_frames,
)
from skelbook.transforms.streams import STREAMS, bones, clear_absent, make_stream, motion


def noise(*shape, seed=0, dtype=torch.float32):
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape)).to(dtype)


# ---------------------------------------------------------------------------------- normalisation

@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_dtype_is_kept_and_input_is_not_changed(dtype):
    x, n = noise(2, 2, 6, 25, 3, dtype=dtype), torch.tensor([6, 4])
    before = x.clone()
    made = [normalize_2d(x), align_3d(x, n)[0], align_3d(x, n)[2], subtract_first_frame(x),
            scale_to_box(x, n), bones(x, range(25)), motion(x, x), clear_absent(x, n),
            pick_frames(x, [[0], [1]])]
    assert {out.dtype for out in made} == {dtype}
    assert torch.equal(x, before)


@pytest.mark.parametrize("value", [0.0, 1e-9])
def test_clip_without_anybody_keeps_its_frames(value):
    x = torch.full((2, 2, 5, 25, 3), value)
    x[1] = noise(2, 5, 25, 3)
    out, kept, _ = align_3d(x, torch.tensor([4, 5]))
    assert kept.tolist() == [4, 5]
    assert out[0].abs().max() <= value
    assert torch.isfinite(out).all()


def test_what_stands_in_the_padding_does_not_matter():
    x, n = noise(3, 2, 8, 25, 3), torch.tensor([8, 1, 5])
    dirty = x.clone()
    for i, length in enumerate(n):
        x[i, :, length:], dirty[i, :, length:] = 0, 9
    for clean, other in zip(align_3d(x, n), align_3d(dirty, n), strict=True):
        assert torch.equal(clean, other)
    boxed, other = scale_to_box(x, n), scale_to_box(dirty, n)
    for i, length in enumerate(n):
        assert torch.equal(boxed[i, :, :length], other[i, :, :length])


def test_missing_joint_stays_zero_and_a_person_seen_later_is_not_first():
    x = noise(1, 2, 4, 25, 3)
    x[0, 0, 2, 7] = 0
    x[0, 1, :2] = 0
    out, kept, _ = align_3d(x, torch.tensor([4]))
    assert kept.item() == 4
    assert not out[0, 0, 2, 7].any() and not out[0, 1, :2].any()
    assert torch.equal(out[0, 0, 0, 1], torch.zeros(3))


def test_clip_of_no_frames_and_batch_of_no_clips():
    out, kept, _ = align_3d(noise(1, 1, 3, 25, 3), torch.tensor([0]))
    assert kept.item() == 0 and not out.any()
    assert align_3d(torch.zeros(0, 2, 3, 25, 3), torch.zeros(0, dtype=torch.long))[0].shape[0] == 0


def test_directions_that_are_not_turned():
    d = torch.tensor([[0, 0, 0], [1e-7, 0, 0], [0, 0, 2], [0, 0, -2], [1e-9, 0, 1]]).double()
    assert torch.equal(rotation_onto(d, (0, 0, 1)), torch.eye(3).double().expand(5, 3, 3))


def test_small_angles_are_not_lost():
    d = torch.tensor([[1e-5, 0, 1]]).double()
    turned = rotate(d, rotation_onto(d, (0, 0, 1)))
    assert turned[0, :2].abs().max() < 1e-16


def test_points_of_any_rank_are_rotated():
    R = rotation_onto(noise(2, 3, dtype=torch.float64), (1, 0, 0))
    x = noise(2, 4, 5, 3, dtype=torch.float64)
    torch.testing.assert_close(rotate(x, R), torch.einsum("nij,ntvj->ntvi", R, x))
    torch.testing.assert_close(rotate(x[:, 0, 0], R), rotate(x, R)[:, 0, 0], rtol=0, atol=0)


def test_one_still_frame_fills_no_box_but_gives_no_nan():
    x = torch.full((2, 1, 1, 20, 3), 4.0)
    x[1, 0, 0, 0] = 3
    boxed = scale_to_box(x)
    assert not boxed[0].any()
    assert boxed[1].unique().tolist() == [-1, 1]


# ---------------------------------------------------------------------------------------- streams

def whole(x):
    last = (torch.arange(x.shape[2]) == x.shape[2] - 1).expand(len(x), -1)
    return x, torch.cat((x[:, :, 1:], x[:, :, -1:]), 2), last


def test_hand_skeletons_average_scores_of_bones_but_difference_those_of_motion():
    x = noise(1, 1, 5, 21, 3)
    bone = make_stream(*whole(x), "bone", LAYOUTS["handmp"])
    step = make_stream(*whole(x), "joint-motion", LAYOUTS["handmp"])
    torch.testing.assert_close(bone[..., 1, 2], (x[..., 1, 2] + x[..., 0, 2]) / 2)
    torch.testing.assert_close(step[:, :, :-1], x[:, :, 1:] - x[:, :, :-1])


@pytest.mark.parametrize("stream", STREAMS)
def test_third_coordinate_of_a_body_is_no_score(stream):
    x = noise(2, 2, 5, 25, 3)
    out = make_stream(*whole(x), stream, "nturgb+d")
    turned = make_stream(*whole(x.flip(-1)), stream, "nturgb+d")
    assert torch.equal(out, turned.flip(-1))


@pytest.mark.parametrize("stream", ["joint-motion", "bone-motion"])
def test_motion_of_a_last_frame_is_zero_with_its_score(stream):
    out = make_stream(*whole(noise(2, 1, 5, 17, 3)), stream, LAYOUTS["coco"])
    assert not out[:, :, -1].any()
    assert (out[:, :, :-1, :, 2] != 0).all()


def test_two_channels_have_no_score():
    x = noise(1, 1, 3, 17, 2)
    assert torch.equal(make_stream(*whole(x), "joint-motion", "coco")[..., :2, :, 0],
                       (x[:, :, 1:] - x[:, :, :-1])[..., 0])


# --------------------------------------------------------------------------------------- sampling

@pytest.mark.parametrize("clip_len", [2, 20, 52, 100])
def test_spread_frames_are_those_of_linspace(clip_len):
    n = np.arange(1, 400)
    want = np.stack([np.linspace(0, k - 1, clip_len).astype(int) for k in n])
    np.testing.assert_array_equal(spread_frames(n, clip_len), want)


def test_test_frames_of_equal_lengths_are_equal_and_may_be_changed():
    first = sampling.test_frames(np.array([150, 30, 150]), 100, 10)
    np.testing.assert_array_equal(first[0], first[2])
    want = first.copy()
    first[:] = 0
    np.testing.assert_array_equal(sampling.test_frames([150, 30, 150], 100, 10), want)


@pytest.mark.parametrize("n", [150, 260])
def test_keyed_frames_have_the_distribution_of_the_reference(n):
    draws = 4000
    keyed = train_frames(np.full(draws, n), keyed_uniform(1, 0, np.arange(draws), "t", 101), 100)
    legacy = uniform_frames(n, 100, draws, np.random.RandomState(1))
    for place in (0, 1, 50, 99):
        a, b = (np.bincount(x[:, place], minlength=n) / draws for x in (keyed, legacy))
        assert np.abs(a - b).max() < 0.05


def test_short_clips_start_anywhere():
    keys = keyed_uniform(0, 0, np.arange(500), "t", 101)
    frames = train_frames(np.full(500, 7), keys, 100)
    assert set(frames[:, 0]) == set(range(7))
    np.testing.assert_array_equal(frames, (frames[:, :1] + np.arange(100)) % 7)


def test_largest_key_stays_in_range():
    n = np.array([1, 3, 99, 100, 101, 199, 200, 201, 5000])
    keys = np.full((len(n), 101), np.nextafter(1.0, 0.0))
    assert (train_frames(n, keys, 100).max(1) < n).all()
    assert (copied_frames(n, keys[:, :52], 52).max(1) < n).all()


def test_copies_are_drawn_without_replacement_and_evenly():
    keys = keyed_uniform(0, 0, np.arange(4000), "t", 8)
    frames = copied_frames(np.full(4000, 4), keys, 8, copies=2)
    assert (frames == np.repeat(np.arange(4), 2)).all()        # eight draws of eight things
    frames = copied_frames(np.full(4000, 4), keys[:, :2], 2, copies=2)
    same = (frames[:, 0] == frames[:, 1]).mean()
    assert abs(same - 1 / 7) < 0.02                            # the other copy, of seven left
    assert np.abs(np.bincount(frames.ravel()) / 8000 - 0.25).max() < 0.02


def test_pick_frames_gathers_every_person():
    x, frames = noise(3, 2, 7, 4, 3), np.array([[6, 0], [3, 3], [1, 2]])
    out = pick_frames(x, frames)
    assert out.is_contiguous()
    for i in range(3):
        assert torch.equal(out[i], x[i][:, frames[i]])
