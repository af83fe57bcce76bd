"""The outbox: deliveries to people. Each is written together with its cause and sent afterwards, exactly once.

A sender lists the deliveries that are due. It claims one at a time, records its progress, and completes the delivery. A
claim has an end, after which another sender may claim the delivery, in case the first sender has died. Each `key` is
enqueued only once.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, func, select, update

from sync.clock import now
from sync.store.tables import insert_into, outbox


class DeliveryState(StrEnum):
    """The states of a delivery."""

    PENDING = "pending"
    SENT = "sent"
    #: The program gave up on the delivery, but an operator can send it again.
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Delivery:
    """One delivery. `progress` is the JSON that its sender has recorded; `attempts` is the number of claims."""

    id: int
    key: str
    channel: str
    payload: Mapping[str, Any]
    progress: Mapping[str, Any]
    state: DeliveryState
    attempts: int
    next_attempt_at: datetime
    last_error: str | None
    created_at: datetime
    sent_at: datetime | None


def enqueue(connection: Connection, key: str, channel: str, payload: Mapping[str, Any]) -> bool:
    """Puts a delivery into the outbox. Returns False if there is, or was, a delivery with `key`."""
    moment = now()
    values = {
        "key": key,
        "channel": channel,
        "payload": dict(payload),
        "progress": {},
        "state": DeliveryState.PENDING,
        "attempts": 0,
        "next_attempt_at": moment,
        "created_at": moment,
    }
    statement = insert_into(connection.dialect.name, outbox).values(values).on_conflict_do_nothing()
    return connection.execute(statement).rowcount == 1


def due(
    connection: Connection,
    limit: int,
    moment: datetime | None = None,
    *,
    channels: Collection[str] | None = None,
    except_channels: Collection[str] = (),
) -> list[Delivery]:
    """At most `limit` deliveries that may be sent at `moment` (by default, now), oldest first.

    They are deliveries to `channels`, or to any channel if `channels` is None, but not to `except_channels`. The caller
    must claim each delivery before sending it.
    """
    columns = outbox.c
    query = select(outbox).where(columns.state == DeliveryState.PENDING, columns.next_attempt_at <= (moment or now()))
    if channels is not None:
        query = query.where(columns.channel.in_(channels))
    if except_channels:
        query = query.where(columns.channel.not_in(except_channels))
    return [_delivery(row._mapping) for row in connection.execute(query.order_by(columns.id).limit(limit))]


def find(connection: Connection, key: str) -> Delivery | None:
    """The delivery with `key`, or None if there is no such delivery."""
    row = connection.execute(select(outbox).where(outbox.c.key == key)).one_or_none()
    return None if row is None else _delivery(row._mapping)


def claim(connection: Connection, delivery: Delivery, until: datetime) -> Delivery | None:
    """Claims a delivery from `due` for this sender; `until` is the end of the claim.

    Returns the claimed delivery, or None if another sender was faster.
    """
    statement = _update_of(delivery).values(attempts=delivery.attempts + 1, next_attempt_at=until)
    if connection.execute(statement).rowcount != 1:
        return None
    row = connection.execute(select(outbox).where(outbox.c.id == delivery.id)).one()
    return _delivery(row._mapping)


def record_progress(connection: Connection, delivery: Delivery, progress: Mapping[str, Any]) -> bool:
    """Records which parts of a claimed delivery have been sent. Returns False if the claim was lost."""
    return connection.execute(_update_of(delivery).values(progress=dict(progress))).rowcount == 1


def complete(connection: Connection, delivery: Delivery) -> bool:
    """Marks a claimed delivery as sent. Returns False if the claim was lost."""
    values = {"state": DeliveryState.SENT, "sent_at": now(), "last_error": None}
    return connection.execute(_update_of(delivery).values(values)).rowcount == 1


def retry_later(connection: Connection, delivery: Delivery, when: datetime, error: str) -> bool:
    """Releases a claimed delivery, to be tried again at `when`. Returns False if the claim was lost."""
    return connection.execute(_update_of(delivery).values(next_attempt_at=when, last_error=error)).rowcount == 1


def give_up(connection: Connection, delivery: Delivery, error: str) -> bool:
    """Marks a claimed delivery as failed: the program gives up on it. Returns False if the claim was lost."""
    return connection.execute(_update_of(delivery).values(state=DeliveryState.FAILED, last_error=error)).rowcount == 1


def pending(connection: Connection, channels: Collection[str]) -> int:
    """The number of deliveries to `channels` that are still to be sent."""
    query = select(func.count()).where(outbox.c.state == DeliveryState.PENDING, outbox.c.channel.in_(channels))
    return int(connection.execute(query).scalar_one())


@dataclass(frozen=True, slots=True)
class Unsent:
    """The unsent deliveries to `channel` that are in `state`: their number, and the time and key of the oldest.

    `last_error` is the last error of the latest delivery that has one. `next_attempt_at` is the earliest time at which
    one of the deliveries is due to be tried.
    """

    channel: str
    state: DeliveryState
    number: int
    oldest: datetime
    key: str
    last_error: str | None
    next_attempt_at: datetime | None = None


def unsent(connection: Connection, given_up_since: datetime) -> list[Unsent]:
    """The unsent deliveries, grouped by channel and state. The group with the oldest delivery is first.

    A delivery counts if it is pending, or if the program gave up on it and it was enqueued at or after
    `given_up_since`. A delivery that a person has sent again does not count.
    """
    columns, again = outbox.c, outbox.alias()
    sent_again = (
        (again.c.state == DeliveryState.SENT)
        & (again.c.channel == columns.channel)
        & (func.substr(again.c.key, 1, func.length(columns.key) + 1) == columns.key + ":")
    )
    given_up = (columns.state == DeliveryState.FAILED) & (columns.created_at >= given_up_since)
    query = (
        select(
            columns.channel,
            columns.state,
            columns.created_at,
            columns.key,
            columns.last_error,
            columns.next_attempt_at,
        )
        .where((columns.state == DeliveryState.PENDING) | given_up, ~select(again.c.id).where(sent_again).exists())
        .order_by(columns.id)
    )
    found: dict[tuple[str, DeliveryState], Unsent] = {}
    for channel, state, created_at, key, error, next_at in connection.execute(query).tuples():
        group = channel, DeliveryState(state)
        known = found.get(group) or Unsent(*group, 0, created_at, key, None, next_at)
        first = min(known.next_attempt_at or next_at, next_at)
        found[group] = replace(
            known, number=known.number + 1, last_error=error or known.last_error, next_attempt_at=first
        )
    return list(found.values())


def counts(connection: Connection) -> dict[DeliveryState, int]:
    """The number of deliveries in each state."""
    query = select(outbox.c.state, func.count()).group_by(outbox.c.state)
    found = {DeliveryState(state): number for state, number in connection.execute(query).tuples()}
    return {state: found.get(state, 0) for state in DeliveryState}


def _update_of(delivery: Delivery) -> Any:
    columns = outbox.c
    same = (columns.id == delivery.id, columns.attempts == delivery.attempts)
    return update(outbox).where(*same, columns.state == DeliveryState.PENDING)


def _delivery(values: Mapping[Any, Any]) -> Delivery:
    fields = {str(name): value for name, value in values.items()}
    return Delivery(**fields | {"state": DeliveryState(fields["state"])})
