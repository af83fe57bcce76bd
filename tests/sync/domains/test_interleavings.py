"""Whatever the order in which the events of a record come, how often, and with answers lost: NOMIS ends as DPS."""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sandbox.clock import london_today
from sync.failures import SyncError
from tests.sync.domains.driving import Driver, Prisoner

BOUNDED = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], print_blob=True
)
NUMBERS = itertools.count(1)
#: More deliveries than a message needs to outlive one lost answer and every event it may have overtaken.
ROUNDS = 6


@dataclass(frozen=True, slots=True)
class Step:
    """A change in DPS (which publishes its event), or the delivery of the event of an earlier change."""

    change: int
    delivers: bool
    answer_lost: bool = False


@st.composite
def stories(draw: st.DrawFn, changes: int) -> tuple[list[Step], list[int]]:
    """Changes in their order, deliveries between them, repeated and out of order, and the order of the last ones."""
    steps: list[Step] = []
    for change in range(changes):
        steps.append(Step(change, delivers=False))
        deliveries = draw(st.lists(st.tuples(st.integers(0, change), st.booleans()), max_size=2))
        steps.extend(Step(delivered, delivers=True, answer_lost=lost) for delivered, lost in deliveries)
    return steps, draw(st.permutations(range(changes)))


def play(
    driver: Driver,
    story: tuple[Sequence[Step], Sequence[int]],
    changes: Sequence[Callable[[], object]],
    deliver: Callable[[int], object],
) -> None:
    """Plays a story: what fails is delivered again, after all changes, until nothing more succeeds."""
    steps, last = story
    pending = set(range(len(changes)))
    for step in steps:
        if not step.delivers:
            changes[step.change]()
            continue
        if step.answer_lost:
            driver.sandbox.fault("nomis", "POST", kind="reset_after_write", times=1)
        attempt(deliver, step.change, pending)
        driver.sandbox.clear_faults()
    for _ in range(ROUNDS):
        for change in last:
            if change in pending:
                attempt(deliver, change, pending)
        while driver.retries:
            driver.handle_retry(*driver.retries.pop(0))


def attempt(deliver: Callable[[int], object], change: int, pending: set[int]) -> None:
    """Delivers the event of a change; it stays pending when it fails."""
    try:
        deliver(change)
    except SyncError:
        return
    pending.discard(change)


@BOUNDED
@given(story=stories(4), cancels=st.booleans())
def test_visits(driver: Driver, prisoner: Prisoner, story: tuple[list[Step], list[int]], cancels: bool) -> None:
    """A visit that is booked, changed twice and perhaps cancelled ends in NOMIS as it is in visit-scheduler, once."""
    reference = f"vv-{next(NUMBERS)}"
    states: list[dict[str, Any]] = [
        {"room": "A", "start": "2023-06-02T14:00:00", "end": "2023-06-02T15:00:00", "person_ids": [4_700_001]},
        {"room": "B", "start": "2023-06-03T14:00:00", "end": "2023-06-03T15:00:00", "person_ids": [4_700_002]},
        {"room": "C", "start": "2023-06-04T09:00:00", "end": "2023-06-04T10:00:00", "person_ids": []},
        {"status": "CANCELLED", "outcome": "PRISONER_CANCELLED"} if cancels else {"restriction": "CLOSED"},
    ]
    words = ["booked", "changed", "changed", "cancelled" if cancels else "changed"]
    owner = {"prisoner_id": prisoner.offender_no, "prison_id": prisoner.prison_id}
    changes = [partial(driver.sandbox.put, "visit", reference=reference, **owner, **state) for state in states]

    def deliver(change: int) -> object:
        moment = datetime(2023, 5, 22, tzinfo=UTC) + timedelta(minutes=change)
        return driver.handle(f"prison-visit.{words[change]}", prisoner.offender_no, moment, reference=reference)

    play(driver, story, changes, deliver)
    (visit,) = [each for each in driver.sandbox.nomis("visit") if each["comment"].endswith(f" {reference}")]
    assert (visit["start"], visit["person_ids"]) == ("2023-06-04T09:00:00", [])
    assert visit["status"] == ("CANC" if cancels else "SCH")
    assert visit["room"].endswith("C-SOC" if cancels else "C-CLO")


