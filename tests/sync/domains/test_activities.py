"""Activity schedules and their sessions go from the activities service to NOMIS."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest

from sync.domains.activities.rules import course_description
from sync.errors import LeaseBusy, RuleError, UpstreamError
from sync.events.context import Outcome
from sync.settings import times
from sync.settings.upstreams import UpstreamName
from tests.harness.activities import (
    ACTIVITY,
    INSTANCE,
    SCHEDULE,
    START,
    SUMMARY,
    TODAY,
    TOMORROW,
    amend,
    create,
    one,
    put_schedule,
    sessions,
)
from tests.harness.handlers import Harness, Prisoner
from tests.harness.waiting import LONGEST_SECONDS, until


def test_schedule_is_created_and_mapped(harness: Harness, prisoner: Prisoner) -> None:
    """A new schedule is written to NOMIS as a course with every field. The course is mapped and tracked."""
    ends = (TODAY + timedelta(days=90)).isoformat()
    put_schedule(harness, prisoner, {"end": ends}, start=TODAY.isoformat(), runs_on_bank_holiday=False)
    assert create(harness) is Outcome.APPLIED
    sent = harness.sandbox.journal("nomis")[0]["body"]
    assert sent == {
        "code": str(SCHEDULE),
        "startDate": START,
        "endDate": ends,
        "prisonId": prisoner.prison_id,
        "internalLocationId": prisoner.rooms[0],
        "capacity": 12,
        "payRates": [
            {"incentiveLevel": "STD", "payBand": "1", "rate": 1.5},
            {"incentiveLevel": "ENH", "payBand": "2", "rate": 3.25},
        ],
        "description": "SAA Bricklaying for beginners, in the ol",
        "minimumIncentiveLevelCode": "BAS",
        "programCode": "SAA_INDUSTRIES",
        "payPerSession": "H",
        "schedules": [{"date": TOMORROW, "startTime": "08:30", "endTime": "11:45", "cancelled": False}],
        "scheduleRules": [
            {
                "startTime": "08:30",
                "endTime": "11:45",
                "monday": True,
                "tuesday": False,
                "wednesday": False,
                "thursday": False,
                "friday": True,
                "saturday": False,
                "sunday": False,
            }
        ],
        "excludeBankHolidays": True,
    }
    course_id = one(harness, "course")["id"]
    assert harness.tracked() == [
        (
            "activity-create-success",
            {
                "dpsActivityScheduleId": str(SCHEDULE),
                "description": "Bricklaying, Mondays, with a description of more than forty characters",
                "nomisCourseActivityId": str(course_id),
                "activityScheduleId": str(SCHEDULE),
                "mappingType": "ACTIVITY_CREATED",
            },
        )
    ]


def test_amend_keeps_the_name_of_the_course(harness: Harness, prisoner: Prisoner) -> None:
    """An amendment gives the course the same name as the creation did: the prefix and the shortened summary."""
    put_schedule(harness, prisoner)
    create(harness)
    name = one(harness, "course")["description"]
    put_schedule(harness, prisoner, capacity=20, location_id=None)
    assert amend(harness) == "activity-amend-success"
    course = one(harness, "course")
    assert (course["description"], course["capacity"], course["location_id"]) == (name, 20, None)
    assert name == course_description(SUMMARY)
    assert harness.tracked("activity-amend-success")[0][1] == {
        "dpsActivityScheduleId": str(SCHEDULE),
        "nomisCourseActivityId": str(course["id"]),
        "dpsActivityId": str(ACTIVITY),
    }


def test_an_amendment_before_the_creation_fails_until_the_course_exists(harness: Harness, prisoner: Prisoner) -> None:
    """An amendment that overtakes the creation fails, since there is no mapping, and succeeds after the creation."""
    put_schedule(harness, prisoner)
    with pytest.raises(UpstreamError, match=r"mapping: GET .* status 404"):
        amend(harness)
    create(harness)
    assert amend(harness) == "activity-amend-success"


def test_piece_work_is_refused_with_its_reason(harness: Harness, prisoner: Prisoner) -> None:
    """A pay line without a rate breaks a rule, and the error names the line's level and band."""
    put_schedule(harness, prisoner)
    activity = harness.services[UpstreamName.ACTIVITIES].call("GET", f"/activities/{ACTIVITY}")
    del activity["pay"][0]["rate"]
    harness.sandbox.fault("activities", path="/activities/{id}", kind="status", status=200, body=activity)
    with pytest.raises(RuleError, match="level STD and band 1 has no rate"):
        create(harness)
    assert harness.sandbox.nomis("course") == []


def test_a_lost_response_needs_a_person(harness: Harness, prisoner: Prisoner) -> None:
    """If the response to the create of a course is lost, a person must decide whether NOMIS has the course.

    No NOMIS route reads courses. Nothing is created twice.
    """
    put_schedule(harness, prisoner)
    harness.sandbox.fault("nomis", "POST", kind="reset_after_write", times=1)
    with pytest.raises(UpstreamError):
        create(harness)
    assert create(harness) is Outcome.AMBIGUOUS
    assert len(harness.sandbox.nomis("course")) == 1


