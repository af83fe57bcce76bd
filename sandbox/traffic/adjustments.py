"""Sentence and key-date adjustments that are made, changed and deleted."""

from __future__ import annotations

import random
import uuid
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from sandbox.clock import london_today
from sandbox.dps.adjustments import DpsAdjustment
from sandbox.nomis.adjustments import create_key_date_adjustment, create_sentence_adjustment
from sandbox.nomis.bodies import KEY_DATE_ADJUSTMENT_TYPES, SENTENCE_ADJUSTMENT_TYPES, Fields
from sandbox.traffic.steps import People, Scenario, Step

if TYPE_CHECKING:
    from sandbox.population.people import Prisoner
    from sandbox.world import World


class AdjustmentScenarios:
    """Scenarios of adjustments; about a fifth concern adjustments that count as synchronised earlier."""

    def __init__(self, world: World, people: People, chance: random.Random) -> None:
        """Takes all random numbers from `chance`."""
        self._world, self._people, self._chance = world, people, chance

    def scenario(self) -> Scenario:
        """A new adjustment, perhaps changed later; an existing one, changed or deleted; or one that came from NOMIS."""
        adjustment = self._adjustment()
        drawn = self._chance.random()
        if drawn < 0.05:
            adjustment.source = "NOMIS"
            return [self._step("inserted", adjustment, "ignore", lambda: hold_adjustment(self._world, adjustment))]
        if drawn < 0.25:
            settle_adjustment(self._world, adjustment)
            return [self._updated(adjustment) if drawn < 0.15 else self._deleted(adjustment)]
        scenario = [self._step("inserted", adjustment, "create", lambda: self._put(replace(adjustment)))]
        if drawn > 0.75:
            scenario.extend(self._updated(adjustment) for _ in range(self._chance.randint(1, 3)))
        return scenario

    def _adjustment(self) -> DpsAdjustment:
        prisoner = self._prisoner()
        of_sentence = self._chance.random() < 0.5
        types = sorted(SENTENCE_ADJUSTMENT_TYPES if of_sentence else KEY_DATE_ADJUSTMENT_TYPES)
        day = london_today() - timedelta(days=self._chance.randint(0, 300))
        return DpsAdjustment(
            id=str(uuid.UUID(int=self._chance.getrandbits(128), version=4)),
            booking_id=prisoner.booking_id,
            offender_no=prisoner.offender_no,
            sentence=self._sentence(prisoner.booking_id) if of_sentence else None,
            type=self._chance.choice(types),
            day=day if self._chance.random() < 0.9 else None,
            start=day,
            days=self._chance.randint(1, 365),
            comment=self._chance.choice((None, "Agreed at the hearing")),
        )

    def _prisoner(self) -> Prisoner:
        """Returns a prisoner whose adjustments have no planted differences, which a change today would hide."""
        differing = {each.key[0] for each in self._world.differences.get("adjustments", ())}
        while True:
            prisoner = self._people.anyone()
            if prisoner.booking_id not in differing:
                return prisoner

    def _sentence(self, booking_id: int) -> int:
        return self._chance.randint(1, self._world.places.sentences(booking_id))

    def _updated(self, adjustment: DpsAdjustment) -> Step:
        days = self._chance.randint(1, 365)
        return self._step("updated", adjustment, "update", lambda: self._set(adjustment.id, {"days": days}))

    def _deleted(self, adjustment: DpsAdjustment) -> Step:
        return self._step("deleted", adjustment, "end", lambda: self._remove(adjustment.id))

    def _step(self, what: str, adjustment: DpsAdjustment, kind: str, change: Any) -> Step:
        information: dict[str, object] = {
            "id": adjustment.id,
            "offenderNo": adjustment.offender_no,
            "source": adjustment.source,
        }
        event_type = f"release-date-adjustments.adjustment.{what}"
        return Step("adjustment", adjustment.id, kind, event_type, information, change)

    def _put(self, adjustment: DpsAdjustment) -> None:
        self._world.adjustments.adjustments[adjustment.id] = adjustment

    def _set(self, adjustment_id: str, values: dict[str, Any]) -> None:
        adjustment = self._world.adjustments.adjustments[adjustment_id]
        for name, value in values.items():
            setattr(adjustment, name, value)

    def _remove(self, adjustment_id: str) -> None:
        del self._world.adjustments.adjustments[adjustment_id]


def settle_adjustment(world: World, adjustment: DpsAdjustment) -> None:
    """Stores an adjustment on both sides with its mapping, as if it had been synchronised earlier."""
    hold_adjustment(world, adjustment)
    world.published.record("adjustment", adjustment.id, "created")


def hold_adjustment(world: World, adjustment: DpsAdjustment) -> None:
    """Stores an adjustment on both sides with its mapping, whose type shows which side the adjustment came from."""
    held = replace(adjustment)
    world.adjustments.adjustments[held.id] = held
    body = {
        "adjustmentTypeCode": held.type,
        "adjustmentDate": (held.day or london_today()).isoformat(),
        "adjustmentFromDate": None if held.start is None else held.start.isoformat(),
        "adjustmentDays": held.days,
        "comment": held.comment,
        "active": held.active,
    }
    if held.sentence is None:
        record, category = create_key_date_adjustment(world, held.booking_id, Fields(body)), "KEY-DATE"
    else:
        record = create_sentence_adjustment(world, held.booking_id, held.sentence, Fields(body))
        category = "SENTENCE"
    mapping_type = "NOMIS_CREATED" if held.source == "NOMIS" else "SENTENCING_CREATED"
    world.mapping.add("adjustments", held.id, (record.id, category), mapping_type)
