"""How appointments in NOMIS are repaired, and how DPS appointments are written to NOMIS again."""

from collections.abc import Mapping
from datetime import datetime
from functools import partial
from typing import Any, ClassVar

from sync.clock import LONDON
from sync.domains import nomis_sql
from sync.domains.appointments import dps as appointments_api
from sync.domains.appointments import nomis as nomis_appointments
from sync.domains.appointments.dps import AppointmentInstance
from sync.domains.appointments.rules import CREATION, location_of, nomis_appointment
from sync.domains.repair_declaration import (
    Advice,
    Effect,
    EventParts,
    Record,
    RemovingRepair,
    Resync,
    ResyncPlan,
    iso_or_none,
    refused,
    text_or_none,
)
from sync.errors import RuleError
from sync.events.envelope import DomainEvent
from sync.settings.upstreams import UpstreamName
from sync.store.creations import CreationRecord
from sync.upstream.mappings import MappingIds
from sync.upstream.services import Services
from sync.upstream.transport import ServiceClient


class AppointmentRepair(RemovingRepair):
    """What an operator can do about appointments in NOMIS."""

    noun = "appointment"
    given = "event id"
    proof: ClassVar = {"start": True, "location": False, "type": True}
    harm = "The prison's lists show the appointment twice until one of the two records is deleted."
    dps_property = "appointmentInstanceId"
    time_of = ("date", "start")

    def read(self, services: Services, ids: MappingIds) -> Record | None:
        """The booking, prisoner, prison, location, times, type and status of the appointment."""
        found = nomis_appointments.find_appointment(services.nomis, int(ids.nomis_ids[0]))
        if found is None:
            return None
        return {
            "bookingId": str(found.booking_id),
            "offenderNo": found.offender_no,
            "prisonId": found.prison_id,
            "location": text_or_none(found.internal_location),
            "start": iso_or_none(found.start_date_time),
            "end": iso_or_none(found.end_date_time),
            "type": found.subtype,
            "status": found.status,
        }

    def remove(self, services: Services, ids: MappingIds, record: Record | None) -> None:
        """Deletes the appointment, so that it disappears from the prison's lists."""
        nomis_appointments.delete_appointment(services.nomis, int(ids.nomis_ids[0]))

    def nomis_ids(self, number: int, request: Mapping[str, Any]) -> Mapping[str, Any]:
        """The NOMIS event id."""
        return {"nomisEventId": number}

    def search_text(self, request: Mapping[str, Any]) -> str:
        """The booking, the day, the time, the type and the location."""
        body = request["body"]
        where = body.get("internalLocationId")
        return (
            f"an appointment of booking {body['bookingId']} on {body['eventDate']} at {body['startTime']}, type "
            f"{body['eventSubType']}, {'without a location' if where is None else f'in location {where}'}"
        )

    def search_sql(self, request: Mapping[str, Any]) -> str:
        """The SQL that finds the booking's appointments of the requested type at the requested date and time."""
        body = request["body"]
        conditions = {
            "OFFENDER_BOOK_ID": nomis_sql.number(body["bookingId"]),
            "EVENT_DATE": nomis_sql.day(body["eventDate"]),
            nomis_sql.clock("START_TIME"): nomis_sql.minute(body["startTime"]),
            "EVENT_SUB_TYPE": nomis_sql.code(body["eventSubType"]),
        }
        return nomis_sql.select("OFFENDER_IND_SCHEDULES", "EVENT_ID", conditions)

    def owner_in(self, request: Mapping[str, Any]) -> str | None:
        """The booking that the request names."""
        return str(request["body"]["bookingId"])

    def expected(self, request: Mapping[str, Any]) -> Record:
        """The location, the start and the type."""
        body = request["body"]
        start = datetime.fromisoformat(f"{body['eventDate']}T{body['startTime']}")
        return {
            "location": text_or_none(body.get("internalLocationId")),
            "start": start.isoformat(),
            "type": body["eventSubType"],
        }

    def event_parts(self, record: CreationRecord) -> EventParts:
        """The id of the appointment instance; the event does not name a prisoner."""
        return {"appointmentInstanceId": int(record.dps_id)}, None, None


REPAIR = AppointmentRepair()
_CANCELLED = "CANC"


