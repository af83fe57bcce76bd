"""The differences of the eight weeks before the demo: planted ones that had already begun, and some that are over."""

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final, cast

from jobs.demo.earlier_runs import WEEKS, EarlierRuns, Episode, record_earlier_runs, week_start
from jobs.runtime.application import Application
from reports.engine.result import FieldValues, Mismatch
from reports.reconciliations.incentives.causes import CAUSES
from reports.reconciliations.incentives.result import NAME, IncentiveDiagnosis, IncentiveMismatch, Side
from reports.reconciliations.registry import RECONCILIATIONS, Entry
from sync.clock import LONDON

#: The cause of a difference whose message waits: the demo's run finds it in flight.
_WAITS_ON_A_QUEUE: Final = 1
#: Differences between levels, now over: the first and the last run that found each of them, the number of its cause,
#: and both levels.
_LEVELS_OVER: Final = (
    (8, 7, 2, "STD", "ENH"),
    (8, 5, 6, "STD", "BAS"),
    (8, 4, 4, "ENH", "STD"),
    (7, 3, 2, "BAS", "STD"),
    (6, 5, 2, "STD", "ENH"),
    (5, 2, 5, "STD", "ENH"),
    (4, 3, 2, "ENH", "BAS"),
    (4, 1, 6, "STD", "ENH"),
    (3, 1, 2, "BAS", "STD"),
    (2, 1, 4, "STD", "ENH"),
)
#: For each difference that is over in another reconciliation: the first and the last run that found the difference.
_OVER: Final = ((8, 6), (8, 3), (7, 5), (6, 4), (5, 1), (4, 2), (3, 1))
#: One in three planted differences is new in the demo's run.
_NEW_ONE_IN: Final = 3
_LOST: Final = {"kind": "DPS_only", "missing_in": "NOMIS", "differences": (FieldValues(field="count", dps=1),)}
#: The values of the differences that are over, by reconciliation.
_LOOKED: Final[Mapping[str, Mapping[str, Any]]] = {
    "allocations": _LOST,
    "suspended-allocations": _LOST,
    "attendances": _LOST,
    "appointments": {
        "kind": "dps-only",
        "missing_in": "NOMIS",
        "differences": (FieldValues(field="start_time", dps="09:30"),),
    },
    "adjustments": {"kind": "different-days", "differences": (FieldValues(field="remandDays", nomis=14, dps=21),)},
    "visits": {
        "kind": "nomis-visit-missing",
        "missing_in": "NOMIS",
        "differences": (FieldValues(field="state", dps="BOOKED"),),
        "weight": "high",
    },
}
#: About how many records are compared for each prisoner of the sandbox.
_RECORDS_EACH: Final[Mapping[str, float]] = {
    "allocations": 0.8,
    "suspended-allocations": 0.04,
    "attendances": 0.6,
    "appointments": 1.8,
    "adjustments": 1.0,
    "visits": 0.55,
}
_FIRST_APPOINTMENT: Final = 60_001
#: A placeholder for the time at which a difference was first seen, which each run replaces.
_UNKNOWN: Final = datetime(2000, 1, 1, tzinfo=UTC)
_SYLLABLES: Final = ("ba", "de", "fi", "go", "hu", "ka", "le")


def record_earlier_weeks(
    application: Application, prisoners: Sequence[Mapping[str, Any]], planted: Mapping[str, Any]
) -> dict[str, EarlierRuns]:
    """Records the runs of the earlier weeks, and returns them by the name of their reconciliation.

    prisoners: the `offenderNo`, `bookingId` and `prisonId` of each prisoner. planted: what the sandbox planted.
    """
    special = {each["bookingId"] for each in planted["mismatches"]} | {
        *planted["excludedBookings"],
        *planted["bulkDiffers"],
        *planted["unmapped"],
        *(part for found in planted["reconciliations"].values() for each in found for part in each["key"]),
    }
    others = [each for each in prisoners if each["bookingId"] not in special]
    recorded = {}
    for name, entry in RECONCILIATIONS.items():
        if name == NAME:
            episodes = _level_episodes(application, planted["mismatches"], others)
            compared = Counter(str(each["prisonId"]) for each in prisoners)
        else:
            episodes = _episodes(application, entry, planted["reconciliations"][name], others)
            compared = _spread(prisoners, _RECORDS_EACH.get(name, 1.0))
        recorded[name] = record_earlier_runs(application, entry, episodes, compared)
    return recorded


