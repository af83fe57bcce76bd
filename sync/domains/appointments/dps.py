"""The activities API, for appointments: a service with an address and credentials of its own."""

from datetime import date

from sync.upstream.responses import LocalTime, Response, parse_response
from sync.upstream.transport import ServiceClient


class _InstanceId(Response):
    id: int


class AppointmentInstance(Response):
    """One prisoner's appointment."""

    id: int
    booking_id: int
    prison_code: str | None = None
    category_code: str
    internal_location_id: int | None = None
    in_cell: bool = False
    appointment_date: date
    start_time: LocalTime
    end_time: LocalTime | None = None


def appointment(appointments: ServiceClient, instance_id: int) -> AppointmentInstance:
    """One appointment instance."""
    path = f"/appointment-instances/{instance_id}"
    response, asked = appointments.call("GET", path), {"id": instance_id}
    return parse_response(AppointmentInstance, response, appointments, "GET", path, asked=asked)


def appointment_exists(appointments: ServiceClient, instance_id: int) -> bool:
    """Whether the appointment instance is still there."""
    path = f"/appointment-instances/{instance_id}"
    response, asked = appointments.call("GET", path, none_on_404=True), {"id": instance_id}
    if response is None:
        return False
    parse_response(_InstanceId, response, appointments, "GET", path, asked=asked)
    return True
