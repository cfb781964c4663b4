"""Prepared stores: the same bits as in memory, made once, never stale, never damaged."""

import os
import pickle
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from skelbook.data.loading import load_steps, split_steps
from skelbook.data.store import Source, open_store, write_store
from skelbook.transforms import pipelines
from skelbook.transforms.pipelines import GraphPipeline, WholeClipPipeline, prepare_clips
from skelbook.transforms.sequences import SequencePipeline

ROOT = Path(__file__).resolve().parents[2]
SHAPES = [(1, 30), (2, 57), (2, 3), (1, 1), (2, 90)] * 14 + [(1, 8)]       # more than two pieces


def space(joints):
    "Random bodies, metres from their origin; some frames without the first person."
    rng = np.random.default_rng(0)
    for i, (m, t) in enumerate(SHAPES):
        body = rng.normal(0, 0.4, (m, 1, joints, 3)) + rng.normal(0, 0.03, (m, t, joints, 3)) + 3
        body[0, 5:7] = 0
        yield dict(name=f"{i:02}", label=i % 3, joints=body)


def plane():
    "Random poses with scores in pictures of different sizes."
    rng = np.random.default_rng(1)
    for i, (m, t) in enumerate(SHAPES):
        yield dict(name=f"{i:02}", label=i % 3, joints=rng.random((m, t, 17, 2)) * [1900, 1000],
                   scores=rng.random((m, t, 17)), image_size=(720 + i, 1280 + 2 * i))


CASES = {"graph in space": (GraphPipeline("nturgb+d"), lambda: space(25)),
         "graph in the picture": (GraphPipeline("coco"), plane),
         "whole clip": (WholeClipPipeline("kinect_v1", persons=2), lambda: space(20)),
         "sequence in space": (SequencePipeline("nturgb+d", rotation=0.1), lambda: space(25)),
         "sequence in the picture": (SequencePipeline("coco"), plane)}


def make_store(folder, pipeline, samples, dtype=np.float16):
    source = Source("toy", pipeline.layout, tuple("abc"), {"train": ["01"]}, samples, len(SHAPES),
                    {"made": "here"}, dtype)
    return open_store(write_store(folder / f"{np.dtype(dtype)}.skel", source))


@pytest.fixture
def toy(tmp_path):
    "A store, a pipeline, and the folder for what is prepared."
    pipeline, samples = CASES["graph in space"]
    return make_store(tmp_path, pipeline, samples), pipeline, tmp_path / "prepared"


def counted(store, pipeline, folder):
    "Prepared clips, and how many of them had to be computed."
    seen = []
    return prepare_clips(store, pipeline, folder, lambda *count: seen.append(count)), len(seen)


def the_store(folder):
    "The one prepared store of a folder."
    path, = folder.glob("*.skel")
    return path


pytestmark = pytest.mark.filterwarnings("error:.*not writable")


# -- the same bits

@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_bit_for_bit_what_is_prepared_in_memory(tmp_path, case, dtype):
    pipeline, samples = CASES[case]
    store = make_store(tmp_path, pipeline, samples, dtype)
    want, made = pipeline.prepare(store.clips), prepare_clips(store, pipeline, tmp_path)
    assert isinstance(made.joints, np.memmap) and made.joints.dtype == np.float32
    for name in ("joints", "num_persons", "num_frames", "labels", "names", "image_size"):
        assert np.array_equal(getattr(made, name), getattr(want, name)), name
    assert (made.scores is None) == (want.scores is None) == ("picture" not in case)
    for passes in (None, np.arange(len(SHAPES))):
        x, y = (pipeline.inputs(pipeline.fetch(c, np.arange(len(SHAPES)), passes))
                for c in (made, want))
        assert torch.equal(x, y)


def test_loading_processes_share_it(toy):
    store, pipeline, folder = toy
    clips = prepare_clips(store, pipeline, folder)
    assert len(pickle.dumps(clips)) < 3000
    batches = [[step[0] for step in load_steps(clips, np.arange(9), None, split_steps(9, 4),
                                               pipeline.fetch, workers)] for workers in (0, 1)]
    assert all(torch.equal(a.joints, b.joints) for a, b in zip(*batches, strict=True))


def test_the_number_of_threads_is_left_as_it_was(toy):
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        prepare_clips(*toy)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


# -- once, and again when anything has changed

def test_streams_lengths_and_seeds_share_what_is_prepared(toy):
    store, pipeline, folder = toy
    assert counted(*toy)[1] == len(SHAPES)
    other = replace(pipeline, stream="bone-motion", clip_len=20, clips=1, persons=1, seed=9)
    assert counted(store, other, folder)[1] == 0
    assert len(list(folder.glob("*.skel"))) == 1


@pytest.mark.parametrize("change", ["data", "pipeline", "settings", "code", "library"])
def test_whatever_decides_the_result_makes_another(toy, tmp_path, monkeypatch, change):
    store, pipeline, folder = toy
    prepare_clips(*toy)
    if change == "data":
        changed = ({**s, "joints": s["joints"] + 1} for s in space(25))
        store = make_store(tmp_path / "new", pipeline, lambda: changed)
    if change == "pipeline":
        pipeline = WholeClipPipeline("nturgb+d")
    if change == "settings":
        monkeypatch.setattr(pipelines, "_alignment", lambda layout: {"centre": 0})
    if change == "code":
        monkeypatch.setattr(pipelines, "file_hash", lambda *files: "another")
    if change == "library":
        monkeypatch.setattr(pipelines.torch, "__version__", "9.9")
    clips, computed = counted(store, pipeline, folder)
    assert computed == len(SHAPES) and len(list(folder.glob("*.skel"))) == 2
    assert np.array_equal(clips.joints, pipeline.prepare(store.clips).joints)


