"""Pending messages: they explain why a change in DPS has not reached NOMIS yet, although nothing is lost.

No message is received from a main queue to find them, as every receive costs a message one of its attempts. What is
pending follows from the recorded failed attempts and creations, from the dead letter queue (its messages are received
and made visible again, which costs them no attempt), and from the size of the main queue: while it is not empty, it may
hold a message about which nothing is recorded yet. The table of waiting messages (`sync.store.waiting_messages`) is not
used, because it identifies a message by its key and does not record which entity the message is about.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Literal

from sync.creation.creation import Creation
from sync.errors import MalformedMessage
from sync.events.envelope import DomainEvent, read_envelope
from sync.repair.dead_letter_report import WORTH_A_RETRY, report_on
from sync.store.creations import finished_since, list_intents
from sync.store.failed_attempts import FailedAttempt, failed_since

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

    from sqlalchemy import Connection

    from sync.domains.declaration import Domain
    from sync.queues.setup import QueuePair
    from sync.repair.dead_letter_queue import DeadLetterQueue
    from sync.repair.dead_letters import DeadLetterMessage
    from sync.settings.declaration import Settings
    from sync.store.database import Database

    #: Finds the pending messages of a domain; called at most once in a run, and only if something differs.
    FindPendingMessages = Callable[[Domain], "PendingMessages"]

#: At most this many dead-letter messages are read; a larger number means an outage, which has its own alerts.
_MOST_DEAD_LETTERS = 500


@dataclass(frozen=True, slots=True)
class PendingMessages:
    """The entities of a domain for which a message has not been handled yet.

    An entity is the text that identifies a record in recorded failures, or `<record>:<DPS id>` for a creation.

    on_dlq: entities with a message on the dead letter queue. given_up: by entity, why its message stays on the dead
    letter queue, as a clause about the message; only for entities whose message does stay. begun: entities with a
    creation that has begun and has no known outcome yet. failed: entities with a failed attempt that will be followed
    by another attempt. finished: entities with a creation that ended after the first of those failed attempts. doubt:
    why a message may be pending although none is known, as a clause, or None if there can be no unknown message.
    """

    on_dlq: frozenset[str] = frozenset()
    given_up: Mapping[str, str] = field(default_factory=dict)
    begun: frozenset[str] = frozenset()
    failed: frozenset[str] = frozenset()
    finished: frozenset[str] = frozenset()
    doubt: str | None = None

    def where(self, entities: Collection[str]) -> Literal["queue", "dlq"] | None:
        """The queue that holds a pending message about one of the entities, or None if no such message is known."""
        if not self.on_dlq.isdisjoint(entities):
            return "dlq"
        if not self.finished.isdisjoint(entities):
            return None
        return None if self.failed.isdisjoint(entities) and self.begun.isdisjoint(entities) else "queue"

    def why_given_up(self, entities: Collection[str]) -> str | None:
        """Why a message about one of the entities stays on the dead letter queue, as a clause, or None if none does."""
        return next((self.given_up[entity] for entity in entities if entity in self.given_up), None)


def find_pending_messages(
    domain: Domain,
    pair: QueuePair,
    dead_letters: DeadLetterQueue,
    database: Database,
    settings: Settings,
    moment: datetime,
) -> PendingMessages:
    """The pending messages of a domain at `moment` (aware). Raises `QueueUnavailable` and `StoreUnavailable`."""
    waiting, hidden_dead = pair.main.counts().total, pair.dlq.counts().in_flight
    messages = dead_letters.peek(_MOST_DEAD_LETTERS)
    name = domain.creation.name
    with database.read() as connection:
        failed = list(_failed_and_due(connection, domain, settings, moment))
        # A message is delivered again after its wait, and may then be handled until its visibility timeout ends.
        since = moment - _longest_wait(domain, settings)
        begun = [each for each in list_intents(connection, name) if each.updated_at > since]
        first = min((each.time for each in failed), default=None)
        finished = frozenset() if first is None else finished_since(connection, name, first)
    entities = {id(message): _entity(domain, message) for message in messages}
    return PendingMessages(
        on_dlq=frozenset(entity for entity in entities.values() if entity is not None),
        given_up=_given_up(domain, messages, entities, database, settings),
        begun=frozenset(f"{name}:{each.dps_id}" for each in begun),
        failed=frozenset(each.entity for each in failed if each.entity),
        finished=frozenset(f"{name}:{dps_id}" for dps_id in finished),
        doubt=_doubt(domain.queue, waiting, hidden_dead, len(messages)),
    )


def _failed_and_due(
    connection: Connection, domain: Domain, settings: Settings, moment: datetime
) -> Iterator[FailedAttempt]:
    """Yields the failed attempts after which another attempt is still to come, or may be in progress at `moment`."""
    handling = timedelta(seconds=settings.hmpps_sqs_visibility_timeout_seconds)
    for event_type in domain.handlers:
        waits = [timedelta(seconds=each) for each in settings.event_visibility_timeouts(domain.queue, event_type)]
        for each in failed_since(connection, domain.queue, event_type, moment - max(waits) - handling):
            if each.time + waits[min(each.attempt, len(waits)) - 1] + handling > moment:
                yield each


def _longest_wait(domain: Domain, settings: Settings) -> timedelta:
    waits = settings.event_visibility_timeouts(domain.queue, domain.creation.event_type)
    return timedelta(seconds=max(waits) + settings.hmpps_sqs_visibility_timeout_seconds)


def _given_up(
    domain: Domain,
    messages: Sequence[DeadLetterMessage],
    entities: Mapping[int, str | None],
    database: Database,
    settings: Settings,
) -> dict[str, str]:
    """By entity, why its dead-letter message stays on the queue: it was refused, or has been sent back too often.

    entities: the entity of each of the `messages`, by the `id` of the message object.
    """
    reasons: dict[str, str] = {}
    for report in report_on(database, domain.queue, [each for each in messages if entities[id(each)] is not None]):
        entity = entities[id(report.dead_letter)]
        if entity is None:
            continue
        if report.failure is not None and report.failure_class not in WORTH_A_RETRY:
            refusal = report.failure.failure
            why = " ".join(refusal.reason.split())
            reasons[entity] = f'it was refused at "{refusal.step}" ({why}), and a retry alone does not help'
        elif report.given_up or report.redrives > settings.housekeeping_max_returns:
            times = "once" if report.redrives == 1 else f"{report.redrives} times"
            reasons[entity] = f"it came back {times}, and housekeeping no longer sends it back"
    return reasons


def _doubt(queue: str, waiting: int, hidden_dead: int, dead: int) -> str | None:
    """Why a message may be pending although none is known, as a clause, or None if there can be no unknown message."""
    if waiting:
        return f"the {queue} queue holds {_messages(waiting)}"
    if hidden_dead:
        return f"somebody else is reading {_messages(hidden_dead)} on the dead letter queue"
    if dead >= _MOST_DEAD_LETTERS:
        return f"only the first {_MOST_DEAD_LETTERS} messages of the dead letter queue were read"
    return None


def _messages(number: int) -> str:
    return "1 message" if number == 1 else f"{number:,} messages"


def _entity(domain: Domain, dead_letter: DeadLetterMessage) -> str | None:
    """The entity that a dead-letter message is about, or None if it is not about an entity of the domain."""
    if dead_letter.is_mapping_retry:
        return _created(domain.creation, dead_letter.ids.get(domain.creation.mappings.dps))
    handler = domain.handlers.get(dead_letter.type)
    if handler is None:
        return None
    if isinstance(handler, Creation):
        return _created(handler, dead_letter.ids.get(handler.event_id))
    try:
        event = read_envelope(dead_letter.message.body).content
        return handler.entity(event) if isinstance(event, DomainEvent) else None
    except MalformedMessage:
        return None


def _created(creation: Creation, dps_id: object) -> str | None:
    return None if dps_id is None or isinstance(dps_id, bool) else f"{creation.name}:{dps_id}"
