"""Plants mismatches of incentive levels: for each cause, a method makes a history to which only that cause applies."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from sandbox.clock import london_now
from sandbox.dps.incentives import Review
from sandbox.nomis.incentives import BY_ADMISSION, BY_SCREEN, BY_TRANSFER
from sandbox.population.incentive_history import IncentiveHistory
from sandbox.population.levels import NomisPrisonLevel, default_level
from sandbox.population.people import Prisoner, new_offender_no

if TYPE_CHECKING:
    from sandbox.world import World

ROWS = (1, 2, 3, 4, 5, 6, 7, 8, 9, 10)
MISSED_RECEPTION_SHARE = 0.5
RECEIVED_TWICE_SHARE = 0.2
SPREAD = (2, 3, 6, 7, 8, 9, 10)
BEFORE_DPS = "EN4"


@dataclass(slots=True)
class Planted:
    """One planted difference.

    `cause` is the number of a row of the decision table, or `in_flight`, or `excluded`. `row` is the number of the row
    that applies, even for an excluded booking, or None for a mismatch that is only in flight. `nomis` and `dps` are the
    levels on the two sides, or None. `began` is the London time of the latest record on either side; the two sides have
    differed since then.
    """

    prisoner: Prisoner
    cause: int | str
    row: int | None
    nomis: str | None
    dps: str | None
    began: datetime

    def view(self) -> dict[str, object]:
        """Returns the difference as the control API shows it."""
        return {
            "offenderNo": self.prisoner.offender_no,
            "bookingId": self.prisoner.booking_id,
            "prisonId": self.prisoner.prison_id,
            "cause": self.cause,
            "row": self.row,
            "nomis": self.nomis,
            "dps": self.dps,
            "began": self.began.isoformat(),
        }


@dataclass(slots=True)
class Plan:
    """Everything that was planted in a world for the reconciliation of incentives.

    Attributes:
        mismatches: the differences.
        bulk_differs: bookings on which both sides agree, although the bulk call returns another level.
        unmapped: bookings on which both sides agree, but whose level the bulk call cannot name.
        excluded_matching: excluded bookings on which both sides agree.
        waiting: reviews whose events are waiting on a queue (row 1).
    """

    mismatches: list[Planted] = field(default_factory=list)
    bulk_differs: list[Prisoner] = field(default_factory=list)
    unmapped: list[Prisoner] = field(default_factory=list)
    excluded_matching: list[Prisoner] = field(default_factory=list)
    waiting: list[Review] = field(default_factory=list)

    def view(self) -> dict[str, object]:
        """Returns the plan as the control API shows it."""
        excluded = [each.prisoner for each in self.mismatches if each.cause == "excluded"] + self.excluded_matching
        return {
            "mismatches": [each.view() for each in sorted(self.mismatches, key=lambda each: each.prisoner.booking_id)],
            "excludedBookings": sorted(prisoner.booking_id for prisoner in excluded),
            "excludedMatching": [prisoner.booking_id for prisoner in self.excluded_matching],
            "bulkDiffers": [prisoner.booking_id for prisoner in self.bulk_differs],
            "unmapped": [prisoner.booking_id for prisoner in self.unmapped],
        }


def counts_of(world: World) -> dict[int, int]:
    """Returns how many mismatches to plant for each row of the decision table, according to the world's options."""
    options = world.options
    counts = dict.fromkeys(ROWS, 0)
    if options.mismatches:
        for row, count in options.mismatches.items():
            counts[int(row)] = count
    else:
        total = round(options.prisoners * options.mismatch_rate)
        counts[4] = round(total * MISSED_RECEPTION_SHARE)
        counts[5] = round(total * RECEIVED_TWICE_SHARE)
        for place in range(total - counts[4] - counts[5]):
            counts[SPREAD[place % len(SPREAD)]] += 1
    if options.every_cause:
        counts = {row: max(1, count) for row, count in counts.items()}
    return counts


