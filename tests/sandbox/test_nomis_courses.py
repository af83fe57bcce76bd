"""Courses, allocations and attendances in NOMIS: refusals with reasons, versions, upserts and duplicates."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import date, timedelta
from typing import Any

import pytest

from sandbox import Sandbox
from tests.harness.sandboxes import Caller

Change = Callable[[dict[str, Any]], None]
NOT_UNIQUE = "query did not return a unique result"


@pytest.fixture
def person(caller: Caller) -> dict[str, Any]:
    """A person in prison."""
    return caller.sandbox.prisoners()[0]


def session(days: int, start: str = "08:30", *, cancelled: bool = False) -> dict[str, Any]:
    """A session from `start` to 11:45, `days` days from today."""
    day = (date.today() + timedelta(days=days)).isoformat()  # noqa: DTZ011 - tests run far from midnight
    return {"date": day, "startTime": start, "endTime": "11:45", "cancelled": cancelled}


def course_body(person: dict[str, Any]) -> dict[str, Any]:
    """A valid body for a course in the person's prison, with a session yesterday and a session in a week."""
    week = dict.fromkeys(("monday", "tuesday", "wednesday", "thursday", "friday"), True)
    return {
        "code": "318",
        "startDate": session(-10)["date"],
        "prisonId": person["prisonId"],
        "capacity": 20,
        "payRates": [
            {"incentiveLevel": "STD", "payBand": "5", "rate": 1.5},
            {"incentiveLevel": "STD", "payBand": "6", "rate": 2},
        ],
        "description": "SAA Maths level 1",
        "minimumIncentiveLevelCode": "STD",
        "programCode": "SAA_EDUCATION",
        "payPerSession": "H",
        "schedules": [session(-1), session(7)],
        "scheduleRules": [{"startTime": "08:30", "endTime": "11:45", **week, "saturday": False, "sunday": False}],
        "excludeBankHolidays": True,
    }


def make_course(caller: Caller, person: dict[str, Any]) -> int:
    """Creates a course, and returns its number."""
    response = caller.call("nomis", "POST", "/activities", course_body(person))
    assert response.status_code == 201, response.text
    return int(response.json()["courseActivityId"])


def allocate(caller: Caller, course: int, person: dict[str, Any], **more: Any) -> Any:
    """Allocates a person to a course, and returns the response."""
    body = {"bookingId": person["bookingId"], "payBandCode": "5", "startDate": session(0)["date"], **more}
    return caller.call("nomis", "PUT", f"/activities/{course}/allocation", body)


def attend(caller: Caller, course: int, person: dict[str, Any], **more: Any) -> Any:
    """Posts an attendance of the person at yesterday's session, and returns the response."""
    slot = session(-1)
    body = {
        "scheduleDate": slot["date"],
        "startTime": slot["startTime"],
        "endTime": slot["endTime"],
        "eventStatusCode": "SCH",
        **more,
    }
    path = f"/activities/{course}/booking/{person['bookingId']}/attendance"
    return caller.call("nomis", "POST", path, body)


def attendance_status(caller: Caller, course: int, person: dict[str, Any]) -> Any:
    """Reads the status of the person's attendance at yesterday's session, and returns the response."""
    slot = session(-1)
    body = {"scheduleDate": slot["date"], "startTime": slot["startTime"], "endTime": slot["endTime"]}
    path = f"/activities/{course}/booking/{person['bookingId']}/attendance-status"
    return caller.call("nomis", "POST", path, body)


