"""What hangs in the gallery: shares, bars, captions and pages."""

import io
import re
from dataclasses import replace
from string import Formatter
from types import SimpleNamespace

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from IPython.display import Image
from PIL import Image as Picture
from waving import scene_of, store_of, waving

import skelbook.report.gallery as gallery
from skelbook.core import project_root
from skelbook.data.store import Store, collect_clips
from skelbook.evaluate.fusion import class_table
from skelbook.evaluate.viewing import GALLERY, GalleryPlan
from skelbook.learner.metrics import wilson_interval
from skelbook.learner.recipes import DEMO
from skelbook.models.agcn import AGCN
from skelbook.models.hcn_baseline import HCNBaseline
from skelbook.models.posec3d import PoseC3D
from skelbook.report.films import draw_films, look_at
from skelbook.report.gallery import (
    CAPTIONS,
    Page,
    answer_facts,
    ask_network,
    draw_classes,
    draw_over_time,
    facts,
    save_picture,
    score_facts,
    speeds,
    use_style,
)
from skelbook.transforms.pipelines import WholeClipPipeline
from skelbook.transforms.volumes import HeatmapPipeline

pytestmark = pytest.mark.filterwarnings("error")


@pytest.fixture(autouse=True)
def style():
    use_style("screen")


def plan_of(folder, recipe=None, **given):
    "A `GalleryPlan` that was not checked."
    entry = SimpleNamespace(test="val")
    return GalleryPlan(GALLERY | given, "made-up", entry, folder, folder if recipe else None,
                       recipe)


def scores_of(labels, guess, classes=("sit_down", "stand up", "wave")):
    "Scores of a run that gives these answers."
    return dict(labels=np.array(labels), scores=np.eye(len(classes))[guess],
                classes=np.array(classes), names=np.arange(len(labels)).astype(str))


# -- speed

def test_speed_is_the_way_since_the_last_frame_by_hand():
    joints = np.zeros((2, 3, 17, 2)) + 100
    joints[:, :, 1], joints[1, 1:, 2] = 300, [130, 140]
    joints[0, 2, 2] = 105, 100
    scene = look_at(store_of("coco", joints), 0)
    scale = (scene.joints[0, 0, 1, 0] - scene.joints[0, 0, 0, 0]) / 200
    np.testing.assert_allclose(speeds(scene)[:, 2], np.array([0, 50, 5]) * scale, atol=1e-9)
    wide = replace(scene, frames=np.array([0, 4, 9]))
    np.testing.assert_allclose(speeds(wide)[:, 2], np.array([0, 12.5, 1]) * scale, atol=1e-9)


def test_a_missing_joint_has_no_speed_around_it():
    joints = waving("coco")
    joints[0, 5, 9] = 0
    fast = speeds(look_at(store_of("coco", joints), 0))
    assert np.isnan(fast[5:7, 9]).all() and np.isfinite(np.delete(fast, 9, axis=1)).all()


# -- maps over time

@pytest.mark.parametrize("stream", ["joint", "limb", "bone-motion"])
def test_shares_are_of_the_whole_and_rows_have_names(stream):
    scene = scene_of("penn_action")
    count = 12 if stream == "limb" else 13
    values = np.random.default_rng(0).random((7, count))
    values[2, 3] = np.nan
    fig = draw_over_time(scene, values, "share (%)", (0, 6), stream)
    fig.canvas.draw()
    left, bars, body = fig.axes[:3]
    np.testing.assert_array_equal(left.images[0].get_array().filled(np.nan), values.T)
    widths = [bar.get_width() for bar in bars.patches]
    np.testing.assert_allclose(widths, 100 * np.nansum(values, 0) / np.nansum(values))
    assert len(left.get_yticklabels()) == count and left.get_ylim() == bars.get_ylim()
    assert len(body.collections[0].get_offsets()) == count


@pytest.mark.parametrize("values", [np.zeros((1, 17)), np.full((3, 17), np.nan)])
def test_nothing_at_all_is_drawn_as_nothing(values):
    fig = draw_over_time(scene_of("coco", frames=1), values, "speed", (0, len(values) - 1))
    fig.canvas.draw()
    assert {bar.get_width() for bar in fig.axes[1].patches} == {0}


@pytest.mark.parametrize("layout", ["nturgb+d", "handmp"])
def test_names_of_rows_do_not_overlap(layout):
    scene = scene_of(layout, persons=2)
    fig = draw_over_time(scene, speeds(scene), "speed", scene.frames[[0, -1]])
    fig.canvas.draw()
    boxes = [label.get_window_extent() for label in fig.axes[0].get_yticklabels()]
    gaps = [a.y0 - b.y1 for a, b in zip(boxes, boxes[1:], strict=False)]
    assert min(gaps) > -0.15 * boxes[0].height


