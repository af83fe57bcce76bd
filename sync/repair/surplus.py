"""Surplus records in NOMIS: read, compared with the one that is mapped, and removed, by domain.

What is shown of a record are codes, ids and times, never comments or names.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from sync.domains.activities import nomis as nomis_activities
from sync.domains.activities.mapping import MAPPINGS as ACTIVITY_MAPPINGS
from sync.domains.adjustments import nomis as nomis_adjustments
from sync.domains.adjustments.mapping import MAPPINGS as ADJUSTMENT_MAPPINGS
from sync.domains.adjustments.nomis import Category
from sync.domains.appointments import nomis as nomis_appointments
from sync.domains.appointments.mapping import MAPPINGS as APPOINTMENT_MAPPINGS
from sync.domains.incentives import nomis as nomis_incentives
from sync.domains.incentives.mapping import MAPPINGS as INCENTIVE_MAPPINGS
from sync.domains.visits import nomis as nomis_visits
from sync.domains.visits.mapping import MAPPINGS as VISIT_MAPPINGS
from sync.domains.visits.nomis import CancelVisit
from sync.failures import UpstreamError
from sync.repair.duplicates import Pair, pair_of_mapping
from sync.upstream.services import Services

SUPPORT_CHANNEL = "#dps-appsupport"
#: The outcome with which a surplus visit is cancelled: an administrative error.
SURPLUS_VISIT_OUTCOME = "ADMIN"
_SCHEDULED, _CANCELLED = "SCH", "CANC"

#: The fields of a record that are compared and shown.
Record = Mapping[str, str | None]


@dataclass(frozen=True, slots=True)
class SurplusRules:
    """What can be done about the surplus records of a domain.

    noun: what a person calls the record. owner: the field of a record that says whose it is.
    proof: the other fields in which the double of a record is equal to it. A False stands by those that may be missing.
    read: a record of NOMIS, None when there is none; None in place of the function where NOMIS has no read.
    remove: removes the surplus record; None where only the support team of NOMIS can.
    action: what `remove` does, to be put before noun and id.
    is_gone: whether a record that was read does no harm any more.
    mapping_of_dps, dps_of_nomis: what the mapping service says now, of a DPS record and of a NOMIS record.
    """

    noun: str
    owner: str
    proof: Mapping[str, bool]
    action: str
    read: Callable[[Services, Pair], Record | None] | None
    remove: Callable[[Services, Pair, Record | None], None] | None
    is_gone: Callable[[Record | None], bool]
    mapping_of_dps: Callable[[Services, str], Mapping[str, Any] | None]
    dps_of_nomis: Callable[[Services, Pair], str | None]


def _read_visit(services: Services, pair: Pair) -> Record | None:
    visit = nomis_visits.find_visit(services.nomis, int(pair.nomis_ids[0]))
    if visit is None:
        return None
    return {
        "offenderNo": visit.offender_no,
        "prisonId": visit.prison_id,
        "start": _iso(visit.start_date_time),
        "end": _iso(visit.end_date_time),
        "status": None if visit.visit_status is None else visit.visit_status.code,
        "namesReference": "yes" if visit.names(pair.dps_id) else "no",
    }


def _cancel_visit(services: Services, pair: Pair, record: Record | None) -> None:
    assert record is not None
    offender_no = record["offenderNo"]
    assert offender_no is not None
    try:
        nomis_visits.cancel_visit(
            services.nomis, offender_no, int(pair.nomis_ids[0]), CancelVisit(outcome=SURPLUS_VISIT_OUTCOME)
        )
    except UpstreamError as error:
        # It was cancelled before, or is no longer scheduled: the reading that follows tells which.
        if not error.conflict:
            raise


def _visit_is_gone(record: Record | None) -> bool:
    return record is None or record.get("status") == _CANCELLED


def _dps_of_visit(services: Services, pair: Pair) -> str | None:
    found = VISIT_MAPPINGS.find_by_nomis_ids(services.mapping, int(pair.nomis_ids[0]))
    return None if found is None else str(found["vsipId"])


def _read_adjustment(services: Services, pair: Pair) -> Record | None:
    found = nomis_adjustments.find_adjustment(services.nomis, _category(pair), int(pair.nomis_ids[0]))
    if found is None:
        return None
    return {
        "bookingId": str(found.booking_id),
        "sentenceSequence": None if found.sentence_sequence is None else str(found.sentence_sequence),
        "type": found.adjustment_type.code,
        "days": str(found.adjustment_days),
        "date": _iso(found.adjustment_date),
        "from": _iso(found.adjustment_from_date),
        "hidden": "yes" if found.hidden_from_users else "no",
    }


def _delete_adjustment(services: Services, pair: Pair, _: Record | None) -> None:
    nomis_adjustments.delete_adjustment(services.nomis, _category(pair), int(pair.nomis_ids[0]))


def _dps_of_adjustment(services: Services, pair: Pair) -> str | None:
    found = ADJUSTMENT_MAPPINGS.find_by_nomis_ids(services.mapping, *pair.nomis_ids)
    return None if found is None else str(found["adjustmentId"])


def _category(pair: Pair) -> Category:
    return nomis_adjustments.category(pair.nomis_ids[1])


def _delete_activity(services: Services, pair: Pair, _: Record | None) -> None:
    nomis_activities.delete_activity(services.nomis, int(pair.nomis_ids[0]))


def _dps_of_activity(services: Services, pair: Pair) -> str | None:
    for mapping in ACTIVITY_MAPPINGS.list_all(services.mapping):
        found = pair_of_mapping("activity", mapping)
        if found.nomis_ids == pair.nomis_ids:
            return found.dps_id
    return None


def _read_appointment(services: Services, pair: Pair) -> Record | None:
    found = nomis_appointments.find_appointment(services.nomis, int(pair.nomis_ids[0]))
    if found is None:
        return None
    return {
        "bookingId": str(found.booking_id),
        "prisonId": found.prison_id,
        "location": None if found.internal_location is None else str(found.internal_location),
        "start": _iso(found.start_date_time),
        "end": _iso(found.end_date_time),
        "type": found.subtype,
        "status": found.status,
    }


def _delete_appointment(services: Services, pair: Pair, _: Record | None) -> None:
    nomis_appointments.delete_appointment(services.nomis, int(pair.nomis_ids[0]))


def _dps_of_appointment(services: Services, pair: Pair) -> str | None:
    found = APPOINTMENT_MAPPINGS.find_by_nomis_ids(services.mapping, int(pair.nomis_ids[0]))
    return None if found is None else str(found["appointmentInstanceId"])


def _read_incentive(services: Services, pair: Pair) -> Record | None:
    booking_id, sequence = (int(each) for each in pair.nomis_ids)
    found = nomis_incentives.iep_record(services.nomis, booking_id, sequence)
    if found is None:
        return None
    return {
        "bookingId": str(found.booking_id),
        "offenderNo": found.offender_no,
        "level": found.iep_level.code,
        "date": _iso(found.iep_date_time),
        "prisonId": found.prison_id,
        "current": "yes" if found.current_iep else "no",
    }


def _dps_of_incentive(services: Services, pair: Pair) -> str | None:
    booking_id, sequence = (int(each) for each in pair.nomis_ids)
    found = INCENTIVE_MAPPINGS.find_by_nomis_ids(services.mapping, booking_id, sequence)
    return None if found is None else str(found["incentiveId"])


def _is_missing(record: Record | None) -> bool:
    return record is None


def _iso(moment: Any) -> str | None:
    return None if moment is None else str(moment.isoformat())


SURPLUS_RULES: Mapping[str, SurplusRules] = {
    "visit": SurplusRules(
        "visit",
        "offenderNo",
        {"start": True, "prisonId": True},
        f"cancel with outcome {SURPLUS_VISIT_OUTCOME}",
        _read_visit,
        _cancel_visit,
        _visit_is_gone,
        lambda services, dps_id: VISIT_MAPPINGS.find(services.mapping, dps_id),
        _dps_of_visit,
    ),
    "sentencing-adjustment": SurplusRules(
        "adjustment",
        "bookingId",
        {"sentenceSequence": False, "type": True, "days": True, "date": False, "from": False},
        "delete",
        _read_adjustment,
        _delete_adjustment,
        _is_missing,
        lambda services, dps_id: ADJUSTMENT_MAPPINGS.find(services.mapping, dps_id),
        _dps_of_adjustment,
    ),
    "activity": SurplusRules(
        "course activity",
        "",
        {},
        "delete, with its allocations and attendances,",
        None,
        _delete_activity,
        _is_missing,
        lambda services, dps_id: ACTIVITY_MAPPINGS.find(services.mapping, dps_id),
        _dps_of_activity,
    ),
    "appointment": SurplusRules(
        "appointment",
        "bookingId",
        {"start": True, "location": False, "type": True},
        "delete",
        _read_appointment,
        _delete_appointment,
        _is_missing,
        lambda services, dps_id: APPOINTMENT_MAPPINGS.find(services.mapping, dps_id),
        _dps_of_appointment,
    ),
    "incentive": SurplusRules(
        "IEP record",
        "bookingId",
        {},
        f"ask {SUPPORT_CHANNEL} to delete",
        _read_incentive,
        None,
        _is_missing,
        lambda services, dps_id: INCENTIVE_MAPPINGS.find(services.mapping, dps_id),
        _dps_of_incentive,
    ),
}


@dataclass(frozen=True, slots=True)
class NomisView:
    """Both NOMIS records as they are now, and who the mapping service says they belong to.

    `surplus` and `mapped` are None when NOMIS has no such record (or no read of it: `readable`). `surplus_belongs_to`
    is the DPS id that the refused record is mapped to, None when it is mapped to none.
    """

    surplus: Record | None
    mapped: Record | None
    readable: bool
    surplus_belongs_to: str | None


def obstacles(rules: SurplusRules, duplicate: Pair, existing: Pair, view: NomisView) -> list[str]:
    """Why the refused record must never be removed, as sentences; none when it may."""
    found = []
    if view.surplus_belongs_to is not None:
        found.append(f"{rules.noun} {duplicate.nomis_text} is mapped to {view.surplus_belongs_to}: it is not surplus")
    if not view.readable:
        return found
    if view.mapped is None:
        found.append(f"NOMIS has no {rules.noun} {existing.nomis_text}: the other one may be the only one, investigate")
    if view.surplus is not None and view.mapped is not None:
        whose, owner = view.surplus.get(rules.owner), view.mapped.get(rules.owner)
        if whose is None or whose != owner:
            found.append(f"the two are not of the same {rules.owner} ({whose} and {owner}): investigate")
    if view.surplus is not None and view.surplus.get("hidden") == "yes":
        found.append(f"adjustment {duplicate.nomis_text} was made by NOMIS itself: investigate")
    return found


def unproved(rules: SurplusRules, duplicate: Pair, existing: Pair, view: NomisView) -> list[str]:
    """What keeps the refused record from being proved the double of the mapped one, as sentences; none when it is.

    A person may know better: the mapped record may have been changed since.
    """
    if view.surplus is None or view.mapped is None or rules.is_gone(view.surplus):
        return []
    found = []
    for name, required in rules.proof.items():
        surplus, mapped = view.surplus.get(name), view.mapped.get(name)
        if surplus != mapped:
            found.append(f"the two differ in {name} ({surplus} and {mapped})")
        elif required and surplus is None:
            found.append(f"neither has a {name}")
    for pair, record in ((duplicate, view.surplus), (existing, view.mapped)):
        if record.get("namesReference") == "no":
            found.append(f"the comment of visit {pair.nomis_text} does not name {duplicate.dps_id}")
        if "namesReference" in record and record.get("status") != _SCHEDULED:
            found.append(f"visit {pair.nomis_text} has status {record.get('status')}, not {_SCHEDULED}")
    return found


def differences(view: NomisView) -> dict[str, tuple[str | None, str | None]]:
    """The fields in which the two records differ: (surplus, mapped)."""
    if view.surplus is None or view.mapped is None:
        return {}
    names = dict.fromkeys((*view.surplus, *view.mapped))
    pairs = {name: (view.surplus.get(name), view.mapped.get(name)) for name in names}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


def support_request(duplicate: Pair, existing: Pair, offender_no: str | None) -> str:
    """What to write to the support team of NOMIS, who alone can delete an IEP record."""
    booking_id, sequence = duplicate.nomis_ids
    return (
        f"To {SUPPORT_CHANNEL}: please delete IEP record sequence {sequence} of prisoner {offender_no or 'unknown'}, "
        f"booking {booking_id}. It repeats sequence {existing.nomis_ids[1]}; both were made of DPS review "
        f"{duplicate.dps_id}."
    )
