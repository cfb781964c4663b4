"""Preparations of raw NTU RGB+D: planted faults, corner cases, parts that are continued."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from skelbook.data import ntu_persons
from skelbook.data.ntu import parse_recording, read_recording
from skelbook.data.ntu_persons import (
    METHODS,
    fill_frames,
    find_recordings,
    motion,
    normalise_skelact,
    plan_parts,
    prepare_ctrgcn,
    prepare_ntu,
    prepare_part,
    prepare_parts,
    prepare_pyskl,
    prepare_skelact,
    read_ntu,
)
from skelbook.data.store import open_store, write_store
from skelbook.data.synthetic import make_clip, write_skeleton_file

ROOT = Path(__file__).resolve().parents[2]
SAMPLES = Path(os.environ.get("SKELBOOK_DATA", ROOT.parent / "shared" / "data")) / "ntu_samples"
DUET, SOLO = "S001C002P005R001A009", "S001C001P001R001A001"


def recording(*frames, name="S001C001P001R001A001"):
    "A recording from {id: number} per frame; every joint of a body is (number, joint, 3)."
    lines = [str(len(frames))]
    for bodies in frames:
        lines.append(str(len(bodies)))
        for body, x in bodies.items():
            joints = [f"{x + v / 100} {v / 10} 3.0 0 0 0 0 1 0 0 0 2" for v in range(25)]
            lines += [f"{body} 0 1 1 1 1 0 0.0 0.0 2", "25", *joints]
    return parse_recording(name, "\n".join(lines).encode())


def x_of(joints):
    "The first coordinate of the first joint, (M, T), rounded."
    return np.asarray(joints, np.float64)[:, :, 0, 0].round(2).tolist()


# -- planted faults

@pytest.mark.parametrize("fault, note", [
    ("empty start", "frames without any body"), ("empty inside", "frames without any body"),
    ("empty end", "frames without any body"), ("short ghost", "bodies that were too short"),
    ("wide ghost", "bodies that were too wide"), ("nan joint", "joints that were nan"),
    ("id change", None), ("order swap", None), ("untracked joint", None), ("crlf", None)])
@pytest.mark.parametrize("name", [DUET, "S002C003P012R002A010"])
def test_pyskl_gives_the_true_bodies_and_notes_the_fault(name, fault, note, tmp_path):
    truth = write_skeleton_file(tmp_path, name, faults=[fault])
    joints, notes = prepare_pyskl(read_recording(tmp_path / f"{name}.skeleton"))
    there = [t for t in truth["source"] if t is not None]
    true = make_clip(name)[:, there]
    if fault == "nan joint":
        planted = truth["faults"][fault]
        true[truth["bodies"].index(planted["body"]), planted["frame"], planted["joint"]] = 0
    by_motion = np.argsort([-motion(person[person.any((1, 2))]) for person in true], kind="stable")
    np.testing.assert_array_equal(joints, true[by_motion])
    ignored = {"ids that slid over a hole"}
    assert set(notes) - ignored == ({note} if note else set())
    if note == "frames without any body":
        assert notes[note] == len(truth["faults"][fault]["frames"])


@pytest.mark.skipif(not SAMPLES.is_dir(), reason="the real samples are not here")
@pytest.mark.parametrize("method", METHODS)
def test_the_real_samples(method):
    source, report = prepare_ntu(SAMPLES, method=method)
    clips = {sample["name"]: sample for sample in source.samples()}
    assert len(clips) == source.count == 6 and report["frames declared"] == 550
    assert report["bodies in a recording"] == {"1": 5, "2": 1}
    two = clips["S001C003P008R002A058"]["joints"]
    assert two.shape == (2, 70, 25, 3) and clips["S001C001P001R001A011"]["label"] == 10
    if method != "skelact":
        assert clips["S001C001P001R001A001"]["joints"].shape == (1, 103, 25, 3)
    assert all(np.isfinite(sample["joints"]).all() for sample in clips.values())


# -- corner cases

@pytest.mark.parametrize("method", METHODS)
def test_a_recording_without_any_body(method):
    joints, notes = METHODS[method](recording({}, {}, {}))
    assert joints is None and notes == {"frames without any body": 3}


@pytest.mark.parametrize("method", METHODS)
def test_a_recording_of_one_frame(method):
    joints, notes = METHODS[method](recording({1: 0.5}))
    assert joints.shape == (2 if method == "skelact" else 1, 1, 25, 3) and notes == {}


@pytest.mark.parametrize("method", METHODS)
def test_nothing_but_ghosts_leaves_somebody(method):
    joints, notes = METHODS[method](recording(*[{1: 0.5, 2: t / 10} for t in range(5)]))
    assert joints.shape[1] == 5 and np.isfinite(joints).all()
    if method in ("pyskl", "ctrgcn"):
        assert notes == {"bodies that were too short": 1,
                         "the longest body kept, since all were short": 1}


def test_an_id_that_returns_slides_into_the_hole_and_is_noted():
    frames = [{1: 0, 2: 5}] * 5 + [{2: 5}] * 5 + [{1: 1, 2: 5}] * 15
    joints, notes = prepare_pyskl(recording(*frames))
    slid = next(person for person in x_of(joints) if 5 not in person)
    assert slid == [0] * 5 + [1] * 15 + [0] * 5
    assert notes == {"ids that slid over a hole": 1}


def test_an_id_that_is_listed_twice_in_a_frame_does_not_stop_anything():
    for method in METHODS.values():
        twice = recording(*[{1: 0.5, 2: 0.1}] * 14)
        again = parse_recording("a", b"2\n" + b"2\n" + 2 * body_lines(7) + b"1\n" + body_lines(7))
        assert method(again)[0] is not None and method(twice)[0] is not None


def body_lines(number):
    "Text of one body."
    joint = "0.1 0.2 0.3 0 0 0 0 1 0 0 0 2\n"
    return f"{number} 0 1 1 1 1 0 0.0 0.0 2\n25\n{joint * 25}".encode()


def test_five_bodies_at_once():
    frames = [{k: k + t / 100 * k for k in range(1, 7)} for t in range(20)]
    for method in ("mmaction2", "skelact"):
        notes = METHODS[method](recording(*frames))[1]
        assert notes == {"sightings beyond the fourth place": 40, "places left out": 2}
    assert METHODS["pyskl"](recording(*frames))[1] == {"bodies without a place": 4}


def test_a_body_of_zeros_only():
    zeros = recording(*[{1: 0}] * 3)
    zeros = type(zeros)(**{**vars(zeros), "joints": zeros.joints * 0})
    assert METHODS["mmaction2"](zeros)[0] is None and prepare_skelact(zeros)[0] is None
    assert not prepare_pyskl(zeros)[0].any() and prepare_ctrgcn(zeros)[0] is None


# -- normalisation of SkelAct

def test_filling_cases():
    def person(*frames):
        return np.array(frames, np.float32)[:, None, None] * np.ones((25, 3), np.float32)
    cases = {(0, 0): [0, 0], (1,): [1], (0, 3): [3, 3], (1, 0, 0): [1, 1, 1], (1, 0, 2): [1, 0, 2],
             (0, 1, 0, 2): [1, 2, 1, 2], (1, 2, 0, 0, 0): [1, 2, 1, 2, 1]}
    for frames, filled in cases.items():
        assert fill_frames(person(*frames))[:, 0, 0].tolist() == filled


def test_second_person_alone_is_filled_but_not_moved():
    joints = np.zeros((2, 4, 25, 3), np.float32)
    joints[1, 1:3] = np.random.default_rng(0).normal(size=(2, 25, 3))
    out = normalise_skelact(joints)
    np.testing.assert_array_equal(out[1], joints[1, [1, 2, 1, 2]])
    assert not out[0].any()


def test_normalisation_does_not_change_its_input():
    joints = np.random.default_rng(0).normal(size=(2, 4, 25, 3)).astype(np.float32)
    before = joints.copy()
    normalise_skelact(joints)
    np.testing.assert_array_equal(joints, before)


# -- which files

@pytest.fixture
def raw(tmp_path):
    "Six recordings in two folders, one of them without any body."
    for k, name in enumerate((DUET, SOLO, "S002C001P012R001A003", "S002C002P012R001A003",
                              "S002C003P012R001A003")):
        write_skeleton_file(tmp_path / "raw" / f"part{k % 2}", name)
    (tmp_path / "raw" / "part0" / "S003C001P001R001A002.skeleton").write_bytes(b"2\n0\n0\n")
    return tmp_path / "raw"


def test_only_recordings_of_the_task_are_taken(raw):
    for name in ("S018C001P008R001A061", "S001C002P005R002A008", "notes"):
        (raw / f"{name}.skeleton").write_bytes(b"0\n")
    (raw / "readme.txt").write_text("hello")
    files, left_out = find_recordings(raw, 60)
    assert [file.name for file in files] == sorted(file.name for file in files)
    assert len(files) == 6 and {why: len(names) for why, names in left_out.items()} == {
        "on the missing list": 1, "of the larger set": 1, "with another name": 1}
    assert len(find_recordings([raw / "part0", raw / "part1"], 120)[0]) == 6
    assert len(find_recordings(raw, 120)[0]) == 7


@pytest.mark.parametrize("where, words", [("nowhere", "no such folder"), ("", "no .skeleton file")])
def test_folders_without_recordings(where, words, tmp_path):
    with pytest.raises((ValueError, FileNotFoundError), match=words):
        read_ntu(tmp_path / where)


def test_a_clip_that_is_there_twice(raw):
    (raw / f"{SOLO}.skeleton").write_bytes(b"0\n")
    with pytest.raises(ValueError, match=f"{SOLO} is there twice"):
        find_recordings(raw, 60)


@pytest.mark.parametrize("wrong", [dict(task=90), dict(method="pyksl"), dict(on_error="ignore")])
def test_wrong_choices(raw, wrong):
    with pytest.raises(ValueError, match="unknown"):
        read_ntu(raw, **wrong)


# -- from files to a source and a store

@pytest.mark.parametrize("method", METHODS)
def test_a_store_is_written(method, raw, tmp_path):
    source, report = prepare_ntu(raw, method=method)
    assert report["left out"]["without any body"] == ["S003C001P001R001A002"]
    store = open_store(write_store(tmp_path / "a.skel", source))
    assert len(store.clips) == source.count == report["clips"] == 5
    assert list(store.clips.names) == sorted(store.clips.names)
    wide = method in ("skelact", "ctrgcn")
    assert store.clips.joints.dtype == (np.float32 if wide else np.float16)
    assert store.meta["source"]["method"] == method and len(store.meta["classes"]) == 60
    assert {split: len(n) for split, n in store.splits.items()} == {
        "xsub_train": 2, "xsub_val": 3, "xview_train": 3, "xview_val": 2}
    assert str(tmp_path) not in json.dumps(store.meta)


def test_larger_task(raw):
    source = read_ntu(raw, task=120)
    assert source.name == "ntu120" and len(source.classes) == 120
    assert set(source.splits) == {"xsub_train", "xsub_val", "xset_train", "xset_val"}


def test_workers_give_the_same(raw, tmp_path, monkeypatch):
    monkeypatch.setattr(ntu_persons, "PART", 2)
    seen = []
    one = read_ntu(raw)
    two = prepare_ntu(raw, workers=3, progress=lambda *c: seen.append(c))[0]
    assert seen == [(2, 6), (4, 6), (6, 6)] and one.origin == two.origin
    for a, b in zip(one.samples(), two.samples(), strict=True):
        assert a["name"] == b["name"] and a["joints"].tobytes() == b["joints"].tobytes()


@pytest.mark.parametrize("workers", [1, 3])
def test_a_damaged_file_is_named_or_left_out(workers, raw, monkeypatch):
    monkeypatch.setattr(ntu_persons, "PART", 1)
    path = next(raw.rglob(f"{DUET}.skeleton"))
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(ValueError, match=f"^{DUET}, line [0-9]+: found"):
        read_ntu(raw, workers=workers)
    source, report = prepare_ntu(raw, workers=workers, on_error="skip")
    assert source.count == 4 and report["left out"]["damaged"][0].startswith(f"{DUET}, line")
    assert DUET not in source.splits["xsub_train"]


# -- continuing

def times(folder):
    "When each part was made."
    return {path.name: path.stat().st_mtime_ns for path in folder.glob("*.npz")}


def test_what_was_made_is_not_made_again(raw, tmp_path, monkeypatch):
    monkeypatch.setattr(ntu_persons, "PART", 2)
    files, work = find_recordings(raw, 60)[0], tmp_path / "parts"
    parts = plan_parts(files, "pyskl", "raise", work)
    prepare_part(**parts[1])
    before, seen = times(work), []
    first = read_ntu(raw)
    source = prepare_ntu(raw, work=work, progress=lambda *c: seen.append(c))[0]
    assert seen == [(4, 6), (6, 6)] and len(times(work)) == 3
    assert before.items() <= times(work).items()
    for a, b in zip(first.samples(), source.samples(), strict=True):
        assert a["joints"].tobytes() == b["joints"].tobytes()


@pytest.mark.parametrize("change", ["time", "size", "method", "name"])
def test_what_was_changed_is_made_again(change, raw, tmp_path, monkeypatch):
    monkeypatch.setattr(ntu_persons, "PART", 3)
    prepare_ntu(raw, work=tmp_path / "parts")
    path = next(raw.rglob(f"{SOLO}.skeleton"))
    if change == "time":
        os.utime(path, ns=(1, 1))
    elif change == "size":
        path.write_bytes(path.read_bytes() + b"\n")
    elif change == "name":
        path.rename(path.with_name("S001C001P001R001A004.skeleton"))
    seen = []
    prepare_ntu(raw, method="mmaction2" if change == "method" else "pyskl",
                work=tmp_path / "parts", progress=lambda *c: seen.append(c))
    assert len(seen) == (2 if change == "method" else 1)


SLOW = """
import sys, time
from skelbook.data import ntu_persons
ntu_persons.PART = 1
def progress(done, total):
    print(done, flush=True)
    time.sleep(0.2)
