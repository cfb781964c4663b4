"""The reader of raw NTU RGB+D text: real files, planted faults, and every way to be damaged."""

import json
import os
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from skelbook.data.ntu import (
    COUNTS,
    LARGEST,
    PROTOCOLS,
    class_names,
    compare_counts,
    in_task,
    missing_clips,
    parse_clip_name,
    parse_recording,
    read_recording,
    split_clips,
)
from skelbook.data.synthetic import FAULTS, write_skeleton_file

ROOT = Path(__file__).resolve().parents[2]
SAMPLES = Path(os.environ.get("SKELBOOK_DATA", ROOT.parent / "shared" / "data")) / "ntu_samples"
HEADER = "72057594037936{:03} 0 1 1 1 1 0 0.0125 -0.25 2"


def joint(value=0.5):
    return f"{value} -1.25 3.5 1.5 2.5 3.5 4.5 1 0 0 0 2"


def lines_of(*bodies_per_frame, joints=None):
    "Lines of a recording; every body a row of equal joints."
    lines = [str(len(bodies_per_frame))]
    for count in bodies_per_frame:
        lines.append(str(count))
        for m in range(count):
            lines += [HEADER.format(m), "25", *(joints or [joint()] * 25)]
    return lines


def text(lines, end="\n"):
    return "".join(line + end for line in lines).encode()


# -- the real files

@pytest.mark.skipif(not SAMPLES.is_dir(), reason="the real samples are not here")
def test_the_six_real_files():
    expected = json.loads((SAMPLES / "expected.json").read_text())
    assert len(expected) == 6
    for name, wanted in expected.items():
        clip = read_recording(SAMPLES / name, details=True)
        assert clip.num_frames == wanted["frames"] and clip.nan_joints == 0
        assert list(clip.ids) == [body["body_id"] for body in wanted["bodies"]]
        assert sorted(set(np.bincount(clip.frame))) == wanted["bodies_per_frame"]
        for k, body in enumerate(wanted["bodies"]):
            mine = clip.body == k
            joints = clip.joints[mine]
            assert mine.sum() == body["frames"] and clip.frame[mine][0] == body["first_frame"]
            np.testing.assert_allclose(joints.sum((0, 1)), body["xyz_sum"], atol=1e-6, rtol=0)
            assert joints[0, 0].tolist() == body["first_joint_first_frame"]
            motion = joints.reshape(-1, 3).var(0).sum()
            assert motion == pytest.approx(body["motion_variance_sum"], abs=1e-9)
            states, counts = np.unique(clip.states[mine], return_counts=True)
            assert dict(zip(map(str, states), counts, strict=True)) == body["tracking_state_hist"]
            pixels = clip.colour_pixels[mine].reshape(-1, 2)
            assert pixels.min(0).tolist() == body["color_xy_min"]
            assert pixels.max(0).tolist() == body["color_xy_max"]


@pytest.mark.skipif(not SAMPLES.is_dir(), reason="the real samples are not here")
@pytest.mark.parametrize("name", sorted(path.name for path in SAMPLES.glob("*.skeleton")))
def test_real_numbers_are_read_to_the_last_bit(name):
    clip = read_recording(SAMPLES / name)
    fields = [line.split() for line in (SAMPLES / name).read_text().splitlines()]
    wanted = [[float(x) for x in line[:3]] for line in fields if len(line) == 12]
    assert clip.joints.reshape(-1, 3).tolist() == wanted


# -- made-up files with planted faults

