"""The bookings with adjustments created in NOMIS since a given day.

This is for versions of NOMIS that do not list adjustments by booking.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import groupby
from operator import attrgetter
from typing import TYPE_CHECKING

from reports.engine.booking_list import BookingList, ListedBooking, bookings_of
from reports.engine.parallel_reader import FailedRead
from reports.engine.units import UnlistedPart
from reports.reconciliations.adjustments.counting import parse_id
from sync.domains.adjustments import nomis as nomis_adjustments
from sync.errors import SyncError, UpstreamError
from sync.settings.upstreams import UpstreamName

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from reports.engine.reconciliation import Reads
    from reports.engine.units import Population
    from sync.domains.adjustments.nomis import Category


class CreatedSince(BookingList):
    """Lists the bookings with adjustments created in NOMIS on the days of the scope, and the ids of the adjustments."""

    def population(self, reads: Reads) -> Population:
        """The bookings with adjustments created on the days of the scope, in pages.

        An adjustment that cannot be read is a gap. Raises `SyncError` if NOMIS cannot list the adjustments.
        """
        since = self.scope.from_date
        assert since is not None

        def listed() -> list[tuple[Category, int]]:
            return list(nomis_adjustments.created_adjustments(self.nomis, since, self.scope.to_date))

        try:
            ids = reads.page(UpstreamName.NOMIS, listed)
        except UpstreamError as error:
            if error.no_route:
                raise SyncError("NOMIS no longer lists adjustments by creation date: leave out --since") from error
            raise
        return self.population_of(self._bookings_with(ids, {}, reads), reads)

    def listed_again(self, population: Population, reads: Reads) -> Population:
        """The population, plus the bookings of the adjustments that were its gaps.

        A booking that was already in the population is read again, with these adjustments too.
        """
        if not (population.gaps or population.unread):
            return population
        known = {booking.id: booking.created for unit in population.units for booking in bookings_of(unit)}
        ids = [parse_id(gap.detail["adjustment"]) for gap in population.gaps]
        found = self.population_of(self._bookings_with(ids, known, reads), reads)
        total = len(known.keys() | {booking.id for unit in found.units for booking in bookings_of(unit)})
        unread = tuple(each for each in population.unread if each in found.unread)
        units = (*population.units, *found.units)
        return replace(population, units=units, gaps=found.gaps, unread=unread, total=total)

    def _bookings_with(
        self, ids: Iterable[tuple[Category, int]], known: Mapping[int, tuple[str, ...]], reads: Reads
    ) -> Iterator[list[ListedBooking] | UnlistedPart]:
        """Yields the bookings of the adjustments in `ids`, in pages, and a gap for each adjustment that cannot be read.

        known: the adjustments that are already known for each booking; the pages include them.
        """
        found: list[ListedBooking] = []
        for (category, number), adjustment in reads.each(
            UpstreamName.NOMIS, lambda each: nomis_adjustments.find_adjustment(self.nomis, *each), ids
        ):
            if isinstance(adjustment, FailedRead):
                detail = {"booking": None, "adjustment": f"{category} {number}"}
                yield UnlistedPart(f"{category} adjustment {number}", adjustment.reason, detail)
            elif adjustment is not None and adjustment.offender_no and not adjustment.hidden_from_users:
                found.append(ListedBooking(adjustment.booking_id, adjustment.offender_no, (f"{category} {number}",)))
        by_booking = groupby(sorted(found, key=attrgetter("id", "created")), key=attrgetter("id", "offender_no"))
        bookings = [
            ListedBooking(booking_id, offender_no, (*known.get(booking_id, ()), *(each.created[0] for each in group)))
            for (booking_id, offender_no), group in by_booking
        ]
        yield from (bookings[start : start + self.page_size] for start in range(0, len(bookings), self.page_size))