def plant(world: World, history: IncentiveHistory, chance: random.Random) -> set[int]:
    """Plants what the options ask for, and returns the ids of the bookings that now have a history.

    Raises:
        ValueError: there are fewer prisoners than bookings that need such a history.
    """
    options = world.options
    counts = counts_of(world)
    special = 1 if options.every_cause else 0
    matching = 1 if options.excluded else 0
    wanted = sum(counts.values()) + options.in_flight + options.excluded + matching + 2 * special
    if wanted > len(world.prisoners):
        raise ValueError(
            f"{wanted} bookings need a history, but the world has only {len(world.prisoners)} prisoners: "
            "increase `prisoners`"
        )
    chosen = iter(chance.sample(world.prisoners, wanted))
    planter = _Planter(world, history)
    plan = world.plan
    for row, count in counts.items():
        for turn in range(count):
            planter.mismatch(next(chosen), row, turn, row)
    for turn in range(options.excluded):
        planter.mismatch(next(chosen), 7, turn, "excluded")
    for _ in range(options.in_flight):
        planter.in_flight(next(chosen))
    used = {each.prisoner.booking_id for each in plan.mismatches}
    for _ in range(matching):
        prisoner = next(chosen)
        history.synchronised(prisoner, history.usual_level(), history.moment(50), prisoner.prison_id)
        plan.excluded_matching.append(prisoner)
    for _ in range(special):
        planter.bulk_differs(next(chosen))
        planter.unmapped(next(chosen))
    return used.union(each.booking_id for each in (*plan.excluded_matching, *plan.bulk_differs, *plan.unmapped))


