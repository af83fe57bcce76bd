"""The check of the API documents finds each breaking change since May 2023, and reports no other errors."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date

import pytest

from sandbox.documents import document_of
from sandbox.domains import CLIENTS
from sync.contracts.check import ContractFinding, ServiceResult, check_service
from sync.contracts.compare import DriftLevel
from sync.domains.registry import operations
from sync.settings.upstreams import UpstreamName

TODAY = date(2026, 11, 29)
SERVICES = [name for name in UpstreamName if name is not UpstreamName.OAUTH]
NOMIS, MAPPING, ACTIVITIES = UpstreamName.NOMIS, UpstreamName.MAPPING, UpstreamName.ACTIVITIES
INCENTIVES, APPOINTMENTS = UpstreamName.INCENTIVES, UpstreamName.APPOINTMENTS
VISITS, SEARCH = UpstreamName.VISITS, UpstreamName.PRISONER_SEARCH
ERROR, WARNING, NOTE = DriftLevel
#: The sandbox's names of the services, by the variables with their addresses.
SANDBOX_NAMES = {client.address_variable: client.service for client in CLIENTS}


def checked(service: UpstreamName, month: str) -> ServiceResult:
    """The result of the check for `service` as it was in `month`."""
    document = document_of(SANDBOX_NAMES[service.address_variable], month, TODAY)
    return check_service(service, document, operations())


@pytest.fixture(scope="module")
def today() -> dict[UpstreamName, ServiceResult]:
    """The result of the check for each current service."""
    return {service: checked(service, "9999-12") for service in SERVICES}


@pytest.mark.parametrize("service", SERVICES)
def test_services_of_may_2023_have_only_known_differences(service: UpstreamName) -> None:
    """The declared operations differ from the May 2023 documents only where those documents have known faults."""
    result = checked(service, "2023-05")
    assert result.compared
    assert result.findings == ()


#: What has broken since May 2023: service, operation, kind of difference, field, level.
DRIFT = [
    (NOMIS, "POST /activities", "body-required", "outsideWork", ERROR),
    (NOMIS, "PUT /activities/{courseActivityId}", "body-required", "outsideWork", ERROR),
    (NOMIS, "PUT /activities/{courseActivityId}/schedule", "body-required", "id", ERROR),
    (NOMIS, "PUT /activities/{courseActivityId}/allocation", "body-required", "programStatusCode", ERROR),
    (NOMIS, "POST /activities/{courseActivityId}/booking/{bookingId}/attendance", "operation-gone", "", ERROR),
    (NOMIS, "POST /activities/{courseActivityId}/booking/{bookingId}/attendance-status", "operation-gone", "", ERROR),
    (NOMIS, "GET /adjustments/ids", "operation-gone", "", ERROR),
    (
        NOMIS,
        "GET /appointments/booking/{bookingId}/location/{locationId}/start/{dateTime}",
        "response-form",
        "",
        NOTE,
    ),
    (NOMIS, "GET /appointments/ids", "query-required", "prisonIds", ERROR),
    (NOMIS, "GET /incentives/booking-id/{bookingId}/current", "role", "", WARNING),
    (NOMIS, "GET /incentives/booking-id/{bookingId}/incentive-sequence/{incentiveSequence}", "role", "", WARNING),
    (NOMIS, "POST /prisoners/booking-id/{bookingId}/incentives", "operation-gone", "", ERROR),
    (NOMIS, "PUT /sentence-adjustments/{adjustmentId}", "body-required", "sentenceSequence", WARNING),
    # The program recognises conflicts and reads fractions of seconds, so only the role differs.
    (NOMIS, "POST /prisoners/{offenderNo}/visits", "role", "", WARNING),
    (NOMIS, "GET /visits/{visitId}", "role", "", WARNING),
    (NOMIS, "GET /visits/ids", "role", "", WARNING),
    (NOMIS, "GET /prisoners/ids", "deprecated", "", WARNING),
    (MAPPING, "POST /mapping/activities", "body-required", "scheduledInstanceMappings", ERROR),
    (
        MAPPING,
        "DELETE /mapping/activities/activity-schedule-id/{activityScheduleId}",
        "operation-gone",
        "",
        ERROR,
    ),
    (MAPPING, "GET /mapping/activities", "operation-gone", "", ERROR),
    (MAPPING, "GET /mapping/appointments", "operation-gone", "", ERROR),
    (MAPPING, "POST /mapping/visits", "role", "", WARNING),
    (MAPPING, "POST /mapping/incentives", "role", "", WARNING),
    (MAPPING, "POST /mapping/appointments", "role", "", WARNING),
    (MAPPING, "POST /mapping/sentencing/adjustments", "role", "", WARNING),
    (ACTIVITIES, "GET /activities/{activityId}", "operation-gone", "", ERROR),
    (ACTIVITIES, "GET /schedules/{scheduleId}", "field-gone", "activity.minimumIncentiveNomisCode", ERROR),
    (ACTIVITIES, "GET /schedules/{scheduleId}/allocations", "role", "", WARNING),
    (ACTIVITIES, "GET /allocations/id/{allocationId}", "field-form", "deallocatedReason", NOTE),
    (ACTIVITIES, "GET /synchronisation/attendance/{attendanceId}", "value-gone", "status", NOTE),
    (APPOINTMENTS, "GET /appointment-instances/{appointmentInstanceId}", "role", "", WARNING),
    (INCENTIVES, "GET /iep/reviews/id/{id}", "operation-gone", "", ERROR),
    (INCENTIVES, "GET /iep/reviews/booking/{bookingId}", "operation-gone", "", ERROR),
    (INCENTIVES, "GET /iep/reviews/prisoner/{prisonerNumber}", "operation-gone", "", ERROR),
    (INCENTIVES, "POST /iep/reviews/bookings", "operation-gone", "", ERROR),
    (VISITS, "GET /visits/search", "query-renamed", "startDateTime", NOTE),
    (VISITS, "GET /visits/search", "query-renamed", "endDateTime", NOTE),
    (SEARCH, "PUT /events/prisoner/received/{prisonerNumber}", "operation-gone", "", ERROR),
]


@pytest.mark.parametrize(("service", "operation", "kind", "field", "level"), DRIFT)
def test_breaking_changes_since_may_2023_are_found(
    today: dict[UpstreamName, ServiceResult],
    service: UpstreamName,
    operation: str,
    kind: str,
    field: str,
    level: DriftLevel,
) -> None:
    """A change since May 2023 that breaks a call, or would break one in a less tolerant program, is found."""
    found = [(each.kind, each.field, each.level) for each in today[service].findings if operation in each.operations]
    assert (kind, field, level) in found


def test_no_other_error_is_found(today: dict[UpstreamName, ServiceResult]) -> None:
    """The only errors that the check reports about the current services are those in `DRIFT`."""

    def errors() -> Iterator[tuple[UpstreamName, str, str, str]]:
        for service, result in today.items():
            for each in result.findings:
                if each.level is ERROR:
                    yield from ((service, operation, each.kind, each.field) for operation in each.operations)

    assert set(errors()) == {row[:4] for row in DRIFT if row[4] is ERROR}


def test_a_replacement_of_an_operation_is_named(today: dict[UpstreamName, ServiceResult]) -> None:
    """If an operation is gone, the most similar operation that the program does not call yet is proposed, if any.

    For a deprecated operation, the advice in the document is quoted.
    """
    texts = {finding.operations[0]: finding.text for result in today.values() for finding in result.findings}
    assert texts["GET /iep/reviews/id/{id}"] == "is gone; the most similar operation is GET /incentive-reviews/id/{id}"
    assert texts["GET /mapping/activities"] == "is gone"
    (deprecated,) = (each for each in today[NOMIS].findings if each.kind == "deprecated")
    assert deprecated.text == "is deprecated: Use GET /bookings/ids/latest-from-id instead"


def test_a_role_of_many_operations_is_one_finding(today: dict[UpstreamName, ServiceResult]) -> None:
    """If a service replaces a role, one finding names the new role for all operations that required the old one."""
    roles: list[ContractFinding] = [each for each in today[NOMIS].findings if each.kind == "role"]
    assert len({each.text for each in roles}) == len(roles)
    assert all("NOMIS_PRISONER_API__SYNCHRONISATION__RW" in each.text for each in roles)
    assert max(len(each.operations) for each in roles) > 1
