"""A list of several pages may change while it is read.

So it is read until two readings in a row agree, or a few times at most.
"""

from __future__ import annotations

import pytest

from reports.engine.moving_lists import ListPage, read_moving_list
from sync.errors import BreakerOpen, UpstreamError
from sync.settings.upstreams import UpstreamName
from tests.harness.reads import PlainReads

SIZE = 2


class Shelf:
    """A list in pages of two items, newest first. The list may change, and reading a page may fail.

    `changes` has the new contents of the list, by the number of the first call that sees them, counted from 0.
    `failing` has, by page number, the error of each page that cannot be read.
    """

    def __init__(self, numbers: list[int]) -> None:
        self.numbers = numbers
        self.changes: dict[int, list[int]] = {}
        self.failing: dict[int, Exception] = {}
        self.calls = 0

    def page(self, number: int) -> ListPage[int, str]:
        """Returns a page of the list, after the change that this call is the first to see, if there is one."""
        self.numbers = self.changes.get(self.calls, self.numbers)
        self.calls += 1
        if number in self.failing:
            raise self.failing[number]
        shown = self.numbers[number * SIZE : (number + 1) * SIZE]
        return ListPage({each: f"item {each}" for each in shown}, -(-len(self.numbers) // SIZE))

    def read(self) -> tuple[dict[int, str], dict[int | None, str]]:
        """Reads the whole list; returns its items and, for each page that could not be read, the reason."""
        found = read_moving_list(PlainReads(), UpstreamName.NOMIS, self.page)
        return found.items, dict(found.failed)


def test_one_page_is_read_once() -> None:
    """A list with a single page is read only once, since it cannot change between pages."""
    shelf = Shelf([2, 1])
    assert shelf.read() == ({2: "item 2", 1: "item 1"}, {})
    assert shelf.calls == 1


def test_an_item_that_moves_to_a_page_that_was_read_is_found() -> None:
    """An item that moves to a page already read is found, even if the total equals the number of items seen."""
    shelf = Shelf([5, 4, 3, 2, 1])
    shelf.changes = {1: [4, 3, 2, 1]}
    found, failed = shelf.read()
    assert set(found) == {5, 4, 3, 2, 1}
    assert failed == {}


def test_a_list_that_keeps_changing_is_incomplete() -> None:
    """A list that keeps changing counts as incomplete after a few readings, and the items that were seen are kept."""
    shelf = Shelf([2, 1, 0])
    shelf.changes = {call: [call + 10, 2, 1] for call in range(1, 20)}
    found, failed = shelf.read()
    assert {2, 1} <= set(found)
    assert failed == {None: "the list changed each time it was read"}


def test_a_later_page_that_fails_is_named() -> None:
    """If a page after the first cannot be read, it is named, and the other pages are read once.

    If the first page cannot be read, its error is raised.
    """
    shelf = Shelf([5, 4, 3, 2, 1])
    shelf.failing[1] = UpstreamError("nomis", "GET", "/x", status=500, message="no")
    found, failed = shelf.read()
    assert set(found) == {5, 4, 1}
    assert list(failed) == [1]
    assert shelf.calls == 3
    shelf.failing[0] = BreakerOpen("nomis")
    with pytest.raises(BreakerOpen):
        shelf.read()
