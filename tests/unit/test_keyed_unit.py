"""Keyed randomness: published answers, typed numbers, edges."""

import zlib

import numpy as np
import pytest

from skelbook.keyed import keyed_order, keyed_uniform, philox

KNOWN = [  # counter, key, answer: philox4x32, 10 rounds, as distributed with Random123
    ("00000000 00000000 00000000 00000000", "00000000 00000000",
     "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff",
     "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0",
     "d16cfe09 94fdcceb 5001e420 24126ea1"),
]
PINNED = [[0.42767768632496994, 0.8553721776951027, 0.4797980813465643],
          [0.20578011526244477, 0.9011286364031008, 0.9945757323123029]]
ORDER = [1, 5, 8, 2, 0, 6, 9, 7, 3, 4]


def words(text):
    return [int(word, 16) for word in text.split()]


@pytest.mark.parametrize("counter, key, answer", KNOWN)
def test_published_answers(counter, key, answer):
    assert philox(words(counter), words(key)).tolist() == words(answer)


def test_published_answers_as_one_batch():
    counters = np.array([words(counter) for counter, _, _ in KNOWN]).T
    keys = np.array([words(key) for _, key, _ in KNOWN]).T
    assert philox(counters, keys).T.tolist() == [words(answer) for _, _, answer in KNOWN]


def test_numbers_are_made_of_the_published_words():
    a, b, c, d = words(KNOWN[0][2])
    first, second = ((a >> 5) * 2**26 + (b >> 6)) / 2**53, ((c >> 5) * 2**26 + (d >> 6)) / 2**53
    assert zlib.crc32(b"") == 0                      # the empty purpose makes the key of zeros
    assert keyed_uniform(0, 0, [0], "", 2).tolist() == [[first, second]]
    assert abs(first - 0x6627e8d5 / 2**32) < 2**-26 and abs(second - 0xbc57ac4c / 2**32) < 2**-26


def test_numbers_of_every_run_are_pinned():
    assert keyed_uniform(7, [0, 3], [12, 2**40 + 1], "frames", 3).tolist() == PINNED
    assert keyed_order(0, 0, 10).tolist() == ORDER


@pytest.mark.parametrize("size", [0, 1, 2, 3, 101])
def test_shapes(size):
    draws = keyed_uniform(0, 0, np.arange(5), "frames", size)
    assert draws.shape == (5, size) and draws.dtype == np.float64
    assert np.array_equal(draws, keyed_uniform(0, 0, np.arange(5), "frames", size + 1)[:, :size])


def test_no_samples_and_no_items():
    assert keyed_uniform(0, 0, np.array([], int), "frames", 3).shape == (0, 3)
    assert keyed_order(0, 0, 0).tolist() == []
    assert keyed_order(0, 0, 1).tolist() == [0]


def test_the_largest_words_stay_below_one():
    assert ((2**32 - 1 >> 5) * 2**26 + (2**32 - 1 >> 6)) * 2.0**-53 < 1


@pytest.mark.parametrize("seed", [-1, 2**32, 2**40])
def test_seeds_outside_a_word_are_refused(seed):
    with pytest.raises(ValueError, match=f"seed {seed} is outside"):
        keyed_uniform(seed, 0, [0], "frames", 1)


def test_edges_of_the_seed_are_fine():
    edges = [keyed_uniform(seed, 0, [0], "frames", 1).item() for seed in (0, 2**32 - 1)]
    assert edges[0] != edges[1]


def test_samples_beyond_one_word_do_not_repeat():
    samples = [0, 1, 2**32, 2**32 + 1, 2**33]
    assert len(np.unique(keyed_uniform(0, 0, samples, "frames", 1))) == 5


def test_as_many_epochs_as_samples_or_one():
    with pytest.raises(ValueError):
        keyed_uniform(0, [1, 2], [3, 4, 5], "frames", 1)


def test_kinds_of_integers_do_not_matter():
    want = keyed_uniform(0, 2, [3, 4], "frames", 2)
    for kind in (np.int32, np.int64, np.uint8):
        assert np.array_equal(keyed_uniform(0, kind(2), np.array([3, 4], kind), "frames", 2), want)


def test_order_changes_with_seed_and_epoch():
    orders = [tuple(keyed_order(seed, epoch, 50)) for seed in (0, 1) for epoch in (0, 1)]
    assert len(set(orders)) == 4


def test_positions_in_an_order_are_even():
    orders = np.stack([keyed_order(0, epoch, 8) for epoch in range(2000)])
    counts = np.stack([np.bincount(column, minlength=8) for column in orders.T])
    assert np.abs(counts / 2000 - 1 / 8).max() < 0.03          # four standard deviations
