"""Handles one task: an event that creates or updates a record in NOMIS, or a mapping retry.

A message of an unknown type is acknowledged and changes nothing. A resync calls `handle_event` directly, because its
events do not come from messages.
"""

from collections.abc import Callable

import orjson
import structlog

from sync.creation.creation import Creation
from sync.domains.declaration import Update
from sync.domains.duplicate_rows import RowKind, free_key, known_rows, recognise, record_duplicate_rows
from sync.domains.registry import queue_of
from sync.errors import BreakerOpen, LeaseBusy, MalformedMessage, RuleError, UpstreamError, describe_failure
from sync.events.context import HandlerContext, Outcome
from sync.events.envelope import DomainEvent, MappingRetry
from sync.pipeline.coalesce import Task
from sync.pipeline.early_events import CreationAwaited, may_still_be_created
from sync.pipeline.queue_context import QueueContext
from sync.store.database import StoreUnavailable
from sync.store.telemetry import Properties

#: The name of the step that finds an event on the wrong queue.
ROUTING_STEP = "find queue"
#: How many characters of an unknown event type, and of a mapping that could not be saved, go into telemetry.
_LONGEST_TYPE = 120
_LONGEST_MAPPING = 500
#: How the names of the telemetry events end for updates that had nothing to change.
_IGNORED = ("-ignored", "-skipped")
#: Errors that say nothing about the record: the message was not handled to the end, or cannot be read. For updates and
#: mapping retries, they are not tracked in telemetry.
_NOT_TRIED = (LeaseBusy, BreakerOpen, StoreUnavailable, MalformedMessage)


def start_context(queue_context: QueueContext, properties: Properties) -> HandlerContext:
    """A new context for one event or mapping retry, with its telemetry `properties`.

    The context also records which step the handler has reached.
    """
    seconds = queue_context.settings.longest_request_seconds
    context = HandlerContext(
        queue_context.services,
        queue_context.leases,
        queue_context.telemetry,
        queue_context.database,
        request_seconds=seconds,
    )
    context.bind(**properties)
    return context


def handle(queue_context: QueueContext, task: Task, context: HandlerContext) -> Outcome:
    """Handles one task and returns its outcome. Raises the error that made the attempt fail."""
    if _is_switched_off(queue_context, task):
        _log().warning("event-switched-off", event_type=task.event_type, message_id=task.message.message_id)
        return Outcome.SWITCHED_OFF
    if task.malformed is not None:
        raise task.malformed
    content, handler = task.content, task.handler
    if isinstance(content, MappingRetry):
        return _retry_mapping(queue_context, content, context)
    if not isinstance(content, DomainEvent) or handler is None:
        return _pass_over(queue_context, task, context)
    outcome = handle_event(
        queue_context, handler, content, context, lambda error: may_still_be_created(error, task.message, queue_context)
    )
    _track_coalesced(task, context)
    return outcome


def handle_event(
    queue_context: QueueContext,
    handler: Creation | Update,
    event: DomainEvent,
    context: HandlerContext,
    is_awaited: Callable[[UpstreamError], bool] = lambda _: False,
) -> Outcome:
    """Handles an event for a drain or a resync, and tracks its telemetry. Raises the error that made the attempt fail.

    `is_awaited` decides from the error of an update whether the update waits for another event to create a record that
    the update needs. If so, `CreationAwaited` is raised instead of the error.
    """
    if isinstance(handler, Creation):
        return queue_context.creations.create(handler, event, context)
    try:
        name = handler.apply(event, context)
    except _NOT_TRIED:
        raise
    except Exception as error:
        if isinstance(error, UpstreamError) and is_awaited(error):
            raise CreationAwaited(error) from error
        if handler.failed is not None:
            context.track(handler.failed, {**context.properties, "reason": describe_failure(error).reason})
        if handler.rows is not None:
            _record_duplicate_rows(queue_context, handler.rows, error, context)
        raise
    context.track(name or handler.success, context.properties)
    return Outcome.IGNORED if name is not None and name.endswith(_IGNORED) else Outcome.APPLIED


def _track_coalesced(task: Task, context: HandlerContext) -> None:
    """Tracks a telemetry event for each earlier message that was coalesced into the task."""
    for each in task.coalesced:
        properties = {"eventType": task.event_type, "entity": task.entity, "messageId": each.message.message_id}
        context.track("message-coalesced", properties)


def _is_switched_off(queue_context: QueueContext, task: Task) -> bool:
    """Whether the event type of the task is switched off. A malformed message may have an event type too."""
    event_type = task.event_type
    if event_type is None or event_type not in queue_context.domain.handlers:
        return False
    return not queue_context.settings.event_enabled(event_type)


def _retry_mapping(queue_context: QueueContext, retry: MappingRetry, context: HandlerContext) -> Outcome:
    try:
        return queue_context.creations.retry_mapping(queue_context.domain.creation, retry, context)
    except _NOT_TRIED:
        raise
    except Exception:
        text = orjson.dumps(retry.mapping).decode()[:_LONGEST_MAPPING]
        context.track("create-mapping-retry-failure", {"queue": queue_context.queue, "retryMessage": text})
        raise


def _pass_over(queue_context: QueueContext, task: Task, context: HandlerContext) -> Outcome:
    """Tracks and logs a message of an unknown type. Its outcome is `UNHANDLED`, so it is acknowledged.

    Raises `RuleError` for an event that belongs on another queue, since the event would be lost if it were
    acknowledged.
    """
    # The text comes from outside and may have any length.
    event_type = (task.event_type or "").replace("\x00", "")[:_LONGEST_TYPE]
    owner = queue_of(event_type)
    if owner is not None:
        context.step(ROUTING_STEP)
        raise RuleError(f"{event_type} belongs on the {owner} queue, but arrived on the {queue_context.queue} queue")
    message_id = task.message.message_id
    context.track("message-unhandled", {"queue": queue_context.queue, "messageId": message_id, "eventType": event_type})
    _log().info("message-unhandled", type=event_type, message_id=message_id)
    return Outcome.UNHANDLED


def _record_duplicate_rows(
    queue_context: QueueContext, kind: RowKind, error: Exception, context: HandlerContext
) -> None:
    """Records a finding, with its alert, if `error` means that NOMIS has two rows where only one is allowed."""
    duplicate_rows = recognise(kind, error, context.properties)
    if duplicate_rows is None:
        return
    try:
        with queue_context.database.read() as connection:
            key = free_key(connection, duplicate_rows)
            rows = [] if key is None else known_rows(connection, duplicate_rows)
        if key is not None:
            context.track(kind.event_name, context.properties)
            with queue_context.database.begin() as connection:
                record_duplicate_rows(connection, key, kind, context.properties, rows)
    except StoreUnavailable as unavailable:
        # The message will fail again, and the finding is recorded at that time.
        _log().warning("finding-not-recorded", key=duplicate_rows.finding_key, reason=str(unavailable))


def _log() -> structlog.stdlib.BoundLogger:
    logger: structlog.stdlib.BoundLogger = structlog.get_logger("sync.pipeline.handle")
    return logger
