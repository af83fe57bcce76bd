"""Control commands for the domains: traffic, verification, single records, and damage that can occur in NOMIS."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Mapping, MutableMapping
from typing import TYPE_CHECKING, Any, Final

from pydantic import TypeAdapter, ValidationError

from sandbox.control import Body, Command
from sandbox.domains import DOMAINS, RecordKind
from sandbox.domains import verify as verify_world
from sandbox.engine import Engine
from sandbox.nomis import allocations as nomis_allocations
from sandbox.nomis import attendances as nomis_attendances
from sandbox.nomis.appointments import NomisAppointment
from sandbox.nomis.visits import Visit
from sandbox.traffic import run as traffic
from sandbox.verification.discrepancies import plain_value

if TYPE_CHECKING:
    from sandbox.world import World

RECORDS: Final = {kind: records for domain in DOMAINS for kind, records in domain.records.items()}
NOMIS_RECORDS: Final = {kind: listed for domain in DOMAINS for kind, listed in domain.nomis_records.items()}


def held(world: World, kind: str) -> MutableMapping[Any, Any]:
    """The records of one kind in the service that publishes them, by key.

    Raises:
        ValueError: the kind is unknown.
    """
    return _records(kind).held(world)


def _records(kind: str) -> RecordKind:
    if kind not in RECORDS:
        raise ValueError(f"{kind!r} is not a kind of record: choose from {', '.join(RECORDS)}")
    return RECORDS[kind]


def put(world: World, kind: str, values: dict[str, object]) -> object:
    """Makes a record, or changes only the given fields of an existing one; returns the `view` of the record.

    A schedule is given with its `activity` (an object). Storing a schedule also makes its instances readable.

    Raises:
        ValueError: the kind is unknown, or fields are missing or have wrong values.
    """
    records = _records(kind)
    there = records.held(world)
    known = there.get(_key(records, values))
    if known is not None:
        values = {**_fields(known), **values}
    try:
        record = TypeAdapter(records.type).validate_python(values)
    except ValidationError as error:
        raise ValueError(f"{kind}: {error.errors(include_url=False, include_input=False)}") from error
    if known is not None:
        for name in (each.name for each in dataclasses.fields(known)):
            setattr(known, name, getattr(record, name))
        record = known
    if records.hold is None:
        there[_key(records, _fields(record))] = record
    else:
        records.hold(world, record)
    return view(record)


def drop(world: World, kind: str, text: str) -> None:
    """Removes a record from its publishing service, which then responds with 404 to requests for that record.

    text: the id of the record, or the parts of its key with colons between them.

    Raises:
        ValueError: the kind or the record is unknown.
    """
    there = held(world, kind)
    key = next((each for each in there if text == _key_text(each)), None)
    if key is None:
        raise ValueError(f"there is no {kind} {text!r}")
    del there[key]


def _key_text(key: object) -> str:
    return ":".join(map(str, key)) if isinstance(key, tuple) else str(key)


def nomis(world: World, kind: str) -> list[object]:
    """Returns every record of one kind in NOMIS, in a form that JSON allows.

    Raises:
        ValueError: the kind is unknown.
    """
    if kind not in NOMIS_RECORDS:
        raise ValueError(f"{kind!r} is not a kind of record in NOMIS: choose from {', '.join(NOMIS_RECORDS)}")
    return [view(each) for each in NOMIS_RECORDS[kind](world)]


def view(record: Any) -> object:
    """Returns a record in a form that JSON allows, with the names of its fields as keys."""
    return plain_value(dataclasses.asdict(record))


def _key(records: RecordKind, values: Mapping[str, Any]) -> Any:
    parts = tuple(values.get(name) for name in records.key)
    return parts if len(parts) > 1 else parts[0]


def _fields(record: Any) -> dict[str, object]:
    return {each.name: getattr(record, each.name) for each in dataclasses.fields(record)}


def start_traffic(engine: Engine, body: Body) -> object:
    """Plans traffic and begins to publish it."""
    return traffic.start(engine.world, body)


async def traffic_progress(engine: Engine, body: Body) -> object:
    """Returns the progress of the latest traffic. If `wait` is given, first waits until publishing has ended."""
    if body.get("wait") and engine.world.publications:
        await asyncio.to_thread(engine.world.publications[-1].finished.wait)
    return traffic.progress(engine.world)


def verify(engine: Engine, body: Body) -> object:
    """Compares NOMIS and the mappings with everything that was published."""
    return verify_world(engine.world)


def put_entity(engine: Engine, body: Body, kind: str) -> object:
    """Makes or changes a record of a publishing service."""
    return put(engine.world, kind, body)


def list_entities(engine: Engine, body: Body, kind: str) -> object:
    """Lists the records of one kind in a publishing service."""
    return [view(each) for each in held(engine.world, kind).values()]


def drop_entity(engine: Engine, body: Body, kind: str, dps_id: str) -> object:
    """Removes a record of a publishing service."""
    drop(engine.world, kind, dps_id)
    return {}


def list_nomis(engine: Engine, body: Body, kind: str) -> object:
    """Lists the records of one kind in NOMIS."""
    return nomis(engine.world, kind)


def list_mappings(engine: Engine, body: Body, domain: str) -> object:
    """Lists every mapping that the mapping service holds for a domain."""
    table = engine.world.mapping.tables[domain]
    return [table.object_of(row) for row in table.by_dps.values()]


def duplicate_next(engine: Engine, body: Body, queue: str) -> object:
    """Makes the next record created for `queue` a duplicate of one that another installation has just created.

    NOMIS then has the record twice, and the mapping service refuses the mapping that the program posts.
    """
    domains = {domain.queue: domain.mapping.domain for domain in DOMAINS}
    if queue not in domains:
        raise ValueError(f"there is no queue {queue!r}: choose from {', '.join(domains)}")
    engine.world.mapping.duplicates.add(domains[queue])
    return {}


def duplicate_allocation(engine: Engine, body: Body, number: str) -> object:
    """Adds to NOMIS a second row for an allocation, so that every change to the allocation fails."""
    return {"id": nomis_allocations.plant_duplicate(engine.world, int(number)).id}


def duplicate_attendance(engine: Engine, body: Body, number: str) -> object:
    """Adds to NOMIS a second row for an attendance, so that every change to the attendance fails."""
    return {"id": nomis_attendances.plant_duplicate(engine.world, int(number)).event_id}


def change_visit(engine: Engine, body: Body, number: str) -> object:
    """Changes fields of a visit in NOMIS, as users can on the NOMIS screens."""
    visit = engine.world.nomis_visits.visits[int(number)]
    changed = TypeAdapter(Visit).validate_python({**_fields(visit), **body})
    for name in body:
        setattr(visit, name, getattr(changed, name))
    return view(visit)


def drop_visit(engine: Engine, body: Body, number: str) -> object:
    """Deletes a visit in NOMIS, as NOMIS support can."""
    del engine.world.nomis_visits.visits[int(number)]
    return {}


def pay_attendance(engine: Engine, body: Body, number: str) -> object:
    """Marks an attendance as paid by payroll, after which nobody can change it."""
    attendance = engine.world.nomis_courses.attendances[int(number)]
    attendance.transaction = attendance.event_id
    return {}


def put_appointment_in_nomis(engine: Engine, body: Body) -> object:
    """Adds an appointment with the given fields to NOMIS, and maps it to `dpsId` if that is given."""
    dps_id = body.pop("dpsId", None)
    try:
        record = TypeAdapter(NomisAppointment).validate_python(body)
    except ValidationError as error:
        raise ValueError(f"appointment: {error.errors(include_url=False, include_input=False)}") from error
    engine.world.nomis_appointments.appointments[record.event_id] = record
    if dps_id is not None:
        engine.world.mapping.add("appointments", int(dps_id), (record.event_id,), "APPOINTMENT_CREATED")
    return view(record)


def locations(engine: Engine, body: Body, prison_id: str) -> object:
    """Lists the rooms of a prison, each with its NOMIS id, code and description."""
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
    Command("POST", "/duplicates/{queue}", duplicate_next),
    Command("POST", "/nomis/duplicates/allocation/{number}", duplicate_allocation),
    Command("POST", "/nomis/duplicates/attendance/{number}", duplicate_attendance),
    Command("POST", "/nomis/paid/{number}", pay_attendance),
    Command("PUT", "/nomis/visits/{number}", change_visit),
    Command("DELETE", "/nomis/visits/{number}", drop_visit),
    Command("POST", "/nomis/appointments", put_appointment_in_nomis),
    Command("GET", "/locations/{prison_id}", locations),
)
