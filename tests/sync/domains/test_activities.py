"""Activities: schedules and their sessions, allocations and attendances, from the activities service to NOMIS."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest

from sync.domains.activities.allocations import booking_activity_lease
from sync.domains.activities.rules import course_description
from sync.failures import LeaseBusy, NeverAccepted, RuleError, UpstreamError
from sync.pipeline.outcome import Outcome
from sync.settings.declaration import UpstreamName
from tests.harness.activities import (
    ACTIVITY,
    ALLOCATION,
    ATTENDANCE,
    INSTANCE,
    SCHEDULE,
    START,
    SUMMARY,
    TODAY,
    TOMORROW,
    allocate,
    amend,
    attend,
    create,
    put_allocation,
    put_attendance,
    put_schedule,
)
from tests.harness.faults import faulty
from tests.harness.handlers import Harness, Prisoner
from tests.harness.waiting import LONGEST_SECONDS, until


def one(harness: Harness, kind: str) -> dict[str, Any]:
    """The one record of a kind that NOMIS holds."""
    (record,) = harness.sandbox.nomis(kind)
    return dict(record)


@pytest.fixture
def running(harness: Harness, prisoner: Prisoner) -> Harness:
    """The handlers with the schedule in NOMIS and the prisoner allocated to it in DPS."""
    put_schedule(harness, prisoner)
    create(harness)
    put_allocation(harness, prisoner)
    return harness


def test_schedule_is_created_and_mapped(harness: Harness, prisoner: Prisoner) -> None:
    """A schedule becomes a course activity with every field, mapped and tracked."""
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
    """An amend names the course as its creation did: prefix and cut summary, not the schedule's long description."""
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


def test_amend_before_the_creation_fails_until_it_is_there(harness: Harness, prisoner: Prisoner) -> None:
    """An amend that overtakes its creation fails for want of a mapping, and heals after it."""
    put_schedule(harness, prisoner)
    with pytest.raises(UpstreamError, match=r"mapping: GET .* status 404"):
        amend(harness)
    create(harness)
    assert amend(harness) == "activity-amend-success"


def test_piece_work_is_refused_with_its_reason(harness: Harness, prisoner: Prisoner) -> None:
    """A pay line without a rate is a rule that cannot be met, named by its level and band."""
    put_schedule(harness, prisoner)
    activity = harness.services[UpstreamName.ACTIVITIES].call("GET", f"/activities/{ACTIVITY}")
    del activity["pay"][0]["rate"]
    harness.sandbox.fault("activities", path="/activities/{id}", kind="status", status=200, body=activity)
    with pytest.raises(RuleError, match="level STD, band 1 has no rate"):
        create(harness)
    assert harness.sandbox.nomis("course") == []


def test_lost_answer_needs_a_person(harness: Harness, prisoner: Prisoner) -> None:
    """NOMIS cannot be asked for a course activity, so a lost response is left to a person and nothing is made twice."""
    put_schedule(harness, prisoner)
    harness.sandbox.fault("nomis", "POST", kind="reset_after_write", times=1)
    with pytest.raises(UpstreamError):
        create(harness)
    assert create(harness) is Outcome.AMBIGUOUS
    assert len(harness.sandbox.nomis("course")) == 1


@pytest.mark.parametrize("existing", [{"activityScheduleId": SCHEDULE}, {}], ids=["same schedule", "same course"])
def test_a_400_of_the_mapping_is_a_duplicate(harness: Harness, prisoner: Prisoner, existing: dict[str, int]) -> None:
    """The mapping service's 400 for a pair that meets another one is tracked as a duplicate with both."""
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
    """A 400 that no existing mapping explains is no duplicate."""
    put_schedule(harness, prisoner)
    harness.sandbox.fault("mapping", "POST", kind="status", status=400, times=1)
    assert create(harness) is Outcome.RETRY_QUEUED
    assert harness.handle_retry(*harness.retries[0]) is Outcome.APPLIED
    assert harness.tracked("activity-create-mapping-retry-success") == [
        ("activity-create-mapping-retry-success", {"activityScheduleId": str(SCHEDULE)}),
    ]


def test_session_is_cancelled_and_scheduled_again(running: Harness) -> None:
    """One session follows its state in DPS, and is tracked with both its ids."""
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


