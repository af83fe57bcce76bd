"""The single world behind all fake services: a population made from a seed, and what each service holds about it."""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import Iterable
from concurrent.futures import Future
from datetime import date
from typing import TYPE_CHECKING

from sandbox.clock import london_now, london_today
from sandbox.domains import EVENT_TYPES
from sandbox.dps.activities import ActivitiesState
from sandbox.dps.adjustments import MOCK_BOOKING, AdjustmentsState
from sandbox.dps.appointments import AppointmentsState
from sandbox.dps.incentives import Incentives, Review
from sandbox.dps.rollout import make_rollout
from sandbox.dps.visits import MOCK_PRISONER, VisitScheduler
from sandbox.hmpps.mapping import MappingState
from sandbox.nomis.activity_counts import UnderWay
from sandbox.nomis.adjustments import NomisSentencing
from sandbox.nomis.appointments import NomisAppointments
from sandbox.nomis.courses import NomisCourses
from sandbox.nomis.incentives import NomisIncentives
from sandbox.nomis.visits import NomisVisits
from sandbox.options import Options
from sandbox.planted import plant_differences
from sandbox.planted.differences import Difference
from sandbox.planted.incentives import Plan, plant
from sandbox.population.incentive_history import IncentiveHistory
from sandbox.population.people import Places, Prison, Prisoner, make_people, make_prisons, set_up_levels
from sandbox.verification.published import Published

if TYPE_CHECKING:
    from sandbox.aws.topic import Topic
    from sandbox.traffic.run import Publication


class World:
    """Holds the population and one state object for each service.

    Args: options: what the world is made from. topic: the topic for its events, or None if it publishes none.
    """

    def __init__(self, options: Options, topic: Topic | None = None) -> None:
        """Makes the world, including its population."""
        self.options = options
        self.seed = options.seed
        self.topic = topic
        self.started = london_now()
        self.published = Published(EVENT_TYPES)
        self.publications: list[Publication] = []
        self.today: date = options.today or london_today()
        self.prisons: dict[str, Prison] = make_prisons(self.random("prisons"), options.prisons)
        self.rollout = make_rollout(self.prisons.values(), self.random("rollout"))
        self.prisoners: list[Prisoner] = []
        self.by_booking: dict[int, Prisoner] = {}
        self.by_offender: dict[str, Prisoner] = {}
        self.plan = Plan()
        self.differences: dict[str, list[Difference]] = {}
        #: Bookings for which differences are planted, and for which traffic must not cause others.
        self.reserved: set[int] = set()
        #: Planted events that are waiting, by the id of their queue.
        self.waiting: dict[str, list[dict[str, object]]] = {}
        self.in_flight: dict[int, Review] = {}
        self.moved: list[dict[str, object]] = []
        #: By booking id, the prisoner number after a merge that happens once the booking has been listed by key.
        self.merging: dict[int, str] = {}
        self._first_read: dict[int, float] = {}
        self.nomis_incentives: NomisIncentives = NomisIncentives(options.nomis_race_ms)
        self.incentives: Incentives = Incentives(self, options.bulk)
        self.mapping = MappingState(options.mapping_race_ms)
        self.places = Places()
        self.nomis_visits: NomisVisits = NomisVisits()
        self.visits: VisitScheduler = VisitScheduler(
            mock_prison_id=options.mock_visits_prison_id if options.mock_publishers else None,
            mock_person_ids=options.mock_visits_visitors,
        )
        event_ids = itertools.count(510_000_001)
        self.nomis_courses: NomisCourses = NomisCourses(event_ids)
        self.under_way = UnderWay(options.in_flight_seconds)
        self.nomis_appointments: NomisAppointments = NomisAppointments(event_ids)
        self.nomis_sentencing: NomisSentencing = NomisSentencing()
        self.activities: ActivitiesState = ActivitiesState()
        self.appointments: AppointmentsState = AppointmentsState()
        self.adjustments: AdjustmentsState = AdjustmentsState(mocks=options.mock_publishers)

        self._populate()

    def _populate(self) -> None:
        set_up_levels(self, self.random("levels"))
        make_people(self, self.options.prisoners, self.random("people"))
        if self.options.mock_publishers and self.options.mock_visits_prison_id in self.prisons:
            self.add_prisoner(Prisoner(MOCK_PRISONER, MOCK_BOOKING, self.options.mock_visits_prison_id))
        history = IncentiveHistory(self, self.random("histories"))
        planted = plant(self, history, self.random("planted"))
        for prisoner in self.prisoners:
            if prisoner.booking_id not in planted:
                history.ordinary(prisoner)
        plant_differences(self)

    def random(self, name: str) -> random.Random:
        """Returns a separate stream of random numbers for one purpose, so that draws for another do not affect it."""
        return random.Random(f"{self.seed}:{name}")

    def events_that_wait(self, queue: str) -> list[dict[str, object]]:
        """Returns the planted events that are waiting on the queue with this id."""
        if queue == "incentive":
            return [self.incentives.inserted(review) for review in self.plan.waiting]
        return self.waiting.get(queue, [])

    def active_booking(self, offender_no: str) -> Prisoner | None:
        """Returns the person if they have an active booking, or None if they were released or do not exist."""
        found = self.by_offender.get(offender_no)
        return found if found is not None and found.active else None

    def add_prisoner(self, prisoner: Prisoner) -> None:
        """Adds a person with a booking to the population, indexed by booking and by number."""
        self.prisoners.append(prisoner)
        self.by_booking[prisoner.booking_id] = prisoner
        self.by_offender[prisoner.offender_no] = prisoner

    def add_old_booking(self, prisoner: Prisoner) -> None:
        """Adds a booking that is not part of the population, such as an old one or one of a merged prisoner number.

        A prisoner number that already has a booking keeps it.
        """
        self.by_booking[prisoner.booking_id] = prisoner
        self.by_offender.setdefault(prisoner.offender_no, prisoner)

    def new_booking_id(self) -> int:
        """Returns a booking id higher than all others."""
        return max(self.by_booking, default=1_200_000) + 1

    def bookings_of(self, offender_no: str) -> list[int]:
        """Returns the ids of a person's bookings: only the current one, or none if the person is unknown."""
        prisoner = self.by_offender.get(offender_no)
        return [] if prisoner is None else [prisoner.booking_id]

    def settle_in_flight(self, booking_id: int) -> None:
        """Writes a booking's pending review to NOMIS, with its mapping, after a delay.

        The first call for a booking only notes the time. A call at least `in_flight_seconds` later writes the review.
        """
        now = time.monotonic()
        first = self._first_read.get(booking_id)
        if first is None:
            self._first_read[booking_id] = now
            return
        if now - first < self.options.in_flight_seconds:
            return
        review = self.in_flight.pop(booking_id)
        record = self.nomis_incentives.add(
            booking_id,
            review.code,
            review.at,
            review.prison_id,
            user_id=review.user_id,
            comment=review.comments,
            created=london_now(),
        )
        self.mapping.add_incentive(review.id, booking_id, record.sequence, "INCENTIVE_CREATED")

    def publish(self, events: Iterable[dict[str, object]]) -> Future[int] | None:
        """Hands events to the topic in order, notes which records they are about, and returns the topic's future.

        Returns None if the world has no topic.
        """
        events = list(events)
        for event in events:
            self.published.note(event)
        return None if self.topic is None else self.topic.publish_all(events)
