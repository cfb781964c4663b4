"""Corner cases of finding the project, writing files, fingerprints and refusals."""

import hashlib
import os
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from skelbook import core
from skelbook.core import (
    atomic_write,
    check_parameters,
    choose,
    content_hash,
    file_hash,
    project_root,
)

ROOT = Path(__file__).resolve().parents[2]


# -- the project's root

def test_root_is_found_from_a_folder_that_has_nothing_to_do_with_it(tmp_path):
    code = "from skelbook.core import project_root; print(project_root())"
    out = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True,
                         env={**os.environ, "PYTHONPATH": str(ROOT)}, check=True).stdout
    assert Path(out.strip()) == ROOT


def test_the_nearest_project_wins_over_the_installed_one(tmp_path):
    inside = tmp_path / "nbs" / "deep"
    inside.mkdir(parents=True)
    (tmp_path / "settings.ini").touch()
    assert project_root(inside) == tmp_path
    assert project_root(str(inside)) == tmp_path


def test_settings_without_notebooks_are_another_project(tmp_path):
    (tmp_path / "settings.ini").touch()
    assert project_root(tmp_path) == ROOT


def test_no_project_at_all_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr(core, "__file__", str(tmp_path / "site" / "core.py"))
    with pytest.raises(FileNotFoundError, match="run from inside a checkout"):
        project_root(tmp_path)


# -- whole files

@pytest.mark.parametrize("mask, mode", [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_files_get_the_permissions_of_any_new_file(tmp_path, mask, mode):
    before = os.umask(mask)
    try:
        with atomic_write(tmp_path / "a.txt") as temporary:
            temporary.write_text("a")
    finally:
        assert os.umask(before) == mask              # atomic_write put it back
    assert stat.S_IMODE((tmp_path / "a.txt").stat().st_mode) == mode


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit])
def test_failure_keeps_the_old_content_and_leaves_no_crumbs(tmp_path, error):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(error), atomic_write(path) as temporary:
        temporary.write_text("ne")
        raise error
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_failure_of_the_last_step_leaves_no_crumbs(tmp_path):
    (tmp_path / "taken").mkdir()                     # a folder bears the final name
    with pytest.raises(OSError), atomic_write(tmp_path / "taken") as temporary:
        temporary.write_text("a")
    assert os.listdir(tmp_path) == ["taken"]


def test_a_killed_process_leaves_nothing_under_the_final_name(tmp_path):
    code = ("import os, sys; from skelbook.core import atomic_write\n"
            "with atomic_write(sys.argv[1]) as temporary:\n"
            "    temporary.write_text('half'); os._exit(9)")
    path = tmp_path / "a.txt"
    done = subprocess.run([sys.executable, "-c", code, path], cwd=ROOT)
    assert done.returncode == 9
    assert not path.exists()


def test_folders_are_made_and_endings_kept(tmp_path):
    path = tmp_path / "new" / "folder" / "a.npy"
    with atomic_write(str(path)) as temporary:
        assert (temporary.suffix, temporary.parent) == (".npy", path.parent)
        np.save(temporary, np.arange(3))             # adds .npy to a name that has none
    assert np.load(path).tolist() == [0, 1, 2]


def test_a_file_that_is_being_read_keeps_its_content(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with open(path) as reader:
        with atomic_write(path) as temporary:
            temporary.write_text("new")
        assert reader.read() == "old"
    assert path.read_text() == "new"


# -- fingerprints

def test_content_hash_is_pinned():
    assert content_hash({"b": [1, 2.5, None], "a": "ü"}) == hashlib.sha256(
        rb'{"a":"\u00fc","b":[1,2.5,null]}').hexdigest()
    assert content_hash({}) == "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"


@pytest.mark.parametrize("value, error", [(float("nan"), ValueError), ([float("inf")], ValueError),
                                          ({"a": {1}}, TypeError), (b"raw", TypeError)])
def test_what_json_cannot_say_has_no_hash(value, error):
    with pytest.raises(error):
        content_hash(value)


def test_file_hash_is_that_of_the_contents_one_after_the_other(tmp_path):
    empty, abc, long = (tmp_path / name for name in ("empty", "abc", "long"))
    empty.touch()
    abc.write_bytes(b"abc")
    long.write_bytes(bytes(range(256)) * 5000)       # longer than one piece
    assert file_hash(empty) == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert file_hash(abc) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert file_hash(long) == hashlib.sha256(long.read_bytes()).hexdigest()
    assert file_hash(abc, empty) == file_hash(empty, abc) == file_hash(abc)
    assert file_hash(abc, long) != file_hash(long, abc)


# -- refusing

@pytest.mark.parametrize("value, message", [
    ("coocoo", "unknown layout 'coocoo': did you mean 'coco'? (valid: coco, nturgb+d)"),
    ("xyz", "unknown layout 'xyz'. (valid: coco, nturgb+d)"),
    ("", "unknown layout ''. (valid: coco, nturgb+d)"),
    (3, "unknown layout 3. (valid: coco, nturgb+d)"),
    (None, "unknown layout None. (valid: coco, nturgb+d)"),
])
def test_the_message_names_the_nearest_choice(value, message):
    with pytest.raises(ValueError) as refusal:
        choose("layout", value, iter(["coco", "nturgb+d"]))
    assert str(refusal.value) == message


def test_choices_need_not_be_words():
    assert choose("clips", 10, [1, 10]) == 10
    with pytest.raises(ValueError, match=r"unknown clips 11: did you mean '1'\? \(valid: 1, 10\)"):
        choose("clips", 11, [1, 10])


@pytest.mark.parametrize("given, message", [
    ({"sed": 1}, "unknown parameter 'sed': did you mean 'seed'? (valid: model, seed, exact, ema)"),
    ({"seed": "1"}, "seed '1' is not a whole number"),
    ({"seed": 1.0}, "seed 1.0 is not a whole number"),
    ({"seed": True}, "seed True is not a whole number"),
    ({"seed": -1}, "seed -1 is negative"),
    ({"exact": 1}, "exact 1 is not True or False"),
    ({"model": None}, "model None is not text"),
    ({"model": 3}, "model 3 is not text"),
    ({"ema": "much"}, "ema 'much' is not a number"),
    ({"ema": True}, "ema True is not a number"),
    ({"ema": -0.5}, "ema -0.5 is negative"),
])
def test_parameters_are_checked_by_their_defaults(given, message):
    with pytest.raises(ValueError) as refusal:
        check_parameters(given, {"model": "agcn", "seed": 0, "exact": False, "ema": 0.0})
    assert str(refusal.value) == message


def test_parameters_that_are_not_given_have_their_defaults():
    defaults = {"model": "agcn", "seed": 0}
    assert check_parameters({}, defaults) == defaults
    assert check_parameters({"seed": 2**40}, defaults) == {"model": "agcn", "seed": 2**40}
    assert defaults == {"model": "agcn", "seed": 0}
    assert check_parameters({"ema": 1}, {"ema": 0.0}) == {"ema": 1}       # a whole number is one
