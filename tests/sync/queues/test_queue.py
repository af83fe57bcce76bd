"""A queue sends entries in batches of ten, retries those that fail, and names itself and the call in errors."""

from __future__ import annotations

import pytest
from botocore.retries.standard import ExponentialBackoff

from sync.queues.aws import Aws
from sync.queues.queue import Message, Queue, QueueUnavailable
from sync.settings.loading import load_settings
from tests.harness.stub_queue import Stubbed, stubbed


def receive_all(queue: Queue) -> list[Message]:
    """Receives all visible messages, and returns them."""
    messages: list[Message] = []
    while received := queue.receive():
        messages.extend(received)
    return messages


def test_messages_are_deleted_in_batches_of_ten() -> None:
    """Twenty-five messages are deleted in three calls, and none is left."""
    with stubbed(messages=25) as made:
        assert made.queue.delete(receive_all(made.queue)) == []
        assert made.left() == 0
        assert made.sqs.calls["DeleteMessageBatch"] == 3


def test_entries_that_fail_are_tried_again() -> None:
    """If a batch gets 200 with failed entries, only the failed entries are sent again, until they succeed."""
    with stubbed(lambda _action, number: number % 3 == 0, messages=20) as made:
        assert made.queue.delete(receive_all(made.queue)) == []
        assert made.left() == 0
        assert 20 < made.sqs.entries["DeleteMessageBatch"] < 35


def test_entries_that_keep_failing_are_returned() -> None:
    """Messages that cannot be deleted in several attempts are returned to the caller.

    All other messages are deleted.
    """

    def fails(action: str, number: int) -> bool:
        return action == "DeleteMessageBatch" and number > 10

    with stubbed(fails, messages=15) as made:
        messages = receive_all(made.queue)
        assert made.queue.delete(messages) == messages[10:]
        assert made.left() == 5


def test_failed_changes_of_visibility_are_tried_again() -> None:
    """Returned messages are visible again at once, even if some entries of a batch fail at first."""
    with stubbed(lambda _action, number: number in (2, 5), messages=12) as made:
        messages = receive_all(made.queue)
        assert made.queue.receive() == []
        assert made.queue.change_visibility(messages, 0) == []
        again = receive_all(made.queue)
        assert {message.message_id for message in again} == {message.message_id for message in messages}
        assert {message.receive_count for message in again} == {2}


def test_messages_have_the_attributes_of_sqs() -> None:
    """A message has its id, body, receive count and sending time. The queue counts its visible and hidden messages."""
    with stubbed() as made:
        sent = made.queue.send("hello")
        counts = made.queue.counts()
        assert (counts.visible, counts.in_flight, counts.total) == (1, 0, 1)
        (message,) = made.queue.receive()
        assert (message.message_id, message.body, message.receive_count) == (sent, "hello", 1)
        assert message.sent_at is not None
        assert message.sent_at.tzinfo is not None
        assert made.queue.counts().in_flight == 1


def test_an_error_names_the_queue_and_the_call() -> None:
    """If SQS responds with an error, the error that is raised names the queue, the call and the error code of SQS."""
    with stubbed() as made:
        made.sqs._actions.pop("GetQueueAttributes")
        with pytest.raises(QueueUnavailable, match=r"^queue stubbed: get_queue_attributes: InvalidAction$"):
            made.queue.counts()


def test_a_missing_response_names_the_queue_and_the_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """If SQS cannot be reached, the error of a call names the queue and the call.

    A deletion raises no error, but returns all its messages.
    """
    # The client of AWS would wait for seconds between its attempts.
    monkeypatch.setattr(ExponentialBackoff, "delay_amount", lambda *_: 0)
    settings = load_settings({"HMPPS_SQS_PROVIDER": "localstack", "HMPPS_SQS_LOCALSTACK_URL": "http://127.0.0.1:1"})
    queue = Queue(Aws(settings).client("sqs"), "gone", "http://127.0.0.1:1/gone")
    with pytest.raises(QueueUnavailable, match=r"^queue gone: send_message: EndpointConnectionError$"):
        queue.send("hello")
    with stubbed(messages=12) as made:
        messages = receive_all(made.queue)
    assert len(messages) == 12
    assert queue.delete(messages) == messages


def test_one_client_for_each_set_of_keys() -> None:
    """Queues with separate keys have separate clients, and all other queues share one client."""
    aws = Aws(load_settings({"HMPPS_SQS_PROVIDER": "localstack"}))
    assert aws.client("sqs") is aws.client("sqs")
    own = aws.client("sqs", "AKIA1", "secret")
    assert own is not aws.client("sqs")
    assert own is aws.client("sqs", "AKIA1", "secret")
    assert own._request_signer._credentials.access_key == "AKIA1"
    assert aws.client("s3") is not aws.client("sqs")


def fails_always(_action: str, _number: int) -> bool:
    """Makes every entry fail."""
    return True


def test_a_batch_that_fails_completely_is_returned() -> None:
    """If every entry of a batch fails, all messages of the batch are returned to the caller."""
    with stubbed(fails_always, messages=3) as made:
        _expect_all_back(made)


def _expect_all_back(made: Stubbed) -> None:
    messages = receive_all(made.queue)
    assert made.queue.change_visibility(messages, 0) == messages
    assert made.queue.receive() == []
