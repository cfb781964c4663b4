"""The 26 faults F11 to F36, each planted in a file, are all reported by the data doctor.

What it says is kept in `faults.md`; `python tests/unit/test_faults_table.py` writes that anew.
"""

import pickle
import re
import tempfile
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from unittest.mock import patch

import hostile
import numpy as np
import pytest

from skelbook.data import checks
from skelbook.data.annotations import read_annotations
from skelbook.data.checks import examine_path, mend
from skelbook.data.faults import FAULTS, findings_table
from skelbook.data.store import open_store, write_store

TABLE = Path(__file__).with_name("faults.md")
CLASSES = ("wave", "hug")
NAMES = [f"clip{number:02}" for number in range(20)]


def annotation(number, V=17, C=2, frames=24, persons=1):
    "One clip as PYSKL and MMAction2 write it: a person who drifts through the image."
    rng = np.random.default_rng(number)
    place = np.cumsum(rng.normal(0, 2, (persons, frames, 1, C)), axis=1)
    body = rng.uniform(-40, 40, (V, C))
    if C == 3:
        body = np.linspace(0.1, 1.8, V)[:, None] * (0.2, 1, 1)
    clip = dict(frame_dir=NAMES[number], label=number % 2, total_frames=frames,
                keypoint=(place + body + (300 if C == 2 else 0)).astype(np.float32))
    if C == 2:
        clip |= dict(img_shape=(480, 640), original_shape=(480, 640),
                     keypoint_score=np.full((persons, frames, V), 0.9, np.float32))
    return clip


@dataclass
class Case:
    "A fault as it is planted, and what is expected of the doctor."

    fault: str
    planted: str                # in words
    clips: tuple                # names of the clips it must name
    severity: str
    sick: dict = field(default_factory=dict)    # clip number -> what is changed in it
    splits: dict = field(default_factory=dict)  # what is changed in the splits
    C: int = 2
    more: tuple = ()            # further annotations
    options: dict = field(default_factory=dict)
    says: str = ""              # must stand in the message
    mended: bool = True         # whether policy "drop" mends it

    def __str__(self):
        return self.fault


def lost(clip, value=np.nan, score=0.9):
    "The clip with three joints lost in five frames."
    clip["keypoint"][:, 4:9, [7, 9, 10]] = value
    if "keypoint_score" in clip:
        clip["keypoint_score"][:, 4:9, [7, 9, 10]] = score


def scores(clip):
    clip["keypoint_score"][0, 3, :4] = np.nan


def change(**entries):
    "A function that overwrites entries of an annotation; None removes one."
    def changed(clip):
        clip.update(entries)
        for key in [key for key, value in entries.items() if value is None and key != "label"]:
            del clip[key]
    return changed


def shaped(*shape, fill=300.0):
    "A clip of another shape."
    return change(keypoint=np.full(shape, fill, np.float32), total_frames=shape[1],
                  keypoint_score=np.full(shape[:3], 0.9, np.float32))


def scaled(factor, shift=0):
    def changed(clip):
        clip["keypoint"] = clip["keypoint"] * factor + shift
    return changed


def ghost(clip):
    "A second body that lies flat beside the first."
    flat = clip["keypoint"] * np.float32([9, 0.1, 1]) + np.float32([1, 0, 0])
    clip["keypoint"] = np.concatenate([clip["keypoint"], flat])


