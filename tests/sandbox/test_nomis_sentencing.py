"""Adjustments in NOMIS: two families with overlapping numbers, hidden ones, listings."""

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


@pytest.fixture
def booking(caller: Caller) -> int:
    """A booking with three sentences."""
    return int(next(each for each in caller.sandbox.prisoners() if each["bookingId"] % 3 == 2)["bookingId"])


def key_date(caller: Caller, booking: int, **more: Any) -> Any:
    """Post a key-date adjustment."""
    return caller.call("nomis", "POST", f"/prisoners/booking-id/{booking}/adjustments", BODY | more)


def sentence(caller: Caller, booking: int, sequence: int = 1, **more: Any) -> Any:
    """Post a sentence adjustment."""
    path = f"/prisoners/booking-id/{booking}/sentences/{sequence}/adjustments"
    return caller.call("nomis", "POST", path, {**BODY, "adjustmentTypeCode": "RX", **more})


def test_numbers_of_the_families_overlap(caller: Caller, booking: int) -> None:
    """The first of each family has the same number; the last day is counted with the first."""
    first, second = sentence(caller, booking).json()["id"], key_date(caller, booking).json()["id"]
    assert first == second
    held = caller.get("nomis", f"/key-date-adjustments/{second}")
    assert (held["adjustmentType"]["code"], held["adjustmentToDate"]) == ("ADA", "2023-05-06")
    assert "hiddenFromUsers" not in held
    held = caller.get("nomis", f"/sentence-adjustments/{first}")
    assert (held["adjustmentType"]["code"], held["sentenceSequence"], held["hiddenFromUsers"]) == ("RX", 1, False)
    one_day = key_date(caller, booking, adjustmentDays=1).json()["id"]
    assert caller.get("nomis", f"/key-date-adjustments/{one_day}")["adjustmentToDate"] == "2023-04-22"


def test_key_date_makes_hidden_sentence_adjustments(caller: Caller, booking: int) -> None:
    """Every sentence gets a hidden one, which goes with the key date; the listing names both categories."""
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
    """Each failed check is 400 with its reason, the missing first day among them."""
    answer = key_date(caller, booking, **change)
    assert answer.status_code == 400
    assert answer.json()["userMessage"].startswith(f"Bad request: {reason}")


def test_sentence_may_lack_dates_but_not_the_sentence(caller: Caller, booking: int) -> None:
    """Dates are optional for a sentence; an unknown sentence or booking is 404, a type of key dates 400."""
    number = sentence(caller, booking, adjustmentDate=None, adjustmentFromDate=None).json()["id"]
    assert "adjustmentToDate" not in caller.get("nomis", f"/sentence-adjustments/{number}")
    assert sentence(caller, booking, sequence=9).status_code == 404
    assert sentence(caller, 5).status_code == 404
    assert sentence(caller, booking, adjustmentTypeCode="ADA").status_code == 400


@pytest.mark.parametrize("family", ["sentence", "key-date"])
def test_update_and_delete(caller: Caller, booking: int, family: str) -> None:
    """An update replaces all fields, unknown ones are 404; a delete is 204 always."""
    post = sentence if family == "sentence" else key_date
    kind = "RSR" if family == "sentence" else "UAL"
    number = post(caller, booking).json()["id"]
    body = {**BODY, "adjustmentTypeCode": kind, "adjustmentDays": 3, "comment": "put right", "active": False}
    assert caller.call("nomis", "PUT", f"/{family}-adjustments/{number}", body).status_code == 200
    held = caller.get("nomis", f"/{family}-adjustments/{number}")
    assert (held["adjustmentType"]["code"], held["adjustmentDays"], held["active"]) == (kind, 3, False)
    assert caller.call("nomis", "PUT", f"/{family}-adjustments/1", body).status_code == 404
    assert [caller.call("nomis", "DELETE", f"/{family}-adjustments/{number}").status_code for _ in range(2)] == [
        204
    ] * 2
    assert caller.get("nomis", f"/{family}-adjustments/{number}") is None
