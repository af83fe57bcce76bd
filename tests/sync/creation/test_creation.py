"""The creation protocol when nobody dies: outcomes, and the telemetry with its names, properties and order."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import pytest

from sandbox import Sandbox
from sync.clock import now
from sync.creation import records as creations
from sync.creation.records import CreationState
from sync.failures import BreakerOpen, LeaseBusy, MalformedMessage, NotUnderstood, UpstreamError
from sync.pipeline.envelope import DomainEvent
from sync.pipeline.outcome import Outcome
from sync.settings.declaration import UpstreamName
from sync.store.breakers import set_breaker
from sync.store.database import Database
from sync.upstream.breaker import BreakerState
from tests.harness.creations import (
    Booking,
    Consumer,
    book_visit,
    consuming,
    courses_of,
    make_schedule,
    mapped_to,
    other_number,
    visits_of,
)
from tests.harness.faults import faulty, held
from tests.harness.sandboxes import Caller
from tests.harness.waiting import in_thread, result_of, until

VISITS = "/prisoners/{offenderNo}/visits"
MAPPINGS = "/mapping/visits"
COURSE_MAPPINGS = "/mapping/activities"


def map_by_hand(sandbox: Sandbox, path: str, mapping: dict[str, object]) -> None:
    """Saves a mapping as somebody else would."""
    Caller(sandbox).call("mapping", "POST", path, mapping).raise_for_status()


def delete_mapping(sandbox: Sandbox, path: str) -> None:
    """Deletes a mapping as a deletion does."""
    Caller(sandbox).call("mapping", "DELETE", path).raise_for_status()


def visit_mapping(booking: Booking, nomis_id: int) -> dict[str, object]:
    """The mapping of a visit."""
    return {"nomisId": nomis_id, "vsipId": booking.dps_id, "mappingType": "ONLINE"}


def create_while(
    consumer: Consumer, sandbox: Sandbox, booking: Booking, path: str, mapping: dict[str, object]
) -> Outcome:
    """A delivery during whose create somebody else saves a mapping."""
    with held(sandbox, "nomis", "POST", "/activities" if path == COURSE_MAPPINGS else VISITS) as create:
        delivery = in_thread(consumer.deliver, booking)
        create.wait_for_request()
        map_by_hand(sandbox, path, mapping)
        create.release()
        return result_of(delivery)


def started(booking: Booking) -> dict[str, str]:
    """The properties of a visit's event that are known once the visit was read."""
    return {
        "visitId": booking.dps_id,
        "offenderNo": booking.offender_no,
        "startDateTime": "2023-06-02T14:00:00",
        "endTime": "15:00:00",
    }


def test_a_visit_is_created_and_mapped(consumer: Consumer, upstream: Sandbox) -> None:
    """One NOMIS visit, its mapping, one success event with the properties of event and mapping, a settled record."""
    booking = book_visit(upstream)
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
    """The mapping is there: acknowledged with the event's own properties, nothing is called in NOMIS."""
    booking = book_visit(upstream)
    consumer.deliver(booking)
    assert consumer.deliver(booking) is Outcome.DUPLICATE
    told = {"visitId": booking.dps_id, "offenderNo": booking.offender_no}
    assert consumer.tracked()[1:] == [("visit-create-duplicate", told)]
    assert len(visits_of(upstream, booking)) == 1


def test_a_mapping_of_others_is_a_duplicate(consumer: Consumer, upstream: Sandbox) -> None:
    """A record that somebody else created and mapped is not created again, and leaves no record of ours."""
    booking = book_visit(upstream)
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
def test_every_failure_before_the_record_is_made_is_tracked(
    consumer: Consumer, upstream: Sandbox, service: str, method: str, path: str
) -> None:
    """Also an error of the look-up of the mapping; the next delivery creates."""
    booking = book_visit(upstream)
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


COMMIT = "Unexpected error: Could not commit JPA transaction; nested exception is javax.persistence.RollbackException"

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
    """A create that is known not to have been applied leaves no doubt, so nothing has to be looked up."""
    booking = book_visit(upstream)
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


