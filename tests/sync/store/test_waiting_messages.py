"""The record of messages that wait on a queue."""

from __future__ import annotations

from datetime import timedelta

from sync.clock import now
from sync.store.database import Database
from sync.store.waiting_messages import WaitingMessage, count_waits, end_waits, record_waits, waiting_among


def waiting(key: str, waits_for: str = "service", *, minutes: int = 1, queue: str = "visit") -> WaitingMessage:
    """A message that began to wait `minutes` minutes ago. If it waits for a service, the service is NOMIS."""
    service = "nomis" if waits_for == "service" else None
    since = now() - timedelta(minutes=minutes)
    return WaitingMessage(queue, key, waits_for, service, "status 503", since, now() + timedelta(minutes=1))


def test_a_message_waits_for_one_thing_at_a_time(database: Database) -> None:
    """A new reason for a message to wait replaces the earlier one.

    The end of a wait on one queue affects neither other messages nor a message with the same key on another queue.
    """
    first, second = waiting("1"), waiting("1", "creation")
    with database.begin() as connection:
        record_waits(connection, [first, second, waiting("2"), waiting("1", queue="activity")])
        assert waiting_among(connection, "visit", ["1", "3"]) == {"1": second}
        end_waits(connection, "visit", ["1", "3"])
        assert waiting_among(connection, "visit", ["1", "2"]).keys() == {"2"}
        assert waiting_among(connection, "activity", ["1"]).keys() == {"1"}


def test_waits_are_counted_by_what_they_wait_for(database: Database) -> None:
    """Messages are counted by what they wait for, services first.

    Each count has the time when the first of its messages began to wait. A message that is long overdue is not counted.
    """
    overdue = WaitingMessage("visit", "9", "lease", None, None, now(), now() - timedelta(days=2))
    with database.begin() as connection:
        record_waits(connection, [waiting("1", "creation"), waiting("2"), waiting("3", minutes=9), overdue])
        service, creation = count_waits(connection)
    assert (service.service, service.number, service.reason) == ("nomis", 2, "status 503")
    assert now() - service.since >= timedelta(minutes=9)
    assert (creation.waits_for, creation.service, creation.number) == ("creation", None, 1)
