"""The sandbox's mapping service: repeated posts, unique keys, conflicts, look-ups and limits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from sandbox import Sandbox
from sandbox.child_processes import SandboxError
from tests.harness.sandboxes import Caller


@dataclass(frozen=True)
class Domain:
    """The endpoints of one domain, the body of a mapping, and the changes that give it another DPS id or NOMIS id."""

    path: str
    body: dict[str, Any]
    dps: dict[str, Any]
    nomis: dict[str, Any]
    by_dps: str
    by_nomis: str | None
    deletable: bool = True


DOMAINS = {
    "visits": Domain(
        "/mapping/visits",
        {"nomisId": 1, "vsipId": "aa-bb", "mappingType": "ONLINE"},
        {"vsipId": "cc-dd"},
        {"nomisId": 2},
        "/mapping/visits/vsipId/aa-bb",
        "/mapping/visits/nomisId/1",
        deletable=False,
    ),
    "incentives": Domain(
        "/mapping/incentives",
        {"nomisBookingId": 9, "nomisIncentiveSequence": 1, "incentiveId": 5, "mappingType": "INCENTIVE_CREATED"},
        {"incentiveId": 6},
        {"nomisIncentiveSequence": 2},
        "/mapping/incentives/incentive-id/5",
        "/mapping/incentives/nomis-booking-id/9/nomis-incentive-sequence/1",
    ),
    "activities": Domain(
        "/mapping/activities",
        {"activityScheduleId": 3, "nomisCourseActivityId": 4, "mappingType": "ACTIVITY_CREATED"},
        {"activityScheduleId": 30},
        {"nomisCourseActivityId": 40},
        "/mapping/activities/activity-schedule-id/3",
        None,
    ),
    "appointments": Domain(
        "/mapping/appointments",
        {"appointmentInstanceId": 3, "nomisEventId": 4},
        {"appointmentInstanceId": 30},
        {"nomisEventId": 40},
        "/mapping/appointments/appointment-instance-id/3",
        "/mapping/appointments/nomis-event-id/4",
    ),
    "adjustments": Domain(
        "/mapping/sentencing/adjustments",
        {
            "adjustmentId": "a-1",
            "nomisAdjustmentId": 4,
            "nomisAdjustmentCategory": "KEY-DATE",
            "mappingType": "SENTENCING_CREATED",
        },
        {"adjustmentId": "a-2"},
        {"nomisAdjustmentCategory": "SENTENCE"},
        "/mapping/sentencing/adjustments/adjustment-id/a-1",
        "/mapping/sentencing/adjustments/nomis-adjustment-category/KEY-DATE/nomis-adjustment-id/4",
    ),
}
EACH = pytest.mark.parametrize("name", DOMAINS)


@pytest.fixture
def posted(caller: Caller, name: str) -> Domain:
    """The domain `name`, after its body has been posted once.

    The ids in the body are in none of the population's mappings.
    """
    domain = DOMAINS[name]
    assert caller.call("mapping", "POST", domain.path, domain.body).status_code == 201
    return domain


@EACH
def test_same_pair_is_accepted_again(caller: Caller, posted: Domain, name: str) -> None:
    """If a pair of ids is posted again, the response is a 201 without a body, and the mapping does not change."""
    again = caller.call("mapping", "POST", posted.path, posted.body)
    assert (again.status_code, again.content) == (201, b"")
    held = caller.get("mapping", posted.by_dps)
    assert posted.body.items() <= held.items()
    assert None not in held.values()


@pytest.mark.parametrize("side", ["dps", "nomis"])
@pytest.mark.parametrize("name", ["visits", "incentives", "appointments", "adjustments"])
def test_other_pair_with_a_known_id_is_a_conflict(caller: Caller, posted: Domain, name: str, side: str) -> None:
    """A post that pairs a mapped id with a different id gets 409, with the error code 1409 and both mappings."""
    other = posted.body | (posted.dps if side == "dps" else posted.nomis)
    response = caller.call("mapping", "POST", posted.path, other)
    body = response.json()
    assert (response.status_code, body["errorCode"]) == (409, 1409)
    assert body["userMessage"].startswith("Conflict: ")
    assert posted.body.items() <= body["moreInfo"]["existing"].items()
    assert other.items() <= body["moreInfo"]["duplicate"].items()
    assert "whenCreated" in body["moreInfo"]["existing"]
    assert "whenCreated" not in body["moreInfo"]["duplicate"]


@pytest.mark.parametrize("side", ["dps", "nomis"])
@pytest.mark.parametrize("name", ["activities"])
def test_a_conflict_of_activities_is_a_400(caller: Caller, posted: Domain, name: str, side: str) -> None:
    """A post that pairs a mapped id of an activity with a different id gets 400, without details."""
    response = caller.call("mapping", "POST", posted.path, posted.body | getattr(posted, side))
    assert (response.status_code, response.json()["moreInfo"]) == (400, None)
    assert response.json()["userMessage"].startswith("Validation failure: ")
    assert "already exists" in response.json()["userMessage"]


@EACH
def test_pairs_are_found_by_either_id_and_deleted(caller: Caller, posted: Domain, name: str) -> None:
    """A pair of ids is found by either id, but the pair of an activity only by its DPS id.

    A deletion gets 204, even a second time, and the NOMIS id can then be mapped again. A visit's mapping cannot be
    deleted.
    """
    assert caller.get("mapping", posted.by_dps) is not None
    if posted.by_nomis is not None:
        assert caller.get("mapping", posted.by_nomis) == caller.get("mapping", posted.by_dps)
    if not posted.deletable:
        assert caller.call("mapping", "DELETE", posted.by_dps).status_code == 405
        return
    assert [caller.call("mapping", "DELETE", posted.by_dps).status_code for _ in range(2)] == [204, 204]
    response = caller.call("mapping", "GET", posted.by_dps)
    assert response.status_code == 404
    assert response.json()["userMessage"].startswith("Not Found: ")
    assert caller.call("mapping", "POST", posted.path, posted.body | posted.dps).status_code == 201


@EACH
def test_missing_and_overlong_fields_are_refused(caller: Caller, name: str) -> None:
    """A missing DPS id gets 400, an unknown mapping type 500, and a mapping type that is too long 400."""
    domain = DOMAINS[name]
    for field in domain.dps:
        response = caller.call("mapping", "POST", domain.path, {**domain.body, field: None})
        assert response.status_code == 400
        assert response.json()["userMessage"].startswith(f"Validation failure: {field}")
    strange = caller.call("mapping", "POST", domain.path, domain.body | {"mappingType": "STRANGE"})
    assert strange.status_code == 500
    assert strange.json()["userMessage"].startswith("Unexpected error: ")
    long_type = caller.call("mapping", "POST", domain.path, domain.body | {"mappingType": "X" * 21})
    assert long_type.status_code == 400


def test_texts_have_limits(caller: Caller) -> None:
    """A visit's reference has up to 40 characters, an adjustment's id 64 and a label 20.

    Anything longer gets 400. A NOMIS id may be sent as text, but only if it is a number.
    """
    visit = DOMAINS["visits"].body
    for body, status in (
        (visit | {"vsipId": "x" * 40, "nomisId": "77", "label": "y" * 20}, 201),
        (visit | {"vsipId": "x" * 41}, 400),
        (visit | {"label": "y" * 21}, 400),
        (visit | {"nomisId": "seven"}, 400),
    ):
        assert caller.call("mapping", "POST", "/mapping/visits", body).status_code == status
    assert caller.get("mapping", "/mapping/visits/nomisId/77")["nomisId"] == 77
    adjustment = DOMAINS["adjustments"]
    for length, status in ((64, 201), (65, 400)):
        body = adjustment.body | {"adjustmentId": "z" * length}
        assert caller.call("mapping", "POST", adjustment.path, body).status_code == status


def test_lists_have_every_pair(caller: Caller) -> None:
    """All mappings of activities and appointments are listed. An appointment's mapping has a default type."""
    for name in ("activities", "appointments"):
        domain = DOMAINS[name]
        bodies = [domain.body, domain.body | domain.dps | domain.nomis]
        for body in bodies:
            caller.call("mapping", "POST", domain.path, body)
        listed = caller.get("mapping", domain.path)
        assert [{field: each[field] for field in domain.body} for each in listed] == bodies
    assert {each["mappingType"] for each in caller.get("mapping", "/mapping/appointments")} == {"APPOINTMENT_CREATED"}


def test_a_race_of_two_posts_ends_with_500_once(running_sandbox: Sandbox) -> None:
    """If two posts of the same pair race, the one that violates the unique key gets 500, and 201 when it is repeated.

    A different pair with one of the ids then gets a conflict.
    """
    running_sandbox.reset(mapping_race_ms=60_000)
    caller = Caller(running_sandbox)
    visit = DOMAINS["visits"]
    statuses = [caller.call("mapping", "POST", visit.path, visit.body).status_code for _ in range(3)]
    assert statuses == [201, 500, 201]
    assert caller.call("mapping", "POST", visit.path, visit.body | visit.nomis).status_code == 409


def test_another_installation_is_first_only_for_a_known_queue(sandbox: Sandbox) -> None:
    """A duplicate can be requested only for a queue that exists. The refusal names the queues."""
    with pytest.raises(SandboxError, match="there is no queue 'visits': choose from visit, incentive, activity"):
        sandbox.control("POST", "/duplicates/visits")