def test_a_failed_mapping_is_handed_to_a_retry_message(consumer: Consumer, upstream: Sandbox) -> None:
    """The failed event, then the message exactly as the replaced service wrote it, then the event of its sending."""
    booking = book_visit(upstream)
    upstream.fault("mapping", "POST", MAPPINGS, status=503, times=1)
    assert consumer.deliver(booking) is Outcome.RETRY_QUEUED
    [visit_id] = visits_of(upstream, booking)
    [(failed, told), (queued, told_of_message)] = consumer.tracked()
    assert (failed, queued) == ("visit-mapping-create-failed", "visit-create-mapping-retry")
    assert told["nomisId"] == str(visit_id)
    assert told.pop("reason")
    assert told_of_message == {"messageId": "message-1", **told}
    [(queue, body)] = consumer.sent
    message = json.loads(body)
    assert queue == "visit"
    assert (message["Type"], message["MessageId"]) == ("RETRY_CREATE_MAPPING", None)
    mapping = {"nomisId": str(visit_id), "vsipId": booking.dps_id, "label": None, "mappingType": "ONLINE"}
    assert json.loads(message["Message"]) == {"mapping": mapping, "telemetryAttributes": told}


def test_the_retry_message_saves_the_mapping(consumer: Consumer, upstream: Sandbox) -> None:
    """The retry posts the mapping and tracks the retry's own success; both messages may come any number of times."""
    booking = book_visit(upstream)
    upstream.fault("mapping", "POST", MAPPINGS, status=503, times=1)
    consumer.deliver(booking)
    [visit_id] = visits_of(upstream, booking)
    assert consumer.deliver_retry(*consumer.sent[0]) is Outcome.APPLIED
    assert mapped_to(upstream, booking) == visit_id
    told = {"id": booking.dps_id, "nomisId": str(visit_id)}
    assert consumer.tracked()[2:] == [("visit-retry-success", told)]
    assert consumer.record(booking).state is CreationState.MAPPED
    assert consumer.deliver_retry(*consumer.sent[0]) is Outcome.APPLIED
    assert consumer.deliver(booking) is Outcome.DUPLICATE
    assert visits_of(upstream, booking) == [visit_id]


def test_a_retry_made_by_hand_needs_the_ids_alone(consumer: Consumer, upstream: Sandbox) -> None:
    """A retry without label, type or telemetry attributes, of a creation that is not on record, is mapped too."""
    booking = book_visit(upstream)
    number = other_number()
    message = json.dumps({"mapping": {"nomisId": number, "vsipId": booking.dps_id}})
    body = json.dumps({"Type": "RETRY_CREATE_MAPPING", "Message": message, "MessageId": None})
    assert consumer.deliver_retry("visit", body) is Outcome.APPLIED
    assert mapped_to(upstream, booking) == number


def test_a_failing_retry_raises(consumer: Consumer, upstream: Sandbox) -> None:
    """A retry that fails for another reason than a conflict stays on the queue, and tracks nothing."""
    booking = book_visit(upstream)
    upstream.fault("mapping", "POST", MAPPINGS, status=500, times=2)
    consumer.deliver(booking)
    before = consumer.tracked()
    with pytest.raises(UpstreamError):
        consumer.deliver_retry(*consumer.sent[0])
    assert consumer.tracked() == before


def test_a_retry_message_that_cannot_be_sent_fails_the_delivery(consumer: Consumer, upstream: Sandbox) -> None:
    """The message stays; its next delivery only maps the record that NOMIS has."""
    booking = book_visit(upstream)
    upstream.fault("mapping", "POST", MAPPINGS, status=503, times=1)
    consumer.sending_fails = ConnectionError("queue away")
    with pytest.raises(ConnectionError):
        consumer.deliver(booking)
    consumer.sending_fails = None
    [visit_id] = visits_of(upstream, booking)
    assert consumer.deliver(booking) is Outcome.APPLIED
    assert visits_of(upstream, booking) == [visit_id]
    assert mapped_to(upstream, booking) == visit_id
    assert consumer.names() == ["visit-mapping-create-failed", "visit-create-success"]
    [_, (_, told)] = consumer.tracked()
    assert told["startDateTime"] == "2023-06-02T14:00:00"


def test_a_lost_answer_of_the_mapping_service_is_no_duplicate(consumer: Consumer, upstream: Sandbox) -> None:
    """Our own mapping, saved although no answer came, is the success of this creation."""
    booking = book_visit(upstream)
    upstream.fault("mapping", "POST", MAPPINGS, kind="reset_after_write", times=1)
    consumer.sending_fails = ConnectionError("queue away")
    with pytest.raises(ConnectionError):
        consumer.deliver(booking)
    consumer.sending_fails = None
    assert consumer.deliver(booking) is Outcome.APPLIED
    assert consumer.names()[-1] == "visit-create-success"
    assert consumer.record(booking).state is CreationState.MAPPED
    assert len(visits_of(upstream, booking)) == 1


