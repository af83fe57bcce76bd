"""Whether single bookings are still on the list of active ones, by reading a page or two of it."""

from __future__ import annotations

import threading
from bisect import bisect_left
from concurrent.futures import Future
from typing import TYPE_CHECKING

from reports.listing import ListingFailed
from sync.upstream.nomis_prisoners import PrisonerPage, prisoner_page

if TYPE_CHECKING:
    from collections.abc import Callable

    from reports.listing import Listing
    from sync.upstream.transport import ServiceClient


class StillListed:
    """Tells whether a booking is still on the list of active ones, by reading only the pages it may be on.

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

    def __call__(self, booking_id: int) -> bool:
        """Whether the booking is active. Pages read before are used, but absence is told from fresh pages alone.

        Raises `UpstreamError` when a page cannot be read, and `ListingFailed` when nobody is listed any more.
        """
        return self._on_page(booking_id, self._page) or self._on_page(booking_id, self._fresh)

    def _on_page(self, booking_id: int, read: Callable[[int], PrisonerPage]) -> bool:
        lowest, highest = 0, self._last_page
        number = min(bisect_left(self._known, booking_id) // self._size, highest)
        while lowest <= highest:
            page = read(number)
            if self._known and not page.total_elements:
                # Not everybody was released meanwhile.
                raise ListingFailed(f"NOMIS lists no active prisoner, where it listed {len(self._known)} before")
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
                place = bisect_left(ids, booking_id)
                return ids[place] == booking_id
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
                page.set_result(self._fresh(number))
            except BaseException as error:
                # Those who wait for it get the same error; whoever comes later may have more luck.
                with self._lock:
                    del self._pages[number]
                page.set_exception(error)
        return page.result()

    def _fresh(self, number: int) -> PrisonerPage:
        return prisoner_page(self._nomis, number, self._size)
