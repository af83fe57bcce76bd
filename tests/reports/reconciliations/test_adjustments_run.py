"""Complete runs of the reconciliation of adjustments: results, events, shards and unread records."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from reports.engine.pending_messages import PendingMessages
from reports.engine.result import ReconciliationResult
from reports.engine.run import ReconciliationOutcome
from reports.engine.run_start import ReconciliationParameters
from reports.presentation.page import render_report
from reports.reconciliations.adjustments.reconciliation import Adjustments
from sandbox import Sandbox
from sync.clock import london_now
from sync.domains.adjustments import nomis as nomis_adjustments
from sync.store.telemetry import read_events
from tests.harness.reconciliations import OpenApp, ReportsApp
from tests.reports.reconciliations.test_adjustments import DPS_ADJUSTMENTS, truth, windowed, worked_example

PREFIX = "sentencing-reports-reconciliation"


def reconcile(app: ReportsApp, **parameters: Any) -> ReconciliationOutcome:
    """Runs the reconciliation of adjustments, without waiting before the recheck."""
    return app.reconcile(ReconciliationParameters(**parameters), kind=Adjustments)


def result_of(outcome: ReconciliationOutcome) -> ReconciliationResult:
    """The result of a run. The run must have a result."""
    assert outcome.result is not None
    return outcome.result


def events(app: ReportsApp, name: str) -> list[Mapping[str, str]]:
    """The properties of the events whose names are `PREFIX`, a hyphen and `name`, oldest first."""
    app.telemetry.flush()
    return [each["properties"] for each in read_events(app.database, f"{PREFIX}-{name}")]


def found(result: ReconciliationResult) -> dict[int, str]:
    """The kinds of the mismatches, by booking."""
    return {int(each.key["booking_id"]): each.kind for each in result.mismatches}


def test_the_worked_example_is_tracked_as_before(upstream: Sandbox, open_app: OpenApp) -> None:
    """In the worked example, the events have the same names and properties as those of the replaced service.

    Only the property `days-mismatch-count` is new.
    """
    booking_id, offender_no = worked_example(upstream)
    app = open_app()
    assert found(result_of(reconcile(app))) == {booking_id: "different-counts"}
    assert events(app, "requested") == [{}]
    assert events(app, "mismatch") == [
        {
            "offenderNo": offender_no,
            "bookingId": str(booking_id),
            "nomisAdjustmentsCount": "3",
            "dpsAdjustmentsCount": "3",
            "differences": "remand 1, taggedBail -1",
        }
    ]
    assert events(app, "report") == [
        {"mismatch-count": "1", "days-mismatch-count": "0", "success": "true", offender_no: "3:3"}
    ]


@pytest.mark.parametrize("shards", [1, 3])
def test_a_run_reports_exactly_the_planted_differences(upstream: Sandbox, open_app: OpenApp, shards: int) -> None:
    """A whole run and a run in shards both report exactly the planted differences.

    If a booking's adjustments were created just before the run, its difference is in flight.
    """
    upstream.reset(prisoners=150, seed=4, plant=["adjustments"], every_cause=True)
    app = open_app(
        reports_sentencing_reconciliation_all_prisoners="true", reports_sentencing_reconciliation_page_size="20"
    )
    outcomes = [reconcile(app, shards=shards, shard=shard) for shard in range(shards)]
    result = result_of(outcomes[-1])
    assert result.status == "complete"
    assert result.total == result.compared > 150 + 15
    assert found(result) == {booking: each["kind"] for booking, each in truth(upstream, "reported").items()}
    assert {int(each.key["booking_id"]) for each in result.in_flight} == truth(upstream, "in flight").keys()
    assert result.settled_on_recheck == len(truth(upstream, "settles"))
    # Most bookings have no adjustment that would name their prison.
    assert None not in {each.prison_id for each in result.prisons}
    assert sum(each.compared for each in result.prisons) == result.compared
    kinds = [each["kind"] for each in truth(upstream, "reported").values()]
    assert len(events(app, "mismatch")) == kinds.count("different-counts")
    [days] = events(app, "days-mismatch")
    assert days["differences"].split()[0].endswith("Days")


def test_a_gap_makes_the_run_incomplete(upstream: Sandbox, open_app: OpenApp) -> None:
    """If a page of bookings cannot be listed, the run is incomplete, and an event has the key of the page.

    A resumed run reads the bookings in the gap, and is complete.
    """
    booking_id, _ = worked_example(upstream)
    everyone = sorted(each["bookingId"] for each in upstream.prisoners())
    key = everyone[4]
    for step in (0, 1, 10, 100, 1_000, 10_000, 100_000):
        query = f"bookingId={key + step}"
        upstream.fault("nomis", path="/bookings/ids/latest-from-id", query=query, status=500)
    app = open_app(reports_sentencing_reconciliation_page_size="5")
    outcome = reconcile(app)
    result = result_of(outcome)
    assert (result.status, len(result.gaps)) == ("incomplete", 1)
    assert events(app, "mismatch-page-error") == [{"booking": str(key)}]
    [report] = events(app, "report")
    assert (report["success"], report["incomplete"], report["pages-failed"]) == ("false", "true", "1")
    upstream.clear_faults()
    result = result_of(reconcile(app, resume=outcome.run_id))
    assert (result.status, result.compared, result.gaps) == ("complete", 20, ())
    assert booking_id in found(result)


def test_an_unread_adjustment_of_a_window_is_read_on_resuming(upstream: Sandbox, open_app: OpenApp) -> None:
    """If an adjustment created since the window's first day cannot be read, the run is incomplete.

    Once it can be read, a resumed run has the same result as an undisturbed run.
    """
    since = (london_now() - timedelta(days=100)).date()
    windowed(upstream, 100, "2023")
    app = open_app(reports_sentencing_reconciliation_page_size="5")
    whole = result_of(reconcile(app, from_date=since))
    created = list(nomis_adjustments.created_adjustments(app.services.nomis, since, None))
    owners = {each: nomis_adjustments.find_adjustment(app.services.nomis, *each) for each in created}
    bookings = Counter(each.booking_id for each in owners.values() if each is not None)
    lacking = next(
        (category, number)
        for (category, number), each in owners.items()
        if each is not None and bookings[each.booking_id] > 1
    )
    path = "sentence-adjustments" if lacking[0] == "SENTENCE" else "key-date-adjustments"
    upstream.fault("nomis", "GET", f"/{path}/{lacking[1]}$", kind="status", status=500)
    outcome = reconcile(app, from_date=since)
    broken = result_of(outcome)
    assert (broken.status, [each.what for each in broken.gaps]) == (
        "incomplete",
        [f"{lacking[0]} adjustment {lacking[1]}"],
    )
    upstream.clear_faults()
    resumed = result_of(reconcile(app, resume=outcome.run_id))
    assert (resumed.status, resumed.gaps) == ("complete", ())
    assert (found(resumed), resumed.compared, resumed.total) == (found(whole), whole.compared, whole.total)


def test_a_run_with_too_many_gaps_fails(upstream: Sandbox, open_app: OpenApp) -> None:
    """If more parts of the list cannot be read than `RECONCILIATION_MAX_PAGE_ERRORS` allows, the run fails."""
    key = sorted(each["bookingId"] for each in upstream.prisoners())[4]
    for step in (0, 1):
        query = f"bookingId={key + step}"
        upstream.fault("nomis", path="/bookings/ids/latest-from-id", query=query, status=500)
    app = open_app(reports_sentencing_reconciliation_page_size="5", reconciliation_max_page_errors="0")
    result = result_of(reconcile(app))
    assert result.status == "failed"
    assert "more than 0 parts could not be listed" in (result.failure or "")


def test_an_unread_booking_makes_the_run_incomplete(upstream: Sandbox, open_app: OpenApp) -> None:
    """If a booking cannot be read, the run is incomplete, and both its result and an event name the booking.

    A resumed run reads the booking, and is complete.
    """
    worked_example(upstream)
    prisoner = upstream.prisoners()[7]
    upstream.fault("adjustments", query=f"person={prisoner['offenderNo']}", status=500)
    app = open_app()
    outcome = reconcile(app)
    result = result_of(outcome)
    assert (result.status, result.compared) == ("incomplete", 19)
    assert [(each.booking_id, each.side) for each in result.unread] == [(prisoner["bookingId"], "DPS")]
    error = {"offenderNo": prisoner["offenderNo"], "bookingId": str(prisoner["bookingId"])}
    assert events(app, "mismatch-error") == [error]
    upstream.clear_faults()
    result = result_of(reconcile(app, resume=outcome.run_id))
    assert (result.status, result.compared) == ("complete", 20)


def test_a_difference_with_a_message_given_up_is_reported(upstream: Sandbox, open_app: OpenApp) -> None:
    """If the program has given up on the message about a difference, the difference is reported.

    Its diagnosis says why the program gave up. If the message may still be handled, the difference is in flight.
    """
    booking_id, _ = worked_example(upstream)
    entity = f"sentencing-adjustment:{DPS_ADJUSTMENTS}02"
    why = "it came back 11 times, and housekeeping no longer sends it back"
    app = open_app()
    waiting = PendingMessages(on_dlq=frozenset({entity}))
    given_up = replace(waiting, given_up={entity: why})
    first, second = (
        result_of(app.reconcile(kind=Adjustments, find_pending=finds))
        for finds in (lambda _domain: waiting, lambda _domain: given_up)
    )
    assert [each.booking_id for each in first.in_flight] == [booking_id]
    [mismatch] = second.mismatches
    assert mismatch.diagnosis is not None
    assert why in mismatch.diagnosis.explanation


def test_services_of_2023_are_too_old_without_a_window(upstream: Sandbox, open_app: OpenApp) -> None:
    """Against the 2023 services, a run without a first day fails, and says that the services are too old."""
    upstream.reset(prisoners=20, generation="2023")
    app = open_app()
    result = result_of(reconcile(app))
    assert result.status == "failed"
    assert "too old" in (result.failure or "")
    assert events(app, "report") == [{"success": "false"}]


def test_a_report_of_many_differences_is_small(upstream: Sandbox, open_app: OpenApp) -> None:
    """A report of 400 differences is smaller than 1 MB, both as a page and as JSON.

    For each difference, it leaves out the types of which neither side has an adjustment.
    """
    upstream.reset(prisoners=150, plant=["adjustments"], every_cause=True)
    result = result_of(reconcile(open_app()))
    assert len(result.mismatches) == len(truth(upstream, "reported"))
    page = render_report(result)
    assert page.count(">Special remission<") < len(result.mismatches)
    many = tuple(
        mismatch.model_copy(update={"key": {"booking_id": number}, "booking_id": number})
        for number, mismatch in zip(range(1, 401), itertools.cycle(result.mismatches), strict=False)
    )
    result = result.model_copy(update={"mismatches": many})
    assert len(render_report(result).encode()) < 1_000_000
    assert len(result.to_json().encode()) < 1_000_000
