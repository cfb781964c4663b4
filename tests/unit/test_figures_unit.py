"""The data behind the figures of a run."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
from PIL import Image

from skelbook.graph import adjacency, find_layout
from skelbook.report.figures import (
    draw_accuracies,
    draw_confusion,
    draw_learned_graph,
    draw_log,
    save_figure,
)
from skelbook.viz import use_book_style


@pytest.fixture(autouse=True)
def style():
    use_book_style()


def cells(ax):
    "The numbers of a matrix on an axis."
    return np.ma.getdata(ax.collections[0].get_array())


# -- the curve

def log(test):
    "Rows of a log with the given test accuracies."
    return [dict(epoch=e, lr=0.1, loss=1 / e, train_top1=10 * e, test_top1=t, seconds=1)
            for e, t in enumerate(test, start=1)]


@pytest.mark.parametrize("test", [[50], [50, 60, 70], [None, 60, None, 80], [None, None, 9.5]])
def test_test_accuracy_is_drawn_where_it_was_measured(test):
    _, right = draw_log(log(test)).axes
    lines = {line.get_label(): line for line in right.lines}
    there = [(e, t) for e, t in enumerate(test, start=1) if t is not None]
    assert [*zip(*lines["test"].get_data(), strict=True)] == there
    np.testing.assert_array_equal(lines["training"].get_xdata(), np.arange(1, len(test) + 1))


# -- confusion

def test_rows_of_the_confusion_sum_to_a_hundred_or_to_nothing():
    labels = np.array([0, 0, 0, 0, 2])
    scores = np.eye(3)[[0, 0, 0, 1, 1]]
    ax = draw_confusion(dict(labels=labels, scores=scores, classes=np.array(["a", "b", "c"])))
    np.testing.assert_allclose(cells(ax), [[75, 25, 0], [0, 0, 0], [0, 100, 0]])
    assert [t.get_text() for t in ax.get_yticklabels()] == ["a", "b", "c"]
    assert ax.collections[0].get_clim() == (0, 100)


def test_a_confusion_is_drawn_where_it_should_be():
    given = plt.subplots()[1]
    scores = dict(labels=np.arange(2), scores=np.eye(2), classes=np.array(["a", "b"]))
    assert draw_confusion(scores, given) is given


# -- the learned graph

def texts_overlap(labels):
    "Pairs of neighbouring labels whose boxes overlap by more than a tenth of their height."
    boxes = [label.get_window_extent() for label in labels]
    height = min(box.height for box in boxes)
    return [(a, b) for a, b in zip(boxes, boxes[1:], strict=False)
            if min(a.y1, b.y1) - max(a.y0, b.y0) > 0.1 * height]


@pytest.mark.parametrize("layout", ["nturgb+d", "handmp"])
def test_joint_names_are_there_and_do_not_overlap(layout):
    graph = adjacency(layout, "spatial")
    graph[0, 0, -1] += 0.5
    fig = draw_learned_graph(graph, adjacency(layout, "spatial"), layout)
    fig.canvas.draw()
    for ax in (fig.axes[0], fig.axes[2]):
        labels = ax.get_yticklabels()
        assert [t.get_text() for t in labels] == list(find_layout(layout).joints)
        assert not texts_overlap(labels)


def test_panels_show_body_learned_and_difference_on_one_scale():
    body = adjacency("coco", "spatial")
    graph = body.copy()
    graph[1, 9, 10] = -1.5
    fig = draw_learned_graph(graph, adjacency("coco", "spatial"), "coco")
    first, second, third, last = fig.axes[:4]
    np.testing.assert_allclose(cells(first), body.sum(0))
    np.testing.assert_allclose(cells(second), graph.sum(0))
    np.testing.assert_allclose(cells(third), graph.sum(0) - body.sum(0))
    assert first.collections[0].get_clim() == second.collections[0].get_clim() == (-1.5, 1.5)
    assert last.get_title().startswith("the 1 strongest")


def test_an_untrained_graph_can_be_drawn():
    fig = draw_learned_graph(adjacency("coco", "spatial"), adjacency("coco", "spatial"), "coco")
    assert fig.axes[3].get_title().startswith("the 0 strongest")


# -- saving

def test_a_figure_is_saved_small_and_closed(tmp_path):
    fig = draw_log(log([50, 60]))
    path = save_figure(fig, tmp_path / "deep/er/log.png")
    with Image.open(path) as picture:
        assert picture.mode == "P" and picture.size[0] > 900
    assert path.stat().st_size < 40_000 and not plt.get_fignums()
    assert [p.name for p in path.parent.iterdir()] == ["log.png"]


def test_an_axis_is_saved_with_its_figure(tmp_path):
    assert save_figure(plt.subplots()[1], str(tmp_path / "a.png")) == tmp_path / "a.png"


# -- several results

def test_accuracies_stand_in_the_order_of_the_rows_with_their_intervals():
    ax = draw_accuracies([dict(run=name, top1=80 + k, low=70 + k, high=90 + k)
                          for k, name in enumerate(["joint", "bone", "sum"])])
    assert [label.get_text() for label in ax.get_yticklabels()] == ["joint", "bone", "sum"]
    ends = [line.get_xdata() for line in ax.lines[::2]]
    np.testing.assert_array_equal(ends, [[70, 90], [71, 91], [72, 92]])
    assert ax.get_ylim()[0] > ax.get_ylim()[1]                          # the first on top
    assert draw_accuracies([dict(run="one", top1=1, low=0, high=2)], plt.gca()) is plt.gca()
