"""Invariants of heatmap volumes, and a second opinion by loops on whatever is drawn."""

import sys
from pathlib import Path

import numpy as np
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from skelbook.transforms import heatmap
from skelbook.transforms.heatmap import (
    COCO_LIMBS,
    joint_volume,
    limb_volume,
    mirror_joints,
    mirror_limbs,
    mirror_volume,
)
from skelbook.transforms.volumes import box_size, flip_joints, people_box, random_box

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))
from heatmap_loops import joints_by_loops, limbs_by_loops  # noqa: E402

quick = settings(deadline=None, max_examples=40)
seeds = st.integers(0, 2**32 - 1)
sizes = st.tuples(st.integers(1, 40), st.integers(1, 40))
sigmas = st.sampled_from([0.05, 0.3, 0.6, 0.7, 1.5, 3.0])
MIRROR = mirror_joints("coco")
LIMB_MIRROR = mirror_limbs(COCO_LIMBS, MIRROR)


def people(seed, size, persons=2, frames=2, grid=0):
    "Joints in and around a picture, some missing, (1, M, T, 17, 3); on a grid of 1 / grid pixels."
    rng = np.random.default_rng(seed)
    shape = 1, persons, frames, 17
    place = rng.uniform(-0.3, 1.3, (*shape, 2)) * np.array(size[::-1])
    if grid:
        place = np.round(place * grid) / grid
    score = rng.choice([0, 5e-5, 0.3, 1], shape) * rng.random(shape)
    return torch.from_numpy(np.concatenate([place, score[..., None]], -1)).float()


def both(x, size, sigma=0.6):
    "Joint and limb volume of the same clips, beside each other."
    return torch.cat((joint_volume(x, size, sigma), limb_volume(x, COCO_LIMBS, size, sigma)), 1)


@quick
@given(seeds, sizes, sigmas, st.sampled_from([0, 1, 5, 64]))
@example(0, (1, 4), 0.6, 5)                    # a border that single precision puts elsewhere
def test_drawn_at_once_or_one_by_one(seed, size, sigma, grid):
    x = people(seed, size, grid=grid)
    arrays = x[0, ..., :2].numpy(), x[0, ..., 2].numpy()
    loops = joints_by_loops(*arrays, size, sigma), limbs_by_loops(*arrays, COCO_LIMBS, size, sigma)
    rounding = 1e-5 * max(1, 0.6 / sigma)     # of places in single precision, in units of sigma
    np.testing.assert_allclose(both(x, size, sigma)[0], np.concatenate(loops), rtol=0,
                               atol=rounding)


@quick
@given(seeds, sizes)
def test_twice_in_the_mirror_is_the_volume_itself(seed, size):
    joints, limbs = both(people(seed, size), size).split(17, 1)
    for volume, mirror in ((joints, MIRROR), (limbs, LIMB_MIRROR)):
        assert torch.equal(mirror_volume(mirror_volume(volume, mirror), mirror), volume)


@quick
@given(seeds, sizes, st.permutations(range(4)))
def test_persons_are_combined_by_maximum_in_any_order(seed, size, order):
    x = people(seed, size, persons=4)
    volume = both(x, size)
    assert torch.equal(both(x[:, list(order)], size), volume)
    alone = torch.stack([both(x[:, [m]], size) for m in range(4)])
    assert torch.equal(alone.amax(0), volume)


@quick
@given(seeds, st.integers(-9, 9), st.integers(-9, 9))
def test_a_shift_by_whole_pixels_shifts_the_picture(seed, dx, dy):
    rng = np.random.default_rng(seed)
    x = torch.from_numpy(np.concatenate(          # in 64ths of a pixel, where sums are exact
        [rng.integers(64 * 14, 64 * 30, (1, 2, 2, 17, 2)) / 64, rng.random((1, 2, 2, 17, 1))], -1))
    moved = both(x + torch.tensor([dx, dy, 0]), (44, 44))
    rolled = both(x, (44, 44)).roll((dy, dx), (-2, -1))
    torch.testing.assert_close(moved, rolled, rtol=0, atol=1e-6)


@quick
@given(seeds, sizes, sigmas, st.floats(0, 1))
def test_a_volume_is_as_bright_as_its_scores(seed, size, sigma, factor):
    x = people(seed, size)
    volume = both(x, size, sigma)
    assert volume.min() >= 0 and volume.max() <= x[..., 2].max()
    dimmed = x * torch.tensor([1, 1, factor])
    low = both(dimmed, size, sigma)
    assert (low <= volume).all()
    drawn = dimmed[..., 2].double() >= 1e-4
    if torch.equal(drawn, x[..., 2].double() >= 1e-4):
        torch.testing.assert_close(low, volume * factor, rtol=0, atol=1e-6)


@quick
@given(seeds, st.integers(14, 18))
def test_the_size_of_the_parts_does_not_matter(seed, power):
    size = (24, 31)
    x = people(seed, size, persons=3, frames=16)
    wanted = both(x, size)
    parts = heatmap._parts
    small = torch.empty(1)
    heatmap._parts = lambda wide, high, volume: parts(wide, high * 2**(power - 8), small)
    try:
        assert torch.equal(both(x, size), wanted)
    finally:
        heatmap._parts = parts


@quick
@given(seeds, st.integers(1, 200), st.integers(1, 200))
def test_a_random_box_lies_in_its_picture(seed, height, width):
    draws = torch.from_numpy(np.random.default_rng(seed).random((50, 22)))
    size = torch.tensor([[height, width]]).expand(50, 2)
    box = random_box(size, draws)
    left, top, right, bottom = box.unbind(1)
    assert (left >= 0).all() and (right <= width).all()
    assert (top >= 0).all() and (bottom <= height).all()
    assert (box_size(box) >= 0).all()


@quick
@given(seeds, st.integers(0, 500), st.integers(0, 500))
def test_the_box_is_nearly_a_square_around_everybody(seed, x0, y0):
    rng = np.random.default_rng(seed)
    x = torch.from_numpy(rng.uniform(1, 300, (3, 2, 4, 5, 2)) + [x0, y0])
    low, high = people_box(x, torch.tensor([[900, 900]] * 3)).view(3, 2, 2).unbind(1)
    assert (low <= x.amin((1, 2, 3))).all() and (high >= x.amax((1, 2, 3)) - 1).all()
    height, width = (high - low).unbind(1)
    assert ((height - width).abs() <= 2).all()           # corners are cut towards zero


@quick
@given(seeds, st.integers(10, 100))
def test_flipped_twice_is_what_it_was(seed, width):
    x = torch.from_numpy(np.random.default_rng(seed).integers(1, 10, (4, 2, 3, 17, 3))).double()
    flipped = torch.tensor([True, False, True, False])
    once = flip_joints(x, width, flipped, MIRROR)
    assert torch.equal(flip_joints(once, width, flipped, MIRROR), x)
    assert torch.equal(once[1], x[1]) and not torch.equal(once[0], x[0])
