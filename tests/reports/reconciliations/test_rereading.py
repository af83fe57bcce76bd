"""Levels that differ are read again, and released prisoners are left out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from structlog.testing import capture_logs

from reports.engine.frame import typed
from reports.engine.shared_reads import SharedReads
from reports.engine.units import Reading
from sandbox import Sandbox
from tests.harness.reconciliations import OpenApp, ReportsApp, incentives

LIST = "/prisoners/ids"


@contextmanager
def reread_planted(upstream: Sandbox, app: ReportsApp) -> Iterator[tuple[set[int], Reading]]:
    """Reads the planted differences again. Yields their bookings and the second reading."""
    reconciliation, reads = incentives(app), SharedReads(app.services, outage_seconds=2.0)
    planted = upstream.planted()["mismatches"]
    rows = [
        {
            "booking_id": each["bookingId"],
            "offender_no": each["offenderNo"],
            "nomis_level": each["nomis"],
            "dps_level": each["dps"],
        }
        for each in planted
    ]
    try:
        yield {each["bookingId"] for each in planted}, reconciliation.reread(typed(reconciliation, rows), reads)
    finally:
        reads.stop()


def bookings(reading: Reading) -> set[int]:
    """The bookings that were read."""
    return {int(each) for each in reading.rows["booking_id"]}


def test_a_confirmed_difference_stays_if_the_list_cannot_be_read(upstream: Sandbox, open_app: OpenApp) -> None:
    """If the list of prisoners cannot be read, differences stay, and the log says that releases were not checked."""
    upstream.reset(prisoners=200, mismatch_rate=0.05)
    upstream.fault("nomis", "GET", LIST, kind="status", status=400)
    with capture_logs() as logs, reread_planted(upstream, open_app()) as (planted, found):
        assert bookings(found) == planted
        assert found.unread == ()
    assert [each["event"] for each in logs].count("release-not-checked") == len(planted) > 0


def test_a_list_that_fails_once_is_read_again(upstream: Sandbox, open_app: OpenApp) -> None:
    """If the first reading of the list of active prisoners fails, the list is read again.

    Released prisoners are left out.
    """
    upstream.reset(prisoners=200, mismatch_rate=0.08)
    for each in upstream.planted()["mismatches"]:
        upstream.release(each["offenderNo"])
    upstream.fault("nomis", path=LIST, kind="status", status=503, times=1)
    with reread_planted(upstream, open_app()) as (planted, found):
        assert (bookings(found), found.unread) == (set(), ())
    assert len(planted) > 8


def test_the_list_is_read_after_all_levels(upstream: Sandbox, open_app: OpenApp) -> None:
    """The list of active prisoners is read after all levels, so that no page of it is older than a level."""
    upstream.reset(prisoners=200, mismatch_rate=0.05)
    with reread_planted(upstream, open_app()) as (planted, _):
        paths = [each["path"] for each in upstream.requests("nomis")]
    levels = [place for place, path in enumerate(paths) if path.endswith("/current")]
    assert len(levels) == len(planted)
    assert max(levels) < min(place for place, path in enumerate(paths) if path.startswith(LIST))
