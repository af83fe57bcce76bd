"""Prison visits: booked, changed and cancelled in visit-scheduler, written to NOMIS."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import structlog

from sync.domains.declaration import Coalesce, Creation, Domain, Prepared, Properties, Update
from sync.domains.times import earliest_creation, local_seconds, with_seconds
from sync.domains.visits import dps as visit_scheduler
from sync.domains.visits import nomis as nomis_visits
from sync.domains.visits.mapping import MAPPINGS
from sync.failures import RuleError, UpstreamError
from sync.pipeline.context import HandlerContext
from sync.pipeline.envelope import DomainEvent, MappingRetry
from sync.upstream.services import Services

NAME = "visit"

NOMIS_VISIT_TYPES = {"SOCIAL": "SCON", "FAMILY": "SCON"}

#: Whatever is not named here, or is missing, is an administrative cancellation.
NOMIS_OUTCOMES = {
    "ADMINISTRATIVE_CANCELLATION": "ADMIN",
    "ADMINISTRATIVE_ERROR": "ADMIN",
    "BATCH_CANCELLATION": "ADMIN",
    "ESTABLISHMENT_CANCELLED": "HMP",
    "VISITOR_FAILED_SECURITY_CHECKS": "NO_ID",
    "NO_VISITING_ORDER": "NO_VO",
    "VISITOR_DID_NOT_ARRIVE": "NSHOW",
    "PRISONER_CANCELLED": "OFFCANC",
    "PRISONER_REFUSED_TO_ATTEND": "REFUSED",
    "VISITOR_CANCELLED": "VISCANC",
    "VISIT_ORDER_CANCELLED": "VO_CANCEL",
}
DEFAULT_OUTCOME = "ADMIN"

#: What may be said of the session; NOMIS takes every word but `CLOSED` for open.
RESTRICTIONS = frozenset({"OPEN", "CLOSED", "UNKNOWN"})


def nomis_visit_type(visit_type: str) -> str:
    """The NOMIS type of a DPS visit type; raises `RuleError` for an unknown one."""
    found = NOMIS_VISIT_TYPES.get(visit_type)
    if found is None:
        raise RuleError(f"no NOMIS visit type for visit type {visit_type!r}")
    return found


def nomis_outcome(outcome_status: str | None) -> str:
    """The NOMIS outcome of a cancelled visit."""
    return NOMIS_OUTCOMES.get(outcome_status or "", DEFAULT_OUTCOME)


def open_closed_status(restriction: str) -> str:
    """The restriction of a visit, which NOMIS has in the same words; raises `RuleError` for an unknown one."""
    if restriction not in RESTRICTIONS:
        raise RuleError(f"no NOMIS open or closed status for visit restriction {restriction!r}")
    return restriction


def _reference(event: DomainEvent) -> str:
    return event.text("reference")


def _entity(event: DomainEvent) -> str:
    return f"visit:{_reference(event)}"


def _start(event: DomainEvent) -> Properties:
    return {"visitId": _reference(event), "offenderNo": event.required_prisoner_id()}


def _find_mapping(reference: str, services: Services) -> Mapping[str, Any] | None:
    return MAPPINGS.find(services.mapping, reference)


def _prepare(event: DomainEvent, context: HandlerContext) -> Prepared:
    issue_date = event.required_occurred_at().date().isoformat()
    context.step("read visit")
    visit = visit_scheduler.visit(context.services.visits, _reference(event))
    start, end = local_seconds(visit.start_timestamp), with_seconds(visit.end_timestamp.time())
    context.bind(prisonId=visit.prison_id, startDateTime=start, endTime=end)
    body = nomis_visits.CreateVisit(
        prison_id=visit.prison_id,
        start_date_time=start,
        end_time=end,
        visitor_person_ids=tuple(visitor.nomis_person_id for visitor in visit.visitors),
        issue_date=issue_date,
        visit_type=nomis_visit_type(visit.visit_type),
        visit_comment=f"Created by Book A Prison Visit. Reference: {visit.reference}",
        visit_order_comment=f"Created by Book A Prison Visit for visit with reference: {visit.reference}",
        room=visit.visit_room,
        open_closed_status=open_closed_status(visit.visit_restriction),
    )
    context.step("create visit")
    return Prepared({"reference": _reference(event), "offenderNo": visit.prisoner_id, "body": body.as_json()})


def _create(request: Mapping[str, Any], services: Services) -> Mapping[str, Any]:
    try:
        return {"nomisId": nomis_visits.create_visit(services.nomis, request["offenderNo"], request["body"])}
    except UpstreamError as error:
        existing = nomis_visits.existing_visit(error)
        if existing is None or not _names_reference(existing, request, services):
            raise
        return {"nomisId": existing}


def _names_reference(visit_id: int, request: Mapping[str, Any], services: Services) -> bool:
    """Whether the visit for which NOMIS refused an equal one is that of the very booking."""
    visit = nomis_visits.find_visit(services.nomis, visit_id)
    return visit is not None and visit.offender_no == request["offenderNo"] and visit.names(request["reference"])


def _mapping(reference: str, nomis_ids: Mapping[str, Any]) -> Mapping[str, Any]:
    # The retry message has always carried the visit's number as text.
    return {"nomisId": str(nomis_ids["nomisId"]), "vsipId": reference, "label": None, "mappingType": "ONLINE"}


def _post_mapping(mapping: Mapping[str, Any], services: Services) -> None:
    MAPPINGS.post(services.mapping, {**mapping, "nomisId": int(mapping["nomisId"])})


def _locate(request: Mapping[str, Any], since: datetime, services: Services) -> Sequence[Mapping[str, Any]]:
    """The visits created at the prison since then that name the reference in their comment, and are no other's."""
    reference, body = request["reference"], request["body"]
    ids = nomis_visits.visit_ids(services.nomis, body["prisonId"], body["visitType"], earliest_creation(since))
    return [{"nomisId": visit_id} for visit_id in ids if _is_ours(visit_id, reference, services)]


