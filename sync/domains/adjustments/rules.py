"""Writes adjustments to NOMIS when DPS creates, changes or deletes them, unless the change came from NOMIS."""

from collections.abc import Mapping, Sequence
from datetime import date, datetime
from typing import Any, Literal

from sync.alerting import Severity
from sync.clock import london_now
from sync.creation.creation import Creation, Json, Prepared, creation_lease, earliest_creation
from sync.domains.adjustments import dps as adjustments_api
from sync.domains.adjustments import nomis as nomis_adjustments
from sync.domains.adjustments.dps import Adjustment
from sync.domains.adjustments.nomis import AdjustmentBody, Category, ChangedAdjustment, NomisAdjustment
from sync.domains.declaration import Coalesce, Update, ignored_if_gone
from sync.errors import RuleError, UpstreamError
from sync.events.context import HandlerContext
from sync.events.envelope import DomainEvent, MappingRetry
from sync.settings.upstreams import UpstreamName
from sync.store.telemetry import Properties
from sync.upstream.mappings import Mappings, TextId
from sync.upstream.responses import RecordNumber, Response
from sync.upstream.services import Services

_UPDATED_IGNORED = "sentencing-adjustment-updated-ignored"
_UPDATED_SKIPPED = "sentencing-adjustment-updated-skipped"
_DELETED_IGNORED = "sentencing-adjustment-deleted-ignored"


def _came_from_nomis(event: DomainEvent) -> bool:
    return event.optional_text("source") == "NOMIS"


def category_of(adjustment: Adjustment) -> Category:
    """The family of an adjustment: `SENTENCE` if the adjustment names a sentence, otherwise `KEY-DATE`."""
    return "KEY-DATE" if adjustment.sentence_sequence is None else "SENTENCE"


def category_conflict(adjustment: Adjustment, category: Category) -> str | None:
    """Why `adjustment` must not be written to its NOMIS record, or None if it may be written.

    category: the family that the adjustment's mapping names. The ids of the two families overlap, so a write to the
    wrong family could change another prisoner's adjustment.
    """
    if category_of(adjustment) == category:
        return None
    return f"the adjustment is {category_of(adjustment)} in DPS but mapped as {category}"


def nomis_adjustment(adjustment: Adjustment, today: date) -> AdjustmentBody:
    """The request body for the adjustment in NOMIS; `today` is the date in London.

    A missing adjustment date becomes `today`. NOMIS requires a from-date for an adjustment to a key date, so a
    missing from-date becomes the adjustment date.
    """
    adjustment_date = adjustment.adjustment_date or today
    from_date = adjustment.adjustment_from_date
    if from_date is None and category_of(adjustment) == "KEY-DATE":
        from_date = adjustment_date
    return AdjustmentBody(
        adjustment_type_code=adjustment.adjustment_type,
        adjustment_date=adjustment_date,
        adjustment_from_date=from_date,
        adjustment_days=adjustment.adjustment_days,
        comment=adjustment.comment,
        active=adjustment.active,
    )


def _changed_adjustment(adjustment: Adjustment, today: date) -> ChangedAdjustment:
    """The request body for a change to an adjustment, which may have moved to another sentence."""
    body = dict(nomis_adjustment(adjustment, today))
    return ChangedAdjustment(**body, sentence_sequence=adjustment.sentence_sequence)


class _Mapping(Response):
    adjustment_id: TextId
    nomis_adjustment_id: RecordNumber
    nomis_adjustment_category: Literal["SENTENCE", "KEY-DATE"]


MAPPINGS = Mappings(
    path="/mapping/sentencing/adjustments",
    role="NOMIS_SENTENCING",
    model=_Mapping,
    dps="adjustmentId",
    nomis=("nomisAdjustmentId", "nomisAdjustmentCategory"),
    by_dps="adjustment-id/{adjustmentId}",
    by_nomis="nomis-adjustment-category/{nomisAdjustmentCategory}/nomis-adjustment-id/{nomisAdjustmentId}",
)


