"""The command line of papermill: the same words, the same values, and nothing of anybody else's."""

import json
import subprocess
import sys
from dataclasses import asdict
from types import SimpleNamespace

import pytest
from papermill import cli

import skelbook.command as command
from skelbook.command import (
    NUM_VALUES,
    claim,
    complete_command,
    declared_parameters,
    given_parameters,
    is_papermill,
    output_path,
    project_of,
    read_value,
    split_words,
)
from skelbook.learner.recipes import Recipe

ASKING = {"-h", "--help", "--help-notebook", "--version"}


def write_notebook(path, source="model = 'agcn'\nepochs = 0\n", tags=("parameters",)):
    "A notebook with one code cell, written to `path`."
    cell = {"cell_type": "code", "metadata": {"tags": list(tags)}, "outputs": [],
            "source": source.splitlines(keepends=True), "execution_count": None}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"cells": [cell], "metadata": {}, "nbformat": 4,
                                "nbformat_minor": 5}))
    return path


@pytest.fixture
def project(tmp_path, monkeypatch):
    "A project with `nbs/plot.ipynb`, as the current folder."
    (tmp_path / "settings.ini").write_text("[DEFAULT]\nlib_name = skelbook\n")
    write_notebook(tmp_path / "nbs/plot.ipynb")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def planned(project, monkeypatch):
    "The same with `nbs/train.ipynb` and a `plan` that knows one model."
    def plan(model, epochs):
        if model != "agcn":
            raise ValueError(f"unknown model {model!r}")
        folder = project / f"outputs/runs/{model}"
        return SimpleNamespace(folder=folder, recipe=Recipe(model, "synthetic", epochs=epochs))

    write_notebook(project / "nbs/train.ipynb")
    monkeypatch.setattr("skelbook.evaluate.plans.plan", plan)
    return project


def files(folder):
    "Every path below `folder`."
    return sorted(folder.rglob("*"))


# -- the same reading as papermill's

def test_every_option_takes_as_many_values_as_papermill_says():
    theirs = {}
    for option in cli.papermill.params:
        if option.param_type_name == "option":
            for word in option.opts + option.secondary_opts:
                theirs[word] = 0 if option.is_flag else option.nargs
    assert {o: n for o, n in theirs.items() if o not in ASKING} == NUM_VALUES


@pytest.mark.parametrize("word", ["16", "-1", "1e-3", "1_000", "007", "nan", "inf", "True", "true",
                                  "None", "", "ten", " 3 ", "0x10", "1.", "agcn"])
def test_values_are_those_of_papermill(word):
    ours, theirs = read_value(word), cli._resolve_type(word)
    assert type(ours) is type(theirs) and repr(ours) == repr(theirs)


@pytest.mark.parametrize("words", [
    ["-pmodel", "agcn"], ["--parameters=model", "agcn"], ["--parameters", "model", "agcn"],
    ["-p", "model", "agcn"], ["-r", "model", "agcn"], ["--parameters_raw", "model", "agcn"],
    ["-y", "model: agcn"], ["-ymodel: agcn"], ["--parameters_yaml={model: agcn}"],
    ["-b", "bW9kZWw6IGFnY24="], ["--parameters_base64=bW9kZWw6IGFnY24="]], ids=" ".join)
def test_every_spelling_of_a_parameter_is_read(words):
    paths, options = split_words(["a.ipynb", *words, "b.ipynb"])
    assert paths == ["a.ipynb", "b.ipynb"]
    assert given_parameters(options) == {"model": "agcn"}


def test_a_parameter_file_is_read(tmp_path):
    (tmp_path / "p.yaml").write_text("model: agcn\nwhen: 2020-01-01\n")
    given = given_parameters([("-f", [str(tmp_path / "p.yaml")])])
    assert given == {"model": "agcn", "when": "2020-01-01"}


@pytest.mark.parametrize("option", [("-f", ["missing.yaml"]), ("-y", ["{a: "]), ("-y", ["[1, 2]"]),
                                    ("-b", ["odd"])])
def test_unreadable_parameters_are_named(option):
    with pytest.raises(ValueError, match=f"cannot read {option[0]}"):
        given_parameters([option])


@pytest.mark.parametrize("line", ["", "a.ipynb -p", "a.ipynb -p model", "a.ipynb --cwd",
                                  "a.ipynb -x", "a.ipynb --log-output=1", "a.ipynb -h",
                                  "--version"])
def test_words_that_papermill_must_judge_are_not_read(line):
    paths, options = split_words(line.split())
    assert paths == [] and options == []


# -- what is ours, and what is not

