"What a portrait of a data set must survive, and what it must choose."

import numpy as np
import pytest

from skelbook.data.checks import examine
from skelbook.data.store import Source
from skelbook.graph import Layout, find_layout
from skelbook.report.portrait import (
    Shelf,
    as_png,
    choose_frames,
    draw_card,
    draw_classes,
    draw_lengths,
    draw_missing,
    find_up,
    measure,
    portray,
)


def clip(number, frames=12, persons=1, dims=2, joints=17, **changes):
    "A clip of people who drift about."
    rng = np.random.default_rng(number)
    place = rng.uniform(100, 400, (persons, 1, joints, dims))
    place = place + np.cumsum(rng.normal(size=(persons, frames, 1, dims)), axis=1)
    return dict(name=f"c{number:03}", label=number % 2, joints=np.float32(place)) | changes


def source_of(clips, **changes):
    "A source of clips."
    names = [str(each["name"]) for each in clips]
    parts = dict(name="toy", layout="coco", classes=("wave", "hug"), dtype=np.float32,
                 splits={"train": names[:-3], "test": names[-3:]}, count=len(clips), origin={},
                 samples=lambda: iter(clips))
    return Source(**parts | changes)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.int32])
@pytest.mark.parametrize("persons, frames, dims", [(1, 1, 2), (2, 1, 3), (3, 2, 2), (1, 60, 3)])
def test_measures_of_any_shape_and_type(dtype, persons, frames, dims):
    joints = clip(1, frames, persons, dims)["joints"].astype(dtype)
    found = measure(joints)
    assert found.bodies.sum() == 50 * persons and not found.causes.any()
    assert 0 <= found.jump <= 1 and 0 <= found.worst < frames
    np.testing.assert_allclose(found.low, joints.min((0, 1, 2)), rtol=1e-6)


def test_jumps_do_not_depend_on_unit_or_place():
    joints = clip(2, dims=3)["joints"]
    assert measure(joints).jump == pytest.approx(measure(joints / 1000 + 5).jump, rel=1e-3)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 0, 1e300])
def test_whole_clips_of_one_bad_value_are_measured(value):
    found = measure(np.full((2, 5, 17, 2), value))
    assert found.jump == 0
    assert found.causes.sum(0).mean() == (value != 0)


def test_joints_with_score_0_have_no_place():
    joints, scores = np.full((1, 4, 2, 2), 5.), np.ones((1, 4, 2))
    joints[0, :, 1], scores[0, :, 1] = 900, 0
    found = measure(joints, scores)
    assert found.high.tolist() == [5, 5] and found.causes.tolist() == [[0, 0], [0, 0], [0, 1]]


@pytest.mark.parametrize("T", range(1, 12))
def test_frames_exist_and_hold_the_focus(T):
    for focus in range(T):
        for near in (False, True):
            frames = choose_frames(T, focus, near)
            assert focus in frames and sorted(set(frames)) == frames and len(frames) <= 5
            assert 0 <= frames[0] and frames[-1] < T
            assert not near or focus + 1 in frames or focus == T - 1


def test_a_shelf_keeps_the_first_of_equals_and_makes_no_card_in_vain():
    shelf, made = Shelf("", ""), []
    for k in range(1000):
        shelf.offer(0, lambda k=k: made.append(k) or k)
    assert made == [card for _, card in shelf.cards] == [0, 1, 2]


def test_the_lot_does_not_depend_on_the_order():
    clips = [clip(number) for number in range(40)]
    seen = [portray(source_of(part)) for part in (clips, clips[::-1])]
    good = [sorted(card.name for _, card in each.shelves["good"].cards) for each in seen]
    assert good[0] == good[1] and len(good[0]) == 3


def test_clips_with_findings_are_no_examples():
    clips = [clip(number, label=9 if number else 0) for number in range(9)]
    seen = portray(source_of(clips), examine(source_of(clips)))
    assert [card.name for _, card in seen.shelves["good"].cards] == ["c000"]
    assert seen.shelves["finding0"].cards[0][1].reason == "label 9"


def test_what_was_seen_before_an_error_counts():
    def samples():
        yield from (clip(number) for number in range(5))
        raise ValueError("toy.pkl: it is cut short")

    seen = portray(source_of([clip(0)] * 9, samples=samples))
    assert seen.count == 5 and seen.stopped == "toy.pkl: it is cut short"


