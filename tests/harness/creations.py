"""A consumer that handles events with the creation protocol, as a process of the program does.

The consumer calls the services of the sandbox. Other functions look up what deliveries created in the sandbox, save or
delete mappings, and run consumers in child processes.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from sandbox import Sandbox
from sync.creation.creation import creation_lease
from sync.domains.registry import DOMAINS, domain_of_queue
from sync.errors import LeaseBusy
from sync.events.context import HandlerContext, Outcome
from sync.events.envelope import DomainEvent, MappingRetry, read_envelope
from sync.settings.loading import load_settings
from sync.store import creations, findings, outbox
from sync.store.creations import CreationRecord
from sync.store.database import Database
from sync.store.findings import Finding
from sync.store.leases import Leases
from sync.store.outbox import Delivery
from sync.store.telemetry import read_events
from sync.upstream.services import Services
from tests.harness.publishing import DpsEvent
from tests.harness.queueless_application import QueuelessApplication
from tests.harness.sandboxes import Caller
from tests.harness.waiting import in_thread, result_of, until

VISIT = DOMAINS["visits"].creation
ACTIVITY = DOMAINS["activities"].creation

_numbers = itertools.count(10_000 * (os.getpid() % 10_000))
Tracked = tuple[str, dict[str, str]]


class Consumer:
    """Handles deliveries as a process of the program does, with the creation protocol of the composition root.

    `grace_seconds` is the grace period of the protocol. If a call may continue after its process has died,
    `call_seconds` is the time-out of the calls. Otherwise it is zero, and `timeout_seconds` is the time-out. Leases are
    not renewed, so each lease expires after `lease_seconds`. With `breakers`, circuit breakers watch the calls. With
    `checked_writes`, a write is sent only while its lease is held.
    """

    def __init__(
        self,
        environment: Mapping[str, str],
        database_url: str,
        *,
        grace_seconds: float = 0,
        call_seconds: float = 0,
        lease_seconds: float = 60,
        timeout_seconds: float = 60,
        breakers: bool = False,
        checked_writes: bool = False,
    ) -> None:
        settings = {
            **environment,
            "API_TIMEOUT_SECONDS": str(call_seconds or timeout_seconds),
            "DATABASE_URL": database_url,
            "LEASE_SECONDS": str(lease_seconds),
        }
        loaded = load_settings(settings).model_copy(update={"creation_settling_seconds": grace_seconds})
        self.parts = QueuelessApplication(
            loaded,
            with_breakers=breakers,
            calls_may_linger=call_seconds > 0,
            with_checked_writes=checked_writes,
        )
        self.parts.leases.stop()

    @property
    def database(self) -> Database:
        """The database of the process."""
        return self.parts.database

    @property
    def leases(self) -> Leases:
        """The leases that the protocol acquires."""
        return self.parts.leases

    @property
    def services(self) -> Services:
        """The upstream services."""
        return self.parts.services

    def close(self) -> None:
        """Closes the connections."""
        self.parts.close()

    def deliver(self, booking: DpsEvent | DomainEvent) -> Outcome:
        """Handles one delivery of an event about a new visit or activity schedule."""
        event = booking.event if isinstance(booking, DpsEvent) else booking
        creation = VISIT if event.event_type == VISIT.event_type else ACTIVITY
        context = self._work()
        context.bind(**creation.start(event))
        return self.parts.creations.create(creation, event, context)

    def deliver_now(self, booking: DpsEvent) -> Outcome:
        """Handles one delivery about a visit as soon as nobody else holds the lease of the visit.

        Raises any other error, even if the error means that the delivery has to wait for another reason.
        """
        key = creation_lease(VISIT.name, booking.dps_id)

        def unless_held() -> Outcome | None:
            try:
                return self.deliver(booking)
            except LeaseBusy as error:
                if error.key == key and type(error) is LeaseBusy:
                    return None
                raise

        return until(unless_held)

    def deliver_when_free(self, booking: DpsEvent | DomainEvent) -> Outcome:
        """Handles one delivery and, like the drain, tries again for as long as the delivery has to wait."""
        return until(lambda: self._unless_busy(booking))

    def deliver_retry(self, queue: str, body: str) -> Outcome:
        """Handles the body of a mapping retry."""
        retry = read_envelope(body).content
        assert isinstance(retry, MappingRetry)
        return self.parts.creations.retry_mapping(domain_of_queue(queue).creation, retry, self._work())

    def tracked(self) -> list[Tracked]:
        """Every telemetry event that any process has tracked so far, with its properties, oldest first."""
        self.parts.telemetry.flush()
        return [(each["name"], dict(each["properties"])) for each in read_events(self.database)]

    def names(self) -> list[str]:
        """The names of the telemetry events tracked so far, oldest first."""
        return [name for name, _ in self.tracked()]

    def record(self, booking: DpsEvent, name: str = VISIT.name) -> CreationRecord:
        """The stored creation record for `booking`, which must exist."""
        with self.database.read() as connection:
            found = creations.find_record(connection, name, booking.dps_id)
        assert found is not None
        return found

    def findings(self) -> list[Finding]:
        """The open findings."""
        with self.database.read() as connection:
            return findings.list_findings(connection)

    def alerts(self) -> list[Delivery]:
        """The alerts that are due to be sent."""
        with self.database.read() as connection:
            return outbox.due(connection, 100)

    def _unless_busy(self, booking: DpsEvent | DomainEvent) -> Outcome | None:
        try:
            return self.deliver(booking)
        except LeaseBusy:
            return None

    def _work(self) -> HandlerContext:
        seconds = self.parts.settings.longest_request_seconds
        return HandlerContext(self.services, self.leases, self.parts.telemetry, self.database, request_seconds=seconds)


def other_number() -> int:
    """A new NOMIS id, for a record that the consumer did not create."""
    return 7_000_000_000 + next(_numbers)


def visits_of(sandbox: Sandbox, booking: DpsEvent) -> list[int]:
    """The NOMIS ids of the visits made for a booking. The comment of such a visit ends with the booking's reference."""
    return [each["id"] for each in sandbox.nomis("visit") if each["comment"].endswith(f": {booking.dps_id}")]


