"""Looks up active bookings: whether a booking is still active, and which booking of a prisoner is active.

A single page of the NOMIS list of active prisoners can show that a booking is active. Only the whole list can show that
it is not.
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from reports.engine.parallel_reader import failed_read
from reports.engine.shared_reads import SharedReads
from reports.reconciliations.incentives.listing import ListingFailed, PageFailure, list_prisoners
from sync.domains.incentives import dps as incentives_api
from sync.errors import SyncError
from sync.settings.upstreams import UpstreamName
from sync.upstream.prisoners import PrisonerId, PrisonerPage, UnusableRow, prisoner_page

if TYPE_CHECKING:
    from collections.abc import Iterable

    from reports.engine.parallel_reader import FailedRead
    from reports.engine.reconciliation import Reads
    from reports.reconciliations.incentives.listing import Listing
    from sync.upstream.services import Services
    from sync.upstream.transport import ServiceClient

#: Rows on a page when the whole list is read.
_WHOLE_AT_ONCE = 5_000
#: Rows on a page when a few bookings are searched for among tens of thousands.
_SEARCHED_AT_ONCE = 1_000


class ActiveBookingLookup:
    """Finds out whether bookings are still active. Threads can share a lookup and the pages that it has read.

    An active booking is found by a binary search over the pages of the NOMIS list, which is ordered by booking id. The
    search can miss a row that is out of order, so only the whole list shows that a booking is not active. `listing` is
    an earlier reading of the list, or None; it determines the page on which the search for a booking begins.
    """

    def __init__(self, nomis: ServiceClient, page_size: int, listing: Listing | None = None) -> None:
        self._nomis = nomis
        self._size = page_size
        self._known = [each.booking_id for each in listing.prisoners] if listing else []
        self._last_page = max(0, (listing.total_elements - 1) // page_size) if listing else 0
        self._lock = threading.Lock()
        self._pages: dict[int, Future[PrisonerPage]] = {}

    def find_active(self, bookings: Iterable[int], reads: Reads) -> dict[int, bool | FailedRead]:
        """Whether each of `bookings` is active, by its id, or why this is not known.

        The whole list is read once, for all bookings that the search does not find.
        """
        found: dict[int, bool | FailedRead] = dict(reads.each(UpstreamName.NOMIS, self.is_on_page, bookings))
        missing = [booking_id for booking_id, active in found.items() if active is False]
        if missing:
            try:
                everyone = self._all_listed(reads)
            except SyncError as error:
                return found | dict.fromkeys(missing, failed_read(error))
            found |= {booking_id: booking_id in everyone for booking_id in missing}
        return found

    def _all_listed(self, reads: Reads) -> frozenset[int]:
        """The ids of all active bookings. Raises `ListingFailed` if the list is not complete."""
        listing = list_prisoners(self._nomis, max(self._size, _WHOLE_AT_ONCE), partial(reads.page, UpstreamName.NOMIS))
        self._check_not_empty(listing.total_elements)
        if listing.failed_pages:
            raise ListingFailed(f"not every active prisoner is known: {listing.failed_pages[0].reason}")
        if any(each.booking_id is None for each in listing.unusable):
            raise ListingFailed("not every active prisoner is known: NOMIS lists some without a booking id")
        return listing.bookings

    def _check_not_empty(self, total: int) -> None:
        if self._known and not total:
            # A whole population is not released within minutes.
            raise ListingFailed(f"NOMIS lists no active prisoners, but it listed {len(self._known):,} before")

    def is_on_page(self, booking_id: int) -> bool:
        """Whether the search finds the booking on a page.

        Raises `UpstreamError` if a page cannot be read, and `ListingFailed` if the list is suddenly empty.
        """
        lowest, highest = 0, self._last_page
        number = min(bisect_left(self._known, booking_id) // self._size, highest)
        while lowest <= highest:
            page = self._page(number)
            self._check_not_empty(page.total_elements)
            ids = [each.booking_id for each in page.prisoners]
            if not ids or booking_id < ids[0]:
                highest = number - 1
            elif booking_id > ids[-1]:
                if page.last:
                    return False
                lowest = number + 1
                if lowest > highest:
                    # The list is longer than it was when it was last read.
                    highest = page.total_pages - 1
            else:
                return booking_id in ids
            number = (lowest + highest) // 2
        return False

    def _page(self, number: int) -> PrisonerPage:
        """Page `number` of the list. The first caller reads it, and the others use the same reading."""
        with self._lock:
            page = self._pages.get(number)
            mine = page is None
            if page is None:
                page = self._pages[number] = Future()
        if mine:
            try:
                page.set_result(prisoner_page(self._nomis, number, self._size))
            except BaseException as error:
                # Threads that wait for this page get the same error; later callers try again.
                with self._lock:
                    del self._pages[number]
                page.set_exception(error)
        return page.result()


class UnknownPrisoner(SyncError):
    """No active prisoner has the requested number."""


@dataclass(frozen=True, slots=True)
class FoundBookings:
    """The active bookings of chosen prisoners.

    not_found: the chosen prisoners who are not on the pages that could be read. failed_pages: the pages of the list
    that could not be read; empty if every prisoner was found. unusable: invalid rows of the list that belong, or may
    belong, to prisoners who were not found.
    """

    prisoners: tuple[PrisonerId, ...]
    not_found: tuple[str, ...]
    failed_pages: tuple[PageFailure, ...] = ()
    unusable: tuple[UnusableRow, ...] = ()


def find_bookings(services: Services, offender_nos: Iterable[str], page_size: int, reads: Reads) -> FoundBookings:
    """Finds each prisoner's active booking.

    It is the booking of the newest DPS review if the search finds that booking on a page of the NOMIS list, or else the
    one in the whole list. Raises `SyncError` if a service cannot be read.
    """
    size = max(page_size, _SEARCHED_AT_ONCE)
    lookup = ActiveBookingLookup(services.nomis, size)
    incentives = services[UpstreamName.INCENTIVES]
    found: dict[str, PrisonerId] = {}
    searched = list(dict.fromkeys(offender_nos))
    for offender_no in searched:
        read_summary = partial(incentives_api.prisoner_summary, incentives, offender_no)
        summary = reads.one(UpstreamName.INCENTIVES, read_summary)
        if summary is None:
            continue
        if reads.one(UpstreamName.NOMIS, partial(lookup.is_on_page, summary.booking_id)):
            found[offender_no] = PrisonerId(summary.booking_id, offender_no)
    missing = {offender_no for offender_no in searched if offender_no not in found}
    failed_pages: tuple[PageFailure, ...] = ()
    unusable: tuple[UnusableRow, ...] = ()
    if missing:
        # There is no review, or the newest review may be of an earlier booking. Only the whole list shows the active
        # booking.
        listing = list_prisoners(services.nomis, size, partial(reads.page, UpstreamName.NOMIS))
        for prisoner in listing.prisoners:
            if prisoner.offender_no in missing:
                found[prisoner.offender_no] = prisoner
        missing -= found.keys()
        if missing:
            failed_pages = listing.failed_pages
            unusable = tuple(row for row in listing.unusable if row.offender_no is None or row.offender_no in missing)
            missing -= {row.offender_no for row in unusable}
    ordered = tuple(found[offender_no] for offender_no in searched if offender_no in found)
    not_found = tuple(offender_no for offender_no in searched if offender_no in missing)
    return FoundBookings(ordered, not_found, failed_pages, unusable)


def active_booking(services: Services, offender_no: str) -> PrisonerId:
    """The active booking of a prisoner, looked up outside a run.

    Raises `UnknownPrisoner` if there is none, and `SyncError` if a service cannot be read.
    """
    # A person waits for the result, so an outage is not waited out.
    reads = SharedReads(services, outage_seconds=0.0)
    found = find_bookings(services, [offender_no], _SEARCHED_AT_ONCE, reads).prisoners
    if not found:
        raise UnknownPrisoner(f"no active prisoner has the number {offender_no}")
    return found[0]
