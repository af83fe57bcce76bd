"""Eight weekly runs of the incentive levels before the demo's own, so that it has something to compare with.

The sandbox has no past to reconcile. So the earlier runs get the planted differences that had begun by then, and some
that have ended since. They are recorded by the same functions as any other run. The engine itself then finds what is
new, persisting and resolved in the demo's run.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, time, timedelta
from typing import Any, Final

from jobs.operations.reconcile import parameters_as_dict
from jobs.runtime.application import Application
from jobs.runtime.job_runs import EVERYONE, SCOPE, JobRuns, Trigger, scheduled_run_id
from reports.delivery.archive import open_archive, store_report
from reports.engine import checkpoints, runs
from reports.engine.result import PrisonCount, TrendPoint
from reports.engine.run_registry import ReconciliationParameters
from reports.engine.units import Population, Unit
from reports.reconciliations.incentives.causes import CAUSES
from reports.reconciliations.incentives.result import (
    NAME,
    IncentiveDiagnosis,
    IncentiveMismatch,
    IncentiveResolved,
    IncentiveResult,
    Side,
)
from reports.reconciliations.registry import RECONCILIATIONS
from sync import clock
from sync.clock import LONDON

WEEKS: Final = 8
#: The cause of a difference that has a waiting message: the demo's run finds it in flight.
_WAITS_ON_A_QUEUE: Final = 1
#: Differences that are over: the first and the last weekly run that found each, the number of its cause, both levels.
_OVER: Final = (
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
_TOOK: Final = timedelta(minutes=6)
_PARAMETERS: Final = ReconciliationParameters()


@dataclass(frozen=True, slots=True)
class Episode:
    """A difference of levels, and the first and the last weekly run that found it.

    The runs are numbered by the weeks before the demo; 0 is the demo's own.
    """

    offender_no: str
    booking_id: int
    prison_id: str
    nomis: str | None
    dps: str | None
    cause: int
    first: int
    last: int = 0

    def found_in(self, week: int) -> bool:
        """Whether the run of that week found it."""
        return self.last <= week <= self.first


@dataclass(frozen=True, slots=True)
class EarlierWeeks:
    """What the demo's run must find compared with the weeks before, as booking ids."""

    persisting: frozenset[int]
    resolved: frozenset[int]


def record_earlier_weeks(
    application: Application, prisoners: Sequence[Mapping[str, Any]], planted: Mapping[str, Any]
) -> EarlierWeeks:
    """Records the runs of the weeks before, with their reports.

    prisoners: `offenderNo`, `bookingId` and `prisonId` of everyone. planted: what the sandbox planted.
    """
    episodes = _episodes(application, prisoners, planted)
    compared = Counter(str(each["prisonId"]) for each in prisoners)
    archive = open_archive(application.settings, lambda: application.aws.client("s3"))
    trend: tuple[TrendPoint, ...] = ()
    for week in range(WEEKS, 0, -1):
        result = _result(application, week, episodes, compared, trend)
        trend = result.trend
        _record(application, result)
        store_report(archive, result)
    return EarlierWeeks(
        frozenset(each.booking_id for each in episodes if each.last == 0),
        frozenset(each.booking_id for each in episodes if each.last == 1),
    )


