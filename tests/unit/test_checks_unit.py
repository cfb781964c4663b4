"""The data doctor: readers that stop, corner cases of the policies, names from strangers."""

import json
import os
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from skelbook.data.annotations import read_annotations
from skelbook.data.checks import BINS, examine, examine_path, judge, mend, survey
from skelbook.data.faults import FAULTS, KINDS, findings_table, tell
from skelbook.data.small_sets import read_nw_ucla
from skelbook.data.store import Source, open_store, write_store
from skelbook.data.symptoms import fill_gaps, joint_states, look_at
from skelbook.graph import find_layout

ROOT = Path(__file__).resolve().parents[2]
DATA = Path(os.environ.get("SKELBOOK_DATA", ROOT.parent / "shared" / "data"))
NAMES = ["a", "b", "c", "d", "e", "f"]


def clip(name, label=0, frames=20, **changes):
    rng = np.random.default_rng([ord(letter) for letter in name])
    return dict(name=name, label=label, joints=rng.uniform(10, 90, (1, frames, 17, 2)),
                scores=np.ones((1, frames, 17)), image_size=(100, 100)) | changes


def toy(*clips, **changes):
    "A source: the clips a … f of two classes, four to train on; those given replace their like."
    others = {each["name"]: each for each in clips}
    healthy = [clip(name, i % 2) for i, name in enumerate(NAMES) if name not in others]
    samples = sorted([*healthy, *clips], key=lambda each: each["name"])
    parts = dict(name="toy", layout="coco", classes=("wave", "hug"), dtype=np.float32,
                 splits={"train": NAMES[:4], "test": NAMES[4:]}, samples=lambda: iter(samples),
                 count=len(samples), origin={"made": "by hand"})
    return Source(**(parts | changes))


def lost(name, **changes):
    sick = clip(name, **changes)
    sick["joints"][0, 3:6, :4] = np.nan
    return sick


def faults(source, **options):
    return [f.fault for f in examine(source, **options)]


# -- words

def test_every_kind_of_fault_can_be_said():
    words = dict(V=1, C=2, layout="x", persons=1, last=1, short=1, dtype="x", recorded="x",
                 memory=1, test="x", train="x", available="x", expected="x")
    for kind, (severity, _, remedy) in KINDS.items():
        finding = tell(kind, ["a", "b"], [1, 2], file="f", split="s", **words)
        assert "{" not in finding.text + finding.remedy and finding.text and remedy
        assert finding.severity == severity and finding.fault in FAULTS
        assert "error" not in finding.text and not finding.text.endswith(".")


def test_text_from_files_is_escaped():
    name, split = "a\x1b[31m\nb", "tr\x07ain"
    source = toy(lost(name), splits={split: [name], "te\nst": ["x\u202e"]}, name="t\x1boy",
                 classes=("wa\x1bve", "hug"))
    findings = examine(source)
    assert {"F16", "F26", "F27"} <= {f.fault for f in findings}
    for finding in findings:
        assert str(finding).isprintable() and findings_table([finding]).count("\n") == 2
    assert name in findings[0].clips + findings[1].clips           # plain data stays what it is
    assert "<" not in findings_table([tell("F29", ["<img src=x>"], [2])]).replace("\\<", "")


def test_findings_are_plain_data():
    source = toy(lost("a", label="hug"), clip("b", label=np.int64(7)), clip("c", label=None))
    for finding in examine(source):
        again = json.loads(json.dumps(finding.as_dict()))
        assert again["count"] == len(finding.clips) == len(finding.found)
        assert again["title"] == FAULTS[finding.fault]


# -- looking

@pytest.mark.parametrize("label", [True, np.True_, 1.0, np.float32(1), "1", None, [1], b"1"])
def test_what_is_no_whole_number_is_no_label(label):
    assert faults(toy(clip("a", label))) == ["F24"]


@pytest.mark.parametrize("label", [1, np.int8(1), np.uint64(1), np.array(1)[()]])
def test_whole_numbers_of_any_type_are_labels(label):
    assert faults(toy(clip("a", label))) == []


