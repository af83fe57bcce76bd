"""The published endpoints of the NOMIS prisoner API."""

from __future__ import annotations

from functools import partial
from typing import Final

from sandbox.documents.notation import Changed, Endpoint, Maybe, Page, since

NEW_ROLE: Final = "NOMIS_PRISONER_API__SYNCHRONISATION__RW"
#: The month from which the old roles are refused.
_ROLES: Final = "2025-09"
_WORK: Final = "2023-08"


def _of(role: str) -> partial[Endpoint]:
    return partial(Endpoint, roles=Changed((role,), (_ROLES, (NEW_ROLE,))))


_CODE: Final = {"code": "text", "description": "text"}
_VISITS, _INCENTIVES = _of("NOMIS_VISITS"), _of("NOMIS_INCENTIVES")
_ACTIVITIES, _APPOINTMENTS, _SENTENCING = _of("NOMIS_ACTIVITIES"), _of("NOMIS_APPOINTMENTS"), _of("NOMIS_SENTENCING")
_NEW: Final = partial(Endpoint, roles=(NEW_ROLE,))

_VISIT_CHANGE: Final = {
    "startDateTime": "date-time",
    "endTime": "time",
    "visitorPersonIds": ["integer"],
    "room": "text",
    "openClosedStatus": "OPEN|CLOSED|UNKNOWN",
    "visitComment": since("2024-02", "text?"),
}
_VISIT: Final = {
    "visitId": "integer",
    "offenderNo": "text",
    "startDateTime": "date-time",
    "endDateTime": "date-time",
    "prisonId": "text",
    "visitors": [{"personId": "integer", "leadVisitor": "boolean"}],
    "leadVisitor": since("2023-11", Maybe({"personId": "integer"})),
    "visitType": _CODE,
    "visitStatus": _CODE,
    "visitOutcome": Maybe(_CODE),
    "agencyInternalLocation": Maybe(_CODE),
    "commentText": "text?",
    "visitorConcernText": "text?",
    "whenCreated": "date-time",
    "whenUpdated": "date-time?",
    "createUserId": "text?",
    "modifyUserId": "text?",
}
_OF_PRISONER: Final = "/prisoners/{offenderNo}/visits"
_VISIT_ENDPOINTS: Final = (
    _VISITS(
        "POST",
        _OF_PRISONER,
        {"visitId": "integer"},
        {
            **_VISIT_CHANGE,
            "visitComment": "text?",
            "prisonId": "text",
            "visitType": "SCON|OFFI",
            "issueDate": "date",
            "visitOrderComment": "text?",
        },
        status=201,
        refusals=since("2024-06", {409: {"status": "integer", "moreInfo": "text?"}}),
    ),
    _VISITS("PUT", f"{_OF_PRISONER}/{{visitId}}", None, _VISIT_CHANGE),
    _VISITS(
        "PUT",
        f"{_OF_PRISONER}/{{visitId}}/cancel",
        None,
        {"outcome": "ADMIN|NSHOW|OFFCANC|VISCANC", "visitComment": since("2024-02", "text?")},
        refusals={409: {"status": "integer"}},
    ),
    _VISITS("GET", "/visits/{visitId}", _VISIT),
    _VISITS(
        "GET",
        "/visits/ids",
        Page({"visitId": "integer"}),
        query=("prisonIds", "visitTypes", "fromDateTime", "toDateTime"),
    ),
    _NEW("GET", "/prisoners/{offenderNo}/visit-balance", Maybe({"remainingVisitOrders": "integer"}), since="2025-04"),
)

