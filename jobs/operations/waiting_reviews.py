"""The reviews of DPS whose message still waits: seen on the incentive queue or its DLQ, or known from its failures.

A message that failed is hidden until it is tried again, and no look finds it; the record of failures tells of it.
"""

from collections.abc import Callable, Iterable
from datetime import datetime, timedelta

from reports.reconciliations.incentives.pending_messages import Waiting
from sync import clock
from sync.creation.store import settled_since
from sync.domains.incentives import rules as incentive
from sync.failures import MessageUnreadable
from sync.pipeline.envelope import DomainEvent, MappingRetry, read_envelope
from sync.queues.dead_letters import read_dead_letter
from sync.queues.peek import look, look_at_work
from sync.queues.queue import Message, QueueCounts
from sync.queues.setup import QueuePair
from sync.repair.dead_letter_report import WORTH_A_RETRY, diagnose
from sync.settings.declaration import Settings
from sync.store.database import Database
from sync.store.failures import FailedAttempt, failed_since

#: Looking further would cost more than it tells: so many messages mean an outage, of which everybody knows.
_MOST_MESSAGES = 500
_QUEUE = incentive.DOMAIN.queue
_EVENT_TYPE = incentive.DOMAIN.creation.event_type


def waiting_reviews(pair: QueuePair, database: Database, settings: Settings, moment: datetime) -> Waiting:
    """What waits at this moment. Raises `QueueUnavailable` and `StoreUnavailable`."""
    hidden = [each for each in _recent_failures(database, settings, moment) if _hidden_until(each, settings) > moment]
    counts = pair.main.counts()
    on_queue = look_at_work(pair.main, _MOST_MESSAGES)
    on_dlq = look(pair.dlq, _MOST_MESSAGES)
    return Waiting(
        on_queue=_reviews(on_queue),
        on_dlq=_reviews(on_dlq),
        given_up=_given_up(on_dlq, database, settings),
        tried_reviews=frozenset(int(each) for each in _named(hidden, incentive.OF_REVIEW)),
        tried_prisoners=_named(hidden, incentive.OF_PRISONER),
        settled=_settled_since(database, min((each.time for each in hidden), default=None)),
        doubt=_doubt(counts, len(on_queue), len(on_dlq)),
    )


def peek_from(open_pair: Callable[[], QueuePair], database: Database, settings: Settings) -> Callable[[], Waiting]:
    """A look that opens the queues when it is first needed."""
    return lambda: waiting_reviews(open_pair(), database, settings, clock.now())


def _recent_failures(database: Database, settings: Settings, moment: datetime) -> list[FailedAttempt]:
    """The failed attempts at reviews whose messages can still be hidden."""
    longest = max(settings.event_visibility_timeouts(_QUEUE, _EVENT_TYPE))
    since = moment - timedelta(seconds=longest + settings.hmpps_sqs_visibility_timeout_seconds)
    with database.read() as connection:
        return failed_since(connection, _QUEUE, _EVENT_TYPE, since)


def _hidden_until(failed: FailedAttempt, settings: Settings) -> datetime:
    """When a message can be seen again: after the wait that followed its failure, and the attempt after that."""
    waits = settings.event_visibility_timeouts(_QUEUE, _EVENT_TYPE)
    wait = waits[min(failed.attempt, len(waits)) - 1]
    return failed.time + timedelta(seconds=wait + settings.hmpps_sqs_visibility_timeout_seconds)


def _named(failed: Iterable[FailedAttempt], kind: str) -> frozenset[str]:
    """The prisoners, or the reviews, that failed attempts were about."""
    entities = (each.entity or "" for each in failed)
    return frozenset(entity.removeprefix(kind) for entity in entities if entity.startswith(kind))


def _settled_since(database: Database, since: datetime | None) -> frozenset[int]:
    if since is None:
        return frozenset()
    with database.read() as connection:
        return frozenset(int(each) for each in settled_since(connection, incentive.NAME, since))


def _given_up(dead: Iterable[Message], database: Database, settings: Settings) -> dict[int, str]:
    """The reviews whose dead letter was refused, or came back too often for housekeeping to send it back again."""
    letters = [read_dead_letter(message) for message in dead if _review(message) is not None]
    reasons: dict[int, str] = {}
    for found in diagnose(database, _QUEUE, letters):
        review = _review(found.letter.message)
        if review is None:
            continue
        if found.failure is not None and found.failure_class not in WORTH_A_RETRY:
            reasons[review] = f'it was refused at "{found.failure.failure.step}", and a retry alone does not help'
        elif found.given_up or found.returns > settings.housekeeping_max_returns:
            reasons[review] = f"it came back {found.returns} times, and housekeeping does not send it back any more"
    return reasons


def _doubt(before: QueueCounts, seen: int, seen_dead: int) -> str | None:
    """Why a message may wait although it was not seen."""
    hidden = before.in_flight + before.delayed
    if hidden:
        return f"{hidden} on the incentive queue cannot be looked at, being handled or tried again later"
    if _MOST_MESSAGES in (seen, seen_dead):
        return f"only {_MOST_MESSAGES} messages of a queue were looked at"
    return None


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
