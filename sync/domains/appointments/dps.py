"""The activities API for appointments, used as a service with its own address and credentials.

Until September 2023, an attendee was called an allocation of an occurrence, and the fields with the times of changes
had other names. The program reads responses with the old names and with the new ones.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time
from typing import Annotated

from pydantic import AliasChoices, Field

from sync.errors import UpstreamError
from sync.settings.upstreams import UpstreamName
from sync.upstream.operation import ContractProbe, Operation, one, optional, rows
from sync.upstream.responses import Body, LocalDateTime, LocalTime, Response, Since
from sync.upstream.transport import ServiceClient


class _InstanceId(Response):
    id: int


@dataclass(frozen=True, slots=True)
class Attendee:
    """The appointment of one prisoner, from a search or a single read.

    id: the id of the appointment instance. cancelled: whether the appointment is cancelled, or None after a single
    read, which does not show this. changed_at: when the appointment was created, changed or cancelled, whichever came
    last, in London time, or None if the service does not say.
    """

    id: int
    booking_id: int
    prisoner_number: str | None
    prison_code: str | None
    category_code: str
    internal_location_id: int | None
    dps_location_id: str | None
    in_cell: bool
    appointment_date: date
    start_time: time
    end_time: time | None
    cancelled: bool | None
    changed_at: datetime | None


class AppointmentInstance(Response):
    """The appointment of one prisoner, who may be one of a group."""

    id: int
    booking_id: int
    prisoner_number: str | None = None
    prison_code: str | None = None
    category_code: str
    internal_location_id: int | None = None
    dps_location_id: Annotated[str | None, Since("2025-06")] = None
    in_cell: bool = False
    appointment_date: date
    start_time: LocalTime
    end_time: LocalTime | None = None
    created: LocalDateTime | None = Field(None, validation_alias=AliasChoices("createdTime", "created"))
    updated: LocalDateTime | None = Field(None, validation_alias=AliasChoices("updatedTime", "updated"))

    def attendee(self) -> Attendee:
        """The appointment as an `Attendee`; `cancelled` is None, since only a search shows cancellations."""
        return Attendee(
            self.id,
            self.booking_id,
            self.prisoner_number,
            self.prison_code,
            self.category_code,
            self.internal_location_id,
            self.dps_location_id,
            self.in_cell,
            self.appointment_date,
            self.start_time,
            self.end_time,
            None,
            self.updated or self.created,
        )


class _Person(Response):
    attendee_id: int = Field(validation_alias=AliasChoices("appointmentAttendeeId", "id"))
    prisoner_number: str
    booking_id: int


class _Category(Response):
    code: str


class _Location(Response):
    id: int | None = None
    dps_location_id: Annotated[str | None, Since("2025-06")] = None


class _Appointment(Response):
    prison_code: str
    people: tuple[_Person, ...] = Field(validation_alias=AliasChoices("attendees", "allocations"))
    category: _Category
    internal_location: _Location | None = None
    in_cell: bool
    start_date: date
    start_time: LocalTime
    end_time: LocalTime | None = None
    is_cancelled: bool
    is_deleted: Annotated[bool, Since("2023-09")] = False
    created_time: Annotated[LocalDateTime | None, Since("2023-09")] = None
    updated_time: Annotated[LocalDateTime | None, Since("2023-09")] = None
    cancelled_time: Annotated[LocalDateTime | None, Since("2023-09")] = None

    def attendees(self) -> Iterator[Attendee]:
        """An `Attendee` for each prisoner at the appointment."""
        times = (self.created_time, self.updated_time, self.cancelled_time)
        location = self.internal_location or _Location()
        for person in self.people:
            yield Attendee(
                person.attendee_id,
                person.booking_id,
                person.prisoner_number,
                self.prison_code,
                self.category.code,
                location.id,
                location.dps_location_id,
                self.in_cell,
                self.start_date,
                self.start_time,
                self.end_time,
                self.is_cancelled,
                max((each for each in times if each is not None), default=None),
            )


class _Search(Body):
    start_date: date
    end_date: date
    prisoner_numbers: tuple[str, ...] | None


_INSTANCE = "/appointment-instances/{appointmentInstanceId}"
APPOINTMENT = Operation(UpstreamName.APPOINTMENTS, "GET", _INSTANCE, one(AppointmentInstance))
PROBE = ContractProbe(APPOINTMENT, ("1",), record="appointment")
FIND_APPOINTMENT = Operation(UpstreamName.APPOINTMENTS, "GET", _INSTANCE, optional(AppointmentInstance))
_APPOINTMENT_EXISTS = Operation(UpstreamName.APPOINTMENTS, "GET", _INSTANCE, optional(_InstanceId))
_SEARCH = Operation(
    UpstreamName.APPOINTMENTS,
    "POST",
    "/appointments/{prisonCode}/search",
    rows(_Appointment),
    role="ACTIVITY_ADMIN",
    body=_Search,
    since="2023-09",
    may_lack_route=True,
)
_SEARCH_OCCURRENCES = Operation(
    UpstreamName.APPOINTMENTS,
    "POST",
    "/appointment-occurrences/{prisonCode}/search",
    rows(_Appointment),
    body=_Search,
    until="2023-09",
)


def appointment(appointments: ServiceClient, instance_id: int) -> AppointmentInstance:
    """The appointment instance `instance_id`. Raises `UpstreamError`, with status 404 for an unknown id."""
    return APPOINTMENT.call(appointments, instance_id, asked={"id": instance_id})


def find_appointment(appointments: ServiceClient, instance_id: int) -> AppointmentInstance | None:
    """The appointment instance `instance_id`, or None if it was deleted or never existed. Raises `UpstreamError`."""
    return FIND_APPOINTMENT.call(appointments, instance_id, asked={"id": instance_id})


def appointment_exists(appointments: ServiceClient, instance_id: int) -> bool:
    """Whether DPS still has the appointment instance `instance_id`. Raises `UpstreamError`."""
    return _APPOINTMENT_EXISTS.call(appointments, instance_id, asked={"id": instance_id}) is not None


def search_attendees(
    appointments: ServiceClient, prison_id: str, first: date, last: date, prisoner_numbers: Sequence[str] = ()
) -> list[Attendee]:
    """The attendees of a prison's appointments from `first` to `last`, except those of deleted appointments.

    prisoner_numbers: the prisoners to search for; if there are none, all prisoners are searched for.

    The service responds with 400 if `last` is a month or more after `first`, or if the prison does not yet use DPS for
    its appointments. Raises `UpstreamError`.
    """
    body = _Search(start_date=first, end_date=last, prisoner_numbers=tuple(prisoner_numbers) or None)
    try:
        found = _SEARCH.call(appointments, prison_id, body=body)
    except UpstreamError as error:
        if not error.no_route:
            raise
        # Until September 2023, an appointment was called an occurrence.
        found = _SEARCH_OCCURRENCES.call(appointments, prison_id, body=body)
    return [attendee for each in found if not each.is_deleted for attendee in each.attendees()]
