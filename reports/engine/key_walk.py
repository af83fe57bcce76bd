"""Lists bookings by key: each page holds the next bookings after the last id of the previous page, in order of id.

A walk cannot pass an unread page without losing an unknown number of bookings. So if a page stays unreadable, only the
next booking is read, and the pages grow again from there. If even that booking cannot be read, the walk tries ever
greater ids, and reports the ids in between as a gap.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from sync.errors import BreakerOpen, SyncError, UpstreamError
from sync.settings.upstreams import UpstreamName

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from reports.engine.reconciliation import Reads
    from sync.upstream.prisoners import PrisonerId

    #: `(key, size)`: reads the first `size` bookings with ids greater than the key; fewer only at the end of the list.
    ReadPage = Callable[[int, int], Sequence[PrisonerId]]
    #: `Reads.page` or `Reads.one`.
    Call = Callable[[UpstreamName, Callable[[], Sequence[PrisonerId]]], Sequence[PrisonerId]]

#: The longest step past an id that cannot be read is ten to this power, which is more ids than there are bookings.
_LONGEST_STEP = 9


@dataclass(frozen=True, slots=True)
class KeyPage:
    """A page: the bookings that follow `key`."""

    key: int
    bookings: tuple[PrisonerId, ...]


@dataclass(frozen=True, slots=True)
class KeyGap:
    """A gap: the booking ids from `first` to `last`, both inclusive, which could not be listed.

    last: None if no booking with an id greater than `first` could be read.
    """

    first: int
    last: int | None
    reason: str

    @property
    def key(self) -> int:
        """The key of the page that could not be read."""
        return self.first - 1

    def __str__(self) -> str:
        return f"bookings from {self.first}" + ("" if self.last is None else f" to {self.last}")


def walk_bookings(
    reads: Reads, read: ReadPage, page_size: int, after: int = 0, last: int | None = None
) -> Iterator[KeyPage | KeyGap]:
    """Yields the pages of bookings in order, and the gaps between them.

    after, last: only bookings with ids above `after` and up to `last` are listed; by default, all bookings are. If a
    page still fails after its retries, a page of one booking is read. If that fails too, pages of one booking are tried
    after the next id, then after the tenth id, after the hundredth, … When one succeeds, the pages grow back to
    `page_size`. Raises `SyncError` if NOMIS does not have the list, refuses the credentials or is down, because then
    the page is not at fault.
    """
    key, size = after, page_size
    while last is None or key < last:
        found = _tried(reads.page, read, key, size)
        if isinstance(found, SyncError):
            size = 1
            found = _tried(reads.one, read, key, size)
        if isinstance(found, SyncError):
            gap, found = _skip(reads, read, key, found)
            yield gap
            key = key if gap.last is None else gap.last
        wanted = tuple(each for each in found if last is None or each.booking_id <= last)
        if wanted:
            yield KeyPage(key, wanted)
        if len(found) < size:
            return
        # Not the last id that the page itself gives, which is 0 for an empty page.
        key = found[-1].booking_id
        size = min(2 * size, page_size)


def _skip(reads: Reads, read: ReadPage, key: int, error: SyncError) -> tuple[KeyGap, tuple[PrisonerId, ...]]:
    """The gap after `key`, with `error` as its reason, and the booking that follows the gap, if one could be read."""
    for power in range(_LONGEST_STEP + 1):
        last = key + 10**power
        found = _tried(reads.one, read, last, 1)
        if not isinstance(found, SyncError):
            return KeyGap(key + 1, last, str(error)), found
    return KeyGap(key + 1, None, str(error)), ()


def _tried(call: Call, read: ReadPage, key: int, size: int) -> tuple[PrisonerId, ...] | SyncError:
    try:
        return tuple(call(UpstreamName.NOMIS, partial(read, key, size)))
    except SyncError as error:
        of_service = isinstance(error, UpstreamError) and (error.no_route or error.credentials_refused)
        if of_service or isinstance(error, BreakerOpen):
            raise
        return error
