"""Creations whose outcome nobody could tell, settled by a person: what to look for, to check, and to send again."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sync.creation.creation import Creation
from sync.creation.records import CreationRecord
from sync.domains.activities.mapping import MAPPINGS as ACTIVITY_MAPPINGS
from sync.domains.adjustments.mapping import MAPPINGS as ADJUSTMENT_MAPPINGS
from sync.domains.appointments.mapping import MAPPINGS as APPOINTMENT_MAPPINGS
from sync.domains.incentives.mapping import MAPPINGS as INCENTIVE_MAPPINGS
from sync.domains.registry import DOMAINS
from sync.pipeline.envelope import write_domain_event
from sync.repair.duplicates import PAIR_FIELDS, Pair
from sync.repair.surplus import SURPLUS_RULES, Record
from sync.upstream.services import Services

#: The declarations of creations by name, which is the domain of their records.
CREATIONS: Mapping[str, Creation] = {domain.creation.name: domain.creation for domain in DOMAINS.values()}


@dataclass(frozen=True, slots=True)
class Settlement:
    """What settling needs to know of a domain.

    given: what a person types for the NOMIS record.
    ids: the NOMIS ids, as the mapping names them, from the number typed and the request; raises `ValueError`.
    owner: whose the record must be, by the request: the value of the field that `SURPLUS_RULES` calls the owner.
    look_for: what to look for in NOMIS, in one line.
    expected: what a record made of the request says, by the fields that `SURPLUS_RULES` reads; nothing where NOMIS has
        no read.
    delete_mapping: deletes the mapping of a DPS record; None where the mapping service cannot.
    event: the parts of the event that made the creation: additional information, prisoner, time.
    """

    given: str
    ids: Callable[[int, Mapping[str, Any]], Mapping[str, Any]]
    owner: Callable[[Mapping[str, Any]], str | None]
    look_for: Callable[[Mapping[str, Any]], str]
    expected: Callable[[Mapping[str, Any]], Record]
    delete_mapping: Callable[[Services, str], None] | None
    event: Callable[[CreationRecord], tuple[Mapping[str, Any], str | None, str | None]]


def nomis_ids(record: CreationRecord, number: int) -> Mapping[str, Any]:
    """The NOMIS ids of the record that a person found under `number`."""
    return SETTLEMENTS[record.domain].ids(number, record.request)


def pair_of(record: CreationRecord, ids: Mapping[str, Any]) -> Pair:
    """The DPS record with the NOMIS record of these ids."""
    return Pair(record.dps_id, tuple(str(ids[name]) for name in PAIR_FIELDS[record.domain].nomis))


@dataclass(frozen=True, slots=True)
class Compared:
    """A NOMIS record that a person found, compared with the request.

    there: the record, None where NOMIS has no read of it, or does not have it. objections: why it must not be mapped.
    differences: in what it is not what was asked for; a person may know why.
    """

    there: Record | None
    objections: tuple[str, ...]
    differences: tuple[str, ...] = ()


def compare(services: Services, record: CreationRecord, ids: Mapping[str, Any]) -> Compared:
    """Reads the NOMIS record of these ids, where NOMIS has a read of it. Raises `UpstreamError`."""
    rules, pair = SURPLUS_RULES[record.domain], pair_of(record, ids)
    found = []
    belongs_to = rules.dps_of_nomis(services, pair)
    if belongs_to not in (None, record.dps_id):
        found.append(f"{rules.noun} {pair.nomis_text} is mapped to {belongs_to}")
    if rules.read is None:
        return Compared(None, tuple(found))
    there = rules.read(services, pair)
    owner = SETTLEMENTS[record.domain].owner(record.request)
    if there is None:
        found.append(f"NOMIS has no {rules.noun} {pair.nomis_text}")
    elif there.get(rules.owner) != owner:
        found.append(f"{rules.noun} {pair.nomis_text} is of {rules.owner} {there.get(rules.owner)}, not {owner}")
    return Compared(there, tuple(found), () if found or there is None else tuple(_differences(record, there)))


def _differences(record: CreationRecord, there: Record) -> Iterator[str]:
    for name, expected in SETTLEMENTS[record.domain].expected(record.request).items():
        if name == "namesReference":
            if there.get(name) == "no":
                yield f"its comment does not name {record.dps_id}"
        elif there.get(name) != expected:
            yield f"its {name} is {there.get(name) or 'none'}, not {expected or 'none'}"


def look_for(record: CreationRecord) -> str:
    """What to look for in NOMIS, in one line."""
    if not record.request:
        return "nothing: it was deleted before it was created"
    return SETTLEMENTS[record.domain].look_for(record.request)


def event_again(record: CreationRecord) -> str:
    """The body of a message that makes the creation be tried once more."""
    information, prisoner_id, occurred_at = SETTLEMENTS[record.domain].event(record)
    return write_domain_event(CREATIONS[record.domain].event_type, information, prisoner_id, occurred_at)


def _told_offender(record: CreationRecord) -> str | None:
    offender_no = record.properties.get("offenderNo")
    return None if offender_no in (None, "unknown") else offender_no


def _visit_event(record: CreationRecord) -> tuple[Mapping[str, Any], str | None, str | None]:
    # Only the date counts, which NOMIS is told as the date of issue of the visit order.
    occurred_at = f"{record.request['body']['issueDate']}T12:00:00Z"
    return {"reference": record.dps_id}, record.request["offenderNo"], occurred_at


def _visit_words(request: Mapping[str, Any]) -> str:
    body = request["body"]
    return (
        f"a visit of {request['offenderNo']} at {body['prisonId']} on {body['startDateTime']}, whose comment names "
        f"{request['reference']}"
    )


def _incentive_words(request: Mapping[str, Any]) -> str:
    body = request["body"]
    return (
        f"an IEP record of booking {request['bookingId']}: level {body['iepLevel']}, {body['iepDateTime']}, "
        f"{body['prisonId']}; give its sequence"
    )


def _incentive_event(record: CreationRecord) -> tuple[Mapping[str, Any], str | None, str | None]:
    offender_no = _told_offender(record)
    return {"id": int(record.dps_id), **({"nomsNumber": offender_no} if offender_no else {})}, None, None


def _activity_words(request: Mapping[str, Any]) -> str:
    body = request["body"]
    return f"a course activity with code {body['code']} at {body['prisonId']}, from {body['startDate']}"


def _appointment_words(request: Mapping[str, Any]) -> str:
    body = request["body"]
    where = body.get("internalLocationId")
    return (
        f"an appointment of booking {body['bookingId']} on {body['eventDate']} at {body['startTime']}, type "
        f"{body['eventSubType']}, {'without a location' if where is None else f'in location {where}'}"
    )


def _adjustment_words(request: Mapping[str, Any]) -> str:
    body = request["body"]
    return (
        f"a {request['category']} adjustment of booking {request['bookingId']}: type {body['adjustmentTypeCode']}, "
        f"{body['adjustmentDays']} days, dated {body['adjustmentDate']}"
    )


def _adjustment_event(record: CreationRecord) -> tuple[Mapping[str, Any], str | None, str | None]:
    offender_no = _told_offender(record)
    information = {"id": record.dps_id, "source": "DPS", **({"offenderNo": offender_no} if offender_no else {})}
    return information, None, None


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def _visit_record(request: Mapping[str, Any]) -> Record:
    body = request["body"]
    return {"prisonId": body["prisonId"], "start": body["startDateTime"], "namesReference": "yes"}


def _incentive_record(request: Mapping[str, Any]) -> Record:
    body = request["body"]
    return {"level": body["iepLevel"], "date": body["iepDateTime"], "prisonId": body["prisonId"]}


def _appointment_record(request: Mapping[str, Any]) -> Record:
    body = request["body"]
    start = datetime.fromisoformat(f"{body['eventDate']}T{body['startTime']}")
    return {
        "location": _text(body.get("internalLocationId")),
        "start": start.isoformat(),
        "type": body["eventSubType"],
    }


def _adjustment_record(request: Mapping[str, Any]) -> Record:
    body = request["body"]
    return {
        "sentenceSequence": _text(request.get("sentenceSequence")),
        "type": body["adjustmentTypeCode"],
        "days": str(body["adjustmentDays"]),
        "date": body["adjustmentDate"],
        "from": body.get("adjustmentFromDate"),
    }


SETTLEMENTS: Mapping[str, Settlement] = {
    "visit": Settlement(
        "visit id",
        lambda number, _: {"nomisId": number},
        lambda request: str(request["offenderNo"]),
        _visit_words,
        _visit_record,
        None,
        _visit_event,
    ),
    "incentive": Settlement(
        "sequence",
        lambda number, request: {"nomisBookingId": request["bookingId"], "nomisIncentiveSequence": number},
        lambda request: str(request["bookingId"]),
        _incentive_words,
        _incentive_record,
        lambda services, dps_id: INCENTIVE_MAPPINGS.delete(services.mapping, dps_id),
        _incentive_event,
    ),
    "activity": Settlement(
        "course activity id",
        lambda number, _: {"nomisCourseActivityId": number},
        lambda _: None,
        _activity_words,
        lambda _: {},
        lambda services, dps_id: ACTIVITY_MAPPINGS.delete(services.mapping, dps_id),
        lambda record: ({"activityScheduleId": int(record.dps_id)}, None, None),
    ),
    "appointment": Settlement(
        "event id",
        lambda number, _: {"nomisEventId": number},
        lambda request: str(request["body"]["bookingId"]),
        _appointment_words,
        _appointment_record,
        lambda services, dps_id: APPOINTMENT_MAPPINGS.delete(services.mapping, dps_id),
        lambda record: ({"appointmentInstanceId": int(record.dps_id)}, None, None),
    ),
    "sentencing-adjustment": Settlement(
        "adjustment id",
        lambda number, request: {"nomisAdjustmentId": number, "nomisAdjustmentCategory": request["category"]},
        lambda request: str(request["bookingId"]),
        _adjustment_words,
        _adjustment_record,
        lambda services, dps_id: ADJUSTMENT_MAPPINGS.delete(services.mapping, dps_id),
        _adjustment_event,
    ),
}
