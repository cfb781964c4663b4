"""Crops, resizing, turns, pre-normalisation and the pipelines of SkelAct, number by number."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from skelact_inputs import checksum, keypoint, raw_bodies, skeleton_text

from skelbook.data.ntu import parse_recording
from skelbook.data.ntu_persons import _by_energy, normalise_skelact
from skelbook.data.store import collect_clips
from skelbook.transforms import sequences
from skelbook.transforms.augment import axis_rotations, turn_angles
from skelbook.transforms.normalize import align_frames, rotate
from skelbook.transforms.resample import centre_crop, drawn_crop, resample
from skelbook.transforms.sequences import SequencePipeline

DATA = Path(__file__).parent / "data"
CASES = json.loads((DATA / "skelact_transforms.json").read_text())["cases"]
with np.load(DATA / "skelact_transforms.npz") as file:
    ARRAYS = dict(file)


def cases(kind):
    "The golden cases of a kind, by the beginnings of their names."
    return [pytest.param(case, id=case["name"]) for case in CASES if case["name"].startswith(kind)]


def clip_of(case):
    "The clip of a case, float32, (1, M, T, V, C)."
    clip = keypoint(*case["keypoint"], zero_person2=case.get("zero_person2", False))
    return torch.from_numpy(clip)[None]


def check(made, case):
    "Values or checksum of a clip (M, T, V, C) as the case states them."
    wanted = ARRAYS[case["name"]]
    if case["array"].startswith("checksum"):
        np.testing.assert_allclose(checksum(made), wanted, rtol=0, atol=1e-5)
    else:
        np.testing.assert_allclose(made, wanted, rtol=0, atol=1e-6)


@pytest.mark.parametrize("case", cases("random_crop"))
def test_random_crop_repeats_the_draws(case):
    rng = np.random.RandomState(case["legacy_numpy_seed"])
    options = {key: case[key] for key in ("min_ratio", "max_ratio", "min_len")}
    crops = [drawn_crop(case["total_frames"], rng, **options) for _ in range(case["draws"])]
    assert np.array_equal(crops, ARRAYS[case["name"]])


@pytest.mark.parametrize("case", cases("center_crop"))
def test_centre_crop(case):
    start, length = centre_crop([case["total_frames"]], case["clip_ratio"])
    wanted = ARRAYS[case["name"]].tolist()
    if case["total_frames"] == 1:
        assert wanted == [0, 0]                   # nothing is left there; ours keeps the frame
        wanted = [0, 1]
    assert [int(start[0]), int(length[0])] == wanted


@pytest.mark.parametrize("case", cases("resize"))
def test_resize(case):
    start, end = case["frame_inds"]
    made = resample(clip_of(case), np.array([start]), np.array([end - start]), case["clip_len"])
    assert made.dtype == torch.float32 and list(made[0].shape) == case["shape"]
    check(made[0].numpy(), case)


@pytest.mark.parametrize("case", cases("rotate"))
def test_random_rotation(case):
    draws = np.random.RandomState(case["legacy_numpy_seed"]).random_sample((1, 3))
    angles = turn_angles(torch.from_numpy(draws), case["rand_rotate"])
    assert angles[0].tolist() == ARRAYS[case["name"] + "_angles"].tolist()
    check(rotate(clip_of(case), axis_rotations(angles))[0].numpy(), case)


@pytest.mark.parametrize("case", cases("pre_norm"))
def test_pre_normalisation(case):
    raw = raw_bodies(**case["raw_bodies"])
    x = torch.from_numpy(raw)[None]
    made = align_frames(x, torch.tensor([x.shape[2]]))[0]
    assert made.dtype == torch.float32
    np.testing.assert_allclose(made, ARRAYS[case["name"]], rtol=0, atol=1e-6)
    np.testing.assert_allclose(normalise_skelact(raw), ARRAYS[case["name"]], rtol=0, atol=2.4e-7)
    ready = SequencePipeline("nturgb+d").prepare(
        collect_clips([dict(name="a", label=0, joints=raw)]))
    assert np.array_equal(ready.clip(0), made.numpy())


@pytest.mark.parametrize("case", cases("pre_norm"))
def test_what_the_reference_normalised_is_left_as_it_is(case):
    wanted = ARRAYS[case["name"]]
    clips = collect_clips([dict(name="a", label=0, joints=wanted)])
    assert np.array_equal(SequencePipeline("nturgb+d").prepare(clips).clip(0), wanted)


@pytest.mark.parametrize("case", cases("read_skeleton"))
def test_persons_of_a_raw_file(case):
    text = skeleton_text(**case["text"]).encode()
    joints = _by_energy(parse_recording("S001C001P001R001A001", text))
    assert joints.dtype == np.float64 and list(joints.shape) == case["shape_MTVC"]
    sums = [checksum(person) for person in joints]
    np.testing.assert_allclose(sums, ARRAYS[case["name"]], rtol=1e-12, atol=0)
    wanted = ARRAYS[case["name"] + "_joint20"]
    np.testing.assert_allclose(joints[:, :, 20], wanted, rtol=1e-12, atol=0)


# -- from the annotation file, where clips are normalised already, to the network

PIPELINES = {"tscnn": dict(clip_len=32), "hcn": dict(clip_len=64),
             "rot": dict(clip_len=64, test_ratio=0.95, rotation=0.1)}


class LegacyDraws:
    "Stands in for the keyed draws: the reference's generator, asked in the same order."

    def __init__(self, seed):
        self.rng = np.random.RandomState(seed)

    def crop(self, num_frames, keys, **options):
        return drawn_crop(num_frames, self.rng, **options)

    def uniform(self, seed, passes, samples, purpose, size):
        return self.rng.random_sample((1, size)) if purpose == "view" else None


@pytest.mark.parametrize("case", cases("pipeline"))
def test_pipeline(case, monkeypatch):
    draws = LegacyDraws(case["legacy_numpy_seed"])
    monkeypatch.setattr(sequences, "random_crop", draws.crop)
    monkeypatch.setattr(sequences, "keyed_uniform", draws.uniform)
    pipeline = SequencePipeline("nturgb+d", **PIPELINES[case["pipeline"]])
    clips = collect_clips([dict(name="a", label=0, joints=clip_of(case)[0].numpy())])
    passes = np.array([0]) if case["split"] == "train" else None
    x = pipeline.inputs(pipeline.fetch(clips, np.array([0]), passes))
    assert x.dtype == torch.float32 and len(x) == x.shape[1] == 1
    made = x[0, 0].permute(3, 1, 2, 0).numpy()                    # (M, T, V, C) -> (C, T, V, M)
    assert list(made.shape) == case["shape_CTVM"]
    check(made, case)
    row = ARRAYS[case["name"] + "_row"]
    np.testing.assert_allclose(made[:, :, 3, 0], row, rtol=0, atol=1e-6)


def test_every_case_is_tested():
    tested = [case for value in ("random_crop", "center_crop", "resize", "rotate", "pre_norm",
                                 "read_skeleton", "pipeline") for case in cases(value)]
    assert len(tested) == len(CASES) == 46
