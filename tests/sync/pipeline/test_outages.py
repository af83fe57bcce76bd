"""Outages delay messages, but never make them dead letters."""

from __future__ import annotations

import time
from collections import Counter

import pytest
from structlog.testing import capture_logs

from jobs.runtime.application import Application
from sandbox import Sandbox
from sandbox.postgres import PostgresServer
from sync.domains.incentives.nomis import current_iep_body
from sync.errors import UpstreamError
from sync.pipeline.outages import UpstreamsUnavailable
from sync.settings import times
from sync.settings.upstreams import UpstreamName
from tests.harness.app import open_application
from tests.harness.faults import held, hits
from tests.harness.pipeline import draining, last_failure, nothing_lost
from tests.harness.publishing import allocated, attended, person, schedule_created, visit_booked
from tests.harness.waiting import in_thread, result_of, until


@pytest.fixture
def queues() -> tuple[str, ...]:
    """The queues that are created before each test."""
    return ("visit", "incentive", "appointment")


@pytest.fixture
def settings() -> dict[str, str]:
    """Settings that let a change wait for up to five minutes for a booking that an outage delays."""
    return {"CREATION_WAIT_SECONDS": "300"}


def test_messages_wait_while_nomis_responds_with_503(
    sandbox: Sandbox, application: Application, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once an outage of NOMIS is noticed, NOMIS is only pinged, however long it responds with 503.

    After the outage, all messages are handled, and none becomes a dead letter.
    """
    for name in ("FIRST_PING_SECONDS", "PING_SECONDS"):
        monkeypatch.setattr(times, name, 0.2)
    sandbox.traffic(events=60, seed=4, queues=["visit"])
    sandbox.fault("nomis", status=503)

    def pings() -> int:
        return sum(each["path"] == "/health/ping" for each in sandbox.requests("nomis"))

    with draining(application, "visit"):
        until(lambda: pings() >= 3, "NOMIS is pinged repeatedly")
        calls = len(sandbox.requests("nomis")) - pings()
        assert 3 <= calls < 2 * application.settings.drain_concurrency
        assert application.queue_pair("visit").main.counts().total == 60
        sandbox.clear_faults()
        until(lambda: application.queue_pair("visit").main.counts().total == 0)
    nothing_lost(sandbox, application, "visit")


def test_messages_wait_while_auth_is_down(sandbox: Sandbox, application: Application, impatient_breaker: None) -> None:
    """If the tokens have expired, messages wait while HMPPS Auth responds with 503.

    Afterwards, all of them are handled.
    """
    sandbox.traffic(events=40, seed=8, queues=["visit"])
    sandbox.expire_tokens()
    sandbox.fault("auth", status=503)
    with draining(application, "visit"):
        until(lambda: any(each["hits"] for each in sandbox.faults()))
        until(lambda: application.breakers.open_services(UpstreamName))
        sandbox.clear_faults()
        until(lambda: application.queue_pair("visit").main.counts().total == 0)
    nothing_lost(sandbox, application, "visit")


def test_a_service_without_a_ping_is_tried_by_calls(
    sandbox: Sandbox, application: Application, impatient_breaker: None
) -> None:
    """If a service responds to pings with 404, an outage of the service ends once other calls to it succeed again."""
    sandbox.traffic(events=10, seed=21, queues=["visit"])
    sandbox.fault(path="/health/ping", status=404)
    sandbox.fault("nomis", method="POST", status=503, times=4)
    drain = application.open_drain("visit", hold_seconds=600)
    until(lambda: drain.run_until_empty() and application.queue_pair("visit").main.counts().total == 0)
    nothing_lost(sandbox, application, "visit")


def test_a_drain_gives_up_on_a_service_that_only_responds_to_pings(
    sandbox: Sandbox, application: Application, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If pings succeed and other calls fail, a drain that may wait two seconds gives up and returns its messages."""
    # Otherwise the service is tried less and less often, and the two seconds pass before the next attempt.
    for name in ("PING_SECONDS", "MAX_PING_SECONDS"):
        monkeypatch.setattr(times, name, 0.5)
    sandbox.traffic(events=10, seed=22, queues=["visit"])
    sandbox.fault("nomis", method="POST", status=503)
    drain = application.open_drain("visit", hold_seconds=2)
    with pytest.raises(UpstreamsUnavailable):
        drain.run_until_empty()
    counts = application.queue_pair("visit").main.counts()
    assert (counts.in_flight, counts.visible + counts.delayed) == (0, 10)


def test_a_stop_returns_the_messages_that_wait_for_a_trial(
    sandbox: Sandbox, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While a service is being tried with one message at a time, a stop returns all other messages to the queue.

    They are returned before the grace period ends.
    """
    for name, seconds in (("FIRST_PING_SECONDS", 0.1), ("PING_SECONDS", 0.1), ("TRIAL_SECONDS", 600.0)):
        monkeypatch.setattr(times, name, seconds)
    slow = {"DRAIN_GRACE_SECONDS": "600", "DRAIN_CONCURRENCY": "3"}
    with open_application(sandbox.environment(), database_url, **slow) as application:
        queue = application.queue_pair("visit").main
        sandbox.traffic(events=30, seed=23, queues=["visit"])
        sandbox.fault("nomis", method="POST", status=503)
        drain = application.open_drain("visit")
        working = in_thread(drain.run_batch)
        until(lambda: application.breakers.trying([UpstreamName.NOMIS]))
        drain.stop()
        summary = result_of(working)
        counts = queue.counts()
        assert summary.received == 30
        assert (counts.in_flight, counts.visible + counts.delayed) == (0, summary.deferred)


def test_a_stop_during_an_outage_returns_young_events(sandbox: Sandbox, database_url: str) -> None:
    """If a drain stops during an outage, events that are still too recent to be handled are returned at once."""
    slow = {"DRAIN_GRACE_SECONDS": "600", "EVENT_MINIMUM_AGE_SECONDS": "60"}
    with open_application(sandbox.environment(), database_url, **slow) as application:
        queue = application.queue_pair("visit").main
        sandbox.traffic(events=3, seed=24, queues=["visit"])
        drain = application.open_drain("visit")
        working = in_thread(drain.run_batch)
        until(lambda: queue.counts().in_flight == 3)
        sandbox.fault("nomis", status=503)
        for booking_id in range(3):
            with pytest.raises(UpstreamError):
                current_iep_body(application.services.nomis, booking_id)
        assert application.breakers.open_services([UpstreamName.NOMIS])
        drain.stop()
        result_of(working)
        assert (queue.counts().in_flight, queue.counts().visible) == (0, 3)


GOOD_SECONDS = 30


def test_reviews_that_nomis_cannot_handle_do_not_hold_up_a_visit(
    sandbox: Sandbox, application: Application, impatient_breaker: None
) -> None:
    """While NOMIS responds with 500 to the creates of four reviews, a visit is written within half a minute.

    The visit's message is on another queue.
    """
    fault = sandbox.fault("nomis", "POST", "/prisoners/booking-id/.*/incentives", status=500)
    for place in range(4):
        who = person(sandbox, place)
        sandbox.add_review(who.offender_no, "BAS")
    with draining(application, "incentive"), draining(application, "visit"):
        until(lambda: hits(sandbox, fault) >= 4)
        published = time.monotonic()
        visit_booked(sandbox).publish()
        until(lambda: sandbox.nomis("visit"))
        assert time.monotonic() - published < GOOD_SECONDS


def test_allocations_that_fail_in_dps_do_not_hold_up_an_attendance(
    sandbox: Sandbox, application: Application, impatient_breaker: None
) -> None:
    """While four allocations cannot be read from DPS, an attendance is written to NOMIS within half a minute.

    The messages about all of them are on the same queue.
    """
    application.queue_pair("activity")
    schedule = schedule_created(sandbox)
    schedule.publish()
    drain = application.open_drain("activity")
    drain.run_until_empty()
    allocated(sandbox, schedule).publish()
    drain.run_until_empty()
    fault = sandbox.fault("activities", "GET", "/allocations/.*", status=500)
    for _ in range(4):
        allocated(sandbox, schedule).publish()
    with draining(application, "activity"):
        until(lambda: hits(sandbox, fault) >= 4)
        published = time.monotonic()
        attended(sandbox, schedule).publish()
        until(lambda: sandbox.nomis("attendance"))
        assert time.monotonic() - published < GOOD_SECONDS


@pytest.mark.parametrize("service", ["mapping", "visits"])
def test_an_outage_of_another_service_is_waited_for(
    sandbox: Sandbox, application: Application, impatient_breaker: None, service: str
) -> None:
    """While the mapping service or visit-scheduler responds with 503, messages wait.

    Afterwards, all of them are handled.
    """
    sandbox.traffic(events=40, seed=9, queues=["visit"])
    sandbox.fault(service, status=503)
    with draining(application, "visit"):
        until(lambda: application.breakers.open_services(UpstreamName))
        sandbox.clear_faults()
        until(lambda: application.queue_pair("visit").main.counts().total == 0)
    nothing_lost(sandbox, application, "visit")


def test_a_crash_of_the_database_loses_nothing(sandbox: Sandbox) -> None:
    """If PostgreSQL crashes during a drain and then restarts, nothing is lost or duplicated.

    No message becomes a dead letter.
    """
    server = PostgresServer()
    try:
        server.start()
        with open_application(sandbox.environment(), server.url.render_as_string()) as application:
            application.queue_pair("visit")
            sandbox.traffic(events=60, seed=10, queues=["visit"])
            with (
                capture_logs() as logs,
                held(sandbox, "nomis", "POST", "/prisoners/{offenderNo}/visits", times=None, skip=5) as creates,
                draining(application, "visit"),
            ):
                creates.wait_for_request()
                server.stop()
                creates.release()
                until(lambda: application.queue_pair("visit").main.counts().visible, "work fails without the database")
                server.start()
                until(lambda: application.queue_pair("visit").main.counts().total == 0)
            nothing_lost(sandbox, application, "visit")
            logged = Counter(each["event"] for each in logs if each["log_level"] in ("warning", "error"))
            # Reads and writes may each log the outage once, however many groups and threads it affects.
            assert 1 <= logged["database-unavailable"] <= 2
            assert not logged.keys() & {"leases-not-renewed", "breaker-state-not-read", "telemetry-kept"}
            assert sum(each["event"] == "database-available" for each in logs) == logged["database-unavailable"]
    finally:
        server.close()


def test_records_that_nomis_can_never_store_hold_up_nothing(sandbox: Sandbox, application: Application) -> None:
    """NOMIS responds with 500 to the creates of appointments in cells.

    The messages about them become dead letters, and the responses do not count as an outage.
    """
    sandbox.traffic(events=0, seed=3, queues=["appointment"], refused=4)
    drain, pair = application.open_drain("appointment", 0.5), application.queue_pair("appointment")

    def nothing_left() -> bool:
        drain.run_until_empty()
        assert not application.breakers.open_services(UpstreamName)
        assert not application.breakers.trying(UpstreamName)
        return pair.main.counts().total == 0

    until(nothing_left, "the queue is empty")
    messages = pair.dlq.receive()
    assert len(messages) == 4
    for message in messages:
        failure = last_failure(application.database, queue="appointment", message_id=message.message_id)
        assert failure is not None
        assert "accepts no appointment without a location" in failure.failure.reason
        assert not failure.failure.recoverable
