"""What waits on the incentive queues is seen, and stays there."""

import pytest

from jobs.waiting_reviews import waiting_reviews
from sandbox import Sandbox
from sync.catalogue import event_types
from sync.envelope import write_mapping_retry
from sync.queues.aws import Aws
from sync.queues.setup import QueuePair, open_queues
from sync.settings import load_settings


@pytest.fixture
def pair(sandbox: Sandbox) -> QueuePair:
    """The incentive queue and its dead letter queue."""
    settings = load_settings(sandbox.environment())
    return open_queues(settings, Aws(settings), {"incentive": event_types("incentive")})["incentive"]


def test_reviews_on_both_queues_are_seen(sandbox: Sandbox, pair: QueuePair) -> None:
    """Reviews are known by the ids of events and of mapping retries; what tells of no review is passed over."""
    offenders = [each["offenderNo"] for each in sandbox.prisoners()[:12]]
    on_queue = {sandbox.add_review(offender, "ENH") for offender in offenders}
    mapping = {"nomisBookingId": 1, "nomisIncentiveSequence": 2, "incentiveId": 777}
    pair.dlq.send(write_mapping_retry(mapping, {}))
    pair.dlq.send("no message at all")
    waiting = waiting_reviews(pair)
    assert waiting.on_queue == on_queue
    assert waiting.on_dlq == {777}
    assert (pair.main.counts().visible, pair.dlq.counts().visible) == (12, 2)


def test_nothing_waits_on_empty_queues(pair: QueuePair) -> None:
    """Empty queues tell of nothing, at once."""
    waiting = waiting_reviews(pair)
    assert (waiting.on_queue, waiting.on_dlq) == (frozenset(), frozenset())
