"""Cron expressions, read as cron itself reads them, and the times that they name in a time zone.

This differs from APScheduler's own reading in three ways, all on purpose. Weekdays 0 and 7 are Sunday, and 1 is Monday.
If both the day of the month and the weekday are restricted, a day need match only one of them. The hour that is
repeated in autumn counts only once, unless the expression has `*` as its hour.
"""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from itertools import takewhile
from typing import Any
from zoneinfo import ZoneInfo

from apscheduler.triggers.base import BaseTrigger
from apscheduler.triggers.cron import CronTrigger

from sync.settings.loading import SettingsError

_FIRST_SPAN = timedelta(minutes=15)
_WEEKDAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_WEEKDAY_HELP = "use 0 to 7 (0 and 7 are Sunday) or sun to sat; lists, ranges and steps are allowed"
_EXAMPLE = (
    "give the five fields of a cron expression: minute, hour, day of month, month and weekday, for example '0 4 * * 1'"
)


class CronSchedule(BaseTrigger):  # type: ignore[misc]  # APScheduler carries no types
    """The times that a cron expression names in a time zone. APScheduler can use it as a trigger."""

    def __init__(self, line: str, zone: ZoneInfo) -> None:
        """Raises `ValueError` if `line` is not a valid cron expression. The text of the error says what is wrong."""
        fields = line.split()
        if len(fields) != 5:
            raise ValueError(_EXAMPLE)
        minute, hour, day, month, weekday = fields
        self.line = line
        self.zone = zone
        self._every_hour = hour == "*"
        weekdays = _weekday_names(weekday)
        days = [(day, weekdays)] if "*" in (day, weekdays) else [(day, "*"), ("*", weekdays)]
        self._triggers = [
            CronTrigger(minute=minute, hour=hour, day=by_day, month=month, day_of_week=by_weekday, timezone=zone)
            for by_day, by_weekday in days
        ]

    def get_next_fire_time(self, previous_fire_time: datetime | None, now: datetime) -> datetime | None:
        """The first time after `previous_fire_time` or, if that argument is None, the first time at or after `now`.

        None if there is no further time.
        """
        moments = [self._next(trigger, previous_fire_time, now) for trigger in self._triggers]
        return min((moment for moment in moments if moment is not None), default=None)

    def latest(self, now: datetime, within: timedelta) -> datetime | None:
        """The last time not after `now`, or None if there was none since `now - within`."""
        # Searches spans that double, so that an expression for every minute is not followed through a whole week. The
        # spans are in UTC, which neither skips nor repeats a time.
        span, now = min(_FIRST_SPAN, within), now.astimezone(UTC)
        while True:
            moments = list(takewhile(lambda moment: moment <= now, self._moments(now - span)))
            if moments:
                return moments[-1]
            if span == within:
                return None
            span = min(2 * span, within)

    def _moments(self, start: datetime) -> Iterator[datetime]:
        moment = self.get_next_fire_time(None, start.astimezone(self.zone))
        while moment is not None:
            yield moment
            moment = self.get_next_fire_time(moment, moment)

    def _next(self, trigger: CronTrigger, previous: datetime | None, now: datetime) -> datetime | None:
        moment: datetime | None = trigger.get_next_fire_time(previous, now)
        while moment is not None and moment.fold and not self._every_hour:
            moment = trigger.get_next_fire_time(moment, moment)
        return moment

    def __str__(self) -> str:
        """The expression and its zone."""
        return f"{self.line} ({self.zone.key})"


def parse_schedule(setting: str, line: str, zone: ZoneInfo) -> CronSchedule:
    """The schedule of the cron expression `line`, which is the value of the variable called `setting`.

    Raises `SettingsError`, with one line that names the variable, if `line` is not a valid cron expression. An
    expression that no day matches, such as one for 31 February, is not valid either.
    """
    try:
        schedule = CronSchedule(line, zone)
    except ValueError as error:
        raise SettingsError(f"{setting}: {line!r}: {error}") from error
    if schedule.get_next_fire_time(None, datetime.now(zone)) is None:
        raise SettingsError(f"{setting}: {line!r}: there is no such day; {_EXAMPLE}")
    return schedule


def schedule_errors(variables: Mapping[str, Any], zone: ZoneInfo) -> list[str]:
    """A line for each `…_SCHEDULE` among `variables` whose value is set but is not a valid cron expression."""
    errors = []
    for name, line in variables.items():
        if name.endswith("_SCHEDULE") and line:
            try:
                parse_schedule(name, line, zone)
            except SettingsError as error:
                errors.append(str(error))
    return errors


def _weekday_names(field: str) -> str:
    """The weekdays in the weekday field of a cron expression, by name: `1-5` → `mon,tue,wed,thu,fri`.

    Names, unlike numbers, mean the same days to APScheduler as to cron. Raises `ValueError` if `field` is not valid.
    """
    if field == "*":
        return field
    numbers: set[int] = set()
    for part in field.lower().split(","):
        span, _, step = part.partition("/")
        first, _, last = span.partition("-")
        if span == "*":
            start, end = 0, 6
        else:
            start = _weekday_number(first)
            end = _weekday_number(last) if last else (6 if step else start)
        if end < start or not (step.isdigit() and int(step) > 0 if step else "/" not in part):
            raise ValueError(f"{part!r} is not a valid weekday: {_WEEKDAY_HELP}")
        numbers.update(number % 7 for number in range(start, end + 1, int(step or 1)))
    return ",".join(_WEEKDAYS[number] for number in sorted(numbers))


def _weekday_number(text: str) -> int:
    if text in _WEEKDAYS:
        return _WEEKDAYS.index(text)
    if text.isdigit() and int(text) <= 7:
        return int(text)
    raise ValueError(
        f"{text!r} is not a valid weekday: use 0 to 7 (0 and 7 are Sunday) or sun to sat; "
        "lists, ranges and steps are allowed"
    )
