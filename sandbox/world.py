"""The one world behind all fake services: a population drawn from a seed, and the state that each service holds about it."""

from __future__ import annotations

import itertools
import random
from dataclasses import dataclass, field, fields
from datetime import date
from typing import TYPE_CHECKING

from sandbox.activities_api import ActivitiesState
from sandbox.adjustments_api import AdjustmentsState
from sandbox.appointments_api import AppointmentsState
from sandbox.clock import london_today
from sandbox.mapping import MappingState
from sandbox.nomis_appointments import NomisAppointments
from sandbox.nomis_courses import NomisCourses
from sandbox.nomis_sentencing import NomisSentencing
from sandbox.nomis_visits import NomisVisits
from sandbox.places import Places
from sandbox.visit_scheduler import VisitScheduler

if TYPE_CHECKING:
    from sandbox.topic import Topic

@dataclass(frozen=True, slots=True)
class Options:
    """What a world is made from, and how its services behave.

    Attributes:
        prisoners: active prisoners.
        seed: everything random comes from it; the same seed on the same `today` gives the same world.
        today: the day that histories end at; the present day in London when None.
        mismatch_rate: share of the prisoners whose levels differ by a planted cause.
        every_cause: plant at least one of each cause.
        mismatches: exact numbers by cause (`{"4": 3}`), in place of the rate.
        in_flight: how many differences are only in flight (a review made moments ago that reaches NOMIS soon).
        in_flight_seconds: how long until such a review reaches NOMIS, from its first reading.
        excluded: how many of the mismatches are on the list of excluded bookings.
        bulk: `on`, or the status (`404`, `405`) with which the incentives API answers its withdrawn bulk call.
        moving: how many movements (releases and receptions in turn) each page of ids brings about.
        nomis_pool: calls that NOMIS can work on at once before it answers 500; None for any number.
        token_seconds: how long a token lasts.
        mapping_race_ms: how long after a mapping is stored a second post of it loses the race with 500 (once); 0 never.
        mock_publishers: answer visits and adjustments with the canned records of the replaced service.
        nomis_duplicates: whether two simultaneous upserts make two allocations or attendances.
    """

    prisoners: int = 200
    seed: int = 1
    today: date | None = None
    mismatch_rate: float = 0.001
    every_cause: bool = False
    mismatches: dict[str, int] = field(default_factory=dict)
    in_flight: int = 0
    in_flight_seconds: float = 2.0
    excluded: int = 0
    bulk: str = "on"
    moving: int = 0
    nomis_pool: int | None = None
    token_seconds: int = 3600
    mapping_race_ms: float = 0
    mock_publishers: bool = False
    nomis_duplicates: bool = False

    @classmethod
    def read(cls, given: dict[str, object]) -> Options:
        """Return the options of a control request.

        Raises:
            ValueError: an option of another name.
        """
        known = {each.name for each in fields(cls)}
        unknown = sorted(set(given) - known)
        if unknown:
            raise ValueError(f"no such option of a world: {', '.join(unknown)}; there are {', '.join(sorted(known))}")
        values = dict(given)
        if isinstance(values.get("today"), str):
            values["today"] = date.fromisoformat(str(values["today"]))
        return cls(**values)  # type: ignore[arg-type]


@dataclass(slots=True)
class Prisoner:
    """A person with the present booking. `prison_id` is where the person is now; `active` is false after a release."""

    offender_no: str
    booking_id: int
    prison_id: str
    active: bool = True


class World:
    """Holds the population and one state object for each service.

    Args:
        options: what to make.
        topic: where events are published; None in a world that publishes none.
    """

    def __init__(self, options: Options, topic: Topic | None = None) -> None:
        """Make the world, its population included."""
        self.options = options
        self.seed = options.seed
        self.topic = topic
        self.today: date = options.today or london_today()
        self.prisoners: list[Prisoner] = []
        self.by_booking: dict[int, Prisoner] = {}
        self.by_offender: dict[str, Prisoner] = {}
        self.mapping = MappingState(options.mapping_race_ms)
        self.places = Places()
        self.nomis_visits = NomisVisits()
        self.visits = VisitScheduler(mock_prison_id="MDI" if options.mock_publishers else None)
        event_ids = itertools.count(510_000_001)
        self.nomis_courses = NomisCourses(event_ids)
        self.nomis_appointments = NomisAppointments(event_ids)
        self.nomis_sentencing = NomisSentencing()
        self.activities = ActivitiesState()
        self.appointments = AppointmentsState()
        self.adjustments = AdjustmentsState(mocks=options.mock_publishers)

    def random(self, name: str) -> random.Random:
        """Return a stream of random numbers of its own for one purpose, so that one purpose never shifts another."""
        return random.Random(f"{self.seed}:{name}")

    def active_booking(self, offender_no: str) -> Prisoner | None:
        """Return the person with an active booking, None when there is no such person or it was released."""
        found = self.by_offender.get(offender_no)
        return found if found is not None and found.active else None

    def add_prisoner(self, prisoner: Prisoner) -> None:
        """Take a person into the population."""
        self.prisoners.append(prisoner)
        self.by_booking[prisoner.booking_id] = prisoner
        self.by_offender[prisoner.offender_no] = prisoner
