"""The prisoners in NOMIS, listed by page and by key, and what happens to them while they are being listed."""

from __future__ import annotations

from bisect import bisect_right
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from sandbox.clock import london_now
from sandbox.dps.rollout import NEW_FIELD
from sandbox.hmpps.auth import NOMIS_SYNCHRONISATION
from sandbox.hmpps.prisoner_search import publish_received
from sandbox.http.paging import flag, page
from sandbox.http.serving import Reply, Request, Route
from sandbox.nomis.bodies import bad_request, unexpected
from sandbox.nomis.incentives import BY_TRANSFER
from sandbox.population.incentive_history import IncentiveHistory
from sandbox.population.levels import default_level
from sandbox.population.people import Prisoner, new_offender_no

if TYPE_CHECKING:
    from sandbox.world import World

#: The maximum number of values that the database accepts in one list.
MOST_BOOKINGS = 1000
FIRST_OFFENDER_ID = 1_400_000
DEFAULT_SIZE: Final = 10
LISTED_BY_KEY_SINCE: Final = "2025-01"


class Movements:
    """Releases, receives and transfers the people of one world, and writes the resulting records."""

    def __init__(self, world: World) -> None:
        """Takes the world whose people move."""
        self.world = world
        self.chance = world.random("movements")
        self._history: IncentiveHistory | None = None
        self._turn = 0

    def after_page(self, count: int) -> None:
        """Makes `count` movements, alternately releases and receptions."""
        for _ in range(count):
            self._turn += 1
            if self._turn % 2:
                self.release(self.chance.choice([each for each in self.world.prisoners if each.active]))
            else:
                self.receive()

    def release(self, prisoner: Prisoner) -> None:
        """Releases a person: the booking is no longer active, but its records remain."""
        prisoner.active = False
        self._note("release", prisoner)

    def receive(self, prison_id: str | None = None) -> Prisoner:
        """Receives a new person (at a random prison if none is given) and makes the admission records on both sides."""
        world = self.world
        if self._history is None:
            self._history = IncentiveHistory(world, self.chance)
        place = prison_id or self.chance.choice(self._history.prisons)
        prisoner = Prisoner(new_offender_no(world, self.chance), world.new_booking_id(), place)
        world.add_prisoner(prisoner)
        arrived = london_now().replace(microsecond=0) - timedelta(minutes=1)
        self._history.arrival(prisoner, world.incentives.default_of(place), arrived, place, "INITIAL")
        self._note("reception", prisoner)
        return prisoner

    def transfer(self, prisoner: Prisoner, prison_id: str, published: bool) -> dict[str, object]:
        """Moves a person to another prison.

        NOMIS writes an IEP record; DPS learns of the move only if `published` is true. Returns the prisoner number, the
        booking id, and when the move took place.
        """
        world = self.world
        arrived = london_now()
        noted = arrived.replace(microsecond=0)
        prisoner.prison_id = prison_id
        level = default_level(prison_id)
        world.nomis_incentives.add(prisoner.booking_id, level, noted, prison_id, BY_TRANSFER, "OMS_OWNER")
        if published:
            publish_received(world, prisoner.offender_no, "TRANSFERRED", prison_id, arrived)
        self._note("transfer", prisoner)
        return {"offenderNo": prisoner.offender_no, "bookingId": prisoner.booking_id, "occurredAt": noted.isoformat()}

    def _note(self, kind: str, prisoner: Prisoner) -> None:
        self.world.moved.append(
            {"movement": kind, "offenderNo": prisoner.offender_no, "bookingId": prisoner.booking_id}
        )


