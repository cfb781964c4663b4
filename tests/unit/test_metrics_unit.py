"""Corner cases of the metrics."""
import numpy as np
import pytest

from skelbook.learner.metrics import (
    confusion_matrix,
    mean_class_accuracy,
    ranks,
    top_k,
    wilson_interval,
)

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("k", [1, 2, 5, 7, 9])
def test_top_k_is_the_last_k_of_a_stable_sort(k):
    scores = RNG.integers(0, 4, (200, 7)).astype(float)           # full of ties
    labels = RNG.integers(0, 7, 200)
    last = np.argsort(scores, axis=1, kind="stable")[:, -k:]
    assert top_k(scores, labels, k) == (last == labels[:, None]).any(1).mean()


def test_one_rule_for_ties():
    scores = RNG.integers(0, 3, (300, 5)).astype(float)
    labels = RNG.integers(0, 5, 300)
    assert confusion_matrix(scores, labels).trace() == (ranks(scores, labels) == 0).sum()


def test_equal_scores_predict_the_last_class():
    assert ranks(np.zeros((1, 4)), [3]).tolist() == [0]
    assert ranks(np.zeros((1, 4)), [0]).tolist() == [3]
    assert confusion_matrix(np.zeros((1, 4)), [0])[0].tolist() == [0, 0, 0, 1]


def test_mean_class_accuracy_over_the_union():
    scores = np.eye(4)[[0, 0, 1, 3]]
    # class 0: 2 of 2; class 1: 1 of 1; class 2: shown, missed; class 3: predicted, never shown
    assert mean_class_accuracy(scores[[0, 1, 2]], [0, 0, 1]) == 1
    assert mean_class_accuracy(scores, [0, 0, 1, 2]) == (1 + 1 + 0 + 0) / 4


def test_mean_class_accuracy_clip_by_clip():
    scores, labels = RNG.standard_normal((40, 30)), RNG.integers(0, 30, 40)
    predicted = [int(row.argmax()) for row in scores]
    per_class = []
    for c in set(predicted) | set(labels.tolist()):
        answers = [p == c for p, label in zip(predicted, labels, strict=True) if label == c]
        per_class.append(sum(answers) / len(answers) if answers else 0)
    np.testing.assert_allclose(mean_class_accuracy(scores, labels), np.mean(per_class), rtol=1e-14)
    counts = confusion_matrix(scores, labels)
    for p, label in zip(predicted, labels, strict=True):
        counts[label, p] -= 1
    assert not counts.any()


@pytest.mark.parametrize("scores, labels, message", [
    (np.zeros((2, 3)), [0], r"\(2, 3\) and labels of shape \(1,\)"),
    (np.zeros(3), [0], "expected"),
    (np.zeros((0, 3)), np.zeros(0, int), "S > 0"),
    (np.zeros((2, 3)), [0, 3], "0 .. 2"),
    (np.zeros((2, 3)), [0, -1], "0 .. 2"),
    (np.zeros((2, 3)), [0.0, 1.0], "whole numbers"),
    (np.array([[0, np.nan], [0, 1]]), [0, 0], "1 of 2 clips"),
    (np.array([[0, np.inf]]), [0], "not finite"),
])
def test_refused(scores, labels, message):
    for metric in (ranks, top_k, confusion_matrix, mean_class_accuracy):
        with pytest.raises(ValueError, match=message):
            metric(scores, labels)


def test_k_must_allow_a_guess():
    with pytest.raises(ValueError, match="top-0"):
        top_k(np.zeros((1, 2)), [0], k=0)


def test_wilson_interval():
    low, high = wilson_interval(np.arange(21), 20)
    p = np.arange(21) / 20
    assert (low <= p).all() and (p <= high).all() and (low >= 0).all() and (high <= 1).all()
    np.testing.assert_allclose(low, 1 - high[::-1], atol=1e-15)           # hits and misses
    assert low[0] == 0 and high[20] == 1 and low[20] < 1
    assert (np.diff(low) > 0).all() and (np.diff(high) > 0).all()
    for hits, count in ((-1, 5), (6, 5), (0, 0)):
        with pytest.raises(ValueError, match="expected 0 <= hits"):
            wilson_interval(hits, count)


def test_wilson_ends_are_just_surprising():
    """By definition: truths 1.96 of their own standard deviations away from what was seen."""
    n = np.array([7, 7, 464, 16_487])
    hits = np.array([1, 3, 417, 15_000])
    for end in wilson_interval(hits, n):
        np.testing.assert_allclose(abs(hits / n - end) / np.sqrt(end * (1 - end) / n),
                                   1.959963984540054, rtol=1e-10)
