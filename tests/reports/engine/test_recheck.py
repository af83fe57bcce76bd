"""The recheck of what differs."""

from __future__ import annotations

from datetime import timedelta

from structlog.testing import capture_logs

from reports.engine.bookings import ActiveBookingLookup
from reports.engine.listing import list_prisoners
from reports.engine.recheck import Recheck
from reports.reconciliations.incentives.pending_messages import no_pending_messages
from sandbox import Sandbox
from sync.clock import now
from sync.failures import UpstreamError
from sync.upstream.prisoners import PrisonerId
from tests.harness.reconciliations import OpenApp


def test_what_was_read_twice_stands_though_the_list_cannot_be_read(upstream: Sandbox, open_app: OpenApp) -> None:
    """A difference stays if it cannot be checked whether the prisoner was released meanwhile; that is logged."""
    upstream.reset(prisoners=200, mismatch_rate=0.05)
    planted = [PrisonerId(each["bookingId"], each["offenderNo"]) for each in upstream.planted()["mismatches"]]

    def not_to_be_had(_: int) -> bool:
        raise UpstreamError("nomis", "GET", "/prisoners/ids", status=500, message="no")

    recheck = Recheck(open_app().services, timedelta(0), no_pending_messages, now, not_to_be_had)
    with capture_logs() as logs:
        found = recheck(planted)
    assert {pair.booking_id for pair in found.confirmed} == {each.booking_id for each in planted}
    assert found.unread == []
    assert [each["event"] for each in logs].count("release-not-checked") == len(planted) > 0


def test_one_refusal_by_the_list_brings_back_no_released_prisoner(upstream: Sandbox, open_app: OpenApp) -> None:
    """Many lookups share one page; a passing failure is retried, and released prisoners are recognised."""
    upstream.reset(prisoners=200, mismatch_rate=0.08)
    services = open_app().services
    listing = list_prisoners(services.nomis, 200)
    planted = [PrisonerId(each["bookingId"], each["offenderNo"]) for each in upstream.planted()["mismatches"]]
    for each in planted:
        upstream.release(each.offender_no)
    upstream.fault("nomis", path="/prisoners/ids", kind="status", status=503, times=1)
    recheck = Recheck(
        services, timedelta(0), no_pending_messages, now, ActiveBookingLookup(services.nomis, 200, listing)
    )
    found = recheck(planted)
    assert found.confirmed == []
    assert {each.booking_id for each in found.released} == {each.booking_id for each in planted}
    assert len(planted) > 8


def test_the_list_is_asked_when_all_pairs_were_read(upstream: Sandbox, open_app: OpenApp) -> None:
    """No page of the list is older than a pair it is asked about."""
    upstream.reset(prisoners=200, mismatch_rate=0.05)
    planted = [PrisonerId(each["bookingId"], each["offenderNo"]) for each in upstream.planted()["mismatches"]]
    services = open_app().services
    read_before: list[int] = []

    def is_active(_: int) -> bool:
        read_before.append(sum("/current" in each["path"] for each in upstream.requests("nomis")))
        return True

    Recheck(services, timedelta(0), no_pending_messages, now, is_active)(planted)
    assert set(read_before) == {len(planted)}
