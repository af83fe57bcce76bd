"""The listing of active prisoners: pages read ahead over a population that moves while it is paged."""

from __future__ import annotations

import random
import threading
import time
from bisect import bisect_left
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from reports.reading import WAITS, why_unreadable
from sync.failures import BreakerOpen, SyncError
from sync.upstream.nomis_prisoners import PrisonerId, PrisonerPage, prisoner_page

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from sync.upstream.transport import ServiceClient

PAGES_AHEAD = 16
#: How often the pages are read again, at most, to find who moved out of sight between two pages.
MOST_SWEEPS = 4
_FURTHEST_PAGE = 20_000
#: How long a page waits for a service that is taken to be down before it counts as failed.
_LONGEST_HOLD_SECONDS = 60.0


def unwatched(_done: int, _total: int) -> None:
    """The progress that nobody follows."""


def everyone_first(_first: Sequence[PrisonerId]) -> None:
    """Begins nothing before everyone is listed."""


class ListingFailed(SyncError):
    """Not even the number of prisoners could be read, or too many pages failed."""


@dataclass(frozen=True, slots=True)
class PageFailure:
    """A page of ids that could not be read, and why."""

    page: int
    reason: str


@dataclass(frozen=True, slots=True)
class Listing:
    """The active bookings, each once, by booking id ascending.

    total_elements: what the service said last. repeats: bookings that came more than once. found_again: bookings that
    only a further sweep found. failed_pages: what is missing from the list, and why. looked_again: it was read a second
    time. not_found: of the prisoners who were asked for by number, those who are not active.
    """

    prisoners: tuple[PrisonerId, ...]
    total_elements: int
    failed_pages: tuple[PageFailure, ...] = ()
    repeats: int = 0
    found_again: int = 0
    looked_again: bool = False
    not_found: tuple[str, ...] = ()


def list_prisoners(
    nomis: ServiceClient,
    page_size: int,
    *,
    max_page_errors: int = 30,
    progress: Callable[[int, int], None] = unwatched,
    sleep: Callable[[float], None] = time.sleep,
    begin: Callable[[Sequence[PrisonerId]], None] = everyone_first,
) -> Listing:
    """Lists every active booking, and looks again when people were seen to move, or are missing from the total.

    `begin` is told of those who were listed first, while the other pages are read. Raises `ListingFailed` when the
    count cannot be read or more than `max_page_errors` pages fail.
    """
    found: dict[int, PrisonerId] = {}
    sweep = _Sweep(nomis, page_size, max_page_errors, sleep, progress)
    sweep.run(found, begin)
    listing = Listing(_ordered(found), sweep.total, tuple(sweep.failures), sweep.repeats)
    if sweep.failures or not (sweep.moved or len(found) != sweep.total):
        return listing
    return look_again(nomis, listing, page_size, sleep)


