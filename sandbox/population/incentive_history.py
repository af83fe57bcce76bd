"""Incentive histories: what both sides hold about a booking, event by event."""

from __future__ import annotations

import random
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from sandbox.dps.incentives import ON_ARRIVAL, SYSTEM_USER, TRANSFERRED, Review
from sandbox.nomis.incentives import BY_ADMISSION, BY_MERGE, BY_SCREEN, BY_TRANSFER, IepRecord
from sandbox.population.levels import WITH_ENHANCED_2, default_level

if TYPE_CHECKING:
    from sandbox.population.people import Prisoner
    from sandbox.world import World

A_MOMENT = timedelta(seconds=3)
LONGEST_HISTORY_DAYS = 365
EVENT_COUNTS = (1, 2, 3, 4, 5, 6)
EVENT_COUNT_WEIGHTS = (20, 48, 72, 86, 95, 100)
COMMENTS = (
    "Good behaviour on the wing",
    "Regular review, no concerns",
    "Positive entries from the workshop",
    "Two warnings this month",
    "Completed the course",
    None,
)


class IncentiveHistory:
    """Writes events to NOMIS, the incentives API and the mapping service, as the real systems do."""

    def __init__(self, world: World, chance: random.Random) -> None:
        """Takes the world to write to, and the stream of random numbers to use."""
        self.world = world
        self.chance = chance
        self.midnight = datetime.combine(world.today, datetime.min.time())
        self.prisons = [prison.code for prison in world.prisons.values() if prison.open]
        self.users = [self._user() for _ in range(40)]

    def moment(self, days_back: int) -> datetime:
        """Returns a time during the working day, `days_back` days ago, with a fraction of a second."""
        return self.midnight + timedelta(
            days=-days_back, seconds=28_800 + int(self.chance.random() * 36_000), microseconds=204_000
        )

    def user(self) -> str:
        """Returns the user name of a reviewer."""
        return self.users[int(self.chance.random() * len(self.users))]

    def comment(self) -> str | None:
        """Returns the comment of a review, or None for about one review in six."""
        return COMMENTS[int(self.chance.random() * len(COMMENTS))]

    def other_prison(self, prison_id: str) -> str:
        """Returns an open prison other than the given one."""
        while True:
            found = self.prisons[int(self.chance.random() * len(self.prisons))]
            if found != prison_id:
                return found

    def review(self, prisoner: Prisoner, code: str, at: datetime, prison_id: str, kind: str = "REVIEW") -> Review:
        """Makes a review in DPS; `write` brings it to NOMIS."""
        if kind == "REVIEW":
            user, comment = self.user(), self.comment()
        else:
            user, comment = SYSTEM_USER, TRANSFERRED if kind == "TRANSFER" else ON_ARRIVAL
        return self.world.incentives.add(
            prisoner.booking_id, prisoner.offender_no, code, at, prison_id, kind, user, comment
        )

    def write(self, review: Review) -> IepRecord:
        """Writes a review to NOMIS and maps it, as the synchronisation does."""
        record = self.world.nomis_incentives.add(
            review.booking_id,
            review.code,
            review.at.replace(microsecond=0),
            review.prison_id,
            user_id=review.user_id,
            comment=review.comments,
            created=review.at + A_MOMENT,
        )
        self.world.mapping.add_incentive(review.id, review.booking_id, record.sequence, "INCENTIVE_CREATED")
        return record

    def synchronised(self, prisoner: Prisoner, code: str, at: datetime, prison_id: str, kind: str = "REVIEW") -> Review:
        """Makes a review in DPS, writes it to NOMIS, and returns it."""
        review = self.review(prisoner, code, at, prison_id, kind)
        self.write(review)
        return review

    def in_nomis(self, prisoner: Prisoner, code: str, at: datetime, prison_id: str, module: str) -> IepRecord:
        """Makes a record in NOMIS only; `module` says whether a user makes it on a screen or NOMIS makes it itself."""
        user = self.user() if module == BY_SCREEN else "OMS_OWNER"
        return self.world.nomis_incentives.add(
            prisoner.booking_id, code, at.replace(microsecond=0), prison_id, module, user
        )

    def on_screen(self, prisoner: Prisoner, code: str, at: datetime, prison_id: str) -> None:
        """Makes a record on the NOMIS screen, which the synchronisation in the other direction brings to DPS."""
        record = self.in_nomis(prisoner, code, at, prison_id, BY_SCREEN)
        review = self.review(prisoner, code, record.at, prison_id)
        self.world.mapping.add_incentive(review.id, prisoner.booking_id, record.sequence, "NOMIS_CREATED")

    def arrival(self, prisoner: Prisoner, code: str, at: datetime, prison_id: str, kind: str) -> None:
        """Makes a prisoner arrive: NOMIS sets the prison's default level, then the review from DPS is written there."""
        module = BY_TRANSFER if kind == "TRANSFER" else BY_ADMISSION
        self.in_nomis(prisoner, default_level(prison_id), at, prison_id, module)
        self.synchronised(prisoner, code, at, prison_id, kind)

    def usual_level(self) -> str:
        """Returns a random level among those that every prison has, with the usual frequencies."""
        drawn = self.chance.random()
        return "STD" if drawn < 0.46 else "ENH" if drawn < 0.955 else "BAS"

    def level_but(self, *others: str) -> str:
        """Returns a random level among those that every prison has, except `others`."""
        return self.chance.choice([code for code in ("STD", "ENH", "BAS") if code not in others])

    def ordinary(self, prisoner: Prisoner) -> None:
        """Gives a booking a history that ends at the same level on both sides; 8 bookings in 1,000 get no records."""
        chance = self.chance.random
        final = self._final_level(prisoner.prison_id)
        if final is None:
            return
        drawn = chance() * 100
        count = next(n for n, limit in zip(EVENT_COUNTS, EVENT_COUNT_WEIGHTS, strict=True) if drawn <= limit)
        kinds = self._kinds(count, last_is_review=final == "EN2")
        days = sorted(self.chance.sample(range(1, LONGEST_HISTORY_DAYS), count), reverse=True)
        stays = self._stays(kinds, prisoner.prison_id)
        last_review = max((place for place, kind in enumerate(kinds) if kind == "REVIEW"), default=-1)
        level = final
        for place, (kind, prison_id) in enumerate(zip(kinds, stays, strict=True)):
            at = self.moment(days[place])
            if kind == "INITIAL":
                level = default_level(prison_id)
                self.arrival(prisoner, level, at, prison_id, kind)
            elif kind == "TRANSFER":
                self.arrival(prisoner, level, at, prison_id, kind)
            else:
                level = final if place == last_review else self.usual_level()
                self._reviewed(prisoner, level, at, prison_id)

    def _reviewed(self, prisoner: Prisoner, level: str, at: datetime, prison_id: str) -> None:
        drawn = self.chance.random()
        if drawn < 0.03 and level != "EN2":
            self.on_screen(prisoner, level, at, prison_id)
            return
        if drawn < 0.05:
            self.in_nomis(prisoner, default_level(prison_id), at - timedelta(minutes=40), prison_id, BY_MERGE)
        elif drawn < 0.08:
            self.synchronised(prisoner, self.usual_level(), at - timedelta(minutes=50), prison_id)
        self.synchronised(prisoner, level, at, prison_id)

    def _final_level(self, prison_id: str) -> str | None:
        drawn = self.chance.random()
        if drawn < 0.008:
            return None
        if drawn < 0.028 and prison_id in WITH_ENHANCED_2:
            return "EN2"
        return self.usual_level()

    def _kinds(self, count: int, last_is_review: bool) -> list[str]:
        chance = self.chance.random
        kinds = ["INITIAL" if chance() < 0.42 else "REVIEW"]
        kinds += ["TRANSFER" if chance() < 0.29 else "REVIEW" for _ in range(count - 1)]
        if last_is_review:
            kinds[-1] = "REVIEW"
        return kinds

    def _stays(self, kinds: list[str], now_at: str) -> list[str]:
        """Returns the prison of each event in `kinds`; the last is `now_at`, where the person is now."""
        stays: list[str] = []
        prison_id = now_at
        for kind in reversed(kinds):
            stays.append(prison_id)
            if kind == "TRANSFER":
                prison_id = self.other_prison(prison_id)
        stays.reverse()
        return stays

    def _user(self) -> str:
        letters = "".join(self.chance.choice("ABCDEFGHJKLMNPRSTW") for _ in range(2))
        return f"{letters}{self.chance.randrange(10_000, 99_999)}_GEN"
