"""NOMIS: the calls for appointments."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import date
from typing import Annotated, Any

from sync.errors import UpstreamError
from sync.settings.upstreams import UpstreamName
from sync.upstream.operation import EMPTY, Operation, paged, unparsed, written
from sync.upstream.responses import Body, LocalDateTime, RecordNumber, Response, Since, parse_list, parse_response
from sync.upstream.transport import Refusal, ServiceClient


class UpdateAppointment(Body):
    """The parts of an appointment that may change; times are `HH:mm`."""

    internal_location_id: int | None
    event_date: date
    start_time: str
    end_time: str
    event_sub_type: str


class CreateAppointment(UpdateAppointment):
    """The body of the request that creates an appointment for a booking."""

    booking_id: int


class AppointmentCreated(Response):
    """The id of a new appointment."""

    event_id: RecordNumber


class NomisAppointment(Response):
    """An appointment in NOMIS; times are in London time. Versions of NOMIS before 2024 do not return `event_id`."""

    event_id: Annotated[RecordNumber | None, Since("2024-01")] = None
    booking_id: int
    offender_no: str | None = None
    prison_id: str | None = None
    internal_location: int | None = None
    start_date_time: LocalDateTime | None = None
    end_date_time: LocalDateTime | None = None
    subtype: str
    status: str | None = None
    created_date: LocalDateTime
    modified_date: LocalDateTime | None = None


@dataclass(frozen=True, slots=True)
class EventIdPage:
    """One page of event ids. `total` is the current number of ids on all pages, and `pages` the number of pages."""

    ids: tuple[int, ...]
    total: int
    pages: int


class _EventId(Response):
    event_id: RecordNumber


_ROLE = "NOMIS_APPOINTMENTS"
CREATE_APPOINTMENT = Operation(
    UpstreamName.NOMIS, "POST", "/appointments", written(AppointmentCreated), role=_ROLE, body=CreateAppointment
)
# Without a location, there is no look-up (see `appointments_at`).
_CREATE_IN_CELL = replace(CREATE_APPOINTMENT, no_look_up=True)
UPDATE_APPOINTMENT = Operation(
    UpstreamName.NOMIS, "PUT", "/appointments/{nomisEventId}", EMPTY, role=_ROLE, body=UpdateAppointment
)
CANCEL_APPOINTMENT = Operation(UpstreamName.NOMIS, "PUT", "/appointments/{nomisEventId}/cancel", EMPTY, role=_ROLE)
DELETE_APPOINTMENT = Operation(UpstreamName.NOMIS, "DELETE", "/appointments/{nomisEventId}", EMPTY, role=_ROLE)
APPOINTMENTS_AT = Operation(
    UpstreamName.NOMIS,
    "GET",
    "/appointments/booking/{bookingId}/location/{locationId}/start/{dateTime}",
    unparsed(NomisAppointment, none_on_404=True, or_list=True),
    role=_ROLE,
)
APPOINTMENT = Operation(
    UpstreamName.NOMIS, "GET", "/appointments/{eventId}", unparsed(NomisAppointment, none_on_404=True), role=_ROLE
)
EVENT_IDS = Operation(
    UpstreamName.NOMIS,
    "GET",
    "/appointments/ids",
    paged(_EventId),
    role=_ROLE,
    query=("fromDate", "toDate"),
    optional_query=("prisonIds",),
)


def create_appointment(nomis: ServiceClient, body: Mapping[str, Any]) -> int:
    """Creates an appointment and returns its id. A repeated call creates another appointment.

    `body` is a `CreateAppointment` as JSON.
    """
    refusal = _refusal(body.get("internalLocationId"))
    operation = CREATE_APPOINTMENT if refusal is None else _CREATE_IN_CELL
    return operation.call(nomis, body=body, refusal=refusal).event_id


def update_appointment(nomis: ServiceClient, event_id: int, body: UpdateAppointment) -> None:
    """Changes an appointment. Raises `UpstreamError`."""
    refusal = _refusal(body.internal_location_id)
    UPDATE_APPOINTMENT.call(nomis, event_id, body=body, refusal=refusal)


def cancel_appointment(nomis: ServiceClient, event_id: int) -> None:
    """Cancels an appointment; a repeated call does nothing. Raises `UpstreamError`."""
    CANCEL_APPOINTMENT.call(nomis, event_id)


def delete_appointment(nomis: ServiceClient, event_id: int) -> bool:
    """Deletes an appointment. Returns whether NOMIS had it. Raises `UpstreamError`."""
    try:
        DELETE_APPOINTMENT.call(nomis, event_id)
    except UpstreamError as error:
        if not error.absent:
            raise
        return False
    return True


def appointments_at(
    nomis: ServiceClient, booking_id: int, location_id: int, start: str
) -> tuple[NomisAppointment, ...]:
    """The appointments of a booking that are at a location and start at `start` (`yyyy-MM-dd'T'HH:mm:ss`).

    Versions of NOMIS before January 2026 respond with a single appointment. They respond with 404 if there is none, and
    with 500 if there are several.
    """
    path = APPOINTMENTS_AT.path_of(booking_id, location_id, start)
    response = APPOINTMENTS_AT.call(nomis, booking_id, location_id, start)
    if isinstance(response, list):
        return parse_list(NomisAppointment, response, nomis, "GET", path)
    asked = {"bookingId": booking_id, "internalLocation": location_id}
    return () if response is None else (parse_response(NomisAppointment, response, nomis, "GET", path, asked=asked),)


def find_appointment(nomis: ServiceClient, event_id: int) -> NomisAppointment | None:
    """The appointment with the id `event_id`, or None if NOMIS does not have it. Raises `UpstreamError`."""
    response = APPOINTMENT.call(nomis, event_id)
    if response is None:
        return None
    says_its_id = isinstance(response, dict) and response.get("eventId") is not None
    asked = {"eventId": event_id} if says_its_id else None
    path = APPOINTMENT.path_of(event_id)
    return parse_response(NomisAppointment, response, nomis, "GET", path, asked=asked)


def appointment_ids(nomis: ServiceClient, prison_id: str | None, event_date: str) -> Iterator[int]:
    """The ids of the appointments on `event_date` (`yyyy-MM-dd`) at a prison, or at all if `prison_id` is None."""
    query = {"prisonIds": prison_id, "fromDate": event_date, "toDate": event_date}
    return (each.event_id for each in EVENT_IDS.pages(nomis, query=query))


def event_id_page(nomis: ServiceClient, prison_id: str, days: tuple[date, date], number: int, size: int) -> EventIdPage:
    """Page `number` (from 0) of the ids of a prison's appointments, including cancelled ones.

    days: the first and the last day of the period. size: the maximum number of ids on a page.
    """
    query = {"prisonIds": prison_id, "fromDate": days[0].isoformat(), "toDate": days[1].isoformat()}
    page = EVENT_IDS.page(nomis, query=query, number=number, size=size)
    ids = (EVENT_IDS.parse(nomis, each).event_id for each in page.content)
    return EventIdPage(tuple(ids), page.total_elements, page.total_pages)


def _refusal(location_id: int | None) -> Refusal | None:
    """The refusal with which NOMIS responds to a request without a location; None if there is a location."""
    if location_id is not None:
        return None
    return Refusal(
        "given id must not be null", "NOMIS accepts no appointment without a location, such as one in a cell"
    )
