"""Corner cases of files from strangers: what is refused, and at what cost."""

import collections
import io
import json
import pickle
import random
import resource
import subprocess
import sys
import time
import zipfile
import zlib

import hostile
import numpy as np
import pytest
import scipy.io

from skelbook.data.safe import (
    open_archive,
    read_json,
    read_matlab,
    read_npy,
    read_npz,
    read_pickle,
)

RUNNING = sorted(hostile.running("canary"))
SLOW = 1.0       # seconds of CPU that a refusal may take
LARGE = 100_000  # kilobytes that it may add to the process


def refusal(read, *given):
    "The one line with which something is refused, at a bounded cost."
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with hostile.quickly(SLOW), pytest.raises(ValueError) as caught:
        read(*given)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory < LARGE
    message = str(caught.value)
    assert message.isprintable() and len(message) < 600
    assert "; expected " in message and message.endswith("or convert it")
    return message


# -- pickles that were made to hurt

def test_no_hostile_pickle_runs_anything(tmp_path):
    canary, file = tmp_path / "canary", tmp_path / "clips.pkl"
    for name, content in hostile.running(canary).items():
        file.write_bytes(content)
        assert refusal(read_pickle, file).startswith(str(file)), name
        assert not canary.exists(), name


def test_the_canary_is_alive(tmp_path):
    canary = tmp_path / "canary"
    for name in ("posix.system-0", "subprocess.Popen-2", "builtins.exec-4", "in-object-array"):
        (tmp_path / "clips.pkl").write_bytes(hostile.running(canary)[name])
        code = "import pickle, sys; pickle.load(open(sys.argv[1], 'rb'))"
        subprocess.run([sys.executable, "-c", code, tmp_path / "clips.pkl"], timeout=60)
        for _ in range(100):
            if canary.exists():
                break
            time.sleep(0.05)
        canary.unlink()


@pytest.mark.parametrize("name, part", [
    ("os.system-0", "os.system"), ("torch.storage._load_from_bytes-2", "_load_from_bytes"),
    ("getattr-chain-4", "builtins.getattr"), ("persistent", "PERSID"), ("inst", "INST"),
    ("extension-2", "EXT1"), ("in-object-array", "type O8"), ("newobj", "subprocess.Popen"),
    ("dotted", "numpy.os.system")])
def test_a_refusal_says_what_was_found(name, part):
    assert part in refusal(read_pickle, hostile.running("canary")[name], "clips.pkl")


@pytest.mark.parametrize("name", sorted(hostile.greedy()))
def test_no_pickle_takes_time_or_memory(name):
    content = hostile.greedy()[name]
    if name.startswith("memo-number"):           # for this machine any number is as good as 1
        assert read_pickle(content) == {"annotations": None}
    else:
        refusal(read_pickle, content, "clips.pkl")


@pytest.mark.parametrize("name", sorted(hostile.misfits()))
def test_what_is_not_data_is_refused(name):
    refusal(read_pickle, hostile.misfits()[name], "clips.pkl")


def test_a_message_cannot_draw_on_the_terminal():
    name = "\x1b[2J\u202e" + "x" * 5000
    message = refusal(read_pickle, hostile.call("os", name, protocol=4), "a\nb.pkl")
    assert "\\x1b[2J\\u202e" in message and message.startswith("a\\nb.pkl: ")


# -- pickles as they should be

VALUES = [None, True, False, 0, 255, 256, 65536, -1, 2**40, -2**63, 1.5, float("inf"), "",
          "Ä" * 300, "S001C001P001R001A001", "x" * 70_000, [], {}, (), (1,),
          (1, 2), (1, 2, 3), (1, 2, 3, 4),
          [[1], [[2]]], {"a": {"b": (1, [2])}}, {0.5: 3, None: 1, True: 2}, ["a"] * 300]


@pytest.mark.parametrize("protocol", hostile.PROTOCOLS)
@pytest.mark.parametrize("value", VALUES, ids=lambda value: repr(value)[:20])
def test_plain_data_is_read_as_it_was(value, protocol):
    assert read_pickle(pickle.dumps(value, protocol)) == value


