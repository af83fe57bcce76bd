"""The DPS services that publish events: their responses, and what they require of a request."""

from __future__ import annotations

from typing import Any

import pytest
import requests

from sandbox import Sandbox, SandboxError
from tests.harness.sandboxes import Caller

UUID = "5b0c7b1e-3f6a-4b0c-9a51-0b3c5f2d8e77"
VENDOR = "application/vnd.nomis-offence+json"


def adjustment(caller: Caller, adjustment_id: str, content_type: str | None) -> requests.Response:
    """Reads an adjustment, with `content_type` as the content type of the request unless it is None."""
    headers = {"Authorization": f"Bearer {caller.token('adjustments')}"}
    if content_type is not None:
        headers["Content-Type"] = content_type
    url = f"{caller.sandbox.url('adjustments')}/legacy/adjustments/{adjustment_id}"
    return requests.get(url, headers=headers, timeout=30)


def schedule(prison_id: str) -> dict[str, Any]:
    """The values of a schedule with one slot and one instance."""
    activity = {
        "id": 201,
        "prison_id": prison_id,
        "summary": "Maths level 1",
        "category": "SAA_EDUCATION",
        "start": "2023-05-01",
        "end": None,
        "level": "STD",
        "pay_per_session": "H",
        "pay": [{"level": "STD", "band": 5, "rate": 150}],
    }
    return {
        "id": 318,
        "activity": activity,
        "description": "Monday",
        "capacity": 10,
        "start": "2023-05-01",
        "end": None,
        "runs_on_bank_holiday": True,
        "location_id": None,
        "slots": [{"start": "08:30", "end": "11:45", "days": [True, *[False] * 6]}],
        "instances": [{"id": 7, "schedule_id": 318, "day": "2023-05-22", "start": "08:30", "end": "11:45"}],
    }


def put_attendance(sandbox: Sandbox) -> None:
    """Adds attendance 5, of a prisoner who has two allocations to schedule 318, for different bookings."""
    sandbox.put("schedule", **schedule("MDI"))
    for number, booking in ((1, 11), (2, 22)):
        sandbox.put(
            "allocation",
            id=number,
            schedule_id=318,
            prisoner_number="A4471CK",
            booking_id=booking,
            band=5,
            start="2023-05-01",
            status="ENDED",
            ended_at="2023-05-20T22:00:00",
        )
    sandbox.put("attendance", id=5, instance_id=7, prisoner_number="A4471CK")


def test_a_visit_has_the_fields_that_the_program_reads(caller: Caller) -> None:
    """A visit has the fields that the program reads. An unknown visit gets 404."""
    caller.sandbox.put(
        "visit",
        reference="bq-te-ke-ol",
        prisoner_id="A4471CK",
        prison_id="MDI",
        room="Visits Main Hall",
        start="2023-06-02T14:00:00",
        end="2023-06-02T15:00:00",
        person_ids=[4729570],
    )
    held = caller.get("visits", "/visits/bq-te-ke-ol")
    assert (held["startTimestamp"], held["visitRestriction"]) == ("2023-06-02T14:00:00", "OPEN")
    assert [each["nomisPersonId"] for each in held["visitors"]] == [4729570]
    assert caller.get("visits", "/visits/no-no") is None


def test_the_reads_of_an_activity_agree(caller: Caller) -> None:
    """The reads of a schedule, its activity and its instance agree. An unknown schedule gets 404."""
    caller.sandbox.put("schedule", **schedule("MDI"))
    held = caller.get("activities", "/schedules/318")
    assert (held["activity"]["id"], held["slots"][0]["mondayFlag"], held["slots"][0]["daysOfWeek"]) == (
        201,
        True,
        ["Mon"],
    )
    assert held["instances"][0]["startTime"] == "08:30"
    activity = caller.get("activities", "/activities/201")
    assert (activity["pay"][0]["prisonPayBand"]["nomisPayBand"], activity["pay"][0]["rate"]) == (5, 150)
    assert caller.get("activities", "/scheduled-instances/7")["activitySchedule"]["id"] == 318
    assert caller.get("activities", "/schedules/1") is None


def test_an_attendance_has_the_booking_of_the_newest_allocation(caller: Caller) -> None:
    """An attendance read for the synchronisation has the booking of the prisoner's newest allocation.

    Some end times of allocations have a Z, and others do not.
    """
    put_attendance(caller.sandbox)
    held = caller.get("activities", "/synchronisation/attendance/5")
    assert (held["bookingId"], held["sessionDate"], held["status"]) == (22, "2023-05-22", "WAITING")
    times = [caller.get("activities", f"/allocations/id/{number}")["deallocatedTime"] for number in (1, 2)]
    assert times == ["2023-05-20T22:00:00Z", "2023-05-20T22:00:00"]


