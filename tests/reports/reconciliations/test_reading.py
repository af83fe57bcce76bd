"""The first reading of everyone's levels: correct, with few calls, and never too many at once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from structlog.testing import capture_logs

from reports.engine.frame import records
from reports.engine.reads import SharedReads
from reports.engine.units import UnreadRecord
from sandbox import Sandbox
from sync.settings import times
from tests.harness.reconciliations import OpenApp, ReportsApp, incentives

Levels = dict[int, tuple[str | None, str | None]]


def read(app: ReportsApp) -> tuple[Levels, dict[int, UnreadRecord]]:
    """Everyone's levels as the units return them, and who could not be read."""
    reconciliation, reads = incentives(app), SharedReads(app.services, outage_seconds=2.0)
    try:
        units = reconciliation.population(reads).units
        with ThreadPoolExecutor(8) as pool:
            readings = list(pool.map(lambda unit: reconciliation.read(unit, reads), units))
    finally:
        reads.stop()
    rows = [row for reading in readings for row in records(reading.rows)]
    unread = {each.key["booking_id"]: each for reading in readings for each in reading.unread}
    return {row["booking_id"]: (row["nomis_level"], row["dps_level"]) for row in rows}, unread


def differing(levels: Levels) -> Levels:
    """The prisoners whose levels differ."""
    return {booking_id: pair for booking_id, pair in levels.items() if pair[0] != pair[1]}


def planted(upstream: Sandbox) -> Levels:
    """The differences that were planted."""
    return {each["bookingId"]: (each["nomis"], each["dps"]) for each in upstream.planted()["mismatches"]}


@pytest.mark.parametrize("bulk", ["on", "404", "405"])
def test_sees_the_same_with_and_without_the_bulk_call(upstream: Sandbox, open_app: OpenApp, bulk: str) -> None:
    """Without the bulk call every level is read singly, and the differences are those planted."""
    upstream.reset(prisoners=300, every_cause=True, bulk=bulk)
    levels, _ = read(open_app())
    assert len(levels) == 300
    found = differing(levels)
    assert planted(upstream).items() <= found.items()
    # The bulk call uses a flag that single calls do not. The recheck drops differences that only it shows.
    bulk_only = set(upstream.planted()["bulkDiffers"]) if bulk == "on" else set()
    assert found.keys() - planted(upstream).keys() <= bulk_only
    assert found.keys().isdisjoint(upstream.planted()["unmapped"])


def test_needs_hardly_more_than_one_call_a_prisoner(upstream: Sandbox, open_app: OpenApp) -> None:
    """Each prisoner costs one call to NOMIS, each page one bulk call, and single DPS calls only fill its gaps."""
    upstream.reset(prisoners=1000, mismatch_rate=0.0)
    opened = open_app(reports_incentives_reconciliation_page_size="500")
    opened.reconcile()
    assert len(upstream.requests("nomis")) + len(upstream.requests("incentives")) <= 1.02 * 1000


def test_never_has_more_calls_in_flight_than_allowed(upstream: Sandbox, open_app: OpenApp) -> None:
    """NOMIS sees no more simultaneous calls than the setting allows, even without the bulk call."""
    upstream.reset(prisoners=300, bulk="404", latency_ms=10)
    read(open_app(reconciliation_concurrency="7"))
    load = upstream.load()
    assert load["nomis"] <= 7
    assert load["incentives"] <= 7
    assert load["nomis"] > 3


def test_gets_through_bursts_of_refusals(upstream: Sandbox, open_app: OpenApp) -> None:
    """Temporary refusals make the reading slower, but nobody is left out."""
    upstream.reset(prisoners=200)
    upstream.fault("nomis", "GET", "/incentives/booking-id/{b}/current", kind="status", status=503, times=40)
    upstream.fault("nomis", "GET", "/incentives/booking-id/{b}/current", kind="rate_limited", retry_after=0.3, times=3)
    with capture_logs() as logs:
        levels, _ = read(open_app())
    assert len(levels) == 200
    assert "concurrency_reduced" in {each["event"] for each in logs if each.get("service") == "nomis"}
    assert not differing(levels).keys() - planted(upstream).keys()


