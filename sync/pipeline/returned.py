"""The messages that a drain returned to their queue: why, and when they are delivered again."""

from dataclasses import dataclass
from datetime import datetime

from sync.events.context import Outcome


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