@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_seen(fault, tmp_path):
    name = "S001C002P005R001A009"
    truth = write_skeleton_file(tmp_path, name, faults=[fault])
    clip = read_recording(tmp_path / f"{name}.skeleton", details=True)
    planted = truth["faults"][fault]
    there = np.bincount(clip.frame, minlength=clip.num_frames) > 0
    assert clip.num_frames == len(truth["source"])
    assert set(truth["bodies"]) <= set(clip.ids)
    if fault.startswith("empty"):
        assert not there[planted["frames"]].any()
    elif fault.endswith("ghost"):
        ghost = clip.frame[clip.body == clip.ids.index(planted["body"])]
        assert ghost.tolist() == planted["frames"]
    elif fault == "id change":
        new = clip.frame[clip.body == clip.ids.index(planted["new_body"])]
        assert new[0] == planted["since"]
    elif fault == "order swap":
        first = clip.body[(clip.place == 0) & np.isin(clip.frame, clip.frame[clip.place == 1])]
        assert len(set(first)) == 2
    elif fault == "nan joint":
        where = (clip.frame == planted["frame"]) & (clip.body == clip.ids.index(planted["body"]))
        assert clip.nan_joints == 1 and not clip.joints[where, planted["joint"]].any()
    elif fault == "untracked joint":
        assert (clip.states == 0).sum() == 1


# -- forms that are legal

@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("tail", ["", "\n", "\r\n\r\n", "  \n"])
@pytest.mark.parametrize("bodies", [(1,), (0, 2, 1, 0), (3, 0), (0,), (11, 1)])
def test_line_ends_blank_lines_and_empty_frames(end, tail, bodies):
    clip = parse_recording("clip", text(lines_of(*bodies), end) + tail.encode())
    assert clip.num_frames == len(bodies)
    assert np.bincount(clip.frame, minlength=len(bodies)).tolist() == list(bodies)
    assert clip.place.tolist() == [m for count in bodies for m in range(count)]
    np.testing.assert_array_equal(clip.joints, np.broadcast_to([0.5, -1.25, 3.5],
                                                               clip.joints.shape))


def test_the_last_line_may_lack_its_end():
    whole = parse_recording("clip", text(lines_of(1, 2)))
    cut = parse_recording("clip", text(lines_of(1, 2))[:-1])
    np.testing.assert_array_equal(whole.joints, cut.joints)


def test_other_blanks_between_the_fields():
    odd = text(lines_of(1, 2)).replace(b" -1.25 ", b"\t -1.25  ").replace(b"\n25\n", b"\n 25 \n")
    np.testing.assert_array_equal(parse_recording("clip", odd).joints,
                                  parse_recording("clip", text(lines_of(1, 2))).joints)


def test_a_recording_of_no_frames():
    clip = parse_recording("clip", b"0\n", details=True)
    assert (clip.num_frames, clip.ids, clip.joints.shape) == (0, (), (0, 25, 3))
    assert clip.states.shape == (0, 25)


@pytest.mark.parametrize("number", [
    "0", "-0", "1", "-12.5", "0.1", "-0.05403496", ".5", "5.", "+1.5", "123456.789", "1e-5",
    "-3.2E+01", "7.297890E-05", "0.1234567890123", "0.12345678901234567", "-0.000000000000001",
    "9.999999999999", "0.123456789012", "9.9999999999999", "-9.99999999999999",
    "2.2250738585072014e-308", "00.5", "1.7976931348623157e308"])
def test_every_way_to_write_a_number(number):
    joints = [joint(number)] * 24 + [f"{number} {number} {number} 0 0 0 0 0 0 0 0 {number}"]
    clip = parse_recording("clip", text(lines_of(1, 1, joints=joints)))
    read = [*clip.joints[:, :24, 0].ravel(), *clip.joints[:, 24].ravel()]
    assert {np.float64(x).tobytes() for x in read} == {np.float64(number).tobytes()}


@pytest.mark.parametrize("number", ["nan", "NaN", "-nan"])
@pytest.mark.parametrize("column", [0, 1, 2])
def test_a_joint_with_nan_becomes_absent(number, column):
    fields = joint().split()
    fields[column] = number
    joints = [joint()] * 7 + [" ".join(fields)] + [joint()] * 17
    clip = parse_recording("clip", text(lines_of(2, joints=joints)))
    assert clip.nan_joints == 2
    assert not clip.joints[:, 7].any() and clip.joints.any(-1).sum() == 48


def test_ids_are_text():
    lines = lines_of(2)
    lines[2] = lines[2].replace("72057594037936000", "72057594037944734")
    lines[29] = lines[29].replace("72057594037936001", "72057594037944735")
    assert parse_recording("clip", text(lines)).ids == ("72057594037944734", "72057594037944735")


