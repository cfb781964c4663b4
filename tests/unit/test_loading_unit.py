"""Gathering, batches, epochs and the loader: hard cases, and the same for any number of workers."""

import pickle
from dataclasses import fields

import numpy as np
import pytest
import torch

from skelbook.data.loading import (
    Batch,
    epoch_items,
    fetch_batch,
    gather,
    load_steps,
    split_steps,
)
from skelbook.data.store import Source, collect_clips, open_store, write_store
from skelbook.keyed import keyed_uniform

SHAPES = [(1, 4), (2, 3), (1, 1), (3, 7)]          # persons and frames


def samples(scored=False):
    rng = np.random.default_rng(0)
    for i, (m, t) in enumerate(SHAPES):
        more = {"scores": rng.random((m, t, 17))} if scored else {}
        yield dict(name=str(i), label=i % 2, joints=1 + rng.random((m, t, 17, 2)), **more)


CLIPS = collect_clips(samples())


def stored(clips, path):
    "The clips in a store."
    return open_store(write_store(path, Source("a", "coco", ("x", "y"), {}, clips.samples,
                                               len(clips), {}, clips.joints.dtype))).clips


def naive(samples, frames, persons):
    "The batch (N, M, F, V, C), one number of one frame at a time."
    out = np.zeros((len(samples), persons, frames.shape[1], 17, 2), np.float32)
    for n, sample in enumerate(samples):
        clip = CLIPS.clip(sample)
        for m in range(min(persons, len(clip))):
            for place, frame in enumerate(frames[n]):
                out[n, m, place] = clip[m, frame]
    return out


# -- one gather

@pytest.mark.parametrize("persons", [1, 2, 3, 5])
def test_gather_is_the_naive_loop(persons):
    which = np.array([3, 0, 1, 1, 2])
    length = CLIPS.num_frames[which][:, None]
    frames = (np.random.default_rng(1).random((5, 9)) * length).astype(np.int64)
    out = gather(CLIPS, which, frames, persons)
    assert out.dtype == torch.float32 and out.is_contiguous()
    assert np.array_equal(out.numpy(), naive(which, frames, persons))


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_any_precision_becomes_float32(dtype):
    clips = collect_clips(samples(), dtype)
    out = gather(clips, np.array([1]), np.array([[2]]), 2)
    assert out.dtype == torch.float32
    assert np.array_equal(out[0, :, 0].numpy(), clips.joints[[6, 9]].astype(np.float32))


def test_scores_become_the_last_channel_and_zero_for_the_absent():
    clips = collect_clips(samples(scored=True))
    out = gather(clips, np.array([0, 1]), np.array([[3], [1]]), 2)
    assert out.shape == (2, 2, 1, 17, 3)
    assert np.array_equal(out[1, 1, 0, :, 2].numpy(), clips.scores[4 + 3 + 1])
    assert out[0, 1].abs().max() == 0


def test_changing_a_batch_does_not_change_the_clips():
    before = CLIPS.joints.copy()
    gather(CLIPS, np.array([0, 3]), np.array([[0, 1], [2, 3]]), 3).fill_(9)
    assert np.array_equal(CLIPS.joints, before)


def test_a_mapped_store_gives_the_same(tmp_path):
    which, frames = np.array([3, 1]), np.array([[6, 0], [2, 2]])
    mapped = gather(stored(CLIPS, tmp_path / "a.skel"), which, frames, 2)
    assert torch.equal(mapped, gather(CLIPS, which, frames, 2))
    mapped += 1                                       # memory of its own


def test_no_samples():
    out = gather(CLIPS, np.array([], int), np.zeros((0, 5), int), 2)
    assert out.shape == (0, 2, 5, 17, 2)


# -- the batch

def test_a_batch_moves_whole_and_leaves_out_what_is_not_there():
    batch = fetch_batch(CLIPS, np.array([1]), np.array([[0, 2]]), 2, draws=torch.rand(1, 2))
    moved = batch.to("meta")
    for field in fields(Batch):
        tensor = getattr(moved, field.name)
        assert (tensor is None) == (getattr(batch, field.name) is None)
        assert tensor is None or tensor.device.type == "meta"


def test_columns_of_a_batch():
    batch = fetch_batch(CLIPS, np.array([3, 2]), np.array([[6, 5], [0, 0]]), 1)
    assert (batch.labels.tolist(), batch.samples.tolist()) == ([1, 0], [3, 2])
    assert (batch.num_persons.tolist(), batch.num_frames.tolist()) == ([3, 1], [7, 1])
    assert batch.frames.tolist() == [[6, 5], [0, 0]]
    assert batch.labels.dtype == batch.num_persons.dtype == torch.int64


# -- an epoch

@pytest.mark.parametrize("count, repeat", [(1, 1), (7, 1), (5, 4)])
@pytest.mark.parametrize("epoch", [0, 3])
def test_every_sample_comes_once_in_every_pass(count, repeat, epoch):
    which, passes = epoch_items(5, epoch, np.arange(100, 100 + count), repeat)
    assert which.dtype == passes.dtype == np.int64
    assert sorted(zip(passes, which, strict=True)) == [
        (epoch * repeat + p, 100 + s) for p in range(repeat) for s in range(count)]


