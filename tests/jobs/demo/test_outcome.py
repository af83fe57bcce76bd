"""The demo fails when anything is wrong, and names each problem."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from jobs.demo.earlier_runs import EarlierRuns
from jobs.demo.outcome import DemoOutcome, table_lines
from reports.reconciliations.incentives.result import (
    IncentiveDiagnosis,
    IncentiveInFlight,
    IncentiveMismatch,
    IncentiveResult,
    Side,
)

AT = datetime(2023, 5, 22, 4, 0, tzinfo=UTC)
TRUTH: dict[str, Any] = {"entities": 7, "by_domain": {"visit": 7}, "problems": [], "surplus": []}


def mismatch(booking: int, cause: int) -> IncentiveMismatch:
    """A mismatch for the booking, with `cause` as the number of its cause."""
    diagnosis = IncentiveDiagnosis(
        number=cause, cause="some", confidence="high", right_side="DPS", explanation="because", action="do it"
    )
    return IncentiveMismatch(
        offender_no="A1234BC",
        booking_id=booking,
        nomis=Side(level="STD", at=AT, record=1),
        since=AT,
        diagnosis=diagnosis,
    )


def result(*mismatches: IncentiveMismatch) -> IncentiveResult:
    """The result of a complete run that compared 300 prisoners and found `mismatches`."""
    return IncentiveResult(
        run_id="20230522-040000-ab12",
        status="complete",
        environment="the demo",
        started_at=AT,
        finished_at=AT,
        total=300,
        listed=300,
        compared=300,
        mismatches=mismatches,
    )


@pytest.fixture
def good() -> DemoOutcome:
    """A demo without problems.

    Two mismatches are planted and found. One difference is in flight at first, and one exists only in the bulk call.
    """
    return DemoOutcome(
        traffic={
            "published": {"prison-visit.booked": 9},
            "messages": 10,
            "duplicates": {"published_twice": ["x"], "delivered_twice": ["y"]},
            "out_of_order": [],
        },
        drained={"applied": 7, "duplicate": 2, "coalesced": 1},
        planted=[{"bookingId": 1, "cause": 4}, {"bookingId": 2, "cause": 8}, {"bookingId": 3, "cause": "in_flight"}],
        bulk_differs=1,
        truth=TRUTH,
        result=result(mismatch(1, 4), mismatch(2, 9)).model_copy(update={"settled_on_recheck": 2}),
        earlier=EarlierRuns((), frozenset(), frozenset()),
        others=[],
        tracked={"visit-create-success": 2},
        accepted={"visit-create-success": 2},
        slack=2,
        slack_file="/somewhere/slack.txt",
        report="/somewhere/run/report.html",
        overview="/somewhere/index.html",
        seconds=12.3,
    )


def test_the_table_fits_a_terminal(good: DemoOutcome) -> None:
    """No line of the table is wider than 80 columns, and a long figure continues below its start."""
    rows = [("WHAT", "FIGURE"), *good.rows(), ("visits", "3 of 3 planted found, 2 of 2 in flight; " * 4)]
    lines = table_lines(rows)
    assert max(map(len, lines)) <= 80
    column = lines[0].index("FIGURE")
    assert {line[:column].strip() for line in lines} == {label.strip() for label, _ in rows} | {""}
    assert all(line[column - 1] == " " and line[column] != " " for line in lines)
    assert " ".join(line[column:] for line in lines) == " ".join(figure.strip() for _, figure in rows)


def test_a_good_demo_has_no_problems(good: DemoOutcome) -> None:
    """If all planted mismatches are found and every record is in NOMIS exactly once, the demo has no problem."""
    assert good.problems() == []
    table = dict(good.rows())
    assert table["events published"] == "8"
    assert table["messages delivered"] == "10, of which 2 a second time"
    assert table["records in NOMIS exactly once"] == "7 of 7"
    assert table["differences planted"] == "2"
    assert good.places() == [
        ("report", "/somewhere/run/report.html"),
        ("all reports", "/somewhere/index.html"),
        ("Slack", "/somewhere/slack.txt"),
    ]
    assert table["differences found"] == "2, the planted cause named for 1"
    assert table["differences that were gone when read again"] == "2, as planted: 1 in flight, 1 only in the bulk call"
    assert table["differences excluded"] == "0"


def test_in_flight_differences_are_counted_separately(good: DemoOutcome) -> None:
    """A planted difference whose message waits on a queue counts as found.

    The report's headline leaves it out, so the demo shows it separately.
    """
    waiting = IncentiveInFlight(offender_no="A1234BC", booking_id=9, why="its message is waiting on the queue")
    planted = [*good.planted, {"bookingId": 9, "cause": 1}]
    table = dict(replace(good, planted=planted, result=good.result.model_copy(update={"in_flight": (waiting,)})).rows())
    assert table["differences that were gone when read again"] == "2, as planted: 1 in flight, 1 only in the bulk call"
    assert table["differences planted"] == "3"
    assert table["differences found"] == "3: 2 in the report, 1 in flight; the planted cause named for 2"


def test_a_difference_still_in_flight_at_the_recheck_is_in_flight(good: DemoOutcome) -> None:
    """If a planted difference is still in flight at the recheck, the demo shows it as in flight and not as gone."""
    late = IncentiveInFlight(offender_no="A1234BC", booking_id=3, why="its review is minutes old")
    result = good.result.model_copy(update={"in_flight": (late,), "settled_on_recheck": 1})
    table = dict(replace(good, result=result).rows())
    assert table["differences that were gone when read again"] == (
        "1 (planted: 1 in flight, 1 only in the bulk call); 1 still in flight"
    )


def test_missed_and_unplanted_mismatches_are_problems(good: DemoOutcome) -> None:
    """A planted mismatch that was not found is a problem, and so is a reported one that was not planted.

    The problem names the booking.
    """
    missed, invented = replace(good, result=result(mismatch(1, 4), mismatch(3, 1))).problems()
    assert missed == "planted differences that were not found: bookings 2"
    assert invented == "reported differences that were not planted: bookings 3"


def test_differences_of_earlier_weeks_are_persisting_or_resolved(good: DemoOutcome) -> None:
    """A difference is a problem if it is wrongly reported, or wrongly not reported, as persisting or resolved.

    The problem names the key of the difference.
    """
    earlier = EarlierRuns((), frozenset({'{"bookingId":1}'}), frozenset({'{"bookingId":7}'}))
    assert replace(good, earlier=earlier).problems() == [
        'wrongly reported, or wrongly not reported, as persisting: {"bookingId":1}',
        'wrongly reported, or wrongly not reported, as resolved: {"bookingId":7}',
    ]


def test_wrong_records_in_nomis_are_problems(good: DemoOutcome) -> None:
    """A record that is missing from NOMIS is a problem, and does not count as being in NOMIS exactly once.

    The problem names the id of the record. Records in NOMIS without a DPS record are also a problem.
    """
    truth = TRUTH | {"problems": [{"domain": "visit", "dps_id": "v1", "problem": "missing"}], "surplus": [{}]}
    wrong = replace(good, truth=truth)
    assert wrong.problems() == ["visit v1: missing", "NOMIS has 1 record without a DPS record"]
    assert wrong.once == 6


def test_incomplete_reconciliation_is_a_problem(good: DemoOutcome) -> None:
    """If the reconciliation is incomplete, the demo has a problem."""
    incomplete = good.result.model_copy(update={"status": "incomplete"})
    assert replace(good, result=incomplete).problems() == ["the reconciliation is incomplete"]


def test_events_that_did_not_arrive_are_a_problem(good: DemoOutcome) -> None:
    """If Application Insights lacks a tracked event, or has one that was not tracked, the demo has a problem."""
    for accepted in ({}, {"visit-create-success": 1}, {"visit-create-success": 2, "other": 1}):
        (problem,) = replace(good, accepted=accepted).problems()
        assert "Application Insights" in problem
