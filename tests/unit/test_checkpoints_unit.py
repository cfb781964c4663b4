"""Corner cases of checkpoints: forms, hostile files, damage."""

import io
import random
import struct
import types
import zipfile
from collections import Counter, OrderedDict
from unittest import mock

import hostile
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from skelbook.models.checkpoints import read_checkpoint

WEIGHTS = OrderedDict(
    a=torch.arange(6.).reshape(2, 3), b=torch.tensor(7), c=torch.zeros(0, 3),
    d=torch.ones(3).half(), e=torch.arange(12.).reshape(3, 4).t(), f=torch.tensor([True, False]),
    g=torch.arange(5, dtype=torch.int32)[2:],
    h=torch.nn.Parameter(torch.ones(2, dtype=torch.double)))


def saved(content, new=True):
    "The bytes of a checkpoint, in the present form or the old one."
    file = io.BytesIO()
    torch.save(content, file, _use_new_zipfile_serialization=new)
    return file.getvalue()


def read(content, path, **options):
    "What is read from the bytes of a checkpoint."
    (path / "a.pth").write_bytes(content)
    return read_checkpoint(path / "a.pth", **options)


def refusal(content, path, **options):
    "The one line with which the bytes of a checkpoint are refused, at a bounded cost."
    with hostile.quickly(1), pytest.raises(ValueError) as caught:
        read(content, path, **options)
    assert str(path / "a.pth") in str(caught.value) and str(caught.value).isprintable()
    return str(caught.value)


def same(ours, theirs):
    "Whether two state dictionaries hold the same tensors under the same names."
    return list(ours) == list(theirs) and all(
        ours[key].dtype == theirs[key].dtype and torch.equal(ours[key], theirs[key])
        for key in ours)


def with_program(program, content=None):
    "A checkpoint in a zip archive with another pickle in place of its own."
    file = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content or saved(WEIGHTS))) as old, \
            zipfile.ZipFile(file, "w") as new:
        for name in old.namelist():
            new.writestr(name, program if name.endswith("data.pkl") else old.read(name))
    return file.getvalue()


@pytest.mark.parametrize("new", [True, False])
def test_every_kind_of_tensor_is_read(new, tmp_path):
    state, meta = read(saved(WEIGHTS, new), tmp_path)
    assert same(state, WEIGHTS) and meta == {}
    state["a"] += 1                               # ours alone, and not the file's


@pytest.mark.parametrize("new", [True, False])
def test_tensors_that_share_numbers_are_read(new, tmp_path):
    whole = torch.arange(12.)
    shared = {"whole": whole, "half": whole[6:], "again": whole, "square": whole[:4].reshape(2, 2)}
    assert same(read(saved(shared, new), tmp_path)[0], shared)


@pytest.mark.parametrize("new", [True, False])
def test_only_words_and_numbers_of_meta_are_kept(new, tmp_path):
    meta = {"epoch": 3, "time": "now", "lr": 0.1, "CLASSES": ["a"], "best": np.float32(2),
            "seed": None, "hook_msgs": {"last": 1}, "counts": Counter("ab"), "ready": True}
    content = saved({"meta": meta, "state_dict": WEIGHTS, "optimizer": {"state": {}}}, new)
    state, found = read(content, tmp_path)
    assert same(state, WEIGHTS)
    assert found == {"epoch": 3, "time": "now", "lr": 0.1, "best": 2.0, "ready": True}


def mmengine(**more):
    "The bytes of a checkpoint that mentions a class of mmengine as often as mmengine does."
    class HistoryBuffer:
        def __init__(self):
            self.numbers, self.count, self.size = np.ones(3), np.zeros(2, np.int64), np.int64(4)
            self.methods = {"mean": HistoryBuffer.mean}

        def mean(self):
            return self.numbers.mean()

        def __getstate__(self):
            return self.__dict__

    name = "mmengine.logging.history_buffer"
    HistoryBuffer.__module__, HistoryBuffer.__qualname__ = name, "HistoryBuffer"
    HistoryBuffer.mean.__module__, HistoryBuffer.mean.__qualname__ = name, "HistoryBuffer.mean"
    modules = {part: types.ModuleType(part) for part in (
        "mmengine", "mmengine.logging", name)}
    modules[name].HistoryBuffer = HistoryBuffer
    with mock.patch.dict("sys.modules", modules):
        return saved({"meta": {"epoch": 16, "cfg": "model = dict()"}, "state_dict": WEIGHTS,
                      "message_hub": {"log_scalars": {"loss": HistoryBuffer()}}} | more)


def test_mmengine_checkpoints_are_read_without_mmengine(tmp_path):
    content = mmengine()
    for name in (b"HistoryBuffer", b"getattr", b"_reconstruct", b"scalar", b"encode"):
        assert name in content
    state, meta = read(content, tmp_path)
    assert same(state, WEIGHTS) and meta == {"epoch": 16, "cfg": "model = dict()"}


def test_averaged_weights_are_read_when_they_are_asked_for(tmp_path):
    averaged = {f"module.{key}": value for key, value in WEIGHTS.items()}
    averaged = {"steps": torch.tensor(3)} | averaged
    content = mmengine(ema_state_dict=averaged)
    assert same(read(content, tmp_path, ema=True)[0], WEIGHTS)
    assert "no ema_state_dict among" in refusal(saved({"state_dict": WEIGHTS}), tmp_path, ema=True)
    assert "no ema_state_dict among" in refusal(saved(WEIGHTS), tmp_path, ema=True)


def test_module_is_taken_off_only_when_all_names_have_it(tmp_path):
    assert list(read(saved({"module.a": WEIGHTS["a"]}), tmp_path)[0]) == ["a"]
    mixed = {"module.a": WEIGHTS["a"], "module": WEIGHTS["b"]}
    assert list(read(saved(mixed), tmp_path)[0]) == list(mixed)


