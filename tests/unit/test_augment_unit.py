"""Turns of the view: whole degrees, the order of the axes, precision."""

import math

import numpy as np
import pytest
import torch

from skelbook.transforms.augment import view_rotations
from skelbook.transforms.normalize import rotate


def about_x(a):
    return np.array([[1, 0, 0], [0, math.cos(a), -math.sin(a)], [0, math.sin(a), math.cos(a)]])


def about_y(b):
    return np.array([[math.cos(b), 0, math.sin(b)], [0, 1, 0], [-math.sin(b), 0, math.cos(b)]])


@pytest.mark.parametrize("degrees", [1, 30, 60, 90])
def test_matrices_are_products_of_the_two_turns(degrees):
    rng = np.random.default_rng(degrees)
    steps = rng.integers(-degrees, degrees + 1, (20, 2))
    draws = (steps + degrees + rng.random((20, 2))) / (2 * degrees + 1)
    made = view_rotations(torch.from_numpy(draws), degrees).numpy()
    for matrix, (a, b) in zip(made, np.radians(steps), strict=True):
        np.testing.assert_allclose(matrix, about_x(a) @ about_y(b), atol=1e-15)


def test_reference_order_on_row_vectors():
    """CTR-GCN multiplies rows, x · Ry' · Rx', with both matrices transposed: the same points."""
    points, (a, b) = np.random.default_rng(0).standard_normal((7, 3)), np.radians([25, -40])
    draws = torch.tensor([[(25 + 60.5) / 121, (-40 + 60.5) / 121]], dtype=torch.float64)
    ours = rotate(torch.from_numpy(points)[None], view_rotations(draws))[0]
    np.testing.assert_allclose(ours, points @ about_y(b).T @ about_x(a).T, atol=1e-12)


def test_the_ends_are_included():
    edge = view_rotations(torch.tensor([[0, 0], [1 - 2**-53, 1 - 2**-53]], dtype=torch.float64))
    for matrix, angle in zip(edge.numpy(), np.radians([-60, 60]), strict=True):
        np.testing.assert_allclose(matrix, about_x(angle) @ about_y(angle), atol=1e-15)


def test_no_turn():
    middle = view_rotations(torch.full((3, 2), 0.5))
    assert torch.equal(middle, torch.eye(3, dtype=torch.float64).expand(3, 3, 3))
    assert torch.equal(view_rotations(torch.rand(4, 2), 0)[0], middle[0])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_matrices_are_double_and_points_keep_their_precision(dtype):
    R = view_rotations(torch.rand(2, 2, dtype=dtype))
    assert R.dtype == torch.float64 and R.shape == (2, 3, 3)
    assert rotate(torch.zeros(2, 5, 3, dtype=dtype), R).dtype == dtype


def test_no_samples():
    assert view_rotations(torch.zeros(0, 2)).shape == (0, 3, 3)
