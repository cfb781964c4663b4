"""Corner cases of heatmap volumes and of the pipeline that leads to them."""

import re
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from skelbook.data.loading import load_steps, split_steps
from skelbook.data.store import Source, collect_clips, open_store, write_store
from skelbook.data.synthetic import make_clip_2d
from skelbook.graph import LAYOUTS, Layout
from skelbook.transforms.heatmap import (
    COCO_LIMBS,
    find_limbs,
    joint_volume,
    limb_volume,
    mirror_joints,
    mirror_limbs,
    mirror_volume,
)
from skelbook.transforms.pipelines import prepare_clips
from skelbook.transforms.volumes import (
    HeatmapPipeline,
    centre_box,
    clean_joints,
    people_box,
    random_box,
)

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))
from heatmap_loops import joints_by_loops, limbs_by_loops  # noqa: E402

MIRROR = mirror_joints("coco")
LIMB_MIRROR = mirror_limbs(COCO_LIMBS, MIRROR)
FLAT = [name for name, layout in LAYOUTS.items() if layout.dims == 2]
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(
    not torch.cuda.is_available(), reason="this PyTorch sees no GPU"))]


def people(*shape, size=(56, 56), seed=0):
    "Joints around the middle of a picture, a few outside it, with scores, (*shape, 3)."
    rng = np.random.default_rng(seed)
    place = np.array(size[::-1]) / 2 + 0.25 * min(size) * rng.standard_normal((*shape, 2))
    return torch.from_numpy(np.concatenate([place, rng.random((*shape, 1))], -1)).float()


def draw_limbs(x, size, sigma=0.6, mirror=None):
    return limb_volume(x, COCO_LIMBS, size, sigma, mirror and LIMB_MIRROR)


DRAW = pytest.mark.parametrize("draw", [joint_volume, draw_limbs])


# -- drawing

@pytest.mark.parametrize("persons, frames, size, sigma", [
    (1, 1, (5, 7), 0.6), (2, 3, (31, 64), 0.6), (3, 2, (64, 48), 2.0), (10, 2, (40, 40), 0.6),
    (2, 2, (20, 20), 0.05), (1, 1, (1, 1), 0.6), (2, 1, (200, 300), 1.0)])
def test_any_size_sigma_and_number_of_persons(persons, frames, size, sigma):
    x = people(1, persons, frames, 17, size=size)
    arrays = x[0, ..., :2].numpy(), x[0, ..., 2].numpy()
    np.testing.assert_allclose(joint_volume(x, size, sigma)[0],
                               joints_by_loops(*arrays, size, sigma), rtol=0, atol=1e-5)
    np.testing.assert_allclose(draw_limbs(x, size, sigma)[0],
                               limbs_by_loops(*arrays, COCO_LIMBS, size, sigma), rtol=0, atol=1e-5)


@DRAW
def test_a_batch_is_its_clips_and_further_axes_are_clips_too(draw):
    x = people(6, 2, 5, 17)
    whole = draw(x, (24, 40))
    assert whole.shape == (6, 17, 5, 24, 40)
    assert torch.equal(whole, torch.cat([draw(clip[None], (24, 40)) for clip in x]))
    assert torch.equal(draw(x.unflatten(0, (2, 3)), (24, 40)), whole.unflatten(0, (2, 3)))


@DRAW
def test_mirror_images_follow_their_clips(draw):
    x = people(2, 3, 2, 4, 17)
    plain, both = draw(x, (30, 20)), draw(x, (30, 20), mirror=MIRROR)
    assert both.shape == (2, 6, 17, 4, 30, 20)
    assert torch.equal(both[:, :3], plain)
    other = MIRROR if draw is joint_volume else LIMB_MIRROR
    assert torch.equal(both[:, 3:], mirror_volume(plain, other))


