"""Time and memory of what a reader waits for; `make benchmark` prints them, rewrites results.json.

Never part of `make test`: a timed test fails on a busy machine and proves nothing on a fast one.
"""

import io
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
BOUNDS = {
    "import skelbook (ms)": 50,
    "generate the built-in data (s)": 10,
    "demo, from command to table (s)": 180,
    "demo, peak memory (MB)": 2000,
    "open the store (ms)": 50,
    "open the store, unshared (MB)": 10,
    "the store in a process of 1, fork (MB)": 10,
    "the store in a process of 2, fork (MB)": 10,
    "the store in a process of 1, spawn (MB)": 10,
    "the store in a process of 2, spawn (MB)": 10,
}


def import_time():
    "Milliseconds for `import skelbook` in a fresh interpreter, the best of five."
    clock = "import time; t = time.perf_counter(); import skelbook; print(time.perf_counter() - t)"
    command = [sys.executable, "-c", clock]
    return 1000 * min(float(subprocess.check_output(command)) for _ in range(5))


def refusal_time():
    "Seconds from a misspelt parameter to the line that says so."
    started = time.perf_counter()
    command = [Path(sys.executable).parent / "papermill", "nbs/train.ipynb", "-p", "modle", "agcn"]
    assert subprocess.run(command, cwd=ROOT, capture_output=True).returncode == 2
    return time.perf_counter() - started


def generation_time(folder):
    "Seconds to generate and store the built-in data set."
    from skelbook.data.catalogue import READERS
    from skelbook.data.store import write_store

    started = time.perf_counter()
    write_store(Path(folder) / "synthetic.skel", READERS["synthetic"]())
    return time.perf_counter() - started


def loading_rate():
    "Training clips per second through loading and transforms, without a network, in one process."
    from skelbook.data.catalogue import CATALOGUE
    from skelbook.data.loading import epoch_items, split_steps
    from skelbook.learner.recipes import plan
    from skelbook.learner.train import prepare_run

    setup = prepare_run(plan(model="agcn"), log=io.StringIO())
    order, passes = epoch_items(0, 0, setup.store.splits[CATALOGUE["synthetic"].train], 1)
    started = time.perf_counter()
    steps = split_steps(len(order), setup.plan.recipe.batch)
    for (batch,) in setup.shards(steps, order, passes):
        setup.pipeline.inputs(batch)
    return len(order) / (time.perf_counter() - started)


def demo(folder):
    "Seconds, training seconds, peak memory in MB and top-1 (%) of the command on the front page."
    started = time.perf_counter()
    command = [Path(sys.executable).parent / "papermill", "nbs/train.ipynb", "-p", "model", "agcn",
               "-p", "out", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    wall = time.perf_counter() - started
    record = json.loads((Path(folder) / "recipe.json").read_text())
    last = (Path(folder) / "log.csv").read_text().splitlines()
    row = dict(zip(last[0].split(","), last[-1].split(","), strict=True))
    return wall, record["seconds"], record["peak_memory_mb"], float(row["test_top1"])


def measure():
    "All measurements, name to number."
    from opening import opening

    found = {"import skelbook (ms)": import_time(),
             "a misspelt parameter is refused (s)": refusal_time()}
    with tempfile.TemporaryDirectory() as folder:
        found |= opening(folder)
        found["generate the built-in data (s)"] = generation_time(folder)
        found["load and transform, one process (clips/s)"] = loading_rate()
        wall, training, memory, top1 = demo(Path(folder) / "run")
    return found | {"demo, from command to table (s)": wall, "demo, training alone (s)": training,
                    "demo, peak memory (MB)": memory, "demo, top-1 on xsub (%)": top1}


def machine():
    "Where the numbers were measured."
    import torch

    usable = getattr(os, "sched_getaffinity", lambda pid: range(os.cpu_count()))(0)
    return {"cores": len(usable), "machine": platform.machine(),
            "python": platform.python_version(), "torch": torch.__version__,
            "threads": torch.get_num_threads(), "load at the start": round(os.getloadavg()[0], 1)}


if __name__ == "__main__":
    where, numbers = machine(), measure()
    rounded = {name: float(f"{value:.3g}") if value < 1000 else round(value)
               for name, value in numbers.items()}
    record = {"machine": where, "results": rounded}
    (HERE / "results.json").write_text(json.dumps(record, indent=1) + "\n")
    print(" · ".join(f"{name} {value}" for name, value in where.items()))
    for name, value in rounded.items():
        bound = f"at most {BOUNDS[name]}" if name in BOUNDS else ""
        print(f"{name:45}{value:>10}   {bound}")
