"""Times, with their zones explicit: UTC for what is stored, London for what NOMIS and people read."""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

#: The zone of NOMIS's and the publishers' local date-times.
LONDON = ZoneInfo("Europe/London")


def now() -> datetime:
    """The present moment, aware, in UTC."""
    return datetime.now(UTC)


def london_now() -> datetime:
    """The present moment, aware, in London."""
    return datetime.now(LONDON)
