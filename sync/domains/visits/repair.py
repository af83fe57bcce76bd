"""Repairs of visits: a duplicate is cancelled, since NOMIS deletes no visit."""

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

from sync.creation.records import CreationRecord
from sync.domains.repair import EventParts, Record, Repair, as_iso
from sync.domains.visits import nomis as nomis_visits
from sync.domains.visits.nomis import CancelVisit
from sync.failures import UpstreamError
from sync.upstream.mappings import MappingIds
from sync.upstream.services import Services

#: An administrative error.
_OUTCOME = "ADMIN"
_SCHEDULED, _CANCELLED = "SCH", "CANC"


class VisitRepair(Repair):
    """What an operator can do about visits in NOMIS."""

    noun = "visit"
    given = "visit id"
    owner = "offenderNo"
    proof: ClassVar = {"start": True, "prisonId": True}
    removal = f"cancel with outcome {_OUTCOME}"
    deletes_mappings = False

    def read(self, services: Services, ids: MappingIds) -> Record | None:
        """The visit; `namesReference` says whether its comment names the DPS visit."""
        visit = nomis_visits.find_visit(services.nomis, int(ids.nomis_ids[0]))
        if visit is None:
            return None
        return {
            "offenderNo": visit.offender_no,
            "prisonId": visit.prison_id,
            "start": as_iso(visit.start_date_time),
            "end": as_iso(visit.end_date_time),
            "status": None if visit.visit_status is None else visit.visit_status.code,
            "namesReference": "yes" if visit.names(ids.dps_id) else "no",
        }

    def remove(self, services: Services, ids: MappingIds, record: Record | None) -> None:
        assert record is not None
        offender_no = record["offenderNo"]
        assert offender_no is not None
        try:
            nomis_visits.cancel_visit(services.nomis, offender_no, int(ids.nomis_ids[0]), CancelVisit(outcome=_OUTCOME))
        except UpstreamError as error:
            # It is already cancelled, or no longer scheduled: the read that follows tells which.
            if not error.conflict:
                raise

    def is_gone(self, record: Record | None) -> bool:
        """Whether the visit is cancelled, or was never there."""
        return record is None or record.get("status") == _CANCELLED

    def doubts(self, ids: MappingIds, record: Record) -> Iterator[str]:
        """A double names the DPS visit in its comment, and is still scheduled."""
        if record.get("namesReference") == "no":
            yield f"the comment of visit {ids.nomis_text} does not name {ids.dps_id}"
        if record.get("status") != _SCHEDULED:
            yield f"visit {ids.nomis_text} has status {record.get('status')}, not {_SCHEDULED}"

    def nomis_ids(self, number: int, request: Mapping[str, Any]) -> Mapping[str, Any]:
        return {"nomisId": number}

    def look_for(self, request: Mapping[str, Any]) -> str:
        body = request["body"]
        return (
            f"a visit of {request['offenderNo']} at {body['prisonId']} on {body['startDateTime']}, whose comment names "
            f"{request['reference']}"
        )

    def owner_in(self, request: Mapping[str, Any]) -> str | None:
        return str(request["offenderNo"])

    def expected(self, request: Mapping[str, Any]) -> Record:
        body = request["body"]
        return {"prisonId": body["prisonId"], "start": body["startDateTime"]}

    def differences(self, dps_id: str, request: Mapping[str, Any], record: Record) -> Iterator[str]:
        """Also that its comment does not name the DPS visit."""
        yield from super().differences(dps_id, request, record)
        if record.get("namesReference") == "no":
            yield f"its comment does not name {dps_id}"

    def event_parts(self, record: CreationRecord) -> EventParts:
        """Of the time only the date matters: NOMIS has it as the date of issue of the visit order."""
        occurred_at = f"{record.request['body']['issueDate']}T12:00:00Z"
        return {"reference": record.dps_id}, record.request["offenderNo"], occurred_at
