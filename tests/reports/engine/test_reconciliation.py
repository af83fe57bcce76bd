"""Whole runs of the incentives reconciliation against the sandbox."""

from __future__ import annotations

import threading

import pytest

from reports.engine.run_start import ReconciliationParameters
from reports.reconciliations.results import parse_result
from sandbox import Sandbox
from sync.store import outbox
from tests.harness.reconciliations import (
    OpenApp,
    causes,
    listed_bookings,
    pending_on_dlq,
    planted_causes,
    result_of,
)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_run_finds_exactly_the_planted_differences(upstream: Sandbox, open_app: OpenApp, seed: int) -> None:
    """A run finds each planted difference, with its row in the decision table, and nothing else."""
    rows = {str(row): 3 for row in range(1, 11)}
    upstream.reset(prisoners=400, seed=seed, mismatches=rows, every_cause=True)
    app = open_app()
    outcome = app.reconcile(find_pending=pending_on_dlq(upstream, app))
    result = result_of(outcome)
    assert outcome.status == "complete"
    # A difference with a pending message is in flight: the levels differ only until the message is handled.
    reported = causes(result.mismatches) | {each.booking_id: 1 for each in result.in_flight}
    assert reported == {each["bookingId"]: each["cause"] for each in planted_causes(upstream)}
    assert {"dlq retry incentive" in each.why for each in result.in_flight} == {True}
    levels = {each.booking_id: (each.nomis_level, each.dps_level) for each in result.mismatches}
    levels |= {each.booking_id: (each.nomis_level, each.dps_level) for each in result.in_flight}
    assert levels == {each["bookingId"]: (each["nomis"], each["dps"]) for each in planted_causes(upstream)}
    assert result.compared == 400
    assert sum(cell.count for cell in result.matrix) == 400
    assert sum(prison.compared for prison in result.prisons) == 400
    assert parse_result(result.to_json()) == result


def test_a_run_tracks_the_events_of_the_replaced_service(upstream: Sandbox, open_app: OpenApp) -> None:
    """A run tracks an event at the start, one for each mismatch, and a summary with a property for each mismatch."""
    upstream.reset(prisoners=100, mismatches={"2": 1, "3": 1, "4": 1})
    app = open_app()
    app.reconcile()
    assert app.events("requested") == [{"active-prisoners": "100"}]
    tracked = {each["offenderNo"]: each for each in app.events("mismatch")}
    expected = {
        each["offenderNo"]: {
            "offenderNo": each["offenderNo"],
            "bookingId": str(each["bookingId"]),
            "nomisIncentiveLevel": each["nomis"] or "null",
            "dpsIncentiveLevel": each["dps"] or "null",
        }
        for each in planted_causes(upstream)
    }
    assert tracked == expected
    summary = {
        "mismatch-count": "3",
        "success": "true",
        "prisoners-checked": "100",
        "prisoners-failed": "0",
        "pages-failed": "0",
    }
    levels = {number: f"{each['nomisIncentiveLevel']}:{each['dpsIncentiveLevel']}" for number, each in tracked.items()}
    assert app.events("report") == [summary | levels]


def test_exclusions_of_inactive_bookings_are_named(upstream: Sandbox, open_app: OpenApp) -> None:
    """Exclusions of bookings that are not active are named, unless the list of active bookings is incomplete."""
    upstream.reset(prisoners=120, mismatch_rate=0)
    app = open_app(reconciliation_exclusions="99999999,merged long ago")
    assert result_of(app.reconcile()).unneeded_exclusions == ("booking 99999999, which is not active",)
    upstream.fault("nomis", "GET", "/prisoners/ids", kind="status", status=400, query="page=1")
    assert result_of(app.reconcile()).unneeded_exclusions == ()


