"""Lists the active prisoners page by page, and finds those who move between pages while the pages are read."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from reports.engine.parallel_reader import failed_read
from sync.errors import SyncError
from sync.tracing import TracedThreads
from sync.upstream.prisoners import PrisonerId, PrisonerPage, UnusableRow, prisoner_page

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from typing import TypeAlias

    from sync.upstream.transport import ServiceClient

    #: Reads a page with retries; raises the `SyncError` of the last attempt.
    ReadPage: TypeAlias = Callable[[Callable[[], PrisonerPage]], PrisonerPage]

PAGES_AHEAD = 16
#: The pages are read again at most this many times, to find prisoners who moved from one page to the next.
MOST_SWEEPS = 4
_FURTHEST_PAGE = 20_000


def no_progress(_done: int, _total: int) -> None:
    """Ignores the progress of the listing: the number of prisoners found so far, and NOMIS's count of them."""


def _everyone_first(_first: Sequence[PrisonerId]) -> None:
    """Does nothing: the levels are read only after everyone has been listed."""


class ListingFailed(SyncError):
    """The active prisoners could not be listed: their number is not known, or too much of the list is missing."""


@dataclass(frozen=True, slots=True)
class PageFailure:
    """A page that could not be read, or on which the list contradicts itself, and why."""

    page: int
    reason: str


@dataclass(frozen=True, slots=True)
class Listing:
    """The active bookings, each once, in ascending order of booking id.

    total_elements: NOMIS's latest count of them. repeats: how many rows repeated a booking that had already been found.
    found_again: how many bookings only a further reading found. failed_pages: the pages that could not be read, or on
    which the list contradicts itself, and why. relisted: whether the list was read again. unusable: invalid rows; their
    bookings are not among `prisoners`.
    """

    prisoners: tuple[PrisonerId, ...]
    total_elements: int
    failed_pages: tuple[PageFailure, ...] = ()
    repeats: int = 0
    found_again: int = 0
    relisted: bool = False
    unusable: tuple[UnusableRow, ...] = ()

    @property
    def bookings(self) -> frozenset[int]:
        """Every booking known to be on the list, including those of unusable rows."""
        unusable = [each.booking_id for each in self.unusable if each.booking_id is not None]
        return frozenset([*(each.booking_id for each in self.prisoners), *unusable])


def list_prisoners(
    nomis: ServiceClient,
    page_size: int,
    read_page: ReadPage,
    *,
    max_page_errors: int = 30,
    progress: Callable[[int, int], None] = no_progress,
    begin: Callable[[Sequence[PrisonerId]], None] = _everyone_first,
) -> Listing:
    """Lists all active bookings, and lists them again if NOMIS's count changed or differs from the number found.

    They are not listed again if a page failed. read_page: reads a page with retries. begin: called with the prisoners
    of the first page that can be read, before the other pages are read. Raises `ListingFailed` if the count cannot be
    read or more than `max_page_errors` pages fail.
    """
    found: dict[int, PrisonerId] = {}
    sweep = _Sweep(nomis, page_size, max_page_errors, read_page, progress)
    sweep.run(found, begin)
    listing = Listing(
        _ordered(found, sweep.unusable),
        sweep.total,
        tuple(sweep.failures),
        sweep.repeats,
        unusable=tuple(sweep.unusable.values()),
    )
    if sweep.failures or not (sweep.moved or sweep.count != sweep.total):
        return listing
    return relist(nomis, listing, page_size, read_page)


