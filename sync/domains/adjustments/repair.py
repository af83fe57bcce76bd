"""Repairs of adjustments."""

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

from sync.creation.records import CreationRecord
from sync.domains.adjustments import nomis as nomis_adjustments
from sync.domains.repair import EventParts, Record, Repair, as_iso, as_text, known_offender
from sync.upstream.mappings import MappingIds
from sync.upstream.services import Services


class AdjustmentRepair(Repair):
    """What an operator can do about adjustments in NOMIS."""

    noun = "adjustment"
    given = "adjustment id"
    proof: ClassVar = {"sentenceSequence": False, "type": True, "days": True, "date": False, "from": False}

    def read(self, services: Services, ids: MappingIds) -> Record | None:
        number, family = ids.nomis_ids
        found = nomis_adjustments.find_adjustment(services.nomis, nomis_adjustments.category(family), int(number))
        if found is None:
            return None
        return {
            "bookingId": str(found.booking_id),
            "sentenceSequence": as_text(found.sentence_sequence),
            "type": found.adjustment_type.code,
            "days": str(found.adjustment_days),
            "date": as_iso(found.adjustment_date),
            "from": as_iso(found.adjustment_from_date),
            "hidden": "yes" if found.hidden_from_users else "no",
        }

    def remove(self, services: Services, ids: MappingIds, record: Record | None) -> None:
        number, family = ids.nomis_ids
        nomis_adjustments.delete_adjustment(services.nomis, nomis_adjustments.category(family), int(number))

    def objections(self, ids: MappingIds, record: Record) -> Iterator[str]:
        """NOMIS hides what it made itself."""
        if record.get("hidden") == "yes":
            yield f"adjustment {ids.nomis_text} was made by NOMIS itself: investigate"

    def nomis_ids(self, number: int, request: Mapping[str, Any]) -> Mapping[str, Any]:
        """The number in the family of the request."""
        return {"nomisAdjustmentId": number, "nomisAdjustmentCategory": request["category"]}

    def look_for(self, request: Mapping[str, Any]) -> str:
        body = request["body"]
        return (
            f"a {request['category']} adjustment of booking {request['bookingId']}: type {body['adjustmentTypeCode']}, "
            f"{body['adjustmentDays']} days, dated {body['adjustmentDate']}"
        )

    def owner_in(self, request: Mapping[str, Any]) -> str | None:
        return str(request["bookingId"])

    def expected(self, request: Mapping[str, Any]) -> Record:
        body = request["body"]
        return {
            "sentenceSequence": as_text(request.get("sentenceSequence")),
            "type": body["adjustmentTypeCode"],
            "days": str(body["adjustmentDays"]),
            "date": body["adjustmentDate"],
            "from": body.get("adjustmentFromDate"),
        }

    def event_parts(self, record: CreationRecord) -> EventParts:
        offender_no = known_offender(record)
        information = {"id": record.dps_id, "source": "DPS", **({"offenderNo": offender_no} if offender_no else {})}
        return information, None, None