def _level_episodes(
    application: Application, planted: Sequence[Mapping[str, Any]], others: Sequence[Mapping[str, Any]]
) -> list[Episode]:
    """The episodes of the incentives reconciliation: planted differences, and some other differences that are over.

    A planted difference begins at the time that the sandbox gives for it.
    """
    found = []
    for each in planted:
        began = datetime.fromisoformat(each["began"]).replace(tzinfo=LONDON)
        first = sum(began < week_start(application, week) for week in range(1, WEEKS + 1))
        if first and isinstance(each["cause"], int) and each["cause"] != _WAITS_ON_A_QUEUE:
            found.append(Episode(_of_levels(each, each["cause"], each["nomis"], each["dps"]), first))
    people = _scattered(others, len(_LEVELS_OVER))
    for (first, last, cause, nomis, dps), each in zip(_LEVELS_OVER, people, strict=False):
        found.append(Episode(_of_levels(each, cause, nomis, dps), first, last))
    return found


def _of_levels(person: Mapping[str, Any], number: int, nomis: str | None, dps: str | None) -> IncentiveMismatch:
    cause = CAUSES[number]
    return IncentiveMismatch(
        offender_no=person["offenderNo"],
        booking_id=person["bookingId"],
        prison_id=person["prisonId"],
        nomis=None if nomis is None else Side(level=nomis, record=1),
        dps=None if dps is None else Side(level=dps, record=1),
        since=_UNKNOWN,
        diagnosis=IncentiveDiagnosis(
            number=number,
            cause=cause.name,
            confidence="medium",
            right_side=cause.right_side,
            who=cause.who,
            action=cause.action,
        ),
    )


def _episodes(
    application: Application, entry: Entry, planted: Sequence[Mapping[str, Any]], others: Sequence[Mapping[str, Any]]
) -> list[Episode]:
    """The episodes of a reconciliation other than incentives.

    They are two thirds of the planted differences that should be reported, and some other differences that are over.
    The planted ones are persisting in the demo's run. If the key contains a date, each run is about a different day, so
    no difference persists and no planted difference is included.
    """
    reconciliation = entry.load()
    made = cast("type[Mismatch]", reconciliation.parts.get(Mismatch, Mismatch))
    columns = tuple(reconciliation.key)
    daily = "date" in columns
    reported = [each for each in planted if each["outcome"] == "reported"]
    found = [
        Episode(
            _mismatch(
                made,
                key={name: part for name, part in zip(columns, each["key"], strict=True) if part is not None},
                kind=each["kind"],
            ),
            1 + number % WEEKS,
        )
        for number, each in enumerate(reported)
        if number % _NEW_ONE_IN and not daily
    ]
    over = _OVER if entry.name in _LOOKED else ()
    for number, ((first, last), each) in enumerate(zip(over, _scattered(others, len(_OVER)), strict=False)):
        last = first if daily else last
        known = {
            "prison_id": each["prisonId"],
            "booking_id": each["bookingId"],
            "date": (week_start(application, first) - timedelta(days=1)).date().isoformat(),
            "dps_id": _FIRST_APPOINTMENT + number,
            "visit": f"{_SYLLABLES[number]}-mo-ni-ro",
        }
        found.append(
            Episode(
                _mismatch(
                    made,
                    key={name: known[name] for name in columns if name in known},
                    offender_no=each["offenderNo"],
                    booking_id=each["bookingId"],
                    prison_id=each["prisonId"],
                    **_LOOKED[entry.name],
                ),
                first,
                last,
            )
        )
    return found


def _mismatch(made: type[Mismatch], **values: Any) -> Mismatch:
    return made.model_validate({**values, "since": _UNKNOWN})


def _scattered(prisoners: Sequence[Mapping[str, Any]], number: int) -> Sequence[Mapping[str, Any]]:
    """At least `number` prisoners, or all if there are fewer, spread evenly over the list."""
    return prisoners[:: max(1, len(prisoners) // number)]


def _spread(prisoners: Sequence[Mapping[str, Any]], each: float) -> Counter[str]:
    """How many records each prison has, if each prisoner has `each` records on average."""
    counts: Counter[str] = Counter()
    for number, prisoner in enumerate(prisoners):
        counts[str(prisoner["prisonId"])] += int((number + 1) * each) - int(number * each)
    return counts
