"""The reviews of DPS whose message still waits on the incentive queue or on its dead letter queue."""

from collections.abc import Callable, Iterable

from reports.waiting import Waiting
from sync.envelope import DomainEvent, MappingRetry, read_envelope
from sync.failures import MessageUnreadable
from sync.queues.looking import look
from sync.queues.queue import Message
from sync.queues.setup import QueuePair

#: Looking further would cost more than it tells: so many messages mean an outage, of which everybody knows.
_MOST_MESSAGES = 500


def waiting_reviews(pair: QueuePair) -> Waiting:
    """What waits on the two queues at this moment. Raises `QueueUnavailable`."""
    return Waiting(_reviews(look(pair.main, _MOST_MESSAGES)), _reviews(look(pair.dlq, _MOST_MESSAGES)))


def peek_from(open_pair: Callable[[], QueuePair]) -> Callable[[], Waiting]:
    """A look that opens the queues when it is first needed."""
    return lambda: waiting_reviews(open_pair())


def _reviews(messages: Iterable[Message]) -> frozenset[int]:
    return frozenset(review for message in messages if (review := _review(message)) is not None)


def _review(message: Message) -> int | None:
    try:
        content = read_envelope(message.body).content
        if isinstance(content, DomainEvent):
            return content.number("id")
        if isinstance(content, MappingRetry):
            return int(content.mapping["incentiveId"])
    except (MessageUnreadable, KeyError, ValueError, TypeError):
        # Whatever it is, it tells of no review.
        return None
    return None
