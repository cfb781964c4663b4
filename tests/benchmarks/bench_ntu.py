"""Processor time to read a raw NTU RGB+D file, ours and the textbook's, turn by turn in one run.

The real samples are read where they are present, else files made by the built-in generator. The
result is written into `results_ntu.json`. Run as `python tests/benchmarks/bench_ntu.py`.
"""

import json
import os
import statistics
import tempfile
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

from textbook import read_slots  # noqa: E402

from skelbook.data.ntu import read_recording  # noqa: E402

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
DATA = Path(os.environ.get("SKELBOOK_DATA", ROOT.parent / "shared" / "data"))
TURNS = 40


def seconds(read, path):
    "Seconds of processor time for one reading; what other programs take does not count."
    started = time.process_time()
    read(path)
    return time.process_time() - started


def compare(path):
    "The best times of both readers in milliseconds, and the median ratio of neighbouring turns."
    ours, textbook = [], []
    for _ in range(TURNS):
        ours.append(min(seconds(read_recording, path) for _ in range(5)))
        textbook.append(seconds(read_slots, path))
    ratio = statistics.median(b / a for a, b in zip(ours, textbook, strict=True))
    return {"ours (ms)": 1e3 * min(ours), "textbook (ms)": 1e3 * min(textbook), "ratio": ratio}


def files(folder):
    "Real recordings, or made-up ones rounded as the real ones are."
    real = sorted((DATA / "ntu_samples").glob("*.skeleton"))
    return real or made_up(folder)


def made_up(folder):
    "Two files of the built-in generator with seven digits, as the sensor's software writes them."
    from skelbook.data.synthetic import write_skeleton_file

    for name in ("S001C002P005R001A001", "S001C002P005R001A009"):
        write_skeleton_file(folder, name)
        path = Path(folder) / f"{name}.skeleton"
        path.write_text("".join(rounded(line) + "\n" for line in path.read_text().splitlines()))
        yield path


def rounded(line):
    "A line of a joint with seven digits; any other line itself."
    fields = line.split()
    return " ".join(f"{float(x):.7g}" for x in fields) if len(fields) == 12 else line


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        found = {path.name: compare(path) for path in files(scratch)}
    record = {name: {key: float(f"{value:.3g}") for key, value in row.items()}
              for name, row in found.items()}
    (HERE / "results_ntu.json").write_text(json.dumps(record, indent=1) + "\n")
    for name, row in record.items():
        print(f"{name:32}", "   ".join(f"{key} {value}" for key, value in row.items()))
