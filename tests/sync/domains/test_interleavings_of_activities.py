"""In whatever order activity events arrive, and even if responses are lost, NOMIS ends up in the same state as DPS."""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sandbox.clock import london_today
from tests.harness.handlers import Harness, Prisoner
from tests.harness.scenarios import (
    BOUNDED,
    LOSSES_OF_A_COURSE,
    MAPPING_POST,
    NUMBERS,
    Scenario,
    Step,
    delivery,
    play,
    scenarios,
)


@pytest.fixture
def scheduled(harness: Harness, prisoner: Prisoner) -> Harness:
    """The handlers, after a schedule was created in NOMIS."""
    today = london_today().isoformat()
    activity = {
        "id": 1,
        "prison_id": prisoner.prison_id,
        "summary": "Gym",
        "category": "SAA_INDUSTRIES",
        "start": today,
        "end": None,
        "level": "BAS",
        "pay_per_session": "H",
        "pay": [{"level": "STD", "band": band, "rate": 100} for band in (1, 2, 3)],
    }
    harness.sandbox.put(
        "schedule",
        id=1,
        activity=activity,
        description="Gym",
        capacity=10,
        start=today,
        end=None,
        runs_on_bank_holiday=True,
        location_id=None,
        slots=[],
    )
    harness.handle("activities.activity-schedule.created", activityScheduleId=1)
    return harness


SESSION = {"start": "08:30", "end": "11:45"}


@BOUNDED
@given(scenario=scenarios(4, LOSSES_OF_A_COURSE))
@example(scenario=([Step(0), Step(1), Step(2), delivery(2), delivery(0, MAPPING_POST), Step(3)], (3, 2, 1, 0)))
def test_a_schedule_is_one_course_in_its_last_state(scheduled: Harness, prisoner: Prisoner, scenario: Scenario) -> None:
    """Whatever the order of its events, a schedule becomes one course in NOMIS, with the schedule's last state.

    The only session of the course is cancelled.
    """
    number = 1_000 + next(NUMBERS)
    put, tomorrow = scheduled.sandbox.put, (london_today() + timedelta(days=1)).isoformat()
    (template,) = [each for each in scheduled.sandbox.entities("schedule") if each["id"] == 1]
    instance = {"id": number, "schedule_id": number, "day": tomorrow, **SESSION}
    changes = [
        partial(put, "schedule", **{**template, "id": number, "capacity": 11, "instances": [instance]}),
        partial(put, "schedule", id=number, capacity=12),
        partial(put, "instance", id=number, cancelled=True),
        partial(put, "schedule", id=number, capacity=13, location_id=prisoner.rooms[0]),
    ]

    def deliver(change: int) -> object:
        if change == 2:
            return scheduled.handle("activities.scheduled-instance.amended", scheduledInstanceId=number)
        word = "created" if change == 0 else "amended"
        return scheduled.handle(f"activities.activity-schedule.{word}", activityScheduleId=number)

    assert play(scheduled, scenario, changes, deliver) == set()
    (course,) = [each for each in scheduled.sandbox.nomis("course") if each["code"] == str(number)]
    mapped = [each for each in scheduled.sandbox.mappings("activities") if each["activityScheduleId"] == number]
    assert [each["nomisCourseActivityId"] for each in mapped] == [course["id"]]
    assert (course["capacity"], course["location_id"]) == (13, prisoner.rooms[0])
    assert [each["status"] for each in course["sessions"].values()] == ["CANC"]


@BOUNDED
@given(scenario=scenarios(4), ends=st.booleans())
def test_nomis_gets_the_state_of_the_newer_allocation(
    scheduled: Harness, prisoner: Prisoner, scenario: Scenario, ends: bool
) -> None:
    """Whatever the order of events, NOMIS has the state of the newer of a prisoner's two allocations."""
    first = 10_000 + 2 * next(NUMBERS)
    second, today = first + 1, london_today().isoformat()
    base: dict[str, Any] = {
        "schedule_id": 1,
        "prisoner_number": prisoner.offender_no,
        "booking_id": prisoner.booking_id,
        "start": today,
    }
    ended = {"status": "ENDED", "end": today, "ended_by": "A", "ended_at": "2023-05-22T09:00:00"}
    states: list[dict[str, Any]] = [
        {"id": first, "band": 1},
        {"id": first, "band": 1, **ended, "ended_why": "first"},
        {"id": second, "band": 2},
        {"id": second, "band": 3, **({**ended, "ended_why": "second"} if ends else {"status": "SUSPENDED"})},
    ]
    words = ["allocated", "deallocated", "allocated", "allocation-amended"]
    pending = play(
        scheduled,
        scenario,
        [partial(scheduled.sandbox.put, "allocation", **base, **state) for state in states],
        lambda step: scheduled.handle(f"activities.prisoner.{words[step]}", allocationId=states[step]["id"]),
    )
    assert pending == set()
    (row,) = [each for each in scheduled.sandbox.nomis("allocation") if each["booking_id"] == prisoner.booking_id]
    assert row["bands"][-1]["band"] == "3"
    assert (row["end"], row["suspended"]) == (today if ends else None, not ends)
    assert row["comment"].endswith("for reason second" if ends else "for reason null")


@BOUNDED
@given(scenario=scenarios(4), locks=st.booleans())
def test_an_attendance_is_in_nomis_once_as_dps_has_it(
    scheduled: Harness, prisoner: Prisoner, scenario: Scenario, locks: bool
) -> None:
    """Whatever the order of its events, an attendance is in NOMIS once, with its outcome and comment from DPS."""
    number = 20_000 + next(NUMBERS)
    sandbox, day = scheduled.sandbox, (london_today() + timedelta(days=number % 5_000)).isoformat()
    sandbox.put("instance", id=number, schedule_id=1, day=day, **SESSION)
    scheduled.handle("activities.activity-schedule.amended", activityScheduleId=1)
    owner = {"prisoner_number": prisoner.offender_no, "booking_id": prisoner.booking_id}
    sandbox.put("allocation", id=5_000, schedule_id=1, band=1, start=london_today().isoformat(), **owner)
    scheduled.handle("activities.prisoner.allocated", allocationId=5_000)
    base = {"id": number, "instance_id": number, "prisoner_number": prisoner.offender_no}
    states: list[dict[str, Any]] = [
        {"status": "WAITING"},
        {"status": "COMPLETED", "reason": "ATTENDED", "issue_payment": True, "comment": "Came"},
        {"status": "COMPLETED", "reason": "SICK", "issue_payment": False, "comment": "Was ill"},
        {"status": "LOCKED"} if locks else {"status": "COMPLETED", "comment": "Was ill, says the nurse"},
    ]
    words = ["created", "amended", "amended", "amended"]
    pending = play(
        scheduled,
        scenario,
        [partial(sandbox.put, "attendance", **base, **state) for state in states],
        lambda step: scheduled.handle(f"activities.prisoner.attendance-{words[step]}", attendanceId=number),
    )
    assert pending == set()
    (course,) = [each for each in sandbox.nomis("course") if each["code"] == "1"]
    (session,) = [each["id"] for each in course["sessions"].values() if each["day"] == day]
    (row,) = [each for each in sandbox.nomis("attendance") if each["session_id"] == session]
    assert (row["outcome"], row["paid"]) == ("REST", False)
    assert row["comment"] == ("Was ill" if locks else "Was ill, says the nurse")
    # An attendance that NOMIS does not have at the time of the lock expires. An attendance that NOMIS has keeps its
    # status.
    assert row["status"] in ({"COMP", "EXP"} if locks else {"COMP"})
