"""The population of a reconciliation that compares bookings: the pages of NOMIS's list of latest bookings."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from reports.engine.key_walk import KeyGap, walk_bookings
from reports.engine.parallel_reader import FailedRead
from reports.engine.units import Population, Unit, UnlistedPart, UnreadRecord
from sync.errors import SyncError
from sync.settings.upstreams import UpstreamName
from sync.upstream import prisoners as nomis_prisoners

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Mapping, Sequence

    from reports.engine.key_walk import KeyPage
    from reports.engine.reconciliation import Reads
    from reports.engine.units import Scope
    from sync.upstream.prisoners import PrisonerId
    from sync.upstream.transport import ServiceClient


@dataclass(frozen=True, slots=True)
class ListedBooking:
    """A booking to compare.

    created: the ids of the records to compare, such as `SENTENCE 33012`, if the run compares only records that NOMIS
    created in a window of time; otherwise empty.
    """

    id: int
    offender_no: str
    created: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class BookingList:
    """Lists the latest booking of each prisoner in `scope`.

    active_only: whether to leave out prisoners who are not in prison. page_size: the number of bookings on a page.
    max_gaps: the maximum number of parts of the list that may be missing; if more are missing, the run fails.
    """

    nomis: ServiceClient
    scope: Scope
    active_only: bool
    page_size: int
    max_gaps: int

    def population(self, reads: Reads) -> Population:
        """The bookings, page by page, and a gap for each part of the list that cannot be read.

        Raises the errors of `walk_bookings` and of `population_of`.
        """
        return self.population_of(map(_bookings, walk_bookings(reads, self.page, self.page_size)), reads)

    def listed_again(self, population: Population, reads: Reads) -> Population:
        """`population`, plus the bookings that can be listed now but could not be listed before.

        Lists only the gaps of `population` if it has any, or else the whole list if a chosen prisoner had no booking.
        """
        if not (population.gaps or population.unread):
            return population
        parts = [(gap.detail["booking"], gap.detail["last"]) for gap in population.gaps] or [(0, None)]
        known = {booking.id for unit in population.units for booking in bookings_of(unit)}
        walks = (walk_bookings(reads, self.page, self.page_size, after, last) for after, last in parts)
        found = self.population_of((_bookings(page, known) for walk in walks for page in walk), reads)
        units = (*population.units, *found.units)
        unread = tuple(each for each in population.unread if each in found.unread)
        return replace(population, units=units, gaps=found.gaps, unread=unread, total=sum(each.size for each in units))

    def page(self, after: int, size: int) -> tuple[PrisonerId, ...]:
        """The first `size` bookings with ids greater than `after`; fewer only at the end of the list."""
        return nomis_prisoners.latest_bookings(self.nomis, after, size, active_only=self.active_only)

    def present(self, booking: ListedBooking) -> ListedBooking | None:
        """`booking` with the prisoner's current number, or None if NOMIS no longer lists the booking.

        A booking with `created` is returned as it is.
        """
        if booking.created:
            return booking
        listed = self.page(booking.id - 1, 1)
        if not listed or listed[0].booking_id != booking.id:
            return None
        return ListedBooking(booking.id, listed[0].offender_no)

    def locations(self, bookings: Sequence[int], reads: Reads) -> Mapping[int, str | None]:
        """The location of each booking's prisoner, by booking id. Raises `SyncError` if NOMIS cannot be read."""
        size = nomis_prisoners.MOST_BOOKINGS
        slices = [bookings[start : start + size] for start in range(0, len(bookings), size)]
        found: dict[int, str | None] = {}
        for _, known in reads.each(UpstreamName.NOMIS, lambda ids: nomis_prisoners.bookings(self.nomis, ids), slices):
            if isinstance(known, FailedRead):
                raise SyncError(f"the prisons of the bookings are not known: {known.reason}")
            found |= {number: each.location for number, each in known.items()}
        return found

    def population_of(self, pages: Iterable[list[ListedBooking] | UnlistedPart], reads: Reads) -> Population:
        """Those bookings on `pages` that are in the scope. A chosen prisoner without a booking counts as unread.

        Raises `SyncError` if more than `max_gaps` parts of the list, or any locations, could not be read.
        """
        wanted = dict.fromkeys(self.scope.offender_nos)
        missing = set(wanted)
        units: list[Unit] = []
        gaps: list[UnlistedPart] = []
        listed = 0
        for page in pages:
            if isinstance(page, UnlistedPart):
                gaps.append(page)
                if len(gaps) > self.max_gaps:
                    parts = "1 part" if self.max_gaps == 1 else f"{self.max_gaps} parts"
                    raise SyncError(f"more than {parts} could not be listed; last reason: {page.reason}")
                continue
            chosen = [each for each in page if not wanted or each.offender_no in wanted]
            missing.difference_update(each.offender_no for each in chosen)
            if self.scope.prisons:
                located = self.locations([each.id for each in chosen], reads)
                chosen = [each for each in chosen if located.get(each.id) in self.scope.prisons]
            if chosen:
                units.append(page_of(chosen))
                reads.begin(units[-1])
                listed += len(chosen)
                reads.listed(listed, listed)
            if wanted and not missing:
                break
        unread = [
            UnreadRecord({}, offender_no, "NOMIS", "NOMIS lists no booking for this prisoner")
            for offender_no in wanted
            if offender_no in missing
        ]
        return Population(tuple(units), sum(each.size for each in units), tuple(gaps), tuple(unread))


def bookings_of(unit: Unit) -> list[ListedBooking]:
    """The bookings of a page."""
    return [
        ListedBooking(number, offender_no, tuple(created)) for number, offender_no, created in unit.content["bookings"]
    ]


def page_of(bookings: Sequence[ListedBooking], name: str | None = None) -> Unit:
    """A page with `bookings`, named `name` or, by default, after the first and the last of `bookings`."""
    content = {"bookings": [[each.id, each.offender_no, list(each.created)] for each in bookings]}
    # The same bookings can be listed again with a further adjustment: its id makes the name of the page unique.
    last = "".join(f", {each}" for each in bookings[-1].created[-1:])
    return Unit(name or f"bookings {bookings[0].id} to {bookings[-1].id}{last}", content, len(bookings))


def _bookings(page: KeyPage | KeyGap, known: Container[int] = ()) -> list[ListedBooking] | UnlistedPart:
    if isinstance(page, KeyGap):
        return UnlistedPart(str(page), page.reason, {"booking": page.key, "last": page.last})
    return [ListedBooking(each.booking_id, each.offender_no) for each in page.bookings if each.booking_id not in known]