@pytest.mark.parametrize("ids", [("7", "8"), ("72057594037944734", "7"), ("1" * 40, "1" * 41),
                                 ("  72057594037944734", "\t7 ")])
def test_ids_of_any_length(ids):
    lines = lines_of(2, 1)
    for at, body in zip((2, 29, 57), (*ids, ids[0]), strict=True):
        lines[at] = f"{body} {lines[at].split(None, 1)[1]}"
    clip = parse_recording("clip", text(lines))
    assert clip.ids == tuple(body.strip() for body in ids) and clip.body.tolist() == [0, 1, 0]


def test_an_id_twice_in_a_frame_is_two_sightings():
    lines = lines_of(2)
    lines[29] = lines[2]
    clip = parse_recording("clip", text(lines))
    assert len(clip.ids) == 1 and clip.body.tolist() == [0, 0] and clip.place.tolist() == [0, 1]


# -- damage

def damaged():
    "Name, lines, the line that must be named (from 1), and words of the message."
    good = lines_of(1, 0, 2)
    def changed(at, line):
        return [*good[:at], line, *good[at + 1:]]
    yield "empty", [], 1, "found '', expected the number of frames"
    yield "words", ["hello"], 1, "found 'hello', expected the number of frames"
    yield "negative", changed(0, "-3"), 1, "expected the number of frames"
    yield "float", changed(0, "3.0"), 1, "expected the number of frames"
    yield "too few frames", changed(0, "2"), 31, "expected the end of the file after 2 frames"
    yield "too many frames", changed(0, "4"), 86, "found the end of the file, expected the number"
    yield "absurd frames", changed(0, "999999999"), 86, "bodies in frame 3 of 999999999"
    yield "more absurd frames", changed(0, "9" * 400), 1, "expected the number of frames"
    yield "absurd bodies", changed(1, "999999999"), 30, "ten numbers that describe a body"
    yield "bodies missing", changed(1, ""), 2, "expected the number of bodies in frame 0"
    yield "one body too many", changed(30, "3"), 86, "found the end of the file"
    yield "one body too few", changed(30, "1"), 59, "expected the end of the file"
    yield "24 joints", changed(3, "24"), 4, "found '24', expected 25"
    yield "250 joints", changed(3, "250"), 4, "found '250', expected 25"
    yield "20 bodies", changed(1, "20"), 30, "ten numbers that describe a body"
    yield "26 joints", [*good[:3], "26", *good[4:29], joint(), *good[29:]], 4, "expected 25"
    yield "a joint missing", good[:20] + good[21:], 29, "12 numbers of a joint in frame 0 of 3"
    yield "a joint too many", [*good[:20], joint(), *good[20:]], 30, "number of bodies in frame 1"
    yield "id of letters", changed(2, HEADER.format(0).replace("7", "x", 1)), 3, "an id"
    yield "id in two parts", changed(2, HEADER.format(0).replace("7", "7\r", 1)), 3, "an id"
    yield "header too short", changed(2, "72057594037936000 0 1"), 3, "describe a body"
    yield "word", changed(10, joint("zero")), 11, "'zero' is none"
    yield "infinite", changed(10, joint("inf")), 11, "'inf' is none"
    yield "underscore", changed(10, joint("1_0")), 11, "'1_0' is none"
    yield "comma", changed(10, joint("0,5")), 11, "'0,5' is none"
    yield "two points", changed(10, joint("0.5.1")), 11, "'0.5.1' is none"
    yield "minus inside", changed(10, joint("0.5-1")), 11, "'0.5-1' is none"
    yield "two minus signs", changed(10, joint("--0.5")), 11, "'--0.5' is none"
    yield "bytes", changed(10, joint("0.5\x7f")), 11, "is none"
    yield "blank line inside", [*good[:30], "", *good[30:]], 31, "expected the number of bodies"