def relist(nomis: ServiceClient, listing: Listing, page_size: int, read_page: ReadPage) -> Listing:
    """Adds the prisoners whom a listing missed because they moved from one page to another between two reads.

    The list is read again, in larger pages with other boundaries, until two successive readings find the same. Reading
    also ends when the number found is NOMIS's count and no new booking id is below the highest known one (higher ids
    belong to receptions). There are at most `MOST_SWEEPS` further readings. Earlier failed pages are then dropped,
    because their prisoners have been seen. If a page fails, or the count does not match, `failed_pages` says so.
    """
    found = {each.booking_id: each for each in listing.prisoners}
    unusable = {_identity(each, page_size): each for each in listing.unusable}
    total = listing.total_elements
    failures: tuple[PageFailure, ...] = listing.failed_pages
    before = (total, frozenset(found))
    for turn in range(MOST_SWEEPS):
        known, highest = set(found), max(found, default=0)
        size = _other_size(page_size, turn)
        sweep = _Sweep(nomis, size, _FURTHEST_PAGE, read_page)
        with suppress(ListingFailed):  # the sweep keeps its failures
            sweep.run(found)
        unusable = {**sweep.unusable, **unusable}
        if sweep.failures:
            failures = (*listing.failed_pages, *_named(sweep.failures, size))
            break
        total, steady = sweep.total, sweep.bookings == before
        before = sweep.bookings
        failures = sweep.miscounted(len(_ordered(found, unusable)) + len(unusable), steady=steady)
        if steady or (not failures and not any(booking_id < highest for booking_id in found.keys() - known)):
            break
    prisoners = _ordered(found, unusable)
    return replace(
        listing,
        prisoners=prisoners,
        total_elements=total,
        failed_pages=failures,
        found_again=listing.found_again + max(0, len(prisoners) - len(listing.prisoners)),
        relisted=True,
        unusable=tuple(unusable.values()),
    )