def courses_of(sandbox: Sandbox, booking: DpsEvent) -> list[int]:
    """The NOMIS ids of the courses made for a schedule. The code of such a course is the id of the schedule."""
    return [each["id"] for each in sandbox.nomis("course") if each["code"] == booking.dps_id]


def mapped_to(sandbox: Sandbox, booking: DpsEvent) -> int | None:
    """The NOMIS id that a booking or schedule is mapped to, or None if it is not mapped."""
    for each in sandbox.mappings("visits") + sandbox.mappings("activities"):
        if booking.dps_id in (each.get("vsipId"), str(each.get("activityScheduleId"))):
            found = each.get("nomisId", each.get("nomisCourseActivityId"))
            return None if found is None else int(found)
    return None


def map_by_hand(sandbox: Sandbox, path: str, mapping: dict[str, object]) -> None:
    """Saves a mapping, as another program would."""
    Caller(sandbox).call("mapping", "POST", path, mapping).raise_for_status()


def delete_mapping(sandbox: Sandbox, path: str) -> None:
    """Deletes a mapping, as happens when a record is deleted."""
    Caller(sandbox).call("mapping", "DELETE", path).raise_for_status()


def visit_mapping(booking: DpsEvent, nomis_id: int) -> dict[str, object]:
    """The mapping of the visit `booking` to the NOMIS visit `nomis_id`."""
    return {"nomisId": nomis_id, "vsipId": booking.dps_id, "mappingType": "ONLINE"}


def deliver_in_a_process(environment: dict[str, str], database_url: str, event: DomainEvent) -> None:
    """The code of a child process: handles one delivery.

    A call times out so late that the test can kill the process during the call.
    """
    Consumer(environment, database_url, timeout_seconds=600).deliver(event)


def deliver_all_in_a_process(environment: dict[str, str], database_url: str, events: list[DomainEvent]) -> None:
    """The code of several racing processes, each of which handles all events, one per thread."""
    consumer = Consumer(environment, database_url)
    for delivery in [in_thread(consumer.deliver_when_free, each) for each in events]:
        result_of(delivery)
    consumer.parts.telemetry.flush()


@contextmanager
def consuming(sandbox: Sandbox, database_url: str, **options: Any) -> Iterator[Consumer]:
    """A consumer, which is closed at the end of the `with` block."""
    consumer = Consumer(sandbox.environment(), database_url, **options)
    try:
        yield consumer
    finally:
        consumer.close()
