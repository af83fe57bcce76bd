"""Messages that wait on the queue without using up their receives: a copy comes after a pause, and they are deleted.

SQS counts every receive, and after some of them a message is a dead letter. Whatever cannot be handled yet, and is not
to blame for that, therefore does not come again itself. The copy carries since when the message waits, and for what.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from sync import clock
from sync.queues.queue import Message
from sync.settings import times


class WaitsFor(StrEnum):
    """What messages wait for: the attribute that says since when, in ISO form."""

    #: Its record has no mapping yet.
    CREATION = "waitsForCreationSince"
    #: Its record is being worked on elsewhere, or a write of it without an answer may be under way.
    LEASE = "waitsForLeaseSince"
    #: A service takes no call.
    SERVICE = "waitsForServiceSince"


#: The attributes of messages that are this program's own.
WAITING_ATTRIBUTES = frozenset(WaitsFor)


def seconds_waited(message: Message, waits_for: WaitsFor) -> float:
    """How long a message has waited for this already."""
    return max(timedelta(), clock.now() - _since(message, waits_for)).total_seconds()


def pause_seconds(message: Message, waits_for: WaitsFor) -> int:
    """The next pause of a message, by how long it has waited."""
    waited = seconds_waited(message, waits_for)
    return max(times.FIRST_REQUEUE_SECONDS, min(int(waited / 2), times.LONGEST_REQUEUE_SECONDS))


def attributes_of_copy(message: Message, waits_for: WaitsFor | None) -> Mapping[str, Mapping[str, Any]]:
    """The attributes of the copy of a message; None for one that was only handed back."""
    if waits_for is None:
        return message.attributes
    since = _since(message, waits_for).isoformat()
    return {**message.attributes, waits_for: {"DataType": "String", "StringValue": since}}


def attributes_anew(message: Message) -> Mapping[str, Mapping[str, Any]]:
    """The attributes of a message without what says how long it has waited."""
    return {name: value for name, value in message.attributes.items() if name not in WAITING_ATTRIBUTES}


def _since(message: Message, waits_for: WaitsFor) -> datetime:
    """Since when it waits for this; now, when it has not waited yet."""
    given = message.attributes.get(waits_for, {}).get("StringValue")
    try:
        since = datetime.fromisoformat(given or "")
    except ValueError:
        return clock.now()
    return since if since.tzinfo is not None else clock.now()
