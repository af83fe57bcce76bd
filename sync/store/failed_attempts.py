"""Records failed attempts to handle messages, and how many times dead-letter messages have been redriven.

The record of an attempt says which message failed, at which step, for which reason, and whether a retry may help.
Redrives are counted by the key of a message, which stays the same when the message is sent back.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

from sqlalchemy import Column, Connection, Row, delete, func, insert, select

from sync.clock import now
from sync.errors import Failure
from sync.store.column_types import IdentifierText
from sync.store.tables import dead_letter_returns, failures, insert_into

_REDRIVES = dead_letter_returns.c
_KEY = IdentifierText(120)
#: SQS and SNS message ids.
_ID = IdentifierText(100)
#: The maximum number of keys in one statement: SQLite allows at least several hundred variables.
_KEYS_AT_ONCE = 500

Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class FailedAttempt:
    """One failed attempt to handle a message. `attempt` is the receive count of the message at that time."""

    time: datetime
    queue: str
    message_id: str
    sns_message_id: str | None
    event_type: str | None
    entity: str | None
    attempt: int
    failure: Failure

    def properties(self) -> dict[str, object]:
        """The properties of the telemetry event about this attempt."""
        failure = self.failure
        return {
            "queue": self.queue,
            "messageId": self.message_id,
            "eventType": self.event_type,
            "entity": self.entity,
            "attempt": self.attempt,
            "step": failure.step,
            "service": failure.service,
            "method": failure.method,
            "path": failure.path,
            "status": failure.status,
            "reason": failure.reason,
            "recoverable": failure.recoverable,
        }


@dataclass(frozen=True, slots=True)
class FailureCount:
    """How many attempts to handle messages of a queue failed: those after which a retry may help, and the others."""

    queue: str
    recoverable: int
    not_recoverable: int


def record_failures(connection: Connection, rows: Iterable[FailedAttempt]) -> None:
    """Writes failed attempts in the transaction of `connection`."""
    values = [_values(row) for row in rows]
    if values:
        connection.execute(insert(failures), values)


@dataclass(frozen=True, slots=True)
class Attempts:
    """The failed attempts to handle one message: their number, and the last one."""

    number: int
    last: FailedAttempt


def attempts_at(
    connection: Connection, queue: str, messages: Iterable[tuple[str | None, str]], after: int = 0
) -> dict[str, Attempts]:
    """The failed attempts to handle messages of `queue`, by SQS id. Messages without failed attempts are left out.

    messages: the SNS id (or None) and the SQS id of each. A redrive changes the SQS id but not the SNS id. If a message
    has an SNS id, the attempts before its redrives therefore count too. after: attempts count only if their number is
    higher than this one (see `last_number`).
    """
    columns = failures.c
    sns_ids = {message_id: sns_id for sns_id, message_id in messages}
    by_sns = _counted(connection, queue, columns.sns_message_id, filter(None, sns_ids.values()), after)
    by_message = _counted(connection, queue, columns.message_id, sns_ids, after)
    found = {
        message_id: by_sns.get(sns_id or "") or by_message[message_id]
        for message_id, sns_id in sns_ids.items()
        if (sns_id or "") in by_sns or message_id in by_message
    }
    rows: dict[int, FailedAttempt] = {}
    for page in _pages(number for _, number in found.values()):
        rows |= {row.id: _attempt(row) for row in connection.execute(select(failures).where(columns.id.in_(page)))}
    return {message_id: Attempts(times, rows[number]) for message_id, (times, number) in found.items()}


def last_number(connection: Connection) -> int:
    """The number of the last recorded failed attempt, or 0 if there is none."""
    return connection.execute(select(func.max(failures.c.id))).scalar() or 0


def _counted(
    connection: Connection, queue: str, column: Column[Any], ids: Iterable[str], after: int
) -> dict[str, tuple[int, int]]:
    """For each of `ids` that occurs in `column`: how many attempts have it, and the number of the last attempt."""
    stored = {each: _ID.stored(each) for each in ids}
    found: dict[str, tuple[int, int]] = {}
    query = select(column, func.count(), func.max(failures.c.id)).where(failures.c.queue == queue)
    query = query.where(failures.c.id > after).group_by(column)
    for page in _pages(stored.values()):
        found |= {row[0]: (row[1], row[2]) for row in connection.execute(query.where(column.in_(page)))}
    return {each: found[name] for each, name in stored.items() if name in found}


def _pages(values: Iterable[Value]) -> Iterator[list[Value]]:
    wanted = list(dict.fromkeys(values))
    for start in range(0, len(wanted), _KEYS_AT_ONCE):
        yield wanted[start : start + _KEYS_AT_ONCE]


def failed_since(connection: Connection, queue: str, event_type: str, since: datetime) -> list[FailedAttempt]:
    """The failed attempts to handle events of `event_type` from `queue`, oldest first.

    Attempts before `since` (an aware time) do not count.
    """
    columns = failures.c
    query = select(failures).where(columns.time >= since, columns.queue == queue, columns.event_type == event_type)
    return [_attempt(row) for row in connection.execute(query.order_by(columns.id))]


def counts(connection: Connection, since: datetime) -> list[FailureCount]:
    """The numbers of failed attempts, by queue. Attempts before `since` (an aware time) do not count."""
    columns = failures.c
    recoverable = func.count().filter(columns.recoverable.is_(True))
    query = select(columns.queue, recoverable, func.count() - recoverable).where(columns.time >= since)
    rows = connection.execute(query.group_by(columns.queue).order_by(columns.queue))
    return [FailureCount(*row) for row in rows]


@dataclass(frozen=True, slots=True)
class Redrives:
    """How many times a message was sent back to its queue, and when it was last sent back."""

    number: int
    last: datetime


def redrives_of(connection: Connection, queue: str, keys: Iterable[str]) -> dict[str, Redrives]:
    """The redrives of messages to `queue`, by key. Messages that were never sent back are left out."""
    stored = {key: _KEY.stored(key) for key in keys}
    found: dict[str, Redrives] = {}
    query = select(dead_letter_returns).where(_REDRIVES.queue == queue)
    for page in _pages(stored.values()):
        rows = connection.execute(query.where(_REDRIVES.message_key.in_(page)))
        found |= {row.message_key: Redrives(row.returns, row.last_retried_at) for row in rows}
    return {key: found[name] for key, name in stored.items() if name in found}


def count_redrives(connection: Connection, queue: str, keys: Iterable[str]) -> None:
    """Records that messages are about to be sent back to `queue`, each as many times as its key occurs in `keys`."""
    moment = now()
    for key, times in Counter(keys).items():
        values = {"queue": queue, "message_key": key, "returns": times, "last_retried_at": moment}
        statement = insert_into(connection.dialect.name, dead_letter_returns).values(values)
        increment = {"returns": _REDRIVES.returns + times, "last_retried_at": moment}
        connection.execute(
            statement.on_conflict_do_update(index_elements=[_REDRIVES.queue, _REDRIVES.message_key], set_=increment)
        )


def forget_redrives(connection: Connection, before: datetime) -> int:
    """Deletes the redrive counts of messages that were last sent back before `before` (an aware time).

    Returns how many counts were deleted. `before` has to be so early that SQS no longer has these messages.
    """
    return connection.execute(delete(dead_letter_returns).where(_REDRIVES.last_retried_at < before)).rowcount


def _values(row: FailedAttempt) -> dict[str, Any]:
    failure = row.failure
    return {
        "time": row.time,
        "queue": row.queue,
        "message_id": row.message_id,
        "sns_message_id": row.sns_message_id,
        "event_type": row.event_type,
        "entity": row.entity,
        "attempt": row.attempt,
        "step": failure.step,
        "service": failure.service,
        "method": failure.method,
        "path": failure.path,
        "status": failure.status,
        "reason": failure.reason,
        "recoverable": failure.recoverable,
    }


def _attempt(row: Row[Any]) -> FailedAttempt:
    failure = Failure(row.step, row.service, row.method, row.path, row.status, row.reason, row.recoverable)
    return FailedAttempt(
        row.time, row.queue, row.message_id, row.sns_message_id, row.event_type, row.entity, row.attempt, failure
    )