SAME = annotation(15)["keypoint"]
TRAIN, TEST = NAMES[:14], NAMES[14:]
CASES = [
    Case("F14", "3 joints NaN in 5 frames, 3D", ("clip03", "clip05"), "error", {3: lost, 5: lost},
         C=3, says="30 joints of 2 clips"),
    Case("F15", "4 scores NaN", ("clip02",), "error", {2: scores}, says="4 scores of 1 clip"),
    Case("F16", "3 joints NaN in 5 frames, score 0.9", ("clip03",), "error", {3: lost},
         says="15 joints of 1 clip"),
    Case("F17", "25 joints among clips of 17", ("clip04",), "error", {4: shaped(1, 24, 25, 2)},
         says="25 joints; layout coco has 17"),
    Case("F18", "3 coordinates among clips of 2", ("clip04",), "error", {4: shaped(1, 24, 17, 3)},
         says="3 coordinates per joint; layout coco has 2"),
    Case("F19", "no frames", ("clip06", "clip07"), "error",
         {6: shaped(1, 0, 17, 2), 7: shaped(1, 0, 17, 2)}, says="2 clips with 0 frames"),
    Case("F20", "no persons", ("clip06",), "error", {6: shaped(0, 24, 17, 2)},
         says="1 clip with 0 persons"),
    Case("F21", "all zeros", ("clip06",), "error", {6: scaled(0)}, says="every coordinate is 0"),
    Case("F22", "3 persons for a model of 2", ("clip08",), "warning", {8: shaped(3, 24, 17, 2)},
         options={"persons": 2}, says="3 persons; the model takes 2"),
    Case("F23", "labels 2 and -1 of 2 classes", ("clip02", "clip03"), "error",
         {2: change(label=2), 3: change(label=-1)}, says="label -1, 2; expected 0 … 1"),
    Case("F24", "no label, and a text", ("clip02", "clip03"), "error",
         {2: change(label=None), 3: change(label="hug")}, says="label 'hug', missing; expected"),
    Case("F25", "class hug in the test only", tuple(name for name in TEST if int(name[4:]) % 2),
         "warning", {n: change(label=0) for n in range(14)}, says="that train never shows: hug"),
    Case("F26", "a name in the split that is no clip", ("clip99",), "warning",
         splits={"train": [*TRAIN, "clip99"]}, says="split train names 1 clip not in the data"),
    Case("F27", "split tset asked for", (), "error", options={"splits": ["tset"]}, mended=False,
         says="unknown split 'tset': did you mean 'test'? (valid: train, test)"),
    Case("F28", "a test clip in training", ("clip14",), "error",
         splits={"train": [*TRAIN, "clip14"]}, says="train and test share 1 clip"),
    Case("F29", "a name used twice", ("clip02",), "error", more=(annotation(2),),
         says="1 clip in the data 2 times"),
    Case("F30", "total_frames 30 of 24", ("clip02",), "error", {2: change(total_frames=30)},
         says="30 claimed, 24 there"),
    Case("F31", "600 pixels to the right", ("clip02",), "warning", {2: scaled(1, (600, 0))},
         says="outside the image, up to 100.0 %"),
    Case("F32", "no image size in one clip", ("clip02",), "error", {2: change(img_shape=None)},
         says="1 clip without image size, which other clips have"),
    Case("F33", "clips of 1 and 6 frames", ("clip02", "clip03"), "warning",
         {2: shaped(1, 1, 17, 2), 3: shaped(1, 6, 17, 2)}, says="fewer than 10 frames: 1, 6"),
    Case("F34", "a name on the missing list", ("S001C002P005R002A008",), "error",
         {2: change(frame_dir="S001C002P005R002A008")}, C=3, says="on the list of samples"),
]
VARIANTS = [
    Case("F14", "70,000 in half precision", ("clip03",), "error", {3: lambda clip: lost(clip, 7e4)},
         C=3, says="too large for float16", options={"half": True}),
    Case("F25", "a single class", (), "error", {n: change(label=0) for n in range(20)},
         mended=False, says="every valid label is 0"),
    Case("F25", "labels from 1", (), "warning", {n: change(label=n % 2 + 1) for n in range(20)},
         options={"classes": ("rest", *CLASSES)}, says="the labels are 1 … 2"),
    Case("F27", "an empty split", (), "error", splits={"test": []}, mended=False,
         says="split test is empty; available: train, test"),
    Case("F27", "no protocol", (), "warning", splits={"train": None, "all": TRAIN},
         says="no two splits make a protocol; available: test, all"),
    Case("F28", "the joints of a test clip in training", ("clip02",), "error",
         {2: change(keypoint=SAME)},
         says="1 clip of train with the joints of a clip of test: clip15"),
    Case("F29", "a name twice in a split", ("clip02",), "warning",
         splits={"train": [*TRAIN, "clip02"]}, says="split train names 1 clip 2 times"),
    Case("F31", "coordinates between 0 and 1", ("clip02",), "warning", {2: scaled(1 / 640)},
         says="look normalised"),
    Case("F31", "height and width exchanged", ("clip02",), "warning",
         {2: scaled(1, (260, 0))}, options={"turned": 2}, says="swapped"),
    Case("F32", "no scores anywhere", (), "warning",
         {n: change(keypoint_score=None) for n in range(20)}, says="no clip has scores"),
    Case("F32", "scores of other frames", ("clip02",), "error",
         {2: change(keypoint_score=np.ones((1, 20, 17), np.float32))},
         says="scores (1, 20, 17) for joints (1, 24, 17, 2)"),
    Case("F34", "a flat body beside", ("S001C001P001R001A001",), "warning",
         {2: lambda clip: (change(frame_dir="S001C001P001R001A001")(clip), ghost(clip))}, C=3,
         says="short-lived or flat"),
    Case("F34", "a body that leaves", ("S001C001P001R001A001",), "warning",
         {2: lambda clip: (change(frame_dir="S001C001P001R001A001")(clip),
                           clip["keypoint"].__setitem__((0, slice(12, None)), 0))}, C=3,
         says="number of bodies changes: 0 to 1"),
    Case("F34", "18 training clips called NTU RGB+D 60", (), "warning",
         splits={"train": None, "test": None, "xsub_train": TRAIN, "xsub_val": TEST},
         options={"name": "ntu60_hrnet"}, says="14 clips, the published one 40,091"),
]


