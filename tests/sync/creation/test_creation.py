"""The outcomes of the creation protocol, and their telemetry, if there is no crash and no response is lost."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest

from sandbox import Sandbox
from sync.clock import now
from sync.errors import BreakerOpen, LeaseBusy, MalformedMessage, NotUnderstood, UpstreamError
from sync.events.context import Outcome
from sync.settings import times
from sync.settings.upstreams import UpstreamName
from sync.store import creations
from sync.store.creations import CreationState
from sync.store.database import Database
from sync.upstream.breaker import set_breaker
from sync.upstream.breaker_rules import BreakerState
from tests.harness.creations import (
    Consumer,
    consuming,
    delete_mapping,
    map_by_hand,
    mapped_to,
    other_number,
    visit_mapping,
    visits_of,
)
from tests.harness.faults import faulty
from tests.harness.publishing import DpsEvent, schedule_created, visit_booked
from tests.harness.waiting import until

VISITS = "/prisoners/{offenderNo}/visits"
COURSE_MAPPINGS = "/mapping/activities"
MAPPINGS = "/mapping/visits"


def started(booking: DpsEvent) -> dict[str, str]:
    """The properties of a visit's telemetry that are known once the visit has been read, except the prison."""
    return {
        "visitId": booking.dps_id,
        "offenderNo": str(booking.prisoner_id),
        "startDateTime": "2023-06-02T14:00:00",
        "endTime": "15:00:00",
    }


def test_a_visit_is_created_and_mapped(consumer: Consumer, upstream: Sandbox) -> None:
    """A new visit is created and mapped once. One success is tracked, with the visit's and the mapping's properties."""
    booking = visit_booked(upstream)
    assert consumer.deliver(booking) is Outcome.APPLIED
    [visit_id] = visits_of(upstream, booking)
    assert mapped_to(upstream, booking) == visit_id
    prison = upstream.prisoners()[0]["prisonId"]
    mapped = {"nomisId": str(visit_id), "vsipId": booking.dps_id, "mappingType": "ONLINE"}
    assert consumer.tracked() == [("visit-create-success", {**started(booking), "prisonId": prison, **mapped})]
    record = consumer.record(booking)
    assert (record.state, record.nomis_ids, record.attempts) == (CreationState.MAPPED, {"nomisId": visit_id}, 1)
    assert consumer.findings() == []


def test_a_second_delivery_is_a_duplicate(consumer: Consumer, upstream: Sandbox) -> None:
    """A second delivery of an event whose record is mapped is tracked as a duplicate, and creates nothing."""
    booking = visit_booked(upstream)
    consumer.deliver(booking)
    assert consumer.deliver(booking) is Outcome.DUPLICATE
    properties = {"visitId": booking.dps_id, "offenderNo": str(booking.prisoner_id)}
    assert consumer.tracked()[1:] == [("visit-create-duplicate", properties)]
    assert len(visits_of(upstream, booking)) == 1


def test_a_record_mapped_by_another_program_is_a_duplicate(consumer: Consumer, upstream: Sandbox) -> None:
    """A record that another program has mapped is not created again, and its event is tracked as a duplicate."""
    booking = visit_booked(upstream)
    map_by_hand(upstream, MAPPINGS, visit_mapping(booking, other_number()))
    assert consumer.deliver(booking) is Outcome.DUPLICATE
    assert visits_of(upstream, booking) == []
    assert consumer.names() == ["visit-create-duplicate"]


@pytest.mark.parametrize(
    ("service", "method", "path"),
    [
        ("mapping", "GET", "/mapping/visits/vsipId/{vsipId}"),
        ("visits", "GET", "/visits/{reference}"),
        ("nomis", "POST", VISITS),
    ],
)
def test_every_failure_before_the_create_is_tracked(
    consumer: Consumer, upstream: Sandbox, service: str, method: str, path: str
) -> None:
    """If any call up to and including the create fails, even the look-up of the mapping, the failure is tracked.

    The next delivery creates the record.
    """
    booking = visit_booked(upstream)
    upstream.fault(service, method, path, status=503, times=1)
    with pytest.raises(UpstreamError) as caught:
        consumer.deliver(booking)
    assert caught.value.status == 503
    [(name, properties)] = consumer.tracked()
    assert name == "visit-create-failed"
    assert properties["visitId"] == booking.dps_id
    assert ("prisonId" in properties) == (service == "nomis")
    assert consumer.deliver(booking) is Outcome.APPLIED
    assert len(visits_of(upstream, booking)) == 1


REFUSALS = {
    "400": {"status": 400},
    "429": {"status": 429},
    "429 without a body": {"status": 429, "text": ""},
    "403 without a body": {"status": 403, "text": ""},
    "optimistic lock": {
        "status": 500,
        "body": {"status": 500, "userMessage": "Unexpected error: Row was updated or deleted by another transaction"},
    },
}


