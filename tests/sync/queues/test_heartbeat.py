"""The heartbeat: what is in hand stays hidden, what was let go does not."""

from __future__ import annotations

import time

from sync.queues.heartbeat import Heartbeat
from tests.sync.queues.stubbed import Stubbed, stubbed

_SHORT = 2


def _seen_for(made: Stubbed, seconds: float) -> int:
    """How many messages others could receive within so many seconds; each is put back at once."""
    deadline, seen = time.monotonic() + seconds, 0
    while time.monotonic() < deadline:
        received = made.queue.receive(wait_seconds=1)
        seen += len(received)
        made.queue.change_visibility(received, 0)
        if received:
            break
    return seen


def test_messages_in_hand_stay_hidden() -> None:
    """Twelve messages outlive their visibility, and nobody else sees one."""
    with stubbed(messages=12) as made, Heartbeat(made.queue, _SHORT) as heartbeat:
        for _ in range(2):
            heartbeat.hold(made.queue.receive(visibility_seconds=_SHORT))
        assert _seen_for(made, 3) == 0
        assert made.left() == 12


def test_messages_that_were_let_go_come_again() -> None:
    """A message that is let go is renewed no more: it comes again when its visibility ends."""
    with stubbed(messages=2) as made, Heartbeat(made.queue, _SHORT) as heartbeat:
        first, second = made.queue.receive(visibility_seconds=_SHORT)
        heartbeat.hold([first, second])
        heartbeat.let_go([first])
        deadline = time.monotonic() + 20
        while not (again := made.queue.receive(wait_seconds=1, visibility_seconds=30)):
            assert time.monotonic() < deadline
        assert [message.message_id for message in again] == [first.message_id]


def test_a_renewal_that_fails_is_tried_again() -> None:
    """Entries that fail now and then leave no gap in which a message shows."""
    with stubbed(lambda _action, number: number in (1, 2, 6, 9), messages=4) as made:
        with Heartbeat(made.queue, _SHORT) as heartbeat:
            heartbeat.hold(made.queue.receive(visibility_seconds=_SHORT))
            assert _seen_for(made, 3) == 0
        assert made.sqs.entries["ChangeMessageVisibilityBatch"] > 8


def test_it_ends_with_its_block() -> None:
    """After the block nothing is renewed any more."""
    with stubbed(messages=1) as made:
        with Heartbeat(made.queue, _SHORT) as heartbeat:
            heartbeat.hold(made.queue.receive(visibility_seconds=_SHORT))
        assert _seen_for(made, 20) == 1
