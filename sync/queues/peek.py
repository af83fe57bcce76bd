"""Looking at the messages of a queue without taking them: received, and given back at once."""

from collections.abc import Collection

import structlog

from sync.queues.queue import BATCH, Message, Queue

#: How long the messages are hidden from others should the look be broken off.
_HIDDEN_SECONDS = 60
#: The long poll for stragglers, for as long as fewer came than the queue says it has.
_WAIT_SECONDS = 1


def look(queue: Queue, most: int) -> list[Message]:
    """Up to `most` of the messages that are visible now, each once; all are visible again afterwards.

    Each look counts as a receive, so it is for dead letter queues and for queues that nobody works at the moment.
    Raises `QueueUnavailable`.
    """
    seen: dict[str, Message] = {}
    try:
        _receive(queue, most, queue.counts().visible, seen)
    finally:
        _give_back(queue, list(seen.values()))
    return list(seen.values())


def look_at_work(queue: Queue, most: int) -> list[Message]:
    """Up to `most` of the messages that wait to be worked and are visible now, each once; all wait there afterwards.

    However often somebody looks, looking costs a message at most one of its attempts: a receive is an attempt to SQS,
    and after some of them a message is moved to the dead letter queue. A message that was never received before is
    given back, one attempt poorer. One that was received before is put back as a fresh copy with all its attempts:
    its body and attributes are sent first, then the original is deleted, so that a death in between makes a second
    delivery, which does no harm, and never loses one. Nothing is received from a queue that says it has no visible
    message. Raises `QueueUnavailable`.
    """
    visible = queue.counts().visible
    if not visible:
        return []
    seen: dict[str, Message] = {}
    try:
        _receive(queue, most, visible, seen)
    finally:
        copied: set[str] = set()
        try:
            for message in seen.values():
                if message.receive_count > 1:
                    queue.send(message.body, message.attributes)
                    copied.add(message.message_id)
        finally:
            _remove(queue, [message for message in seen.values() if message.message_id in copied])
            _give_back(queue, [message for message in seen.values() if message.message_id not in copied])
    return list(seen.values())


def _receive(queue: Queue, most: int, expected: int, seen: dict[str, Message]) -> None:
    """Receives until nothing new comes; of a message that is given out twice the later receive is kept."""
    while len(seen) < most:
        wait = _WAIT_SECONDS if len(seen) < min(expected, most) else 0
        received = queue.receive(min(BATCH, most - len(seen)), wait, _HIDDEN_SECONDS)
        fresh = [message for message in received if message.message_id not in seen]
        seen.update((message.message_id, message) for message in received)
        if not fresh:
            return


def _give_back(queue: Queue, messages: Collection[Message]) -> None:
    left = queue.change_visibility(list(messages), 0)
    if left:
        _log().warning("messages-still-hidden", queue=queue.name, messages=len(left), seconds=_HIDDEN_SECONDS)


def _remove(queue: Queue, messages: Collection[Message]) -> None:
    left = queue.delete(list(messages))
    if left:
        # They come a second time beside their copies, and their effects are then found done.
        _log().warning("messages-not-deleted", queue=queue.name, messages=len(left))


def _log() -> structlog.stdlib.BoundLogger:
    logger: structlog.stdlib.BoundLogger = structlog.get_logger("sync.queues.peek")
    return logger
