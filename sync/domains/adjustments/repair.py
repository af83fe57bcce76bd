"""How adjustments in NOMIS are repaired, and how DPS adjustments are written to NOMIS again."""

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any, ClassVar

from sync.clock import london_now
from sync.domains.adjustments import dps as adjustments_api
from sync.domains.adjustments import nomis as nomis_adjustments
from sync.domains.adjustments.dps import Adjustment
from sync.domains.adjustments.rules import CREATION, MAPPINGS, category_conflict, category_of, nomis_adjustment
from sync.domains.repair_declaration import (
    Effect,
    EventParts,
    Record,
    RemovingRepair,
    Resync,
    ResyncPlan,
    iso_or_none,
    known_offender,
    read_if_there,
    text_or_none,
)
from sync.errors import UpstreamError
from sync.events.envelope import DomainEvent
from sync.settings.upstreams import UpstreamName
from sync.store.creations import CreationRecord
from sync.upstream.mappings import MappingIds
from sync.upstream.services import Services


class AdjustmentRepair(RemovingRepair):
    """What an operator can do about adjustments in NOMIS."""

    noun = "adjustment"
    given = "adjustment id"
    proof: ClassVar = {"sentenceSequence": False, "type": True, "days": True, "date": False, "from": False}
    harm = "Both adjustments count, so the release date is wrong until one of them is deleted."
    dps_property = "adjustmentId"

    def read(self, services: Services, ids: MappingIds) -> Record | None:
        """The booking, prisoner, sentence, type, number of days and dates of the adjustment.

        `hidden` says whether NOMIS itself created the adjustment.
        """
        number, family = ids.nomis_ids
        found = nomis_adjustments.find_adjustment(services.nomis, nomis_adjustments.category(family), int(number))
        if found is None:
            return None
        return {
            "bookingId": str(found.booking_id),
            "offenderNo": found.offender_no,
            "sentenceSequence": text_or_none(found.sentence_sequence),
            "type": found.adjustment_type.code,
            "days": str(found.adjustment_days),
            "date": iso_or_none(found.adjustment_date),
            "from": iso_or_none(found.adjustment_from_date),
            "hidden": "yes" if found.hidden_from_users else "no",
        }

    def remove(self, services: Services, ids: MappingIds, record: Record | None) -> None:
        """Deletes the adjustment with the number and the family in `ids`."""
        number, family = ids.nomis_ids
        nomis_adjustments.delete_adjustment(services.nomis, nomis_adjustments.category(family), int(number))

    def objections(self, ids: MappingIds, record: Record) -> Iterator[str]:
        """An objection if NOMIS hides the adjustment from users, since NOMIS itself created it."""
        if record.get("hidden") == "yes":
            yield f"adjustment {ids.nomis_text} was created by NOMIS itself: investigate"

    def nomis_ids(self, number: int, request: Mapping[str, Any]) -> Mapping[str, Any]:
        """The number of the adjustment, with the family of the request."""
        return {"nomisAdjustmentId": number, "nomisAdjustmentCategory": request["category"]}

    def search_text(self, request: Mapping[str, Any]) -> str:
        """The family, the booking, the type, the number of days and the date."""
        body = request["body"]
        return (
            f"a {request['category']} adjustment of booking {request['bookingId']}: type {body['adjustmentTypeCode']}, "
            f"{body['adjustmentDays']} days, dated {body['adjustmentDate']}"
        )

    def owner_in(self, request: Mapping[str, Any]) -> str | None:
        """The booking of the request."""
        return str(request["bookingId"])

    def expected(self, request: Mapping[str, Any]) -> Record:
        """The sentence, type, number of days and dates in the request."""
        body = request["body"]
        return {
            "sentenceSequence": text_or_none(request.get("sentenceSequence")),
            "type": body["adjustmentTypeCode"],
            "days": str(body["adjustmentDays"]),
            "date": body["adjustmentDate"],
            "from": body.get("adjustmentFromDate"),
        }

    def event_parts(self, record: CreationRecord) -> EventParts:
        """The id of the adjustment, the source, and the prisoner number if it is known.

        The source is DPS, so that the event is not ignored.
        """
        offender_no = known_offender(record)
        information = {"id": record.dps_id, "source": "DPS", **({"offenderNo": offender_no} if offender_no else {})}
        return information, None, None


REPAIR = AdjustmentRepair()


