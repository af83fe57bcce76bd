"""Each mismatch planted in a world fits its row of the decision table, as the services' responses show.

This module states the rows a second time, as the questions that a person would ask. An error in a planted history is
therefore noticed.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import boto3
import pytest

from sandbox import Sandbox
from tests.harness.sandboxes import Caller

DLQ = "hmpps_prisoner_to_nomis_incentive_dlq"
LEGITIMATE = ("JDBC Thin Client", "OIDOIEPS")
NEAR = timedelta(hours=24)
SEEDS = (1, 2, 3)


class Case:
    """Both sides of one booking, as the services return them."""

    def __init__(self, caller: Caller, booking_id: int, waiting: set[int]) -> None:
        """Reads the current records of both sides, and the history in NOMIS.

        `waiting` contains the ids of the reviews whose messages are on the dead letter queue.
        """
        self.caller, self.booking_id, self.waiting = caller, booking_id, waiting
        self.nomis = caller.get("nomis", f"/incentives/booking-id/{booking_id}/current")
        self.dps = caller.get("incentives", f"/iep/reviews/booking/{booking_id}")
        self.history: list[dict[str, Any]] = []
        for sequence in range(self.nomis["incentiveSequence"] if self.nomis else 0, 0, -1):
            record = caller.get("nomis", f"/incentives/booking-id/{booking_id}/incentive-sequence/{sequence}")
            if record is not None:
                self.history.append(record)

    def mapping_of_review(self) -> dict[str, Any] | None:
        """Returns the mapping of the current DPS review, or None if the review is not mapped."""
        found: dict[str, Any] | None = self.caller.get("mapping", f"/mapping/incentives/incentive-id/{self.dps['id']}")
        return found

    def review_of_record(self) -> dict[str, Any] | None:
        """Returns the DPS review from which the current NOMIS record was written, or None if DPS does not have it."""
        path = f"/mapping/incentives/nomis-booking-id/{self.booking_id}/nomis-incentive-sequence"
        mapping = self.caller.get("mapping", f"{path}/{self.nomis['incentiveSequence']}")
        assert mapping is not None, "a record written through the API has no mapping"
        found: dict[str, Any] | None = self.caller.get("incentives", f"/iep/reviews/id/{mapping['incentiveId']}")
        return found

    def near_reviews(self) -> list[dict[str, Any]]:
        """Returns the reviews at the current NOMIS record's prison, at most 24 hours before or after that record."""
        at = datetime.fromisoformat(self.nomis["iepDateTime"])
        return [
            each
            for each in self.dps["iepDetails"]
            if each["agencyId"] == self.nomis["prisonId"] and abs(datetime.fromisoformat(each["iepTime"]) - at) <= NEAR
        ]

    def row(self) -> int:
        """Returns the number of the first row of the decision table that applies."""
        if self.dps is not None and self.dps["id"] in self.waiting:
            return 1
        if self.nomis is None:
            assert self.mapping_of_review() is None
            return 2
        if self.dps is None:
            return 3
        if self.nomis["auditModule"] not in LEGITIMATE:
            return self._system_row()
        if self.nomis["auditModule"] == "JDBC Thin Client":
            return self._written_row()
        newer = datetime.fromisoformat(self.nomis["iepDateTime"]) > datetime.fromisoformat(self.dps["iepTime"])
        return 7 if newer else self._last_rows()

    def _system_row(self) -> int:
        near = self.near_reviews()
        if not near:
            return 4
        mapping = self.mapping_of_review()
        assert mapping is not None
        assert mapping["nomisIncentiveSequence"] < self.nomis["incentiveSequence"]
        at = datetime.fromisoformat(self.nomis["iepDateTime"])
        together = [each for each in self.history if abs(datetime.fromisoformat(each["iepDateTime"]) - at) <= NEAR]
        assert len(together) >= 3
        return 5

    def _written_row(self) -> int:
        review, mapping = self.review_of_record(), self.mapping_of_review()
        if review is None or review["iepCode"] != self.nomis["iepLevel"]["code"]:
            return 8
        same_booking = mapping is not None and mapping["nomisBookingId"] == self.booking_id
        if mapping is not None and same_booking and mapping["nomisIncentiveSequence"] < self.nomis["incentiveSequence"]:
            same_day = self.nomis["iepDateTime"][:10] == self.dps["iepDate"]
            older = datetime.fromisoformat(review["iepTime"]) < datetime.fromisoformat(self.dps["iepTime"])
            if same_day and older:
                return 6
        return self._last_rows()

    def _last_rows(self) -> int:
        numbers = {(each["bookingId"], each["prisonerNumber"]) for each in self.dps["iepDetails"]}
        return 9 if len(numbers) > 1 else 10


