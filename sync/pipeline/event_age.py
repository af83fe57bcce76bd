"""How old an event is: one that is very young may tell of a change that its publisher has not committed yet."""

import time

from sync.clock import now
from sync.queues.queue import Message


def seconds_until_old_enough(message: Message, minimum_age: float) -> float:
    """The seconds until the event of `message` is `minimum_age` seconds old, 0 when it is; `minimum_age` at most.

    The age is that of the message, since the clocks of publishers are unknown. At its first receive it is measured by
    the clock of SQS alone; later by our own, and whatever that says, it is at least the time since the receive.
    """
    since_receive = time.monotonic() - message.received_at
    age = since_receive
    if message.sent_at is not None and message.receive_count == 1 and message.first_received_at is not None:
        age += (message.first_received_at - message.sent_at).total_seconds()
    elif message.sent_at is not None:
        age = (now() - message.sent_at).total_seconds()
    return max(0.0, minimum_age - max(age, since_receive))
