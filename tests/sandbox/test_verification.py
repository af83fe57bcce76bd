"""The verification accepts correct records, and reports missing, surplus, unmapped, wrong and leftover records."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

import pytest

from sandbox.domains import verify
from sandbox.dps.activities import DpsAllocation, DpsAttendance
from sandbox.dps.adjustments import DpsAdjustment
from sandbox.dps.appointments import AppointmentInstance
from sandbox.dps.visits import BookedVisit
from sandbox.nomis.allocations import plant_duplicate
from sandbox.nomis.attendances import Attendance
from sandbox.options import Options
from sandbox.traffic.activities import settle_allocation, settle_schedule
from sandbox.traffic.adjustments import settle_adjustment
from sandbox.traffic.appointments import settle_appointment
from sandbox.traffic.schedules import ScheduleMaker
from sandbox.traffic.visits import settle_visit
from sandbox.verification.activities import expected_attendance
from sandbox.verification.discrepancies import Either
from sandbox.world import World

DAY = date(2030, 6, 3)
UUID = "5b0c7b1e-3f6a-4b0c-9a51-0b3c5f2d8e77"


@pytest.fixture
def world() -> World:
    """A world in which one record of each domain has been synchronised."""
    world = World(Options(prisoners=60, seed=2))
    person = world.prisoners[0]
    start = datetime.combine(DAY, time(14))
    visit = BookedVisit(
        "aa-bb", person.offender_no, person.prison_id, "Hall", start, start + timedelta(hours=1), [4729570]
    )
    settle_visit(world, visit)
    room = world.places.in_prison(person.prison_id)[0].id
    appointment = AppointmentInstance(
        7, person.booking_id, person.offender_no, person.prison_id, "CHAP", room, False, DAY, time(9), time(10)
    )
    settle_appointment(world, appointment)
    settle_adjustment(
        world, DpsAdjustment(UUID, person.booking_id, person.offender_no, None, "ADA", DAY, DAY, 5, "comment")
    )
    schedule = ScheduleMaker(world, world.random("test")).schedule(person.prison_id)
    settle_schedule(world, schedule)
    band = schedule.activity.pay[0].band
    settle_allocation(world, DpsAllocation(3, schedule.id, person.offender_no, person.booking_id, band, DAY))
    _settle_attendance(world, DpsAttendance(4, schedule.instances[0].id, person.offender_no))
    review = world.incentives.add_review(person.booking_id, "STD", datetime(2023, 5, 22, 10, 30))  # noqa: DTZ001
    record = world.nomis_incentives.add(
        person.booking_id, "STD", review.at, review.prison_id, user_id=review.user_id, created=world.started
    )
    world.mapping.add_incentive(review.id, person.booking_id, record.sequence, "INCENTIVE_CREATED")
    world.published.record("incentive", review.id, "created")
    return world


def _settle_attendance(world: World, attendance: DpsAttendance) -> None:
    """Stores an attendance on both sides."""
    world.activities.attendances[attendance.id] = attendance
    world.published.record("attendance", attendance.id, "created")
    course = next(iter(world.nomis_courses.courses.values()))
    instance = world.activities.instances[attendance.instance_id]
    session = course.sessions[instance.day, instance.start, instance.end]
    row = next(iter(world.nomis_courses.allocations.values()))
    held = Attendance(1, course.id, session.id, row.booking_id, row.id, "SCH")
    world.nomis_courses.attendances[1] = held
    world.nomis_courses.attendances_of[session.id, row.booking_id] = [held]


def problems(world: World) -> set[tuple[object, object]]:
    """The domain and the kind of each problem that the verification finds."""
    found: Any = verify(world)["problems"]
    return {(each["domain"], each["problem"]) for each in found}


def test_correct_records_have_no_problems(world: World) -> None:
    """If both sides agree, there are no problems and no surplus records, and every domain is checked."""
    found = verify(world)
    assert (found["problems"], found["surplus"]) == ([], [])
    by_domain: Any = found["by_domain"]
    assert set(by_domain) == {"visit", "appointment", "adjustment", "activity", "allocation", "attendance", "incentive"}
    assert found["entities"] == 7


Damage = Callable[[World], object]


def _one(held: dict[Any, Any]) -> Any:
    return next(iter(held.values()))


def _twice(held: dict[Any, Any], new_key: Any, key_field: str) -> None:
    """Stores a copy of the only record in `held` under `new_key`, to which the copy's field `key_field` is set."""
    original = _one(held)
    copy = type(original)(**{name: getattr(original, name) for name in original.__slots__})
    setattr(copy, key_field, new_key)
    held[new_key] = copy


