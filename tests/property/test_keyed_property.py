"""A draw depends on its key and on nothing else."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from skelbook.keyed import keyed_order, keyed_uniform

SEEDS = st.integers(0, 2**32 - 1)
KEYS = st.lists(st.tuples(SEEDS, st.integers(0, 2**63)), min_size=1, max_size=20)
few = settings(max_examples=50, deadline=None)


def draw(seed, keys, size=3):
    epochs, samples = np.array(keys, np.uint64).T
    return keyed_uniform(seed, epochs, samples, "frames", size)


@few
@given(SEEDS, KEYS, st.data())
def test_company_and_order_change_nothing(seed, keys, data):
    some = data.draw(st.lists(st.integers(0, len(keys) - 1), min_size=1))
    assert np.array_equal(draw(seed, keys)[some], draw(seed, [keys[i] for i in some]))


@few
@given(SEEDS, KEYS, st.integers(0, 20), st.integers(0, 20))
def test_further_draws_leave_the_first_ones(seed, keys, some, more):
    assert np.array_equal(draw(seed, keys, some), draw(seed, keys, some + more)[:, :some])


@few
@given(SEEDS, KEYS)
def test_draws_are_in_range_and_differ_between_keys(seed, keys):
    draws = draw(seed, keys)
    assert (draws >= 0).all() and (draws < 1).all()
    assert len(np.unique(draws[:, 0])) == len(set(keys))


@few
@given(SEEDS, st.integers(0, 2**31), st.integers(0, 300))
def test_orders_are_permutations(seed, epoch, count):
    assert np.array_equal(np.sort(keyed_order(seed, epoch, count)), np.arange(count))
