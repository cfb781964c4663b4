"""The data behind the figures: where lines run, what is left out, and what an animation holds."""

import io

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.colors import to_rgb
from PIL import Image

from skelbook.viz import (
    DASHES,
    PARTS,
    STREAMS,
    animate_skeleton,
    draw_curves,
    draw_film,
    draw_matrix,
    draw_skeleton,
    edge_part,
    project,
    use_book_style,
)

POSE = np.array([[1., 1], [1, 3], [0, 2], [2, 2]])   # pelvis, head, left hand, right hand
EDGES = [(1, 0), (2, 1), (3, 1)]
SIDES = ["torso", "torso", "left", "right"]


def lines(ax, part):
    "Ends of the edges drawn for one part, (E, 2, 2)."
    found = [line for line in ax.lines if line.get_label() == part]
    ends = np.concatenate([line.get_xydata().reshape(-1, 3, 2)[:, :2] for line in found])
    return ends[np.isfinite(ends).all((1, 2))]


def dots(ax):
    "Positions of all dots, (n, 2), sorted."
    points = np.concatenate([line.get_xydata() for line in ax.lines if line.get_marker() == "o"])
    return np.array(sorted(points[np.isfinite(points).all(-1)].tolist()))


def grown(clip):
    "Two frames more: the last one again, moved."
    return np.concatenate([clip, clip[-1:] + 0.5, clip[-1:] + 1])


# project

def test_image_coordinates_are_unchanged_on_paper():
    np.testing.assert_array_equal(project(POSE, up="-y"), POSE)


def test_the_callers_array_is_not_changed():
    joints = np.zeros((2, 3))
    project(joints)
    assert not np.isnan(joints).any()


def test_integers_may_be_missing():
    assert np.isnan(project(np.zeros((3, 2), dtype=int))).all()


def test_infinite_joints_are_missing():
    assert np.isnan(project([[np.inf, 1.]])).all()


def test_aligned_skeleton_looks_as_before_alignment():
    camera = np.random.default_rng(0).normal(size=(5, 3))
    aligned = camera[:, [0, 2, 1]] * [1, -1, 1]                 # y up to z up, a proper rotation
    seen = [project(camera, "y", 30, 20), project(aligned, "z", 30, 20)]
    np.testing.assert_allclose(*seen)


def test_looking_down_puts_what_is_far_higher():
    near, far = project([[1., 1, 1], [1, 1, 2]], elevation=30)
    assert far[1] > near[1]


def test_orthographic_views_keep_lengths_of_a_half_turn():
    joints = np.random.default_rng(1).normal(size=(4, 3))
    np.testing.assert_allclose(project(joints, azimuth=180), joints[:, :2] * [-1, 1])


@pytest.mark.parametrize("channels", [1, 4])
def test_other_than_two_or_three_channels_are_refused(channels):
    with pytest.raises(ValueError, match="2 or 3 coordinates"):
        project(np.ones((5, channels)))


# draw_skeleton

def test_every_edge_is_drawn_once_at_its_joints():
    ax = draw_skeleton(POSE, EDGES, SIDES)
    for part, edge in {"torso": (1, 0), "left": (2, 1), "right": (3, 1)}.items():
        np.testing.assert_array_equal(lines(ax, part), [POSE[list(edge)]])
    np.testing.assert_array_equal(dots(ax), sorted(POSE.tolist()))


def test_parts_have_their_colour_and_their_own_line():
    ax = draw_skeleton(POSE, EDGES, SIDES)
    drawn = {line.get_label(): line for line in ax.lines if line.get_label() in PARTS}
    assert {part: to_rgb(line.get_color()) for part, line in drawn.items()} == PARTS
    looks = {(str(line._dash_pattern), line.get_linewidth()) for line in drawn.values()}
    assert len(looks) == 3


@pytest.mark.parametrize("lost", [0, np.nan])
def test_a_missing_joint_takes_its_edges_with_it(lost):
    pose = POSE.copy()
    pose[1] = lost                                              # the head, where all edges meet
    ax = draw_skeleton(pose, EDGES, SIDES)
    assert all(len(lines(ax, part)) == 0 for part in PARTS)
    assert len(dots(ax)) == 3


def test_zero_is_a_place_after_centring():
    ax = draw_skeleton(POSE - POSE[0], EDGES, SIDES, zero_is_missing=False)
    assert len(dots(ax)) == 4
    assert len(lines(ax, "torso")) == 1


def test_weight_scales_lines_and_dots():
    thin, thick = (draw_skeleton(POSE, EDGES, weight=weight).lines for weight in (1, 2))
    assert [2 * line.get_linewidth() for line in thin[:1]] == [thick[0].get_linewidth()]
    assert 2 * thin[1].get_markersize() == thick[1].get_markersize()


def test_without_sides_everything_is_torso():
    ax = draw_skeleton(POSE, EDGES)
    assert len(ax.lines) == 2
    assert len(lines(ax, "torso")) == 3


