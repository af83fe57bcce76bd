"""The visit-scheduler: social visits booked by prison staff and the public."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

from sandbox.clock import london_now
from sandbox.serving import Refused, Reply, Request, Route

if TYPE_CHECKING:
    from sandbox.world import World

ROLE: Final = "VISIT_SCHEDULER"
MOCK_PRISONER: Final = "A7948DY"


@dataclass(slots=True)
class BookedVisit:
    """One visit as visit-scheduler holds it; times are local."""

    reference: str
    prisoner_id: str
    prison_id: str
    room: str
    start: datetime
    end: datetime
    person_ids: list[int]
    visit_type: str = "SOCIAL"
    status: str = "BOOKED"
    restriction: str = "OPEN"
    outcome: str | None = None


@dataclass(slots=True)
class VisitScheduler:
    """The visits of visit-scheduler by reference.

    With `mock_prison_id` set every unknown reference is answered with a canned visit there by `mock_person_ids`.
    """

    visits: dict[str, BookedVisit] = field(default_factory=dict)
    mock_prison_id: str | None = None
    mock_person_ids: tuple[int, ...] = ()

    def find(self, reference: str) -> BookedVisit | None:
        """The visit with this reference, the canned one where mocks are on, else None."""
        found = self.visits.get(reference)
        if found is None and self.mock_prison_id is not None:
            now = london_now().replace(microsecond=0)
            return BookedVisit(
                reference=reference,
                prisoner_id=MOCK_PRISONER,
                prison_id=self.mock_prison_id,
                room="Visits Main Hall",
                start=now,
                end=now + timedelta(hours=1),
                person_ids=list(self.mock_person_ids),
            )
        return found


def routes(world: World) -> list[Route]:
    """The endpoints of visit-scheduler that are used here."""

    def get(request: Request, reference: str) -> Reply:
        visit = world.visits.find(reference)
        if visit is None:
            raise Refused(404, f"Visit not found: {reference}")
        return Reply(body=_view(visit))

    return [Route("GET", "/visits/{reference}", get, ROLE)]


def _view(visit: BookedVisit) -> dict[str, object]:
    return {
        "reference": visit.reference,
        "applicationReference": visit.reference[::-1],
        "prisonerId": visit.prisoner_id,
        "prisonId": visit.prison_id,
        "visitRoom": visit.room,
        "visitType": visit.visit_type,
        "visitStatus": visit.status,
        "outcomeStatus": visit.outcome,
        "visitRestriction": visit.restriction,
        "startTimestamp": visit.start.isoformat(timespec="seconds"),
        "endTimestamp": visit.end.isoformat(timespec="seconds"),
        "visitNotes": [],
        "visitContact": {"name": "A Contact", "telephone": "01234 567890"},
        "visitors": [
            {"nomisPersonId": person_id, "visitContact": place == 0} for place, person_id in enumerate(visit.person_ids)
        ],
        "visitorSupport": [],
        "createdTimestamp": visit.start.isoformat(timespec="seconds"),
    }
