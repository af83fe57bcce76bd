"""Visits in NOMIS, with their visitors, visit orders, balances and rooms.

NOMIS does not check for an identical visit: two identical posts make two visits.
"""

from __future__ import annotations

import copy
import itertools
import re
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, Final

from sandbox.clock import london_now
from sandbox.hmpps.auth import NOMIS_SYNCHRONISATION
from sandbox.http.paging import page
from sandbox.http.serving import Refused, Reply, Request, Route
from sandbox.nomis.bodies import (
    VISIT_OUTCOMES,
    VISIT_STATUSES,
    VISIT_TYPES,
    Fields,
    bad_request,
    not_found,
    path_number,
)

if TYPE_CHECKING:
    from sandbox.world import World

ROLE: Final = "NOMIS_VISITS"
DEFAULT_COMMENT: Final = "Created by VSIP"
ORDER_DAYS: Final = 28
USER: Final = "PRISONER_TO_NOMIS_API"
#: From this month on, NOMIS has one room for all open visits booked at a prison, and one for all closed visits,
#: whatever room the request names.
ONE_ROOM_SINCE: Final = "2025-01"
BALANCE_SINCE: Final = "2025-04"
_OFFENDER_NO: Final = re.compile(r"[A-Z]\d{4}[A-Z]{2}")
_ROOM_WORDS: Final = re.compile(r"\b(VISITS?|ROOM)\b")


@dataclass(slots=True)
class Order:
    """A visit order issued for a visit; `kind` is `VO`, or `PVO` for a privileged visit order."""

    id: int
    booking_id: int
    kind: str
    status: str
    issued: date
    expires: date
    comment: str
    lead_person_id: int | None


@dataclass(slots=True)
class Adjustment:
    """A change to a visit balance: the kind of visit order, the number of orders, the day and the reason.

    The number is negative if orders were taken from the balance.
    """

    booking_id: int
    kind: str
    change: int
    day: date
    reason: str


@dataclass(slots=True)
class Visit:
    """One visit as NOMIS holds it; times are local. An empty `room` or `comment` means that the visit has none."""

    id: int
    offender_no: str
    booking_id: int
    prison_id: str
    start: datetime
    end: datetime
    person_ids: list[int]
    visit_type: str
    room: str
    comment: str
    created: datetime
    status: str = "SCH"
    outcome: str | None = None
    order: Order | None = None
    updated: datetime | None = None
    absent: dict[int, str] = field(default_factory=dict)
    made_by: str = USER
    changed_by: str = USER


class NomisVisits:
    """All visits, orders, balance adjustments, rooms and time slots in NOMIS.

    `planted` holds the ids of the visits that `sandbox.planted.visits` made.
    """

    def __init__(self) -> None:
        """Starts without visits."""
        self.visits: dict[int, Visit] = {}
        self.planted: set[int] = set()
        self.adjustments: list[Adjustment] = []
        self.rooms: set[str] = set()
        self.slots: set[tuple[str, str, int, str]] = set()
        self._visit_ids = itertools.count(8_811_001)
        self._order_ids = itertools.count(5_120_001)

    def next_visit_id(self) -> int:
        """Returns an id that no visit has had before."""
        return next(self._visit_ids)

    def next_order_id(self) -> int:
        """Returns an id that no visit order has had before."""
        return next(self._order_ids)


def plant_duplicate(world: World, visit_id: int) -> int:
    """Adds a copy of a visit, as another installation would have booked it; returns the id of the copy."""
    held = world.nomis_visits
    second = copy.deepcopy(held.visits[visit_id])
    second.id = held.next_visit_id()
    held.visits[second.id] = second
    return second.id


def routes(world: World) -> list[Route]:
    """Returns the NOMIS endpoints for visits and visit balances, each with the role that it requires."""

    def create(request: Request, offender_no: str) -> Reply:
        _check_offender_no(offender_no)
        return Reply(body={"visitId": create_visit(world, offender_no, Fields.of(request)).id}, status=201)

    def update(request: Request, offender_no: str, visit_id: str) -> Reply:
        _check_offender_no(offender_no)
        update_visit(world, offender_no, path_number(visit_id, "visitId"), Fields.of(request))
        return Reply()

    def cancel(request: Request, offender_no: str, visit_id: str) -> Reply:
        _check_offender_no(offender_no)
        cancel_visit(world, offender_no, path_number(visit_id, "visitId"), Fields.of(request))
        return Reply()

    def get(request: Request, visit_id: str) -> Reply:
        return Reply(body=_view(_visit(world, path_number(visit_id, "visitId"))))

    def balance(request: Request, offender_no: str) -> Reply:
        prisoner = world.by_offender.get(offender_no)
        if prisoner is None:
            raise not_found(f"Prisoner {offender_no} not found")
        held = world.places.balance(prisoner.booking_id)
        if held is None:
            return Reply()
        return Reply(body={"remainingVisitOrders": held.ordinary, "remainingPrivilegedVisitOrders": held.privileged})

    def ids(request: Request) -> Reply:
        found = _listed(world, request)
        return page(request, found, lambda start, end: [{"visitId": visit.id} for visit in found[start:end]])

    return [
        Route("POST", "/prisoners/{offender_no}/visits", create, ROLE, writes=True),
        Route("PUT", "/prisoners/{offender_no}/visits/{visit_id}", update, ROLE, writes=True),
        Route("PUT", "/prisoners/{offender_no}/visits/{visit_id}/cancel", cancel, ROLE, writes=True),
        Route("GET", "/prisoners/{offender_no}/visit-balance", balance, NOMIS_SYNCHRONISATION, since=BALANCE_SINCE),
        Route("GET", "/visits/ids", ids, ROLE),
        Route("GET", "/visits/{visit_id}", get, ROLE),
    ]


