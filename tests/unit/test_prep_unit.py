"""A script's declaration, its command line, its errors and its report."""

import errno
import io
import os
import subprocess
import sys

import numpy as np
import pytest

from skelbook import prep
from skelbook.data.faults import tell
from skelbook.data.store import Source, open_store, write_store
from skelbook.prep import (
    explain,
    listed,
    print_table,
    printable,
    read_script,
    read_words,
    reader_options,
    settle,
    store_report,
    write_report,
)

SCRIPT = '''# ---
# jupyter: {}
# ---
# %% [markdown]
# # Title
#
# > Sub-title, 100 % true
# %%
import sys
from skelbook.prep import settle
# %% tags=["parameters"]
source = ""       # what to read: at 100 % of its size
dest = "here#1"   # where to write
size = 3          # how "large" it is
rate = 0.5        # a share
quick_look = False    # only look
mode = "slow"     # slow | fast
# %%
settle(globals(), "source", "dest", mode=["slow", "fast"])
# %%
ACTION
'''


def words(line):
    "Values of the parameters after a command line."
    return read_words(SCRIPT, line.split(), ["source", "dest"], {"mode": ["slow", "fast"]}, "s.py")


def wrong(line, capsys):
    "The one line that a wrong command line is answered with."
    with pytest.raises(SystemExit) as ended:
        words(line)
    shown = capsys.readouterr()
    assert ended.value.code == 2 and shown.out == "" and shown.err.count("\n") == 1, shown
    return shown.err


# -- the declaration

def test_the_cell_of_parameters_is_the_declaration():
    about, parameters = read_script(SCRIPT)
    assert about == "# Title\n\n> Sub-title, 100 % true"
    assert [p.name for p in parameters] == ["source", "dest", "size", "rate", "quick_look", "mode"]
    assert parameters[1] == ("dest", "here#1", "where to write")
    assert parameters[2].help == 'how "large" it is'


def test_umlauts_before_a_comment_do_not_shift_it():
    _, parameters = read_script(SCRIPT.replace("here#1", "hüben # drüben"))
    assert parameters[1] == ("dest", "hüben # drüben", "where to write")


# -- the command line

def test_values_have_the_type_of_their_default():
    values = words("in.pkl --size 4 --rate=2 --quick-look")
    assert values == {"source": "in.pkl", "dest": "here#1", "size": 4, "rate": 2.0,
                      "quick_look": True, "mode": "slow"}
    assert type(values["rate"]) is float


def test_options_may_stand_anywhere():
    assert words("--size 4 in.pkl out")["dest"] == words("in.pkl --size 4 out")["dest"] == "out"


def test_a_path_that_begins_with_a_dash_is_said_from_its_folder():
    assert words("./--size")["source"] == "./--size"


def test_an_empty_value_is_a_value():
    values = read_words(SCRIPT, ["a", ""], ["source", "dest"], {}, "s.py")
    assert values["dest"] == ""


@pytest.mark.parametrize("line, said", [
    ("a --sise 3", "did you mean '--size'?"), ("a --qiuck-look", "did you mean '--quick-look'?"),
    ("a --quick_look", "did you mean '--quick-look'?"), ("a --source b", "unknown option"),
    ("a --si 3", "unknown option"), ("a --mode fsat", "did you mean 'fast'?"),
    ("a --size ten", "invalid int value: 'ten'"), ("a --size", "expected one argument"),
    ("a b c", "unrecognized arguments: c"), ("a -x", "unrecognized arguments: -x"),
    ("", "required: SOURCE"), ("--sise=3", "did you mean '--size'?")])
def test_a_wrong_command_line_is_one_line_and_status_2(line, said, capsys):
    assert said in wrong(line, capsys)


def test_help_shows_every_parameter_with_its_default(capsys):
    with pytest.raises(SystemExit) as ended:
        words("--help")
    shown = capsys.readouterr().out
    assert ended.value.code == 0
    for word in ("Title", "100 % true", "SOURCE", "DEST", "--quick-look", "(default: 3)",
                 "at 100 % of its size"):
        assert word in shown


# -- errors

class Elsewhere(ValueError):
    "A kind of `ValueError`, such as that of JSON."


@pytest.mark.parametrize("error, said, status", [
    (Elsewhere("a.json: line 3"), "a.json: line 3", 1),
    (KeyboardInterrupt(), "interrupted", 130),
    (MemoryError(), "out of memory: close", 1),
    (MemoryError("Unable to allocate 8 TiB"), "out of memory: Unable to allocate 8 TiB", 1),
    (OSError(errno.ENOSPC, "No space left on device", "x.skel"), "x.skel: the disk is full", 1),
    (OSError(errno.ENOSPC, "No space left on device"), "the disk is full", 1),
    (PermissionError(errno.EACCES, "Permission denied", "x"), "x: Permission denied", 1),
    (FileExistsError("x.skel exists"), "x.skel exists", 1)])
def test_foreseen_errors_are_said_in_words(error, said, status):
    text, code = explain(error)
    assert text.startswith(said) and code == status


@pytest.mark.parametrize("error", [KeyError("a"), TypeError("b"), AttributeError("c")])
def test_bugs_keep_their_traceback(error):
    assert explain(error) is None


def test_what_would_steer_a_terminal_is_taken_out():
    assert printable("a\x1b]0;b\x07\u202ec\r\nd\n") == ["a?]0;b??c", "d"]


# -- a program and a notebook

