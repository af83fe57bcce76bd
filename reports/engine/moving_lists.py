"""Lists that may change while their pages are read: they are read until two readings in a row find the same ids."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final, Generic, TypeVar

from sync.errors import BreakerOpen, UpstreamError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from reports.engine.reconciliation import Reads
    from sync.settings.upstreams import UpstreamName

Id = TypeVar("Id", int, str)
Item = TypeVar("Item")
#: A list is read at most this many times.
_READINGS: Final = 4


@dataclass(frozen=True, slots=True)
class ListPage(Generic[Id, Item]):
    """A page of a list: its items by their ids, and how many pages the list has now."""

    items: Mapping[Id, Item]
    pages: int


@dataclass(frozen=True, slots=True)
class WholeList(Generic[Id, Item]):
    """What was read of a list.

    items: every item that was on a page, including items that may have gone since. failed: by page number, counted from
    0, why a page could not be read. If the list changed each time it was read, the only key is None.
    """

    items: dict[Id, Item]
    failed: Mapping[int | None, str]


def read_moving_list(
    reads: Reads, service: UpstreamName, read_page: Callable[[int], ListPage[Id, Item]]
) -> WholeList[Id, Item]:
    """Every item of a list whose pages are numbered from 0.

    Items that come and go while the pages are read move the other items from page to page, and the total number of
    items does not always show this. So a list of several pages is read up to `_READINGS` times, until two readings in a
    row find the same ids, or a page cannot be read. Raises the `SyncError` of the call if the first page cannot be
    read, or if the service does not have the route.
    """
    found: dict[Id, Item] = {}
    before: set[Id] | None = None
    for _ in range(_READINGS):
        listed: set[Id] = set()
        failed: dict[int | None, str] = {}
        number, pages = 0, 1
        while number < pages:
            try:
                page = reads.page(service, partial(read_page, number))
            except (UpstreamError, BreakerOpen) as error:
                if not number or (isinstance(error, UpstreamError) and error.no_route):
                    raise
                failed[number] = str(error)
            else:
                pages = page.pages
                listed.update(page.items)
                found.update(page.items)
            number += 1
        if failed or pages <= 1 or listed == before:
            return WholeList(found, failed)
        before = listed
    return WholeList(found, {None: "the list changed each time it was read"})