def create_visit(world: World, offender_no: str, fields: Fields) -> Visit:
    """Makes a visit and, if the booking has a balance, its visit order.

    NOMIS checks, in this order, that the prisoner has an active booking (otherwise 404), and that the visit type, the
    prison and the visitors are known (otherwise 400).
    """
    start = fields.moment("startDateTime")
    end = datetime.combine(start.date(), fields.clock_time("endTime"))
    prison_id = fields.text("prisonId")
    persons = fields.numbers("visitorPersonIds")
    visit_type = fields.text("visitType")
    issued = fields.day("issueDate")
    room = fields.text("room")
    closed = fields.text("openClosedStatus") == "CLOSED"
    booking = world.active_booking(offender_no)
    if booking is None:
        raise not_found(f"No active booking for offender {offender_no}")
    if visit_type not in VISIT_TYPES:
        raise bad_request(f"Invalid visit type: {visit_type}")
    if prison_id not in world.prisons:
        raise bad_request(f"Prison with id={prison_id} does not exist")
    _check_persons(world, persons)
    visit = Visit(
        id=world.nomis_visits.next_visit_id(),
        offender_no=offender_no,
        booking_id=booking.booking_id,
        prison_id=prison_id,
        start=start,
        end=end,
        person_ids=persons,
        visit_type=visit_type,
        room=_room(world, prison_id, room, closed=closed, start=start),
        comment=fields.optional_text("visitComment") or DEFAULT_COMMENT,
        created=london_now(),
    )
    visit.order = _order(world, visit, issued, fields.optional_text("visitOrderComment") or DEFAULT_COMMENT)
    world.nomis_visits.visits[visit.id] = visit
    return visit


def update_visit(world: World, offender_no: str, visit_id: int, fields: Fields) -> None:
    """Changes the times, visitors and room of a visit, whatever its status."""
    start = fields.moment("startDateTime")
    end = datetime.combine(start.date(), fields.clock_time("endTime"))
    persons = fields.numbers("visitorPersonIds")
    room = fields.text("room")
    closed = fields.text("openClosedStatus") == "CLOSED"
    visit = _visit(world, visit_id)
    if visit.offender_no != offender_no:
        raise not_found(f"Nomis visit id {visit_id} not found for offender {offender_no}")
    _check_persons(world, persons)
    visit.start, visit.end = start, end
    visit.person_ids = persons
    visit.room = _room(world, visit.prison_id, room, closed=closed, start=start)
    visit.updated, visit.changed_by = london_now(), USER


def cancel_visit(world: World, offender_no: str, visit_id: int, fields: Fields) -> None:
    """Cancels a scheduled visit and returns its visit order, if it has one, to the balance.

    NOMIS checks, in this order, that the visit exists (otherwise 404), that the outcome is known (400), that the visit
    is not already cancelled (409), that it is still scheduled (409), and that it belongs to `offender_no` (400).
    """
    outcome = fields.text("outcome")
    visit = _visit(world, visit_id)
    if outcome not in VISIT_OUTCOMES:
        raise bad_request(f"Invalid cancellation reason: {outcome}")
    if visit.status == "CANC":
        raise Refused(409, f"Visit already cancelled, with outcome {visit.outcome}")
    if visit.status != "SCH":
        raise Refused(409, f"Visit status is not scheduled but is {visit.status}")
    if visit.offender_no != offender_no:
        raise bad_request(f"Visit's offenderNo = {visit.offender_no} does not match argument = {offender_no}")
    visit.status, visit.outcome = "CANC", outcome
    visit.updated, visit.changed_by = london_now(), USER
    visit.absent = dict.fromkeys(visit.person_ids, outcome)
    if visit.order is not None:
        visit.order.status = "CANC"
        visit.order.expires = london_now().date()
        _adjust(world, visit.booking_id, visit.order.kind, 1, "Visit order cancelled")


def room_code(prison_id: str, room: str, *, closed: bool) -> str:
    """The code of the NOMIS room that stands for a real room."""
    kept = _ROOM_WORDS.sub(" ", room.upper()).split()
    return f"{prison_id}-VSIP-{'-'.join(kept)}-{'CLO' if closed else 'SOC'}"


