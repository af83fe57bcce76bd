"""Records which messages wait on a queue, for what, and until when.

SQS reports only the number of messages. A row is written each time that a message begins or continues to wait, and
deleted when the message is handled or fails. A message can also be removed from the queue by other means, so
`count_waits` ignores a row whose next attempt has been due for more than a day. `waiting_among` finds such a row too,
for a command that follows its messages for longer than that.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection, delete, func, select

from sync.clock import now
from sync.store.column_types import IdentifierText
from sync.store.tables import insert_into, waiting_messages

_WAITS = waiting_messages.c
_KEY = IdentifierText(120)
#: A message that failed once is tried again within seconds, which needs no attention.
_SHORT_WAIT = timedelta(minutes=1)
#: The maximum number of keys in one statement: SQLite allows at least several hundred variables.
_KEYS_AT_ONCE = 500
_OVERDUE = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class WaitingMessage:
    """A message that waits on `queue`.

    key: an id that is the same for all copies of the message. waits_for: `service`, `creation`, `lease` or `turn`.
    service: the service that the message waits for, or None. reason: why it waits, or None. since, next_attempt_at:
    aware times.
    """

    queue: str
    key: str
    waits_for: str
    service: str | None
    reason: str | None
    since: datetime
    next_attempt_at: datetime


@dataclass(frozen=True, slots=True)
class Wait:
    """The messages that wait for one thing: their number, and why the most recent of them waits.

    since: when the first of them began to wait. next_attempt_at: when the next of them is tried. Both times are aware.
    """

    waits_for: str
    service: str | None
    number: int
    since: datetime
    next_attempt_at: datetime
    reason: str | None

    def is_long(self, moment: datetime) -> bool:
        """Whether one of the messages has waited for more than a minute at `moment`, and so been tried repeatedly."""
        return moment - self.since > _SHORT_WAIT


def record_waits(connection: Connection, messages: Iterable[WaitingMessage]) -> None:
    """Records messages that wait. The row for a message replaces any earlier row for it."""
    for each in messages:
        values = {
            "waits_for": each.waits_for,
            "service": each.service,
            "reason": each.reason,
            "since": each.since,
            "next_attempt_at": each.next_attempt_at,
        }
        statement = insert_into(connection.dialect.name, waiting_messages)
        statement = statement.values(values | {"queue": each.queue, "message_key": each.key})
        connection.execute(
            statement.on_conflict_do_update(index_elements=[_WAITS.queue, _WAITS.message_key], set_=values)
        )


def end_waits(connection: Connection, queue: str, keys: Iterable[str]) -> None:
    """Records that the messages with `keys` no longer wait on `queue`. Unknown keys are ignored."""
    wanted = [_KEY.stored(key) for key in keys]
    for start in range(0, len(wanted), _KEYS_AT_ONCE):
        page = wanted[start : start + _KEYS_AT_ONCE]
        connection.execute(delete(waiting_messages).where(_WAITS.queue == queue, _WAITS.message_key.in_(page)))


def waiting_among(connection: Connection, queue: str, keys: Iterable[str]) -> dict[str, WaitingMessage]:
    """The messages with `keys` that wait on `queue`, by key, however overdue their next attempts are."""
    stored = {_KEY.stored(key): key for key in keys}
    found: dict[str, WaitingMessage] = {}
    wanted = list(stored)
    for start in range(0, len(wanted), _KEYS_AT_ONCE):
        page = wanted[start : start + _KEYS_AT_ONCE]
        query = select(waiting_messages).where(_WAITS.queue == queue, _WAITS.message_key.in_(page))
        for row in connection.execute(query):
            key = stored[row.message_key]
            found[key] = WaitingMessage(
                queue, key, row.waits_for, row.service, row.reason, row.since, row.next_attempt_at
            )
    return found


def due_later(connection: Connection, queue: str, left_out: Collection[str] = ()) -> list[datetime]:
    """The times at which the messages that wait on `queue` are next tried, if these times have not come yet.

    left_out: the keys of messages to leave out.
    """
    query = select(_WAITS.message_key, _WAITS.next_attempt_at)
    query = query.where(_WAITS.queue == queue, _WAITS.next_attempt_at > now())
    unwanted = {_KEY.stored(key) for key in left_out}
    return [row.next_attempt_at for row in connection.execute(query) if row.message_key not in unwanted]


def count_waits(connection: Connection) -> list[Wait]:
    """What messages wait for, across all queues: first services, then anything else, each in order of name.

    A message does not count if its next attempt has been due for more than a day.
    """
    fresh = _WAITS.next_attempt_at > now() - _OVERDUE
    groups = (
        select(
            _WAITS.waits_for,
            _WAITS.service,
            func.count().label("number"),
            func.min(_WAITS.since).label("since"),
            func.min(_WAITS.next_attempt_at).label("next_attempt_at"),
            func.max(_WAITS.id).label("last"),
        )
        .where(fresh)
        .group_by(_WAITS.waits_for, _WAITS.service)
        .subquery()
    )
    query = select(groups, _WAITS.reason).join(waiting_messages, _WAITS.id == groups.c.last)
    rows = connection.execute(query.order_by(groups.c.service.is_(None), groups.c.service, groups.c.waits_for))
    return [Wait(row.waits_for, row.service, row.number, row.since, row.next_attempt_at, row.reason) for row in rows]
