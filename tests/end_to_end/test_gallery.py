"""The gallery as it is typed: a tiny run with its weights and without, on screen and in print."""

import json
import re
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from terminal import in_pipe

from skelbook.core import file_hash, project_root
from skelbook.data.store import Source, open_store, write_store
from skelbook.data.synthetic import CLASSES, clip_names, synthetic_clips
from skelbook.learner.recipes import plan
from skelbook.learner.runs import save_checkpoint, write_record, write_scores
from skelbook.learner.train import data_hash, make_model
from skelbook.report.gallery import CAPTIONS

NOTEBOOK = project_root() / "nbs/gallery.ipynb"


def few_poses(path):
    "A store of eight clips of the built-in data as a pose detector sees them."
    names = clip_names()[5:900:112]
    splits = {"train": names[:4], "val": names[4:]}

    def samples():
        return (dict(name=name, joints=joints, scores=scores, label=label, image_size=(1080, 1920))
                for name, joints, scores, label in synthetic_clips(names, view="2d"))

    return write_store(path, Source("few", "coco", tuple(CLASSES), splits, samples, 8, {}))


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    "A folder with the store of few poses and a run about it, tested but hardly trained."
    place = tmp_path_factory.mktemp("gallery")
    planned = plan(data=str(few_poses(place / "few.skel")), out=str(place / "run"))
    recipe = replace(planned.recipe, width=4, clip_len=16)
    store, model = open_store(place / "few.skel"), make_model(recipe, planned.entry)
    write_record(place / "run", {"settings": asdict(recipe), "data_hash": data_hash(store)})
    save_checkpoint(place / "run", model, torch.optim.SGD(model.parameters()), {}, [{"epoch": 1}])
    tested = store.splits["val"]
    write_scores(place / "run", store.clips.names[tested], store.clips.labels[tested],
                 np.random.default_rng(0).dirichlet(np.ones(12), len(tested)), CLASSES)
    np.save(place / "run/joint_shares.npy", np.full((12, 17), 100 / 17))
    (place / "run/DONE").touch()
    return place


def digests(folder):
    "Fingerprint of every file in a folder."
    return {path.name: file_hash(path) for path in folder.iterdir() if path.name != ".lock"}


def open_gallery(project, out, **given):
    "The page, and the executed notebook, of a gallery."
    words = [word for name, value in (given | {"out": out}).items() for word in ("-p", name, value)]
    copy = out.parent / f"{out.name}.ipynb"
    status, _, shown = in_pipe(NOTEBOOK, copy, *words)
    assert status == 0, shown[-3000:]
    return (out / "README.md").read_text(), json.loads(copy.read_text())


def test_a_run_with_weights_hangs_every_picture(project):
    before = digests(project / "run")
    page, notebook = open_gallery(project, project / "whole", run=project / "run")
    assert digests(project / "run") == before
    pictures = {f"{name}.png" for name in CAPTIONS}
    assert {path.name for path in (project / "whole").iterdir()} == pictures | {"README.md"}
    assert re.findall(r"\]\((\w+\.png)\)", page) == [f"{name}.png" for name in (
        "plate", "films", "moving", "joints", "limbs", "slices", "motion", "looks", "shares",
        "confusion", "classes")]
    assert "The network answers *" in page and "The 4 test clips of the run" in page
    shown = [output for cell in notebook["cells"] for output in cell.get("outputs", ())
             if "image/png" in output.get("data", {})]
    assert len(shown) == len(CAPTIONS)


def test_without_weights_the_rest_is_drawn_for_print(project):
    names = open_store(project / "few.skel").clips.names
    weights = (project / "run/last.safetensors").rename(project / "elsewhere")
    try:
        page, _ = open_gallery(project, project / "paper", run=project / "run", style="print",
                               sample=names[0])
    finally:
        weights.rename(project / "run/last.safetensors")
    files = {path.name for path in (project / "paper").iterdir()}
    assert files == {f"{name}.pdf" for name in CAPTIONS if name not in ("looks", "moving")} | {
        "README.md"}
    assert "No weights were kept with this run" in page and "(films.pdf)" in page
    assert f"clip {names[0]} of few" in page


@pytest.mark.parametrize("words, message", [
    ("-p run no_such_run", "there is no run 'no_such_run'"),
    ("-p data penn-acton", "did you mean 'penn-action'"),
    ("-p sample S001C001P001R001A030", "did you mean 'S001C001P001R001A"),
    ("-p style paper", "unknown style 'paper'"), ("-p smaple a", "did you mean 'sample'")])
def test_a_wrong_parameter_stops_at_once_and_leaves_nothing(words, message, tmp_path):
    status, out, shown = in_pipe(NOTEBOOK, *words.split(), cwd=tmp_path, timeout=60)
    assert status == 2 and message in shown and "Traceback" not in shown
    assert out == "" and len(shown.strip().splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_committed_pages_have_their_pictures_and_say_how_they_are_made():
    pages = sorted((project_root() / "outputs/figures/gallery").glob("*/**/README.md"))
    assert len(pages) >= 4
    total = 0
    for page in pages:
        text = page.read_text()
        files = re.findall(r"^!?\[[^\]]+\]\((\w+\.(?:png|pdf))\)$", text, re.M)
        assert {path.name for path in page.parent.iterdir() if path.is_file()} == {
            *files, "README.md"}
        assert len(files) >= 6 and "Written by `papermill nbs/gallery.ipynb -p " in text
        total += sum(path.stat().st_size for path in page.parent.iterdir() if path.is_file())
    assert total < 4_000_000