def sessions(harness: Harness) -> list[dict[str, Any]]:
    """The sessions of the one course of NOMIS."""
    held = one(harness, "course")["sessions"]
    return [dict(each) for each in (held.values() if isinstance(held, dict) else held)]


def cancel_session(harness: Harness) -> Outcome | str:
    """Cancels the session in DPS and handles the event of it."""
    harness.sandbox.put("instance", id=INSTANCE, cancelled=True)
    return harness.handle("activities.scheduled-instance.amended", scheduledInstanceId=INSTANCE)


def test_amend_does_not_bring_a_cancelled_session_back(running: Harness) -> None:
    """A session that is cancelled while an amend of its schedule has read, but not yet written, stays cancelled."""
    running.sandbox.fault("activities", "GET", "/activities/{id}", kind="delay", ms=500, times=1)
    with ThreadPoolExecutor(1) as pool:
        amending = pool.submit(amend, running)
        until(lambda: running.sandbox.faults()[0]["hits"])
        assert cancel_session(running) == "activity-scheduled-instance-amend-success"
        assert amending.result() == "activity-amend-success"
    assert [each["status"] for each in sessions(running)] == ["CANC"]


def test_session_is_written_as_it_is_once_its_course_is_free(running: Harness) -> None:
    """What a session was before the wait for its course is forgotten: it is read again, and so written."""
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
    """Whoever amends the course keeps its sessions too."""
    with running.leases.held(f"write:activity:{SCHEDULE}"), pytest.raises(LeaseBusy):
        cancel_session(running)


@pytest.mark.parametrize("word", ["allocated", "allocation-amended", "deallocated"])
def test_allocation_is_upserted(running: Harness, prisoner: Prisoner, word: str) -> None:
    """Each of the three events writes the allocation as DPS has it, and is tracked the same."""
    assert allocate(running, word) == "activity-allocation-success"
    row = one(running, "allocation")
    assert (row["booking_id"], row["end"], row["suspended"]) == (prisoner.booking_id, None, False)
    ((_, properties),) = running.tracked("activity-allocation-success")
    assert properties == {
        "dpsAllocationId": str(ALLOCATION),
        "offenderNo": prisoner.offender_no,
        "bookingId": str(prisoner.booking_id),
        "dpsActivityScheduleId": str(SCHEDULE),
        "nomisCourseActivityId": str(row["course_id"]),
        "nomisAllocationId": str(row["id"]),
    }


@pytest.mark.parametrize("allocation_id", [ALLOCATION, ALLOCATION + 1], ids=["time without Z", "time with Z"])
def test_ended_allocation_says_why(running: Harness, prisoner: Prisoner, allocation_id: int) -> None:
    """The end of an allocation carries reason and comment; the `Z` that some times have means nothing."""
    put_allocation(running, prisoner, allocation_id, status="ENDED", end=TODAY.isoformat(), ended_by="MR BLOGS",
                   ended_at="2023-05-22T09:30:01", ended_why="COMPLETED")  # fmt: skip
    allocate(running, "allocation-amended", allocation_id)
    row = one(running, "allocation")
    assert (row["end"], row["end_reason"]) == (TODAY.isoformat(), "PRG_END")
    assert row["comment"] == "Deallocated in DPS by MR BLOGS at 2023-05-22 09:30:01 for reason COMPLETED"


@pytest.mark.parametrize("status", ["SUSPENDED", "AUTO_SUSPENDED"])
def test_suspended_allocation_says_why(running: Harness, prisoner: Prisoner, status: str) -> None:
    """A suspension carries its comment, and prints `null` for what is unknown."""
    put_allocation(running, prisoner, status=status, suspended_by="MRS BLOGS")
    allocate(running, "allocation-amended")
    row = one(running, "allocation")
    assert row["suspended"] is True
    assert row["comment"] == "Suspended in DPS by MRS BLOGS at null for reason null"