def test_a_conflict_is_a_finding_alerted_once(consumer: Consumer, upstream: Sandbox) -> None:
    """The failed event precedes the duplicate event, which names both pairs; finding and alert exist once."""
    booking = book_visit(upstream)
    number = other_number()
    assert create_while(consumer, upstream, booking, MAPPINGS, visit_mapping(booking, number)) is Outcome.DUPLICATE
    [visit_id] = visits_of(upstream, booking)
    [(failed, told), (duplicate, more)] = consumer.tracked()
    assert (failed, duplicate) == ("visit-mapping-create-failed", "to-nomis-synch-visit-duplicate")
    assert more.pop("existingWhenCreated")
    assert told.pop("reason")
    assert more == {
        **told,
        "duplicateNomisId": str(visit_id),
        "duplicateVsipId": booking.dps_id,
        "duplicateMappingType": "ONLINE",
        "existingNomisId": str(number),
        "existingVsipId": booking.dps_id,
        "existingMappingType": "ONLINE",
    }
    [finding] = consumer.findings()
    assert (finding.kind, finding.domain, finding.severity) == ("duplicate", "visit", "serious")
    assert finding.event_name == "to-nomis-synch-visit-duplicate"
    [alert] = consumer.alerts()
    assert alert.channel == "slack"
    assert alert.payload["command"] == f"prisoner-to-nomis duplicates show {finding.id}"
    assert consumer.record(booking).state is CreationState.DUPLICATE
    assert consumer.deliver(booking) is Outcome.DUPLICATE
    assert len(consumer.alerts()) == 1
    assert visits_of(upstream, booking) == [visit_id]


def test_a_conflict_in_a_retry_is_the_same_finding(consumer: Consumer, upstream: Sandbox) -> None:
    """It is acknowledged with the duplicate event, and not alerted again by a later delivery of the event itself."""
    booking = book_visit(upstream)
    upstream.fault("mapping", "POST", MAPPINGS, status=503, times=1)
    consumer.deliver(booking)
    number = other_number()
    map_by_hand(upstream, MAPPINGS, visit_mapping(booking, number))
    assert consumer.deliver_retry(*consumer.sent[0]) is Outcome.DUPLICATE
    name, told = consumer.tracked()[-1]
    assert name == "to-nomis-synch-visit-duplicate"
    assert told["existingNomisId"] == str(number)
    assert told["startDateTime"] == "2023-06-02T14:00:00"
    consumer.deliver(booking)
    assert len(consumer.findings()) == len(consumer.alerts()) == 1


@pytest.mark.parametrize(
    ("status", "more_info"),
    [
        (409, None),
        ("409 CONFLICT", None),
        (409, {}),
        (409, "8811001"),
        (409, {"existing": None, "duplicate": None}),
        (409, {"existing": {}, "duplicate": []}),
        (409, {"existing": {"nomisId": 1, "vsipId": "another"}}),
        (409, {"duplicate": {"nomisId": 5, "vsipId": "another", "label": None}}),
    ],
)
def test_a_conflict_that_does_not_say_with_what_is_looked_up(
    consumer: Consumer, upstream: Sandbox, status: object, more_info: object
) -> None:
    """When two saves meet, or the answer names strangers, the pair that exists is looked up by the DPS record."""
    booking, number = book_visit(upstream), other_number()
    body = {"status": status, "userMessage": "Conflict: it exists", "errorCode": 1409, "moreInfo": more_info}
    upstream.fault("mapping", "POST", MAPPINGS, status=409, body=body, skip=1, times=1)
    assert create_while(consumer, upstream, booking, MAPPINGS, visit_mapping(booking, number)) is Outcome.DUPLICATE
    told = consumer.tracked()[-1][1]
    assert (told["existingNomisId"], told["duplicateVsipId"]) == (str(number), booking.dps_id)


def test_a_conflict_with_the_very_same_pair_is_none(consumer: Consumer, upstream: Sandbox) -> None:
    """Whether the service names the pair that it holds or not, ours is saved."""
    booking = book_visit(upstream)
    body = {"status": 409, "userMessage": "Conflict: it exists", "moreInfo": {}}
    upstream.fault("mapping", "POST", MAPPINGS, kind="status_after_write", status=409, body=body, times=1)
    assert consumer.deliver(booking) is Outcome.APPLIED
    assert (consumer.names(), consumer.findings()) == (["visit-create-success"], [])


