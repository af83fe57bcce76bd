"""If the mapping service refuses a mapping because of a different one, a finding reports a duplicate NOMIS record."""

from __future__ import annotations

import pytest

from sandbox import Sandbox
from sync.errors import UpstreamError
from sync.events.context import Outcome
from sync.store.creations import CreationState
from tests.harness.creations import (
    Consumer,
    courses_of,
    map_by_hand,
    other_number,
    visit_mapping,
    visits_of,
)
from tests.harness.faults import held
from tests.harness.publishing import DpsEvent, schedule_created, visit_booked
from tests.harness.waiting import in_thread, result_of

VISITS = "/prisoners/{offenderNo}/visits"
MAPPINGS = "/mapping/visits"
COURSE_MAPPINGS = "/mapping/activities"


def create_while(
    consumer: Consumer, sandbox: Sandbox, booking: DpsEvent, path: str, mapping: dict[str, object]
) -> Outcome:
    """Handles a delivery, and saves `mapping` during its create, as another program would. Returns the outcome."""
    with held(sandbox, "nomis", "POST", "/activities" if path == COURSE_MAPPINGS else VISITS) as create:
        delivery = in_thread(consumer.deliver, booking)
        create.wait_for_request()
        map_by_hand(sandbox, path, mapping)
        create.release()
        return result_of(delivery)


def test_a_conflict_is_a_finding_alerted_once(consumer: Consumer, upstream: Sandbox) -> None:
    """A conflict is tracked as a failure to save the mapping, and then as a duplicate with both pairs of ids.

    There is one finding and one alert, even after a second delivery.
    """
    booking = visit_booked(upstream)
    number = other_number()
    assert create_while(consumer, upstream, booking, MAPPINGS, visit_mapping(booking, number)) is Outcome.DUPLICATE
    [visit_id] = visits_of(upstream, booking)
    [(failed, properties), (duplicate, more)] = consumer.tracked()
    assert (failed, duplicate) == ("visit-mapping-create-failed", "to-nomis-synch-visit-duplicate")
    assert more.pop("existingWhenCreated")
    assert properties.pop("reason")
    assert more == {
        **properties,
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
    """A mapping retry that meets a conflict is acknowledged as a duplicate.

    A later delivery of the event adds no finding and no alert.
    """
    booking = visit_booked(upstream)
    upstream.fault("mapping", "POST", MAPPINGS, status=503, times=1)
    consumer.deliver(booking)
    number = other_number()
    map_by_hand(upstream, MAPPINGS, visit_mapping(booking, number))
    assert consumer.deliver_retry(*consumer.parts.retries[0]) is Outcome.DUPLICATE
    name, properties = consumer.tracked()[-1]
    assert name == "to-nomis-synch-visit-duplicate"
    assert properties["existingNomisId"] == str(number)
    assert properties["startDateTime"] == "2023-06-02T14:00:00"
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
def test_a_conflict_without_the_existing_mapping_is_looked_up(
    consumer: Consumer, upstream: Sandbox, status: object, more_info: object
) -> None:
    """If the response about a conflict does not name the DPS record's existing mapping, the mapping is looked up."""
    booking, number = visit_booked(upstream), other_number()
    body = {"status": status, "userMessage": "Conflict: it exists", "errorCode": 1409, "moreInfo": more_info}
    upstream.fault("mapping", "POST", MAPPINGS, status=409, body=body, skip=1, times=1)
    assert create_while(consumer, upstream, booking, MAPPINGS, visit_mapping(booking, number)) is Outcome.DUPLICATE
    properties = consumer.tracked()[-1][1]
    assert (properties["existingNomisId"], properties["duplicateVsipId"]) == (str(number), booking.dps_id)


def test_a_conflict_with_the_same_pair_is_a_success(consumer: Consumer, upstream: Sandbox) -> None:
    """A conflict with a mapping of the same two ids counts as a success, even if the response does not name them."""
    booking = visit_booked(upstream)
    body = {"status": 409, "userMessage": "Conflict: it exists", "moreInfo": {}}
    upstream.fault("mapping", "POST", MAPPINGS, kind="status_after_write", status=409, body=body, times=1)
    assert consumer.deliver(booking) is Outcome.APPLIED
    assert (consumer.names(), consumer.findings()) == (["visit-create-success"], [])


@pytest.mark.parametrize("status", [409, "409 CONFLICT"])
def test_a_conflict_about_the_nomis_record_is_a_finding(
    consumer: Consumer, upstream: Sandbox, status: int | str
) -> None:
    """A conflict that leaves the DPS record unmapped counts as one about the NOMIS record.

    The telemetry names no existing mapping.
    """
    booking = visit_booked(upstream)
    body = {"status": status, "userMessage": "Conflict: it exists"}
    upstream.fault("mapping", "POST", MAPPINGS, status=409, body=body, times=1)
    assert consumer.deliver(booking) is Outcome.DUPLICATE
    properties = consumer.tracked()[-1][1]
    assert properties["duplicateVsipId"] == booking.dps_id
    assert not [name for name in properties if name.startswith("existing")]


@pytest.mark.parametrize("text", ["<html>Conflict</html>", '{"status": 409, "error": "Conflict", "path": "/"}', ""])
def test_a_409_of_a_gateway_is_not_a_conflict(consumer: Consumer, upstream: Sandbox, text: str) -> None:
    """A gateway's 409 proves nothing about mappings, so a retry message saves the mapping."""
    booking = visit_booked(upstream)
    upstream.fault("mapping", "POST", MAPPINGS, status=409, text=text, times=1)
    assert consumer.deliver(booking) is Outcome.RETRY_QUEUED
    assert consumer.deliver_retry(*consumer.parts.retries[0]) is Outcome.APPLIED
    assert consumer.findings() == []


def test_a_duplicate_activity_refused_with_400_is_recognised(consumer: Consumer, upstream: Sandbox) -> None:
    """If the mapping service refuses a second mapping of an activity with 400, the first is looked up and named."""
    booking = schedule_created(upstream)
    number = other_number()
    theirs = {"activityScheduleId": int(booking.dps_id), "nomisCourseActivityId": number}
    other: dict[str, object] = {**theirs, "mappingType": "ACTIVITY_CREATED"}
    assert create_while(consumer, upstream, booking, COURSE_MAPPINGS, other) is Outcome.DUPLICATE
    [course_id] = courses_of(upstream, booking)
    assert consumer.names() == ["activity-mapping-create-failed", "to-nomis-synch-activity-duplicate"]
    properties = consumer.tracked()[-1][1]
    assert properties["duplicateNomisCourseActivityId"] == str(course_id)
    assert properties["existingNomisCourseActivityId"] == str(number)
    assert properties["existingActivityScheduleId"] == booking.dps_id
    assert [finding.severity for finding in consumer.findings()] == ["low"]


def test_any_other_400_of_the_mapping_service_is_a_failure(consumer: Consumer, upstream: Sandbox) -> None:
    """If no existing mapping explains a 400 from the mapping service, a retry message is sent."""
    booking = schedule_created(upstream)
    upstream.fault("mapping", "POST", COURSE_MAPPINGS, status=400, times=1)
    assert consumer.deliver(booking) is Outcome.RETRY_QUEUED
    assert consumer.parts.retries[0][0] == "activity"


def test_a_duplicate_record_is_a_finding(consumer: Consumer, upstream: Sandbox) -> None:
    """If a create got no response and another record has been mapped since, a finding names the duplicate record."""
    booking = visit_booked(upstream)
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
