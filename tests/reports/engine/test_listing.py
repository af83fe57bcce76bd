"""The listing of active prisoners, over pages that move and pages that fail."""

from __future__ import annotations

from contextlib import closing, suppress

import pytest

from reports.engine.listing import ListingFailed, list_prisoners, relist
from sandbox import Sandbox
from sync.failures import SyncError
from sync.settings.declaration import UpstreamName
from sync.upstream.breaker import Breakers
from sync.upstream.prisoners import prisoner_page
from sync.upstream.services import connect
from sync.upstream.transport import Transport
from tests.reports.conftest import OpenOffice


def bookings(world: Sandbox) -> set[int]:
    """The bookings that are active now."""
    return {each["bookingId"] for each in world.prisoners()}


def quick(_seconds: float) -> None:
    """Does not wait."""


def test_waits_while_the_service_is_taken_to_be_down(world: Sandbox, office: OpenOffice) -> None:
    """An outage shorter than a minute costs no page of the list."""
    world.reset(prisoners=100)
    world.fault("nomis", kind="status", status=503)
    one = office()
    passed = 0.0

    def wait(seconds: float) -> None:
        nonlocal passed
        passed += seconds
        if passed > 20:
            world.clear_faults()

    breakers = Breakers(one.database, one.telemetry, lambda name: transport.reach(name), lambda: passed)
    with closing(Transport(one.settings, (breakers,))) as transport:
        nomis = connect(transport).nomis
        for number in range(5):
            with suppress(SyncError):
                prisoner_page(nomis, number, 20)
        assert breakers.open_services([UpstreamName.NOMIS])
        listing = list_prisoners(nomis, 20, sleep=wait)
    assert listing.failed_pages == ()
    assert len(listing.prisoners) == 100


@pytest.mark.parametrize("size", [7, 50, 300])
def test_lists_everyone_once_and_in_order(world: Sandbox, office: OpenOffice, size: int) -> None:
    """Every active booking, each once, by booking id; one call a page, one more at most."""
    world.reset(prisoners=300)
    listing = list_prisoners(office().services.nomis, size)
    found = [each.booking_id for each in listing.prisoners]
    assert found == sorted(bookings(world))
    assert listing.total_elements == 300
    assert len(world.requests("nomis")) <= -(-300 // size) + 1


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_misses_nobody_who_stayed_while_others_moved(world: Sandbox, office: OpenOffice, seed: int) -> None:
    """With releases and receptions at every page, whoever was active all the time is listed, and nobody twice."""
    world.reset(prisoners=400, seed=seed, moving=2)
    before = bookings(world)
    nomis = office().services.nomis
    listing = relist(nomis, list_prisoners(nomis, 20), 20)
    found = [each.booking_id for each in listing.prisoners]
    assert len(found) == len(set(found))
    assert before & bookings(world) <= set(found)
    assert world.planted()["movements"]


def test_names_the_page_that_fails_and_reads_the_others(world: Sandbox, office: OpenOffice) -> None:
    """A page that cannot be read costs its own prisoners only; it can be read again later."""
    world.reset(prisoners=100)
    nomis = office().services.nomis
    world.fault("nomis", "GET", "/prisoners/ids", kind="status", query="page=2", status=503)
    listing = list_prisoners(nomis, 20, sleep=quick)
    assert [each.page for each in listing.failed_pages] == [2]
    assert "503" in listing.failed_pages[0].reason
    assert len(listing.prisoners) == 80
    world.clear_faults()
    again = relist(nomis, listing, 20)
    assert not again.failed_pages
    assert {each.booking_id for each in again.prisoners} == bookings(world)


def test_reads_on_when_the_first_page_fails(world: Sandbox, office: OpenOffice) -> None:
    """The count can be learnt from another page than the first."""
    world.reset(prisoners=100)
    world.fault("nomis", "GET", "/prisoners/ids", kind="status", query="page=0", status=500)
    listing = list_prisoners(office().services.nomis, 20, sleep=quick)
    assert [each.page for each in listing.failed_pages] == [0]
    assert len(listing.prisoners) == 80


@pytest.mark.parametrize("most", [0, 2])
def test_gives_up_when_too_many_pages_fail(world: Sandbox, office: OpenOffice, most: int) -> None:
    """More failed pages than allowed end the listing."""
    world.reset(prisoners=100)
    for page in (1, 2, 3, 4):
        world.fault("nomis", "GET", "/prisoners/ids", kind="status", status=400, query=f"page={page}")
    with pytest.raises(ListingFailed, match=f"more than {most} pages failed"):
        list_prisoners(office().services.nomis, 20, max_page_errors=most, sleep=quick)


def test_says_that_not_even_the_count_can_be_read(world: Sandbox, office: OpenOffice) -> None:
    """Without any page there is no listing."""
    world.fault("nomis", "GET", "/prisoners/ids", kind="status", status=502)
    with pytest.raises(ListingFailed, match="number of active prisoners"):
        list_prisoners(office().services.nomis, 20, sleep=quick)
