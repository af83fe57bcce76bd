"""Adjustments in NOMIS: two families with overlapping numbers, hidden adjustments, and lists."""

from __future__ import annotations

from typing import Any

import pytest

from tests.harness.sandboxes import Caller

BODY: dict[str, Any] = {
    "adjustmentTypeCode": "ADA",
    "adjustmentDate": "2023-05-22",
    "adjustmentFromDate": "2023-04-22",
    "adjustmentDays": 15,
}


def with_three_sentences(caller: Caller) -> int:
    """The id of a booking with three sentences."""
    return int(next(each for each in caller.sandbox.prisoners() if each["bookingId"] % 3 == 2)["bookingId"])


@pytest.fixture
def booking(caller: Caller) -> int:
    """The id of the booking that a test is about, which has three sentences."""
    return with_three_sentences(caller)


def key_date(caller: Caller, booking: int, **more: Any) -> Any:
    """Posts a key-date adjustment, and returns the response."""
    return caller.call("nomis", "POST", f"/prisoners/booking-id/{booking}/adjustments", BODY | more)


def sentence(caller: Caller, booking: int, sequence: int = 1, **more: Any) -> Any:
    """Posts an adjustment of the sentence `sequence`, and returns the response."""
    path = f"/prisoners/booking-id/{booking}/sentences/{sequence}/adjustments"
    return caller.call("nomis", "POST", path, {**BODY, "adjustmentTypeCode": "RX", **more})


def test_numbers_of_the_families_overlap(caller: Caller, booking: int) -> None:
    """The first sentence adjustment and the first key-date adjustment have the same number.

    The number of days of an adjustment includes its first and last day.
    """
    first, second = sentence(caller, booking).json()["id"], key_date(caller, booking).json()["id"]
    assert first == second
    held = caller.get("nomis", f"/key-date-adjustments/{second}")
    assert (held["adjustmentType"]["code"], held["adjustmentToDate"]) == ("ADA", "2023-05-06")
    assert "hiddenFromUsers" not in held
    held = caller.get("nomis", f"/sentence-adjustments/{first}")
    assert (held["adjustmentType"]["code"], held["sentenceSequence"], held["hiddenFromUsers"]) == ("RX", 1, False)
    one_day = key_date(caller, booking, adjustmentDays=1).json()["id"]
    assert caller.get("nomis", f"/key-date-adjustments/{one_day}")["adjustmentToDate"] == "2023-04-22"


def test_a_key_date_adjustment_creates_hidden_sentence_adjustments(caller: Caller) -> None:
    """For a key-date adjustment, NOMIS also creates a hidden adjustment for each of the booking's sentences.

    If the key-date adjustment is deleted, so are the hidden ones. In 2023, the list of adjustments has both categories.
    """
    caller.sandbox.reset(generation="2023")
    booking = with_three_sentences(caller)
    number = key_date(caller, booking).json()["id"]
    listed = caller.get("nomis", "/adjustments/ids")["content"]
    categories = [each["adjustmentCategory"] for each in listed]
    assert (categories.count("KEY_DATE"), categories.count("SENTENCE")) == (1, 3)
    hidden = next(each["adjustmentId"] for each in listed if each["adjustmentCategory"] == "SENTENCE")
    assert caller.get("nomis", f"/sentence-adjustments/{hidden}")["hiddenFromUsers"] is True
    assert caller.call("nomis", "DELETE", f"/key-date-adjustments/{number}").status_code == 204
    assert caller.get("nomis", "/adjustments/ids")["totalElements"] == 0


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"adjustmentFromDate": None}, "JSON parse error"),
        ({"adjustmentDays": -1}, "Validation failed for adjustmentDays"),
        ({"adjustmentDays": None}, "JSON parse error"),
        ({"adjustmentTypeCode": "RX"}, "Sentence adjustment type RX not found"),
        ({"adjustmentTypeCode": "HDC"}, "Sentence adjustment type HDC not found"),
        ({"adjustmentDate": "22-05-2023"}, "JSON parse error"),
    ],
)
def test_bad_key_dates_are_refused(caller: Caller, booking: int, change: dict[str, Any], reason: str) -> None:
    """A key-date adjustment that fails a check gets 400 with the reason, even if only its first day is missing."""
    response = key_date(caller, booking, **change)
    assert response.status_code == 400
    assert response.json()["userMessage"].startswith(f"Bad request: {reason}")


def test_sentence_may_lack_dates_but_not_the_sentence(caller: Caller, booking: int) -> None:
    """A sentence adjustment needs no dates. An unknown sentence or booking gets 404, and a key-date type gets 400."""
    number = sentence(caller, booking, adjustmentDate=None, adjustmentFromDate=None).json()["id"]
    assert "adjustmentToDate" not in caller.get("nomis", f"/sentence-adjustments/{number}")
    assert sentence(caller, booking, sequence=9).status_code == 404
    assert sentence(caller, 5).status_code == 404
    assert sentence(caller, booking, adjustmentTypeCode="ADA").status_code == 400


