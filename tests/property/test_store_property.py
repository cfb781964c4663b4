"""Any ragged collection of clips comes back from the disk as it was."""

import tempfile
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from skelbook.data.store import Source, open_store, write_store

SHAPES = st.lists(st.tuples(st.integers(1, 3), st.integers(1, 9)), min_size=1, max_size=8)


@settings(max_examples=25, deadline=None)
@given(SHAPES, st.integers(0, 2**32 - 1), st.booleans(), st.data())
def test_round_trip(shapes, seed, scored, data):
    rng = np.random.default_rng(seed)
    clips = [rng.standard_normal((m, t, 17, 2)).astype(np.float32) for m, t in shapes]
    samples = [dict(name=f"clip {i}", label=i % 2, joints=joints,
                    **(dict(scores=rng.random(joints.shape[:3])) if scored else {}))
               for i, joints in enumerate(clips)]
    split = data.draw(st.lists(st.integers(0, len(clips) - 1), unique=True))
    with tempfile.TemporaryDirectory() as folder:
        source = Source("a", "coco", ("x", "y"), {"some": [f"clip {i}" for i in split]},
                        lambda: iter(samples), len(samples), {}, np.float32)
        store = open_store(write_store(Path(folder) / "a.skel", source))
        assert store.splits["some"].tolist() == split
        assert len(store.clips) == len(clips)
        for i, joints in enumerate(clips):
            assert np.array_equal(store.clips.clip(i), joints)
            for person in range(len(joints)):
                for frame in range(joints.shape[1]):
                    row = store.clips.offset[i] + person * joints.shape[1] + frame
                    assert np.array_equal(store.clips.joints[row], joints[person, frame])
