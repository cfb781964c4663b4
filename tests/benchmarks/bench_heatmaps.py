"""Time of a heatmap volume, ours and by loops, turn by turn in one run, on one thread.

Synthetic clips of two persons, 48 frames of 56 x 56 pixels, as the pipeline of chapter 38 makes
them; and limbs of random joints, which are three times as long. The result is written into
`results_heatmaps.json`. Run as `python tests/benchmarks/bench_heatmaps.py`.
"""

import json
import os
import statistics
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np  # noqa: E402
import torch  # noqa: E402
from heatmap_loops import joints_by_loops, limbs_by_loops  # noqa: E402

from skelbook.data.store import collect_clips  # noqa: E402
from skelbook.data.synthetic import make_clip_2d  # noqa: E402
from skelbook.transforms.heatmap import COCO_LIMBS, joint_volume, limb_volume  # noqa: E402
from skelbook.transforms.volumes import HeatmapPipeline  # noqa: E402

HERE = Path(__file__).resolve().parent
SIZE, TURNS = (56, 56), 40
BOUNDS = {"joints (ms)": 2.5, "limbs (ms)": 9}


def bodies(count):
    "Synthetic clips of two persons, (count, 2, 48, 17, 3), in the pixels of the volumes."
    names = [f"S00{1 + i // 8}C002P0{1 + i // 8 * 3:02}R00{1 + i % 2}A0{9 + i // 2 % 4:02}"
             for i in range(count)]
    samples = []
    for name in names:
        joints, scores = make_clip_2d(name)
        samples.append(dict(name=name, label=0, joints=joints, scores=scores,
                            image_size=(1080, 1920)))
    clips = collect_clips(samples, np.float16)
    pipeline = HeatmapPipeline("coco")
    x = pipeline.view(pipeline.fetch(clips, np.arange(count), np.zeros(count, int)))
    return x[:, 0].float().contiguous()


def scattered(count, seed=0):
    "Random joints of two persons, (count, 2, 48, 17, 3)."
    rng = np.random.default_rng(seed)
    place = 28 + 10 * rng.standard_normal((count, 2, 48, 17, 2))
    return torch.from_numpy(np.concatenate([place, rng.random((count, 2, 48, 17, 1))], -1)).float()


def seconds(draw, x):
    "Seconds of processor time for one volume; what other programs take does not count."
    started = time.process_time()
    draw(x)
    return time.process_time() - started


def compare(ours, loops, clips):
    "Milliseconds for a clip, best and median, and the median ratio of neighbouring turns."
    mine, theirs = [], []
    for turn in range(TURNS):
        x = clips[turn % len(clips)]
        arrays = x[:, :, :, :2].numpy(), x[..., 2].numpy()
        mine.append(statistics.median(seconds(ours, x[None]) for _ in range(5)))
        theirs.append(seconds(lambda pair: loops(*pair), arrays))
    ratio = statistics.median(b / a for a, b in zip(mine, theirs, strict=True))
    return {"best (ms)": 1e3 * min(mine), "median (ms)": 1e3 * statistics.median(mine),
            "by loops, median (ms)": 1e3 * statistics.median(theirs), "ratio": ratio}


def batched(ours, clips):
    "Milliseconds per clip of a whole batch, the median of ten."
    times = [seconds(ours, clips) for _ in range(10)]
    return 1e3 * statistics.median(times) / len(clips)


def joints(x):
    return joint_volume(x, SIZE)


def limbs(x):
    return limb_volume(x, COCO_LIMBS, SIZE)


if __name__ == "__main__":
    torch.set_num_threads(1)
    people, random = bodies(8), scattered(8)
    found = {
        "joints": compare(joints, lambda *a: joints_by_loops(*a, SIZE), people),
        "limbs": compare(limbs, lambda *a: limbs_by_loops(*a, COCO_LIMBS, SIZE), people),
        "limbs, random joints": compare(
            limbs, lambda *a: limbs_by_loops(*a, COCO_LIMBS, SIZE), random)}
    found["joints"]["in a batch of 8 (ms)"] = batched(joints, people)
    found["limbs"]["in a batch of 8 (ms)"] = batched(limbs, people)
    machine = {"torch": torch.__version__, "load at the start": round(os.getloadavg()[0], 1)}
    record = {"machine": machine, "bounds": BOUNDS} | {
        name: {key: float(f"{value:.3g}") for key, value in row.items()}
        for name, row in found.items()}
    (HERE / "results_heatmaps.json").write_text(json.dumps(record, indent=1) + "\n")
    for name, row in record.items():
        print(f"{name:22}", "   ".join(f"{key} {value}" for key, value in row.items()))