def _is_ours(visit_id: int, reference: str, services: Services) -> bool:
    visit = nomis_visits.find_visit(services.nomis, visit_id)
    if visit is None or not visit.names(reference):
        return False
    mapping = MAPPINGS.find_by_nomis_ids(services.mapping, visit_id)
    return mapping is None or mapping.get("vsipId") == reference


def _read_retry(retry: MappingRetry) -> Mapping[str, Any]:
    return _mapping(_retry_dps_id(retry), {"nomisId": retry.number("nomisId")})


def _retry_dps_id(retry: MappingRetry) -> str:
    return retry.text("vsipId")


def _retry_properties(retry: MappingRetry) -> Properties:
    return {"id": _retry_dps_id(retry), "nomisId": retry.number("nomisId")}


def _change(event: DomainEvent, context: HandlerContext) -> None:
    with context.lease(f"write:{_entity(event)}"):
        visit_id = _mapped_visit(event, context)
        visit = _read_visit(event, context)
        body = nomis_visits.UpdateVisit(
            start_date_time=local_seconds(visit.start_timestamp),
            end_time=with_seconds(visit.end_timestamp.time()),
            visitor_person_ids=tuple(visitor.nomis_person_id for visitor in visit.visitors),
            room=visit.visit_room,
            open_closed_status=open_closed_status(visit.visit_restriction),
        )
        context.step("update visit")
        nomis_visits.update_visit(context.services.nomis, event.required_prisoner_id(), visit_id, body)


def _cancel(event: DomainEvent, context: HandlerContext) -> None:
    with context.lease(f"write:{_entity(event)}"):
        visit_id = _mapped_visit(event, context)
        body = nomis_visits.CancelVisit(outcome=nomis_outcome(_read_visit(event, context).outcome_status))
        context.step("cancel visit")
        try:
            nomis_visits.cancel_visit(context.services.nomis, event.required_prisoner_id(), visit_id, body)
        except UpstreamError as error:
            if error.absent:
                # What is not there takes place no more than what is cancelled.
                context.bind(**{"nomis-error": str(error)})
            elif not error.conflict:
                raise
            # It is cancelled already, or no longer scheduled: what was wanted holds.
            structlog.get_logger().warning("visit-cancelled-already", visitId=_reference(event), nomisVisitId=visit_id)


def _mapped_visit(event: DomainEvent, context: HandlerContext) -> int:
    context.step("look up mapping")
    visit_id = int(MAPPINGS.get(context.services.mapping, _reference(event))["nomisId"])
    context.bind(nomisVisitId=visit_id)
    return visit_id


def _read_visit(event: DomainEvent, context: HandlerContext) -> visit_scheduler.Visit:
    context.step("read visit")
    return visit_scheduler.visit(context.services.visits, _reference(event))


DOMAIN = Domain(
    queue="visit",
    creation=Creation(
        event_type="prison-visit.booked",
        name=NAME,
        queue="visit",
        entity=_entity,
        dps_id=_reference,
        start=_start,
        find_mapping=_find_mapping,
        prepare=_prepare,
        create=_create,
        mapping=_mapping,
        post_mapping=_post_mapping,
        locate=_locate,
        retry_success="visit-retry-success",
        retry_properties=_retry_properties,
        read_retry=_read_retry,
        retry_dps_id=_retry_dps_id,
        severity="serious",
    ),
    updates=(
        Update("prison-visit.changed", _entity, _start, _change, "visit-changed-success", "visit-changed-failed"),
        Update(
            "prison-visit.cancelled",
            _entity,
            _start,
            _cancel,
            "visit-cancelled-success",
            "visit-cancelled-failed",
            coalesce=Coalesce.NEVER,
        ),
    ),
)
