"""Pictures of one clip: the data behind them, for every layout and for clips that lack things."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
from PIL import Image
from waving import scene_of, store_of, waving

from skelbook.data.store import Store, collect_clips
from skelbook.data.synthetic import make_clip_2d
from skelbook.graph import LAYOUTS, find_layout
from skelbook.report.films import (
    MOST,
    SIDE,
    animate_scene,
    busiest,
    draw_films,
    draw_plate,
    draw_pose,
    draw_slices,
    draw_trails,
    into_square,
    look_at,
    reach,
)
from skelbook.transforms.volumes import HeatmapPipeline
from skelbook.viz import use_book_style

pytestmark = pytest.mark.filterwarnings("error")


@pytest.fixture(autouse=True)
def style():
    use_book_style()


def every_picture(scene):
    "Draws all figures of a scene to the last pixel."
    for fig in (draw_plate(scene), draw_films(scene), draw_trails(scene),
                draw_trails(scene, "limb"), draw_slices(scene, busiest(scene))):
        fig.canvas.draw()
        plt.close(fig)


# -- the scene

@pytest.mark.parametrize("persons", [1, 2])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_is_upright_and_inside(layout, persons):
    scene = scene_of(layout, persons)
    V = len(find_layout(layout).joints)
    assert scene.joints.shape == (persons, 12, V, 3)
    place = scene.joints[..., :2]
    assert 0 < place.min() and place.max() < SIDE - 1
    expected = waving(layout, persons)
    down = expected[..., 1] if find_layout(layout).dims == 2 else -expected[..., 1]
    np.testing.assert_array_equal(np.argsort(place[0, 0, :, 1], kind="stable"),
                                  np.argsort(down[0, 0].astype(np.float32), kind="stable"))
    assert all(part.shape[1:] == (12, SIDE, SIDE) and np.isfinite(part).all()
               for part in scene.volumes.values())


def test_the_square_is_the_one_of_posec3d():
    joints, scores = make_clip_2d("S001C002P001R001A007")
    sample = dict(name="a", label=0, joints=joints, scores=scores, image_size=(1080, 1920))
    clips = collect_clips([sample])
    pipeline = HeatmapPipeline("coco", clip_len=joints.shape[1], clips=1)
    expected = pipeline.view(pipeline.fetch(clips, np.array([0])))[0, 0]
    scene = look_at(store_of("coco", joints, scores), 0)
    there = scores > 0
    difference = scene.joints[:, :, :, :2][there] - expected[:1].numpy()[..., :2][there]
    assert np.abs(difference).max() < 0.6, "pixels; the box of PoseC3D has whole pixels"


def test_what_is_missing_is_not_drawn_and_spoils_nothing():
    joints = waving("coco")
    scores = np.full(joints.shape[:3], 0.5)
    scores[0, 3, 4], scores[0, 5, 6] = 0, np.nan
    joints[0, 2, 9], joints[0, 4, 10], joints[0, :, 0] = np.nan, 0, [np.inf, 3]
    scene = look_at(store_of("coco", joints, scores), 0)
    for t, v in ((3, 4), (5, 6), (2, 9), (4, 10), (7, 0)):
        assert np.isnan(scene.joints[0, t, v, :2]).all()
        assert scene.volumes["joint"][v, t].max() == 0
    assert np.nanmax(scene.joints[..., :2]) < SIDE - 1
    assert scene.volumes["joint"].max() <= 0.5 and np.isfinite(scene.volumes["limb"]).all()
    assert np.isfinite(reach(scene)).all()
    every_picture(scene)


@pytest.mark.parametrize("lost", [0, np.nan])
def test_an_empty_clip_is_refused_by_name(lost):
    with pytest.raises(ValueError, match="clip a clip: .*every joint of the clip is missing"):
        look_at(store_of("coco", np.full((2, 4, 17, 2), lost)), 0)
    with pytest.raises(ValueError, match="every joint of the clip is missing"):
        look_at(store_of("coco", waving("coco"), np.zeros((1, 12, 17))), 0)


def test_a_clip_without_frames_is_refused_by_name():
    two = collect_clips([dict(name=name, label=0, joints=np.ones((1, frames, 17, 2), np.float32))
                         for name, frames in (("none", 0), ("some", 3))])
    meta = {"name": "made up", "layout": "coco", "classes": ["wave"]}
    with pytest.raises(ValueError, match="clip none: .*every joint of the clip is missing"):
        look_at(Store(None, two, {}, meta), 0)


def test_of_a_long_clip_evenly_spread_frames_are_drawn():
    scene = scene_of("coco", frames=401)
    assert len(scene.frames) == MOST and scene.length == 401
    assert scene.frames[[0, -1]].tolist() == [0, 400]
    assert set(np.diff(scene.frames)) == {4, 5}
    short = scene_of("coco", frames=7)
    assert short.frames.tolist() == list(range(7))


def test_a_square_of_one_point_is_its_middle():
    assert (into_square(np.array([[5., 5.], [np.nan, 1.]]))[0] == (SIDE - 1) / 2).all()


# -- who moves

def test_the_joint_that_moves_is_found_in_a_body_that_walks():
    joints = waving("coco")
    joints[..., 0] += 40 * np.arange(12)[:, None]
    scene = look_at(store_of("coco", joints), 0)
    assert scene.layout.joints[busiest(scene)[1]] == "right ankle"       # the last joint


def test_a_guess_counts_as_little_as_its_score():
    joints, scores = waving("coco"), np.ones((1, 12, 17))
    joints[0, ::2, 10] += 300
    sure = look_at(store_of("coco", joints, scores), 0)
    scores[0, :, 10] = 0.01
    unsure = look_at(store_of("coco", joints, scores), 0)
    assert busiest(sure)[1] == 10 and busiest(unsure)[1] == 16


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_has_someone_who_moves(layout):
    for frames in (1, 12):
        found = busiest(scene_of(layout, frames=frames))
        assert 1 <= len(set(found)) == len(found) <= 2


def test_reach_is_a_distance_from_the_mean_place_in_the_body():
    joints = np.zeros((1, 2, 17, 2)) + 100
    joints[0, :, 3], joints[0, 1, 5] = 300, 134
    scene = look_at(store_of("coco", joints), 0)
    scale = (scene.joints[0, 0, 3, 0] - scene.joints[0, 0, 0, 0]) / 200
    assert reach(scene)[0, 0, 5] == pytest.approx(np.hypot(16, 16) * scale, rel=1e-5)
    np.testing.assert_allclose(reach(scene)[0, :, 0], np.hypot(1, 1) * scale, rtol=1e-4)


# -- the pictures

@pytest.mark.parametrize("layout, persons, frames", [
    ("coco", 1, 1), ("penn_action", 1, 2), ("sbu", 2, 3), ("kinect_v1", 1, 5), ("handmp", 1, 4),
    ("nturgb+d", 2, 4)])
def test_every_picture_can_be_drawn_and_changes_nothing(layout, persons, frames):
    scene = scene_of(layout, persons, frames)
    before = scene.joints.copy()
    every_picture(scene)
    np.testing.assert_array_equal(scene.joints, before)


def test_a_person_who_is_never_there_changes_nothing():
    joints = waving("coco", persons=2)
    joints[1] = 0
    alone, scene = scene_of("coco"), look_at(store_of("coco", joints), 0)
    np.testing.assert_allclose(scene.joints[:1], alone.joints, atol=1e-3)
    np.testing.assert_allclose(scene.volumes["joint"], alone.volumes["joint"], atol=1e-3)
    assert busiest(scene) == busiest(alone)


def test_rows_of_a_film_show_the_same_moments():
    scene = scene_of("penn_action")
    axes = draw_films(scene).axes
    count = len(axes) // 3
    moments = scene.moments(count)
    assert [ax.get_title().removeprefix("frame ") for ax in axes[:count]] == [
        str(scene.frames[t]) for t in moments]
    for row, maps in zip((axes[count:2 * count], axes[2 * count:3 * count]),
                         scene.volumes.values(), strict=True):
        for ax, t in zip(row, moments, strict=True):
            np.testing.assert_array_equal(ax.images[0].get_array(), maps[:, t].max(0))
            assert ax.get_xlim() == axes[0].get_xlim() and ax.get_ylim() == axes[0].get_ylim()
            assert ax.images[0].get_clim() == (0, 1)


def test_trails_have_the_colour_of_their_moment():
    scene = scene_of("coco")
    fig = draw_trails(scene)
    film, picture = scene.volumes["joint"][16], fig.axes[16].images[0].get_array()
    np.testing.assert_allclose(picture[..., 3], np.sqrt(film.max(0)), atol=1e-6)
    first = np.unravel_index(film[0].argmax(), film[0].shape)
    assert film[:, *first].argmax() == 0
    late = np.unravel_index(film[-1].argmax(), film[-1].shape)
    assert picture[*late][:3].sum() > picture[*first][:3].sum(), "later is lighter"


@pytest.mark.parametrize("stream", ["joint", "limb"])
@pytest.mark.parametrize("layout", ["coco", "kinect_v1", "penn_action", "sbu", "nturgb+d"])
def test_titles_of_panels_do_not_overlap(layout, stream):
    fig = draw_trails(scene_of(layout), stream)
    fig.canvas.draw()
    boxes = [ax.title.get_window_extent() for ax in fig.axes if ax.get_title()]
    assert len(boxes) == len(scene_of(layout).volumes[stream])
    pairs = [(a, b) for i, a in enumerate(boxes) for b in boxes[i + 1:] if a.overlaps(b)]
    assert not pairs


def test_slices_are_maxima_of_the_volume_along_one_axis_each():
    scene = scene_of("coco")
    axes = draw_slices(scene, [16]).axes
    film = scene.volumes["joint"][16]
    front, side, above = (ax.images[0] for ax in axes[:3])
    np.testing.assert_array_equal(front.get_array(), film.max(0))
    np.testing.assert_array_equal(side.get_array(), film.max(2).T)
    np.testing.assert_array_equal(above.get_array(), film.max(1))
    assert side.get_extent() == [-0.5, 11.5, SIDE - 0.5, -0.5]
    assert axes[0].get_title() == "right ankle" and axes[0].get_ylim() == axes[1].get_ylim()
    assert axes[0].get_xlim() == axes[2].get_xlim()


def test_the_plate_of_an_open_shutter_is_a_mean():
    scene = scene_of("coco", persons=2)
    images = [ax.images[0].get_array() for ax in draw_plate(scene).axes if ax.images]
    for image, maps in zip(images, scene.volumes.values(), strict=True):
        np.testing.assert_allclose(image, maps.max(0).mean(0))


def test_a_pose_is_drawn_where_it_should_be():
    scene, ax = scene_of("coco"), plt.subplots()[1]
    assert draw_pose(scene, 3, ax) is ax and ax.yaxis_inverted()
    dots = np.concatenate([line.get_xydata() for line in ax.lines if line.get_marker() == "o"])
    np.testing.assert_allclose(np.sort(dots, axis=0), np.sort(scene.joints[0, 3, :, :2], axis=0))


@pytest.mark.parametrize("frames, shown", [(1, 1), (5, 5), (120, 48)])
def test_a_moving_picture_has_all_frames_up_to_a_number(frames, shown, tmp_path):
    path = tmp_path / "moving.png"
    moving = animate_scene(scene_of("penn_action", frames=frames), path=path)
    with Image.open(path) as film:
        assert film.n_frames == shown and film.size[0] == 600 and film.mode == "P"
    assert path.read_bytes() == moving.data and not plt.get_fignums()
