"""Says what to do about duplicate IEP records in NOMIS, and writes reviews to NOMIS late or again.

Only the NOMIS support team can delete an IEP record.
"""

from collections.abc import Mapping
from typing import Any

from sync.creation.creation import creation_lease
from sync.creation.protocol import CreationProtocol
from sync.domains.incentives import nomis as nomis_incentives
from sync.domains.incentives.rules import CREATION
from sync.domains.repair_declaration import (
    SUPPORT_CHANNEL,
    AdvisingRepair,
    EventParts,
    Record,
    iso_or_none,
    known_offender,
)
from sync.events.context import HandlerContext, Outcome
from sync.events.envelope import DomainEvent
from sync.store.creations import CreationRecord
from sync.upstream.mappings import MappingIds
from sync.upstream.services import Services


class IncentiveRepair(AdvisingRepair):
    """What an operator can do about IEP records in NOMIS."""

    noun = "IEP record"
    given = "sequence"
    harm = "If both records have the same level, there is no harm: the prisoner's history just shows the review twice."
    dps_property = "id"
    time_of = ("iepDate", "iepTime")
    removal = f"ask {SUPPORT_CHANNEL} to delete {{record}}"

    def read(self, services: Services, ids: MappingIds) -> Record | None:
        """The booking, prisoner, level, date and time, and prison of the record.

        `current` says whether it is the current record of the booking.
        """
        booking_id, sequence = (int(each) for each in ids.nomis_ids)
        found = nomis_incentives.iep_record(services.nomis, booking_id, sequence)
        if found is None:
            return None
        return {
            "bookingId": str(found.booking_id),
            "offenderNo": found.offender_no,
            "level": found.iep_level.code,
            "date": iso_or_none(found.iep_date_time),
            "prisonId": found.prison_id,
            "current": "yes" if found.current_iep else "no",
        }

    def advice(self, duplicate: Record | None, mapped: Record | None) -> str:
        """A phrase that says whether the records differ in level, which does harm, and what to do."""
        same = self.is_harmless(duplicate, mapped)
        level = "both records have the same level, so they do no harm" if same else "the records differ in level"
        return f"{level}; if a prison complains, send the support request"

    def is_harmless(self, duplicate: Record | None, mapped: Record | None) -> bool:
        """Whether both records have the same level. If so, the duplicate changes nothing for the prisoner."""
        return duplicate is not None and mapped is not None and duplicate["level"] == mapped["level"]

    def support_request(self, duplicate: MappingIds, mapped: MappingIds, offender_no: str | None) -> str | None:
        """The request to delete the duplicate of the mapped record."""
        booking_id, sequence = duplicate.nomis_ids
        return (
            f"To {SUPPORT_CHANNEL}: please delete the IEP record with sequence {sequence} of prisoner "
            f"{offender_no or 'unknown'}, booking {booking_id}. It repeats the record with sequence "
            f"{mapped.nomis_ids[1]}; both records come from DPS review {duplicate.dps_id}."
        )

    def nomis_ids(self, number: int, request: Mapping[str, Any]) -> Mapping[str, Any]:
        """The booking of the request, and `number` as the sequence of the record."""
        return {"nomisBookingId": request["bookingId"], "nomisIncentiveSequence": number}

    def search_text(self, request: Mapping[str, Any]) -> str:
        """A phrase with the booking, level, date and time, and prison. It asks for the sequence of the record."""
        body = request["body"]
        return (
            f"an IEP record of booking {request['bookingId']}: level {body['iepLevel']}, {body['iepDateTime']}, "
            f"{body['prisonId']}; give its sequence"
        )

    def owner_in(self, request: Mapping[str, Any]) -> str | None:
        """The booking of the request."""
        return str(request["bookingId"])

    def expected(self, request: Mapping[str, Any]) -> Record:
        """The level, the date and time, and the prison."""
        body = request["body"]
        return {"level": body["iepLevel"], "date": body["iepDateTime"], "prisonId": body["prisonId"]}

    def event_parts(self, record: CreationRecord) -> EventParts:
        """The id of the review, and the prisoner number if it is known."""
        offender_no = known_offender(record)
        return {"id": int(record.dps_id), **({"nomsNumber": offender_no} if offender_no else {})}, None, None


def create_late(creations: CreationProtocol, context: HandlerContext, review_id: int, offender_no: str) -> Outcome:
    """Creates the IEP record that NOMIS never had for a review, as the handler of the event about the review would.

    If that event arrives later, it counts as a duplicate.
    """
    information = {"id": review_id, "nomsNumber": offender_no}
    event = DomainEvent(CREATION.event_type, additional_information=information)
    context.bind(**CREATION.start(event))
    return creations.create(CREATION, event, context)


def write_again(context: HandlerContext, review_id: int, booking_id: int, body: Mapping[str, object]) -> int:
    """Writes the level of a mapped review to NOMIS again, as a new IEP record.

    Returns the sequence of the new record. `body` is a `CreateIep` as JSON. The mapping of the review stays as it is,
    so a further event about the review counts as a duplicate.
    """
    with (
        context.lease(creation_lease(CREATION.name, str(review_id))),
        context.lease(f"incentive-booking:{booking_id}"),
    ):
        return nomis_incentives.create_iep(context.services.nomis, booking_id, body).sequence