def test_only_notebooks_below_nbs_are_ours(project):
    outside = write_notebook(project / "outputs/runs/a/train.ipynb")
    deeper = write_notebook(project / "nbs/part/deep.ipynb")
    assert project_of("nbs/plot.ipynb") == project_of(deeper) == project.resolve()
    assert project_of(outside) is project_of("nbs/none.ipynb") is project_of("-") is None
    assert project_of("http://example.org/nbs/plot.ipynb") is None


def test_the_nbs_folder_of_another_project_is_not_ours(tmp_path):
    (tmp_path / "settings.ini").write_text("[DEFAULT]\nlib_name = other\n")
    assert project_of(write_notebook(tmp_path / "nbs/plot.ipynb")) is None


@pytest.mark.parametrize("line", ["", "elsewhere.ipynb -p modle 1", "nbs/plot.ipynb -p model",
                                  "nbs/plot.ipynb a b -p modle 1", "nbs/plot.ipynb --help-notebook",
                                  "nbs/missing.ipynb -p modle 1", "nbs/plot.ipynb copy.ipynb",
                                  "nbs/plot.ipynb -"])
def test_other_command_lines_are_left_as_typed(project, line):
    before = files(project)
    assert complete_command(line.split()) == line.split()
    assert files(project) == before


def test_a_link_to_a_notebook_of_ours_is_ours(project):
    (project / "link.ipynb").symlink_to(project / "nbs/plot.ipynb")
    with pytest.raises(ValueError, match="modle"):
        complete_command("link.ipynb -p modle 1".split())


# -- parameters of a notebook

def test_notebooks_without_parameters(project):
    write_notebook(project / "nbs/page.ipynb", tags=())
    assert declared_parameters("nbs/page.ipynb") == {}
    assert complete_command(["nbs/page.ipynb"])[-1] == "outputs/notebooks/page.ipynb"
    with pytest.raises(ValueError, match="nbs/page.ipynb takes no parameters"):
        complete_command("nbs/page.ipynb -p model agcn".split())


def test_comments_and_all_literals_are_read(project):
    source = "a = 'x'  # one\n# two\nb = -1.5\nc = [1, 'y']\nd = None\ne = True\n"
    assert declared_parameters(write_notebook(project / "nbs/lit.ipynb", source)) == {
        "a": "x", "b": -1.5, "c": [1, "y"], "d": None, "e": True}


@pytest.mark.parametrize("words", [
    ["-p", "modle", "hcn"], ["out.ipynb", "-p", "modle", "hcn"], ["-r", "modle", "hcn"],
    ["-p", "epochs", "3", "-p", "modle", "hcn"], ["-y", "modle: 1"], ["-ymodle: 1"]], ids=" ".join)
def test_unknown_names_are_refused_and_leave_nothing(project, words):
    before = files(project)
    with pytest.raises(ValueError, match="did you mean 'model'"):
        complete_command(["nbs/plot.ipynb", *words])
    assert files(project) == before


# -- where the copy goes

def test_the_copy_of_a_training_run_goes_to_its_folder(planned, monkeypatch):
    words = complete_command("nbs/train.ipynb -p epochs 3".split())
    assert words == ["--log-output", *"nbs/train.ipynb -p epochs 3".split(),
                     "outputs/runs/agcn/train.ipynb"]
    assert (planned / "outputs/runs/agcn").is_dir()
    (planned / "else where").mkdir()
    monkeypatch.chdir(planned / "else where")
    words = complete_command(["../nbs/train.ipynb", "--no-log-output"])
    assert words == ["../nbs/train.ipynb", "--no-log-output", "../outputs/runs/agcn/train.ipynb"]


def test_values_are_checked_with_and_without_an_output_path(planned):
    before = files(planned)
    for output in ([], ["copy.ipynb"]):
        with pytest.raises(ValueError, match="unknown model 'agnc'"):
            complete_command(["nbs/train.ipynb", *output, "-p", "model", "agnc"])
    assert files(planned) == before


def test_a_complete_run_is_not_started_again_but_an_interrupted_one_is(planned):
    first = complete_command(["nbs/train.ipynb"])
    assert complete_command(["nbs/train.ipynb"]) == first
    (planned / "outputs/runs/agcn/DONE").touch()
    with pytest.raises(FileExistsError, match="complete: outputs/runs/agcn "):
        complete_command(["nbs/train.ipynb"])
    assert complete_command(["nbs/train.ipynb", "copy.ipynb"]) == ["nbs/train.ipynb", "copy.ipynb"]


