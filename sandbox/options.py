"""What a world is made from."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from datetime import date


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
        in_flight_seconds: how long until such a review reaches NOMIS, from the first reading of the level in NOMIS.
        excluded: how many of the mismatches are on the list of excluded bookings.
        bulk: `on`, or the status (`404`, `405`) with which the incentives API answers its withdrawn bulk call.
        moving: how many movements (releases and receptions in turn) each page of ids brings about.
        nomis_pool: calls that NOMIS can work on at once before it answers 500; None for any number.
        token_seconds: how long a token lasts.
        tell_expiry: whether the answer of auth says how long (`expires_in`).
        mapping_race_ms: how long after a mapping is stored a second post of it loses the race with 500 (once); 0 never.
        nomis_race_ms: the same for a second IEP record of a booking in NOMIS.
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
    tell_expiry: bool = True
    mapping_race_ms: float = 0
    nomis_race_ms: float = 0
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
