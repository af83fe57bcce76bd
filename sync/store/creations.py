"""The records of the creation protocol: what is, or is being, created in NOMIS for each DPS record.

Writers name the attempt they speak of. One that was overtaken, because it was taken to be dead, thus changes nothing
and is told so (False).
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, Row, case, delete, select, update

from sync.clock import now
from sync.store.tables import creations
from sync.store.upserts import insert_into

_LISTED = 1000


class CreationState(StrEnum):
    """How far a creation has come."""

    #: A create may be under way, or its answer was lost.
    INTENDED = "intended"
    #: The last create is known not to have been applied: the next delivery simply creates.
    REFUSED = "refused"
    #: NOMIS has the record and its ids are known; the mapping is still to be saved.
    CREATED = "created"
    #: Done.
    MAPPED = "mapped"
    #: The mapping was refused since another pair is there: NOMIS has a record too many, or two DPS records claim one.
    DUPLICATE = "duplicate"
    #: Nobody can tell whether NOMIS has the record; a person has to.
    AMBIGUOUS = "ambiguous"
    #: A person said that NOMIS does not have it: the next delivery creates.
    ABANDONED = "abandoned"


#: A creation that was begun and is not settled: NOMIS has, or may get, a record that no mapping points to.
OPEN_STATES = frozenset({CreationState.INTENDED, CreationState.CREATED, CreationState.AMBIGUOUS})


@dataclass(frozen=True, slots=True)
class CreationRecord:
    """One row of `creations`. `nomis_ids` and `mapping` are None until the NOMIS record is known."""

    id: int
    domain: str
    dps_id: str
    state: CreationState
    request: Mapping[str, Any]
    nomis_ids: Mapping[str, Any] | None
    mapping: Mapping[str, Any] | None
    properties: Mapping[str, str]
    attempts: int
    note: str | None
    intended_at: datetime
    created_at: datetime
    updated_at: datetime


def find(connection: Connection, domain: str, dps_id: str) -> CreationRecord | None:
    """The record of a DPS id of `domain` (the name of its `Creation`), None when there is none."""
    query = select(creations).where(creations.c.domain == domain, creations.c.dps_id == dps_id)
    return _record(connection.execute(query).one_or_none())


def get(connection: Connection, creation_id: int) -> CreationRecord | None:
    """The record with this number, None when there is none."""
    return _record(connection.execute(select(creations).where(creations.c.id == creation_id)).one_or_none())


def is_open(connection: Connection, domain: str, dps_id: str) -> bool:
    """Whether a creation was begun and is not settled."""
    query = select(creations.c.state).where(creations.c.domain == domain, creations.c.dps_id == dps_id)
    state = connection.execute(query).scalar()
    return state is not None and CreationState(state) in OPEN_STATES


def list_creations(
    connection: Connection, states: Collection[CreationState] = OPEN_STATES, limit: int = _LISTED
) -> list[CreationRecord]:
    """The records in `states`, ambiguous ones first, then those that were touched last."""
    columns = creations.c
    first = case((columns.state == CreationState.AMBIGUOUS, 0), else_=1)
    query = (
        select(creations).where(columns.state.in_(states)).order_by(first, columns.updated_at.desc(), columns.id.desc())
    )
    return [record for row in connection.execute(query.limit(limit)) if (record := _record(row)) is not None]


def record_intent(
    connection: Connection,
    domain: str,
    dps_id: str,
    request: Mapping[str, Any],
    properties: Mapping[str, str],
    after: CreationRecord | None,
) -> int | None:
    """Records that the request is about to be sent; the number of this attempt, None when another was quicker.

    `after` is the record that led to the decision, as it was read; None when there was none.
    """
    moment = now()
    values: dict[str, Any] = {
        "state": CreationState.INTENDED,
        "request": dict(request),
        "nomis_ids": None,
        "mapping": None,
        "properties": dict(properties),
        "attempts": 1 if after is None else after.attempts + 1,
        "note": None,
        "intended_at": moment,
        "updated_at": moment,
    }
    if after is None:
        values |= {"domain": domain, "dps_id": dps_id, "created_at": moment}
        statement: Any = insert_into(connection, creations).values(values).on_conflict_do_nothing()
    else:
        columns = creations.c
        same = (columns.id == after.id, columns.attempts == after.attempts, columns.state == after.state)
        statement = update(creations).where(*same).values(values)
    return int(values["attempts"]) if connection.execute(statement).rowcount == 1 else None


def record_created(
    connection: Connection,
    domain: str,
    dps_id: str,
    attempt: int,
    nomis_ids: Mapping[str, Any],
    mapping: Mapping[str, Any],
) -> bool:
    """Records the NOMIS ids of an attempt, and the mapping that is to be saved."""
    values = {"state": CreationState.CREATED, "nomis_ids": dict(nomis_ids), "mapping": dict(mapping), "note": None}
    return _change(connection, domain, dps_id, attempt, values)


def record_refused(connection: Connection, domain: str, dps_id: str, attempt: int, note: str) -> bool:
    """Records that an attempt is known not to have been applied."""
    return _change(connection, domain, dps_id, attempt, {"state": CreationState.REFUSED, "note": note})


def record_doubt(connection: Connection, domain: str, dps_id: str, attempt: int, note: str) -> bool:
    """Records why the outcome of an attempt is unknown; the intent stays open."""
    return _change(connection, domain, dps_id, attempt, {"note": note})


def record_ambiguous(connection: Connection, domain: str, dps_id: str, attempt: int, note: str) -> bool:
    """Records that nobody can tell whether an attempt was applied, or what became of a record whose mapping vanished."""
    columns = creations.c
    doubtful = columns.state.in_([CreationState.INTENDED, CreationState.MAPPED])
    same = (columns.domain == domain, columns.dps_id == dps_id, columns.attempts == attempt)
    values = {"state": CreationState.AMBIGUOUS, "note": note, "updated_at": now()}
    return connection.execute(update(creations).where(*same, doubtful).values(values)).rowcount == 1


def record_mapped(connection: Connection, domain: str, dps_id: str, mapping: Mapping[str, Any]) -> bool:
    """Records that the mapping service holds the mapping; False when there is no record."""
    return _settle(connection, domain, dps_id, CreationState.MAPPED, mapping)


def record_duplicate(connection: Connection, domain: str, dps_id: str, mapping: Mapping[str, Any]) -> bool:
    """Records that the mapping was refused since another one is there; False when there is no record."""
    return _settle(connection, domain, dps_id, CreationState.DUPLICATE, mapping)


def settle(
    connection: Connection, creation_id: int, nomis_ids: Mapping[str, Any], mapping: Mapping[str, Any], note: str
) -> bool:
    """A person found the NOMIS record of an open creation, and its mapping was saved. False when it is not open."""
    values = {"state": CreationState.MAPPED, "nomis_ids": dict(nomis_ids), "mapping": dict(mapping), "note": note}
    return _decide(connection, creation_id, values)


def abandon(connection: Connection, creation_id: int, note: str) -> bool:
    """A person found that NOMIS does not have the record: the next delivery creates it. False when it is not open."""
    return _decide(connection, creation_id, {"state": CreationState.ABANDONED, "note": note})


def forget(connection: Connection, domain: str, dps_id: str) -> bool:
    """Removes the record, after the NOMIS record and its mapping were removed on purpose; False when there is none."""
    gone = delete(creations).where(creations.c.domain == domain, creations.c.dps_id == dps_id)
    return connection.execute(gone).rowcount == 1


def _change(connection: Connection, domain: str, dps_id: str, attempt: int, values: dict[str, Any]) -> bool:
    """Changes an intent that is still open and of this attempt."""
    columns = creations.c
    same = (columns.domain == domain, columns.dps_id == dps_id, columns.attempts == attempt)
    statement = update(creations).where(*same, columns.state == CreationState.INTENDED)
    return connection.execute(statement.values(values | {"updated_at": now()})).rowcount == 1


def _settle(connection: Connection, domain: str, dps_id: str, state: CreationState, mapping: Mapping[str, Any]) -> bool:
    statement = update(creations).where(creations.c.domain == domain, creations.c.dps_id == dps_id)
    values = {"state": state, "mapping": dict(mapping), "updated_at": now()}
    return connection.execute(statement.values(values)).rowcount == 1


def _decide(connection: Connection, creation_id: int, values: dict[str, Any]) -> bool:
    statement = update(creations).where(creations.c.id == creation_id, creations.c.state.in_(OPEN_STATES))
    return connection.execute(statement.values(values | {"updated_at": now()})).rowcount == 1


def _record(row: Row[Any] | None) -> CreationRecord | None:
    if row is None:
        return None
    values = dict(row._mapping)
    values["state"] = CreationState(values["state"])
    return CreationRecord(**values)
