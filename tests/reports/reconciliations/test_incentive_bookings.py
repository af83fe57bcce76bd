"""The search for single active bookings: first in a few pages of the list, and in the whole list if necessary."""

from __future__ import annotations

from dataclasses import replace
from urllib.parse import parse_qs, urlsplit

import pytest

from reports.reconciliations.incentives.bookings import ActiveBookingLookup
from reports.reconciliations.incentives.listing import ListingFailed, list_prisoners
from sandbox import Sandbox
from sync.errors import UpstreamError
from tests.harness.faults import held
from tests.harness.reconciliations import OpenApp
from tests.harness.waiting import in_thread, result_of


@pytest.mark.parametrize("listed_before", [False, True])
def test_listed_bookings_are_found_and_others_are_not(
    upstream: Sandbox, open_app: OpenApp, listed_before: bool
) -> None:
    """An active booking is found.

    A released or unknown booking is not found, whatever an earlier reading of the list contained.
    """
    upstream.reset(prisoners=200)
    nomis = open_app().services.nomis
    listing = list_prisoners(nomis, 10) if listed_before else None
    everyone = sorted(upstream.prisoners(), key=lambda each: int(each["bookingId"]))
    is_active = ActiveBookingLookup(nomis, 10, listing)
    assert all(is_active(each["bookingId"]) for each in everyone[::17])
    leaver = everyone[50]
    upstream.release(leaver["offenderNo"])
    is_active = ActiveBookingLookup(nomis, 10, listing)
    assert is_active(everyone[51]["bookingId"])
    assert not is_active(leaver["bookingId"])
    assert not is_active(1)
    assert not is_active(everyone[-1]["bookingId"] + 1)


def test_the_last_known_page_is_read_first(upstream: Sandbox, open_app: OpenApp) -> None:
    """The search for a booking begins on its last known page, so one call can show that the booking is still active."""
    upstream.reset(prisoners=200)
    nomis = open_app().services.nomis
    listing = list_prisoners(nomis, 10)
    upstream.clear_records()
    is_active = ActiveBookingLookup(nomis, 10, listing)
    assert all(is_active(each.booking_id) for each in (listing.prisoners[3], listing.prisoners[157]))
    pages = [parse_qs(urlsplit(each["path"]).query)["page"] for each in upstream.requests("nomis")]
    assert pages == [["0"], ["15"]]


def test_concurrent_searches_share_a_page(upstream: Sandbox, open_app: OpenApp) -> None:
    """If several callers search the same page at the same time, the page is read only once."""
    upstream.reset(prisoners=50)
    nomis = open_app().services.nomis
    listing = list_prisoners(nomis, 50)
    upstream.clear_records()
    is_active = ActiveBookingLookup(nomis, 50, listing)
    with held(upstream, "nomis", path="/prisoners/ids") as hold:
        asking = [in_thread(is_active, each.booking_id) for each in listing.prisoners[:3]]
        hold.wait_for_request()
    assert [result_of(each) for each in asking] == [True, True, True]
    assert len(upstream.requests("nomis")) == 1


def test_a_failed_page_is_read_again_for_the_next_search(upstream: Sandbox, open_app: OpenApp) -> None:
    """If a page cannot be read, the search raises the error, and the next search reads the page again."""
    upstream.reset(prisoners=50)
    is_active = ActiveBookingLookup(open_app().services.nomis, 50)
    booking_id = upstream.prisoners()[0]["bookingId"]
    upstream.fault("nomis", path="/prisoners/ids", kind="status", status=400, times=1)
    with pytest.raises(UpstreamError, match="400"):
        is_active(booking_id)
    assert is_active(booking_id)


def test_a_prisoner_who_moved_to_an_earlier_page_is_found(upstream: Sandbox, open_app: OpenApp) -> None:
    """If a release moves a prisoner to a page that has already been read, the prisoner is found in the whole list."""
    upstream.reset(prisoners=50)
    nomis = open_app().services.nomis
    listing = list_prisoners(nomis, 10)
    is_active = ActiveBookingLookup(nomis, 10, listing)
    assert is_active(listing.prisoners[15].booking_id)
    upstream.release(listing.prisoners[0].offender_no)
    assert is_active(listing.prisoners[20].booking_id)


def test_an_empty_list_is_not_a_release(upstream: Sandbox, open_app: OpenApp) -> None:
    """If the list is empty, but was not at an earlier reading, the search fails, so that nobody counts as released.

    Without an earlier reading, an empty list is accepted.
    """
    upstream.reset(prisoners=30)
    nomis = open_app().services.nomis
    listing = list_prisoners(nomis, 10)
    upstream.reset(prisoners=0)
    with pytest.raises(ListingFailed, match="NOMIS lists no active prisoners, but it listed 30 before"):
        ActiveBookingLookup(nomis, 10, listing)(listing.prisoners[3].booking_id)
    assert not ActiveBookingLookup(nomis, 10)(listing.prisoners[3].booking_id)


def test_a_prisoner_on_a_new_page_is_found(upstream: Sandbox, open_app: OpenApp) -> None:
    """A prisoner is found on a page that did not exist when the list was first read."""
    upstream.reset(prisoners=30)
    nomis = open_app().services.nomis
    listing = list_prisoners(nomis, 10)
    shorter = replace(listing, prisoners=listing.prisoners[:20], total_elements=20)
    assert ActiveBookingLookup(nomis, 10, shorter)(listing.prisoners[-1].booking_id)