_IEP: Final = {
    "offenderNo": "text",
    "bookingId": "integer",
    "incentiveSequence": "integer",
    "commentText": "text?",
    "iepDateTime": "date-time",
    "prisonId": "text",
    "iepLevel": _CODE,
    "userId": "text?",
    "currentIep": "boolean",
    "auditModule": Changed("OCUWARNG|PRISON_API|OIDADMIS|MERGE|OIDOIEPS|OIDITRAN|OSIOSEAR", ("2023-11", "text?")),
    "whenCreated": "date-time",
    "whenUpdated": "date-time?",
}
_LEVEL: Final = {"description": "text", "active": "boolean", "domain": "text", "code": "text"}
_HELD_LEVEL: Final = {**_LEVEL, "sequence": "integer?", "parentCode": "text?", "expiredDate": "date?"}
_LIMITED: Final = (
    "visitOrderAllowance",
    "privilegedVisitOrderAllowance",
    "remandTransferLimitInPence",
    "remandSpendLimitInPence",
    "convictedTransferLimitInPence",
    "convictedSpendLimitInPence",
)
_LIMITS: Final = dict.fromkeys(_LIMITED, "integer?")
_PRISON_LEVEL: Final = {"levelCode": "text", "active": "boolean", "defaultOnAdmission": "boolean", **_LIMITS}
_HELD_PRISON_LEVEL: Final = {"prisonId": "text", "iepLevelCode": "text", "active": "boolean", **_LIMITS}
_BOOKING, _CODES, _PRISON = (
    "/incentives/booking-id/{bookingId}",
    "/incentives/reference-codes",
    "/incentives/prison/{prison}",
)
_NEW_IEP: Final = {
    "iepLevel": "text",
    "iepDateTime": "date-time",
    "prisonId": "text",
    "userId": "text",
    "comments": "text?",
}
_INCENTIVE_ENDPOINTS: Final = (
    _INCENTIVES(
        "POST",
        "/prisoners/booking-id/{bookingId}/incentives",
        {"bookingId": "integer", "sequence": "integer"},
        _NEW_IEP,
        status=201,
        until="2026-06",
    ),
    _INCENTIVES(
        "POST",
        "/prisoners/{offenderNo}/incentives",
        {"bookingId": "integer", "sequence": "integer"},
        _NEW_IEP,
        status=201,
        since="2026-06",
    ),
    _INCENTIVES("GET", f"{_BOOKING}/current", _IEP),
    _INCENTIVES("GET", f"{_BOOKING}/incentive-sequence/{{incentiveSequence}}", _IEP),
    _INCENTIVES(
        "GET",
        "/incentives/ids",
        Page({"bookingId": "integer", "sequence": "integer"}),
        query=("fromDate", "toDate", "latestOnly"),
    ),
    _INCENTIVES("GET", f"{_CODES}/{{code}}", _HELD_LEVEL),
    _INCENTIVES("POST", _CODES, _HELD_LEVEL, _LEVEL, status=201),
    _INCENTIVES("PUT", f"{_CODES}/{{code}}", _HELD_LEVEL, _LEVEL),
    _INCENTIVES("POST", f"{_CODES}/reorder", None, {"codeList": ["text"]}),
    _INCENTIVES("GET", f"{_PRISON}/code/{{code}}", _HELD_PRISON_LEVEL),
    _INCENTIVES("POST", _PRISON, _HELD_PRISON_LEVEL, _PRISON_LEVEL, status=201),
    _INCENTIVES("PUT", f"{_PRISON}/code/{{code}}", _HELD_PRISON_LEVEL, _PRISON_LEVEL),
)

