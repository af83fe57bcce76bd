"""What NOMIS must hold for the appointment instances of the activities API."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sandbox.nomis.appointments import NomisAppointment
from sandbox.verification import discrepancies
from sandbox.verification.discrepancies import Discrepancies

if TYPE_CHECKING:
    from sandbox.verification.published import Entity
    from sandbox.world import World

Pair = tuple[object, ...]


def verify(world: World, found: Discrepancies) -> None:
    """Checks every published appointment through its mapping, and the unmapped records made since the world started.

    An unmapped record counts as belonging to the appointment of the same booking at the same time and place.
    """
    mapped = {row.nomis_id[0] for row in world.mapping.rows("appointments")}
    known: dict[Pair, int] = {}
    for entity in world.published.of("appointment"):
        instance = world.appointments.instances.get(int(entity.dps_id))
        if instance is not None and entity.exists:
            known[instance.booking_id, instance.location_id, instance.day, instance.start] = instance.id
    loose: dict[int | None, list[int]] = {}
    for record in world.nomis_appointments.appointments.values():
        if record.event_id not in mapped and record.created >= world.started:
            dps_id = known.get((record.booking_id, record.location_id, record.day, record.start))
            loose.setdefault(dps_id, []).append(record.event_id)
            found.unmapped_record("appointment", dps_id, nomis_id=record.event_id)
    for entity in world.published.of("appointment"):
        found.count("appointment")
        _verify_one(world, found, entity, loose.get(int(entity.dps_id), []))


def _verify_one(world: World, found: Discrepancies, entity: Entity, loose: list[int]) -> None:
    dps_id = int(entity.dps_id)
    mapped = world.mapping.nomis_id("appointments", dps_id)
    record = None if mapped is None else world.nomis_appointments.appointments.get(int(mapped[0]))
    if not entity.exists:
        _verify_absent(found, entity, record, mapped=mapped is not None)
        return
    if mapped is None:
        found.add("appointment", dps_id, discrepancies.UNMAPPED if loose else discrepancies.MISSING, nomis_ids=loose)
        return
    if loose:
        found.add("appointment", dps_id, discrepancies.DUPLICATE, nomis_ids=loose)
    if record is None:
        found.add("appointment", dps_id, discrepancies.WRONGLY_MAPPED, mapped_to=mapped[0])
        return
    instance = world.appointments.instances.get(dps_id)
    if instance is None:
        return
    expected = {
        "booking_id": instance.booking_id,
        "location_id": instance.location_id,
        "day": instance.day,
        "start": instance.start,
        "subtype": instance.category,
        "status": "CANC" if "cancelled" in entity.events else "SCH",
    }
    if instance.end is not None:
        expected["end"] = instance.end
    found.compare("appointment", dps_id, expected, _held(record))


def _verify_absent(found: Discrepancies, entity: Entity, record: NomisAppointment | None, *, mapped: bool) -> None:
    if record is not None:
        problem = discrepancies.NOT_REFUSED if entity.refused else discrepancies.NOT_DELETED
        found.add("appointment", entity.dps_id, problem, nomis_id=record.event_id)
    elif mapped and "deleted" in entity.events:
        found.add("appointment", entity.dps_id, discrepancies.MAPPING_LEFT)


def _held(record: NomisAppointment) -> dict[str, object]:
    return {
        "booking_id": record.booking_id,
        "location_id": record.location_id,
        "day": record.day,
        "start": record.start,
        "end": record.end,
        "subtype": record.subtype,
        "status": record.status,
    }