class AdjustmentCreation(Creation):
    """Creates a NOMIS adjustment, to a sentence or to a key date, for a DPS adjustment."""

    event_type = "release-date-adjustments.adjustment.inserted"
    name = "sentencing-adjustment"
    queue = "sentencing"
    event_id = "id"
    mappings = MAPPINGS
    retry_success = "sentencing-adjustment-create-success"
    severity = Severity.SERIOUS
    may_be_ignored = True

    def entity(self, event: DomainEvent) -> str:
        """The adjustment; events about changes that came from NOMIS have a separate entity, since they are ignored."""
        # Otherwise an event from DPS could be coalesced into one from NOMIS, and would be ignored together with it.
        return super().entity(event) + (":from-nomis" if _came_from_nomis(event) else "")

    def start(self, event: DomainEvent) -> Properties:
        """The id of the adjustment, and the prisoner number if the event has one."""
        return {"adjustmentId": self.dps_id(event), "offenderNo": event.optional_text("offenderNo")}

    def is_ignored(self, event: DomainEvent) -> bool:
        """Whether the change came from NOMIS, which already has the adjustment."""
        return _came_from_nomis(event)

    def prepare(self, event: DomainEvent, context: HandlerContext) -> Prepared:
        """Makes the request from the current DPS adjustment.

        A missing adjustment date becomes today's date in London.
        """
        adjustment = _read(event, context)
        context.step("create adjustment")
        return Prepared(
            {
                "adjustmentId": self.dps_id(event),
                "bookingId": adjustment.booking_id,
                "sentenceSequence": adjustment.sentence_sequence,
                "category": category_of(adjustment),
                "body": nomis_adjustment(adjustment, london_now().date()).as_json(),
            }
        )

    def create(self, request: Json, services: Services) -> Json:
        """Creates an adjustment to a sentence if the request names a sentence, otherwise to a key date."""
        nomis_id = nomis_adjustments.create_adjustment(
            services.nomis, request["bookingId"], request["sentenceSequence"], request["body"]
        )
        return {"nomisAdjustmentId": nomis_id, "nomisAdjustmentCategory": request["category"]}

    def locate(self, request: Json, since: datetime, services: Services) -> Sequence[Json]:
        """The NOMIS ids of the adjustments that are equal to the request and may have been created after `since`.

        Only adjustments of the request's family are compared. Since December 2025, NOMIS has had no list of new
        adjustments. Without that list, all adjustments of the booking are compared, whenever they were created.
        """
        category: Category = request["category"]
        try:
            ids = list(nomis_adjustments.adjustment_ids(services.nomis, category, earliest_creation(since).date()))
        except UpstreamError as error:
            if not error.no_route:
                raise
            of_booking = nomis_adjustments.booking_adjustments(services.nomis, request["bookingId"], active_only=False)
            families = () if of_booking is None else of_booking.by_category()
            ids = [each.id for family, each in families if family == category]
        adjustments = ((each, nomis_adjustments.find_adjustment(services.nomis, category, each)) for each in ids)
        return [
            {"nomisAdjustmentId": nomis_id, "nomisAdjustmentCategory": category}
            for nomis_id, adjustment in adjustments
            if adjustment is not None and _is_equal(adjustment, request)
        ]

    def subject(self, request: Json) -> str:
        """The booking, which may have several equal adjustments."""
        return f"booking:{request['bookingId']}"

    def mapping(self, dps_id: str, nomis_ids: Json) -> Json:
        """The mapping, with the family of the NOMIS id, since the ids of the two families overlap."""
        return {
            "nomisAdjustmentId": nomis_ids["nomisAdjustmentId"],
            "nomisAdjustmentCategory": nomis_ids["nomisAdjustmentCategory"],
            "adjustmentId": dps_id,
            "label": None,
            "mappingType": "SENTENCING_CREATED",
            "whenCreated": None,
        }

    def retry_nomis_ids(self, retry: MappingRetry) -> Json:
        """The NOMIS id and its family."""
        category = nomis_adjustments.category(retry.text("nomisAdjustmentCategory"))
        return {"nomisAdjustmentId": retry.number("nomisAdjustmentId"), "nomisAdjustmentCategory": category}

    def retry_mapping(self, retry: MappingRetry) -> Json:
        """The mapping, with every field of the message that is not null."""
        # A message that was written by hand may have a different type or label, which is kept.
        given = {name: value for name, value in retry.mapping.items() if value is not None}
        return {**super().retry_mapping(retry), **given, **self.retry_nomis_ids(retry)}

    def retry_properties(self, retry: MappingRetry) -> Properties:
        """All telemetry attributes of the message."""
        return retry.telemetry_attributes