_SESSION: Final = {
    "date": "date",
    "startTime": "time",
    "endTime": "time",
    "cancelled": "boolean?",
}
_DAYS: Final = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_COURSE_CHANGE: Final = {
    "startDate": "date",
    "endDate": "date?",
    "internalLocationId": "integer?",
    "capacity": "integer",
    "payRates": [
        {
            "incentiveLevel": "text",
            "payBand": "text",
            "rate": "number",
            "startDate": since("2024-10", "date?"),
            "endDate": since("2024-10", "date?"),
        }
    ],
    "description": "text",
    "minimumIncentiveLevelCode": Changed("text", ("2023-12", "text?")),
    "programCode": "text",
    "payPerSession": "H|F",
    "schedules": [{**_SESSION, "id": since("2023-06", "integer?")}],
    "scheduleRules": [{"startTime": "time", "endTime": "time", **dict.fromkeys(_DAYS, "boolean")}],
    "excludeBankHolidays": "boolean",
    "outsideWork": since(_WORK, "boolean"),
}
_COURSE: Final = "/activities/{courseActivityId}"
_MADE: Final = {"courseActivityId": "integer", "courseSchedules": since("2023-06", [{"courseScheduleId": "integer"}])}
_OF_BOOKING: Final = f"{_COURSE}/booking/{{bookingId}}/attendance"
_ATTENDED: Final = {"scheduleDate": "date", "startTime": "time", "endTime": "time"}
_ATTENDANCE: Final = {
    **_ATTENDED,
    "eventStatusCode": "text",
    "eventOutcomeCode": "text?",
    "comments": "text?",
    "unexcusedAbsence": "boolean?",
    "authorisedAbsence": "boolean?",
    "paid": "boolean?",
    "bonusPay": "number?",
}
_UPSERTED: Final = {"eventId": "integer", "courseScheduleId": "integer", "created": "boolean"}
_COUNTS: Final = {"prisonId": "text", "bookings": [{"bookingId": "integer", "count": "integer"}]}
_ACTIVITY_ENDPOINTS: Final = (
    _ACTIVITIES("POST", "/activities", _MADE, {**_COURSE_CHANGE, "code": "text", "prisonId": "text"}, status=201),
    _ACTIVITIES("PUT", _COURSE, since("2023-06", _MADE), _COURSE_CHANGE),
    _ACTIVITIES("DELETE", _COURSE, status=204, since="2023-06"),
    _ACTIVITIES(
        "PUT",
        f"{_COURSE}/schedule",
        {"courseScheduleId": "integer"},
        {"id": since("2023-06", "integer"), **_SESSION},
    ),
    _ACTIVITIES(
        "PUT",
        f"{_COURSE}/allocation",
        {"offenderProgramReferenceId": "integer", "created": "boolean", "prisonId": since("2023-12", "text")},
        {
            "bookingId": "integer",
            "payBandCode": Changed("text", ("2023-11", "text?")),
            "startDate": "date",
            "endDate": "date?",
            "endReason": "text?",
            "endComment": "text?",
            "suspended": "boolean?",
            "suspendedComment": "text?",
            "programStatusCode": since("2023-06", "text"),
            "exclusions": since("2023-11", Maybe([{"day": "text", "slot": "text?"}])),
        },
    ),
    _ACTIVITIES("DELETE", "/allocations/{referenceId}", status=204, since="2023-06"),
    _ACTIVITIES("POST", _OF_BOOKING, _UPSERTED, _ATTENDANCE, until="2023-06"),
    _ACTIVITIES("POST", f"{_OF_BOOKING}-status", {"eventStatus": "text"}, _ATTENDED, until="2023-06"),
    _ACTIVITIES(
        "PUT",
        "/schedules/{courseScheduleId}/booking/{bookingId}/attendance",
        {**_UPSERTED, "prisonId": "text"},
        _ATTENDANCE,
        since="2023-06",
    ),
    _ACTIVITIES("DELETE", "/attendances/{eventId}", status=204, since="2023-06"),
    _NEW("GET", "/allocations/reconciliation/{prisonId}", _COUNTS, query=("suspended",), since="2023-10"),
    _NEW(
        "GET", "/attendances/reconciliation/{prisonId}", {**_COUNTS, "date": "date"}, query=("date!",), since="2023-10"
    ),
    _NEW("GET", "/agency-switches/{serviceCode}", [{"agencyId": "text", "name": "text"}], since="2025-06"),
    _NEW("GET", "/agency-switches/{serviceCode}/agency/{agencyId}", status=204, since="2025-06"),
    _NEW("GET", "/agency-switches/{serviceCode}/prisoner/{prisonNumber}", status=204, since="2025-06"),
    _NEW(
        "GET",
        "/service-prisons/{serviceCode}",
        [{"prisonId": "text", "name": "text"}],
        since="2023-10",
        until="2025-06",
    ),
)

_APPOINTMENT_CHANGE: Final = {
    "eventDate": "date",
    "startTime": "time",
    "endTime": Changed("time", ("2024-03", "time?")),
    "internalLocationId": Changed("integer", ("2024-03", "integer?")),
    "eventSubType": "text",
    "comment": since("2024-03", "text?"),
}
_APPOINTMENT: Final = {
    "eventId": since("2024-01", "integer"),
    "bookingId": "integer",
    "offenderNo": "text",
    "prisonId": "text?",
    "internalLocation": "integer?",
    "startDateTime": "date-time?",
    "endDateTime": "date-time?",
    "comment": "text?",
    "subtype": "text",
    "status": "text",
    "createdDate": "date-time",
    "createdBy": "text",
    "modifiedDate": "date-time?",
    "modifiedBy": "text?",
}
_APPOINTMENT_ENDPOINTS: Final = (
    _APPOINTMENTS(
        "POST", "/appointments", {"eventId": "integer"}, {"bookingId": "integer", **_APPOINTMENT_CHANGE}, status=201
    ),
    _APPOINTMENTS("PUT", "/appointments/{nomisEventId}", None, _APPOINTMENT_CHANGE),
    _APPOINTMENTS("PUT", "/appointments/{nomisEventId}/cancel"),
    _APPOINTMENTS("DELETE", "/appointments/{nomisEventId}", status=204),
    _APPOINTMENTS("GET", "/appointments/{eventId}", _APPOINTMENT),
    _APPOINTMENTS(
        "GET",
        "/appointments/booking/{bookingId}/location/{locationId}/start/{dateTime}",
        Changed(_APPOINTMENT, ("2026-01", [_APPOINTMENT])),
    ),
    _APPOINTMENTS(
        "GET",
        "/appointments/ids",
        Page({"eventId": "integer"}),
        query=Changed(("prisonIds", "fromDate", "toDate"), ("2024-01", ("prisonIds!", "fromDate", "toDate"))),
    ),
)