def changed(name: str, value: Any) -> Change:
    """A function that sets the field `name` in the body of a course to `value`."""
    return lambda body: body.__setitem__(name, value)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (changed("code", "1234567890123"), "Validation failed for code"),
        (changed("code", ""), "Validation failed for code"),
        (changed("description", "x" * 41), "Validation failed for description"),
        (changed("capacity", 1000), "Validation failed for capacity"),
        (changed("prisonId", "ZZZ"), "Prison with id=ZZZ does not exist"),
        (changed("internalLocationId", 5), "Location with id=5 does not exist"),
        (changed("minimumIncentiveLevelCode", "EN9"), "IEP type EN9 does not exist"),
        (changed("programCode", "NONE"), "Program Service with code=NONE does not exist"),
        (changed("payPerSession", "X"), "JSON parse error"),
        (changed("payRates", [{"incentiveLevel": "STD", "payBand": "11", "rate": 1}]), "Pay band code 11"),
        (changed("payRates", [{"incentiveLevel": "XXX", "payBand": "1", "rate": 1}]), "Pay rate IEP type XXX"),
        (changed("payRates", None), "JSON parse error"),
        (changed("excludeBankHolidays", None), "JSON parse error"),
        (changed("schedules", [session(-20)]), "Schedule for date"),
        (changed("schedules", [{**session(1), "endTime": "08:00"}]), "Schedule for date"),
    ],
)
def test_bad_courses_are_refused(caller: Caller, person: dict[str, Any], change: Change, reason: str) -> None:
    """A course that fails a check gets 400 with the reason."""
    body = course_body(person)
    change(body)
    response = caller.call("nomis", "POST", "/activities", body)
    assert response.status_code == 400
    assert response.json()["userMessage"].startswith(f"Bad request: {reason}")


def test_location_must_lie_in_the_prison(caller: Caller, person: dict[str, Any]) -> None:
    """A course in a room of another prison is refused, and a course in a room of its own prison is accepted."""
    other = next(each for each in caller.sandbox.prisoners() if each["prisonId"] != person["prisonId"])
    for prison_id, status in ((other["prisonId"], 400), (person["prisonId"], 201)):
        room = caller.sandbox.control("GET", f"/locations/{prison_id}")[0]["id"]
        body = {**course_body(person), "internalLocationId": room}
        assert caller.call("nomis", "POST", "/activities", body).status_code == status


@pytest.mark.parametrize(
    ("sessions", "status"),
    [
        ([session(-1), session(8)], 200),
        ([session(-1, cancelled=True), session(7)], 200),
        ([session(7)], 400),
        ([session(-1), session(-2), session(7)], 400),
        ([session(-1, "08:00"), session(7)], 400),
        ([session(-1), session(0), session(7)], 400),
    ],
)
def test_past_sessions_can_only_be_cancelled_or_restored(
    caller: Caller, person: dict[str, Any], sessions: list[dict[str, Any]], status: int
) -> None:
    """A session that is today or earlier can only be cancelled or restored. A future session can be changed freely."""
    course = make_course(caller, person)
    body = {**course_body(person), "schedules": sessions}
    assert caller.call("nomis", "PUT", f"/activities/{course}", body).status_code == status


def test_pay_rates_are_versioned_and_bands_in_use_stay(caller: Caller, person: dict[str, Any]) -> None:
    """If a pay rate changes, the old version ends today, and the new version starts tomorrow.

    A rate that is left out ends today. If the pay band of such a rate is in use, the update is refused.
    """
    course = make_course(caller, person)
    assert allocate(caller, course, person).status_code == 200
    body = course_body(person)
    without = {**body, "payRates": [body["payRates"][1]]}
    refused = caller.call("nomis", "PUT", f"/activities/{course}", without)
    assert (refused.status_code, "Pay band 5 is allocated" in refused.json()["userMessage"]) == (400, True)
    dearer = {**body, "payRates": [{"incentiveLevel": "STD", "payBand": "5", "rate": 1.75}]}
    assert caller.call("nomis", "PUT", f"/activities/{course}", dearer).status_code == 200
    today, tomorrow = session(0)["date"], session(1)["date"]
    rates = [
        (each["band"], each["rate"], each["start"], each["end"])
        for each in caller.sandbox.nomis("course")[0]["pay_rates"]
    ]
    begun = body["startDate"]
    assert rates == [("5", "1.500", begun, today), ("6", "2.000", begun, today), ("5", "1.750", tomorrow, None)]
    assert caller.call("nomis", "PUT", "/activities/1", body).status_code == 404


