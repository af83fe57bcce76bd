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
    """A run of the reconciliation."""
    result = app.reconcile(ReconciliationParameters(**parameters), kind=kind).result
    assert result is not None
    return result


def events(app: ReportsApp, name: str) -> list[Mapping[str, str]]:
    """The properties of the events of this name, oldest first."""
    app.telemetry.flush()
    return [each["properties"] for each in read_events(app.database, name)]


def test_allocations_track_the_documented_events(upstream: Sandbox, open_app: OpenApp) -> None:
    """In the worked example the event with the prisons comes first, then a failure for each booking, and no success."""
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
    """If every booking that differs is now at another prison, the prison has a success event and no failure."""
    counts = {1301001: 1}, {1301001: 1, 1301002: 1, 1301003: 1}
    respond_with_counts(upstream, *counts, prison="WWI", what="suspended-allocations")
    respond_with_bookings(upstream, b1301002=location, b1301003="PVI")
    app = open_app()
    assert run(app, SuspendedAllocations).status == "complete"
    assert [each["bookingId"] for each in events(app, f"{SUSPENDED}-failed")] == failed
    assert events(app, f"{SUSPENDED}-success") == ([] if failed else [{"prison": "WWI"}])


def test_a_difference_of_a_booking_that_moved_away_did_not_become_equal(upstream: Sandbox, open_app: OpenApp) -> None:
    """If a booking moves away, its difference is left out. The report does not say that both sides now agree."""
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
    """Each event of attendances has the date. Two bookings of one prisoner are one difference with two events."""
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
    """A suspicious run has no event for either booking of a pair."""
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
    """If a prison is unread, the other prisons are compared. A resumed run reads only the unread prison."""
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
    """A chosen prison without activities does not count as equal. The other chosen prisons are compared."""
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
    """A run against services without the counts fails with an error that says that the services are too old."""
    upstream.reset(prisoners=20, generation="2023")
    result = run(open_app(activity_prisons="LEI,MDI"), kind)
    assert result.status == "failed"
    assert result.failure is not None
    assert "too old" in result.failure


def test_a_prisoner_who_moves_between_list_and_read_is_left_out(upstream: Sandbox, open_app: OpenApp) -> None:
    """If a prisoner leaves before the booking is read, the difference of the suspended allocation is left out."""
    upstream.reset(prisoners=150, prisons=24, plant=["suspended-allocations"], every_cause=True)
    planted = upstream.planted()["reconciliations"]["suspended-allocations"]
    (leaves,) = [each["key"][1] for each in planted if each["cause"] == "leaves after listing"]
    result = run(open_app(), SuspendedAllocations)
    reported = {each["key"][1] for each in planted if each["outcome"] == "reported"}
    assert {each.booking_id for each in result.mismatches} == reported
    assert leaves not in reported
