"""Heatmap volumes and everything before them, against the numbers of MMAction2, step by step."""

import json
from pathlib import Path

import heatmap_inputs
import numpy as np
import pytest
import torch
from recipe import noise

from skelbook.data.store import collect_clips
from skelbook.transforms import volumes
from skelbook.transforms.heatmap import (
    COCO_LIMBS,
    COCO_LIMBS_DRAWN,
    joint_volume,
    limb_volume,
    mirror_joints,
    mirror_limbs,
    mirror_volume,
)
from skelbook.transforms.sampling import test_frames as fixed_frames
from skelbook.transforms.sampling import uniform_frames
from skelbook.transforms.volumes import (
    HeatmapPipeline,
    box_size,
    centre_box,
    clean_joints,
    flip_joints,
    into_box,
    people_box,
    random_box,
    resize,
    short_edge,
)

DATA = Path(__file__).parent / "data"
FILES = {name: json.loads((DATA / f"{name}.json").read_text())
         for name in ("heatmap_pipeline", "heatmap_extra")}
ARRAYS = {key: array for name in FILES for key, array in np.load(DATA / f"{name}.npz").items()}
CASES = [case for file in FILES.values() for case in file["cases"]]
CONSTANTS = FILES["heatmap_pipeline"]["constants"]
DRAWN = [case for case in CASES if case["pipeline"][0][0] == "GeneratePoseTarget"]
WHOLE = [case for case in CASES if case["pipeline"][0][0] == "UniformSampleFrames"]
STEPS = [case for case in CASES if case["pipeline"][0][0] not in ("GeneratePoseTarget",
                                                                  "UniformSampleFrames")]
MIRROR = mirror_joints("coco")


def name(case):
    return case["name"]


def sample(case):
    "Keypoints (M, T, V, 2) and scores of a case, and height and width of its picture."
    given = case["input"]
    if "literal" in given:
        arrays = (np.array(given["literal"][key], np.float32) for key in ("keypoint", "score"))
        return *arrays, given["literal"]["img_shape"]
    options = given["keypoints"]
    points, score = heatmap_inputs.keypoints(**options)
    if "spoil" in given:
        points, score = heatmap_inputs.spoil(kp=points, score=score, **given["spoil"])
    kind = given.get("dtype", "float32")
    return points.astype(kind), score.astype(kind), [options["height"], options["width"]]


def batch_of(case):
    "One sample, float32, (1, M, T, V, 3), and its size (1, 2)."
    points, score, size = sample(case)
    x = np.concatenate([points, score[..., None]], -1)[None].astype(np.float32)
    return torch.from_numpy(x), torch.tensor([size])


def swapped(count, left, right):
    "The channel that each one becomes when these pairs are exchanged."
    mirror = np.arange(count)
    mirror[left], mirror[right] = right, left
    return tuple(mirror.tolist())


# -- drawing

def test_orders_of_limbs_and_their_mirrors():
    assert [list(limb) for limb in COCO_LIMBS] == CONSTANTS["limbs_recipe"]
    assert swapped(17, CONSTANTS["left_kp"], CONSTANTS["right_kp"]) == MIRROR
    left, right = CONSTANTS["left_limb_recipe"], CONSTANTS["right_limb_recipe"]
    assert swapped(17, left, right) == mirror_limbs(COCO_LIMBS, MIRROR)
    left, right = [0, 2, 4, 5, 6, 10, 11, 12], [1, 3, 7, 8, 9, 13, 14, 15]
    assert swapped(17, left, right) == mirror_limbs(COCO_LIMBS_DRAWN, MIRROR)


@pytest.mark.parametrize("case", DRAWN, ids=name)
def test_volume(case):
    x, (size,) = batch_of(case)
    options, = [step[1] for step in case["pipeline"]]
    if case["input"].get("no_score") or not options["use_score"]:
        x[..., 2] = 1
    if "scaling" in options:
        x[..., :2] *= options["scaling"]
        size = (size * options["scaling"] + 0.5).int()
    size, sigma, mirror = size.tolist(), options["sigma"], None
    if options["with_kp"]:
        if options.get("double"):
            mirror = swapped(17, options["left_kp"], options["right_kp"])
        made = joint_volume(x, size, sigma, mirror)
    else:
        limbs = [tuple(limb) for limb in options.get("skeletons", COCO_LIMBS_DRAWN)]
        if options.get("double"):
            mirror = mirror_limbs(limbs, MIRROR)
            if "left_limb" in options:
                assert mirror == swapped(17, options["left_limb"], options["right_limb"])
        made = limb_volume(x, limbs, size, sigma, mirror)
    if mirror:
        assert torch.equal(made[1], mirror_volume(made[0], mirror))
    made = made.transpose(1, 2).flatten(0, 1)                       # frames of clip, then mirror
    assert made.dtype == torch.float32 and list(made.shape) == case["steps"][0]["imgs_shape"]
    np.testing.assert_allclose(made, ARRAYS[f"{case['name']}/imgs"], rtol=0, atol=3e-6)


