"""visit-scheduler: the visits that prison staff and the public have booked."""

from collections.abc import Mapping
from datetime import date, timedelta
from typing import Any

from sync.errors import NotUnderstood, UpstreamError
from sync.settings.upstreams import UpstreamName
from sync.upstream.operation import ContractProbe, Operation, one, optional, paged, unparsed
from sync.upstream.responses import LocalDateTime, Page, Response
from sync.upstream.transport import ServiceClient


class Visitor(Response):
    """A visitor, identified by their person number in NOMIS."""

    nomis_person_id: int


class Visit(Response):
    """A visit in visit-scheduler; times are in London time."""

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
    """A visit with further fields: its status (such as `BOOKED`), and when it was created and last changed."""

    visit_status: str
    created_timestamp: LocalDateTime | None = None
    modified_timestamp: LocalDateTime | None = None


_ROLE = "VISIT_SCHEDULER"
VISIT = Operation(UpstreamName.VISITS, "GET", "/visits/{reference}", one(Visit), role=_ROLE)
PROBE = ContractProbe(VISIT, ("contract-probe",), record="visit")
BOOKED_VISIT = Operation(UpstreamName.VISITS, "GET", "/visits/{reference}", optional(BookedVisit), role=_ROLE)
SEARCH = Operation(
    UpstreamName.VISITS,
    "GET",
    "/visits/search",
    paged(BookedVisit),
    role=_ROLE,
    query=("visitStatus",),
    optional_query=("prisonId", "prisonerId"),
    renamed_query={"startDateTime": "visitStartDate", "endDateTime": "visitEndDate"},
)
_PRISONS_OF_USERS = Operation(
    UpstreamName.VISITS,
    "GET",
    "/config/prisons/user-type/{type}/supported",
    unparsed(str, "list"),
    role=_ROLE,
    since="2025-01",
    may_lack_route=True,
)
_PRISONS = Operation(
    UpstreamName.VISITS,
    "GET",
    "/config/prisons/supported",
    unparsed(str, "list"),
    role=_ROLE,
    until="2025-01",
    may_lack_route=True,
)


def visit(visits: ServiceClient, reference: str) -> Visit:
    """The visit with the reference `reference`. Raises `UpstreamError`, with status 404 for an unknown reference."""
    return VISIT.call(visits, reference, asked={"reference": reference})


def find_visit(visits: ServiceClient, reference: str) -> BookedVisit | None:
    """The visit with the reference `reference`, or None if there is no such visit. Raises `UpstreamError`."""
    return BOOKED_VISIT.call(visits, reference, asked={"reference": reference})


def visits_page(
    visits: ServiceClient, whose: Mapping[str, str], days: tuple[date, date], number: int, size: int
) -> Page:
    """Page `number` (from 0) of the visits from the first to the last of `days` (inclusive), latest first.

    whose: the query parameter `prisonId` or `prisonerId`, with its value. The records on the page are not checked, and
    some may be visits on other days, since the service ignores parameters that it does not know. The parameters for the
    days were renamed in February 2024, so the program sends the days under both the old and the new names.
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
    return SEARCH.page(visits, query=query, number=number, size=size)


def parse_booked_visit(visits: ServiceClient, element: object) -> BookedVisit:
    """Parses an element of a page as a visit. Raises `UpstreamError`."""
    return SEARCH.parse(visits, element)


def supported_prisons(visits: ServiceClient) -> tuple[str, ...]:
    """The ids of the prisons for which staff or the public can book visits."""
    try:
        listed = [_prisons(visits, _PRISONS_OF_USERS, user_type) for user_type in ("STAFF", "PUBLIC")]
    except UpstreamError as error:
        # In 2023, the framework Spring responded to an unknown path with no more than "Not Found". A gateway sends
        # neither this nor a `no_route` error.
        if not (error.no_route or (error.status == 404 and error.message == "Not Found")):
            raise
        # An older service has one list for everyone.
        listed = [_prisons(visits, _PRISONS)]
    return tuple(sorted(set().union(*listed)))


def _prisons(visits: ServiceClient, operation: Operation[Any], *ids: str) -> frozenset[str]:
    response = operation.call(visits, *ids)
    if not isinstance(response, list) or not all(isinstance(each, str) and each for each in response):
        message = "the response is not a list of prisons"
        raise NotUnderstood(visits.name, "GET", operation.path_of(*ids), status=200, message=message)
    return frozenset(response)
