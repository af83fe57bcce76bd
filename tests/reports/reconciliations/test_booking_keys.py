"""The listing of bookings by key loses no booking, and names what it cannot list."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reports.engine.key_walk import KeyGap, KeyPage, walk_bookings
from reports.engine.shared_reads import SharedReads
from sandbox import Sandbox
from sync.errors import BreakerOpen, SyncError, UpstreamError
from sync.settings import times
from sync.settings.loading import load_settings
from sync.upstream.prisoners import PrisonerId, latest_bookings
from sync.upstream.services import Services
from tests.harness.reads import PlainReads

IDS = st.lists(st.integers(1, 3_000), unique=True, max_size=60).map(sorted)


class Bookings:
    """A list of bookings, some of which make every page that contains them fail."""

    def __init__(self, ids: Sequence[int], broken: frozenset[int] = frozenset()) -> None:
        self.ids = ids
        self.broken = broken
        self.calls: list[tuple[int, int]] = []

    def read(self, key: int, size: int) -> list[PrisonerId]:
        """Returns the next `size` bookings after `key`, or raises an error if a broken booking is among them."""
        self.calls.append((key, size))
        start = bisect_right(self.ids, key)
        page = self.ids[start : start + size]
        if self.broken.intersection(page):
            raise UpstreamError("nomis", "GET", "/bookings", status=500, message="broken", from_service=True)
        return [PrisonerId(each, f"A{each:04d}AA") for each in page]


def walk(bookings: Bookings, size: int) -> tuple[list[int], list[KeyGap]]:
    """The ids that were listed, and the gaps."""
    found = list(walk_bookings(PlainReads(), bookings.read, size))
    pages = [each for each in found if isinstance(each, KeyPage)]
    for page in pages:
        assert page.key < page.bookings[0].booking_id
    return (
        [booking.booking_id for page in pages for booking in page.bookings],
        [each for each in found if isinstance(each, KeyGap)],
    )


@given(IDS, st.integers(1, 70))
def test_every_booking_is_listed_once_in_order(ids: list[int], size: int) -> None:
    """Every booking is listed once, in order, for any page size.

    If the page size divides the number of bookings exactly, the last page is empty.
    """
    bookings = Bookings(ids)
    assert walk(bookings, size) == (ids, [])
    assert len(bookings.calls) == len(ids) // size + 1


@given(IDS, st.integers(1, 70), st.data())
def test_every_booking_is_listed_or_in_a_gap(ids: list[int], size: int, data: st.DataObject) -> None:
    """Each booking is listed once or lies in a gap, and every gap contains a booking that cannot be listed."""
    broken = frozenset(data.draw(st.lists(st.sampled_from(ids)))) if ids else frozenset()
    listed, gaps = walk(Bookings(ids, broken), size)
    lost = [each for each in ids if each not in listed]
    assert sorted([*listed, *lost]) == ids
    assert listed == sorted(listed)
    assert broken.issubset(lost)
    spans = [range(gap.first, 10**18 if gap.last is None else gap.last + 1) for gap in gaps]
    assert all(sum(each in span for span in spans) == 1 for each in lost)
    assert all(broken.intersection(span) for span in spans)


def test_an_unreadable_end_of_the_list_is_one_gap() -> None:
    """If nothing can be read after a key, one gap without an end is left."""

    def read(key: int, size: int) -> list[PrisonerId]:
        return Bookings([key + 1], frozenset({key + 1})).read(key, size)

    [gap] = walk_bookings(PlainReads(), read, 10)
    assert isinstance(gap, KeyGap)
    assert (gap.first, gap.last, str(gap)) == (1, None, "bookings from 1")


@given(IDS, st.integers(1, 70), st.integers(0, 3_000), st.integers(0, 3_000))
def test_only_the_requested_part_is_listed(ids: list[int], size: int, after: int, last: int) -> None:
    """Only the bookings with ids above `after`, up to and including `last`, are listed."""
    pages = walk_bookings(PlainReads(), Bookings(ids).read, size, after, last)
    listed = [booking.booking_id for page in pages if isinstance(page, KeyPage) for booking in page.bookings]
    assert listed == [each for each in ids if after < each <= last]


@pytest.mark.parametrize("error", [BreakerOpen("nomis"), UpstreamError("nomis", "GET", "/", status=403, message="no")])
def test_an_outage_ends_the_listing(error: SyncError) -> None:
    """If the breaker is open or NOMIS refuses the credentials, the listing raises the error and skips no booking."""

    def read(key: int, size: int) -> list[PrisonerId]:
        raise error

    with pytest.raises(type(error)):
        list(walk_bookings(PlainReads(), read, 5))


@pytest.fixture
def services(upstream: Sandbox) -> Iterator[Services]:
    """The services of a sandbox with twenty prisoners."""
    services = Services(load_settings(upstream.environment()))
    yield services
    services.close()


def walk_nomis(services: Services, size: int, waits: list[float] | None = None) -> tuple[list[int], list[KeyGap]]:
    """The ids of the active bookings that NOMIS lists, and the gaps. Adds the waits to `waits` instead of waiting."""
    reads = SharedReads(services, sleep=([] if waits is None else waits).append)

    def read(key: int, most: int) -> tuple[PrisonerId, ...]:
        return latest_bookings(services.nomis, key, most, active_only=True)

    found = list(walk_bookings(reads, read, size))
    listed = [booking.booking_id for page in found if isinstance(page, KeyPage) for booking in page.bookings]
    return listed, [each for each in found if isinstance(each, KeyGap)]


@pytest.mark.parametrize("size", [1, 7, 10, 20, 21])
def test_all_active_bookings_of_nomis_are_listed(services: Services, upstream: Sandbox, size: int) -> None:
    """All active bookings are listed, even if the last page is full."""
    everyone = sorted(each["bookingId"] for each in upstream.prisoners())
    assert walk_nomis(services, size) == (everyone, [])


def test_a_page_is_retried_before_it_becomes_a_gap(services: Services, upstream: Sandbox) -> None:
    """A page that fails three times is read at the next attempt, after waits of 1, 5 and 20 seconds with jitter."""
    everyone = sorted(each["bookingId"] for each in upstream.prisoners())
    upstream.fault("nomis", path="/bookings/ids/latest-from-id", query=f"bookingId={everyone[9]}", status=500, times=3)
    waits: list[float] = []
    assert walk_nomis(services, 5, waits) == (everyone, [])
    assert times.PAGE_RETRY_SECONDS == (1, 5, 20)
    assert all(low <= each <= 2 * low for low, each in zip(times.PAGE_RETRY_SECONDS, waits, strict=True))


def test_a_page_that_stays_broken_is_a_gap(services: Services, upstream: Sandbox) -> None:
    """If a page stays broken, only the bookings up to the next key that works are in a gap."""
    everyone = sorted(each["bookingId"] for each in upstream.prisoners())
    for key in (everyone[9], everyone[9] + 1):
        upstream.fault("nomis", path="/bookings/ids/latest-from-id", query=f"bookingId={key}", status=500)
    listed, gaps = walk_nomis(services, 5)
    [gap] = gaps
    assert (gap.first, gap.last) == (everyone[9] + 1, everyone[9] + 10)
    assert listed == [each for each in everyone if not gap.first <= each <= everyone[9] + 10]


@pytest.mark.parametrize(
    "body",
    [
        {"prisonerIds": [{"bookingId": 8, "offenderNo": "A1234BC"}, {"bookingId": 7, "offenderNo": "A1234BD"}]},
        {"prisonerIds": [{"bookingId": 0, "offenderNo": "A1234BC"}], "lastBookingId": 0},
        {"prisonerIds": [{"bookingId": 8, "offenderNo": "A1234BC"}], "lastBookingId": 9},
        {"prisonerIds": [{"bookingId": 8}], "lastBookingId": 8},
        {"prisonerIds": [{"bookingId": each, "offenderNo": "A1234BC"} for each in range(1, 9)], "lastBookingId": 8},
        {"content": []},
        [],
    ],
)
def test_an_implausible_page_is_refused(services: Services, upstream: Sandbox, body: object) -> None:
    """A page is refused if its ids do not ascend from the key, or if they contradict the last id that it gives.

    It is also refused if it has too many rows, incomplete rows or a different format.
    """
    upstream.fault("nomis", path="/bookings/ids/latest-from-id", status=200, body=body)
    with pytest.raises(UpstreamError, match="cannot be right"):
        latest_bookings(services.nomis, 0, 5, active_only=True)


def test_a_nomis_without_the_list_is_too_old(services: Services, upstream: Sandbox) -> None:
    """If NOMIS does not have the route, the listing raises an error that says so, and skips no booking."""
    upstream.reset(prisoners=20, generation="2023")
    with pytest.raises(UpstreamError) as caught:
        walk_nomis(services, 5)
    assert caught.value.no_route