# -- the steps before

class Steps:
    "The transforms of a case, one after the other, each with the batched function it stands for."

    def __init__(self, case):
        self.x, self.size = batch_of(case)
        self.rng = np.random.RandomState(case.get("numpy_global_seed"))
        self.wanted = self.frames = self.box = self.flipped = None

    def UniformSampleFrames(self, clip_len, num_clips=1, test_mode=False):
        count = self.x.shape[2]
        self.frames = (fixed_frames([count], clip_len, num_clips) if test_mode
                       else uniform_frames(count, clip_len, num_clips, self.rng)).ravel()

    def PoseDecode(self):
        if self.frames is not None:
            self.x = self.x[:, :, self.frames]

    def PoseCompact(self, hw_ratio=None, allow_imgpad=True, **options):
        ratio = (hw_ratio, hw_ratio) if isinstance(hw_ratio, float) else hw_ratio
        self.x = clean_joints(self.x)
        box = people_box(self.x, self.size, ratio=ratio, inside=not allow_imgpad, **options)
        self.x, self.size = into_box(self.x, box, keep_zeros=True), box_size(box)

    def Resize(self, scale, keep_ratio=True):
        new = short_edge(self.size, scale[1]) if keep_ratio else torch.tensor([scale[::-1]])
        self.x, self.size = resize(self.x, self.size, new), new

    def RandomResizedCrop(self, area_range):
        draws = torch.zeros(1, 22, dtype=torch.float64)
        draws[0, :20] = torch.from_numpy(self.rng.random_sample(20))
        box = random_box(self.size, draws, area_range)
        room = self.size.flip(-1) - box_size(box).flip(-1) + 1
        corner = torch.tensor([self.wanted["crop_bbox"][:2]])        # Python's generator drew it
        draws[:, 20:] = (corner + 0.5) / room
        self.cut(random_box(self.size, draws, area_range))

    def CenterCrop(self, crop_size):
        self.cut(centre_box(self.size, crop_size))

    def cut(self, box):
        self.box = box[0].tolist()
        self.x, self.size = into_box(self.x.double(), box), box_size(box)

    def Flip(self, flip_ratio, left_kp, right_kp):
        self.flipped = bool(self.rng.rand() < flip_ratio)
        self.x = flip_joints(self.x, self.size[0, 1], torch.tensor([self.flipped]),
                             swapped(17, left_kp, right_kp))

    def GeneratePoseTarget(self, with_kp, with_limb, double=False, **options):
        joints = self.x.float().unflatten(2, (-1, 48)).transpose(1, 2)        # (1, S, M, T, V, 3)
        mirror, size = MIRROR if double else None, self.size[0].tolist()
        sigma = options.get("sigma", 0.6)
        self.volume = joint_volume(joints, size, sigma, mirror)[0] if with_kp else limb_volume(
            joints, COCO_LIMBS, size, sigma, double and mirror_limbs(COCO_LIMBS, mirror) or None)[0]
        assert options.get("skeletons", CONSTANTS["limbs_recipe"]) == CONSTANTS["limbs_recipe"]

    def FormatShape(self, input_format):
        assert list(self.volume.shape) == self.wanted["imgs_shape"]

    def check(self, i, case):
        "State after step i as the case states it."
        wanted, key = self.wanted, f"{case['name']}/{i}"
        assert self.size.tolist() == [wanted["img_shape"]]
        if "crop_bbox" in wanted:
            assert self.box == wanted["crop_bbox"]
        if "flip" in wanted:
            assert self.flipped == wanted["flip"]
        if "keypoint_dtype" in wanted and i:
            assert str(self.x.dtype) == f"torch.{wanted['keypoint_dtype']}"
        some = slice(None, None, 1 if self.frames is None else 6)
        for part, at in (("keypoint", slice(2)), ("score", 2)):
            if f"{key}_{part}" in ARRAYS:
                made = self.x[0, :, some, :, at].numpy()
                np.testing.assert_array_equal(made, ARRAYS[f"{key}_{part}"].astype(made.dtype))


def run(case):
    "All steps of a case, each compared with what the reference had."
    steps = Steps(case)
    for i, ((transform, options), wanted) in enumerate(zip(case["pipeline"], case["steps"],
                                                           strict=True)):
        steps.wanted = wanted
        getattr(steps, transform)(**options)
        steps.check(i, case)
    return steps


@pytest.mark.parametrize("case", STEPS, ids=name)
def test_step(case):
    run(case)


# -- from the annotation to the volume

