"""Writes prisoners' incentive reviews to NOMIS, as IEP records."""

from collections.abc import Iterator, Sequence
from datetime import datetime

from sync.alerting import Severity
from sync.clock import local_seconds
from sync.creation.creation import Creation, Json, Prepared, earliest_creation
from sync.domains.incentives import dps as incentives_api
from sync.domains.incentives import nomis as nomis_incentives
from sync.domains.incentives.nomis import IepRecord
from sync.errors import RuleError
from sync.events.context import HandlerContext
from sync.events.envelope import DomainEvent, MappingRetry
from sync.settings.upstreams import UpstreamName
from sync.store.telemetry import Properties
from sync.upstream.mappings import Mappings
from sync.upstream.responses import RecordNumber, Response
from sync.upstream.services import Services

#: The prefixes of the entities of reviews: a prisoner, or the review if the event does not name a prisoner.
OF_PRISONER, OF_REVIEW = "incentive:", "incentive-review:"

#: The reason in the event about a review that a user made in NOMIS, which therefore already has the review.
_MADE_IN_NOMIS = "USER_CREATED_NOMIS"

#: Support may have deleted records, so some sequences may be missing. This many missing sequences in a row mark the end
#: of the records.
_LONGEST_GAP = 3


class _Mapping(Response):
    incentive_id: RecordNumber
    nomis_booking_id: RecordNumber
    nomis_incentive_sequence: RecordNumber


MAPPINGS = Mappings(
    path="/mapping/incentives",
    role="NOMIS_INCENTIVES",
    model=_Mapping,
    dps="incentiveId",
    nomis=("nomisBookingId", "nomisIncentiveSequence"),
    by_dps="incentive-id/{incentiveId}",
    by_nomis="nomis-booking-id/{nomisBookingId}/nomis-incentive-sequence/{nomisIncentiveSequence}",
)


class IncentiveCreation(Creation):
    """Creates an IEP record for a review, in the booking of the review."""

    event_type = "incentives.iep-review.inserted"
    name = "incentive"
    queue = "incentive"
    event_id = "id"
    mappings = MAPPINGS
    numeric_ids = True
    retry_success = "incentive-retry-success"
    severity = Severity.LOW
    may_be_ignored = True

    def entity(self, event: DomainEvent) -> str:
        """The prisoner, or the review if the event does not name a prisoner."""
        # NOMIS keeps the records of one day in the order in which they were written, so reviews of a prisoner are
        # handled one at a time.
        offender_no = event.optional_text("nomsNumber")
        return f"{OF_PRISONER}{offender_no}" if offender_no else f"{OF_REVIEW}{self.dps_id(event)}"

    def start(self, event: DomainEvent) -> Properties:
        """The id of the review, and the prisoner number (`unknown` if the event does not contain one)."""
        return {"id": self.dps_id(event), "offenderNo": event.optional_text("nomsNumber") or "unknown"}

    def is_ignored(self, event: DomainEvent) -> bool:
        """Whether a user made the review in NOMIS, which therefore already has it."""
        return event.optional_text("reason") == _MADE_IN_NOMIS

    def prepare(self, event: DomainEvent, context: HandlerContext) -> Prepared:
        """Makes the request from the review as DPS has it now. The create also needs the lease of the booking.

        Raises `RuleError` if the review does not name a prison.
        """
        context.step("read review")
        review = incentives_api.review(context.services[UpstreamName.INCENTIVES], self.dps_id(event))
        context.bind(
            prisonId=review.agency_id,
            iep=review.iep_code,
            iepDate=review.iep_date.isoformat(),
            iepTime=review.iep_time.time().isoformat(),
        )
        if review.agency_id is None:
            raise RuleError("the review names no prison")
        body = nomis_incentives.CreateIep(
            iep_level=review.iep_code,
            iep_date_time=local_seconds(datetime.combine(review.iep_date, review.iep_time.time())),
            prison_id=review.agency_id,
            user_id=review.user_id,
            comments=review.comments,
        )
        request = {"incentiveId": review.id, "bookingId": review.booking_id, "body": body.as_json()}
        return Prepared(request, leases=(f"incentive-booking:{review.booking_id}",))

    def create(self, request: Json, services: Services) -> Json:
        """Creates the IEP record. NOMIS assigns its sequence in the booking."""
        made = nomis_incentives.create_iep(services.nomis, request["bookingId"], request["body"])
        return {"nomisBookingId": made.booking_id, "nomisIncentiveSequence": made.sequence}

    def locate(self, request: Json, since: datetime, services: Services) -> Sequence[Json]:
        """The NOMIS ids of the records that are equal to the request and may have been written after `since`."""
        booking_id = request["bookingId"]
        return [
            {"nomisBookingId": booking_id, "nomisIncentiveSequence": record.incentive_sequence}
            for record in _records_since(booking_id, earliest_creation(since), services)
            if _is_equal(record, request["body"])
        ]

    def subject(self, request: Json) -> str:
        """The booking, which may have several equal records."""
        return f"booking:{request['bookingId']}"

    def mapping(self, dps_id: str, nomis_ids: Json) -> Json:
        """The mapping of a review to an IEP record, which is identified by booking id and sequence."""
        return {
            "nomisBookingId": nomis_ids["nomisBookingId"],
            "nomisIncentiveSequence": nomis_ids["nomisIncentiveSequence"],
            "incentiveId": int(dps_id),
            "label": None,
            "mappingType": "INCENTIVE_CREATED",
            "whenCreated": None,
        }

    def retry_properties(self, retry: MappingRetry) -> Properties:
        """The ids of both records, in the form that the replaced service used in telemetry."""
        ids = {**self.retry_nomis_ids(retry), "incentiveId": self.retry_dps_id(retry)}
        return {"id": f"IncentiveMapping({', '.join(f'{name}={value}' for name, value in ids.items())})"}


def _records_since(booking_id: int, earliest: datetime, services: Services) -> Iterator[IepRecord]:
    """The records of the booking that were created at or after `earliest`, which is in London time.

    Sequences increase with the time of writing, but the current record is the one with the latest date. So a record
    that was written after the current record, but has an earlier date, has a higher sequence than the current record.
    """
    current = nomis_incentives.current_iep(services.nomis, booking_id)
    if current is None:
        return
    if current.when_created >= earliest:
        yield current
    for step in (1, -1):
        sequence, gap = current.incentive_sequence + step, 0
        while sequence > 0 and gap < _LONGEST_GAP:
            record = nomis_incentives.iep_record(services.nomis, booking_id, sequence)
            gap = gap + 1 if record is None else 0
            if record is not None:
                if record.when_created < earliest:
                    break
                yield record
            sequence += step


def _is_equal(record: IepRecord, body: Json) -> bool:
    held = (record.iep_level.code, local_seconds(record.iep_date_time), record.prison_id, record.user_id)
    return held == (body["iepLevel"], body["iepDateTime"], body["prisonId"], body["userId"])


CREATION = IncentiveCreation()