def test_late_end_of_an_old_allocation_leaves_the_new_one(running: Harness, prisoner: Prisoner) -> None:
    """An event of an ended allocation that comes after a newer one of the same booking and schedule does not end it."""
    put_allocation(running, prisoner, status="ENDED", end=TODAY.isoformat(), ended_by="A", ended_why="B")
    put_allocation(running, prisoner, ALLOCATION + 1, band=2)
    allocate(running, "allocated", ALLOCATION + 1)
    assert allocate(running, "allocation-amended") == "activity-allocation-success"
    row = one(running, "allocation")
    assert (row["end"], row["end_reason"], row["comment"]) == (None, None, None)
    assert running.tracked("activity-allocation-success")[-1][1]["dpsAllocationId"] == str(ALLOCATION)


def test_another_prisoners_allocation_is_no_newer_one(running: Harness, prisoner: Prisoner) -> None:
    """Only an allocation of the same booking counts as the newer one."""
    put_allocation(running, prisoner, status="ENDED", end=TODAY.isoformat())
    put_allocation(running, prisoner, ALLOCATION + 1, booking_id=prisoner.booking_id + 1)
    allocate(running, "allocation-amended")
    assert one(running, "allocation")["end_reason"] == "PRG_END"


def test_simultaneous_upserts_make_one_row(harness: Harness, prisoner: Prisoner) -> None:
    """Upserts of one booking and activity exclude each other: the others wait for the lease, and NOMIS has one row."""
    harness.sandbox.reset(nomis_duplicates=True)
    put_schedule(harness, prisoner)
    create(harness)
    put_allocation(harness, prisoner)
    put_allocation(harness, prisoner, ALLOCATION + 1)
    harness.sandbox.latency(50, "nomis")
    together = threading.Barrier(6)
    words = ("allocated", "allocation-amended", "deallocated")

    def work(word: str, allocation_id: int) -> str:
        together.wait(LONGEST_SECONDS)
        try:
            return str(allocate(harness, word, allocation_id))
        except LeaseBusy:
            return "busy"

    with ThreadPoolExecutor(6) as pool:
        ended = sorted(pool.map(work, words * 2, [ALLOCATION] * 3 + [ALLOCATION + 1] * 3))
    assert "activity-allocation-success" in ended
    assert set(ended) <= {"activity-allocation-success", "busy"}
    assert len(harness.sandbox.nomis("allocation")) == 1


def test_attendance_waits_for_the_booking_and_activity(running: Harness, prisoner: Prisoner) -> None:
    """Attendances and allocations of one booking and activity take the same lease."""
    allocate(running)
    put_attendance(running, prisoner)
    key = booking_activity_lease(prisoner.booking_id, one(running, "course")["id"])
    with running.leases.held(key), pytest.raises(LeaseBusy):
        attend(running)


def test_attendance_is_upserted(running: Harness, prisoner: Prisoner) -> None:
    """An attendance is made, then changed, each tracked by the word of its event and with all properties."""
    allocate(running)
    put_attendance(running, prisoner)
    assert attend(running) == "activity-attendance-create-success"
    put_attendance(running, prisoner, status="COMPLETED", reason="ATTENDED", issue_payment=True, bonus=50, comment="Ok")
    assert attend(running, "amended") == "activity-attendance-update-success"
    row = one(running, "attendance")
    assert (row["status"], row["outcome"], row["paid"], row["comment"]) == ("COMP", "ATT", True, "Ok")
    first, second = running.tracked("activity-attendance-create-success", "activity-attendance-update-success")
    assert (first[1]["created"], second[1]["created"]) == ("true", "false")
    assert second[1] == {
        "dpsAttendanceId": str(ATTENDANCE),
        "dpsActivityScheduleId": str(SCHEDULE),
        "dpsScheduleInstanceId": str(INSTANCE),
        "sessionDate": TOMORROW,
        "sessionStartTime": "08:30",
        "sessionEndTime": "11:45",
        "offenderNo": prisoner.offender_no,
        "bookingId": str(prisoner.booking_id),
        "nomisCourseActivityId": str(one(running, "course")["id"]),
        "nomisAttendanceEventId": str(row["event_id"]),
        "nomisCourseScheduleId": str(sessions(running)[0]["id"]),
        "created": "false",
    }
    sent = [each["body"] for each in running.sandbox.journal("nomis") if each["path"].endswith("/attendance")]
    assert sent[-1]["bonusPay"] == 50
    assert sent[-1]["authorisedAbsence"] is False


