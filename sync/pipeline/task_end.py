"""How a task ended, and what that means for those of its messages that are on the queue again."""

from dataclasses import dataclass
from datetime import datetime

from sync.errors import Failure, fingerprint
from sync.events.context import Outcome
from sync.pipeline.coalesce import Task
from sync.queues.requeue import WaitsFor


@dataclass(frozen=True, slots=True)
class TaskEnd:
    """How a task ended, and when its messages are delivered again if they are not deleted.

    The wait before the next delivery is `wait_seconds` if it is set, or else the pause for `waits_for` if that is set,
    or else the configured wait or `least_seconds`, whichever is longer.

    failure: how the task failed. This is recorded, unless the task waits for a creation: in that case, nothing has
        failed yet.
    wait_seconds: the wait before the messages are delivered again, in seconds.
    waits_for: what the messages wait for on the queue. They wait as copies, without using up their receives.
    least_seconds: the minimum wait after a failure, in seconds.
    is_copied: whether the messages are returned as copies although they wait for nothing.
    failure_at_last_receive: the failure to record if the message reaches its last receive a second time. The first
        time, a copy replaces the message; the second time, that copy becomes a dead letter.
    cause: the failure that makes the task wait: its own failure, or that of an earlier task in its group.
    was_handled: whether the task was handled to the end, but the database could not record that.
    """

    task: Task
    outcome: Outcome
    failure: Failure | None = None
    wait_seconds: int | None = None
    waits_for: WaitsFor | None = None
    least_seconds: int = 0
    is_copied: bool = False
    failure_at_last_receive: Failure | None = None
    cause: Failure | None = None
    was_handled: bool = False

    @property
    def awaited(self) -> WaitsFor | None:
        """What the messages of the task wait for on the queue, as copies or originals; None if nothing is awaited."""
        if self.outcome is not Outcome.DEFERRED:
            return None
        return WaitsFor.LEASE if self.failure_at_last_receive else self.waits_for

    @property
    def awaited_service(self) -> str | None:
        """The service that the messages of the task wait for on the queue; None if they do not wait for a service."""
        return self.cause.service if self.cause is not None and self.awaited is WaitsFor.SERVICE else None

    @property
    def why_deferred(self) -> str:
        """Why the messages of the task are deferred: a text that is the same for all messages with the same cause."""
        if self.was_handled:
            return "handled, but the database could not record that"
        cause = "" if self.cause is None else fingerprint(self.cause)
        if self.awaited is WaitsFor.SERVICE:
            return cause
        if self.awaited is WaitsFor.CREATION:
            return f"the record has not been created yet: {cause}"
        if self.awaited is WaitsFor.LEASE:
            return "the record is in use elsewhere, or an earlier request for it may still be under way"
        if self.cause is not None:
            return f"an earlier message about the record failed: {cause}"
        return "not tried before the drain stopped or had waited for too long"

    @property
    def has_failed(self) -> bool:
        """Whether the task has a failure to record; an awaited creation is not a failure."""
        return self.failure is not None and self.waits_for is not WaitsFor.CREATION


@dataclass(frozen=True, slots=True)
class ReturnedMessage:
    """A message on its queue, as its last delivery in a drain left it.

    queue: the id of the queue. outcome: `FAILED`, `UNREADABLE` or `DEFERRED`. reason: why the message was returned, on
    one line that is the same for all messages with the same cause. call_failed: whether a call to a service for this
    message failed, if it is deferred. due_at: when the message is delivered again at the earliest, as an aware time.
    is_dead: whether SQS moves the message to the dead letter queue at that time instead of delivering it.
    """

    queue: str
    outcome: Outcome
    reason: str
    call_failed: bool
    due_at: datetime
    is_dead: bool
