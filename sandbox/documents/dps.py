"""The published endpoints of visit-scheduler and of the activities, incentives and adjustments APIs."""

from __future__ import annotations

from functools import partial
from typing import Final

from sandbox.documents.notation import Changed, Endpoint, Maybe, Null, Page, since, until

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
#: The endpoints of the activities API, including those of appointments.
ACTIVITIES: Final = (
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
        # The real service responds with 200.
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

_MOVED: Final = "2023-11"
_REVIEW: Final = {
    "id": "integer",
    "iepCode": "text",
    "iepLevel": "text",
    "comments": "text?",
    "prisonerNumber": "text",
    "bookingId": "integer",
    "iepDate": "date",
    "iepTime": "date-time",
    "agencyId": "text",
    "locationId": "text?",
    "userId": "text?",
    "reviewType": "INITIAL|REVIEW|TRANSFER|MIGRATED|READMISSION",
    "auditModuleName": "text?",
}
_SUMMARY: Final = {
    "id": "integer",
    "iepCode": "text",
    "iepLevel": "text",
    "prisonerNumber": "text",
    "bookingId": "integer",
    "iepDate": "date",
    "iepTime": "date-time",
    "locationId": "text?",
    "iepDetails": Maybe([_REVIEW]),
    "nextReviewDate": "date?",
    "daysSinceReview": "integer",
}
_LEVEL: Final = {"code": "text", "name": "text", "active": "boolean", "required": "boolean"}
_PRISON_LEVEL: Final = {
    "levelCode": "text",
    "levelName": "text",
    "prisonId": "text",
    "active": "boolean",
    "defaultOnAdmission": "boolean",
    "remandTransferLimitInPence": "integer",
    "remandSpendLimitInPence": "integer",
    "convictedTransferLimitInPence": "integer",
    "convictedSpendLimitInPence": "integer",
    "visitOrders": "integer",
    "privilegedVisitOrders": "integer",
}
_OLD: Final = partial(Endpoint, until=_MOVED)
_NEW: Final = partial(Endpoint, since=_MOVED, roles=("INCENTIVE_REVIEWS",))
#: The endpoints of the incentives API.
INCENTIVES: Final = (
    _OLD("GET", "/iep/reviews/id/{id}", _REVIEW),
    _OLD("GET", "/iep/reviews/booking/{bookingId}", _SUMMARY, query=("with-details",)),
    _OLD("GET", "/iep/reviews/prisoner/{prisonerNumber}", _SUMMARY),
    _OLD("POST", "/iep/reviews/bookings", [{"bookingId": "integer", "iepLevel": "text"}], ["integer"]),
    _NEW("GET", "/incentive-reviews/id/{id}", _REVIEW),
    _NEW("GET", "/incentive-reviews/booking/{bookingId}", _SUMMARY, query=("with-details",)),
    _NEW("GET", "/incentive-reviews/prisoner/{prisonerNumber}", _SUMMARY),
    Endpoint("GET", "/incentive/levels", [_LEVEL], query=("with-inactive",)),
    Endpoint("GET", "/incentive/levels/{code}", _LEVEL),
    Endpoint("GET", "/incentive/prison-levels/{prisonId}/level/{levelCode}", _PRISON_LEVEL),
)

_VISITS: Final = partial(Endpoint, roles=("VISIT_SCHEDULER",))
_NAMED: Final = "2024-02"
_VISIT: Final = {
    "applicationReference": "text",
    "reference": "text",
    "prisonerId": "text",
    "prisonId": "text",
    "visitRoom": "text",
    "visitType": "SOCIAL",
    "visitStatus": Changed("RESERVED|CHANGING|BOOKED|CANCELLED", (_NAMED, "BOOKED|CANCELLED")),
    "visitSubStatus": since("2025-02", "text"),
    "outcomeStatus": "text?",
    "visitRestriction": "OPEN|CLOSED|UNKNOWN",
    "startTimestamp": "date-time",
    "endTimestamp": "date-time",
    "visitors": Maybe([{"nomisPersonId": "integer", "visitContact": "boolean?"}]),
    "visitorSupport": Changed(Maybe([{"type": "text"}]), (_NAMED, Maybe({"description": "text"}))),
    "createdBy": until(_NAMED, "text"),
    "updatedBy": until(_NAMED, "text?"),
    "cancelledBy": until(_NAMED, "text?"),
    "createdTimestamp": "date-time",
    "modifiedTimestamp": "date-time",
}
_WHOSE: Final = ("prisonId", "prisonerId", "visitStatus!")
_PRISONS_SINCE: Final = "2025-01"
#: The endpoints of visit-scheduler.
VISITS: Final = (
    _VISITS("GET", "/visits/{reference}", _VISIT),
    _VISITS(
        "GET",
        "/visits/search",
        Page(_VISIT),
        query=Changed(
            (*_WHOSE, "startDateTime", "endDateTime", "page!", "size!"),
            (_NAMED, (*_WHOSE, "visitStartDate", "visitEndDate", "page!", "size!")),
        ),
    ),
    _VISITS("GET", "/config/prisons/supported", ["text"], until=_PRISONS_SINCE),
    _VISITS("GET", "/config/prisons/user-type/{type}/supported", ["text"], since=_PRISONS_SINCE),
)

_LISTED: Final = "2023-11"
_ADJUSTMENT: Final = {
    "bookingId": "integer",
    "sentenceSequence": "integer?",
    "adjustmentType": "text",
    "adjustmentDate": "date?",
    "adjustmentFromDate": "date?",
    "adjustmentDays": "integer",
    "comment": "text?",
    "active": "boolean",
    "offenderNo": since(_LISTED, "text"),
    "bookingReleased": since(_LISTED, "boolean"),
    "agencyId": since(_LISTED, "text?"),
    "currentTerm": since("2024-07", "boolean"),
}
_OF_PERSON: Final = {
    "bookingId": "integer",
    "person": "text",
    "adjustmentType": "text",
    "days": "integer?",
    "effectiveDays": "integer?",
    "prisonId": "text?",
    "createdDate": "date-time?",
    "lastUpdatedDate": "date-time?",
}
#: The endpoints of the adjustments API.
ADJUSTMENTS: Final = (
    Endpoint(
        "GET",
        "/legacy/adjustments/{adjustmentId}",
        _ADJUSTMENT,
        roles=("SENTENCE_ADJUSTMENTS_SYNCHRONISATION",),
    ),
    Endpoint("GET", "/adjustments", [{"id": "text", "adjustment": _OF_PERSON}], query=("person!",), until=_LISTED),
    Endpoint(
        "GET",
        "/adjustments",
        [{"id": "text", **_OF_PERSON}],
        query=("person!", "status", "currentPeriodOfCustody"),
        roles=("ADJUSTMENTS__ADJUSTMENTS_RO",),
        refusals={422: {"status": "integer"}},
        since=_LISTED,
    ),
)