def one_room_code(prison_id: str, *, closed: bool) -> str:
    """The code of a prison's only NOMIS room for closed visits, or of its only one for open visits."""
    return f"{prison_id}-VISITS-VSIP_{'CLO' if closed else 'SOC'}"


def visit_room(world: World, prison_id: str, room: str, *, closed: bool) -> str:
    """The code of the NOMIS room for a visit, according to the rules of the world's generation."""
    if world.options.month >= ONE_ROOM_SINCE:
        return one_room_code(prison_id, closed=closed)
    return room_code(prison_id, room, closed=closed)


def _room(world: World, prison_id: str, room: str, *, closed: bool, start: datetime) -> str:
    code = visit_room(world, prison_id, room, closed=closed)
    world.nomis_visits.rooms.add(code)
    world.nomis_visits.slots.add((prison_id, code, start.weekday(), start.strftime("%H:%M")))
    return code


def _order(world: World, visit: Visit, issued: date, comment: str) -> Order | None:
    balance = world.places.balance(visit.booking_id)
    if balance is None:
        return None
    order = Order(
        id=world.nomis_visits.next_order_id(),
        booking_id=visit.booking_id,
        kind="PVO" if balance.privileged > 0 else "VO",
        status="SCH",
        issued=issued,
        expires=issued + timedelta(days=ORDER_DAYS),
        comment=comment,
        lead_person_id=visit.person_ids[0] if visit.person_ids else None,
    )
    _adjust(world, visit.booking_id, order.kind, -1, "Visit order issued")
    return order


def _adjust(world: World, booking_id: int, kind: str, change: int, reason: str) -> None:
    balance = world.places.balance(booking_id)
    if balance is None:
        return
    if kind == "PVO":
        balance.privileged += change
    else:
        balance.ordinary += change
    world.nomis_visits.adjustments.append(Adjustment(booking_id, kind, change, london_now().date(), reason))


def _check_offender_no(offender_no: str) -> None:
    if not _OFFENDER_NO.fullmatch(offender_no):
        raise Refused(400, "Validation failure: offenderNo: Offender Id must match [A-Z][0-9]{4}[A-Z]{2}")


def _check_persons(world: World, persons: list[int]) -> None:
    for person_id in persons:
        if not world.places.person_exists(person_id):
            raise bad_request(f"Person with id={person_id} does not exist")


def _visit(world: World, visit_id: int) -> Visit:
    visit = world.nomis_visits.visits.get(visit_id)
    if visit is None:
        raise not_found(f"Nomis visit id {visit_id} not found")
    return visit


def _listed(world: World, request: Request) -> list[Visit]:
    """The visits that the query asks for, in order of creation. The times in the query limit the time of creation."""
    prisons, types = request.query.get("prisonIds"), request.query.get("visitTypes")
    earliest, latest = _moment(request, "fromDateTime"), _moment(request, "toDateTime")
    found = (
        visit
        for visit in world.nomis_visits.visits.values()
        if (not prisons or visit.prison_id in prisons)
        and (not types or visit.visit_type in types)
        and (earliest is None or visit.created >= earliest)
        and (latest is None or visit.created <= latest)
    )
    return sorted(found, key=lambda visit: (visit.created, visit.id))


def _moment(request: Request, name: str) -> datetime | None:
    text = request.first(name)
    if not text:
        return None
    try:
        return datetime.fromisoformat(text).replace(tzinfo=None)
    except ValueError:
        raise bad_request(f"Failed to convert value of '{name}' to a date-time: {text}") from None


def _view(visit: Visit) -> dict[str, object]:
    lead = None if visit.order is None else visit.order.lead_person_id
    body: dict[str, object] = {
        "visitId": visit.id,
        "offenderNo": visit.offender_no,
        "startDateTime": visit.start.isoformat(timespec="seconds"),
        "endDateTime": visit.end.isoformat(timespec="seconds"),
        "prisonId": visit.prison_id,
        "visitors": [{"personId": person_id, "leadVisitor": person_id == lead} for person_id in visit.person_ids],
        "visitType": {"code": visit.visit_type, "description": VISIT_TYPES[visit.visit_type]},
        "visitStatus": {"code": visit.status, "description": VISIT_STATUSES.get(visit.status, visit.status)},
        "whenCreated": visit.created.isoformat(),
        "createUserId": visit.made_by,
    }
    if visit.room:
        body["agencyInternalLocation"] = {"code": visit.room, "description": visit.room}
    if visit.comment:
        body["commentText"] = visit.comment
    if lead in visit.person_ids and lead is not None:
        body["leadVisitor"] = {"personId": lead, "fullName": f"Visitor {lead}", "telephones": []}
    if visit.outcome is not None:
        body["visitOutcome"] = {"code": visit.outcome, "description": visit.outcome}
    if visit.updated is not None:
        body["whenUpdated"] = visit.updated.isoformat()
        body["modifyUserId"] = visit.changed_by
    return body
