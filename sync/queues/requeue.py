"""Lets a message wait on the queue without using up its receives: a delayed copy replaces the original.

SQS counts every receive, and after a few receives a message becomes a dead letter. So if a message cannot be handled
yet for a reason outside the message, a copy replaces it. The copy says what the message waits for, and since when.

If a message begins to wait for something else, or for another service, a new wait begins. A message that alternates
between two waits could wait for ever, so its copies also say when its first wait began. Once the time since then
reaches `LONGEST_WAIT_SECONDS`, or the limit of its current wait if that is longer, the message fails instead of waiting
again.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from sync import clock
from sync.queues.queue import Message
from sync.settings import times


class WaitsFor(StrEnum):
    """What a message waits for on the queue.

    Each value is the name of the message attribute that holds the time at which the wait began, in ISO format.
    `sync.pipeline.group_runner.Missing` is the counterpart for a message group that waits in a batch.
    """

    #: The record of the message, or another record that it needs, has not been created yet.
    CREATION = "waitsForCreationSince"
    #: The record is being handled elsewhere, or a write with an unknown outcome may be under way.
    LEASE = "waitsForLeaseSince"
    #: A service is unavailable.
    SERVICE = "waitsForServiceSince"
    #: The message was sent back from the dead letter queue by a command that follows it until it is handled.
    TURN = "waitsForTurnSince"

    @property
    def stored(self) -> str:
        """The name in the database, in logs and in JSON, such as `creation`."""
        return self.name.lower()


#: The attribute with the start of a message's first wait. It stays if the message later waits for something else.
_WAITS_SINCE = "waitsSince"
#: The attribute with the name of the service that a message waits for. Copies made by earlier versions lack it.
_SERVICE = "waitsForService"
_TIME_ATTRIBUTES = frozenset({*WaitsFor, _WAITS_SINCE})
#: The attributes that this program adds to messages.
_WAITING_ATTRIBUTES = _TIME_ATTRIBUTES | {_SERVICE}


def seconds_waited(message: Message, waits_for: WaitsFor, service: str | None = None) -> float:
    """How long a message has waited for `waits_for` so far, in seconds.

    service: the service that the message waits for. If it has waited for another service, the result is 0.
    """
    now = clock.now()
    return _seconds_between(_since_for(message, waits_for, service, now), now)


def has_waited(message: Message, waits_for: WaitsFor) -> bool:
    """Whether a message is a copy that has waited for `waits_for`, and for nothing else since."""
    return waits_for in message.attributes


def may_wait(message: Message, waits_for: WaitsFor, longest: float, service: str | None = None) -> bool:
    """Whether a message may still wait for `waits_for`, for which the limit is `longest` seconds.

    The time since the message's first wait began has a limit too. service: as in `seconds_waited`.
    """
    now = clock.now()
    total = _seconds_between(_since(message, _WAITS_SINCE, now), now)
    return seconds_waited(message, waits_for, service) < longest and total < max(longest, times.LONGEST_WAIT_SECONDS)


def pause_seconds(message: Message, waits_for: WaitsFor, service: str | None = None) -> int:
    """The delay of the next copy of a message, in whole seconds.

    It grows with the time that the message has waited for `waits_for`. service: as in `seconds_waited`.
    """
    waited = seconds_waited(message, waits_for, service)
    return max(times.FIRST_REQUEUE_SECONDS, min(int(waited / 2), times.LONGEST_REQUEUE_SECONDS))


def attributes_of_copy(
    message: Message, waits_for: WaitsFor | None, service: str | None = None
) -> Mapping[str, Mapping[str, Any]]:
    """The attributes for the copy that replaces `message` and waits for `waits_for`.

    If `waits_for` is None, the copy does not wait, and its attributes are those of `message`. service: the service that
    the copy waits for, or None if it waits for none.
    """
    if waits_for is None:
        return message.attributes
    now = clock.now()
    # A copy made by an earlier version lacks `_WAITS_SINCE`, so use the earliest of its waits.
    first = min(_since(message, name, now) for name in _TIME_ATTRIBUTES)
    since = _since_for(message, waits_for, service, now)
    values = {str(waits_for): since.isoformat(), _WAITS_SINCE: first.isoformat()}
    if service is not None:
        values[_SERVICE] = service
    added = {name: {"DataType": "String", "StringValue": value} for name, value in values.items()}
    return {**attributes_anew(message), **added}


def attributes_of_followed(message: Message) -> Mapping[str, Mapping[str, Any]]:
    """The attributes for a message that a command sends back and then follows until the message is handled."""
    since = {"DataType": "String", "StringValue": clock.now().isoformat()}
    return {**attributes_anew(message), str(WaitsFor.TURN): since}


def is_waiting_copy(message: Message) -> bool:
    """Whether the attributes of a message say that it has waited for something."""
    return not _WAITING_ATTRIBUTES.isdisjoint(message.attributes)


def waits_since(message: Message, waits_for: WaitsFor, service: str | None = None) -> datetime:
    """When a message began to wait for `waits_for`, or the current time if it begins to wait now.

    service: as in `seconds_waited`.
    """
    return _since_for(message, waits_for, service, clock.now())


def attributes_anew(message: Message) -> Mapping[str, Mapping[str, Any]]:
    """The attributes of a message without those about its waits."""
    return {name: value for name, value in message.attributes.items() if name not in _WAITING_ATTRIBUTES}


def _seconds_between(since: datetime, now: datetime) -> float:
    return max(timedelta(), now - since).total_seconds()


def _since_for(message: Message, waits_for: WaitsFor, service: str | None, now: datetime) -> datetime:
    """When the wait of a message for `waits_for` and `service` began, or `now` if it begins now."""
    before = message.attributes.get(_SERVICE, {}).get("StringValue")
    if service is not None and before is not None and before != service:
        return now
    return _since(message, waits_for, now)


def _since(message: Message, attribute: str, now: datetime) -> datetime:
    """The time in an attribute of a message, or `now` if the attribute is missing or holds no valid time."""
    given = message.attributes.get(attribute, {}).get("StringValue")
    try:
        since = datetime.fromisoformat(given or "")
    except ValueError:
        return now
    return since if since.tzinfo is not None else now
