"""The steps of a reconciliation run: acquire the run, list and read its units, and build and record its result.

A run can be split into shards, and can be resumed. Only one shard builds the result: the last to finish, or the first
to give up.
"""

from __future__ import annotations

import gc
import time
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import cache, partial
from typing import TYPE_CHECKING, Literal

import structlog

from reports.engine import checkpoints, history, runs
from reports.engine.exclusions import exclusions_of
from reports.engine.parallel_reader import OUTAGE_SECONDS
from reports.engine.plausibility import why_emptied
from reports.engine.run_start import (
    AcquiredRun,
    ReconciliationBusy,
    ReconciliationParameters,
    UnknownRun,
    acquire_run,
    wait_for_lease,
    write_as_holder,
)
from reports.engine.telemetry import track_event, track_result
from reports.engine.units import Population
from sync.clock import LONDON
from sync.errors import LeaseBusy, SyncError
from sync.store.database import StoreUnavailable
from sync.store.leases import Leases
from sync.tracing import trace_of, traced

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    import pandas as pd
    from sqlalchemy import Connection

    from reports.engine.exclusions import Exclusions
    from reports.engine.history import EarlierRuns
    from reports.engine.pending_messages import FindPendingMessages
    from reports.engine.reconciliation import Reconciliation
    from reports.engine.result import ReconciliationResult
    from sync.settings.declaration import Settings
    from sync.store.database import Database
    from sync.store.telemetry import Telemetry
    from sync.upstream.services import Services

#: How long the recheck of a run that gave up waits for a service that is down.
_OUTAGE_AFTER_FAILURE_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class ReconciliationOutcome:
    """How a run, or a shard of it, ended.

    status: the status of the result, or `unfinished shard` if other shards have not finished yet. result: None for an
    unfinished shard. run_id: the id of the run, which differs from the requested id if a run was resumed or joined.
    """

    status: Literal["complete", "incomplete", "failed", "unfinished shard"]
    result: ReconciliationResult | None
    run_id: str


@cache
def _exempt_imports_from_collection() -> None:
    """Exempts all existing objects, mostly those of imported libraries, from garbage collection, once per process.

    Otherwise, each full collection would walk over all these objects for about 90 ms while every thread waits. With 40
    calls in flight, these walks would cost 2 to 3% of the possible speed (`benchmarks/reconciliation.py`).
    """
    gc.collect()
    gc.freeze()


