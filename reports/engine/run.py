"""A run of the weekly incentive reconciliation: acquired, read, and concluded with a result.

A run can be split into shards and resumed. The last shard to finish builds the result, exactly once.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Literal

import structlog

from reports.delivery.channels import enqueue_report
from reports.engine import checkpoints, history, runs
from reports.engine.bookings import ActiveBookingLookup
from reports.engine.exclusions import read_exclusions
from reports.engine.listing import Listing
from reports.engine.parallel_reader import OUTAGE_SECONDS
from reports.engine.plausibility import why_emptied, why_without_levels
from reports.engine.run_reader import RunProgress, RunReader
from reports.engine.run_registry import (
    LAST,
    AcquiredRun,
    ReconciliationBusy,
    ReconciliationParameters,
    UnknownRun,
    acquire_run,
    wait_for_lease,
    write_as_holder,
)
from reports.reconciliations.incentives import events
from sync.failures import LeaseBusy, SyncError
from sync.store.database import StoreUnavailable
from sync.store.leases import Leases

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime

    from reports.engine.exclusions import Exclusion
    from reports.engine.recheck import Recheck
    from reports.reconciliations.incentives.pending_messages import FindPendingMessages
    from reports.reconciliations.incentives.result import IncentiveResult
    from sync.settings.declaration import Settings
    from sync.store.database import Database
    from sync.store.telemetry import Telemetry
    from sync.upstream.services import Services

__all__ = [
    "LAST",
    "IncentiveReconciliation",
    "ReconciliationBusy",
    "ReconciliationOutcome",
    "ReconciliationParameters",
    "UnknownRun",
]

_WAIT_STEP_SECONDS = 1.0
#: How long the recheck of a run that gave up waits for a service that is down.
_OUTAGE_AFTER_FAILURE_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class ReconciliationOutcome:
    """How a run, or this shard of it, ended. `run_id` is that of the run, also if it was resumed or joined."""

    status: Literal["complete", "incomplete", "failed", "unfinished shard"]
    result: IncentiveResult | None
    run_id: str


@dataclass(frozen=True, slots=True)
class IncentiveReconciliation:
    """Runs the reconciliation.

    find_pending: finds the reviews whose message is still to be handled. progress: called with a stage, how much of it
    is done, and how much there is; may raise to stop the run. outage_seconds: how long a service may be down in all.
    """

    settings: Settings
    database: Database
    services: Services
    telemetry: Telemetry
    find_pending: FindPendingMessages
    progress: Callable[[str, int, int], None]
    clock: Callable[[], datetime]
    sleep: Callable[[float], None] = time.sleep
    outage_seconds: float = OUTAGE_SECONDS

    def run(self, run_id: str, parameters: ReconciliationParameters) -> ReconciliationOutcome:
        """Runs it under the id `run_id`; a shard joins the run of the same parameters, whatever its id.

        A run that gives up, or fails in a foreseen way, ends as `failed` with what it has. Raises `ReconciliationBusy`
        when the same is under way elsewhere, or was taken over because this process was suspended for too long;
        `UnknownRun`, `SettingsError` and `StoreUnavailable`.
        """
        if not 0 <= parameters.shard < parameters.shards:
            raise UnknownRun(f"there is no shard {parameters.shard} of {parameters.shards}; shards count from 0")
        exclusions = read_exclusions(self.settings.reconciliation_exclusions)
        leases = Leases(self.database, f"reconciliation {run_id}", self.settings.lease_seconds)
        leases.start_renewing()
        try:
            with acquire_run(self.database, leases, run_id, parameters, self.sleep) as run:
                notify = parameters.notify and run.record.notify
                return _Run(self, leases, run, exclusions, notify=notify).finish_or_fail()
        except LeaseBusy as error:
            raise ReconciliationBusy(
                "this process was suspended for too long and lost its place in the incentive reconciliation; "
                "the process that took it over continues after the last finished page"
            ) from error
        finally:
            leases.stop()
            self.telemetry.flush()


class _Run:
    """One run, or one shard of it, under its leases."""

    def __init__(
        self,
        reconciliation: IncentiveReconciliation,
        leases: Leases,
        run: AcquiredRun,
        exclusions: Mapping[int, Exclusion],
        *,
        notify: bool,
    ) -> None:
        self._reconciliation = reconciliation
        self._database = reconciliation.database
        self._telemetry = reconciliation.telemetry
        self._leases = leases
        self._run = run
        self._record = run.record
        self._exclusions = exclusions
        self._notify = notify
        self._progress = RunProgress(reconciliation.progress, reconciliation.sleep)
        self._log = structlog.get_logger().bind(run_id=run.record.id, shard=run.shard)

    def finish_or_fail(self) -> ReconciliationOutcome:
        """Lists, reads, and, if this is the last shard, concludes."""
        record, shard = self._record, self._run.shard
        failure: str | None = None
        try:
            if self._run.resumed or not (record.all_read or shard in record.finished_shards):
                RunReader(self._reconciliation, self._leases, self._run, self._exclusions, self._progress).read()
        except (StoreUnavailable, LeaseBusy):
            raise
        except SyncError as error:
            failure = str(error)
            self._log.error("reconciliation-gave-up", reason=failure)
        except Exception:
            events.track_unexpected(self._telemetry.track)
            self._telemetry.flush()
            raise
        if failure is None:
            with write_as_holder(self._database, self._leases) as connection:
                self._record = runs.finish_shard(connection, record.id, shard)
            if not self._record.all_read:
                return ReconciliationOutcome("unfinished shard", None, record.id)
        return self._conclude_once(failure)

    def _conclude_once(self, failure: str | None) -> ReconciliationOutcome:
        """Builds and records the result, unless another shard has done so."""
        run_id = self._record.id
        with wait_for_lease(self._leases, f"reconciliation:part:finish:{run_id}", self._progress.sleep):
            with self._database.read() as connection:
                record = runs.get_run(connection, run_id)
                result = None if record.is_open else runs.load_result(connection, run_id)
            if result is None:
                result = self._conclude(failure)
        return ReconciliationOutcome(result.status, result, run_id)

    def _conclude(self, failure: str | None) -> IncentiveResult:
        # pandas takes long to import, and a run that is busy elsewhere needs none of it.
        from reports.engine.result_builder import ResultBuilder, RunContext
        from reports.reconciliations.incentives.frame import LevelFrame
        from reports.reconciliations.incentives.levels import Codebook

        record, reconciliation = self._record, self._reconciliation
        settings, started_at = reconciliation.settings, record.started_at
        levels, prisons = Codebook(), Codebook()
        with self._database.read() as connection:
            listing = checkpoints.load_population(connection, record.id) or Listing((), 0)
            frame = LevelFrame.of(
                checkpoints.load_pages(connection, record.id, levels, prisons),
                levels,
                prisons,
                {each.booking_id for each in listing.unusable if each.booking_id is not None},
            )
            previous = runs.load_result(connection, record.id)
            baseline = history.read_baseline(connection, started_at)
            trend = history.read_trend(connection, started_at)
            without = history.read_without_levels(connection, started_at)
            listed_before = history.read_listed_before(connection, started_at)
        implausible = None
        if not record.offender_nos:
            failure = failure or why_emptied(listing, trend, listed_before)
            implausible = why_without_levels(frame, without)
        if implausible is not None:
            # Such levels show neither a difference nor agreement, and a resumed run reads everyone again.
            failure, frame = failure or implausible, LevelFrame(levels, prisons)
        context = RunContext(
            run_id=record.id,
            environment=settings.environment_name,
            started_at=started_at,
            parameters=record.parameters,
            prisons=record.prisons,
            listing=listing,
            failure=failure,
            baseline=baseline,
            trend=trend,
            exclusions=self._exclusions,
            near=timedelta(hours=settings.reconciliation_near_hours),
        )
        recheck = self._recheck(listing, baseline, failed=failure is not None)
        builder = ResultBuilder(reconciliation.services, recheck, context, reconciliation.clock, self._progress.report)
        result = builder.build(frame, self._wait_for_messages)
        with write_as_holder(self._database, self._leases) as connection:
            runs.save_result(connection, result)
            if implausible is not None:
                checkpoints.forget_pages(connection, record.id)
            # Resuming without new findings sends nothing.
            if previous is None or history.ended_differently(result, previous):
                events.track_result(partial(self._telemetry.track_with, connection), result)
                if self._notify:
                    enqueue_report(connection, settings, result)
        self._log.info("reconciliation-finished", status=result.status, **result.counts())
        return result

    def _recheck(self, listing: Listing, baseline: history.Baseline, *, failed: bool) -> Recheck:
        from reports.engine.recheck import Recheck

        reconciliation, settings = self._reconciliation, self._reconciliation.settings
        page_size = settings.reports_incentives_reconciliation_page_size
        is_active = ActiveBookingLookup(reconciliation.services.nomis, page_size, listing)
        return Recheck(
            reconciliation.services,
            timedelta(minutes=settings.reconciliation_in_flight_minutes),
            reconciliation.find_pending,
            reconciliation.clock,
            None if self._record.offender_nos else is_active,
            baseline,
            _OUTAGE_AFTER_FAILURE_SECONDS if failed else reconciliation.outage_seconds,
            self._progress.tick,
        )

    def _wait_for_messages(self) -> None:
        """Gives messages in flight time to arrive, in short steps, so that the run can be stopped meanwhile."""
        left = self._reconciliation.settings.reconciliation_recheck_seconds
        whole = math.ceil(left)
        while True:
            self._reconciliation.sleep(min(left, _WAIT_STEP_SECONDS))
            left -= _WAIT_STEP_SECONDS
            if whole:
                self._progress.report("waiting", whole - max(math.ceil(left), 0), whole)
            if left <= 0:
                return
