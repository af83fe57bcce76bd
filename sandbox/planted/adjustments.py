"""Makes the adjustments that both sides hold, and plants the differences between the two sides."""

from __future__ import annotations

import random
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from sandbox.clock import london_now
from sandbox.dps.adjustments import DpsAdjustment
from sandbox.nomis.adjustments import NEWER_TYPES_SINCE, NomisAdjustment, add_key_date_adjustment
from sandbox.nomis.bodies import (
    KEY_DATE_ADJUSTMENT_TYPES,
    NEWER_SENTENCE_ADJUSTMENT_TYPES,
    SENTENCE_ADJUSTMENT_TYPES,
)
from sandbox.nomis.prisoners import LISTED_BY_KEY_SINCE
from sandbox.planted.differences import Cause, Key, how_many, plant_causes
from sandbox.population.people import Prisoner, new_offender_no

if TYPE_CHECKING:
    from sandbox.world import World

NAME: Final = "adjustments"
RECONCILIATIONS: Final = (NAME,)
COUNTS, DAYS = "different-counts", "different-days"

#: The share of bookings with adjustments, and how many released people there are for each active prisoner.
WITH_ADJUSTMENTS: Final = 0.12
RELEASED: Final = 0.1
#: The share of bookings whose number of adjustments differs, and how such differences arise.
DIFFERENT_COUNTS: Final = 0.0003
NOT_IN_DPS: Final = "made on the NOMIS screen"
DELETED_IN_DPS: Final = "deleted only in DPS"
ON_OLD_BOOKING: Final = "on an older booking in DPS"
UNDER_OLD_NUMBER: Final = "under a merged number in DPS"
NOT_IN_NOMIS: Final = "never created in NOMIS"
INACTIVE: Final = "made inactive in NOMIS"
DELETED_IN_NOMIS: Final = "deleted on the NOMIS screen"
OTHER_TYPE: Final = "of another type in DPS"
DIFFERENT_DAYS: Final = 0.0005
OTHER_DAYS: Final = "days changed only in DPS"
#: How many differences disappear by themselves, as a share of all bookings.
PASSING_SHARE: Final = 0.00005
STILL_COMING: Final = "under way to DPS"
JUST_MADE: Final = "just made in DPS"
MERGED_MEANWHILE: Final = "merged after the booking was listed"


