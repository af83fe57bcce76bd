"""A redrive in batches says why it stopped, even if SQS is unavailable."""

from __future__ import annotations

import pytest

from jobs.errors import WorkError
from jobs.operations.retry_dead_letters import BatchResult, BatchState, check_batches
from sync.queues.queue import Message
from sync.repair.dead_letters import read_dead_letter
from tests.harness.app import App, open_application


def test_the_reason_is_said_although_sqs_is_unavailable(app: App) -> None:
    """If the rest of the dead letter queue cannot be counted, the command still says why it stopped."""
    sent = {"new": read_dead_letter(Message("old", "handle", "{}", receive_count=1))}
    batch = BatchResult(sent, BatchState.FAILED, {"new": "nomis: status 400: no"}, on_queue=0)
    away = {"HMPPS_SQS_LOCALSTACK_URL": "http://127.0.0.1:1"}
    with (
        open_application(app.settings, app.settings["DATABASE_URL"], **away) as opened,
        pytest.raises(WorkError) as stopped,
    ):
        check_batches(opened, "visit", [batch])
    assert str(stopped.value) == "stopped: 1 message failed again: nomis: status 400: no"
