"""Putting single records into the publishing services by hand, and looking at what NOMIS holds, as tests need it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, MutableMapping
from typing import TYPE_CHECKING, Any, Final

from pydantic import TypeAdapter, ValidationError

from sandbox.activities_api import Activity, DpsAllocation, DpsAttendance, Instance, Schedule
from sandbox.adjustments_api import DpsAdjustment
from sandbox.appointments_api import AppointmentInstance
from sandbox.levels import Level, PrisonLevel
from sandbox.truth.adjustments import records
from sandbox.truth.findings import plain_value
from sandbox.visit_scheduler import BookedVisit

if TYPE_CHECKING:
    from sandbox.world import World

TYPES: Final[dict[str, Any]] = {
    "visit": BookedVisit,
    "activity": Activity,
    "schedule": Schedule,
    "instance": Instance,
    "allocation": DpsAllocation,
    "attendance": DpsAttendance,
    "appointment": AppointmentInstance,
    "adjustment": DpsAdjustment,
    "level": Level,
    "prison-level": PrisonLevel,
}
#: The fields by which a record is known, where it is not its `id`.
KEYS: Final = {"visit": ("reference",), "level": ("code",), "prison-level": ("prison_id", "code")}


def held(world: World, kind: str) -> MutableMapping[Any, Any]:
    """The records of one kind in the publishing services, by id.

    Raises:
        ValueError: no such kind.
    """
    kinds: dict[str, MutableMapping[Any, Any]] = {
        "visit": world.visits.visits,
        "activity": world.activities.activities,
        "schedule": world.activities.schedules,
        "instance": world.activities.instances,
        "allocation": world.activities.allocations,
        "attendance": world.activities.attendances,
        "appointment": world.appointments.instances,
        "adjustment": world.adjustments.adjustments,
        "level": world.incentives.levels,
        "prison-level": world.incentives.prison_levels,
    }
    if kind not in kinds:
        raise ValueError(f"no records called {kind}; there are {', '.join(kinds)}")
    return kinds[kind]


def put(world: World, kind: str, values: dict[str, object]) -> object:
    """Make a record, or change one that is there with only the given fields; returns it as JSON.

    A schedule is given with its `activity` (an object); its instances become readable with it.

    Raises:
        ValueError: no such kind, or fields that do not fit it.
    """
    there = held(world, kind)
    known = there.get(_key(kind, values))
    if known is not None:
        values = {**_fields(known), **values}
    try:
        record = TypeAdapter(TYPES[kind]).validate_python(values)
    except ValidationError as error:
        raise ValueError(f"{kind}: {error.errors(include_url=False, include_input=False)}") from error
    if known is not None:
        for name in (each.name for each in dataclasses.fields(known)):
            setattr(known, name, getattr(record, name))
        record = known
    _hold(world, kind, record)
    return view(record)


def drop(world: World, kind: str, text: str) -> None:
    """Remove a record from its publishing service, so that it answers 404.

    Raises:
        ValueError: no such kind.
    """
    there = held(world, kind)
    there.pop(int(text) if text.isdigit() else text, None)


def nomis(world: World, kind: str) -> list[object]:
    """Every record of one kind in NOMIS.

    Raises:
        ValueError: no such kind.
    """
    kinds: dict[str, Callable[[], list[Any]]] = {
        "visit": lambda: list(world.nomis_visits.visits.values()),
        "incentive": lambda: [each for found in world.nomis_incentives.records.values() for each in found],
        "course": lambda: list(world.nomis_courses.courses.values()),
        "allocation": lambda: list(world.nomis_courses.allocations.values()),
        "attendance": lambda: list(world.nomis_courses.attendances.values()),
        "appointment": lambda: list(world.nomis_appointments.appointments.values()),
        "level": lambda: list(world.nomis_incentives.codes.values()),
        "prison-level": lambda: list(world.nomis_incentives.prison_levels.values()),
        "adjustment": lambda: [each for each in records(world).values() if each.made_by is None],
    }
    if kind not in kinds:
        raise ValueError(f"NOMIS has no {kind} here; it has {', '.join(kinds)}")
    return [view(each) for each in kinds[kind]()]


def view(record: Any) -> object:
    """A record as JSON, its fields under their own names."""
    return plain_value(dataclasses.asdict(record))


def _key(kind: str, values: Mapping[str, Any]) -> Any:
    parts = tuple(values.get(name) for name in KEYS.get(kind, ("id",)))
    return parts if len(parts) > 1 else parts[0]


def _fields(record: Any) -> dict[str, object]:
    return {each.name: getattr(record, each.name) for each in dataclasses.fields(record)}


def _hold(world: World, kind: str, record: Any) -> None:
    activities = world.activities
    if kind == "allocation":
        if record.id not in activities.allocations:
            activities.add_allocation(record)
    elif kind == "instance":
        schedule = activities.schedules[record.schedule_id]
        if record.id not in activities.instances:
            schedule.instances.append(record)
        activities.instances[record.id] = record
    else:
        held(world, kind)[_key(kind, _fields(record))] = record
    if kind == "schedule":
        activities.activities[record.activity.id] = record.activity
        activities.instances.update((each.id, each) for each in record.instances)
