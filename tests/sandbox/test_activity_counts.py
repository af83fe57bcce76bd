"""The counts for the reconciliations of activities, checked against records that the program's own calls write."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from sandbox import Sandbox
from sandbox.clock import london_today
from sandbox.hmpps.auth import NOMIS_SYNCHRONISATION
from tests.harness.sandboxes import Caller

TODAY, YESTERDAY = london_today(), london_today() - timedelta(days=1)
START = YESTERDAY - timedelta(days=5)
SESSION = {"startTime": "08:30", "endTime": "11:45"}
PLANTED: dict[str, Any] = {"plant": ["all"], "every_cause": True}


class Course:
    """A course in NOMIS with one session, which was yesterday. The course is written with the program's own calls."""

    def __init__(self, caller: Caller) -> None:
        """Creates the course at the first prisoner's prison."""
        self.caller = caller
        first = caller.sandbox.prisoners()[0]
        self.prison_id, self.booking_id, self.offender_no = first["prisonId"], first["bookingId"], first["offenderNo"]
        made = caller.call("nomis", "POST", "/activities", self._body())
        made.raise_for_status()
        self.id = made.json()["courseActivityId"]

    def _body(self) -> dict[str, object]:
        return {
            "code": "318",
            "startDate": START.isoformat(),
            "prisonId": self.prison_id,
            "capacity": 10,
            "payRates": [{"incentiveLevel": "STD", "payBand": "1", "rate": 1.5}],
            "description": "SAA Woodwork",
            "minimumIncentiveLevelCode": "STD",
            "programCode": "SAA_INDUSTRIES",
            "payPerSession": "H",
            "schedules": [{**SESSION, "date": YESTERDAY.isoformat(), "cancelled": False}],
            "excludeBankHolidays": True,
        }

    def allocate(self, **more: object) -> None:
        """Writes the booking's allocation to the course."""
        body = {"bookingId": self.booking_id, "payBandCode": "1", "startDate": START.isoformat(), **more}
        self.caller.call("nomis", "PUT", f"/activities/{self.id}/allocation", body).raise_for_status()

    def attend(self, **more: object) -> None:
        """Writes the booking's attendance at yesterday's session."""
        body = {"scheduleDate": YESTERDAY.isoformat(), **SESSION, "eventStatusCode": "COMP", **more}
        path = f"/activities/{self.id}/booking/{self.booking_id}/attendance"
        self.caller.call("nomis", "POST", path, body).raise_for_status()

    def allocations(self, suspended: str | None = None) -> dict[int, int]:
        """Returns the number of allocations that NOMIS counts at the prison, by booking."""
        query = "" if suspended is None else f"?suspended={suspended}"
        return counts(self.caller, "nomis", f"/allocations/reconciliation/{self.prison_id}{query}")

    def attendances(self) -> dict[int, int]:
        """Returns the number of attendances with pay that NOMIS counts at the prison yesterday, by booking."""
        path = f"/attendances/reconciliation/{self.prison_id}?date={YESTERDAY.isoformat()}"
        return counts(self.caller, "nomis", path)


def counts(caller: Caller, service: str, path: str) -> dict[int, int]:
    """The counts in a response, by booking."""
    response = caller.call(service, "GET", path)
    response.raise_for_status()
    bookings = response.json()["bookings"]
    assert all(each["count"] > 0 for each in bookings)
    return {each["bookingId"]: each["count"] for each in bookings}


@pytest.fixture
def course(caller: Caller) -> Course:
    """A course without allocations."""
    return Course(caller)


def test_nomis_counts_current_allocations(course: Course) -> None:
    """An allocation is counted under its current status until the end of its last day, unless it has an end reason."""
    assert course.allocations() == {}
    course.allocate()
    assert course.allocations() == course.allocations("false") == {course.booking_id: 1}
    course.allocate(suspended=True)
    assert (course.allocations(), course.allocations("true")) == ({}, {course.booking_id: 1})
    course.allocate(endDate=TODAY.isoformat())
    assert course.allocations() == {course.booking_id: 1}
    course.allocate(endDate=TODAY.isoformat(), endReason="PRG_END")
    assert course.allocations() == {}
    course.allocate(endDate=YESTERDAY.isoformat())
    assert course.allocations() == {}
    assert counts(course.caller, "nomis", "/allocations/reconciliation/XYZ") == {}


def test_nomis_counts_suspended_allocations_only_at_the_bookings_prison(course: Course, sandbox: Sandbox) -> None:
    """An active allocation counts at its own prison even if the prisoner has moved. A suspended one does not."""
    course.allocate()
    other = next(each["prisonId"] for each in sandbox.prisoners() if each["prisonId"] != course.prison_id)
    sandbox.transfer(course.offender_no, other, publish=False)
    assert course.allocations() == {course.booking_id: 1}
    sandbox.transfer(course.offender_no, course.prison_id, publish=False)
    course.allocate(suspended=True)
    sandbox.transfer(course.offender_no, other, publish=False)
    assert (course.allocations(), course.allocations("true")) == ({}, {})


