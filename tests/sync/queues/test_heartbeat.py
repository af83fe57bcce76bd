"""The heartbeat keeps tracked messages hidden, but not released messages. The tests move the queue's clock forward."""

from __future__ import annotations

import pytest

from sync.queues import heartbeat as heartbeats
from sync.queues.heartbeat import Heartbeat
from tests.harness.stub_queue import RENEWAL, stubbed

_VISIBILITY = 1
_NEARLY = 0.9


@pytest.fixture(autouse=True)
def frequent_renewals(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes the heartbeat renew messages very often: the tests wait for renewals while the clock stands still."""
    monkeypatch.setattr(heartbeats, "_RENEWALS_IN_A_TIMEOUT", 30)


def test_tracked_messages_stay_hidden() -> None:
    """Twelve tracked messages stay hidden beyond their visibility timeout, so nobody receives any of them again."""
    with stubbed(messages=12) as made, Heartbeat(made.queue, _VISIBILITY) as heartbeat:
        for _ in range(2):
            heartbeat.track(made.queue.receive(visibility_seconds=_VISIBILITY))
        for _ in range(4):
            made.renew_and_forward(_NEARLY, entries=12)
            assert made.queue.receive() == []
        assert made.left() == 12


def test_released_messages_become_visible_again() -> None:
    """A released message is not renewed, and can be received after its visibility timeout."""
    with stubbed(messages=2) as made, Heartbeat(made.queue, _VISIBILITY) as heartbeat:
        first, second = made.queue.receive(visibility_seconds=_VISIBILITY)
        heartbeat.track([first, second])
        heartbeat.release([first])
        for _ in range(2):
            made.renew_and_forward(_NEARLY)
        again = made.queue.receive(visibility_seconds=30)
        assert [message.message_id for message in again] == [first.message_id]


def test_a_renewal_that_fails_is_tried_again() -> None:
    """If some renewals fail, they are tried again, so no message becomes visible."""
    with (
        stubbed(lambda action, number: action == RENEWAL and number % 3 == 0, messages=4) as made,
        Heartbeat(made.queue, _VISIBILITY) as heartbeat,
    ):
        heartbeat.track(made.queue.receive(visibility_seconds=_VISIBILITY))
        for _ in range(4):
            made.renew_and_forward(_NEARLY, entries=6)
            assert made.queue.receive() == []
        assert made.left() == 4


def test_the_heartbeat_ends_with_its_block() -> None:
    """After the end of its `with` block, the heartbeat renews nothing."""
    with stubbed(messages=1) as made:
        with Heartbeat(made.queue, _VISIBILITY) as heartbeat:
            heartbeat.track(made.queue.receive(visibility_seconds=_VISIBILITY))
            made.renew_and_forward(_NEARLY)
        renewed = made.sqs.entries[RENEWAL]
        made.clock.forward(_VISIBILITY)
        assert len(made.queue.receive()) == 1
        assert made.sqs.entries[RENEWAL] == renewed
