"""Moments as people type them."""

import re
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from jobs.cli.exit_codes import UsageError
from sync import clock

_AGE = re.compile(r"(\d+)\s*(s|m|h|d|w)")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def parse_time(text: str, zone: ZoneInfo) -> datetime:
    """A date, a date-time (in `zone` where it names no offset) or an age before now (`30m`, `2h`, `7d`), aware.

    Raises `UsageError` for anything else.
    """
    age = _AGE.fullmatch(text.strip().lower())
    try:
        if age:
            return clock.now() - timedelta(**{_UNITS[age[2]]: int(age[1])})
        moment = datetime.fromisoformat(text.strip())
    except (ValueError, OverflowError) as error:
        raise UsageError(
            f"{text!r} is no moment: give a date-time such as 2023-05-22T04:00 or an age such as 30m, 2h, 7d"
        ) from error
    return moment if moment.tzinfo else moment.replace(tzinfo=zone)
