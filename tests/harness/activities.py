"""An activity schedule in DPS with an allocation and an attendance, and the events about them."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from sandbox.clock import london_today
from sync.events.context import Outcome
from tests.harness.handlers import Harness, Prisoner

SCHEDULE, ACTIVITY, INSTANCE, ALLOCATION, ATTENDANCE = 318, 201, 40_188, 6_120, 220_145
TODAY = london_today()
TOMORROW = (TODAY + timedelta(days=1)).isoformat()
START = (TODAY - timedelta(days=30)).isoformat()
SUMMARY = "Bricklaying for beginners, in the old workshop"


def put_schedule(harness: Harness, prisoner: Prisoner, activity: dict[str, Any] | None = None, **changes: Any) -> None:
    """Creates or changes a schedule and its activity in DPS."""
    of_activity: dict[str, Any] = {
        "id": ACTIVITY,
        "prison_id": prisoner.prison_id,
        "summary": SUMMARY,
        "category": "SAA_INDUSTRIES",
        "start": START,
        "end": None,
        "level": "BAS",
        "pay_per_session": "H",
        "pay": [{"level": "STD", "band": 1, "rate": 150}, {"level": "ENH", "band": 2, "rate": 325}],
    }
    values: dict[str, Any] = {
        "activity": {**of_activity, **(activity or {})},
        "description": "Bricklaying, Mondays, with a description of more than forty characters",
        "capacity": 12,
        "start": START,
        "end": None,
        "runs_on_bank_holiday": True,
        "location_id": prisoner.rooms[0],
        "slots": [{"start": "08:30", "end": "11:45", "days": [True, False, False, False, True, False, False]}],
        "instances": [
            {"id": INSTANCE, "schedule_id": SCHEDULE, "day": TOMORROW, "start": "08:30", "end": "11:45"},
        ],
    }
    harness.sandbox.put("schedule", **{"id": SCHEDULE, **values, **changes})


def create(harness: Harness) -> Outcome | str:
    """Handles the event about a new schedule."""
    return harness.handle("activities.activity-schedule.created", activityScheduleId=SCHEDULE)


def amend(harness: Harness) -> Outcome | str:
    """Handles the event about an amended schedule."""
    return harness.handle("activities.activity-schedule.amended", activityScheduleId=SCHEDULE)


def put_allocation(harness: Harness, prisoner: Prisoner, allocation_id: int = ALLOCATION, **changes: Any) -> None:
    """Allocates a prisoner to the schedule in DPS, or changes the allocation."""
    values = {
        "schedule_id": SCHEDULE,
        "prisoner_number": prisoner.offender_no,
        "booking_id": prisoner.booking_id,
        "band": 1,
        "start": START,
    }
    harness.sandbox.put("allocation", id=allocation_id, **{**values, **changes})


def allocate(harness: Harness, word: str = "allocated", allocation_id: int = ALLOCATION) -> Outcome | str:
    """Handles one of the three events about an allocation."""
    return harness.handle(f"activities.prisoner.{word}", allocationId=allocation_id)


def attend(harness: Harness, word: str = "created") -> Outcome | str:
    """Handles one of the three events about an attendance."""
    return harness.handle(f"activities.prisoner.attendance-{word}", attendanceId=ATTENDANCE)


def put_attendance(harness: Harness, prisoner: Prisoner, **changes: Any) -> None:
    """Records an attendance at the session in DPS, or changes the attendance."""
    values = {"id": ATTENDANCE, "instance_id": INSTANCE, "prisoner_number": prisoner.offender_no}
    harness.sandbox.put("attendance", **{**values, **changes})


def one(harness: Harness, kind: str) -> dict[str, Any]:
    """The only NOMIS record of this kind."""
    (record,) = harness.sandbox.nomis(kind)
    return dict(record)


def sessions(harness: Harness) -> list[dict[str, Any]]:
    """The sessions of the only course in NOMIS."""
    held = one(harness, "course")["sessions"]
    return [dict(each) for each in (held.values() if isinstance(held, dict) else held)]