class _Planter:
    """Makes the history of one booking after another."""

    def __init__(self, world: World, history: IncentiveHistory) -> None:
        self.world = world
        self.history = history
        self.makers: dict[int, Callable[[Prisoner, int], None]] = {
            1: self._waits_on_a_queue,
            2: self._event_lost,
            3: self._admission_missed,
            4: self._reception_missed,
            5: self._received_twice,
            6: self._wrong_order,
            7: self._changed_on_screen,
            8: self._edited_or_deleted,
            9: self._merged,
            10: self._unexplained,
        }

    def mismatch(self, prisoner: Prisoner, row: int, turn: int, cause: int | str) -> None:
        """Makes a history to which `row` of the decision table applies, in the form that `turn` selects.

        Lists the mismatch under `cause`.
        """
        self.makers[row](prisoner, turn)
        self._list(prisoner, cause, row)

    def in_flight(self, prisoner: Prisoner) -> None:
        """Makes a review that is dated a moment ago and is still on its way to NOMIS."""
        before = self._settled(prisoner)
        review = self.history.review(
            prisoner, self.history.level_but(before), london_now().replace(microsecond=0), prisoner.prison_id
        )
        self.world.in_flight[prisoner.booking_id] = review
        self._list(prisoner, "in_flight", None)

    def bulk_differs(self, prisoner: Prisoner) -> None:
        """Makes two reviews, of which the second is backdated.

        The bulk call returns the second review; calls for one booking return the first.
        """
        later = self.history.synchronised(prisoner, "ENH", self.history.moment(20), prisoner.prison_id)
        self.history.synchronised(prisoner, "STD", later.at - timedelta(days=15), prisoner.prison_id)
        self.world.plan.bulk_differs.append(prisoner)

    def unmapped(self, prisoner: Prisoner) -> None:
        """Gives the booking a level from before DPS, for which the bulk call has no name."""
        key = (prisoner.prison_id, BEFORE_DPS)
        self.world.nomis_incentives.prison_levels[key] = NomisPrisonLevel(
            *key, active=False, default_on_admission=False
        )
        self.history.synchronised(prisoner, BEFORE_DPS, self.history.moment(200), prisoner.prison_id)
        self.world.plan.unmapped.append(prisoner)

    def _list(self, prisoner: Prisoner, cause: int | str, row: int | None) -> None:
        record = self.world.nomis_incentives.current(prisoner.booking_id)
        review = self.world.incentives.current(prisoner.booking_id)
        began = max(each.at for each in (record, review) if each is not None)
        levels = (record.level if record else None, review.code if review else None)
        self.world.plan.mismatches.append(Planted(prisoner, cause, row, *levels, began))

    def _settled(self, prisoner: Prisoner, prison_id: str | None = None, *but: str) -> str:
        """Gives the booking a review, over a month old, on which both sides agree.

        Returns the level of the review, which is not one of `but`.
        """
        level = self.history.level_but(*but)
        self.history.synchronised(
            prisoner,
            level,
            self.history.moment(40 + self.history.chance.randrange(200)),
            prison_id or prisoner.prison_id,
        )
        return level

    def _recently(self) -> int:
        return 2 + self.history.chance.randrange(36)

    def _waits_on_a_queue(self, prisoner: Prisoner, turn: int) -> None:
        before = self._settled(prisoner)
        review = self.history.review(
            prisoner, self.history.level_but(before), self.history.moment(1), prisoner.prison_id
        )
        self.world.plan.waiting.append(review)

    def _event_lost(self, prisoner: Prisoner, turn: int) -> None:
        self.history.review(
            prisoner, self.history.usual_level(), self.history.moment(self._recently()), prisoner.prison_id
        )

    def _admission_missed(self, prisoner: Prisoner, turn: int) -> None:
        prison_id = prisoner.prison_id
        if turn % 2:
            self.history.in_nomis(prisoner, "STD", self.history.moment(330), prison_id, BY_SCREEN)
        at = self.history.moment(self._recently())
        self.history.in_nomis(prisoner, default_level(prison_id), at, prison_id, BY_ADMISSION)

    def _reception_missed(self, prisoner: Prisoner, turn: int) -> None:
        here = prisoner.prison_id
        given = default_level(here)
        if turn % 5 == 4:
            self._settled(prisoner, here, given)
            self.history.in_nomis(prisoner, given, self.history.moment(self._recently()), here, BY_ADMISSION)
            return
        self._settled(prisoner, self.history.other_prison(here), given)
        self.history.in_nomis(prisoner, given, self.history.moment(self._recently()), here, BY_TRANSFER)

    def _received_twice(self, prisoner: Prisoner, turn: int) -> None:
        here = prisoner.prison_id
        given = default_level(here)
        kept = self._settled(prisoner, self.history.other_prison(here), given)
        at = self.history.moment(self._recently())
        self.history.in_nomis(prisoner, given, at, here, BY_TRANSFER)
        self.history.synchronised(prisoner, kept, at + timedelta(seconds=28), here, "TRANSFER")
        self.history.in_nomis(prisoner, given, at + timedelta(seconds=53), here, BY_TRANSFER)

    def _wrong_order(self, prisoner: Prisoner, turn: int) -> None:
        before = self._settled(prisoner)
        at = self.history.moment(self._recently())
        older = self.history.review(prisoner, self.history.level_but(before), at, prisoner.prison_id)
        newer = self.history.review(prisoner, before, at + timedelta(minutes=20), prisoner.prison_id)
        self.history.write(newer)
        self.history.write(older)

    def _changed_on_screen(self, prisoner: Prisoner, turn: int) -> None:
        before = self._settled(prisoner)
        at = self.history.moment(self._recently())
        self.history.in_nomis(prisoner, self.history.level_but(before), at, prisoner.prison_id, BY_SCREEN)

    def _edited_or_deleted(self, prisoner: Prisoner, turn: int) -> None:
        before = self._settled(prisoner)
        level = self.history.level_but(before)
        review = self.history.synchronised(prisoner, level, self.history.moment(self._recently()), prisoner.prison_id)
        if turn % 2:
            self.world.incentives.delete(review.id)
        else:
            review.code = before

    def _merged(self, prisoner: Prisoner, turn: int) -> None:
        """Merges two bookings: in NOMIS each has the other's record; in DPS each review keeps its prisoner number."""
        chance = self.history.chance
        old = Prisoner(
            new_offender_no(self.world, chance), self.world.new_booking_id(), prisoner.prison_id, active=False
        )
        self.world.add_old_booking(old)
        here = prisoner.prison_id
        review = self.history.review(old, "STD", self.history.moment(60), here)
        record = self.world.nomis_incentives.add(prisoner.booking_id, "STD", review.at.replace(microsecond=0), here)
        self.world.mapping.add_incentive(review.id, prisoner.booking_id, record.sequence, "INCENTIVE_CREATED")
        self.world.incentives.by_booking.setdefault(prisoner.booking_id, []).append(review)
        newer = self.history.review(prisoner, "ENH", self.history.moment(self._recently()), here)
        moved = self.world.nomis_incentives.add(old.booking_id, "ENH", newer.at.replace(microsecond=0), here)
        self.world.mapping.add_incentive(newer.id, old.booking_id, moved.sequence, "INCENTIVE_CREATED")

    def _unexplained(self, prisoner: Prisoner, turn: int) -> None:
        """Enters a record on the NOMIS screen after a review is written, but dates it hours before the review."""
        before = self._settled(prisoner)
        at = self.history.moment(self._recently())
        review = self.history.synchronised(prisoner, self.history.level_but(before), at, prisoner.prison_id)
        self.history.in_nomis(prisoner, before, review.at - timedelta(hours=3), prisoner.prison_id, BY_SCREEN)
