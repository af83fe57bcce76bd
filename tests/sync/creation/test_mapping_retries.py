"""A mapping that cannot be saved goes into a retry message, which saves it later."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox import Sandbox
from sync.creation.creation import Creation
from sync.domains.registry import DOMAINS
from sync.errors import UpstreamError
from sync.events.context import Outcome
from sync.events.envelope import MappingRetry, read_envelope, write_mapping_retry
from sync.store.creations import CreationState
from tests.harness import appointments
from tests.harness.creations import (
    Consumer,
    mapped_to,
    other_number,
    visits_of,
)
from tests.harness.faults import faulty
from tests.harness.handlers import Harness, Prisoner
from tests.harness.publishing import visit_booked

MAPPINGS = "/mapping/visits"


def test_a_failed_mapping_is_handed_to_a_retry_message(consumer: Consumer, upstream: Sandbox) -> None:
    """A mapping that cannot be saved goes into a retry message, in the format of the service that the program replaces.

    Both the failure and the sending of the message are tracked.
    """
    booking = visit_booked(upstream)
    upstream.fault("mapping", "POST", MAPPINGS, status=503, times=1)
    assert consumer.deliver(booking) is Outcome.RETRY_QUEUED
    [visit_id] = visits_of(upstream, booking)
    [(failed, properties), (queued, queued_properties)] = consumer.tracked()
    assert (failed, queued) == ("visit-mapping-create-failed", "visit-create-mapping-retry")
    assert properties["nomisId"] == str(visit_id)
    assert properties.pop("reason")
    assert queued_properties == {"messageId": "message-1", **properties}
    [(queue, body)] = consumer.parts.retries
    message = json.loads(body)
    assert queue == "visit"
    assert (message["Type"], message["MessageId"]) == ("RETRY_CREATE_MAPPING", None)
    mapping = {"nomisId": str(visit_id), "vsipId": booking.dps_id, "label": None, "mappingType": "ONLINE"}
    assert json.loads(message["Message"]) == {"mapping": mapping, "telemetryAttributes": properties}


def test_the_retry_message_saves_the_mapping(consumer: Consumer, upstream: Sandbox) -> None:
    """A retry message saves the mapping, and the success is tracked. A repeated message or event creates nothing."""
    booking = visit_booked(upstream)
    upstream.fault("mapping", "POST", MAPPINGS, status=503, times=1)
    consumer.deliver(booking)
    [visit_id] = visits_of(upstream, booking)
    assert consumer.deliver_retry(*consumer.parts.retries[0]) is Outcome.APPLIED
    assert mapped_to(upstream, booking) == visit_id
    properties = {"id": booking.dps_id, "nomisId": str(visit_id)}
    assert consumer.tracked()[2:] == [("visit-retry-success", properties)]
    assert consumer.record(booking).state is CreationState.MAPPED
    assert consumer.deliver_retry(*consumer.parts.retries[0]) is Outcome.APPLIED
    assert consumer.deliver(booking) is Outcome.DUPLICATE
    assert visits_of(upstream, booking) == [visit_id]


def test_a_retry_made_by_hand_needs_only_the_ids(consumer: Consumer, upstream: Sandbox) -> None:
    """A retry message with nothing but the ids saves the mapping, even if no creation is recorded."""
    booking = visit_booked(upstream)
    number = other_number()
    message = json.dumps({"mapping": {"nomisId": number, "vsipId": booking.dps_id}})
    body = json.dumps({"Type": "RETRY_CREATE_MAPPING", "Message": message, "MessageId": None})
    assert consumer.deliver_retry("visit", body) is Outcome.APPLIED
    assert mapped_to(upstream, booking) == number


def test_a_failing_retry_stays_on_the_queue(consumer: Consumer, upstream: Sandbox) -> None:
    """A mapping retry that fails for a reason other than a conflict raises an error, and tracks nothing."""
    booking = visit_booked(upstream)
    upstream.fault("mapping", "POST", MAPPINGS, status=500, times=2)
    consumer.deliver(booking)
    before = consumer.tracked()
    with pytest.raises(UpstreamError):
        consumer.deliver_retry(*consumer.parts.retries[0])
    assert consumer.tracked() == before


def test_a_retry_message_that_cannot_be_sent_fails_the_delivery(consumer: Consumer, upstream: Sandbox) -> None:
    """If no retry message can be sent, the delivery of the event fails, and the next one only maps the record."""
    booking = visit_booked(upstream)
    upstream.fault("mapping", "POST", MAPPINGS, status=503, times=1)
    consumer.parts.sending_fails = ConnectionError("queue away")
    with pytest.raises(ConnectionError):
        consumer.deliver(booking)
    consumer.parts.sending_fails = None
    [visit_id] = visits_of(upstream, booking)
    assert consumer.deliver(booking) is Outcome.APPLIED
    assert visits_of(upstream, booking) == [visit_id]
    assert mapped_to(upstream, booking) == visit_id
    assert consumer.names() == ["visit-mapping-create-failed", "visit-create-success"]
    [_, (_, properties)] = consumer.tracked()
    assert properties["startDateTime"] == "2023-06-02T14:00:00"


def test_a_lost_response_of_the_mapping_service_is_not_a_duplicate(consumer: Consumer, upstream: Sandbox) -> None:
    """If a mapping was saved but the response was lost, the next delivery succeeds and reports no duplicate."""
    booking = visit_booked(upstream)
    upstream.fault("mapping", "POST", MAPPINGS, kind="reset_after_write", times=1)
    consumer.parts.sending_fails = ConnectionError("queue away")
    with pytest.raises(ConnectionError):
        consumer.deliver(booking)
    consumer.parts.sending_fails = None
    assert consumer.deliver(booking) is Outcome.APPLIED
    assert consumer.names()[-1] == "visit-create-success"
    assert consumer.record(booking).state is CreationState.MAPPED
    assert len(visits_of(upstream, booking)) == 1


@pytest.mark.parametrize("response", [{}, [], "ok", {"vsipId": "another", "nomisId": 5}])
@pytest.mark.parametrize("saved", [False, True])
def test_an_odd_response_to_a_mapping_is_looked_up(
    consumer: Consumer, upstream: Sandbox, response: object, saved: bool
) -> None:
    """If the response to a new mapping has a body, the mapping is looked up. A missing mapping is saved by a retry."""
    booking, kind = visit_booked(upstream), "status_after_write" if saved else "status"
    upstream.fault("mapping", "POST", MAPPINGS, kind=kind, status=200, body=response, times=1)
    assert consumer.deliver(booking) is (Outcome.APPLIED if saved else Outcome.RETRY_QUEUED)
    for queue, body in consumer.parts.retries:
        assert consumer.deliver_retry(queue, body) is Outcome.APPLIED
    assert [mapped_to(upstream, booking)] == visits_of(upstream, booking)


def test_an_event_before_its_retry_saves_the_mapping(consumer: Consumer, upstream: Sandbox) -> None:
    """If the event is delivered again before the retry message, the event saves the mapping, and the retry succeeds."""
    booking = visit_booked(upstream)
    upstream.fault("mapping", "POST", "/mapping/visits", status=503, times=1)
    assert consumer.deliver(booking) is Outcome.RETRY_QUEUED
    assert consumer.deliver(booking) is Outcome.APPLIED
    assert consumer.deliver_retry(*consumer.parts.retries[0]) is Outcome.APPLIED
    assert len(visits_of(upstream, booking)) == 1
    assert consumer.findings() == []


def test_a_late_retry_does_not_restore_a_deleted_mapping(harness: Harness, prisoner: Prisoner) -> None:
    """A retry message delivered after its record was deleted is tracked as ignored, and does not save the mapping."""
    appointments.put_appointment(harness, prisoner)
    with faulty(harness.sandbox, "mapping", "POST", "/mapping/appointments", status=500):
        assert appointments.handle(harness, "created") is Outcome.RETRY_QUEUED
    assert harness.handle_retry(*harness.retries[0]) is Outcome.APPLIED
    harness.sandbox.drop("appointment", appointments.INSTANCE)
    appointments.handle(harness, "deleted")
    assert harness.handle_retry(*harness.retries[0]) is Outcome.IGNORED
    assert harness.sandbox.mappings("appointments") == []
    assert harness.tracked("appointment-create-mapping-retry-ignored")[0][1]["reason"] == "deleted"


NUMBERS = st.integers(1, 10**12)
TEXTS = st.text(st.characters(codec="utf-8", exclude_categories=["Cc"]), min_size=1, max_size=40)


@given(st.data(), st.sampled_from([domain.creation for domain in DOMAINS.values()]), NUMBERS, TEXTS)
def test_a_retry_message_has_the_whole_mapping(data: st.DataObject, creation: Creation, number: int, text: str) -> None:
    """For any domain and ids, the mapping that is read from a retry message is the one that was written to it."""
    dps_id = str(number) if creation.numeric_ids else text
    nomis_ids = {
        name: data.draw(st.sampled_from(["SENTENCE", "KEY-DATE"]) if name.endswith("Category") else NUMBERS)
        for name in creation.mappings.nomis
    }
    mapping = creation.mapping(dps_id, nomis_ids)
    retry = read_envelope(write_mapping_retry(mapping, {"offenderNo": "A1234BC"})).content
    assert isinstance(retry, MappingRetry)
    assert (creation.retry_dps_id(retry), creation.retry_nomis_ids(retry)) == (dps_id, nomis_ids)
    assert creation.retry_mapping(retry) == mapping
    assert creation.ids_in(mapping).keys() == {creation.mappings.dps, *creation.mappings.nomis}
