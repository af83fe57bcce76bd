"""A run compares its mismatches with those of earlier runs.

If the run cannot read the record of an earlier mismatch, the mismatch keeps its state.
"""

from __future__ import annotations

import pytest

from reports.engine.run_start import ReconciliationParameters
from sandbox import Sandbox
from tests.harness.reconciliations import (
    CURRENT,
    OpenApp,
    result_of,
)


def test_mismatches_are_new_persisting_or_resolved(upstream: Sandbox, open_app: OpenApp) -> None:
    """In comparison with the earlier runs for everyone, each mismatch is new, persisting or resolved.

    A mismatch that persists dates from the run that first found it. A run for one prisoner does not affect later
    comparisons.
    """
    upstream.reset(prisoners=100, mismatches={"4": 1, "5": 1, "7": 1})
    app = open_app()
    first = result_of(app.reconcile(run_id="first"))
    assert (first.new, first.persisting, first.compared_with) == (3, 0, None)
    twice = next(each for each in first.mismatches if each.diagnosis and each.diagnosis.number == 5)
    assert twice.nomis is not None
    assert upstream.delete_nomis_incentive(twice.booking_id, twice.nomis.record)
    gone = next(each for each in first.mismatches if each.diagnosis and each.diagnosis.number == 7)
    upstream.release(gone.offender_no)
    alone = result_of(app.reconcile(ReconciliationParameters(offender_nos=(twice.offender_no,))))
    assert alone.mismatches == ()
    second = result_of(app.reconcile(run_id="second"))
    assert (second.new, second.persisting) == (0, 1)
    assert second.mismatches[0].since == first.started_at
    assert {each.booking_id: each.how for each in second.resolved} == {
        twice.booking_id: "equal",
        gone.booking_id: "released",
    }
    assert second.compared_with == "first"
    assert [point.run_id for point in second.trend] == ["first", "second"]
    assert [(point.mismatches, point.new, point.resolved) for point in second.trend] == [(3, 3, 0), (1, 0, 2)]


def test_an_unread_mismatch_is_not_resolved(upstream: Sandbox, open_app: OpenApp) -> None:
    """If the record of an earlier mismatch cannot be read, the run is incomplete, and the mismatch is not resolved.

    If a later run finds the mismatch again, the mismatch still dates from the run that first found it.
    """
    upstream.reset(prisoners=100, mismatches={"7": 3})
    app = open_app()
    first = result_of(app.reconcile(run_id="first"))
    unread = first.mismatches[0]
    path = CURRENT.replace("{b}", str(unread.booking_id))
    upstream.fault("nomis", "GET", path, kind="status", status=400)
    outcome = app.reconcile(run_id="second")
    second = result_of(outcome)
    assert outcome.status == "incomplete"
    assert [each.booking_id for each in second.unread] == [unread.booking_id]
    assert second.resolved == ()
    assert second.compared == 99
    assert app.events("report")[-1]["success"] == "false"
    assert app.events("mismatch-error") == [{"offenderNo": unread.offender_no, "bookingId": str(unread.booking_id)}]
    upstream.clear_faults()
    third = result_of(app.reconcile(run_id="third"))
    assert third.compared_with == "second"
    # A mismatch that was not read in between keeps its earlier state.
    assert {each.standing for each in third.mismatches} == {"persisting"}
    assert {each.since for each in third.mismatches} == {each.since for each in first.mismatches}


def test_an_unread_page_is_named_and_read_on_resuming(upstream: Sandbox, open_app: OpenApp) -> None:
    """If a page of the list of prisoners cannot be read, the run names the page and is incomplete.

    When the run is resumed, it reads only the prisoners on that page, and rechecks all prisoners whose levels differ.
    """
    upstream.reset(prisoners=200, mismatches={"7": 2})
    app = open_app()
    upstream.fault("nomis", "GET", "/prisoners/ids", kind="status", status=400, query="page=1")
    outcome = app.reconcile(run_id="paged")
    result = result_of(outcome)
    assert outcome.status == "incomplete"
    assert [each.page for each in result.unread_pages] == [1]
    assert app.events("mismatch-page-error") == [{"page": "1"}]
    assert result.compared == 150
    upstream.clear_faults()
    upstream.clear_records()
    resumed = app.reconcile(ReconciliationParameters(resume="paged"))
    assert (resumed.status, resumed.run_id) == ("complete", "paged")
    assert result_of(resumed).compared == 200
    assert len(result_of(resumed).mismatches) == 2
    again = [each for each in upstream.requests("nomis") if each["path"].endswith("/current")]
    assert len(again) <= 50 + 2


def test_a_run_that_gives_up_names_the_service_that_is_down(upstream: Sandbox, open_app: OpenApp) -> None:
    """If too many reads fail because a service stays down, the reason for the failure names the service."""
    upstream.reset(prisoners=100)
    upstream.fault("nomis", "GET", CURRENT, kind="status", status=503)
    failed = result_of(open_app(with_breakers=True).reconcile(outage_seconds=0.2))
    why = "nomis counts as down, so it was not called"
    assert (failed.status, failed.failure) == ("failed", f"more than 5% of 100 prisoners could not be read: {why}")


def test_a_run_with_too_many_failures_fails(upstream: Sandbox, open_app: OpenApp) -> None:
    """If too many reads fail, the run fails and says why, and later runs are not compared with it."""
    upstream.reset(prisoners=300, mismatches={"7": 2})
    upstream.fault("nomis", "GET", CURRENT, kind="status", status=400, probability=0.5, seed=3)
    app = open_app()
    outcome = app.reconcile()
    assert outcome.status == "failed"
    assert "more than 5% of 300 prisoners could not be read" in str(result_of(outcome).failure)
    assert app.events("report")[-1]["success"] == "false"
    upstream.clear_faults()
    assert result_of(app.reconcile()).compared_with is None


def test_a_run_that_cannot_list_anybody_fails(upstream: Sandbox, open_app: OpenApp) -> None:
    """If NOMIS cannot list any prisoners, the run fails instead of succeeding with an empty result."""
    upstream.fault("nomis", "GET", "/prisoners/ids", kind="status", status=400)
    app = open_app()
    outcome = app.reconcile()
    assert outcome.status == "failed"
    assert "number of active prisoners" in str(result_of(outcome).failure)
    assert [each["success"] for each in app.events("report")] == ["false"]


def test_a_missing_response_has_its_own_event(upstream: Sandbox, open_app: OpenApp) -> None:
    """A read that gets no response is tracked as a network error, not as a bad response."""
    upstream.reset(prisoners=60, mismatch_rate=0)
    booking = upstream.prisoners()[5]["bookingId"]
    upstream.fault("nomis", "GET", CURRENT.replace("{b}", str(booking)), kind="reset")
    app = open_app()
    assert app.reconcile().status == "incomplete"
    assert [each["bookingId"] for each in app.events("network-error")] == [str(booking)]
    assert app.events("mismatch-error") == []


def test_an_unexpected_error_is_tracked_and_raised(upstream: Sandbox, open_app: OpenApp) -> None:
    """After an unexpected error, the summary event says only that the run did not succeed, and the error is raised."""
    upstream.reset(prisoners=60)
    app = open_app()

    def fail(stage: str, _done: int, _total: int) -> None:
        if stage == "reading":
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        app.reconcile(progress=fail)
    assert app.events("report") == [{"success": "false"}]