@pytest.mark.parametrize("case, own", [("graph in space", []), ("whole clip", []),
                                       ("sequence in space", ["sequences"])])
def test_the_code_that_counts_is_that_of_the_pipeline_and_of_normalisation(
        tmp_path, monkeypatch, case, own):
    pipeline, samples = CASES[case]
    seen, store = [], make_store(tmp_path, pipeline, samples)
    monkeypatch.setattr(pipelines, "file_hash", lambda *files: seen.extend(files) or "code")
    prepare_clips(store, pipeline, tmp_path / "prepared")
    names = [str(path.relative_to(ROOT)) for path in seen]
    assert names == [f"skelbook/transforms/{name}.py" for name in ["normalize", "pipelines", *own]]


def test_a_pipeline_of_a_notebook_counts_by_the_modules_it_is_built_on(toy, monkeypatch):
    store, pipeline, folder = toy

    class Mine(GraphPipeline):
        "Lives in no file."

    Mine.__module__ = "__main__"
    monkeypatch.setitem(sys.modules, "__main__", type(sys)("__main__"))
    assert counted(store, Mine("nturgb+d"), folder)[1] == len(SHAPES)


def test_the_record_says_what_it_was_made_from(toy):
    store, _, folder = toy
    prepare_clips(*toy)
    made = open_store(the_store(folder))
    assert made.path.name.startswith(f"{store.path.stem}-") and made.meta["dtype"] == "float32"
    assert made.meta["source"]["content"] == store.meta["content"]
    assert made.meta["source"]["settings"]["spine"] == [0, 1]


def test_other_clips_under_the_name_of_a_store_are_never_mistaken_for_it(toy):
    store, pipeline, folder = toy
    prepare_clips(*toy)
    few = replace(store, clips=replace(store.clips, names=store.clips.names[::-1].copy()))
    clips, computed = counted(few, pipeline, folder)
    assert computed == len(SHAPES) and np.array_equal(clips.names, few.clips.names)


# -- damage

@pytest.mark.parametrize("file", ["keypoint.npy", "index.npz", "meta.json", "splits.json", "DONE"])
@pytest.mark.parametrize("damage", ["missing", "cut", "bit"])
def test_what_is_damaged_is_made_again(toy, file, damage):
    store, pipeline, folder = toy
    want = prepare_clips(*toy).joints.copy()
    part = the_store(folder) / file
    content = bytearray(part.read_bytes())
    if damage == "missing":
        part.unlink()
    elif damage == "cut":
        part.write_bytes(content[:len(content) // 2])
    elif content:
        content[len(content) // 2] ^= 1
        part.write_bytes(content)
    clips, computed = counted(*toy)
    untouched = file == "DONE" and damage != "missing"
    harmless = damage == "bit" and file.endswith("json")     # in a name of the record, say
    assert harmless or computed == (0 if untouched else len(SHAPES))
    assert np.array_equal(clips.joints, want)
    assert counted(*toy)[1] == 0


def test_an_interruption_leaves_nothing_and_may_be_repeated(toy):
    store, pipeline, folder = toy

    def interrupt(done, total):
        if done == 50:
            raise KeyboardInterrupt
    threads = torch.get_num_threads()
    with pytest.raises(KeyboardInterrupt):
        prepare_clips(store, pipeline, folder, interrupt)
    assert [path.suffix for path in folder.iterdir()] == [".lock"]
    assert torch.get_num_threads() == threads
    assert counted(*toy)[1] == len(SHAPES)


def test_clips_that_cannot_be_prepared_are_named(toy, tmp_path):
    huge = (dict(s, joints=np.where(np.arange(25)[:, None] == 1, -3e38, 3e38) + 0 * s["joints"])
            for s in space(25))
    store = make_store(tmp_path / "huge", toy[1], lambda: huge, np.float32)
    with pytest.raises(ValueError, match="clip '00' has numbers that are not finite in float32"):
        prepare_clips(store, toy[1], tmp_path / "none")


# -- several users

SECOND = """
import sys
from pathlib import Path
from skelbook.data.store import open_store
from skelbook.transforms.pipelines import GraphPipeline, prepare_clips
seen = []
store, folder = map(Path, sys.argv[1:])
clips = prepare_clips(open_store(store), GraphPipeline("nturgb+d"), folder,
                      lambda *count: seen.append(count))
print(len(seen), float(clips.joints.sum()).hex())
"""


def test_two_first_users_make_it_once(toy):
    store, _, folder = toy
    command = [sys.executable, "-c", SECOND, store.path, folder]
    users = [subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
             for _ in range(2)]
    said = [user.communicate(timeout=120)[0].split() for user in users]
    assert sorted(int(computed) for computed, _ in said) == [0, len(SHAPES)]
    assert said[0][1] == said[1][1]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_ready_one_may_lie_in_a_folder_that_cannot_be_written(toy):
    prepare_clips(*toy)
    toy[2].chmod(0o555)
    try:
        assert counted(*toy)[1] == 0
    finally:
        toy[2].chmod(0o755)


def test_a_ready_one_needs_no_lock(toy, monkeypatch):
    prepare_clips(*toy)
    monkeypatch.setattr(pipelines, "FileLock", None)
    assert counted(*toy)[1] == 0