def test_large_weights_are_read(tmp_path):
    large = {str(i): torch.ones(1000, 1000) for i in range(3)}
    assert same(read(saved(large), tmp_path)[0], large)
    assert same(read(saved(large, False), tmp_path)[0], large)


@pytest.mark.parametrize("content", [
    [], {"a": 1}, {"a": torch.ones(2), "b": [1]}, {"state_dict": 3}, {3: torch.ones(2)},
    {"a": torch.ones(2).bfloat16()}, {"state_dict": {"a": np.array([None])}},
    {"a": torch.ones(2).to(torch.complex64)}], ids=str)
def test_what_is_not_a_state_dictionary_is_refused(content, tmp_path):
    assert ": found " in refusal(saved(content), tmp_path)


def test_no_hostile_checkpoint_runs_anything(tmp_path):
    canary = tmp_path / "canary"
    legacy = saved(WEIGHTS, False)
    start = legacy.index(b".", 17 + 8) + 1        # behind magic number, version, and the machine
    for name, program in hostile.running(canary).items():
        assert "; expected a checkpoint" in refusal(with_program(program), tmp_path), name
        refusal(legacy[:start] + program + legacy[start:], tmp_path)
        refusal(legacy[:17] + program, tmp_path)
        assert not canary.exists(), name


@pytest.mark.parametrize("name", sorted(hostile.greedy() | hostile.misfits()))
def test_no_checkpoint_takes_time_or_memory(name, tmp_path):
    program = (hostile.greedy() | hostile.misfits())[name]
    if name not in ("memo-number", "memo-number-as-text"):
        refusal(with_program(program), tmp_path)


def test_a_name_that_is_not_allowed_is_named(tmp_path):
    content = with_program(hostile.call("torch.storage", "_load_from_bytes", b"x"))
    assert "torch.storage._load_from_bytes" in refusal(content, tmp_path)
    content = with_program(hostile.call("mmengine.config.config", "ConfigDict"))
    assert "mmengine.config.config.ConfigDict" in refusal(content, tmp_path)


def tensor(shape, strides, offset=0, kind="Float", key="0", count=6, word="storage"):
    "A pickle with one tensor as it is described."
    def integers(*values):
        return b"(" + b"".join(b"\x8a\x08" + struct.pack("<q", value) for value in values) + b"t"
    block = b"(" + hostile.text(word) + hostile.fetch("torch", f"{kind}Storage") \
        + hostile.text(key) + hostile.text("cpu") + integers(count)[1:-1] + b"tQ"
    return hostile.program(
        b"}" + hostile.text("a") + hostile.fetch("torch._utils", "_rebuild_tensor_v2")
        + b"(" + block + integers(offset)[1:-1] + integers(*shape) + integers(*strides)
        + b"\x89}tRs", wrap=False)


def test_a_tensor_stays_inside_its_numbers(tmp_path):
    state, _ = read(with_program(tensor((2, 3), (3, 1))), tmp_path)
    assert state["a"].tolist() == [[0, 1, 2], [3, 4, 5]]
    for shape, strides in (((2, 3), (4, 1)), ((1 << 40,), (0,)), ((2,), (-1,)), ((-2, -3), (3, 1)),
                           ((2, 3), (1,)), ((7,), (1,)), ((1 << 62, 1 << 62), (1, 1))):
        refusal(with_program(tensor(shape, strides)), tmp_path)
    for wrong in (dict(offset=1), dict(offset=-1), dict(offset=1 << 62), dict(count=7),
                  dict(count=-1), dict(kind="Double"), dict(kind="BFloat16"), dict(key="9"),
                  dict(key="../../x"), dict(word="x")):
        refusal(with_program(tensor((6,), (1,), **wrong)), tmp_path)


def test_names_of_blocks_are_looked_at_before_they_are_used(tmp_path):
    whole = saved({"a": torch.ones(2)}, False)
    keys = whole.rindex(b"\x80\x02]")
    refusal(whole[:keys] + b"\x80\x02]" + hostile.NESTED + b"a." + whole[keys:], tmp_path)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("new", [True, False])
def test_damage_is_refused_or_harmless(new, tmp_path):
    whole, dice = saved({"meta": {"epoch": 1}, "state_dict": WEIGHTS}, new), random.Random(int(new))
    for _ in range(300):
        data, at = bytearray(whole), dice.randrange(len(whole))
        if dice.random() < 0.3:
            del data[at:]
        else:
            data[at] ^= 1 << dice.randrange(8)
        try:
            state, _ = read(bytes(data), tmp_path)
        except ValueError as error:
            assert "; expected a checkpoint" in str(error)
        else:                                     # only the zip form has checksums
            assert not new or same(state, WEIGHTS)


def test_safetensors_are_read_and_their_damage_is_refused(tmp_path):
    path = tmp_path / "a.safetensors"
    state = {"a": torch.arange(6.), "b": torch.ones(2).bfloat16()}
    save_file(state, path, {"model": "agcn"})
    assert same(read_checkpoint(path)[0], state) and read_checkpoint(path)[1] == {"model": "agcn"}
    whole = path.read_bytes()
    for content in (b"", whole[:-1], whole[:20], b"\xff" * 100, bytes(100)):
        path.write_bytes(content)
        with pytest.raises(ValueError, match="a.safetensors: .*; expected a checkpoint"):
            read_checkpoint(path)


def test_a_missing_file_is_missing(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_checkpoint(tmp_path / "nowhere.pth")
    for content in (b"", b"hello", b"PK\3\4", saved(WEIGHTS)[:-30]):
        refusal(content, tmp_path)