@pytest.mark.parametrize("status", [409, "409 CONFLICT"])
def test_a_conflict_that_nobody_can_name_is_understood(
    consumer: Consumer, upstream: Sandbox, status: int | str
) -> None:
    """Where no mapping of the DPS record is found the NOMIS record is mapped elsewhere: that is told without it."""
    booking = book_visit(upstream)
    body = {"status": status, "userMessage": "Conflict: it exists"}
    upstream.fault("mapping", "POST", MAPPINGS, status=409, body=body, times=1)
    assert consumer.deliver(booking) is Outcome.DUPLICATE
    told = consumer.tracked()[-1][1]
    assert told["duplicateVsipId"] == booking.dps_id
    assert not [name for name in told if name.startswith("existing")]


@pytest.mark.parametrize("answer", [{}, [], "ok", {"vsipId": "another", "nomisId": 5}])
@pytest.mark.parametrize("saved", [False, True])
def test_an_odd_answer_to_a_mapping_is_looked_up(
    consumer: Consumer, upstream: Sandbox, answer: object, saved: bool
) -> None:
    """The mapping service answers a save with nothing; after anything else it is asked whether it has the mapping."""
    booking, kind = book_visit(upstream), "status_after_write" if saved else "status"
    upstream.fault("mapping", "POST", MAPPINGS, kind=kind, status=200, body=answer, times=1)
    assert consumer.deliver(booking) is (Outcome.APPLIED if saved else Outcome.RETRY_QUEUED)
    for queue, body in consumer.sent:
        assert consumer.deliver_retry(queue, body) is Outcome.APPLIED
    assert [mapped_to(upstream, booking)] == visits_of(upstream, booking)


@pytest.mark.parametrize("answer", [{}, [], "ok", {"vsipId": "another", "nomisId": 5}, {"nomisId": 5}])
def test_an_answer_that_is_no_mapping_of_it_is_neither_there_nor_none(
    consumer: Consumer, upstream: Sandbox, answer: object
) -> None:
    """Nothing is created and nothing acknowledged on the word of such an answer; the next delivery creates, once."""
    booking = book_visit(upstream)
    upstream.fault("mapping", "GET", kind="status", status=200, body=answer, times=1)
    with pytest.raises(NotUnderstood):
        consumer.deliver(booking)
    assert visits_of(upstream, booking) == []
    assert consumer.deliver(booking) is Outcome.APPLIED
    assert [mapped_to(upstream, booking)] == visits_of(upstream, booking)


@pytest.mark.parametrize("text", ["<html>Conflict</html>", '{"status": 409, "error": "Conflict", "path": "/"}', ""])
def test_a_conflict_of_somebody_else_is_none(consumer: Consumer, upstream: Sandbox, text: str) -> None:
    """A 409 of a gateway says nothing of mappings: the mapping is saved by its retry message."""
    booking = book_visit(upstream)
    upstream.fault("mapping", "POST", MAPPINGS, status=409, text=text, times=1)
    assert consumer.deliver(booking) is Outcome.RETRY_QUEUED
    assert consumer.deliver_retry(*consumer.sent[0]) is Outcome.APPLIED
    assert consumer.findings() == []


def test_a_duplicate_activity_answered_with_400_is_recognised(consumer: Consumer, upstream: Sandbox) -> None:
    """The mapping service answers 400 there: the mapping that exists is looked up and named."""
    booking = make_schedule(upstream)
    number = other_number()
    theirs = {"activityScheduleId": int(booking.dps_id), "nomisCourseActivityId": number}
    other: dict[str, object] = {**theirs, "mappingType": "ACTIVITY_CREATED"}
    assert create_while(consumer, upstream, booking, COURSE_MAPPINGS, other) is Outcome.DUPLICATE
    [course_id] = courses_of(upstream, booking)
    assert consumer.names() == ["activity-mapping-create-failed", "to-nomis-synch-activity-duplicate"]
    told = consumer.tracked()[-1][1]
    assert told["duplicateNomisCourseActivityId"] == str(course_id)
    assert told["existingNomisCourseActivityId"] == str(number)
    assert told["existingActivityScheduleId"] == booking.dps_id
    assert [finding.severity for finding in consumer.findings()] == ["low"]


