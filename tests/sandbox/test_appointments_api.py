"""The appointments of the sandbox's activities API, as it is today and as it was in 2023."""

from __future__ import annotations

from datetime import date
from typing import Any

import pytest

from sandbox import Sandbox
from tests.harness.sandboxes import Caller

TODAY = "/appointments/MDI/search"
OF_2023 = "/appointment-occurrences/MDI/search"


@pytest.fixture
def upstream(quiet_sandbox: Sandbox) -> Sandbox:
    """A sandbox with the appointments that `put_appointments` creates at one prison."""
    quiet_sandbox.reset(prisoners=20)
    return put_appointments(quiet_sandbox)


def put_appointments(sandbox: Sandbox) -> Sandbox:
    """Creates an appointment for a group of two, a deleted appointment and a cancelled one. Returns the sandbox."""
    room = sandbox.control("GET", "/locations/MDI")[0]["id"]
    values = {"booking_id": 1, "prisoner_number": "A0001AA", "prison_id": "MDI", "category": "CHAP", "in_cell": False}
    values |= {"location_id": room, "day": "2026-02-10", "start": "09:30", "end": None}
    sandbox.put("appointment", id=71, appointment_id=71, **values)
    sandbox.put(
        "appointment", id=72, **(values | {"appointment_id": 71, "booking_id": 2, "prisoner_number": "A0002AA"})
    )
    sandbox.put("appointment", id=73, **(values | {"deleted": True}))
    sandbox.put("appointment", id=74, **(values | {"cancelled": True, "in_cell": True, "location_id": None}))
    return sandbox


def search(sandbox: Sandbox, path: str, **body: Any) -> Any:
    """Searches February 2026 by default. Returns the result, or the status if it is not 200."""
    asked = {"startDate": "2026-02-01", "endDate": "2026-02-28"} | body
    response = Caller(sandbox).call("appointments", "POST", path, asked)
    return response.json() if response.status_code == 200 else response.status_code


def test_the_search_of_today_lists_groups_and_deletions(upstream: Sandbox) -> None:
    """The search lists a group as one appointment, marks a deleted one as deleted, and leaves out empty fields.

    It can be restricted to appointments in a cell, or to those of given prisoners.
    """
    found = {each["appointmentId"]: each for each in search(upstream, TODAY)}
    assert [each["appointmentAttendeeId"] for each in found[71]["attendees"]] == [71, 72]
    assert (found[71]["appointmentType"], found[74]["appointmentType"]) == ("GROUP", "INDIVIDUAL")
    assert {number: each["isDeleted"] for number, each in found.items()} == {71: False, 73: True, 74: False}
    assert {"endTime", "cancelledTime"}.isdisjoint(found[71])
    assert ("internalLocation" in found[71], "internalLocation" in found[74]) == (True, False)
    assert search(upstream, TODAY, inCell=True) == [found[74]]
    assert search(upstream, TODAY, prisonerNumbers=["A0002AA"]) == [found[71]]
    assert search(upstream, OF_2023) == 404


@pytest.mark.parametrize(
    ("first", "last", "accepted"),
    [
        ("2026-02-01", "2026-02-28", True),
        ("2026-02-01", "2026-03-01", False),
        ("2026-01-31", "2026-02-27", True),
        ("2026-01-31", "2026-02-28", False),
        ("2026-12-02", "2027-01-01", True),
        ("2026-12-01", "2027-01-01", False),
        ("2026-02-10", "2026-02-09", False),
        (None, "2026-02-09", False),
        ("tomorrow", "2026-02-09", False),
    ],
)
def test_long_periods_and_wrong_orders_are_refused(
    upstream: Sandbox, first: str | None, last: str, accepted: bool
) -> None:
    """A search is refused if its last day is a month or more after its first.

    It is also refused if its days are missing, invalid or reversed.
    """
    found = search(upstream, TODAY, startDate=first, endDate=last)
    assert isinstance(found, list) if accepted else found == 400


def test_prisons_without_appointments_are_not_searched(upstream: Sandbox) -> None:
    """A search of a prison to which appointments have not been rolled out is refused."""
    plans = Caller(upstream).get("activities", "/rollout?prisonsLive=false")
    prison = next(each["prisonCode"] for each in plans if not each["appointmentsRolledOut"])
    assert search(upstream, f"/appointments/{prison}/search") == 400


def test_services_of_2023_have_other_endpoints(upstream: Sandbox) -> None:
    """In 2023, the search has another name, lists no deleted appointments, and has no limit on the number of days.

    The fields of a single instance differ from today's.
    """
    upstream.reset(prisoners=20, generation="2023")
    put_appointments(upstream)
    found = {each["appointmentOccurrenceId"]: each for each in search(upstream, OF_2023, endDate="2027-02-01")}
    assert [each["id"] for each in found[71]["allocations"]] == [71, 72]
    assert found.keys() == {71, 74}
    assert search(upstream, TODAY) == 404
    instance = Caller(upstream).get("appointments", "/appointment-instances/74")
    assert instance["appointmentOccurrenceAllocationId"] == 74
    assert "created" in instance
    assert "appointmentAttendeeId" not in instance


def test_instances_of_today_require_a_role(upstream: Sandbox) -> None:
    """Reading an instance requires a role, as searching does. A deleted instance is not found."""
    caller = Caller(upstream)
    assert caller.get("appointments", "/appointment-instances/71")["appointmentAttendeeId"] == 71
    assert caller.get("appointments", "/appointment-instances/73") is None
    upstream.grant("appointments", [])
    assert Caller(upstream).call("appointments", "GET", "/appointment-instances/71").status_code == 403
    assert search(upstream, TODAY) == 403


def test_rooms_are_found_only_by_their_dps_id(upstream: Sandbox) -> None:
    """The mapping service finds the NOMIS number of a room only by the DPS id of the room."""
    caller = Caller(upstream)
    instance = caller.get("appointments", "/appointment-instances/71")
    path = "/mapping/locations/dps/"
    assert caller.get("mapping", path + instance["dpsLocationId"])["nomisLocationId"] == instance["internalLocationId"]
    for unknown in ("00000000-0000-4000-8000-000000000000", "zzzzzzzz" + instance["dpsLocationId"][8:]):
        assert caller.get("mapping", path + unknown) is None


def test_planted_appointments_do_not_count_as_surplus(quiet_sandbox: Sandbox) -> None:
    """The planted appointments have every kind of difference, but the verification reports no problem with them.

    Since they were made before the sandbox's world started, they do not count as surplus. Their days fit into one
    search.
    """
    quiet_sandbox.reset(prisoners=60, plant=["appointments"], every_cause=True)
    planted = quiet_sandbox.planted()["reconciliations"]["appointments"]
    assert {each["kind"] for each in planted} == {
        "different",
        "nomis-only",
        "dps-only",
        "duplicate",
        "mapping-without-nomis",
        "mapping-without-dps",
    }
    verified = quiet_sandbox.verify()
    assert (verified["problems"], verified["surplus"]) == ([], [])
    days = {date.fromisoformat(each["day"]) for each in quiet_sandbox.entities("appointment")}
    assert max(days) - min(days) <= (date(2026, 1, 28) - date(2026, 1, 1))