@pytest.mark.parametrize("seed", [1, 2])
def test_prisoners_who_stay_are_compared_once_while_others_move(
    upstream: Sandbox, open_app: OpenApp, seed: int
) -> None:
    """Prisoners who stay are compared exactly once. Prisoners who are released during the run may be left out."""
    upstream.reset(prisoners=300, seed=seed, moving=2, mismatches={"7": 4})
    before = {each["bookingId"] for each in upstream.prisoners()}
    app = open_app(reports_incentives_reconciliation_page_size="20")
    result = result_of(app.reconcile(run_id="moving"))
    after = {each["bookingId"] for each in upstream.prisoners()}
    assert before & after <= listed_bookings(app, "moving")
    assert result.compared + len(result.released) == result.listed
    mismatching = {each["bookingId"] for each in planted_causes(upstream)}
    assert mismatching & after <= {each.booking_id for each in result.mismatches} <= mismatching


def test_a_prisoner_released_during_the_run_is_not_a_mismatch(upstream: Sandbox, open_app: OpenApp) -> None:
    """A difference is left out if its prisoner is released before the recheck."""
    upstream.reset(prisoners=100, mismatches={"7": 2})
    leaver = planted_causes(upstream)[0]
    app = open_app(reconciliation_recheck_seconds="1")
    result = result_of(app.reconcile(sleep=lambda _seconds: upstream.release(leaver["offenderNo"])))
    assert result.released == (leaver["offenderNo"],)
    assert len(result.mismatches) == 1
    assert result.compared == 99


def test_a_report_is_enqueued_once_for_each_channel(upstream: Sandbox, open_app: OpenApp) -> None:
    """A report is enqueued once for each channel that is set up, or for none if `notify` is off."""
    app = open_app(smtp_url="smtp://localhost:1", reports_email_to="a@example.org")
    app.reconcile(ReconciliationParameters(notify=False))
    with app.database.read() as connection:
        assert outbox.due(connection, 10) == []
    app.reconcile()
    with app.database.read() as connection:
        assert [each.channel for each in outbox.due(connection, 10)] == ["archive", "slack", "email"]


def test_a_mismatch_without_evidence_is_reported(upstream: Sandbox, open_app: OpenApp) -> None:
    """A difference whose evidence cannot be read is reported without a cause."""
    upstream.reset(prisoners=100, mismatches={"7": 1})
    upstream.fault("mapping", "GET", kind="status", status=400)
    mismatch = result_of(open_app().reconcile()).mismatches[0]
    assert mismatch.diagnosis is None
    assert "mapping: GET" in str(mismatch.evidence_missing)
    assert mismatch.nomis_level != mismatch.dps_level


def test_progress_is_reported_from_one_thread(upstream: Sandbox, open_app: OpenApp) -> None:
    """Only the run's own thread calls the progress callback, since the callback may raise an error to stop the run."""
    upstream.reset(prisoners=120, mismatches={"7": 2})
    threads = set()
    stages = []

    def note(stage: str, done: int, total: int) -> None:
        threads.add(threading.get_ident())
        stages.append((stage, done, total))

    open_app().reconcile(progress=note)
    assert threads == {threading.get_ident()}
    assert [each for each in stages if each[0] == "reading"][-1] == ("reading", 120, 120)
    assert {stage for stage, _, _ in stages} == {"listing", "reading", "rechecking", "finding causes"}


@pytest.mark.parametrize(("seconds", "steps"), [("0.4", 1), ("2.5", 3), ("3", 3)])
def test_every_stage_reports_its_end(upstream: Sandbox, open_app: OpenApp, seconds: str, steps: int) -> None:
    """Every stage reports that it has ended, including the wait before the recheck."""
    upstream.reset(prisoners=60, mismatches={"7": 2})
    app = open_app(reconciliation_recheck_seconds=seconds)
    waits: list[float] = []
    app.reconcile(sleep=waits.append)
    last = {stage: (done, total) for stage, done, total in app.stages}
    waiting = f"waiting {seconds} s before the recheck"
    assert set(last) == {"listing", "reading", waiting, "rechecking", "finding causes"}
    assert {stage: done for stage, (done, _) in last.items()} == {stage: total for stage, (_, total) in last.items()}
    assert last[waiting] == (steps, steps)
    assert sum(waits) == pytest.approx(float(seconds))
