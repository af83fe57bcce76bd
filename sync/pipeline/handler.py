"""How one task is handled: by a creation, an update, or a mapping retry; what is not ours is passed over."""

import orjson
import structlog

from sync.creation.creation import Creation
from sync.creation.protocol import CreationProtocol
from sync.domains.activities.duplicate_rows import free_key, known_rows, recognise, record_non_unique
from sync.domains.declaration import Domain, Update
from sync.domains.registry import queue_of
from sync.failures import BreakerOpen, LeaseBusy, MalformedMessage, RuleError, UpstreamError, describe_failure
from sync.pipeline.awaited import CreationAwaited, is_awaited
from sync.pipeline.coalesce import Task
from sync.pipeline.context import HandlerContext
from sync.pipeline.envelope import DomainEvent, MappingRetry
from sync.pipeline.outcome import Outcome
from sync.repair.hints import ROUTING_STEP
from sync.settings.declaration import Settings
from sync.store.database import Database, StoreUnavailable
from sync.store.leases import Leases
from sync.store.telemetry import Telemetry
from sync.upstream.services import Services

#: How much of an unknown event type is kept.
_LONGEST_TYPE = 120
#: How much of a mapping that could not be saved is tracked.
_LONGEST_MAPPING = 500

#: How the names of telemetry events end that tell of an update with nothing to do.
_IGNORED = ("-ignored", "-skipped")


class Workshop:
    """Works tasks of one queue by the rules of its domain. Safe to share between threads."""

    def __init__(
        self,
        settings: Settings,
        domain: Domain,
        services: Services,
        protocol: CreationProtocol,
        leases: Leases,
        telemetry: Telemetry,
        database: Database,
    ) -> None:
        self._settings = settings
        self._domain = domain
        self._services = services
        self._protocol = protocol
        self._leases = leases
        self._telemetry = telemetry
        self._database = database
        self._request_seconds = settings.longest_call_seconds + settings.creation_settling_seconds
        self._log = structlog.get_logger("sync.pipeline.handler")

    def begin(self) -> HandlerContext:
        """The context of one task; it says afterwards how far the task came."""
        return HandlerContext(self._services, self._leases, self._telemetry, self._database, self._request_seconds)

    def work(self, task: Task, context: HandlerContext) -> Outcome:
        """Works one task and tells how it ended. Raises whatever made the attempt fail."""
        if self._is_switched_off(task):
            self._log.warning("event-switched-off", event_type=task.event_type, message_id=task.message.message_id)
            return Outcome.SWITCHED_OFF
        if task.unreadable is not None:
            raise task.unreadable
        content, handler = task.content, task.handler
        if isinstance(content, MappingRetry):
            return self._retry_mapping(content, context)
        if not isinstance(content, DomainEvent) or handler is None:
            return self._pass_over(task, context)
        if isinstance(handler, Creation):
            return self._protocol.create(handler, content, context)
        return self._update(handler, content, context, task)

    def _retry_mapping(self, retry: MappingRetry, context: HandlerContext) -> Outcome:
        try:
            return self._protocol.retry_mapping(self._domain.creation, retry, context)
        except (LeaseBusy, BreakerOpen, StoreUnavailable, MalformedMessage):
            raise
        except Exception:
            text = orjson.dumps(retry.mapping).decode()[:_LONGEST_MAPPING]
            context.track("create-mapping-retry-failure", {"queue": self._domain.queue, "retryMessage": text})
            raise

    def _pass_over(self, task: Task, context: HandlerContext) -> Outcome:
        """Tracks a message of an unknown type, which is then acknowledged.

        Raises `RuleError` for an event that belongs on another queue: it would be lost here.
        """
        # The text is foreign, and of any length.
        event_type = (task.event_type or "").replace("\x00", "")[:_LONGEST_TYPE]
        owner = queue_of(event_type)
        if owner is not None:
            context.step(ROUTING_STEP)
            raise RuleError(f"{event_type} belongs on the {owner} queue, and came on the {self._domain.queue} queue")
        message_id = task.message.message_id
        context.track(
            "message-unhandled", {"queue": self._domain.queue, "messageId": message_id, "eventType": event_type}
        )
        self._log.info("message-unhandled", type=event_type, message_id=message_id)
        return Outcome.UNHANDLED

    def _is_switched_off(self, task: Task) -> bool:
        """Whether it is of a type that is switched off, whatever else the message says or lacks."""
        event_type = task.event_type
        ours = event_type is not None and event_type in self._domain.handlers
        return ours and not self._settings.event_enabled(str(event_type))

    def _update(self, handler: Update, event: DomainEvent, context: HandlerContext, task: Task) -> Outcome:
        try:
            context.bind(**handler.start(event))
            name = handler.apply(event, context)
        except (LeaseBusy, BreakerOpen, StoreUnavailable, MalformedMessage):
            # Nothing was tried against the record itself: that is no failure of the update.
            raise
        except Exception as error:
            if isinstance(error, UpstreamError) and self._is_awaited(error, task):
                raise CreationAwaited(error) from error
            if handler.failed is not None:
                context.track(handler.failed, {**context.properties, "reason": describe_failure(error).reason})
            self._find_non_unique(error, context)
            raise
        context.track(name or handler.success, context.properties)
        for coalesced in task.coalesced:
            told = {"eventType": handler.event_type, "entity": task.entity, "messageId": coalesced.message.message_id}
            context.track("message-coalesced", told)
        return Outcome.IGNORED if name is not None and name.endswith(_IGNORED) else Outcome.APPLIED

    def _is_awaited(self, error: UpstreamError, task: Task) -> bool:
        patience = self._settings.creation_wait_seconds
        return is_awaited(error, self._domain.creation.name, task.message, self._database, patience)

    def _find_non_unique(self, error: Exception, context: HandlerContext) -> None:
        """Records the finding, with its alert, when NOMIS stumbled over two rows where there may be one."""
        non_unique = recognise(error, context.properties)
        if non_unique is None:
            return
        try:
            with self._database.read() as connection:
                key = free_key(connection, non_unique)
                rows = [] if key is None else known_rows(connection, non_unique)
            if key is not None:
                context.track(non_unique.event_name, context.properties)
                with self._database.begin() as connection:
                    record_non_unique(connection, key, non_unique, context.properties, rows)
        except StoreUnavailable as unavailable:
            # The message fails again, and is then recorded.
            self._log.warning("finding-not-recorded", key=non_unique.key, reason=str(unavailable))