@BOUNDED
@given(story=stories(4), ending=st.sampled_from(["updated", "cancelled", "deleted"]))
def test_appointments(driver: Driver, prisoner: Prisoner, story: tuple[list[Step], list[int]], ending: str) -> None:
    """An appointment ends in NOMIS as it is in DPS, once, cancelled, or gone with its mapping."""
    number = 500_000 + next(NUMBERS)
    day = (london_today() + timedelta(days=number % 5_000)).isoformat()
    base: dict[str, Any] = {
        "booking_id": prisoner.booking_id,
        "prisoner_number": prisoner.offender_no,
        "prison_id": prisoner.prison_id,
        "category": "CHAP",
        "in_cell": False,
        "day": day,
        "end": "23:00",
    }
    starts = ["09:00", "10:00", "11:00", "12:00" if ending == "updated" else "11:00"]

    def change(place: int) -> None:
        if place == 3 and ending == "deleted":
            driver.sandbox.drop("appointment", number)
        else:
            driver.sandbox.put("appointment", id=number, **base, location_id=prisoner.rooms[place], start=starts[place])

    words = ["created", "updated", "updated", ending]
    play(
        driver,
        story,
        [partial(change, place) for place in range(4)],
        lambda place: driver.handle(f"appointments.appointment-instance.{words[place]}", appointmentInstanceId=number),
    )
    records = [each for each in driver.sandbox.nomis("appointment") if each["day"] == day]
    mapped = [each for each in driver.sandbox.mappings("appointments") if each["appointmentInstanceId"] == number]
    if ending == "deleted":
        assert (records, mapped) == ([], [])
        return
    ((record,), (mapping,)) = (records, mapped)
    assert record["event_id"] == mapping["nomisEventId"]
    assert record["status"] == ("CANC" if ending == "cancelled" else "SCH")
    if ending == "updated":
        assert (record["start"], record["location_id"]) == ("12:00:00", prisoner.rooms[3])


@BOUNDED
@given(story=stories(4), deletes=st.booleans(), sentence=st.sampled_from([None, 1]))
def test_adjustments(
    driver: Driver, prisoner: Prisoner, story: tuple[list[Step], list[int]], deletes: bool, sentence: int | None
) -> None:
    """An adjustment of either family ends in NOMIS as it is in DPS, once, or is gone with its mapping."""
    number, place = str(uuid.uuid4()), next(NUMBERS)
    base: dict[str, Any] = {
        "booking_id": prisoner.booking_id,
        "offender_no": prisoner.offender_no,
        "sentence": sentence,
        "type": "ADA" if sentence is None else "RX",
        "day": "2023-05-20",
        "start": (datetime(2000, 1, 1, tzinfo=UTC) + timedelta(days=place)).date().isoformat(),
        "comment": number,
    }

    def change(step: int) -> None:
        if step == 3 and deletes:
            driver.sandbox.drop("adjustment", number)
        else:
            driver.sandbox.put("adjustment", id=number, **base, days=10 + step, active=step % 2 == 0)

    words = ["inserted", "updated", "updated", "deleted" if deletes else "updated"]
    play(
        driver,
        story,
        [partial(change, step) for step in range(4)],
        lambda step: driver.handle(
            f"release-date-adjustments.adjustment.{words[step]}",
            id=number,
            offenderNo=prisoner.offender_no,
            source="DPS",
        ),
    )
    records = [each for each in driver.sandbox.nomis("adjustment") if each["comment"] == number]
    mapped = [each for each in driver.sandbox.mappings("adjustments") if each["adjustmentId"] == number]
    if deletes:
        assert (records, mapped) == ([], [])
        return
    ((record,), (mapping,)) = (records, mapped)
    assert (record["id"], record["days"], record["active"]) == (mapping["nomisAdjustmentId"], 13, False)


@pytest.fixture
def scheduled(driver: Driver, prisoner: Prisoner) -> Driver:
    """A driver with a schedule in NOMIS."""
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
    driver.sandbox.put(
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
    driver.handle("activities.activity-schedule.created", activityScheduleId=1)
    return driver


@BOUNDED
@given(story=stories(4), ends=st.booleans())
def test_allocations(scheduled: Driver, prisoner: Prisoner, story: tuple[list[Step], list[int]], ends: bool) -> None:
    """Two allocations of a prisoner to one schedule, one after the other, end in NOMIS as the newer one is."""
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
    play(
        scheduled,
        story,
        [partial(scheduled.sandbox.put, "allocation", **base, **state) for state in states],
        lambda step: scheduled.handle(f"activities.prisoner.{words[step]}", allocationId=states[step]["id"]),
    )
    (row,) = [each for each in scheduled.sandbox.nomis("allocation") if each["booking_id"] == prisoner.booking_id]
    assert row["bands"][-1]["band"] == "3"
    assert (row["end"], row["suspended"]) == (today if ends else None, not ends)
    assert row["comment"].endswith("for reason second" if ends else "for reason null")