def test_nomis_counts_attendances_with_pay(course: Course) -> None:
    """An attendance with pay counts on its day, whatever its status. A request without a valid date is refused."""
    course.allocate()
    course.attend(paid=False)
    assert course.attendances() == {}
    course.attend(paid=True, eventStatusCode="SCH")
    assert course.attendances() == {course.booking_id: 1}
    response = course.caller.call("nomis", "GET", f"/attendances/reconciliation/{course.prison_id}")
    assert response.status_code == 400
    assert response.json()["userMessage"].startswith("Missing request parameter")
    response = course.caller.call("nomis", "GET", f"/attendances/reconciliation/{course.prison_id}?date=yesterday")
    assert response.status_code == 400


def test_the_counts_differ_exactly_as_planted(sandbox: Sandbox) -> None:
    """The counts of NOMIS and DPS differ for exactly the bookings for which a difference is planted."""
    sandbox.reset(**PLANTED)
    caller = Caller(sandbox)
    day = f"?date={YESTERDAY.isoformat()}"
    paths = {
        "suspended-allocations": ("/allocations/reconciliation/{}?suspended=true", "suspended-allocations/{}"),
        "allocations": ("/allocations/reconciliation/{}", "allocations/{}"),
        "attendances": (f"/attendances/reconciliation/{{}}{day}", f"attendances/{{}}{day}"),
    }
    prisons = sorted({each["prisonId"] for each in sandbox.prisoners()})
    planted = sandbox.planted()["reconciliations"]
    for name, (of_nomis, of_dps) in paths.items():
        kinds = {}
        for prison in prisons:
            nomis = counts(caller, "nomis", of_nomis.format(prison))
            dps = counts(caller, "activities", f"/synchronisation/reconciliation/{of_dps.format(prison)}")
            for booking in nomis.keys() | dps.keys():
                if nomis.get(booking) != dps.get(booking):
                    kind = (
                        "DPS_only"
                        if booking not in nomis
                        else "NOMIS_only"
                        if booking not in dps
                        else "different_count"
                    )
                    kinds[prison, booking] = kind
        assert kinds == {tuple(each["key"][:2]): each["kind"] for each in planted[name]}
        assert {each["outcome"] for each in planted[name]} == {"reported", "ignored"} - (
            {"ignored"} if name == "allocations" else set()
        )


def test_bookings_are_looked_up_together(sandbox: Sandbox, caller: Caller) -> None:
    """A look-up of bookings leaves out unknown ones, and returns `OUT` as the location of a released prisoner.

    A request for more than 1,000 bookings, or with an id that is not a number, is refused.
    """
    first, second = sandbox.prisoners()[:2]
    sandbox.release(second["offenderNo"])
    asked = [first["bookingId"], second["bookingId"], 1]
    response = caller.call("nomis", "POST", "/prisoners/bookings", asked).json()
    found = {each["bookingId"]: (each["offenderNo"], each["location"], each["active"]) for each in response}
    assert found == {
        first["bookingId"]: (first["offenderNo"], first["prisonId"], True),
        second["bookingId"]: (second["offenderNo"], "OUT", False),
    }
    assert caller.call("nomis", "POST", "/prisoners/bookings", list(range(1, 1002))).status_code == 500
    assert caller.call("nomis", "POST", "/prisoners/bookings", ["1"]).status_code == 400


def test_a_service_can_be_on_for_some_or_all_agencies(sandbox: Sandbox, caller: Caller) -> None:
    """A service can be switched on for single agencies and their prisoners, or for all agencies by the row `*ALL*`."""
    listed = {each["agencyId"] for each in caller.get("nomis", "/agency-switches/ACTIVITY")}
    plans = caller.get("activities", "/rollout?prisonsLive=true")
    assert listed == {each["prisonCode"] for each in plans if each["activitiesRolledOut"]}
    assert caller.get("nomis", "/agency-switches/UNKNOWN") is None
    somebody = next(each for each in sandbox.prisoners() if each["prisonId"] in listed)
    of_prisoner = f"/agency-switches/ACTIVITY/prisoner/{somebody['offenderNo']}"
    assert caller.call("nomis", "GET", of_prisoner).status_code == 204
    assert caller.call("nomis", "GET", f"/agency-switches/ACTIVITY/agency/{somebody['prisonId']}").status_code == 204
    sandbox.switch_agencies("ACTIVITY", "SYI")
    assert caller.call("nomis", "GET", of_prisoner).status_code == 404
    sandbox.switch_agencies("ACTIVITY", "*ALL*")
    assert caller.call("nomis", "GET", of_prisoner).status_code == 204
    assert [each["agencyId"] for each in caller.get("nomis", "/agency-switches/ACTIVITY")] == ["*ALL*"]