@pytest.mark.parametrize("family", ["sentence", "key-date"])
def test_adjustments_are_updated_and_deleted(caller: Caller, booking: int, family: str) -> None:
    """An update replaces an adjustment's type, days and state. For an unknown number, it gets 404.

    A deletion gets 204, even a second time.
    """
    post = sentence if family == "sentence" else key_date
    kind = "RSR" if family == "sentence" else "UAL"
    number = post(caller, booking).json()["id"]
    body = {**BODY, "adjustmentTypeCode": kind, "adjustmentDays": 3, "comment": "put right", "active": False}
    body |= {"sentenceSequence": 2} if family == "sentence" else {}
    assert caller.call("nomis", "PUT", f"/{family}-adjustments/{number}", body).status_code == 200
    held = caller.get("nomis", f"/{family}-adjustments/{number}")
    assert (held["adjustmentType"]["code"], held["adjustmentDays"], held["active"]) == (kind, 3, False)
    assert caller.call("nomis", "PUT", f"/{family}-adjustments/1", body).status_code == 404
    assert [caller.call("nomis", "DELETE", f"/{family}-adjustments/{number}").status_code for _ in range(2)] == [
        204
    ] * 2
    assert caller.get("nomis", f"/{family}-adjustments/{number}") is None


def test_an_update_names_the_sentence(caller: Caller, booking: int) -> None:
    """An update must name an existing sentence, and moves the adjustment to it.

    Without `active`, the adjustment stays active or inactive, as it was.
    """
    number = sentence(caller, booking, active=False).json()["id"]
    path, body = f"/sentence-adjustments/{number}", {**BODY, "adjustmentTypeCode": "RX"}
    statuses = [
        caller.call("nomis", "PUT", path, body | more).status_code
        for more in ({}, {"sentenceSequence": 9}, {"sentenceSequence": 3})
    ]
    assert statuses == [400, 404, 200]
    held = caller.get("nomis", path)
    assert (held["sentenceSequence"], held["active"]) == (3, False)


def test_an_update_in_2023_names_no_sentence(caller: Caller) -> None:
    """In 2023, an update requires `active`. The adjustment keeps its sentence, even if the update names another."""
    caller.sandbox.reset(generation="2023")
    number = sentence(caller, with_three_sentences(caller)).json()["id"]
    path, body = f"/sentence-adjustments/{number}", {**BODY, "adjustmentTypeCode": "RX"}
    assert caller.call("nomis", "PUT", path, body).status_code == 400
    assert caller.call("nomis", "PUT", path, body | {"active": False, "sentenceSequence": 2}).status_code == 200
    held = caller.get("nomis", path)
    assert (held["sentenceSequence"], held["active"]) == (1, False)


def listed(caller: Caller, booking: int, query: str = "") -> Any:
    """The adjustments of a booking, as lists by family, or None if NOMIS does not know the booking."""
    return caller.get("nomis", f"/prisoners/booking-id/{booking}/sentencing-adjustments{query}")


def test_the_list_of_a_booking_has_both_families(caller: Caller, booking: int) -> None:
    """A booking's list has its active adjustments and, on request, the inactive ones too, but never hidden ones.

    Each adjustment names the prison where the prisoner is now, or `OUT` after a release.
    """
    key = key_date(caller, booking).json()["id"]
    number = sentence(caller, booking).json()["id"]
    ended = sentence(caller, booking, adjustmentDays=0, active=False).json()["id"]
    assert listed(caller, booking + 10**9) is None
    found = listed(caller, booking)
    assert (
        [each["id"] for each in found["keyDateAdjustments"]],
        [each["id"] for each in found["sentenceAdjustments"]],
    ) == (
        [key],
        [number],
    )
    [adjustment] = found["sentenceAdjustments"]
    assert adjustment["adjustmentType"] == {"code": "RX", "description": "Remand"}
    assert (adjustment["bookingSequence"], adjustment["hasBeenReleased"], adjustment["hiddenFromUsers"]) == (
        1,
        False,
        False,
    )
    prisoner = next(each for each in caller.sandbox.prisoners() if each["bookingId"] == booking)
    assert (adjustment["prisonId"], adjustment["offenderNo"]) == (prisoner["prisonId"], prisoner["offenderNo"])
    everything = listed(caller, booking, "?active-only=false")["sentenceAdjustments"]
    assert [each["id"] for each in everything] == [number, ended]
    caller.sandbox.release(prisoner["offenderNo"])
    [adjustment] = listed(caller, booking)["sentenceAdjustments"]
    assert (adjustment["prisonId"], adjustment["hasBeenReleased"]) == ("OUT", True)
    path = f"/prisoners/booking-id/{booking}/sentencing-adjustments?active-only=perhaps"
    assert caller.call("nomis", "GET", path).status_code == 400


@pytest.mark.parametrize(("generation", "status"), [("today", 201), ("2025-01", 201), ("2024-12", 400), ("2023", 400)])
def test_newer_types_exist_since_2025(caller: Caller, generation: str, status: int) -> None:
    """Since January 2025, time in custody abroad is accepted as a type of sentence adjustment.

    Time as an appeal applicant is never accepted as a type of key-date adjustment.
    """
    caller.sandbox.reset(generation=generation)
    booking = with_three_sentences(caller)
    assert sentence(caller, booking, adjustmentTypeCode="TCA").status_code == status
    assert key_date(caller, booking, adjustmentTypeCode="TSA").status_code == 400
