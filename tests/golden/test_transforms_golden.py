"""Normalisation, streams and sampling against the numbers of the reference (MMAction2)."""

import hashlib
import json
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import recipe
import torch
import torch.nn.functional as F

from skelbook.graph import LAYOUTS, find_layout
from skelbook.transforms import sampling
from skelbook.transforms.normalize import align_3d, normalize_2d
from skelbook.transforms.sampling import (
    fill_persons,
    pad_frames,
    pick_frames,
    uniform_frames,
)
from skelbook.transforms.streams import bones, clear_absent, make_stream, motion

DATA = Path(__file__).parent / "data"
GOLDEN = json.loads((DATA / "gcn_pipeline.json").read_text())
ARRAYS = {**np.load(DATA / "gcn_pipeline.npz"), **np.load(DATA / "gcn_pipeline_f32.npz")}
STREAM = {"j": "joint", "b": "bone", "jm": "joint-motion", "bm": "bone-motion"}


# ------------------------------------------------------------------------------ inputs and checks

def edit(x, name, *args):
    "`x` (M, T, V, C) after one edit of the recipe, in place."
    if name == "zero_frames":
        person, start, end = args
        x[person, start:end] = 0
    elif name == "zero_joint":
        person, joint = args
        x[person, :, joint] = 0
    elif name == "set_joint":
        person, frame, joint, place = args
        x[person, frame, joint] = place
    elif name == "zero_all":
        x[:] = 0
    elif name == "scale":
        x *= args[0]
    else:
        assert name == "shift"
        x += np.array(args[0])


def clip_of(spec):
    "The clip (M, T, V, C) that a golden case describes, with its score as a channel if it has one."
    if spec["recipe"] == "skeletons":
        x = recipe.skeletons(spec["seed"], spec["shape"])[0]
        for name, *args in spec.get("edits", []):
            edit(x, name, *args)
    else:
        m, t, v = spec["m"], spec["t"], spec["v"]
        x = [960, 540] + [300, 200] * recipe.skeletons(spec["seed"], (1, m, t, v, 2))[0]
        x *= spec.get("times", 1)
        if spec.get("keypoint_score"):
            score = 1 / (1 + np.exp(-recipe.noise(spec["seed"] + 1000, (m, t, v))))
            x = np.concatenate([x, score[..., None]], -1)
    return torch.from_numpy(x.astype(spec["dtype"]))


@cache
def weights(size):
    return recipe.noise(777, size)


def check(output, want, samples=0.0, weighted=None):
    """Compare an output (tensor) with its golden record: 64 samples, sums, and all bits if given.

    `samples` is the absolute tolerance of a value, `weighted` of the weighted sum; None: exact.
    """
    assert list(output.shape) == want["shape"]
    flat = output.numpy().ravel()
    picked = flat[np.random.default_rng(0).integers(0, flat.size, 64)]
    np.testing.assert_allclose(picked, ARRAYS[want["sample_key"]], rtol=0, atol=samples)
    if weighted is None:
        weighted = 1e-9 * (1 + want["abs_sum"])
    exact = flat.astype(np.float64)
    assert abs(exact @ weights(flat.size) - want["weighted"]) <= weighted
    if samples == 0:
        assert str(flat.dtype) == want["dtype"]
        assert hashlib.sha256((flat + 0).tobytes()).hexdigest() == want["sha256"]
        assert abs(exact.sum() - want["sum"]) <= weighted
        assert abs(np.abs(exact).sum() - want["abs_sum"]) <= weighted


def cases(section):
    "Golden cases of a section, without float16 arithmetic."
    def half(case):
        return case["input"]["dtype"] == "float16" and "read_as" not in case["input"]
    return [case for case in GOLDEN[section] if not half(case)]


def title(case):
    inside = case["input"]
    parts = [case[k] for k in ("name", "layout", "dataset", "feat", "stage") if k in case]
    return "-".join(map(str, parts + ["+".join(case.get("feats", []))])) + f"-{inside['seed']}" + (
        f"-m{inside['m']}t{inside['t']}" if "m" in inside else f"-{inside['shape']}")


# -------------------------------------------------------------------------------------- the units

