"""Sorts a batch of messages into one group for each entity, in the order of the events, and coalesces updates.

The functions are pure: they do not call a queue or a service.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from sync.creation.creation import Creation
from sync.domains.declaration import Coalesce, Domain, Update
from sync.errors import MalformedMessage
from sync.events.envelope import MAPPING_RETRY, DomainEvent, Envelope, MappingRetry, message_key, read_envelope
from sync.queues.queue import Message
from sync.store.telemetry import Properties
from sync.tracing import ATTRIBUTE, trace_of

_LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Task:
    """One message to handle, together with the earlier messages that were coalesced into it.

    `content` is the parsed event or mapping retry. It is None for a message that is neither, and for a malformed
    message; `malformed` says what is wrong with the latter. `handler` is None for everything except an event of the
    domain; the creation protocol handles a mapping retry. `properties` are the telemetry properties from the event
    itself.
    """

    message: Message
    content: DomainEvent | MappingRetry | None
    handler: Creation | Update | None
    entity: str | None
    sns_message_id: str | None = None
    message_type: str | None = None
    malformed: MalformedMessage | None = None
    properties: Properties = field(default_factory=dict)
    coalesced: tuple["Task", ...] = ()
    traceparent: str | None = None

    @property
    def event_type(self) -> str | None:
        """The event type, or the type of a message that is not an event, or None if the type cannot be read."""
        return self.content.event_type if isinstance(self.content, DomainEvent) else self.message_type

    @property
    def trace(self) -> str:
        """The trace context of the message: the publisher's, or one derived from the id of the message."""
        return trace_of(self.sns_message_id or self.message.message_id, self.traceparent)

    @property
    def key(self) -> str:
        """An id that is the same for all copies of the message."""
        return message_key(self.sns_message_id, self.message.body)

    @property
    def messages(self) -> tuple[Message, ...]:
        """All messages of the task: the coalesced ones, then its own message."""
        return (*(task.message for task in self.coalesced), self.message)


@dataclass(frozen=True, slots=True, eq=False)
class MessageGroup:
    """The tasks of one entity, handled one after another, as in a message group of an SQS FIFO queue.

    `key` names the lease that is held while they are handled, or is None if no lease is held for the group.
    `busy_since`: when, on the monotonic clock, the group began to wait for a lease that is held elsewhere. It is None
    if the group does not wait for one.
    """

    key: str | None
    tasks: tuple[Task, ...]
    busy_since: float | None = None

    @property
    def entity(self) -> str | None:
        """The entity of the tasks, or None for a message without an entity."""
        return self.tasks[0].entity


def coalesce(messages: Iterable[Message], domain: Domain) -> list[MessageGroup]:
    """The groups of a batch, in the order in which their first messages arrived.

    Every message is in exactly one task. Events of one entity share a group: creations come first, then updates. Both
    are sorted by `occurredAt`, or by the time of sending if `occurredAt` is absent. Events with equal times stay in the
    order of arrival. Consecutive updates with the same event type become one task, which writes the current state of
    the record. Creations are never coalesced, nor are updates that declare `Coalesce.NEVER`. A message that is not an
    event of this domain forms a separate group.
    """
    groups: dict[str, list[Task]] = {}
    for message in messages:
        task = read_task(message, domain)
        key = task.entity or f"message {message.message_id} {message.receipt_handle}"
        groups.setdefault(key, []).append(task)
    return [_group(tasks) for tasks in groups.values()]


def read_task(message: Message, domain: Domain) -> Task:
    """The task of one message. Never raises: a malformed message becomes a task with `malformed` set."""
    try:
        envelope = read_envelope(message.body)
    except MalformedMessage as error:
        return Task(message, None, None, None, malformed=error)
    traceparent = envelope.traceparent or message.attributes.get(ATTRIBUTE, {}).get("StringValue")
    try:
        task = _task(message, envelope, domain)
    except MalformedMessage as error:
        task = Task(message, None, None, None, envelope.sns_message_id, _type(envelope), malformed=error)
    return replace(task, traceparent=traceparent)


def _task(message: Message, envelope: Envelope, domain: Domain) -> Task:
    content = envelope.content
    if isinstance(content, DomainEvent):
        # The declared event types are in lower case, and the case of an event type does not matter.
        handler = domain.handlers.get(content.event_type.lower())
        entity: str | None = None
        properties: Properties = {}
        if handler is not None:
            content = replace(content, event_type=handler.event_type)
            entity = _entity(handler, content)
            # `start` reads every field that the handler needs, so that a message without one of them is found to be
            # malformed.
            properties = handler.start(content)
        return Task(message, content, handler, entity, envelope.sns_message_id, properties=properties)
    retry = content if isinstance(content, MappingRetry) else None
    return Task(message, retry, None, None, envelope.sns_message_id, _type(envelope))


def _type(envelope: Envelope) -> str:
    content = envelope.content
    if isinstance(content, DomainEvent):
        return content.event_type
    return MAPPING_RETRY if isinstance(content, MappingRetry) else content.message_type


def _entity(handler: Creation | Update, event: DomainEvent) -> str:
    entity = handler.entity(event)
    if "\x00" in entity:
        raise MalformedMessage(f"{event.event_type}: an id contains a NUL")
    if entity.endswith((":.", ":..")):
        # An id of only dots in a path would address the whole collection instead of one record.
        raise MalformedMessage(f"{event.event_type}: an id consists only of dots")
    return entity


def _group(tasks: Sequence[Task]) -> MessageGroup:
    ordered = _coalesced(sorted(tasks, key=_order))
    alone = len(ordered) == 1 and not isinstance(ordered[0].handler, Update)
    # A lone creation takes its own lease. Tasks that depend on the state of an entity need the lease of the entity.
    return MessageGroup(None if alone else ordered[0].entity, tuple(ordered))


def _order(task: Task) -> tuple[bool, datetime]:
    occurred_at = task.content.occurred_at if isinstance(task.content, DomainEvent) else None
    return not isinstance(task.handler, Creation), occurred_at or task.message.sent_at or _LONG_AGO


def _coalesced(tasks: Iterable[Task]) -> list[Task]:
    done: list[Task] = []
    for task in tasks:
        if done and _coalesces_with(task, done[-1]):
            earlier = done.pop()
            task = replace(task, coalesced=(*earlier.coalesced, replace(earlier, coalesced=())))
        done.append(task)
    return done


def _coalesces_with(later: Task, earlier: Task) -> bool:
    handler = later.handler
    return isinstance(handler, Update) and handler.coalesce is Coalesce.LATEST and handler is earlier.handler
