"""Cron expressions have their usual meaning, in London time."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.runtime.cron import CronSchedule, parse_schedule
from sync.settings.loading import SettingsError

LONDON = ZoneInfo("Europe/London")
WEEKDAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")


def moments(line: str, start: datetime, count: int) -> list[datetime]:
    """The first `count` times after `start` at which a job with the cron expression `line` is due."""
    schedule = CronSchedule(line, LONDON)
    found: list[datetime] = []
    previous, now = None, start
    for _ in range(count):
        previous = schedule.get_next_fire_time(previous, now)
        assert previous is not None
        found.append(previous)
        now = previous
    return found


def test_day_one_of_a_schedule_is_monday() -> None:
    """`0 4 * * 1` means Mondays at 04:00 in London, in summer and in winter."""
    summer, *_ = moments("0 4 * * 1", datetime(2023, 5, 20, tzinfo=UTC), 1)
    winter, *_ = moments("0 4 * * 1", datetime(2023, 12, 1, tzinfo=UTC), 1)
    assert summer.astimezone(UTC) == datetime(2023, 5, 22, 3, tzinfo=UTC)
    assert winter.astimezone(UTC) == datetime(2023, 12, 4, 4, tzinfo=UTC)


@pytest.mark.parametrize(
    ("field", "days"),
    [
        ("0", "Sun"),
        ("7", "Sun"),
        ("1-5", "Mon Tue Wed Thu Fri"),
        ("5-7", "Fri Sat Sun"),
        ("0-2", "Mon Tue Sun"),
        ("*/3", "Wed Sat Sun"),
        ("1-5/2", "Mon Wed Fri"),
        ("1,6", "Mon Sat"),
        ("sun", "Sun"),
        ("MON-WED", "Mon Tue Wed"),
    ],
)
def test_weekdays_count_as_in_cron(field: str, days: str) -> None:
    """A weekday is a number (0 and 7 are Sunday) or a name, and lists, ranges and steps work as in cron."""
    week = moments(f"0 4 * * {field}", datetime(2023, 5, 21, 12, tzinfo=UTC), 8)
    seen = {moment.weekday() for moment in week}
    assert [WEEKDAYS[day] for day in sorted(seen)] == days.split()


def test_hour_repeated_in_autumn_fires_once() -> None:
    """On the last Sunday of October, 01:30 occurs twice, and a job due at that time runs only the first time."""
    first, second = moments("30 1 * * *", datetime(2023, 10, 28, 12, tzinfo=UTC), 2)
    assert first.astimezone(UTC) == datetime(2023, 10, 29, 0, 30, tzinfo=UTC)
    assert second.astimezone(UTC) == datetime(2023, 10, 30, 1, 30, tzinfo=UTC)


def test_hour_skipped_in_spring_still_fires() -> None:
    """On the last Sunday of March, 01:30 does not exist, but a job due at that time still runs once that day."""
    first, second = moments("30 1 * * *", datetime(2023, 3, 25, 12, tzinfo=UTC), 2)
    assert first.astimezone(UTC) == datetime(2023, 3, 26, 1, 30, tzinfo=UTC)
    assert second.astimezone(UTC) == datetime(2023, 3, 27, 0, 30, tzinfo=UTC)


def test_every_ten_minutes_continues_through_the_repeated_hour() -> None:
    """A job that runs every ten minutes still does so when the clocks go back."""
    found = moments("*/10 * * * *", datetime(2023, 10, 29, 0, 0, tzinfo=UTC), 15)
    gaps = {(later - sooner).total_seconds() for sooner, later in zip(_utc(found), _utc(found)[1:], strict=False)}
    assert gaps == {600.0}


def test_day_of_month_or_weekday() -> None:
    """If both the day of the month and the weekday are restricted, a match of either is enough, as in cron."""
    found = moments("0 4 1 * 1", datetime(2023, 6, 26, 12, tzinfo=UTC), 3)
    assert [moment.day for moment in found] == [1, 3, 10]


@given(st.integers(1672531200, 1798675200).map(lambda seconds: datetime.fromtimestamp(seconds, UTC)))
def test_the_latest_and_the_next_time_are_a_week_apart(now: datetime) -> None:
    """The latest time of a weekly schedule is now or earlier.

    The next time is later than now, and exactly a week after the latest time on a clock in London.
    """
    schedule = CronSchedule("0 4 * * 1", LONDON)
    latest = schedule.latest(now, timedelta(days=8))
    following = schedule.get_next_fire_time(None, now + timedelta(microseconds=1))
    assert latest is not None
    assert following is not None
    assert latest <= now < following
    assert following.replace(tzinfo=None) - latest.replace(tzinfo=None) == timedelta(days=7)


def test_the_latest_time_is_never_in_the_skipped_hour() -> None:
    """Shortly after the clocks go forward, the latest time of a schedule is one that the clocks have shown."""
    schedule = CronSchedule("*/7 1-3 * * *", LONDON)
    now = datetime(2023, 3, 26, 2, 13, tzinfo=LONDON)
    assert schedule.latest(now, timedelta(hours=30)) == datetime(2023, 3, 26, 1, 7, tzinfo=UTC)


def test_there_is_no_latest_time_if_nothing_was_due() -> None:
    """A schedule has no latest time if none of its times is in the period searched."""
    schedule = CronSchedule("0 4 * * 1", LONDON)
    assert schedule.latest(datetime(2023, 5, 24, tzinfo=UTC), timedelta(hours=1)) is None


@pytest.mark.parametrize(
    "line",
    ["0 4 * *", "0 4 * * 8", "0 25 * * 1", "x 4 * * 1", "0 4 * * 5-1", "0 4 * * 1/0", "0 4 * * mo", "", "0 4 31 2 *"],
)
def test_invalid_expressions_are_refused_in_one_line(line: str) -> None:
    """A schedule that is not a valid cron expression raises a one-line settings error that names the setting."""
    with pytest.raises(SettingsError, match="RECONCILIATION_SCHEDULE") as caught:
        parse_schedule("RECONCILIATION_SCHEDULE", line, LONDON)
    assert "\n" not in str(caught.value)


def _utc(found: list[datetime]) -> list[datetime]:
    return [moment.astimezone(UTC) for moment in found]