@pytest.mark.parametrize("protocol", hostile.PROTOCOLS)
@pytest.mark.parametrize("code", "b1 i1 i2 i4 i8 u1 u2 u4 u8 f2 f4 f8 >f4 >i2 U7 >U3".split())
def test_arrays_are_read_as_they_were(code, protocol):
    array = np.arange(24).reshape(2, 3, 4).astype(code)
    for each in (array, array.T, np.asfortranarray(array), array[:, ::2], array[0, 0, 0],
                 array[:1, 0], array.transpose(1, 0, 2)):
        read = read_pickle(pickle.dumps([each, each], protocol))
        np.testing.assert_array_equal(read[0], each)
        if isinstance(each, np.ndarray):
            assert read[0].dtype == each.dtype and not read[0].flags.writeable
        else:
            assert type(read[0]) is type(each.item())


@pytest.mark.parametrize("protocol", [3, 4, 5])
def test_empty_arrays_are_read(protocol):
    assert read_pickle(pickle.dumps(np.zeros((1, 0, 17, 2)), protocol)).shape == (1, 0, 17, 2)


@pytest.mark.parametrize("protocol", hostile.PROTOCOLS)
def test_ordered_dictionaries_become_plain_ones(protocol):
    pairs = collections.OrderedDict(b=1, a=np.ones(3))
    read = read_pickle(pickle.dumps(pairs, protocol))
    assert type(read) is dict and list(read) == ["b", "a"]


def test_files_of_python_2_are_read():
    label = b"(dp1\nS'label'\np2\nI3\nsS'name'\np3\nS'S001\\xe9'\np4\nsS'ok'\nI01\nsS'n'\nL7L\ns."
    assert read_pickle(label) == {"label": 3, "name": "S001\xe9", "ok": True, "n": 7}
    array = (b"\x80\x02cnumpy.core.multiarray\n_reconstruct\nq\x01cnumpy\nndarray\nq\x02K\x00\x85"
             b"U\x01b\x87Rq\x03(K\x01K\x02\x85cnumpy\ndtype\nq\x04U\x02f4K\x00K\x01\x87Rq\x05(K\x03"
             b"U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89"
             b"U\x08\x00\x00\x80?\x00\x00\x00@tb.")
    np.testing.assert_array_equal(read_pickle(array), np.array([1, 2], "f4"))
    pairs = b"ccollections\nOrderedDict\n((lp1\n(lp2\nS'a'\naI1\naatR."
    assert read_pickle(pairs) == {"a": 1}


@pytest.mark.parametrize("address", [b"numpy._core", b"numpy.core"])
def test_both_addresses_of_numpy_are_known(address):
    content = pickle.dumps({"a": np.ones(3), "b": np.float32(2)}, 2)
    content = content.replace(b"numpy._core", b"numpy.core").replace(b"numpy.core", address)
    assert address in content and read_pickle(content)["b"] == 2


def test_shared_parts_stay_shared():
    size, array = (1080, 1920), np.ones(1000)
    read = read_pickle(pickle.dumps([{"img_shape": size, "a": array} for _ in range(8)]))
    assert read[0]["img_shape"] is read[7]["img_shape"] and read[0]["a"] is read[7]["a"]


def test_arrays_of_a_file_are_mapped_not_read(tmp_path):
    path = tmp_path / "big.pkl"
    path.write_bytes(pickle.dumps([np.zeros(4_000_000) for _ in range(4)], 4))
    code = ("import resource, sys; from skelbook.data.safe import read_pickle, read_npz\n"
            "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
            "read = read_pickle(sys.argv[1]); assert read[3][-1] == 0\n"
            "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)")
    result = subprocess.run([sys.executable, "-c", code, path], capture_output=True, check=True)
    assert int(result.stdout) < 40_000           # kilobytes; the file has 128 MB


def test_a_missing_file_is_missing(tmp_path):
    for read in (read_pickle, read_npy, read_npz, read_json):
        with pytest.raises(FileNotFoundError):
            read(tmp_path / "nowhere")


# -- arrays

def npy(header, content=b"", version=b"\1\0"):
    "An npy file with any header."
    length = len(header).to_bytes(2 if version[0] == 1 else 4, "little")
    return b"\x93NUMPY" + version + length + header + content