def test_names_who_cannot_be_read_and_reads_the_others(upstream: Sandbox, open_app: OpenApp) -> None:
    """An error of one prisoner affects only that prisoner. A lost connection is distinguished from a response."""
    upstream.reset(prisoners=120)
    one, other = (each["bookingId"] for each in upstream.prisoners()[:2])
    upstream.fault("nomis", "GET", f"/incentives/booking-id/{one}/current", kind="status", status=400)
    upstream.fault("nomis", "GET", f"/incentives/booking-id/{other}/current", kind="reset")
    levels, unreadable = read(open_app())
    assert unreadable.keys() == {one, other}
    assert f"nomis: GET /incentives/booking-id/{one}/current: status 400" in unreadable[one].reason
    assert (unreadable[one].network, unreadable[other].network) == (False, True)
    assert len(levels) == 118


def test_falls_back_to_single_calls_when_the_bulk_call_fails(upstream: Sandbox, open_app: OpenApp) -> None:
    """A bulk call that keeps failing costs time, not prisoners."""
    upstream.reset(prisoners=100)
    upstream.fault("incentives", "POST", "/iep/reviews/bookings", kind="status", status=400)
    levels, _ = read(open_app())
    assert len(levels) == 100


def test_reads_singly_whom_the_bulk_response_leaves_out(upstream: Sandbox, open_app: OpenApp) -> None:
    """An empty bulk response does not hide a level that DPS has and NOMIS lacks."""
    upstream.reset(prisoners=100, mismatches={"2": 3})
    upstream.fault("incentives", "POST", "/iep/reviews/bookings", kind="status", status=200, body=[])
    levels, _ = read(open_app())
    assert differing(levels) == planted(upstream)


@pytest.mark.parametrize("bulk", ["on", "404"])
def test_reads_singly_when_the_names_of_the_levels_are_unavailable(
    upstream: Sandbox, open_app: OpenApp, bulk: str
) -> None:
    """Without the names of the levels the bulk response means nothing, so every level is read singly."""
    upstream.reset(prisoners=60, mismatches={"7": 2}, bulk=bulk)
    upstream.fault("incentives", "GET", "/incentive/levels", kind="status", status=404)
    levels, _ = read(open_app())
    assert len(levels) == 60
    assert planted(upstream).items() <= differing(levels).items()
    assert not any(each["path"] == "/iep/reviews/bookings" for each in upstream.requests("incentives"))


def test_stops_when_the_run_is_stopped(upstream: Sandbox, open_app: OpenApp) -> None:
    """A stopped run leaves no thread behind that continues to call."""
    upstream.reset(prisoners=400, latency_ms=20)

    def stop(stage: str, _done: int, _total: int) -> None:
        if stage == "reading":
            raise KeyboardInterrupt

    few = open_app(reconciliation_concurrency="4", reports_incentives_reconciliation_page_size="20")
    with pytest.raises(KeyboardInterrupt):
        few.reconcile(progress=stop)
    seen = len(upstream.requests("nomis"))
    assert seen < 300
    assert len(upstream.requests("nomis")) == seen


def test_gets_through_when_nomis_has_too_few_connections(
    upstream: Sandbox, open_app: OpenApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If NOMIS responds 500 because its connections are all in use, reading slows down, and nobody is left out."""
    # Wait as long as in production: NOMIS needs time for the calls in its pool, and more on a slow machine.
    monkeypatch.setattr(times, "READ_RETRY_SECONDS", (0.1, 0.4, 1.6))
    upstream.reset(prisoners=120, nomis_pool=12, latency_ms=20)
    with capture_logs() as logs:
        levels, unread = read(open_app())
    assert any(each["status"] == 500 for each in upstream.requests("nomis"))
    assert "concurrency_reduced" in {each["event"] for each in logs if each.get("service") == "nomis"}
    assert len(levels) == 120
    assert unread == {}
    assert not differing(levels).keys() - planted(upstream).keys()
