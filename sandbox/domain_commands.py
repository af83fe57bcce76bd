"""Control commands of the domains: traffic, verification, single records, and damage that NOMIS can have."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from sandbox import entities, nomis_allocations, nomis_attendances, traffic
from sandbox.command import Body, Command
from sandbox.engine import Engine
from sandbox.truth import verify as verify_world


def start_traffic(engine: Engine, body: Body) -> object:
    """Plan traffic and begin to publish it."""
    return traffic.start(engine.world, body)


async def traffic_progress(engine: Engine, body: Body) -> object:
    """Tell how far the last traffic is; with `wait` once it is out."""
    if body.get("wait") and engine.world.publications:
        await asyncio.to_thread(engine.world.publications[-1].finished.wait)
    return traffic.progress(engine.world)


def verify(engine: Engine, body: Body) -> object:
    """Compare NOMIS and the mappings with everything that was published."""
    return verify_world(engine.world)


def put_entity(engine: Engine, body: Body, kind: str) -> object:
    """Make or change a record of a publishing service."""
    return entities.put(engine.world, kind, body)


def list_entities(engine: Engine, body: Body, kind: str) -> object:
    """List the records of one kind of a publishing service."""
    return [entities.view(each) for each in entities.held(engine.world, kind).values()]


def drop_entity(engine: Engine, body: Body, kind: str, dps_id: str) -> object:
    """Remove a record of a publishing service."""
    entities.drop(engine.world, kind, dps_id)
    return {}


def list_nomis(engine: Engine, body: Body, kind: str) -> object:
    """List the records of one kind in NOMIS."""
    return entities.nomis(engine.world, kind)


def list_mappings(engine: Engine, body: Body, domain: str) -> object:
    """List the mappings of a domain."""
    table = engine.world.mapping.tables[domain]
    return [table.object_of(row) for row in table.by_dps.values()]


def duplicate_allocation(engine: Engine, body: Body, number: str) -> object:
    """Let NOMIS hold an allocation twice."""
    return {"id": nomis_allocations.plant_duplicate(engine.world, int(number)).id}


def duplicate_attendance(engine: Engine, body: Body, number: str) -> object:
    """Let NOMIS hold an attendance twice."""
    return {"id": nomis_attendances.plant_duplicate(engine.world, int(number)).event_id}


def pay_attendance(engine: Engine, body: Body, number: str) -> object:
    """Let payroll pay an attendance, which nobody can change after that."""
    attendance = engine.world.nomis_courses.attendances[int(number)]
    attendance.transaction = attendance.event_id
    return {}


def locations(engine: Engine, body: Body, prison_id: str) -> object:
    """List the rooms of a prison."""
    found: list[dict[str, Any]] = [
        {"id": each.id, "code": each.code, "description": each.description}
        for each in engine.world.places.in_prison(prison_id)
    ]
    return found


COMMANDS: Final = (
    Command("POST", "/traffic", start_traffic),
    Command("GET", "/traffic", traffic_progress),
    Command("GET", "/verify", verify),
    Command("POST", "/entities/{kind}", put_entity),
    Command("GET", "/entities/{kind}", list_entities),
    Command("DELETE", "/entities/{kind}/{dps_id}", drop_entity),
    Command("GET", "/nomis/{kind}", list_nomis),
    Command("GET", "/mappings/{domain}", list_mappings),
    Command("POST", "/nomis/duplicates/allocation/{number}", duplicate_allocation),
    Command("POST", "/nomis/duplicates/attendance/{number}", duplicate_attendance),
    Command("POST", "/nomis/paid/{number}", pay_attendance),
    Command("GET", "/locations/{prison_id}", locations),
)