def test_an_unused_part_has_no_entry_in_the_legend():
    assert draw_skeleton(POSE, EDGES).get_legend_handles_labels()[1] == ["torso"]


def test_several_persons_and_later_ones_paler():
    ax = draw_skeleton(np.stack([POSE, POSE + 4]), EDGES, SIDES)
    assert len(dots(ax)) == 8
    assert {line.get_alpha() for line in ax.lines} == {1, 0.45}


def test_an_absent_second_person_is_not_drawn():
    ax = draw_skeleton(np.stack([POSE, 0 * POSE]), EDGES, SIDES)
    assert len(dots(ax)) == 4


def test_pixel_rows_count_downwards():
    ax = draw_skeleton(POSE, EDGES, up="-y")
    assert ax.yaxis_inverted()
    draw_skeleton(POSE + 1, EDGES, up="-y", ax=ax)              # must not turn it back
    assert ax.yaxis_inverted()
    assert not draw_skeleton(POSE, EDGES).yaxis_inverted()


def test_labels_stand_at_joints_that_are_there():
    pose = POSE.copy()
    pose[2] = np.nan
    ax = draw_skeleton(pose, EDGES, labels=range(4))
    assert {text.get_text(): text.xy for text in ax.texts}.keys() == {"0", "1", "3"}
    np.testing.assert_array_equal(ax.texts[2].xy, POSE[3])


def test_a_skeleton_without_edges_is_dots():
    ax = draw_skeleton(POSE, [], SIDES)
    assert len(dots(ax)) == 4


def test_wrong_sides_are_named():
    with pytest.raises(ValueError, match="3 sides for 4 joints"):
        draw_skeleton(POSE, EDGES, SIDES[:3])
    with pytest.raises(ValueError, match="did you mean 'left'"):
        draw_skeleton(POSE, EDGES, ["torso", "torso", "Left", "right"])


def test_edges_between_the_sides_belong_to_the_torso():
    assert edge_part((2, 3), SIDES) == "torso"
    assert edge_part((0, 1), SIDES) == "torso"
    assert edge_part((1, 2), SIDES) == edge_part((2, 1), SIDES) == "left"


def test_equal_scale_in_both_directions():
    assert draw_skeleton(POSE, EDGES).get_aspect() == 1


# draw_film

def test_film_shows_frames_side_by_side_at_one_scale():
    clip = grown(POSE[None])                                    # T=3
    ax = draw_film(clip, EDGES, SIDES, frames=3)
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["0", "1", "2"]
    bodies = lines(ax, "torso")
    lengths = np.linalg.norm(bodies[:, 0] - bodies[:, 1], axis=-1)
    np.testing.assert_allclose(lengths, 2)
    assert (np.diff(bodies[:, 0, 0]) > 2).all()
    np.testing.assert_allclose(np.diff(bodies[:, 0, 1]), 0.5)   # the rise of 0.5 is seen


def test_film_of_named_frames():
    ax = draw_film(np.repeat(POSE[None], 20, 0), EDGES, frames=[3, 11])
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["3", "11"]


def test_film_of_a_short_clip_repeats_no_frame():
    ax = draw_film(POSE[None], EDGES, frames=6)
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["0"]


def test_film_of_two_persons_and_of_pixels():
    clip = np.stack([np.repeat(POSE[None], 4, 0), np.repeat(POSE[None] + 3, 4, 0)])   # M=2, T=4
    ax = draw_film(clip, EDGES, SIDES, frames=4, up="-y")
    assert len(dots(ax)) == 2 * 4 * 4
    assert ax.yaxis_inverted()


def test_film_of_nothing_is_refused():
    with pytest.raises(ValueError, match="every joint"):
        draw_film(np.zeros((5, 4, 2)), EDGES)


# animate_skeleton

def moving(num_frames, num_joints=25):
    "A clip whose joints all move, (T, V, 2), and a chain of edges."
    t, joint = np.arange(num_frames)[:, None], np.arange(num_joints)
    clip = np.stack([np.sin(joint + t / 9), joint + np.cos(t / 5 + joint)], axis=-1)
    sides = [list(PARTS)[joint % 3] for joint in range(num_joints)]
    return clip, [(joint, joint - 1) for joint in range(1, num_joints)], sides


def test_animation_has_every_frame_at_its_speed_and_repeats_for_ever():
    film = Image.open(io.BytesIO(animate_skeleton(*moving(12), fps=20).data))
    assert film.format == "PNG"
    assert film.n_frames == 12
    assert film.info["loop"] == 0
    film.seek(5)
    assert film.info["duration"] == 50
    assert max(film.size) == 216


def test_a_hundred_frames_of_25_moving_joints_stay_small():
    assert len(animate_skeleton(*moving(100)).data) < 100_000


