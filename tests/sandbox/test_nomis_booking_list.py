"""The list in NOMIS of each prisoner's latest booking. Each page begins after a given booking id."""

from __future__ import annotations

from typing import Any

import pytest

from tests.harness.sandboxes import Caller

PATH = "/bookings/ids/latest-from-id"


def page(caller: Caller, query: str) -> Any:
    """The page of the list that `query` asks for."""
    return caller.get("nomis", f"{PATH}?{query}")


def test_pages_begin_after_their_key(caller: Caller) -> None:
    """A page lists booking ids in ascending order, beginning with the first one after the given id.

    It has ten bookings by default. If it is empty, its last booking id is 0.
    """
    everyone = sorted(each["bookingId"] for each in caller.sandbox.prisoners())
    first = page(caller, "activeOnly=true")
    assert [each["bookingId"] for each in first["prisonerIds"]] == everyone[:10]
    assert first["lastBookingId"] == everyone[9]
    following = page(caller, f"activeOnly=true&bookingId={everyone[9]}&pageSize=5")
    assert [each["bookingId"] for each in following["prisonerIds"]] == everyone[10:15]
    numbers = {each["bookingId"]: each["offenderNo"] for each in caller.sandbox.prisoners()}
    assert all(numbers[each["bookingId"]] == each["offenderNo"] for each in following["prisonerIds"])
    assert page(caller, f"bookingId={everyone[-1]}") == {"prisonerIds": [], "lastBookingId": 0}


def test_active_or_all_bookings_are_listed(caller: Caller) -> None:
    """A released prisoner is only in the list of all bookings. A prisoner who is received later is at the end."""
    prisoner = caller.sandbox.prisoners()[0]
    caller.sandbox.release(prisoner["offenderNo"])
    received = caller.sandbox.receive()
    active = page(caller, "activeOnly=true&pageSize=1000")["prisonerIds"]
    everyone = page(caller, "pageSize=1000")["prisonerIds"]
    assert prisoner["bookingId"] not in {each["bookingId"] for each in active}
    assert prisoner["bookingId"] in {each["bookingId"] for each in everyone}
    assert active[-1]["bookingId"] == received["bookingId"]


def test_only_the_latest_booking_of_each_prisoner(caller: Caller) -> None:
    """Of each prisoner's bookings, only the latest is listed."""
    caller.sandbox.reset(plant=["adjustments"], every_cause=True)
    listed = page(caller, "pageSize=1000")["prisonerIds"]
    assert len({each["offenderNo"] for each in listed}) == len(listed)
    older = {each["booking_id"] for each in caller.sandbox.entities("adjustment")} - {
        each["bookingId"] for each in listed
    }
    assert len(older) == 1


def test_a_merge_changes_the_number_of_a_booking(caller: Caller) -> None:
    """A merge changes the prisoner number of a booking from the number that is removed to the one that is kept.

    Afterwards, DPS has the booking's adjustment only under the kept number.
    """
    caller.sandbox.reset(plant=["adjustments"], every_cause=True)
    [merged] = [
        each["key"][0]
        for each in caller.sandbox.planted()["reconciliations"]["adjustments"]
        if each["cause"].startswith("merged")
    ]
    [before, after] = [page(caller, f"bookingId={merged - 1}&pageSize=1")["prisonerIds"][0] for _ in range(2)]
    assert before["bookingId"] == after["bookingId"] == merged
    assert before["offenderNo"] != after["offenderNo"]
    assert caller.get("adjustments", f"/adjustments?person={before['offenderNo']}") is None
    assert len(caller.get("adjustments", f"/adjustments?person={after['offenderNo']}")) == 1


@pytest.mark.parametrize("query", ["bookingId=first", "pageSize=-1", "activeOnly=perhaps"])
def test_invalid_parameters_are_refused(caller: Caller, query: str) -> None:
    """A parameter with an invalid value gets 400."""
    assert caller.call("nomis", "GET", f"{PATH}?{query}").status_code == 400


def test_the_list_needs_the_role_and_a_nomis_of_2025(caller: Caller) -> None:
    """Without the role for synchronisation, a request for the list gets 403. Before January 2025, there is no list."""
    caller.sandbox.grant("nomis", ["NOMIS_SENTENCING"])
    other = Caller(caller.sandbox)
    assert other.call("nomis", "GET", PATH).status_code == 403
    caller.sandbox.reset(generation="2024-12")
    response = Caller(caller.sandbox).call("nomis", "GET", PATH)
    assert (response.status_code, "No handler found" in response.json()["userMessage"]) == (404, True)
