"""The outbox: what is to be sent to people, written together with its cause and sent afterwards, exactly once.

A sender peeks at what is due, claims one delivery at a time (which also sets when another may try if this one dies),
notes its progress, and completes it. `key` makes each delivery once, however often it is enqueued.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, func, select, update

from sync.clock import now
from sync.store.tables import insert_into, outbox


class DeliveryState(StrEnum):
    """How far a delivery has come."""

    PENDING = "pending"
    SENT = "sent"
    #: Given up; a person may send it again.
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Delivery:
    """One thing to be sent. `progress` is what the sender noted of it; `attempts` counts the claims."""

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
    """Puts a delivery into the outbox; False when one with this key is, or was, there."""
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
    besides: Collection[str] = (),
) -> list[Delivery]:
    """What may be sent now, oldest first: to `channels` where they are given, to none `besides`.

    Claim each before sending it.
    """
    columns = outbox.c
    query = select(outbox).where(columns.state == DeliveryState.PENDING, columns.next_attempt_at <= (moment or now()))
    if channels is not None:
        query = query.where(columns.channel.in_(channels))
    if besides:
        query = query.where(columns.channel.not_in(besides))
    return [_delivery(row._mapping) for row in connection.execute(query.order_by(columns.id).limit(limit))]


def find(connection: Connection, key: str) -> Delivery | None:
    """The delivery with this key, None when there is none."""
    row = connection.execute(select(outbox).where(outbox.c.key == key)).one_or_none()
    return None if row is None else _delivery(row._mapping)


def claim(connection: Connection, delivery: Delivery, until: datetime) -> Delivery | None:
    """Takes a delivery that `due` named, for this sender alone until `until`; None when another was quicker."""
    statement = _of(delivery).values(attempts=delivery.attempts + 1, next_attempt_at=until)
    if connection.execute(statement).rowcount != 1:
        return None
    row = connection.execute(select(outbox).where(outbox.c.id == delivery.id)).one()
    return _delivery(row._mapping)


def note_progress(connection: Connection, delivery: Delivery, progress: Mapping[str, Any]) -> bool:
    """Notes what of a claimed delivery has been sent; False when the claim was lost."""
    return connection.execute(_of(delivery).values(progress=dict(progress))).rowcount == 1


def complete(connection: Connection, delivery: Delivery) -> bool:
    """Marks a claimed delivery as sent; False when the claim was lost."""
    values = {"state": DeliveryState.SENT, "sent_at": now(), "last_error": None}
    return connection.execute(_of(delivery).values(values)).rowcount == 1


def retry_later(connection: Connection, delivery: Delivery, when: datetime, error: str) -> bool:
    """Gives a claimed delivery back, to be tried again at `when`; False when the claim was lost."""
    return connection.execute(_of(delivery).values(next_attempt_at=when, last_error=error)).rowcount == 1


def give_up(connection: Connection, delivery: Delivery, error: str) -> bool:
    """Marks a claimed delivery as failed for good; False when the claim was lost."""
    return connection.execute(_of(delivery).values(state=DeliveryState.FAILED, last_error=error)).rowcount == 1


def pending(connection: Connection, channels: Collection[str]) -> int:
    """How many deliveries to `channels` wait to be sent."""
    query = select(func.count()).where(outbox.c.state == DeliveryState.PENDING, outbox.c.channel.in_(channels))
    return int(connection.execute(query).scalar_one())


def counts(connection: Connection) -> dict[DeliveryState, int]:
    """How many deliveries are in each state."""
    query = select(outbox.c.state, func.count()).group_by(outbox.c.state)
    found = {DeliveryState(state): number for state, number in connection.execute(query).tuples()}
    return {state: found.get(state, 0) for state in DeliveryState}


def _of(delivery: Delivery) -> Any:
    columns = outbox.c
    same = (columns.id == delivery.id, columns.attempts == delivery.attempts)
    return update(outbox).where(*same, columns.state == DeliveryState.PENDING)


def _delivery(values: Mapping[Any, Any]) -> Delivery:
    fields = {str(name): value for name, value in values.items()}
    return Delivery(**fields | {"state": DeliveryState(fields["state"])})