_ADJUSTMENT: Final = {
    "adjustmentTypeCode": "text",
    "adjustmentDate": "date?",
    "adjustmentFromDate": "date?",
    "adjustmentDays": "integer",
    "comment": "text?",
    "active": Changed("boolean", ("2024-01", "boolean?")),
}
_HELD_ADJUSTMENT: Final = {
    "id": "integer",
    "bookingId": "integer",
    "offenderNo": "text",
    "bookingSequence": since("2023-11", "integer"),
    "hasBeenReleased": since("2023-11", "boolean"),
    "prisonId": since("2023-11", "text"),
    "adjustmentType": _CODE,
    "adjustmentDate": "date?",
    "adjustmentFromDate": "date?",
    "adjustmentToDate": "date?",
    "adjustmentDays": "integer",
    "comment": "text?",
    "active": "boolean",
}
_OF_SENTENCE: Final = {**_HELD_ADJUSTMENT, "sentenceSequence": "integer", "hiddenFromUsers": "boolean"}
_BOOKED: Final = "/prisoners/booking-id/{bookingId}"
_ONE_OF_SENTENCE, _ONE_OF_KEY_DATE = "/sentence-adjustments/{adjustmentId}", "/key-date-adjustments/{adjustmentId}"
_OF_KEY_DATE: Final = {**_ADJUSTMENT, "adjustmentFromDate": "date"}
_ADJUSTMENT_ENDPOINTS: Final = (
    _SENTENCING(
        "POST", f"{_BOOKED}/sentences/{{sentenceSequence}}/adjustments", {"id": "integer"}, _ADJUSTMENT, status=201
    ),
    _SENTENCING("POST", f"{_BOOKED}/adjustments", {"id": "integer"}, _OF_KEY_DATE, status=201),
    _SENTENCING("PUT", _ONE_OF_SENTENCE, None, {**_ADJUSTMENT, "sentenceSequence": since("2023-10", "integer")}),
    _SENTENCING("PUT", _ONE_OF_KEY_DATE, None, _OF_KEY_DATE),
    _SENTENCING("DELETE", _ONE_OF_SENTENCE, status=204),
    _SENTENCING("DELETE", _ONE_OF_KEY_DATE, status=204),
    _SENTENCING("GET", _ONE_OF_SENTENCE, _OF_SENTENCE),
    _SENTENCING("GET", _ONE_OF_KEY_DATE, _HELD_ADJUSTMENT),
    _SENTENCING(
        "GET",
        "/adjustments/ids",
        Page({"adjustmentId": "integer", "adjustmentCategory": "SENTENCE|KEY_DATE"}),
        query=("fromDate", "toDate"),
        until="2025-12",
    ),
    _NEW(
        "GET",
        f"{_BOOKED}/sentencing-adjustments",
        {"keyDateAdjustments": [_HELD_ADJUSTMENT], "sentenceAdjustments": [_OF_SENTENCE]},
        query=("active-only",),
        since="2023-11",
    ),
)

_PRISONER: Final = {"bookingId": "integer", "offenderNo": "text"}
_PRISONER_ENDPOINTS: Final = (
    Endpoint(
        "GET",
        "/prisoners/ids",
        Page(_PRISONER),
        query=("active",),
        roles=Changed(("SYNCHRONISATION_REPORTING",), (_ROLES, (NEW_ROLE,))),
        deprecated=since("2025-06", "Use GET /bookings/ids/latest-from-id instead"),
    ),
    _NEW(
        "POST",
        "/prisoners/bookings",
        [{**_PRISONER, "location": "text?", "active": "boolean"}],
        ["integer"],
        since="2023-10",
    ),
    _NEW(
        "GET",
        "/bookings/ids/latest-from-id",
        {"prisonerIds": [_PRISONER], "lastBookingId": "integer"},
        query=("bookingId", "activeOnly", "pageSize"),
        since="2025-01",
    ),
)
ENDPOINTS: Final = (
    *_VISIT_ENDPOINTS,
    *_INCENTIVE_ENDPOINTS,
    *_ACTIVITY_ENDPOINTS,
    *_APPOINTMENT_ENDPOINTS,
    *_ADJUSTMENT_ENDPOINTS,
    *_PRISONER_ENDPOINTS,
)