def _is_equal(adjustment: NomisAdjustment, request: Json) -> bool:
    body = request["body"]
    return (
        not adjustment.hidden_from_users
        and adjustment.booking_id == request["bookingId"]
        and adjustment.sentence_sequence == request["sentenceSequence"]
        and adjustment.adjustment_type.code == body["adjustmentTypeCode"]
        and adjustment.adjustment_days == body["adjustmentDays"]
        and _iso(adjustment.adjustment_date) == body["adjustmentDate"]
        and _iso(adjustment.adjustment_from_date) == body.get("adjustmentFromDate")
    )


def _iso(day: date | None) -> str | None:
    return None if day is None else day.isoformat()


CREATION = AdjustmentCreation()


def _update(event: DomainEvent, context: HandlerContext) -> str | None:
    if _came_from_nomis(event):
        return _UPDATED_IGNORED
    with context.lease(f"write:{CREATION.entity(event)}"):
        context.step("look up mapping")
        nomis_id, category = _mapped(MAPPINGS.get(context.services.mapping, CREATION.dps_id(event)))
        context.bind(nomisAdjustmentId=nomis_id)
        adjustment = _read(event, context)
        conflict = category_conflict(adjustment, category)
        if conflict is not None:
            raise RuleError(conflict)
        context.step("update adjustment")
        body = _changed_adjustment(adjustment, london_now().date())
        nomis_adjustments.update_adjustment(context.services.nomis, category, nomis_id, body)
    return None


def _delete(event: DomainEvent, context: HandlerContext) -> str | None:
    if _came_from_nomis(event):
        return _DELETED_IGNORED
    services, adjustment_id = context.services, CREATION.dps_id(event)
    with context.lease(creation_lease(CREATION.name, adjustment_id)):
        context.step("look up mapping")
        mapping = MAPPINGS.find(services.mapping, adjustment_id)
        if mapping is None:
            if _is_gone(adjustment_id, context):
                context.forget_creation(CREATION.name, adjustment_id)
                context.bind(reason="mapping-already-deleted")
                return _DELETED_IGNORED
            context.step("look up mapping")
            mapping = MAPPINGS.get(services.mapping, adjustment_id)
        nomis_id, category = _mapped(mapping)
        context.bind(nomisAdjustmentId=nomis_id, nomisAdjustmentCategory=category)
        context.step("delete adjustment")
        nomis_adjustments.delete_adjustment(services.nomis, category, nomis_id)
        context.step("delete mapping")
        MAPPINGS.delete(services.mapping, adjustment_id)
        context.forget_creation(CREATION.name, adjustment_id)
    return None


def _is_gone(adjustment_id: str, context: HandlerContext) -> bool:
    """Whether nothing is left to delete: DPS does not have the adjustment, and its creation is not under way."""
    if context.creation_open(CREATION.name, adjustment_id):
        return False
    context.step("read adjustment")
    return not adjustments_api.adjustment_exists(context.services[UpstreamName.SENTENCE_ADJUSTMENTS], adjustment_id)


def _mapped(mapping: Mapping[str, Any]) -> tuple[int, Category]:
    return int(mapping["nomisAdjustmentId"]), nomis_adjustments.category(mapping["nomisAdjustmentCategory"])


def _read(event: DomainEvent, context: HandlerContext) -> Adjustment:
    context.step("read adjustment")
    return adjustments_api.adjustment(context.services[UpstreamName.SENTENCE_ADJUSTMENTS], CREATION.dps_id(event))


UPDATES = (
    Update(
        event_type="release-date-adjustments.adjustment.updated",
        entity=CREATION.entity,
        start=CREATION.start,
        apply=ignored_if_gone(_update, CREATION, _read, _UPDATED_SKIPPED),
        success="sentencing-adjustment-updated-success",
        failed="sentencing-adjustment-updated-failed",
        others=(_UPDATED_IGNORED, _UPDATED_SKIPPED),
    ),
    Update(
        event_type="release-date-adjustments.adjustment.deleted",
        entity=CREATION.entity,
        start=CREATION.start,
        apply=_delete,
        success="sentencing-adjustment-deleted-success",
        failed="sentencing-adjustment-deleted-failed",
        others=(_DELETED_IGNORED,),
        coalesce=Coalesce.NEVER,
    ),
)
