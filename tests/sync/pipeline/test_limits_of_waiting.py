"""Each reason for waiting has a time limit. No wait within its limit makes a message a dead letter."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from jobs.runtime.application import Application
from sandbox import Sandbox
from sync.clock import now
from sync.creation.creation import creation_lease
from sync.errors import UpstreamError
from sync.queues.queue import Message
from sync.queues.requeue import WaitsFor, attributes_anew, attributes_of_copy, may_wait, pause_seconds, waits_since
from sync.settings import times
from sync.settings.upstreams import UpstreamName
from sync.store.leases import Leases
from sync.store.waiting_messages import Wait, count_waits
from tests.harness.app import open_application
from tests.harness.faults import held, hits
from tests.harness.pipeline import draining, nothing_lost
from tests.harness.publishing import visit_booked
from tests.harness.waiting import in_thread, result_of, until

pytestmark = pytest.mark.usefixtures("no_pauses")
VISITS = "/prisoners/{offenderNo}/visits"


def test_a_new_outage_has_the_full_time_limit() -> None:
    """A message that has waited for a service and then for a creation has the full time limit for the next outage."""
    message = Message("id", "handle", "body", 1, attributes=waited(SERVICE=3_000.0))
    assert not may_wait(message, WaitsFor.SERVICE, 1_800.0)
    assert may_wait(message, WaitsFor.CREATION, 300.0)
    copy = replace(message, attributes=attributes_of_copy(message, WaitsFor.CREATION))
    assert may_wait(copy, WaitsFor.SERVICE, 1_800.0)
    again = replace(copy, attributes=attributes_of_copy(copy, WaitsFor.CREATION))
    assert again.attributes == copy.attributes


def test_an_outage_of_another_service_has_the_full_time_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """A message that waited for one service has the full time limit for another, and its pauses are short again.

    The total wait goes on. A copy made by an earlier version does not name the service, so its wait goes on too.
    """
    monkeypatch.setattr(times, "LONGEST_REQUEUE_SECONDS", 60)
    began = waited(SERVICE=3_000.0)
    earlier = Message("id", "handle", "body", 1, attributes=began)
    assert waits_since(earlier, WaitsFor.SERVICE, "nomis").isoformat() == began[WaitsFor.SERVICE]["StringValue"]
    copy = replace(earlier, attributes=attributes_of_copy(earlier, WaitsFor.SERVICE, "nomis"))
    assert not may_wait(copy, WaitsFor.SERVICE, 1_800.0, "nomis")
    assert may_wait(copy, WaitsFor.SERVICE, 1_800.0, "visits")
    assert pause_seconds(copy, WaitsFor.SERVICE, "visits") < pause_seconds(copy, WaitsFor.SERVICE, "nomis")
    other = replace(copy, attributes=attributes_of_copy(copy, WaitsFor.SERVICE, "visits"))
    assert now() - waits_since(other, WaitsFor.SERVICE, "visits") < timedelta(seconds=60)
    assert other.attributes["waitsSince"] == copy.attributes["waitsSince"]
    assert not {name for name in attributes_anew(other) if name.startswith("waits")}


def test_the_total_wait_of_a_message_is_limited() -> None:
    """However often the reason for waiting changes, the total wait, counted from the first wait, is limited.

    The count starts again if the message is sent back.
    """
    message = Message("id", "handle", "body", 1, attributes=waited(SERVICE=times.LONGEST_WAIT_SECONDS + 1))
    for waits_for in (WaitsFor.CREATION, WaitsFor.LEASE, WaitsFor.SERVICE, WaitsFor.CREATION):
        message = replace(message, attributes=attributes_of_copy(message, waits_for))
    assert not may_wait(message, WaitsFor.SERVICE, times.LONGEST_OUTAGE_SECONDS)
    assert not may_wait(message, WaitsFor.CREATION, 300.0)
    # The other limits do not shorten the wait with the longest limit.
    assert may_wait(message, WaitsFor.CREATION, 3 * times.LONGEST_WAIT_SECONDS)
    sent_back = replace(message, attributes=attributes_anew(message))
    assert may_wait(sent_back, WaitsFor.SERVICE, times.LONGEST_OUTAGE_SECONDS)


def test_the_wait_restarts_if_another_service_fails(sandbox: Sandbox, application: Application) -> None:
    """If a message waits for one service and then for another, the second wait begins when the second service fails.

    Further failures of that service leave the beginning of the wait as it is.
    """

    def wait() -> Wait:
        until(lambda: drain.run_batch().deferred)
        with application.database.read() as connection:
            (found,) = count_waits(connection)
        return found

    drain = application.open_drain("visit")
    visit_booked(sandbox).publish()
    sandbox.fault("visits", "GET", "/visits/", status=503)
    first = wait()
    sandbox.clear_faults()
    sandbox.fault("nomis", "POST", VISITS, status=503)
    changed = now()
    second, third, fourth = wait(), wait(), wait()
    assert [each.service for each in (first, second, third, fourth)] == ["visits", "nomis", "nomis", "nomis"]
    assert first.since < changed <= min(second.since, third.since)
    assert third.since == fourth.since
    sandbox.clear_faults()
    until(lambda: drain.run_batch().applied)
    nothing_lost(sandbox, application, "visit")


def waited(**seconds: float) -> dict[str, dict[str, str]]:
    """The attributes of a message that has waited. Each argument names a reason and gives the seconds waited for it."""
    return {
        WaitsFor[name]: {"DataType": "String", "StringValue": (now() - timedelta(seconds=each)).isoformat()}
        for name, each in seconds.items()
    }


def test_messages_that_are_hidden_for_long_are_replaced(
    sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQS hides a message for at most 12 hours.

    Before that limit, a message that is still in its batch is replaced by a copy with all its receives left.
    """
    with open_application(sandbox.environment(), f"sqlite:///{tmp_path}/one.db", DRAIN_CONCURRENCY="1") as application:
        main, drain = application.queue_pair("visit").main, application.open_drain("visit")
        for _ in range(4):
            visit_booked(sandbox).publish()
        until(lambda: main.counts().visible == 4)
        with held(sandbox, "nomis", "POST", VISITS) as create:
            working = in_thread(drain.run_batch)
            create.wait_for_request()
            monkeypatch.setattr(times, "LONGEST_HIDDEN_SECONDS", 0.0)
            # One message is held, and the other is next.
            until(lambda: main.counts().visible == 2)
            copies = main.receive()
            create.release()
            summary = result_of(working)
        assert [each.receive_count for each in copies] == [1, 1]
        assert (summary.applied, summary.deferred) == (2, 2)
        monkeypatch.undo()
        main.change_visibility(copies, 0)
        assert drain.run_batch().applied == 2
        nothing_lost(sandbox, application, "visit")