class BookingList:
    """The bookings of one world in order of id, and the merges that happen once a booking has been listed."""

    def __init__(self, world: World) -> None:
        """Takes the world whose bookings are listed."""
        self.world = world
        self._ids: list[int] = []

    def page(self, after: int, size: int, *, active_only: bool) -> list[Prisoner]:
        """Returns the first `size` bookings with an id above `after`, sorted by id.

        Bookings that are not the prisoner's latest are left out and, if `active_only` is true, so are inactive ones.
        """
        by_booking, by_offender = self.world.by_booking, self.world.by_offender
        if len(self._ids) != len(by_booking):
            self._ids = sorted(by_booking)
        found: list[Prisoner] = []
        for place in range(bisect_right(self._ids, after), len(self._ids)):
            if len(found) == size:
                break
            prisoner = by_booking[self._ids[place]]
            latest = by_offender.get(prisoner.offender_no)
            if latest is prisoner and (prisoner.active or not active_only):
                found.append(prisoner)
        return found

    def merge(self, listed: list[Prisoner]) -> None:
        """Makes the merges that were waiting for these bookings to be listed.

        Each booking that is merged gets the prisoner number that is kept.
        """
        merging = self.world.merging
        for prisoner in listed if merging else ():
            kept = merging.pop(prisoner.booking_id, None)
            if kept is not None:
                del self.world.by_offender[prisoner.offender_no]
                prisoner.offender_no = kept
                self.world.by_offender[kept] = prisoner


def routes(world: World) -> list[Route]:
    """Returns the endpoints that list active prisoners, list the latest bookings by key, and look up bookings."""
    movements = Movements(world)
    listing = BookingList(world)

    def ids(request: Request) -> Reply:
        if not flag(request, "active", True):
            raise unexpected("An operation is not implemented: Only active prisoners are supported")
        active = [prisoner for prisoner in world.prisoners if prisoner.active] if world.moved else world.prisoners
        found = page(
            request,
            active,
            lambda start, end: [
                {"bookingId": each.booking_id, "offenderNo": each.offender_no} for each in active[start:end]
            ],
        )
        movements.after_page(world.options.moving)
        return found

    def bookings(request: Request) -> Reply:
        asked = request.json()
        if not isinstance(asked, list) or not all(type(each) is int for each in asked):
            raise bad_request("JSON parse error: Cannot deserialize value of type `java.util.List<Long>`")
        if len(asked) > MOST_BOOKINGS:
            raise unexpected("ORA-01795: maximum number of expressions in a list is 1000")
        known = [world.by_booking[each] for each in dict.fromkeys(asked) if each in world.by_booking]
        return Reply(body=[_booking(each) for each in known])

    def latest(request: Request) -> Reply:
        after = _number(request, "bookingId", 0)
        size = _number(request, "pageSize", DEFAULT_SIZE)
        listed = listing.page(after, size, active_only=flag(request, "activeOnly", False))
        reply = Reply(
            body={
                "prisonerIds": [{"bookingId": each.booking_id, "offenderNo": each.offender_no} for each in listed],
                "lastBookingId": listed[-1].booking_id if listed else 0,
            }
        )
        listing.merge(listed)
        return reply

    return [
        Route("GET", "/prisoners/ids", ids, "SYNCHRONISATION_REPORTING"),
        Route("POST", "/prisoners/bookings", bookings, NOMIS_SYNCHRONISATION, since="2023-10"),
        Route("GET", "/bookings/ids/latest-from-id", latest, NOMIS_SYNCHRONISATION, since=LISTED_BY_KEY_SINCE),
    ]


def _number(request: Request, name: str, default: int) -> int:
    text = request.first(name)
    if text is None or text == "":
        return default
    if not text.isdecimal():
        raise bad_request(f"Failed to convert value of '{name}' to a number: {text}")
    return int(text)


def _booking(prisoner: Prisoner) -> dict[str, object]:
    """A booking with its current agency (`OUT` after a release). If its id is even, it has no root offender id."""
    offender_id = FIRST_OFFENDER_ID + prisoner.booking_id
    root = {"rootOffenderId": offender_id} if prisoner.booking_id % 2 else {}
    return {
        "offenderNo": prisoner.offender_no,
        "offenderId": offender_id,
        **root,
        "bookingId": prisoner.booking_id,
        "location": prisoner.agency,
        "active": prisoner.active,
        **NEW_FIELD,
    }
