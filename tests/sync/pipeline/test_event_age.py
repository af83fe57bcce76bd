"""A very recent event is parked, since its publisher may not have committed the change yet."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.runtime.application import Application
from sandbox import Sandbox
from sync.events.envelope import write_mapping_retry
from sync.pipeline import batch, early_events, group_runner
from sync.pipeline.early_events import seconds_until_old_enough
from sync.queues.queue import Message
from tests.harness.clocks import Clock, clock_of
from tests.harness.pipeline import BOOKED, send, tracked
from tests.harness.publishing import put_visit
from tests.harness.waiting import in_thread, result_of, until

#: The largest minimum age, in seconds, so that an event becomes old only by the clock of the test.
AGE = 60.0


@pytest.fixture
def settings() -> dict[str, str]:
    """A minimum age for events, and a single thread to handle them."""
    return {"EVENT_MINIMUM_AGE_SECONDS": str(AGE), "DRAIN_CONCURRENCY": "1"}


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock that measures the age of events."""
    return clock_of(monkeypatch, early_events, group_runner, batch)


def test_state_that_is_committed_after_its_event_is_read(
    sandbox: Sandbox, application: Application, clock: Clock
) -> None:
    """If a publisher sends an event before it commits the change, NOMIS gets the committed state in one attempt.

    A message that needs nothing from DPS, here a mapping retry, is handled in the meantime, although it arrived later.
    """
    who = put_visit(sandbox, "late", start="2023-06-02T14:00:00")
    queue, drain = application.queue_pair("visit").main, application.open_drain("visit")
    send(queue, BOOKED, "late", prisonerId=who)
    queue.send(write_mapping_retry({"nomisId": "1", "vsipId": "other"}, {}))
    working = in_thread(drain.run_batch)
    until(lambda: tracked(application)["visit-retry-success"])
    assert sandbox.requests("visits") == []
    put_visit(sandbox, "late", start="2023-06-02T14:30:00")
    clock.ahead = AGE
    assert result_of(working).applied == 2
    (visit,) = sandbox.nomis("visit")
    assert "14:30" in str(visit["start"])
    assert tracked(application)["message-failed"] == 0


def test_a_stop_leaves_time_for_recent_events(sandbox: Sandbox, application: Application, clock: Clock) -> None:
    """After a stop, recent events are still handled within the grace period.

    Returning them to the queue would use up receives.
    """
    queue = application.queue_pair("visit").main
    who = put_visit(sandbox, "stop")
    send(queue, BOOKED, "stop", prisonerId=who)
    drain = application.open_drain("visit")
    working = in_thread(drain.run_batch)
    until(lambda: queue.counts().in_flight == 1)
    drain.stop()
    clock.ahead = AGE
    summary = result_of(working)
    assert (summary.applied, summary.deferred) == (1, 0)


def test_an_event_from_the_future_is_not_delayed(sandbox: Sandbox, application: Application, clock: Clock) -> None:
    """If an event is dated a day ahead, the time since its message was sent decides how long it waits."""
    who = put_visit(sandbox, "future")
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    queue = application.queue_pair("visit").main
    send(queue, BOOKED, "future", prisonerId=who, occurredAt=tomorrow.isoformat())
    working = in_thread(application.open_drain("visit").run_batch)
    until(lambda: queue.counts().in_flight == 1)
    clock.ahead = AGE
    assert result_of(working).applied == 1


@given(
    sent=st.integers(-(10**6), 10**6) | st.none(),
    queued=st.integers(0, 100) | st.none(),
    held=st.floats(0, 10),
    receives=st.integers(1, 3),
)
def test_no_event_waits_longer_than_the_minimum_age(
    sent: int | None, queued: int | None, held: float, receives: int
) -> None:
    """However much clocks differ, no message waits longer than the minimum age."""
    sent_at = None if sent is None else datetime.now(UTC) - timedelta(seconds=sent)
    first = None if sent_at is None or queued is None else sent_at + timedelta(seconds=queued)
    message = Message("id", "handle", "", receives, sent_at, {}, first, time.monotonic() - held)
    wait = seconds_until_old_enough(message, 2.0)
    assert 0 <= wait <= 2
    if held >= 2 or (first is not None and receives == 1 and queued is not None and queued >= 2):
        assert wait == 0
    if first is not None and receives == 1 and queued == 0 and held < 1:
        assert wait > 0


def test_the_default_is_two_seconds(sandbox: Sandbox) -> None:
    """The default minimum age of events is two seconds."""
    from sync.settings.loading import load_settings

    assert load_settings(sandbox.environment()).event_minimum_age_seconds == 2
