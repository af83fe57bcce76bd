"""Times with explicit zones: UTC for stored times, and London for times that NOMIS and people read.

The module writes local times in the formats that NOMIS uses, and parses the times of events in all formats that
publishers use: ISO 8601 and similar text, numbers of seconds or smaller units since 1970, and arrays.
"""

import re
from datetime import UTC, datetime, time, tzinfo
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

#: The zone of local date-times in NOMIS and in the services that publish events.
LONDON = ZoneInfo("Europe/London")


def now() -> datetime:
    """The current moment as an aware date-time in UTC."""
    return datetime.now(UTC)


def london_now() -> datetime:
    """The current moment as an aware date-time in London time."""
    return datetime.now(LONDON)


def local_seconds(moment: datetime) -> str:
    """`moment` as `yyyy-MM-dd'T'HH:mm:ss`, without its zone. Fractions of a second are cut off."""
    return moment.replace(tzinfo=None).isoformat(timespec="seconds")


def with_seconds(moment: time) -> str:
    """`moment`, a time of day, as `HH:mm:ss`. Fractions of a second are cut off."""
    return moment.strftime("%H:%M:%S")


def with_minutes(moment: time) -> str:
    """`moment`, a time of day, as `HH:mm`. Seconds are cut off."""
    return moment.strftime("%H:%M")


_TEXT = re.compile(
    r"(?P<day>\d{4}-\d{2}-\d{2})[Tt ](?P<time>\d{2}:\d{2}(?::\d{2})?)(?:[.,](?P<fraction>\d{1,18}))?"
    r" ?(?P<offset>[Zz]|[+-]\d{2}(?::?\d{2})?)?(?:\[(?P<region>[A-Za-z0-9_+/-]{1,40})\])?",
    re.ASCII,
)
_NUMBER = re.compile(r"\d{9,20}(?:\.\d{1,9})?", re.ASCII)
#: The year 5138 in seconds since 1970. Numbers from this one upwards are in milliseconds or smaller units.
_MOST_SECONDS = 10**11
#: The number of units smaller than a second: milliseconds, microseconds and nanoseconds.
_SMALLER_UNITS = 3
#: The years in which an event can happen. A number that gives any other year is not a time, but a zero or an id.
_YEARS = range(2000, 2100)
#: The possible lengths of an array, as Java writes a local time: up to the minute, the second or the nanoseconds.
_ARRAY_LENGTHS = range(5, 8)


def parse_event_time(value: Any) -> datetime:
    """`value`, the time of an event, as an aware date-time. Raises `ValueError` if it is not a date and time.

    - Text is ISO 8601 with an offset, `Z`, a region in brackets, or none of these (London time). Between the date and
      the time, there is a `T` or a space. A fraction of a second follows a point or a comma, and is cut to
      microseconds.
    - Numbers, which may be written as text, count seconds or smaller units since the beginning of 1970.
    - Arrays are in London time. They contain the year, month, day, hour and minute, and may also contain the second and
      the nanoseconds.
    """
    if isinstance(value, int | float) and not isinstance(value, bool):
        return _from_number(value)
    if isinstance(value, list):
        return _from_array(value)
    if not isinstance(value, str):
        raise ValueError("not a date-time")
    text = value.strip()
    return _from_number(float(text)) if _NUMBER.fullmatch(text) else _from_text(text)


def _from_text(text: str) -> datetime:
    match = _TEXT.fullmatch(text)
    if match is None:
        raise ValueError("not a date-time")
    local = datetime.fromisoformat(f"{match['day']}T{match['time']}")
    local = local.replace(microsecond=int((match["fraction"] or "0")[:6].ljust(6, "0")))
    return local.replace(tzinfo=_zone(match["offset"], match["region"]))


def _zone(offset: str | None, region: str | None) -> tzinfo | None:
    if offset in ("Z", "z"):
        return UTC
    if offset is not None:
        return datetime.fromisoformat(f"2000-01-01T00:00:00{offset}").tzinfo
    if region is None:
        return LONDON
    try:
        return ZoneInfo(region)
    except (ZoneInfoNotFoundError, OSError) as error:
        raise ValueError("an unknown time zone") from error


def _from_number(number: float) -> datetime:
    try:
        for _ in range(_SMALLER_UNITS):
            number = number / 1000 if number >= _MOST_SECONDS else number
        value = datetime.fromtimestamp(number, UTC)
    except (OverflowError, OSError) as error:
        raise ValueError("not a date-time") from error
    if value.year not in _YEARS:
        raise ValueError("not a date-time")
    return value


def _from_array(parts: list[Any]) -> datetime:
    if len(parts) not in _ARRAY_LENGTHS or not all(type(part) is int for part in parts):
        raise ValueError("not a date-time")
    year, month, day, hour, minute, second, nanoseconds = (*parts, *(0, 0))[:7]
    try:
        return datetime(year, month, day, hour, minute, second, nanoseconds // 1000, tzinfo=LONDON)
    except OverflowError as error:
        raise ValueError("not a date-time") from error