def look_again(
    nomis: ServiceClient, listing: Listing, page_size: int, sleep: Callable[[float], None] = time.sleep
) -> Listing:
    """The listing with those whom it missed, because they moved from one page to the next between two reads.

    The pages are read again, larger and cut elsewhere, until nobody else turns up below the highest booking known (what
    lies above are receptions) and nobody is missing from the total. Pages that failed before are forgotten then, for
    whoever was on them was seen. Where a page fails, or somebody is missing to the end, `failed_pages` says so.
    """
    found = {each.booking_id: each for each in listing.prisoners}
    total = listing.total_elements
    failures: tuple[PageFailure, ...] = listing.failed_pages
    for turn in range(MOST_SWEEPS):
        known, highest = set(found), max(found, default=0)
        size = _other_size(page_size, turn)
        sweep = _Sweep(nomis, size, _FURTHEST_PAGE, sleep)
        with suppress(ListingFailed):  # what failed is kept by the sweep
            sweep.run(found)
        if sweep.failures:
            failures = (*listing.failed_pages, *_named(sweep.failures, size))
            break
        total, failures = sweep.total, sweep.missing(len(found))
        if not failures and not any(booking_id < highest for booking_id in found.keys() - known):
            break
    return replace(
        listing,
        prisoners=_ordered(found),
        total_elements=total,
        failed_pages=failures,
        found_again=listing.found_again + len(found) - len(listing.prisoners),
        looked_again=True,
    )


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

        Raises `UpstreamError` when a page cannot be read.
        """
        return self._on_page(booking_id, self._page) or self._on_page(booking_id, self._fresh)

    def _on_page(self, booking_id: int, read: Callable[[int], PrisonerPage]) -> bool:
        lowest, highest = 0, self._last_page
        number = min(bisect_left(self._known, booking_id) // self._size, highest)
        while lowest <= highest:
            page = read(number)
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


class _Sweep:
    """One reading of all pages."""

    def __init__(
        self,
        nomis: ServiceClient,
        page_size: int,
        max_page_errors: int,
        sleep: Callable[[float], None],
        progress: Callable[[int, int], None] = unwatched,
    ) -> None:
        self._nomis = nomis
        self._size = page_size
        self._max_page_errors = max_page_errors
        self._sleep = sleep
        self._progress = progress
        self.total = 0
        self.moved = False
        self.repeats = 0
        self.rows = 0
        self.failures: list[PageFailure] = []
        self._last_read = -1

    def run(self, found: dict[int, PrisonerId], begin: Callable[[Sequence[PrisonerId]], None] = everyone_first) -> None:
        """Adds what the pages hold to `found`; `begin` is told of what is found first."""
        begun = self._begin(found)
        begin(tuple(found.values()))
        with ThreadPoolExecutor(PAGES_AHEAD, thread_name_prefix="listing") as pool:
            numbers = range(begun + 1, self._pages())
            try:
                for answer in pool.map(self._read, numbers):
                    self._take(answer, found)
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
        number = self._pages_seen(begun)
        # Receptions lengthen the list while it is read: go on until the last page says that it is the last.
        while number < self._pages() and number < _FURTHEST_PAGE:
            self._take(self._read(number), found)
            number += 1

    def missing(self, found: int) -> tuple[PageFailure, ...]:
        """The bookings that the service counts and that neither its pages nor `found` earlier ones account for."""
        lacking = self.total - max(found, self.rows)
        if lacking <= 0:
            return ()
        reason = f"{lacking} of the {self.total} active prisoners that NOMIS counts are on none of its pages"
        return (PageFailure(self._pages(), reason),)

    def _begin(self, found: dict[int, PrisonerId]) -> int:
        """Reads the first page, or the second where the first fails, to learn the total; returns its number."""
        for number in (0, 1):
            answer = self._read(number)
            if not isinstance(answer, PageFailure):
                self.total = answer.total_elements
                if number and not answer.prisoners:
                    break
                self._take(answer, found)
                return number
            self._take(answer, found)
        raise ListingFailed(f"the number of active prisoners could not be read: {self.failures[0].reason}")

    def _pages(self) -> int:
        return -(-self.total // self._size)

    def _pages_seen(self, begun: int) -> int:
        return max(self._last_read, begun, *(failure.page for failure in self.failures), 0) + 1

    def _read(self, number: int) -> PrisonerPage | PageFailure:
        return _read_page(self._nomis, number, self._size, self._sleep)

    def _take(self, answer: PrisonerPage | PageFailure, found: dict[int, PrisonerId]) -> None:
        if isinstance(answer, PageFailure):
            self.failures.append(answer)
            if len(self.failures) > self._max_page_errors:
                raise ListingFailed(f"more than {self._max_page_errors} pages failed; the last one: {answer.reason}")
            return
        self._last_read = max(self._last_read, answer.number)
        if answer.total_elements != self.total:
            self.moved = True
            self.total = answer.total_elements
        self.rows += len(answer.prisoners)
        seen_before = 0
        for prisoner in answer.prisoners:
            seen_before += prisoner.booking_id in found
            found[prisoner.booking_id] = prisoner
        self.repeats += seen_before
        self._progress(len(found), max(self.total, len(found)))


def _read_page(
    nomis: ServiceClient, number: int, size: int, sleep: Callable[[float], None]
) -> PrisonerPage | PageFailure:
    attempt, held_seconds = 0, 0.0
    while True:
        try:
            return prisoner_page(nomis, number, size)
        except BreakerOpen as error:
            # Nobody was asked: those who read levels meanwhile found the service away, and wait as well.
            if held_seconds >= _LONGEST_HOLD_SECONDS:
                return PageFailure(number, why_unreadable(error).reason)
            pause = 1 + random.random()
            held_seconds += pause
        except SyncError as error:
            if not error.recoverable or attempt == len(WAITS):
                return PageFailure(number, why_unreadable(error).reason)
            asked = getattr(error, "retry_after", None) or 0.0
            pause = max(WAITS[attempt] * (1 + random.random()), min(asked, 60.0))
            attempt += 1
        sleep(pause)


def _other_size(page_size: int, turn: int) -> int:
    """A larger page size, so that there are few cuts, and none where another sweep has one."""
    return min(20_000 - turn, 5 * page_size + max(1, page_size // 3) * (turn + 1))


def _named(failures: Iterable[PageFailure], size: int) -> tuple[PageFailure, ...]:
    """Failures of a sweep whose pages have another size than those of the list."""
    return tuple(PageFailure(each.page, f"looking again, {size} to a page: {each.reason}") for each in failures)


def _ordered(found: Mapping[int, PrisonerId]) -> tuple[PrisonerId, ...]:
    return tuple(found[booking_id] for booking_id in sorted(found))
