"""What must hold for any input of a convolutional network."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from skelbook.models.hcn import HCN
from skelbook.models.hcn_baseline import HCNBaseline
from skelbook.models.sequence_blocks import SwapJoints, frame_motion, merge_persons

quick = settings(deadline=None, max_examples=10)
SEEDS = st.integers(0, 10**6)


def network(make, **options):
    "A network in double precision whose norms have statistics of their own."
    torch.manual_seed(0)
    model = make("coco", 5, **options)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 1.5)
        if isinstance(module, torch.nn.Linear):
            module.weight.data.normal_(std=0.1)
    return model.double().eval()


NETWORKS = {"hcn": network(HCN, clip_len=16), "hcn_baseline": network(HCNBaseline)}
every = pytest.mark.parametrize("name", NETWORKS)


def random(seed, *shape):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, dtype=torch.float64, generator=generator)


@every
@quick
@given(SEEDS, st.integers(1, 4), st.integers(1, 3))
def test_samples_of_a_batch_do_not_meet_in_eval_mode(name, seed, n, persons):
    model, x = NETWORKS[name], random(seed, n, persons, 16, 17, 3)
    alone = torch.cat([model(one[None]) for one in x])
    torch.testing.assert_close(model(x), alone, rtol=1e-10, atol=1e-10)


@every
@quick
@given(SEEDS, st.permutations(range(3)))
def test_persons_may_change_places(name, seed, order):
    model, x = NETWORKS[name], random(seed, 2, 3, 16, 17, 3)
    torch.testing.assert_close(model(x[:, order]), model(x), rtol=1e-10, atol=1e-10)


@every
@quick
@given(SEEDS)
def test_a_second_copy_of_a_person_changes_nothing(name, seed):
    model, x = NETWORKS[name], random(seed, 2, 1, 16, 17, 3)
    torch.testing.assert_close(model(x.repeat(1, 2, 1, 1, 1)), model(x), rtol=1e-10, atol=1e-10)


@every
@quick
@given(SEEDS, st.permutations(range(17)))
def test_renaming_joints_and_their_weights_changes_nothing(name, seed, order):
    "No joint is next to another: the numbering of a layout is of no consequence."
    model, x = NETWORKS[name], random(seed, 2, 2, 16, 17, 3)
    before = model(x)
    convs = [branch[4].weight for branch in (model.body.position, model.body.motion)]
    kept = [conv.data for conv in convs]
    try:
        for conv in convs:
            conv.data = conv.data[:, order]
        torch.testing.assert_close(model(x[..., order, :]), before, rtol=1e-10, atol=1e-10)
    finally:
        for conv, data in zip(convs, kept, strict=True):
            conv.data = data


@quick
@given(SEEDS, st.floats(-5, 5))
def test_motion_ignores_a_shift_and_adds_up(seed, shift):
    x = random(seed, 2, 3, 6, 4)
    torch.testing.assert_close(frame_motion(x + shift), frame_motion(x))
    torch.testing.assert_close(frame_motion(x).cumsum(2), x - x[:, :, :1])


@quick
@given(SEEDS)
def test_swapping_twice_is_nothing(seed):
    x = random(seed, 2, 3, 6, 4)
    assert torch.equal(SwapJoints()(SwapJoints()(x)), x)


@quick
@given(SEEDS, st.integers(1, 4))
def test_merging_is_the_largest_of_the_persons(seed, persons):
    x = random(seed, 3 * persons, 2, 4)
    expected = x.unflatten(0, (3, persons)).flatten(2).numpy().max(1)
    assert (merge_persons(x, persons).numpy() == expected).all()
