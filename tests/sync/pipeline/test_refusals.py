"""If a service refuses a call, the message fails for good with a visible reason, or the next attempt succeeds."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from jobs.runtime.application import Application
from sandbox import Sandbox
from sync.errors import UpstreamError
from sync.events.context import Outcome
from sync.store.failed_attempts import FailedAttempt
from tests.harness import activities
from tests.harness.app import open_application
from tests.harness.handlers import Harness, Prisoner
from tests.harness.pipeline import last_failure
from tests.harness.publishing import DpsEvent, appointment_created, put_visit, visit_booked
from tests.harness.waiting import until

YESTERDAY = (activities.TODAY - timedelta(days=1)).isoformat()


def dead_letter_of(application: Application, event: DpsEvent) -> FailedAttempt:
    """Publishes the event, drains its queue until its message is a dead letter, and returns the recorded failure."""
    pair, drain = application.queue_pair(event.queue), application.open_drain(event.queue)
    event.publish()
    until(lambda: drain.run_until_empty() and pair.dlq.counts().total == 1)
    (message,) = pair.dlq.receive()
    found = last_failure(application.database, queue=event.queue, message_id=message.message_id)
    assert found is not None
    return found


def without_a_booking(sandbox: Sandbox, event: DpsEvent) -> None:
    """Releases the prisoner of a visit before the visit is written."""
    assert event.prisoner_id is not None
    sandbox.release(event.prisoner_id)


def at_no_prison(sandbox: Sandbox, event: DpsEvent) -> None:
    """Moves a visit to a prison that NOMIS does not have."""
    put_visit(sandbox, event.dps_id, prison_id="XXX")


def by_nobody(sandbox: Sandbox, event: DpsEvent) -> None:
    """Replaces the visitors of a visit with a single person whom NOMIS does not have."""
    put_visit(sandbox, event.dps_id, person_ids=[1])


@pytest.mark.parametrize(
    ("spoil", "status", "reason"),
    [
        (without_a_booking, 404, "Not Found: "),
        (at_no_prison, 400, "Bad request: "),
        (by_nobody, 400, "Bad request: "),
    ],
)
def test_a_refused_create_is_a_dead_letter_with_its_reason(
    sandbox: Sandbox, tmp_path: Path, spoil: Callable[[Sandbox, DpsEvent], None], status: int, reason: str
) -> None:
    """The message of a refused create becomes a dead letter. Its failure is recorded as not recoverable.

    The service, method, path, status and response text are recorded with it.
    """
    with open_application(sandbox.environment(), f"sqlite:///{tmp_path}/one.db") as application:
        event = visit_booked(sandbox)
        spoil(sandbox, event)
        found = dead_letter_of(application, event)
    failure = found.failure
    assert (failure.service, failure.method, failure.status) == ("nomis", "POST", status)
    assert failure.path == f"/prisoners/{event.prisoner_id}/visits"
    assert failure.reason.startswith(reason)
    assert (failure.step, failure.recoverable, found.attempt) == ("create visit", False, 3)


def test_a_record_that_is_not_visible_yet_is_read_again(sandbox: Sandbox, tmp_path: Path) -> None:
    """If an event comes before its record can be read, the read gets 404, and the next attempt succeeds."""
    with open_application(sandbox.environment(), f"sqlite:///{tmp_path}/one.db") as application:
        pair, drain = application.queue_pair("appointment"), application.open_drain("appointment")
        appointment_created(sandbox).publish()
        sandbox.fault("activities", "GET", "/appointment-instances/{id}", status=404, times=1)
        until(lambda: drain.run_until_empty() and pair.main.counts().total == 0)
        assert pair.dlq.counts().total == 0
        assert len(sandbox.nomis("appointment")) == 1


def test_an_optimistic_lock_is_retried(harness: Harness, prisoner: Prisoner) -> None:
    """If NOMIS responds with 500 because of a concurrent change, the error is recoverable.

    The next attempt succeeds.
    """
    activities.put_schedule(harness, prisoner)
    activities.create(harness)
    words = "Unexpected error: Row was updated or deleted by another transaction"
    harness.sandbox.fault("nomis", "PUT", "/activities/{id}", status=500, times=1, body={"userMessage": words})
    with pytest.raises(UpstreamError, match="another transaction") as caught:
        activities.amend(harness)
    assert caught.value.recoverable
    assert activities.amend(harness) == "activity-amend-success"


def a_past_session_moved(harness: Harness, prisoner: Prisoner) -> Outcome | str:
    """Handles a schedule change that moves yesterday's session to another time."""
    for start in ("08:30", "09:00"):
        session = {"id": activities.INSTANCE, "schedule_id": activities.SCHEDULE, "day": YESTERDAY}
        activities.put_schedule(harness, prisoner, instances=[{**session, "start": start, "end": "11:45"}])
        if start == "08:30":
            activities.create(harness)
    return activities.amend(harness)


def a_band_in_use(harness: Harness, prisoner: Prisoner) -> Outcome | str:
    """Handles a schedule change that drops a pay band although an allocation uses it."""
    activities.put_schedule(harness, prisoner)
    activities.create(harness)
    activities.put_allocation(harness, prisoner, band=1)
    activities.allocate(harness)
    activities.put_schedule(harness, prisoner, {"pay": [{"level": "ENH", "band": 2, "rate": 325}]})
    return activities.amend(harness)


def an_ended_activity(harness: Harness, prisoner: Prisoner) -> Outcome | str:
    """Handles the end of an allocation after the last day of its activity."""
    activities.put_schedule(harness, prisoner, {"end": YESTERDAY}, end=YESTERDAY, instances=[])
    activities.create(harness)
    activities.put_allocation(harness, prisoner, status="ENDED", end=YESTERDAY)
    return activities.allocate(harness, "allocation-amended")


def an_end_after_a_transfer(harness: Harness, prisoner: Prisoner) -> Outcome | str:
    """Handles the end of an allocation whose prisoner is already in another prison."""
    activities.put_schedule(harness, prisoner)
    activities.create(harness)
    activities.put_allocation(harness, prisoner)
    activities.allocate(harness)
    elsewhere = next(each["prisonId"] for each in harness.sandbox.prisoners() if each["prisonId"] != prisoner.prison_id)
    harness.sandbox.transfer(prisoner.offender_no, elsewhere)
    activities.put_allocation(harness, prisoner, status="ENDED", end=activities.TODAY.isoformat())
    return activities.allocate(harness, "allocation-amended")


@pytest.mark.parametrize(
    ("change", "event"),
    [
        (a_past_session_moved, "activity-amend-failed"),
        (a_band_in_use, "activity-amend-failed"),
        (an_ended_activity, "activity-allocation-failed"),
        (an_end_after_a_transfer, "activity-allocation-failed"),
    ],
)
def test_a_permanent_refusal_of_a_change_is_tracked_with_its_reason(
    harness: Harness, prisoner: Prisoner, change: Callable[[Harness, Prisoner], Outcome | str], event: str
) -> None:
    """If NOMIS refuses a change with 400, the change fails permanently with the reason that NOMIS gives.

    The failure is tracked.
    """
    with pytest.raises(UpstreamError, match=r"^nomis: PUT .*: status 400: Bad request: .") as caught:
        change(harness, prisoner)
    assert not caught.value.recoverable
    assert [name for name, _ in harness.tracked()][-1] == event
