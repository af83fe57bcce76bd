"""The record of failed attempts: which message, at which step, why, and whether trying again may help."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, func, insert, or_, select

from sync.failures import Failure
from sync.store.database import Database
from sync.store.tables import failures


@dataclass(frozen=True, slots=True)
class FailedAttempt:
    """One failed attempt at a message. `attempt` counts the receives; `entity` is what the event was about."""

    time: datetime
    queue: str
    message_id: str
    sns_message_id: str | None
    event_type: str | None
    entity: str | None
    attempt: int
    failure: Failure

    def properties(self) -> dict[str, object]:
        """What a telemetry event tells of the attempt."""
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
    """How many attempts of a queue failed, by whether trying again may help."""

    queue: str
    recoverable: int
    not_recoverable: int


def record_failures(connection: Connection, rows: Iterable[FailedAttempt]) -> None:
    """Records failed attempts."""
    values = [_values(row) for row in rows]
    if values:
        connection.execute(insert(failures), values)


def last_failure(
    database: Database,
    *,
    queue: str | None = None,
    sns_message_id: str | None = None,
    message_id: str | None = None,
) -> FailedAttempt | None:
    """The last failed attempt at a message (of `queue`), by the id that survives a re-drive or else by that of SQS."""
    columns = failures.c
    for column, value in ((columns.sns_message_id, sns_message_id), (columns.message_id, message_id)):
        if value is None:
            continue
        with database.read() as connection:
            query = select(failures).where(column == value)
            if queue is not None:
                query = query.where(columns.queue == queue)
            row = connection.execute(query.order_by(columns.id.desc()).limit(1)).one_or_none()
        if row is not None:
            return _attempt(row)
    return None


def count_attempts(connection: Connection, queue: str, sns_message_id: str | None, message_id: str) -> int:
    """How many attempts at a message failed: over all its deliveries, where it has an id that survives a re-drive."""
    columns = failures.c
    same = columns.message_id == message_id
    if sns_message_id is not None:
        same = or_(same, columns.sns_message_id == sns_message_id)
    query = select(func.count()).select_from(failures).where(columns.queue == queue, same)
    return connection.execute(query).scalar_one()


def failed_since(connection: Connection, queue: str, event_type: str, since: datetime) -> list[FailedAttempt]:
    """The failed attempts at events of one type since `since` (aware), oldest first."""
    columns = failures.c
    query = select(failures).where(columns.time >= since, columns.queue == queue, columns.event_type == event_type)
    return [_attempt(row) for row in connection.execute(query.order_by(columns.id))]


def counts(connection: Connection, since: datetime) -> list[FailureCount]:
    """The failed attempts since `since` (aware), by queue."""
    columns = failures.c
    recoverable = func.count().filter(columns.recoverable.is_(True))
    query = select(columns.queue, recoverable, func.count() - recoverable).where(columns.time >= since)
    rows = connection.execute(query.group_by(columns.queue).order_by(columns.queue))
    return [FailureCount(*row) for row in rows]


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
