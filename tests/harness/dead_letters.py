"""Dead letters that a test creates."""

from __future__ import annotations

import structlog

from sync.creation.store import CreationStore
from sync.domains.registry import DOMAINS
from sync.events.envelope import write_domain_event
from sync.queues.queue import Message
from sync.store.database import Database
from sync.store.telemetry import Telemetry
from tests.harness.app import App

BOOKED = "prison-visit.booked"
TIME = "2023-05-22T09:00:00Z"


def put_on_dlq(app: App, *references: str) -> None:
    """Puts events about unknown visits straight onto the dead letter queue of visits."""
    dlq = app.queues()["visit"].dlq
    for reference in references:
        dlq.send(write_domain_event(BOOKED, {"reference": reference}, "A1234BC", TIME))


def on_main_queue(app: App) -> list[Message]:
    """Receives at most ten messages from the main queue of visits."""
    return app.queues()["visit"].main.receive(10)


def deliver_until_dead(app: App, *references: str) -> None:
    """Delivers events about visits that visit-scheduler does not have, until the events are dead letters."""
    queue = app.queues()["visit"].main
    for reference in references:
        queue.send(write_domain_event(BOOKED, {"reference": reference}, "A1234BC", TIME))
    app.drain_out("visit")


def intend(app: App, domain: str, dps_id: str) -> None:
    """Records that a create was started, as if the process had died before it learned the outcome."""
    database = Database(f"sqlite:///{app.database}")
    store = CreationStore(database, Telemetry(database, structlog.get_logger()))
    store.intend(DOMAINS[domain].creation, dps_id, {"offenderNo": "A1234BC"}, {}, None)
    database.dispose()