def plant(case, folder):
    "Writes the file of a case and returns its path."
    V = 25 if case.C == 3 else 17
    clips = [annotation(number, V, case.C) for number in range(20)]
    for number, spoil in case.sick.items():
        spoil(clips[number])
    if "turned" in case.options:
        clips[case.options["turned"]]["img_shape"] = (700, 480)
    if "half" in case.options:
        for clip in clips:
            with np.errstate(over="ignore"):
                clip["keypoint"] = clip["keypoint"].astype(np.float16)
    names = [clip["frame_dir"] for clip in clips]
    splits = {"train": names[:14], "test": names[14:]} | case.splits
    content = {"split": {key: members for key, members in splits.items() if members is not None},
               "annotations": [*clips, *case.more]}
    path = folder / f"{case.options.get('name', 'clips')}.pkl"
    path.write_bytes(pickle.dumps(content, protocol=4))
    return path


def read(case):
    layout = "nturgb+d" if case.C == 3 else "coco"
    classes = case.options.get("classes", CLASSES)
    return lambda path: read_annotations(path, layout=layout, classes=classes)


def diagnose(case, folder):
    "The source of a case and its findings."
    options = {key: case.options[key] for key in ("persons", "splits") if key in case.options}
    return examine_path(plant(case, folder), read(case), **options)


def healthy(folder):
    return plant(Case("", "", (), ""), folder)


def test_healthy_files_have_no_findings(tmp_path):
    for C in (2, 3):
        source, findings = diagnose(Case("", "", (), "", C=C), tmp_path)
        assert source.count == 20 and findings == []


def checked(case, findings, file="clips.pkl"):
    "The one finding, once it is what the case asks for."
    finding, = findings
    assert finding.fault == case.fault and case.says in finding.text + finding.remedy
    assert (finding.clips, finding.severity, finding.file) == (case.clips, case.severity, file)
    assert finding.remedy and finding.as_dict()["count"] == len(case.clips)
    for words in (case.fault, file, finding.text, finding.remedy, *case.clips[:3]):
        assert words in str(finding)
    return finding


@pytest.mark.parametrize("case", CASES, ids=str)
def test_each_fault_of_clips_and_splits_is_named(case, tmp_path):
    checked(case, diagnose(case, tmp_path)[1])


@pytest.mark.parametrize("case", VARIANTS, ids=lambda case: f"{case.fault}-{case.planted}")
def test_each_face_of_a_fault_is_named(case, tmp_path):
    findings = diagnose(case, tmp_path)[1]
    if "ntu60" in case.options.get("name", ""):
        assert [f.text for f in findings if case.says in f.text]
        assert {f.split for f in findings} == {"xsub_train", "xsub_val"}
    else:
        checked(case, findings)


@pytest.mark.parametrize("case", [case for case in CASES + VARIANTS if case.severity == "error"],
                         ids=lambda case: f"{case.fault}-{case.planted}")
@pytest.mark.parametrize("policy", ["drop", "interpolate"])
def test_policies_leave_no_error_or_refuse(case, policy, tmp_path):
    source, findings = diagnose(case, tmp_path)
    with pytest.raises(ValueError, match=f"error {case.fault} clips.pkl"):
        mend(source, findings)
    if not case.mended:
        with pytest.raises(ValueError, match=f"error {case.fault} clips.pkl"):
            mend(source, findings, policy)
        return
    well, changes = mend(source, findings, policy)
    assert not [f for f in checks.examine(well) if f.severity == "error"]
    assert changes["policy"] == policy and len(list(well.samples())) == well.count
    store = open_store(write_store(tmp_path / "mended.skel", well, changes=changes))
    assert store.meta["changes"] == changes and len(store.clips) == well.count