DAMAGES: dict[tuple[str, str], Damage] = {
    ("visit", "missing"): lambda world: world.nomis_visits.visits.clear(),
    ("visit", "duplicate"): lambda world: _twice(world.nomis_visits.visits, 5, "id"),
    ("visit", "wrong state"): lambda world: setattr(_one(world.visits.visits), "person_ids", []),
    ("appointment", "wrongly mapped"): lambda world: world.nomis_appointments.appointments.clear(),
    ("appointment", "unmapped"): lambda world: world.mapping.tables["appointments"].delete(7),
    ("appointment", "duplicate"): lambda world: _twice(world.nomis_appointments.appointments, 5, "event_id"),
    ("appointment", "wrong state"): lambda world: setattr(_one(world.appointments.instances), "category", "OMU"),
    ("appointment", "not deleted"): lambda world: world.published.record("appointment", 7, "deleted"),
    ("adjustment", "unmapped"): lambda world: world.mapping.tables["adjustments"].delete(UUID),
    ("adjustment", "wrong state"): lambda world: setattr(_one(world.adjustments.adjustments), "active", False),
    ("adjustment", "not deleted"): lambda world: world.published.record("adjustment", UUID, "deleted"),
    ("adjustment", "duplicate"): lambda world: _twice(world.nomis_sentencing.key_date, 5, "id"),
    ("activity", "missing"): lambda world: world.nomis_courses.courses.clear(),
    ("activity", "duplicate"): lambda world: _twice(world.nomis_courses.courses, 5, "id"),
    ("activity", "wrong state"): lambda world: _one(world.activities.schedules).activity.pay.pop(),
    ("allocation", "missing"): lambda world: world.nomis_courses.allocations_of.clear(),
    ("allocation", "wrong state"): lambda world: setattr(_one(world.activities.allocations), "status", "SUSPENDED"),
    ("attendance", "missing"): lambda world: world.nomis_courses.attendances_of.clear(),
    ("attendance", "wrong state"): lambda world: setattr(_one(world.activities.attendances), "status", "COMPLETED"),
    ("incentive", "wrong state"): lambda world: setattr(_last_review(world), "code", "ENH"),
    ("incentive", "unmapped"): lambda world: world.mapping.tables["incentives"].delete(_last_review(world).id),
}


def _last_review(world: World) -> Any:
    return max(world.incentives.reviews.values(), key=lambda each: each.id)


@pytest.mark.parametrize(("domain", "problem"), list(DAMAGES))
def test_each_kind_of_damage_is_reported(world: World, domain: str, problem: str) -> None:
    """Damage to a record is reported, with the domain and the kind of problem."""
    DAMAGES[domain, problem](world)
    assert (domain, problem) in problems(world)


def test_duplicate_rows_of_an_allocation_are_named(world: World) -> None:
    """Two NOMIS rows of one allocation are reported as a duplicate, with the numbers of both rows."""
    first = _one(world.nomis_courses.allocations)
    second = plant_duplicate(world, first.id)
    found: Any = verify(world)["problems"]
    assert [(each["problem"], each["nomis_ids"]) for each in found] == [("duplicate", [first.id, second.id])]


def test_a_cancelled_duplicate_visit_is_no_problem(world: World) -> None:
    """A second NOMIS visit is reported until it is cancelled. Without a mapped visit, both are reported."""
    visits = world.nomis_visits.visits
    _twice(visits, 5, "id")
    found = verify(world)
    assert (problems(world), found["surplus"]) == (
        {("visit", "duplicate")},
        [{"domain": "visit", "dps_id": "aa-bb", "nomis_id": 5}],
    )
    visits[5].status, visits[5].outcome = "CANC", "ADMIN"
    found = verify(world)
    assert (found["problems"], found["surplus"]) == ([], [])
    world.mapping.tables["visits"].delete("aa-bb")
    assert problems(world) == {("visit", "unmapped"), ("visit", "duplicate")}


