"""Whatever clips an annotation file holds, the store holds; slots are those of the rules."""

import pickle
import tempfile
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from skelbook.data.annotations import decompress, read_annotations
from skelbook.data.store import open_store, write_store

SHAPES = st.lists(st.tuples(st.integers(1, 3), st.integers(1, 7)), min_size=1, max_size=6)


@settings(max_examples=25, deadline=None)
@given(SHAPES, st.sampled_from([np.float16, np.float32]), st.booleans(), st.integers(2, 5),
       st.integers(0, 2**32 - 1))
def test_file_to_store_and_back(shapes, dtype, flat, protocol, seed):
    rng = np.random.default_rng(seed)
    joints = [(rng.standard_normal((*shape, 17, 2)) * 500).astype(dtype) for shape in shapes]
    scores = [rng.random((*shape, 17)).astype(dtype) for shape in shapes]
    names = [f"clip {i}" for i in range(len(shapes))]
    annotations = [dict(frame_dir=name, label=i, keypoint=points, keypoint_score=score,
                        img_shape=(100 + i, 200), total_frames=points.shape[1])
                   for i, (name, points, score) in
                   enumerate(zip(names, joints, scores, strict=True))]
    some = list(rng.permutation(names)[:rng.integers(len(names) + 1)])
    content = annotations if flat else {"split": {"train": some}, "annotations": annotations}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "own.pkl"
        path.write_bytes(pickle.dumps(content, protocol))
        store = open_store(write_store(Path(folder) / "a.skel", read_annotations(path)))
        assert store.clips.joints.dtype == dtype and store.clips.names.tolist() == names
        for sample, points, score in zip(store.clips.samples(), joints, scores, strict=True):
            np.testing.assert_array_equal(sample["joints"], points)
            np.testing.assert_array_equal(sample["scores"], score)
        assert store.clips.image_size[:, 0].tolist() == [100 + i for i in range(len(names))]
        if not flat:
            assert store.clips.names[store.splits["train"]].tolist() == sorted(some)


def by_the_rules(rows, frames, squeeze, total_frames, max_person):
    "One skeleton after the other into the next free slot of its frame; then the best of each."
    times = sorted(set(frames)) if squeeze else range(total_frames)
    persons = {time: [] for time in times}
    for row, frame in zip(rows, frames, strict=True):
        persons[frame].append(row)
    most = max(map(len, persons.values()), default=0)
    result = np.zeros((min(most, max_person), len(times), rows.shape[1], 3), np.float16)
    for t, time in enumerate(times):
        found = persons[time]
        if most > max_person:
            found = sorted(found, key=lambda row: -row[:, 2].sum())
        for slot, row in enumerate(found[:max_person]):
            result[slot, t] = row
    return result


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 9), max_size=40), st.integers(1, 4), st.booleans(),
       st.integers(0, 2**32 - 1))
def test_slots_are_filled_by_the_rules(frames, max_person, squeeze, seed):
    frames = sorted(frames)
    rows = np.random.default_rng(seed).integers(0, 3, (len(frames), 9, 3)).astype(np.float16)
    joints, scores = decompress(rows, np.array(frames, int), None if squeeze else 10, max_person)
    expected = by_the_rules(rows, frames, squeeze, 10, max_person)
    np.testing.assert_array_equal(joints, expected[..., :2])
    np.testing.assert_array_equal(scores, expected[..., 2])
