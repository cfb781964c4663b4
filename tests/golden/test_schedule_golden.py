"""The learning rate of every iteration, as the reference's scheduler gives it."""
import json
from pathlib import Path

import numpy as np

from skelbook.learner.schedule import cosine_lr

DATA = Path(__file__).parent / "data"


def test_cosine_per_iteration():
    case = json.loads((DATA / "gcn_pipeline.json").read_text())["lr"]
    stored = np.load(DATA / "gcn_pipeline.npz")[case["lr_per_iter_key"]]
    total = case["max_epochs"] * case["iters_per_epoch"]
    ours = [cosine_lr(step, total, case["base_lr"]) for step in range(total)]
    np.testing.assert_allclose(ours, stored, rtol=0, atol=1e-15)
