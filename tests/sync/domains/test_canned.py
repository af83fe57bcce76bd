"""The canned records of the mock publishing services reach NOMIS like any other records."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from sandbox import Sandbox
from sync.events.context import Outcome
from tests.harness.handlers import Harness


def test_canned_visit_reaches_nomis(harness: Harness, sandbox: Sandbox) -> None:
    """The mock visits service has a visit for any reference. It is written with the chosen prison and visitors."""
    sandbox.reset(mock_publishers=True, mock_visits_prison_id="LEI", mock_visits_visitors=[4_700_007])
    booked_at = datetime(2023, 5, 22, tzinfo=UTC)
    assert harness.handle("prison-visit.booked", "A7948DY", booked_at, reference="any-one") is Outcome.APPLIED
    (visit,) = sandbox.nomis("visit")
    assert (visit["prison_id"], visit["person_ids"]) == ("LEI", [4_700_007])


@pytest.mark.parametrize(("adjustment_id", "kind"), [("17S", ("RX", 1)), ("17", ("ADA", None))])
def test_canned_adjustment_reaches_nomis(
    harness: Harness, sandbox: Sandbox, adjustment_id: str, kind: tuple[str, int | None]
) -> None:
    """The mock adjustments service has an adjustment for any id, and the adjustment is written to NOMIS.

    It is a sentence adjustment if the id ends in S, and otherwise a key-date adjustment.
    """
    sandbox.reset(mock_publishers=True)
    event = "release-date-adjustments.adjustment.inserted"
    assert harness.handle(event, id=adjustment_id, offenderNo="A7948DY", source="DPS") is Outcome.APPLIED
    (adjustment,) = sandbox.nomis("adjustment")
    assert (adjustment["type"], adjustment["sentence"]) == kind
    assert (adjustment["booking_id"], adjustment["days"]) == (1_201_725, 15)
