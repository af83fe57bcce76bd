"""The visit-scheduler service: social visits booked by prison staff or the public."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, Final, TypeVar

from sandbox.clock import london_now
from sandbox.http.paging import page
from sandbox.http.serving import Refused, Reply, Request, Route

if TYPE_CHECKING:
    from sandbox.world import World

Moment = TypeVar("Moment", date, datetime)

ROLE: Final = "VISIT_SCHEDULER"
MOCK_PRISONER: Final = "A7948DY"
#: The months in which the search's current parameters, visits' sub-status and prisons' user types were added.
DATES_SINCE: Final = "2024-02"
SUB_STATUS_SINCE: Final = "2025-01"
USER_TYPES_SINCE: Final = "2025-01"
STATUSES_THEN: Final = frozenset({"RESERVED", "CHANGING", "BOOKED", "CANCELLED"})
STATUSES_NOW: Final = frozenset({"BOOKED", "CANCELLED"})
USER_TYPES: Final = ("STAFF", "PUBLIC", "SYSTEM", "PRISONER")
#: Of every ten prisons, one takes no bookings from staff, and another takes none from the public.
WITHOUT_A_TYPE: Final = 10


@dataclass(slots=True)
class BookedVisit:
    """One visit as visit-scheduler holds it; times are local.

    `modified` is None for a visit that has never been changed.
    """

    reference: str
    prisoner_id: str
    prison_id: str
    room: str
    start: datetime
    end: datetime
    person_ids: list[int]
    visit_type: str = "SOCIAL"
    status: str = "BOOKED"
    restriction: str = "OPEN"
    outcome: str | None = None
    sub_status: str = "AUTO_APPROVED"
    created: datetime = field(default_factory=london_now)
    modified: datetime | None = None


@dataclass(slots=True)
class VisitScheduler:
    """The visits of visit-scheduler, by reference.

    If `mock_prison_id` is set, `find` returns a canned visit for every unknown reference: a visit at that prison, by
    the people with the ids in `mock_person_ids`.
    """

    visits: dict[str, BookedVisit] = field(default_factory=dict)
    mock_prison_id: str | None = None
    mock_person_ids: tuple[int, ...] = ()

    def find(self, reference: str) -> BookedVisit | None:
        """The visit with this reference.

        If there is none: a canned visit if `mock_prison_id` is set, otherwise None.
        """
        found = self.visits.get(reference)
        if found is None and self.mock_prison_id is not None:
            now = london_now().replace(microsecond=0)
            return BookedVisit(
                reference=reference,
                prisoner_id=MOCK_PRISONER,
                prison_id=self.mock_prison_id,
                room="Visits Main Hall",
                start=now,
                end=now + timedelta(hours=1),
                person_ids=list(self.mock_person_ids),
            )
        return found


def routes(world: World) -> list[Route]:
    """The endpoints of visit-scheduler that the program uses."""

    def get(request: Request, reference: str) -> Reply:
        visit = world.visits.find(reference)
        if visit is None:
            raise Refused(404, f"Visit not found: {reference}")
        return Reply(body=_view(world, visit))

    def search(request: Request) -> Reply:
        found = _found(world, request)

        def view(start: int, end: int) -> list[object]:
            return [_view(world, each) for each in found[start:end]]

        return page(request, found, view, largest=None)

    def supported(request: Request) -> Reply:
        return Reply(body=sorted({*prisons_for(world, "STAFF"), *prisons_for(world, "PUBLIC")}))

    def supported_for(request: Request, user_type: str) -> Reply:
        if user_type not in USER_TYPES:
            raise Refused(400, f"Validation failure: userType must be one of {', '.join(USER_TYPES)}")
        return Reply(body=prisons_for(world, user_type))

    return [
        Route("GET", "/visits/search", search, ROLE),
        Route("GET", "/visits/{reference}", get, ROLE),
        Route("GET", "/config/prisons/supported", supported, ROLE, until=USER_TYPES_SINCE),
        Route("GET", "/config/prisons/user-type/{user_type}/supported", supported_for, ROLE, since=USER_TYPES_SINCE),
    ]


def prisons_for(world: World, user_type: str) -> list[str]:
    """The open prisons at which users of one type can book.

    Some prisons take no bookings from staff, and others take none from the public. No prison takes any from other
    types of user.
    """
    left_out = {"STAFF": 0, "PUBLIC": 1}.get(user_type)
    if left_out is None:
        return []
    places = sorted(prison.code for prison in world.prisons.values() if prison.open)
    return [code for place, code in enumerate(places) if place % WITHOUT_A_TYPE != left_out]


def _found(world: World, request: Request) -> list[BookedVisit]:
    """The visits that match the query, latest first.

    Parameters that the service does not have in the world's generation are ignored.
    """
    for name in ("page", "size"):
        if not (request.first(name) or "").isdecimal():
            raise Refused(400, 'Validation failure: Parameter conditions "page, size" not met for actual request')
    prison_id, prisoner_id = request.first("prisonId"), request.first("prisonerId")
    if not prison_id and not prisoner_id:
        raise Refused(400, "Validation failure: Must have either prisonId or prisonerId")
    statuses = _statuses(world, request)
    today = world.options.month >= DATES_SINCE
    earliest, before = _days(request) if today else _times(request)
    visitor = None if today else request.first("visitorId")
    if visitor and not visitor.isdecimal():
        raise Refused(400, f"Validation failure: Failed to convert value '{visitor}' to type long")
    left_out = None if today else "SUPERSEDED_CANCELLATION"
    found = [
        visit
        for visit in reversed(world.visits.visits.values())
        if visit.status in statuses
        and (not prison_id or visit.prison_id == prison_id)
        and (not prisoner_id or visit.prisoner_id == prisoner_id)
        and (earliest is None or visit.start >= earliest)
        and (before is None or visit.start < before)
        and (not visitor or int(visitor) in visit.person_ids)
        and (left_out is None or visit.outcome != left_out)
    ]
    return sorted(found, key=lambda visit: visit.start, reverse=True)


def _statuses(world: World, request: Request) -> set[str]:
    given = {status for text in request.query.get("visitStatus", []) for status in text.split(",")}
    if not given:
        raise Refused(400, "Validation failure: Required request parameter 'visitStatus' is not present")
    unknown = given - (STATUSES_NOW if world.options.month >= SUB_STATUS_SINCE else STATUSES_THEN)
    if unknown:
        raise Refused(400, f"Validation failure: visitStatus: no such value {', '.join(sorted(unknown))}")
    return given


def _days(request: Request) -> tuple[datetime | None, datetime | None]:
    first, last = (_read(request, name, date) for name in ("visitStartDate", "visitEndDate"))
    midnight = datetime.min.time()
    return (
        None if first is None else datetime.combine(first, midnight),
        None if last is None else datetime.combine(last + timedelta(days=1), midnight),
    )


def _times(request: Request) -> tuple[datetime | None, datetime | None]:
    start, end = (_read(request, name, datetime) for name in ("startDateTime", "endDateTime"))
    return start, end


def _read(request: Request, name: str, kind: type[Moment]) -> Moment | None:
    text = request.first(name)
    if not text:
        return None
    try:
        if ("T" in text) is (kind is datetime):
            return kind.fromisoformat(text)
    except ValueError:
        pass
    raise Refused(400, f"Validation failure: {name}: '{text}' is not a valid {kind.__name__} in ISO form")


def _view(world: World, visit: BookedVisit) -> dict[str, object]:
    body: dict[str, object] = {
        "reference": visit.reference,
        "applicationReference": visit.reference[::-1],
        "prisonerId": visit.prisoner_id,
        "prisonId": visit.prison_id,
        "visitRoom": visit.room,
        "visitType": visit.visit_type,
        "visitStatus": visit.status,
        "outcomeStatus": visit.outcome,
        "visitRestriction": visit.restriction,
        "startTimestamp": visit.start.isoformat(timespec="seconds"),
        "endTimestamp": visit.end.isoformat(timespec="seconds"),
        "visitNotes": [],
        "visitContact": {"name": "A Contact", "telephone": "01234 567890"},
        "visitors": [
            {"nomisPersonId": person_id, "visitContact": place == 0} for place, person_id in enumerate(visit.person_ids)
        ],
        "visitorSupport": [],
        "createdTimestamp": visit.created.isoformat(),
        "modifiedTimestamp": (visit.modified or visit.created).isoformat(),
    }
    if world.options.month >= SUB_STATUS_SINCE:
        body |= {
            "sessionTemplateReference": f"-{visit.reference[:11]}",
            "visitSubStatus": "CANCELLED" if visit.status == "CANCELLED" else visit.sub_status,
            "visitorSupport": {"description": ""},
            "userType": "STAFF",
            "firstBookedDateTime": visit.created.isoformat(),
            "visitExternalSystemDetails": None,
        }
    return body