@pytest.mark.parametrize("joints, fault", [
    (np.ones((20, 17, 2)), "F17"), (np.ones(()), "F17"), (np.ones((1, 20, 17)), "F17"),
    (np.full((1, 20, 17, 2), "1"), "F11"), (np.full((1, 20, 17, 2), None), "F11"),
    (np.ones((1, 20, 17, 2), complex), "F11"), (np.ones((0, 0, 17, 2)), "F19")])
def test_odd_arrays_are_named_and_not_looked_into(joints, fault):
    findings = examine(toy(clip("a", joints=joints)))
    assert findings[0].fault == fault and findings[0].clips == ("a",)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.int16, np.uint8])
def test_whole_numbers_and_all_precisions_are_fine(dtype):
    source = toy(*(clip(name, i % 2) for i, name in enumerate(NAMES)))
    clips = [each | {"joints": each["joints"].astype(dtype)} for each in source.samples()]
    assert faults(toy(*clips)) == []


def test_numbers_too_large_for_the_store_are_infinite():
    large = clip("a", joints=np.full((1, 20, 17, 2), 1e6), image_size=(10**7, 10**7))
    assert faults(toy(large)) == []
    half = toy(large, dtype=np.float16)
    assert faults(half) == ["F16", "F21"]


def test_a_clip_is_not_changed_by_looking_or_filling():
    sick = lost("a")
    before = sick["joints"].copy(), sick["scores"].copy()
    source = toy(sick)
    well, _ = mend(source, examine(source), "interpolate")
    list(well.samples())
    np.testing.assert_array_equal(sick["joints"], before[0])
    np.testing.assert_array_equal(sick["scores"], before[1])


def test_several_faults_of_one_clip_are_all_named():
    sick = lost("a", label=9, num_frames=3, frames=6)
    assert faults(toy(sick)) == ["F16", "F23", "F30", "F33"]


def test_a_person_who_is_absent_is_no_fault():
    two = clip("a", joints=np.ones((2, 20, 17, 2)) * np.array([50, 0])[:, None, None, None],
               scores=np.ones((2, 20, 17)))
    assert faults(toy(two)) == []
    assert faults(toy(two), persons=1) == ["F22"]


def test_bodies_are_judged_where_the_name_is_of_ntu():
    joints = np.random.default_rng(0).uniform(0.1, 2, (1, 30, 25, 3))
    joints[0, 10:] = 0
    for name, expected in (("S001C001P001R001A001", ["F34"]), ("S001C001P001R001A001b", [])):
        look = look_at(dict(name=name, label=0, joints=joints), find_layout("nturgb+d"), 2)
        assert look.faults == []
        source = Source("x", "nturgb+d", ("a", "b"), {"train": [name], "test": ["y"]},
                        lambda name=name: iter([dict(name=name, label=0, joints=joints),
                                                dict(name="y", label=1, joints=joints + 1),
                                                dict(name="z", label=0, joints=joints + 2)]), 3, {})
        assert [f.fault for f in examine(source) if f.fault == "F34"] == expected


def test_made_up_clips_may_have_names_of_the_missing_list():
    name = "S001C002P005R002A008"
    assert "F34" in faults(toy(clip(name)))
    assert "F34" not in faults(toy(clip(name), origin={"generator": "synthetic"}))


# -- one pass

def stops(source, after):
    "The source with a reader that fails after some clips."
    def samples():
        for number, sample in enumerate(source.samples()):
            if number == after:
                raise ValueError("clips.zip: member 3 is damaged; fetch it again")
            yield sample
    return Source(**{**vars(source), "samples": samples})


@pytest.mark.parametrize("after", [0, 3, 5])
def test_a_reader_that_stops_is_a_finding_and_hides_no_other(after):
    source = stops(toy(lost("a")), after)
    findings = examine(source)
    assert [f.fault for f in findings] == ["F11", "F16"][:1 + (after > 0)]
    assert "member 3 is damaged" in findings[0].text
    for policy in ("error", "drop", "interpolate"):
        with pytest.raises(ValueError, match="error F11"):
            mend(source, findings, policy)