def test_passes_of_neighbouring_epochs_do_not_meet():
    passes = [set(epoch_items(0, epoch, np.arange(3), 5)[1]) for epoch in range(4)]
    assert set.union(*passes) == set(range(20)) and sum(map(len, passes)) == 20


def test_an_epoch_mixes_its_passes():
    _, passes = epoch_items(0, 0, np.arange(200), 5)
    assert len(set(passes[:50])) == 5


# -- the loader

def random_frames(clips, which, passes):
    "Three frames of each clip: drawn for a pass, the first three without one."
    draws = np.zeros((len(which), 3)) if passes is None else keyed_uniform(7, passes, which, "f", 3)
    frames = (draws * clips.num_frames[which][:, None]).astype(np.int64)
    return fetch_batch(clips, which, frames, persons=2, draws=torch.from_numpy(draws))


def same(one, other):
    pairs = [(getattr(one, f.name), getattr(other, f.name)) for f in fields(Batch)]
    return all(a is b is None or torch.equal(a, b) for a, b in pairs)


def whole_batches(which, passes, size):
    "Batches of a size, each in one piece."
    steps = load_steps(CLIPS, which, passes, split_steps(len(which), size), random_frames)
    return [batch for (batch,) in steps]


@pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning")
@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_two_workers_bring_what_one_process_makes(tmp_path, start):
    clips = stored(CLIPS, tmp_path / "a.skel")
    which, passes = epoch_items(0, 2, np.arange(4), repeat=6)
    loader = load_steps(clips, which, passes, split_steps(24, 5, 2), random_frames, workers=2)
    loader.multiprocessing_context = start
    there = [batch for step in loader for batch in step]
    assert [len(batch.labels) for batch in there] == [3, 2, 3, 2, 3, 2, 3, 2, 2, 2]
    here = [batch for step in load_steps(CLIPS, which, passes, split_steps(24, 5, 2), random_frames)
            for batch in step]
    assert all(same(a, b) for a, b in zip(here, there, strict=True))


@pytest.mark.parametrize("size", [1, 3, 4, 100])
def test_batch_size_changes_no_sample(size):
    which, passes = epoch_items(0, 0, np.arange(4), 3)
    whole = random_frames(CLIPS, which, passes)
    parts = whole_batches(which, passes, size)
    assert len(parts) == -(-12 // size)
    assert torch.equal(torch.cat([batch.joints for batch in parts]), whole.joints)
    assert torch.cat([batch.samples for batch in parts]).tolist() == which.tolist()


@pytest.mark.parametrize("shards", [1, 2, 3, 4, 8])
def test_shards_are_neighbours_of_nearly_equal_size(shards):
    steps = split_steps(22, 6, shards)
    assert np.concatenate([part for step in steps for part in step]).tolist() == list(range(22))
    assert [sum(map(len, step)) for step in steps] == [6, 6, 6, 4]
    for step in steps:
        sizes = [len(part) for part in step]
        assert len(sizes) == min(shards, sum(sizes)) and max(sizes) - min(sizes) <= 1
        assert sizes == sorted(sizes, reverse=True)


def test_any_part_of_the_steps_brings_the_same_batches():
    which, passes = epoch_items(0, 0, np.arange(4), 3)
    steps = split_steps(12, 5, 2)
    whole = list(load_steps(CLIPS, which, passes, steps, random_frames))
    rest = list(load_steps(CLIPS, which, passes, [step[1:] for step in steps[1:]], random_frames))
    assert [len(step) for step in rest] == [1, 1]
    assert all(same(a[1], b[0]) for a, b in zip(whole[1:], rest, strict=True))


def test_a_step_without_a_part_for_this_process_is_there_and_fetches_nothing():
    fetched = []

    def fetch(clips, which, passes):
        fetched.append(which.tolist())
    steps = [[np.array([0, 1])], [], [np.array([3])]]
    brought = list(load_steps(CLIPS, np.arange(4), np.arange(4), steps, fetch))
    assert [len(step) for step in brought] == [1, 0, 1] and fetched == [[0, 1], [3]]


def test_no_passes_at_test_time():
    batches = whole_batches(np.array([2, 3]), None, 8)
    assert len(batches) == 1 and batches[0].draws.abs().max() == 0


def test_every_visit_is_the_same():
    loader = load_steps(CLIPS, np.arange(4), np.arange(4), split_steps(4, 3), random_frames)
    assert all(same(a, b) for (a,), (b,) in zip(list(loader), list(loader), strict=True))


def test_what_a_worker_is_sent_does_not_grow_with_the_data(tmp_path):
    def letter(count):
        many = collect_clips(dict(name=f"{i:05}", label=0, joints=np.zeros((1, 20, 17, 2)))
                             for i in range(count))
        clips = stored(many, tmp_path / f"{count}.skel")
        return len(pickle.dumps(load_steps(clips, np.arange(1), None, [], random_frames).dataset))
    sizes = letter(100), letter(900)
    assert max(sizes) < 3000 and abs(sizes[0] - sizes[1]) < 20
