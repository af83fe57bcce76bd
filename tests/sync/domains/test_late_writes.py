"""While NOMIS may still apply a write whose response was lost, no other write of the same record is sent."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from sandbox import Sandbox
from sync.clock import now
from sync.errors import LeaseBusy, UpstreamError
from tests.harness.app import open_application
from tests.harness.faults import hits
from tests.harness.handlers import Harness
from tests.harness.pipeline import BOOKED, CHANGED, draining, nothing_lost, send
from tests.harness.publishing import (
    DpsEvent,
    adjustment_inserted,
    appointment_created,
    put_visit,
    schedule_created,
    visit_booked,
)
from tests.harness.waiting import until

Make = Callable[[Sandbox], DpsEvent]


WRITES: list[tuple[str, str, Make]] = [
    ("prison-visit.changed", "PUT", visit_booked),
    ("prison-visit.cancelled", "PUT", visit_booked),
    ("appointments.appointment-instance.updated", "PUT", appointment_created),
    ("appointments.appointment-instance.cancelled", "PUT", appointment_created),
    ("appointments.appointment-instance.deleted", "DELETE", appointment_created),
    ("release-date-adjustments.adjustment.updated", "PUT", adjustment_inserted),
    ("release-date-adjustments.adjustment.deleted", "DELETE", adjustment_inserted),
    ("activities.activity-schedule.amended", "PUT", schedule_created),
]

LEVELS: list[tuple[str, str, Mapping[str, Any]]] = [
    ("incentives.level.changed", "PUT", {"incentiveLevel": "STD"}),
    ("incentives.levels.reordered", "POST", {}),
    ("incentives.prison-level.changed", "PUT", {"incentiveLevel": "STD", "prisonId": "MDI"}),
]


def lose(
    harness: Harness, method: str, event_type: str, event: DpsEvent | None, information: Mapping[str, Any]
) -> None:
    """Loses the response to the write of an event, and checks that the same event is refused without another write.

    The lease of the write stays held while NOMIS may still apply the write.
    """
    who = None if event is None else event.prisoner_id
    harness.set_grace_period(60)
    harness.sandbox.fault("nomis", method, kind="reset_after_write", times=1)
    with pytest.raises(UpstreamError, match="connection lost"):
        harness.handle(event_type, who, **information)
    written = len(harness.sandbox.journal("nomis"))
    with pytest.raises(LeaseBusy):
        harness.handle(event_type, who, **information)
    assert len(harness.sandbox.journal("nomis")) == written


@pytest.mark.parametrize(("event_type", "method", "make"), WRITES, ids=[each[0] for each in WRITES])
def test_no_other_write_of_the_record_is_sent(harness: Harness, event_type: str, method: str, make: Make) -> None:
    """While NOMIS may still apply a write whose response was lost, the same event sends no other write.

    This holds for changes, cancellations and deletions.
    """
    event = make(harness.sandbox)
    harness.handle(event.event_type, event.prisoner_id, now(), **event.information)
    lose(harness, method, event_type, event, event.information)


@pytest.mark.parametrize(("event_type", "method", "information"), LEVELS, ids=[each[0] for each in LEVELS])
def test_no_other_write_of_levels_is_sent(
    harness: Harness, event_type: str, method: str, information: Mapping[str, Any]
) -> None:
    """While NOMIS may still apply a write of levels or of their order, the same event sends no other write."""
    lose(harness, method, event_type, None, information)


def test_a_response_of_the_service_ends_the_wait(harness: Harness) -> None:
    """If NOMIS itself responds with 500, the write is no longer under way, so the next attempt need not wait."""
    event = visit_booked(harness.sandbox)
    harness.handle(event.event_type, event.prisoner_id, now(), **event.information)
    harness.set_grace_period(60)
    harness.sandbox.fault("nomis", "PUT", status=500, times=1)
    with pytest.raises(UpstreamError, match="500"):
        harness.handle("prison-visit.changed", event.prisoner_id, **event.information)
    assert harness.handle("prison-visit.changed", event.prisoner_id, **event.information) == "visit-changed-success"


def test_a_late_write_overwrites_no_newer_one(sandbox: Sandbox, tmp_path: Path) -> None:
    """If NOMIS applies a change late, after a newer change was published, NOMIS still ends up with the newer change."""
    quick = {"API_TIMEOUT_SECONDS": "0.4", "CREATION_SETTLING_SECONDS": "1.5", "DRAIN_INTERVAL_SECONDS": "0.2"}
    with open_application(sandbox.environment(), f"sqlite:///{tmp_path}/late.db", **quick) as application:
        pair, drain = application.queue_pair("visit"), application.open_drain("visit")
        who = put_visit(sandbox, "late", room="First room")
        send(pair.main, BOOKED, "late", 0, prisonerId=who)
        drain.run_until_empty()
        late = sandbox.fault("nomis", "PUT", kind="delay", ms=800, times=1)
        with draining(application, "visit"):
            put_visit(sandbox, "late", room="Second room")
            send(pair.main, CHANGED, "late", 1, prisonerId=who)
            until(lambda: hits(sandbox, late) == 1)
            put_visit(sandbox, "late", room="Third room")
            send(pair.main, CHANGED, "late", 2, prisonerId=who)
            until(lambda: len([each for each in sandbox.journal("nomis") if each["method"] == "PUT"]) >= 2)
            until(lambda: pair.main.counts().total == 0)
        nothing_lost(sandbox, application, "visit")
