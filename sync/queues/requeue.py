"""Lets a message wait on the queue without using up its receives: a copy comes after a pause, and it is deleted.

SQS counts every receive, and after a few of them a message becomes a dead letter. A message that cannot be handled yet,
through no fault of its own, is therefore replaced by a copy. The copy says since when the message waits, and for what.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from sync import clock
from sync.queues.queue import Message
from sync.settings import times


class WaitsFor(StrEnum):
    """What a message waits for; the value is the attribute that says since when, in ISO form."""

    #: Its record has no mapping yet.
    CREATION = "waitsForCreationSince"
    #: Its record is being worked on elsewhere, or a write whose outcome is unknown may be under way.
    LEASE = "waitsForLeaseSince"
    #: A service is unavailable.
    SERVICE = "waitsForServiceSince"


#: The attributes that this program adds to messages.
WAITING_ATTRIBUTES = frozenset(WaitsFor)


def seconds_waited(message: Message, waits_for: WaitsFor) -> float:
    """How long a message has waited for this so far."""
    return max(timedelta(), clock.now() - _since(message, waits_for)).total_seconds()


def pause_seconds(message: Message, waits_for: WaitsFor) -> int:
    """The next pause of a message, by how long it has waited."""
    waited = seconds_waited(message, waits_for)
    return max(times.FIRST_REQUEUE_SECONDS, min(int(waited / 2), times.LONGEST_REQUEUE_SECONDS))


def attributes_of_copy(message: Message, waits_for: WaitsFor | None) -> Mapping[str, Mapping[str, Any]]:
    """The attributes of the copy of a message; `waits_for` is None for a message that was only returned."""
    if waits_for is None:
        return message.attributes
    since = _since(message, waits_for).isoformat()
    return {**message.attributes, waits_for: {"DataType": "String", "StringValue": since}}


def attributes_anew(message: Message) -> Mapping[str, Mapping[str, Any]]:
    """The attributes of a message without those that say how long it has waited."""
    return {name: value for name, value in message.attributes.items() if name not in WAITING_ATTRIBUTES}


def _since(message: Message, waits_for: WaitsFor) -> datetime:
    """Since when a message waits for this; now, if it has not waited yet."""
    given = message.attributes.get(waits_for, {}).get("StringValue")
    try:
        since = datetime.fromisoformat(given or "")
    except ValueError:
        return clock.now()
    return since if since.tzinfo is not None else clock.now()