@dataclass(frozen=True, slots=True)
class ReconciliationRunner:
    """Runs reconciliations with the services, the database and the telemetry of the program.

    find_pending: finds the pending messages of a domain. progress: called with a stage, how much of it is done, and how
    much there is in total; may raise to stop the run. clock: returns the current time, aware. notify: enqueues the
    report of a result in the transaction that records the result; None to send no report. on_acquired: called with the
    id of the run once this process has begun, joined or resumed it. sleep: waits for the given
    number of seconds. outage_seconds: for how many seconds in total a service may be down during a run.
    """

    settings: Settings
    database: Database
    services: Services
    telemetry: Telemetry
    find_pending: FindPendingMessages
    progress: Callable[[str, int, int], None]
    clock: Callable[[], datetime]
    notify: Callable[[Connection, ReconciliationResult], object] | None = None
    on_acquired: Callable[[str], object] | None = None
    sleep: Callable[[float], None] = time.sleep
    outage_seconds: float = OUTAGE_SECONDS

    def run(
        self, kind: type[Reconciliation], run_id: str, parameters: ReconciliationParameters
    ) -> ReconciliationOutcome:
        """Runs a reconciliation under the id `run_id`, or joins or resumes the run to which `parameters` belong.

        A run that is joined or resumed keeps its own id. A run that gives up or fails in an expected way ends as
        `failed`, with what it has read.

        Raises `ReconciliationBusy` if the same reconciliation is in progress elsewhere, or if another process may have
        taken the run over while this process was suspended. Also raises `UnknownRun` if the parameters name a run or a
        shard that cannot be used, `SettingsError` if the list of exclusions is invalid, and `StoreUnavailable` if the
        database is unavailable.
        """
        _exempt_imports_from_collection()
        if not 0 <= parameters.shard < parameters.shards:
            raise UnknownRun(f"there is no shard {parameters.shard} of {parameters.shards}; shards are numbered from 0")
        exclusions = exclusions_of(self.settings, kind.name, kind.key)
        window = kind.window(self.settings, self.clock().astimezone(LONDON).date())
        leases = Leases(self.database, f"reconciliation {run_id}", self.settings.lease_seconds)
        leases.start_renewing()
        try:
            with (
                acquire_run(self.database, leases, run_id, kind.name, parameters, window, self.sleep) as run,
                # All shards of a run, and the processes that resume it, share its operation id.
                traced(trace_of(run.record.id)),
            ):
                if self.on_acquired is not None:
                    self.on_acquired(run.record.id)
                notify = parameters.notify and run.record.notify
                reconciliation = kind(self.services, self.settings, run.record.scope)
                with self.database.read() as connection:
                    reconciliation.earlier = history.read_last_complete(
                        connection, kind.name, run.record.started_at, kind.result_class()
                    )
                return _Run(self, reconciliation, leases, run, exclusions, notify=notify).finish_or_fail()
        except LeaseBusy as error:
            raise ReconciliationBusy(
                f"this process was suspended for too long, and another process may have taken over the reconciliation "
                f"of {kind.name}; if so, the other process reads what is still unread"
            ) from error
        finally:
            leases.stop()
            self.telemetry.flush()