def test_an_attendance_requires_its_role(caller: Caller) -> None:
    """A client without the role for attendances gets 403 if it reads an existing attendance for the synchronisation.

    The same client can read the attendance's schedule, because that read requires no role.
    """
    put_attendance(caller.sandbox)
    path = "/synchronisation/attendance/5"
    assert caller.call("activities", "GET", path).status_code == 200
    caller.sandbox.grant("activities", [])
    without_role = Caller(caller.sandbox)
    statuses = [without_role.call("activities", "GET", each).status_code for each in (path, "/schedules/318")]
    assert statuses == [403, 200]


def test_an_adjustment_requires_its_content_type(caller: Caller) -> None:
    """Without the vendor-specific content type, a read of an adjustment gets 415.

    With it, an unknown id gets 404 and a malformed id gets 400.
    """
    assert adjustment(caller, UUID, None).status_code == 415
    assert adjustment(caller, UUID, "application/json").status_code == 415
    assert adjustment(caller, UUID, VENDOR).status_code == 404
    assert adjustment(caller, "17", VENDOR).status_code == 400
    values = {"booking_id": 11, "offender_no": "A4471CK", "sentence": None, "type": "ADA", "days": 3, "comment": None}
    caller.sandbox.put("adjustment", id=UUID, day="2023-05-22", start="2023-05-22", **values)
    assert adjustment(caller, UUID, VENDOR).json()["adjustmentType"] == "ADA"


def test_mock_publishers_serve_canned_records(running_sandbox: Sandbox) -> None:
    """With mock publishers, every visit and adjustment exists. An adjustment whose id ends in S is for a sentence."""
    running_sandbox.reset(mock_publishers=True)
    caller = Caller(running_sandbox)
    visit = caller.get("visits", "/visits/anything")
    assert (visit["reference"], visit["prisonId"], visit["prisonerId"]) == ("anything", "MDI", "A7948DY")
    assert [each["nomisPersonId"] for each in visit["visitors"]] == [4729570, 4729550]
    assert adjustment(caller, "17S", VENDOR).json()["sentenceSequence"] == 1
    assert adjustment(caller, "17", VENDOR).json()["adjustmentType"] == "ADA"


def canned(sandbox: Sandbox) -> tuple[str, list[int]]:
    """The prison and the visitors of the canned visit."""
    visit = Caller(sandbox).get("visits", "/visits/anything")
    return visit["prisonId"], [each["nomisPersonId"] for each in visit["visitors"]]


def test_options_choose_the_canned_visit(running_sandbox: Sandbox) -> None:
    """Options of a world set the prison and visitors of the canned visit. The visit's prisoner is in that prison.

    A visitor that is not a number is refused.
    """
    running_sandbox.reset(mock_publishers=True, mock_visits_prison_id="LEI", mock_visits_visitors=[4_700_007])
    assert canned(running_sandbox) == ("LEI", [4_700_007])
    (prisoner,) = [each for each in running_sandbox.prisoners() if each["offenderNo"] == "A7948DY"]
    assert (prisoner["prisonId"], prisoner["bookingId"]) == ("LEI", 1_201_725)
    with pytest.raises(SandboxError, match="is not a list of visitors for a mock visit"):
        running_sandbox.reset(mock_publishers=True, mock_visits_visitors=["Anne"])


def test_variables_choose_the_canned_visit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Environment variables set the prison and visitors of the canned visit, but options take precedence."""
    monkeypatch.setenv("MOCK_VISITS_PRISON_ID", "PVI")
    monkeypatch.setenv("MOCK_VISITS_VISITORS", "4700001, 4700002")
    with Sandbox.start(prisoners=5, moto=False, mock_publishers=True) as sandbox:
        assert canned(sandbox) == ("PVI", [4_700_001, 4_700_002])
        sandbox.reset(prisoners=5, mock_publishers=True, mock_visits_prison_id="LEI")
        assert canned(sandbox) == ("LEI", [4_700_001, 4_700_002])


@pytest.mark.parametrize("kind", ["visit", "appointment"])
def test_dropped_records_are_not_found(caller: Caller, kind: str) -> None:
    """A visit or an appointment that has been dropped from its service gets 404."""
    if kind == "visit":
        values: dict[str, Any] = {"reference": "aa", "prisoner_id": "A1234BC", "room": "Hall", "person_ids": []}
        values |= {"start": "2023-06-02T14:00:00", "end": "2023-06-02T15:00:00"}
    else:
        values = {"id": 9, "booking_id": 1, "prisoner_number": "A1234BC", "category": "CHAP", "location_id": 5}
        values |= {"in_cell": False, "day": "2023-05-22", "start": "09:00", "end": None}
    caller.sandbox.put(kind, prison_id="MDI", **values)
    service, path = ("visits", "/visits/aa") if kind == "visit" else ("appointments", "/appointment-instances/9")
    assert caller.get(service, path) is not None
    caller.sandbox.drop(kind, "aa" if kind == "visit" else 9)
    assert caller.get(service, path) is None
