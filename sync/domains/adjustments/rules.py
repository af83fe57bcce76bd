"""Adjustments of sentences and key dates, written to NOMIS unless they came from there."""

from collections.abc import Mapping, Sequence
from datetime import date, datetime
from typing import Any

from sync.clock import london_now
from sync.domains.adjustments import dps as adjustments_api
from sync.domains.adjustments import nomis as nomis_adjustments
from sync.domains.adjustments.dps import Adjustment
from sync.domains.adjustments.mapping import MAPPINGS
from sync.domains.adjustments.nomis import AdjustmentBody, Category, ChangedAdjustment, NomisAdjustment
from sync.domains.declaration import Coalesce, Creation, Domain, Prepared, Properties, Update, creation_lease
from sync.domains.gone import Gone
from sync.domains.times import earliest_creation
from sync.failures import RuleError
from sync.pipeline.context import HandlerContext
from sync.pipeline.envelope import DomainEvent, MappingRetry
from sync.upstream.services import Services

NAME = "sentencing-adjustment"
UPDATED_IGNORED = "sentencing-adjustment-updated-ignored"
UPDATED_SKIPPED = "sentencing-adjustment-updated-skipped"
DELETED_IGNORED = "sentencing-adjustment-deleted-ignored"


def _adjustment_id(event: DomainEvent) -> str:
    return event.text("id")


def _came_from_nomis(event: DomainEvent) -> bool:
    return event.optional_text("source") == "NOMIS"


def _entity(event: DomainEvent) -> str:
    # An event that is passed over must not take one of DPS along when events of one record become one piece of work.
    return f"sentencing-adjustment:{_adjustment_id(event)}{':from-nomis' if _came_from_nomis(event) else ''}"


def _start(event: DomainEvent) -> Properties:
    return {"adjustmentId": _adjustment_id(event), "offenderNo": event.optional_text("offenderNo")}


def category_of(adjustment: Adjustment) -> Category:
    """The family of an adjustment: of a sentence where it names one, else of a key date."""
    return "KEY-DATE" if adjustment.sentence_sequence is None else "SENTENCE"


def nomis_adjustment(adjustment: Adjustment, today: date) -> AdjustmentBody:
    """What NOMIS is to hold of an adjustment; `today` is the date in London.

    A missing date is today; NOMIS wants a from-date for a key date, which is then the adjustment's date.
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


def changed_adjustment(adjustment: Adjustment, today: date) -> ChangedAdjustment:
    """The same for an adjustment that NOMIS has, which may have moved to another sentence."""
    told = dict(nomis_adjustment(adjustment, today))
    return ChangedAdjustment(**told, sentence_sequence=adjustment.sentence_sequence)


def _find_mapping(adjustment_id: str, services: Services) -> Mapping[str, Any] | None:
    return MAPPINGS.find(services.mapping, adjustment_id)


def _prepare(event: DomainEvent, context: HandlerContext) -> Prepared:
    adjustment = _read(event, context)
    context.step("create adjustment")
    return Prepared(
        {
            "adjustmentId": _adjustment_id(event),
            "bookingId": adjustment.booking_id,
            "sentenceSequence": adjustment.sentence_sequence,
            "category": category_of(adjustment),
            "body": nomis_adjustment(adjustment, london_now().date()).as_json(),
        }
    )


def _create(request: Mapping[str, Any], services: Services) -> Mapping[str, Any]:
    nomis_id = nomis_adjustments.create_adjustment(
        services.nomis, request["bookingId"], request["sentenceSequence"], request["body"]
    )
    return {"nomisAdjustmentId": nomis_id, "nomisAdjustmentCategory": request["category"]}


def _mapping(adjustment_id: str, nomis_ids: Mapping[str, Any]) -> Mapping[str, Any]:
    return {
        "nomisAdjustmentId": nomis_ids["nomisAdjustmentId"],
        "nomisAdjustmentCategory": nomis_ids["nomisAdjustmentCategory"],
        "adjustmentId": adjustment_id,
        "label": None,
        "mappingType": "SENTENCING_CREATED",
        "whenCreated": None,
    }


def _post_mapping(mapping: Mapping[str, Any], services: Services) -> None:
    MAPPINGS.post(services.mapping, mapping)


def _locate(request: Mapping[str, Any], since: datetime, services: Services) -> Sequence[Mapping[str, Any]]:
    """Among the adjustments of the family made since then, those that say the same and are no other adjustment's."""
    category: Category = request["category"]
    found = []
    for nomis_id in nomis_adjustments.adjustment_ids(services.nomis, category, earliest_creation(since).date()):
        adjustment = nomis_adjustments.find_adjustment(services.nomis, category, nomis_id)
        if adjustment is None or not _says_the_same(adjustment, request):
            continue
        mapping = MAPPINGS.find_by_nomis_ids(services.mapping, nomis_id, category)
        if mapping is None or mapping["adjustmentId"] == request["adjustmentId"]:
            found.append({"nomisAdjustmentId": nomis_id, "nomisAdjustmentCategory": category})
    return found


def _subject(request: Mapping[str, Any]) -> str:
    return f"booking:{request['bookingId']}"


def _says_the_same(adjustment: NomisAdjustment, request: Mapping[str, Any]) -> bool:
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


