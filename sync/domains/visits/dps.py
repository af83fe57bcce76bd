"""visit-scheduler: the visits booked by prison staff and the public."""

from collections.abc import Mapping
from datetime import date, timedelta

from sync.failures import NotUnderstood, UpstreamError
from sync.upstream.responses import LocalDateTime, Page, Response, parse_response, read_page
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


class BookedVisit(Visit):
    """A visit with what is compared as well: its status, `BOOKED` or `CANCELLED`, and when it last changed."""

    visit_status: str
    created_timestamp: LocalDateTime | None = None
    modified_timestamp: LocalDateTime | None = None


def visit(visits: ServiceClient, reference: str) -> Visit:
    """One visit. Raises `UpstreamError`, with status 404 for an unknown reference."""
    path = f"/visits/{segment(reference)}"
    return parse_response(Visit, visits.call("GET", path), visits, "GET", path, asked={"reference": reference})


def find_visit(visits: ServiceClient, reference: str) -> BookedVisit | None:
    """A visit, None if there is none."""
    path = f"/visits/{segment(reference)}"
    response = visits.call("GET", path, none_on_404=True)
    asked = {"reference": reference}
    return None if response is None else parse_response(BookedVisit, response, visits, "GET", path, asked=asked)


def visits_page(
    visits: ServiceClient, whose: Mapping[str, str], days: tuple[date, date], number: int, size: int
) -> Page:
    """Page `number` (from 0) of the visits on the days from the first to the last, both included, the latest first.

    whose: the `prisonId` or the `prisonerId`. The content is as it came, and may hold visits of other days: a service
    ignores parameters that it does not know, and those of the days have other names since February 2024, so that both
    are sent.
    """
    first, last = days
    query = {
        **whose,
        "visitStatus": ("BOOKED", "CANCELLED"),
        "visitStartDate": first.isoformat(),
        "visitEndDate": last.isoformat(),
        "startDateTime": f"{first.isoformat()}T00:00:00",
        "endDateTime": f"{(last + timedelta(days=1)).isoformat()}T00:00:00",
    }
    return read_page(visits, "/visits/search", query, number, size)


def parse_booked_visit(visits: ServiceClient, element: object) -> BookedVisit:
    """An element of a page. Raises `UpstreamError`."""
    return parse_response(BookedVisit, element, visits, "GET", "/visits/search")


def supported_prisons(visits: ServiceClient) -> tuple[str, ...]:
    """The prisons in which visits can be booked, by staff or by the public."""
    try:
        paths = [f"/config/prisons/user-type/{user_type}/supported" for user_type in ("STAFF", "PUBLIC")]
        listed = [_prisons(visits, path) for path in paths]
    except UpstreamError as error:
        # The second is all that Spring said of an unknown path in 2023. A gateway says neither.
        if not (error.no_route or (error.status == 404 and error.message == "Not Found")):
            raise
        # An older service has one list for everyone.
        listed = [_prisons(visits, "/config/prisons/supported")]
    return tuple(sorted(set().union(*listed)))


def _prisons(visits: ServiceClient, path: str) -> frozenset[str]:
    response = visits.call("GET", path, may_lack_route=True)
    if not isinstance(response, list) or not all(isinstance(each, str) and each for each in response):
        raise NotUnderstood(visits.name, "GET", path, status=200, message="the response is not a list of prisons")
    return frozenset(response)
