"""Lists differences that do not count as drift: faults in documents, and deliberate deviations from them."""

from dataclasses import dataclass

from sync.contracts.compare import OperationDifference
from sync.settings.upstreams import UpstreamName


@dataclass(frozen=True, slots=True)
class KnownFault:
    """Differences that do not count as drift.

    operations: the operations that have them, such as `POST /appointments`. kinds: the kinds of the differences.
    reason: why they do not count. field: the field that differs, or empty for any field. until: the month from which
    the differences count, or empty if they never count.
    """

    service: UpstreamName
    operations: tuple[str, ...]
    kinds: tuple[str, ...]
    reason: str
    field: str = ""
    until: str = ""

    def explains(self, service: UpstreamName, month: str, difference: OperationDifference) -> bool:
        """Whether this fault explains `difference`, found in the document that `service` had in `month`."""
        return (
            service is self.service
            and difference.operation in self.operations
            and difference.kind in self.kinds
            and self.field in ("", difference.field)
            and not (self.until and self.until <= month)
        )


_NOMIS = UpstreamName.NOMIS
_SENT_AT_TIMES = ("body-required",)
#: Documents from this month on no longer have the faults of the documents of May 2023.
_JUNE = "2023-06"
_AT = "GET /appointments/booking/{bookingId}/location/{locationId}/start/{dateTime}"

KNOWN_FAULTS = (
    KnownFault(
        _NOMIS,
        ("DELETE /activities/{courseActivityId}", "DELETE /allocations/{referenceId}", "DELETE /attendances/{eventId}"),
        ("operation-gone",),
        "the delete endpoints for repairs existed in May 2023, but were missing from the document",
        until=_JUNE,
    ),
    KnownFault(
        _NOMIS,
        ("POST /incentives/reference-codes", "PUT /incentives/reference-codes/{code}"),
        ("body-unknown", "body-required"),
        "the document of May 2023 showed the body of an IEP record, since the classes of both bodies had the same name",
        until=_JUNE,
    ),
    KnownFault(
        _NOMIS,
        ("POST /appointments", "GET /appointments/{eventId}", _AT),
        ("field-gone",),
        "the document of May 2023 showed the request as the response",
        until=_JUNE,
    ),
    KnownFault(
        _NOMIS,
        ("PUT /appointments/{nomisEventId}",),
        ("body-required",),
        "the document of May 2023 required the booking, which NOMIS never read in an update",
        field="bookingId",
        until=_JUNE,
    ),
    KnownFault(
        _NOMIS,
        ("GET /key-date-adjustments/{adjustmentId}",),
        ("field-gone",),
        "an adjustment to a key date has no sentence",
        field="sentenceSequence",
    ),
    KnownFault(
        _NOMIS,
        ("GET /key-date-adjustments/{adjustmentId}",),
        ("field-gone",),
        "NOMIS hides only adjustments to sentences",
        field="hiddenFromUsers",
    ),
    KnownFault(
        _NOMIS,
        ("POST /prisoners/booking-id/{bookingId}/incentives",),
        _SENT_AT_TIMES,
        "the field is always sent, as null if DPS does not name a user",
        field="userId",
    ),
    KnownFault(
        _NOMIS,
        ("PUT /prisoners/{offenderNo}/visits/{visitId}/cancel",),
        ("value-refused",),
        "the document lists fewer outcomes than NOMIS accepts",
        field="outcome",
    ),
    KnownFault(
        _NOMIS,
        ("POST /activities", "PUT /activities/{courseActivityId}"),
        _SENT_AT_TIMES,
        "every DPS activity had a minimum incentive level until December 2023, when NOMIS stopped requiring one",
        field="minimumIncentiveLevelCode",
    ),
    KnownFault(
        _NOMIS,
        ("PUT /activities/{courseActivityId}/allocation",),
        _SENT_AT_TIMES,
        "every DPS allocation had a pay band until November 2023, when NOMIS stopped requiring one",
        field="payBandCode",
    ),
    KnownFault(
        _NOMIS,
        ("POST /appointments", "PUT /appointments/{nomisEventId}"),
        _SENT_AT_TIMES,
        "an appointment in a cell has no location; NOMIS refuses the appointment, and the failed message says so",
        field="internalLocationId",
    ),
    KnownFault(
        _NOMIS,
        ("POST /prisoners/booking-id/{bookingId}/adjustments", "PUT /key-date-adjustments/{adjustmentId}"),
        _SENT_AT_TIMES,
        "an adjustment to a key date is always sent with a from-date: the adjustment date if DPS gives none",
        field="adjustmentFromDate",
    ),
)


def known_reason(service: UpstreamName, month: str, difference: OperationDifference) -> str | None:
    """The reason why `difference` does not count as drift, or None if it counts."""
    return next((each.reason for each in KNOWN_FAULTS if each.explains(service, month, difference)), None)
