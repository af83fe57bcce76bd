"""Compared with earlier runs: new, persisting and resolved, and no claim about those who could not be read."""

from __future__ import annotations

import pytest

from reports.engine.run_registry import ReconciliationParameters
from sandbox import Sandbox
from tests.harness.reconciliations import (
    CURRENT,
    OpenApp,
    result_of,
)


def test_knows_new_ones_from_old_ones_and_from_resolved_ones(upstream: Sandbox, open_app: OpenApp) -> None:
    """Against the last complete run, mismatches are new, persisting since their first run, or resolved."""
    upstream.reset(prisoners=100, mismatches={"4": 1, "5": 1, "7": 1})
    opened = open_app()
    first = result_of(opened.reconcile(run_id="first"))
    assert (first.new, first.persisting, first.compared_with) == (3, 0, None)
    twice = next(each for each in first.mismatches if each.diagnosis and each.diagnosis.number == 5)
    assert twice.nomis is not None
    assert upstream.delete_nomis_incentive(twice.booking_id, twice.nomis.record)
    gone = next(each for each in first.mismatches if each.diagnosis and each.diagnosis.number == 7)
    upstream.release(gone.offender_no)
    alone = result_of(opened.reconcile(ReconciliationParameters(offender_nos=(twice.offender_no,))))
    assert alone.mismatches == ()
    second = result_of(opened.reconcile(run_id="second"))
    assert (second.new, second.persisting) == (0, 1)
    assert second.mismatches[0].since == first.started_at
    assert {each.booking_id: each.how for each in second.resolved} == {
        twice.booking_id: "equal",
        gone.booking_id: "released",
    }
    assert second.compared_with == "first"
    assert [point.run_id for point in second.trend] == ["first", "second"]
    assert [(point.mismatches, point.new, point.resolved) for point in second.trend] == [(3, 3, 0), (1, 0, 2)]


def test_never_calls_unread_ones_resolved_nor_claims_success(upstream: Sandbox, open_app: OpenApp) -> None:
    """A mismatch that could not be read again keeps its state, and the run is incomplete."""
    upstream.reset(prisoners=100, mismatches={"7": 3})
    opened = open_app()
    first = result_of(opened.reconcile(run_id="first"))
    unread = first.mismatches[0]
    path = CURRENT.replace("{b}", str(unread.booking_id))
    upstream.fault("nomis", "GET", path, kind="status", status=400)
    outcome = opened.reconcile(run_id="second")
    second = result_of(outcome)
    assert outcome.status == "incomplete"
    assert [each.booking_id for each in second.unread] == [unread.booking_id]
    assert second.resolved == ()
    assert second.compared == 99
    assert opened.events("report")[-1]["success"] == "false"
    assert opened.events("mismatch-error") == [{"offenderNo": unread.offender_no, "bookingId": str(unread.booking_id)}]
    upstream.clear_faults()
    third = result_of(opened.reconcile(run_id="third"))
    assert third.compared_with == "second"
    # Anyone who was not read in between keeps the earlier state.
    assert {each.standing for each in third.mismatches} == {"persisting"}
    assert {each.since for each in third.mismatches} == {each.since for each in first.mismatches}


def test_names_a_page_it_could_not_read_and_resumes_with_it(upstream: Sandbox, open_app: OpenApp) -> None:
    """A page that cannot be read is counted and named, and the resumed run reads only its prisoners."""
    upstream.reset(prisoners=200, mismatches={"7": 2})
    opened = open_app()
    upstream.fault("nomis", "GET", "/prisoners/ids", kind="status", status=400, query="page=1")
    outcome = opened.reconcile(run_id="paged")
    result = result_of(outcome)
    assert outcome.status == "incomplete"
    assert [each.page for each in result.unread_pages] == [1]
    assert opened.events("mismatch-page-error") == [{"page": "1"}]
    assert result.compared == 150
    upstream.clear_faults()
    upstream.clear_records()
    resumed = opened.reconcile(ReconciliationParameters(resume="paged"))
    assert (resumed.status, resumed.run_id) == ("complete", "paged")
    assert result_of(resumed).compared == 200
    assert len(result_of(resumed).mismatches) == 2
    again = [each for each in upstream.requests("nomis") if each["path"].endswith("/current")]
    assert len(again) <= 50 + 2


def test_gives_up_with_what_it_has_when_too_much_fails(upstream: Sandbox, open_app: OpenApp) -> None:
    """If too much fails, the run fails and says why, and later runs are not compared with it."""
    upstream.reset(prisoners=300, mismatches={"7": 2})
    upstream.fault("nomis", "GET", CURRENT, kind="status", status=400, probability=0.5, seed=3)
    opened = open_app()
    outcome = opened.reconcile()
    assert outcome.status == "failed"
    assert "more than 5% of 300 prisoners could not be read" in str(result_of(outcome).failure)
    assert opened.events("report")[-1]["success"] == "false"
    upstream.clear_faults()
    assert result_of(opened.reconcile()).compared_with is None


def test_fails_visibly_when_nothing_can_be_listed(upstream: Sandbox, open_app: OpenApp) -> None:
    """If nothing can be listed, the run fails instead of succeeding with nothing."""
    upstream.fault("nomis", "GET", "/prisoners/ids", kind="status", status=400)
    opened = open_app()
    outcome = opened.reconcile()
    assert outcome.status == "failed"
    assert "number of active prisoners" in str(result_of(outcome).failure)
    assert [each["success"] for each in opened.events("report")] == ["false"]


def test_tells_network_errors_by_their_own_event(upstream: Sandbox, open_app: OpenApp) -> None:
    """A missing response has a different event from a bad response."""
    upstream.reset(prisoners=60, mismatch_rate=0)
    booking = upstream.prisoners()[5]["bookingId"]
    upstream.fault("nomis", "GET", CURRENT.replace("{b}", str(booking)), kind="reset")
    opened = open_app()
    assert opened.reconcile().status == "incomplete"
    assert [each["bookingId"] for each in opened.events("network-error")] == [str(booking)]
    assert opened.events("mismatch-error") == []


def test_tracks_the_unforeseen_and_lets_it_be_seen(upstream: Sandbox, open_app: OpenApp) -> None:
    """An unexpected error is raised, and the summary event says only that the run did not succeed."""
    upstream.reset(prisoners=60)
    opened = open_app()

    def fail(stage: str, _done: int, _total: int) -> None:
        if stage == "reading":
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        opened.reconcile(progress=fail)
    assert opened.events("report") == [{"success": "false"}]
