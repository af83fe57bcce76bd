"""The declarations of the sandbox's domains, on which its services, commands, traffic and verification are based."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, MutableMapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from sandbox.dps import activity_endpoints as activities_views
from sandbox.dps import adjustments as adjustments_api
from sandbox.dps import appointments as appointments_api
from sandbox.dps import incentives as incentives_api
from sandbox.dps import rollout
from sandbox.dps import visits as visit_scheduler
from sandbox.dps.activities import Activity, DpsAllocation, DpsAttendance, Instance, Schedule
from sandbox.dps.adjustments import DpsAdjustment
from sandbox.dps.appointments import AppointmentInstance
from sandbox.dps.visits import BookedVisit
from sandbox.hmpps import mapping_shapes
from sandbox.hmpps.auth import MAPPING_SYNCHRONISATION, NOMIS_SYNCHRONISATION, Client
from sandbox.hmpps.mapping_shapes import Key, Shape
from sandbox.http.serving import Route
from sandbox.nomis import activity_counts as nomis_activity_counts
from sandbox.nomis import adjustments as nomis_sentencing
from sandbox.nomis import allocations as nomis_allocations
from sandbox.nomis import appointments as nomis_appointments
from sandbox.nomis import attendances as nomis_attendances
from sandbox.nomis import courses as nomis_courses
from sandbox.nomis import incentives as nomis_incentives
from sandbox.nomis import visits as nomis_visits
from sandbox.population.levels import Level, PrisonLevel
from sandbox.traffic.activities import ActivityScenarios
from sandbox.traffic.adjustments import AdjustmentScenarios
from sandbox.traffic.appointments import AppointmentScenarios
from sandbox.traffic.incentives import IncentiveScenarios
from sandbox.traffic.steps import People, Scenarios
from sandbox.traffic.visits import VisitScenarios
from sandbox.verification import activities, adjustments, appointments, incentives, visits
from sandbox.verification.discrepancies import Discrepancies
from sandbox.verification.published import EventType

if TYPE_CHECKING:
    import random

    from sandbox.world import World


@dataclass(frozen=True, slots=True)
class RecordKind:
    """Records of one kind in a publishing service, as `Sandbox.put` writes them.

    Attributes:
        type: the dataclass of a record.
        held: returns the records of a world, by key.
        key: the fields that identify a record.
        hold: stores a record, or None if it is enough to add the record to what `held` returns.
    """

    type: type[Any]
    held: Callable[[World], MutableMapping[Any, Any]]
    key: tuple[str, ...] = ("id",)
    hold: Callable[[World, Any], None] | None = None


@dataclass(frozen=True, slots=True)
class Domain:
    """All that the sandbox knows about one domain.

    Attributes:
        client: the program's client of the publishing service; `client.service` is the service's name in faults, logs
            and ports.
        publisher: the endpoints of the publishing service, module by module.
        nomis: the endpoints in NOMIS, module by module.
        mapping: what the domain's mappings look like; NOMIS and the mapping service require `mapping.role`.
        queue: the id of the domain's queue.
        events: the types of the domain's events; the first is the type of the creation event.
        unknown_event: an event type of the publishing service that nobody handles.
        names_prisoner: whether the events name the prisoner outside the additional information.
        records: the kinds of records in the publishing service.
        nomis_records: the kinds of records in NOMIS.
        scenarios: generates traffic.
        share: the share of the traffic that belongs to the domain, in per cent.
        plant_duplicate: adds to NOMIS a copy of the record with the given key, and returns the key of the copy.
        verify: compares NOMIS and the mappings with what was published.
    """

    client: Client
    publisher: tuple[Callable[[World], list[Route]], ...]
    nomis: tuple[Callable[[World], list[Route]], ...]
    mapping: Shape
    queue: str
    events: tuple[EventType, ...]
    unknown_event: str
    scenarios: Callable[[World, People, random.Random], Scenarios]
    share: int
    plant_duplicate: Callable[[World, Key], Key]
    verify: Callable[[World, Discrepancies], None]
    names_prisoner: bool = False
    records: Mapping[str, RecordKind] = field(default_factory=dict)
    nomis_records: Mapping[str, Callable[[World], Iterable[Any]]] = field(default_factory=dict)


def _hold_schedule(world: World, schedule: Schedule) -> None:
    """Makes a schedule readable, with its activity and instances."""
    held = world.activities
    held.schedules[schedule.id] = schedule
    held.activities[schedule.activity.id] = schedule.activity
    held.instances.update((each.id, each) for each in schedule.instances)


def _hold_instance(world: World, instance: Instance) -> None:
    """Puts an instance into its schedule."""
    held = world.activities
    schedule = held.schedules[instance.schedule_id]
    if instance.id not in held.instances:
        schedule.instances.append(instance)
    held.instances[instance.id] = instance


def _hold_allocation(world: World, allocation: DpsAllocation) -> None:
    """Adds an allocation to its schedule, unless the schedule already has it."""
    if allocation.id not in world.activities.allocations:
        world.activities.add_allocation(allocation)


VISITS: Final = Domain(
    client=Client("visits", "VISITS", ("VISIT_SCHEDULER",)),
    publisher=(visit_scheduler.routes,),
    nomis=(nomis_visits.routes,),
    mapping=mapping_shapes.VISITS,
    queue="visit",
    events=(
        EventType("prison-visit.booked", "visit", ("reference",), "created", is_text=True),
        EventType("prison-visit.changed", "visit", ("reference",), "changed", is_text=True),
        EventType("prison-visit.cancelled", "visit", ("reference",), "cancelled", is_text=True),
    ),
    unknown_event="prison-visit.extended",
    names_prisoner=True,
    records={"visit": RecordKind(BookedVisit, lambda world: world.visits.visits, key=("reference",))},
    nomis_records={"visit": lambda world: world.nomis_visits.visits.values()},
    scenarios=VisitScenarios,
    share=20,
    plant_duplicate=lambda world, key: (nomis_visits.plant_duplicate(world, int(key[0])),),
    verify=visits.verify,
)
INCENTIVES: Final = Domain(
    client=Client("incentives", "INCENTIVES", ()),
    publisher=(incentives_api.routes,),
    nomis=(nomis_incentives.routes,),
    mapping=mapping_shapes.INCENTIVES,
    queue="incentive",
    events=(
        EventType("incentives.iep-review.inserted", "incentive", ("id",), "created"),
        EventType("incentives.level.changed", "level", ("incentiveLevel",), "created", is_text=True),
        EventType("incentives.prison-level.changed", "prison-level", ("prisonId", "incentiveLevel"), "created"),
        EventType("incentives.levels.reordered", "level-order", (), "created"),
    ),
    unknown_event="incentives.iep-review.updated",
    records={
        "level": RecordKind(Level, lambda world: world.incentives.levels, key=("code",)),
        "prison-level": RecordKind(
            PrisonLevel, lambda world: world.incentives.prison_levels, key=("prison_id", "code")
        ),
    },
    nomis_records={
        "incentive": lambda world: [each for found in world.nomis_incentives.records.values() for each in found],
        "level": lambda world: world.nomis_incentives.codes.values(),
        "prison-level": lambda world: world.nomis_incentives.prison_levels.values(),
    },
    scenarios=IncentiveScenarios,
    share=10,
    plant_duplicate=lambda world, key: (key[0], nomis_incentives.plant_duplicate(world, int(key[0]), int(key[1]))),
    verify=incentives.verify,
)
ACTIVITIES: Final = Domain(
    client=Client("activities", "ACTIVITIES", ("NOMIS_ACTIVITIES", "ACTIVITY_ADMIN")),
    publisher=(activities_views.routes, rollout.activities_routes),
    nomis=(
        nomis_courses.routes,
        nomis_allocations.routes,
        nomis_attendances.routes,
        nomis_activity_counts.routes,
        rollout.nomis_routes,
    ),
    mapping=mapping_shapes.ACTIVITIES,
    queue="activity",
    events=(
        EventType("activities.activity-schedule.created", "activity", ("activityScheduleId",), "created"),
        EventType("activities.activity-schedule.amended", "activity", ("activityScheduleId",), "changed"),
        EventType("activities.prisoner.allocated", "allocation", ("allocationId",), "created"),
        EventType("activities.prisoner.allocation-amended", "allocation", ("allocationId",), "created"),
        EventType("activities.prisoner.deallocated", "allocation", ("allocationId",), "created"),
        EventType("activities.prisoner.attendance-created", "attendance", ("attendanceId",), "created"),
        EventType("activities.prisoner.attendance-amended", "attendance", ("attendanceId",), "created"),
        EventType("activities.prisoner.attendance-expired", "attendance", ("attendanceId",), "created"),
    ),
    unknown_event="activities.activity-schedule.extended",
    records={
        "activity": RecordKind(Activity, lambda world: world.activities.activities),
        "schedule": RecordKind(Schedule, lambda world: world.activities.schedules, hold=_hold_schedule),
        "instance": RecordKind(Instance, lambda world: world.activities.instances, hold=_hold_instance),
        "allocation": RecordKind(DpsAllocation, lambda world: world.activities.allocations, hold=_hold_allocation),
        "attendance": RecordKind(DpsAttendance, lambda world: world.activities.attendances),
    },
    nomis_records={
        "course": lambda world: world.nomis_courses.courses.values(),
        "allocation": lambda world: world.nomis_courses.allocations.values(),
        "attendance": lambda world: world.nomis_courses.attendances.values(),
    },
    scenarios=ActivityScenarios,
    share=45,
    plant_duplicate=lambda world, key: (nomis_courses.plant_duplicate(world, int(key[0])),),
    verify=activities.verify,
)
_INSTANCE_ID: Final = ("appointmentInstanceId",)
APPOINTMENTS: Final = Domain(
    client=Client("appointments", "APPOINTMENTS", ("ACTIVITY_ADMIN",)),
    publisher=(appointments_api.routes,),
    nomis=(nomis_appointments.routes,),
    mapping=mapping_shapes.APPOINTMENTS,
    queue="appointment",
    events=(
        EventType("appointments.appointment-instance.created", "appointment", _INSTANCE_ID, "created"),
        EventType("appointments.appointment-instance.updated", "appointment", _INSTANCE_ID, "changed"),
        EventType("appointments.appointment-instance.cancelled", "appointment", _INSTANCE_ID, "cancelled"),
        EventType("appointments.appointment-instance.deleted", "appointment", _INSTANCE_ID, "deleted"),
    ),
    unknown_event="appointments.appointment-instance.uncancelled",
    records={"appointment": RecordKind(AppointmentInstance, lambda world: world.appointments.instances)},
    nomis_records={"appointment": lambda world: world.nomis_appointments.appointments.values()},
    scenarios=AppointmentScenarios,
    share=15,
    plant_duplicate=lambda world, key: (nomis_appointments.plant_duplicate(world, int(key[0])),),
    verify=appointments.verify,
)
ADJUSTMENTS: Final = Domain(
    client=Client(
        "adjustments", "SENTENCE_ADJUSTMENTS", ("SENTENCE_ADJUSTMENTS_SYNCHRONISATION", "ADJUSTMENTS__ADJUSTMENTS_RO")
    ),
    publisher=(adjustments_api.routes,),
    nomis=(nomis_sentencing.routes,),
    mapping=mapping_shapes.ADJUSTMENTS,
    queue="sentencing",
    events=(
        EventType("release-date-adjustments.adjustment.inserted", "adjustment", ("id",), "created", is_text=True),
        EventType("release-date-adjustments.adjustment.updated", "adjustment", ("id",), "changed", is_text=True),
        EventType("release-date-adjustments.adjustment.deleted", "adjustment", ("id",), "deleted", is_text=True),
    ),
    unknown_event="release-date-adjustments.adjustment.recalculated",
    records={"adjustment": RecordKind(DpsAdjustment, lambda world: world.adjustments.adjustments)},
    nomis_records={
        "adjustment": lambda world: [each for each in adjustments.records(world).values() if each.made_by is None]
    },
    scenarios=AdjustmentScenarios,
    share=10,
    plant_duplicate=lambda world, key: (nomis_sentencing.plant_duplicate(world, int(key[0]), str(key[1])), key[1]),
    verify=adjustments.verify,
)
DOMAINS: Final = (VISITS, INCENTIVES, ACTIVITIES, APPOINTMENTS, ADJUSTMENTS)
#: The types of all events, by name.
EVENT_TYPES: Final = {event.name: event for domain in DOMAINS for event in domain.events}
_DOMAIN_ROLES: Final = tuple(domain.mapping.role for domain in DOMAINS)
#: The program's client of each service.
CLIENTS: Final = (
    Client("nomis", "SYSTEM", (*_DOMAIN_ROLES, "SYNCHRONISATION_REPORTING", NOMIS_SYNCHRONISATION)),
    Client("mapping", "MAPPING", (*_DOMAIN_ROLES, MAPPING_SYNCHRONISATION)),
    *(domain.client for domain in DOMAINS),
    Client("prisoner-search", "PRISONER_SEARCH", ("EVENTS_ADMIN",)),
)


def verify(world: World) -> dict[str, object]:
    """Compares NOMIS and the mappings with all published events, except those that the program has to ignore.

    Returns:
        `entities` (how many were checked), `by_domain` (how many were checked in each domain), `problems` (each with
        `domain`, `dps_id`, `problem` and details), and `surplus` (the unmapped NOMIS records made since the
        world started).
    """
    found = Discrepancies()
    for domain in DOMAINS:
        domain.verify(world, found)
    return {
        "entities": sum(found.looked_at.values()),
        "by_domain": dict(found.looked_at),
        "problems": found.problems,
        "surplus": found.surplus,
    }
