"""What visit-scheduler, the adjustments API and prisoner-offender-search publish."""

from __future__ import annotations

from functools import partial
from typing import Final

from sandbox.documents.notation import Changed, Endpoint, Maybe, Page, since, until

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
PRISONER_SEARCH: Final = (
    Endpoint(
        "PUT",
        "/events/prisoner/received/{prisonerNumber}",
        None,
        {"reason": "text", "prisonId": "text", "occurredAt": "date-time"},
        roles=("EVENTS_ADMIN",),
        status=202,
        # The indexer has it since then, at a separate address.
        until="2024-05",
    ),
)
