"""Everyone a run has read, as columns: compared, counted by prison and by pair of levels."""

from __future__ import annotations

from array import array
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from reports.engine.result import PrisonCount
from reports.reconciliations.incentives.compare import compare, level_column
from reports.reconciliations.incentives.levels import NONE, Codebook
from reports.reconciliations.incentives.result import MatrixCell

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from numpy.typing import NDArray

    from reports.engine.parallel_reader import FailedRead
    from reports.reconciliations.incentives.evidence import PrisonerLevels
    from reports.reconciliations.incentives.result import IncentiveMismatch
    from reports.reconciliations.incentives.snapshot import PageLevels


@dataclass(slots=True)
class LevelFrame:
    """The levels of everyone who was read, in parallel columns of category codes.

    failed: the bookings whose levels could not be read.
    """

    levels: Codebook
    prisons: Codebook
    bookings: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    offenders: dict[int, str] = field(default_factory=dict)
    nomis: NDArray[np.int16] = field(default_factory=lambda: np.empty(0, np.int16))
    dps: NDArray[np.int16] = field(default_factory=lambda: np.empty(0, np.int16))
    prison: NDArray[np.int16] = field(default_factory=lambda: np.empty(0, np.int16))
    failed: dict[int, FailedRead] = field(default_factory=dict)

    @classmethod
    def of(
        cls, pages: Iterable[PageLevels], levels: Codebook, prisons: Codebook, without: Collection[int] = ()
    ) -> LevelFrame:
        """Joins pages, in the order they were read: the last reading of a booking counts; `without` are left out."""
        found = cls(levels, prisons)
        bookings, columns = array("q"), (array("h"), array("h"), array("h"))
        places: dict[int, int] = {}
        for page in pages:
            for within, prisoner in enumerate(page.prisoners):
                booking_id = prisoner.booking_id
                if booking_id in without:
                    continue
                found.offenders[booking_id] = prisoner.offender_no
                why = page.failed.get(booking_id)
                if why is not None:
                    if booking_id not in places:
                        found.failed[booking_id] = why
                    continue
                found.failed.pop(booking_id, None)
                place = places.setdefault(booking_id, len(bookings))
                if place == len(bookings):
                    bookings.append(booking_id)
                    for column in columns:
                        column.append(NONE)
                for column, values in zip(columns, (page.nomis, page.dps, page.prisons), strict=True):
                    column[place] = values[within]
        found.bookings = np.frombuffer(bookings, np.int64) if bookings else found.bookings
        found.nomis, found.dps, found.prison = (
            np.frombuffer(column, np.int16) if column else np.empty(0, np.int16) for column in columns
        )
        return found

    def differences(self) -> dict[int, tuple[str | None, str | None]]:
        """The levels in NOMIS and in DPS where they differ, by booking id ascending; None for no level."""
        differing = compare(self._side(self.nomis), self._side(self.dps))
        sides = (
            [code if isinstance(code, str) else None for code in differing[side]]
            for side in ("nomis_level", "dps_level")
        )
        return dict(zip((int(each) for each in differing["booking_id"]), zip(*sides, strict=True), strict=True))

    def only_prisons(self, prisons: Collection[str], *, unknown_too: bool) -> LevelFrame:
        """The rows whose NOMIS record is of one of the prisons; with `unknown_too` also those without a record."""
        numbers = [self.prisons.number(prison) for prison in prisons]
        chosen = np.isin(self.prison, [*numbers, NONE] if unknown_too else numbers)
        return LevelFrame(
            self.levels,
            self.prisons,
            self.bookings[chosen],
            self.offenders,
            self.nomis[chosen],
            self.dps[chosen],
            self.prison[chosen],
            self.failed,
        )

    def amended(self, pairs: Iterable[PrisonerLevels], without: Collection[int]) -> LevelFrame:
        """A copy with the levels that the recheck found, and without the bookings of `without`."""
        places = {int(booking_id): place for place, booking_id in enumerate(self.bookings)} if without or pairs else {}
        nomis, dps = self.nomis.copy(), self.dps.copy()
        for pair in pairs:
            place = places.get(pair.booking_id)
            if place is not None:
                nomis[place] = self.levels.number(pair.nomis_level)
                dps[place] = self.levels.number(pair.dps_level)
        kept = np.ones(len(self.bookings), dtype=bool)
        kept[[places[booking_id] for booking_id in without if booking_id in places]] = False
        return LevelFrame(
            self.levels,
            self.prisons,
            self.bookings[kept],
            self.offenders,
            nomis[kept],
            dps[kept],
            self.prison[kept],
            self.failed,
        )

    def at_prisons(self) -> frozenset[str | None]:
        """The prisons of the NOMIS records; None for those without a record."""
        return frozenset(self.prisons.text(int(number)) for number in np.unique(self.prison))

    def matrix(self) -> tuple[MatrixCell, ...]:
        """How many prisoners have each pair of levels."""
        kinds = len(self.levels.texts) + 1
        counts = np.bincount((self.nomis.astype(np.int64) + 1) * kinds + self.dps + 1, minlength=kinds * kinds)
        return tuple(
            MatrixCell(
                nomis_level=self.levels.text(place // kinds - 1),
                dps_level=self.levels.text(place % kinds - 1),
                count=int(count),
            )
            for place, count in enumerate(counts)
            if count
        )

    def by_prison(self, mismatches: Sequence[IncentiveMismatch]) -> tuple[PrisonCount, ...]:
        """Prisoners compared and mismatches by prison code; None for no record in NOMIS."""
        numbers = np.bincount(self.prison.astype(np.int64) + 1, minlength=len(self.prisons.texts) + 1)
        compared = {self.prisons.text(place - 1): int(count) for place, count in enumerate(numbers) if count}
        differing = Counter(each.prison_id for each in mismatches)
        new = Counter(each.prison_id for each in mismatches if each.standing == "new")
        names = sorted({*compared, *differing}, key=lambda name: (name is None, name or ""))
        return tuple(
            PrisonCount(
                prison_id=name, compared=compared.get(name, 0), mismatches=differing.get(name, 0), new=new.get(name, 0)
            )
            for name in names
        )

    def _side(self, numbers: NDArray[np.int16]) -> pd.DataFrame:
        column = level_column(numbers, list(self.levels.texts))
        return pd.DataFrame({"booking_id": self.bookings, "level": column}, copy=False)
