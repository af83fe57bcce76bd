"""Handles messages with the handlers of the domains, one at a time, against the sandbox."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from sandbox import Sandbox
from sync.domains.declaration import Update
from sync.domains.event_table import tracked_events
from sync.domains.registry import DOMAINS, domain_of_queue
from sync.events.context import Outcome
from sync.events.envelope import write_domain_event
from sync.pipeline.coalesce import read_task
from sync.pipeline.handle import handle, start_context
from sync.queues.queue import Message
from sync.settings import times
from sync.settings.loading import load_settings
from sync.store.database import Database
from sync.store.leases import Leases
from sync.store.telemetry import read_events
from sync.upstream.services import Services
from tests.harness.queueless_application import QueuelessApplication

QUEUES = {event_type: domain.queue for domain in DOMAINS.values() for event_type in domain.handlers}
HANDLERS = {event_type: handler for domain in DOMAINS.values() for event_type, handler in domain.handlers.items()}


class Harness:
    """Handles events and mapping retries one at a time, with the handlers of the composition root.

    `retries` has the mapping retries that the handlers sent, each as (queue id, body). `step` is the last step that was
    reached in the handling of the most recent message.
    """

    def __init__(self, sandbox: Sandbox, database_url: str) -> None:
        self.sandbox = sandbox
        self.retries: list[tuple[str, str]] = []
        self.step = ""
        self._database_url = database_url
        self._parts = self._open(0)

    def close(self) -> None:
        """Closes the database, the services and the other parts of the program."""
        self._parts.close()

    @property
    def database(self) -> Database:
        """The database that the handlers use."""
        return self._parts.database

    @property
    def services(self) -> Services:
        """The upstream services."""
        return self._parts.services

    @property
    def leases(self) -> Leases:
        """The leases that the handlers acquire."""
        return self._parts.leases

    def set_grace_period(self, seconds: float) -> None:
        """Makes each later write without a response count as under way for `seconds`."""
        self._parts.close()
        self._parts = self._open(seconds)

    def handle(
        self, event_type: str, prisoner_id: str | None = None, occurred_at: datetime | None = None, **information: Any
    ) -> Outcome | str:
        """Handles an event.

        Returns the outcome of a creation, or the name of the telemetry event that an update tracked.
        """
        moment = None if occurred_at is None else occurred_at.isoformat()
        return self._work(QUEUES[event_type], write_domain_event(event_type, information, prisoner_id, moment))

    def handle_retry(self, queue: str, body: str) -> Outcome | str:
        """Handles the body of a mapping retry."""
        return self._work(queue, body)

    def tracked(self, *names: str) -> list[tuple[str, dict[str, str]]]:
        """The telemetry events tracked so far, each with its properties, oldest first.

        If names are given, events with other names are left out.
        """
        self._parts.telemetry.flush()
        events = [(each["name"], dict(each["properties"])) for each in read_events(self.database)]
        listed = {name for handler in HANDLERS.values() for name in tracked_events(handler)}
        assert {name for name, _ in events} <= listed, "the event was tracked, but it is not in the table"
        return [each for each in events if not names or each[0] in names]

    def _work(self, queue: str, body: str) -> Outcome | str:
        task = read_task(Message("message", "receipt", body, receive_count=1), domain_of_queue(queue))
        queue_context = self._parts.queue_context(queue)
        context = start_context(queue_context, task.properties)
        try:
            outcome = handle(queue_context, task, context)
        finally:
            self.step = context.current_step
        if not isinstance(task.handler, Update):
            return outcome
        name = self.tracked()[-1][0]
        assert name in (task.handler.success, *task.handler.others)
        return name

    def _open(self, settling_seconds: float) -> QueuelessApplication:
        settings = {
            **self.sandbox.environment(),
            "DATABASE_URL": self._database_url,
            "CREATION_WAIT_SECONDS": "0",
        }
        application = QueuelessApplication(
            load_settings(settings).model_copy(update={"creation_settling_seconds": settling_seconds})
        )
        application.retries = self.retries
        return application


@dataclass(frozen=True, slots=True)
class Prisoner:
    """A prisoner in the sandbox's population. `rooms` has the ids of the locations in the prisoner's prison."""

    offender_no: str
    booking_id: int
    prison_id: str
    rooms: tuple[int, ...]


def prisoner_at(sandbox: Sandbox, place: int) -> Prisoner:
    """The prisoner at a position in the population."""
    found = sandbox.prisoners()[place]
    rooms = tuple(each["id"] for each in sandbox.control("GET", f"/locations/{found['prisonId']}"))
    return Prisoner(found["offenderNo"], found["bookingId"], found["prisonId"], rooms)


@pytest.fixture
def harness(
    sandbox: Sandbox, tmp_path: Path, sqlite_template: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Harness]:
    """A harness with the handlers of all queues and its own database. A handler waits only briefly for a lease."""
    monkeypatch.setattr(times, "HANDLER_LEASE_WAIT_SECONDS", 0.1)
    made = Harness(sandbox, f"sqlite:///{shutil.copyfile(sqlite_template, tmp_path / 'sync.db')}")
    yield made
    made.close()


@pytest.fixture
def prisoner(sandbox: Sandbox) -> Prisoner:
    """The first prisoner of the population."""
    return prisoner_at(sandbox, 0)
