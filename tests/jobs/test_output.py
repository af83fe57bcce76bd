"""Results, moments and progress as people read and type them."""

import io
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from jobs.endings import BAD_USAGE, WORK_FAILED, UsageError, WorkError, ending_of
from jobs.moments import read_moment
from jobs.output import counts_text, duration_text, print_json, print_table
from jobs.progress import live_progress
from sync.failures import UpstreamError
from sync.settings import SettingsError

LONDON = ZoneInfo("Europe/London")


def test_columns_are_as_wide_as_their_cells(capsys: pytest.CaptureFixture[str]) -> None:
    """A table lines up, shows `-` for what is empty, and leaves no blanks at the ends of lines."""
    print_table(("RUN", "ERROR"), [("20230522", None), ("7", "no answer")])
    assert capsys.readouterr().out == "RUN       ERROR\n20230522  -\n7         no answer\n"


def test_json_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    """JSON stays on one line and keeps letters beyond ASCII."""
    print_json({"error": "zwei\nZeilen – ü"})
    assert capsys.readouterr().out == '{"error": "zwei\\nZeilen – ü"}\n'


@pytest.mark.parametrize(
    ("seconds", "text"), [(None, ""), (0.42, "0.4 s"), (59.6, "1 min 0 s"), (192, "3 min 12 s"), (7500, "2 h 5 min")]
)
def test_durations(seconds: float | None, text: str) -> None:
    """A duration shows its two largest units."""
    assert duration_text(seconds) == text


def test_counts_leave_zeros_out() -> None:
    """Only what happened is said."""
    assert counts_text({"received": 3, "failed": 0, "retry_queued": 1, "queues": {}}) == "received 3, retry queued 1"
    assert counts_text({"RETRY_CREATE_MAPPING": 2}, in_words=False) == "RETRY_CREATE_MAPPING 2"


def test_moments_are_read_in_the_zone_of_the_schedules() -> None:
    """A date-time without offset is London's; one with an offset keeps it; an age counts back from now."""
    assert read_moment("2023-05-22T04:00", LONDON) == datetime(2023, 5, 22, 3, tzinfo=UTC)
    assert read_moment("2023-05-22T04:00Z", LONDON) == datetime(2023, 5, 22, 4, tzinfo=UTC)
    assert timedelta(minutes=89) < datetime.now(UTC) - read_moment("90m", LONDON) < timedelta(minutes=91)


@pytest.mark.parametrize("text", ["yesterday", "", "2023-13-01", "999999999999w"])
def test_other_moments_are_refused(text: str) -> None:
    """What is no moment is bad usage."""
    with pytest.raises(UsageError):
        read_moment(text, LONDON)


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
        (RuntimeError("a\nb"), WORK_FAILED, "RuntimeError: a b"),
        (KeyError(), WORK_FAILED, "KeyError: KeyError"),
    ],
)
def test_errors_end_in_one_line(error: Exception, code: int, line: str) -> None:
    """Every error has its exit code and one line."""
    assert ending_of(error) == (code, line)


def test_progress_without_a_terminal_is_a_few_lines() -> None:
    """A stage is said when it begins and when it ends, and not for every step between."""
    stream = io.StringIO()
    with live_progress(stream) as report:
        for done in range(1001):
            report("levels", done, 1000)
        report("levels", 1000, 1000)
        report("listing", 7, 0)
    assert stream.getvalue().splitlines() == [
        "levels: 0 of 1,000 (0 %)",
        "levels: 1,000 of 1,000 (100 %)",
        "listing: 7",
    ]
