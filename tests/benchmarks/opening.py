"""What opening a large store costs each process: milliseconds, and megabytes that nobody shares."""

import statistics
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from skelbook.data.loading import fetch_batch, load_steps, split_steps
from skelbook.data.store import Source, open_store, write_store

CLIPS, ROWS = 56_578, 4_590_000                 # of NTU RGB+D 60 in 3D


def large_source(clips=CLIPS, rows=ROWS):
    "A source of the size and the raggedness of NTU RGB+D 60, of random numbers."
    rng = np.random.default_rng(0)
    noise = rng.standard_normal((1200, 25, 3)).astype(np.float16)
    persons = 1 + (rng.random(clips) < 0.195)
    weight = rng.lognormal(0, 0.4, clips) * persons
    frames = np.clip(weight * rows / weight.sum() / persons, 10, 300).astype(int)
    names = [f"S{i // 14400 + 1:03}C{i // 4800 % 3 + 1:03}P{i // 120 % 40 + 1:03}"
             f"R{i // 60 % 2 + 1:03}A{i % 60 + 1:03}" for i in range(clips)]
    splits = {f"{name}_{part}": names[start::2] for name in ("xsub", "xview")
              for start, part in enumerate(("train", "val"))}

    def samples():
        for name, m, t in zip(names, persons, frames, strict=True):
            yield dict(name=name, label=0, joints=noise[:m * t].reshape(m, t, 25, 3))
    return Source("large", "nturgb+d", tuple(map(str, range(60))), splits, samples, clips, {})


def unshared():
    "Megabytes of this process that no other process shares (its unique set size)."
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private_")) / 1e3


def fresh(path):
    "Milliseconds and unshared megabytes that opening a store costs a fresh process."
    out = subprocess.check_output([sys.executable, __file__, str(path)], text=True)
    return [float(word) for word in out.split()]


def measure_opening(path):
    "Prints what opening costs beyond a tiny store, which has loaded what opening needs."
    open_store(path.with_name("tiny.skel"))
    before, started = unshared(), time.perf_counter()
    store = open_store(path)
    print(1000 * (time.perf_counter() - started), unshared() - before, len(store.clips))


def look(clips, samples, passes):
    "A fetch that tells how much of its process is unshared."
    frames = np.arange(64) % clips.num_frames[samples][:, None]
    batch = fetch_batch(clips, samples, frames, 2)
    return replace(batch, draws=torch.full(batch.labels.shape, unshared()))


def in_workers(path, start, workers):
    "Most unshared megabytes of a loading process at the end of 40 batches."
    clips = open_store(path).clips
    clips.joints.view(np.uint8).reshape(-1)[::4096].max()         # so that this process shares it
    order = np.random.default_rng(0).integers(len(clips), size=40 * 64)
    loader = load_steps(clips, order, None, split_steps(len(order), 64), look, workers)
    loader.multiprocessing_context = start
    return max(float(batch.draws.max()) for (batch,) in list(loader)[-workers:])


def opening(folder):
    "Measurements of a store of the size of NTU RGB+D 60, name to number."
    large, tiny = Path(folder) / "large.skel", Path(folder) / "tiny.skel"
    write_store(tiny, large_source(100, 8000))
    started = time.perf_counter()
    write_store(large, large_source())
    found = {"write 56,578 clips as a store (s)": time.perf_counter() - started}
    runs = [fresh(large) for _ in range(5)]
    found["open the store (ms)"] = statistics.median(run[0] for run in runs)
    found["open the store, unshared (MB)"] = statistics.median(run[1] for run in runs)
    for start in ("fork", "spawn"):
        for workers in (1, 2):
            more = in_workers(large, start, workers) - in_workers(tiny, start, workers)
            found[f"the store in a process of {workers}, {start} (MB)"] = max(more, 0.0)
    return found


if __name__ == "__main__":
    measure_opening(Path(sys.argv[1]))
