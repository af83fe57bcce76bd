"""The listing of active prisoners while prisoners move between the pages, or pages fail."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing, suppress

import pytest

from reports.engine.parallel_reader import retry
from reports.reconciliations.incentives.listing import ListingFailed, list_prisoners, relist
from sandbox import Sandbox
from sync.errors import SyncError
from sync.settings.upstreams import UpstreamName
from sync.upstream.breaker import Breakers
from sync.upstream.prisoners import PrisonerPage, prisoner_page
from sync.upstream.services import Services
from tests.harness.reconciliations import OpenApp


def bookings(upstream: Sandbox) -> set[int]:
    """The bookings that are active now."""
    return {each["bookingId"] for each in upstream.prisoners()}


def quickly(read: Callable[[], PrisonerPage]) -> PrisonerPage:
    """Reads a page with retries, but without pauses between them."""
    return retry(read, lambda _seconds: None)


def test_a_short_outage_costs_no_page(upstream: Sandbox, open_app: OpenApp) -> None:
    """If an outage is shorter than a minute, every page of the list is read."""
    upstream.reset(prisoners=100)
    upstream.fault("nomis", kind="status", status=503)
    one = open_app()
    passed = 0.0

    def wait(seconds: float) -> None:
        nonlocal passed
        passed += seconds
        if passed > 20:
            upstream.clear_faults()

    breakers = Breakers(one.database, one.telemetry, lambda name: services.reach(name), lambda: passed)
    with closing(Services(one.settings, (breakers,))) as services:
        nomis = services.nomis
        for number in range(5):
            with suppress(SyncError):
                prisoner_page(nomis, number, 20)
        assert breakers.open_services([UpstreamName.NOMIS])
        listing = list_prisoners(nomis, 20, lambda read: retry(read, wait, 60))
    assert listing.failed_pages == ()
    assert len(listing.prisoners) == 100


@pytest.mark.parametrize("size", [7, 50, 300])
def test_every_active_booking_is_listed_once(upstream: Sandbox, open_app: OpenApp, size: int) -> None:
    """All active bookings are listed in the order of their ids, with one call for each page and at most one more."""
    upstream.reset(prisoners=300)
    listing = list_prisoners(open_app().services.nomis, size, quickly)
    found = [each.booking_id for each in listing.prisoners]
    assert found == sorted(bookings(upstream))
    assert listing.total_elements == 300
    assert len(upstream.requests("nomis")) <= -(-300 // size) + 1


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_everyone_who_stays_is_listed_while_others_move(upstream: Sandbox, open_app: OpenApp, seed: int) -> None:
    """If prisoners come and go after each page is read, everyone who stays active is listed exactly once."""
    upstream.reset(prisoners=400, seed=seed, moving=2)
    before = bookings(upstream)
    nomis = open_app().services.nomis
    listing = relist(nomis, list_prisoners(nomis, 20, quickly), 20, quickly)
    found = [each.booking_id for each in listing.prisoners]
    assert len(found) == len(set(found))
    assert before & bookings(upstream) <= set(found)
    assert upstream.planted()["movements"]


def test_a_page_that_fails_is_named(upstream: Sandbox, open_app: OpenApp) -> None:
    """If a page cannot be read, it is named with the reason, and the prisoners on the other pages are listed.

    Reading the list again adds the prisoners on that page.
    """
    upstream.reset(prisoners=100)
    nomis = open_app().services.nomis
    upstream.fault("nomis", "GET", "/prisoners/ids", kind="status", query="page=2", status=503)
    listing = list_prisoners(nomis, 20, quickly)
    assert [each.page for each in listing.failed_pages] == [2]
    assert "503" in listing.failed_pages[0].reason
    assert len(listing.prisoners) == 80
    upstream.clear_faults()
    again = relist(nomis, listing, 20, quickly)
    assert not again.failed_pages
    assert {each.booking_id for each in again.prisoners} == bookings(upstream)


def test_listing_continues_if_the_first_page_fails(upstream: Sandbox, open_app: OpenApp) -> None:
    """If the first page fails, another page gives the number of prisoners, and those on all other pages are listed."""
    upstream.reset(prisoners=100)
    upstream.fault("nomis", "GET", "/prisoners/ids", kind="status", query="page=0", status=500)
    listing = list_prisoners(open_app().services.nomis, 20, quickly)
    assert [each.page for each in listing.failed_pages] == [0]
    assert len(listing.prisoners) == 80


@pytest.mark.parametrize("most", [0, 2])
def test_too_many_failed_pages_end_the_listing(upstream: Sandbox, open_app: OpenApp, most: int) -> None:
    """If more pages fail than the setting allows, the listing fails."""
    upstream.reset(prisoners=100)
    for page in (1, 2, 3, 4):
        upstream.fault("nomis", "GET", "/prisoners/ids", kind="status", status=400, query=f"page={page}")
    with pytest.raises(ListingFailed, match=f"more than {most} pages failed"):
        list_prisoners(open_app().services.nomis, 20, quickly, max_page_errors=most)


def test_the_listing_fails_if_no_page_can_be_read(upstream: Sandbox, open_app: OpenApp) -> None:
    """If no page can be read, the listing fails, because even the number of active prisoners is not known."""
    upstream.fault("nomis", "GET", "/prisoners/ids", kind="status", status=502)
    with pytest.raises(ListingFailed, match="number of active prisoners"):
        list_prisoners(open_app().services.nomis, 20, quickly)