class AppointmentResync(Resync):
    """Creates, changes, cancels or deletes an appointment in NOMIS, so that it agrees with the activities API."""

    kind = "appointment"
    creation = CREATION

    def plan(self, dps_id: str, services: Services) -> ResyncPlan:
        """Reads the appointment on both sides.

        The plan is to create, update or cancel it in NOMIS, or to delete it there if DPS has deleted it.

        Raises `RuleError` if the appointment has no prison, because only a search by prison shows whether it is
        cancelled.
        """
        appointments = services[UpstreamName.APPOINTMENTS]
        appointment = appointments_api.find_appointment(appointments, int(dps_id))
        ids = self.find_ids(dps_id, services)
        nomis = None if ids is None else REPAIR.read(services, ids)
        plan = partial(ResyncPlan, creation_id=dps_id, ids=ids, nomis=nomis)
        if appointment is None:
            return _plan_gone(plan, dps_id, ids)
        cancelled = _is_cancelled(appointment, appointments)
        expected = _expected(appointment, nomis, cancelled=cancelled)
        plan = partial(plan, dps=_shown(appointment, cancelled=cancelled), expected=expected)
        if appointment.created is not None and location_of(appointment) is not None:
            # NOMIS has no look-up for appointments without a location.
            plan = partial(plan, made_at=appointment.created.replace(tzinfo=LONDON))
        created, cancel = _event("created", dps_id), _event("cancelled", dps_id)
        if ids is None and cancelled:
            because = "it is cancelled and not mapped to a NOMIS appointment: it is created in NOMIS and then cancelled"
            return plan(effect=Effect.CREATE, because=because, events=(created, cancel))
        if ids is None:
            because = "it is not mapped to a NOMIS appointment"
            return plan(effect=Effect.CREATE, because=because, events=(created,))
        if cancelled:
            return _plan_cancelled(plan, cancel, nomis)
        if nomis is None:
            because = f"it is mapped to appointment {ids.nomis_text}, which NOMIS does not have"
            return plan(effect=Effect.CREATE, because=because, events=(created,), mapping_is_stale=True)
        objection = None
        if nomis["status"] == _CANCELLED:
            objection = (
                f"appointment {ids.nomis_text} is cancelled in NOMIS, where it cannot be scheduled again: cancel it "
                f"in DPS, and create it again"
            )
        events = (_event("updated", dps_id),)
        return plan(effect=Effect.UPDATE, because="it is scheduled in DPS", events=events, objection=objection)


def _plan_gone(plan: "partial[ResyncPlan]", dps_id: str, ids: MappingIds | None) -> ResyncPlan:
    plan = partial(plan, dps=None)
    if ids is None:
        objection = (
            "the activities API does not have this appointment, and there is no mapping for it: check that the id "
            "is that of an attendee"
        )
        return plan(effect=Effect.NOTHING, because="the activities API does not have it", objection=objection)
    because = "it has been deleted in DPS, so the NOMIS appointment and its mapping are deleted"
    return plan(effect=Effect.DELETE, because=because, events=(_event("deleted", dps_id),))


def _plan_cancelled(plan: "partial[ResyncPlan]", cancel: DomainEvent, nomis: Record | None) -> ResyncPlan:
    if nomis is None:
        return plan(effect=Effect.NOTHING, because="it is cancelled in DPS, and NOMIS no longer has it")
    if nomis["status"] == _CANCELLED:
        return plan(effect=Effect.NOTHING, because="it is cancelled on both sides")
    return plan(effect=Effect.CANCEL, because="it is cancelled in DPS", events=(cancel,))


def _is_cancelled(appointment: AppointmentInstance, appointments: ServiceClient) -> bool:
    """Whether the appointment is cancelled, which only a search by prison shows.

    Raises `RuleError` if the appointment has no prison.
    """
    if appointment.prison_code is None:
        raise RuleError(f"appointment {appointment.id} has no prison, so nothing shows whether it is cancelled")
    day, number = appointment.appointment_date, appointment.prisoner_number
    numbers = [] if number is None else [number]
    attendees = appointments_api.search_attendees(appointments, appointment.prison_code, day, day, numbers)
    return any(each.cancelled for each in attendees if each.id == appointment.id)


def _event(word: str, dps_id: str) -> DomainEvent:
    event_type = f"appointments.appointment-instance.{word}"
    return DomainEvent(event_type, additional_information={"appointmentInstanceId": int(dps_id)})


def _shown(appointment: AppointmentInstance, *, cancelled: bool) -> Record:
    return {
        "bookingId": str(appointment.booking_id),
        "prisonId": appointment.prison_code,
        "location": text_or_none(location_of(appointment)),
        "date": iso_or_none(appointment.appointment_date),
        "start": appointment.start_time.strftime("%H:%M"),
        "end": None if appointment.end_time is None else appointment.end_time.strftime("%H:%M"),
        "type": appointment.category_code,
        "status": "cancelled" if cancelled else "scheduled",
    }


def _expected(appointment: AppointmentInstance, nomis: Record | None, *, cancelled: bool) -> Record:
    """The fields that NOMIS must show. For a cancelled appointment, only the status counts.

    For any other appointment, they are the booking, the type and the times, the prison if both sides name one, and the
    location if the appointment has one and is not in a cell.
    """
    if cancelled:
        return {"status": _CANCELLED}
    body = nomis_appointment(appointment)
    expected = {"bookingId": str(appointment.booking_id), "type": body.event_sub_type}
    for name, moment in (("start", body.start_time), ("end", body.end_time)):
        expected[name] = datetime.fromisoformat(f"{body.event_date.isoformat()}T{moment}").isoformat()
    if appointment.prison_code is not None and nomis is not None and nomis["prisonId"] is not None:
        expected["prisonId"] = appointment.prison_code
    if body.internal_location_id is not None:
        expected["location"] = str(body.internal_location_id)
    return expected


RESYNCS = (AppointmentResync(),)

ADVICE = (
    Advice(
        refused("nomis", 500, words="without a location"),
        "NOMIS 500, no location",
        "NOMIS cannot hold an appointment in a cell: inform the prison, then purge the message",
    ),
)