def test_a_session_is_updated_by_its_exact_times(caller: Caller, person: dict[str, Any]) -> None:
    """A session is found by its exact date and times, and can be cancelled twice. Any other date or time gets 404."""
    course = make_course(caller, person)
    path = f"/activities/{course}/schedule"
    first = caller.call("nomis", "PUT", path, session(7, cancelled=True))
    again = caller.call("nomis", "PUT", path, session(7, cancelled=True))
    assert (first.status_code, first.json()) == (200, again.json())
    assert caller.call("nomis", "PUT", path, session(6)).status_code == 404
    assert caller.call("nomis", "PUT", path, session(7, "08:31")).status_code == 404


def test_allocation_is_created_once_then_changed(caller: Caller, person: dict[str, Any]) -> None:
    """A second call for an allocation changes its pay band, end and comment, but not its start.

    The comment is about the end of the allocation or, if it has no end, about its suspension.
    """
    course = make_course(caller, person)
    first, second = (
        allocate(caller, course, person).json(),
        allocate(
            caller,
            course,
            person,
            payBandCode="6",
            startDate="2023-01-01",
            endDate=session(3)["date"],
            endReason="PRG_END",
            endComment="over",
            suspended=True,
            suspendedComment="away",
        ).json(),
    )
    assert (first["created"], second["created"]) == (True, False)
    assert first["offenderProgramReferenceId"] == second["offenderProgramReferenceId"]
    row = caller.sandbox.nomis("allocation")[0]
    assert (row["start"], row["comment"], row["status"]) == (session(0)["date"], "over", "ALLOC")
    assert [band["band"] for band in row["bands"]] == ["5", "6"]
    allocate(caller, course, person, suspended=True, suspendedComment="away")
    assert caller.sandbox.nomis("allocation")[0]["comment"] == "away"
    allocate(caller, course, person, suspendedComment="away")
    assert caller.sandbox.nomis("allocation")[0]["comment"] is None


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"payBandCode": "7"}, "Pay band code 7 does not exist for course"),
        ({"payBandCode": "99"}, "Pay band code 99 does not exist"),
        ({"endReason": "NONE"}, "End reason code=NONE does not exist"),
        ({"endReason": "x" * 13}, "Validation failed for endReason"),
        ({"endComment": "x" * 241}, "Validation failed for endComment"),
        ({"bookingId": 5}, "Booking with id=5 does not exist"),
    ],
)
def test_bad_allocations_are_refused(
    caller: Caller, person: dict[str, Any], change: dict[str, Any], reason: str
) -> None:
    """An allocation that fails a check gets 400 with the reason."""
    response = allocate(caller, make_course(caller, person), person, **change)
    assert response.status_code == 400
    assert response.json()["userMessage"].startswith(f"Bad request: {reason}")


def test_allocation_needs_the_prison_and_a_running_course(caller: Caller, person: dict[str, Any]) -> None:
    """An allocation is refused if the person is in another prison or the course is over. An unknown course gets 404.

    After a release, the person's agency is `OUT`.
    """
    course = make_course(caller, person)
    elsewhere = next(each for each in caller.sandbox.prisoners() if each["prisonId"] != person["prisonId"])
    assert "Prisoner is at prison" in allocate(caller, course, elsewhere).json()["userMessage"]
    assert allocate(caller, 1, person).status_code == 404
    over = {**course_body(person), "endDate": session(-1)["date"], "schedules": [session(-1), session(7)]}
    caller.call("nomis", "PUT", f"/activities/{course}", over)
    assert "has expired" in allocate(caller, course, person).json()["userMessage"]
    caller.sandbox.release(person["offenderNo"])
    refused = f"Prisoner is at prison=OUT, not the Course activity prison={person['prisonId']}"
    assert refused in allocate(caller, course, person).json()["userMessage"]


def test_duplicate_allocations_break_the_upsert_until_one_is_deleted(caller: Caller, person: dict[str, Any]) -> None:
    """If an allocation has two rows in NOMIS, a call for it gets 500 because the result is not unique.

    After one row is deleted, the call succeeds.
    """
    course = make_course(caller, person)
    number = allocate(caller, course, person).json()["offenderProgramReferenceId"]
    second = caller.sandbox.control("POST", f"/nomis/duplicates/allocation/{number}")["id"]
    broken = allocate(caller, course, person)
    assert (broken.status_code, NOT_UNIQUE in broken.json()["userMessage"]) == (500, True)
    for _ in range(2):
        assert caller.call("nomis", "DELETE", f"/allocations/{second}").status_code == 204
    assert allocate(caller, course, person).json()["offenderProgramReferenceId"] == number