@pytest.mark.parametrize(
    ("generation", "missing", "there"),
    [
        (
            "2023",
            [
                ("nomis", "/agency-switches/ACTIVITY"),
                ("nomis", "/service-prisons/ACTIVITY"),
                ("nomis", "/allocations/reconciliation/MDI"),
                ("activities", "/rollout"),
                ("activities", "/synchronisation/reconciliation/allocations/MDI"),
            ],
            [("activities", "/rollout/MDI")],
        ),
        (
            "2024-06",
            [
                ("nomis", "/agency-switches/ACTIVITY"),
                ("activities", "/rollout"),
                ("activities", "/synchronisation/reconciliation/suspended-allocations/MDI"),
            ],
            [
                ("nomis", "/service-prisons/ACTIVITY"),
                ("nomis", "/allocations/reconciliation/MDI"),
                ("activities", "/synchronisation/reconciliation/allocations/MDI"),
            ],
        ),
        ("today", [("nomis", "/service-prisons/ACTIVITY")], [("nomis", "/agency-switches/ACTIVITY")]),
    ],
)
def test_a_route_exists_only_in_its_generation(
    sandbox: Sandbox, generation: str, missing: list[tuple[str, str]], there: list[tuple[str, str]]
) -> None:
    """A route exists only from the generation in which it was added until the one in which it was removed."""
    sandbox.reset(generation=generation)
    caller = Caller(sandbox)
    for service, path in missing:
        response = caller.call(service, "GET", path)
        assert (response.status_code, "No handler found" in response.json()["userMessage"]) == (404, True), path
    for service, path in there:
        assert caller.call(service, "GET", path).status_code == 200, path


def test_the_counts_require_their_roles(sandbox: Sandbox) -> None:
    """The counts require the role for synchronisation in NOMIS, and the role for activities in DPS.

    The role for activities is not enough for the rollout or for single allocations.
    """
    sandbox.grant("nomis", ["NOMIS_ACTIVITIES"])
    sandbox.grant("activities", ["NOMIS_ACTIVITIES"])
    caller = Caller(sandbox)
    for path in ("/allocations/reconciliation/MDI", "/agency-switches/ACTIVITY"):
        assert caller.call("nomis", "GET", path).status_code == 403
    assert caller.call("activities", "GET", "/synchronisation/reconciliation/allocations/MDI").status_code == 200
    assert caller.call("activities", "GET", "/rollout").status_code == 403
    assert caller.call("activities", "POST", "/prisons/MDI/prisoner-allocations", []).status_code == 403
    sandbox.grant("nomis", [NOMIS_SYNCHRONISATION])
    assert Caller(sandbox).call("nomis", "GET", "/allocations/reconciliation/MDI").status_code == 200


def test_allocations_and_attendances_behind_the_counts(sandbox: Sandbox) -> None:
    """The records behind the counts can be read: a prisoner's allocations, and the attendances of a day.

    Allocations that have ended are listed only on request.
    """
    sandbox.reset(**PLANTED)
    caller = Caller(sandbox)
    planted = sandbox.planted()["reconciliations"]
    failed = next(each for each in planted["allocations"] if each["cause"] == "ending failed")
    prison, booking = failed["key"]
    number = next(each["offenderNo"] for each in sandbox.prisoners() if each["bookingId"] == booking)
    path = f"/prisons/{prison}/prisoner-allocations"
    assert caller.call("activities", "POST", path, [number]).json() == []
    (found,) = caller.call("activities", "POST", f"{path}?activeOnly=false", [number, "A0000AA"]).json()
    assert found["prisonerNumber"] == number
    assert [(each["bookingId"], each["status"]) for each in found["allocations"]] == [(booking, "ENDED")]
    lost = next(each for each in planted["attendances"] if each["cause"] == "attendance failed")
    prison, booking, day = lost["key"]
    number = next(each["offenderNo"] for each in sandbox.prisoners() if each["bookingId"] == booking)
    listed = caller.get("activities", f"/attendances/{prison}/{day}")
    assert [each["issuePayment"] for each in listed if each["prisonerNumber"] == number] == [True]


def test_records_under_way_arrive_between_two_readings(sandbox: Sandbox) -> None:
    """Once a prison's counts have been read, a late allocation reaches NOMIS, and a prisoner leaves the prison."""
    sandbox.reset(**PLANTED, in_flight=1, in_flight_seconds=0)
    caller = Caller(sandbox)
    planted = sandbox.planted()["reconciliations"]
    leaves = next(each for each in planted["suspended-allocations"] if each["cause"] == "leaves after listing")
    prison, booking = leaves["key"]

    def location() -> str:
        found: str = caller.call("nomis", "POST", "/prisoners/bookings", [booking]).json()[0]["location"]
        return found

    assert location() == prison
    counts(caller, "nomis", f"/allocations/reconciliation/{prison}?suspended=true")
    assert location() != prison
    late = next(each for each in planted["allocations"] if each["outcome"] == "settles")
    prison, booking = late["key"]
    path = f"/allocations/reconciliation/{prison}"
    assert [booking in counts(caller, "nomis", path) for _ in range(2)] == [False, True]
