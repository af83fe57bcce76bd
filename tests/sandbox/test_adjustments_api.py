"""The list of a person's adjustments, as it is today and as it was in 2023."""

from __future__ import annotations

from typing import Any

import pytest

from tests.harness.sandboxes import Caller

UUID = "5b0c7b1e-3f6a-4b0c-9a51-0b3c5f2d8e77"


def make(caller: Caller, **changes: Any) -> tuple[int, str]:
    """Creates an adjustment for the first prisoner, and returns the booking and the prisoner number."""
    prisoner = caller.sandbox.prisoners()[0]
    values: dict[str, Any] = {
        "id": UUID,
        "booking_id": prisoner["bookingId"],
        "offender_no": prisoner["offenderNo"],
        "sentence": 1,
        "type": "RX",
        "day": "2023-05-20",
        "start": "2023-05-01",
        "days": 12,
        "comment": "twelve days",
    }
    caller.sandbox.put("adjustment", **{**values, **changes})
    return prisoner["bookingId"], prisoner["offenderNo"]


def test_the_list_of_a_person(caller: Caller) -> None:
    """An adjustment in the list has the name of its type instead of the NOMIS code, and may have no effective days.

    It has no comment.
    """
    booking, person = make(caller, effective_days=None)
    [found] = caller.get("adjustments", f"/adjustments?person={person}")
    assert (found["id"], found["bookingId"], found["person"], found["adjustmentType"]) == (
        UUID,
        booking,
        person,
        "REMAND",
    )
    assert (found["days"], found["effectiveDays"], found["status"], found["source"]) == (12, None, "ACTIVE", "DPS")
    assert (found["fromDate"], found["toDate"], found["sentenceSequence"]) == ("2023-05-01", "2023-05-12", 1)
    assert found["remand"] is not None
    assert found["taggedBail"] is None
    assert "comment" not in found


def test_only_active_adjustments_are_listed_by_default(caller: Caller) -> None:
    """By default, only active adjustments are listed. An unknown status, or a request without a person, is refused."""
    _, person = make(caller, active=False)
    assert caller.get("adjustments", f"/adjustments?person={person}") == []
    assert len(caller.get("adjustments", f"/adjustments?person={person}&status=INACTIVE")) == 1
    assert caller.call("adjustments", "GET", f"/adjustments?person={person}&status=GONE").status_code == 400
    assert caller.call("adjustments", "GET", "/adjustments").status_code == 400


def test_a_person_without_adjustments_gets_a_status_or_an_empty_list(caller: Caller) -> None:
    """The status is 404 for an unknown person, 422 for a person without a sentence, and 200 for everybody else."""
    caller.sandbox.reset(plant=["adjustments"], every_cause=True)
    people = [each["offenderNo"] for each in caller.sandbox.prisoners()]
    statuses = [caller.call("adjustments", "GET", f"/adjustments?person={each}").status_code for each in people]
    assert (statuses.count(404), statuses.count(422), statuses.count(200)) == (1, 1, len(people) - 2)
    assert caller.call("adjustments", "GET", "/adjustments?person=A0000AA").status_code == 404


def test_the_list_of_2023(caller: Caller) -> None:
    """In 2023, the list includes inactive adjustments, and gives no effective days.

    Any token is accepted, and the list of an unknown person is empty.
    """
    caller.sandbox.reset(generation="2023")
    booking, person = make(caller, active=False, effective_days=0)
    caller.sandbox.grant("adjustments", [])
    other = Caller(caller.sandbox)
    [found] = other.get("adjustments", f"/adjustments?person={person}")
    assert found == {
        "id": UUID,
        "adjustment": {
            "bookingId": booking,
            "sentenceSequence": 1,
            "person": person,
            "adjustmentType": "REMAND",
            "fromDate": "2023-05-01",
            "days": 12,
        },
    }
    assert other.get("adjustments", "/adjustments?person=A0000AA") == []


@pytest.mark.parametrize("roles", [["SENTENCE_ADJUSTMENTS_SYNCHRONISATION"], []])
def test_the_list_needs_its_role(caller: Caller, roles: list[str]) -> None:
    """A token without the role for the list is refused, even if it has the role for synchronisation."""
    _, person = make(caller)
    caller.sandbox.grant("adjustments", roles)
    assert Caller(caller.sandbox).call("adjustments", "GET", f"/adjustments?person={person}").status_code == 403