def program(tmp_path, action, *words, **options):
    "What the script does, as a program, with `action` in its last cell."
    path = tmp_path / "script.py"
    path.write_text(SCRIPT.replace("ACTION", action), encoding="utf-8")
    return subprocess.run([sys.executable, path, *words], capture_output=True, text=True, **options)


@pytest.mark.parametrize("action, status, err", [
    ("print(source, dest, size)", 0, ""),
    ("raise ValueError('a.pkl: cut short')", 1, "script.py: a.pkl: cut short\n"),
    ("raise ValueError('one\\ntwo')", 1, "script.py: one\nscript.py: two\n"),
    ("open('nowhere')", 1, "script.py: nowhere: No such file or directory\n"),
    ("raise KeyboardInterrupt", 130, "script.py: interrupted, nothing half-written is left: "
                                     "run the same command again\n"),
    ("sys.exit(7)", 7, "")])
def test_statuses_of_a_program(tmp_path, action, status, err):
    done = program(tmp_path, action, "in", "--size", "4")
    assert (done.returncode, done.stderr) == (status, err)
    assert done.stdout == ("in here#1 4\n" if action.startswith("print") else "")


def test_a_bug_in_a_program_shows_its_traceback(tmp_path):
    done = program(tmp_path, "{}['a']", "in")
    assert done.returncode == 1 and "Traceback" in done.stderr and "KeyError: 'a'" in done.stderr


def test_a_reader_who_leaves_early_is_no_error(tmp_path):
    read, write = os.pipe()
    os.close(read)
    path = tmp_path / "script.py"
    path.write_text(SCRIPT.replace("ACTION", "print('a' * 99999, flush=True)"))
    done = subprocess.run([sys.executable, path, "in"], stdout=write, stderr=subprocess.PIPE)
    os.close(write)
    assert done.stderr == b"" and done.returncode == 1


def test_an_unfinished_line_of_progress_is_written_over(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True
    monkeypatch.setattr(sys, "stderr", Terminal())
    with pytest.raises(SystemExit):
        prep._one_line("s.py")(ValueError, ValueError("no"), None)
    assert sys.stderr.getvalue() == "\r\x1b[Ks.py: no\n"


def test_a_notebook_keeps_what_was_typed():
    typed = {"source": "a", "mode": "fast", "__name__": "__main__"}
    before = sys.excepthook
    assert settle(typed, "source", mode=["slow", "fast"]) is False
    assert typed["source"] == "a" and sys.excepthook is before


# -- options of a reader

def reader(path, layout=None, classes=None, first=0, kpfiles=None):
    "Stands for a reader."


def test_options_of_a_reader(tmp_path):
    names, own = tmp_path / "classes.txt", tmp_path / "mine.json"
    names.write_text("wave\r\n\nsit down\n")
    own.write_text('{"num_node": 3}')
    given = reader_options(reader, str(own), str(names), "first=1, kpfiles=a/b")
    assert given == {"layout": {"num_node": 3}, "classes": ["wave", "sit down"], "first": 1,
                     "kpfiles": "a/b"}


def test_an_option_that_the_reader_has_not():
    with pytest.raises(ValueError, match="did you mean 'kpfiles'"):
        reader_options(reader, options="kpfile=a")
    with pytest.raises(ValueError, match="unknown option of this reader 'layout'"):
        reader_options(lambda path: None, "coco")
    with pytest.raises(ValueError, match="valid: layout"):
        reader_options(lambda path, layout, progress: None, options="progress=1")
    with pytest.raises(OSError):
        reader_options(reader, classes="nowhere.txt")


def test_lists():
    assert listed("") == listed(" , ") == []
    assert listed("F25") == ["F25"] and listed("a, b,") == ["a", "b"]


# -- the report

@pytest.fixture
def store(tmp_path):
    clips = [dict(name="a", label=0, joints=np.ones((1, 4, 17, 2))),
             dict(name="b", label=1, joints=np.zeros((2, 6, 17, 2)))]
    source = Source("toy", "coco", ("wave", "hug"), {"train": ["a"], "test": ["b"]},
                    lambda: iter(clips), 2, {"made": "by hand"})
    return open_store(write_store(tmp_path / "toy.skel", source, changes={"dropped": 3}))


def test_the_report_counts(store):
    report = store_report(store, [tell("F33", ["a"], [4], short=10)])
    assert report["persons"] == {"1": 1, "2": 1} and report["splits"] == {"train": 1, "test": 1}
    assert report["frames"] == {"least": 4, "median": 5, "most": 6, "sum": 10}
    assert report["joints without a position"] == 0.75
    assert report["findings"][0]["fault"] == "F33" and report["changes"] == {"dropped": 3}


def test_empty_joints_are_counted_piece_by_piece(store):
    joints = store.clips.joints
    assert prep._empty_share(joints, 1) == prep._empty_share(joints, 5) == 0.75


def test_the_report_lies_beside_the_store(store, capsys):
    write_report(store)
    assert (store.path.parent / "toy.report.json").is_file()
    shown = capsys.readouterr().out
    assert "train: 1, test: 1" in shown and "findings" in shown


def test_a_table_of_everything(capsys):
    print_table({"none": [], "many": ["a", "b"], "deep": {"x": {"y": 1}}, "large": 12345,
                 "bad": "\x1b"})
    assert capsys.readouterr().out == ("none   none\nmany   a\n       b\ndeep   x: y: 1\n"
                                       "large  12,345\nbad    ?\n")
