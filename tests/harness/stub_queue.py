"""A queue on an SQS stub, for what no emulator offers: batch entries that fail, and a clock that tests move."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from unittest import mock

from benchmarks.stub_http import ServerThread
from benchmarks.stub_sqs import StubSqs
from sync.queues.aws import Aws
from sync.queues.queue import Queue
from sync.settings.loading import load_settings
from tests.harness.waiting import until

NAME = "stubbed"
RENEWAL = "ChangeMessageVisibilityBatch"


class Clock:
    """The stub's clock. `monotonic` stands still until a test moves the clock forward."""

    def __init__(self) -> None:
        self._seconds = 0.0

    def forward(self, seconds: float) -> None:
        """Moves the clock forward by `seconds`."""
        self._seconds += seconds

    def monotonic(self) -> float:
        """The seconds by which the clock has been moved forward. They decide how long messages are hidden."""
        return self._seconds

    def time(self) -> float:
        """The real time, which the stub records as the time when a message was sent."""
        return time.time()


@dataclass(frozen=True, slots=True)
class Stubbed:
    """A queue, and the stub that provides it."""

    queue: Queue
    sqs: StubSqs
    url: str
    clock: Clock

    def renew_and_forward(self, seconds: float, entries: int = 1) -> None:
        """Waits until all messages in flight (at most `entries`) have been renewed, then moves the clock forward."""
        # Two rounds are needed, since the first round may already be under way.
        enough = self.sqs.entries[RENEWAL] + 2 * entries
        until(lambda: self.sqs.entries[RENEWAL] >= enough, "the messages in flight are renewed")
        self.clock.forward(seconds)

    def left(self) -> int:
        """The number of messages on the queue, including hidden ones."""
        return self.queue.counts().total


@contextmanager
def stubbed(fails: Callable[[str, int], bool] | None = None, messages: int = 0) -> Iterator[Stubbed]:
    """A queue with this number of messages. `fails` says which batch entries fail, by action and number."""
    sqs, clock = StubSqs(fails), Clock()
    sqs.fill(NAME, [f"body {number}" for number in range(messages)])
    with mock.patch("benchmarks.stub_sqs.time", clock), ServerThread(sqs) as server:
        settings = load_settings({"HMPPS_SQS_PROVIDER": "localstack", "HMPPS_SQS_LOCALSTACK_URL": server.url})
        queue = Queue(Aws(settings).client("sqs"), NAME, f"http://stub/{NAME}")
        yield Stubbed(queue, sqs, server.url, clock)
