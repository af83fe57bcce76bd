"""Schedules and allocations that were synchronised long before: held on both sides, with mappings."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sandbox.bodies import Fields
from sandbox.nomis_allocations import upsert_allocation
from sandbox.nomis_course_request import DAYS
from sandbox.nomis_courses import create_course
from sandbox.traffic.schedules import hold
from sandbox.truth.activities import PREFIX, SUMMARY_LENGTH

if TYPE_CHECKING:
    from sandbox.activities_api import DpsAllocation, Schedule, Slot
    from sandbox.world import World


def settle_schedule(world: World, schedule: Schedule) -> None:
    """Hold a schedule on both sides with its mapping."""
    hold(world, schedule)
    activity = schedule.activity
    body = {
        "code": str(schedule.id),
        "startDate": schedule.start.isoformat(),
        "endDate": None if schedule.end is None else schedule.end.isoformat(),
        "prisonId": activity.prison_id,
        "internalLocationId": schedule.location_id,
        "capacity": schedule.capacity,
        "payRates": [
            {"incentiveLevel": line.level, "payBand": str(line.band), "rate": line.rate / 100} for line in activity.pay
        ],
        "description": PREFIX + activity.summary[:SUMMARY_LENGTH],
        "minimumIncentiveLevelCode": activity.level,
        "programCode": activity.category,
        "payPerSession": activity.pay_per_session,
        "schedules": [
            {
                "date": each.day.isoformat(),
                "startTime": each.start.strftime("%H:%M"),
                "endTime": each.end.strftime("%H:%M"),
                "cancelled": each.cancelled,
            }
            for each in schedule.instances
        ],
        "scheduleRules": [_rule(slot) for slot in schedule.slots],
        "excludeBankHolidays": not schedule.runs_on_bank_holiday,
    }
    course = create_course(world, Fields(body))
    world.mapping.add("activities", schedule.id, (course.id,), "ACTIVITY_CREATED")
    world.published.tell("activity", schedule.id, "created")


def settle_allocation(world: World, allocation: DpsAllocation) -> None:
    """Hold an allocation to a settled schedule on both sides."""
    world.activities.add_allocation(allocation)
    mapped = world.mapping.nomis_id("activities", allocation.schedule_id)
    if mapped is None:
        raise ValueError(f"schedule {allocation.schedule_id} is not settled")
    body = {
        "bookingId": allocation.booking_id,
        "payBandCode": str(allocation.band),
        "startDate": allocation.start.isoformat(),
    }
    upsert_allocation(world, int(mapped[0]), Fields(body), arrived=0.0)
    world.published.tell("allocation", allocation.id, "created")


def _rule(slot: Slot) -> dict[str, object]:
    return {
        "startTime": slot.start.strftime("%H:%M"),
        "endTime": slot.end.strftime("%H:%M"),
        **dict(zip(DAYS, slot.days, strict=True)),
    }