class AdjustmentResync(Resync):
    """Creates, changes or deletes an adjustment in NOMIS, so that it agrees with the adjustments API."""

    kind = "adjustment"
    creation = CREATION
    numeric = False
    tracked = "to-nomis-synch-adjustment-repair"

    def plan(self, dps_id: str, services: Services) -> ResyncPlan:
        """Reads the adjustment in DPS and in NOMIS.

        The plan creates or updates it in NOMIS, or deletes it there if DPS has deleted it. If DPS does not have the
        adjustment and there is no mapping either, nothing is written.
        """
        api = services[UpstreamName.SENTENCE_ADJUSTMENTS]
        adjustment = read_if_there(lambda: adjustments_api.adjustment(api, dps_id))
        ids = self.find_ids(dps_id, services)
        nomis = None if ids is None else REPAIR.read(services, ids)
        offender_no = None if nomis is None else nomis["offenderNo"]
        properties = {"adjustmentId": dps_id, "offenderNo": offender_no}
        plan = partial(ResyncPlan, creation_id=dps_id, ids=ids, nomis=nomis, properties=properties)
        event = partial(_event, dps_id=dps_id, offender_no=offender_no)
        if adjustment is None:
            return _plan_gone(partial(plan, dps=None), ids, event("deleted"))
        plan = partial(plan, dps=_shown(adjustment), expected=_expected(adjustment))
        if ids is None:
            because = "it is not mapped to a NOMIS adjustment"
            unchecked = _may_be_there(adjustment, services)
            return plan(effect=Effect.CREATE, because=because, events=(event("inserted"),), unchecked=unchecked)
        if nomis is None:
            because = f"it is mapped to adjustment {ids.nomis_text}, which NOMIS does not have"
            return plan(effect=Effect.CREATE, because=because, events=(event("inserted"),), mapping_is_stale=True)
        return plan(
            effect=Effect.UPDATE,
            because="it is mapped to a NOMIS adjustment",
            events=(event("updated"),),
            objection=category_conflict(adjustment, nomis_adjustments.category(ids.nomis_ids[1])),
        )


def _may_be_there(adjustment: Adjustment, services: Services) -> str | None:
    """A sentence that says why NOMIS may already have the adjustment, or None if nothing suggests that it does.

    If a user or another program created the adjustment in NOMIS, NOMIS has an equal one that is not mapped. If NOMIS
    does not list adjustments, the sentence says that the program could not check this.
    """
    booking_id = adjustment.booking_id
    try:
        listed = nomis_adjustments.booking_adjustments(services.nomis, booking_id, active_only=False)
    except UpstreamError as error:
        if not error.no_route:
            raise
        return (
            f"NOMIS does not list adjustments: the program could not check whether booking {booking_id} already "
            "has this adjustment"
        )
    for category, each in () if listed is None else listed.by_category():
        same = (category_of(adjustment), adjustment.adjustment_type, adjustment.adjustment_days)
        if (category, each.adjustment_type.code, each.adjustment_days) != same:
            continue
        if MAPPINGS.find_by_nomis_ids(services.mapping, each.id, category) is None:
            equal = f"{category} {each.id}"
            return (
                f"NOMIS has an equal adjustment without a mapping, {equal}: the program could not check whether it "
                "is the same adjustment"
            )
    return None


def _plan_gone(plan: "partial[ResyncPlan]", ids: MappingIds | None, deleted: DomainEvent) -> ResyncPlan:
    if ids is None:
        objection = "the adjustments API does not have this adjustment, and there is no mapping for it: check the id"
        return plan(effect=Effect.NOTHING, because="the adjustments API does not have it", objection=objection)
    because = (
        "it has been deleted in DPS, so the NOMIS adjustment and its mapping are deleted; a release date may change"
    )
    return plan(effect=Effect.DELETE, because=because, events=(deleted,))


def _event(word: str, dps_id: str, offender_no: str | None) -> DomainEvent:
    information = {"id": dps_id, "source": "DPS", **({"offenderNo": offender_no} if offender_no else {})}
    return DomainEvent(f"release-date-adjustments.adjustment.{word}", additional_information=information)


def _expected(adjustment: Adjustment) -> Record:
    """The fields that NOMIS must show once the adjustment is written."""
    body = nomis_adjustment(adjustment, london_now().date()).as_json()
    request = {"sentenceSequence": adjustment.sentence_sequence, "body": body}
    return {"bookingId": str(adjustment.booking_id), **REPAIR.expected(request)}


def _shown(adjustment: Adjustment) -> Record:
    return {
        "bookingId": str(adjustment.booking_id),
        "family": category_of(adjustment),
        "sentenceSequence": text_or_none(adjustment.sentence_sequence),
        "type": adjustment.adjustment_type,
        "days": str(adjustment.adjustment_days),
        "date": iso_or_none(adjustment.adjustment_date),
        "from": iso_or_none(adjustment.adjustment_from_date),
        "active": "yes" if adjustment.active else "no",
    }


RESYNCS = (AdjustmentResync(),)
