"""One training in several processes: the same bits for any number of them."""

import pytest
import shared_run
from test_training import outcome

from skelbook.learner.runs import read_log, read_record

SHARDED = dict(batch=8, shards=4)


def shared(folder, processes, **changes):
    "The folder of a run that several processes have trained and tested."
    process = shared_run.start(folder, processes, **SHARDED | changes)
    shown, _ = process.communicate(timeout=120)
    assert process.returncode == 0, shown[-3000:]
    return folder


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    "The run of one process."
    return shared(tmp_path_factory.mktemp("alone") / "run", 1)


@pytest.mark.parametrize("processes, workers", [(2, 0), (4, 2)])
def test_any_number_of_processes_ends_with_the_same_bits(alone, tmp_path, processes, workers):
    folder = shared(tmp_path / "run", processes, workers=workers)
    assert outcome(folder) == outcome(alone)
    assert read_record(folder)["processes"] == processes


def test_a_last_step_with_fewer_clips_than_shards_is_shared_too(tmp_path):
    ends = [outcome(shared(tmp_path / str(size), size, batch=7, shards=4)) for size in (1, 4)]
    assert ends[0] == ends[1]                           # 16 clips: steps of 7, 7 and 2


def test_sums_in_any_order_are_nearly_the_same(alone, tmp_path):
    folder = shared(tmp_path / "run", 2, exact=False)
    for one, other in zip(read_log(alone), read_log(folder), strict=True):
        assert one["loss"] == pytest.approx(other["loss"], rel=1e-3)