def test_any_other_400_of_the_mapping_service_is_a_failure(consumer: Consumer, upstream: Sandbox) -> None:
    """A 400 that is no duplicate is handed to a retry message."""
    booking = make_schedule(upstream)
    upstream.fault("mapping", "POST", COURSE_MAPPINGS, status=400, times=1)
    assert consumer.deliver(booking) is Outcome.RETRY_QUEUED
    assert consumer.sent[0][0] == "activity"


def test_a_lost_course_is_ambiguous_and_never_created_again(consumer: Consumer, upstream: Sandbox) -> None:
    """NOMIS has no read of courses: after a lost answer a person is told once, and no delivery creates."""
    booking = make_schedule(upstream)
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
    assert "no answer" in (record.note or "")


@pytest.mark.parametrize(
    "said",
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
    consumer: Consumer, upstream: Sandbox, said: Mapping[str, Any]
) -> None:
    """A 500 about the commit or the connection, or of somebody else, leaves a course that nobody can look up."""
    booking = make_schedule(upstream)
    upstream.fault("nomis", "POST", "/activities", kind="status_after_write", status=500, times=1, **said)
    with pytest.raises(UpstreamError):
        consumer.deliver(booking)
    assert consumer.deliver(booking) is Outcome.AMBIGUOUS
    assert len(courses_of(upstream, booking)) == 1


def test_a_course_that_was_rolled_back_is_created(consumer: Consumer, upstream: Sandbox) -> None:
    """Any other 500 in NOMIS's own words is taken for a rollback: no person is asked about each of them."""
    booking = make_schedule(upstream)
    words = "Unexpected error: could not execute statement; constraint [OMS_OWNER.COURSE_PAY_RATES_PK]"
    upstream.fault("nomis", "POST", "/activities", status=500, body={"status": 500, "userMessage": words}, times=1)
    with pytest.raises(UpstreamError):
        consumer.deliver(booking)
    assert consumer.deliver(booking) is Outcome.APPLIED
    assert len(courses_of(upstream, booking)) == 1
    assert consumer.findings() == []


def test_an_ambiguous_creation_settled_as_not_created_is_created(consumer: Consumer, upstream: Sandbox) -> None:
    """After a person said that NOMIS does not have it, the next delivery creates."""
    booking = make_schedule(upstream)
    upstream.fault("nomis", "POST", "/activities", kind="reset", times=1)
    with pytest.raises(UpstreamError):
        consumer.deliver(booking)
    assert consumer.deliver(booking) is Outcome.AMBIGUOUS
    with consumer.database.begin() as connection:
        assert creations.abandon(connection, consumer.record(booking, "activity").id, "looked at by hand")
    assert consumer.deliver(booking) is Outcome.APPLIED
    assert len(courses_of(upstream, booking)) == 1


def test_an_ambiguous_creation_is_settled_by_a_mapping(consumer: Consumer, upstream: Sandbox) -> None:
    """When somebody saves the mapping by hand, the next delivery closes record and finding."""
    booking = make_schedule(upstream)
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


def test_a_lost_create_that_was_applied_is_found_and_mapped(consumer: Consumer, upstream: Sandbox) -> None:
    """After a lost answer the visit is found in NOMIS, and only mapped."""
    booking = book_visit(upstream)
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
def test_a_create_that_was_applied_whatever_was_answered_is_found(
    consumer: Consumer, upstream: Sandbox, response: Mapping[str, Any]
) -> None:
    """A failure that does not say that the create was refused leaves its outcome open: NOMIS is asked first."""
    booking = book_visit(upstream)
    upstream.fault("nomis", "POST", VISITS, kind="status_after_write", times=1, **response)
    with pytest.raises(UpstreamError) as caught:
        consumer.deliver(booking)
    assert caught.value.recoverable
    assert consumer.record(booking).state is CreationState.INTENDED
    assert consumer.deliver(booking) is Outcome.APPLIED
    assert [mapped_to(upstream, booking)] == visits_of(upstream, booking)


def test_a_lost_create_that_was_not_applied_is_created(consumer: Consumer, upstream: Sandbox) -> None:
    """When NOMIS does not have the visit after all, it is created."""
    booking = book_visit(upstream)
    upstream.fault("nomis", "POST", VISITS, kind="reset", times=1)
    with pytest.raises(UpstreamError):
        consumer.deliver(booking)
    assert consumer.deliver(booking) is Outcome.APPLIED
    assert len(visits_of(upstream, booking)) == 1
    assert consumer.record(booking).attempts == 2


