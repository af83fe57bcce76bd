"""Looking at a queue that is worked: no message is lost by it, whatever fails."""

from __future__ import annotations

from sync.queues.peek import look, look_at_work
from tests.harness.stub_queue import stubbed


def test_a_message_that_was_received_before_gets_all_its_attempts_back() -> None:
    """The first look gives it back one attempt poorer, the next puts a copy in its place, and so on."""
    with stubbed(messages=12) as made:
        counts = []
        for _ in range(5):
            counts.append({message.receive_count for message in look_at_work(made.queue, 100)})
            assert (made.queue.counts().visible, made.left()) == (12, 12)
        assert counts == [{1}, {2}, {1}, {2}, {1}]


def test_a_copy_whose_original_cannot_be_deleted_is_a_second_delivery() -> None:
    """A message is rather there twice than lost."""
    with stubbed(lambda action, _number: action == "DeleteMessageBatch", messages=1) as made:
        look(made.queue, 10)
        [message] = look_at_work(made.queue, 10)
        assert made.left() == 2
        [copy] = look_at_work(made.queue, 10)
        assert (copy.body, copy.receive_count) == (message.body, 1)
        assert copy.message_id != message.message_id


def test_nothing_is_received_where_nothing_is_visible() -> None:
    """A queue that says it is empty, or whose messages are all in hand, is not asked for any."""
    with stubbed(messages=1) as made:
        assert len(made.queue.receive(10, 0, 60)) == 1
        received = made.sqs.calls["ReceiveMessage"]
        assert look_at_work(made.queue, 10) == []
        assert made.sqs.calls["ReceiveMessage"] == received
