"""Looking at the messages of a queue without taking them: received, and given back at once."""

from sync.queues.queue import BATCH, Message, Queue

#: How long the messages are hidden from others should the look be broken off.
_HIDDEN_SECONDS = 30


def look(queue: Queue, most: int) -> list[Message]:
    """Up to `most` of the messages that are visible now, each once; all are visible again afterwards.

    Each look counts as a receive, so it is for dead letter queues and for queues that nobody works at the moment.
    Raises `QueueUnavailable`.
    """
    seen: dict[str, Message] = {}
    try:
        while len(seen) < most:
            received = queue.receive(min(BATCH, most - len(seen)), 0, _HIDDEN_SECONDS)
            fresh = [message for message in received if message.message_id not in seen]
            seen.update((message.message_id, message) for message in received)
            if not fresh:
                break
    finally:
        queue.change_visibility(list(seen.values()), 0)
    return list(seen.values())
