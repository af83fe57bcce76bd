"""Times, with their zones explicit: UTC for what is stored, London for what NOMIS and people read, and in its forms."""

from datetime import UTC, datetime, time
from zoneinfo import ZoneInfo

#: The zone of NOMIS's and the publishers' local date-times.
LONDON = ZoneInfo("Europe/London")


def now() -> datetime:
    """The present moment, aware, in UTC."""
    return datetime.now(UTC)


def london_now() -> datetime:
    """The present moment, aware, in London."""
    return datetime.now(LONDON)


def local_seconds(moment: datetime) -> str:
    """`yyyy-MM-dd'T'HH:mm:ss`; fractions are cut."""
    return moment.replace(tzinfo=None).isoformat(timespec="seconds")


def with_seconds(moment: time) -> str:
    """`HH:mm:ss`."""
    return moment.strftime("%H:%M:%S")


def with_minutes(moment: time) -> str:
    """`HH:mm`."""
    return moment.strftime("%H:%M")
