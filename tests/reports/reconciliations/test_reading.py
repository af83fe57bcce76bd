"""The first reading of all levels is correct, needs few calls, and never makes too many of them at once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from structlog.testing import capture_logs

from reports.engine.frame import records
from reports.engine.shared_reads import SharedReads
from reports.engine.units import UnreadRecord
from sandbox import Sandbox
from sync.settings import times
from tests.harness.reconciliations import OpenApp, ReportsApp, incentives

Levels = dict[int, tuple[str | None, str | None]]


def read(app: ReportsApp) -> tuple[Levels, dict[int, UnreadRecord]]:
    """Reads all levels. Returns both levels of each booking that could be read, and the unread records, by booking."""
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
    """The bookings whose levels differ, with both levels."""
    return {booking_id: pair for booking_id, pair in levels.items() if pair[0] != pair[1]}


def planted(upstream: Sandbox) -> Levels:
    """Both levels of each planted difference, by booking."""
    return {each["bookingId"]: (each["nomis"], each["dps"]) for each in upstream.planted()["mismatches"]}


@pytest.mark.parametrize("bulk", ["on", "404", "405"])
def test_the_bulk_call_and_single_calls_find_the_same_differences(
    upstream: Sandbox, open_app: OpenApp, bulk: str
) -> None:
    """The planted differences are found, whether the levels of DPS are read by the bulk call or by single calls.

    Nothing else is found, apart from differences that only the bulk call shows.
    """
    upstream.reset(prisoners=300, every_cause=True, bulk=bulk)
    levels, _ = read(open_app())
    assert len(levels) == 300
    found = differing(levels)
    assert planted(upstream).items() <= found.items()
    # The bulk call uses a flag that single calls do not. The recheck drops differences that only the bulk call shows.
    bulk_only = set(upstream.planted()["bulkDiffers"]) if bulk == "on" else set()
    assert found.keys() - planted(upstream).keys() <= bulk_only
    assert found.keys().isdisjoint(upstream.planted()["unmapped"])


def test_a_run_needs_few_calls(upstream: Sandbox, open_app: OpenApp) -> None:
    """A run for 1,000 prisoners without differences makes at most 1,020 calls to NOMIS and DPS.

    NOMIS gets one call for each page of the list and one for each prisoner. DPS gets one bulk call for each page, and
    single calls for bookings that are missing from the bulk response.
    """
    upstream.reset(prisoners=1000, mismatch_rate=0.0)
    app = open_app(reports_incentives_reconciliation_page_size="500")
    app.reconcile()
    assert len(upstream.requests("nomis")) + len(upstream.requests("incentives")) <= 1.02 * 1000


def test_no_more_calls_are_in_flight_than_allowed(upstream: Sandbox, open_app: OpenApp) -> None:
    """Even without the bulk call, neither NOMIS nor DPS gets more concurrent calls than the setting allows."""
    upstream.reset(prisoners=300, bulk="404", latency_ms=10)
    read(open_app(reconciliation_concurrency="7"))
    load = upstream.load()
    assert load["nomis"] <= 7
    assert load["incentives"] <= 7
    assert load["nomis"] > 3


def test_bursts_of_refusals_leave_nobody_out(upstream: Sandbox, open_app: OpenApp) -> None:
    """If NOMIS refuses calls for a while, fewer calls are made at once, but all levels are read."""
    upstream.reset(prisoners=200)
    upstream.fault("nomis", "GET", "/incentives/booking-id/{b}/current", kind="status", status=503, times=40)
    upstream.fault("nomis", "GET", "/incentives/booking-id/{b}/current", kind="rate_limited", retry_after=0.3, times=3)
    with capture_logs() as logs:
        levels, _ = read(open_app())
    assert len(levels) == 200
    assert "concurrency_reduced" in {each["event"] for each in logs if each.get("service") == "nomis"}
    assert not differing(levels).keys() - planted(upstream).keys()


def test_an_error_affects_only_its_prisoner(upstream: Sandbox, open_app: OpenApp) -> None:
    """A prisoner whose levels cannot be read is named with the reason, and the levels of all other prisoners are read.

    A lost connection is distinguished from a bad response.
    """
    upstream.reset(prisoners=120)
    one, other = (each["bookingId"] for each in upstream.prisoners()[:2])
    upstream.fault("nomis", "GET", f"/incentives/booking-id/{one}/current", kind="status", status=400)
    upstream.fault("nomis", "GET", f"/incentives/booking-id/{other}/current", kind="reset")
    levels, unreadable = read(open_app())
    assert unreadable.keys() == {one, other}
    assert f"nomis: GET /incentives/booking-id/{one}/current: status 400" in unreadable[one].reason
    assert (unreadable[one].network, unreadable[other].network) == (False, True)
    assert len(levels) == 118


def test_single_calls_replace_a_bulk_call_that_fails(upstream: Sandbox, open_app: OpenApp) -> None:
    """If the bulk call keeps failing, each failure is logged with its reason, and single calls read all levels."""
    upstream.reset(prisoners=100)
    upstream.fault("incentives", "POST", "/iep/reviews/bookings", kind="status", status=400)
    with capture_logs() as logs:
        levels, _ = read(open_app())
    assert len(levels) == 100
    failed = [each for each in logs if each["event"] == "levels-not-read-in-bulk"]
    assert sum(each["bookings"] for each in failed) == 100
    assert all("incentives: POST /iep/reviews/bookings: status 400" in each["reason"] for each in failed)


def test_prisoners_missing_from_the_bulk_response_are_read_singly(upstream: Sandbox, open_app: OpenApp) -> None:
    """If prisoners are missing from the bulk response, single calls read their levels.

    A level that only DPS has is therefore found.
    """
    upstream.reset(prisoners=100, mismatches={"2": 3})
    upstream.fault("incentives", "POST", "/iep/reviews/bookings", kind="status", status=200, body=[])
    levels, _ = read(open_app())
    assert differing(levels) == planted(upstream)


@pytest.mark.parametrize("bulk", ["on", "404"])
def test_levels_are_read_singly_without_their_names(upstream: Sandbox, open_app: OpenApp, bulk: str) -> None:
    """If the names of the levels cannot be read, every level is read singly, since the bulk response has only names."""
    upstream.reset(prisoners=60, mismatches={"7": 2}, bulk=bulk)
    upstream.fault("incentives", "GET", "/incentive/levels", kind="status", status=404)
    levels, _ = read(open_app())
    assert len(levels) == 60
    assert planted(upstream).items() <= differing(levels).items()
    assert not any(each["path"] == "/iep/reviews/bookings" for each in upstream.requests("incentives"))


def test_a_stopped_run_makes_no_more_calls(upstream: Sandbox, open_app: OpenApp) -> None:
    """A stopped run leaves no thread that continues to make calls."""
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


def test_exhausted_connections_of_nomis_leave_nobody_out(
    upstream: Sandbox, open_app: OpenApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If NOMIS has no free connection and responds with 500, reading slows down, but all levels are read."""
    # The waits are those of production, since NOMIS needs time for the calls in its pool, and more time on a slow
    # machine.
    monkeypatch.setattr(times, "READ_RETRY_SECONDS", (0.1, 0.4, 1.6))
    upstream.reset(prisoners=120, nomis_pool=12, latency_ms=20)
    with capture_logs() as logs:
        levels, unread = read(open_app())
    assert any(each["status"] == 500 for each in upstream.requests("nomis"))
    assert "concurrency_reduced" in {each["event"] for each in logs if each.get("service") == "nomis"}
    assert len(levels) == 120
    assert unread == {}
    assert not differing(levels).keys() - planted(upstream).keys()
