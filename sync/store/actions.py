"""What people did to the outside world: who, when, what, to what, and how it ended."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, insert, select

from sync.clock import now
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


def list_actions(connection: Connection, limit: int = 100) -> list[Action]:
    """The last actions, newest first."""
    rows = connection.execute(select(actions).order_by(actions.c.id.desc()).limit(limit))
    return [Action(**row._mapping) for row in rows]


def was_done(connection: Connection, action: str, target: str, outcome: str) -> bool:
    """Whether an action ended with exactly this outcome at any time."""
    same = (actions.c.action == action, actions.c.target == target, actions.c.outcome == outcome)
    return connection.execute(select(actions.c.id).where(*same).limit(1)).first() is not None
