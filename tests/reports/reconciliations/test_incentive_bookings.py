"""The search for single active bookings: first in a few pages of the list, and in the whole list if necessary."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from urllib.parse import parse_qs, urlsplit

import pytest

from reports.engine.parallel_reader import FailedRead
from reports.engine.shared_reads import SharedReads
from reports.reconciliations.incentives.bookings import ActiveBookingLookup
from reports.reconciliations.incentives.listing import list_prisoners
from sandbox import Sandbox
from sync.upstream.prisoners import PrisonerPage
from tests.harness.faults import held
from tests.harness.reads import PlainReads
from tests.harness.reconciliations import OpenApp
from tests.harness.waiting import in_thread, result_of


def read_once(read: Callable[[], PrisonerPage]) -> PrisonerPage:
    """Reads a page without retries."""
    return read()


def active(lookup: ActiveBookingLookup, *bookings: int) -> list[bool | FailedRead]:
    """Whether each of `bookings` is active, or why this is not known."""
    return list(lookup.find_active(bookings, PlainReads()).values())


def failure(lookup: ActiveBookingLookup, booking_id: int) -> str:
    """Why it is not known whether the booking is active."""
    (found,) = active(lookup, booking_id)
    assert isinstance(found, FailedRead)
    return found.reason


@pytest.mark.parametrize("listed_before", [False, True])
def test_listed_bookings_are_found_and_others_are_not(
    upstream: Sandbox, open_app: OpenApp, listed_before: bool
) -> None:
    """An active booking is found.

    A released or unknown booking is not found, whatever an earlier reading of the list contained.
    """
    upstream.reset(prisoners=200)
    nomis = open_app().services.nomis
    listing = list_prisoners(nomis, 10, read_once) if listed_before else None
    everyone = sorted(upstream.prisoners(), key=lambda each: int(each["bookingId"]))
    lookup = ActiveBookingLookup(nomis, 10, listing)
    assert active(lookup, *(each["bookingId"] for each in everyone[::17])) == [True] * 12
    leaver = everyone[50]
    upstream.release(leaver["offenderNo"])
    lookup = ActiveBookingLookup(nomis, 10, listing)
    stays, left = everyone[51]["bookingId"], leaver["bookingId"]
    assert active(lookup, stays, left, 1, everyone[-1]["bookingId"] + 1) == [True, False, False, False]


def test_the_last_known_page_is_read_first(upstream: Sandbox, open_app: OpenApp) -> None:
    """The search for a booking begins on its last known page, so one call can show that the booking is still active."""
    upstream.reset(prisoners=200)
    nomis = open_app().services.nomis
    listing = list_prisoners(nomis, 10, read_once)
    upstream.clear_records()
    lookup = ActiveBookingLookup(nomis, 10, listing)
    assert active(lookup, listing.prisoners[3].booking_id, listing.prisoners[157].booking_id) == [True, True]
    pages = [parse_qs(urlsplit(each["path"]).query)["page"] for each in upstream.requests("nomis")]
    assert pages == [["0"], ["15"]]


def test_concurrent_searches_share_a_page(upstream: Sandbox, open_app: OpenApp) -> None:
    """If several callers search the same page at the same time, the page is read only once."""
    upstream.reset(prisoners=50)
    nomis = open_app().services.nomis
    listing = list_prisoners(nomis, 50, read_once)
    upstream.clear_records()
    lookup = ActiveBookingLookup(nomis, 50, listing)
    with held(upstream, "nomis", path="/prisoners/ids") as hold:
        asking = [in_thread(lookup.is_on_page, each.booking_id) for each in listing.prisoners[:3]]
        hold.wait_for_request()
    assert [result_of(each) for each in asking] == [True, True, True]
    assert len(upstream.requests("nomis")) == 1


def test_a_failed_page_is_read_again_for_the_next_search(upstream: Sandbox, open_app: OpenApp) -> None:
    """If a page cannot be read, the search fails with the reason, and the next search reads the page again."""
    upstream.reset(prisoners=50)
    lookup = ActiveBookingLookup(open_app().services.nomis, 50)
    booking_id = upstream.prisoners()[0]["bookingId"]
    upstream.fault("nomis", path="/prisoners/ids", kind="status", status=400, times=1)
    assert "400" in failure(lookup, booking_id)
    assert active(lookup, booking_id) == [True]


def test_a_prisoner_who_moved_to_an_earlier_page_is_found(upstream: Sandbox, open_app: OpenApp) -> None:
    """If a release moves a prisoner to a page that has already been read, the prisoner is found in the whole list."""
    upstream.reset(prisoners=50)
    nomis = open_app().services.nomis
    listing = list_prisoners(nomis, 10, read_once)
    lookup = ActiveBookingLookup(nomis, 10, listing)
    assert active(lookup, listing.prisoners[15].booking_id) == [True]
    upstream.release(listing.prisoners[0].offender_no)
    assert active(lookup, listing.prisoners[20].booking_id) == [True]


def test_an_empty_list_is_not_a_release(upstream: Sandbox, open_app: OpenApp) -> None:
    """If the list is empty, but was not at an earlier reading, the search fails, so that nobody counts as released.

    Without an earlier reading, an empty list is accepted.
    """
    upstream.reset(prisoners=30)
    nomis = open_app().services.nomis
    listing = list_prisoners(nomis, 10, read_once)
    upstream.reset(prisoners=0)
    booking_id = listing.prisoners[3].booking_id
    why = failure(ActiveBookingLookup(nomis, 10, listing), booking_id)
    assert why == "NOMIS lists no active prisoners, but it listed 30 before"
    assert active(ActiveBookingLookup(nomis, 10), booking_id) == [False]


def test_a_prisoner_on_a_new_page_is_found(upstream: Sandbox, open_app: OpenApp) -> None:
    """A prisoner is found on a page that did not exist when the list was first read."""
    upstream.reset(prisoners=30)
    nomis = open_app().services.nomis
    listing = list_prisoners(nomis, 10, read_once)
    shorter = replace(listing, prisoners=listing.prisoners[:20], total_elements=20)
    assert active(ActiveBookingLookup(nomis, 10, shorter), listing.prisoners[-1].booking_id) == [True]


def test_a_search_that_waits_for_the_whole_list_can_be_stopped(upstream: Sandbox, open_app: OpenApp) -> None:
    """The whole list is read with the calls of the run, so the run can be stopped while a page is tried again."""
    upstream.reset(prisoners=20)
    upstream.fault("nomis", "GET", "/prisoners/ids", kind="status", status=503, query="size=5000")

    def stop(_seconds: float) -> None:
        raise KeyboardInterrupt

    services = open_app().services
    reads = SharedReads(services, sleep=stop)
    with pytest.raises(KeyboardInterrupt):
        ActiveBookingLookup(services.nomis, 10).find_active([1], reads)
    reads.stop()
