"""Fusing scores: what is refused, what the paired test says, and what each class is taken for."""

import numpy as np
import pytest
from scipy.stats import binomtest

from skelbook.evaluate.fusion import FUSIONS, check_same_clips, class_table, fuse, paired_test


def run(seed=0, N=40, K=6):
    "Scores of a made-up run: names, labels, probabilities and classes."
    rng = np.random.default_rng(seed)
    names, classes = [f"clip{i:03}" for i in range(N)], [f"c{k}" for k in range(K)]
    return {"names": np.array(names), "labels": np.arange(N) % K,
            "scores": rng.dirichlet(np.ones(K), N), "classes": np.array(classes)}


def only(kept, whole):
    "A run with some of its clips."
    return {k: v if k == "classes" else v[kept] for k, v in whole.items()}


def told(first, second):
    "What is said of two runs that cannot be fused."
    with pytest.raises(ValueError) as error:
        check_same_clips({"one": first, "two": second})
    return str(error.value)


# -- what is refused

def test_equal_runs_pass():
    check_same_clips({str(seed): run(seed) for seed in range(4)})


def test_clips_that_are_missing_or_new_are_counted_and_named():
    said = told(run(), only(np.r_[0:7, 12:40], run()))
    assert "two lacks 5 of the 40 clips of one (clip007, clip008, clip009 and 2 more)" in said
    said = told(only(np.arange(39), run()), run())
    assert "two has 1 clips that one has not (clip039)" in said and "lacks" not in said
    other = run()
    other["names"] = np.where(np.arange(40) == 3, "a longer name", other["names"])
    said = told(run(), other)
    assert "lacks 1 of the 40 clips of one (clip003) and has 1" in said and "a longer name" in said


def test_order_and_repetition_are_not_overlooked():
    assert "another order" in told(run(), only(np.arange(40)[::-1], run()))
    assert "another order" in told(run(), only(np.r_[0:40, 0], run()))


def test_labels_and_classes_that_differ_are_counted_and_named():
    other = run()
    other["labels"] = np.where(np.arange(40) < 2, 5, other["labels"])
    assert "two labels 2 of 40 clips unlike one (clip000, clip001)" in told(run(), other)
    assert "two has 7 classes, one has 6" in told(run(), run(K=7))
    renamed = run()
    renamed["classes"] = np.array(["c0", "c1", "c2", "C3", "c4", "c5"])
    assert "two names 1 of 6 classes unlike one (C3)" in told(run(), renamed)


def test_every_run_is_compared_with_the_first():
    with pytest.raises(ValueError, match="c lacks 1 of the 40 clips of a"):
        check_same_clips({"a": run(), "b": run(1), "c": only(np.arange(39), run())})


@pytest.mark.parametrize("weights, message", [
    ([1], "1 weights for 2 runs"), ([1, 2, 3], "3 weights"), ([0, 0], "from 0 up"),
    ([1, -1], "from 0 up"), ([1, np.nan], "from 0 up"), ([1, np.inf], "from 0 up")])
def test_weights_that_make_no_sense_are_refused(weights, message):
    with pytest.raises(ValueError, match=message):
        fuse({"a": run(0), "b": run(1)}, weights)


# -- the sum

def test_weights_follow_the_names_of_the_streams():
    runs = {stream: run(seed) for seed, stream in enumerate(FUSIONS["four-stream"])}
    fused = fuse(runs, list(FUSIONS["four-stream"].values()))
    parts = {stream: each["scores"] for stream, each in runs.items()}
    expected = (2 * parts["joint"] + parts["joint-motion"] + 2 * parts["bone"]
                + parts["bone-motion"])
    np.testing.assert_array_equal(fused["scores"], expected)
    assert list(fused["names"]) == list(run()["names"])


def test_the_sum_is_double_precision_and_leaves_its_parts_alone():
    a, b = run(0), run(1)
    a["scores"] = a["scores"].astype(np.float32)
    before = a["scores"].copy()
    fused = fuse({"a": a, "b": b}, [1, 0.5])
    assert fused["scores"].dtype == np.float64
    np.testing.assert_array_equal(a["scores"], before)
    np.testing.assert_array_equal(fused["scores"], before.astype(float) + b["scores"] / 2)


# -- the paired test

def answers(only_first, only_second, both=3, neither=2):
    "Scores of two systems with that many agreements and disagreements, and the labels."
    first = np.repeat([1, 0, 1, 0], (only_first, only_second, both, neither))
    second = np.repeat([0, 1, 1, 0], (only_first, only_second, both, neither))
    return np.eye(2)[first], np.eye(2)[second], np.ones(len(first), int)


@pytest.mark.parametrize("a, b", [(0, 0), (0, 1), (5, 0), (3, 3), (7, 8), (40, 70), (900, 1000)])
def test_p_is_that_of_the_exact_binomial_test(a, b):
    result = paired_test(*answers(a, b))
    assert (result["only_first"], result["only_second"]) == (a, b)
    expected = binomtest(a, a + b, 0.5).pvalue if a + b else 1
    assert result["p"] == pytest.approx(expected, rel=1e-9)


def test_p_of_very_many_disagreements_is_a_number():
    assert paired_test(*answers(9_000, 9_400))["p"] == pytest.approx(0.00326, rel=0.01)
    assert paired_test(*answers(0, 5_000))["p"] == 0            # below the smallest float


# -- class by class

def test_classes_that_are_never_shown_or_never_mistaken():
    labels = np.array([0, 0, 2, 2, 2])
    scores = np.eye(4)[[0, 0, 1, 3, 2]]
    rows = class_table({"labels": labels, "scores": scores, "classes": np.array(list("wxyz"))})
    assert rows[0] == {"class": "w", "clips": 2, "accuracy": 100, "mistaken for": "–", "times": 0}
    assert np.isnan(rows[1]["accuracy"]) and rows[1]["clips"] == 0
    assert rows[2]["mistaken for"] == "x" and rows[2]["times"] == 1        # the first of equals
    assert sum(row["clips"] for row in rows) == 5