class _Planter:
    """Makes the adjustments of one booking after another."""

    def __init__(self, world: World, chance: random.Random) -> None:
        self.world = world
        self.chance = chance
        #: The prisoners who are to have adjustments, each once.
        self.chosen: Iterator[Prisoner] = iter(())
        #: Special records that make no difference, although they might.
        self.special: tuple[Callable[[Prisoner], object], ...] = (
            self._of_zero_days,
            self._zero_days_in_nomis,
            self._without_sentence,
            self._unknown_in_dps,
            self._with_hidden_ones,
            self._newest_type,
        )

    def ordinary(self, prisoner: Prisoner) -> None:
        """Gives a booking one to three adjustments that are the same on both sides."""
        for _ in range(self.chance.randint(1, 3)):
            self._pair(self._adjustment(prisoner))

    def released(self) -> Prisoner:
        """Makes a person whose latest booking is over, and adds that booking to the world."""
        world = self.world
        number = new_offender_no(world, self.chance)
        prisoner = Prisoner(number, self._older_booking(), self.chance.choice(list(world.prisons)), active=False)
        world.add_old_booking(prisoner)
        return prisoner

    def _adjustment(self, prisoner: Prisoner, code: str | None = None) -> DpsAdjustment:
        """Returns an adjustment as DPS would hold it, without storing it; its type is random unless `code` is given."""
        chance = self.chance
        of_sentence = [*SENTENCE_ADJUSTMENT_TYPES]
        if self.world.options.month >= NEWER_TYPES_SINCE:
            of_sentence += NEWER_SENTENCE_ADJUSTMENT_TYPES
        others = [each for each in (*of_sentence, *KEY_DATE_ADJUSTMENT_TYPES) if each != "SREM"]
        code = code or chance.choice(others)
        made = self.world.started - timedelta(days=chance.randint(1, 60), minutes=chance.randint(0, 1_000))
        start = made.date() - timedelta(days=chance.randint(1, 300))
        days = chance.randint(1, 90)
        return DpsAdjustment(
            id=str(uuid.UUID(int=chance.getrandbits(128), version=4)),
            booking_id=prisoner.booking_id,
            offender_no=prisoner.offender_no,
            sentence=None if code in KEY_DATE_ADJUSTMENT_TYPES else 1,
            type=code,
            day=made.date(),
            start=start,
            days=days,
            comment="Agreed at the hearing" if chance.random() < 0.5 else None,
            effective_days=days if chance.random() < 0.9 else None,
            changed=made,
        )

    def _in_dps(self, adjustment: DpsAdjustment) -> None:
        self.world.adjustments.adjustments[adjustment.id] = adjustment

    def _in_nomis(self, adjustment: DpsAdjustment, *, active: bool = True) -> NomisAdjustment:
        made = NomisAdjustment(
            id=0,
            booking_id=adjustment.booking_id,
            sentence=adjustment.sentence,
            type=adjustment.type,
            day=adjustment.day,
            start=adjustment.start,
            days=adjustment.days,
            comment=adjustment.comment,
            active=active,
            created=adjustment.changed or self.world.started,
        )
        if made.sentence is None:
            return add_key_date_adjustment(self.world, made)
        return self.world.nomis_sentencing.add(made)

    def _mapped(self, adjustment: DpsAdjustment, *, active: bool = True) -> NomisAdjustment:
        """Makes the NOMIS record and its mapping, but not the DPS record."""
        made = self._in_nomis(adjustment, active=active)
        category = "KEY-DATE" if made.sentence is None else "SENTENCE"
        self.world.mapping.add("adjustments", adjustment.id, (made.id, category), "SENTENCING_CREATED")
        return made

    def _pair(self, adjustment: DpsAdjustment, *, active: bool = True) -> NomisAdjustment:
        self._in_dps(adjustment)
        return self._mapped(adjustment, active=active)

    # Records that differ: each method takes the next prisoner, and returns the key.

    def not_in_dps(self, turn: int) -> Key:
        prisoner = self._next()
        self._in_nomis(self._adjustment(prisoner))
        return (prisoner.booking_id,)

    def deleted_in_dps(self, turn: int) -> Key:
        prisoner = self._next()
        self._mapped(self._adjustment(prisoner))
        return (prisoner.booking_id,)

    def on_old_booking(self, turn: int) -> Key:
        prisoner = self._next()
        adjustment = self._adjustment(prisoner)
        self._mapped(adjustment)
        old = replace(prisoner, booking_id=self._older_booking(), active=False)
        self.world.add_old_booking(old)
        self._in_dps(replace(adjustment, booking_id=old.booking_id))
        return (prisoner.booking_id,)

    def under_old_number(self, turn: int) -> Key:
        prisoner = self._next()
        adjustment = self._adjustment(prisoner)
        self._mapped(adjustment)
        self._in_dps(replace(adjustment, offender_no=new_offender_no(self.world, self.chance)))
        return (prisoner.booking_id,)

    def not_in_nomis(self, turn: int) -> Key:
        prisoner = self._next()
        self._in_dps(self._adjustment(prisoner))
        return (prisoner.booking_id,)

    def inactive_in_nomis(self, turn: int) -> Key:
        prisoner = self._next()
        self._pair(self._adjustment(prisoner), active=False)
        return (prisoner.booking_id,)

    def deleted_in_nomis(self, turn: int) -> Key:
        prisoner = self._next()
        made = self._pair(self._adjustment(prisoner))
        sentencing = self.world.nomis_sentencing
        (sentencing.delete_key_date if made.sentence is None else sentencing.delete_sentence)(made.id)
        return (prisoner.booking_id,)

    def other_type(self, turn: int) -> Key:
        prisoner = self._next()
        adjustment = self._adjustment(prisoner, "RX")
        self._mapped(adjustment)
        self._in_dps(replace(adjustment, type="S240A"))
        return (prisoner.booking_id,)

    def other_days(self, turn: int) -> Key:
        prisoner = self._next()
        adjustment = self._adjustment(prisoner)
        self._mapped(adjustment)
        days = adjustment.days + self.chance.randint(1, 30)
        self._in_dps(replace(adjustment, days=days, effective_days=days))
        return (prisoner.booking_id,)

    def still_coming(self, turn: int) -> Key:
        prisoner = self._next()
        adjustment = self._adjustment(prisoner)
        self._mapped(adjustment)
        self.world.adjustments.coming[prisoner.offender_no] = adjustment
        return (prisoner.booking_id,)

    def just_made(self, turn: int) -> Key:
        prisoner = self._next()
        self._in_dps(replace(self._adjustment(prisoner), changed=london_now()))
        return (prisoner.booking_id,)

    def merged_meanwhile(self, turn: int) -> Key:
        """Makes a released person whose prisoner number changes once their booking has been listed.

        The person has one adjustment on both sides, and no other records.
        """
        next(self.chosen)
        prisoner = self.released()
        kept = new_offender_no(self.world, self.chance)
        adjustment = self._adjustment(prisoner)
        self._pair(replace(adjustment, offender_no=kept))
        self.world.merging[prisoner.booking_id] = kept
        return (prisoner.booking_id,)

    def _next(self) -> Prisoner:
        """Returns the next prisoner whose adjustments will differ.

        In about half of the calls, the prisoner also gets an adjustment on which both sides agree.
        """
        prisoner = next(self.chosen)
        if self.chance.random() < 0.5:
            self._pair(self._adjustment(prisoner, "SREM"))
        return prisoner

    # Records that make no difference.

    def _of_zero_days(self, prisoner: Prisoner) -> None:
        """Makes an adjustment that neither side counts: it has days in DPS, but none of them take effect."""
        adjustment = self._adjustment(prisoner, "RX")
        self._mapped(replace(adjustment, days=0), active=False)
        self._in_dps(replace(adjustment, effective_days=0))

    def _zero_days_in_nomis(self, prisoner: Prisoner) -> None:
        self._in_nomis(replace(self._adjustment(prisoner, "RX"), days=0))

    def _without_sentence(self, prisoner: Prisoner) -> None:
        self.world.adjustments.unsentenced.add(prisoner.offender_no)

    def _unknown_in_dps(self, prisoner: Prisoner) -> None:
        self.world.adjustments.unknown.add(prisoner.offender_no)

    def _with_hidden_ones(self, prisoner: Prisoner) -> None:
        """Makes an adjustment for which NOMIS adds a hidden adjustment to every sentence of the booking.

        DPS does not have the hidden adjustments.
        """
        self._pair(self._adjustment(prisoner, "ADA"))

    def _newest_type(self, prisoner: Prisoner) -> None:
        newer = self.world.options.month >= NEWER_TYPES_SINCE
        self._pair(self._adjustment(prisoner, "TCA" if newer else "RX"))

    def _older_booking(self) -> int:
        """Returns an unused booking id that is lower than that of any prisoner in the population."""
        while True:
            found = self.chance.randint(100_001, 600_000)
            if found not in self.world.by_booking:
                return found


