"""The creation protocol through deaths, lost answers, two processes, and a database that goes away.

What the next delivery finds, and does, after a death at each point:

| died …                                        | mapping | record   | NOMIS    | next delivery              |
| --------------------------------------------- | ------- | -------- | -------- | -------------------------- |
| before the intent                             | no      | none     | nothing  | creates                    |
| after the intent, before NOMIS has the write  | no      | intended | nothing  | looks, settles, creates    |
| after NOMIS has the write, before the answer  | no      | intended | a record | looks, finds it, maps it   |
| … where no read exists (courses)              | no      | intended | a record | asks a person, never again |
| after the answer, before it is recorded       | no      | intended | a record | as the two above           |
| after the record, before the mapping is saved | no      | created  | a record | maps it                    |
| after the mapping is saved, before the answer | ours    | created  | a record | success, as it would be    |
| after the success, before the acknowledgement | ours    | mapped   | a record | duplicate, acknowledged    |
| after the retry message, before the ack       | no      | created  | a record | maps it, as the retry does |

| two at once …                                 | what happens                                                |
| --------------------------------------------- | ----------------------------------------------------------- |
| both before the lease                         | one holds it, the other waits, then meets the mapping       |
| the holder is slow, its lease has expired     | the other finds a young intent and waits; the first ends    |
| … and the intent counts as settled            | both create; the second mapping is refused: never silent    |
| the holder wakes up before it has intended    | its intent is refused, as the record has changed: it waits  |
| a retry message and the event itself          | both post the same pair                                     |

| the database goes away …                      | what happens                                                |
| --------------------------------------------- | ----------------------------------------------------------- |
| before the intent                             | nothing is called in NOMIS; the message stays               |
| while NOMIS creates                           | mapped all the same; the id is remembered, or looked up     |
| while NOMIS refuses                           | remembered: no doubt is left                                |
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pytest
import time_machine

from sandbox import Sandbox
from sandbox.postgres import PostgresServer
from sync.clock import now
from sync.creation.records import CreationState
from sync.failures import LeaseBusy, UpstreamError
from sync.pipeline.outcome import Outcome
from sync.store.database import Database, StoreUnavailable
from tests.harness.creations import (
    Booking,
    Consumer,
    book_visit,
    consuming,
    courses_of,
    deliver_all_in_a_process,
    deliver_in_a_process,
    make_schedule,
    mapped_to,
    visits_of,
)
from tests.harness.databases import make_database
from tests.harness.faults import held
from tests.harness.processes import child, exit_codes, kill
from tests.harness.waiting import failure_of, in_thread, result_of, until

VISITS = "/prisoners/{offenderNo}/visits"


def die_in(
    sandbox: Sandbox, database_url: str, booking: Booking, service: str, method: str, path: str, kind: str
) -> None:
    """Kills a process while one of its calls hangs: before the service did it, or after."""
    with (
        held(sandbox, service, method, path, kind=kind) as call,
        child(deliver_in_a_process, sandbox.environment(), database_url, booking) as process,
    ):
        call.wait_for_request()
        if kind == "timeout_after_write":
            until(lambda: [each for each in sandbox.journal(service) if booking.dps_id in str(each["body"])])
        kill(process)


@pytest.fixture
def survivor(upstream: Sandbox, database_url: str) -> Iterator[Consumer]:
    """The process that gets the next delivery."""
    with consuming(upstream, database_url) as consumer:
        yield consumer


@pytest.mark.parametrize(
    ("service", "method", "path", "kind"),
    [
        ("mapping", "GET", "/mapping/visits/vsipId/{vsipId}", "timeout_before_write"),
        ("visits", "GET", "/visits/{reference}", "timeout_before_write"),
        ("nomis", "POST", VISITS, "timeout_before_write"),
        ("nomis", "POST", VISITS, "timeout_after_write"),
        ("mapping", "POST", "/mapping/visits", "timeout_before_write"),
        ("mapping", "POST", "/mapping/visits", "timeout_after_write"),
    ],
)
def test_a_death_at_any_call_leaves_one_visit(
    upstream: Sandbox, survivor: Consumer, database_url: str, service: str, method: str, path: str, kind: str
) -> None:
    """Wherever kill -9 strikes, the next delivery succeeds at once and NOMIS has the visit once, mapped."""
    booking = book_visit(upstream)
    die_in(upstream, database_url, booking, service, method, path, kind)
    assert survivor.deliver(booking) is Outcome.APPLIED
    [visit_id] = visits_of(upstream, booking)
    assert mapped_to(upstream, booking) == visit_id
    assert survivor.record(booking).state is CreationState.MAPPED
    assert survivor.names() == ["visit-create-success"]
    assert survivor.findings() == []
    assert survivor.deliver(booking) is Outcome.DUPLICATE


@pytest.mark.parametrize("kind", ["timeout_before_write", "timeout_after_write"])
def test_a_death_while_nobody_can_tell_is_for_a_person(
    upstream: Sandbox, survivor: Consumer, database_url: str, kind: str
) -> None:
    """A course whose create was cut off is never created again by itself, whether NOMIS has it or not."""
    booking = make_schedule(upstream)
    die_in(upstream, database_url, booking, "nomis", "POST", "/activities", kind)
    assert survivor.deliver(booking) is Outcome.AMBIGUOUS
    assert len(courses_of(upstream, booking)) == (1 if kind == "timeout_after_write" else 0)
    assert [finding.kind for finding in survivor.findings()] == ["ambiguous"]
    assert len(survivor.alerts()) == 1


def test_a_death_with_a_known_course_leaves_one_course(
    upstream: Sandbox, survivor: Consumer, database_url: str
) -> None:
    """A course whose id is on record is only mapped."""
    booking = make_schedule(upstream)
    die_in(upstream, database_url, booking, "mapping", "POST", "/mapping/activities", "timeout_before_write")
    assert survivor.deliver(booking) is Outcome.APPLIED
    [course_id] = courses_of(upstream, booking)
    assert mapped_to(upstream, booking) == course_id


def test_a_young_intent_is_not_created_again(upstream: Sandbox, database_url: str) -> None:
    """After a death NOMIS is not believed at once when it does not have the record: the create may be under way."""
    booking = book_visit(upstream)
    die_in(upstream, database_url, booking, "nomis", "POST", VISITS, "timeout_before_write")
    with consuming(upstream, database_url, grace_seconds=3600) as cautious, pytest.raises(LeaseBusy):
        cautious.deliver(booking)
    assert visits_of(upstream, booking) == []
    with consuming(upstream, database_url) as later:
        assert later.deliver(booking) is Outcome.APPLIED


@pytest.mark.parametrize("step", [timedelta(minutes=3), timedelta(minutes=-3)])
def test_a_step_of_the_clock_makes_no_intent_older(upstream: Sandbox, database_url: str, step: timedelta) -> None:
    """Whoever looks by a clock that goes wrong waits as long as everybody else, and no longer."""
    booking = book_visit(upstream)
    die_in(upstream, database_url, booking, "nomis", "POST", VISITS, "timeout_before_write")
    with time_machine.travel(now() + step):
        with consuming(upstream, database_url, grace_seconds=120) as cautious, pytest.raises(LeaseBusy):
            cautious.deliver(booking)
        assert visits_of(upstream, booking) == []
        with consuming(upstream, database_url, grace_seconds=0) as later:
            assert later.deliver(booking) is Outcome.APPLIED


def test_processes_and_threads_that_race_create_once(upstream: Sandbox, database_url: str) -> None:
    """Two processes, and threads in each, get every event twice at the same moment: one record each."""
    bookings = [book_visit(upstream) for _ in range(10)]
    arguments = (upstream.environment(), database_url, bookings + bookings)
    assert exit_codes(deliver_all_in_a_process, arguments, arguments) == [0, 0]
    assert [len(visits_of(upstream, booking)) for booking in bookings] == [1] * 10
    with consuming(upstream, database_url) as reader:
        names = reader.names()
        assert (names.count("visit-create-success"), names.count("visit-create-duplicate")) == (10, 30)
        assert reader.findings() == []


def test_a_slow_holder_whose_lease_expired_is_waited_for(upstream: Sandbox, database_url: str) -> None:
    """Another process takes the lease over, sees a young intent, and leaves it alone."""
    booking = book_visit(upstream)
    with (
        consuming(upstream, database_url, lease_seconds=0.1) as slow,
        consuming(upstream, database_url, grace_seconds=3600) as other,
        held(upstream, "nomis", "POST", VISITS) as create,
    ):
        delivery = in_thread(slow.deliver, booking)
        create.wait_for_request()
        until(lambda: not _busy_elsewhere(other, booking))
        with pytest.raises(LeaseBusy, match="unknown"):
            other.deliver(booking)
        create.release()
        assert result_of(delivery) is Outcome.APPLIED
        assert other.deliver(booking) is Outcome.DUPLICATE
        assert len(visits_of(upstream, booking)) == 1


def _busy_elsewhere(consumer: Consumer, booking: Booking) -> bool:
    key = f"create:visit:{booking.dps_id}"
    if not consumer.leases.acquire(key):
        return True
    consumer.leases.release(key)
    return False


def test_two_creates_in_spite_of_everything_are_never_silent(upstream: Sandbox, database_url: str) -> None:
    """Lease expired, intent taken as settled: NOMIS gets two records, and a finding tells which is surplus."""
    booking = book_visit(upstream)
    with (
        consuming(upstream, database_url, lease_seconds=0.1) as slow,
        consuming(upstream, database_url, grace_seconds=0) as hasty,
        held(upstream, "nomis", "POST", VISITS) as create,
    ):
        delivery = in_thread(slow.deliver, booking)
        create.wait_for_request()
        until(lambda: not _busy_elsewhere(hasty, booking))
        assert hasty.deliver(booking) is Outcome.APPLIED
        create.release()
        assert result_of(delivery) is Outcome.DUPLICATE
        first, second = visits_of(upstream, booking)
        [finding] = hasty.findings()
        surplus, kept = finding.properties["duplicateNomisId"], finding.properties["existingNomisId"]
        assert {int(surplus), int(kept)} == {first, second}
        assert mapped_to(upstream, booking) == int(kept)
        assert hasty.record(booking).nomis_ids == {"nomisId": int(kept)}


def test_a_holder_that_wakes_up_too_late_does_not_create(upstream: Sandbox, database_url: str) -> None:
    """A process that lost its lease while it read the visit finds its intent refused, and creates nothing."""
    booking = book_visit(upstream)
    with (
        consuming(upstream, database_url, lease_seconds=0.1) as slow,
        consuming(upstream, database_url) as other,
        held(upstream, "visits", "GET", "/visits/{reference}") as reading,
    ):
        delivery = in_thread(slow.deliver, booking)
        reading.wait_for_request()
        until(lambda: not _busy_elsewhere(other, booking))
        assert other.deliver(booking) is Outcome.APPLIED
        reading.release()
        assert isinstance(failure_of(delivery), LeaseBusy)
        assert len(visits_of(upstream, booking)) == 1
        assert slow.deliver(booking) is Outcome.DUPLICATE


def test_a_retry_and_the_event_itself_do_the_same(survivor: Consumer, upstream: Sandbox) -> None:
    """The event delivered again before its retry message saves the mapping; the retry then finds it saved."""
    booking = book_visit(upstream)
    upstream.fault("mapping", "POST", "/mapping/visits", status=503, times=1)
    assert survivor.deliver(booking) is Outcome.RETRY_QUEUED
    assert survivor.deliver(booking) is Outcome.APPLIED
    assert survivor.deliver_retry(*survivor.sent[0]) is Outcome.APPLIED
    assert len(visits_of(upstream, booking)) == 1
    assert survivor.findings() == []


@pytest.fixture(scope="module")
def own_server() -> Iterator[PostgresServer]:
    """A PostgreSQL server that may be stopped."""
    server = PostgresServer()
    try:
        yield server
    finally:
        server.close()


@pytest.fixture
def server(own_server: PostgresServer) -> PostgresServer:
    """That server, running."""
    own_server.start()
    return own_server


@pytest.fixture
def lost_url(server: PostgresServer) -> str:
    """An empty database of that server, with the current schema."""
    url = make_database(server.url).render_as_string()
    database = Database(url)
    database.upgrade()
    database.dispose()
    return url


def test_without_the_database_nothing_is_created(upstream: Sandbox, server: PostgresServer, lost_url: str) -> None:
    """The message stays; when the database is back the next delivery creates."""
    booking = book_visit(upstream)
    with consuming(upstream, lost_url) as consumer:
        server.stop()
        upstream.clear_records()
        with pytest.raises(StoreUnavailable):
            consumer.deliver(booking)
        assert upstream.requests("nomis") == []
        server.start()
        assert consumer.deliver(booking) is Outcome.APPLIED
        assert consumer.names() == ["visit-create-success"]


@pytest.mark.parametrize("restarted", [False, True])
def test_a_database_lost_during_the_create_makes_no_second_visit(
    upstream: Sandbox, server: PostgresServer, lost_url: str, restarted: bool
) -> None:
    """The mapping is saved all the same; the next delivery, also by another process, knows the record as its own."""
    booking = book_visit(upstream)
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
def test_a_database_lost_during_the_create_of_a_course_leaves_no_doubt(
    upstream: Sandbox, server: PostgresServer, lost_url: str, mapped: bool
) -> None:
    """The process remembers the id that it could not write, whether the mapping could be saved or not."""
    booking = make_schedule(upstream)
    with consuming(upstream, lost_url) as consumer:
        if not mapped:
            upstream.fault("mapping", "POST", "/mapping/activities", status=503, times=1)
            consumer.sending_fails = ConnectionError("queue away")
        lost = lose_during_create(upstream, server, consumer, booking, "/activities")
        assert isinstance(lost, StoreUnavailable if mapped else ConnectionError)
        consumer.sending_fails = None
        server.start()
        assert consumer.deliver_when_free(booking) is Outcome.APPLIED
        [course_id] = courses_of(upstream, booking)
        assert mapped_to(upstream, booking) == course_id
        assert consumer.findings() == []


def test_a_refusal_that_could_not_be_written_leaves_no_doubt(
    upstream: Sandbox, server: PostgresServer, lost_url: str
) -> None:
    """A create that was refused while the database was away is simply sent again."""
    booking = make_schedule(upstream)
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
    sandbox: Sandbox, server: PostgresServer, consumer: Consumer, booking: Booking, path: str
) -> BaseException | None:
    """A delivery that loses its database while NOMIS is at work on its create; what it failed with."""
    with held(sandbox, "nomis", "POST", path) as create:
        delivery = in_thread(consumer.deliver, booking)
        create.wait_for_request()
        server.stop()
        create.release()
        return failure_of(delivery)
