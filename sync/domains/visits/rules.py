"""Writes prison visits to NOMIS when they are booked, changed or cancelled in visit-scheduler."""

from collections.abc import Sequence
from datetime import datetime

import structlog

from sync.alerting import Severity
from sync.clock import local_seconds, with_seconds
from sync.creation.creation import Creation, Json, Prepared, earliest_creation
from sync.domains.declaration import Coalesce, Update
from sync.domains.visits import dps as visit_scheduler
from sync.domains.visits import nomis as nomis_visits
from sync.errors import RuleError, UpstreamError
from sync.events.context import HandlerContext
from sync.events.envelope import DomainEvent, MappingRetry
from sync.settings.upstreams import UpstreamName
from sync.store.telemetry import Properties
from sync.upstream.mappings import Mappings, TextId
from sync.upstream.operation import ContractProbe, MappedValues
from sync.upstream.responses import RecordNumber, Response
from sync.upstream.services import Services

NOMIS_VISIT_TYPES = {"SOCIAL": "SCON", "FAMILY": "SCON"}

#: The NOMIS outcomes of cancelled visits by their DPS outcome. Any other outcome, or none, becomes `DEFAULT_OUTCOME`.
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

#: The restrictions of a visit. NOMIS treats every word except `CLOSED` as open.
_RESTRICTIONS = frozenset({"OPEN", "CLOSED", "UNKNOWN"})

MAPPED = (
    MappedValues(visit_scheduler.VISIT, "visitType", frozenset(NOMIS_VISIT_TYPES)),
    MappedValues(visit_scheduler.VISIT, "visitRestriction", _RESTRICTIONS),
    MappedValues(visit_scheduler.VISIT, "outcomeStatus", frozenset(NOMIS_OUTCOMES), has_default=True),
    MappedValues(nomis_visits.CANCEL_VISIT, "outcome", frozenset(NOMIS_OUTCOMES.values())),
)


def nomis_visit_type(visit_type: str) -> str:
    """The NOMIS visit type for a DPS visit type. Raises `RuleError` for an unknown type."""
    found = NOMIS_VISIT_TYPES.get(visit_type)
    if found is None:
        raise RuleError(f"no NOMIS visit type for visit type {visit_type!r}")
    return found


def nomis_outcome(outcome_status: str | None) -> str:
    """The NOMIS outcome for the DPS outcome of a cancelled visit."""
    return NOMIS_OUTCOMES.get(outcome_status or "", DEFAULT_OUTCOME)


def open_closed_status(restriction: str) -> str:
    """The NOMIS restriction of a visit, which is the same word as in DPS. Raises `RuleError` for an unknown word."""
    if restriction not in _RESTRICTIONS:
        raise RuleError(f"no NOMIS open or closed status for visit restriction {restriction!r}")
    return restriction


class _Mapping(Response):
    vsip_id: TextId
    nomis_id: RecordNumber


MAPPINGS = Mappings(
    path="/mapping/visits",
    role="NOMIS_VISITS",
    model=_Mapping,
    dps="vsipId",
    nomis=("nomisId",),
    by_dps="vsipId/{vsipId}",
    by_nomis="nomisId/{nomisId}",
    numbers=frozenset({"nomisId"}),
    is_deleted=False,
)

MAPPING_PROBE = ContractProbe(MAPPINGS.operations["get"], ("contract-probe",), record="visit")


