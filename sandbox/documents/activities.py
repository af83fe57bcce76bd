"""What the activities API publishes, of activities and of appointments."""

from __future__ import annotations

from functools import partial
from typing import Final

from sandbox.documents.notation import Changed, Endpoint, Maybe, Null, since, until

_ROLES: Final = "2024-01"
_USERS: Final = partial(Endpoint, roles=since(_ROLES, ("PRISON", "ACTIVITY_ADMIN")))
_SHARED: Final = partial(Endpoint, roles=since(_ROLES, ("PRISON", "ACTIVITY_ADMIN", "NOMIS_ACTIVITIES")))
_SYNCHRONISATION: Final = partial(Endpoint, roles=("NOMIS_ACTIVITIES",))
_LEVEL_UNTIL: Final = "2023-12"
_LOCATIONS: Final = "2025-06"

_ACTIVITY: Final = {
    "id": "integer",
    "prisonCode": "text",
    "summary": "text",
    "category": {"id": "integer", "code": "text"},
    "payPerSession": "H|F",
    "outsideWork": "boolean",
    "minimumIncentiveNomisCode": until(_LEVEL_UNTIL, "text"),
    "minimumIncentiveLevel": until(_LEVEL_UNTIL, "text"),
}
_PAY_BAND: Final = {"id": "integer", "nomisPayBand": "integer"}
_WHOLE_ACTIVITY: Final = {
    **_ACTIVITY,
    "startDate": "date",
    "endDate": "date?",
    "pay": [{"incentiveNomisCode": "text", "prisonPayBand": _PAY_BAND, "rate": "integer?"}],
}
_INSTANCE: Final = {
    "id": "integer",
    "date": "date",
    "startTime": "time",
    "endTime": "time",
    "cancelled": "boolean",
}
_DAYS: Final = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_LOCATION: Final = {
    "id": "integer",
    "code": "text",
    "description": "text",
    "dpsLocationId": since(_LOCATIONS, "text?"),
}
_SCHEDULE: Final = {
    "id": "integer",
    "description": "text",
    "capacity": "integer",
    "startDate": "date",
    "endDate": "date?",
    "runsOnBankHoliday": "boolean",
    "internalLocation": Maybe(_LOCATION),
    "instances": [_INSTANCE],
    "slots": [{"id": "integer", "startTime": "time", "endTime": "time", **{f"{day}Flag": "boolean" for day in _DAYS}}],
    "activity": _ACTIVITY,
}
_REASON: Final = {"code": "text", "description": "text"}
_ALLOCATION: Final = {
    "id": "integer",
    "prisonerNumber": "text",
    "bookingId": "integer",
    "scheduleId": "integer",
    "startDate": "date",
    "endDate": "date?",
    "prisonPayBand": Changed(_PAY_BAND, ("2023-11", Null(_PAY_BAND))),
    "status": Changed(
        "ACTIVE|SUSPENDED|AUTO_SUSPENDED|ENDED",
        ("2024-12", "ACTIVE|PENDING|SUSPENDED|AUTO_SUSPENDED|SUSPENDED_WITH_PAY|ENDED"),
    ),
    "deallocatedBy": "text?",
    "deallocatedTime": "date-time?",
    "deallocatedReason": Changed("text?", ("2023-06", Maybe(Null(_REASON)))),
    "plannedDeallocation": since(
        "2025-09",
        Maybe(Null({"id": "integer", "plannedBy": "text", "plannedAt": "date-time", "plannedReason": _REASON})),
    ),
    "plannedSuspension": since("2024-12", Maybe(Null({"plannedBy": "text"}))),
    "suspendedBy": "text?",
    "suspendedTime": "date-time?",
    "suspendedReason": "text?",
    "exclusions": since("2023-11", [{"weekNumber": "integer", "timeSlot": "AM|PM|ED"}]),
}
_ATTENDANCE: Final = {
    "attendanceId": "integer",
    "scheduledInstanceId": "integer",
    "activityScheduleId": "integer",
    "sessionDate": "date",
    "sessionStartTime": "time",
    "sessionEndTime": "time",
    "prisonerNumber": "text",
    "bookingId": "integer",
    "attendanceReasonCode": Changed(
        "text?",
        (
            "2024-01",
            "SICK|REFUSED|NOT_REQUIRED|REST|CLASH|OTHER|SUSPENDED|AUTO_SUSPENDED|CANCELLED|ATTENDED?",
        ),
    ),
    "comment": "text?",
    "status": Changed("text", ("2023-06", "WAITING|COMPLETED")),
    "payAmount": "integer?",
    "bonusAmount": "integer?",
    "issuePayment": "boolean?",
}
_OF_DAY: Final = {
    "attendanceId": "integer",
    "prisonerNumber": "text",
    "status": "text",
    "attendanceReasonCode": "text?",
    "issuePayment": "boolean?",
}
_PLAN: Final = {"prisonCode": "text", "activitiesRolledOut": "boolean", "appointmentsRolledOut": "boolean"}
_COUNTS: Final = {"prisonCode": "text", "bookings": [{"bookingId": "integer", "count": "integer"}]}
_COUNTED: Final = "/synchronisation/reconciliation"

