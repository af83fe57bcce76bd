"""Records that a test creates in the publishing services, and the events about them."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sandbox import Sandbox
from sandbox.clock import london_today
from sync.events.envelope import DomainEvent

OCCURRED_AT = datetime(2023, 5, 22, 9, 15, tzinfo=UTC)
_numbers = itertools.count(1)


@dataclass(frozen=True, slots=True)
class DpsEvent:
    """An event about a DPS record.

    `sandbox` publishes the event, and `queue` is the id of the event's queue. `dps_id` is the id of the record.
    """

    sandbox: Sandbox
    queue: str
    event_type: str
    information: Mapping[str, Any]
    dps_id: str
    prisoner_id: str | None = None

    def publish(self) -> None:
        """Publishes the event. Each call publishes it again."""
        self.sandbox.publish(self.event_type, dict(self.information), self.prisoner_id)

    @property
    def event(self) -> DomainEvent:
        """The event as a handler receives it."""
        return DomainEvent(self.event_type, OCCURRED_AT, self.prisoner_id, self.information)


@dataclass(frozen=True, slots=True)
class Person:
    """A prisoner, and the id of one room in the prisoner's prison."""

    offender_no: str
    booking_id: int
    prison_id: str
    room: int


def person(sandbox: Sandbox, place: int = 0) -> Person:
    """The prisoner at a position in the population."""
    found = sandbox.prisoners()[place]
    room = sandbox.control("GET", f"/locations/{found['prisonId']}")[0]["id"]
    return Person(found["offenderNo"], found["bookingId"], found["prisonId"], room)


def put_visit(sandbox: Sandbox, reference: str, **changes: Any) -> str:
    """Books or changes a visit in visit-scheduler, by default a visit to the first prisoner.

    Returns the prisoner's number.
    """
    prisoner = sandbox.prisoners()[0]
    values: dict[str, Any] = {
        "prisoner_id": prisoner["offenderNo"],
        "prison_id": prisoner["prisonId"],
        "room": "Visits Main Hall",
        "start": "2023-06-02T14:00:00",
        "end": "2023-06-02T15:00:00",
        "person_ids": [],
        **changes,
    }
    sandbox.put("visit", reference=reference, **values)
    return str(values["prisoner_id"])


def visit_booked(sandbox: Sandbox) -> DpsEvent:
    """Books a visit, and returns the event that says it was booked."""
    reference = f"visit-{next(_numbers)}"
    offender_no = put_visit(sandbox, reference)
    return DpsEvent(sandbox, "visit", "prison-visit.booked", {"reference": reference}, reference, offender_no)


def review_inserted(sandbox: Sandbox) -> DpsEvent:
    """Inserts an incentive review, and returns the event that says it was inserted."""
    who = person(sandbox)
    review = sandbox.add_review(who.offender_no, "BAS", publish=False)
    information = {"id": review, "nomsNumber": who.offender_no}
    return DpsEvent(sandbox, "incentive", "incentives.iep-review.inserted", information, str(review))


def schedule_created(sandbox: Sandbox) -> DpsEvent:
    """Creates an activity schedule with one session tomorrow, and returns the event that says it was created."""
    who, number = person(sandbox), 1000 + next(_numbers)
    tomorrow = (london_today() + timedelta(days=1)).isoformat()
    activity = {
        "id": number,
        "prison_id": who.prison_id,
        "summary": "Maths",
        "category": "SAA_EDUCATION",
        "start": "2023-05-01",
        "end": None,
        "level": "BAS",
        "pay_per_session": "H",
        "pay": [{"level": "STD", "band": 1, "rate": 150}],
    }
    sandbox.put(
        "schedule",
        id=number,
        activity=activity,
        description="Maths",
        capacity=10,
        start="2023-05-01",
        end=None,
        runs_on_bank_holiday=True,
        location_id=None,
        slots=[],
        instances=[{"id": number, "schedule_id": number, "day": tomorrow, "start": "08:30", "end": "11:45"}],
    )
    event_type = "activities.activity-schedule.created"
    return DpsEvent(sandbox, "activity", event_type, {"activityScheduleId": number}, str(number))


def allocated(sandbox: Sandbox, schedule: DpsEvent) -> DpsEvent:
    """Allocates the first prisoner to a schedule, and returns the event that says so."""
    who, number = person(sandbox), 1000 + next(_numbers)
    sandbox.put(
        "allocation",
        id=number,
        schedule_id=int(schedule.dps_id),
        prisoner_number=who.offender_no,
        booking_id=who.booking_id,
        band=1,
        start="2023-05-01",
    )
    return DpsEvent(sandbox, "activity", "activities.prisoner.allocated", {"allocationId": number}, str(number))


def attended(sandbox: Sandbox, schedule: DpsEvent) -> DpsEvent:
    """Records an attendance at the session of a schedule, and returns the event that says it was recorded."""
    number = 1000 + next(_numbers)
    who = person(sandbox)
    sandbox.put("attendance", id=number, instance_id=int(schedule.dps_id), prisoner_number=who.offender_no)
    return DpsEvent(
        sandbox, "activity", "activities.prisoner.attendance-created", {"attendanceId": number}, str(number)
    )


def appointment_created(sandbox: Sandbox, *, in_cell: bool = False) -> DpsEvent:
    """Creates an appointment, and returns the event that says it was created."""
    who, number = person(sandbox), 1000 + next(_numbers)
    sandbox.put(
        "appointment",
        id=number,
        booking_id=who.booking_id,
        prisoner_number=who.offender_no,
        prison_id=who.prison_id,
        category="CHAP",
        location_id=who.room,
        in_cell=in_cell,
        day="2023-06-05",
        start="09:00",
        end="10:00",
    )
    event_type = "appointments.appointment-instance.created"
    return DpsEvent(sandbox, "appointment", event_type, {"appointmentInstanceId": number}, str(number))


def adjustment_inserted(sandbox: Sandbox) -> DpsEvent:
    """Inserts a key-date adjustment, and returns the event that says it was inserted."""
    who, number = person(sandbox), f"b1b9c9d0-0000-4000-8000-{next(_numbers):012}"
    sandbox.put(
        "adjustment",
        id=number,
        booking_id=who.booking_id,
        offender_no=who.offender_no,
        sentence=None,
        type="ADA",
        day="2023-05-20",
        start="2023-05-20",
        days=14,
        comment=None,
    )
    information = {"id": number, "offenderNo": who.offender_no, "source": "DPS"}
    return DpsEvent(sandbox, "sentencing", "release-date-adjustments.adjustment.inserted", information, number)