ntu_persons.prepare_ntu(sys.argv[1], work=sys.argv[2], workers=int(sys.argv[3]), progress=progress)
"""


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("blow", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_run_is_continued(workers, blow, raw, tmp_path, monkeypatch):
    work = tmp_path / "parts"
    run = subprocess.Popen([sys.executable, "-c", SLOW, raw, work, str(workers)], text=True,
                           env=os.environ | {"PYTHONPATH": str(ROOT)}, start_new_session=True,
                           stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert run.stdout.readline() == "1\n"
    run.send_signal(blow)
    assert run.wait(20) != 0
    run.stdout.close()
    time.sleep(0.3)                            # the worker of a killed master ends by itself
    monkeypatch.setattr(ntu_persons, "PART", 1)
    before, seen = times(work), []
    assert before
    source = prepare_ntu(raw, work=work, progress=lambda *c: seen.append(c))[0]
    assert len(seen) == 6 - len(before) and before.items() <= times(work).items()
    for a, b in zip(source.samples(), read_ntu(raw).samples(), strict=True):
        assert a["joints"].tobytes() == b["joints"].tobytes()


def test_a_worker_that_is_killed_is_one_line(raw, tmp_path, monkeypatch):
    monkeypatch.setattr(ntu_persons, "_WORKER", "import os; os._exit(9)")
    parts = plan_parts(find_recordings(raw, 60)[0], "pyskl", "raise", tmp_path)
    with pytest.raises(ValueError, match="ended from outside"):
        prepare_parts([{**part, "part": f"{part['part']}{k}"} for k in range(2) for part in parts],
                      workers=2)