HEAD = b"{'descr': '%s', 'fortran_order': False, 'shape': (%s), }"


@pytest.mark.parametrize("content", [
    b"", b"\x93NUMPY", npy(HEAD % (b"<f4", b"2,")), npy(HEAD % (b"<f4", b"2,"), bytes(9)),
    npy(HEAD % (b"|O", b"1,"), bytes(8)), npy(HEAD % (b"<f4", b"99999999999,"), bytes(8)),
    npy(HEAD % (b"<f4", b"9" * 5000), bytes(8)), npy(HEAD % (b"<f4", b"-1, -2"), bytes(8)),
    npy(b"[" * 60_000), npy(b"__import__('os').system('true')"), npy(b"-" * 9000 + b"1"),
    npy(b"{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (2,), }", bytes(8)),
    npy(HEAD % (b"<f4", b"2,"), bytes(8), b"\3\0"), npy(HEAD % (b"<M8", b"1,"), bytes(8)),
    b"\x93NUMPY\2\0\xff\xff\xff\xff{", pickle.dumps(np.ones(3))])
def test_an_npy_file_with_something_else_is_refused(content, tmp_path):
    (tmp_path / "a.npy").write_bytes(content)
    assert "a.npy" in refusal(read_npy, tmp_path / "a.npy")


@pytest.mark.parametrize("array", [
    np.ones(()), np.zeros((0, 3)), np.asfortranarray(np.arange(6.).reshape(2, 3)),
    np.array(["a", "bc"]), np.arange(3, dtype=">i2"), np.array([True])], ids=str)
def test_npy_files_of_numpy_are_read(array, tmp_path):
    np.save(tmp_path / "a.npy", array)
    for mapped in (False, True):
        read = read_npy(tmp_path / "a.npy", mmap=mapped)
        np.testing.assert_array_equal(read, array)
        assert read.dtype == array.dtype and read.flags.writeable is not mapped
    with open(tmp_path / "b.npy", "wb") as file:
        np.lib.format.write_array(file, array, version=(2, 0))
    np.testing.assert_array_equal(read_npy(tmp_path / "b.npy"), array)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_npz_files_of_numpy_are_read(save, tmp_path):
    arrays = {"x": np.arange(12.).reshape(3, 4), "y": np.array(["a", "b"]), "z": np.zeros(0)}
    save(tmp_path / "a.npz", **arrays)
    read = read_npz(tmp_path / "a.npz")
    assert dict(read).keys() == arrays.keys() and "x" in read and "w" not in read
    for name, array in arrays.items():
        np.testing.assert_array_equal(read[name], array)


