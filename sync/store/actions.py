"""What people did to the outside world: who, when, what, to what, and how it ended."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, insert, select

from sync.clock import now
from sync.failures import SyncError
from sync.store.database import Database
from sync.store.tables import actions


@dataclass(frozen=True, slots=True)
class Action:
    """One recorded action; `details` is plain JSON."""

    id: int
    time: datetime
    who: str
    action: str
    target: str
    details: Mapping[str, Any]
    outcome: str


def record_action(
    connection: Connection, who: str, action: str, target: str, details: Mapping[str, Any], outcome: str
) -> None:
    """Records an action, such as `duplicates resolve` of `visit 8811002`, and how it ended."""
    values = {"time": now(), "who": who, "action": action, "target": target, "outcome": outcome}
    connection.execute(insert(actions), values | {"details": dict(details)})


@dataclass(slots=True)
class Acting:
    """An action under way: what is recorded of it when it ends well, and what is written in the same transaction."""

    outcome: str = "done"
    details: dict[str, Any] = field(default_factory=dict)
    also: list[Callable[[Connection], object]] = field(default_factory=list)


@contextmanager
def recorded(
    database: Database,
    who: str,
    action: str,
    target: str,
    details: Mapping[str, Any] | None = None,
    told: tuple[type[Exception], ...] = (SyncError,),
) -> Iterator[Acting]:
    """Records the action that the block does when the block ends, well or not, and lets its error through.

    Of errors other than `told` only the kind is recorded: their texts may hold anything.
    """
    acting = Acting(details=dict(details or {}))
    try:
        yield acting
    except Exception as error:
        reason = str(error) if isinstance(error, told) else type(error).__name__
        with database.begin() as connection:
            record_action(connection, who, action, target, acting.details, f"failed: {reason}")
        raise
    with database.begin() as connection:
        for write in acting.also:
            write(connection)
        record_action(connection, who, action, target, acting.details, acting.outcome)


def list_actions(connection: Connection, limit: int = 100) -> list[Action]:
    """The last actions, newest first."""
    rows = connection.execute(select(actions).order_by(actions.c.id.desc()).limit(limit))
    return [Action(**row._mapping) for row in rows]


def was_done(connection: Connection, action: str, target: str, outcome: str) -> bool:
    """Whether an action ended with exactly this outcome at any time."""
    same = (actions.c.action == action, actions.c.target == target, actions.c.outcome == outcome)
    return connection.execute(select(actions.c.id).where(*same).limit(1)).first() is not None
