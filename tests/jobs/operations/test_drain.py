"""The job that drains the queues counts messages even if it fails."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from botocore.exceptions import EndpointConnectionError

from jobs.operations.drain import DrainParameters, run_drain
from jobs.runtime.application import Application
from sandbox import Sandbox
from tests.harness.app import open_application
from tests.harness.publishing import visit_booked
from tests.harness.waiting import until


@pytest.fixture
def application(sandbox: Sandbox, tmp_path: Path) -> Iterator[Application]:
    """One process of the program, with a SQLite database."""
    with open_application(sandbox.environment(), f"sqlite:///{tmp_path}/one.db") as application:
        yield application


def test_handled_messages_are_counted_when_the_queue_fails(sandbox: Sandbox, application: Application) -> None:
    """If receiving fails after some messages were handled, the run fails, but its counts include those messages."""
    main = application.queue_pair("visit").main
    for _ in range(3):
        visit_booked(sandbox).publish()
    until(lambda: main.counts().visible == 3)
    events, is_away = application.aws.client("sqs").meta.events, threading.Event()

    def receive(**_: object) -> None:
        if is_away.is_set():
            raise EndpointConnectionError(endpoint_url="http://sqs")

    events.register("before-call.sqs.ReceiveMessage", receive)
    events.register("after-call.sqs.DeleteMessageBatch", lambda **_: is_away.set())
    result = run_drain(application, DrainParameters(("visit",), until_empty=True))
    assert "EndpointConnectionError" in result.errors["visit"].reason
    assert (result.totals["received"], result.totals["applied"]) == (3, 3)
