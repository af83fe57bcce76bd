"""The second look at what differs."""

from __future__ import annotations

from datetime import timedelta

from structlog.testing import capture_logs

from reports.recheck import Recheck
from reports.waiting import nothing_waits
from sandbox import Sandbox
from sync.clock import now
from sync.failures import UpstreamError
from sync.upstream.nomis_prisoners import PrisonerId
from tests.reports.conftest import OpenOffice


def test_what_was_read_twice_stands_though_the_list_cannot_be_read(world: Sandbox, office: OpenOffice) -> None:
    """A difference does not vanish because nobody can say whether the prisoner was released meanwhile; that is told."""
    world.reset(prisoners=200, mismatch_rate=0.05)
    planted = [PrisonerId(each["bookingId"], each["offenderNo"]) for each in world.planted()["mismatches"]]

    def not_to_be_had(_: int) -> bool:
        raise UpstreamError("nomis", "GET", "/prisoners/ids", status=500, message="no")

    look = Recheck(office().services, 4, timedelta(0), nothing_waits, now, not_to_be_had)
    with capture_logs() as logs:
        found = look(planted)
    assert {pair.booking_id for pair in found.confirmed} == {each.booking_id for each in planted}
    assert found.unread == []
    assert [each["event"] for each in logs].count("release-not-checked") == len(planted) > 0
