"""What NOMIS must hold for the visits of visit-scheduler."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sandbox.nomis.visits import Visit, visit_room
from sandbox.verification import discrepancies
from sandbox.verification.discrepancies import Discrepancies

if TYPE_CHECKING:
    from sandbox.dps.visits import BookedVisit
    from sandbox.verification.published import Entity
    from sandbox.world import World

COMMENT: Final = "Created by Book A Prison Visit. Reference: "
ORDER_COMMENT: Final = "Created by Book A Prison Visit for visit with reference: "
OUTCOMES: Final = {
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


def verify(world: World, found: Discrepancies) -> None:
    """Checks every published visit, and lists the unmapped NOMIS records.

    The record of a visit is found by the reference in the record's comment. A cancelled duplicate of a mapped record
    does no harm, so it is neither reported as a problem nor listed.
    """
    by_reference: dict[str, list[Visit]] = {}
    for visit in world.nomis_visits.visits.values():
        by_reference.setdefault(_reference(visit), []).append(visit)
    mapped = {row.nomis_id[0] for row in world.mapping.rows("visits")}
    for reference, records in by_reference.items():
        by_reference[reference] = _without_cancelled_duplicates(records, mapped)
    for entity in world.published.of("visit"):
        found.count("visit")
        _verify_one(world, found, entity, by_reference.get(str(entity.dps_id), []))
    known = {entity.dps_id for entity in world.published.of("visit") if entity.exists}
    for reference, records in by_reference.items():
        for visit in records:
            if visit.id not in mapped and visit.id not in world.nomis_visits.planted:
                found.unmapped_record("visit", reference if reference in known else None, nomis_id=visit.id)


def _reference(visit: Visit) -> str:
    """The reference of the DPS visit, from the comment of its NOMIS record."""
    return visit.comment.rpartition("eference: ")[2]


def _without_cancelled_duplicates(records: list[Visit], mapped: set[int | str]) -> list[Visit]:
    """The NOMIS records of a visit. If one of them is mapped, unmapped records that are cancelled are left out."""
    if not any(each.id in mapped for each in records):
        return records
    return [each for each in records if each.id in mapped or each.status != "CANC"]


def _verify_one(world: World, found: Discrepancies, entity: Entity, records: list[Visit]) -> None:
    reference = str(entity.dps_id)
    if not entity.exists:
        return
    if not records:
        found.add("visit", reference, discrepancies.MISSING)
        return
    if len(records) > 1:
        found.add("visit", reference, discrepancies.DUPLICATE, nomis_ids=[each.id for each in records])
    mapped = world.mapping.nomis_id("visits", reference)
    if mapped is None:
        found.add("visit", reference, discrepancies.UNMAPPED, nomis_id=records[0].id)
        return
    record = next((each for each in records if each.id == mapped[0]), None)
    if record is None:
        found.add("visit", reference, discrepancies.WRONGLY_MAPPED, mapped_to=mapped[0])
        return
    visit = world.visits.visits.get(reference)
    if visit is not None:
        wanted = expected(world, visit, cancelled="cancelled" in entity.events)
        found.compare("visit", reference, wanted, _held(record))
    if record.order is not None and entity.first_date is not None:
        issued = {"order_issued": record.order.issued.isoformat()}
        found.compare("visit", reference, {"order_issued": entity.first_date}, issued)


def expected(world: World, visit: BookedVisit, *, cancelled: bool) -> dict[str, object]:
    """The NOMIS record that a visit must have."""
    return {
        "offender_no": visit.prisoner_id,
        "prison_id": visit.prison_id,
        "start": visit.start.replace(microsecond=0),
        "end": visit.start.replace(
            hour=visit.end.hour, minute=visit.end.minute, second=visit.end.second, microsecond=0
        ),
        "person_ids": frozenset(visit.person_ids),
        "visit_type": "SCON",
        "room": visit_room(world, visit.prison_id, visit.room, closed=visit.restriction == "CLOSED"),
        "status": "CANC" if cancelled else "SCH",
        "outcome": OUTCOMES.get(visit.outcome or "", "ADMIN") if cancelled else None,
        "comment": f"{COMMENT}{visit.reference}",
    }


def _held(record: Visit) -> dict[str, object]:
    return {
        "offender_no": record.offender_no,
        "prison_id": record.prison_id,
        "start": record.start,
        "end": record.end,
        "person_ids": frozenset(record.person_ids),
        "visit_type": record.visit_type,
        "room": record.room,
        "status": record.status,
        "outcome": record.outcome,
        "comment": record.comment,
    }
