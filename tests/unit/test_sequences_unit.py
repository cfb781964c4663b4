"""The convolutional networks' pipeline against the same computation clip by clip, in float64."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from plain_streams import SHAPES, bodies, filled, picture, streamed

from skelbook.core import STREAMS
from skelbook.data.ntu_persons import normalise_skelact
from skelbook.data.store import collect_clips
from skelbook.graph import Layout, find_layout
from skelbook.keyed import keyed_uniform
from skelbook.transforms.normalize import align_frames, fill_empty_frames
from skelbook.transforms.resample import centre_crop, drawn_crop, neighbours, random_crop
from skelbook.transforms.sequences import SequencePipeline

EVERY = pytest.mark.parametrize("stream", STREAMS)


# -- clips

def kinect_v2():
    "Skeletons with gaps at the beginning, in the middle and at the end; lost joints."
    samples = list(bodies(SHAPES, 25))
    samples[0]["joints"][0, 5:9] = 0
    samples[1]["joints"][0, :20] = 0
    samples[2]["joints"][1, 50:] = 0
    samples[4]["joints"][1, :, 20:] = 0
    samples[6]["joints"][0, 0] = 0
    return collect_clips(samples)


def pictures():
    "2D poses that tremble, with scores, in pictures of different sizes; up to three persons."
    rng, samples = np.random.default_rng(1), []
    for i, (m, t) in enumerate([(1, 40), (3, 90), (2, 220), (1, 1)]):
        pose = rng.random((m, 1, 17, 3)) + rng.normal(0, 0.01, (m, t, 17, 3))
        samples.append(dict(name=str(i), label=0, joints=pose[..., :2] * [1900, 1000],
                            scores=pose[..., 2], image_size=(720 + 90 * i, 1280 + 10 * i)))
    return collect_clips(samples)


# -- what a clip becomes, in NumPy, one clip at a time

def normalised(clip):
    "A clip (M, T, 25, 3) of one or two persons, by chapter 22."
    return normalise_skelact(filled(clip, 2).astype(np.float32)).astype(float)


def resized(clip, start, length, count):
    "A piece of a clip (M, T, V, C) in `count` frames, one number after the other."
    piece = clip[:, start:start + length]
    M, T, V, C = piece.shape
    place = (np.arange(count) + 0.5) * length / count - 0.5
    out = np.empty((M, count, V, C))
    for m, v, c in np.ndindex(M, V, C):
        out[m, :, v, c] = np.interp(place, np.arange(T), piece[m, :, v, c])
    return out


def turned(clip, angles):
    "A clip turned about x, then y, then z; angles in the order z, y, x."
    (cz, cy, cx), (sz, sy, sx) = np.cos(angles), np.sin(angles)
    about_z = np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_x = np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
    return clip @ (about_z @ about_y @ about_x).T


def check(pipeline, clips, whole, samples, passes):
    made = pipeline.inputs(pipeline.fetch(pipeline.prepare(clips), samples, passes)).numpy()
    layout, lengths = find_layout(pipeline.layout), clips.num_frames[samples]
    angles = np.zeros((len(samples), 3))
    if passes is None:
        pieces = np.stack(centre_crop(lengths, pipeline.test_ratio), 1)
    else:
        keys = keyed_uniform(pipeline.seed, passes, samples, "crop", 2)
        pieces = np.stack(random_crop(lengths, keys, min_len=pipeline.min_len), 1)
        if layout.dims == 3:
            draws = keyed_uniform(pipeline.seed, passes, samples, "view", 3)
            angles = (2 * draws - 1) * pipeline.rotation * np.pi
    assert made.dtype == np.float32 and made.shape[:2] == (len(samples), 1)
    for n, i in enumerate(samples):
        x = filled(streamed(whole[i], pipeline.stream, layout), pipeline.persons)
        x = resized(x, *pieces[n], pipeline.clip_len)
        want = turned(x, angles[n]) if angles.any() else x
        np.testing.assert_allclose(made[n, 0], want, rtol=0, atol=5e-6, err_msg=f"clip {i}")


@EVERY
@pytest.mark.parametrize("train", [False, True])
def test_in_space(stream, train):
    clips = kinect_v2()
    whole = [normalised(clips.clip(i)) for i in range(len(clips))]
    pipeline = SequencePipeline("nturgb+d", stream, clip_len=24, min_len=20, rotation=0.1, seed=11)
    samples = np.array([6, 0, 3, 1, 2, 5, 4, 1])
    check(pipeline, clips, whole, samples, np.array([0, 3, 1, 2, 9, 0, 5, 7]) if train else None)


@EVERY
@pytest.mark.parametrize("train", [False, True])
def test_in_the_picture_nothing_is_turned(stream, train):
    clips = pictures()
    whole = [picture(clips, i) for i in range(len(clips))]
    samples, passes = np.array([2, 0, 3, 1]), np.array([4, 0, 1, 1]) if train else None
    pipeline = SequencePipeline("coco", stream, clip_len=50, rotation=0.1, test_ratio=0.95, seed=3)
    check(pipeline, clips, whole, samples, passes)
    assert pipeline.fetch(pipeline.prepare(clips), samples, passes).draws is None


def test_poses_without_scores_keep_two_channels():
    clips = replace(pictures(), scores=None)
    pipeline = SequencePipeline("coco")
    x = pipeline.inputs(pipeline.fetch(pipeline.prepare(clips), np.arange(4)))
    assert x.shape == (4, 1, 2, 64, 17, 2)


def test_a_confidence_in_space_is_left_behind():
    clips = kinect_v2()
    scored = replace(clips, scores=np.ones(clips.joints.shape[:2], np.float32))
    ready = SequencePipeline("nturgb+d").prepare(scored)
    assert ready.scores is None
    assert np.array_equal(ready.joints, SequencePipeline("nturgb+d").prepare(clips).joints)


# -- bodies

ARM = Layout("arm", ("shoulder", "elbow", "hand"), ((1, 0), (2, 1)), centre=1)
TURNS = {"nturgb+d": ((0, 1), (8, 4), 1), "kinect_v1": ((0, 1), (8, 4), 1),
         "utd_mhad": ((3, 2), (8, 4), 2), "sbu": (None, (6, 3), 2), ARM: (None, None, 1)}


@pytest.mark.parametrize("layout", TURNS, ids=lambda x: find_layout(x).name)
def test_what_turns_a_body_goes_by_names_and_what_is_missing_does_not_turn(layout):
    spine, shoulder, centre = TURNS[layout]
    pipeline, count = SequencePipeline(layout), len(find_layout(layout).joints)
    assert pipeline.settings == {"spine": spine, "shoulder": shoulder, "centre": centre}
    clips = collect_clips(bodies([(1, 5), (2, 3)], count))
    for i in range(2):
        raw, ready = clips.clip(i), pipeline.prepare(clips).clip(i)
        assert np.isfinite(ready).all() and not ready[0, :, centre].any()
        still = raw - raw[:1, :, centre, None]
        np.testing.assert_allclose(*(np.linalg.norm(x, axis=-1) for x in (ready, still)), atol=1e-5)
        if shoulder:
            across = ready[0, 0, shoulder[0]] - ready[0, 0, shoulder[1]]
            assert np.abs(across[1:]).max() < 1e-6 < across[0]
        else:
            assert np.array_equal(ready, still)


def test_order_of_joints_changes_nothing():
    layout, order = find_layout("nturgb+d"), np.random.default_rng(2).permutation(25)
    place = np.argsort(order)
    other = Layout("shuffled", [layout.joints[j] for j in order],
                   [(int(place[a]), int(place[b])) for a, b in layout.inward], int(place[20]))
    clips = kinect_v2()
    want = SequencePipeline("nturgb+d").prepare(clips).joints[:, order]
    made = SequencePipeline(other).prepare(replace(clips, joints=clips.joints[:, order])).joints
    assert np.array_equal(made, want)


def test_a_third_person_comes_along():
    clips = collect_clips(bodies([(3, 40)], 25))
    two = replace(clips, joints=clips.joints[:80], num_persons=np.array([2]))
    pipeline = SequencePipeline("nturgb+d", persons=3)
    ready = pipeline.prepare(clips)
    assert np.array_equal(ready.clip(0)[:2], pipeline.prepare(two).clip(0))
    x = pipeline.inputs(pipeline.fetch(ready, np.array([0])))
    assert x.shape[2] == 3 and x[:, :, 2].abs().max() > 0


def test_who_was_aligned_is_not_turned_again():
    "Also when the first person stands before or after a gap, and for a body whose spine tilts."
    pipeline, clips = SequencePipeline("nturgb+d"), kinect_v2()
    once = pipeline.prepare(clips)
    spine = [once.clip(i)[0, 0, 1] - once.clip(i)[0, 0, 0] for i in range(len(clips))]
    assert max(np.abs(s[:2] / np.linalg.norm(s)).max() for s in spine) > 0.3
    twice = pipeline.prepare(once)
    same = [np.array_equal(twice.clip(i), once.clip(i)) for i in range(len(clips))]
    assert all(same)


@pytest.mark.parametrize("change", ["moved", "turned", "mirrored"])
def test_bodies_that_only_nearly_stand_ready_are_aligned(change):
    ready = SequencePipeline("nturgb+d").prepare(collect_clips(bodies([(1, 4)], 25)))
    joints = ready.joints.copy()
    if change == "moved":
        joints += np.float32(0.001)
    if change == "turned":
        joints = np.float32(turned(joints, np.array([0.01, 0, 0])))
    if change == "mirrored":
        joints[..., :2] *= -1
    again = SequencePipeline("nturgb+d").prepare(replace(ready, joints=joints))
    want = normalise_skelact(filled(joints.reshape(1, 4, 25, 3), 2))[0]
    np.testing.assert_allclose(again.clip(0)[0], want, atol=1e-5)     # arccos of a small angle
    assert not np.array_equal(again.joints, joints)


# -- persons who are not there

def two(*frames):
    "A clip (1, M, T, 25, 3) from numbers per person and frame; 0 is an absent one."
    rng = np.random.default_rng(0)
    body = torch.from_numpy(rng.normal(0, 1, (25, 3)))
    return torch.tensor(frames, dtype=torch.float64)[None, ..., None, None] * body


@pytest.mark.parametrize("clip", [two([0, 0, 0]), two([0, 0], [0, 0]), two([0]), two([0], [0])])
def test_nobody_stays_nobody(clip):
    count = torch.tensor([clip.shape[2]])
    assert align_frames(clip, count).abs().max() == 0
    clips = collect_clips([dict(name="a", label=0, joints=clip[0].numpy())])
    for stream in STREAMS:
        pipeline = SequencePipeline("nturgb+d", stream, rotation=0.1)
        for passes in (None, 0):
            x = pipeline.inputs(pipeline.fetch(pipeline.prepare(clips), np.array([0]), passes))
            assert x.abs().max() == 0


def test_without_the_first_person_the_second_is_filled_and_stays_where_it_is():
    clip = two([0, 0, 0, 0], [0, 3, 0, 4])
    made = align_frames(clip, torch.tensor([4]))
    assert torch.equal(made, two([0, 0, 0, 0], [3, 4, 3, 4]))


def test_in_a_gap_of_the_first_person_the_second_is_not_centred():
    clip = two([2, 0, 2], [5, 6, 7])
    made = align_frames(clip, torch.tensor([3]), spine=None, shoulder=None)
    assert made[0, 0, 1].abs().max() == 0
    assert torch.equal(made[0, 1, 1], clip[0, 1, 1])
    assert torch.equal(made[0, 1, 0], clip[0, 1, 0] - clip[0, 0, 0, 1])


def test_a_joint_that_was_not_measured_stays_zero():
    clip = two([1, 2], [3, 4])
    clip[0, 0, :, 7] = clip[0, 1, 1, 9] = 0
    made = align_frames(clip, torch.tensor([2]))
    assert made[0, 0, :, 7].abs().max() == made[0, 1, 1, 9].abs().max() == 0


def test_what_lies_behind_a_clip_never_gets_into_it():
    rows = torch.tensor([[0, 5, 0, 9, 9], [4, 5, 0, 9, 9], [0, 0, 0, 9, 9]]).reshape(3, 1, 5, 1, 1)
    made = fill_empty_frames(rows, torch.tensor([3, 3, 3]))[:, 0, :3, 0, 0]
    assert made.tolist() == [[5, 5, 5], [4, 5, 4], [0, 0, 0]]


# -- alone and in company, in every pass

@EVERY
@pytest.mark.parametrize("passes", [None, 3])
def test_a_batch_is_its_samples_bit_by_bit(stream, passes):
    pipeline, clips = SequencePipeline("nturgb+d", stream, rotation=0.1), kinect_v2()
    ready = pipeline.prepare(clips)
    together = pipeline.inputs(pipeline.fetch(ready, np.arange(7), passes))
    for i in range(7):
        part = pipeline.prepare(collect_clips([list(clips.samples())[i]]))
        assert np.array_equal(part.clip(0), ready.clip(i))
        alone = pipeline.inputs(pipeline.fetch(ready, np.array([i]), passes))
        assert torch.equal(alone[0], together[i]), f"clip {i}"


@EVERY
@pytest.mark.parametrize("passes", [None, 0])
def test_a_clip_of_one_frame_stands_still(stream, passes):
    pipeline, clips = SequencePipeline("nturgb+d", stream, rotation=0.1), kinect_v2()
    x = pipeline.inputs(pipeline.fetch(pipeline.prepare(clips), np.array([5]), passes))
    assert x.shape == (1, 1, 2, 64, 25, 3) and torch.isfinite(x).all()
    assert torch.equal(x, x[:, :, :, :1].expand_as(x))
    assert (x.abs().max() == 0) == stream.endswith("motion")


def test_draws_depend_on_seed_pass_and_sample_and_test_frames_on_none():
    clips = collect_clips(bodies([(1, 200)] * 2, 25))
    pipeline = SequencePipeline("nturgb+d", rotation=0.1, seed=1)
    ready = pipeline.prepare(clips)

    def batch(seed, number, sample):
        view = replace(pipeline, seed=seed)
        return view.fetch(ready, np.array([sample]), number and np.array([number]))
    one = batch(1, 5, 0)
    assert torch.equal(one.frames, batch(1, 5, 0).frames)
    for other in (batch(2, 5, 0), batch(1, 6, 0), batch(1, 5, 1)):
        assert not torch.equal(other.frames, one.frames)
        assert not torch.equal(other.draws, one.draws)
    assert torch.equal(batch(1, None, 0).frames, batch(2, None, 1).frames)
    assert batch(1, None, 0).draws is None


def test_a_pipeline_that_does_not_turn_draws_no_angles():
    pipeline, clips = SequencePipeline("nturgb+d"), kinect_v2()
    assert pipeline.fetch(pipeline.prepare(clips), np.arange(7), 0).draws is None


def test_the_turn_stays_within_its_limit_and_keeps_lengths():
    clips = collect_clips(bodies([(1, 64)] * 200, 25))
    still = SequencePipeline("nturgb+d")
    ready = still.prepare(clips)
    x, y = (p.inputs(p.fetch(ready, np.arange(200), 0)) for p in
            (still, replace(still, rotation=0.1)))
    torch.testing.assert_close(x.norm(dim=-1), y.norm(dim=-1), atol=2e-6, rtol=0)
    apart = torch.nn.functional.cosine_similarity(x[..., 5, :], y[..., 5, :], dim=-1)[:, 0, 0, 0]
    angle = apart.clamp(-1, 1).acos().rad2deg()
    assert 25 < angle.max() < 18 * 3**0.5 and angle.median() > 8


def test_the_weights_travel_with_the_batch():
    pipeline, clips = SequencePipeline("nturgb+d"), kinect_v2()
    batch = pipeline.fetch(pipeline.prepare(clips), np.arange(7)).to("meta")
    assert batch.weights.device.type == "meta" and pipeline.inputs(batch).device.type == "meta"


# -- pieces

def test_lengths_and_starts_are_drawn_as_often_as_by_the_reference():
    count, rng = 60_000, np.random.RandomState(0)
    ours = np.stack(random_crop(np.full(count, 9), np.random.default_rng(0).random((count, 2)),
                                min_ratio=0.4, max_ratio=0.9, min_len=5))
    theirs = np.stack(drawn_crop(np.full(count, 9), rng, min_ratio=0.4, max_ratio=0.9, min_len=5))
    tables = [np.histogram2d(*x, bins=(range(6), range(10)))[0] / count for x in (ours, theirs)]
    assert np.abs(tables[0] - tables[1]).max() < 0.006
    # lengths int(3.6) … int(8.1): 3, 4 and 5 become 5
    want = {5: 3 / 6, 6: 1 / 6, 7: 1 / 6, 8: 1 / 6}
    for length, share in want.items():
        starts = 9 - length + 1
        np.testing.assert_allclose(tables[0][:starts, length], share / starts, atol=0.006)


@pytest.mark.parametrize("ratios", [(0.8, 0.5), (-0.1, 1), (0.5, 1.1)])
def test_parts_that_are_none_are_refused(ratios):
    with pytest.raises(ValueError, match=f"min_ratio {ratios[0]}, max_ratio {ratios[1]}"):
        random_crop([100], np.zeros((1, 2)), *ratios)
    pipeline = SequencePipeline("nturgb+d", min_ratio=ratios[0], max_ratio=ratios[1])
    with pytest.raises(ValueError, match="expected parts of a clip between 0 and 1"):
        pipeline.fetch(pipeline.prepare(kinect_v2()), np.arange(2), 0)


@pytest.mark.parametrize("ratio", [0, -0.5, 1.5, 90])
def test_a_middle_that_is_no_part_is_refused(ratio):
    with pytest.raises(ValueError, match=f"ratio {ratio}: expected a part of a clip"):
        centre_crop([100], ratio)


def test_no_piece_is_empty_even_without_a_shortest_length():
    start, length = random_crop([1, 1, 3], np.zeros((3, 2)), min_ratio=0, min_len=0)
    assert (start.tolist(), length.tolist()) == ([0, 0, 0], [1, 1, 1])


def test_pieces_of_one_frame_become_many_equal_ones():
    frames, weight = neighbours([7], [1], 5)
    assert (frames == 7).all() and (weight < 1).all()
