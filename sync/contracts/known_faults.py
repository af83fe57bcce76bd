"""Differences that do not count as drift: faults of a document, and what the program does against the document."""

from dataclasses import dataclass

from sync.contracts.compare import OperationDifference
from sync.settings.upstreams import UpstreamName


@dataclass(frozen=True, slots=True)
class KnownFault:
    """A difference that is not reported.

    operations: those it is about, as `POST /appointments`. kinds: the kinds of difference. field: the field, empty for
    all. reason: why it does not count as drift. until: the month from which a document has to be right, empty if it
    never matters.
    """

    service: UpstreamName
    operations: tuple[str, ...]
    kinds: tuple[str, ...]
    reason: str
    field: str = ""
    until: str = ""

    def explains(self, service: UpstreamName, month: str, difference: OperationDifference) -> bool:
        """Whether it is the reason for a difference from a document of that month."""
        return (
            service is self.service
            and difference.operation in self.operations
            and difference.kind in self.kinds
            and self.field in ("", difference.field)
            and not (self.until and self.until <= month)
        )


_NOMIS = UpstreamName.NOMIS
_SENT_AT_TIMES = ("body-required",)
#: The documents of May 2023 are those of the fault.
_JUNE = "2023-06"
_AT = "GET /appointments/booking/{bookingId}/location/{locationId}/start/{dateTime}"

KNOWN_FAULTS = (
    KnownFault(
        _NOMIS,
        ("DELETE /activities/{courseActivityId}", "DELETE /allocations/{referenceId}", "DELETE /attendances/{eventId}"),
        ("operation-gone",),
        "the deletes for repairs were there in May 2023 and not in the document",
        until=_JUNE,
    ),
    KnownFault(
        _NOMIS,
        ("POST /incentives/reference-codes", "PUT /incentives/reference-codes/{code}"),
        ("body-unknown", "body-required"),
        "the document of May 2023 showed the body of an IEP record, which has the same name in the code of NOMIS",
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
        "the document of May 2023 asked for the booking, which NOMIS never read in an update",
        field="bookingId",
        until=_JUNE,
    ),
    KnownFault(
        _NOMIS,
        ("GET /key-date-adjustments/{adjustmentId}",),
        ("field-gone",),
        "an adjustment of a key date has no sentence",
        field="sentenceSequence",
    ),
    KnownFault(
        _NOMIS,
        ("GET /key-date-adjustments/{adjustmentId}",),
        ("field-gone",),
        "NOMIS hides adjustments of sentences alone",
        field="hiddenFromUsers",
    ),
    KnownFault(
        _NOMIS,
        ("POST /prisoners/booking-id/{bookingId}/incentives",),
        _SENT_AT_TIMES,
        "the key is always sent, and null where DPS names nobody",
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
        "DPS has a lowest incentive level for every activity, until December 2023, when NOMIS no longer asks for one",
        field="minimumIncentiveLevelCode",
    ),
    KnownFault(
        _NOMIS,
        ("PUT /activities/{courseActivityId}/allocation",),
        _SENT_AT_TIMES,
        "DPS has a pay band for every allocation, until November 2023, when NOMIS no longer asks for one",
        field="payBandCode",
    ),
    KnownFault(
        _NOMIS,
        ("POST /appointments", "PUT /appointments/{nomisEventId}"),
        _SENT_AT_TIMES,
        "an appointment in a cell has no location; NOMIS refuses it, and the message says so",
        field="internalLocationId",
    ),
    KnownFault(
        _NOMIS,
        ("POST /prisoners/booking-id/{bookingId}/adjustments", "PUT /key-date-adjustments/{adjustmentId}"),
        _SENT_AT_TIMES,
        "DPS may lack the from-date of a key-date adjustment; NOMIS refuses it, and the message says so",
        field="adjustmentFromDate",
    ),
)


def known_reason(service: UpstreamName, month: str, difference: OperationDifference) -> str | None:
    """Why a difference does not count as drift; None if it does."""
    return next((each.reason for each in KNOWN_FAULTS if each.explains(service, month, difference)), None)
