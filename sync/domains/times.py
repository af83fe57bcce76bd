"""How NOMIS and the telemetry write times, and the earliest time of a creation of unknown outcome."""

from datetime import datetime, time, timedelta

from sync.clock import LONDON

#: How much earlier than our own record NOMIS may have dated a record: its clock may be some minutes off, and on the
#: night when clocks go back its local time is an hour behind.
_CLOCK_MARGIN = timedelta(minutes=65)


def local_seconds(moment: datetime) -> str:
    """`yyyy-MM-dd'T'HH:mm:ss`; fractions are cut."""
    return moment.replace(tzinfo=None).isoformat(timespec="seconds")


def with_seconds(moment: time) -> str:
    """`HH:mm:ss`."""
    return moment.strftime("%H:%M:%S")


def with_minutes(moment: time) -> str:
    """`HH:mm`."""
    return moment.strftime("%H:%M")


def earliest_creation(since: datetime) -> datetime:
    """The earliest local time at which NOMIS can have dated a record whose creation was intended at `since`."""
    return (since - _CLOCK_MARGIN).astimezone(LONDON).replace(tzinfo=None)
