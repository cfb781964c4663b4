"""The scripts of data_prep as they are used: as programs, interrupted, with bad data, in Lab."""

import hashlib
import json
import os
import pickle
import resource
import sys
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import jupytext
import numpy as np
import pytest
from nbclient import NotebookClient
from nbformat.v4 import new_code_cell
from programs import ROOT, SCRIPTS, inside, interrupted, path_of, run

from skelbook.data.store import open_store
from skelbook.prep import read_script

sys.path.insert(0, str(ROOT / "tests"))
import hostile  # noqa: E402  (it lies beside the folders of tests)

NAMES = [path.stem for path in SCRIPTS]
READING = [name for name in ("convert", "check", "ntu_from_raw") if name in NAMES]


def one_line(err, name):
    "True for exactly one line that begins with the name of the program."
    return err.startswith(f"{name}.py: ") and err.count("\n") == 1 and err.endswith("\n")


def annotations(count=8, frames=12, **changes):
    "An annotation pickle of random walks in two classes, as bytes."
    rng = np.random.default_rng(0)
    names = [f"clip{i:05}" for i in range(count)]
    clips = [dict(frame_dir=name, label=i % 2, total_frames=frames, img_shape=(480, 640),
                  original_shape=(480, 640),
                  keypoint=rng.uniform(100, 400, (1, frames, 17, 2)).astype(np.float16),
                  keypoint_score=np.full((1, frames, 17), 0.9, np.float16))
             for i, name in enumerate(names)]
    for clip, key, value in changes.get("wrong", ()):
        clips[clip][key] = value
    split = {"train": names[:count // 2], "test": names[count // 2:]}
    return pickle.dumps({"split": split, "annotations": clips}, protocol=4)


@pytest.fixture
def source(tmp_path):
    "An annotation file without faults, in a folder of its own."
    path = tmp_path / "in" / "walks.pkl"
    path.parent.mkdir()
    path.write_bytes(annotations())
    return path


@pytest.fixture
def ill(tmp_path):
    "An annotation file in which one clip has a joint that is NaN."
    path = tmp_path / "ill.pkl"
    joints = np.full((1, 12, 17, 2), 100, np.float16)
    joints[0, 3, 5] = np.nan
    path.write_bytes(annotations(wrong=[(2, "keypoint", joints)]))
    return path


# -- every script

@pytest.mark.parametrize("name", NAMES)
def test_help_tells_title_and_parameters(name):
    status, out, err = run(name, "--help")
    about, parameters = read_script(path_of(name).read_text(encoding="utf-8"))
    assert (status, err) == (0, "")
    assert about.splitlines()[0].removeprefix("# ") in out
    for parameter in parameters:
        assert parameter.name.replace("_", "-") in out or parameter.name.upper() in out


@pytest.mark.parametrize("name", NAMES)
def test_a_misspelt_option_is_one_line_with_the_nearest_name(name):
    _, parameters = read_script(path_of(name).read_text(encoding="utf-8"))
    option = parameters[-1].name.replace("_", "-")
    status, out, err = inside(name, "a", "b", f"--{option}s")
    assert (status, out) == (2, "") and one_line(err, name)
    assert f"did you mean '--{option}'?" in err


@pytest.mark.parametrize("name", NAMES)
def test_without_words_it_says_what_is_missing(name):
    status, out, err = inside(name)
    assert (status, out) == (2, "") and one_line(err, name) and "required" in err


@pytest.mark.parametrize("name", READING)
def test_a_missing_file_is_one_line(name, tmp_path):
    status, _, err = run(name, tmp_path / "nowhere.pkl", *([tmp_path / "out.skel"]
                                                           if name != "check" else []))
    assert status == 1 and one_line(err, name) and "nowhere.pkl" in err
    assert list(tmp_path.iterdir()) == []


# -- convert

def test_a_conversion_leaves_a_store_and_its_report(source, tmp_path):
    status, out, err = run("convert", source, tmp_path / "walks.skel")
    assert (status, err) == (0, "")
    assert "8 clips" in out and "train: 4, test: 4" in out
    assert len(open_store(tmp_path / "walks.skel").clips) == 8
    report = json.loads((tmp_path / "walks.report.json").read_text())
    assert report["clips"] == 8 and report["source"]["sha256"] == hashlib.sha256(
        source.read_bytes()).hexdigest()
    assert sorted(os.listdir(tmp_path)) == ["in", "walks.report.json", "walks.skel"]
    assert os.listdir(source.parent) == ["walks.pkl"]


def test_a_second_time_it_is_complete_and_nothing_changes(source, tmp_path):
    inside("convert", source, tmp_path / "walks.skel")
    before = {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*")}
    status, out, err = inside("convert", source, tmp_path / "walks.skel")
    assert (status, err) == (0, "") and "already complete" in out
    assert {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*")} == before


@pytest.mark.parametrize("change", ["options", "file"])
def test_a_store_of_something_else_is_not_taken_for_it(change, source, tmp_path):
    inside("convert", source, tmp_path / "walks.skel")
    if change == "file":
        source.write_bytes(annotations(6))
    words = ["--policy", "drop"] if change == "options" else []
    status, _, err = inside("convert", source, tmp_path / "walks.skel", *words)
    assert status == 1 and one_line(err, "convert") and "walks.skel" in err
    assert len(open_store(tmp_path / "walks.skel").clips) == 8


def test_faulty_clips_are_named_and_nothing_is_written(ill, tmp_path):
    status, _, err = inside("convert", ill, tmp_path / "ill.skel")
    assert status == 1 and "clip00002" in err and "NaN" in err and one_line(err, "convert")
    assert os.listdir(tmp_path) == ["ill.pkl"]


@pytest.mark.parametrize("policy, count", [("drop", 7), ("interpolate", 8)])
def test_a_policy_mends_and_says_so(policy, count, ill, tmp_path):
    status, out, err = inside("convert", ill, tmp_path / "ill.skel", "--policy", policy)
    assert (status, err) == (0, "")
    store = open_store(tmp_path / "ill.skel")
    assert len(store.clips) == count and "clip00002" in json.dumps(store.meta["changes"])
    assert policy in json.loads((tmp_path / "ill.report.json").read_text())["changes"]["policy"]


@pytest.mark.parametrize("words, said", [
    (["--reader", "anotations"], "did you mean 'annotations'?"), (["--policy", "dorp"], "'drop'?")])
def test_a_misspelt_choice_is_a_usage_error(words, said, source, tmp_path):
    status, _, err = inside("convert", source, tmp_path / "out.skel", *words)
    assert status == 2 and one_line(err, "convert") and said in err


@pytest.mark.parametrize("words, said", [
    (["--layout", "cocco"], "did you mean 'coco'?"),
    (["--options", "first_labl=1"], "did you mean 'first_label'?"),
    (["--classes", "nowhere.txt"], "nowhere.txt: No such file"), (["--allow", "F99"], "F99")])
def test_what_the_reader_cannot_take_is_one_line(words, said, source, tmp_path):
    status, _, err = inside("convert", source, tmp_path / "out.skel", *words)
    assert status == 1 and one_line(err, "convert") and said in err
    assert os.listdir(tmp_path) == ["in"]


def test_layout_and_classes_are_passed_on(source, tmp_path):
    (tmp_path / "classes.txt").write_text("walk\nrun\nstand\n")
    status, _, err = inside("convert", source, tmp_path / "w.skel", "--layout", "coco",
                            "--classes", tmp_path / "classes.txt")
    assert (status, err) == (0, "")
    assert open_store(tmp_path / "w.skel").meta["classes"] == ["walk", "run", "stand"]


def test_a_store_can_be_converted_again(source, tmp_path):
    inside("convert", source, tmp_path / "a.skel")
    status, out, err = inside("convert", tmp_path / "a.skel", tmp_path / "b.skel")
    assert (status, err) == (0, "") and "read as store" in out
    first, second = (open_store(tmp_path / f"{name}.skel") for name in "ab")
    assert first.meta["content"] == second.meta["content"]


# -- bad files

def broken_files(folder):
    "Files that were cut, emptied or are something else; name -> path."
    whole = annotations()
    contents = {"cut.pkl": whole[:-100], "half.pkl": whole[:len(whole) // 2], "empty.pkl": b"",
                "page.pkl": b"<!DOCTYPE html><title>404</title>",
                "cut.npz": b"PK\x03\x04 and no more", "cut.zip": b"PK\x03\x04 and no more",
                "longer.pkl": whole + b"more",
                "number.pkl": pickle.dumps(7), "list.pkl": pickle.dumps([]),
                "noise.pkl": bytes(range(256)) * 9, "walks.txt": b"1 2 3"}
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    with zipfile.ZipFile(folder / "other.zip", "w") as archive:
        archive.writestr("readme.txt", "nothing else")
    (folder / "folder").mkdir()
    return sorted(folder.iterdir())


def test_broken_files_are_one_line_and_leave_nothing(tmp_path):
    files = broken_files(tmp_path)
    for file in files:
        status, _, err = inside("convert", file, tmp_path / "out.skel")
        assert status == 1 and one_line(err, "convert"), (file.name, err)
        assert file.name in err, err
        assert sorted(tmp_path.iterdir()) == files, file.name


def test_a_cut_file_as_a_program(source, tmp_path):
    source.write_bytes(source.read_bytes()[:-100])
    status, _, err = run("convert", source, tmp_path / "out.skel")
    assert status == 1 and one_line(err, "convert") and "walks.pkl" in err
    assert os.listdir(tmp_path) == ["in"]


def evil_files(folder, canary):
    "Every hostile pickle as a file; name -> path."
    cases = hostile.running(canary) | hostile.greedy() | hostile.misfits()
    for name, content in cases.items():
        (folder / f"{name}.pkl").write_bytes(content)
    return {name: folder / f"{name}.pkl" for name in cases}


def test_hostile_pickles_run_nothing_and_leave_nothing(tmp_path):
    "All of them, one after the other, through the script."
    (tmp_path / "evil").mkdir()
    (tmp_path / "out").mkdir()
    for name, file in evil_files(tmp_path / "evil", tmp_path / "canary").items():
        status, _, err = inside("convert", file, tmp_path / "out" / "out.skel")
        assert status == 1 and one_line(err, "convert"), (name, err)
        assert file.name in err, err
        assert os.listdir(tmp_path / "out") == [], name
        assert not (tmp_path / "canary").exists(), name


@pytest.mark.parametrize("name", ["os.system-2", "builtins.eval-4", "subprocess.Popen-5", "obj",
                                  "in-object-array"])
def test_a_hostile_pickle_as_it_would_be_met(name, tmp_path):
    (tmp_path / "evil.pkl").write_bytes(hostile.running(tmp_path / "canary")[name])
    status, _, err = run("convert", "evil.pkl", "out.skel", cwd=tmp_path)
    assert status == 1 and one_line(err, "convert") and "evil.pkl" in err
    assert os.listdir(tmp_path) == ["evil.pkl"]


def test_a_disk_that_is_full_leaves_nothing(tmp_path):
    (tmp_path / "large.pkl").write_bytes(annotations(200, 30))
    status, _, err = run("convert", tmp_path / "large.pkl", tmp_path / "out.skel", preexec_fn=(
        lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))))
    assert status == 1 and one_line(err, "convert") and "too large" in err
    assert os.listdir(tmp_path) == ["large.pkl"]


def test_a_folder_that_cannot_be_written_is_one_line(source, tmp_path):
    (tmp_path / "file").write_text("")
    status, _, err = inside("convert", source, tmp_path / "file" / "out.skel")
    assert status == 1 and one_line(err, "convert") and "file" in err


# -- ctrl-C

def test_ctrl_c_in_the_middle_of_a_conversion(tmp_path):
    (tmp_path / "large.pkl").write_bytes(annotations(6000, 4))
    words = [tmp_path / "large.pkl", tmp_path / "large.skel"]
    status, shown = interrupted("convert", *words, when="converting: ")
    assert status == 130, shown
    assert shown.splitlines()[-1].endswith("the same command again") and "Traceback" not in shown
    assert os.listdir(tmp_path) == ["large.pkl"]
    status, out, err = run("convert", *words)
    assert (status, err) == (0, "") and len(open_store(words[1]).clips) == 6000


def test_ctrl_c_while_making_raw_files(tmp_path):
    words = [tmp_path / "raw", "--raw", "--clips", 30]
    status, shown = interrupted("make_synthetic", *words, when="writing: ")
    assert status == 130 and "Traceback" not in shown, shown
    made = {file: file.read_bytes() for file in (tmp_path / "raw").iterdir()}
    assert made and all(file.suffix in (".skeleton", ".json") for file in made)
    status, out, err = run("make_synthetic", *words)
    assert (status, err) == (0, "") and len(list((tmp_path / "raw").iterdir())) == 60
    assert all(file.read_bytes() == content for file, content in made.items())


# -- check

def test_a_healthy_file_has_status_0(source):
    status, out, err = run("check", source)
    assert (status, err) == (0, "") and "errors 0, " in out


def test_an_ill_file_has_status_1_and_a_name(ill):
    status, out, err = run("check", ill)
    assert (status, err) == (1, "")
    assert "F14" in out or "F16" in out
    assert "clip00002" in out and "errors 1, " in out


def test_findings_as_json(ill):
    status, out, _ = inside("check", ill, "--json")
    found = json.loads(out)
    assert status == 1 and found["errors"] == 1 and found["clips"] == 8
    assert [finding["clips"] for finding in found["findings"] if finding["severity"] == "error"] \
        == [["clip00002"]]


def test_an_accepted_fault_is_a_warning(tmp_path):
    data = pickle.loads(annotations())                       # our own, made above
    data["split"]["test"].append(data["split"]["train"][0])
    (tmp_path / "leak.pkl").write_bytes(pickle.dumps(data))
    assert inside("check", tmp_path / "leak.pkl")[0] == 1
    assert inside("check", tmp_path / "leak.pkl", "--allow", "F28")[0] == 0


def test_a_cut_file_is_a_finding(source):
    source.write_bytes(source.read_bytes()[:-100])
    status, out, err = inside("check", source, "--json")
    found = json.loads(out)
    assert (status, err) == (1, "")
    assert [finding["fault"] for finding in found["findings"]] == ["F11"] and found["clips"] is None


def test_what_a_policy_leaves_is_written(ill, tmp_path):
    status, out, err = inside("check", ill, "--policy", "drop", "--out", tmp_path / "well.skel")
    assert (status, err) == (0, "") and len(open_store(tmp_path / "well.skel").clips) == 7
    assert inside("check", tmp_path / "well.skel")[0] == 0


def test_a_page_of_pictures(ill, tmp_path):
    pytest.importorskip("skelbook.report.data_page")
    status, _, err = run("check", ill, "--report", tmp_path / "ill.html")
    assert (status, err) == (1, "")
    assert (tmp_path / "ill.html").read_text(encoding="utf-8").count("<img") >= 3


# -- fetch

class Shop(BaseHTTPRequestHandler):
    "Serves one file; the first answer breaks off when `patience` says so."

    def do_GET(self):
        shop = self.server
        if self.path != "/walks.pkl":
            return self.send_error(404)
        asked = self.headers.get("Range", "bytes=0-")
        start = int(asked.removeprefix("bytes=").removesuffix("-"))
        self.send_response(206 if start else 200)
        self.send_header("ETag", '"v1"')
        self.send_header("Content-Length", str(len(shop.body) - start))
        if start:
            size = len(shop.body)
            self.send_header("Content-Range", f"bytes {start}-{size - 1}/{size}")
        self.end_headers()
        self.wfile.write(shop.body[start:start + shop.patience])
        self.wfile.flush()
        if shop.patience < len(shop.body):
            shop.awake.wait(20)

    def log_message(self, *words):
        pass


@pytest.fixture
def shop():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Shop)
    server.body, server.patience, server.awake = annotations(), 10 ** 9, threading.Event()
    server.url = f"http://127.0.0.1:{server.server_port}/walks.pkl"
    server.handle_error = lambda *_: None
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    yield server
    server.awake.set()
    server.shutdown()
    server.server_close()


def test_fetched_converted_and_known_again(shop, tmp_path):
    status, out, err = run("fetch", shop.url, tmp_path)
    digest = hashlib.sha256(shop.body).hexdigest()
    assert (status, err) == (0, "") and f"{len(shop.body):,} bytes, SHA-256 {digest}" in out
    assert sorted(os.listdir(tmp_path)) == ["walks.pkl", "walks.pkl.sha256"]
    status, out, _ = inside("fetch", shop.url, tmp_path)
    assert status == 0 and "already complete" in out
    assert inside("check", tmp_path / "walks.pkl")[0] == 0
    assert inside("convert", tmp_path / "walks.pkl", tmp_path / "walks.skel")[0] == 0


def test_ctrl_c_in_the_middle_of_a_download(shop, tmp_path):
    shop.patience = len(shop.body) // 2
    status, shown = interrupted("fetch", shop.url, tmp_path, when="fetching: ")
    assert status == 130 and "Traceback" not in shown, shown
    assert sorted(os.listdir(tmp_path)) == [".walks.pkl.part", ".walks.pkl.ticket"]
    assert (tmp_path / ".walks.pkl.part").stat().st_size == shop.patience
    shop.patience = 10 ** 9
    assert inside("fetch", shop.url, tmp_path)[0] == 0
    assert (tmp_path / "walks.pkl").read_bytes() == shop.body


def test_what_cannot_be_fetched_is_one_line(shop, tmp_path):
    for address, said in ((shop.url + "x", "404"), ("http://example.org/a.pkl", "only https"),
                          ("ntu60-2b", "did you mean 'ntu60-2d'?")):
        status, _, err = inside("fetch", address, tmp_path)
        assert status == 1 and one_line(err, "fetch") and said in err
    status, _, err = inside("fetch", shop.url, tmp_path, "--sha256", "0" * 64)
    assert status == 1 and one_line(err, "fetch") and "0000" in err
    assert os.listdir(tmp_path) == []


# -- ntu_from_raw

@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    "A folder of raw files of the built-in data with planted faults."
    folder = tmp_path_factory.mktemp("ntu") / "raw"
    inside("make_synthetic", folder, "--raw", "--clips", 60)
    return folder


def test_raw_files_become_a_store_with_two_processes(raw, tmp_path):
    words = [raw, tmp_path / "ntu.skel", "--workers", 2, "--policy", "drop"]
    status, out, err = run("ntu_from_raw", *words)
    assert (status, err) == (0, ""), err
    assert sorted(os.listdir(tmp_path)) == ["ntu.report.json", "ntu.skel"]
    assert 50 <= len(open_store(tmp_path / "ntu.skel").clips) <= 60
    status, out, err = inside("ntu_from_raw", *words)
    assert (status, err) == (0, "") and "already complete" in out


def test_ctrl_c_while_raw_files_are_read(raw, tmp_path):
    words = [raw, tmp_path / "ntu.skel", "--workers", 2, "--policy", "drop"]
    status, shown = interrupted("ntu_from_raw", *words, when="reading ")
    assert status == 130 and "Traceback" not in shown, shown
    assert shown.splitlines()[-1].startswith("\x1b[Kntu_from_raw.py: interrupted"), shown
    assert not (tmp_path / "ntu.skel").exists()
    status, out, err = run("ntu_from_raw", *words)
    assert (status, err) == (0, "")
    assert sorted(os.listdir(tmp_path)) == ["ntu.report.json", "ntu.skel"]


def test_a_cut_raw_file_is_named_or_left_out(raw, tmp_path):
    (tmp_path / "raw").mkdir()
    for file in sorted(raw.glob("*.skeleton"))[:6]:
        (tmp_path / "raw" / file.name).write_bytes(file.read_bytes())
    (tmp_path / "raw" / file.name).write_bytes(file.read_bytes()[:5000])
    words = [tmp_path / "raw", tmp_path / "ntu.skel", "--workers", 1, "--allow", "F25,F27,F34"]
    status, _, err = inside("ntu_from_raw", *words)
    assert status == 1 and one_line(err, "ntu_from_raw") and file.stem in err
    assert not (tmp_path / "ntu.skel").exists()
    status, out, err = inside("ntu_from_raw", *words, "--on-error", "skip")
    assert (status, err) == (0, "") and len(open_store(tmp_path / "ntu.skel").clips) == 5
    assert file.stem in (tmp_path / "ntu.report.json").read_text()


# -- make_synthetic

@pytest.mark.parametrize("view, layout", [("3d", "nturgb+d"), ("2d", "coco")])
def test_the_built_in_data_in_both_views(view, layout, tmp_path):
    words = [tmp_path / "s.skel", "--clips", 24, "--seed", 3, "--view", view]
    status, out, err = inside("make_synthetic", *words)
    store = open_store(tmp_path / "s.skel")
    assert (status, err) == (0, "") and len(store.clips) == 24 and store.layout.name == layout
    assert "already complete" in inside("make_synthetic", *words)[1]
    assert inside("make_synthetic", *words, "--difficulty", 2)[0] == 1


def test_raw_files_with_planted_faults(tmp_path):
    status, out, _ = inside("make_synthetic", tmp_path, "--raw", "--clips", 12)
    truths = [json.loads(path.read_text()) for path in tmp_path.glob("*.json")]
    assert status == 0 and len(truths) == len(list(tmp_path.glob("*.skeleton"))) == 12
    assert any(truth["faults"] for truth in truths)
    assert "already complete" in inside("make_synthetic", tmp_path, "--raw", "--clips", 12)[1]
    status, _, err = inside("make_synthetic", tmp_path, "--raw", "--clips", 12, "--seed", 1)
    assert status == 1 and "made with seed 0" in err


# -- as notebooks

def opened(name):
    "A script as the notebook that JupyterLab makes of it, and the place of its parameters."
    notebook = jupytext.read(path_of(name))
    place = next(i for i, cell in enumerate(notebook.cells)
                 if "parameters" in cell.metadata.get("tags", []))
    return notebook, place


def executed(script, folder, **values):
    "The text outputs of a script run as a notebook, with some parameters changed."
    notebook, place = opened(script)
    lines = "\n".join(f"{key} = {value!r}" for key, value in values.items())
    notebook.cells.insert(place + 1, new_code_cell(lines))
    NotebookClient(notebook, timeout=60, kernel_name="python3",
                   resources={"metadata": {"path": str(folder)}}).execute()
    return "".join(output.get("text", "") for cell in notebook.cells if cell.cell_type == "code"
                   for output in cell.outputs)


@pytest.mark.parametrize("name", NAMES)
def test_a_script_opens_as_a_notebook(name):
    notebook, place = opened(name)
    assert notebook.cells[0].cell_type == "markdown" and notebook.cells[0].source.startswith("# ")
    assert notebook.cells[place].cell_type == "code" and len(notebook.cells) >= 5
    assert notebook.metadata["kernelspec"]["name"] == "python3"
    text = path_of(name).read_text(encoding="utf-8")
    assert "__name__" not in text and "sys.argv" not in text


@pytest.fixture
def kernel(monkeypatch):
    "Kernels find this checkout, and say nothing about their transport."
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("PYDEVD_DISABLE_FILE_VALIDATION", "1")


def test_make_convert_and_check_as_notebooks(kernel, ill, tmp_path):
    shown = executed("make_synthetic", tmp_path, dest="s.skel", clips=12)
    assert "clips" in shown and len(open_store(tmp_path / "s.skel").clips) == 12
    shown = executed("convert", tmp_path, source="ill.pkl", dest="ill.skel", policy="drop")
    assert "train" in shown and len(open_store(tmp_path / "ill.skel").clips) == 7
    assert "clip00002" in executed("check", tmp_path, path="ill.pkl")


def test_fetch_as_a_notebook(kernel, shop, tmp_path):
    assert "SHA-256" in executed("fetch", tmp_path, name=shop.url)
    assert Path(tmp_path, "walks.pkl").read_bytes() == shop.body


def test_no_script_wrote_into_its_own_folder():
    "The tests above cleaned up: no script wrote into its own folder."
    assert not [path for path in (ROOT / "data_prep").iterdir()
                if path.suffix in (".skel", ".part", ".html") or path.name.startswith(".")]