@DRAW
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf"), 1e30, -1e30, 3e38])
@pytest.mark.parametrize("where", [0, 1, 2])
def test_nothing_but_numbers_from_zero_to_the_largest_score(draw, bad, where):
    x = people(1, 2, 6, 17)
    x[:, 0, ::2, ::3, where] = bad
    x[:, 1, 3, :, where] = -bad
    if where == 2:
        x[x > 1e3] = float("inf")                  # a score of 1e30 would be drawn as bright
    volume = draw(x, (32, 32), mirror=MIRROR)
    assert torch.isfinite(volume).all() and volume.min() == 0 and 0 < volume.max() <= 1


@DRAW
def test_a_joint_that_is_no_number_leaves_the_others_alone(draw):
    x = people(1, 2, 6, 17)
    broken, missing = x.clone(), x.clone()
    broken[:, 0, :, 5, 0] = float("nan")
    missing[:, 0, :, 5] = 0
    assert torch.equal(draw(broken, (32, 32)), draw(missing, (32, 32)))


@DRAW
@pytest.mark.parametrize("shape", [(0, 2, 5, 17), (2, 0, 5, 17), (2, 2, 0, 17), (1, 2, 5, 17)])
def test_where_nothing_is_there_nothing_is_drawn(draw, shape):
    volume = draw(torch.zeros(*shape, 3), (12, 14))
    assert volume.shape == (shape[0], 17, shape[2], 12, 14)
    assert not volume.any()


@DRAW
def test_far_outside_the_picture_nothing_is_drawn(draw):
    x = people(1, 2, 5, 17)
    for shift in ((-200, 0), (0, 200), (500, 500)):
        away = x + torch.tensor([*shift, 0])
        assert not draw(away, (32, 32)).any()


@DRAW
@pytest.mark.parametrize("dtype", [torch.float16, torch.float64])
def test_other_precisions_are_drawn_in_float32(draw, dtype):
    x = people(1, 2, 3, 17).half()
    volume = draw(x.to(dtype), (32, 32))
    assert volume.dtype == torch.float32
    assert torch.equal(volume, draw(x.float(), (32, 32)))


@DRAW
def test_the_joints_are_not_touched(draw):
    x = people(1, 2, 3, 17)
    before = x.clone()
    draw(x, (32, 32), mirror=MIRROR)
    assert torch.equal(x, before)


@pytest.mark.parametrize("score, seen", [(1e-4, False), (1.001e-4, True), (9.9e-5, False)])
def test_the_faintest_score(score, seen):
    x = torch.tensor([[5., 5, score]]).view(1, 1, 1, 1, 3)      # 1e-4 in float32 is below 1e-4
    assert bool(joint_volume(x, (10, 10)).any()) == seen


def test_what_cannot_be_drawn_is_refused():
    x = people(1, 1, 2, 17)
    with pytest.raises(ValueError, match=r"x, y and score expected.*\(1, 1, 2, 17, 2\)"):
        joint_volume(x[..., :2], (8, 8))
    with pytest.raises(ValueError, match="x, y and score expected"):
        joint_volume(x[0], (8, 8))
    for sigma in (0, -1, float("nan")):
        with pytest.raises(ValueError, match="sigma is"):
            joint_volume(x, (8, 8), sigma)
    with pytest.raises(ValueError, match="a mirror of 17 channels for 2"):
        limb_volume(x, COCO_LIMBS[:2], (8, 8), mirror=LIMB_MIRROR)


# -- memory and devices

def peak_memory(make):
    "Largest number of bytes that PyTorch holds at once while `make` runs, and what it made."
    with torch.profiler.profile(profile_memory=True) as trace:
        made = make()
    events = sorted(trace.profiler.kineto_results.events(), key=lambda event: event.start_ns())
    changes = [event.nbytes() for event in events if event.name() == "[memory]"]
    return np.cumsum(changes).max(), made


@DRAW
@pytest.mark.parametrize("mirror", [None, MIRROR])
@pytest.mark.parametrize("clips, persons", [(1, 1), (1, 2), (1, 10), (3, 2)])
def test_a_volume_needs_little_more_memory_than_itself(draw, clips, persons, mirror):
    x = people(clips, persons, 48, 17)
    peak, volume = peak_memory(lambda: draw(x, (56, 56), mirror=mirror))
    assert volume.nbytes <= peak <= 1.2 * volume.nbytes


