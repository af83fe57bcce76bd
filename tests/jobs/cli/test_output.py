"""The output of commands, and the times that people type."""

import io
import json
import unicodedata
from contextlib import redirect_stdout
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.cli.arguments import parse_time
from jobs.cli.output import (
    counts_text,
    duration_text,
    live_progress,
    pairs_of,
    print_json,
    print_pairs,
    print_table,
    say,
)
from jobs.errors import BAD_USAGE, WORK_FAILED, UsageError, WorkError, exit_code_for
from reports.presentation.text import plain
from sync.errors import UpstreamError
from sync.settings.loading import SettingsError

LONDON = ZoneInfo("Europe/London")


def test_columns_are_as_wide_as_their_cells(capsys: pytest.CaptureFixture[str]) -> None:
    """The columns of a table line up, empty cells show `-`, and no line ends with spaces."""
    print_table(("RUN", "ERROR"), [("20230522", None), ("7", "no answer")])
    assert capsys.readouterr().out == "RUN       ERROR\n20230522  -\n7         no answer\n"


def test_json_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    """Printed JSON is on one line, and keeps non-ASCII letters."""
    print_json({"error": "zwei\nZeilen – ü"})
    assert capsys.readouterr().out == '{"error": "zwei\\nZeilen – ü"}\n'


#: Characters that control a terminal or mislead the reader.
STEERING = "\x1b[31m\x1b]0;title\x07\x9b2J\x00\x7f\u202e\u2066\u200b\u2028\n\ud800"


@given(text=st.text())
def test_no_text_controls_the_terminal(text: str) -> None:
    """The function `plain` makes any text printable and puts it on one line. It leaves harmless text unchanged."""
    shown = plain(f"{text}{STEERING}{text}")
    assert all(each.isprintable() or unicodedata.category(each) in ("Zs", "Cn", "Co") for each in shown)
    assert plain("Ünïcode – 中文 a\u00a0b") == "Ünïcode – 中文 a\u00a0b"


def test_no_printed_form_controls_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """Lines, tables and pairs are printed without escape codes or direction marks, and no text can add a line."""
    say(f"a{STEERING}b")
    say(f"a{STEERING}b", err=True)
    print_table(("A",), [(f"x{STEERING}y",), ([f"x{STEERING}", "y"],)])
    print_pairs({"name": f"x{STEERING}y"})
    shown = capsys.readouterr()
    assert shown.out.count("\n") == 5
    assert shown.err.count("\n") == 1
    assert all(each.isprintable() for each in (shown.out + shown.err).replace("\n", ""))


@given(text=st.text())
def test_json_is_exact_and_controls_no_terminal(text: str) -> None:
    """Printed JSON parses to the original value.

    It consists only of printable characters, so it has no escape codes.
    """
    value = {"text": f"{text}{STEERING}", text: [text]}
    with redirect_stdout(io.StringIO()) as out:
        print_json(value)
    line = out.getvalue()
    assert json.loads(line) == value
    assert all(each.isprintable() for each in line.rstrip("\n"))


def test_progress_has_no_markup(capsys: pytest.CaptureFixture[str]) -> None:
    """The progress display shows a stage's name as plain text, even if the name contains markup or escape codes."""

    class Screen(io.StringIO):
        def isatty(self) -> bool:
            return True

    screen = Screen()
    with live_progress(screen) as report:
        report("waiting: [red]no[/red]\x1b]0;title\x07", 1, 2)
    assert "[red]no[/red]" in screen.getvalue()
    assert "\x1b]0" not in screen.getvalue()


@pytest.mark.parametrize(
    ("seconds", "text"), [(None, ""), (0.42, "0.4 s"), (59.6, "1 min 0 s"), (192, "3 min 12 s"), (7500, "2 h 5 min")]
)
def test_a_duration_shows_its_two_largest_units(seconds: float | None, text: str) -> None:
    """A duration is printed in at most two units, and an unknown duration as an empty text."""
    assert duration_text(seconds) == text


def test_counts_of_zero_are_left_out() -> None:
    """Only counts above zero are printed. Their names are put into words unless the caller wants the original names."""
    assert counts_text({"received": 3, "failed": 0, "retry_queued": 1, "queues": {}}) == "received 3, retry queued 1"
    assert counts_text({"RETRY_CREATE_MAPPING": 2}, in_words=False) == "RETRY_CREATE_MAPPING 2"


def test_differences_are_called_differences() -> None:
    """The count that a run records as `mismatches` is printed as `differences`, the word that reports use."""
    assert counts_text({"compared": 9, "mismatches": 2}) == "compared 9, differences 2"
    assert pairs_of("count", {"mismatches": 2}) == {"count differences": 2}


def test_times_without_an_offset_are_in_london_time() -> None:
    """A typed date-time without an offset is taken to be in the given time zone, here that of London.

    A date-time with an offset keeps the offset. An age, such as `90m`, counts back from now.
    """
    assert parse_time("2023-05-22T04:00", LONDON) == datetime(2023, 5, 22, 3, tzinfo=UTC)
    assert parse_time("2023-05-22T04:00Z", LONDON) == datetime(2023, 5, 22, 4, tzinfo=UTC)
    assert timedelta(minutes=89) < datetime.now(UTC) - parse_time("90m", LONDON) < timedelta(minutes=91)


@pytest.mark.parametrize("text", ["yesterday", "", "2023-13-01", "999999999999w"])
def test_other_times_are_refused(text: str) -> None:
    """Text that is neither a valid time nor a valid age is bad usage."""
    with pytest.raises(UsageError):
        parse_time(text, LONDON)


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (SettingsError("TZ: 'x': give a time zone"), BAD_USAGE, "TZ: 'x': give a time zone"),
        (UsageError("there is no run x"), BAD_USAGE, "there is no run x"),
        (WorkError("the queue\ncannot be reached"), WORK_FAILED, "the queue cannot be reached"),
        (
            UpstreamError("nomis", "GET", "/visits/1", status=503, message="busy"),
            WORK_FAILED,
            "nomis: GET /visits/1: status 503: busy",
        ),
        (RuntimeError("a\nb"), WORK_FAILED, "RuntimeError"),
        (KeyError(), WORK_FAILED, "KeyError"),
    ],
)
def test_errors_end_in_one_line(error: Exception, code: int, line: str) -> None:
    """Every error that ends a command has an exit code and a message on one line.

    An unexpected error is shown by its type only, since its text may contain anything.
    """
    assert exit_code_for(error) == (code, line)


def test_progress_without_a_terminal_is_a_few_lines() -> None:
    """Without a terminal, the progress of a quick stage is printed only when the stage begins and when it ends."""
    stream = io.StringIO()
    with live_progress(stream) as report:
        for done in range(1001):
            report("levels", done, 1000)
        report("levels", 1000, 1000)
        report("listing", 7, 0)
    assert stream.getvalue().splitlines() == [
        "levels: 0 of 1,000 (0%)",
        "levels: 1,000 of 1,000 (100%)",
        "listing: 7",
    ]
