"""The records of the creation protocol: what is, or is being, created in NOMIS for each DPS record.

Writers name the attempt they speak of. One that was overtaken, because it was taken to be dead, thus changes nothing
and is told so (False).
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import BigInteger, Connection, Row, Update, bindparam, case, cast, select, update

from sync.clock import now
from sync.store.tables import creations, insert_into
from sync.store.types import LARGEST_INTEGER, storable
from sync.store.upserts import made_ready

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
    #: It was deleted on purpose, with its mapping; without an attempt, its deletion was seen and never its creation.
    DELETED = "deleted"


#: A creation that was begun and is not settled: NOMIS has, or may get, a record that no mapping points to.
OPEN_STATES = frozenset({CreationState.INTENDED, CreationState.CREATED, CreationState.AMBIGUOUS})
#: A creation that came to its end: no message has anything to do for it.
SETTLED_STATES = frozenset({CreationState.MAPPED, CreationState.DUPLICATE, CreationState.DELETED})

# Made once, since building a statement costs more than running it; values are given when one is executed.
_OF_RECORD = (creations.c.domain == bindparam("the_domain")) & (creations.c.dps_id == bindparam("the_dps_id"))
_OF_ATTEMPT = _OF_RECORD & (creations.c.attempts == bindparam("the_attempt"))
_FIND = select(creations).where(_OF_RECORD)
_STATE = select(creations.c.state).where(_OF_RECORD)
_SETTLE = update(creations).where(_OF_RECORD)
_CHANGE = update(creations).where(_OF_ATTEMPT, creations.c.state == CreationState.INTENDED)
_DOUBT = update(creations).where(_OF_ATTEMPT, creations.c.state.in_([CreationState.INTENDED, CreationState.MAPPED]))
_INTEND_FIRST = {
    dialect: made_ready(
        insert_into(dialect, creations).on_conflict_do_nothing(),
        dialect,
        [column.name for column in creations.c if column.name != "id"],
    )
    for dialect in ("sqlite", "postgresql")
}


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
    return _record(connection.execute(_FIND, {"the_domain": domain, "the_dps_id": dps_id}).one_or_none())


def get(connection: Connection, creation_id: int) -> CreationRecord | None:
    """The record with this number, None when there is none."""
    return _record(connection.execute(select(creations).where(creations.c.id == creation_id)).one_or_none())


def is_open(connection: Connection, domain: str, dps_id: str) -> bool:
    """Whether a creation was begun and is not settled."""
    state = connection.execute(_STATE, {"the_domain": domain, "the_dps_id": dps_id}).scalar()
    return state is not None and CreationState(state) in OPEN_STATES


def intents(connection: Connection, domain: str) -> list[CreationRecord]:
    """All records of `domain` whose create may be under way, or got no answer."""
    query = select(creations).where(creations.c.domain == domain, creations.c.state == CreationState.INTENDED)
    return [record for row in connection.execute(query) if (record := _record(row)) is not None]


def settled_since(connection: Connection, domain: str, since: datetime) -> frozenset[str]:
    """The DPS ids of `domain`, as they are stored, whose creation came to its end since `since` (aware)."""
    columns = creations.c
    query = select(columns.dps_id).where(
        columns.domain == domain, columns.state.in_(SETTLED_STATES), columns.updated_at >= since
    )
    return frozenset(connection.execute(query).scalars())


def made_by_another(connection: Connection, domain: str, dps_id: str, nomis_ids: Mapping[str, Any]) -> bool:
    """Whether the NOMIS record of these ids is known to have been made for another DPS record of `domain`."""
    columns = creations.c
    held = {name: columns.nomis_ids[name].as_string() for name in nomis_ids}
    # SQLite gives numbers as numbers whatever is asked for, and compares them with no text.
    same = [
        cast(held[name], BigInteger) == value
        if isinstance(value, int) and abs(value) <= LARGEST_INTEGER
        else held[name] == storable(str(value))
        for name, value in nomis_ids.items()
    ]
    query = select(columns.id).where(columns.domain == domain, columns.dps_id != dps_id, *same).limit(1)
    return connection.execute(query).scalar() is not None


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
        changed = connection.execute(_INTEND_FIRST[connection.dialect.name], values)
    else:
        columns = creations.c
        same = (columns.id == after.id, columns.attempts == after.attempts, columns.state == after.state)
        changed = connection.execute(update(creations).where(*same).values(values))
    return int(values["attempts"]) if changed.rowcount == 1 else None


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
    """Records that nobody can tell whether NOMIS has the record of an attempt, or has it still."""
    values = {"state": CreationState.AMBIGUOUS, "note": note}
    return _change(connection, domain, dps_id, attempt, values, _DOUBT)


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


def reopen(connection: Connection, creation_id: int, note: str) -> bool:
    """A person took back that the creation is mapped: it is asked about again. False when it is not mapped."""
    values = {"state": CreationState.AMBIGUOUS, "nomis_ids": None, "mapping": None, "note": note, "updated_at": now()}
    mapped = update(creations).where(creations.c.id == creation_id, creations.c.state == CreationState.MAPPED)
    return connection.execute(mapped.values(values)).rowcount == 1


def forget(connection: Connection, domain: str, dps_id: str) -> bool:
    """Records that the DPS record was deleted, and NOMIS and the mapping service have nothing of it any more.

    A late delivery of the creating event then creates only what DPS still has. False when it was never begun here.
    """
    moment = now()
    values: dict[str, Any] = {
        "state": CreationState.DELETED,
        "nomis_ids": None,
        "mapping": None,
        "updated_at": moment,
    }
    of = {"the_domain": domain, "the_dps_id": dps_id}
    if connection.execute(_SETTLE, values | of).rowcount == 1:
        return True
    never: dict[str, Any] = {"request": {}, "properties": {}, "attempts": 0, "note": "deleted before it was created"}
    values |= never | {"domain": domain, "dps_id": dps_id, "intended_at": moment, "created_at": moment}
    connection.execute(_INTEND_FIRST[connection.dialect.name], values)
    return False


def _change(
    connection: Connection, domain: str, dps_id: str, attempt: int, values: dict[str, Any], statement: Update = _CHANGE
) -> bool:
    """Changes a record that is still at this attempt, and still open as `statement` says."""
    of = {"the_domain": domain, "the_dps_id": dps_id, "the_attempt": attempt}
    return connection.execute(statement, values | of | {"updated_at": now()}).rowcount == 1


def _settle(connection: Connection, domain: str, dps_id: str, state: CreationState, mapping: Mapping[str, Any]) -> bool:
    of = {"the_domain": domain, "the_dps_id": dps_id}
    values = {"state": state, "mapping": dict(mapping), "updated_at": now()}
    return connection.execute(_SETTLE, values | of).rowcount == 1


def _decide(connection: Connection, creation_id: int, values: dict[str, Any]) -> bool:
    statement = update(creations).where(creations.c.id == creation_id, creations.c.state.in_(OPEN_STATES))
    return connection.execute(statement.values(values | {"updated_at": now()})).rowcount == 1


def _record(row: Row[Any] | None) -> CreationRecord | None:
    if row is None:
        return None
    values = dict(row._mapping)
    values["state"] = CreationState(values["state"])
    return CreationRecord(**values)
