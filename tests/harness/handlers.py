"""Handles messages of the queues against the sandbox, one at a time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import structlog

from sandbox import Sandbox
from sync.creation.protocol import CreationProtocol
from sync.domains.declaration import Update
from sync.domains.registry import DOMAINS, domain_of_queue, tracked_events
from sync.pipeline.coalesce import read_task
from sync.pipeline.envelope import write_domain_event
from sync.pipeline.handle import handle, start_context
from sync.pipeline.outcome import Outcome
from sync.pipeline.queue_context import QueueContext
from sync.queues.queue import Message
from sync.settings.declaration import Settings
from sync.settings.loading import load_settings
from sync.store.database import Database
from sync.store.leases import Leases
from sync.store.telemetry import Telemetry, read_events
from sync.upstream.breaker import Breakers
from sync.upstream.services import Services, connect
from sync.upstream.transport import Transport

QUEUES = {event_type: domain.queue for domain in DOMAINS.values() for event_type in domain.handlers}
HANDLERS = {event_type: handler for domain in DOMAINS.values() for event_type, handler in domain.handlers.items()}


class Driver:
    """Handles events and mapping retries; `retries` are the messages that were sent to the queues."""

    def __init__(self, sandbox: Sandbox, settings: Settings, database: Database, services: Services) -> None:
        self.sandbox = sandbox
        self.database = database
        self.services = services
        self.leases = Leases(database, "driver", 60)
        self.telemetry = Telemetry(database, structlog.get_logger())
        self.retries: list[tuple[str, str]] = []
        self.step = ""
        self._settings = settings
        self.set_grace_period(0)

    def set_grace_period(self, seconds: float) -> None:
        """From now on a write whose outcome is unknown counts as under way for this long."""
        settings, database, services = self._settings, self.database, self.services
        protocol = CreationProtocol(database, self.leases, self.telemetry, self._send_retry, grace_seconds=seconds)
        # A lost response leaves nothing under way here, since the test has seen the outcome: nothing is waited for.
        timing = {
            "api_timeout_seconds": 0.01,
            "creation_settling_seconds": max(seconds, 0.01),
            "creation_wait_seconds": 0,
        }
        at_once = settings.model_copy(update=timing)
        self._queues = {
            domain.queue: QueueContext(
                domain=domain,
                settings=at_once,
                services=services,
                creations=protocol,
                leases=self.leases,
                telemetry=self.telemetry,
                database=database,
                breakers=Breakers(database, self.telemetry, lambda _: None),
                upstreams=(),
            )
            for domain in DOMAINS.values()
        }

    def handle(
        self, event_type: str, prisoner_id: str | None = None, occurred_at: datetime | None = None, **information: Any
    ) -> Outcome | str:
        """Handles an event; the outcome of a creation, or the name of the event that an update tracked."""
        moment = None if occurred_at is None else occurred_at.isoformat()
        return self._work(QUEUES[event_type], write_domain_event(event_type, information, prisoner_id, moment))

    def handle_retry(self, queue: str, body: str) -> Outcome | str:
        """Handles the body of a mapping retry."""
        return self._work(queue, body)

    def tracked(self, *names: str) -> list[tuple[str, dict[str, str]]]:
        """The events tracked so far, those of these names where names are given, oldest first."""
        self.telemetry.flush()
        events = [(each["name"], dict(each["properties"])) for each in read_events(self.database)]
        listed = {name for handler in HANDLERS.values() for name in tracked_events(handler)}
        assert {name for name, _ in events} <= listed, "tracked, but not in the table of events"
        return [each for each in events if not names or each[0] in names]

    def _work(self, queue: str, body: str) -> Outcome | str:
        task = read_task(Message("message", "receipt", body, receive_count=1), domain_of_queue(queue))
        context = start_context(self._queues[queue])
        try:
            outcome = handle(self._queues[queue], task, context)
        finally:
            self.step = context.current_step
        if not isinstance(task.handler, Update):
            return outcome
        name = self.tracked()[-1][0]
        assert name in (task.handler.success, *task.handler.others)
        return name

    def _send_retry(self, queue: str, body: str) -> str:
        self.retries.append((queue, body))
        return f"message-{len(self.retries)}"


@contextmanager
def driving(sandbox: Sandbox, database: Database) -> Iterator[Driver]:
    """A driver on a database."""
    settings = load_settings(sandbox.environment())
    transport = Transport(settings)
    try:
        yield Driver(sandbox, settings, database, connect(transport))
    finally:
        transport.close()


@dataclass(frozen=True, slots=True)
class Prisoner:
    """Someone of the sandbox's population; `rooms` are locations of the prison."""

    offender_no: str
    booking_id: int
    prison_id: str
    rooms: tuple[int, ...]


def prisoner_at(sandbox: Sandbox, place: int) -> Prisoner:
    """The prisoner at a place in the population."""
    found = sandbox.prisoners()[place]
    rooms = tuple(each["id"] for each in sandbox.control("GET", f"/locations/{found['prisonId']}"))
    return Prisoner(found["offenderNo"], found["bookingId"], found["prisonId"], rooms)
