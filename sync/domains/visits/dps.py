"""visit-scheduler: the visits booked by prison staff and the public."""

from sync.upstream.responses import LocalDateTime, Response, parse_response
from sync.upstream.transport import ServiceClient, segment


class Visitor(Response):
    """A visitor by the number that NOMIS knows the person by."""

    nomis_person_id: int


class Visit(Response):
    """A visit; times are local to London."""

    reference: str
    prisoner_id: str
    prison_id: str
    visit_room: str
    visit_type: str
    visit_restriction: str
    outcome_status: str | None = None
    start_timestamp: LocalDateTime
    end_timestamp: LocalDateTime
    visitors: tuple[Visitor, ...] = ()


def visit(visits: ServiceClient, reference: str) -> Visit:
    """One visit. Raises `UpstreamError`, with status 404 for an unknown reference."""
    path = f"/visits/{segment(reference)}"
    return parse_response(Visit, visits.call("GET", path), visits, "GET", path, asked={"reference": reference})
