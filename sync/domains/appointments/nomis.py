"""NOMIS: appointments."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

from sync.failures import UpstreamError
from sync.upstream.responses import (
    Body,
    LocalDateTime,
    RecordNumber,
    Response,
    parse_list,
    parse_response,
    read_page,
    read_pages,
)
from sync.upstream.transport import Refusal, ServiceClient


class UpdateAppointment(Body):
    """An appointment without its booking; times are `HH:mm`."""

    internal_location_id: int | None
    event_date: date
    start_time: str
    end_time: str
    event_sub_type: str


class CreateAppointment(UpdateAppointment):
    """A new appointment."""

    booking_id: int


class AppointmentCreated(Response):
    """The id of a new appointment."""

    event_id: RecordNumber


class NomisAppointment(Response):
    """An appointment as NOMIS holds it; times are local to London. NOMIS of 2023 does not repeat the `event_id`."""

    event_id: RecordNumber | None = None
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
    """One page of event ids; `total` counts the ids of all `pages` as of now."""

    ids: tuple[int, ...]
    total: int
    pages: int


class _EventId(Response):
    event_id: RecordNumber


def create_appointment(nomis: ServiceClient, body: Mapping[str, Any]) -> int:
    """Creates an appointment and returns its id; repeating creates another. `body` is a `CreateAppointment` as JSON."""
    path = "/appointments"
    refusal = _refusal(body.get("internalLocationId"))
    # Without a location there is no look-up (see `appointments_at`).
    response = nomis.call("POST", path, body=body, refusal=refusal, no_look_up=refusal is not None)
    return parse_response(AppointmentCreated, response, nomis, "POST", path, writes=True).event_id


def update_appointment(nomis: ServiceClient, event_id: int, body: UpdateAppointment) -> None:
    """Changes an appointment."""
    refusal = _refusal(body.internal_location_id)
    nomis.call("PUT", f"/appointments/{event_id}", body=body.as_json(), refusal=refusal)


def cancel_appointment(nomis: ServiceClient, event_id: int) -> None:
    """Cancels an appointment; repeating does nothing."""
    nomis.call("PUT", f"/appointments/{event_id}/cancel")


def delete_appointment(nomis: ServiceClient, event_id: int) -> bool:
    """Deletes an appointment; False if there was none."""
    try:
        nomis.call("DELETE", f"/appointments/{event_id}")
    except UpstreamError as error:
        if not error.absent:
            raise
        return False
    return True


def appointments_at(
    nomis: ServiceClient, booking_id: int, location_id: int, start: str
) -> tuple[NomisAppointment, ...]:
    """The appointments of a booking in a location at `start` (`yyyy-MM-dd'T'HH:mm:ss`).

    Until January 2026 NOMIS responds with a single appointment: 404 if there is none, and 500 if there are several.
    """
    path = f"/appointments/booking/{booking_id}/location/{location_id}/start/{start}"
    response = nomis.call("GET", path, none_on_404=True)
    if isinstance(response, list):
        return parse_list(NomisAppointment, response, nomis, "GET", path)
    asked = {"bookingId": booking_id, "internalLocation": location_id}
    return () if response is None else (parse_response(NomisAppointment, response, nomis, "GET", path, asked=asked),)


def find_appointment(nomis: ServiceClient, event_id: int) -> NomisAppointment | None:
    """An appointment, None if there is none."""
    path = f"/appointments/{event_id}"
    response = nomis.call("GET", path, none_on_404=True)
    if response is None:
        return None
    says_its_id = isinstance(response, dict) and response.get("eventId") is not None
    asked = {"eventId": event_id} if says_its_id else None
    return parse_response(NomisAppointment, response, nomis, "GET", path, asked=asked)


def appointment_ids(nomis: ServiceClient, prison_id: str | None, event_date: str) -> Iterator[int]:
    """The ids of the appointments of a day, of one prison if it is given."""
    path = "/appointments/ids"
    query = {"prisonIds": prison_id, "fromDate": event_date, "toDate": event_date}
    for each in read_pages(nomis, path, query):
        yield parse_response(_EventId, each, nomis, "GET", path).event_id


def event_id_page(nomis: ServiceClient, prison_id: str, days: tuple[date, date], number: int, size: int) -> EventIdPage:
    """Page `number` (from 0) of the event ids of a prison, from the first to the last of `days`, cancelled ones too."""
    path = "/appointments/ids"
    query = {"prisonIds": prison_id, "fromDate": days[0].isoformat(), "toDate": days[1].isoformat()}
    page = read_page(nomis, path, query, number, size)
    ids = (parse_response(_EventId, each, nomis, "GET", path).event_id for each in page.content)
    return EventIdPage(tuple(ids), page.total_elements, page.total_pages)


def _refusal(location_id: int | None) -> Refusal | None:
    """How NOMIS refuses every appointment without a location; None with one."""
    if location_id is not None:
        return None
    return Refusal("given id must not be null", "NOMIS takes no appointment without a location, as in a cell")