def test_labels_are_read_without_the_joints(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as file:
        file.writestr("x.npy", b"not an array at all")
        file.writestr("y.npy", npy(HEAD % (b"|u1", b"2,"), b"\1\2"))
    read = read_npz(tmp_path / "a.npz")
    assert read["y"].tolist() == [1, 2]
    assert "a.npz/x.npy" in refusal(read.__getitem__, "x")


# -- archives

def written(path, members, method=zipfile.ZIP_DEFLATED, change=None):
    "A zip file with these members (name, bytes)."
    with zipfile.ZipFile(path, "w", method) as file:
        for name, content in members:
            info = zipfile.ZipInfo(name)
            info.compress_type = method
            (change or (lambda info: None))(info)
            with pytest.warns() if name in file.NameToInfo else open("/dev/null"):
                file.writestr(info, content)
    return path


def open_it(path):
    "Opens an archive and reads all of it."
    with open_archive(path) as archive:
        return {name: archive.read(name) for name in archive.names()}


def test_an_archive_gives_its_files(tmp_path):
    path = written(tmp_path / "a.zip", [("a/", b""), ("a/b.txt", b"x"), ("..c/d..", b"")])
    assert open_it(path) == {"a/b.txt": b"x", "..c/d..": b""}


@pytest.mark.parametrize("name", ["../a", "a/../../b", "/a", "\\a", "a\\..\\..\\b", "c:\\a", "C:a",
                                  ".."])
def test_names_that_lead_elsewhere_are_refused(name, tmp_path):
    path = written(tmp_path / "a.zip", [("xx" * len(name), b"x")])
    data = path.read_bytes().replace(b"xx" * len(name), name.encode().ljust(2 * len(name), b"/"))
    path.write_bytes(data)
    assert "leads out" in refusal(open_it, path)


def test_links_duplicates_encryption_and_odd_methods_are_refused(tmp_path):
    def link(info):
        info.external_attr = 0o120777 << 16
    assert "link" in refusal(open_it, written(tmp_path / "a.zip", [("a", b"/etc")], change=link))
    assert "twice" in refusal(open_it, written(tmp_path / "b.zip", [("a", b"1"), ("a", b"2")]))
    path = written(tmp_path / "c.zip", [("a", b"1")])
    listed = b"PK\1\2\x14\x03\x14\x00"
    path.write_bytes(path.read_bytes().replace(listed + b"\x00", listed + b"\x01"))
    assert "encrypted" in refusal(open_it, path)
    path = written(tmp_path / "d.zip", [("a", b"1")], zipfile.ZIP_LZMA)
    assert "unusual" in refusal(open_it, path)


def test_bombs_are_refused_before_they_go_off(tmp_path):
    path = written(tmp_path / "a.zip", [("a", bytes(70 << 20))])
    assert "would unpack" in refusal(open_it, path)
    many = written(tmp_path / "b.zip", [(str(i), bytes(1 << 20)) for i in range(80)])
    assert "promised" in refusal(open_it, many)


def test_a_wrong_size_or_checksum_is_noticed(tmp_path):
    path = written(tmp_path / "a.zip", [("a", b"hello hello")], zipfile.ZIP_STORED)
    path.write_bytes(path.read_bytes().replace(b"hello hello", b"hello HELLO"))
    assert "a.zip/a" in refusal(open_it, path)
    for content in (b"", b"PK", b"hello", path.read_bytes()[:-30]):
        (tmp_path / "b.zip").write_bytes(content)
        assert "b.zip" in refusal(open_it, tmp_path / "b.zip")


# -- JSON and MATLAB

@pytest.mark.parametrize("content", [
    b"", b"{", b'{"a": 1}}', b"\xff\xfe", b"[" * 200_000, b'{"a":' * 100_000, b"9" * 10_000,
    b"nil"])
def test_what_is_not_json_is_refused(content):
    assert refusal(read_json, content, "a.json").startswith("a.json: ")


def test_json_comes_from_paths_files_and_bytes(tmp_path):
    (tmp_path / "a.json").write_text('{"a": [1, NaN]}', encoding="utf-8-sig")
    with open(tmp_path / "a.json", "rb") as file:
        for source in (tmp_path / "a.json", str(tmp_path / "a.json"), file):
            assert read_json(source)["a"][0] == 1
    assert "a.json" in refusal(read_json, io.BytesIO(b"{"), "a.json")


def saved(variables, **options):
    "The bytes of a MATLAB file."
    file = io.BytesIO()
    scipy.io.savemat(file, variables, **options)
    return file.getvalue()


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("code", "i1 u1 i2 u2 i4 u4 i8 u8 f4 f8".split())
def test_matlab_numbers_are_read(code, packed):
    array = np.arange(24).reshape(2, 3, 4).astype(code)
    data = saved({"a": array, "b": array[0, 0, :1], "empty": array[:0]}, do_compression=packed)
    read, ours = scipy.io.loadmat(io.BytesIO(data), mat_dtype=True), read_matlab(data, "a.mat")
    assert list(ours) == ["a", "b", "empty"]
    for name, value in ours.items():
        np.testing.assert_array_equal(value, read[name])
        assert value.dtype == read[name].dtype


def test_matlab_text_and_truth_are_read():
    variables = {"a": "bench press", "b": np.array([[True, False]]), "c": "", "d": "Ä"}
    ours = read_matlab(saved(variables), "a.mat")
    assert ours["a"] == "bench press" and ours["c"] == "" and ours["d"] == "Ä"
    assert ours["b"].dtype == bool and ours["b"].tolist() == [[True, False]]


@pytest.mark.parametrize("variables, part", [
    ({"a": {"b": 1}}, "structure"), ({"a": np.array([1, "b"], object)}, "cell"),
    ({"a": np.ones(2) + 1j}, "complex"), ({"a": np.array(["ab", "cd"])}, "several lines"),
    ({"a": scipy.sparse.eye_array(3).tocsc()}, "sparse")])
def test_other_matlab_classes_are_named(variables, part):
    assert part in refusal(read_matlab, saved(variables), "a.mat")


def test_matlab_bombs_and_other_versions_are_refused():
    packed = zlib.compress(bytes(70 << 20))
    bomb = saved({})[:128] + (15).to_bytes(4, "little") + len(packed).to_bytes(4, "little") + packed
    assert "packed bytes" in refusal(read_matlab, bomb, "a.mat")
    assert "save -v7" in refusal(read_matlab, saved({"a": 1}, format="4"), "a.mat")
    assert "save -v7" in refusal(read_matlab, b"MATLAB 7.3 MAT-file" + bytes(500), "a.mat")
    data = saved({"a": np.ones(4)})
    assert "twice" in refusal(read_matlab, data + data[128:], "a.mat")
    huge = data.replace((1).to_bytes(4, "little") + (4).to_bytes(4, "little"),
                        b"\xff\xff\xff\x7f\xff\xff\xff\x7f")
    assert "32 bytes for an array of" in refusal(read_matlab, huge, "a.mat")


# -- damage at random places

def read_archive(data, path):
    "Everything in a zip archive or npz file of these bytes."
    path.write_bytes(data)
    return open_it(path) if path.suffix == ".zip" else dict(read_npz(path))


def samples(path):
    "One small file of each format with the function that reads its bytes."
    clips = {"split": {"a": ["S001", "S002"]}, "annotations": [
        {"frame_dir": f"S00{i}", "label": np.int64(i), "img_shape": (1080, 1920), "valid": {0.5: 3},
         "keypoint": np.ones((1, 3, 5, 2), np.float16), "order": collections.OrderedDict(a=1)}
        for i in range(3)]}
    for protocol in hostile.PROTOCOLS:
        content = pickle.dumps(clips, protocol)
        yield f"pickle-{protocol}", content, lambda data: read_pickle(data, "a")
    arrays, file = {"x": np.ones((2, 3)), "y": np.arange(4)}, io.BytesIO()
    np.save(file, arrays["x"])
    (path / "a.npy").write_bytes(b"")

    def read_array(data):
        (path / "a.npy").write_bytes(data)
        return read_npy(path / "a.npy")
    yield "npy", file.getvalue(), read_array
    for save in (np.savez, np.savez_compressed):
        file = io.BytesIO()
        save(file, **arrays)
        yield save.__name__, file.getvalue(), lambda data: read_archive(data, path / "a.npz")
    written(path / "a.zip", [("a/b.txt", b"hello" * 20), ("c.txt", b"")])
    zipped = (path / "a.zip").read_bytes()
    yield "zip", zipped, lambda data: read_archive(data, path / "a.zip")
    yield "json", json.dumps({"a": [1.5, "x", None]}).encode(), lambda data: read_json(data, "a")
    for packed in (False, True):
        data = saved({"a": arrays["x"], "b": "text"}, do_compression=packed)
        yield f"matlab-{packed}", data, lambda data: read_matlab(data, "a")


def damaged(data, dice):
    "A copy with some bytes changed, lost, doubled or cut off."
    data, at = bytearray(data), dice.randrange(len(data))
    match dice.randrange(5):
        case 0:
            del data[at:]
        case 1:
            data[at] = dice.randrange(256)
        case 2:
            for _ in range(dice.randrange(1, 9)):
                data[dice.randrange(len(data))] ^= 1 << dice.randrange(8)
        case 3:
            data[at:at + dice.randrange(9)] = dice.randbytes(dice.randrange(9))
        case 4:
            data[at:at] = data[dice.randrange(len(data)):][:dice.randrange(40)]
    return bytes(data)


@pytest.mark.filterwarnings("ignore")
def test_damage_is_refused_or_harmless(tmp_path):
    for name, data, read in samples(tmp_path):
        read(data)
        dice, began = random.Random(name), time.process_time()
        for _ in range(300):
            try:
                read(damaged(data, dice))
            except ValueError as error:
                assert "; expected " in str(error) and str(error).isprintable()
        assert time.process_time() - began < 3, name