def _read_retry(retry: MappingRetry) -> Mapping[str, Any]:
    names = ("nomisAdjustmentId", "nomisAdjustmentCategory")
    given = {name: value for name, value in retry.mapping.items() if value is not None}
    ids = {names[0]: retry.number(names[0]), names[1]: nomis_adjustments.category(retry.text(names[1]))}
    return {**_mapping(_retry_dps_id(retry), ids), **given, **ids}


def _retry_dps_id(retry: MappingRetry) -> str:
    return retry.text("adjustmentId")


def _retry_properties(retry: MappingRetry) -> Properties:
    return retry.telemetry_attributes


def _update(event: DomainEvent, context: HandlerContext) -> str | None:
    if _came_from_nomis(event):
        return UPDATED_IGNORED
    with context.lease(f"write:{_entity(event)}"):
        context.step("look up mapping")
        nomis_id, category = _mapped(MAPPINGS.get(context.services.mapping, _adjustment_id(event)))
        context.bind(nomisAdjustmentId=nomis_id)
        adjustment = _read(event, context)
        if category_of(adjustment) != category:
            # The numbers of the families overlap: writing to the other one could hit another prisoner's adjustment.
            raise RuleError(f"the adjustment is {category_of(adjustment)} in DPS but mapped as {category}")
        context.step("update adjustment")
        body = changed_adjustment(adjustment, london_now().date())
        nomis_adjustments.update_adjustment(context.services.nomis, category, nomis_id, body)
    return None


def _delete(event: DomainEvent, context: HandlerContext) -> str | None:
    if _came_from_nomis(event):
        return DELETED_IGNORED
    services, adjustment_id = context.services, _adjustment_id(event)
    with context.lease(creation_lease(NAME, adjustment_id)):
        context.step("look up mapping")
        mapping = MAPPINGS.find(services.mapping, adjustment_id)
        if mapping is None:
            if _is_gone(adjustment_id, context):
                context.forget_creation(NAME, adjustment_id)
                context.bind(reason="mapping-already-deleted")
                return DELETED_IGNORED
            context.step("look up mapping")
            mapping = MAPPINGS.get(services.mapping, adjustment_id)
        nomis_id, category = _mapped(mapping)
        context.bind(nomisAdjustmentId=nomis_id, nomisAdjustmentCategory=category)
        context.step("delete adjustment")
        nomis_adjustments.delete_adjustment(services.nomis, category, nomis_id)
        context.step("delete mapping")
        MAPPINGS.delete(services.mapping, adjustment_id)
        context.forget_creation(NAME, adjustment_id)
    return None


def _is_gone(adjustment_id: str, context: HandlerContext) -> bool:
    """Whether nothing is left to delete: not in DPS, and no creation of it that NOMIS may have heard of."""
    if context.creation_open(NAME, adjustment_id):
        return False
    context.step("read adjustment")
    return not adjustments_api.adjustment_exists(context.services.sentence_adjustments, adjustment_id)


def _mapped(mapping: Mapping[str, Any]) -> tuple[int, Category]:
    return int(mapping["nomisAdjustmentId"]), nomis_adjustments.category(mapping["nomisAdjustmentCategory"])


def _read(event: DomainEvent, context: HandlerContext) -> Adjustment:
    context.step("read adjustment")
    return adjustments_api.adjustment(context.services.sentence_adjustments, _adjustment_id(event))


def _read_record(services: Services, adjustment_id: str) -> object:
    return adjustments_api.adjustment(services.sentence_adjustments, adjustment_id)


def _read_mapping(services: Services, adjustment_id: str) -> object:
    return MAPPINGS.get(services.mapping, adjustment_id)


_GONE = Gone(NAME, _adjustment_id, _read_record, _read_mapping, UPDATED_SKIPPED)

DOMAIN = Domain(
    queue="sentencing",
    creation=Creation(
        event_type="release-date-adjustments.adjustment.inserted",
        name=NAME,
        queue="sentencing",
        entity=_entity,
        dps_id=_adjustment_id,
        start=_start,
        find_mapping=_find_mapping,
        prepare=_prepare,
        create=_create,
        mapping=_mapping,
        post_mapping=_post_mapping,
        locate=_locate,
        retry_success="sentencing-adjustment-create-success",
        retry_properties=_retry_properties,
        read_retry=_read_retry,
        retry_dps_id=_retry_dps_id,
        subject=_subject,
        ignored="sentencing-adjustment-create-ignored",
        passes_over=_came_from_nomis,
        severity="serious",
    ),
    updates=(
        Update(
            "release-date-adjustments.adjustment.updated",
            _entity,
            _start,
            _GONE.unless_gone(_update),
            "sentencing-adjustment-updated-success",
            "sentencing-adjustment-updated-failed",
            others=(UPDATED_IGNORED, UPDATED_SKIPPED),
        ),
        Update(
            "release-date-adjustments.adjustment.deleted",
            _entity,
            _start,
            _delete,
            "sentencing-adjustment-deleted-success",
            "sentencing-adjustment-deleted-failed",
            others=(DELETED_IGNORED,),
            coalesce=Coalesce.NEVER,
        ),
    ),
)
