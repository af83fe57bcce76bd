"""visit-scheduler: the visits booked by prison staff and the public."""

from sync.upstream.bodies import Answer, LocalDateTime, read_answer
from sync.upstream.transport import ServiceClient, segment


class Visitor(Answer):
    """A visitor by the number that NOMIS knows the person by."""

    nomis_person_id: int


class Visit(Answer):
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
    return read_answer(Visit, visits.call("GET", path), visits, "GET", path, asked={"reference": reference})