class _Run:
    """One run, or one shard of it, while this process holds its leases."""

    def __init__(
        self,
        runner: ReconciliationRunner,
        reconciliation: Reconciliation,
        leases: Leases,
        run: AcquiredRun,
        exclusions: Exclusions,
        *,
        notify: bool,
    ) -> None:
        # pandas takes a long time to import, and an invocation that finds the run busy does not need it.
        from reports.engine.run_reader import RunProgress

        self._runner = runner
        self._reconciliation = reconciliation
        self._database = runner.database
        self._telemetry = runner.telemetry
        self._leases = leases
        self._run = run
        self._record = run.record
        self._exclusions = exclusions
        self._notify = notify
        self._progress = RunProgress(runner.progress, runner.sleep)
        self._log = structlog.get_logger().bind(
            reconciliation=reconciliation.name, run_id=run.record.id, shard=run.shard
        )

    def finish_or_fail(self) -> ReconciliationOutcome:
        """Lists and reads the units of the shard.

        The last shard to finish, or the first to give up, also builds and records the result.
        """
        from reports.engine.run_reader import RunReader

        record, shard = self._record, self._run.shard
        failure: str | None = None
        try:
            if self._run.resumed or not (record.all_read or shard in record.finished_shards):
                RunReader(
                    self._runner, self._reconciliation, self._leases, self._run, self._exclusions, self._progress
                ).read()
        except (StoreUnavailable, LeaseBusy):
            raise
        except SyncError as error:
            failure = str(error)
            self._log.error("reconciliation-gave-up", reason=failure)
        except Exception:
            track_event(self._telemetry.track, self._reconciliation.events().crashed())
            self._telemetry.flush()
            raise
        if failure is None:
            with write_as_holder(self._database, self._leases) as connection:
                self._record = runs.finish_shard(connection, record.id, shard)
            if not self._record.all_read:
                return ReconciliationOutcome("unfinished shard", None, record.id)
        return self._conclude_once(failure)

    def _conclude_once(self, failure: str | None) -> ReconciliationOutcome:
        """Builds and records the result, unless another shard has already done so."""
        run_id = self._record.id
        with wait_for_lease(self._leases, f"reconciliation:part:finish:{run_id}", self._progress.sleep):
            with self._database.read() as connection:
                record = runs.get_run(connection, run_id)
                result = None if record.is_open else self._load_result(connection)
            if result is None:
                result = self._conclude(failure)
        return ReconciliationOutcome(result.status, result, run_id)

    def _conclude(self, failure: str | None) -> ReconciliationResult:
        from reports.engine.frame import typed
        from reports.engine.recheck import Recheck
        from reports.engine.result_builder import ResultBuilder, RunContext
        from reports.engine.shared_reads import SharedReads

        record, runner, reconciliation = self._record, self._runner, self._reconciliation
        settings = runner.settings
        with self._database.read() as connection:
            population = checkpoints.load_population(connection, record.id)
            read = checkpoints.load_units(connection, record.id, reconciliation)
            previous = self._load_result(connection)
            earlier = history.read_earlier_runs(connection, record, reconciliation.result_class())
        reconciliation.listed = population or Population((), 0)
        emptied = self._why_emptied(population, earlier) if failure is None else None
        implausible = self._why_implausible(read.frame, earlier)
        if implausible is not None:
            # Implausible values show neither difference nor agreement. A resumed run reads everything again.
            read = replace(read, frame=typed(reconciliation, []), unread=())
        refused = failure is None and bool(emptied or implausible)
        failure = failure or emptied or implausible
        context = RunContext(
            record, settings, reconciliation.listed, failure, earlier, self._exclusions, implausible=refused
        )
        outage_seconds = runner.outage_seconds if failure is None else _OUTAGE_AFTER_FAILURE_SECONDS
        progress = self._progress
        reads = SharedReads(runner.services, outage_seconds, progress.sleep, progress.tick, zone=settings.zone)
        recheck = Recheck(
            reconciliation,
            reads,
            timedelta(minutes=settings.reconciliation_in_flight_minutes),
            runner.find_pending,
            runner.clock,
            earlier.baseline,
        )
        try:
            builder = ResultBuilder(reconciliation, reads, recheck, context, runner.clock, self._progress.report)
            # Messages get time to arrive before the recheck.
            seconds = settings.reconciliation_recheck_seconds
            wait = partial(progress.wait, f"waiting {seconds:g} s before the recheck", seconds)
            built = builder.build(read, wait)
        finally:
            reads.stop()
        result, events = built.result, reconciliation.events()
        with write_as_holder(self._database, self._leases) as connection:
            runs.save_result(connection, result)
            if implausible is not None:
                checkpoints.forget_units(connection, record.id)
            # A resumed run without new findings sends nothing.
            if previous is None or history.ended_differently(result, previous):
                most = settings.reconciliation_most_alerts if events.limited else None
                track = partial(self._telemetry.track_with, connection)
                track_result(track, events, result, built.gaps, context.population.units, most, previous)
                if self._notify and runner.notify is not None:
                    runner.notify(connection, result)
        self._log.info("reconciliation-finished", status=result.status, **result.counts())
        return result

    def _why_emptied(self, population: Population | None, earlier: EarlierRuns[ReconciliationResult]) -> str | None:
        """Why the population is implausible; None if it is plausible or was not listed, or if the run is partial."""
        if population is None or not self._record.covers_everyone:
            return None
        return why_emptied(population, self._reconciliation.counted, earlier.listed, earlier.listed_before)

    def _why_implausible(self, frame: pd.DataFrame, earlier: EarlierRuns[ReconciliationResult]) -> str | None:
        """Why the values that were read are implausible, or None if they are plausible.

        Also None if the run covers chosen prisoners, or if an operator accepts what an earlier run read.
        """
        if self._record.scope.offender_nos or self._record.accepts is not None:
            return None
        return self._reconciliation.why_implausible(frame, earlier.last)

    def _load_result(self, connection: Connection) -> ReconciliationResult | None:
        return runs.load_result(connection, self._record.id, self._reconciliation.result_class())