_RENAMED: Final = "2023-09"
_APPOINTMENT: Final = {
    "id": "integer",
    "appointmentAttendeeId": since(_RENAMED, "integer"),
    "appointmentType": "INDIVIDUAL|GROUP",
    "prisonCode": "text",
    "prisonerNumber": "text",
    "bookingId": "integer",
    "categoryCode": "text",
    "internalLocationId": "integer?",
    "dpsLocationId": since(_LOCATIONS, "text?"),
    "inCell": "boolean",
    "appointmentDate": "date",
    "startTime": "time",
    "endTime": "time?",
    "comment": until(_RENAMED, "text?"),
    "created": until(_RENAMED, "date-time"),
    "createdTime": since(_RENAMED, "date-time"),
    "updated": until(_RENAMED, "date-time?"),
    "updatedTime": since(_RENAMED, "date-time?"),
}
_FOUND: Final = {
    "prisonCode": "text",
    "category": {"code": "text", "description": "text"},
    "internalLocation": Maybe(_LOCATION),
    "inCell": "boolean",
    "startDate": "date",
    "startTime": "time",
    "endTime": "time?",
    "isCancelled": "boolean",
}
_PERSON: Final = {"prisonerNumber": "text", "bookingId": "integer"}
_ASKED: Final = {"startDate": "date", "endDate": "date?", "prisonerNumbers": Maybe(["text"])}
ENDPOINTS: Final = (
    _USERS("GET", "/activities/{activityId}", _WHOLE_ACTIVITY, until="2024-09"),
    _SHARED(
        "GET", "/activities/{activityId}/filtered", _WHOLE_ACTIVITY, query=("earliestSessionDate",), since="2024-09"
    ),
    _SHARED("GET", "/schedules/{scheduleId}", _SCHEDULE, query=since("2024-09", ("earliestSessionDate",))),
    _USERS("GET", "/schedules/{scheduleId}/allocations", [_ALLOCATION], query=("activeOnly",)),
    _SHARED("GET", "/scheduled-instances/{instanceId}", {**_INSTANCE, "activitySchedule": {"id": "integer"}}),
    _SHARED("GET", "/allocations/id/{allocationId}", _ALLOCATION),
    _SYNCHRONISATION("GET", "/synchronisation/attendance/{attendanceId}", _ATTENDANCE),
    _USERS(
        "POST",
        "/prisons/{prisonCode}/prisoner-allocations",
        [{"prisonerNumber": "text", "allocations": [_ALLOCATION]}],
        ["text"],
        query=("activeOnly",),
    ),
    _USERS("GET", "/attendances/{prisonCode}/{sessionDate}", [_OF_DAY]),
    _USERS("GET", "/rollout", [_PLAN], query=("prisonsLive",), since="2024-11"),
    _USERS("GET", "/rollout/{prisonCode}", _PLAN),
    _SYNCHRONISATION("GET", f"{_COUNTED}/allocations/{{prisonCode}}", _COUNTS, since="2023-10"),
    _SYNCHRONISATION("GET", f"{_COUNTED}/suspended-allocations/{{prisonCode}}", _COUNTS, since="2025-05"),
    _SYNCHRONISATION(
        "GET",
        f"{_COUNTED}/attendances/{{prisonCode}}",
        {**_COUNTS, "date": "date"},
        query=("date!",),
        since="2023-10",
    ),
    _USERS("GET", "/appointment-instances/{appointmentInstanceId}", _APPOINTMENT),
    _USERS(
        "POST",
        "/appointments/{prisonCode}/search",
        [
            {
                **_FOUND,
                "attendees": [{"appointmentAttendeeId": "integer", **_PERSON}],
                "isDeleted": "boolean",
                "createdTime": "date-time",
                "updatedTime": "date-time?",
                "cancelledTime": "date-time?",
            }
        ],
        _ASKED,
        # It responds with 200.
        status=202,
        since=_RENAMED,
    ),
    Endpoint(
        "POST",
        "/appointment-occurrences/{prisonCode}/search",
        [{**_FOUND, "allocations": [{"id": "integer", **_PERSON}]}],
        _ASKED,
        status=202,
        until=_RENAMED,
    ),
)
