"""Earlier runs of a reconciliation for the demo: eight weekly runs, recorded as real runs are.

The sandbox has no past to reconcile, so each earlier run is given the differences that existed at the time, including
some that have since ended. The engine itself then finds what is new, persisting and resolved in the demo's run.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, time, timedelta
from typing import Any, Final, cast

from jobs.operations.reconcile import parameters_as_dict
from jobs.runtime.application import Application
from jobs.runtime.job_runs import EVERYONE, SCOPE, JobRuns, Trigger, scheduled_run_id
from reports.delivery.archive import open_archive, store_index, store_report
from reports.engine import checkpoints, runs
from reports.engine.reconciliation import Reconciliation
from reports.engine.result import FieldName, KindName, Mismatch, PrisonCount, ReconciliationResult, Resolved, TrendPoint
from reports.engine.run_start import ReconciliationParameters
from reports.engine.units import Population, Unit, key_text
from reports.reconciliations.incentives.result import NAME
from reports.reconciliations.registry import Entry
from reports.reconciliations.results import newest_results
from sync import clock

WEEKS: Final = 8
_TOOK: Final = timedelta(minutes=6)
_PARAMETERS: Final = ReconciliationParameters()


@dataclass(frozen=True, slots=True)
class Episode:
    """A difference, and the first and the last weekly run that found it.

    A run is numbered by how many weeks before the demo it began; 0 is the demo's own run. mismatch: the difference as
    the runs saw it, except for its standing and its start, which are set for each run.
    """

    mismatch: Mismatch
    first: int
    last: int = 0

    def found_in(self, week: int) -> bool:
        """Whether the run numbered `week` found the difference."""
        return self.last <= week <= self.first

    @property
    def key(self) -> str:
        """The key of the difference, as text."""
        return key_text(self.mismatch.key)


@dataclass(frozen=True, slots=True)
class EarlierRuns:
    """The earlier runs that were recorded for a reconciliation.

    results: the result of each run, oldest first. persisting, resolved: the keys of the differences that must be
    persisting, and of those that must be resolved, in the demo's run.
    """

    results: tuple[ReconciliationResult, ...]
    persisting: frozenset[str]
    resolved: frozenset[str]


def week_start(application: Application, week: int) -> datetime:
    """When the run numbered `week` began (aware): at four in the morning, `week` weeks before today."""
    zone = application.settings.zone
    day = clock.now().astimezone(zone).date() - timedelta(weeks=week)
    return datetime.combine(day, time(4), zone)


def record_earlier_runs(
    application: Application, entry: Entry, episodes: Sequence[Episode], compared: Counter[str]
) -> EarlierRuns:
    """Records the runs of the earlier weeks, and returns them.

    episodes: the differences that the runs found. compared: the number of records compared at each prison.
    """
    found: list[ReconciliationResult] = []
    for week in range(WEEKS, 0, -1):
        found.append(_result(application, entry, week, episodes, compared, found[-1].trend if found else ()))
        _record(application, entry, found[-1])
    return EarlierRuns(
        tuple(found),
        frozenset(each.key for each in episodes if each.last == 0),
        frozenset(each.key for each in episodes if each.last == 1 and not _is_daily(entry)),
    )


def store_earlier_reports(
    application: Application, recorded: Mapping[str, EarlierRuns], results: Mapping[str, ReconciliationResult]
) -> None:
    """Stores the reports of the earlier runs, and the index of all runs.

    recorded: the earlier runs. results: the result of the demo's run. Both are by the name of the reconciliation.
    """
    archive = open_archive(application.settings, lambda: application.aws.client("s3"))
    for name, now in results.items():
        for each in recorded[name].results:
            store_report(archive, _with_what_is_known(each, now))
    with application.database.read() as connection:
        ended = runs.ended_runs(connection)
        newest = newest_results(connection, ended)
    store_index(archive, ended, newest, application.settings.environment_name, clock.now())


def _with_what_is_known(earlier: ReconciliationResult, now: ReconciliationResult) -> ReconciliationResult:
    """The result of an earlier run, completed with the values, evidence and causes that the demo's run found.

    A difference that is over and has no cause gets the cause of another difference of the same kind.
    """
    known = {key_text(each.key): each for each in now.mismatches}
    causes = {each.kind: each.diagnosis for each in now.mismatches if each.diagnosis is not None}

    def completed(mismatch: Mismatch) -> Mismatch:
        found = known.get(key_text(mismatch.key))
        if found is not None:
            return found.model_copy(update={"standing": mismatch.standing, "since": mismatch.since})
        like = causes.get(mismatch.kind)
        if mismatch.diagnosis is not None or like is None:
            return mismatch
        of_another = {"explanation": "", "commands": (), "request": None, "nomis_ids": (), "lookup": None}
        return mismatch.model_copy(update={"diagnosis": like.model_copy(update=of_another)})

    mismatches = tuple(map(completed, earlier.mismatches))
    compared = Counter({str(each.prison_id): each.compared for each in earlier.prisons if each.compared})
    return earlier.model_copy(update={"mismatches": mismatches, "prisons": _by_prison(compared, mismatches)})


def _result(
    application: Application,
    entry: Entry,
    week: int,
    episodes: Sequence[Episode],
    compared: Counter[str],
    trend: tuple[TrendPoint, ...],
) -> ReconciliationResult:
    reconciliation, started = entry.load(), week_start(application, week)
    # A run about another day says nothing about the differences of the run before.
    ended = () if _is_daily(entry) else [each for each in episodes if each.last == week + 1]
    mismatches = tuple(
        each.mismatch.model_copy(
            update={
                "standing": "new" if each.first == week else "persisting",
                "since": week_start(application, each.first),
            }
        )
        for each in episodes
        if each.found_in(week)
    )
    resolved = tuple(_resolved(reconciliation, each.mismatch, week_start(application, each.first)) for each in ended)
    everyone = compared.total()
    point = TrendPoint(
        run_id=scheduled_run_id(entry.job, started),
        started_at=started,
        compared=everyone,
        mismatches=len(mismatches),
        new=sum(each.standing == "new" for each in mismatches),
        resolved=len(resolved),
    )
    window = reconciliation.window(application.settings, started.date())
    return reconciliation.result_class()(
        reconciliation=reconciliation.name,
        title=reconciliation.title,
        counted=reconciliation.counted,
        counted_singular=reconciliation.counted_singular,
        key_columns=tuple(reconciliation.key),
        fields=tuple(FieldName(name=each.name, label=each.label) for each in reconciliation.fields),
        kinds=tuple(KindName(code=code, label=label) for code, label in reconciliation.kinds.items()),
        run_id=point.run_id,
        status="complete",
        environment=application.settings.environment_name,
        started_at=started,
        finished_at=started + _TOOK,
        parameters=_PARAMETERS.recorded(window),
        # The other reconciliations count their units, and the demo's run must not find fewer of these.
        total=everyone if entry.name == NAME else None,
        listed=everyone,
        compared=everyone,
        mismatches=mismatches,
        resolved=resolved,
        prisons=_by_prison(compared, mismatches),
        trend=(*trend, point),
        compared_with=trend[-1].run_id if trend else None,
    )


def _is_daily(entry: Entry) -> bool:
    """Whether each run of the reconciliation is about a different day."""
    return "date" in entry.load().key


def _resolved(reconciliation: type[Reconciliation], mismatch: Mismatch, since: datetime) -> Resolved:
    kind = cast("type[Resolved]", reconciliation.parts.get(Resolved, Resolved))
    values: Mapping[str, Any] = {name: getattr(mismatch, name, None) for name in kind.model_fields}
    return kind.model_validate({**values, "since": since, "how": "equal"})


def _by_prison(compared: Counter[str], mismatches: Sequence[Mismatch]) -> tuple[PrisonCount, ...]:
    every = Counter(str(each.prison_id) for each in mismatches)
    new = Counter(str(each.prison_id) for each in mismatches if each.standing == "new")
    return tuple(
        PrisonCount(prison_id=name, compared=compared[name], mismatches=every[name], new=new[name])
        for name in sorted({*compared, *every})
    )


def _record(application: Application, entry: Entry, result: ReconciliationResult) -> None:
    """Records the job run and the reconciliation, as the program does for a real run."""
    moments = iter((result.started_at,))
    job_runs = JobRuns(application.database, application.leases, lambda: next(moments, result.finished_at))
    with job_runs.run(
        entry.job, parameters_as_dict(_PARAMETERS), trigger=Trigger.SCHEDULE, run_id=result.run_id
    ) as active:
        active.counts |= {SCOPE: EVERYONE, "reconciliation": result.run_id, **result.counts()}
        with application.database.begin() as connection:
            runs.create_run(connection, entry.name, result.run_id, result.parameters, 1, result.started_at)
            if result.total is not None:
                unit = Unit(id="everyone", size=result.listed)
                checkpoints.save_population(connection, result.run_id, Population((unit,), result.total))
            runs.finish_shard(connection, result.run_id, 0)
            runs.save_result(connection, result)
