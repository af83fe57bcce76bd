"""When a redrive in batches stops, it gives each reason once, even if SQS is unavailable."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from jobs.errors import WorkError
from jobs.operations.retry_dead_letters import BatchResult, BatchState, check_batches
from sync.queues.queue import Message
from sync.repair.dead_letters import read_dead_letter
from sync.store.waiting_messages import WaitingMessage
from tests.harness.app import App, open_application


def test_the_reason_is_said_although_sqs_is_unavailable(app: App) -> None:
    """If the messages left on the dead letter queue cannot be counted, the command still says why it stopped."""
    sent = {"new": read_dead_letter(Message("old", "handle", "{}", receive_count=1))}
    batch = BatchResult(sent, BatchState.FAILED, {"new": "nomis: status 400: no"}, on_queue=0)
    away = {"HMPPS_SQS_LOCALSTACK_URL": "http://127.0.0.1:1"}
    with (
        open_application(app.settings, app.settings["DATABASE_URL"], **away) as opened,
        pytest.raises(WorkError) as stopped,
    ):
        check_batches(opened, "visit", [batch])
    assert str(stopped.value) == "stopped: 1 message failed again: nomis: status 400: no"


def test_each_reason_has_its_number_and_its_first_attempt(app: App) -> None:
    """Each reason to wait is given once, with the number of messages that wait and the earliest next attempt."""
    noon = datetime(2024, 1, 10, 12, 0, tzinfo=UTC)
    waits = [("nomis: status 503", 20), ("visits: status 502", 5), ("nomis: status 503", 10)]
    waiting = {
        f"new-{number}": WaitingMessage(
            "visit", f"{number}", "service", None, reason, noon, noon + timedelta(0, seconds)
        )
        for number, (reason, seconds) in enumerate(waits)
    }
    sent = {each: read_dead_letter(Message(each, "handle", "{}", receive_count=1)) for each in waiting}
    batch = BatchResult(sent, BatchState.WAITING, {}, 3, waiting)
    with (
        open_application(app.settings, app.settings["DATABASE_URL"]) as opened,
        pytest.raises(WorkError) as stopped,
    ):
        check_batches(opened, "visit", [batch])
    assert str(stopped.value) == (
        "stopped: 3 messages were not handled in time: "
        "2 wait until 12:00:10 or later for the next attempt (nomis: status 503); "
        "1 waits until 12:00:05 for the next attempt (visits: status 502)"
    )
