"""A create with an unknown outcome is found in NOMIS and mapped, is created again, or is left to a person."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from time import monotonic
from typing import Any

import pytest
import time_machine

from sandbox import Sandbox
from sync.clock import now
from sync.domains.activities.rules import MAPPINGS as ACTIVITY_MAPPINGS
from sync.errors import LeaseBusy, UpstreamError
from sync.events.context import Outcome
from sync.settings import times
from sync.store import creations
from sync.store.creations import CreationState
from sync.store.findings import FindingKind
from tests.harness.creations import (
    Consumer,
    consuming,
    courses_of,
    delete_mapping,
    map_by_hand,
    mapped_to,
    other_number,
    visits_of,
)
from tests.harness.databases import event_listener
from tests.harness.faults import faulty, held
from tests.harness.publishing import schedule_created, visit_booked
from tests.harness.waiting import failure_of, in_thread, until

VISITS = "/prisoners/{offenderNo}/visits"
COURSE_MAPPINGS = "/mapping/activities"
COMMIT = "Unexpected error: Could not commit JPA transaction; nested exception is javax.persistence.RollbackException"


def test_a_create_that_waited_too_long_is_not_sent(
    upstream: Sandbox, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If a create waits too long for its turn, it is not sent. Other processes rely on this limit."""
    booking = visit_booked(upstream)
    with consuming(upstream, database_url, checked_writes=True) as consumer:
        with monkeypatch.context() as patched:
            patched.setattr(times, "SEND_WITHIN_SECONDS", 0.0)
            with pytest.raises(LeaseBusy):
                consumer.deliver(booking)
        assert visits_of(upstream, booking) == []
        assert consumer.record(booking).state is CreationState.REFUSED
        assert consumer.deliver(booking) is Outcome.APPLIED