def test_locked_attendance_keeps_or_expires(running: Harness, prisoner: Prisoner) -> None:
    """Locking keeps a recorded status, and expires an attendance that was never recorded or never there."""
    allocate(running)
    put_attendance(running, prisoner, status="LOCKED")
    attend(running, "amended")
    assert one(running, "attendance")["status"] == "EXP"
    put_attendance(running, prisoner, status="COMPLETED", reason="SICK", issue_payment=False)
    attend(running, "amended")
    put_attendance(running, prisoner, status="LOCKED")
    attend(running, "amended")
    row = one(running, "attendance")
    assert (row["status"], row["outcome"]) == ("COMP", "REST")
    put_attendance(running, prisoner, status="WAITING", reason=None)
    attend(running, "amended")
    put_attendance(running, prisoner, status="LOCKED")
    attend(running, "amended")
    assert one(running, "attendance")["status"] == "EXP"


def test_paid_attendance_fails_with_its_reason(running: Harness, prisoner: Prisoner) -> None:
    """An attendance that payroll has paid is refused for good, and the failure is tracked with the step."""
    allocate(running)
    put_attendance(running, prisoner)
    attend(running)
    running.sandbox.control("POST", f"/nomis/paid/{one(running, 'attendance')['event_id']}")
    with pytest.raises(UpstreamError, match="already been paid") as caught:
        attend(running, "amended")
    assert not caught.value.recoverable
    assert running.step == "upsert attendance"
    assert [name for name, _ in running.tracked()][-1] == "activity-attendance-update-failed"


def test_duplicate_rows_are_recognised(running: Harness) -> None:
    """Where NOMIS holds a pair twice already, the failure is tracked as one that does not heal by itself."""
    allocate(running)
    running.sandbox.control("POST", f"/nomis/duplicates/allocation/{one(running, 'allocation')['id']}")
    with pytest.raises(UpstreamError) as caught:
        allocate(running)
    assert caught.value.non_unique
    assert not caught.value.recoverable


@pytest.mark.parametrize("status", ["CANCELLED", "active", "", "ENDED_EARLY"])
def test_an_unknown_status_of_an_allocation_is_not_written(running: Harness, prisoner: Prisoner, status: str) -> None:
    """A status that is not known never passes for active: nothing is sent, and the failure names it."""
    put_allocation(running, prisoner, status=status)
    sent = len(running.sandbox.journal("nomis"))
    with pytest.raises(RuleError, match=f"allocation status '{status}'"):
        allocate(running)
    assert len(running.sandbox.journal("nomis")) == sent


def test_an_odd_row_of_somebody_else_does_not_keep_an_ending_back(running: Harness, prisoner: Prisoner) -> None:
    """Of a schedule's other allocations only later ones of the same booking are read; those must be readable."""
    allocate(running)
    put_allocation(running, prisoner, status="ENDED", end=TODAY.isoformat(), ended_by="Jane")
    rows: list[dict[str, Any]] = [
        {"id": 7_000, "bookingId": prisoner.booking_id + 1, "status": None, "startDate": "no date"},
        {"id": "x", "prisonerNumber": "A9999ZZ", "bookingId": None},
        {"id": ALLOCATION - 1, "bookingId": prisoner.booking_id, "startDate": None},
    ]
    path = "/schedules/{id}/allocations"
    with faulty(running.sandbox, "activities", "GET", path, kind="status", status=200, body=rows):
        assert allocate(running, "allocation-amended") == "activity-allocation-success"
    assert one(running, "allocation")["end_reason"] == "PRG_END"
    unreadable: list[Any] = [{"id": 7_000, "bookingId": prisoner.booking_id}, {"id": 7_000}, {}, None, []]
    for ours in unreadable:
        with (
            faulty(running.sandbox, "activities", "GET", path, kind="status", status=200, body=[*rows, ours]),
            pytest.raises(UpstreamError),
        ):
            allocate(running, "allocation-amended")