def _episodes(
    application: Application, prisoners: Sequence[Mapping[str, Any]], planted: Mapping[str, Any]
) -> list[Episode]:
    special = {each["bookingId"] for each in planted["mismatches"]} | {
        *planted["excludedBookings"],
        *planted["bulkDiffers"],
        *planted["unmapped"],
    }
    found = []
    for each in planted["mismatches"]:
        began = datetime.fromisoformat(each["began"]).replace(tzinfo=LONDON)
        first = sum(began < _moment(application, week) for week in range(1, WEEKS + 1))
        if first and isinstance(each["cause"], int) and each["cause"] != _WAITS_ON_A_QUEUE:
            levels = {"nomis": each["nomis"], "dps": each["dps"], "cause": each["cause"]}
            found.append(Episode(**_person(each), **levels, first=first))
    others = [each for each in prisoners if each["bookingId"] not in special]
    step = max(1, len(others) // len(_OVER))
    for (first, last, cause, nomis, dps), each in zip(_OVER, others[::step], strict=False):
        found.append(Episode(**_person(each), nomis=nomis, dps=dps, cause=cause, first=first, last=last))
    return found


def _person(each: Mapping[str, Any]) -> dict[str, Any]:
    return {"offender_no": each["offenderNo"], "booking_id": each["bookingId"], "prison_id": each["prisonId"]}


def _moment(application: Application, week: int) -> datetime:
    """When the run of that week began: at four in the morning, `week` weeks ago."""
    zone = application.settings.zone
    day = clock.now().astimezone(zone).date() - timedelta(weeks=week)
    return datetime.combine(day, time(4), zone)


def _result(
    application: Application,
    week: int,
    episodes: Sequence[Episode],
    compared: Counter[str],
    trend: tuple[TrendPoint, ...],
) -> IncentiveResult:
    started = _moment(application, week)
    mismatches = tuple(
        _mismatch(each, week, _moment(application, each.first)) for each in episodes if each.found_in(week)
    )
    resolved = tuple(
        IncentiveResolved(
            offender_no=each.offender_no,
            booking_id=each.booking_id,
            prison_id=each.prison_id,
            nomis_level=each.nomis,
            dps_level=each.dps,
            since=_moment(application, each.first),
            how="equal",
        )
        for each in episodes
        if each.last == week + 1
    )
    run_id = scheduled_run_id(RECONCILIATIONS[NAME].job, started)
    new = sum(each.standing == "new" for each in mismatches)
    everyone = compared.total()
    point = TrendPoint(
        run_id=run_id,
        started_at=started,
        compared=everyone,
        mismatches=len(mismatches),
        new=new,
        resolved=len(resolved),
    )
    return IncentiveResult(
        run_id=run_id,
        status="complete",
        environment=application.settings.environment_name,
        started_at=started,
        finished_at=started + _TOOK,
        parameters=_PARAMETERS.recorded(),
        total=everyone,
        listed=everyone,
        compared=everyone,
        mismatches=mismatches,
        resolved=resolved,
        prisons=_by_prison(compared, mismatches),
        trend=(*trend, point),
        compared_with=trend[-1].run_id if trend else None,
    )


def _mismatch(episode: Episode, week: int, since: datetime) -> IncentiveMismatch:
    cause = CAUSES[episode.cause]
    return IncentiveMismatch(
        offender_no=episode.offender_no,
        booking_id=episode.booking_id,
        prison_id=episode.prison_id,
        nomis=None if episode.nomis is None else Side(level=episode.nomis, record=1),
        dps=None if episode.dps is None else Side(level=episode.dps, record=1),
        standing="new" if episode.first == week else "persisting",
        since=since,
        diagnosis=IncentiveDiagnosis(
            number=episode.cause,
            cause=cause.name,
            confidence="medium",
            right_side=cause.right_side,
            who=cause.who,
            action=cause.action,
        ),
    )


def _by_prison(compared: Counter[str], mismatches: Sequence[IncentiveMismatch]) -> tuple[PrisonCount, ...]:
    every = Counter(str(each.prison_id) for each in mismatches)
    new = Counter(str(each.prison_id) for each in mismatches if each.standing == "new")
    return tuple(
        PrisonCount(prison_id=name, compared=count, mismatches=every[name], new=new[name])
        for name, count in sorted(compared.items())
    )


def _record(application: Application, result: IncentiveResult) -> None:
    """Records the job run and the reconciliation, as if both had just ended."""
    entry = RECONCILIATIONS[NAME]
    moments = iter((result.started_at,))
    job_runs = JobRuns(application.database, application.leases, lambda: next(moments, result.finished_at))
    with job_runs.run(
        entry.job, parameters_as_dict(_PARAMETERS), trigger=Trigger.SCHEDULE, run_id=result.run_id
    ) as active:
        active.counts |= {SCOPE: EVERYONE, "reconciliation": result.run_id, **result.counts()}
        unit = Unit(id="everyone", size=result.listed)
        with application.database.begin() as connection:
            runs.create_run(connection, NAME, result.run_id, result.parameters, 1, result.started_at)
            checkpoints.save_population(connection, result.run_id, Population((unit,), result.total))
            runs.finish_shard(connection, result.run_id, 0)
            runs.save_result(connection, result)