def test_a_create_whose_intent_was_recorded_late_is_not_sent(
    upstream: Sandbox, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the database takes too long to record an intent, the create is not sent.

    The time limit for sending the create runs while the intent is being recorded.
    """
    booking = visit_booked(upstream)

    def take_long(_connection: object, _cursor: object, statement: str, *_rest: object) -> None:
        if statement.startswith("INSERT INTO creations"):
            began_at = monotonic()
            until(lambda: monotonic() > began_at + 0.4)

    with consuming(upstream, database_url, checked_writes=True) as consumer:
        with monkeypatch.context() as patched, event_listener("before_cursor_execute", take_long):
            patched.setattr(times, "SEND_WITHIN_SECONDS", 0.3)
            with pytest.raises(LeaseBusy):
                consumer.deliver(booking)
        assert visits_of(upstream, booking) == []
        assert consumer.record(booking).state is CreationState.REFUSED
        assert consumer.deliver(booking) is Outcome.APPLIED


def test_a_lost_create_that_was_applied_is_found_and_mapped(consumer: Consumer, upstream: Sandbox) -> None:
    """If the response to a create is lost but NOMIS has the visit, the visit is found there and only mapped."""
    booking = visit_booked(upstream)
    upstream.fault("nomis", "POST", VISITS, kind="reset_after_write", times=1)
    with pytest.raises(UpstreamError):
        consumer.deliver(booking)
    assert consumer.record(booking).state is CreationState.INTENDED
    assert consumer.deliver(booking) is Outcome.APPLIED
    [visit_id] = visits_of(upstream, booking)
    assert mapped_to(upstream, booking) == visit_id
    assert consumer.names() == ["visit-create-failed", "visit-create-success"]


@pytest.mark.parametrize(
    "response",
    [
        {"status": 500},
        {"status": 500, "body": {"status": 500, "userMessage": COMMIT}},
        {"status": 503},
        *(
            {"status": status, "text": "<html>"}
            for status in (302, 400, 401, 403, 404, 408, 425, 429, 499, 503, 520, 524)
        ),
    ],
    ids=str,
)
def test_a_create_that_was_applied_despite_its_response_is_found(
    consumer: Consumer, upstream: Sandbox, response: Mapping[str, Any]
) -> None:
    """After a response that does not prove a refusal, the outcome is unknown, and the visit is found in NOMIS."""
    booking = visit_booked(upstream)
    upstream.fault("nomis", "POST", VISITS, kind="status_after_write", times=1, **response)
    with pytest.raises(UpstreamError) as caught:
        consumer.deliver(booking)
    assert caught.value.recoverable
    assert consumer.record(booking).state is CreationState.INTENDED
    assert consumer.deliver(booking) is Outcome.APPLIED
    assert [mapped_to(upstream, booking)] == visits_of(upstream, booking)


def test_a_lost_create_that_was_not_applied_is_created(consumer: Consumer, upstream: Sandbox) -> None:
    """If NOMIS does not have the visit after a lost create, the next delivery creates it."""
    booking = visit_booked(upstream)
    upstream.fault("nomis", "POST", VISITS, kind="reset", times=1)
    with pytest.raises(UpstreamError):
        consumer.deliver(booking)
    assert consumer.deliver(booking) is Outcome.APPLIED
    assert len(visits_of(upstream, booking)) == 1
    assert consumer.record(booking).attempts == 2


def test_a_create_that_is_still_under_way_is_not_sent_again(upstream: Sandbox, database_url: str) -> None:
    """A create that timed out and that NOMIS applies later is waited for, not repeated."""
    booking = visit_booked(upstream)
    with (
        consuming(upstream, database_url, timeout_seconds=0.5) as hurried,
        consuming(upstream, database_url, grace_seconds=3600) as consumer,
        held(upstream, "nomis", "POST", VISITS) as create,
    ):
        while not create.requests:
            # On a slow machine, the calls before the create may take too long as well.
            with pytest.raises(UpstreamError):
                hurried.deliver(booking)
        with pytest.raises(LeaseBusy, match="unknown"):
            consumer.deliver(booking)
        create.release()
        until(lambda: visits_of(upstream, booking))
        assert consumer.deliver(booking) is Outcome.APPLIED
        assert len(visits_of(upstream, booking)) == 1


def test_a_search_that_began_too_early_proves_nothing(upstream: Sandbox, database_url: str) -> None:
    """A search that began before the end of the grace period proves nothing.

    NOMIS may apply the create after the search.
    """
    listed, booking = visit_booked(upstream), visit_booked(upstream)
    with (
        consuming(upstream, database_url, timeout_seconds=0.5) as hurried,
        consuming(upstream, database_url, grace_seconds=60) as consumer,
    ):
        assert consumer.deliver(listed) is Outcome.APPLIED
        with (
            held(upstream, "nomis", "POST", VISITS) as create,
            held(upstream, "nomis", "GET", r"/visits/\d+$") as read,
        ):
            while not create.requests:
                # On a slow machine, the calls before the create may take too long as well.
                with pytest.raises(UpstreamError):
                    hurried.deliver(booking)
            delivery = in_thread(consumer.deliver, booking)
            read.wait_for_request()
            create.release()
            until(lambda: visits_of(upstream, booking))
            with time_machine.travel(now() + timedelta(minutes=2)):
                read.release()
                assert isinstance(failure_of(delivery), LeaseBusy)
        assert consumer.deliver(booking) is Outcome.APPLIED
    assert [mapped_to(upstream, booking)] == visits_of(upstream, booking)


def test_a_lost_course_is_ambiguous_and_never_created_again(consumer: Consumer, upstream: Sandbox) -> None:
    """No NOMIS route reads courses, so a create whose response is lost causes one alert, and is never repeated."""
    booking = schedule_created(upstream)
    upstream.fault("nomis", "POST", "/activities", kind="reset_after_write", times=1)
    with pytest.raises(UpstreamError) as caught:
        consumer.deliver(booking)
    assert caught.value.outcome_unknown
    for _ in range(3):
        assert consumer.deliver(booking) is Outcome.AMBIGUOUS
    assert len(courses_of(upstream, booking)) == 1
    assert consumer.names() == ["activity-create-failed", "activity-create-ambiguous"]
    [finding] = consumer.findings()
    [alert] = consumer.alerts()
    record = consumer.record(booking, "activity")
    assert (finding.kind, alert.payload["kind"]) == ("ambiguous", "alert")
    assert alert.payload["command"] == f"prisoner-to-nomis creations settle {record.id}"
    assert record.state is CreationState.AMBIGUOUS
    assert "no response" in (record.note or "")


@pytest.mark.parametrize(
    "response",
    [
        {"body": {"status": 500, "userMessage": COMMIT}},
        {
            "body": {
                "status": 500,
                "userMessage": "Unexpected error",
                "developerMessage": "Unable to commit against JDBC",
            }
        },
        {"body": {"status": 500, "userMessage": "Unexpected error: I/O error while reading from the database"}},
        {"body": {"status": 500, "userMessage": "Unexpected error: Connection is closed"}},
        {"text": "<html>Internal Server Error</html>"},
        {"text": '{"timestamp": 1, "status": 500, "error": "Internal Server Error", "path": "/activities"}'},
    ],
    ids=str,
)
def test_a_course_that_may_have_been_committed_is_not_created_again(
    consumer: Consumer, upstream: Sandbox, response: Mapping[str, Any]
) -> None:
    """After a 500 about the commit or the connection, or from a gateway, it is unknown whether a course was created."""
    booking = schedule_created(upstream)
    upstream.fault("nomis", "POST", "/activities", kind="status_after_write", status=500, times=1, **response)
    with pytest.raises(UpstreamError):
        consumer.deliver(booking)
    assert consumer.deliver(booking) is Outcome.AMBIGUOUS
    assert len(courses_of(upstream, booking)) == 1


def test_a_course_that_was_rolled_back_is_created(consumer: Consumer, upstream: Sandbox) -> None:
    """A 500 from NOMIS about anything but the commit or the connection means a rollback.

    The next delivery creates the course.
    """
    booking = schedule_created(upstream)
    words = "Unexpected error: could not execute statement; constraint [OMS_OWNER.COURSE_PAY_RATES_PK]"
    upstream.fault("nomis", "POST", "/activities", status=500, body={"status": 500, "userMessage": words}, times=1)
    with pytest.raises(UpstreamError):
        consumer.deliver(booking)
    assert consumer.deliver(booking) is Outcome.APPLIED
    assert len(courses_of(upstream, booking)) == 1
    assert consumer.findings() == []


def test_an_abandoned_creation_is_created(consumer: Consumer, upstream: Sandbox) -> None:
    """After a person declares that NOMIS does not have the record, the next delivery creates it."""
    booking = schedule_created(upstream)
    upstream.fault("nomis", "POST", "/activities", kind="reset", times=1)
    with pytest.raises(UpstreamError):
        consumer.deliver(booking)
    assert consumer.deliver(booking) is Outcome.AMBIGUOUS
    with consumer.database.begin() as connection:
        assert creations.abandon(connection, consumer.record(booking, "activity").id, "looked at by hand")
    assert consumer.deliver(booking) is Outcome.APPLIED
    assert len(courses_of(upstream, booking)) == 1


def test_a_mapping_resolves_an_ambiguous_creation(consumer: Consumer, upstream: Sandbox) -> None:
    """After a person saves the mapping by hand, the next delivery closes the creation and the finding."""
    booking = schedule_created(upstream)
    upstream.fault("nomis", "POST", "/activities", kind="reset_after_write", times=1)
    with pytest.raises(UpstreamError):
        consumer.deliver(booking)
    consumer.deliver(booking)
    [course_id] = courses_of(upstream, booking)
    ours = {"activityScheduleId": int(booking.dps_id), "nomisCourseActivityId": course_id}
    map_by_hand(upstream, COURSE_MAPPINGS, {**ours, "mappingType": "ACTIVITY_CREATED"})
    assert consumer.deliver(booking) is Outcome.DUPLICATE
    assert consumer.record(booking, "activity").state is CreationState.MAPPED
    assert consumer.findings() == []


def test_a_vanished_mapping_is_ambiguous(consumer: Consumer, upstream: Sandbox) -> None:
    """If a course has lost its mapping but DPS still has the schedule, there is a finding, and nothing is created."""
    booking = schedule_created(upstream)
    consumer.deliver(booking)
    delete_mapping(upstream, f"{COURSE_MAPPINGS}/activity-schedule-id/{booking.dps_id}")
    assert consumer.deliver(booking) is Outcome.AMBIGUOUS
    assert len(courses_of(upstream, booking)) == 1
    assert [finding.kind for finding in consumer.findings()] == ["ambiguous"]


def test_an_unknown_outcome_is_reported_even_if_another_record_is_mapped(upstream: Sandbox, consumer: Consumer) -> None:
    """If NOMIS may have an unmapped course as well as the mapped course, a person is alerted once."""
    booking = schedule_created(upstream)
    with faulty(upstream, "nomis", "POST", "/activities", kind="reset_after_write"), pytest.raises(UpstreamError):
        consumer.deliver(booking)
    other = {"nomisCourseActivityId": other_number(), "activityScheduleId": int(booking.dps_id)}
    ACTIVITY_MAPPINGS.post(consumer.services.mapping, {**other, "mappingType": "ACTIVITY_CREATED"})
    for _ in range(2):
        assert consumer.deliver(booking) is Outcome.DUPLICATE
    assert len(courses_of(upstream, booking)) == 1
    assert [finding.kind for finding in consumer.findings()] == [FindingKind.AMBIGUOUS]
    assert len(consumer.alerts()) == 1
    assert consumer.record(booking, "activity").state is CreationState.AMBIGUOUS
