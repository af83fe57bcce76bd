"""Repairs visits: cancels duplicates (NOMIS does not delete visits), and writes visits to NOMIS again."""

from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from typing import Any, ClassVar

from sync.clock import LONDON, local_seconds, london_now
from sync.domains.repair_declaration import Effect, EventParts, Record, RemovingRepair, Resync, ResyncPlan, iso_or_none
from sync.domains.visits import dps as visit_scheduler
from sync.domains.visits import nomis as nomis_visits
from sync.domains.visits.dps import BookedVisit
from sync.domains.visits.nomis import CancelVisit
from sync.domains.visits.rules import CREATION, NOMIS_VISIT_TYPES
from sync.errors import UpstreamError
from sync.events.envelope import DomainEvent
from sync.settings.upstreams import UpstreamName
from sync.store.creations import CreationRecord
from sync.upstream.mappings import MappingIds
from sync.upstream.services import Services

#: The NOMIS outcome for an administrative error.
_OUTCOME = "ADMIN"
_SCHEDULED, _CANCELLED = "SCH", "CANC"


class VisitRepair(RemovingRepair):
    """What an operator can do about visits in NOMIS."""

    noun = "visit"
    given = "visit id"
    owner = "offenderNo"
    proof: ClassVar = {"start": True, "prisonId": True}
    removal = f"cancel {{record}} with the outcome {_OUTCOME}"
    harm = "A sentenced prisoner loses a visit in the week of the duplicate until the duplicate is cancelled."
    dps_property = "visitId"
    time_of = ("startDateTime",)

    def read(self, services: Services, ids: MappingIds) -> Record | None:
        """The NOMIS visit; `namesReference` says whether its comment contains the reference of the DPS visit."""
        visit = nomis_visits.find_visit(services.nomis, int(ids.nomis_ids[0]))
        if visit is None:
            return None
        return {
            "offenderNo": visit.offender_no,
            "prisonId": visit.prison_id,
            "start": iso_or_none(visit.start_date_time),
            "end": iso_or_none(visit.end_date_time),
            "status": None if visit.visit_status is None else visit.visit_status.code,
            "namesReference": "yes" if visit.names(ids.dps_id) else "no",
        }

    def remove(self, services: Services, ids: MappingIds, record: Record | None) -> None:
        """Cancels the visit, since NOMIS does not delete visits.

        A visit that is already cancelled, or no longer scheduled, stays as it is.
        """
        assert record is not None
        offender_no = record["offenderNo"]
        assert offender_no is not None
        try:
            nomis_visits.cancel_visit(services.nomis, offender_no, int(ids.nomis_ids[0]), CancelVisit(outcome=_OUTCOME))
        except UpstreamError as error:
            # The visit is already cancelled, or no longer scheduled. The next read shows which.
            if not error.conflict:
                raise

    def is_gone(self, record: Record | None) -> bool:
        """Whether the visit is cancelled or does not exist."""
        return record is None or record.get("status") == _CANCELLED

    def doubts(self, ids: MappingIds, record: Record) -> Iterator[str]:
        """A sentence if the comment does not contain the reference, and another if the visit is not scheduled."""
        if record.get("namesReference") == "no":
            yield f"the comment of visit {ids.nomis_text} does not name {ids.dps_id}"
        if record.get("status") != _SCHEDULED:
            yield f"visit {ids.nomis_text} has status {record.get('status')}, not {_SCHEDULED}"

    def nomis_ids(self, number: int, request: Mapping[str, Any]) -> Mapping[str, Any]:
        """The NOMIS visit id."""
        return {"nomisId": number}

    def search_text(self, request: Mapping[str, Any]) -> str:
        """A phrase with the prisoner, prison and start of the visit, and the reference that its comment contains."""
        body = request["body"]
        return (
            f"a visit of {request['offenderNo']} at {body['prisonId']} on {body['startDateTime']}, with a comment that "
            f"contains {request['reference']}"
        )

    def owner_in(self, request: Mapping[str, Any]) -> str | None:
        """The prisoner number in the request."""
        return str(request["offenderNo"])

    def expected(self, request: Mapping[str, Any]) -> Record:
        """The prison and the start. A person may have changed any other field since the visit was created."""
        body = request["body"]
        return {"prisonId": body["prisonId"], "start": body["startDateTime"]}

    def differences(self, dps_id: str, request: Mapping[str, Any], record: Record) -> Iterator[str]:
        """The usual differences, and a sentence if the comment does not contain the reference."""
        yield from super().differences(dps_id, request, record)
        if record.get("namesReference") == "no":
            yield f"its comment does not name {dps_id}"

    def event_parts(self, record: CreationRecord) -> EventParts:
        """The reference, the prisoner number, and 12:00 UTC on the issue date of the visit order.

        Only the date goes to NOMIS.
        """
        occurred_at = f"{record.request['body']['issueDate']}T12:00:00Z"
        return {"reference": record.dps_id}, record.request["offenderNo"], occurred_at


REPAIR = VisitRepair()


