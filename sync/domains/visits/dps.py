"""visit-scheduler: the visits booked by prison staff and the public."""

from collections.abc import Mapping
from datetime import date, timedelta
from typing import Any

from sync.failures import NotUnderstood, UpstreamError
from sync.settings.upstreams import UpstreamName
from sync.upstream.operation import ContractProbe, Operation, one, optional, paged, unparsed
from sync.upstream.responses import LocalDateTime, Page, Response
from sync.upstream.transport import ServiceClient


class Visitor(Response):
    """A visitor, by the person's number in NOMIS."""

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
    """One visit. Raises `UpstreamError`, with status 404 for an unknown reference."""
    return VISIT.call(visits, reference, asked={"reference": reference})


def find_visit(visits: ServiceClient, reference: str) -> BookedVisit | None:
    """A visit, or None if there is none."""
    return BOOKED_VISIT.call(visits, reference, asked={"reference": reference})


def visits_page(
    visits: ServiceClient, whose: Mapping[str, str], days: tuple[date, date], number: int, size: int
) -> Page:
    """Page `number` (from 0) of the visits on the days from the first to the last, both included, the latest first.

    whose: the `prisonId` or the `prisonerId`. The content is as it came, and may hold visits of other days: a service
    ignores parameters that it does not know. The parameters for the days have had other names since February 2024, so
    both are sent.
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
    """An element of a page. Raises `UpstreamError`."""
    return SEARCH.parse(visits, element)


def supported_prisons(visits: ServiceClient) -> tuple[str, ...]:
    """The prisons in which visits can be booked, by staff or by the public."""
    try:
        listed = [_prisons(visits, _PRISONS_OF_USERS, user_type) for user_type in ("STAFF", "PUBLIC")]
    except UpstreamError as error:
        # The second is all that Spring said about an unknown path in 2023. A gateway says neither.
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
