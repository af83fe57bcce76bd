"""Reads and writes the records of creations in NOMIS: at most one for each DPS record.

`sync.creation.store` records the steps of the creation protocol. The functions here read the records, and note in them
that a mapping was saved, what a person decided, or that a DPS record was deleted.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, Row, bindparam, case, func, select, update

from sync.clock import now
from sync.store.column_types import IdentifierText
from sync.store.tables import creations, insert_into

_LISTED = 1000
_KEY = IdentifierText(80)
#: The maximum number of ids in one statement: SQLite allows at least several hundred variables.
_KEYS_AT_ONCE = 500


class CreationState(StrEnum):
    """The states of a creation."""

    #: A create may be under way, or its outcome is unknown.
    INTENDED = "intended"
    #: The last create was certainly not applied, so the next delivery creates the record.
    REFUSED = "refused"
    #: NOMIS has the record and its ids are known, but the mapping has not been saved.
    CREATED = "created"
    #: The mapping is saved, so the creation is complete.
    MAPPED = "mapped"
    #: The mapping was refused because of a different one: NOMIS has a duplicate, or two DPS records claim one record.
    DUPLICATE = "duplicate"
    #: No look-up can show whether NOMIS has the record, so a person must decide.
    AMBIGUOUS = "ambiguous"
    #: A person decided that NOMIS does not have the record, so the next delivery creates it.
    ABANDONED = "abandoned"
    #: The record was deleted on purpose, with its mapping. If there was no attempt, the deletion came first.
    DELETED = "deleted"

    @property
    def is_open(self) -> bool:
        """Whether NOMIS may have, or may get, a record without a mapping."""
        return self in OPEN_STATES

    @property
    def is_final(self) -> bool:
        """Whether nothing is left to do for any message about the creation."""
        return self in _FINAL_STATES


OPEN_STATES = frozenset({CreationState.INTENDED, CreationState.CREATED, CreationState.AMBIGUOUS})
_FINAL_STATES = frozenset({CreationState.MAPPED, CreationState.DUPLICATE, CreationState.DELETED})

# The statements are built once, since it takes longer to build a statement than to run it.
OF_DPS_RECORD = (creations.c.domain == bindparam("the_domain")) & (creations.c.dps_id == bindparam("the_dps_id"))
_FIND = select(creations).where(OF_DPS_RECORD)
_MARK_MAPPED = update(creations).where(OF_DPS_RECORD).values(state=CreationState.MAPPED)


@dataclass(frozen=True, slots=True)
class CreationRecord:
    """One row of `creations`. `nomis_ids` and `mapping` are None unless the NOMIS record is known."""

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


def find_record(connection: Connection, domain: str, dps_id: str) -> CreationRecord | None:
    """The creation record of a DPS record, or None if there is none. `domain` is the name of the `Creation`."""
    row = connection.execute(_FIND, {"the_domain": domain, "the_dps_id": dps_id}).one_or_none()
    return None if row is None else _as_record(row)


def states_of(connection: Connection, domain: str, dps_ids: Iterable[str]) -> dict[str, CreationState]:
    """The state of the creation of each DPS record in `dps_ids`, by DPS id. Those without a creation are left out."""
    stored = {dps_id: _KEY.stored(dps_id) for dps_id in dps_ids}
    wanted, found = list(dict.fromkeys(stored.values())), dict[str, CreationState]()
    query = select(creations.c.dps_id, creations.c.state).where(creations.c.domain == domain)
    for start in range(0, len(wanted), _KEYS_AT_ONCE):
        page = query.where(creations.c.dps_id.in_(wanted[start : start + _KEYS_AT_ONCE]))
        found |= {row.dps_id: CreationState(row.state) for row in connection.execute(page)}
    return {dps_id: found[name] for dps_id, name in stored.items() if name in found}


def get(connection: Connection, creation_id: int) -> CreationRecord | None:
    """The record with the id `creation_id`, or None if there is no such record."""
    row = connection.execute(select(creations).where(creations.c.id == creation_id)).one_or_none()
    return None if row is None else _as_record(row)


@dataclass(frozen=True, slots=True)
class Unsettled:
    """The creations in one open state: their number, and the time of the oldest intent."""

    state: CreationState
    number: int
    oldest: datetime


def count_unsettled(connection: Connection) -> list[Unsettled]:
    """Counts, by state, the creations for which NOMIS may have, or may get, a record without a mapping."""
    state = creations.c.state
    query = select(state, func.count(), func.min(creations.c.intended_at)).where(state.in_(OPEN_STATES))
    rows = connection.execute(query.group_by(state).order_by(state)).tuples()
    return [Unsettled(CreationState(each), number, oldest) for each, number, oldest in rows]


def list_creations(
    connection: Connection, states: Collection[CreationState] = OPEN_STATES, limit: int = _LISTED
) -> list[CreationRecord]:
    """At most `limit` records in `states`: ambiguous ones first, and otherwise the most recently changed first."""
    columns = creations.c
    ambiguous_first = case((columns.state == CreationState.AMBIGUOUS, 0), else_=1)
    query = select(creations).where(columns.state.in_(states))
    query = query.order_by(ambiguous_first, columns.updated_at.desc(), columns.id.desc()).limit(limit)
    return [_as_record(row) for row in connection.execute(query)]


def list_intents(connection: Connection, domain: str) -> list[CreationRecord]:
    """The records of `domain` with a create that may be under way or has an unknown outcome."""
    query = select(creations).where(creations.c.domain == domain, creations.c.state == CreationState.INTENDED)
    return [_as_record(row) for row in connection.execute(query)]


def finished_since(connection: Connection, domain: str, since: datetime) -> frozenset[str]:
    """The ids of DPS records of `domain` whose creations reached a final state at or after `since` (an aware time)."""
    columns = creations.c
    query = select(columns.dps_id).where(
        columns.domain == domain, columns.state.in_(_FINAL_STATES), columns.updated_at >= since
    )
    return frozenset(connection.execute(query).scalars())


def mark_mapped(connection: Connection, domain: str, dps_id: str, mapping: Mapping[str, Any]) -> None:
    """Records that `mapping` is saved, if there is a record of the creation."""
    values = {"the_domain": domain, "the_dps_id": dps_id, "mapping": dict(mapping), "updated_at": now()}
    connection.execute(_MARK_MAPPED, values)


def mark_deleted(connection: Connection, domain: str, dps_id: str) -> None:
    """Records that a DPS record was deleted, and that it is no longer in NOMIS or in the mapping service.

    If the event about the creation of the record is delivered later, NOMIS gets the record only if DPS still has it.
    """
    moment = now()
    deleted: dict[str, Any] = {
        "state": CreationState.DELETED,
        "nomis_ids": None,
        "mapping": None,
        "updated_at": moment,
    }
    known = update(creations).where(creations.c.domain == domain, creations.c.dps_id == dps_id)
    if connection.execute(known.values(deleted)).rowcount == 1:
        return
    never_begun = {"request": {}, "properties": {}, "attempts": 0, "note": "deleted before it was created"}
    values = deleted | never_begun
    values |= {"domain": domain, "dps_id": dps_id, "intended_at": moment, "created_at": moment}
    connection.execute(insert_into(connection.dialect.name, creations).values(values).on_conflict_do_nothing())


def resolve_as_mapped(
    connection: Connection, creation_id: int, nomis_ids: Mapping[str, Any], mapping: Mapping[str, Any], note: str
) -> bool:
    """Records that a person found the NOMIS record, and that its mapping is saved.

    Returns False if the creation is not open.
    """
    values = {"state": CreationState.MAPPED, "nomis_ids": dict(nomis_ids), "mapping": dict(mapping), "note": note}
    return _decide(connection, creation_id, OPEN_STATES, values)


def abandon(connection: Connection, creation_id: int, note: str) -> bool:
    """Records a person's decision that NOMIS does not have the record.

    The next delivery of the event creates the record. Returns False if the creation is not open.
    """
    return _decide(connection, creation_id, OPEN_STATES, {"state": CreationState.ABANDONED, "note": note})


def reopen(connection: Connection, creation_id: int, note: str) -> bool:
    """Makes a mapped creation ambiguous again, on behalf of a person. Returns False if it is not mapped."""
    values = {"state": CreationState.AMBIGUOUS, "nomis_ids": None, "mapping": None, "note": note}
    return _decide(connection, creation_id, {CreationState.MAPPED}, values)


def _as_record(row: Row[Any]) -> CreationRecord:
    """The record in a row of the table."""
    values = dict(row._mapping)
    return CreationRecord(**values | {"state": CreationState(values["state"])})


def _decide(
    connection: Connection, creation_id: int, states: Collection[CreationState], values: Mapping[str, Any]
) -> bool:
    statement = update(creations).where(creations.c.id == creation_id, creations.c.state.in_(states))
    return connection.execute(statement.values(**values, updated_at=now())).rowcount == 1