# -- classes

def test_bars_are_sorted_with_their_intervals_and_mistakes():
    run = scores_of([0] * 4 + [1] * 5 + [2] * 2, [0, 0, 0, 1, 2, 2, 1, 1, 0, 2, 2])
    fig = draw_classes(class_table(run))
    ax, = fig.axes
    assert [label.get_text() for label in ax.get_yticklabels()] == ["stand up", "sit_down", "wave"]
    assert [bar.get_width() for bar in ax.patches] == [40, 75, 100]
    low, high = wilson_interval(2, 5)
    np.testing.assert_allclose(ax.lines[0].get_xdata(), [100 * low, 100 * high])
    texts = [text.get_text() for text in ax.texts]
    assert texts == ["2 of 5: wave", "1 of 4: stand up", "taken for"]


def test_a_class_without_clips_is_left_out_and_of_many_the_worst_stay():
    labels = np.repeat(np.arange(1, 41), 2)
    guess = np.where(np.arange(80) < 20, (labels + 1) % 41, labels)
    rows = class_table(scores_of(labels, guess, [f"class {k}" for k in range(41)]))
    ax, = draw_classes(rows).axes
    names = [label.get_text() for label in ax.get_yticklabels()]
    assert len(names) == 30 and "class 0" not in names
    assert names[:10] == [f"class {k}" for k in range(1, 11)]


# -- the network

def networks():
    "For each kind of network: a tiny one, its pipeline, and what a look at twelve frames has."
    whole = WholeClipPipeline("coco", clip_len=16, clips=1, persons=1)
    heat = HeatmapPipeline("coco", clip_len=8, clips=1, persons=1, test_size=16)
    graph = AGCN("coco", num_classes=3, num_persons=1, base_width=4, num_stages=2,
                 inflate_stages=(2,), down_stages=(2,))
    volume = dict(num_classes=3, base_width=4, stage_blocks=(1, 1, 1))
    return {"graph": (graph, whole, "joint", (16, 17)),
            "cnn": (HCNBaseline("coco", num_classes=3), whole, "joint", (16, 17)),
            "posec3d": (PoseC3D("coco", **volume), heat, "joint", (8, 17)),
            "posec3d of limbs": (PoseC3D("coco", stream="limb", **volume),
                                 replace(heat, stream="limb"), "limb", (8, 17))}


@pytest.mark.parametrize("kind", ["graph", "cnn", "posec3d", "posec3d of limbs"])
def test_every_kind_of_network_is_asked_in_the_same_way(kind, tmp_path, monkeypatch):
    torch.manual_seed(0)
    model, pipeline, stream, shape = networks()[kind]
    clips = collect_clips(dict(name=f"{k}", label=k, joints=waving("coco", seed=k),
                               scores=np.ones((1, 12, 17)), image_size=(480, 640))
                          for k in range(3))

    def batches(order):
        yield pipeline.fetch(clips, order)

    setup = SimpleNamespace(model=model, pipeline=pipeline, batches=batches)
    monkeypatch.setattr(gallery, "prepare_run", lambda plan, log: setup)
    monkeypatch.setattr(gallery, "load_run", lambda setup, folder: None)
    planned = plan_of(tmp_path, replace(DEMO, stream=stream))
    looks, answer = ask_network(planned, 1)
    assert looks.shape == shape and (looks >= 0).all() and looks.sum() > 0
    assert answer.shape == (3,) and answer.sum() == pytest.approx(1)
    scene = scene_of("coco")
    draw_over_time(scene, looks, "share (%)", (0, shape[0] - 1), stream).canvas.draw()


def test_the_caption_says_what_was_answered(tmp_path):
    meta = {"name": "made up", "layout": "coco", "classes": ["sit", "stand_up"]}
    clips = collect_clips(dict(name=str(k), label=k, joints=waving("coco")) for k in range(2))
    store = Store(None, clips, {"val": np.array([1])}, meta)
    planned = plan_of(tmp_path, replace(DEMO, stream="bone"))
    known = answer_facts(np.array([0.25, 0.75]), np.zeros((16, 17)), planned, store, 0)
    assert known == dict(answer="stand up", sure=75, truth="sit", given=16, seen="not a test clip",
                         hint="A bone is named by the joint at its end; a short one counts little.")
    for pipeline, hint in (("heatmap", "not seen"), ("graph", "near the origin")):
        planned = plan_of(tmp_path, replace(DEMO, pipeline=pipeline))
        known = answer_facts(np.ones(2), np.zeros((1, 1)), planned, store, 1)
        assert known["seen"] == "a test clip" and hint in known["hint"]


# -- captions

