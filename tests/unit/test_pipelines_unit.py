"""Both pipelines against the same computation done clip by clip, on whole clips, in float64."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from plain_streams import SHAPES, bodies, filled, picture, streamed

from skelbook.core import STREAMS
from skelbook.data.store import collect_clips
from skelbook.graph import Layout, find_layout
from skelbook.keyed import keyed_uniform
from skelbook.transforms import sampling
from skelbook.transforms.pipelines import GraphPipeline, WholeClipPipeline

EVERY = pytest.mark.parametrize("stream", STREAMS)


# -- what a clip becomes, in NumPy, one clip at a time

def unit(v):
    return v / np.linalg.norm(v)


def turn(source, target):
    "Rotation of one direction onto another, by Rodrigues' formula."
    axis = np.cross(unit(source), target)
    sine, cosine = np.linalg.norm(axis), unit(source) @ target
    if sine < 1e-6:
        return np.eye(3)
    x, y, z = axis / sine
    K = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + sine * K + (1 - cosine) * K @ K


def aligned(clip):
    "PreNormalize3D of a clip (M, T, 25, 3) of one or two persons."
    seen = (np.abs(clip) > 1e-8).any((2, 3))
    if len(clip) == 2 and seen[1].sum() > seen[0].sum():
        clip, seen = clip[::-1], seen[::-1]
    clip = clip[:, seen[0]] if seen[0].any() else clip
    missing = (clip == 0).all(-1, keepdims=True)
    clip = np.where(missing, 0, clip - clip[0, 0, 1])
    clip = clip @ turn(clip[0, 0, 1] - clip[0, 0, 0], np.array([0, 0, 1])).T
    return clip @ turn(clip[0, 0, 8] - clip[0, 0, 4], np.array([1, 0, 0])).T


def boxed(clip, angles):
    "The NW-UCLA input of a clip (M, T, 20, 3), turned about y and then x."
    a, b = np.radians(angles)
    about_x = [[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]]
    about_y = [[np.cos(b), 0, np.sin(b)], [0, 1, 0], [-np.sin(b), 0, np.cos(b)]]
    clip = (clip - clip[0, 0, 1]) @ (np.array(about_x) @ about_y).T
    low, high = clip.min((0, 1, 2)), clip.max((0, 1, 2))
    return 2 * np.divide(clip - low, high - low, np.full_like(clip, 0.5), where=high > low) - 1


# -- clips for it

def kinect_v2():
    "Skeletons with gaps: persons that come later, swap, or were lost for a while; lost joints."
    samples = list(bodies(SHAPES, 25))
    samples[0]["joints"][0, 5:9] = 0                  # the only person gone for four frames
    samples[1]["joints"][0, 20:40] = 0                # the second is seen longer: swap
    samples[2]["joints"][1, :50] = 0
    samples[4]["joints"][1, :, 20:] = 0               # joints that were never seen
    samples[6]["joints"][0, 0] = 0
    return collect_clips(samples)


def pictures():
    "2D poses with scores in pictures of different sizes; up to three persons."
    rng = np.random.default_rng(1)
    samples = [dict(name=str(i), label=0, joints=rng.random((m, t, 17, 2)) * [1900, 1000],
                    scores=rng.random((m, t, 17)), image_size=(720 + 90 * i, 1280 + 10 * i))
               for i, (m, t) in enumerate([(1, 40), (3, 90), (2, 220), (1, 1)])]
    return collect_clips(samples)


# -- the graph networks' pipeline

def graph_frames(pipeline, num_frames, samples, passes):
    "Frame numbers (N, S, L) as the pipeline is documented to choose them."
    if passes is None:
        return sampling.test_frames(num_frames, pipeline.clip_len, pipeline.clips)
    keys = keyed_uniform(pipeline.seed, passes, samples, "frames", pipeline.clip_len + 1)
    return sampling.train_frames(num_frames, keys, pipeline.clip_len)[:, None]


def check_graph(pipeline, clips, whole, samples, passes):
    made = pipeline.inputs(pipeline.fetch(pipeline.prepare(clips), samples, passes)).numpy()
    layout = find_layout(pipeline.layout)
    lengths = np.array([whole[i].shape[1] for i in samples])
    frames = graph_frames(pipeline, lengths, samples, passes)
    assert made.dtype == np.float32
    for n, i in enumerate(samples):
        x = filled(streamed(whole[i], pipeline.stream, layout), pipeline.persons)
        want = x[:, frames[n]].swapaxes(0, 1)         # (M, S, L, V, C) -> (S, M, L, V, C)
        np.testing.assert_allclose(made[n], want, rtol=0, atol=3e-6, err_msg=f"clip {i}")


@EVERY
@pytest.mark.parametrize("train", [False, True])
def test_graph_pipeline_in_space(stream, train):
    clips = kinect_v2()
    samples = np.array([6, 0, 3, 1, 2, 5, 4, 1])
    whole = [aligned(clips.clip(i).astype(float)) for i in range(len(clips))]
    assert [clip.shape[1] for clip in whole] == [26, 57, 100, 130, 250, 1, 2]
    passes = np.array([0, 3, 1, 2, 9, 0, 5, 7]) if train else None
    check_graph(GraphPipeline("nturgb+d", stream, clips=3, seed=11), clips, whole, samples, passes)


@EVERY
@pytest.mark.parametrize("train", [False, True])
def test_graph_pipeline_in_the_picture(stream, train):
    clips = pictures()
    whole = [picture(clips, i) for i in range(len(clips))]
    samples, passes = np.array([2, 0, 3, 1]), np.array([4, 0, 1, 1]) if train else None
    check_graph(GraphPipeline("coco", stream, clips=2, seed=3), clips, whole, samples, passes)


def parts(clips, size):
    "The clips in pieces, as `Clips`."
    samples = list(clips.samples())
    return [collect_clips(samples[i:i + size], clips.joints.dtype)
            for i in range(0, len(samples), size)]


@pytest.mark.parametrize("kind", ["graph", "whole"])
def test_preparing_does_not_depend_on_company(kind):
    pipeline, clips = make(kind, "joint")
    clips = kinect_v2() if kind == "graph" else clips
    together = pipeline.prepare(clips)
    alone = [pipeline.prepare(part) for part in parts(clips, 1)]
    assert np.array_equal(np.concatenate([part.joints for part in alone]), together.joints)
    assert [part.num_frames[0] for part in alone] == together.num_frames.tolist()
    assert len(together.joints) == together.offset[-1] and together.joints.dtype == np.float32


@EVERY
def test_persons_the_model_does_not_take_are_left_out(stream):
    clips = pictures()
    few, many = (GraphPipeline("coco", stream, clips=1, persons=m) for m in (1, 5))
    ready = many.prepare(clips)
    one, five = (p.inputs(p.fetch(ready, np.array([0, 1]))) for p in (few, many))
    assert torch.equal(one, five[:, :, :1])
    assert five[0, :, 1:].abs().max() == 0 and five[1, :, 3:].abs().max() == 0
    assert five[1, :, :3].abs().amax((0, 2, 3, 4)).min() > 0


def test_three_bodies_in_space_are_refused():
    clips = collect_clips(bodies([(3, 5)], 25))
    with pytest.raises(ValueError, match="3 persons to align"):
        GraphPipeline("nturgb+d").prepare(clips)


UPRIGHT = {"nturgb+d": ((0, 1), (8, 4), 1), "kinect_v1": ((0, 1), (8, 4), 1),
           "utd_mhad": ((3, 2), (8, 4), 2)}


@pytest.mark.parametrize("name", UPRIGHT)
def test_joints_that_turn_a_body_upright_go_by_their_names(name):
    layout, numbers = find_layout(name), UPRIGHT[name]
    settings = GraphPipeline(name).settings
    assert (settings["spine"], settings["shoulder"], settings["centre"]) == numbers
    body = next(bodies([(1, 5)], len(layout.joints)))
    ready = GraphPipeline(layout).prepare(collect_clips([body])).clip(0)[0, 0]
    right, left = numbers[1]
    across = ready[right] - ready[left]
    assert ready[numbers[2]].tolist() == [0, 0, 0]
    assert np.abs(across[1:]).max() < 1e-6 < across[0]


def test_order_of_joints_changes_no_alignment():
    "A body whose joints come in another order is turned the same way."
    layout, order = find_layout("nturgb+d"), np.random.default_rng(2).permutation(25)
    place = np.argsort(order)
    other = Layout("shuffled", [layout.joints[j] for j in order],
                   [(int(place[a]), int(place[b])) for a, b in layout.inward], int(place[20]))
    clips = kinect_v2()
    shuffled = replace(clips, joints=clips.joints[:, order])
    want = GraphPipeline("nturgb+d").prepare(clips).joints[:, order]
    assert np.array_equal(GraphPipeline(other).prepare(shuffled).joints, want)


def test_bodies_that_cannot_be_turned_are_refused_with_the_reason():
    clips = collect_clips(bodies([(1, 5)], 15))
    reason = "layout 'sbu' lacks a joint that turns 3D bodies upright .*"
    remedy = r"nturgb\+d, kinect_v1, utd_mhad have them; the whole-clip pipeline needs none"
    with pytest.raises(ValueError, match=reason + remedy):
        GraphPipeline("sbu").prepare(clips)


@pytest.mark.parametrize("kind", ["graph", "whole"])
def test_a_confidence_in_space_is_left_behind(kind):
    pipeline, clips = make(kind, "joint")
    scored = replace(clips, scores=np.ones(clips.joints.shape[:2], np.float32))
    ready = pipeline.prepare(scored)
    assert ready.scores is None
    assert np.array_equal(ready.joints, pipeline.prepare(clips).joints)
    x = pipeline.inputs(pipeline.fetch(ready, np.array([0])))
    assert x.shape[-1] == 3


def test_pictures_without_a_size_are_full_hd():
    clips = pictures()
    unknown = replace(clips, image_size=None)
    full = replace(clips, image_size=np.tile([1080, 1920], (4, 1)))
    pipeline = GraphPipeline("coco")
    assert np.array_equal(pipeline.prepare(unknown).joints, pipeline.prepare(full).joints)


# -- the whole-clip pipeline

def whole_clips(persons=1):
    return collect_clips(bodies([(min(m, persons), t) for m, t in SHAPES + [(1, 52)]], 20))


@pytest.mark.parametrize("layout, origin", [
    ("kinect_v1", 1), ("nturgb+d", 1), ("utd_mhad", 2), ("sbu", 2),
    (Layout("arm", ("shoulder", "elbow", "hand"), ((1, 0), (2, 1)), centre=1), 1)])
def test_the_origin_is_the_middle_of_the_spine_or_else_the_centre(layout, origin):
    pipeline, joints = WholeClipPipeline(layout), len(find_layout(layout).joints)
    assert pipeline.settings == {"joint": origin}
    clips = collect_clips(bodies([(1, 4), (2, 3)], joints))
    ready = pipeline.prepare(clips)
    for i in range(2):
        want = clips.clip(i) - clips.clip(i)[0, 0, origin]
        assert np.array_equal(ready.clip(i), want)


def test_flat_layouts_are_refused_where_bodies_are_turned_in_space():
    with pytest.raises(ValueError, match="layout 'coco' is flat, .* take the graph pipeline"):
        WholeClipPipeline("coco").prepare(pictures())


@EVERY
@pytest.mark.parametrize("train", [False, True])
@pytest.mark.parametrize("persons", [1, 2])
def test_whole_clip_pipeline(stream, train, persons):
    clips, layout = whole_clips(persons), find_layout("kinect_v1")
    pipeline = WholeClipPipeline("kinect_v1", stream, persons=persons, seed=5)
    samples = np.array([7, 4, 0, 5, 3, 1, 6, 2])
    passes = np.arange(8) * 3 if train else None
    lengths, angles = clips.num_frames[samples].astype(int), np.zeros((8, 2))
    frames = sampling.spread_frames(lengths, 52)
    if train:
        angles = np.floor(keyed_uniform(5, passes, samples, "view", 2) * 121) - 60
        keys = keyed_uniform(5, passes, samples, "frames", 52)
        frames = sampling.copied_frames(lengths, keys, 52)
    made = pipeline.inputs(pipeline.fetch(pipeline.prepare(clips), samples, passes))
    assert made.shape == (8, 1, persons, 52, 20, 3) and made.dtype == torch.float32
    for n, i in enumerate(samples):
        chosen = boxed(clips.clip(i).astype(float), angles[n])[:, frames[n]]
        want = filled(streamed(chosen, stream, layout), persons)
        np.testing.assert_allclose(made[n, 0], want, rtol=0, atol=3e-6, err_msg=f"clip {i}")


@EVERY
def test_further_clips_of_a_test_are_drawn_once_for_all_runs(stream):
    clips, samples = whole_clips(), np.array([4, 0, 5])
    one = WholeClipPipeline("kinect_v1", stream, persons=2, seed=5)
    ready, three = one.prepare(clips), replace(one, clips=3)
    made = three.inputs(three.fetch(ready, samples))
    assert made.shape == (3, 3, 2, 52, 20, 3)
    assert torch.equal(made[:, :1], one.inputs(one.fetch(ready, samples)))
    for seed, others in ((6, samples), (5, samples[:1])):
        other = replace(three, seed=seed)
        again = other.inputs(other.fetch(ready, others))
        assert torch.equal(again, made[:len(others)])
    lengths = clips.num_frames[samples].astype(int)
    for k in (1, 2):
        keys = keyed_uniform(0, k, samples, "test frames", 52)
        frames = sampling.copied_frames(lengths, keys, 52)
        for n, i in enumerate(samples):
            chosen = boxed(clips.clip(i).astype(float), np.zeros(2))[:, frames[n]]
            want = filled(streamed(chosen, stream, find_layout("kinect_v1")), 2)
            np.testing.assert_allclose(made[n, k], want, rtol=0, atol=3e-6)


@EVERY
def test_padding_to_a_longer_clip_changes_nothing(stream):
    clips = whole_clips()
    pipeline = WholeClipPipeline("kinect_v1", stream)
    ready = pipeline.prepare(clips)
    for passes in (None, 2):
        together = pipeline.inputs(pipeline.fetch(ready, np.arange(8), passes))
        for i in range(8):
            alone = pipeline.inputs(pipeline.fetch(ready, np.array([i]), passes))
            assert torch.equal(alone[0], together[i]), f"clip {i}"


@EVERY
@pytest.mark.parametrize("passes", [None, 1])
def test_an_absent_person_changes_no_box_and_is_zero(stream, passes):
    one, three = (WholeClipPipeline("kinect_v1", stream, persons=m) for m in (1, 3))
    ready = one.prepare(whole_clips())
    narrow, wide = (p.inputs(p.fetch(ready, np.arange(8), passes)) for p in (one, three))
    assert torch.equal(wide[:, :, :1], narrow)
    assert wide[:, :, 1:].abs().max() == 0


def test_every_axis_fills_the_box_in_training():
    clips = whole_clips()
    pipeline = WholeClipPipeline("kinect_v1")
    batch = pipeline.fetch(pipeline.prepare(clips), np.array([4]), np.array([3]))
    every = replace(batch, picks=torch.arange(250)[None])
    x = replace(pipeline, clip_len=250).inputs(every).flatten(0, -2)
    assert (x.amin(0).tolist(), x.amax(0).tolist()) == ([-1] * 3, [1] * 3)


# -- both

def make(kind, stream):
    if kind == "graph":
        return GraphPipeline("nturgb+d", stream, clips=2), collect_clips(bodies(SHAPES, 25))
    return WholeClipPipeline("kinect_v1", stream), collect_clips(bodies([(1, 1), (1, 9)], 20))


@EVERY
@pytest.mark.parametrize("kind", ["graph", "whole"])
@pytest.mark.parametrize("passes", [None, 0])
def test_a_clip_of_one_frame_stands_still(stream, kind, passes):
    pipeline, clips = make(kind, stream)
    which = np.flatnonzero(clips.num_frames == 1)
    x = pipeline.inputs(pipeline.fetch(pipeline.prepare(clips), which, passes))
    assert torch.isfinite(x).all()
    assert torch.equal(x, x[:, :, :, :1].expand_as(x))
    assert (x.abs().max() == 0) == stream.endswith("motion")


@EVERY
@pytest.mark.parametrize("kind", ["graph", "whole"])
def test_passes_seeds_and_samples_draw_for_themselves(stream, kind):
    pipeline, clips = make(kind, stream)
    ready, which = pipeline.prepare(clips), np.array([1, 1, 1])

    def inputs(seed, passes):
        other = replace(pipeline, seed=seed)
        return other.inputs(other.fetch(ready, which, np.array(passes)))
    first = inputs(0, [0, 1, 0])
    assert torch.equal(first[0], first[2]) and not torch.equal(first[0], first[1])
    assert not torch.equal(first, inputs(1, [0, 1, 0]))
    assert torch.equal(first, inputs(0, [0, 1, 0]))


@pytest.mark.parametrize("kind", ["graph", "whole"])
def test_streams_of_one_pass_show_the_same_frames(kind):
    joint, clips = make(kind, "joint")
    bone, ready = replace(joint, stream="bone"), joint.prepare(clips)
    x, b = (p.inputs(p.fetch(ready, np.array([1]), np.array([3]))) for p in (joint, bone))
    parents = list(find_layout(joint.layout).bones)
    torch.testing.assert_close(b, x - x[..., parents, :], rtol=0, atol=1e-6)


@pytest.mark.parametrize("kind", ["graph", "whole"])
def test_preparing_does_not_touch_the_clips(kind):
    pipeline, clips = make(kind, "joint")
    before = clips.joints.copy()
    ready = pipeline.prepare(clips)
    pipeline.inputs(pipeline.fetch(ready, np.array([0, 1]), 0))
    assert np.array_equal(clips.joints, before) and ready.joints.dtype == np.float32
    assert ready.names is clips.names
