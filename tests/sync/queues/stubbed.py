"""A queue of a stub of SQS, for what no emulator does: entries of batch calls that fail."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from benchmarks.stub_http import ServerThread
from benchmarks.stub_sqs import StubSqs
from sync.queues.aws import Aws
from sync.queues.queue import Queue
from sync.settings import load_settings

NAME = "stubbed"


@dataclass(frozen=True, slots=True)
class Stubbed:
    """A queue, and the stub that it is on."""

    queue: Queue
    sqs: StubSqs

    def left(self) -> int:
        """How many messages are on the queue, hidden or not."""
        return self.queue.counts().total


@contextmanager
def stubbed(fails: Callable[[str, int], bool] | None = None, messages: int = 0) -> Iterator[Stubbed]:
    """A queue with so many messages, whose batch entries fail as `fails` says of their action and number."""
    sqs = StubSqs(fails)
    sqs.fill(NAME, [f"body {number}" for number in range(messages)])
    with ServerThread(sqs) as server:
        settings = load_settings({"HMPPS_SQS_PROVIDER": "localstack", "HMPPS_SQS_LOCALSTACK_URL": server.url})
        yield Stubbed(Queue(Aws(settings).client("sqs"), NAME, f"http://stub/{NAME}"), sqs)
