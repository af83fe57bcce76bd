"""The current date and time in London. Times are local and have no offset."""

from __future__ import annotations

from datetime import date, datetime
from typing import Final
from zoneinfo import ZoneInfo

LONDON: Final = ZoneInfo("Europe/London")


def london_now() -> datetime:
    """Returns the current local time in London, to the microsecond and without an offset."""
    return datetime.now(LONDON).replace(tzinfo=None)


def london_today() -> date:
    """Returns the current calendar day in London."""
    return london_now().date()
