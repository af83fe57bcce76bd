"""The time of day as the services write it: local time of Europe/London without an offset."""

from __future__ import annotations

from datetime import date, datetime
from typing import Final
from zoneinfo import ZoneInfo

LONDON: Final = ZoneInfo("Europe/London")


def london_now() -> datetime:
    """The present local date and time in London, without an offset and without microseconds lost."""
    return datetime.now(LONDON).replace(tzinfo=None)


def london_today() -> date:
    """The present calendar day in London."""
    return london_now().date()
