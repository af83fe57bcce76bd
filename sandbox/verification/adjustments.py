"""What NOMIS must hold for the adjustments of the adjustments API."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sandbox.nomis.adjustments import NomisAdjustment
from sandbox.verification import discrepancies
from sandbox.verification.discrepancies import Discrepancies, Either

if TYPE_CHECKING:
    from sandbox.dps.adjustments import DpsAdjustment
    from sandbox.verification.published import Entity
    from sandbox.world import World

Key = tuple[int, str]


def verify(world: World, found: Discrepancies) -> None:
    """Checks every published adjustment through its mapping, and the unmapped records made since the world started.

    An unmapped record counts as belonging to the adjustment with the same values.
    """
    mapped = {row.nomis_id for row in world.mapping.rows("adjustments")}
    known = {}
    for entity in world.published.of("adjustment"):
        adjustment = world.adjustments.adjustments.get(str(entity.dps_id))
        if adjustment is not None and entity.exists:
            known[_values(adjustment)] = adjustment.id
    loose: dict[str | None, list[Key]] = {}
    for key, record in records(world).items():
        if key not in mapped and record.made_by is None and record.created >= world.started:
            dps_id = known.get(_values(record))
            loose.setdefault(dps_id, []).append(key)
            found.unmapped_record("adjustment", dps_id, nomis_id=key[0], category=key[1])
    for entity in world.published.of("adjustment"):
        found.count("adjustment")
        _verify_one(world, found, entity, loose.get(str(entity.dps_id), []))


def records(world: World) -> dict[Key, NomisAdjustment]:
    """All sentence and key-date adjustments in NOMIS, keyed by number and by the mapping service's category."""
    held = world.nomis_sentencing
    return {
        **{(each.id, "SENTENCE"): each for each in held.sentence.values()},
        **{(each.id, "KEY-DATE"): each for each in held.key_date.values()},
    }


def _values(of: DpsAdjustment | NomisAdjustment) -> tuple[object, ...]:
    return (
        of.booking_id,
        of.sentence,
        of.type,
        of.start,
        of.days,
        discrepancies.held(of.comment, discrepancies.COMMENT_BYTES),
    )


def _verify_one(world: World, found: Discrepancies, entity: Entity, loose: list[Key]) -> None:
    dps_id = str(entity.dps_id)
    mapped = world.mapping.nomis_id("adjustments", dps_id)
    record = None if mapped is None else records_of(world, mapped)
    if not entity.exists:
        if record is not None and "deleted" in entity.events:
            found.add("adjustment", dps_id, discrepancies.NOT_DELETED, nomis_id=record.id)
        elif mapped is not None and "deleted" in entity.events:
            found.add("adjustment", dps_id, discrepancies.MAPPING_LEFT)
        return
    if mapped is None:
        found.add("adjustment", dps_id, discrepancies.UNMAPPED if loose else discrepancies.MISSING, records=loose)
        return
    if loose:
        found.add("adjustment", dps_id, discrepancies.DUPLICATE, records=loose)
    if record is None:
        found.add("adjustment", dps_id, discrepancies.WRONGLY_MAPPED, mapped_to=list(mapped))
        return
    adjustment = world.adjustments.adjustments.get(dps_id)
    if adjustment is not None:
        found.compare("adjustment", dps_id, expected(adjustment, record), _held(record))


def records_of(world: World, mapped: tuple[int | str, ...]) -> NomisAdjustment | None:
    """The record that a mapping points to, or None if it does not exist."""
    number, category = int(mapped[0]), mapped[1]
    held = world.nomis_sentencing
    return (held.sentence if category == "SENTENCE" else held.key_date).get(number)


def expected(adjustment: DpsAdjustment, record: NomisAdjustment) -> dict[str, object]:
    """The NOMIS record that an adjustment must have.

    The record for an adjustment without a day has the day on which the record was created. If an adjustment to a key
    date has no start, the record may start on the adjustment's day or on the day on which the record was created.
    """
    written = record.created.date()
    start: object = adjustment.start
    if adjustment.start is None and adjustment.sentence is None:
        start = Either((adjustment.day or written, written))
    return {
        "booking_id": adjustment.booking_id,
        "sentence": adjustment.sentence,
        "type": adjustment.type,
        "day": adjustment.day or written,
        "start": start,
        "days": adjustment.days,
        "comment": discrepancies.held(adjustment.comment, discrepancies.COMMENT_BYTES),
        "active": adjustment.active,
    }


def _held(record: NomisAdjustment) -> dict[str, object]:
    return {
        "booking_id": record.booking_id,
        "sentence": record.sentence,
        "type": record.type,
        "day": record.day,
        "start": record.start,
        "days": record.days,
        "comment": record.comment,
        "active": record.active,
    }
