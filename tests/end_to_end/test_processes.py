"""One training in several processes: the same bits for any number of them."""

import shutil

import pytest
import shared_run
from test_training import outcome

from skelbook.learner.runs import read_log, read_record

SHARDED = dict(batch=8, shards=4)


def shared(folder, processes, timeout=120, **changes):
    "The folder of a run that several processes have trained and tested."
    process = shared_run.start(folder, processes, **SHARDED | changes)
    shown, _ = process.communicate(timeout=timeout)
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


def test_an_average_of_the_weights_has_the_same_bits_in_every_number_of_processes(tmp_path):
    ends = [outcome(shared(tmp_path / str(size), size, ema=0.9)) for size in (1, 2)]
    assert ends[0] == ends[1]


@pytest.mark.skipif(not shutil.which("g++"), reason="there is no C++ compiler")
def test_compiled_passes_have_the_same_bits_in_every_number_of_processes(tmp_path):
    same = dict(model="two_stream_cnn", clip_len=16, compile=True, timeout=600)  # it drops features
    ends = [outcome(shared(tmp_path / str(size), size, **same)) for size in (1, 2)]
    assert ends[0] == ends[1]
    assert read_record(tmp_path / "2")["compile"] is True
