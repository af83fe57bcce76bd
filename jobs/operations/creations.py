"""Lists creations, settles open ones according to a person's findings, and reopens those that a person mapped."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from jobs.errors import UsageError, WorkError
from jobs.operations.recorded_actions import recorded_action
from jobs.runtime.application import Application
from sync.creation.conflicts import Conflict, save_mapping
from sync.creation.creation import creation_lease
from sync.creation.store import ambiguous_key
from sync.domains.registry import domain_of_record
from sync.domains.repair_declaration import Record
from sync.errors import SyncError
from sync.repair.creations import compare_with_request, event_again, search_sql, search_text
from sync.repair.finding_text import prisoner_in
from sync.store import creations, findings
from sync.store.actions import ActionState, actions_on
from sync.store.creations import OPEN_STATES, CreationRecord, CreationState
from sync.store.telemetry import text_properties

ACTION = "creations settle"
REOPEN = "creations reopen"
#: The option with which an operator confirms that a record is the right one although it differs from the request.
DESPITE = "--although-different"


@dataclass(frozen=True, slots=True)
class MappingPlan:
    """The plan to map an open creation to a NOMIS record.

    found: the NOMIS record, or None if NOMIS does not have it or cannot show it. objections: why the creation must not
    be mapped to that record. differences: how the NOMIS record differs from the request.
    """

    record: CreationRecord
    ids: Mapping[str, Any]
    mapping: Mapping[str, Any]
    found: Record | None
    objections: tuple[str, ...]
    differences: tuple[str, ...]

    @property
    def unchecked(self) -> str | None:
        """A sentence that says what nobody has checked, or None if NOMIS can show the record."""
        repair = domain_of_record(self.record.domain).repair
        if repair.readable:
            return None
        return f"NOMIS cannot show a {repair.noun}: nobody has checked that {self.target} exists and is the right one"

    @property
    def target(self) -> str:
        """The NOMIS record, such as `visit 8811001`."""
        return _nomis_text(self.record, self.mapping)


def list_open(application: Application, *, settled_too: bool) -> list[CreationRecord]:
    """The creations that are not settled, or those in any state if `settled_too` is set; ambiguous ones first."""
    states = frozenset(CreationState) if settled_too else OPEN_STATES
    with application.database.read() as connection:
        return creations.list_creations(connection, states)


def find_creation(application: Application, creation_id: int) -> CreationRecord:
    """The creation with the number `creation_id`. Raises `UsageError` if there is none."""
    with application.database.read() as connection:
        record = creations.get(connection, creation_id)
    if record is None:
        raise UsageError(f"there is no creation {creation_id}; see `prisoner-to-nomis creations list`")
    return record


def creation_as_dict(record: CreationRecord) -> dict[str, Any]:
    """A creation as a JSON object, without the body that was sent."""
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


def creation_in_full(application: Application, record: CreationRecord) -> dict[str, Any]:
    """A creation as a JSON object that also says what to look for in NOMIS, and gives the current mapping.

    `mappedTo` is null if the DPS record is not mapped or its mapping cannot be read.
    """
    try:
        mapping = mapped_meanwhile(application, record)
    except SyncError:
        mapping = None
    sql = search_sql(record)
    return {
        **creation_as_dict(record),
        "lookFor": search_text(record),
        "sql": [] if sql is None else [sql],
        "mappedTo": None if mapping is None else dict(mapping),
    }


def person_of(record: CreationRecord) -> str | None:
    """The person whom a creation is about: the prisoner, or else the booking, or None if neither is known."""
    prisoner = prisoner_in(record.properties)
    booking_id = record.properties.get("bookingId")
    return prisoner or (f"booking {booking_id}" if booking_id else None)


def plan_mapping(application: Application, record: CreationRecord, number: int) -> MappingPlan:
    """Reads the NOMIS record that a person found, and plans to map the creation to it. Raises `SyncError`.

    number: the id of that record, as the person typed it.
    """
    domain = domain_of_record(record.domain)
    ids = domain.repair.nomis_ids(number, record.request)
    comparison = compare_with_request(application.services, record, ids)
    mapping = domain.creation.mapping(record.dps_id, ids)
    return MappingPlan(record, ids, mapping, comparison.found, comparison.objections, comparison.differences)


def check_plan(plan: MappingPlan, *, despite: bool) -> None:
    """Raises `WorkError` if the plan has objections. Differences count as objections too, unless `despite` is set."""
    objections = [*plan.objections, *(() if despite else plan.differences)]
    if objections:
        remedy = "" if plan.objections else f"; {DESPITE} maps it anyway"
        raise WorkError(f"creation {plan.record.id} is left as it is: {'; '.join(objections)}{remedy}")


def mapped_meanwhile(application: Application, record: CreationRecord) -> Mapping[str, Any] | None:
    """The current mapping of the DPS record, or None if it has none. Raises `SyncError`."""
    return domain_of_record(record.domain).mappings.find(application.services.mapping, record.dps_id)


def settle_mapped(application: Application, plan: MappingPlan, who: str, number: int) -> str:
    """Saves the mapping to the record that a person found, and settles the creation in the name of `who`.

    Returns what was done. If the DPS record is mapped to another NOMIS record, the record that the person found is a
    duplicate, and a finding is recorded for the `duplicates` commands. Raises `WorkError` if the creation or the plan
    has changed in the meantime, or if the mapping is refused and the DPS record is not known to be mapped to another
    NOMIS record. Raises `LeaseBusy` if the DPS record is being worked on, and `SyncError`.
    """
    record, creation = plan.record, domain_of_record(plan.record.domain).creation
    properties = {**record.properties, **text_properties(plan.mapping)}
    with application.leases.held(creation_lease(record.domain, record.dps_id)):
        _check_open(application, record)
        if plan_mapping(application, record, number) != plan:
            raise WorkError(f"{plan.target} changed before you confirmed: nothing was done; run the command again")
        details = {"mapping": dict(plan.mapping), "unchecked": plan.unchecked, "differences": list(plan.differences)}
        with recorded_action(application, who, ACTION, _target(record), details) as ongoing:
            conflict = save_mapping(creation, record.dps_id, plan.mapping, application.services)
            if conflict is None:
                outcome = f"mapped to {plan.target}"
                note, event = f"{outcome} by {who}", f"{record.domain}-create-success"
                ongoing.also += [
                    lambda connection: creations.resolve_as_mapped(connection, record.id, plan.ids, plan.mapping, note),
                    lambda connection: application.telemetry.track_with(connection, event, properties),
                ]
            else:
                _check_conflict(plan, conflict)
                store = application.creation_store
                store.conflicting(creation, record.dps_id, plan.mapping, conflict, properties, failed=None)
                outcome = f"{plan.target} is a duplicate of the mapped record: see `duplicates list`"
            ongoing.outcome = outcome
            ongoing.also.append(lambda connection: _close_finding(connection, record, who, outcome))
    return outcome


def check_sending(application: Application, record: CreationRecord) -> None:
    """Checks that the event can be sent again, before the operator is asked to confirm.

    Raises `WorkError` while the create may still be under way, and `SyncError`.
    """
    _check_ended(application, record)
    mapped_meanwhile(application, record)
    application.queue_pair(domain_of_record(record.domain).queue)


def settle_not_created(application: Application, record: CreationRecord, who: str) -> str:
    """Notes that `who` did not find the record in NOMIS, and sends the event again. Returns what was done.

    If the DPS record has since been mapped, there is nothing to create, so nothing is sent. The command can be run
    again after a crash. Raises `WorkError` if the creation has changed in the meantime, or while the create may still
    be under way, since nobody can know yet whether NOMIS will have the record. Raises `LeaseBusy` if the DPS record is
    being worked on, and `SyncError`.
    """
    with application.leases.held(creation_lease(record.domain, record.dps_id)):
        if record.state is CreationState.ABANDONED:
            _check_unchanged(application, record)
        else:
            _check_ended(application, _check_open(application, record))
        with recorded_action(application, who, ACTION, _target(record)) as ongoing:
            mapping = mapped_meanwhile(application, record)
            if mapping is None:
                outcome = "not in NOMIS: the event was sent again, and its delivery creates the record"
            else:
                outcome = f"no other record in NOMIS: already mapped to {_nomis_text(record, mapping)}"
            with application.database.begin() as connection:
                if mapping is None:
                    creations.abandon(connection, record.id, f"not in NOMIS, according to {who}")
                else:
                    creations.mark_mapped(connection, record.domain, record.dps_id, mapping)
                _close_finding(connection, record, who, outcome)
            if mapping is None:
                application.queue_pair(domain_of_record(record.domain).queue).main.send(event_again(record))
            ongoing.outcome = outcome
    return outcome


@dataclass(frozen=True, slots=True)
class Reopening:
    """The plan to reopen a creation that a person mapped. Reopening it deletes the mapping that was saved."""

    record: CreationRecord
    mapping: Mapping[str, Any]
    settled_by: str

    @property
    def target(self) -> str:
        """The NOMIS record to which a person mapped the creation, such as `visit 8811001`."""
        return _nomis_text(self.record, self.mapping)


def plan_reopening(application: Application, creation_id: int) -> Reopening:
    """Plans to reopen a creation that a person mapped.

    Raises `UsageError` if there is no such creation, if it has no mapping that a person saved, or if the mapping
    service cannot delete that mapping. Raises `WorkError` if the DPS record is now mapped to another NOMIS record, and
    `SyncError`.
    """
    record = find_creation(application, creation_id)
    with application.database.read() as connection:
        earlier = actions_on(connection, ACTION, _target(record))
    settled = next((each for each in earlier if each.state is ActionState.DONE and "mapping" in each.details), None)
    mapping = record.mapping
    same_records = domain_of_record(record.domain).creation.same_records
    by_hand = settled is not None and mapping is not None and same_records(settled.details["mapping"], mapping)
    if record.state is not CreationState.MAPPED or settled is None or mapping is None or not by_hand:
        raise UsageError(
            f"creation {creation_id} is {record.state} and has no mapping that a person saved: there is nothing to "
            "reverse"
        )
    if not domain_of_record(record.domain).mappings.is_deleted:
        raise UsageError(
            f"the mapping service cannot delete the mapping of a single {record.domain}: ask its team to delete the "
            f"mapping of {record.dps_id}"
        )
    present = mapped_meanwhile(application, record)
    if present is not None and not same_records(present, mapping):
        raise WorkError(f"{record.domain} {record.dps_id} is now mapped to {_nomis_text(record, present)}")
    return Reopening(record, mapping, settled.who)


def reopen(application: Application, plan: Reopening, who: str) -> str:
    """Deletes a mapping that was saved by mistake, and reopens the creation in the name of `who`.

    Returns what was done. Raises `UsageError` or `WorkError` if the creation has changed in the meantime, `LeaseBusy`
    if the DPS record is being worked on, and `SyncError`.
    """
    record = plan.record
    with application.leases.held(creation_lease(record.domain, record.dps_id)):
        if plan_reopening(application, record.id) != plan:
            raise WorkError(
                f"creation {record.id} changed before you confirmed: nothing was done; run the command again"
            )
        with recorded_action(application, who, REOPEN, _target(record), {"mapping": dict(plan.mapping)}) as ongoing:
            domain_of_record(record.domain).mappings.delete(application.services.mapping, record.dps_id)
            outcome = f"the mapping to {plan.target} is deleted, and creation {record.id} is open again"
            ongoing.outcome, note = outcome, f"reopened by {who}: {plan.target} was not the record"
            ongoing.also += [
                lambda connection: creations.reopen(connection, record.id, note),
                lambda connection: findings.reopen(connection, ambiguous_key(record)),
            ]
    return outcome


def may_be_settled(record: CreationRecord, *, not_created: bool) -> bool:
    """Whether a person may settle the creation.

    not_created: whether it would be settled as not created. A person may settle a creation as not created more than
    once; the event is sent again each time.
    """
    return record.state in OPEN_STATES or (not_created and record.state is CreationState.ABANDONED)


def _target(record: CreationRecord) -> str:
    return f"{record.domain} {record.dps_id}"


def _check_open(application: Application, record: CreationRecord) -> CreationRecord:
    """The creation as it is now. Raises `WorkError` if it is no longer open, or if another attempt has been made."""
    now = find_creation(application, record.id)
    if now.state not in OPEN_STATES or now.attempts != record.attempts:
        raise WorkError(f"creation {record.id} has changed and is now {now.state}: run the command again")
    return now


def _check_ended(application: Application, record: CreationRecord) -> None:
    """Raises `WorkError` while the create may still be under way, since NOMIS could still add the record."""
    seconds = application.creations.seconds_under_way(record)
    if seconds > 0:
        raise WorkError(
            f"the create of {_target(record)} may still be under way in NOMIS: wait {math.ceil(seconds)} s, since "
            "NOMIS could add the record after your search; then search again, and settle the creation"
        )


def _check_unchanged(application: Application, record: CreationRecord) -> None:
    now = find_creation(application, record.id)
    if (now.state, now.attempts, now.updated_at) != (record.state, record.attempts, record.updated_at):
        raise WorkError(
            f"creation {record.id} changed before you confirmed and is now {now.state}: run the command again"
        )


def _check_conflict(plan: MappingPlan, conflict: Conflict) -> None:
    """Raises `WorkError` unless the mapping was refused because the DPS record is mapped to another NOMIS record."""
    mappings = domain_of_record(plan.record.domain).mappings
    existing = None if conflict.existing is None else mappings.ids(conflict.existing)
    if existing is None or existing.dps_id != plan.record.dps_id:
        which = "it does not say which one" if existing is None else f"{existing.dps_id} with {existing.nomis_text}"
        raise WorkError(f"the mapping service holds another pair: {which}")


def _nomis_text(record: CreationRecord, mapping: Mapping[str, Any]) -> str:
    domain = domain_of_record(record.domain)
    return f"{domain.repair.noun} {domain.mappings.ids(mapping).nomis_text}"


def _close_finding(connection: Any, record: CreationRecord, who: str, resolution: str) -> None:
    finding = findings.find(connection, ambiguous_key(record))
    if finding is not None:
        findings.resolve(connection, finding.id, who, resolution)
