"""Reviews of DPS that are not in NOMIS yet because their message is still to be handled.

The incentive queue is never received from to find out: every receive costs a message one of its attempts. What is
known follows from the records of failed attempts and of creations, from the dead letter queue (its messages are
received and made visible again, which costs them nothing), and from the size of the incentive queue: while it is not
empty, a message that left no record yet may be on it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Literal

from sync.creation.records import finished_since, list_intents
from sync.domains import incentives
from sync.domains.incentives import rules
from sync.repair.dead_letter_report import WORTH_A_RETRY, report_on
from sync.store.failures import FailedAttempt, failed_since

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from sync.queues.setup import QueuePair
    from sync.repair.dead_letters import DeadLetter
    from sync.repair.redrive import DeadLetterQueue
    from sync.settings.declaration import Settings
    from sync.store.database import Database

    #: Finds what is pending; called at most once in a run, and only when it may explain a difference.
    FindPendingMessages = Callable[[], "PendingMessages"]

#: Dead-letter messages that are looked at: more than this many mean an outage, which has alerts of its own.
_MOST_DEAD_LETTERS = 500
_QUEUE = incentives.DOMAIN.queue
_EVENT_TYPE = incentives.DOMAIN.creation.event_type


@dataclass(frozen=True, slots=True)
class PendingMessages:
    """Reviews whose message is still to be handled, by the id that DPS gave them.

    on_dlq: on the dead letter queue. given_up: those of them that nothing sends back any more, and why, as a clause
    about the message. begun: their creation was begun, and its outcome is not known yet. failed_reviews,
    failed_prisoners: an attempt failed, and the next one is due; most events name the prisoner, whose reviews wait for
    each other. finished: their creation ended after such a failure. doubt: why a message may be pending although
    nothing is known of it, as a clause; None where that cannot be.
    """

    on_dlq: frozenset[int] = frozenset()
    given_up: Mapping[int, str] = field(default_factory=dict)
    begun: frozenset[int] = frozenset()
    failed_reviews: frozenset[int] = frozenset()
    failed_prisoners: frozenset[str] = frozenset()
    finished: frozenset[int] = frozenset()
    doubt: str | None = None

    def where(self, review_id: int | None, offender_no: str) -> Literal["queue", "dlq"] | None:
        """The queue that holds the message of a review of this prisoner; None where no message is known."""
        if review_id is None:
            return None
        if review_id in self.on_dlq:
            return "dlq"
        if review_id in self.finished:
            return None
        failed = review_id in self.failed_reviews or offender_no in self.failed_prisoners
        return "queue" if failed or review_id in self.begun else None

    def why_given_up(self, review_id: int | None) -> str | None:
        """Why nothing sends the message of a review back from the DLQ; None if it may still be handled by itself."""
        return None if review_id is None else self.given_up.get(review_id)


def no_pending_messages() -> PendingMessages:
    """Finds nothing: for a database without queues."""
    return PendingMessages()


def find_pending_messages(
    pair: QueuePair, dead_letters: DeadLetterQueue, database: Database, settings: Settings, moment: datetime
) -> PendingMessages:
    """What is pending at `moment` (aware). Raises `QueueUnavailable` and `StoreUnavailable`."""
    waiting, hidden_dead = pair.main.counts().total, pair.dlq.counts().in_flight
    letters = dead_letters.peek(_MOST_DEAD_LETTERS)
    # A message comes again after its wait, and may then be handled for as long as it is hidden by that.
    handling = timedelta(seconds=settings.hmpps_sqs_visibility_timeout_seconds)
    waits = [timedelta(seconds=each) for each in settings.event_visibility_timeouts(_QUEUE, _EVENT_TYPE)]
    since = moment - max(waits) - handling
    with database.read() as connection:
        failed = [
            each
            for each in failed_since(connection, _QUEUE, _EVENT_TYPE, since)
            if each.time + waits[min(each.attempt, len(waits)) - 1] + handling > moment
        ]
        begun = [each for each in list_intents(connection, rules.CREATION.name) if each.updated_at > since]
        first = min((each.time for each in failed), default=None)
        finished = frozenset() if first is None else finished_since(connection, rules.CREATION.name, first)
    return PendingMessages(
        on_dlq=frozenset(review for each in letters if (review := _review(each)) is not None),
        given_up=_given_up(letters, database, settings),
        begun=frozenset(int(each.dps_id) for each in begun),
        failed_reviews=frozenset(int(each) for each in _entities(failed, rules.OF_REVIEW)),
        failed_prisoners=_entities(failed, rules.OF_PRISONER),
        finished=frozenset(int(each) for each in finished),
        doubt=_doubt(waiting, hidden_dead, len(letters)),
    )


def _entities(failed: Iterable[FailedAttempt], kind: str) -> frozenset[str]:
    """The prisoners, or the reviews, that failed attempts were about."""
    entities = (each.entity or "" for each in failed)
    return frozenset(entity.removeprefix(kind) for entity in entities if entity.startswith(kind))


def _given_up(letters: Sequence[DeadLetter], database: Database, settings: Settings) -> dict[int, str]:
    """The reviews whose dead-letter message was refused, or was sent back too often to be sent back again."""
    reasons: dict[int, str] = {}
    for report in report_on(database, _QUEUE, [each for each in letters if _review(each) is not None]):
        review = _review(report.dead_letter)
        if review is None:
            continue
        if report.failure is not None and report.failure_class not in WORTH_A_RETRY:
            reasons[review] = f'it was refused at "{report.failure.failure.step}", and a retry alone does not help'
        elif report.given_up or report.redrives > settings.housekeeping_max_returns:
            reasons[review] = f"it came back {report.redrives} times, and housekeeping does not send it back any more"
    return reasons


def _doubt(waiting: int, hidden_dead: int, dead: int) -> str | None:
    """Why the message of a review may be pending although nothing is known of it."""
    if waiting:
        return f"the incentive queue holds {_messages(waiting)}"
    if hidden_dead:
        return f"somebody else is looking at {_messages(hidden_dead)} of the dead letter queue"
    if dead >= _MOST_DEAD_LETTERS:
        return f"only {_MOST_DEAD_LETTERS} messages of the dead letter queue were looked at"
    return None


def _messages(number: int) -> str:
    return "1 message" if number == 1 else f"{number} messages"


def _review(letter: DeadLetter) -> int | None:
    """The review that a dead-letter message is about, None for one that is about none."""
    review = letter.ids.get("incentiveId" if letter.is_mapping_retry else "id")
    try:
        return None if review is None or isinstance(review, bool) else int(review)
    except (ValueError, TypeError):
        return None
