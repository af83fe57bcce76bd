"""Writes appointments to NOMIS when the activities API creates, changes, cancels or deletes them."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sync.clock import with_minutes, with_seconds
from sync.creation.creation import Creation, Json, Prepared, creation_lease, earliest_creation
from sync.domains.appointments import dps as appointments_api
from sync.domains.appointments import nomis as nomis_appointments
from sync.domains.appointments.dps import AppointmentInstance
from sync.domains.appointments.nomis import CreateAppointment, NomisAppointment, UpdateAppointment
from sync.domains.declaration import Coalesce, Update, ignored_if_gone
from sync.errors import UpstreamError
from sync.events.context import HandlerContext
from sync.events.envelope import DomainEvent
from sync.settings.upstreams import UpstreamName
from sync.store.telemetry import Properties
from sync.upstream.mappings import Mappings
from sync.upstream.responses import RecordNumber, Response
from sync.upstream.services import Services

_AMEND_IGNORED = "appointment-amend-missing-ignored"
_CANCEL_IGNORED = "appointment-cancel-missing-ignored"
_DELETE_IGNORED = "appointment-delete-ignored"
#: The first is tracked before `_DELETE_IGNORED`, the second before the success of a deletion.
MAPPING_MISSING, NOMIS_MISSING = (
    "appointment-delete-missing-mapping-ignored",
    "appointment-delete-missing-nomis-ignored",
)


def location_of(appointment: AppointmentInstance) -> int | None:
    """The location of an appointment, or None if the appointment is in a cell, even if it also has a location."""
    return None if appointment.in_cell else appointment.internal_location_id


def nomis_appointment(appointment: AppointmentInstance) -> UpdateAppointment:
    """The request body for the appointment in NOMIS.

    NOMIS requires an end time, so an appointment without one ends when it starts.
    """
    return UpdateAppointment(
        internal_location_id=location_of(appointment),
        event_date=appointment.appointment_date,
        start_time=with_minutes(appointment.start_time),
        end_time=with_minutes(appointment.end_time or appointment.start_time),
        event_sub_type=appointment.category_code,
    )


class _Mapping(Response):
    appointment_instance_id: RecordNumber
    nomis_event_id: RecordNumber


MAPPINGS = Mappings(
    path="/mapping/appointments",
    role="NOMIS_APPOINTMENTS",
    model=_Mapping,
    dps="appointmentInstanceId",
    nomis=("nomisEventId",),
    by_dps="appointment-instance-id/{appointmentInstanceId}",
    by_nomis="nomis-event-id/{nomisEventId}",
    has_type=False,
    is_listed=True,
)


class AppointmentCreation(Creation):
    """Creates a NOMIS appointment for an appointment instance."""

    event_type = "appointments.appointment-instance.created"
    name = "appointment"
    queue = "appointment"
    event_id = "appointmentInstanceId"
    mappings = MAPPINGS
    numeric_ids = True
    retry_success = "appointment-create-mapping-retry-success"
    may_be_ignored = True

    def start(self, event: DomainEvent) -> Properties:
        """The id of the appointment instance."""
        return {"appointmentInstanceId": self.dps_id(event)}

    def prepare(self, event: DomainEvent, context: HandlerContext) -> Prepared:
        """Makes the request from the current appointment instance in DPS."""
        appointment = _read(event, context)
        location = location_of(appointment)
        context.bind(
            bookingId=appointment.booking_id,
            locationId="null" if location is None else location,
            date=appointment.appointment_date.isoformat(),
            start=with_minutes(appointment.start_time),
        )
        body = CreateAppointment(booking_id=appointment.booking_id, **dict(nomis_appointment(appointment)))
        return Prepared(
            {
                "appointmentInstanceId": appointment.id,
                "prisonId": appointment.prison_code,
                "startSeconds": with_seconds(appointment.start_time.replace(second=0, microsecond=0)),
                "body": body.as_json(),
            }
        )

    def create(self, request: Json, services: Services) -> Json:
        """Creates the appointment that the request describes, and returns its NOMIS id."""
        return {"nomisEventId": nomis_appointments.create_appointment(services.nomis, request["body"])}

    def locate(self, request: Json, since: datetime, services: Services) -> Sequence[Json] | None:
        """The NOMIS ids of the appointments that are equal to the request and may have been created after `since`.

        Returns None if the request has no location. NOMIS shows whether the booking has an appointment at the location
        and start time, but older versions do not show its id. So if there is such an appointment, the program lists the
        ids of all appointments at the prison on that day, and reads the recent appointments.
        """
        body, earliest = request["body"], earliest_creation(since)
        location, start = body.get("internalLocationId"), f"{body['eventDate']}T{request['startSeconds']}"
        if location is None:
            return None
        prison_id = request["prisonId"]
        try:
            there = nomis_appointments.appointments_at(services.nomis, body["bookingId"], location, start)
        except UpstreamError as error:
            if not error.non_unique:
                raise
        else:
            recent = [each for each in there if each.created_date >= earliest]
            if not recent:
                return []
            prison_id = recent[-1].prison_id or prison_id
        found = []
        # Ids increase over time. So the newest appointments come first, and the first one from before `since` ends the
        # search.
        ids = nomis_appointments.appointment_ids(services.nomis, prison_id, body["eventDate"])
        for event_id in sorted(ids, reverse=True):
            appointment = nomis_appointments.find_appointment(services.nomis, event_id)
            if appointment is None:
                continue
            if appointment.created_date < earliest:
                break
            if _is_equal(appointment, body, start):
                found.append({"nomisEventId": event_id})
        return found

    def subject(self, request: Json) -> str:
        """The booking, which may have several equal appointments."""
        return f"booking:{request['body']['bookingId']}"

    def mapping(self, dps_id: str, nomis_ids: Json) -> Json:
        """The mapping of an appointment instance to a NOMIS appointment."""
        return {"appointmentInstanceId": int(dps_id), "nomisEventId": nomis_ids["nomisEventId"], "whenCreated": None}


def _is_equal(appointment: NomisAppointment, body: Json, start: str) -> bool:
    return (
        appointment.booking_id == body["bookingId"]
        and appointment.internal_location == body["internalLocationId"]
        and appointment.start_date_time == datetime.fromisoformat(start)
        and appointment.subtype == body["eventSubType"]
    )


CREATION = AppointmentCreation()


def _update(event: DomainEvent, context: HandlerContext) -> None:
    with context.lease(f"write:{CREATION.entity(event)}"):
        body = nomis_appointment(_read(event, context))
        event_id = _mapped_event(event, context)
        context.step("update appointment")
        nomis_appointments.update_appointment(context.services.nomis, event_id, body)


def _cancel(event: DomainEvent, context: HandlerContext) -> None:
    with context.lease(f"write:{CREATION.entity(event)}"):
        event_id = _mapped_event(event, context)
        context.step("cancel appointment")
        try:
            nomis_appointments.cancel_appointment(context.services.nomis, event_id)
        except UpstreamError as error:
            if not error.absent:
                raise
            # The appointment was deleted before this event, and a deleted appointment does not take place either.
            context.bind(**{"nomis-error": str(error)})


def _delete(event: DomainEvent, context: HandlerContext) -> str | None:
    services, instance_id = context.services, CREATION.dps_id(event)
    with context.lease(creation_lease(CREATION.name, instance_id)):
        context.step("look up mapping")
        mapping = MAPPINGS.find(services.mapping, instance_id)
        if mapping is None:
            if _is_gone(instance_id, context):
                context.forget_creation(CREATION.name, instance_id)
                context.track(MAPPING_MISSING, context.properties)
                return _DELETE_IGNORED
            context.step("look up mapping")
            mapping = MAPPINGS.get(services.mapping, instance_id)
        event_id = _event_id(mapping, context)
        context.step("delete appointment")
        was_there = nomis_appointments.delete_appointment(services.nomis, event_id)
        context.step("delete mapping")
        MAPPINGS.delete(services.mapping, instance_id)
        context.forget_creation(CREATION.name, instance_id)
        if not was_there:
            context.track(NOMIS_MISSING, context.properties)
        return None


def _is_gone(instance_id: str, context: HandlerContext) -> bool:
    """Whether nothing is left to delete: DPS does not have the appointment, and its creation is not under way."""
    if context.creation_open(CREATION.name, instance_id):
        return False
    context.step("read appointment")
    return not appointments_api.appointment_exists(context.services[UpstreamName.APPOINTMENTS], int(instance_id))


def _read(event: DomainEvent, context: HandlerContext) -> AppointmentInstance:
    context.step("read appointment")
    return appointments_api.appointment(context.services[UpstreamName.APPOINTMENTS], int(CREATION.dps_id(event)))


def _mapped_event(event: DomainEvent, context: HandlerContext) -> int:
    context.step("look up mapping")
    return _event_id(MAPPINGS.get(context.services.mapping, CREATION.dps_id(event)), context)


def _event_id(mapping: Mapping[str, Any], context: HandlerContext) -> int:
    event_id = int(mapping["nomisEventId"])
    context.bind(nomisEventId=event_id)
    return event_id


UPDATES = (
    Update(
        event_type="appointments.appointment-instance.updated",
        entity=CREATION.entity,
        start=CREATION.start,
        apply=ignored_if_gone(_update, CREATION, _read, _AMEND_IGNORED),
        success="appointment-update-success",
        failed="appointment-update-failed",
        others=(_AMEND_IGNORED,),
    ),
    Update(
        event_type="appointments.appointment-instance.cancelled",
        entity=CREATION.entity,
        start=CREATION.start,
        apply=ignored_if_gone(_cancel, CREATION, _read, _CANCEL_IGNORED),
        success="appointment-cancel-success",
        failed="appointment-cancel-failed",
        others=(_CANCEL_IGNORED,),
        coalesce=Coalesce.NEVER,
    ),
    Update(
        event_type="appointments.appointment-instance.deleted",
        entity=CREATION.entity,
        start=CREATION.start,
        apply=_delete,
        success="appointment-delete-success",
        failed="appointment-delete-failed",
        others=(_DELETE_IGNORED, MAPPING_MISSING, NOMIS_MISSING),
        coalesce=Coalesce.NEVER,
    ),
)