class _Sweep:
    """One reading of all pages."""

    def __init__(
        self,
        nomis: ServiceClient,
        page_size: int,
        max_page_errors: int,
        read_page: ReadPage,
        progress: Callable[[int, int], None] = no_progress,
    ) -> None:
        self._nomis = nomis
        self._size = page_size
        self._max_page_errors = max_page_errors
        self._read_page = read_page
        self._progress = progress
        self.total = 0
        self.moved = False
        self.repeats = 0
        #: The number of bookings that occur twice on one page, which movement cannot explain.
        self.twice = 0
        self.failures: list[PageFailure] = []
        #: Invalid rows by their identity.
        self.unusable: dict[object, UnusableRow] = {}
        self._seen: dict[int, str] = {}
        self._last_read = -1
        self._more_follow = False

    def run(
        self, found: dict[int, PrisonerId], begin: Callable[[Sequence[PrisonerId]], None] = _everyone_first
    ) -> None:
        """Adds the prisoners of all pages to `found`; calls `begin` with those of the first page that can be read."""
        begun = self._begin(found)
        begin(tuple(found.values()))
        with TracedThreads(PAGES_AHEAD, thread_name_prefix="listing") as pool:
            numbers = range(begun + 1, min(self._pages(), _FURTHEST_PAGE))
            try:
                for page in pool.map(self._read, numbers):
                    self._take(page, found)
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
        # Receptions lengthen the list while it is read, and its count may be wrong: continue up to the last page.
        number = self._pages_seen(begun)
        while (number < self._pages() or self._more_follow) and number < _FURTHEST_PAGE:
            before, page = self.count, self._read(number)
            self._take(page, found)
            if number >= self._pages():
                if isinstance(page, PageFailure):
                    break
                if self._more_follow and self.count == before:
                    why = "NOMIS says that more pages follow, but this page has no new bookings"
                    self.failures.append(PageFailure(number, why))
                    break
            number += 1

    @property
    def count(self) -> int:
        """How many bookings the pages hold, including those of unusable rows."""
        return len(self._seen) + sum(each.booking_id not in self._seen for each in self.unusable.values())

    @property
    def bookings(self) -> tuple[int, frozenset[int]]:
        """NOMIS's count and the bookings found. Two sweeps between which nothing changed agree on both."""
        unusable = {each.booking_id for each in self.unusable.values()}
        return self.total, frozenset(self._seen.keys() - unusable)

    def miscounted(self, found: int, *, steady: bool) -> tuple[PageFailure, ...]:
        """A failure if the number of bookings on the pages differs from NOMIS's count; otherwise an empty tuple.

        found: how many bookings all sweeps together found; while prisoners move, NOMIS's count is compared with this
        number. steady: whether this sweep found the same count and bookings as the previous sweep.
        """
        lacking = self.total - self.count
        if lacking > 0 and not steady:
            lacking = max(self.total - found, self.twice)
        if lacking > 0:
            reason = f"NOMIS counts {self.total} active prisoners, but its pages lack {lacking} of them"
            return (PageFailure(self._pages(), reason),)
        if lacking < 0 and steady:
            reason = f"NOMIS counts {self.total} active prisoners, but its pages have {self.count}"
            return (PageFailure(self._pages(), reason),)
        return ()

    def _begin(self, found: dict[int, PrisonerId]) -> int:
        """Learns the total from the first page, or from the second if the first fails; returns the page number."""
        for number in (0, 1):
            page = self._read(number)
            if not isinstance(page, PageFailure):
                self.total = page.total_elements
                # A service may return smaller pages than requested, and then there are more pages.
                self._size = page.size
                if number and not page.prisoners:
                    break
                self._take(page, found)
                return number
            self._take(page, found)
        raise ListingFailed(f"the number of active prisoners could not be read: {self.failures[0].reason}")

    def _pages(self) -> int:
        return -(-self.total // self._size)

    def _pages_seen(self, begun: int) -> int:
        return max(self._last_read, begun, *(failure.page for failure in self.failures), 0) + 1

    def _read(self, number: int) -> PrisonerPage | PageFailure:
        try:
            return self._read_page(lambda: prisoner_page(self._nomis, number, self._size))
        except SyncError as error:
            return PageFailure(number, failed_read(error).reason)

    def _take(self, page: PrisonerPage | PageFailure, found: dict[int, PrisonerId]) -> None:
        if isinstance(page, PageFailure):
            self.failures.append(page)
            if len(self.failures) > self._max_page_errors:
                raise ListingFailed(f"more than {self._max_page_errors} pages failed; last page: {page.reason}")
            return
        if page.number > self._last_read:
            self._last_read, self._more_follow = page.number, not page.last
        if page.total_elements != self.total:
            self.moved = True
            self.total = page.total_elements
        for row in page.unusable:
            self.unusable[_identity(row, self._size)] = row
        on_page: set[int] = set()
        for place, prisoner in enumerate(page.prisoners, start=1):
            booking_id, offender_no = prisoner.booking_id, prisoner.offender_no
            known = self._seen.setdefault(booking_id, offender_no)
            if known != offender_no:
                why = f"NOMIS lists the booking for {known} and for {offender_no}"
                row = UnusableRow(page.number, place, booking_id, known, why)
                self.unusable[_identity(row, self._size)] = row
            self.repeats += booking_id in found
            self.twice += booking_id in on_page
            on_page.add(booking_id)
            found[booking_id] = prisoner
        self._progress(len(found), max(self.total, len(found)))


def _identity(row: UnusableRow, page_size: int) -> object:
    """What identifies a row across sweeps: its booking id, or else its prisoner number, or else its position."""
    if row.booking_id is not None:
        return "booking", row.booking_id
    return ("prisoner", row.offender_no) if row.offender_no else ("place", row.page * page_size + row.row)


def _other_size(page_size: int, turn: int) -> int:
    """A page size larger than `page_size`: it gives fewer page boundaries, mostly where other sweeps have none."""
    return min(20_000 - turn, 5 * page_size + max(1, page_size // 3) * (turn + 1))


def _named(failures: Iterable[PageFailure], size: int) -> tuple[PageFailure, ...]:
    """The failures of a sweep, with its page size `size` added to each reason."""
    return tuple(PageFailure(each.page, f"repeated listing, {size} to a page: {each.reason}") for each in failures)


def _ordered(found: Mapping[int, PrisonerId], unusable: Mapping[object, UnusableRow]) -> tuple[PrisonerId, ...]:
    contradictory = {each.booking_id for each in unusable.values()}
    return tuple(found[booking_id] for booking_id in sorted(found.keys() - contradictory))
