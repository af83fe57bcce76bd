"""The latest booking of each prisoner in NOMIS, listed by key: each page starts after a booking id."""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING, Final

from sandbox.auth import NOMIS_SYNCHRONISATION
from sandbox.bodies import bad_request
from sandbox.paging import flag
from sandbox.serving import Reply, Request, Route

if TYPE_CHECKING:
    from sandbox.population import Prisoner
    from sandbox.world import World

DEFAULT_SIZE: Final = 10
LISTED_BY_KEY_SINCE: Final = "2025-01"


class BookingList:
    """The bookings of one world by id, and the mergers that befall bookings once they were listed."""

    def __init__(self, world: World) -> None:
        """Take the world whose bookings to list."""
        self.world = world
        self._ids: list[int] = []

    def page(self, after: int, size: int, *, active_only: bool) -> list[Prisoner]:
        """The first so many latest bookings with a greater id than `after`, by booking id."""
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
        """Give the bookings whose prisoner is merged with another the number that stays."""
        merging = self.world.merging
        for prisoner in listed if merging else ():
            kept = merging.pop(prisoner.booking_id, None)
            if kept is not None:
                del self.world.by_offender[prisoner.offender_no]
                prisoner.offender_no = kept
                self.world.by_offender[kept] = prisoner


def routes(world: World) -> list[Route]:
    """Return the list by key."""
    bookings = BookingList(world)

    def latest(request: Request) -> Reply:
        after = _number(request, "bookingId", 0)
        size = _number(request, "pageSize", DEFAULT_SIZE)
        listed = bookings.page(after, size, active_only=flag(request, "activeOnly", False))
        reply = Reply(
            body={
                "prisonerIds": [{"bookingId": each.booking_id, "offenderNo": each.offender_no} for each in listed],
                "lastBookingId": listed[-1].booking_id if listed else 0,
            }
        )
        bookings.merge(listed)
        return reply

    return [Route("GET", "/bookings/ids/latest-from-id", latest, NOMIS_SYNCHRONISATION, since=LISTED_BY_KEY_SINCE)]


def _number(request: Request, name: str, default: int) -> int:
    text = request.first(name)
    if text is None or text == "":
        return default
    if not text.isdigit():
        raise bad_request(f"Failed to convert value of '{name}' to a number: {text}")
    return int(text)
