"""In whatever order events arrive, and even if responses are lost, NOMIS ends up in the same state as DPS."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from sandbox.clock import london_today
from sync.settings.upstreams import UpstreamName
from tests.harness.handlers import Harness, Prisoner
from tests.harness.scenarios import (
    BOUNDED,
    MAPPING_DELETE,
    MAPPING_POST,
    NOMIS_CREATE,
    NOMIS_CREATE_UNHEARD,
    NOMIS_DELETE,
    NOMIS_WRITE,
    NUMBERS,
    Scenario,
    Step,
    delivery,
    play,
    scenarios,
)

IN_TURN = (0, 1, 2, 3)
#: Scenarios in which only the creation is delivered before the last event, whose handling loses a response.
CANCEL_UNANSWERED: Scenario = ([Step(0), delivery(0), Step(1), Step(2), Step(3), delivery(3, NOMIS_WRITE)], IN_TURN)
DELETION_UNANSWERED: Scenario = ([Step(0), delivery(0), Step(1), Step(2), Step(3), delivery(3, NOMIS_DELETE)], IN_TURN)
MAPPING_DELETION_UNANSWERED: Scenario = (
    [Step(0), delivery(0, MAPPING_POST), Step(1), Step(2), Step(3), delivery(3, MAPPING_DELETE)],
    IN_TURN,
)
#: A scenario in which NOMIS has the record without a mapping when the deletion comes, so the deletion has to wait.
DELETED_WHILE_IN_DOUBT: Scenario = (
    [Step(0), delivery(0, NOMIS_CREATE), Step(1), Step(2), Step(3), delivery(3)],
    (3, 0, 1, 2),
)
#: A scenario in which NOMIS does not have the record, but this is unknown when the deletion comes.
DELETED_UNHEARD: Scenario = (
    [Step(0), delivery(0, NOMIS_CREATE_UNHEARD), Step(1), Step(2), Step(3), delivery(3)],
    IN_TURN,
)
#: The same scenario, but the event that settles the outcome comes after the deletion.
DELETED_BEFORE_IT_SETTLES: Scenario = (
    [Step(0), Step(1), Step(2), delivery(0, NOMIS_CREATE_UNHEARD), Step(3)],
    (1, 2, 3, 0),
)


def _bodies(harness: Harness) -> list[dict[str, Any]]:
    return [each["body"] for each in harness.sandbox.journal("nomis") if isinstance(each["body"], dict)]


@BOUNDED
@given(scenario=scenarios(4), cancels=st.booleans())
@example(scenario=CANCEL_UNANSWERED, cancels=True)
def test_a_visit_is_in_nomis_once_as_dps_has_it(
    harness: Harness, prisoner: Prisoner, scenario: Scenario, cancels: bool
) -> None:
    """Whatever the order of its events, a visit is in NOMIS once, as visit-scheduler has it.

    The visit is booked, changed, and perhaps cancelled.
    """
    reference = f"vv-{next(NUMBERS)}"
    states: list[dict[str, Any]] = [
        {"room": "A", "start": "2023-06-02T14:00:00", "end": "2023-06-02T15:00:00", "person_ids": [4_700_001]},
        {"room": "B", "start": "2023-06-03T14:00:00", "end": "2023-06-03T15:00:00", "person_ids": [4_700_002]},
        {"room": "C", "start": "2023-06-04T09:00:00", "end": "2023-06-04T10:00:00", "person_ids": []},
        {"status": "CANCELLED", "outcome": "PRISONER_CANCELLED"} if cancels else {"restriction": "CLOSED"},
    ]
    words = ["booked", "changed", "changed", "cancelled" if cancels else "changed"]
    owner = {"prisoner_id": prisoner.offender_no, "prison_id": prisoner.prison_id}
    changes = [partial(harness.sandbox.put, "visit", reference=reference, **owner, **state) for state in states]

    def deliver(change: int) -> object:
        moment = datetime(2023, 5, 22, tzinfo=UTC) + timedelta(minutes=change)
        return harness.handle(f"prison-visit.{words[change]}", prisoner.offender_no, moment, reference=reference)

    assert play(harness, scenario, changes, deliver) == set()
    (visit,) = [each for each in harness.sandbox.nomis("visit") if each["comment"].endswith(f" {reference}")]
    assert (visit["start"], visit["person_ids"]) == ("2023-06-04T09:00:00", [])
    assert visit["status"] == ("CANC" if cancels else "SCH")
    assert visit["room"].endswith("_SOC" if cancels else "_CLO")
    # NOMIS has one room for all visits of a prison, so only the requests show the room of a booking.
    bodies = [each["body"] for each in harness.sandbox.journal("nomis") if each["path"].endswith(f"/{visit['id']}")]
    bodies = bodies or [each for each in _bodies(harness) if str(each.get("visitComment")).endswith(reference)]
    assert [body["room"] for body in bodies if "room" in body][-1] == "C"


@BOUNDED
@given(scenario=scenarios(4), ending=st.sampled_from(["updated", "cancelled", "deleted"]))
@example(scenario=DELETION_UNANSWERED, ending="deleted")
@example(scenario=MAPPING_DELETION_UNANSWERED, ending="deleted")
@example(scenario=DELETED_WHILE_IN_DOUBT, ending="deleted")
@example(scenario=DELETED_UNHEARD, ending="deleted")
def test_an_appointment_is_in_nomis_once_or_deleted(
    harness: Harness, prisoner: Prisoner, scenario: Scenario, ending: str
) -> None:
    """Whatever the order of its events, an appointment is in NOMIS once, as in DPS, or is deleted with its mapping."""
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
            harness.sandbox.drop("appointment", number)
        else:
            harness.sandbox.put(
                "appointment", id=number, **base, location_id=prisoner.rooms[place], start=starts[place]
            )

    words = ["created", "updated", "updated", ending]
    pending = play(
        harness,
        scenario,
        [partial(change, place) for place in range(4)],
        lambda place: harness.handle(f"appointments.appointment-instance.{words[place]}", appointmentInstanceId=number),
    )
    records = [each for each in harness.sandbox.nomis("appointment") if each["day"] == day]
    mapped = [each for each in harness.sandbox.mappings("appointments") if each["appointmentInstanceId"] == number]
    if ending == "deleted":
        assert (records, mapped) == ([], [])
        # The other events of a deleted record cannot read anything; the deletion itself succeeded.
        assert 3 not in pending
        return
    assert pending == set()
    ((record,), (mapping,)) = (records, mapped)
    assert record["event_id"] == mapping["nomisEventId"]
    assert record["status"] == ("CANC" if ending == "cancelled" else "SCH")
    if ending == "updated":
        assert (record["start"], record["location_id"]) == ("12:00:00", prisoner.rooms[3])


@BOUNDED
@given(scenario=scenarios(4), deletes=st.booleans(), sentence=st.sampled_from([None, 1]))
@example(scenario=DELETION_UNANSWERED, deletes=True, sentence=None)
@example(scenario=MAPPING_DELETION_UNANSWERED, deletes=True, sentence=1)
@example(scenario=DELETED_WHILE_IN_DOUBT, deletes=True, sentence=1)
@example(scenario=DELETED_UNHEARD, deletes=True, sentence=None)
@example(scenario=DELETED_BEFORE_IT_SETTLES, deletes=True, sentence=None)
def test_an_adjustment_is_in_nomis_once_or_deleted(
    harness: Harness, prisoner: Prisoner, scenario: Scenario, deletes: bool, sentence: int | None
) -> None:
    """Whatever the order of its events, an adjustment is in NOMIS once, as in DPS, or is deleted with its mapping.

    This holds for both families of adjustments.
    """
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
            harness.sandbox.drop("adjustment", number)
        else:
            harness.sandbox.put("adjustment", id=number, **base, days=10 + step, active=step % 2 == 0)

    words = ["inserted", "updated", "updated", "deleted" if deletes else "updated"]
    pending = play(
        harness,
        scenario,
        [partial(change, step) for step in range(4)],
        lambda step: harness.handle(
            f"release-date-adjustments.adjustment.{words[step]}",
            id=number,
            offenderNo=prisoner.offender_no,
            source="DPS",
        ),
    )
    records = [each for each in harness.sandbox.nomis("adjustment") if each["comment"] == number]
    mapped = [each for each in harness.sandbox.mappings("adjustments") if each["adjustmentId"] == number]
    if deletes:
        assert (records, mapped) == ([], [])
        # The other events of a deleted record cannot read anything; the deletion itself succeeded.
        assert 3 not in pending
        return
    assert pending == set()
    ((record,), (mapping,)) = (records, mapped)
    assert (record["id"], record["days"], record["active"]) == (mapping["nomisAdjustmentId"], 13, False)


@BOUNDED
@given(scenario=scenarios(3))
@example(scenario=([Step(0), delivery(0, NOMIS_CREATE), Step(1), delivery(1, NOMIS_CREATE), Step(2)], (2, 1, 0)))
def test_each_review_becomes_one_mapped_record(harness: Harness, prisoner: Prisoner, scenario: Scenario) -> None:
    """Whatever the order of their events, three reviews of a prisoner become three NOMIS records.

    Each record is mapped to its own review.
    """
    first, reviews = next(NUMBERS), {}

    def change(place: int) -> None:
        at = (datetime(2023, 1, 1, tzinfo=UTC) + timedelta(days=first, hours=place)).replace(tzinfo=None).isoformat()
        reviews[place] = harness.sandbox.add_review(prisoner.offender_no, "STD", publish=False, at=at), at

    inserted, owner = "incentives.iep-review.inserted", prisoner.offender_no
    changes = [partial(change, place) for place in range(3)]
    pending = play(
        harness, scenario, changes, lambda place: harness.handle(inserted, id=reviews[place][0], nomsNumber=owner)
    )
    assert pending == set()
    sequences = {each["incentiveId"]: each["nomisIncentiveSequence"] for each in harness.sandbox.mappings("incentives")}
    records = [each for each in harness.sandbox.nomis("incentive") if each["booking_id"] == prisoner.booking_id]
    for review_id, at in reviews.values():
        (record,) = [each for each in records if each["at"] == at]
        assert record["sequence"] == sequences[review_id]


@BOUNDED
@given(scenario=scenarios(4))
@example(scenario=([Step(0), Step(1), Step(2), Step(3), delivery(1), delivery(3)], IN_TURN))
@example(scenario=([Step(0), Step(1), Step(2), Step(3), delivery(1), delivery(3), delivery(0, NOMIS_CREATE)], IN_TURN))
def test_a_new_level_gets_its_final_name_and_place(harness: Harness, scenario: Scenario) -> None:
    """Whatever the order of the events, a new level that is renamed and moved has its final name and place in NOMIS."""
    number = next(NUMBERS)
    code = f"L{number}"
    names = ["First", "First", "Second", "Second"]
    places = [90, 2, 2, 4]
    changes = [
        partial(harness.sandbox.put, "level", code=code, name=name, order=place)
        for name, place in zip(names, places, strict=True)
    ]

    def deliver(place: int) -> object:
        if place in (1, 3):
            return harness.handle("incentives.levels.reordered")
        return harness.handle("incentives.level.changed", incentiveLevel=code)

    assert play(harness, scenario, changes, deliver) == set()
    held = {each["code"]: each for each in harness.sandbox.nomis("level")}
    assert held[code]["description"] == "Second"
    levels = harness.services[UpstreamName.INCENTIVES].call("GET", "/incentive/levels?with-inactive=true")
    wanted = [each["code"] for each in levels if each["code"] in held]
    assert sorted(wanted, key=lambda each: int(held[each]["sequence"])) == wanted


@BOUNDED
@given(scenario=scenarios(3))
def test_a_prison_level_has_the_same_state_in_nomis(harness: Harness, scenario: Scenario) -> None:
    """Whatever the order of its events, a level that a prison adopts and changes is in NOMIS as it is in DPS."""
    code = f"L{next(NUMBERS)}"
    harness.sandbox.put("level", code=code, name="New", order=90)
    harness.handle("incentives.level.changed", incentiveLevel=code)
    amounts = ("remand_transfer", "remand_spend", "convicted_transfer", "convicted_spend")
    base: dict[str, Any] = {"prison_id": "LEI", "code": code, "visit_orders": 1, "privileged_visit_orders": 0}
    states: list[dict[str, Any]] = [
        {**dict.fromkeys(amounts, 100 * place), "active": place != 1, "default_on_admission": False}
        for place in (1, 2, 3)
    ]
    event = "incentives.prison-level.changed"
    pending = play(
        harness,
        scenario,
        [partial(harness.sandbox.put, "prison-level", **base, **state) for state in states],
        lambda _: harness.handle(event, incentiveLevel=code, prisonId="LEI"),
    )
    assert pending == set()
    (held,) = [each for each in harness.sandbox.nomis("prison-level") if each["code"] == code]
    assert {**base, **states[-1]}.items() <= held.items()