def test_a_folder_with_other_settings_is_refused_and_keeps_its_files(planned):
    folder = planned / "outputs/runs/agcn"
    folder.mkdir(parents=True)
    settings = asdict(Recipe("agcn", "synthetic", epochs=3))
    record = {"settings": settings, "data_hash": "abc"}
    (folder / "recipe.json").write_text(json.dumps(record))
    before = files(planned)
    for output in ([], ["copy.ipynb"]):
        with pytest.raises(ValueError, match="epochs: 3 there, 4 here"):
            complete_command(["nbs/train.ipynb", *output, "-p", "epochs", "4"])
        complete_command(["nbs/train.ipynb", *output, "-p", "epochs", "3"])
    assert files(planned) == before


@pytest.mark.parametrize("letter", ["a", "é", "骨"])
def test_a_long_name_is_cut_and_stays_its_own(project, letter):
    notebook = project / "nbs/plot.ipynb"
    names = [output_path(notebook, {"model": letter * 300 + end}).name for end in "xyx"]
    assert names[0] != names[1] and names[0] == names[2]
    assert all(len(f".{name}.lock".encode()) <= 255 for name in names)
    assert names[0].startswith(f"plot-{letter * 50}") and names[0].endswith(".ipynb")


# -- the entry point

@pytest.mark.parametrize("original, length, expected", [
    ("python /x/bin/papermill a.ipynb", 2, True), ("python -m papermill a.ipynb", 2, True),
    ("python -mpapermill a.ipynb", 2, True), ("python -m pytest papermill", 2, False),
    ("python papermill.py a.ipynb", 2, False), ("python", 1, False),
    ("python -m ipykernel_launcher -f k.json", 3, False)])
def test_only_papermill_is_papermill(original, length, expected):
    assert is_papermill(["x"] * length, original.split()) is expected


def enter(monkeypatch, line):
    "What papermill's request for the engine does in a process started with this line."
    monkeypatch.setattr(sys, "argv", ["papermill", *line.split()])
    monkeypatch.setattr(sys, "orig_argv", ["python", "papermill", *line.split()])
    return command.engine, sys.argv[1:]


def test_the_entry_point_completes_the_line_in_place(project, monkeypatch):
    from papermill.engines import NBClientEngine

    engine, words = enter(monkeypatch, "nbs/plot.ipynb -p epochs 3")
    assert engine is NBClientEngine
    assert words == ("--log-output nbs/plot.ipynb -p epochs 3 "
                     "outputs/notebooks/plot-3.ipynb").split()


def test_the_entry_point_refuses_in_one_line_with_status_2(project, monkeypatch, capsys):
    with pytest.raises(SystemExit) as stop:
        enter(monkeypatch, "nbs/plot.ipynb -p modle hcn")
    out, err = capsys.readouterr()
    assert stop.value.code == 2 and out == ""
    assert err == ("papermill: unknown parameter 'modle': did you mean 'model'? "
                   "(valid: model, epochs)\n")


def test_the_entry_point_says_that_a_run_is_complete_with_status_0(planned, monkeypatch, capsys):
    enter(monkeypatch, "nbs/train.ipynb")
    (planned / "outputs/runs/agcn/DONE").touch()
    with pytest.raises(SystemExit) as stop:
        enter(monkeypatch, "nbs/train.ipynb")
    out, err = capsys.readouterr()
    assert stop.value.code == 0 and err == "" and "outputs/runs/agcn" in out


def test_the_entry_point_leaves_a_copy_that_is_being_written_alone(project, monkeypatch, capsys):
    monkeypatch.setattr(command, "PATIENCE", 0)
    _, words = enter(monkeypatch, "nbs/plot.ipynb -p epochs 3")
    (project / words[-1]).write_text("the first one's")
    enter(monkeypatch, "nbs/plot.ipynb -p epochs 4")
    enter(monkeypatch, "nbs/plot.ipynb mine.ipynb -p epochs 3")
    with pytest.raises(SystemExit) as stop:
        enter(monkeypatch, "nbs/plot.ipynb -p epochs 3")
    out, err = capsys.readouterr()
    assert stop.value.code == 2 and out == "" and (project / words[-1]).read_text() == (
        "the first one's")
    assert err == (f"papermill: another process is writing {words[-1]}: wait for it, or stop it\n")


def test_a_killed_process_gives_its_copy_back(tmp_path, monkeypatch):
    monkeypatch.setattr(command, "PATIENCE", 0)
    copy = tmp_path / "train.ipynb"
    code = f"from skelbook.command import claim; lock = claim({str(copy)!r}); print(); input()"
    with subprocess.Popen([sys.executable, "-uc", code], stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        (tmp_path / ".owner").write_text("process 7 on ours since noon")
        with pytest.raises(BlockingIOError, match=r"train.ipynb \(process 7 on ours since noon\)"):
            claim(copy)
        process.kill()
        process.wait()
    claim(copy).release()
