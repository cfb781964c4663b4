"""Which clip a gallery shows, and what it refuses before anything is drawn."""

from dataclasses import asdict

import numpy as np
import pytest

from skelbook.core import project_root
from skelbook.data.store import Source, open_store, write_store
from skelbook.evaluate.viewing import GALLERY, find_sample, plan_gallery
from skelbook.learner.recipes import DEMO
from skelbook.learner.runs import write_record

LENGTHS = {"0012": 9, "12": 3, "0844": 5, "kick": 7, "0007": 4, "a/b: c": 2}


@pytest.fixture
def path(tmp_path):
    "A store of six clips, of which three are test clips."
    def samples():
        for name, frames in LENGTHS.items():
            yield dict(name=name, label=0, joints=np.ones((1, frames, 17, 2)),
                       scores=np.ones((1, frames, 17)), image_size=(90, 160))

    splits = {"train": ["0012", "0007", "a/b: c"], "val": ["12", "0844", "kick"]}
    source = Source("five", "coco", ("sit",), splits, samples, 6, {})
    return write_store(tmp_path / "five.skel", source)


@pytest.fixture
def run(tmp_path):
    "The folder of a run with a record and nothing else."
    write_record(tmp_path / "run", {"settings": asdict(DEMO), "data_hash": "d"})
    return tmp_path / "run"


# -- the clip

@pytest.mark.parametrize("name, found", [("", "0844"), ("kick", "kick"), ("12", "12"),
                                         ("0012", "0012"), ("844", "0844"), ("7", "0007"),
                                         ("00007", "0007")])
def test_a_clip_is_found_by_name_by_number_and_by_its_length(path, name, found):
    store = open_store(path)
    assert store.clips.names[find_sample(store, "val", name)] == found


@pytest.mark.parametrize("name, said", [
    ("kcik", "did you mean 'kick'"), ("0845", "did you mean '0844'"),
    ("²", "a name is, for example, '0012'"), ("xyz", "a name is, for example, '0012'")])
def test_an_unknown_clip_is_refused_with_a_name_that_exists(path, name, said):
    with pytest.raises(ValueError, match=f"there is no clip {name!r} in five.*{said}") as error:
        find_sample(open_store(path), "val", name)
    assert "\n" not in str(error.value)


def test_of_an_even_number_of_clips_the_longer_middle_one_is_taken(path):
    store = open_store(path)
    store.splits["two"] = store.splits["val"][:2]
    assert store.clips.names[find_sample(store, "two")] == "0844"


# -- the plan

def test_without_parameters_the_built_in_data_is_shown():
    planned = plan_gallery()
    assert planned.given == GALLERY and planned.data == planned.name == "synthetic"
    assert planned.run is planned.recipe is planned.weights is None
    assert planned.folder == project_root() / "outputs/figures/gallery/synthetic"


def test_a_number_is_a_name(path):
    planned = plan_gallery(data=str(path), sample=844)
    assert planned.given["sample"] == "0844" and planned.folder.name == "five_0844"


def test_the_place_has_a_name_that_every_file_system_takes(path):
    planned = plan_gallery(data=str(path), sample="a/b: c")
    assert planned.folder.name == "five_a_b__c"


def test_print_has_a_folder_of_its_own_unless_one_is_given(path, tmp_path):
    planned = plan_gallery(data=str(path), sample="kick", style="print")
    assert planned.folder.parts[-2:] == ("five_kick", "print")
    planned = plan_gallery(data=str(path), style="print", out=str(tmp_path / "there"))
    assert planned.folder == tmp_path / "there"


def test_a_run_says_what_it_is_about(run):
    for data in ("", "synthetic"):
        planned = plan_gallery(run=str(run), data=data)
        assert (planned.data, planned.run, planned.name) == ("synthetic", run, "run")
        assert planned.recipe == DEMO


def test_weights_are_those_of_a_run_that_was_trained(run):
    planned = plan_gallery(run=str(run))
    assert planned.weights is None
    (run / "last.safetensors").touch()
    assert planned.weights == run / "last.safetensors"
    write_record(run, {"settings": asdict(DEMO), "data_hash": "d", "made_from": []})
    assert planned.weights is None


@pytest.mark.parametrize("wrong, said", [
    (dict(run="no_such_run"), "there is no run 'no_such_run'"),
    (dict(data="no-such-data"), "unknown data 'no-such-data'"),
    (dict(data="gym"), "data 'gym' is not prepared"),
    (dict(sample="S001C001P001R001A030"), "did you mean 'S001C001P001R001A"),
    (dict(style="Print"), "did you mean 'print'"), (dict(style=1), "style 1 is not text"),
    (dict(sampel="a"), "did you mean 'sample'"), (dict(out=3), "out 3 is not text")])
def test_what_cannot_be_shown_is_refused_in_one_line(wrong, said):
    with pytest.raises(ValueError, match=said) as error:
        plan_gallery(**wrong)
    assert "\n" not in str(error.value)


def test_a_run_about_other_data_is_refused(run):
    with pytest.raises(ValueError, match="is about data 'synthetic', not 'sbu-fold1'"):
        plan_gallery(run=str(run), data="sbu-fold1")


def test_the_settings_of_a_later_version_are_named(run):
    write_record(run, {"settings": asdict(DEMO) | {"magic": 1}, "data_hash": "d"})
    with pytest.raises(ValueError, match="magic"):
        plan_gallery(run=str(run))