def test_simultaneous_allocations_make_two_rows(running_sandbox: Sandbox) -> None:
    """With `nomis_duplicates`, two simultaneous calls each create a row for the same allocation.

    A later call gets 500.
    """
    running_sandbox.reset(nomis_duplicates=True)
    caller = Caller(running_sandbox)
    person = running_sandbox.prisoners()[0]
    course = make_course(caller, person)
    running_sandbox.latency(200, "nomis")
    with ThreadPoolExecutor(2) as pool:
        responses = list(pool.map(lambda _: allocate(caller, course, person), range(2)))
    assert [response.json()["created"] for response in responses] == [True, True]
    assert allocate(caller, course, person).status_code == 500


def test_attendance_is_created_once_then_changed_until_paid(caller: Caller, person: dict[str, Any]) -> None:
    """Until payroll has paid for an attendance, a second write changes its row. After that, a write gets 400."""
    course = make_course(caller, person)
    allocate(caller, course, person)
    assert attendance_status(caller, course, person).status_code == 404
    first = attend(caller, course, person)
    paid = attend(caller, course, person, eventStatusCode="COMP", eventOutcomeCode="ATT", paid=True, bonusPay=0.5)
    assert (first.json()["created"], paid.json()["created"]) == (True, False)
    assert attendance_status(caller, course, person).json() == {"eventStatus": "COMP"}
    row = caller.sandbox.nomis("attendance")[0]
    assert (row["outcome"], row["bonus"], row["performance"]) == ("ATT", "0.500", "STANDARD")
    caller.sandbox.control("POST", f"/nomis/paid/{row['event_id']}")
    refused = attend(caller, course, person)
    assert (refused.status_code, "already been paid" in refused.json()["userMessage"]) == (400, True)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"startTime": "09:00"}, "Course schedule for activity"),
        ({"eventStatusCode": "NONE"}, "Event status code NONE"),
        ({"eventOutcomeCode": "NONE"}, "Attendance outcome code NONE"),
        ({"eventStatusCode": None}, "JSON parse error"),
    ],
)
def test_bad_attendances_are_refused(
    caller: Caller, person: dict[str, Any], change: dict[str, Any], reason: str
) -> None:
    """An attendance that fails a check gets 400 with the reason."""
    course = make_course(caller, person)
    allocate(caller, course, person)
    response = attend(caller, course, person, **change)
    assert response.status_code == 400
    assert response.json()["userMessage"].startswith(f"Bad request: {reason}")


def test_attendance_needs_course_and_allocation(caller: Caller, person: dict[str, Any]) -> None:
    """An attendance at an unknown course gets 400 instead of 404. An attendance without an allocation is refused."""
    course = make_course(caller, person)
    assert attend(caller, 1, person).status_code == 400
    assert "Offender program profile" in attend(caller, course, person).json()["userMessage"]


def test_duplicate_attendances_and_the_delete_of_a_course(caller: Caller, person: dict[str, Any]) -> None:
    """If an attendance has two rows in NOMIS, neither a write nor a read of the status succeeds until one is deleted.

    The deletion of a course, which can be repeated, also deletes its allocations and attendances.
    """
    course = make_course(caller, person)
    allocate(caller, course, person)
    event = attend(caller, course, person).json()["eventId"]
    caller.sandbox.control("POST", f"/nomis/duplicates/attendance/{event}")
    for refused in (attend(caller, course, person), attendance_status(caller, course, person)):
        assert (refused.status_code, NOT_UNIQUE in refused.json()["userMessage"]) == (500, True)
    caller.call("nomis", "DELETE", f"/attendances/{event}")
    assert attendance_status(caller, course, person).json() == {"eventStatus": "SCH"}
    assert attend(caller, course, person).status_code == 200
    assert [caller.call("nomis", "DELETE", f"/activities/{course}").status_code for _ in range(2)] == [204, 204]
    assert caller.sandbox.nomis("allocation") == caller.sandbox.nomis("attendance") == []
