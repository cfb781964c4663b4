"""Whatever is planted, the doctor finds it, and what it mends has no error left."""

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from skelbook.data.checks import examine, mend
from skelbook.data.store import Source, open_store, write_store
from skelbook.data.symptoms import fill_gaps, joint_states

COUNT, V = 16, 17


def clip(number):
    rng = np.random.default_rng(number)
    return dict(name=f"clip{number:02}", label=number % 2, num_frames=12, image_size=(100, 100),
                joints=rng.uniform(10, 90, (1, 12, V, 2)), scores=np.ones((1, 12, V)))


def gaps(sample, value):
    sample["joints"][:, 2:5, :3] = value


def overwrite(**entries):
    return lambda sample: sample.update(entries)


PLANTS = {
    "nan": ("F16", lambda s: gaps(s, np.nan)), "infinite": ("F16", lambda s: gaps(s, -np.inf)),
    "unsure": ("F14", lambda s: (gaps(s, np.nan), s["scores"].fill(0))),
    "nothing": ("F21", lambda s: s["joints"].fill(0)),
    "all lost": ("F21", lambda s: s["joints"].fill(np.nan)),
    "scores": ("F15", lambda s: s["scores"].fill(np.nan)),
    "frames": ("F19", overwrite(joints=np.ones((1, 0, V, 2)), scores=np.ones((1, 0, V)))),
    "persons": ("F20", overwrite(joints=np.ones((0, 12, V, 2)), scores=np.ones((0, 12, V)))),
    "joints": ("F17", overwrite(joints=np.ones((1, 12, 25, 2)))),
    "coordinates": ("F18", overwrite(joints=np.ones((1, 12, V, 3)))),
    "axes": ("F17", overwrite(joints=np.ones((12, V, 2)))),
    "label": ("F23", overwrite(label=2)), "no label": ("F24", overwrite(label=None)),
    "length": ("F30", overwrite(num_frames=13)), "size": ("F32", lambda s: s.pop("image_size")),
    "shape": ("F32", overwrite(scores=np.ones((1, 11, V)))),
    "outside": ("F31", lambda s: s["joints"].__iadd__(500)), "well": (None, lambda s: None),
}
# the first four clips, two of each class, stay healthy, and so something is left of every split
planted = st.lists(st.sampled_from(sorted(PLANTS)), min_size=COUNT - 4, max_size=COUNT - 4)
orders = st.permutations(range(COUNT))
few = settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.too_slow])


def source_of(plants, order, twice=(), leaks=()):
    "Sixteen clips with faults, in an order; some names are used twice, some clips leak."
    samples = [clip(number) for number in range(COUNT)]
    for plant, sample in zip(plants, samples[4:], strict=True):
        PLANTS[plant][1](sample)
    samples = [samples[number] for number in order]
    samples += [clip(number) for number in twice]
    test = [f"clip{n:02}" for n in (2, 3, *range(10, COUNT))]
    train = [f"clip{n:02}" for n in (0, 1, *range(4, 10), *leaks)]
    return Source("toy", "coco", ("wave", "hug"), {"train": train, "test": test, "no": ["clip00"]},
                  lambda: iter([dict(sample) for sample in samples]), len(samples), {}, np.float32)


@few
@given(planted, orders)
def test_every_planted_fault_is_found_by_name(plants, order):
    findings = examine(source_of(plants, order))
    found = {(f.fault, name) for f in findings for name in f.clips}
    wanted = {(PLANTS[plant][0], f"clip{number:02}")
              for number, plant in enumerate(plants, start=4) if PLANTS[plant][0]}
    assert wanted <= found
    assert all(int(name[4:]) >= 4 for fault, name in found if fault not in ("F25", "F28"))


@few
@given(planted, orders, orders)
def test_the_order_of_the_clips_does_not_matter(plants, one, other):
    assert examine(source_of(plants, one)) == examine(source_of(plants, other))


@few
@given(planted, orders, st.sets(st.integers(0, 15), max_size=3),
       st.sets(st.integers(10, 15), max_size=3), st.sampled_from(["drop", "interpolate"]))
def test_what_was_mended_has_no_error_left(plants, order, twice, leaks, policy):
    source = source_of(plants, order, twice, leaks)
    well, changes = mend(source, examine(source), policy)
    assert not [str(f) for f in examine(well) if f.severity == "error"]
    assert len(list(well.samples())) == well.count
    out = {name for names in changes.get("left_out", {}).values() for name in names}
    assert not out & set().union(*well.splits.values())
    assert set(well.splits["test"]) == set(source.splits["test"]) - out
    again, more = mend(well, examine(well), policy)
    assert more == {} and again.count == well.count


def test_what_was_mended_can_be_written(tmp_path):
    plants = [*sorted(PLANTS)][:COUNT - 4]
    for policy in ("drop", "interpolate"):
        source = source_of(plants, range(COUNT))
        well, changes = mend(source, examine(source), policy)
        store = open_store(write_store(tmp_path / f"{policy}.skel", well, changes=changes))
        assert examine(store.source()) == [f for f in examine(well)]


tracks = arrays(np.float64, st.tuples(st.integers(1, 2), st.integers(1, 9), st.just(2), st.just(2)),
                elements=st.sampled_from([0, 1, 2, 5, -3, np.nan, np.inf]))


@few
@given(tracks)
def test_filling_ends_all_gaps_and_touches_nothing_else(joints):
    lost, there = joint_states(joints)
    filled, scores = fill_gaps(joints, np.ones(joints.shape[:3]))
    assert np.isfinite(filled).all()
    np.testing.assert_array_equal(filled[~lost], joints[~lost])
    finite = np.isfinite(joints) & there.any(axis=1)[:, None, :, None]
    np.testing.assert_array_equal(filled[finite], joints[finite])
    np.testing.assert_array_equal(scores, np.where(lost, 0, 1))
    again, _ = fill_gaps(filled)
    np.testing.assert_array_equal(again, filled)


@few
@given(tracks, st.floats(-50, 50), st.floats(0.1, 10))
def test_filling_moves_and_grows_with_the_body(joints, shift, scale):
    whole = np.where(joints == 0, 7, joints)                     # nobody is absent
    filled, moved = fill_gaps(whole)[0], fill_gaps(scale * whole + 1000 + shift)[0]
    seen = joint_states(whole)[1].any(axis=1)[:, None, :, None]
    np.testing.assert_allclose(np.where(seen, moved, 0),
                               np.where(seen, scale * filled + 1000 + shift, 0), atol=1e-9)