@DRAW
@pytest.mark.parametrize("device", DEVICES)
def test_every_device_draws_the_same(draw, device):
    x = people(2, 3, 2, 48, 17)
    x[:, :, :, ::5, 2] = float("nan")
    here, there = (draw(x.to(d), (56, 48), mirror=MIRROR) for d in ("cpu", device))
    assert there.device.type == device
    torch.testing.assert_close(here, there.cpu(), rtol=0, atol=2e-6)


# -- left and right

@pytest.mark.parametrize("layout", FLAT)
def test_every_flat_layout_has_a_mirror(layout):
    mirror, limbs = mirror_joints(layout), find_limbs(layout)
    names = LAYOUTS[layout].joints
    assert [mirror[v] for v in mirror] == list(range(len(names)))
    swap = {"left": "right", "right": "left"}
    for v, joint in enumerate(names):
        first, *rest = joint.split(" ")
        assert names[mirror[v]] == " ".join([swap.get(first, first), *rest])
    images = mirror_limbs(limbs, mirror)
    for limb, image in zip(limbs, images, strict=True):
        assert {mirror[joint] for joint in limb} == set(limbs[image])


def test_a_side_without_a_partner_is_refused():
    lonely = Layout("lonely", ("head", "left hand"), ((1, 0),), 0, dims=2)
    marked = Layout("marked", ("head", "l_hand", "r_hand"), ((1, 0), (2, 0)), 0, dims=2,
                    sides=("torso", "left", "right"))
    for layout, joint in ((lonely, "left hand"), (marked, "l_hand")):
        with pytest.raises(ValueError, match=f"joint '{joint}' of layout .* has no partner"):
            mirror_joints(layout)
        with pytest.raises(ValueError, match="has no partner"):
            HeatmapPipeline(layout)


def test_a_limb_without_a_partner_is_refused():
    crooked = Layout("crooked", ("head", "left hand", "right hand"), ((1, 0), (2, 1)), 0, dims=2)
    with pytest.raises(ValueError, match=r"no mirror image of limb \(1, 0\) among the 2 limbs"):
        HeatmapPipeline(crooked, "limb")


# -- boxes

def test_a_box_ignores_zeros_in_each_direction():
    x = torch.tensor([[10., 50], [40, 0], [0, 90]]).view(1, 1, 1, 3, 2)
    assert people_box(x, torch.tensor([[100, 100]]), padding=0).tolist() == [[5, 50, 45, 90]]


def test_nobody_there_leaves_the_picture_as_it_is():
    size = torch.tensor([[100, 80], [30, 40]])
    assert people_box(torch.zeros(2, 2, 3, 17, 2), size).tolist() == [[0, 0, 80, 100],
                                                                      [0, 0, 40, 30]]


def test_where_no_candidate_fits_a_square_in_the_middle_is_cut():
    draws = torch.full((2, 22), 0.999999)
    size = torch.tensor([[64, 20], [10, 64]])
    draws[1, :10] = 0
    assert random_box(size, draws).tolist() == [[0, 22, 20, 42], [27, 0, 37, 10]]
    assert random_box(size, draws).tolist() == centre_box(size, size.amin(1)).tolist()


def test_the_first_candidate_that_fits_is_taken():
    draws = torch.zeros(1, 22, dtype=torch.float64)
    draws[0, :10] = 0.999999                        # too wide for a picture twice as high as wide
    draws[0, 10:20] = 0.999999
    draws[0, [4, 7]] = 0.0                          # fourth and seventh: narrow
    draws[0, [14, 17]] = torch.tensor([0.0, 0.5], dtype=torch.float64)
    box = random_box(torch.tensor([[80, 60]]), draws)
    width, height = (0.56 * 4800 * 3 / 4) ** 0.5, (0.56 * 4800 * 4 / 3) ** 0.5
    assert box.tolist() == [[0, 0, round(width), round(height)]]


