"""The fast reader of raw NTU RGB+D text agrees with the textbook's on every recording."""

import sys
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from skelbook.data.ntu import parse_recording

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))
from textbook import read_frames, sightings  # noqa: E402

plain = st.floats(-9.99, 9.99).map(lambda x: f"{x:.7g}")
any_float = st.floats(allow_nan=False, allow_infinity=False)
awkward = any_float.map(repr) | any_float.map(lambda x: f"{x:.6E}") | st.sampled_from(
    ["0", "-0", "-0.0", "1", "12.5", "-12.25", ".5", "-5.", "0.1234567890123", "9.99999999999999"])
numbers = st.one_of(plain, plain, plain, awkward)
ids = st.sampled_from(["72057594037944734", "72057594037944735", "1", "72057594037999999"])


@st.composite
def recordings(draw):
    "Text of a recording: few frames, few bodies, numbers of every form."
    pool = draw(st.lists(numbers, min_size=3, max_size=12))
    end = draw(st.sampled_from(["\n", "\r\n"]))
    chance = np.random.default_rng(draw(st.integers(0, 2**32)))
    counts = draw(st.lists(st.integers(0, 3), min_size=0, max_size=6))
    lines = [str(len(counts))]
    for count in counts:
        lines.append(str(count))
        for _ in range(count):
            lines += [f"{draw(ids)} 0 1 1 1 1 0 0.01 -0.2 2", "25"]
            lines += [" ".join([*row, "2"]) for row in chance.choice(pool, (25, 11))]
    return end.join(lines) + draw(st.sampled_from(["", end, end + end, " "]))


@settings(deadline=None, max_examples=60)
@given(recordings())
def test_same_as_the_textbook(text):
    clip = parse_recording("clip", text.encode())
    frames = read_frames(iter(text.split("\n")))
    frame, place, body, joints = sightings(frames)
    assert clip.num_frames == len(frames)
    assert clip.frame.tolist() == frame and clip.place.tolist() == place
    assert [clip.ids[k] for k in clip.body] == body
    assert clip.joints.tobytes() == joints.tobytes()


@settings(deadline=None, max_examples=100)
@given(recordings(), st.integers(0, 10**6), st.sampled_from("0123456789.-eE \n\r,"))
def test_a_changed_byte_is_read_as_the_textbook_reads_it_or_refused(text, at, byte):
    at %= len(text)
    changed = text[:at] + byte + text[at + 1:]
    try:
        clip = parse_recording("clip", changed.encode(), details=True)
    except ValueError as error:
        assert str(error).startswith("clip, line ")
        return
    lines = changed.split("\n")
    for i in range(len(lines) - 1):     # ours does not read the nine numbers behind an id
        if lines[i + 1].strip() == "25":
            lines[i] = f"{lines[i].split()[0]} 0 1 1 1 1 0 0 0 2"
    assert clip.joints.tobytes() == sightings(read_frames(iter(lines)))[3].tobytes()
