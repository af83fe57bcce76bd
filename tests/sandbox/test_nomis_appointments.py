"""Appointments in NOMIS: checks, reads, cancellation and deletion."""

from __future__ import annotations

from typing import Any

import pytest

from tests.harness.sandboxes import Caller


@pytest.fixture
def body(caller: Caller) -> dict[str, Any]:
    """A valid request body for an appointment of the first prisoner."""
    person = caller.sandbox.prisoners()[0]
    room = caller.sandbox.control("GET", f"/locations/{person['prisonId']}")[0]["id"]
    return {
        "bookingId": person["bookingId"],
        "eventDate": "2030-05-22",
        "startTime": "09:00",
        "endTime": "10:30",
        "internalLocationId": room,
        "eventSubType": "CHAP",
    }


def create(caller: Caller, body: dict[str, Any]) -> int:
    """Creates an appointment, and returns its event id."""
    response = caller.call("nomis", "POST", "/appointments", body)
    assert response.status_code == 201, response.text
    return int(response.json()["eventId"])


@pytest.mark.parametrize(
    ("change", "status", "reason"),
    [
        ({"bookingId": 5}, 400, "Bad request: Booking with id=5 not found"),
        ({"internalLocationId": None}, 500, "Unexpected error: The given id must not be null"),
        ({"internalLocationId": 5}, 400, "Bad request: Location with id=5 does not exist"),
        ({"endTime": "08:59"}, 400, "Bad request: End time must be after start time"),
        ({"endTime": None}, 400, "Bad request: JSON parse error"),
        ({"eventSubType": "GYM"}, 400, "Bad request: EventSubType with code=GYM does not exist"),
    ],
)
def test_bad_appointments_are_refused(
    caller: Caller, body: dict[str, Any], change: dict[str, Any], status: int, reason: str
) -> None:
    """If a check of a new appointment fails, the response gives the reason.

    Without a room, as for an appointment in a cell, the request gets 500.
    """
    response = caller.call("nomis", "POST", "/appointments", body | change)
    assert response.status_code == status
    assert response.json()["userMessage"].startswith(reason)


def test_only_an_update_accepts_a_room_of_another_prison(caller: Caller, body: dict[str, Any]) -> None:
    """A new appointment must be in a room of the prisoner's prison. An update also accepts a room of another prison."""
    people = caller.sandbox.prisoners()
    other = next(each for each in people if each["prisonId"] != people[0]["prisonId"])
    room = caller.sandbox.control("GET", f"/locations/{other['prisonId']}")[0]["id"]
    moved = body | {"internalLocationId": room}
    assert caller.call("nomis", "POST", "/appointments", moved).status_code == 400
    event = create(caller, body)
    assert caller.call("nomis", "PUT", f"/appointments/{event}", moved).status_code == 200
    assert caller.get("nomis", f"/appointments/{event}")["internalLocation"] == room


def at(body: dict[str, Any]) -> str:
    """The path of a search for appointments by booking, room and start."""
    return f"/appointments/booking/{body['bookingId']}/location/{body['internalLocationId']}/start/2030-05-22T09:00:00"


def test_appointments_are_found_by_booking_room_and_start(caller: Caller, body: dict[str, Any]) -> None:
    """A search by booking, room and start finds exactly the matching appointments, with their event ids."""
    person, *others = caller.sandbox.prisoners()
    other = next(each for each in others if each["prisonId"] == person["prisonId"])
    room = caller.sandbox.control("GET", f"/locations/{person['prisonId']}")[1]["id"]
    for change in ({"startTime": "09:15"}, {"internalLocationId": room}, {"bookingId": other["bookingId"]}):
        create(caller, body | change)
    assert caller.get("nomis", at(body)) == []
    events = [create(caller, body), create(caller, body)]
    assert [each["eventId"] for each in caller.get("nomis", at(body))] == events
    assert caller.get("nomis", at(body))[0]["startDateTime"] == "2030-05-22T09:00:00"


def test_appointments_are_listed_by_prison_and_day(caller: Caller, body: dict[str, Any]) -> None:
    """Appointments are listed by prison and day, in order of event id. Without a prison, a request gets 400."""
    prison = caller.sandbox.prisoners()[0]["prisonId"]
    events = [create(caller, body), create(caller, body)]
    path = f"/appointments/ids?prisonIds={prison}"
    found = caller.get("nomis", f"{path}&fromDate=2030-05-22&toDate=2030-05-22")
    assert [each["eventId"] for each in found["content"]] == events
    assert caller.get("nomis", f"{path}&fromDate=2030-05-23")["totalElements"] == 0
    assert caller.get("nomis", "/appointments/ids?prisonIds=ZZZ")["totalElements"] == 0
    assert caller.call("nomis", "GET", "/appointments/ids").status_code == 400


def test_nomis_of_2023_finds_only_single_appointments(caller: Caller, body: dict[str, Any]) -> None:
    """In 2023, a search returns a single match. Without a match, it gets 404, and with two matches, 500.

    The response has no event id, and appointments can be listed without a prison.
    """
    caller.sandbox.reset(generation="2023")
    assert caller.get("nomis", at(body)) is None
    event = create(caller, body)
    assert caller.get("nomis", at(body)) == caller.get("nomis", f"/appointments/{event}")
    assert "eventId" not in caller.get("nomis", at(body))
    create(caller, body)
    assert caller.call("nomis", "GET", at(body)).status_code == 500
    assert caller.get("nomis", "/appointments/ids")["totalElements"] == 2


def test_cancel_is_repeatable_and_delete_is_not(caller: Caller, body: dict[str, Any]) -> None:
    """A second cancellation of an appointment succeeds, but a second deletion gets 404."""
    event = create(caller, body)
    assert [caller.call("nomis", "PUT", f"/appointments/{event}/cancel").status_code for _ in range(2)] == [200, 200]
    assert caller.get("nomis", f"/appointments/{event}")["status"] == "CANC"
    assert [caller.call("nomis", "DELETE", f"/appointments/{event}").status_code for _ in range(2)] == [204, 404]
    assert caller.call("nomis", "PUT", f"/appointments/{event}/cancel").status_code == 404
    assert caller.call("nomis", "PUT", f"/appointments/{event}", body).status_code == 404
