"""Visits in NOMIS: checks and their order, visit orders and balances, updates, cancellations, rooms and lists."""

from __future__ import annotations

from typing import Any

import pytest

from sandbox import Sandbox
from tests.harness.sandboxes import Caller

BODY: dict[str, Any] = {
    "startDateTime": "2030-06-02T14:00:00",
    "endTime": "15:00:00",
    "visitorPersonIds": [4729570, 4729550],
    "visitType": "SCON",
    "issueDate": "2030-05-22",
    "visitComment": "Created by Book A Prison Visit. Reference: bq-te-ke-ol",
    "room": "Visits Main Hall",
    "openClosedStatus": "OPEN",
}


@pytest.fixture
def person(caller: Caller) -> dict[str, Any]:
    """A person in prison whose visit balance has one privileged visit order left."""
    return next(each for each in caller.sandbox.prisoners() if each["bookingId"] % 5 and each["bookingId"] % 3 == 1)


def body_of(person: dict[str, Any], **more: Any) -> dict[str, Any]:
    """A valid body for a visit, changed by `more`. A field whose value is None is left out."""
    body = {**BODY, "prisonId": person["prisonId"], **more}
    return {name: value for name, value in body.items() if value is not None}


def create(caller: Caller, person: dict[str, Any], **more: Any) -> int:
    """Creates a visit, and returns its number."""
    response = caller.call("nomis", "POST", f"/prisoners/{person['offenderNo']}/visits", body_of(person, **more))
    assert response.status_code == 201, response.text
    return int(response.json()["visitId"])


def cancel(caller: Caller, person: dict[str, Any], visit: int, outcome: str) -> int:
    """Cancels a visit, and returns the status of the response."""
    path = f"/prisoners/{person['offenderNo']}/visits/{visit}/cancel"
    return caller.call("nomis", "PUT", path, {"outcome": outcome}).status_code


def test_equal_posts_make_two_visits(caller: Caller, person: dict[str, Any]) -> None:
    """If the same visit is posted twice, NOMIS creates two visits, each with the reference in its comment."""
    first, second = create(caller, person), create(caller, person)
    assert first != second
    visits = [caller.get("nomis", f"/visits/{each}") for each in (first, second)]
    assert {visit["commentText"] for visit in visits} == {BODY["visitComment"]}
    assert visits[0]["agencyInternalLocation"]["code"] == f"{person['prisonId']}-VISITS-VSIP_SOC"
    assert [each["personId"] for each in visits[0]["visitors"]] == [4729570, 4729550]
    assert visits[0]["leadVisitor"]["personId"] == 4729570
    assert visits[0]["visitStatus"]["code"] == "SCH"


@pytest.mark.parametrize(
    ("change", "status", "reason"),
    [
        ({"visitType": "FAMILY"}, 400, "Bad request: Invalid visit type: FAMILY"),
        ({"prisonId": "ZZZ"}, 400, "Bad request: Prison with id=ZZZ does not exist"),
        ({"visitorPersonIds": [1]}, 400, "Bad request: Person with id=1 does not exist"),
        ({"startDateTime": "2030-06-02T14:00:00.123"}, 400, "Bad request: JSON parse error"),
        ({"startDateTime": None}, 400, "Bad request: JSON parse error"),
        ({"endTime": "25:00"}, 400, "Bad request: JSON parse error"),
        ({"room": None}, 400, "Bad request: JSON parse error"),
        ({"issueDate": "22/05/2030"}, 400, "Bad request: JSON parse error"),
    ],
)
def test_bad_bodies_are_refused(
    caller: Caller, person: dict[str, Any], change: dict[str, Any], status: int, reason: str
) -> None:
    """A visit that fails a check is refused with the reason, and nothing is written."""
    response = caller.call("nomis", "POST", f"/prisoners/{person['offenderNo']}/visits", body_of(person, **change))
    assert response.status_code == status
    assert response.json()["userMessage"].startswith(reason)
    assert caller.sandbox.journal("nomis") == []


