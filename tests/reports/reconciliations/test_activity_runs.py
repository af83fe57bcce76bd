"""Runs of the reconciliations of activities: their events, unread prisons, and services that are too old."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from reports.engine.result import ReconciliationResult
from reports.engine.run_start import ReconciliationParameters
from reports.reconciliations.activities.allocations import Allocations, SuspendedAllocations
from reports.reconciliations.activities.attendances import Attendances
from reports.reconciliations.activities.counting import CountReconciliation
from sandbox import Sandbox
from sync.store.telemetry import read_events
from tests.harness.activity_counts import (
    BOOKINGS,
    DAY,
    DPS,
    NOMIS,
    respond_with_attendances,
    respond_with_bookings,
    respond_with_counts,
)
from tests.harness.reconciliations import OpenApp, ReportsApp

ALLOCATION, SUSPENDED, ATTENDANCE = (
    f"activity-{what}-reconciliation-report" for what in ("allocation", "suspended-allocation", "attendance")
)


def run(app: ReportsApp, kind: type[CountReconciliation], **parameters: Any) -> ReconciliationResult:
    """Runs the reconciliation `kind`, and returns its result. The run must have a result."""
    result = app.reconcile(ReconciliationParameters(**parameters), kind=kind).result
    assert result is not None
    return result


def events(app: ReportsApp, name: str) -> list[Mapping[str, str]]:
    """The properties of the events called `name`, oldest first."""
    app.telemetry.flush()
    return [each["properties"] for each in read_events(app.database, name)]


def test_allocations_track_the_documented_events(upstream: Sandbox, open_app: OpenApp) -> None:
    """In the worked example, a run has an event with the prisons, one event for each difference, and a summary.

    It has no success event and no error event.
    """
    respond_with_counts(upstream, {1204417: 2, 1204420: 1, 1204431: 1}, {1204417: 1, 1204431: 1, 1204455: 1})
    respond_with_bookings(upstream, b1204417="LEI", b1204420="MDI", b1204455="LEI")
    app = open_app()
    result = run(app, Allocations)
    assert (result.status, len(result.mismatches)) == ("complete", 3)
    assert events(app, f"{ALLOCATION}-requested") == [{"prisons": "[LEI]"}]
    reported = [(each["bookingId"], each["type"], each["location"]) for each in events(app, f"{ALLOCATION}-failed")]
    assert reported == [
        ("1204417", "different_count", "LEI"),
        ("1204420", "NOMIS_only", "MDI"),
        ("1204455", "DPS_only", "LEI"),
    ]
    assert {each["prison"] for each in events(app, f"{ALLOCATION}-failed")} == {"LEI"}
    assert events(app, f"{ALLOCATION}-failed")[0]["offenderNo"] == "A4417AA"
    assert events(app, f"{ALLOCATION}-success") == events(app, f"{ALLOCATION}-error") == []
    (summary,) = events(app, ALLOCATION)
    assert (summary["success"], summary["mismatch-count"], summary["bookings-checked"]) == ("true", "3", "4")


@pytest.mark.parametrize(("location", "failed"), [("WWI", ["1301002"]), ("PVI", [])])
def test_a_prison_whose_differing_bookings_are_elsewhere_has_a_success_event(
    upstream: Sandbox, open_app: OpenApp, location: str, failed: list[str]
) -> None:
    """If every booking whose suspended allocations differ is elsewhere now, the prison has a success event.

    If such a booking is still at the prison, the booking has a failure event, and the prison has no success event.
    """
    counts = {1301001: 1}, {1301001: 1, 1301002: 1, 1301003: 1}
    respond_with_counts(upstream, *counts, prison="WWI", what="suspended-allocations")
    respond_with_bookings(upstream, b1301002=location, b1301003="PVI")
    app = open_app()
    assert run(app, SuspendedAllocations).status == "complete"
    assert [each["bookingId"] for each in events(app, f"{SUSPENDED}-failed")] == failed
    assert events(app, f"{SUSPENDED}-success") == ([] if failed else [{"prison": "WWI"}])


def test_a_difference_of_a_booking_that_moved_away_did_not_become_equal(upstream: Sandbox, open_app: OpenApp) -> None:
    """If a booking that differs moves to another prison, the next run records its difference as gone, not as equal."""
    counts = {1301001: 1}, {1301001: 1, 1301002: 1}
    respond_with_counts(upstream, *counts, prison="WWI", what="suspended-allocations")
    respond_with_bookings(upstream, b1301002="WWI")
    app = open_app()
    assert [each.booking_id for each in run(app, SuspendedAllocations).mismatches] == [1301002]
    upstream.clear_faults()
    respond_with_counts(upstream, *counts, prison="WWI", what="suspended-allocations")
    respond_with_bookings(upstream, b1301002="PVI")
    result = run(app, SuspendedAllocations)
    assert (result.mismatches, [(each.booking_id, each.how) for each in result.resolved]) == ((), [(1301002, "gone")])


def test_attendances_track_events_with_the_date(upstream: Sandbox, open_app: OpenApp) -> None:
    """The events of a reconciliation of attendances have the date that was compared.

    If a prisoner has an attendance on one booking in NOMIS and on another in DPS, this is one difference with two
    events.
    """
    respond_with_attendances(upstream, NOMIS, DPS, BOOKINGS)
    app = open_app()
    result = run(app, Attendances, from_date=DAY, to_date=DAY)
    assert [each.booking_id for each in result.mismatches] == [1204440, 1204470]
    failed = events(app, f"{ATTENDANCE}-failed")
    assert {(each["bookingId"], each["type"]) for each in failed} == {
        ("1204430", "NOMIS_only"),
        ("1204440", "DPS_only"),
        ("1204470", "DPS_only"),
    }
    assert {each["date"] for each in (*failed, *events(app, f"{ATTENDANCE}-requested"))} == {DAY.isoformat()}
    assert events(app, f"{ATTENDANCE}-success") == []


def test_a_suspicious_run_of_attendances_alerts_once(upstream: Sandbox, open_app: OpenApp) -> None:
    """A suspicious run has one event with the number of differences, and no events for single bookings or pairs."""
    respond_with_attendances(upstream, NOMIS, DPS, BOOKINGS)
    app = open_app(reconciliation_suspicious_count="0", reconciliation_suspicious_percent="0")
    assert run(app, Attendances, from_date=DAY, to_date=DAY).suspicious is not None
    assert events(app, f"{ATTENDANCE}-failed") == []
    assert [each["mismatch-count"] for each in events(app, f"{ATTENDANCE}-more")] == ["2"]


@pytest.mark.parametrize(
    ("kind", "prefix", "path"),
    [
        (Allocations, ALLOCATION, "/allocations/reconciliation/MDI?suspended=false"),
        (SuspendedAllocations, SUSPENDED, "/allocations/reconciliation/MDI?suspended=true"),
        (Attendances, ATTENDANCE, f"/attendances/reconciliation/MDI?date={DAY.isoformat()}"),
    ],
)
def test_an_unread_prison_makes_the_run_incomplete(
    upstream: Sandbox, open_app: OpenApp, kind: type[CountReconciliation], prefix: str, path: str
) -> None:
    """If a prison cannot be read, the others are compared, and the run is incomplete.

    An error event names the prison. A resumed run reads only this prison, and is complete.
    """
    upstream.reset(prisoners=20)
    upstream.switch_agencies("ACTIVITY", "LEI", "MDI", "PVI")
    upstream.fault("nomis", path=f"^{path.partition('?')[0]}$", status=500)
    app = open_app()
    days = {"from_date": DAY, "to_date": DAY} if kind is Attendances else {}
    result = run(app, kind, **days)
    assert (result.status, [each.unit for each in result.unread]) == ("incomplete", ["MDI"])
    assert [each["prison"] for each in events(app, f"{prefix}-error")] == ["MDI"]
    assert {each["prison"] for each in events(app, f"{prefix}-success")} == {"LEI", "PVI"}
    (summary,) = events(app, prefix)
    assert (summary["success"], summary["incomplete"], summary["prisons-failed"]) == ("false", "true", "1")
    upstream.clear_faults()
    upstream.clear_records()
    assert run(app, kind, resume=result.run_id).status == "complete"
    assert [each["path"] for each in upstream.requests("nomis") if "/reconciliation/" in each["path"]] == [path]


def test_a_chosen_prison_without_activities_is_not_equal(upstream: Sandbox, open_app: OpenApp) -> None:
    """If a chosen prison has no activities, the run is incomplete, and an error event names the prison.

    The other chosen prisons are compared.
    """
    upstream.reset(prisoners=20)
    upstream.switch_agencies("ACTIVITY", "LEI", "MDI")
    app = open_app()
    result = run(app, Allocations, prisons=("MDI", "XYZ"))
    assert (result.status, [each.what for each in result.gaps]) == ("incomplete", ["prison XYZ"])
    assert events(app, f"{ALLOCATION}-error") == [{"prison": "XYZ"}]
    assert {each["prison"] for each in events(app, f"{ALLOCATION}-success")} == {"MDI"}


def test_a_run_that_cannot_list_the_prisons_fails(upstream: Sandbox, open_app: OpenApp) -> None:
    """If the prisons cannot be listed, the run fails and tracks an error event that names no prison."""
    upstream.fault("nomis", path="/agency-switches/", status=500)
    app = open_app()
    assert run(app, Allocations).status == "failed"
    assert events(app, f"{ALLOCATION}-error") == [{}]
    assert events(app, f"{ALLOCATION}-success") == []


@pytest.mark.parametrize("kind", [Allocations, SuspendedAllocations, Attendances])
def test_a_run_against_services_without_the_counts_fails(
    upstream: Sandbox, open_app: OpenApp, kind: type[CountReconciliation]
) -> None:
    """A run against the 2023 services, which lack the routes for the counts, fails and says that they are too old."""
    upstream.reset(prisoners=20, generation="2023")
    result = run(open_app(activity_prisons="LEI,MDI"), kind)
    assert result.status == "failed"
    assert result.failure is not None
    assert "too old" in result.failure


def test_a_prisoner_who_moves_between_list_and_read_is_left_out(upstream: Sandbox, open_app: OpenApp) -> None:
    """A suspended allocation is left out if its prisoner leaves between the reads of the counts and of the booking."""
    upstream.reset(prisoners=150, prisons=24, plant=["suspended-allocations"], every_cause=True)
    planted = upstream.planted()["reconciliations"]["suspended-allocations"]
    (leaves,) = [each["key"][1] for each in planted if each["cause"] == "leaves after listing"]
    result = run(open_app(), SuspendedAllocations)
    reported = {each["key"][1] for each in planted if each["outcome"] == "reported"}
    assert {each.booking_id for each in result.mismatches} == reported
    assert leaves not in reported
