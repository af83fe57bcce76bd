"""The `Retry-After` header: how long a service asks to be left alone."""

import re
from datetime import UTC
from email.utils import parsedate_to_datetime

from sync import clock

_SECONDS = re.compile(r"\d{1,9}(\.\d+)?", re.ASCII)


def read_retry_after(value: str | None) -> float | None:
    """The wait in seconds, from a number of them or from a date (RFC 9110); None where neither can be read."""
    if value is None:
        return None
    text = value.strip()
    if _SECONDS.fullmatch(text):
        return float(text)
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return None
    # The form of asctime, one of the three that the RFC allows, has no zone and means UTC.
    moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
    return max(0.0, (moment - clock.now()).total_seconds())
