"""The options of a world: what it is made from, and how its services behave."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field, fields
from datetime import date

MOCK_PRISON = "MDI"
#: The values that `generation` may have besides a month, and the month that each stands for.
GENERATIONS = {"2023": "2023-05", "today": "9999-12"}
MONTH = re.compile(r"\d{4}-(0[1-9]|1[0-2])")
OPEN_PRISONS = 120
#: With fewer open prisons, only those that are always open would be left, so none could be without activities.
FEWEST_OPEN_PRISONS = 20
MOCK_VISITORS = (4_729_570, 4_729_550)


def _mock_prison() -> str:
    return os.environ.get("MOCK_VISITS_PRISON_ID") or MOCK_PRISON


def _mock_visitors() -> tuple[int, ...]:
    given = os.environ.get("MOCK_VISITS_VISITORS")
    return read_visitors(given.split(",")) if given else MOCK_VISITORS


def read_visitors(given: object) -> tuple[int, ...]:
    """Returns the person numbers of the visitors that `given` lists.

    Raises:
        ValueError: `given` is not a list of person numbers.
    """
    if isinstance(given, (list, tuple)) and all(str(each).strip().isdecimal() for each in given):
        return tuple(int(each) for each in given)
    raise ValueError(
        f"{given!r} is not a list of visitors for a mock visit: give person numbers "
        "(in MOCK_VISITS_VISITORS, separated by commas)"
    )


def read_generation(given: object) -> str:
    """Returns the generation of the services that `given` names.

    Raises:
        ValueError: `given` is neither the name of a generation nor a month such as `2024-06`.
    """
    generation = str(given)
    if generation not in GENERATIONS and not MONTH.fullmatch(generation):
        raise ValueError(
            f"{generation!r} is not a generation of the services: give {', '.join(GENERATIONS)}, "
            "or a month such as 2024-06"
        )
    return generation


@dataclass(frozen=True, slots=True)
class Options:
    """What a world is made from, and how its services behave.

    Attributes: prisoners: the number of active prisoners. seed: the seed for all random choices; the same seed with the
    same `today` gives the same world. today: the last day of the histories; if None, today in London. mismatch_rate:
    the share of the prisoners whose levels differ because of a planted cause. every_cause: whether at least one
    difference with each cause is planted. mismatches: the exact number of mismatches with each cause (`{"4": 3}`). It
    replaces `mismatch_rate`. in_flight: how many changes of each kind are under way, among reviews, allocations and
    appointments (for example, reviews that were made moments ago and reach NOMIS soon). in_flight_seconds: how many
    seconds after the first read of the prisoner or prison in NOMIS such a review or allocation arrives there. excluded:
    how many further mismatches belong to bookings on the list of excluded bookings. bulk: `on`, or the status (`404`,
    `405`) with which the incentives API responds to its withdrawn bulk call. moving: how many movements (alternately
    releases and receptions) each page of ids causes. nomis_pool: how many calls NOMIS can handle at once before it
    responds with 500; None means any number. token_seconds: how long a token lasts, in seconds. tell_expiry: whether
    the response of HMPPS Auth says how long a token lasts (`expires_in`). mapping_race_ms: for how many milliseconds
    after a mapping was posted a second post of it loses the race, once, with 500; with 0, a second post loses only if
    it arrived before the first was stored. nomis_race_ms: for how many milliseconds after an IEP record was posted a
    second record for the same booking loses the race in NOMIS in the same way; 0 means never. mock_publishers: whether
    requests for unknown visits and adjustments get the canned records of the replaced service; the prisoner of those
    records is then in the world too. mock_visits_prison_id: the prison of the canned visit; by default
    `MOCK_VISITS_PRISON_ID`, or else `MDI`. mock_visits_visitors: the visitors of the canned visit; by default
    `MOCK_VISITS_VISITORS`, or else two fixed person numbers. nomis_duplicates: whether two simultaneous upserts make
    two allocations or attendances. generation: how old the services are: `2023` (May of that year), a month (`2024-06`)
    or `today`; the services lack endpoints that were added later or had already been removed. plant: the names of the
    reconciliations whose records and differences are planted, or `all`. prisons: how many prisons are open, at least
    `FEWEST_OPEN_PRISONS`; a reconciliation by prison reads each of them.
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
    tell_expiry: bool = True
    mapping_race_ms: float = 0
    nomis_race_ms: float = 0
    mock_publishers: bool = False
    mock_visits_prison_id: str = field(default_factory=_mock_prison)
    mock_visits_visitors: tuple[int, ...] = field(default_factory=_mock_visitors)
    nomis_duplicates: bool = False
    generation: str = "today"
    plant: tuple[str, ...] = ()
    prisons: int = OPEN_PRISONS

    @property
    def month(self) -> str:
        """The month whose services are imitated, as `yyyy-MM`."""
        return GENERATIONS.get(self.generation, self.generation)

    @classmethod
    def read(cls, given: dict[str, object]) -> Options:
        """Returns options with the values in `given`, the body of a control request; all others have their defaults.

        Raises:
            ValueError: an option is unknown, or `prisons`, `today`, `generation` or `mock_visits_visitors` is invalid.
        """
        known = {each.name for each in fields(cls)}
        unknown = sorted(set(given) - known)
        if unknown:
            raise ValueError(f"unknown option of a world: {', '.join(unknown)}; known: {', '.join(sorted(known))}")
        values = dict(given)
        prisons = values.get("prisons", OPEN_PRISONS)
        if not isinstance(prisons, int) or not FEWEST_OPEN_PRISONS <= prisons <= OPEN_PRISONS:
            raise ValueError(
                f"{prisons!r} prisons cannot be open: give a number from {FEWEST_OPEN_PRISONS} to {OPEN_PRISONS}"
            )
        if isinstance(values.get("today"), str):
            values["today"] = date.fromisoformat(str(values["today"]))
        if "mock_visits_visitors" in values:
            values["mock_visits_visitors"] = read_visitors(values["mock_visits_visitors"])
        if "plant" in values:
            values["plant"] = tuple(values["plant"])  # type: ignore[arg-type]
        if "generation" in values:
            values["generation"] = read_generation(values["generation"])
        return cls(**values)  # type: ignore[arg-type]