@pytest.mark.parametrize("refusal", REFUSALS.values(), ids=REFUSALS)
def test_a_refused_create_is_tried_again_at_once(
    upstream: Sandbox, database_url: str, refusal: Mapping[str, Any]
) -> None:
    """If a create was certainly not applied, the next delivery repeats it without a search in NOMIS."""
    booking = visit_booked(upstream)
    with consuming(upstream, database_url, grace_seconds=3600) as consumer:
        upstream.fault("nomis", "POST", VISITS, times=1, **refusal)
        with pytest.raises(UpstreamError):
            consumer.deliver(booking)
        record = consumer.record(booking)
        assert record.state is CreationState.REFUSED
        assert f"status {refusal['status']}" in (record.note or "")
        upstream.clear_records()
        assert consumer.deliver(booking) is Outcome.APPLIED
        assert [each["method"] for each in upstream.requests("nomis")] == ["POST"]
        assert consumer.record(booking).attempts == 2


@pytest.mark.parametrize("response", [{}, [], "ok", {"vsipId": "another", "nomisId": 5}, {"nomisId": 5}])
def test_a_response_about_another_record_proves_nothing(
    consumer: Consumer, upstream: Sandbox, response: object
) -> None:
    """If the look-up of a mapping succeeds, but does not return the record's mapping, nothing is created.

    The delivery fails, and the next one creates the record once.
    """
    booking = visit_booked(upstream)
    upstream.fault("mapping", "GET", kind="status", status=200, body=response, times=1)
    with pytest.raises(NotUnderstood):
        consumer.deliver(booking)
    assert visits_of(upstream, booking) == []
    assert consumer.deliver(booking) is Outcome.APPLIED
    assert [mapped_to(upstream, booking)] == visits_of(upstream, booking)


def test_a_deleted_record_is_not_created_again_by_a_late_delivery(consumer: Consumer, upstream: Sandbox) -> None:
    """A late event about a record that has been deleted everywhere since its creation counts as a duplicate.

    An event about a record that DPS no longer has fails if the record was never created in NOMIS.
    """
    booking = schedule_created(upstream)
    upstream.drop("schedule", booking.dps_id)
    with pytest.raises(UpstreamError):
        consumer.deliver(booking)
    again = schedule_created(upstream)
    consumer.deliver(again)
    with consumer.database.begin() as connection:
        creations.mark_deleted(connection, "activity", again.dps_id)
    delete_mapping(upstream, f"{COURSE_MAPPINGS}/activity-schedule-id/{again.dps_id}")
    upstream.drop("schedule", again.dps_id)
    assert consumer.deliver(again) is Outcome.DUPLICATE
    assert consumer.names()[-1] == "activity-create-duplicate"


def test_an_event_without_its_id_is_malformed(consumer: Consumer, upstream: Sandbox) -> None:
    """An event without the id of its record is malformed, and nothing is tracked."""
    event = replace(visit_booked(upstream), information={})
    with pytest.raises(MalformedMessage):
        consumer.deliver(event)
    assert consumer.tracked() == []


def test_a_record_under_another_lease_waits(consumer: Consumer, upstream: Sandbox) -> None:
    """While another process has the lease of a record, a delivery about it calls no service and tracks nothing."""
    booking = visit_booked(upstream)
    upstream.clear_records()
    with consumer.leases.held(f"create:visit:{booking.dps_id}"), pytest.raises(LeaseBusy):
        consumer.deliver(booking)
    assert upstream.requests("mapping") == []
    assert consumer.tracked() == []


def test_an_open_breaker_is_not_a_failed_creation(
    database: Database, upstream: Sandbox, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If an open breaker prevents a create, the create counts as not applied, and no failure is tracked.

    Once the breaker lets calls through, the record is created.
    """
    for name in ("FIRST_PING_SECONDS", "PING_SECONDS"):
        monkeypatch.setattr(times, name, 0.05)
    booking = visit_booked(upstream)
    with database.begin() as connection:
        set_breaker(connection, UpstreamName.NOMIS, BreakerState.OPEN, opened_at=now(), reason="found elsewhere")
    with consuming(upstream, database_url, breakers=True) as consumer:
        with faulty(upstream, "nomis", path="/health/ping", status=503), pytest.raises(BreakerOpen):
            consumer.deliver(booking)
        assert consumer.tracked() == []
        assert consumer.record(booking).state is CreationState.REFUSED
        assert visits_of(upstream, booking) == []

        def deliver() -> Outcome | None:
            with suppress(BreakerOpen):
                return consumer.deliver(booking)
            return None

        assert until(deliver, "the breaker lets calls through") is Outcome.APPLIED
        assert consumer.names() == ["upstream-breaker-closed", "visit-create-success"]
