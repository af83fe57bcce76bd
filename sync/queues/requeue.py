"""Lets a message wait on the queue without using up its receives: a copy comes later, and the original is deleted.

SQS counts every receive, and after a few of them a message becomes a dead letter. A message that cannot be handled yet,
for a reason that lies outside it, is therefore replaced by a copy. The copy says since when the message has waited, and
for what.

When a message begins to wait for something else, that wait is measured from its own beginning. So that a message cannot
wait for ever by alternating between two things, its copies also say since when it has waited for anything: after
`LONGEST_WAIT_SECONDS`, or after the limit of its current wait if that is longer, it fails like any other message.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from sync import clock
from sync.queues.queue import Message
from sync.settings import times


class WaitsFor(StrEnum):
    """What a message waits for on the queue; the value is the attribute that says since when, in ISO form.

    For what a message group waits for, hidden in a batch, see `sync.pipeline.groups.Missing`.
    """

    #: Its record has no mapping yet.
    CREATION = "waitsForCreationSince"
    #: Its record is being handled elsewhere, or a write whose outcome is unknown may be under way.
    LEASE = "waitsForLeaseSince"
    #: A service is unavailable.
    SERVICE = "waitsForServiceSince"


#: Says since when a message has waited for anything; it outlives a change of what the message waits for.
_WAITS_SINCE = "waitsSince"
#: The attributes that this program adds to messages.
_WAITING_ATTRIBUTES = frozenset({*WaitsFor, _WAITS_SINCE})


def seconds_waited(message: Message, waits_for: WaitsFor) -> float:
    """How long a message has waited for this so far."""
    return _seconds_since(message, waits_for)


def has_waited(message: Message, waits_for: WaitsFor) -> bool:
    """Whether a message is a copy that waited for this, and for nothing else afterwards."""
    return waits_for in message.attributes


def may_wait(message: Message, waits_for: WaitsFor, longest: float) -> bool:
    """Whether a message may wait for this any longer; `longest` is the limit of this wait in seconds."""
    total = _seconds_since(message, _WAITS_SINCE)
    return seconds_waited(message, waits_for) < longest and total < max(longest, times.LONGEST_WAIT_SECONDS)


def pause_seconds(message: Message, waits_for: WaitsFor) -> int:
    """The next pause of a message in seconds, which grows with the time it has waited."""
    waited = seconds_waited(message, waits_for)
    return max(times.FIRST_REQUEUE_SECONDS, min(int(waited / 2), times.LONGEST_REQUEUE_SECONDS))


def attributes_of_copy(message: Message, waits_for: WaitsFor | None) -> Mapping[str, Mapping[str, Any]]:
    """The attributes of the copy of a message; `waits_for` is None for a message that is only returned."""
    if waits_for is None:
        return message.attributes
    now = clock.now()
    # A copy made by an earlier version lacks `_WAITS_SINCE`: it has waited since the first of its waits.
    first = min(_since(message, name, now) for name in _WAITING_ATTRIBUTES)
    since = {str(waits_for): _since(message, waits_for, now), _WAITS_SINCE: first}
    times_of_copy = {name: {"DataType": "String", "StringValue": time.isoformat()} for name, time in since.items()}
    return {**attributes_anew(message), **times_of_copy}


def attributes_anew(message: Message) -> Mapping[str, Mapping[str, Any]]:
    """The attributes of a message without those that say how long it has waited."""
    return {name: value for name, value in message.attributes.items() if name not in _WAITING_ATTRIBUTES}


def _seconds_since(message: Message, attribute: str) -> float:
    now = clock.now()
    return max(timedelta(), now - _since(message, attribute, now)).total_seconds()


def _since(message: Message, attribute: str, now: datetime) -> datetime:
    """The time that an attribute of a message gives; `now` if it gives none."""
    given = message.attributes.get(attribute, {}).get("StringValue")
    try:
        since = datetime.fromisoformat(given or "")
    except ValueError:
        return now
    return since if since.tzinfo is not None else now
