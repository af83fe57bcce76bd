"""Which records of the new services were told to the world, worked out from the events that were published."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

KINDS: Final = {
    "prison-visit.booked": ("visit", "reference", "created"),
    "prison-visit.changed": ("visit", "reference", "changed"),
    "prison-visit.cancelled": ("visit", "reference", "cancelled"),
    "incentives.iep-review.inserted": ("incentive", "id", "created"),
    "incentives.level.changed": ("level", "incentiveLevel", "created"),
    "activities.activity-schedule.created": ("activity", "activityScheduleId", "created"),
    "activities.activity-schedule.amended": ("activity", "activityScheduleId", "changed"),
    "activities.prisoner.allocated": ("allocation", "allocationId", "created"),
    "activities.prisoner.allocation-amended": ("allocation", "allocationId", "created"),
    "activities.prisoner.deallocated": ("allocation", "allocationId", "created"),
    "activities.prisoner.attendance-created": ("attendance", "attendanceId", "created"),
    "activities.prisoner.attendance-amended": ("attendance", "attendanceId", "created"),
    "activities.prisoner.attendance-expired": ("attendance", "attendanceId", "created"),
    "appointments.appointment-instance.created": ("appointment", "appointmentInstanceId", "created"),
    "appointments.appointment-instance.updated": ("appointment", "appointmentInstanceId", "changed"),
    "appointments.appointment-instance.cancelled": ("appointment", "appointmentInstanceId", "cancelled"),
    "appointments.appointment-instance.deleted": ("appointment", "appointmentInstanceId", "deleted"),
    "release-date-adjustments.adjustment.inserted": ("adjustment", "id", "created"),
    "release-date-adjustments.adjustment.updated": ("adjustment", "id", "changed"),
    "release-date-adjustments.adjustment.deleted": ("adjustment", "id", "deleted"),
}
PRISON_LEVEL: Final = "incentives.prison-level.changed"
LEVEL_ORDER: Final = "incentives.levels.reordered"


@dataclass(slots=True)
class Entity:
    """One record of a new service and what was told of it (`created`, `changed`, `cancelled`, `deleted`).

    `refused` marks one that NOMIS cannot hold, so that it must have no record there. `first_told` is the date, as
    written, in the first event of its creation.
    """

    domain: str
    dps_id: int | str
    told: set[str] = field(default_factory=set)
    refused: bool = False
    first_told: str | None = None

    @property
    def exists(self) -> bool:
        """Whether NOMIS must hold it: its creation was told, its deletion was not."""
        return "created" in self.told and "deleted" not in self.told and not self.refused


class Published:
    """The entities of all domains by domain and id."""

    def __init__(self) -> None:
        """Start with nothing told."""
        self._entities: dict[tuple[str, int | str], Entity] = {}

    def __len__(self) -> int:
        """How many entities were told of."""
        return len(self._entities)

    def of(self, domain: str) -> Iterator[Entity]:
        """The entities of one domain, in the order they were first told of."""
        return iter([each for (name, _), each in self._entities.items() if name == domain])

    def tell(self, domain: str, dps_id: int | str, what: str) -> Entity:
        """Record that something was told of an entity."""
        entity = self._entities.setdefault((domain, dps_id), Entity(domain, dps_id))
        entity.told.add(what)
        return entity

    def note(self, event: dict[str, Any]) -> Entity | None:
        """Record a decoded event; returns its entity, None for an event that is to be ignored."""
        event_type = event.get("eventType")
        information = event.get("additionalInformation") or {}
        if information.get("source") == "NOMIS" or information.get("reason") == "USER_CREATED_NOMIS":
            return None
        if event_type == LEVEL_ORDER:
            return self.tell("level-order", "all", "created")
        if event_type == PRISON_LEVEL:
            return self.tell("prison-level", f"{information['prisonId']}:{information['incentiveLevel']}", "created")
        known = KINDS.get(str(event_type))
        if known is None:
            return None
        domain, key, what = known
        dps_id = information.get(key)
        if dps_id is None:
            return None
        entity = self.tell(domain, _id(domain, dps_id), what)
        if what == "created" and entity.first_told is None:
            entity.first_told = str(event.get("occurredAt"))[:10]
        return entity


def _id(domain: str, dps_id: object) -> int | str:
    if domain in {"visit", "adjustment", "level"}:
        return str(dps_id)
    return int(str(dps_id))
