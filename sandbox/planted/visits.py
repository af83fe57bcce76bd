"""Makes visits on both sides for the days around today; those that differ are listed with their causes."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime, time, timedelta
from typing import TYPE_CHECKING, Any, Final

from sandbox.aws.topic import domain_event
from sandbox.clock import london_now
from sandbox.dps.visits import BookedVisit
from sandbox.nomis.visits import Visit, one_room_code, room_code, visit_room
from sandbox.planted.differences import Cause, Key, how_many, plant_causes
from sandbox.population.people import FIRST_PERSON, PERSONS, new_offender_no

if TYPE_CHECKING:
    from sandbox.world import World

NAME: Final = "visits"
RECONCILIATIONS: Final = (NAME,)
#: How many visits each prisoner has around today, and what share of them differs.
VISITS_FOR_EACH: Final = 40_000 / 87_000
DIFFERING: Final = 1 / 2_000
DAYS_AHEAD: Final = 28
FEWEST_VISITS: Final = 20
NOMIS_USER: Final = "XQH31F"
ROOMS: Final = ("Visits Main Hall", "Legal Visit Room 6", "Video Link", "Family Room")
#: Before May 2025, the comment of a visit has the first of these forms; since then, any of them.
NEW_COMMENT_SINCE: Final = "2025-05"
COMMENTS: Final = (
    "Created by Book A Prison Visit. Reference: {}",
    "DPS booking reference: {}",
    "DPS booking reference: {} - wheelchair ramp needed",
)


class _Planter:
    """Makes one visit after another."""

    def __init__(self, world: World, chance: random.Random) -> None:
        self.world, self.chance = world, chance
        self.people = [each for each in world.prisoners if each.active]
        self.midnight = datetime.combine(world.today, time.min)
        self.agreements: tuple[Callable[[], None], ...] = (
            self._booked_and_synchronised,
            self._cancelled_and_synchronised,
            self._over,
            self._requested,
            self._cancelled_before_it_was_created,
            self._migrated,
            self._in_another_room,
            self._without_restriction,
            self._superseded,
            self._duplicate_cancelled,
            self._made_on_the_screen,
            self._of_long_ago,
        )

    def agreeing(self, turn: int) -> None:
        """Makes visits on which both sides agree, in the form that `turn` selects; most are simply booked."""
        if turn < len(self.agreements):
            self.agreements[turn]()
        elif turn % 8:
            self._booked_and_synchronised()
        else:
            self._cancelled_and_synchronised()

    # Visits that agree.

    def _booked_and_synchronised(self) -> None:
        self._record(self._visit())

    def _cancelled_and_synchronised(self) -> None:
        visit = self._visit(status="CANCELLED", outcome="VISITOR_CANCELLED")
        self._record(visit, status="CANC", outcome="VISCANC")

    def _over(self) -> None:
        for day, status in ((-1, "NORM"), (-1, "EXP"), (0, "HMPOP")):
            self._record(self._visit(day), status=status)

    def _requested(self) -> None:
        self._record(self._visit(sub_status="REQUESTED"))

    def _cancelled_before_it_was_created(self) -> None:
        self._visit(status="CANCELLED", outcome="BOOKER_CANCELLED")

    def _migrated(self) -> None:
        self._record(self._visit(), mapping_type="MIGRATED", comment="", made_by=NOMIS_USER)

    def _in_another_room(self) -> None:
        visit = self._visit(restriction="CLOSED")
        self._record(visit, room=f"{visit.prison_id}-VISITS-HALL-2", changed_by=NOMIS_USER, updated=self._earlier(1))
        for restriction in ("OPEN", "CLOSED"):
            old, new = self._visit(restriction=restriction), self._visit(restriction=restriction)
            closed = restriction == "CLOSED"
            self._record(old, room=room_code(old.prison_id, old.room, closed=closed))
            self._record(new, room=one_room_code(new.prison_id, closed=closed))

    def _without_restriction(self) -> None:
        self._record(self._visit(restriction="UNKNOWN"))

    def _superseded(self) -> None:
        visit = self._visit(status="CANCELLED", outcome="SUPERSEDED_CANCELLATION")
        self._record(visit, status="CANC", outcome="ADMIN")

    def _duplicate_cancelled(self) -> None:
        visit = self._visit()
        self._record(visit)
        self._record(visit, mapping_type=None, status="CANC", outcome="ADMIN")

    def _made_on_the_screen(self) -> None:
        for comment in ("", "Asked for by the family. Reference: Smith", "Booked. Reference: by-phone"):
            visit = self._unbooked()
            self._record(visit, mapping_type=None, comment=comment, made_by=NOMIS_USER)

    def _of_long_ago(self) -> None:
        self._record(self._visit(-20), status="EXP")

    # Visits that differ: each method makes one, alternating between its forms, and returns the key.

    def missing(self, turn: int) -> Key:
        visit = self._visit(1 + turn % 5)
        return (visit.reference,)

    def not_cancelled(self, turn: int) -> Key:
        visit = self._visit(2 + turn % 20, status="CANCELLED", outcome="PRISONER_CANCELLED")
        self._record(visit)
        return (visit.reference,)

    def cancelled_in_nomis(self, turn: int) -> Key:
        visit = self._visit()
        self._record(visit, status="CANC", outcome="HMP", changed_by=NOMIS_USER, updated=self._earlier(1))
        return (visit.reference,)

    def moved(self, turn: int) -> Key:
        visit = self._visit(3)
        moved = timedelta(days=1) if turn % 2 else timedelta(minutes=30)
        self._record(replace(visit, start=visit.start - moved, end=visit.end - moved))
        self._changed(visit)
        return (visit.reference,)

    def other_visitors(self, turn: int) -> Key:
        visit = self._visit()
        self._record(replace(visit, person_ids=visit.person_ids[:-1] if turn % 2 else self._visitors()))
        self._changed(visit)
        return (visit.reference,)

    def restricted(self, turn: int) -> Key:
        visit = self._visit(restriction="CLOSED")
        self._record(replace(visit, restriction="OPEN"))
        self._changed(visit)
        return (visit.reference,)

    def prolonged(self, turn: int) -> Key:
        visit = self._visit()
        end = visit.end + timedelta(minutes=15)
        self._record(visit, end=end, changed_by=NOMIS_USER, updated=self._earlier(1))
        return (visit.reference,)

    def created_twice(self, turn: int) -> Key:
        visit = self._visit()
        self._record(visit)
        double = self._record(visit, mapping_type=None)
        return (f"{visit.reference} {double.id}",)

    def unmapped(self, turn: int) -> Key:
        visit = self._visit()
        self._record(visit, mapping_type=None)
        return (visit.reference,)

    def merged(self, turn: int) -> Key:
        visit = self._visit()
        self._record(visit)
        visit.prisoner_id = new_offender_no(self.world, self.chance)
        return (visit.reference,)

    def other_type(self, turn: int) -> Key:
        visit = self._visit()
        self._record(visit, visit_type="OFFI", changed_by=NOMIS_USER, updated=self._earlier(1))
        return (visit.reference,)

    def gone_in_nomis(self, turn: int) -> Key:
        visit = self._visit()
        record = self._record(visit)
        del self.world.nomis_visits.visits[record.id]
        return (visit.reference,)

    def gone_in_dps(self, turn: int) -> Key:
        visit = self._visit()
        self._record(visit)
        del self.world.visits.visits[visit.reference]
        return (visit.reference,)

    def other_outcome(self, turn: int) -> Key:
        visit = self._visit(status="CANCELLED", outcome="VISITOR_CANCELLED")
        self._record(visit, status="CANC", outcome="NSHOW", changed_by=NOMIS_USER, updated=self._earlier(1))
        return (visit.reference,)

    def other_reference(self, turn: int) -> Key:
        visit = self._visit()
        self._record(visit, comment=COMMENTS[turn % 2].format(self._reference()))
        return (visit.reference,)

    def on_its_way(self, turn: int) -> Key:
        visit = self._visit(created=london_now() - timedelta(minutes=3))
        return (visit.reference,)

    def event_waiting(self, turn: int) -> Key:
        (reference,) = key = self.not_cancelled(turn)
        prisoner_id = self.world.visits.visits[str(reference)].prisoner_id
        event = domain_event("prison-visit.cancelled", {"reference": reference}, prisoner_id)
        self.world.waiting.setdefault("visit", []).append(event)
        return key

    # The records.

    def _visit(self, day: int | None = None, **changes: Any) -> BookedVisit:
        """Books a visit in visit-scheduler only, `day` days from today, or on a random coming day if `day` is None."""
        visit = self._unbooked(day, **changes)
        self.world.visits.visits[visit.reference] = visit
        return visit

    def _unbooked(self, day: int | None = None, **changes: Any) -> BookedVisit:
        days = self.chance.randint(1, DAYS_AHEAD) if day is None else day
        start = self.midnight + timedelta(days=days, hours=self.chance.randint(9, 16), minutes=15 * (days % 4))
        prisoner = self.chance.choice(self.people)
        values: dict[str, Any] = {
            "reference": self._reference(),
            "prisoner_id": prisoner.offender_no,
            "prison_id": prisoner.prison_id,
            "room": self.chance.choice(ROOMS),
            "start": start,
            "end": start + timedelta(minutes=self.chance.choice((45, 60, 90, 120))),
            "person_ids": self._visitors(),
            "created": self._earlier(max(2, self.chance.randint(1, 20) - min(days, 0))),
            **changes,
        }
        if values.get("status") == "CANCELLED":
            values["modified"] = self._earlier(1)
        return BookedVisit(**values)

    def _record(self, visit: BookedVisit, *, mapping_type: str | None = "ONLINE", **changes: Any) -> Visit:
        """Stores the visit in NOMIS as the synchronisation would, but with the values in `changes`; returns the record.

        If `mapping_type` is None, the record is not mapped.
        """
        visits = self.world.nomis_visits
        comments = COMMENTS if self.world.options.month >= NEW_COMMENT_SINCE else COMMENTS[:1]
        values: dict[str, Any] = {
            "id": visits.next_visit_id(),
            "offender_no": visit.prisoner_id,
            "booking_id": self.world.by_offender[visit.prisoner_id].booking_id,
            "prison_id": visit.prison_id,
            "start": visit.start,
            "end": visit.end,
            "person_ids": list(visit.person_ids),
            "visit_type": "SCON",
            "room": visit_room(self.world, visit.prison_id, visit.room, closed=visit.restriction == "CLOSED"),
            "comment": self.chance.choice(comments).format(visit.reference),
            "created": visit.created + timedelta(seconds=4),
            **changes,
        }
        if values.get("status") == "CANC":
            values.setdefault("updated", self._earlier(1))
        record = Visit(**values)
        visits.visits[record.id] = record
        visits.planted.add(record.id)
        if mapping_type is not None:
            self.world.mapping.add("visits", visit.reference, (record.id,), mapping_type, record.created)
        return record

    def _changed(self, visit: BookedVisit) -> None:
        visit.modified = self._earlier(1)

    def _earlier(self, days: int) -> datetime:
        """Returns a time during the working day, `days` days ago."""
        return self.midnight - timedelta(days=days) + timedelta(seconds=28_800 + self.chance.randrange(36_000))

    def _reference(self) -> str:
        while True:
            pairs = ["".join(self.chance.choices(letters)[0] for letters in ("bdklmnprst", "aeiou")) for _ in range(4)]
            reference = "-".join(pairs)
            if reference not in self.world.visits.visits:
                return reference

    def _visitors(self) -> list[int]:
        return self.chance.sample(range(FIRST_PERSON, FIRST_PERSON + PERSONS), self.chance.randint(1, 4))


CAUSES: Final[Mapping[str, Cause[_Planter]]] = {
    "created in DPS, never in NOMIS": Cause("nomis-visit-missing", 0.30, _Planter.missing),
    "cancelled only in DPS": Cause("not-cancelled-in-nomis", 0.20, _Planter.not_cancelled),
    "cancelled on the NOMIS screen": Cause("cancelled-in-nomis-only", 0.15, _Planter.cancelled_in_nomis),
    "moved only in DPS": Cause("details-differ", 0.08, _Planter.moved),
    "visitors changed only in DPS": Cause("details-differ", 0.06, _Planter.other_visitors),
    "restricted only in DPS": Cause("details-differ", 0.03, _Planter.restricted),
    "prolonged on the NOMIS screen": Cause("details-differ", 0.03, _Planter.prolonged),
    "created twice in NOMIS": Cause("nomis-duplicate", 0.10, _Planter.created_twice),
    "created in NOMIS, never mapped": Cause("mapping-missing", 0.05, _Planter.unmapped),
    "prisoner merged in NOMIS": Cause("details-differ", 0.0, _Planter.merged),
    "of another type in NOMIS": Cause("details-differ", 0.0, _Planter.other_type),
    "deleted in NOMIS": Cause("nomis-visit-gone", 0.0, _Planter.gone_in_nomis),
    "deleted in DPS": Cause("dps-visit-gone", 0.0, _Planter.gone_in_dps),
    "another outcome on the NOMIS screen": Cause("outcome-differs", 0.0, _Planter.other_outcome),
    "comment of another visit in NOMIS": Cause("reference-differs", 0.0, _Planter.other_reference),
    "created a moment ago": Cause("nomis-visit-missing", 0.05, _Planter.on_its_way, "in flight"),
    "cancelled, the event waits": Cause("not-cancelled-in-nomis", 0.0, _Planter.event_waiting, "in flight"),
}


def plant(world: World, chance: random.Random, names: frozenset[str]) -> None:
    """Makes the visits on both sides: those that agree, in all their forms, and those that differ."""
    population = max(FEWEST_VISITS, round(len(world.prisoners) * VISITS_FOR_EACH))
    planter = _Planter(world, chance)
    for turn in range(population):
        planter.agreeing(turn)
    plant_causes(world, NAME, planter, CAUSES, how_many(world, population, DIFFERING, CAUSES))
