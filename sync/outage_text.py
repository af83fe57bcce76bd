"""How outages are described to people, in the same words wherever they are shown."""

import math
from collections.abc import Sequence
from datetime import datetime, tzinfo

#: A longer time is shown in minutes.
_MANY_SECONDS = 120


def count_as_down(services: Sequence[str]) -> str:
    """That `services` count as down, as a clause: `nomis counts as down`, `nomis and mapping count as down`."""
    return f"{' and '.join(services)} {'counts' if len(services) == 1 else 'count'} as down"


def counts_as_down_since(service: str, since: datetime | None, zone: tzinfo) -> str:
    """That `service` counts as down and since when, in `zone`, as a clause. The time is left out if `since` is None."""
    return f"{service} has counted as down{since_text(since, zone)}" if since else count_as_down([service])


def since_text(moment: datetime, zone: tzinfo) -> str:
    """The end of a clause that says since when, in `zone`: ` since 22 May 09:30`."""
    return f" since {moment.astimezone(zone):%d %b %H:%M}"


def wait_text(seconds: float, why: str) -> str:
    """That something waits for up to `seconds`, and why: `waiting up to 30 s: nomis counts as down`."""
    most = f"{seconds:g} s" if seconds <= _MANY_SECONDS else f"{math.ceil(seconds / 60)} min"
    return f"waiting up to {most}: {why}"