def test_unpublished_records_are_surplus(world: World) -> None:
    """A NOMIS record that belongs to no published record is reported as surplus."""
    person = world.prisoners[1]
    world.nomis_incentives.add(person.booking_id, "STD", world.started, person.prison_id, created=world.started)
    found = verify(world)
    assert problems(world) == {("incentive", "surplus")}
    assert found["surplus"] == [
        {
            "domain": "incentive",
            "dps_id": None,
            "booking_id": person.booking_id,
            "sequence": world.nomis_incentives.records[person.booking_id][-1].sequence,
        }
    ]


def test_deleted_records_must_be_gone_on_both_sides(world: World) -> None:
    """After a deletion in DPS, a mapping that remains is reported.

    If neither the NOMIS record nor the mapping remains, there is no problem.
    """
    world.published.record("appointment", 7, "deleted")
    world.nomis_appointments.appointments.clear()
    assert problems(world) == {("appointment", "mapping left")}
    world.mapping.tables["appointments"].delete(7)
    assert problems(world) == set()


@pytest.mark.parametrize(
    ("event", "counts"),
    [
        ({"eventType": "prison-visit.booked", "additionalInformation": {"reference": "zz"}}, True),
        ({"eventType": "incentives.iep-review.inserted", "additionalInformation": {"id": "15"}}, True),
        ({"eventType": "incentives.levels.reordered", "additionalInformation": None}, True),
        ({"eventType": "prison-visit.extended", "additionalInformation": {"reference": "zz"}}, False),
        (
            {
                "eventType": "incentives.iep-review.inserted",
                "additionalInformation": {"id": 15, "reason": "USER_CREATED_NOMIS"},
            },
            False,
        ),
        (
            {
                "eventType": "release-date-adjustments.adjustment.inserted",
                "additionalInformation": {"id": UUID, "source": "NOMIS"},
            },
            False,
        ),
    ],
)
def test_ignored_events_require_nothing(event: dict[str, Any], counts: bool) -> None:
    """A published event must have its effect in NOMIS, unless the program ignores the event."""
    world = World(Options(prisoners=1))
    assert (world.published.note(event) is not None) == counts
    assert len(world.published) == (1 if counts else 0)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"status": "WAITING"}, ("SCH", None, False, False)),
        ({"status": "COMPLETED", "reason": "ATTENDED", "issue_payment": True}, ("COMP", "ATT", False, False)),
        ({"status": "COMPLETED", "reason": "ATTENDED"}, ("COMP", "UNBEH", False, False)),
        ({"status": "COMPLETED", "reason": "CANCELLED"}, ("CANC", "CANC", False, True)),
        ({"status": "COMPLETED", "reason": "REFUSED"}, ("COMP", "UNACAB", True, False)),
        ({"status": "COMPLETED", "reason": "OTHER", "issue_payment": False}, ("COMP", "UNACAB", True, False)),
        ({"status": "COMPLETED", "reason": "OTHER", "issue_payment": True}, ("COMP", "ACCAB", False, True)),
        ({"status": "COMPLETED", "reason": "SICK"}, ("COMP", "REST", False, True)),
        ({"status": "COMPLETED", "reason": "SUSPENDED"}, ("COMP", "SUS", False, True)),
        ({"status": "COMPLETED", "reason": "AUTO_SUSPENDED"}, ("COMP", "SUS", False, True)),
        ({"status": "LOCKED"}, ("EXP", None, False, False)),
        ({"status": "LOCKED", "reason": "CLASH"}, (Either(("COMP", "EXP")), "ACCAB", False, True)),
    ],
)
def test_expected_outcome_of_an_attendance(values: dict[str, Any], expected: tuple[object, ...]) -> None:
    """An attendance's status, outcome and absence type in NOMIS follow from its status, reason and payment in DPS."""
    found = expected_attendance(DpsAttendance(1, 1, "A1234BC", bonus=50, **values))
    assert (found["status"], found["outcome"], found["unexcused"], found["authorised"]) == expected
    assert found["bonus"] == Decimal("50.000")
