"""Whether bookings are still on the list of active ones: a page tells who is there, the whole list who is not."""

from __future__ import annotations

import threading
from bisect import bisect_left
from concurrent.futures import Future
from typing import TYPE_CHECKING

from reports.engine.listing import ListingFailed, list_prisoners
from sync.upstream.prisoners import PrisonerPage, prisoner_page

if TYPE_CHECKING:
    from reports.engine.listing import Listing
    from sync.upstream.transport import ServiceClient

#: Rows of a page when the whole list is read.
_WHOLE_AT_ONCE = 5_000


class StillListed:
    """Tells whether a booking is still on the list of active ones.

    Whoever is there is found on the page where the order of booking ids leads to. That somebody is not there is told
    from the whole list alone, which is read once for all who are missing: one row out of order leads past it.
    Safe to share between threads, which then share pages too. `listing`, where the list was read before, tells on which
    page to look first.
    """

    def __init__(self, nomis: ServiceClient, page_size: int, listing: Listing | None = None) -> None:
        self._nomis = nomis
        self._size = page_size
        self._known = [each.booking_id for each in listing.prisoners] if listing else []
        self._last_page = max(0, (listing.total_elements - 1) // page_size) if listing else 0
        self._lock = threading.Lock()
        self._pages: dict[int, Future[PrisonerPage]] = {}
        self._reading_all = threading.Lock()
        self._everyone: frozenset[int] | None = None

    def __call__(self, booking_id: int) -> bool:
        """Whether the booking is active.

        Raises `UpstreamError` when a page cannot be read, and `ListingFailed` when nobody is listed any more or the
        whole list cannot be known.
        """
        return self._on_page(booking_id) or booking_id in self._all_listed()

    def _all_listed(self) -> frozenset[int]:
        """Every active booking, read by whoever asks first."""
        with self._reading_all:
            if self._everyone is None:
                listing = list_prisoners(self._nomis, max(self._size, _WHOLE_AT_ONCE))
                self._make_sure_of_some(listing.total_elements)
                if listing.failed_pages:
                    raise ListingFailed(f"not every active prisoner is known: {listing.failed_pages[0].reason}")
                if any(each.booking_id is None for each in listing.unusable):
                    raise ListingFailed("not every active prisoner is known: NOMIS lists some without their booking")
                self._everyone = listing.bookings
            return self._everyone

    def _make_sure_of_some(self, total: int) -> None:
        if self._known and not total:
            # Not everybody was released meanwhile.
            raise ListingFailed(f"NOMIS lists no active prisoner, where it listed {len(self._known)} before")

    def _on_page(self, booking_id: int) -> bool:
        lowest, highest = 0, self._last_page
        number = min(bisect_left(self._known, booking_id) // self._size, highest)
        while lowest <= highest:
            page = self._page(number)
            self._make_sure_of_some(page.total_elements)
            ids = [each.booking_id for each in page.prisoners]
            if not ids or booking_id < ids[0]:
                highest = number - 1
            elif booking_id > ids[-1]:
                if page.last:
                    return False
                lowest = number + 1
                if lowest > highest:
                    # The list is longer than it was known to be.
                    highest = page.total_pages - 1
            else:
                return booking_id in ids
            number = (lowest + highest) // 2
        return False

    def _page(self, number: int) -> PrisonerPage:
        """A page, read by whoever asks for it first."""
        with self._lock:
            page = self._pages.get(number)
            mine = page is None
            if page is None:
                page = self._pages[number] = Future()
        if mine:
            try:
                page.set_result(prisoner_page(self._nomis, number, self._size))
            except BaseException as error:
                # Those who wait for it get the same error; whoever comes later may have more luck.
                with self._lock:
                    del self._pages[number]
                page.set_exception(error)
        return page.result()
