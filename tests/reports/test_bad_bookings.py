"""A few bookings that always fail, before a breaker: the run gives them up, and all others have their result."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from typing import Any

import pytest

from reports.reconciliation import ReconciliationParameters
from reports.result import ReconciliationResult
from sandbox import Sandbox
from sync.upstream.breaker import Breakers
from sync.upstream.services import connect
from sync.upstream.transport import Transport
from tests.reports.conftest import OpenOffice
from tests.reports.office import Office

#: Far below what waiting for an outage would take, and far above what the attempts take.
SOON = 60.0


@contextmanager
def behind_breakers(office: Office) -> Iterator[Office]:
    """The same parts, with calls through breakers as in the program."""
    with closing(Transport(office.settings)) as pings:
        breakers = Breakers(office.database, office.telemetry, pings.reach)
        with closing(Transport(office.settings, (breakers,))) as transport:
            yield replace(office, services=connect(transport))


def spoil(world: Sandbox, bookings: list[int], **how: Any) -> None:
    """Makes NOMIS fail for these bookings, always or as `how` says."""
    for booking_id in bookings:
        path = f"/incentives/booking-id/{booking_id}/current$"
        world.fault("nomis", "GET", path, kind="status", **{"status": 500, **how})


def reconciled(office: Office, **parameters: Any) -> ReconciliationResult:
    """The result of a run that would wait ten minutes for a service that is down."""
    result = office.reconcile(ReconciliationParameters(**parameters), outage_seconds=600).result
    assert result is not None
    return result


def planted(world: Sandbox) -> list[int]:
    """The bookings that differ."""
    return sorted(each["bookingId"] for each in world.planted()["mismatches"])


@pytest.mark.parametrize("bad", [3, 12])
def test_bad_bookings_are_no_outage(world: Sandbox, office: OpenOffice, bad: int) -> None:
    """They are unread after their attempts, soon; everybody else is compared, and their differences are found."""
    world.reset(prisoners=200, mismatches={"7": 4})
    others = [each["bookingId"] for each in world.prisoners() if each["bookingId"] not in planted(world)]
    spoil(world, others[:bad])
    began = time.monotonic()
    with behind_breakers(office(reconciliation_max_unreadable_percent="10")) as opened:
        result = reconciled(opened)
    assert time.monotonic() - began < SOON
    assert (result.status, result.compared) == ("incomplete", 200 - bad)
    assert {each.booking_id for each in result.unread} == set(others[:bad])
    assert [each.booking_id for each in result.mismatches] == planted(world)
    # Whoever is unread is read once more when the list has been looked at again.
    asked = Counter(each["path"] for each in world.requests("nomis"))
    assert all(asked[f"/incentives/booking-id/{each}/current"] <= 8 for each in others[:bad])