def test_facts_are_those_of_the_clip():
    joints, scores = waving("coco", persons=2, frames=100), np.ones((2, 100, 17))
    scores[0, :, :2] = 0
    scores[1, 50:] = 0
    known = facts(look_at(store_of("coco", joints, scores), 0))
    assert known["clip"] == "clip a clip of made up (*wave hand*)"
    assert (known["persons"], known["frames"]) == ("2 persons", "96 of 100 frames")
    assert known["missing"] == "7.8 % of the joints are missing."
    assert "cut out of the video" in known["flat"] and "right ankle" in known["busy"]
    known = facts(scene_of("kinect_v1", frames=1))
    assert (known["persons"], known["frames"]) == ("1 person", "1 frame")
    assert known["missing"] == "No joint is missing." and "from the front" in known["flat"]


@pytest.mark.parametrize("name", CAPTIONS)
def test_every_caption_can_be_filled(name):
    run = score_facts(scores_of([0, 1], [0, 0]))
    known = facts(scene_of("sbu", 2)) | run | dict(answer="a", sure=50, truth="b", seen="c",
                                                  given=8, hint="d.")
    title, caption = CAPTIONS[name]
    fields = {field for _, field, _, _ in Formatter().parse(caption) if field}
    assert fields <= set(known) and title
    text = caption.format(**known)
    assert text.endswith((".", "!")) and not re.search("[{}]|  ", text)


def test_every_picture_of_the_notebook_has_a_caption_and_every_caption_a_picture():
    text = (project_root() / "nbs/gallery.ipynb").read_text()
    assert set(re.findall(r'page\.add\(\\"(\w+)\\"', text)) == set(CAPTIONS)


def test_a_run_without_mistakes_has_none():
    assert score_facts(scores_of([0, 1], [0, 1]))["worst"] == "There is no mistake."
    known = score_facts(scores_of([0, 0, 1], [1, 1, 1]))
    assert known["worst"].endswith("*sit down* is taken for *stand up*, 2 times of 2.")
    assert known["count"] == 3 and known["top1"] == pytest.approx(100 / 3)


# -- files

def test_a_picture_for_the_screen_is_a_small_png(tmp_path):
    file, shown = save_picture(draw_films(scene_of("coco")), tmp_path / "deep/films", "screen")
    assert file == tmp_path / "deep/films.png" and shown.data == file.read_bytes()
    with Picture.open(file) as picture:
        assert picture.mode == "P" and 800 < picture.size[0] < 1000
    assert file.stat().st_size < 60_000 and not plt.get_fignums()


def test_a_picture_for_print_is_grey_and_the_same_file_every_time(tmp_path):
    use_style("print")
    scene = scene_of("coco")
    files = [save_picture(draw_films(scene), tmp_path / name, "print") for name in "ab"]
    assert files[0][0].read_bytes() == files[1][0].read_bytes()
    assert files[0][0].name == "a.pdf" and files[0][0].read_bytes()[:4] == b"%PDF"
    fig = draw_films(scene)
    image = fig.axes[-2].images[0]
    colours = image.cmap(np.linspace(0, 1, 9))
    assert np.ptp(colours[:, :3], axis=1).max() < 1e-6 and (colours[0] == 1).all()
    use_style("screen")
    assert plt.rcParams["image.cmap"] == "cividis"


def test_a_moving_picture_is_written_as_it_is(tmp_path):
    memory = io.BytesIO()
    Picture.new("P", (4, 4)).save(memory, format="PNG")
    file, shown = save_picture(moving := Image(memory.getvalue()), tmp_path / "moving", "screen")
    assert file.read_bytes() == memory.getvalue() and shown is moving


def test_a_page_names_its_pictures_and_the_command_behind_it(tmp_path):
    scene = scene_of("coco")
    planned = plan_of(tmp_path, DEMO, run="a run", sample="7", out=str(tmp_path))
    page = Page(planned, scene)
    page.add("films", draw_films(scene))
    page.note("looks", "No weights were kept.")
    text = page.write().read_text()
    assert text.startswith(f"# {tmp_path.name}: wave hand\n\nWritten by `papermill ")
    assert "gallery.ipynb -p run 'a run' -p sample 7`" in text and str(tmp_path.parent) not in text
    assert f"## {CAPTIONS['films'][0]}\n\n![{CAPTIONS['films'][0]}](films.png)\n\nThe same" in text
    assert text.endswith("\n\n## What the network looks at\n\nNo weights were kept.\n")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["README.md", "films.png"]


def test_a_page_for_print_links_to_its_pictures(tmp_path):
    use_style("print")
    page = Page(plan_of(tmp_path, style="print"), scene_of("coco"))
    page.add("films", draw_films(scene_of("coco")))
    text = page.write().read_text()
    assert "[The pose, and what PoseC3D is given of it](films.pdf)" in text and "![" not in text
    assert "-p style print" in text
