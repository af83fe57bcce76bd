"""Messages that cannot be tried, or that fail because of a service, wait instead of becoming dead letters."""

from __future__ import annotations

import threading
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from jobs.runtime.application import Application
from sandbox import Sandbox
from sync.errors import UpstreamError
from sync.events.context import Outcome
from sync.pipeline.coalesce import coalesce
from sync.pipeline.drain import Drain
from sync.pipeline.group_runner import GroupRunner, Missing
from sync.pipeline.outages import UpstreamsUnavailable
from sync.queues.queue import Queue
from sync.settings import times
from sync.settings.upstreams import UpstreamName
from sync.store import failed_attempts as failures
from tests.harness.app import open_application
from tests.harness.faults import held, hits
from tests.harness.pipeline import draining, last_failure, nothing_lost
from tests.harness.publishing import visit_booked
from tests.harness.waiting import LONGEST_SECONDS, in_thread, result_of, until

pytestmark = pytest.mark.usefixtures("no_pauses")
VISITS = "/prisoners/{offenderNo}/visits"
LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)
#: The number of attempts: far more than the three receives after which a message becomes a dead letter.
MANY = 15


def test_a_message_waits_if_calls_fail_and_pings_succeed(
    sandbox: Sandbox, application: Application, impatient_breaker: None
) -> None:
    """While writes to NOMIS get 503 and pings succeed, the only message waits.

    It is applied once writes succeed again.
    """
    sandbox.traffic(events=1, seed=4, queues=["visit"])
    fault = sandbox.fault("nomis", "POST", status=503)
    with draining(application, "visit"):
        until(lambda: hits(sandbox, fault) >= MANY)
        assert application.queue_pair("visit").dlq.counts().total == 0
        sandbox.clear_faults()
        until(lambda: application.queue_pair("visit").main.counts().total == 0)
    nothing_lost(sandbox, application, "visit")


def test_a_single_message_survives_an_outage(
    sandbox: Sandbox, application: Application, impatient_breaker: None
) -> None:
    """If only one message is tried during an outage of NOMIS, the message waits, and is applied after the outage."""
    sandbox.traffic(events=12, seed=4, queues=["visit"])
    application.open_drain("visit").run_until_empty()
    fault = sandbox.fault("nomis", status=503)
    sandbox.traffic(events=1, seed=5, queues=["visit"])
    with draining(application, "visit"):
        until(lambda: hits(sandbox, fault) >= MANY)
        sandbox.clear_faults()
        until(lambda: application.queue_pair("visit").main.counts().total == 0)
    nothing_lost(sandbox, application, "visit")


@pytest.mark.parametrize("status", [500, 504, 520])
def test_a_message_waits_if_a_gateway_responds(sandbox: Sandbox, application: Application, status: int) -> None:
    """If a gateway responds with a 5xx in place of visit-scheduler, a single booking waits.

    It is applied once visit-scheduler responds again.
    """
    visit_booked(sandbox).publish()
    fault = sandbox.fault("visits", "GET", "/visits/", status=status, text="<html>not the scheduler</html>")
    pair = application.queue_pair("visit")
    with draining(application, "visit"):
        until(lambda: hits(sandbox, fault) >= 5)
        assert pair.dlq.counts().total == 0
        sandbox.clear_faults()
        until(lambda: pair.main.counts().total == 0)
    nothing_lost(sandbox, application, "visit")


@pytest.mark.parametrize(
    ("method", "response"),
    [
        ("POST", {"status": 504, "text": "<html>Gateway Timeout</html>"}),
        ("PUT", {"status": 504, "text": "<html>Gateway Timeout</html>"}),
        ("POST", {"status": 500}),
    ],
    ids=["create without response", "change without response", "create with an unknown outcome"],
)
def test_a_write_with_an_unknown_outcome_ends_as_a_dead_letter(
    sandbox: Sandbox,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    quick_creates: None,
    method: str,
    response: dict[str, Any],
) -> None:
    """If the outcome of a write is always unknown, each receive counts, so the message becomes a dead letter."""
    monkeypatch.setattr(times, "LEASE_WAIT_SECONDS", 0.0)
    monkeypatch.setattr(times, "LONGEST_OUTAGE_SECONDS", 0.0)
    # A search of NOMIS must come before the grace period of a create ends. A change is only sent again.
    settings = {"API_TIMEOUT_SECONDS": "0.4", "CREATION_SETTLING_SECONDS": "0.1" if method == "PUT" else "1.5"}
    with open_application(sandbox.environment(), f"sqlite:///{tmp_path}/doubt.db", **settings) as application:
        pair, event = application.queue_pair("visit"), visit_booked(sandbox)
        event.publish()
        with draining(application, "visit"):
            if method == "PUT":
                until(lambda: sandbox.nomis("visit") and pair.main.counts().total == 0)
                sandbox.publish("prison-visit.changed", dict(event.information), event.prisoner_id)
            fault = sandbox.fault("nomis", method, "/prisoners/", **response)

            def is_dead_letter() -> bool:
                # If every copy were copied again, this would never end.
                assert hits(sandbox, fault) <= 3, "the message is tried more often than it may be received"
                return pair.dlq.counts().total == 1

            until(is_dead_letter)
        # For a creation, one receive searches NOMIS and waits until the result is reliable.
        assert hits(sandbox, fault) == {"POST": 2, "PUT": 3}[method]
        found = last_failure(application.database, message_id=pair.dlq.receive()[0].message_id)
        assert found is not None
        assert found.attempt == 3


def drain_by_command(application: Application, name: str) -> None:
    """Runs a drain that waits one second for an unavailable service and then gives up."""
    drain = application.open_drain(name, hold_seconds=1)
    with pytest.raises(UpstreamsUnavailable):
        drain.run_until_empty()