@pytest.mark.parametrize("case", cases("PreNormalize3D"), ids=title)
def test_alignment_is_the_references(case):
    x, options = clip_of(case["input"])[None], case["kwargs"]
    spine = options.get("zaxis", (0, 1)) if options.get("align_spine", True) else None
    shoulder = options.get("xaxis", (8, 4)) if options.get("align_shoulder", True) else None
    centre = 1 if x.shape[3] == 25 else -1
    out, kept, origin = align_3d(x, torch.tensor([x.shape[2]]), spine, shoulder, centre)
    assert out.dtype == x.dtype
    assert kept.item() == case["total_frames_out"]
    assert not out[:, :, kept:].any()
    if "body_center" in case:
        np.testing.assert_allclose(origin[0], case["body_center"], rtol=0, atol=0)
    want = case["out"]
    exact = spine is shoulder is None or not x.any()
    tolerance = {} if exact else dict(samples=1e-12, weighted=1e-12 * (1 + want["abs_sum"]))
    if x.dtype == torch.float32:
        tolerance = dict(samples=5e-6, weighted=2e-6 * np.prod(want["shape"]) ** 0.5)
    check(out[0, :, :kept], want, **tolerance)


@pytest.mark.parametrize("case", cases("PreNormalize2D"), ids=title)
def test_pixels_are_scaled_bit_for_bit(case):
    size = [case["img_shape"]] if case["img_shape"] else None
    check(normalize_2d(clip_of(case["input"])[None], size)[0], case["out"])


def whole(x):
    "The frames that follow each frame of a clip (M, T, V, C), and which one is the last."
    return torch.cat((x[:, 1:], x[:, -1:]), 1), torch.arange(x.shape[1])[None] == x.shape[1] - 1


@pytest.mark.parametrize("case", cases("JointToBone_ToMotion"), ids=title)
def test_bones_and_motion_bit_for_bit(case):
    x, layout = clip_of(case["input"]), LAYOUTS[case["dataset"]]
    following, last = whole(x)
    scored = layout.dims == 2 and x.shape[-1] == 3
    check(bones(x, layout.bones, scored).float(), case["bone"])
    check(motion(x[None], following[None], last, scored)[0], case["motion"])


@pytest.mark.parametrize("case", cases("GenSkeFeat"), ids=title)
def test_concatenated_streams_bit_for_bit(case):
    x, layout = clip_of(case["input"]), find_layout(case["dataset"])
    if layout.dims == 2:
        assert case["input"]["keypoint_score"]
    scored = layout.dims == 2
    bone = bones(x, layout.bones, scored).float()          # the reference stores bones as float32
    made = {"j": x, "b": bone}
    for name, source in (("jm", x), ("bm", bone)):
        following, last = whole(source)
        made[name] = motion(source[None], following[None], last, scored)[0]
    check(torch.cat([made[feat] for feat in case["feats"]], -1), case["out"])


def test_all_frame_lists_are_identical():
    for case in GOLDEN["UniformSampleFrames"]:
        n, length, clips = (case[k] for k in ("num_frames", "clip_len", "num_clips"))
        if case["mode"] == "test":
            made = sampling.test_frames([n], length, clips, case["seed"])[0].ravel()
        else:
            rng = np.random.RandomState(case["global_seed_before"])
            made = np.stack([uniform_frames(n, length, clips, rng).ravel()
                             for _ in range(case["consecutive_calls"])])
        np.testing.assert_array_equal(made, ARRAYS[case["key"]], err_msg=case["key"])
    assert len(GOLDEN["UniformSampleFrames"]) == 126


@pytest.mark.parametrize("case", cases("PoseDecode_FormatGCNInput"), ids=title)
def test_picking_and_filling_bit_for_bit(case):
    x = clip_of(case["input"])[None]
    frames = np.arange(case["num_clips"] * 8) * 7 % 30
    x = fill_persons(pick_frames(x, frames[None]), case["num_person"], case["mode"] == "loop")[0]
    check(x.unflatten(1, (case["num_clips"], 8)).transpose(0, 1).float(), case["out"])


