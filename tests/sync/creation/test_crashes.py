"""The creation protocol after a crash at any call, and when two processes handle one event at the same time.

`sync/creation/protocol.py` says what the next delivery does after a crash at each point.

| two processes at once …                            | what happens                                               |
| -------------------------------------------------- | ---------------------------------------------------------- |
| before either has the lease                        | one gets it; the other waits and then finds the mapping    |
| the holder is slow, and its lease has expired      | the other finds a recent intent and waits for the holder   |
| … and the grace period of the intent is over       | both create; the second mapping is refused, with a finding |
| the lease expires before the holder has an intent  | the other creates; the holder's intent is refused          |
| one has a retry message, and the other the event   | both post the same mapping                                 |
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pytest
import time_machine

from sandbox import Sandbox
from sync.clock import now
from sync.errors import LeaseBusy
from sync.events.context import Outcome
from sync.store.creations import CreationState
from tests.harness.creations import (
    Consumer,
    consuming,
    courses_of,
    deliver_all_in_a_process,
    deliver_in_a_process,
    mapped_to,
    visits_of,
)
from tests.harness.faults import held
from tests.harness.processes import child, exit_codes, kill
from tests.harness.publishing import DpsEvent, schedule_created, visit_booked
from tests.harness.waiting import failure_of, in_thread, result_of, until

VISITS = "/prisoners/{offenderNo}/visits"


def die_in(
    sandbox: Sandbox, database_url: str, booking: DpsEvent, service: str, method: str, path: str, kind: str
) -> None:
    """Kills a process that is handling `booking` while one of its calls hangs, before or after the call is applied."""
    with (
        held(sandbox, service, method, path, kind=kind) as call,
        child(deliver_in_a_process, sandbox.environment(), database_url, booking.event) as process,
    ):
        call.wait_for_request()
        if kind == "timeout_after_write":
            until(lambda: [each for each in sandbox.journal(service) if booking.dps_id in str(each["body"])])
        kill(process)


@pytest.fixture
def survivor(upstream: Sandbox, database_url: str) -> Iterator[Consumer]:
    """The consumer that gets the deliveries after the crash."""
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
def test_a_crash_at_any_call_leaves_one_visit(
    upstream: Sandbox, survivor: Consumer, database_url: str, service: str, method: str, path: str, kind: str
) -> None:
    """Whichever call a `kill -9` interrupts, the next delivery succeeds and leaves one mapped visit in NOMIS."""
    booking = visit_booked(upstream)
    die_in(upstream, database_url, booking, service, method, path, kind)
    assert survivor.deliver(booking) is Outcome.APPLIED
    [visit_id] = visits_of(upstream, booking)
    assert mapped_to(upstream, booking) == visit_id
    assert survivor.record(booking).state is CreationState.MAPPED
    assert survivor.names() == ["visit-create-success"]
    assert survivor.findings() == []
    assert survivor.deliver(booking) is Outcome.DUPLICATE


@pytest.mark.parametrize("kind", ["timeout_before_write", "timeout_after_write"])
def test_a_crash_during_the_create_of_a_course_is_ambiguous(
    upstream: Sandbox, survivor: Consumer, database_url: str, kind: str
) -> None:
    """If a crash interrupts the create of a course, the next delivery alerts a person.

    Whether or not NOMIS has the course, the create is not repeated.
    """
    booking = schedule_created(upstream)
    die_in(upstream, database_url, booking, "nomis", "POST", "/activities", kind)
    assert survivor.deliver(booking) is Outcome.AMBIGUOUS
    assert len(courses_of(upstream, booking)) == (1 if kind == "timeout_after_write" else 0)
    assert [finding.kind for finding in survivor.findings()] == ["ambiguous"]
    assert len(survivor.alerts()) == 1


def test_a_crash_with_a_known_course_leaves_one_course(
    upstream: Sandbox, survivor: Consumer, database_url: str
) -> None:
    """If a process dies after it has recorded the id of a new course, the next delivery only maps the course."""
    booking = schedule_created(upstream)
    die_in(upstream, database_url, booking, "mapping", "POST", "/mapping/activities", "timeout_before_write")
    assert survivor.deliver(booking) is Outcome.APPLIED
    [course_id] = courses_of(upstream, booking)
    assert mapped_to(upstream, booking) == course_id


def test_a_recent_intent_is_not_created_again(upstream: Sandbox, database_url: str) -> None:
    """After a crash, a create is not repeated within the grace period, even if NOMIS does not have the visit.

    The request may still be under way. Once the grace period is over, the visit is created.
    """
    booking = visit_booked(upstream)
    die_in(upstream, database_url, booking, "nomis", "POST", VISITS, "timeout_before_write")
    with consuming(upstream, database_url, grace_seconds=3600) as cautious, pytest.raises(LeaseBusy):
        cautious.deliver(booking)
    assert visits_of(upstream, booking) == []
    with consuming(upstream, database_url) as later:
        assert later.deliver(booking) is Outcome.APPLIED


@pytest.mark.parametrize("step", [timedelta(minutes=3), timedelta(minutes=-3)])
def test_a_wrong_clock_does_not_age_an_intent(upstream: Sandbox, database_url: str, step: timedelta) -> None:
    """A clock that is three minutes wrong does not change whether the grace period of an intent is over."""
    booking = visit_booked(upstream)
    die_in(upstream, database_url, booking, "nomis", "POST", VISITS, "timeout_before_write")
    with time_machine.travel(now() + step):
        with consuming(upstream, database_url, grace_seconds=120) as cautious, pytest.raises(LeaseBusy):
            cautious.deliver(booking)
        assert visits_of(upstream, booking) == []
        with consuming(upstream, database_url, grace_seconds=0) as later:
            assert later.deliver(booking) is Outcome.APPLIED


def test_processes_and_threads_that_race_create_once(upstream: Sandbox, database_url: str) -> None:
    """If two processes each get every event twice, and handle events on several threads, each visit is created once."""
    bookings = [visit_booked(upstream) for _ in range(10)]
    arguments = (upstream.environment(), database_url, 2 * [booking.event for booking in bookings])
    assert exit_codes(deliver_all_in_a_process, arguments, arguments) == [0, 0]
    assert [len(visits_of(upstream, booking)) for booking in bookings] == [1] * 10
    with consuming(upstream, database_url) as reader:
        names = reader.names()
        assert (names.count("visit-create-success"), names.count("visit-create-duplicate")) == (10, 30)
        assert reader.findings() == []


def test_a_slow_holder_whose_lease_expired_is_waited_for(upstream: Sandbox, database_url: str) -> None:
    """Once a slow holder's lease has expired, another process sees the holder's recent intent and creates nothing."""
    booking = visit_booked(upstream)
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


def _busy_elsewhere(consumer: Consumer, booking: DpsEvent) -> bool:
    key = f"create:visit:{booking.dps_id}"
    if not consumer.leases.acquire(key):
        return True
    consumer.leases.release(key)
    return False


def test_two_creates_are_never_silent(upstream: Sandbox, database_url: str) -> None:
    """If the lease and the grace period end too early, NOMIS gets two records, and a finding names the duplicate."""
    booking = visit_booked(upstream)
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
        duplicate, kept = finding.properties["duplicateNomisId"], finding.properties["existingNomisId"]
        assert {int(duplicate), int(kept)} == {first, second}
        assert mapped_to(upstream, booking) == int(kept)
        assert hasty.record(booking).nomis_ids == {"nomisId": int(kept)}


def test_a_process_that_wakes_too_late_creates_nothing(upstream: Sandbox, database_url: str) -> None:
    """A process that loses its lease while reading a visit creates nothing if another process has created the visit."""
    booking = visit_booked(upstream)
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