def waiting_reviews(sandbox: Sandbox) -> set[int]:
    """Sends the planted messages to the dead letter queue, and returns the ids of the reviews in them."""
    sqs: Any = boto3.session.Session().client(
        "sqs",
        region_name="eu-west-2",
        endpoint_url=sandbox.emulator_url,
        aws_access_key_id="test",
        aws_secret_access_key="test",
    )
    queue = sqs.create_queue(QueueName=DLQ)["QueueUrl"]
    sent = sandbox.send_waiting(DLQ)
    found: set[int] = set()
    while len(found) < sent:
        for message in sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10).get("Messages", []):
            found.add(int(message["Body"].split('\\"id\\":')[1].split(",")[0]))
    return found


@pytest.mark.parametrize("seed", SEEDS)
def test_each_planted_difference_matches_only_its_row(sandbox: Sandbox, seed: int) -> None:
    """Every booking with a planted difference has the levels that are listed for it.

    The first row that applies to it is the planted row.
    """
    counts = {str(row): 4 for row in range(1, 11)} | {"4": 10}
    sandbox.reset(prisoners=200, seed=seed, mismatches=counts, excluded=2)
    caller = Caller(sandbox)
    planted = sandbox.planted()["mismatches"]
    waiting = waiting_reviews(sandbox)
    assert len(planted) == sum(counts.values()) + 2
    for mismatch in planted:
        case = Case(caller, mismatch["bookingId"], waiting)
        assert (case.nomis["iepLevel"]["code"] if case.nomis else None) == mismatch["nomis"]
        assert (case.dps["iepCode"] if case.dps else None) == mismatch["dps"]
        assert mismatch["nomis"] != mismatch["dps"]
        assert case.row() == mismatch["row"], mismatch


@pytest.mark.parametrize("seed", SEEDS)
def test_everybody_else_agrees(sandbox: Sandbox, seed: int) -> None:
    """The two sides differ only for the bookings with planted differences.

    If another booking has a current NOMIS record, that record is mapped to the booking's current DPS review.
    """
    sandbox.reset(prisoners=50, seed=seed, every_cause=True, excluded=1)
    caller = Caller(sandbox)
    differing = set()
    for prisoner in sandbox.prisoners():
        case = Case(caller, prisoner["bookingId"], set())
        nomis = case.nomis["iepLevel"]["code"] if case.nomis else None
        dps = case.dps["iepCode"] if case.dps else None
        if nomis != dps:
            differing.add(prisoner["bookingId"])
        elif case.nomis is not None:
            review = case.review_of_record()
            assert review is not None
            assert review["id"] == case.dps["id"]
    planted = sandbox.planted()
    assert differing == {each["bookingId"] for each in planted["mismatches"]}
    assert {each["row"] for each in planted["mismatches"]} == set(range(1, 11))
    assert set(planted["excludedBookings"]) > set(planted["excludedMatching"])


def test_an_ordinary_world_has_realistic_differences(sandbox: Sandbox) -> None:
    """One prisoner in a thousand has different levels on the two sides.

    Half of these differences follow a missed reception, and a fifth follow a double one.
    """
    sandbox.reset(prisoners=20_000)
    rows = [each["row"] for each in sandbox.planted()["mismatches"]]
    assert len(rows) == 20
    assert (rows.count(4), rows.count(5), rows.count(1)) == (10, 4, 0)


def test_a_difference_in_flight_resolves_itself(sandbox: Sandbox) -> None:
    """At the first read, NOMIS lacks a review in flight. By the second read, the review is in NOMIS and mapped."""
    sandbox.reset(prisoners=30, in_flight=1, in_flight_seconds=0)
    caller = Caller(sandbox)
    (planted,) = sandbox.planted()["mismatches"]
    assert planted["cause"] == "in_flight"
    path = f"/incentives/booking-id/{planted['bookingId']}/current"
    assert caller.get("nomis", path)["iepLevel"]["code"] == planted["nomis"]
    assert caller.get("nomis", path)["iepLevel"]["code"] == planted["dps"]
    assert Case(caller, planted["bookingId"], set()).mapping_of_review() is not None


def test_too_much_to_plant_is_refused(sandbox: Sandbox) -> None:
    """A world that is too small for the requested differences is refused."""
    with pytest.raises(RuntimeError, match="increase `prisoners`"):
        sandbox.reset(prisoners=5, every_cause=True)
