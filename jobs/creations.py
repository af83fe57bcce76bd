"""Creations whose outcome is unknown: listed, and settled by a person who looked in NOMIS."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from jobs.acting import who_acts
from jobs.composition import Program
from jobs.endings import UsageError, WorkError
from sync.conflicts import post_mapping
from sync.creation_ledger import doubt_key
from sync.failures import SyncError
from sync.handling import creation_lease
from sync.settlement import CREATIONS, event_again, nomis_ids, objections, pair_of
from sync.store import creations, findings
from sync.store.actions import record_action
from sync.store.creations import OPEN_STATES, CreationRecord, CreationState
from sync.surplus import SURPLUS_RULES, Record
from sync.telemetry import text_properties

ACTION = "creations settle"


@dataclass(frozen=True, slots=True)
class MappingPlan:
    """What mapping an open creation to a NOMIS record would do. `there` is the record, where NOMIS has a read of it."""

    record: CreationRecord
    ids: Mapping[str, Any]
    mapping: Mapping[str, Any]
    there: Record | None
    objections: tuple[str, ...]

    @property
    def target(self) -> str:
        """The NOMIS record, such as `visit 8811001`."""
        return f"{SURPLUS_RULES[self.record.domain].noun} {pair_of(self.record, self.ids).nomis_text}"


def list_open(program: Program, *, settled_too: bool) -> list[CreationRecord]:
    """The creations that are not settled, ambiguous ones first."""
    states = frozenset(CreationState) if settled_too else OPEN_STATES
    with program.database.read() as connection:
        return creations.list_creations(connection, states)


def find_creation(program: Program, creation_id: int) -> CreationRecord:
    """One creation. Raises `UsageError` when there is none of this number."""
    with program.database.read() as connection:
        record = creations.get(connection, creation_id)
    if record is None:
        raise UsageError(f"there is no creation {creation_id}; `prisoner-to-nomis creations list` shows them")
    return record


def creation_as_dict(record: CreationRecord) -> dict[str, Any]:
    """A creation as JSON shows it, without the body that was sent."""
    return {
        "id": record.id,
        "domain": record.domain,
        "dpsId": record.dps_id,
        "state": record.state,
        "attempts": record.attempts,
        "since": record.intended_at.isoformat(timespec="seconds"),
        "nomisIds": None if record.nomis_ids is None else dict(record.nomis_ids),
        "properties": dict(record.properties),
        "note": record.note,
    }


def plan_mapping(program: Program, record: CreationRecord, number: int) -> MappingPlan:
    """Reads the NOMIS record that a person found, and what speaks against mapping it. Raises `SyncError`."""
    ids = nomis_ids(record, number)
    there, found = objections(program.services, record, ids)
    return MappingPlan(record, ids, CREATIONS[record.domain].mapping(record.dps_id, ids), there, tuple(found))


def settle_mapped(program: Program, plan: MappingPlan) -> str:
    """Saves the mapping of the record that a person found, and settles the creation; what was done.

    Raises `WorkError` when the mapping is refused or the creation was settled meanwhile, `LeaseBusy` when it is being
    worked on, and `SyncError`.
    """
    record, creation, who = plan.record, CREATIONS[plan.record.domain], who_acts()
    outcome = f"mapped to {plan.target}"
    with program.leases.held(creation_lease(record.domain, record.dps_id)):
        _check_open(program, record)
        try:
            conflict = post_mapping(creation, plan.mapping, program.services)
            if conflict is not None:
                existing = " ".join(f"{name}={value}" for name, value in (conflict.existing or {}).items())
                raise WorkError(f"the mapping service holds another pair: {existing or 'it does not say which'}")
        except (SyncError, WorkError) as error:
            _record_failure(program, record, who, error)
            raise
        told = {**record.properties, **text_properties(plan.mapping)}
        with program.database.begin() as connection:
            creations.settle(connection, record.id, plan.ids, plan.mapping, f"{outcome} by {who}")
            program.telemetry.track_with(connection, f"{record.domain}-create-success", told)
            _close_doubt(connection, record, who, outcome)
            record_action(connection, who, ACTION, _target(record), {"mapping": dict(plan.mapping)}, outcome)
    return outcome


def settle_not_created(program: Program, record: CreationRecord) -> str:
    """Lets the record be created: notes that NOMIS does not have it, and sends its event once more; what was done.

    A death in between is mended by doing it again. Raises `LeaseBusy` and `SyncError`.
    """
    who, outcome = who_acts(), "not in NOMIS: the event was sent again, its delivery creates the record"
    with program.leases.held(creation_lease(record.domain, record.dps_id)):
        if record.state is not CreationState.ABANDONED:
            _check_open(program, record)
            with program.database.begin() as connection:
                creations.abandon(connection, record.id, f"said by {who} not to be in NOMIS")
                _close_doubt(connection, record, who, outcome)
        try:
            program.queue_pair(CREATIONS[record.domain].queue).main.send(event_again(record))
        except SyncError as error:
            _record_failure(program, record, who, error)
            raise
        with program.database.begin() as connection:
            record_action(connection, who, ACTION, _target(record), {}, outcome)
    return outcome


def may_be_settled(record: CreationRecord, *, not_created: bool) -> bool:
    """Whether a person may still settle it; one said not to be created may have its event sent again."""
    return record.state in OPEN_STATES or (not_created and record.state is CreationState.ABANDONED)


def _target(record: CreationRecord) -> str:
    return f"{record.domain} {record.dps_id}"


def _check_open(program: Program, record: CreationRecord) -> None:
    now = find_creation(program, record.id)
    if now.state not in OPEN_STATES or now.attempts != record.attempts:
        raise WorkError(f"creation {record.id} went on meanwhile and is {now.state} now: look again")


def _close_doubt(connection: Any, record: CreationRecord, who: str, resolution: str) -> None:
    doubt = findings.find(connection, doubt_key(record))
    if doubt is not None:
        findings.resolve(connection, doubt.id, who, resolution)


def _record_failure(program: Program, record: CreationRecord, who: str, error: Exception) -> None:
    with program.database.begin() as connection:
        record_action(connection, who, ACTION, _target(record), {}, f"failed: {error}")