def test_checks_come_in_their_order(caller: Caller, person: dict[str, Any]) -> None:
    """The offender's number is checked before the booking, and the booking before the type of the visit."""
    bad = body_of(person, visitType="NONE")
    assert (
        caller.call("nomis", "POST", "/prisoners/a1234bc/visits", bad)
        .json()["userMessage"]
        .startswith("Validation failure: ")
    )
    assert caller.call("nomis", "POST", "/prisoners/Z9999ZZ/visits", bad).status_code == 404
    caller.sandbox.release(person["offenderNo"])
    assert caller.call("nomis", "POST", f"/prisoners/{person['offenderNo']}/visits", bad).status_code == 404


def test_update_replaces_times_visitors_and_room(caller: Caller, person: dict[str, Any]) -> None:
    """An update replaces a visit's times, visitors and room. An update under another prisoner's number gets 404."""
    visit = create(caller, person)
    change = {
        "startDateTime": "2030-06-03T09:30:00",
        "endTime": "10:15",
        "visitorPersonIds": [4729999],
        "room": "Video Link",
        "openClosedStatus": "CLOSED",
    }
    path = f"/prisoners/{person['offenderNo']}/visits/{visit}"
    assert caller.call("nomis", "PUT", path, change).status_code == 200
    held = caller.get("nomis", f"/visits/{visit}")
    assert (held["startDateTime"], held["endDateTime"]) == ("2030-06-03T09:30:00", "2030-06-03T10:15:00")
    assert [each["personId"] for each in held["visitors"]] == [4729999]
    assert held["agencyInternalLocation"]["code"].endswith("-VISITS-VSIP_CLO")
    other = next(each for each in caller.sandbox.prisoners() if each != person)
    assert caller.call("nomis", "PUT", f"/prisoners/{other['offenderNo']}/visits/{visit}", change).status_code == 404


def test_a_cancellation_is_checked(caller: Caller, person: dict[str, Any]) -> None:
    """A cancellation gets 404 for an unknown visit, and 409 for a visit that is already cancelled.

    An unknown outcome gets 400, and so does another prisoner's number if the visit is not yet cancelled.
    """
    visit = create(caller, person)
    other = next(each for each in caller.sandbox.prisoners() if each != person)
    assert cancel(caller, person, 1, "NONE") == 404
    assert cancel(caller, other, visit, "NONE") == 400
    assert cancel(caller, other, visit, "VISCANC") == 400
    assert cancel(caller, person, visit, "VISCANC") == 200
    assert cancel(caller, person, visit, "NONE") == 400
    assert cancel(caller, other, visit, "VISCANC") == 409
    held = caller.get("nomis", f"/visits/{visit}")
    assert (held["visitStatus"]["code"], held["visitOutcome"]["code"]) == ("CANC", "VISCANC")


def test_visit_orders_change_the_balance(caller: Caller, person: dict[str, Any]) -> None:
    """A visit uses a privileged visit order if one is left. Its cancellation gives the order back.

    A visit to a prisoner on remand uses no visit order.
    """
    path = f"/prisoners/{person['offenderNo']}/visit-balance"
    balances = [caller.get("nomis", path)]
    first = create(caller, person)
    balances.append(caller.get("nomis", path))
    second = create(caller, person)
    balances.append(caller.get("nomis", path))
    orders = {each["id"]: each["order"] for each in caller.sandbox.nomis("visit")}
    assert [orders[each]["kind"] for each in (first, second)] == ["PVO", "VO"]
    assert orders[first]["expires"] == "2030-06-19"
    cancel(caller, person, first, "ADMIN")
    balances.append(caller.get("nomis", path))
    ordinary = [each["remainingVisitOrders"] - balances[0]["remainingVisitOrders"] for each in balances]
    assert ordinary == [0, 0, -1, -1]
    assert [each["remainingPrivilegedVisitOrders"] for each in balances] == [1, 0, 0, 1]
    third = create(caller, person)
    orders = {each["id"]: each["order"] for each in caller.sandbox.nomis("visit")}
    assert (orders[first]["status"], orders[third]["kind"]) == ("CANC", "PVO")
    remand = next(each for each in caller.sandbox.prisoners() if each["bookingId"] % 5 == 0)
    visit = create(caller, remand)
    assert {each["id"]: each["order"] for each in caller.sandbox.nomis("visit")}[visit] is None


