"""Drives the handlers of the domains against the sandbox, one event at a time, as a worker of a queue does."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import structlog

from sandbox import Sandbox
from sync.catalogue import DOMAINS
from sync.creation import CreationProtocol
from sync.envelope import DomainEvent, MappingRetry, read_envelope
from sync.handling import Creation, Trail
from sync.outcome import Outcome
from sync.settings import load_settings
from sync.store.database import Database
from sync.store.leases import Leases
from sync.store.telemetry import StoredTelemetry, read_events
from sync.upstream.services import Services, connect
from sync.upstream.transport import Transport
from sync.work import HandlerWork

HANDLERS = {event_type: handler for domain in DOMAINS.values() for event_type, handler in domain.handlers.items()}


class Driver:
    """Handles events and mapping retries; `retries` are the messages that were sent to the queues."""

    def __init__(self, sandbox: Sandbox, database: Database, services: Services) -> None:
        self.sandbox = sandbox
        self.database = database
        self.services = services
        self.leases = Leases(database, "driver", 60)
        self.telemetry = StoredTelemetry(database, structlog.get_logger())
        self.retries: list[tuple[str, str]] = []
        self.trail = Trail()
        self._protocol = CreationProtocol(database, self.leases, self.telemetry, self._send_retry, settling_seconds=0)

    def handle(
        self, event_type: str, prisoner_id: str | None = None, occurred_at: datetime | None = None, **information: Any
    ) -> Outcome | str:
        """Handles an event; the outcome of a creation, or the name of the event that an update tracked."""
        event = DomainEvent(event_type, occurred_at, prisoner_id, information)
        work, handler = self._work(), HANDLERS[event_type]
        self.trail = work.trail
        if isinstance(handler, Creation):
            return self._protocol.create(handler, event, work)
        work.trail.add(**handler.start(event))
        try:
            name = handler.apply(event, work) or handler.success
        except Exception:
            if handler.failed is not None:
                work.track(handler.failed, work.trail.properties)
            raise
        assert name in (handler.success, *handler.others)
        work.track(name, work.trail.properties)
        return name

    def handle_retry(self, queue: str, body: str) -> Outcome:
        """Handles the body of a mapping retry."""
        retry = read_envelope(body).content
        assert isinstance(retry, MappingRetry)
        return self._protocol.retry_mapping(DOMAINS[queue].creation, retry, self._work())

    def tracked(self, *names: str) -> list[tuple[str, dict[str, str]]]:
        """The events tracked so far, those of these names where names are given, oldest first."""
        self.telemetry.flush()
        events = [(each["name"], dict(each["properties"])) for each in read_events(self.database)]
        return [each for each in events if not names or each[0] in names]

    def _work(self) -> HandlerWork:
        return HandlerWork(self.services, self.leases, self.telemetry, self.database)

    def _send_retry(self, queue: str, body: str) -> str:
        self.retries.append((queue, body))
        return f"message-{len(self.retries)}"


@contextmanager
def driving(sandbox: Sandbox, database: Database, timeout_seconds: float = 1) -> Iterator[Driver]:
    """A driver whose calls time out after so many seconds."""
    transport = Transport(load_settings({**sandbox.environment(), "API_TIMEOUT_SECONDS": str(timeout_seconds)}))
    try:
        yield Driver(sandbox, database, connect(transport))
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