@pytest.mark.parametrize("case", [case for case in CASES if case.severity == "error"], ids=str)
def test_what_is_accepted_is_a_warning(case, tmp_path):
    options = {key: case.options[key] for key in ("persons", "splits") if key in case.options}
    findings = examine_path(plant(case, tmp_path), read(case), [case.fault], **options)[1]
    assert findings and {f.severity for f in findings} == {"warning"}


# -- files

def truncated(folder):
    path = healthy(folder)
    path.write_bytes(path.read_bytes()[:20_000])
    return path, read(CASES[1])


def evil(folder):
    path = folder / "clips.pkl"
    path.write_bytes(hostile.running(folder / "canary")["os.system-2"])
    return path, read(CASES[1])


def another(folder):
    path = healthy(folder)
    path.with_name("clips.pkl.sha256").write_text(f"# 9 bytes\n{'ab' * 32}  my clips.pkl\n")
    return path, read(CASES[1])


def changed(folder):
    path = folder / "clips.skel"
    if not path.exists():
        write_store(path, read(CASES[1])(healthy(folder)))
    content = bytearray((path / "keypoint.npy").read_bytes())
    content[-3] ^= 1
    (path / "keypoint.npy").write_bytes(content)
    return path, None


FILES = {
    "F11": (truncated, "the first 20,000 bytes", "error", "cannot be read"),
    "F12": (evil, "a pickle that calls os.system", "error", "os.system"),
    "F13": (another, "another SHA-256 in clips.pkl.sha256", "error", "recorded is abababababab"),
    "F35": (lambda folder: (healthy(folder), read(CASES[1])), "40 kB of memory", "warning",
            "of memory"),
    "F36": (changed, "one bit of a store turned", "error", "has changed since it was written"),
}


def file_finding(fault, folder):
    "The one finding of a fault of a file."
    make, _, severity, says = FILES[fault]
    path, reader = make(folder)
    with patch.object(checks, "_memory", lambda: 40_000 if fault == "F35" else 1e12):
        source, findings = examine_path(path, reader)
    finding, = findings
    assert (finding.fault, finding.severity, finding.file) == (fault, severity, path.name)
    assert says in finding.text and finding.remedy and finding.clips == ()
    assert (source is None) == (fault in ("F11", "F12"))
    return finding


@pytest.mark.parametrize("fault", FILES)
def test_each_fault_of_a_file_is_named(fault, tmp_path):
    file_finding(fault, tmp_path)
    assert not (tmp_path / "canary").exists()


def test_all_hostile_files_are_refused_and_none_is_run(tmp_path):
    path, canary = tmp_path / "clips.pkl", tmp_path / "canary"
    for name, content in hostile.running(canary).items():
        path.write_bytes(content)
        source, findings = examine_path(path, read(CASES[1]))
        assert source is None and not canary.exists(), name
        assert [f.fault for f in findings] == ["F12"], name


# -- the table

def found_in(make, folder):
    "The finding that `make` gets from a file in a new folder."
    folder.mkdir()
    return make(folder)


def table(folder):
    "What the doctor says of each planted fault, as a page."
    rows = {fault: (words, found_in(partial(file_finding, fault), folder / fault))
            for fault, (_, words, *_) in FILES.items()}
    for case in CASES:
        rows[case.fault] = case.planted, found_in(
            lambda place, case=case: checked(case, diagnose(case, place)[1]), folder / case.fault)
    lines = findings_table([rows[fault][1] for fault in FAULTS]).splitlines()
    planted = ["planted", "---", *(rows[fault][0] for fault in FAULTS)]
    text = "\n".join(f"| {words} {line}" for words, line in zip(planted, lines, strict=True))
    text = re.sub(r"(SHA-256 )[0-9a-f]{16}", r"\1" + 16 * "?", text)       # of a pickle: differs
    text = re.sub(r"at byte \d+ of", "at byte ? of", text)                # from one version of
    text = re.sub(r"[^ |]*/(?=clips)", "", text)                          # NumPy to the next
    return ("# The doctor's table\n\nEach fault was planted in a file of 20 clips; this is what "
            "the data doctor says of it. `tests/unit/test_faults_table.py` plants them, compares, "
            f"and writes this page.\n\n{text}\n")


def test_the_table_of_all_faults_is_the_one_that_is_kept(tmp_path):
    assert set(FILES) | {case.fault for case in CASES} == set(FAULTS)
    assert table(tmp_path) == TABLE.read_text(encoding="utf-8")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        TABLE.write_text(table(Path(scratch)), encoding="utf-8")