def test_parked_messages_that_are_hidden_for_long_are_replaced(
    sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, impatient_breaker: None
) -> None:
    """A message that is parked in its batch for too long during an outage is replaced by a copy."""
    with open_application(sandbox.environment(), f"sqlite:///{tmp_path}/one.db", DRAIN_CONCURRENCY="1") as application:
        main, drain = application.queue_pair("visit").main, application.open_drain("visit")
        for _ in range(2):
            visit_booked(sandbox).publish()
        until(lambda: main.counts().visible == 2)
        ping = sandbox.fault("nomis", path="/health/ping", status=503)
        with held(sandbox, "nomis", "POST", VISITS) as create:
            working = in_thread(drain.run_batch)
            create.wait_for_request()
            for number in range(3):
                error = UpstreamError("nomis", "GET", f"/{number}", status=503, message="")
                application.breakers.after_call(UpstreamName.NOMIS, "GET", error, 0.01)
            create.release()
            # During a batch, the service is pinged only while messages are parked.
            until(lambda: hits(sandbox, ping))
            until(lambda: main.counts().total == 1)
            assert main.counts().visible == 0
            monkeypatch.setattr(times, "LONGEST_HIDDEN_SECONDS", 0.0)
            summary = result_of(working)
        assert (summary.applied, summary.deferred) == (1, 1)
        (copy,) = main.receive()
        assert copy.receive_count == 1
        monkeypatch.setattr(times, "LONGEST_HIDDEN_SECONDS", 39_600.0)
        sandbox.clear_faults()
        main.change_visibility([copy], 0)
        until(lambda: drain.run_batch().applied)
        nothing_lost(sandbox, application, "visit")


def test_a_long_held_lease_makes_no_dead_letter(
    sandbox: Sandbox, application: Application, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While another process holds the lease of a record, a message about the record waits.

    It does not become a dead letter.
    """
    for name in ("LEASE_WAIT_SECONDS", "LEASE_POLL_SECONDS"):
        monkeypatch.setattr(times, name, 0)
    pair, event = application.queue_pair("visit"), visit_booked(sandbox)
    event.publish()
    other, key = Leases(application.database, "living", 300), creation_lease("visit", event.dps_id)
    assert other.acquire(key)
    with capture_logs() as logs, draining(application, "visit"):
        # The queue allows three receives.
        until(lambda: sum(each["event"] == "lease-busy" for each in logs) >= 5)
        other.release(key)
        until(lambda: pair.main.counts().total == 0)
    nothing_lost(sandbox, application, "visit")


def test_a_message_is_hidden_while_its_request_may_be_under_way(sandbox: Sandbox, tmp_path: Path) -> None:
    """While NOMIS may still be handling a request, the message that caused the request stays hidden on the queue."""
    url = f"sqlite:///{tmp_path}/settling.db"
    with open_application(sandbox.environment(), url, CREATION_SETTLING_SECONDS="60") as application:
        drain, main = application.open_drain("visit"), application.queue_pair("visit").main
        visit_booked(sandbox).publish()
        sandbox.fault("nomis", "POST", kind="reset", times=1)
        until(lambda: drain.run_batch().deferred)
        until(lambda: drain.run_batch().deferred)
        assert (main.counts().visible, main.counts().total) == (0, 1)
        assert drain.run_batch().received == 0