@pytest.mark.parametrize("suffix", ["gif", "png"])
def test_animation_is_also_written_to_a_file(tmp_path, suffix):
    path = tmp_path / f"film.{suffix}"
    animate_skeleton(*moving(7), path=path)
    film = Image.open(path)
    assert film.format == suffix.upper()
    assert film.n_frames == 7


def test_animation_shows_the_colours_of_the_parts():
    film = Image.open(io.BytesIO(animate_skeleton(*moving(2)).data)).convert("RGB")
    found = set(film.get_flattened_data())
    assert (255, 255, 255) in found
    for colour in PARTS.values():
        assert tuple(round(255 * c) for c in colour) in found


def ink(picture):
    "Mean height of the coloured pixels, counted from the top, of the first frame."
    pixels = np.asarray(Image.open(io.BytesIO(picture.data)).convert("RGB")).astype(int)
    return np.nonzero(np.ptp(pixels, axis=-1) > 40)[0].mean()


def test_animation_of_pixels_is_upright():
    clip = np.array([[[0., 0], [1, 0], [.5, 10]]]) + 1   # two at small y, one at large
    edges = [(0, 1)]
    assert ink(animate_skeleton(clip, edges, up="-y")) < ink(animate_skeleton(clip, edges))


def test_animation_leaves_no_figure_open():
    animate_skeleton(*moving(2))
    assert not plt.get_fignums()


# draw_matrix, draw_curves, style

def test_amounts_take_cividis_and_signed_ones_white_at_zero():
    plain = draw_matrix([[0, 1, 5]]).collections[0]
    assert plain.get_cmap().name == "cividis"
    assert plain.get_clim() == (0, 5)
    signed = draw_matrix([[-1, 0, 5]], signed=True).collections[0]
    assert signed.get_clim() == (-5, 5)
    assert min(signed.get_cmap()(0.5)) > 0.95


def test_panels_can_share_their_limits():
    assert draw_matrix([[1, 2]], limits=(0, 10)).collections[0].get_clim() == (0, 10)
    assert draw_matrix([[1, 2]], signed=True, limits=(-9, 9)).collections[0].get_clim() == (-9, 9)


def test_names_and_label_of_a_matrix():
    ax = draw_matrix(np.eye(2, 3), rows=["a", "b"], columns="xyz", label="weight")
    assert [text.get_text() for text in ax.get_yticklabels()] == ["a", "b"]
    assert [text.get_text() for text in ax.get_xticklabels()] == ["x", "y", "z"]
    assert ax.collections[0].colorbar.ax.get_ylabel() == "weight"


def test_a_colour_bar_without_a_label_is_not_drawn():
    assert draw_matrix(np.eye(2)).collections[0].colorbar is None


def test_matrix_goes_where_it_is_told_to():
    _, axes = plt.subplots(1, 2)
    assert draw_matrix(np.eye(2), axes[1]) is axes[1]
    assert not axes[0].collections


def test_streams_keep_their_colour_in_any_order():
    ax = draw_curves([1, 2], {"bone": [1, 2], "joint": [2, 3]}, "loss")
    assert [line.get_color() for line in ax.lines] == [STREAMS["bone"], STREAMS["joint"]]
    assert [line.get_linestyle() for line in ax.lines] == list(DASHES[:2])


def test_curves_of_any_name_differ_in_colour_and_dash():
    ax = draw_curves([1], {name: [1] for name in "abcd"}, "loss")
    assert len({(line.get_color(), line.get_linestyle()) for line in ax.lines}) == 4
    assert len({line.get_linestyle() for line in ax.lines}) == 4
    taken = {to_rgb(c) for c in (*PARTS.values(), *STREAMS.values())}
    assert not taken & {to_rgb(line.get_color()) for line in ax.lines}


def test_values_that_are_missing_are_skipped_and_dotted():
    ax = draw_curves([1, 2, 3], {"test": [5, None, 7], "never": [None] * 3}, "accuracy (%)")
    assert ax.lines[0].get_xydata().tolist() == [[1, 5], [3, 7]]
    assert ax.lines[0].get_marker() == "o"
    assert len(ax.lines[1].get_xydata()) == 0
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("epoch", "accuracy (%)")


def test_style_is_the_books():
    with plt.rc_context():
        use_book_style()
        assert plt.rcParams["figure.figsize"] == [6, 4]
        assert plt.rcParams["figure.dpi"] == 100
        assert plt.rcParams["font.sans-serif"][0] == "DejaVu Sans" or (
            plt.rcParams["font.family"] == ["DejaVu Sans"])


def test_colours_differ_in_hue_or_in_grey():
    grey = {name: np.dot(to_rgb(c), [.299, .587, .114]) for name, c in STREAMS.items()}
    for stream in ("joint", "bone"):                            # motion is the pale one of the pair
        assert grey[f"{stream}-motion"] - grey[stream] > 0.25
