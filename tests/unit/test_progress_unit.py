"""How far, how long: on a terminal, in a pipe, and for work that continues in the middle."""

import io

import pytest

from skelbook import core
from skelbook.core import duration, progress_printer


class Terminal(io.StringIO):
    "A stream that says it is a terminal."

    def isatty(self):
        return True


@pytest.fixture
def clock(monkeypatch):
    "A clock that is set by hand."
    class Clock:
        now = 0.0
    monkeypatch.setattr(core.time, "monotonic", lambda: Clock.now)
    return Clock


def report(clock, page, reports, **options):
    "What is written for a list of (time, done, total)."
    progress = progress_printer("work", page, **options)
    for clock.now, done, total in reports:
        progress(done, total)
    return page.getvalue()


def test_a_pipe_gets_a_line_every_few_seconds(clock):
    shown = report(clock, io.StringIO(), [(t, t, 10) for t in range(1, 11)], every=4)
    assert shown == "work: 4 of 10, 6 s left\nwork: 8 of 10, 2 s left\nwork: 10, done in 10 s\n"


def test_a_terminal_has_one_line_which_ends_with_the_work(clock):
    shown = report(clock, Terminal(), [(1, 1, 3), (2, 2, 3), (3, 3, 3)])
    assert shown.split("\r\x1b[K") == ["", "work: 1 of 3", "work: 2 of 3, 1 s left",
                                       "work: 3, done in 3 s\n"]


def test_a_terminal_shows_the_first_report_at_once(clock):
    assert report(clock, Terminal(), [(0, 1, 30)]) == "\r\x1b[Kwork: 1 of 30"


def test_a_terminal_is_not_flooded(clock):
    shown = report(clock, Terminal(), [(0.001 * k, k, 1000) for k in range(500)])
    assert shown.count("\r") <= 6


def test_a_long_line_is_cut_where_the_terminal_ends(clock, monkeypatch):
    monkeypatch.setenv("COLUMNS", "12")
    assert report(clock, Terminal(), [(1, 1, 3)]) == "\r\x1b[Kwork: 1 of "


def test_what_was_done_before_does_not_make_it_look_fast(clock):
    shown = report(clock, io.StringIO(), [(1, 900, 1000), (3, 910, 1000)])
    assert shown == "work: 910 of 1000, 18 s left\n"


def test_an_unknown_total_is_not_guessed(clock):
    assert report(clock, io.StringIO(), [(3, 5, None)]) == "work: 5\n"


def test_nothing_to_do_is_done(clock):
    assert report(clock, io.StringIO(), [(0, 0, 0)]) == "work: 0, done in 0 s\n"


def test_amounts_are_written_as_asked(clock):
    shown = report(clock, io.StringIO(), [(3, 2000, 4000)], show=lambda n: f"{n / 1000} kB")
    assert shown == "work: 2.0 kB of 4.0 kB\n"


def test_standard_output_is_the_default(clock, capsys):
    report(clock, io.StringIO(), [])
    progress_printer("work")(1, 1)
    assert capsys.readouterr().out == "work: 1, done in 0 s\n"


@pytest.mark.parametrize("seconds, text", [(99.4, "99 s"), (100, "2 min"), (5900, "98 min"),
                                           (5990, "1 h 40 min"), (90000, "25 h 0 min")])
def test_durations(seconds, text):
    assert duration(seconds) == text