class VisitResync(Resync):
    """Books, changes or cancels a visit in NOMIS, so that it agrees with visit-scheduler."""

    kind = "visit"
    creation = CREATION
    numeric = False
    tracked = "to-nomis-synch-visit-resynchronisation-repair"

    def plan(self, dps_id: str, services: Services) -> ResyncPlan:
        """Reads the visit on both sides, and plans what NOMIS needs.

        A visit that is booked in DPS is created or updated in NOMIS. A visit that is cancelled in DPS is cancelled in
        NOMIS too.
        """
        visit = visit_scheduler.find_visit(services[UpstreamName.VISITS], dps_id)
        ids = self.find_ids(dps_id, services)
        if visit is None:
            return ResyncPlan(
                effect=Effect.NOTHING,
                because="visit-scheduler does not have it",
                objection=_gone(ids),
                creation_id=dps_id,
                ids=ids,
                dps=None,
            )
        nomis = None if ids is None else _in_nomis(int(ids.nomis_ids[0]), services)
        plan = partial(
            ResyncPlan,
            creation_id=dps_id,
            ids=ids,
            dps=_shown(visit),
            nomis=nomis,
            expected=_expected(visit, nomis),
            made_at=None if visit.created_timestamp is None else visit.created_timestamp.replace(tzinfo=LONDON),
            properties={"offenderNo": visit.prisoner_id, "visitId": dps_id},
        )
        if visit.visit_status == "CANCELLED":
            return _plan_cancelled(plan, visit, ids, nomis)
        if visit.visit_status == "BOOKED":
            return _plan_booked(plan, visit, ids, nomis)
        because = f"only booked visits go to NOMIS, and this one is {visit.visit_status}"
        return plan(effect=Effect.NOTHING, because=because)


def _plan_booked(
    plan: "partial[ResyncPlan]", visit: BookedVisit, ids: MappingIds | None, nomis: Record | None
) -> ResyncPlan:
    if ids is None:
        events = (_event("prison-visit.booked", visit),)
        return plan(effect=Effect.CREATE, because="it is booked but not mapped to a NOMIS visit", events=events)
    objection = None
    if nomis is None:
        objection = (
            f"it is mapped to visit {ids.nomis_text}, which NOMIS does not have: ask the team of the mapping service "
            "to delete the mapping, then run this command again"
        )
    elif nomis["status"] == _CANCELLED:
        objection = (
            f"visit {ids.nomis_text} was cancelled in NOMIS, where it cannot be scheduled again: ask the prison to "
            f"cancel the booking in DPS and, if the visit is to take place, to book it again"
        )
    events = (_event("prison-visit.changed", visit),)
    return plan(effect=Effect.UPDATE, because="it is booked", events=events, objection=objection)


def _plan_cancelled(
    plan: "partial[ResyncPlan]", visit: BookedVisit, ids: MappingIds | None, nomis: Record | None
) -> ResyncPlan:
    if ids is None:
        return plan(effect=Effect.NOTHING, because="it is cancelled and not mapped to a NOMIS visit")
    if nomis is None:
        return plan(effect=Effect.NOTHING, because="it is cancelled, and NOMIS no longer has the visit")
    if nomis["status"] == _CANCELLED:
        return plan(effect=Effect.NOTHING, because="it is cancelled on both sides")
    objection = None
    if nomis["status"] != _SCHEDULED:
        objection = f"visit {ids.nomis_text} has status {nomis['status']} in NOMIS, which cancels only scheduled visits"
    events = (_event("prison-visit.cancelled", visit),)
    return plan(effect=Effect.CANCEL, because="it is cancelled in DPS", events=events, objection=objection)


def _event(event_type: str, visit: BookedVisit) -> DomainEvent:
    """An event with today's date, which becomes the issue date of a new visit order in NOMIS."""
    noon = london_now().replace(hour=12, minute=0, second=0, microsecond=0)
    return DomainEvent(event_type, noon, visit.prisoner_id, {"reference": visit.reference})


def _gone(ids: MappingIds | None) -> str:
    if ids is None:
        return "visit-scheduler does not have this visit, and there is no mapping for it: check the reference"
    return (
        f"visit-scheduler no longer has it, and publishes no event to say so: visit {ids.nomis_text} stays in NOMIS; "
        f"if it must not take place, cancel it there"
    )


def _shown(visit: BookedVisit) -> Record:
    return {
        "prisonerId": visit.prisoner_id,
        "prisonId": visit.prison_id,
        "status": visit.visit_status,
        "outcome": visit.outcome_status,
        "start": local_seconds(visit.start_timestamp),
        "end": local_seconds(visit.end_timestamp),
        "type": visit.visit_type,
        "restriction": visit.visit_restriction,
        "visitors": _visitors(visitor.nomis_person_id for visitor in visit.visitors),
    }


def _expected(visit: BookedVisit, nomis: Record | None) -> Record:
    """The fields that NOMIS must show: only the status if the visit is cancelled, otherwise all but the status.

    The status is left out because it changes in NOMIS on the day of the visit. The restriction is left out too if NOMIS
    does not have the visit, if the room in NOMIS does not show a restriction, or if the restriction is unknown in DPS.
    """
    if visit.visit_status == "CANCELLED":
        return {"status": _CANCELLED}
    expected = {
        "offenderNo": visit.prisoner_id,
        "prisonId": visit.prison_id,
        "start": local_seconds(visit.start_timestamp),
        "end": local_seconds(visit.end_timestamp),
        "type": NOMIS_VISIT_TYPES.get(visit.visit_type),
        "visitors": _visitors(visitor.nomis_person_id for visitor in visit.visitors),
    }
    if nomis is not None and nomis["restriction"] is not None and visit.visit_restriction != "UNKNOWN":
        expected["restriction"] = visit.visit_restriction
    return expected


def _in_nomis(visit_id: int, services: Services) -> Record | None:
    visit = nomis_visits.find_details(services.nomis, visit_id)
    if visit is None:
        return None
    return {
        "offenderNo": visit.offender_no,
        "prisonId": visit.prison_id,
        "start": local_seconds(visit.start_date_time),
        "end": None if visit.end_date_time is None else local_seconds(visit.end_date_time),
        "status": visit.visit_status.code,
        "type": visit.visit_type.code,
        "restriction": visit.restriction,
        "visitors": _visitors(visitor.person_id for visitor in visit.visitors),
    }


def _visitors(person_ids: Iterable[int]) -> str:
    return ", ".join(map(str, sorted(set(person_ids))))


RESYNCS = (VisitResync(),)
