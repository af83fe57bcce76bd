"""The demo compares the findings of each reconciliation with all the differences that were planted for it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from jobs.demo.earlier_runs import EarlierRuns
from jobs.demo.outcome import Findings
from reports.engine.result import InFlight, Mismatch, ReconciliationResult

AT = datetime(2023, 5, 22, 4, 0, tzinfo=UTC)
PLANTED = [
    {"key": ["MDI", 1], "kind": "NOMIS_only", "outcome": "reported"},
    {"key": ["LEI", 2], "kind": "DPS_only", "outcome": "reported"},
    {"key": ["LEI", 3], "kind": "DPS_only", "outcome": "in flight"},
    {"key": ["LEI", 4], "kind": "DPS_only", "outcome": "settles"},
]
NOTHING_EARLIER = EarlierRuns((), frozenset(), frozenset())
FOUND = {("MDI", 1): "NOMIS_only", ("LEI", 2): "DPS_only"}


def findings(found: dict[tuple[str, int], str] = FOUND, in_flight: tuple[int, ...] = (3,), **more: Any) -> Findings:
    """The findings of a run for 40 bookings, with the differences in `found` and `in_flight`."""
    result = ReconciliationResult(
        reconciliation="allocations",
        title="Allocations",
        counted="bookings",
        key_columns=("prison_id", "booking_id"),
        run_id="20230522-040000-ab12",
        status=more.get("status", "complete"),
        environment="the demo",
        started_at=AT,
        finished_at=AT,
        total=None,
        listed=40,
        compared=40,
        mismatches=tuple(
            Mismatch(key={"prison_id": prison, "booking_id": booking}, kind=kind, since=AT)
            for (prison, booking), kind in found.items()
        ),
        in_flight=tuple(
            InFlight(key={"prison_id": "LEI", "booking_id": each}, kind="DPS_only", why="") for each in in_flight
        ),
    )
    return Findings(result, PLANTED, NOTHING_EARLIER)


def test_a_run_that_found_everything_planted_has_no_problem() -> None:
    """If a run finds every planted difference that it should, and no other, there is no problem.

    The text also counts the planted differences that are rightly not reported.
    """
    assert findings().problems() == []
    assert findings().text() == (
        "2 of 2 planted found, 1 of 1 in flight, 1 rightly not reported; 2 new, 0 persisting, 0 resolved; "
        "40 bookings compared"
    )


@pytest.mark.parametrize(
    ("more", "problem"),
    [
        ({"found": {("MDI", 1): "NOMIS_only"}}, "allocations: planted and not found: LEI 2"),
        ({"found": FOUND | {("LEI", 4): "DPS_only"}}, "allocations: found and not planted: LEI 4"),
        ({"found": FOUND | {("MDI", 1): "different_count"}}, "allocations: found as another kind: MDI 1"),
        ({"in_flight": ()}, "allocations: planted as in flight, but not found in flight: LEI 3"),
        ({"in_flight": (3, 4)}, "allocations: found in flight, but not planted as in flight: LEI 4"),
        ({"status": "incomplete"}, "allocations: the reconciliation is incomplete"),
    ],
)
def test_a_missed_or_unplanted_difference_is_a_problem(more: dict[str, Any], problem: str) -> None:
    """A difference is a problem if it is missed, was not planted, or is reported as the wrong kind.

    The problem names the key of the difference. An incomplete run is also a problem.
    """
    assert findings(**more).problems() == [problem]


def test_a_key_that_a_record_lacks_is_empty() -> None:
    """A difference is recognised even if its record is on one side only, and so lacks one of the key columns."""
    planted = [{"key": [None, 9], "kind": "DPS_only", "outcome": "reported"}]
    result = findings({("MDI", 9): "DPS_only"}, ()).result
    (mismatch,) = result.mismatches
    bare = result.model_copy(update={"mismatches": (mismatch.model_copy(update={"key": {"booking_id": 9}}),)})
    assert Findings(bare, planted, NOTHING_EARLIER).problems() == []


def test_differences_of_earlier_weeks_are_persisting_or_resolved() -> None:
    """A difference is a problem if it is wrongly reported, or wrongly not reported, as persisting or resolved.

    The problem names the key of the difference.
    """
    earlier = EarlierRuns((), frozenset({'{"prisonId":"MDI","bookingId":1}'}), frozenset({'{"bookingId":7}'}))
    assert replace(findings(), earlier=earlier).problems() == [
        'allocations: wrongly reported, or wrongly not reported, as persisting: {"prisonId":"MDI","bookingId":1}',
        'allocations: wrongly reported, or wrongly not reported, as resolved: {"bookingId":7}',
    ]