def test_an_error_of_the_doctor_is_not_taken_for_one_of_the_reader(monkeypatch):
    monkeypatch.setattr("skelbook.data.checks._note", lambda *_: int("no number"))
    with pytest.raises(ValueError, match="no number"):
        examine(toy())


def test_a_source_without_clips():
    source = toy(samples=lambda: iter(()), count=0)
    assert faults(source) == ["F11"]


def test_progress_counts_to_the_end():
    seen = []
    survey(toy(), lambda *pair: seen.append(pair))
    assert seen == [(done, 6) for done in range(1, 7)]


def test_memory_does_not_grow_with_the_clips():
    def samples():
        for number in range(400):
            yield clip(f"clip{number}", number % 2, frames=200)

    tracemalloc.start()
    seen = survey(toy(samples=samples, count=400))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert seen.nbytes == 400 * 200 * 17 * 2 * 4 and peak < seen.nbytes / 5


def test_the_map_of_missing_joints_counts_each_clip_alike():
    early, short = clip("a", frames=300), clip("b", frames=1)
    early["joints"][0, :150, 3] = 0
    seen = survey(toy(early, short))
    assert seen.missing.shape == (17, BINS) and set(seen.bodies) == {6}
    np.testing.assert_array_equal(seen.missing[3], [1] * (BINS // 2) + [0] * (BINS // 2))
    assert seen.missing.sum() == BINS // 2


# -- between clips

def test_findings_name_all_clips_and_do_not_depend_on_their_order():
    sick = [lost("a"), clip("b", label=7), clip("f", joints=clip("c")["joints"])]
    one, other = toy(*sick), toy(*sick)
    turned = Source(**{**vars(other), "samples": lambda: reversed(list(other.samples()))})
    assert examine(one) == examine(turned) and faults(one) == ["F16", "F23", "F28"]


def test_a_clip_may_be_in_training_of_one_protocol_and_test_of_another():
    splits = {"xsub_train": NAMES[:4], "xsub_val": NAMES[4:],
              "xview_train": NAMES[2:], "xview_val": NAMES[:2]}
    assert faults(toy(splits=splits)) == []
    leaky = splits | {"xview_train": NAMES[1:]}
    finding, = examine(toy(splits=leaky))
    assert (finding.clips, finding.split) == (("b",), "xview_train")
    well, changes = mend(toy(splits=leaky), [finding], "drop")
    assert well.splits["xview_train"] == NAMES[2:] and well.splits["xsub_train"] == NAMES[:4]
    assert changes == {"policy": "drop", "out_of_splits": {"xview_train": ["b"]}}


def test_equal_numbers_in_another_shape_are_no_twins():
    joints = clip("a")["joints"]
    turned = clip("e", joints=joints.reshape(2, 10, 17, 2), scores=np.ones((2, 10, 17)))
    assert faults(toy(turned)) == []
    assert faults(toy(clip("e", joints=joints))) == ["F28"]


def test_twins_inside_one_split_are_no_leak():
    assert faults(toy(clip("a", joints=clip("b")["joints"]))) == []


@pytest.mark.parametrize("fault", ["F99", "f14", ""])
def test_an_unknown_fault_cannot_be_accepted(fault):
    with pytest.raises(ValueError, match="unknown fault"):
        examine(toy(), allow=[fault])


# -- policies

def test_an_unknown_policy_is_answered_with_the_nearest():
    with pytest.raises(ValueError, match="did you mean 'drop'"):
        mend(toy(), [], "dropp")


@pytest.mark.parametrize("policy", ["error", "drop", "interpolate"])
def test_healthy_data_stay_as_they_are(policy):
    source = toy()
    well, changes = mend(source, [], policy)
    assert changes == {} and well.splits == source.splits and well.count == 6
    for one, other in zip(well.samples(), source.samples(), strict=True):
        np.testing.assert_array_equal(one["joints"], other["joints"])


def test_unknown_names_are_left_out_of_splits_without_asking():
    source = toy(splits={"train": ["a", "x", "b", "y", "a"], "test": ["c"]})
    well, changes = mend(source, examine(source))
    assert well.splits == {"train": ["a", "b"], "test": ["c"]}
    assert changes == {"policy": "error", "out_of_splits": {"train": ["x", "y"]}}


def test_every_error_has_its_line():
    source = toy(lost("a"), clip("b", label=7), splits={"train": ["a"], "test": []})
    with pytest.raises(ValueError) as refusal:
        mend(source, examine(source))
    assert [line.split()[1] for line in str(refusal.value).splitlines()] == ["F16", "F23", "F27"]


def test_a_name_used_twice_that_is_faulty_goes_altogether():
    source = toy(clip("a"), clip("a", label=7), clip("b", 1), clip("b", 1))
    well, changes = mend(source, examine(source), "drop")
    assert changes == {"policy": "drop", "left_out": {"F23": ["a"]}, "kept_once": ["b"]}
    names = [sample["name"] for sample in well.samples()]
    assert names == ["b", "c", "d", "e", "f"] and well.count == 5
    assert well.splits["train"] == ["b", "c", "d"] and faults(well) == []


def test_of_a_name_used_twice_the_first_stays():
    source = toy(clip("a"), clip("a") | {"joints": np.full((1, 20, 17, 2), 50.)})
    well, _ = mend(source, examine(source), "drop")
    first = next(well.samples())
    np.testing.assert_array_equal(first["joints"], clip("a")["joints"])


def test_nothing_is_left():
    source = toy(*(clip(name, label=9) for name in NAMES))
    with pytest.raises(ValueError, match="policy drop leaves nothing of toy.*\nerror F23"):
        mend(source, [f for f in examine(source) if f.clips], "drop")


def test_a_split_that_is_emptied_is_refused():
    source = toy(lost("e"), lost("f"))
    with pytest.raises(ValueError, match="or of one of its splits"):
        mend(source, examine(source), "drop")
    well, changes = mend(source, examine(source), "interpolate")
    assert changes == {"policy": "interpolate", "filled": {"e": 12, "f": 12}}


def test_what_is_accepted_is_not_mended():
    source = toy(clip("a", joints=clip("e")["joints"]))
    well, changes = mend(source, examine(source, ["F28"]), "drop")
    assert changes == {} and well.splits == source.splits


def test_a_clip_without_any_finite_joint_is_dropped_by_interpolation():
    gone = clip("a", joints=np.full((1, 20, 17, 2), np.nan))
    well, changes = mend(toy(gone), examine(toy(gone)), "interpolate")
    assert changes["left_out"] == {"F21": ["a"]} and "filled" not in changes
    assert "a" not in well.splits["train"] and faults(well) == []


def test_lost_scores_become_zero_and_joints_stay():
    sick = clip("a")
    sick["scores"][0, 4] = np.inf
    well, changes = mend(toy(sick), examine(toy(sick)), "interpolate")
    first = next(well.samples())
    assert changes["filled"] == {"a": 17} and (first["scores"][0, 4] == 0).all()
    np.testing.assert_allclose(first["joints"], sick["joints"], rtol=1e-6)


def test_a_mended_source_can_be_read_twice_and_written(tmp_path):
    source = toy(lost("a"), clip("b", label=7))
    well, changes = mend(source, examine(source), "interpolate")
    assert len(list(well.samples())) == len(list(well.samples())) == 5
    store = open_store(write_store(tmp_path / "toy.skel", well, changes=changes))
    assert store.meta["changes"] == changes and examine(store.source()) == []


# -- filling

def test_only_lost_joints_are_filled():
    joints = clip("a")["joints"]
    joints[0, 5:8] = 0
    joints[0, 9, 2, 0] = np.nan
    filled, scores = fill_gaps(joints)
    lost, there = joint_states(joints)
    assert scores is None and (filled[0, 5:8] == 0).all() and there[0, 4].all()
    np.testing.assert_array_equal(filled[~lost], joints[~lost])
    assert filled[0, 9, 2, 1] == joints[0, 9, 2, 1]                    # the known coordinate stays
    np.testing.assert_allclose(filled[0, 9, 2, 0], joints[0, [8, 10], 2, 0].mean())


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_filling_keeps_the_precision(dtype):
    joints = clip("a")["joints"].astype(dtype)
    joints[0, 3] = np.nan
    filled, scores = fill_gaps(joints, np.ones((1, 20, 17), dtype))
    assert filled.dtype == scores.dtype == dtype and np.isfinite(filled).all()


def test_a_gap_of_one_frame_in_a_clip_of_one_frame():
    filled, _ = fill_gaps(np.full((1, 1, 17, 2), np.nan))
    assert (filled == 0).all()


# -- files

def test_a_path_that_is_not_there_is_not_a_finding(tmp_path):
    with pytest.raises(FileNotFoundError, match="does not exist"):
        examine_path(tmp_path / "no.pkl", None)


def test_a_folder_with_a_file_of_the_same_name_is_no_store(tmp_path):
    (tmp_path / "meta.json").write_text("{}")
    assert examine_path(tmp_path, lambda path: toy())[1] == []


def test_a_store_that_is_damaged_or_unfinished_is_a_finding(tmp_path):
    path = write_store(tmp_path / "toy.skel", toy())
    assert examine_path(path, None)[1] == []
    (path / "DONE").unlink()
    assert [f.fault for f in examine_path(path, None)[1]] == ["F11"]
    (path / "DONE").touch()
    (path / "keypoint.npy").write_bytes((path / "keypoint.npy").read_bytes()[:-8])
    source, findings = examine_path(path, None)
    assert source is None and [f.fault for f in findings] == ["F11"]


def test_the_file_beside_a_store_is_compared_with_the_one_it_was_made_from(tmp_path):
    (tmp_path / "clips.pkl").write_bytes(b"new")
    for sha256, files, expected in (("0" * 64, {}, ["F13"]), ("0" * 64, {"files": 2}, []),
                                    ("", {}, [])):
        origin = {"file": "clips.pkl", "sha256": sha256} | files
        path = tmp_path / f"{len(list(tmp_path.iterdir()))}.skel"
        write_store(path, toy(origin=origin))
        assert [f.fault for f in examine_path(path, None)[1]] == expected


@pytest.mark.parametrize("allow", ([], None, ["F28"], ["F28", "F99"]))
def test_what_the_record_of_a_store_accepts_is_a_warning_that_says_so(tmp_path, allow):
    leaky = toy(splits={"train": ["a", "b"], "test": ["b", "c"]}, origin={"allow": allow})
    finding, = examine_path(write_store(tmp_path / "toy.skel", leaky), None)[1]
    accepted = bool(allow)
    assert finding.fault == "F28" and finding.clips == ("b",)
    assert finding.severity == ("warning" if accepted else "error")
    assert ("accepted: F28 is allowed" in str(finding)) == accepted


def test_a_changed_store_cannot_accept_its_own_change(tmp_path):
    path = write_store(tmp_path / "toy.skel", toy(origin={"allow": ["F36"]}))
    rows = (path / "keypoint.npy").read_bytes()
    (path / "keypoint.npy").write_bytes(rows[:-1] + bytes([rows[-1] ^ 1]))
    assert [(f.fault, f.severity) for f in examine_path(path, None)[1]] == [("F36", "error")]


def test_real_key_points_have_no_errors():
    path = DATA / "coco17_hrnet_16" / "ntu60_hrnet.pkl"
    if not path.is_file():
        pytest.skip(f"{path.name} is not in {DATA}")
    source, findings = examine_path(path, lambda path: read_annotations(path, first_label=1))
    assert not [f for f in findings if f.severity == "error"]
    assert judge(survey(source), source) == findings


def test_nw_ucla_has_test_clips_in_training():
    path = DATA / "nw_ucla" / "all_sqe.zip"
    if not path.is_file():
        pytest.skip(f"{path.name} is not in {DATA}")
    findings = {f.fault: f for f in examine(read_nw_ucla(path))}
    assert sorted(findings) == ["F28", "F33"] and len(findings["F28"].clips) == 95
    twins = set(zip(findings["F28"].clips, findings["F28"].found, strict=True))
    assert ("a02_s01_e00_v02", "a02_s01_e00_v03") in twins
    assert {one[:-1] == other[:-1] for one, other in twins} == {True}
    assert len(findings["F33"].clips) == 10 and min(findings["F33"].found) == 1
