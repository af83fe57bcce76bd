"""The published endpoints of the mapping service and of prisoner-offender-search."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Final

from sandbox.documents.notation import Changed, Endpoint, Maybe, Value, since

NEW_ROLE: Final = "NOMIS_MAPPING_API__SYNCHRONISATION__RW"
_ROLES: Final = "2025-10"
_LISTS_UNTIL: Final = "2025-10"


def _kind(role: str, path: str, fields: dict[str, Value], by_dps: str, by_nomis: str = "") -> Iterator[Endpoint]:
    """The endpoints for one kind of mapping: the POST, the look-up by DPS id and, if there is one, that by NOMIS id."""
    make = partial(Endpoint, roles=Changed((role,), (_ROLES, (NEW_ROLE,))))
    refused = {
        "status": Changed("integer", ("2024-01", "CONFLICT")),
        "errorCode": "integer?",
        "userMessage": "text?",
        "moreInfo": Maybe({"existing": Changed(fields, ("2024-01", Maybe(fields))), "duplicate": fields}),
    }
    yield make("POST", path, None, fields, status=201, refusals={409: refused})
    yield make("GET", f"{path}/{by_dps}", {**fields, "whenCreated": "date-time?"})
    if by_nomis:
        yield make("GET", f"{path}/{by_nomis}", {**fields, "whenCreated": "date-time?"})


def _delete(role: str, path: str, until: str = "") -> Endpoint:
    return Endpoint("DELETE", path, status=204, roles=Changed((role,), (_ROLES, (NEW_ROLE,))), until=until)


def _list(role: str, path: str, fields: dict[str, Value]) -> Endpoint:
    return Endpoint("GET", path, [fields], roles=(role,), until=_LISTS_UNTIL)


_ACTIVITY: Final = {
    "activityScheduleId": "integer",
    "activityId": since("2023-06", "integer?"),
    "nomisCourseActivityId": "integer",
    "mappingType": "ACTIVITY_CREATED|NOMIS_CREATED",
    "scheduledInstanceMappings": since(
        "2023-06", [{"scheduledInstanceId": "integer", "nomisCourseScheduleId": "integer", "mappingType": "text"}]
    ),
}
_APPOINTMENT: Final = {
    "appointmentInstanceId": "integer",
    "nomisEventId": "integer",
    "label": "text?",
    "mappingType": "APPOINTMENT_CREATED|MIGRATED?",
}
#: The endpoints of the mapping service.
MAPPING: Final = (
    *_kind(
        "NOMIS_VISITS",
        "/mapping/visits",
        {"nomisId": "integer", "vsipId": "text", "label": "text?", "mappingType": "ONLINE|MIGRATED"},
        "vsipId/{vsipId}",
        "nomisId/{nomisId}",
    ),
    *_kind(
        "NOMIS_INCENTIVES",
        "/mapping/incentives",
        {
            "nomisBookingId": "integer",
            "nomisIncentiveSequence": "integer",
            "incentiveId": "integer",
            "label": "text?",
            "mappingType": "INCENTIVE_CREATED|NOMIS_CREATED|MIGRATED",
        },
        "incentive-id/{incentiveId}",
        "nomis-booking-id/{nomisBookingId}/nomis-incentive-sequence/{nomisIncentiveSequence}",
    ),
    _delete("NOMIS_INCENTIVES", "/mapping/incentives/incentive-id/{incentiveId}"),
    *_kind("NOMIS_ACTIVITIES", "/mapping/activities", _ACTIVITY, "activity-schedule-id/{activityScheduleId}"),
    _delete("NOMIS_ACTIVITIES", "/mapping/activities/activity-schedule-id/{activityScheduleId}", until=_LISTS_UNTIL),
    _list("NOMIS_ACTIVITIES", "/mapping/activities", _ACTIVITY),
    *_kind(
        "NOMIS_APPOINTMENTS",
        "/mapping/appointments",
        _APPOINTMENT,
        "appointment-instance-id/{appointmentInstanceId}",
        "nomis-event-id/{nomisEventId}",
    ),
    _delete("NOMIS_APPOINTMENTS", "/mapping/appointments/appointment-instance-id/{appointmentInstanceId}"),
    _list("NOMIS_APPOINTMENTS", "/mapping/appointments", _APPOINTMENT),
    *_kind(
        "NOMIS_SENTENCING",
        "/mapping/sentencing/adjustments",
        {
            "adjustmentId": "text",
            "nomisAdjustmentId": "integer",
            "nomisAdjustmentCategory": "SENTENCE|KEY-DATE",
            "label": "text?",
            "mappingType": "SENTENCING_CREATED|NOMIS_CREATED|MIGRATED",
        },
        "adjustment-id/{adjustmentId}",
        "nomis-adjustment-category/{nomisAdjustmentCategory}/nomis-adjustment-id/{nomisAdjustmentId}",
    ),
    _delete("NOMIS_SENTENCING", "/mapping/sentencing/adjustments/adjustment-id/{adjustmentId}"),
    Endpoint(
        "GET",
        "/mapping/locations/dps/{dpsLocationId}",
        {"dpsLocationId": "text", "nomisLocationId": "integer", "label": "text?", "mappingType": "text"},
        roles=(NEW_ROLE,),
        since="2024-07",
    ),
)
#: The endpoint of prisoner-offender-search.
PRISONER_SEARCH: Final = (
    Endpoint(
        "PUT",
        "/events/prisoner/received/{prisonerNumber}",
        None,
        {"reason": "text", "prisonId": "text", "occurredAt": "date-time"},
        roles=("EVENTS_ADMIN",),
        status=202,
        # Since then, the endpoint has been part of the indexer, at a separate address.
        until="2024-05",
    ),
)