DIFFERING: Final[Mapping[str, Cause[_Planter]]] = {
    NOT_IN_DPS: Cause(COUNTS, 0.3, _Planter.not_in_dps),
    DELETED_IN_DPS: Cause(COUNTS, 0.15, _Planter.deleted_in_dps),
    ON_OLD_BOOKING: Cause(COUNTS, 0.08, _Planter.on_old_booking),
    UNDER_OLD_NUMBER: Cause(COUNTS, 0.07, _Planter.under_old_number),
    NOT_IN_NOMIS: Cause(COUNTS, 0.2, _Planter.not_in_nomis),
    INACTIVE: Cause(COUNTS, 0.07, _Planter.inactive_in_nomis),
    DELETED_IN_NOMIS: Cause(COUNTS, 0.03, _Planter.deleted_in_nomis),
    OTHER_TYPE: Cause(COUNTS, 0.1, _Planter.other_type),
}
DIFFERING_DAYS: Final[Mapping[str, Cause[_Planter]]] = {OTHER_DAYS: Cause(DAYS, 1.0, _Planter.other_days)}
PASSING: Final[Mapping[str, Cause[_Planter]]] = {
    STILL_COMING: Cause(COUNTS, 0.4, _Planter.still_coming, "settles"),
    JUST_MADE: Cause(COUNTS, 0.4, _Planter.just_made, "in flight"),
    MERGED_MEANWHILE: Cause(COUNTS, 0.2, _Planter.merged_meanwhile, "settles"),
}


def plant(world: World, chance: random.Random, names: frozenset[str]) -> None:
    """Gives some bookings adjustments that are the same on both sides, and plants the differences.

    Raises:
        ValueError: there are fewer active prisoners than bookings that need adjustments.
    """
    planter = _Planter(world, chance)
    active = [each for each in world.prisoners if each.active]
    counts = how_many(world, len(active), DIFFERENT_COUNTS, DIFFERING)
    counts |= how_many(world, len(active), DIFFERENT_DAYS, DIFFERING_DAYS)
    counts |= how_many(world, len(active), PASSING_SHARE, PASSING)
    if world.options.month < LISTED_BY_KEY_SINCE:
        del counts[MERGED_MEANWHILE]
    ordinary = round(len(active) * WITH_ADJUSTMENTS)
    special = len(planter.special) if world.options.every_cause else 0
    wanted = sum(counts.values()) + ordinary + special
    if wanted > len(active):
        raise ValueError(
            f"{wanted} prisoners need adjustments, but only {len(active)} are active: increase `prisoners`"
        )
    planter.chosen = iter(chance.sample(active, wanted))
    plant_causes(world, NAME, planter, {**DIFFERING, **DIFFERING_DAYS, **PASSING}, counts)
    for maker in planter.special[:special]:
        maker(next(planter.chosen))
    for prisoner in planter.chosen:
        planter.ordinary(prisoner)
    for _ in range(round(len(active) * RELEASED)):
        planter.ordinary(planter.released())