class VisitCreation(Creation):
    """Creates a NOMIS visit for a visit that is booked in DPS.

    The comment of the NOMIS visit contains the booking's reference.
    """

    event_type = "prison-visit.booked"
    name = "visit"
    queue = "visit"
    event_id = "reference"
    mappings = MAPPINGS
    retry_success = "visit-retry-success"
    severity = Severity.SERIOUS

    def start(self, event: DomainEvent) -> Properties:
        """The booking's reference and the prisoner number; both are required."""
        return {"visitId": self.dps_id(event), "offenderNo": event.required_prisoner_id()}

    def prepare(self, event: DomainEvent, context: HandlerContext) -> Prepared:
        """Makes the request from the visit as it is now in visit-scheduler.

        The issue date of the visit order is the date of the event.
        """
        issue_date = event.required_occurred_at().date().isoformat()
        visit = _read_visit(event, context)
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
        request = {"reference": self.dps_id(event), "offenderNo": visit.prisoner_id, "body": body.as_json()}
        return Prepared(request)

    def create(self, request: Json, services: Services) -> Json:
        """Creates the visit and returns its NOMIS id.

        If NOMIS refuses the visit because it already has a visit for this booking, returns the id of that visit.
        """
        try:
            return {"nomisId": nomis_visits.create_visit(services.nomis, request["offenderNo"], request["body"])}
        except UpstreamError as error:
            # NOMIS refuses a visit if it already has an equal one, which may belong to this booking.
            existing = nomis_visits.existing_visit(error)
            if existing is None or not _is_of_booking(existing, request, services):
                raise
            return {"nomisId": existing}

    def locate(self, request: Json, since: datetime, services: Services) -> Sequence[Json]:
        """The ids of visits with the prison and type of the request, and with the reference in their comments.

        Only visits that were created after `since`, or shortly before it, are read.
        """
        body = request["body"]
        ids = nomis_visits.visit_ids(services.nomis, body["prisonId"], body["visitType"], earliest_creation(since))
        visits = ((visit_id, nomis_visits.find_visit(services.nomis, visit_id)) for visit_id in ids)
        return [{"nomisId": visit_id} for visit_id, visit in visits if visit and visit.names(request["reference"])]

    def mapping(self, dps_id: str, nomis_ids: Json) -> Json:
        """The mapping of a visit that was booked online."""
        # The retry message has always had the visit's number as text.
        return {"nomisId": str(nomis_ids["nomisId"]), "vsipId": dps_id, "label": None, "mappingType": "ONLINE"}

    def retry_properties(self, retry: MappingRetry) -> Properties:
        """The reference as `id`, and the NOMIS visit id."""
        return {"id": self.retry_dps_id(retry), **self.retry_nomis_ids(retry)}


def _is_of_booking(visit_id: int, request: Json, services: Services) -> bool:
    visit = nomis_visits.find_visit(services.nomis, visit_id)
    return visit is not None and visit.offender_no == request["offenderNo"] and visit.names(request["reference"])


CREATION = VisitCreation()


def _change(event: DomainEvent, context: HandlerContext) -> None:
    with context.lease(f"write:{CREATION.entity(event)}"):
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
    with context.lease(f"write:{CREATION.entity(event)}"):
        visit_id = _mapped_visit(event, context)
        body = nomis_visits.CancelVisit(outcome=nomis_outcome(_read_visit(event, context).outcome_status))
        context.step("cancel visit")
        try:
            nomis_visits.cancel_visit(context.services.nomis, event.required_prisoner_id(), visit_id, body)
        except UpstreamError as error:
            if error.absent:
                # A visit that NOMIS does not have does not take place either.
                context.bind(**{"nomis-error": str(error)})
            elif not error.conflict:
                raise
            # The visit does not exist, is already cancelled or is no longer scheduled, so nothing is left to do.
            reference = CREATION.dps_id(event)
            structlog.get_logger().warning("visit-cancelled-already", visitId=reference, nomisVisitId=visit_id)


def _mapped_visit(event: DomainEvent, context: HandlerContext) -> int:
    context.step("look up mapping")
    visit_id = int(MAPPINGS.get(context.services.mapping, CREATION.dps_id(event))["nomisId"])
    context.bind(nomisVisitId=visit_id)
    return visit_id


def _read_visit(event: DomainEvent, context: HandlerContext) -> visit_scheduler.Visit:
    context.step("read visit")
    return visit_scheduler.visit(context.services[UpstreamName.VISITS], CREATION.dps_id(event))


UPDATES = (
    Update(
        event_type="prison-visit.changed",
        entity=CREATION.entity,
        start=CREATION.start,
        apply=_change,
        success="visit-changed-success",
        failed="visit-changed-failed",
    ),
    Update(
        event_type="prison-visit.cancelled",
        entity=CREATION.entity,
        start=CREATION.start,
        apply=_cancel,
        success="visit-cancelled-success",
        failed="visit-cancelled-failed",
        coalesce=Coalesce.NEVER,
    ),
)