def test_an_error_that_nobody_foresaw_is_not_hidden():
    with pytest.raises(KeyError):
        portray(source_of([{"name": "a", "label": 0}]))


def test_progress_is_told():
    told = []
    portray(source_of([clip(number) for number in range(5)]), progress=lambda *x: told.append(x))
    assert told == [(k, 5) for k in range(1, 6)]


def test_memory_holds_frames_and_not_clips():
    clips = (clip(number, frames=3000) for number in range(20))
    seen = portray(source_of([clip(0)] * 20, samples=lambda: clips))
    cards = [card for shelf in seen.shelves.values() for _, card in shelf.cards]
    assert cards and all(card.film.base is None and card.film.shape[1] == 5 for card in cards)


def test_joints_that_do_not_fit_are_dots():
    seen = portray(source_of([clip(1, joints=25)]))
    card = seen.shelves["short"].cards[0][1]
    figure = draw_card(card, find_layout("coco"), "-y")
    lines = [line for line in figure.axes[0].lines if line.get_marker() != "o"]
    assert seen.measured == 0 and all(len(line.get_xdata()) == 0 for line in lines)


@pytest.mark.parametrize("value", [0, np.nan, np.inf, 1e300])
def test_nothing_is_drawn_of_nothing(value):
    seen = portray(source_of([clip(1) | {"joints": np.full((1, 9, 17, 2), value)}]))
    assert draw_card(seen.shelves["short"].cards[0][1], find_layout("coco"), "y") is None


def test_up_is_where_heads_are():
    layout = find_layout("nturgb+d")
    height = np.array([1 + (("head" in j) - ("foot" in j)) for j in layout.joints], float)
    film = np.full((1, 3, 25, 3), 5.)
    for axis, sign, up in ((1, 1, "y"), (1, -1, "-y"), (2, 1, "z")):
        body = film.copy()
        body[..., axis] += sign * height
        assert find_up([body, body], layout) == up


def test_figures_take_what_there_is():
    names = ["$x^2", "\\frac{", "a_b", "頭", "<b>", "joint" * 30]
    share, causes = np.zeros((6, 50)), np.ones((3, 6))
    many = draw_missing(np.ones((140, 50)), np.ones((3, 140)), [str(k) for k in range(140)])
    for figure in (draw_missing(share, causes, names), many, draw_lengths({0: 1}, {0: 1}),
                   draw_lengths({1: 9, 3000: 1}, {1: 5, 40: 5}),
                   draw_classes({"": np.zeros(0, int)}), draw_classes({"a": np.arange(400)})):
        assert as_png(figure)[1:4] == b"PNG"


def test_a_layout_of_ones_own():
    layout = Layout("snake", [f"ring {k}" for k in range(6)], [(k + 1, k) for k in range(5)], 0)
    seen = portray(source_of([clip(k, dims=3, joints=6) for k in range(4)], layout=layout))
    card = seen.shelves["good"].cards[0][1]
    assert seen.measured == 4 and as_png(draw_card(card, layout, find_up([card.film], layout)))


@pytest.mark.parametrize("changes", [
    dict(joints=np.array([["a"]])), dict(joints=np.ones((9, 17, 2))), dict(joints=np.array(None)),
    dict(joints=np.ones((1, 0, 17, 2))), dict(joints=np.ones((0, 9, 17, 2))), dict(label=[1]),
    dict(joints=np.ones((1, 9, 17, 1))), dict(joints=np.ones((70, 9, 17, 2))), dict(label=None),
    dict(scores="none"), dict(scores=np.full((1, 12, 17), "a")), dict(image_size=("a", None)),
    dict(image_size=np.nan), dict(label=np.int64(1), image_size=np.array([1., 2]))], ids=repr)
def test_nothing_in_a_sample_stops_the_pass(changes):
    source = source_of([clip(1), clip(2) | changes, clip(3)])
    seen = portray(source)
    assert seen.count == 3 and seen.measured >= 2
    for shelf in seen.shelves.values():
        for _, card in shelf.cards:
            draw_card(card, find_layout("coco"), "-y")