def test_drains_by_command_that_give_up_make_no_dead_letters(
    sandbox: Sandbox, application: Application, impatient_breaker: None
) -> None:
    """However many drains give up while only pings succeed, no booking becomes a dead letter.

    The failures of the bookings that were tried are recorded.
    """
    for each in [visit_booked(sandbox) for _ in range(4)]:
        each.publish()
    sandbox.fault("nomis", "POST", status=503)
    pair = application.queue_pair("visit")
    for _ in range(4):
        drain_by_command(application, "visit")
    assert (pair.main.counts().total, pair.dlq.counts().total) == (4, 0)
    with application.database.read() as connection:
        assert sum(each.recoverable for each in failures.counts(connection, LONG_AGO)) >= 4
    sandbox.clear_faults()
    with draining(application, "visit"):
        until(lambda: pair.main.counts().total == 0)
    nothing_lost(sandbox, application, "visit")


@pytest.mark.parametrize(("service", "status"), [("auth", 401), ("nomis", 401), ("nomis", 403)])
def test_messages_wait_while_credentials_are_wrong(
    sandbox: Sandbox, application: Application, impatient_breaker: None, service: str, status: int
) -> None:
    """While a secret or token is refused or a role is missing, messages wait, and none becomes a dead letter."""
    for _ in range(4):
        visit_booked(sandbox).publish()
    sandbox.expire_tokens()
    fault = sandbox.fault(service, "POST", status=status)
    pair = application.queue_pair("visit")
    with draining(application, "visit"):
        until(lambda: hits(sandbox, fault) >= MANY)
        assert pair.dlq.counts().total == 0
        sandbox.clear_faults()
        until(lambda: pair.main.counts().total == 0)
    nothing_lost(sandbox, application, "visit")


def test_no_more_messages_are_received_than_may_try_a_service(sandbox: Sandbox, application: Application) -> None:
    """While it is unknown whether NOMIS is up again, a drain receives only as many messages as it may try."""
    for _ in range(5):
        visit_booked(sandbox).publish()
    drain, main = application.open_drain("visit"), application.queue_pair("visit").main
    for number in range(3):
        error = UpstreamError("nomis", "GET", f"/{number}", status=503, message="")
        application.breakers.after_call(UpstreamName.NOMIS, "GET", error, 0.01)
    with held(sandbox, "nomis", "POST", VISITS) as create:
        working = in_thread(drain.run_batch)
        create.wait_for_request()
        assert main.counts().visible == 4
        create.release()
        assert result_of(working).applied == 1


def test_a_message_waits_while_another_thread_tries_the_service(sandbox: Sandbox, application: Application) -> None:
    """While another thread tries a service, a message that needs the service is parked.

    It is parked before anything is read from DPS. After the other thread's call succeeds, the message is applied.
    """
    visit_booked(sandbox).publish()
    drain, main = application.open_drain("visit"), application.queue_pair("visit").main
    (group,) = coalesce(main.receive(), drain._queue_context.domain)
    for number in range(3):
        error = UpstreamError("nomis", "GET", f"/{number}", status=503, message="")
        application.breakers.after_call(UpstreamName.NOMIS, "GET", error, 0.01)
    until(lambda: application.breakers.probe([UpstreamName.NOMIS]))
    trying, ended = threading.Event(), threading.Event()

    def try_it() -> None:
        application.breakers.before_call(UpstreamName.NOMIS)
        trying.set()
        ended.wait(LONGEST_SECONDS)
        application.breakers.after_call(UpstreamName.NOMIS, "GET", None, 0.01)

    other = in_thread(try_it)
    assert trying.wait(LONGEST_SECONDS)
    runner = GroupRunner(drain._queue_context, drain._control)
    result = runner.run(group)
    assert result.parked is not None
    assert result.parked.missing is Missing.SERVICE
    assert sandbox.requests("visits") == []
    ended.set()
    result_of(other)
    assert [end.outcome for end in runner.run(group).ended] == [Outcome.APPLIED]


def test_a_returned_message_is_not_a_dead_letter(sandbox: Sandbox, application: Application) -> None:
    """A message that is returned untried at its last receive, for example at a stop, does not become a dead letter."""
    pair = application.queue_pair("visit")
    visit_booked(sandbox).publish()
    for _ in range(2):
        pair.main.change_visibility(pair.main.receive(), 0)
    drain = application.open_drain("visit")
    drain._acknowledger.return_untried(pair.main.receive())
    assert drain.run_batch().applied == 1
    nothing_lost(sandbox, application, "visit")


class OneReceiveBreaks:
    """An SQS client that raises an unexpected error at its third receive."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self._numbers = count(1)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def receive_message(self, **arguments: Any) -> Any:
        """Receives messages, but raises an error at the third call."""
        if next(self._numbers) == 3:
            raise ValueError("not thought of")
        return self._client.receive_message(**arguments)


def test_a_failed_receive_does_not_affect_the_others(sandbox: Sandbox, application: Application) -> None:
    """Whatever one receive raises, the messages of the other receives are handled and do not stay hidden."""
    main = application.queue_pair("visit").main
    sandbox.traffic(events=40, seed=4, queues=["visit"])
    until(lambda: main.counts().visible == 40)
    breaking = Queue(OneReceiveBreaks(application.aws.client("sqs")), main.name, main.url)
    with Drain(application.queue_context("visit"), breaking) as drain:
        assert drain.run_batch().received > 10
        assert main.counts().in_flight == 0
        drain.run_until_empty()
    nothing_lost(sandbox, application, "visit")