@pytest.mark.parametrize("lines, at, words", [row[1:] for row in damaged()],
                         ids=[row[0] for row in damaged()])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_damage_is_named_with_its_line(lines, at, words, end):
    with pytest.raises(ValueError) as error:
        parse_recording("S001C001P001R001A001", text(lines, end))
    message = str(error.value)
    assert message.startswith(f"S001C001P001R001A001, line {at}: found ")
    assert words in message and "\n" not in message


@pytest.mark.parametrize("cut", [1, 2, 9, 30, 60, 150, 700, 1500, 2000])
def test_a_truncated_file_is_refused(cut):
    whole = text(lines_of(1, 1, 1)[:-1] + [joint().replace(" 2", " 22")])
    assert parse_recording("clip", whole).num_frames == 3
    last = whole.rstrip()
    if cut == 1:            # only the last digit of a tracking state is lost: nobody can know
        parse_recording("clip", last[:-cut])
        return
    with pytest.raises(ValueError, match="clip, line"):
        parse_recording("clip", last[:-cut])


def test_a_bomb_costs_no_memory():
    tracemalloc.start()
    with pytest.raises(ValueError, match="in frame 0 of 999999999"):
        parse_recording("clip", b"999999999\n999999999\n")
    assert tracemalloc.get_traced_memory()[1] < 1e6
    tracemalloc.stop()


def test_a_huge_file_is_not_read_as_a_recording():
    with pytest.raises(ValueError, match="no recording"):
        parse_recording("clip", bytes(LARGEST + 1))


def test_binary_content_is_refused():
    with pytest.raises(ValueError, match="line 1: found"):
        parse_recording("clip", bytes(range(256)) * 8)


def test_the_name_of_a_file_is_the_name_of_the_clip(tmp_path):
    path = tmp_path / "S001C001P001R001A001.skeleton"
    path.write_bytes(b"what?")
    with pytest.raises(ValueError, match=r"^S001C001P001R001A001, line 1: found 'what\?'"):
        read_recording(path)


# -- names, splits, counts

@pytest.mark.parametrize("name", ["", "S001", "S001C001P001R001A000", "S000C001P001R001A001",
                                  "S001C004P001R001A001", "s001c001p001r001a001",
                                  "S001C001P001R001A001 ", "S٠٠1C001P001R001A001"])
def test_other_names_are_refused(name):
    with pytest.raises(ValueError, match="is no clip of NTU RGB"):
        parse_clip_name(name)


def test_the_published_counts_add_up():
    for task, counts in COUNTS.items():
        assert len(missing_clips(task)) == counts["on the missing list"]
        assert len(class_names(task)) == counts["classes"]
        for protocol in PROTOCOLS[task]:
            assert counts[f"{protocol}_train"] + counts[f"{protocol}_val"] == counts["usable"]
    assert missing_clips(60) < missing_clips(120)


def every_name():
    "All clips of the cross-product that the counts of NTU-60 are made from, one per code."
    return [f"S{s:03}C{c:03}P{p:03}R{r:03}A{a:03}" for s in (1, 17, 18) for c in (1, 2, 3)
            for p in (1, 3, 45) for r in (1, 2) for a in (1, 60, 61)]


def test_splits_share_nothing_and_lose_nothing():
    names = [name for name in every_name() if in_task(parse_clip_name(name), 60)]
    for task, protocols in PROTOCOLS.items():
        splits = split_clips(names, task)
        for protocol in protocols:
            train, val = splits[f"{protocol}_train"], splits[f"{protocol}_val"]
            assert sorted(train + val) == sorted(names) and not set(train) & set(val)


def test_counts_leave_out_what_belongs_to_the_larger_set_and_what_is_missing():
    names = every_name() + ["S001C002P005R002A008"]
    found = {key: pair[0] for key, pair in compare_counts(names, 60).items()}
    assert found["recordings"] == 2 * 3 * 3 * 2 * 2 + 1
    assert found["on the missing list"] == 1 and found["setups"] == 2
    assert compare_counts(names, 120)["recordings"] == (len(names), 114480)
    with pytest.raises(ValueError, match="unknown task"):
        compare_counts(names, 90)
