"""What the incentives API publishes."""

from __future__ import annotations

from functools import partial
from typing import Final

from sandbox.documents.notation import Endpoint, Maybe

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
ENDPOINTS: Final = (
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
