"""Upserts prisoners' allocations to activities in NOMIS, which has one row per booking and course activity."""

import re
from collections.abc import Mapping
from datetime import datetime

from sync.domains import nomis_sql
from sync.domains.activities import dps as activities_api
from sync.domains.activities import nomis as nomis_activities
from sync.domains.activities.dps import Allocation
from sync.domains.activities.nomis import UpsertAllocation
from sync.domains.activities.rules import MAPPINGS
from sync.domains.declaration import Update
from sync.domains.duplicate_rows import RowKind
from sync.errors import RuleError
from sync.events.context import HandlerContext
from sync.events.envelope import DomainEvent
from sync.settings.upstreams import UpstreamName
from sync.store.telemetry import Properties
from sync.upstream.operation import MappedValues

_END_REASON = "PRG_END"
_ENDED = "ENDED"
#: The first word of the comment on a suspension, by status.
_SUSPENDED = {"SUSPENDED": "Suspended", "AUTO_SUSPENDED": "Suspended", "SUSPENDED_WITH_PAY": "SUSPENDED_WITH_PAY"}
#: A `PENDING` allocation begins in the future.
_STATUSES = frozenset({"ACTIVE", "PENDING", _ENDED, *_SUSPENDED})
MAPPED = (MappedValues(activities_api.ALLOCATION, "status", _STATUSES),)


def nomis_allocation(allocation: Allocation) -> UpsertAllocation:
    """The NOMIS allocation for a DPS allocation. Raises `RuleError` for an unknown status."""
    if allocation.status not in _STATUSES:
        raise RuleError(f"no NOMIS allocation for allocation status {allocation.status!r}")
    ended, suspended, band = allocation.status == _ENDED, _SUSPENDED.get(allocation.status), allocation.prison_pay_band
    return UpsertAllocation(
        booking_id=allocation.booking_id,
        start_date=allocation.start_date,
        end_date=allocation.end_date,
        pay_band_code=None if band is None else str(band.nomis_pay_band),
        end_reason=_END_REASON if ended else None,
        end_comment=_end_comment(allocation) if ended else None,
        suspended=suspended is not None,
        suspended_comment=None
        if suspended is None
        else _comment(suspended, allocation.suspended_by, allocation.suspended_time, allocation.suspended_reason),
    )


def _end_comment(allocation: Allocation) -> str:
    """The NOMIS comment that says who ended the allocation, when and why.

    If the service gives a planned end, the comment is about that.
    """
    planned = allocation.planned_deallocation
    if planned is not None:
        return _comment("Deallocated", planned.planned_by, planned.planned_at, planned.planned_reason)
    return _comment(
        "Deallocated", allocation.deallocated_by, allocation.deallocated_time, allocation.deallocated_reason
    )


def _comment(what: str, who: str | None, when: datetime | None, why: str | None) -> str:
    """A NOMIS comment. Unknown values appear as `null`."""
    moment = None if when is None else when.strftime("%Y-%m-%d %H:%M:%S")
    return f"{what} in DPS by {who or 'null'} at {moment or 'null'} for reason {why or 'null'}"


def booking_activity_lease(booking_id: int, course_activity_id: int) -> str:
    """The key of the lease for writing a booking's rows for a course activity.

    NOMIS does not prevent two simultaneous upserts from creating two rows, after which every upsert fails.
    """
    return f"booking-activity:{booking_id}:{course_activity_id}"


def _allocation_id(event: DomainEvent) -> str:
    return str(event.number("allocationId"))


def _entity(event: DomainEvent) -> str:
    return f"allocation:{_allocation_id(event)}"


def _start(event: DomainEvent) -> Properties:
    return {"dpsAllocationId": _allocation_id(event)}


def _upsert(event: DomainEvent, context: HandlerContext) -> None:
    services = context.services
    with context.lease(f"write:{_entity(event)}"):
        context.step("read allocation")
        allocation = activities_api.allocation(services[UpstreamName.ACTIVITIES], int(_allocation_id(event)))
        context.bind(
            offenderNo=allocation.prisoner_number,
            bookingId=allocation.booking_id,
            dpsActivityScheduleId=allocation.schedule_id,
        )
        context.step("look up mapping")
        mapping = MAPPINGS.get(services.mapping, allocation.schedule_id)
        course_id = int(mapping["nomisCourseActivityId"])
        context.bind(nomisCourseActivityId=course_id)
        with context.lease(booking_activity_lease(allocation.booking_id, course_id)):
            body = nomis_allocation(_newest(allocation, context))
            context.step("upsert allocation")
            upserted = nomis_activities.upsert_allocation(services.nomis, course_id, body)
            context.bind(nomisAllocationId=upserted.offender_program_reference_id)


def _newest(allocation: Allocation, context: HandlerContext) -> Allocation:
    """The allocation that NOMIS must show: the newest one if `allocation` has ended, otherwise `allocation`.

    NOMIS has one row for each booking and course activity, so a late event about an ended allocation would also end a
    newer one.
    """
    if allocation.status != _ENDED:
        return allocation
    context.step("read newer allocations")
    later = activities_api.later_allocations(context.services[UpstreamName.ACTIVITIES], allocation)
    return max(later, key=lambda each: each.id, default=allocation)


def _statements(key: Mapping[str, str]) -> tuple[str, ...]:
    """The SQL that shows a booking's allocations to a course activity, and the attendances that belong to them."""
    pair = {
        "CRS_ACTY_ID": nomis_sql.number(key["nomisCourseActivityId"]),
        "OFFENDER_BOOK_ID": nomis_sql.number(key["bookingId"]),
    }
    allocated = {**pair, "OFFENDER_PROGRAM_STATUS": nomis_sql.code("ALLOC")}
    return (
        nomis_sql.select("OFFENDER_PROGRAM_PROFILES", "OFF_PRGREF_ID", allocated),
        nomis_sql.select("OFFENDER_COURSE_ATTENDANCES", "EVENT_ID", pair),
    )


ALLOCATION_ROWS = RowKind(
    domain="activity",
    what="allocation",
    key=("nomisCourseActivityId", "bookingId"),
    number="nomisAllocationId",
    dps="dpsAllocationId",
    pair="booking {bookingId} in course activity {nomisCourseActivityId}",
    tracked_by=("activity-allocation-success",),
    path=re.compile(r"^/activities/\d+/allocation$"),
    delete=nomis_activities.delete_allocation,
    column="OFF_PRGREF_ID",
    statements=_statements,
    alert="NOMIS holds two allocations for one booking and activity",
)

ALLOCATION_UPDATES = tuple(
    Update(
        event_type=event_type,
        entity=_entity,
        start=_start,
        apply=_upsert,
        success="activity-allocation-success",
        failed="activity-allocation-failed",
        rows=ALLOCATION_ROWS,
    )
    for event_type in (
        "activities.prisoner.allocated",
        "activities.prisoner.allocation-amended",
        "activities.prisoner.deallocated",
    )
)