def test_listing_filters_by_creation(caller: Caller, person: dict[str, Any]) -> None:
    """The list of visits is filtered by prison, by type, and by when the visits were created (not when they start)."""
    visits = [create(caller, person) for _ in range(3)]
    other = next(each for each in caller.sandbox.prisoners() if each["prisonId"] != person["prisonId"])
    elsewhere = create(caller, other)
    listed = caller.get("nomis", f"/visits/ids?prisonIds={other['prisonId']}")
    assert [each["visitId"] for each in listed["content"]] == [elsewhere]
    listed = caller.get("nomis", f"/visits/ids?prisonIds={person['prisonId']}&fromDateTime=2023-01-01T00:00:00&size=2")
    assert [each["visitId"] for each in listed["content"]] == visits[:2]
    assert listed["totalElements"] == 3
    assert caller.get("nomis", "/visits/ids?fromDateTime=2030-01-01T00:00:00")["totalElements"] == 0
    assert caller.get("nomis", "/visits/ids?visitTypes=OFFI")["totalElements"] == 0


def test_each_generation_has_its_rooms(quiet_sandbox: Sandbox) -> None:
    """In 2023, NOMIS has a room for each combination of a real room and a restriction.

    Today, NOMIS has one room for each restriction at a prison, whichever real room is booked.
    """
    for generation, rooms in (
        ("2023", ["-VSIP-MAIN-HALL-SOC", "-VSIP-VIDEO-LINK-SOC", "-VSIP-VIDEO-LINK-CLO"]),
        ("today", ["-VISITS-VSIP_SOC", "-VISITS-VSIP_SOC", "-VISITS-VSIP_CLO"]),
    ):
        quiet_sandbox.reset(prisoners=20, generation=generation)
        caller, person = Caller(quiet_sandbox), quiet_sandbox.prisoners()[0]
        codes = []
        for room, restriction in (("Visits Main Hall", "OPEN"), ("Video Link", "OPEN"), ("Video Link", "CLOSED")):
            visit = create(caller, person, room=room, openClosedStatus=restriction)
            codes.append(caller.get("nomis", f"/visits/{visit}")["agencyInternalLocation"]["code"])
        assert codes == [f"{person['prisonId']}{room}" for room in rooms]


def test_the_balance_of_a_prisoner_may_be_missing(caller: Caller, person: dict[str, Any]) -> None:
    """A read of a visit balance returns the remaining orders, or an empty body if there is no balance.

    An unknown prisoner gets 404.
    """
    path = "/prisoners/{}/visit-balance"
    balance = caller.get("nomis", path.format(person["offenderNo"]))
    assert set(balance) == {"remainingVisitOrders", "remainingPrivilegedVisitOrders"}
    remand = next(each for each in caller.sandbox.prisoners() if each["bookingId"] % 5 == 0)
    response = caller.call("nomis", "GET", path.format(remand["offenderNo"]))
    assert (response.status_code, response.content) == (200, b"")
    assert caller.call("nomis", "GET", path.format("Z9999ZZ")).status_code == 404


def test_the_list_is_in_the_order_of_creation(caller: Caller, person: dict[str, Any]) -> None:
    """The list of visits is filtered and ordered by when the visits were created."""
    first, second = create(caller, person), create(caller, person)
    caller.sandbox.control("PUT", f"/nomis/visits/{second}", {"created": "2030-01-01T10:00:00"})
    caller.sandbox.control("PUT", f"/nomis/visits/{first}", {"created": "2030-01-02T10:00:00"})
    listed = caller.get("nomis", f"/visits/ids?prisonIds={person['prisonId']}&visitTypes=SCON")
    assert [each["visitId"] for each in listed["content"]] == [second, first]
    later = caller.get("nomis", "/visits/ids?fromDateTime=2030-01-02T00:00:00")
    assert [each["visitId"] for each in later["content"]] == [first]