def check_volume(volume, case):
    "Sums, largest value, counts and the weighted sum of a volume (S, K, T, H, W)."
    y, key = volume.double().numpy(), f"{case['name']}/imgs"
    for axis, part in enumerate(("first_axis", "second_axis", "third_axis", "row", "col")):
        others = tuple(other for other in range(5) if other != axis)
        np.testing.assert_allclose(y.sum(others), ARRAYS[f"{key}_{part}_sums"], rtol=0, atol=5e-3)
    np.testing.assert_allclose(y.max(), ARRAYS[f"{key}_max"], rtol=0, atol=3e-6)
    assert abs(int((y > 0.01).sum()) - int(ARRAYS[f"{key}_count_above_0p01"])) <= 2
    for i, length in enumerate(y.shape):
        y = np.tensordot(noise(777 + i, length), y, axes=(0, 0))
    np.testing.assert_allclose(y, case["steps"][-1]["imgs_weighted"], rtol=0, atol=5e-3)


@pytest.mark.parametrize("case", WHOLE, ids=name)
def test_all_steps(case):
    steps = run(case)
    assert np.array_equal(steps.frames, ARRAYS[f"{case['name']}/frame_inds"])
    check_volume(steps.volume, case)


SETTINGS = {"train_hmdb51": {"size": 48}, "test_ucf101_keypoint": {"test_size": 56},
            "val_k400": {"persons": 3, "stretch": True}}


@pytest.mark.parametrize("case", WHOLE, ids=name)
def test_pipeline(case, monkeypatch):
    points, score, size = sample(case)
    clips = collect_clips([dict(name="a", label=0, joints=points, scores=score, image_size=size)],
                          points.dtype)
    stream = "limb" if "limb" in case["name"] else "joint"
    count = case["pipeline"][0][1].get("num_clips", 1)
    pipeline = HeatmapPipeline("coco", stream, clips=count, **SETTINGS.get(case["name"], {}))
    training = case["name"].startswith("train")
    if training:
        frames = ARRAYS[f"{case['name']}/frame_inds"].astype(np.int64)
        monkeypatch.setattr(volumes, "train_frames", lambda *_: frames[None])
        monkeypatch.setattr(volumes, "keyed_uniform", lambda *key: reference_draws(case))
    ready = pipeline.prepare(clips)
    batch = pipeline.fetch(ready, np.array([0]), np.array([0]) if training else None)
    volume = pipeline.inputs(batch)
    assert volume.dtype == torch.float32 and len(volume) == 1
    check_volume(volume[0], case)


def reference_draws(case):
    "Keys that make the batched functions draw what the reference drew, (1, 23)."
    rng = np.random.RandomState(case["numpy_global_seed"])
    uniform_frames(case["input"]["keypoints"]["frames"], 48, 1, rng)
    places = [i for i, step in enumerate(case["pipeline"]) if step[0] == "RandomResizedCrop"]
    before, after = (case["steps"][places[0] + k] for k in (-1, 0))
    (height, width), (high, wide) = before["img_shape"], after["img_shape"]
    left, top = after["crop_bbox"][:2]
    corner = (left + 0.5) / (width - wide + 1), (top + 0.5) / (height - high + 1)
    return np.array([[*rng.random_sample(20), *corner, rng.rand()]])


# -- many draws

def test_random_boxes():
    rows = ARRAYS["random_resized_crop_boxes"]
    draws = np.stack([np.random.RandomState(seed).random_sample(22) for seed in rows[:, 0]])
    size = torch.from_numpy(rows[:, 1:3].astype(np.int64))
    box, wanted = random_box(size, torch.from_numpy(draws)), rows[:, 3:]
    wide = np.stack([wanted[:, 2] - wanted[:, 0], wanted[:, 3] - wanted[:, 1]], -1)
    assert np.array_equal(box_size(box).flip(-1), wide)
    draws[:, 20:] = (wanted[:, :2] + 0.5) / (rows[:, 2:0:-1] - wide + 1)
    assert np.array_equal(random_box(size, torch.from_numpy(draws)), wanted)


def test_frames_of_many_lengths():
    lengths = ARRAYS["uniform_lengths"]
    assert np.array_equal(fixed_frames(lengths, 48, 10).reshape(len(lengths), -1),
                          ARRAYS["uniform_test_10clips"])
    for count, wanted in zip(lengths.tolist(), ARRAYS["uniform_train"], strict=True):
        made = uniform_frames(count, 48, 1, np.random.RandomState(count))
        assert np.array_equal(made[0], wanted)


def test_every_case_is_tested():
    assert (len(DRAWN), len(STEPS), len(WHOLE)) == (23, 14, 10)
    assert len(DRAWN) + len(STEPS) + len(WHOLE) == len(CASES)
