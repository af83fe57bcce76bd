"""The creation protocol when the program's own database becomes unavailable.

| the database is lost …   | what happens                                                          |
| ------------------------ | --------------------------------------------------------------------- |
| before the intent        | NOMIS is not called, and the message stays on its queue               |
| while NOMIS creates      | the record is mapped anyway; its id is remembered or looked up        |
| while NOMIS refuses      | the refusal is remembered, so the outcome is known                    |
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from sandbox import Sandbox
from sandbox.postgres import PostgresServer
from sync.errors import UpstreamError
from sync.events.context import Outcome
from sync.store.database import Database, StoreUnavailable
from tests.harness.creations import (
    Consumer,
    consuming,
    courses_of,
    mapped_to,
    visits_of,
)
from tests.harness.databases import make_database
from tests.harness.faults import held
from tests.harness.publishing import DpsEvent, schedule_created, visit_booked
from tests.harness.waiting import failure_of, in_thread

VISITS = "/prisoners/{offenderNo}/visits"


@pytest.fixture(scope="module")
def own_server() -> Iterator[PostgresServer]:
    """A PostgreSQL server that the tests may stop."""
    server = PostgresServer()
    try:
        yield server
    finally:
        server.close()


@pytest.fixture
def server(own_server: PostgresServer) -> PostgresServer:
    """The module's server, which is running."""
    own_server.start()
    return own_server


@pytest.fixture
def lost_url(server: PostgresServer) -> str:
    """The address of an empty database on `server`, with the current schema."""
    url = make_database(server.url).render_as_string()
    database = Database(url)
    database.upgrade()
    database.dispose()
    return url


def test_without_the_database_nothing_is_created(upstream: Sandbox, server: PostgresServer, lost_url: str) -> None:
    """While the database is unavailable, a delivery fails without a call to NOMIS.

    The first delivery after the outage creates the visit.
    """
    booking = visit_booked(upstream)
    with consuming(upstream, lost_url) as consumer:
        server.stop()
        upstream.clear_records()
        with pytest.raises(StoreUnavailable):
            consumer.deliver(booking)
        assert upstream.requests("nomis") == []
        server.start()
        assert consumer.deliver(booking) is Outcome.APPLIED
        assert consumer.names() == ["visit-create-success"]


def test_a_lost_intent_proves_nothing_about_the_next_one(
    upstream: Sandbox, server: PostgresServer, lost_url: str
) -> None:
    """A process that could not store its intent does not count another process's attempt as its own.

    Instead, the first process finds the visit that the other process created, and maps it.
    """
    booking = visit_booked(upstream)
    with consuming(upstream, lost_url) as consumer:
        with held(upstream, "visits", "GET", "/visits/{reference}") as reading:
            delivery = in_thread(consumer.deliver, booking)
            reading.wait_for_request()
            server.stop()
            reading.release()
            assert isinstance(failure_of(delivery), StoreUnavailable)
        server.start()
        consumer.leases.renew()
        with consuming(upstream, lost_url) as other:
            upstream.fault("nomis", "POST", VISITS, kind="reset_after_write", times=1)
            with pytest.raises(UpstreamError):
                other.deliver_when_free(booking)
        assert consumer.deliver_when_free(booking) is Outcome.APPLIED
        assert visits_of(upstream, booking) == [mapped_to(upstream, booking)]


@pytest.mark.parametrize("restarted", [False, True])
def test_a_database_lost_during_the_create_makes_no_second_visit(
    upstream: Sandbox, server: PostgresServer, lost_url: str, restarted: bool
) -> None:
    """If the database is lost during the create of a visit, the mapping is saved anyway.

    The next delivery, whether the same process or another handles it, finds the mapping and creates nothing.
    """
    booking = visit_booked(upstream)
    with consuming(upstream, lost_url) as consumer:
        lost = lose_during_create(upstream, server, consumer, booking, VISITS)
        assert isinstance(lost, StoreUnavailable)
        [visit_id] = visits_of(upstream, booking)
        assert mapped_to(upstream, booking) == visit_id
        server.start()
        consumer.leases.renew()
        with consuming(upstream, lost_url) as other:
            next_one = other if restarted else consumer
            assert next_one.deliver_when_free(booking) is Outcome.APPLIED
            assert next_one.names() == ["visit-create-success"]
        assert visits_of(upstream, booking) == [visit_id]


@pytest.mark.parametrize("mapped", [True, False])
def test_a_database_lost_during_the_create_of_a_course_leaves_nothing_unknown(
    upstream: Sandbox, server: PostgresServer, lost_url: str, mapped: bool
) -> None:
    """If the database is lost during the create of a course, the process remembers the course's id.

    After the next delivery, the course is mapped, whether or not the first delivery could save the mapping.
    """
    booking = schedule_created(upstream)
    with consuming(upstream, lost_url) as consumer:
        if not mapped:
            upstream.fault("mapping", "POST", "/mapping/activities", status=503, times=1)
            consumer.parts.sending_fails = ConnectionError("queue away")
        lost = lose_during_create(upstream, server, consumer, booking, "/activities")
        assert isinstance(lost, StoreUnavailable if mapped else ConnectionError)
        consumer.parts.sending_fails = None
        server.start()
        assert consumer.deliver_when_free(booking) is Outcome.APPLIED
        [course_id] = courses_of(upstream, booking)
        assert mapped_to(upstream, booking) == course_id
        assert consumer.findings() == []


def test_a_refusal_that_could_not_be_stored_is_remembered(
    upstream: Sandbox, server: PostgresServer, lost_url: str
) -> None:
    """If a create is refused while the database is unavailable, the next delivery repeats the create."""
    booking = schedule_created(upstream)
    with consuming(upstream, lost_url) as consumer:
        upstream.put("schedule", id=int(booking.dps_id), capacity=5_000)
        lost = lose_during_create(upstream, server, consumer, booking, "/activities")
        assert isinstance(lost, UpstreamError)
        assert lost.status == 400
        server.start()
        upstream.put("schedule", id=int(booking.dps_id), capacity=10)
        assert consumer.deliver_when_free(booking) is Outcome.APPLIED
        assert len(courses_of(upstream, booking)) == 1


def lose_during_create(
    sandbox: Sandbox, server: PostgresServer, consumer: Consumer, booking: DpsEvent, path: str
) -> BaseException | None:
    """Handles a delivery, and stops the database while NOMIS handles the create. Returns the error of the delivery."""
    with held(sandbox, "nomis", "POST", path) as create:
        delivery = in_thread(consumer.deliver, booking)
        create.wait_for_request()
        server.stop()
        create.release()
        return failure_of(delivery)