def test_scores_and_coordinates_that_are_no_numbers():
    nan, inf = float("nan"), float("inf")
    x = torch.tensor([[nan, 2, 1.], [3, inf, 1], [3, 2, nan], [3, 2, inf], [3, 2, .5]])
    made = clean_joints(x.view(1, 1, 1, 5, 3))[0, 0, 0]
    assert made.tolist() == [[0, 2, 0], [3, 0, 0], [3, 2, 0], [3, 2, 0], [3, 2, .5]]


# -- the pipeline

NAMES = ["S001C001P001R001A011", "S001C002P001R001A007", "S001C003P005R001A009"]


@pytest.fixture(scope="module")
def clips():
    samples = []
    for i, name in enumerate(NAMES):
        joints, scores = make_clip_2d(name)
        samples.append(dict(name=name, label=i, joints=joints, scores=scores,
                            image_size=(1080, 1920)))
    return collect_clips(samples, np.float16)


@pytest.mark.parametrize("layout", FLAT)
@pytest.mark.parametrize("stream", ["joint", "limb"])
def test_every_flat_layout_goes_through(layout, stream):
    joints = len(LAYOUTS[layout].joints)
    x = people(2, 30, joints, size=(300, 400)).numpy()
    data = collect_clips([dict(name="a", label=0, joints=x[..., :2], image_size=(300, 400))])
    pipeline = HeatmapPipeline(layout, stream, clip_len=8, clips=2, size=20, test_size=24)
    channels = joints if stream == "joint" else len(find_limbs(layout))
    test = pipeline.inputs(pipeline.fetch(data, np.array([0])))
    assert test.shape == (1, 4, channels, 8, 24, 24) and test.max() > 0.5
    train = pipeline.inputs(pipeline.fetch(data, np.array([0]), np.array([3])))
    assert train.shape == (1, 1, channels, 8, 20, 20) and train.max() > 0.5


@pytest.mark.parametrize("layout", [name for name in LAYOUTS if name not in FLAT])
def test_bodies_in_space_are_refused(layout):
    with pytest.raises(ValueError, match=f"layout {re.escape(repr(layout))} is in space.*2D poses"):
        HeatmapPipeline(layout)


def test_a_sample_depends_on_its_pass_and_on_nothing_else(clips):
    pipeline = HeatmapPipeline("coco", seed=3)
    together = pipeline.inputs(pipeline.fetch(clips, np.array([0, 1, 2]), np.array([5, 6, 5])))
    for i, epoch in ((0, 5), (1, 6), (2, 5)):
        alone = pipeline.inputs(pipeline.fetch(clips, np.array([i]), np.array([epoch])))
        assert torch.equal(alone[0], together[i])
    other = pipeline.inputs(pipeline.fetch(clips, np.array([0]), np.array([6])))
    assert not torch.equal(other[0], together[0])
    seeded = replace(pipeline, seed=4)
    assert not torch.equal(seeded.inputs(seeded.fetch(clips, np.array([0]), np.array([5])))[0],
                           together[0])


def test_half_of_the_training_clips_are_mirrored_and_cuts_differ(clips):
    pipeline = HeatmapPipeline("coco")
    count = np.zeros(200, int)
    batch = pipeline.fetch(clips, count, np.arange(200))
    assert 70 < int((batch.draws[:, 22] < 0.5).sum()) < 130
    x = pipeline.view(batch)[:, 0, 0, 0, 5, :2]                  # a shoulder in the first frame
    assert len(x.unique(dim=0)) == 200


def test_loading_in_other_processes_changes_nothing(clips):
    pipeline = HeatmapPipeline("coco", clip_len=8)
    order, passes = np.array([2, 0, 1]), np.array([0, 1, 1])
    volumes = [torch.cat([pipeline.inputs(batch) for (batch,) in load_steps(
        clips, order, passes, split_steps(3, 2), pipeline.fetch, workers)]) for workers in (0, 1)]
    assert torch.equal(*volumes)


