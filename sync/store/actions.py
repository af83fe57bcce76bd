"""Records the actions of operators on external systems: who did what, when, to which target, and with what outcome.

An action is recorded before its first call to an external system, and its record is completed after the last one. While
an action is under way, its process holds a lease. A row with the state `started` and without a live lease comes from a
process that died.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, Row, Select, and_, insert, select, update

from sync.clock import now
from sync.store.leases import holder_is_gone
from sync.store.tables import actions, leases

#: The outcome of an action that was never completed.
NOT_KNOWN = "started, outcome unknown"
UNDER_WAY = "started, still under way"


class ActionState(StrEnum):
    """The states of an action."""

    #: Recorded but not completed: the action is under way, or its process died.
    STARTED = "started"
    DONE = "done"
    #: The call failed and changed nothing.
    FAILED = "failed"
    #: The service responded that it did not carry out the action.
    REFUSED = "refused"
    #: The action may have been carried out: the response was lost, or the process was interrupted.
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Action:
    """One recorded action. `details` contains only JSON values.

    `time` and `finished_at` are aware times; `finished_at` is None until the action is completed.
    """

    id: int
    time: datetime
    who: str
    action: str
    target: str
    details: Mapping[str, Any]
    outcome: str
    state: ActionState
    finished_at: datetime | None

    @property
    def may_have_been_done(self) -> bool:
        """Whether the action may have changed an external system."""
        return self.state in (ActionState.STARTED, ActionState.DONE, ActionState.UNKNOWN)


def start_action(
    connection: Connection, who: str, action: str, target: str, details: Mapping[str, Any], lease: str
) -> int:
    """Records the start of an action, such as `duplicates resolve` on `visit 8811002`. Returns the action's number.

    `lease` is the key of the lease that the process holds until the action is completed.
    """
    values = {
        "time": now(),
        "who": who,
        "action": action,
        "target": target,
        "details": dict(details),
        "outcome": NOT_KNOWN,
        "state": ActionState.STARTED,
        "lease": lease,
    }
    return int(connection.execute(insert(actions).values(values).returning(actions.c.id)).scalar_one())


def finish_action(
    connection: Connection, number: int, state: ActionState, outcome: str, details: Mapping[str, Any]
) -> None:
    """Completes the record of action `number`; `details` replaces the details recorded at its start."""
    values = {"state": state, "outcome": outcome, "details": dict(details), "finished_at": now()}
    connection.execute(update(actions).where(actions.c.id == number).values(values))


def list_actions(connection: Connection, limit: int = 100) -> list[Action]:
    """The latest actions, newest first; at most `limit`."""
    return [_action(row) for row in connection.execute(_query().limit(limit))]


def actions_on(connection: Connection, action: str, target: str, limit: int = 20) -> list[Action]:
    """The latest actions called `action` on `target`, newest first; at most `limit`."""
    same = (actions.c.action == action, actions.c.target == target)
    return [_action(row) for row in connection.execute(_query().where(*same).limit(limit))]


def was_done(connection: Connection, action: str, target: str) -> bool:
    """Whether an action called `action` on `target` was ever completed successfully."""
    same = (actions.c.action == action, actions.c.target == target, actions.c.state == ActionState.DONE)
    return connection.execute(select(actions.c.id).where(*same).limit(1)).first() is not None


def _query() -> Select[Any]:
    alive = and_(leases.c.key == actions.c.lease, leases.c.expires_at > now())
    return select(actions, leases.c.owner).outerjoin(leases, alive).order_by(actions.c.id.desc())


def _action(row: Row[Any]) -> Action:
    state = ActionState(row.state)
    alive = row.owner is not None and not holder_is_gone(row.owner)
    return Action(
        id=row.id,
        time=row.time,
        who=row.who,
        action=row.action,
        target=row.target,
        details=row.details,
        outcome=UNDER_WAY if state is ActionState.STARTED and alive else row.outcome,
        state=state,
        finished_at=row.finished_at,
    )