@pytest.mark.parametrize("comment", ["x" * 300, "\u20ac" * 300, "a" + "\u00e9" * 150, "\U0001f600" * 90])
def test_comments_longer_than_nomis_holds_are_cut(running: Harness, prisoner: Prisoner, comment: str) -> None:
    """Comments of an end and of an attendance go over as far as they fit, at a whole character."""
    allocate(running)
    put_attendance(running, prisoner, comment=comment)
    assert attend(running) == "activity-attendance-create-success"
    held = one(running, "attendance")["comment"]
    assert comment.startswith(held)
    assert 237 <= len(held.encode()) <= 240
    put_allocation(running, prisoner, status="ENDED", end=TODAY.isoformat(), ended_by="Jane", ended_why=comment)
    assert allocate(running, "allocation-amended") == "activity-allocation-success"
    held = one(running, "allocation")["comment"]
    assert held.startswith("Deallocated in DPS by Jane at null for reason ")
    assert 237 <= len(held.encode()) <= 240
    assert running.sandbox.verify()["problems"] == []


def test_an_attendance_that_nobody_recorded_expires(running: Harness, prisoner: Prisoner) -> None:
    """The event of an expired attendance is an update; the session of yesterday that still waits is expired."""
    yesterday = (TODAY - timedelta(days=1)).isoformat()
    instance = {"id": INSTANCE, "schedule_id": SCHEDULE, "day": yesterday, "start": "08:30", "end": "11:45"}
    schedule = {"id": SCHEDULE + 1, "instances": [{**instance, "schedule_id": SCHEDULE + 1, "id": INSTANCE + 1}]}
    put_schedule(running, prisoner, {"id": ACTIVITY + 1}, **schedule)
    running.handle("activities.activity-schedule.created", activityScheduleId=SCHEDULE + 1)
    put_allocation(running, prisoner, ALLOCATION + 1, schedule_id=SCHEDULE + 1)
    allocate(running, allocation_id=ALLOCATION + 1)
    put_attendance(running, prisoner, instance_id=INSTANCE + 1)
    assert attend(running, "expired") == "activity-attendance-update-success"
    assert one(running, "attendance")["status"] == "EXP"
    assert running.sandbox.verify()["problems"] == []


def refusal(code: object) -> dict[str, Any]:
    """The error body of a NOMIS that tells by a code why it refuses an attendance."""
    return {"status": 400, "errorCode": code, "userMessage": "Bad request: Attendance 5 cannot be changed"}


@pytest.mark.parametrize("word", ["created", "amended", "expired"])
def test_an_attendance_refused_for_what_needs_nothing_is_ignored(
    running: Harness, prisoner: Prisoner, word: str
) -> None:
    """Paid on its own day, or the prisoner moved on: acknowledged, with the reason, under the word of the event."""
    at = {"id": INSTANCE, "schedule_id": SCHEDULE, "day": TODAY.isoformat(), "start": "08:30", "end": "11:45"}
    put_schedule(running, prisoner, instances=[at])
    put_attendance(running, prisoner)
    name = f"activity-attendance-{'create' if word == 'created' else 'update'}-ignored"
    for code, text in ((1001, "already been paid"), (1002, "moved on"), ("1001", "already been paid")):
        with faulty(running.sandbox, "nomis", "POST", "/attendance$", status=400, body=refusal(code)):
            assert attend(running, word) == name
        properties = running.tracked(name)[-1][1]
        assert text in properties["reason"]
        assert f"{TODAY.isoformat()} at 08:30" in properties["reason"]
        assert properties["dpsAttendanceId"] == str(ATTENDANCE)


def test_an_attendance_paid_on_another_day_is_refused_for_good(running: Harness, prisoner: Prisoner) -> None:
    """It can never succeed, and says so; so does every other code, and one that is not the word of NOMIS."""
    put_attendance(running, prisoner)
    with (
        faulty(running.sandbox, "nomis", "POST", "/attendance$", status=400, body=refusal(1001)),
        pytest.raises(NeverAccepted, match="has already been paid") as caught,
    ):
        attend(running)
    assert not caught.value.recoverable
    assert running.tracked()[-1][0] == "activity-attendance-create-failed"
    for body in (refusal(1003), refusal(None), refusal(True), {"errorCode": 1002}):
        with (
            faulty(running.sandbox, "nomis", "POST", "/attendance$", status=400, body=body),
            pytest.raises(UpstreamError),
        ):
            attend(running)
    assert [name for name, _ in running.tracked() if name.endswith("-ignored")] == []