def test_nothing_is_prepared_and_nothing_is_written(clips, tmp_path):
    source = Source("three", "coco", ("a", "b", "c"), {}, clips.samples, len(clips), {}, np.float16)
    store = open_store(write_store(tmp_path / "three.skel", source))
    pipeline = HeatmapPipeline("coco", clip_len=8, clips=2)
    ready = prepare_clips(store, pipeline, tmp_path / "prepared")
    assert not (tmp_path / "prepared").exists()
    batch = pipeline.fetch(ready, np.array([0, 2]))
    assert batch.image_size.tolist() == [[1080, 1920]] * 2
    same = pipeline.inputs(pipeline.fetch(pipeline.prepare(clips), np.array([0, 2])))
    assert torch.equal(pipeline.inputs(batch), same)


def test_without_scores_what_is_there_is_trusted(clips):
    pipeline, one = HeatmapPipeline("coco", clip_len=8, clips=1), np.array([1])
    plain = replace(clips, scores=None)
    volume = pipeline.inputs(pipeline.fetch(plain, one))
    trusted = replace(clips, scores=(clips.joints != 0).any(-1).astype(np.float16))
    assert torch.equal(volume, pipeline.inputs(pipeline.fetch(trusted, one)))


def test_the_size_of_the_video_does_not_matter(clips):
    pipeline, some = HeatmapPipeline("coco", clip_len=8), np.array([0, 1])
    volumes = [pipeline.inputs(pipeline.fetch(replace(clips, image_size=size), some))
               for size in (None, np.array([[5, 7]] * 3), clips.image_size)]
    assert torch.equal(volumes[0], volumes[1]) and torch.equal(volumes[0], volumes[2])


def test_further_persons_are_left_out(clips):
    pipeline, some = HeatmapPipeline("coco", clip_len=8, clips=1, persons=1), np.array([0])
    alone = clips.samples()
    first = next(alone)
    first = collect_clips([first | {"joints": first["joints"][:1], "scores": first["scores"][:1]}],
                          np.float16)
    assert torch.equal(pipeline.inputs(pipeline.fetch(clips, some)),
                       pipeline.inputs(pipeline.fetch(first, some)))


@pytest.mark.parametrize("passes", [None, np.array([0])])
def test_a_clip_of_one_frame_and_a_crowd_of_nobody(passes):
    joints, scores = make_clip_2d(NAMES[1])
    one = dict(name="one", label=0, joints=joints[:, :1], scores=scores[:, :1],
               image_size=(1080, 1920))
    empty = one | dict(name="none", joints=0 * joints[:, :4], scores=0 * scores[:, :4])
    data = collect_clips([one, empty])
    pipeline = HeatmapPipeline("coco", "limb", clips=3)
    seen, dark = (pipeline.inputs(pipeline.fetch(data, np.array([i]), passes)) for i in (0, 1))
    assert torch.equal(seen, seen[:, :, :, :1].expand_as(seen)) or passes is None
    assert torch.equal(seen[:, 0], seen[:, 0, :, :1].expand_as(seen[:, 0])) and seen.any()
    assert not dark.any()


def test_one_clip_for_watching_is_not_mirrored(clips):
    pipeline = HeatmapPipeline("coco", clip_len=8, clips=3, test_size=20)
    shapes = [len(pipeline.inputs(replace(pipeline, clips=n).fetch(clips, np.array([0])))[0])
              for n in (1, 2, 3)]
    assert shapes == [1, 4, 6]
    plain = replace(pipeline, double=False)
    assert len(plain.inputs(plain.fetch(clips, np.array([0])))[0]) == 3


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("stream", ["joint", "limb"])
@pytest.mark.parametrize("passes", [None, np.array([0, 4])])
def test_every_device_has_the_same_inputs(clips, device, stream, passes):
    pipeline = HeatmapPipeline("coco", stream, clips=2)
    batch = pipeline.fetch(clips, np.array([0, 1]), passes)
    here, there = (pipeline.inputs(batch.to(d)) for d in ("cpu", device))
    assert there.device.type == device and there.is_contiguous()
    torch.testing.assert_close(here, there.cpu(), rtol=0, atol=2e-5)