def test_a_create_that_is_still_at_work_is_not_sent_again(upstream: Sandbox, database_url: str) -> None:
    """A create that timed out here and is applied later is waited for, not repeated."""
    booking = book_visit(upstream)
    with (
        consuming(upstream, database_url, timeout_seconds=0.5) as hurried,
        consuming(upstream, database_url, grace_seconds=3600) as consumer,
        held(upstream, "nomis", "POST", VISITS) as create,
    ):
        while not create.requests:
            # On a slow machine the calls before the create may take too long as well.
            with pytest.raises(UpstreamError):
                hurried.deliver(booking)
        with pytest.raises(LeaseBusy, match="unknown"):
            consumer.deliver(booking)
        create.release()
        until(lambda: visits_of(upstream, booking))
        assert consumer.deliver(booking) is Outcome.APPLIED
        assert len(visits_of(upstream, booking)) == 1


def test_a_surplus_record_beside_a_mapping_of_others_is_a_finding(consumer: Consumer, upstream: Sandbox) -> None:
    """Our create was applied, its answer lost, and somebody else mapped another record: NOMIS has one too many."""
    booking = book_visit(upstream)
    upstream.fault("nomis", "POST", VISITS, kind="reset_after_write", times=1)
    with pytest.raises(UpstreamError):
        consumer.deliver(booking)
    number = other_number()
    map_by_hand(upstream, MAPPINGS, visit_mapping(booking, number))
    assert consumer.deliver(booking) is Outcome.DUPLICATE
    [visit_id] = visits_of(upstream, booking)
    [finding] = consumer.findings()
    assert finding.properties["duplicateNomisId"] == str(visit_id)
    assert finding.properties["existingNomisId"] == str(number)


def test_a_deleted_record_is_not_made_again_by_a_late_delivery(consumer: Consumer, upstream: Sandbox) -> None:
    """What was created, and deleted since in NOMIS, in the mapping service and in DPS, is a duplicate."""
    booking = make_schedule(upstream)
    upstream.drop("schedule", booking.dps_id)
    with pytest.raises(UpstreamError):
        consumer.deliver(booking)
    again = make_schedule(upstream)
    consumer.deliver(again)
    with consumer.database.begin() as connection:
        creations.mark_deleted(connection, "activity", again.dps_id)
    delete_mapping(upstream, f"{COURSE_MAPPINGS}/activity-schedule-id/{again.dps_id}")
    upstream.drop("schedule", again.dps_id)
    assert consumer.deliver(again) is Outcome.DUPLICATE
    assert consumer.names()[-1] == "activity-create-duplicate"


def test_a_mapping_that_vanished_is_asked_of_nomis(consumer: Consumer, upstream: Sandbox) -> None:
    """A course was mapped, and its mapping is gone although DPS has it still: nobody can tell, so a person is asked."""
    booking = make_schedule(upstream)
    consumer.deliver(booking)
    delete_mapping(upstream, f"{COURSE_MAPPINGS}/activity-schedule-id/{booking.dps_id}")
    assert consumer.deliver(booking) is Outcome.AMBIGUOUS
    assert len(courses_of(upstream, booking)) == 1
    assert [finding.kind for finding in consumer.findings()] == ["ambiguous"]


def test_an_event_without_its_id_is_unreadable(consumer: Consumer) -> None:
    """A message that lacks a field fails alone, and tracks nothing."""
    event = DomainEvent("prison-visit.booked", None, "A1234BC", {})
    with pytest.raises(MalformedMessage):
        consumer.deliver(Booking(event, "none", "A1234BC"))
    assert consumer.tracked() == []


def test_a_record_under_another_lease_waits(consumer: Consumer, upstream: Sandbox) -> None:
    """While another holds the record nothing is called and nothing is tracked."""
    booking = book_visit(upstream)
    upstream.clear_records()
    with consumer.leases.held(f"create:visit:{booking.dps_id}"), pytest.raises(LeaseBusy):
        consumer.deliver(booking)
    assert upstream.requests("mapping") == []
    assert consumer.tracked() == []


def test_an_open_breaker_is_no_failed_creation(database: Database, upstream: Sandbox, database_url: str) -> None:
    """A call that was never made leaves no failed event, and no doubt."""
    booking = book_visit(upstream)
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

        assert until(deliver, "the breaker lets calls try again") is Outcome.APPLIED
        assert consumer.names() == ["upstream-breaker-closed", "visit-create-success"]
