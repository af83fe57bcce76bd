"""Allocations and attendances go from the activities service to NOMIS."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest

from sync.domains.activities.allocations import booking_activity_lease
from sync.errors import LeaseBusy, NeverAccepted, RuleError, UpstreamError
from tests.harness.activities import (
    ACTIVITY,
    ALLOCATION,
    ATTENDANCE,
    INSTANCE,
    SCHEDULE,
    TODAY,
    TOMORROW,
    allocate,
    attend,
    create,
    one,
    put_allocation,
    put_attendance,
    put_schedule,
    sessions,
)
from tests.harness.faults import faulty
from tests.harness.handlers import Harness, Prisoner
from tests.harness.waiting import LONGEST_SECONDS


@pytest.mark.parametrize("word", ["allocated", "allocation-amended", "deallocated"])
def test_allocation_is_upserted(running: Harness, prisoner: Prisoner, word: str) -> None:
    """Each of the three event types for allocations writes the allocation as DPS has it.

    The same telemetry is tracked for each event type.
    """
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
def test_an_ended_allocation_has_its_reason(running: Harness, prisoner: Prisoner, allocation_id: int) -> None:
    """An ended allocation is written with its reason and a comment, whether or not its end time has a `Z`."""
    put_allocation(running, prisoner, allocation_id, status="ENDED", end=TODAY.isoformat(), ended_by="MR BLOGS",
                   ended_at="2023-05-22T09:30:01", ended_why="COMPLETED")  # fmt: skip
    allocate(running, "allocation-amended", allocation_id)
    row = one(running, "allocation")
    assert (row["end"], row["end_reason"]) == (TODAY.isoformat(), "PRG_END")
    assert row["comment"] == "Deallocated in DPS by MR BLOGS at 2023-05-22 09:30:01 for reason COMPLETED"


@pytest.mark.parametrize("status", ["SUSPENDED", "AUTO_SUSPENDED"])
def test_a_suspended_allocation_has_a_comment(running: Harness, prisoner: Prisoner, status: str) -> None:
    """The comment of a suspended allocation has `null` for each value that is unknown."""
    put_allocation(running, prisoner, status=status, suspended_by="MRS BLOGS")
    allocate(running, "allocation-amended")
    row = one(running, "allocation")
    assert row["suspended"] is True
    assert row["comment"] == "Suspended in DPS by MRS BLOGS at null for reason null"


def test_late_end_of_an_old_allocation_leaves_the_new_one(running: Harness, prisoner: Prisoner) -> None:
    """A late event about an ended allocation does not end a newer allocation of the same booking and schedule."""
    put_allocation(running, prisoner, status="ENDED", end=TODAY.isoformat(), ended_by="A", ended_why="B")
    put_allocation(running, prisoner, ALLOCATION + 1, band=2)
    allocate(running, "allocated", ALLOCATION + 1)
    assert allocate(running, "allocation-amended") == "activity-allocation-success"
    row = one(running, "allocation")
    assert (row["end"], row["end_reason"], row["comment"]) == (None, None, None)
    assert running.tracked("activity-allocation-success")[-1][1]["dpsAllocationId"] == str(ALLOCATION)


def test_another_prisoners_allocation_is_not_a_newer_one(running: Harness, prisoner: Prisoner) -> None:
    """An allocation of another booking does not count as a newer one, so the end is written to NOMIS."""
    put_allocation(running, prisoner, status="ENDED", end=TODAY.isoformat())
    put_allocation(running, prisoner, ALLOCATION + 1, booking_id=prisoner.booking_id + 1)
    allocate(running, "allocation-amended")
    assert one(running, "allocation")["end_reason"] == "PRG_END"


def test_simultaneous_upserts_make_one_row(harness: Harness, prisoner: Prisoner) -> None:
    """The lease keeps concurrent upserts for one booking and activity apart, so NOMIS has only one row."""
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
    """An attendance waits while the lease of its booking and activity, which allocations also need, is held.

    It is written once the lease is free, and not before.
    """
    allocate(running)
    put_attendance(running, prisoner)
    key = booking_activity_lease(prisoner.booking_id, one(running, "course")["id"])
    with running.leases.held(key):
        for handle in (attend, allocate):
            with pytest.raises(LeaseBusy):
                handle(running)
        assert running.sandbox.nomis("attendance") == []
    attend(running)
    assert len(running.sandbox.nomis("attendance")) == 1


def test_attendance_is_upserted(running: Harness, prisoner: Prisoner) -> None:
    """An attendance is created and then changed, and each write is tracked with all its properties."""
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


def test_a_locked_attendance_keeps_its_status_or_expires(running: Harness, prisoner: Prisoner) -> None:
    """A locked attendance whose outcome is recorded in NOMIS keeps its status.

    A locked attendance without an outcome in NOMIS, or one that is not in NOMIS, expires.
    """
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
    """A change to an attendance that payroll has paid fails permanently, and is tracked as a failure."""
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
    """If NOMIS has two rows for an allocation, an upsert fails with an error that no retry can resolve."""
    allocate(running)
    running.sandbox.control("POST", f"/nomis/duplicates/allocation/{one(running, 'allocation')['id']}")
    with pytest.raises(UpstreamError) as caught:
        allocate(running)
    assert caught.value.non_unique
    assert not caught.value.recoverable


@pytest.mark.parametrize("status", ["CANCELLED", "active", "", "ENDED_EARLY"])
def test_an_unknown_status_of_an_allocation_is_not_written(running: Harness, prisoner: Prisoner, status: str) -> None:
    """An allocation with an unknown status is not written, and the error names the status."""
    put_allocation(running, prisoner, status=status)
    sent = len(running.sandbox.journal("nomis"))
    with pytest.raises(RuleError, match=f"allocation status '{status}'"):
        allocate(running)
    assert len(running.sandbox.journal("nomis")) == sent


def test_a_malformed_allocation_of_another_booking_does_not_stop_an_end(running: Harness, prisoner: Prisoner) -> None:
    """Of a schedule's other allocations, only those that may be later ones of the same booking must be valid."""
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
    """A comment that is too long for NOMIS is cut after a whole character.

    This holds for comments on attendances and on the ends of allocations.
    """
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


