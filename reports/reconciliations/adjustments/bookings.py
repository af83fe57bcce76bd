"""Which bookings a run compares: all on NOMIS's list by key, or those with adjustments created since a day."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import groupby
from operator import attrgetter
from typing import TYPE_CHECKING

from reports.engine.key_walk import KeyGap, walk_bookings
from reports.engine.parallel_reader import FailedRead
from reports.engine.units import Population, Unit, UnlistedPart, UnreadRecord
from reports.reconciliations.adjustments.counting import Booking, parse_id
from sync.domains.adjustments import nomis as nomis_adjustments
from sync.failures import SyncError, UpstreamError
from sync.settings.upstreams import UpstreamName
from sync.upstream import prisoners as nomis_prisoners

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
    from datetime import date

    from reports.engine.contract import Reads
    from reports.engine.key_walk import KeyPage
    from reports.engine.units import Scope
    from sync.domains.adjustments.nomis import Category
    from sync.settings.declaration import Settings
    from sync.upstream.prisoners import PrisonerId
    from sync.upstream.transport import ServiceClient


@dataclass(frozen=True, slots=True)
class BookingList:
    """The latest booking of each prisoner, or of each who is in prison, as far as the scope has it."""

    nomis: ServiceClient
    settings: Settings
    scope: Scope

    def population(self, reads: Reads) -> Population:
        """Pages of bookings, with gaps where NOMIS cannot list them."""
        since = self.scope.from_date
        if since is not None:
            return self._population(self._created(since, reads), reads)
        return self._population(map(_bookings, walk_bookings(reads, self.page, self._size)), reads)

    def listed_again(self, population: Population, reads: Reads) -> Population:
        """The population with the bookings that its gaps hid, and with those of prisoners who had none."""
        if not (population.gaps or population.unread):
            return population
        if self.scope.from_date is not None:
            return self._created_again(population, reads)
        parts = [(gap.detail["booking"], gap.detail["last"]) for gap in population.gaps] or [(0, None)]
        known = {booking.id for unit in population.units for booking in bookings_of(unit)}
        walks = (walk_bookings(reads, self.page, self._size, after, last) for after, last in parts)
        found = self._population((_bookings(page, known) for walk in walks for page in walk), reads)
        units = (*population.units, *found.units)
        unread = tuple(each for each in population.unread if each in found.unread)
        return replace(population, units=units, gaps=found.gaps, unread=unread, total=sum(each.size for each in units))

    def page(self, after: int, size: int) -> tuple[PrisonerId, ...]:
        """The first bookings with greater ids than `after`; fewer than `size` only at the end."""
        active_only = not self.settings.reports_sentencing_reconciliation_all_prisoners
        return nomis_prisoners.latest_bookings(self.nomis, after, size, active_only=active_only)

    def present(self, booking: Booking) -> Booking | None:
        """A booking with the number that its prisoner has now, None if it is no longer listed."""
        if booking.created:
            return booking
        listed = self.page(booking.id - 1, 1)
        if not listed or listed[0].booking_id != booking.id:
            return None
        return Booking(booking.id, listed[0].offender_no)

    def locations(self, bookings: Sequence[int], reads: Reads) -> Mapping[int, str | None]:
        """Where bookings are. Raises `SyncError`."""
        size = nomis_prisoners.MOST_BOOKINGS
        slices = [bookings[start : start + size] for start in range(0, len(bookings), size)]
        found: dict[int, str | None] = {}
        for _, known in reads.each(UpstreamName.NOMIS, lambda ids: nomis_prisoners.bookings(self.nomis, ids), slices):
            if isinstance(known, FailedRead):
                raise SyncError(f"where the bookings are is not known: {known.reason}")
            found |= {number: each.location for number, each in known.items()}
        return found

    @property
    def _size(self) -> int:
        return self.settings.reports_sentencing_reconciliation_page_size

    def _population(self, pages: Iterable[list[Booking] | UnlistedPart], reads: Reads) -> Population:
        """The bookings of the scope on these pages; chosen prisoners without one are unread.

        Raises `SyncError` where more cannot be listed than the settings allow.
        """
        wanted = dict.fromkeys(self.scope.offender_nos)
        missing = set(wanted)
        units: list[Unit] = []
        gaps: list[UnlistedPart] = []
        listed = 0
        for page in pages:
            if isinstance(page, UnlistedPart):
                gaps.append(page)
                if len(gaps) > self.settings.reconciliation_max_page_errors:
                    raise SyncError(f"more than {len(gaps) - 1} parts could not be listed; the last one: {page.reason}")
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
            UnreadRecord({}, offender_no, "NOMIS", "NOMIS lists no booking of this prisoner")
            for offender_no in wanted
            if offender_no in missing
        ]
        return Population(tuple(units), sum(each.size for each in units), tuple(gaps), tuple(unread))

    def _created(self, since: date, reads: Reads) -> Iterator[list[Booking] | UnlistedPart]:
        """The bookings of the adjustments that NOMIS created on that day or later, with these, in pages."""

        def listed() -> list[tuple[Category, int]]:
            return list(nomis_adjustments.created_adjustments(self.nomis, since, self.scope.to_date))

        try:
            ids = reads.page(UpstreamName.NOMIS, listed)
        except UpstreamError as error:
            if error.no_route:
                raise SyncError("NOMIS no longer lists adjustments by their creation: leave out --since") from error
            raise
        return self._bookings_with(ids, {}, reads)

    def _created_again(self, population: Population, reads: Reads) -> Population:
        """The population with the adjustments of its gaps, and their bookings to be read with these too."""
        known = {booking.id: booking.created for unit in population.units for booking in bookings_of(unit)}
        ids = [parse_id(gap.detail["adjustment"]) for gap in population.gaps]
        found = self._population(self._bookings_with(ids, known, reads), reads)
        total = len(known.keys() | {booking.id for unit in found.units for booking in bookings_of(unit)})
        unread = tuple(each for each in population.unread if each in found.unread)
        units = (*population.units, *found.units)
        return replace(population, units=units, gaps=found.gaps, unread=unread, total=total)

    def _bookings_with(
        self, ids: Iterable[tuple[Category, int]], known: Mapping[int, tuple[str, ...]], reads: Reads
    ) -> Iterator[list[Booking] | UnlistedPart]:
        """The bookings of these adjustments, in pages, with those that are `known` of them; gaps for the others."""
        found: list[Booking] = []
        for (category, number), adjustment in reads.each(
            UpstreamName.NOMIS, lambda each: nomis_adjustments.find_adjustment(self.nomis, *each), ids
        ):
            if isinstance(adjustment, FailedRead):
                detail = {"booking": None, "adjustment": f"{category} {number}"}
                yield UnlistedPart(f"{category} adjustment {number}", adjustment.reason, detail)
            elif adjustment is not None and adjustment.offender_no and not adjustment.hidden_from_users:
                found.append(Booking(adjustment.booking_id, adjustment.offender_no, (f"{category} {number}",)))
        by_booking = groupby(sorted(found, key=attrgetter("id", "created")), key=attrgetter("id", "offender_no"))
        bookings = [
            Booking(booking_id, offender_no, (*known.get(booking_id, ()), *(each.created[0] for each in group)))
            for (booking_id, offender_no), group in by_booking
        ]
        yield from (bookings[start : start + self._size] for start in range(0, len(bookings), self._size))


def bookings_of(unit: Unit) -> list[Booking]:
    """The bookings of a page."""
    return [Booking(number, offender_no, tuple(created)) for number, offender_no, created in unit.content["bookings"]]


def page_of(bookings: Sequence[Booking], name: str | None = None) -> Unit:
    """A page with these bookings, named by the first and the last of them, or as it is given."""
    content = {"bookings": [[each.id, each.offender_no, list(each.created)] for each in bookings]}
    # The same bookings can be listed once more with a further adjustment.
    last = "".join(f", {each}" for each in bookings[-1].created[-1:])
    return Unit(name or f"bookings {bookings[0].id} to {bookings[-1].id}{last}", content, len(bookings))


def _bookings(page: KeyPage | KeyGap, known: Container[int] = ()) -> list[Booking] | UnlistedPart:
    if isinstance(page, KeyGap):
        return UnlistedPart(str(page), page.reason, {"booking": page.key, "last": page.last})
    return [Booking(each.booking_id, each.offender_no) for each in page.bookings if each.booking_id not in known]
