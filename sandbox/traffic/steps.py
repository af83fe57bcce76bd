"""A step: one change in a publishing service with the event that tells of it. Steps of one record make a story."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

QUEUE_OF_DOMAIN = {
    "visit": "visit",
    "incentive": "incentive",
    "level": "incentive",
    "level-order": "incentive",
    "prison-level": "incentive",
    "activity": "activity",
    "session": "activity",
    "allocation": "activity",
    "attendance": "activity",
    "appointment": "appointment",
    "adjustment": "sentencing",
}


@dataclass(slots=True)
class Step:
    """What happens in the publishing service (`change`) just before the event is published.

    `kind` is `create`, `update`, `end` (cancelled or deleted) or `ignore` (nothing must come of it).
    """

    domain: str
    dps_id: int | str
    kind: str
    event_type: str
    information: dict[str, object] | None
    change: Callable[[], None] | None = None
    prisoner_id: str | None = None
    refused: bool = False

    @property
    def queue(self) -> str:
        """The id of the queue that the event comes to."""
        return QUEUE_OF_DOMAIN[self.domain]

    @property
    def entity(self) -> tuple[str, int | str]:
        """What tells the record from all others."""
        return self.domain, self.dps_id


Story = list[Step]


class Stories(Protocol):
    """Makes up stories of one domain, as many as are asked for."""

    def story(self) -> Story:
        """Return the next story, its steps in the order in which they happen."""


@dataclass(slots=True)
class Counted:
    """Things of one kind that were planted, as a list of what and where."""

    found: list[dict[str, object]] = field(default_factory=list)

    def add(self, step: Step, **details: object) -> None:
        """List one."""
        self.found.append({"eventType": step.event_type, "domain": step.domain, "dps_id": step.dps_id, **details})