@pytest.mark.parametrize("existing", [{"activityScheduleId": SCHEDULE}, {}], ids=["same schedule", "same course"])
def test_a_400_of_the_mapping_is_a_duplicate(harness: Harness, prisoner: Prisoner, existing: dict[str, int]) -> None:
    """If a mapping is refused with 400 because of an existing one, a duplicate is tracked with the ids of both."""
    put_schedule(harness, prisoner)
    harness.sandbox.fault("mapping", "POST", kind="status", status=503, times=1)
    assert create(harness) is Outcome.RETRY_QUEUED
    course_id = one(harness, "course")["id"]
    held = {"activityScheduleId": 999, "nomisCourseActivityId": 77 if existing else course_id, **existing}
    harness.services.mapping.call("POST", "/mapping/activities", body={**held, "mappingType": "ACTIVITY_CREATED"})
    assert harness.handle_retry(*harness.retries[0]) is Outcome.DUPLICATE
    ((_, properties),) = harness.tracked("to-nomis-synch-activity-duplicate")
    assert properties["existingNomisCourseActivityId"] == str(held["nomisCourseActivityId"])
    assert properties["existingActivityScheduleId"] == str(held["activityScheduleId"])
    assert properties["duplicateNomisCourseActivityId"] == str(course_id)


def test_other_400_of_the_mapping_goes_into_the_retry(harness: Harness, prisoner: Prisoner) -> None:
    """If no existing mapping explains a 400 from the mapping service, a retry message saves the mapping."""
    put_schedule(harness, prisoner)
    harness.sandbox.fault("mapping", "POST", kind="status", status=400, times=1)
    assert create(harness) is Outcome.RETRY_QUEUED
    assert harness.handle_retry(*harness.retries[0]) is Outcome.APPLIED
    assert harness.tracked("activity-create-mapping-retry-success") == [
        ("activity-create-mapping-retry-success", {"activityScheduleId": str(SCHEDULE)}),
    ]


def test_session_is_cancelled_and_scheduled_again(running: Harness) -> None:
    """A session that DPS cancels or restores gets the same state in NOMIS.

    The change is tracked with the ids of both sides.
    """
    running.sandbox.put("instance", id=INSTANCE, cancelled=True)
    event = "activities.scheduled-instance.amended"
    assert running.handle(event, scheduledInstanceId=INSTANCE) == "activity-scheduled-instance-amend-success"
    assert [each["status"] for each in sessions(running)] == ["CANC"]
    ((_, properties),) = running.tracked("activity-scheduled-instance-amend-success")
    assert properties == {
        "dpsScheduledInstanceId": str(INSTANCE),
        "dpsActivityScheduleId": str(SCHEDULE),
        "scheduleDate": TOMORROW,
        "startTime": "08:30",
        "endTime": "11:45",
        "nomisCourseActivityId": str(one(running, "course")["id"]),
        "nomisCourseScheduleId": str(sessions(running)[0]["id"]),
    }
    running.sandbox.put("instance", id=INSTANCE, cancelled=False)
    running.handle(event, scheduledInstanceId=INSTANCE)
    assert [each["status"] for each in sessions(running)] == ["SCH"]


def cancel_session(harness: Harness) -> Outcome | str:
    """Cancels the session in DPS, and handles the event about it."""
    harness.sandbox.put("instance", id=INSTANCE, cancelled=True)
    return harness.handle("activities.scheduled-instance.amended", scheduledInstanceId=INSTANCE)


@pytest.fixture
def patient(running: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets a handler wait until a lease is free, however slow the machine is."""
    monkeypatch.setattr(times, "HANDLER_LEASE_WAIT_SECONDS", LONGEST_SECONDS)


def test_an_amendment_does_not_restore_a_cancelled_session(running: Harness, patient: None) -> None:
    """A session that is cancelled between the read and the write of an amendment stays cancelled."""
    running.sandbox.fault("activities", "GET", "/activities/{id}", kind="delay", ms=500, times=1)
    with ThreadPoolExecutor(1) as pool:
        amending = pool.submit(amend, running)
        until(lambda: running.sandbox.faults()[0]["hits"])
        assert cancel_session(running) == "activity-scheduled-instance-amend-success"
        assert amending.result() == "activity-amend-success"
    assert [each["status"] for each in sessions(running)] == ["CANC"]


def test_a_session_is_read_again_after_waiting_for_its_course(running: Harness, patient: None) -> None:
    """A session is read again once the lease of its course is free, and the session's new state is written."""
    event, course = "activities.scheduled-instance.amended", f"write:activity:{SCHEDULE}"
    assert running.leases.acquire(course)
    with ThreadPoolExecutor(1) as pool:
        handling = pool.submit(running.handle, event, scheduledInstanceId=INSTANCE)
        until(lambda: [each for each in running.sandbox.requests("activities") if "instances" in each["path"]])
        running.sandbox.put("instance", id=INSTANCE, cancelled=True)
        running.leases.release(course)
        assert handling.result() == "activity-scheduled-instance-amend-success"
    assert [each["status"] for each in sessions(running)] == ["CANC"]


def test_session_waits_for_its_course(running: Harness) -> None:
    """While the lease of a course is held, an event about a session of the course waits."""
    with running.leases.held(f"write:activity:{SCHEDULE}"), pytest.raises(LeaseBusy):
        cancel_session(running)
