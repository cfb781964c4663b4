"""The graph networks' pipeline, from a store to the input, against the numbers of the reference."""

import numpy as np
import pytest
from test_transforms_golden import GOLDEN, STREAM, check, clip_of, title

from skelbook.data.store import collect_clips
from skelbook.transforms.pipelines import GraphPipeline

FIXED = [case for case in GOLDEN["end_to_end_f32"] if case["stage"] in ("val", "test")]


@pytest.mark.parametrize("case", FIXED, ids=title)
def test_graph_pipeline_from_the_store(case):
    clip, stage = clip_of(case["input"]).float().numpy(), {"val": 1, "test": 10}[case["stage"]]
    sample = dict(name="a", label=0, joints=clip)
    if case["layout"] == "coco":
        sample |= dict(joints=clip[..., :2], image_size=case["input"]["img_shape"])
        sample |= dict(scores=clip[..., 2]) if clip.shape[-1] == 3 else {}
    pipeline = GraphPipeline(case["layout"], STREAM[case["feat"]], clips=stage)
    ready = pipeline.prepare(collect_clips([sample]))
    out = pipeline.inputs(pipeline.fetch(ready, np.array([0])))[0]
    tolerance = GOLDEN["end_to_end_f32_info"]["tolerance"][case["layout"]]
    check(out, case["out"], tolerance["samples"],
          tolerance["weighted_per_sqrt_size"] * out.numel() ** 0.5)