def test_an_unrecorded_attendance_of_yesterday_expires(running: Harness, prisoner: Prisoner) -> None:
    """If an attendance is still waiting when its day is over, it is written as expired.

    Its event is tracked as an update.
    """
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
    """The body of the response in which NOMIS refuses an attendance, with `code` as the error code."""
    return {"status": 400, "errorCode": code, "userMessage": "Bad request: Attendance 5 cannot be changed"}


@pytest.mark.parametrize("word", ["created", "amended", "expired"])
def test_a_refusal_that_needs_no_action_is_ignored(running: Harness, prisoner: Prisoner, word: str) -> None:
    """An event is ignored if NOMIS refuses its attendance because the prisoner has moved.

    It is also ignored if the attendance has been paid and its session is today. The reason is tracked.
    """
    at = {"id": INSTANCE, "schedule_id": SCHEDULE, "day": TODAY.isoformat(), "start": "08:30", "end": "11:45"}
    put_schedule(running, prisoner, instances=[at])
    put_attendance(running, prisoner)
    name = f"activity-attendance-{'create' if word == 'created' else 'update'}-ignored"
    for code, text in ((1001, "already been paid"), (1002, "the prisoner moved"), ("1001", "already been paid")):
        with faulty(running.sandbox, "nomis", "POST", "/attendance$", status=400, body=refusal(code)):
            assert attend(running, word) == name
        properties = running.tracked(name)[-1][1]
        assert text in properties["reason"]
        assert f"{TODAY.isoformat()} at 08:30" in properties["reason"]
        assert properties["dpsAttendanceId"] == str(ATTENDANCE)


def test_a_refusal_of_an_attendance_paid_on_another_day_is_permanent(running: Harness, prisoner: Prisoner) -> None:
    """If NOMIS refuses an attendance that has been paid, and its session is not today, the failure is permanent.

    If a refusal has another error code, or its body is incomplete, the event fails too and is not ignored.
    """
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