@pytest.mark.parametrize("case", cases("PadTo"), ids=lambda case: case["mode"])
def test_short_clips_are_filled_bit_for_bit(case):
    x = clip_of(case["input"])[None]
    check(pad_frames(x, case["length"], case["mode"] == "loop")[0], case["out"])


# ----------------------------------------------------------------------------- the whole pipeline

def pipeline(clips, sizes, layout, stream, choose_frames):
    """Network input (N, S, 2, L, V, C) of clips (M, T, V, C) of any size, made as one padded batch.

    `choose_frames` takes the numbers of frames (N,) and gives frame numbers (N, S, L).
    """
    persons, length = (max(clip.shape[axis] for clip in clips) for axis in (0, 1))
    num_persons, num_frames = torch.tensor([clip.shape[:2] for clip in clips]).T
    x = torch.stack([F.pad(clip, (0, 0) * 2 + (0, length - clip.shape[1], 0, persons - len(clip)))
                     for clip in clips])
    if layout.dims == 2:
        x = normalize_2d(x, sizes)
    else:
        x, num_frames, _ = align_3d(x, num_frames)
    frames = torch.from_numpy(choose_frames(num_frames.numpy()))
    end = num_frames[:, None] - 1
    rows = frames.flatten(1)
    now, following = pick_frames(x, rows), pick_frames(x, (rows + 1).minimum(end))
    x = clear_absent(make_stream(now, following, rows == end, stream, layout), num_persons)
    return fill_persons(x, 2).unflatten(2, frames.shape[1:]).transpose(1, 2)


def frames_of_stage(stage, seed=None):
    "The function that chooses frames in one stage of the reference's recipe."
    if stage == "train":
        rng = np.random.RandomState(seed)
        return lambda n: np.stack([uniform_frames(int(k), 100, 1, rng) for k in n])
    clips = {"val": 1, "test": 10, "test, 2 clips": 2}[stage]
    return lambda n: sampling.test_frames(n, 100, clips)


def end_to_end(case):
    layout, clip = LAYOUTS[case["layout"]], clip_of(case["input"]).float()
    sizes = [case["input"]["img_shape"]] if layout.dims == 2 else None
    frames = frames_of_stage(case["stage"], case["global_seed_before"])
    return pipeline([clip], sizes, layout, STREAM[case["feat"]], frames)[0]


@pytest.mark.parametrize("case", GOLDEN["end_to_end_f32"], ids=title)
def test_pipeline_in_float32(case):
    out, tolerance = end_to_end(case), GOLDEN["end_to_end_f32_info"]["tolerance"][case["layout"]]
    assert out.dtype == torch.float32
    check(out, case["out"], tolerance["samples"],
          tolerance["weighted_per_sqrt_size"] * out.numel() ** 0.5)


@pytest.mark.parametrize("case", GOLDEN["end_to_end"], ids=title)
def test_pipeline_near_half_precision_reference(case):
    out, flat = end_to_end(case), case["layout"] == "coco"
    check(out, case["out"], 3e-3 if flat else 1e-2, (1e-3 if flat else 4e-3) * out.numel() ** 0.5)


@pytest.mark.parametrize("case", GOLDEN["padded_batch"], ids=lambda c: f"{c['layout']}-{c['feat']}")
def test_seven_clips_as_one_batch(case):
    layout, flat = LAYOUTS[case["layout"]], case["layout"] == "coco"
    clips = [clip_of(spec).float() for spec in case["inputs"]]
    sizes = [spec["img_shape"] for spec in case["inputs"]] if flat else None
    stream, frames = STREAM[case["feat"]], frames_of_stage(case["stage"])
    out = pipeline(clips, sizes, layout, stream, frames)
    per_value = 1e-3 if flat else 4e-3
    check(out, case["out"], 3e-3 if flat else 1e-2, per_value * out.numel() ** 0.5)
    for i, want in enumerate(case["weighted_per_clip"]):
        got = out[i].numpy().ravel().astype(np.float64) @ weights(out[i].numel())
        assert abs(got - want) <= per_value * out[i].numel() ** 0.5, f"clip {i}"
        alone = pipeline([clips[i]], sizes and [sizes[i]], layout, stream, frames)[0]
        assert torch.equal(out[i], alone), f"clip {i} depends on its batch"
