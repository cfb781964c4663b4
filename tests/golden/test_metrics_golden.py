"""Clip averaging, fusion and metrics of the reference, rebuilt from seeds."""
import json
from pathlib import Path

import numpy as np
import pytest
import recipe

from skelbook.evaluate.fusion import FUSIONS, fuse
from skelbook.learner.metrics import mean_class_accuracy, top_k

DATA = Path(__file__).parent / "data"
FUSION = json.loads((DATA / "gcn_pipeline.json").read_text())["fusion"]
ARRAYS = np.load(DATA / "gcn_pipeline.npz")
N, S, K = FUSION["num_samples"], FUSION["num_clips"], FUSION["num_classes"]
LABELS = recipe.labels(FUSION["labels_seed"], N, K)


def averaged(stream):
    """Probabilities of one stream, averaged over clips, (N, K)."""
    logits = 1.5 * recipe.noise(FUSION["seeds"][stream], (N, S, K))
    logits[np.arange(N), :, LABELS] += 1
    exp = np.exp(logits - logits.max(-1, keepdims=True))
    return (exp / exp.sum(-1, keepdims=True)).mean(1)


def fused(fusion):
    """Weighted sum of the streams of a published fusion, (N, K)."""
    runs = {stream: {"names": np.arange(N).astype(str), "labels": LABELS,
                     "scores": STREAMS[SHORT[stream]], "classes": np.arange(K).astype(str)}
            for stream in FUSIONS[fusion]}
    return fuse(runs, list(FUSIONS[fusion].values()))["scores"]


SHORT = {"joint": "j", "joint-motion": "jm", "bone": "b", "bone-motion": "bm"}
STREAMS = {stream: averaged(stream) for stream in FUSION["seeds"]}
FUSED = STREAMS | {"two_stream_j_b_1_1": fused("two-stream"),
                   "four_stream_j_jm_b_bm_2_1_2_1": fused("four-stream")}
STORED = FUSION["averaged"] | {"four_stream_j_jm_b_bm_2_1_2_1": FUSION["four_stream"]}


@pytest.mark.parametrize("name", STORED)
def test_scores(name):
    stored, scores = STORED[name], FUSED[name]
    assert list(scores.shape) == stored["shape"]
    places = np.random.default_rng(0).integers(0, scores.size, 64)
    np.testing.assert_allclose(scores.ravel()[places], ARRAYS[stored["sample_key"]],
                               rtol=0, atol=1e-12)
    weighted = np.dot(scores.ravel(), recipe.noise(777, scores.size))
    assert abs(weighted - stored["weighted"]) < 1e-12 * (1 + stored["abs_sum"])


@pytest.mark.parametrize("name", FUSION["metrics"])
def test_metrics(name):
    stored, scores = FUSION["metrics"][name], FUSED[name]
    assert top_k(scores, LABELS) == stored["top1"]
    assert top_k(scores, LABELS, k=5) == stored["top5"]
    ours = mean_class_accuracy(scores, LABELS)
    np.testing.assert_allclose(ours, stored["mean_class"], rtol=1e-15)


def test_some_classes_are_absent():
    """The case that tells the union of labels and predictions from the labels alone."""
    assert len(np.unique(LABELS)) < K
