"""Accuracies of a run from its scores."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skelbook.evaluate.clips import summarise


def scores(labels, guess, classes=12):
    "Scores as a file holds them, certain of every guess."
    return dict(labels=np.array(labels), scores=np.eye(classes)[np.array(guess)])


def test_all_right_and_all_wrong():
    right = summarise(scores([0, 1, 2, 3], [0, 1, 2, 3]))
    wrong = summarise(scores([0, 1, 2, 3], [1, 2, 3, 0]))
    assert (right["top1"], right["mean_class"], right["high"]) == (100, 100, pytest.approx(100))
    assert (wrong["top1"], wrong["mean_class"], wrong["low"]) == (0, 0, pytest.approx(0, abs=1e-9))
    assert right["count"] == 4 and right["low"] < 60 and wrong["high"] > 40


def test_rare_classes_count_as_much_as_common_ones_in_the_mean_class_accuracy():
    result = summarise(scores([0] * 98 + [1, 2], [0] * 100))
    assert result["top1"] == pytest.approx(98)
    assert result["mean_class"] == pytest.approx(100 / 3)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 11), st.integers(0, 11)), min_size=1, max_size=60),
       st.randoms(use_true_random=False))
def test_every_number_is_a_per_cent_and_none_depends_on_the_order(pairs, random):
    result = summarise(scores(*zip(*pairs, strict=True)))
    assert 0 <= result["low"] <= result["top1"] + 1e-9
    assert result["top1"] <= min(result["top5"], result["high"]) + 1e-9
    assert all(type(value) in (int, float) for value in result.values()), "NumPy numbers"
    random.shuffle(pairs)
    again = summarise(scores(*zip(*pairs, strict=True)))
    assert again == pytest.approx(result)
