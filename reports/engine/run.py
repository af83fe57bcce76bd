"""The weekly incentive reconciliation: a run from the listing of prisoners to its result, resumable and in shards.

Every finished page is a checkpoint. Whoever ends last, of the shards of a run, draws its result, once.
"""

from __future__ import annotations

import math
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import structlog

from reports.delivery.channels import enqueue_report
from reports.engine import checkpoints, history, runs
from reports.engine.bookings import ActiveBookingLookup, find_bookings
from reports.engine.exclusions import read_exclusions
from reports.engine.listing import Listing, everyone_first, list_prisoners, look_again
from reports.engine.parallel_reader import OUTAGE_SECONDS, undisturbed
from reports.engine.plausibility import why_emptied, why_without_levels
from reports.engine.run_registry import (
    LAST,
    Opened,
    ReconciliationBusy,
    ReconciliationParameters,
    UnknownRun,
    opened_run,
    patiently,
)
from reports.reconciliations.incentives import events
from reports.reconciliations.incentives.snapshot import Snapshot
from sync.failures import LeaseBusy, SyncError
from sync.store.database import StoreUnavailable
from sync.store.leases import Leases

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from sqlalchemy import Connection

    from reports.engine.result import ReconciliationResult
    from reports.reconciliations.incentives.pending_messages import FindPendingMessages
    from sync.settings.declaration import Settings
    from sync.store.database import Database
    from sync.store.telemetry import Telemetry
    from sync.upstream.prisoners import PrisonerId
    from sync.upstream.services import Services

__all__ = [
    "LAST",
    "IncentiveReconciliation",
    "ReconciliationBusy",
    "ReconciliationOutcome",
    "ReconciliationParameters",
    "UnknownRun",
]

_LEASE = "reconciliation:part"
_SHARE_CHECKED_FROM = 20
_WAIT_STEP_SECONDS = 1.0
#: How long the second look of a run that gave up waits for a service that is down.
_OUTAGE_AFTER_FAILURE_SECONDS = 5.0


class GivenUp(SyncError):
    """Too much could not be read for the result to be worth anything."""


@dataclass(frozen=True, slots=True)
class ReconciliationOutcome:
    """How a run, or this shard of it, ended. `run_id` is the run that was resumed or joined, where it was."""

    status: Literal["complete", "incomplete", "failed", "unfinished shard"]
    result: ReconciliationResult | None
    run_id: str


class IncentiveReconciliation:
    """Runs the reconciliation. `progress` is told a stage, how much of it is done, and how much there is."""

    def __init__(
        self,
        settings: Settings,
        database: Database,
        services: Services,
        telemetry: Telemetry,
        find_pending: FindPendingMessages,
        progress: Callable[[str, int, int], None],
        clock: Callable[[], datetime],
        sleep: Callable[[float], None] = time.sleep,
        outage_seconds: float = OUTAGE_SECONDS,
    ) -> None:
        self._settings = settings
        self._database = database
        self._services = services
        self._telemetry = telemetry
        self._find_pending = find_pending
        self._progress = progress
        self._clock = clock
        self._sleep = sleep
        self._outage_seconds = outage_seconds

    def run(self, run_id: str, parameters: ReconciliationParameters) -> ReconciliationOutcome:
        """Runs it under the id `run_id`; a shard joins the run of the same parameters, whatever its id.

        A run that gives up, or fails in a foreseen way, ends as `failed` with what it has. Raises
        `ReconciliationBusy` when the same is under way elsewhere, or was taken over there since this process stood
        still for too long; `UnknownRun`, `SettingsError` and `StoreUnavailable`.
        """
        if not 0 <= parameters.shard < parameters.shards:
            raise UnknownRun(f"there is no shard {parameters.shard} of {parameters.shards}; shards count from 0")
        exclusions = read_exclusions(self._settings.reconciliation_exclusions)
        leases = Leases(self._database, f"reconciliation {run_id}", self._settings.lease_seconds)
        leases.start_renewing()
        try:
            with opened_run(self._database, leases, run_id, parameters, self._sleep) as opened, undisturbed():
                return _Run(self, leases, opened, parameters, exclusions).go()
        except LeaseBusy as error:
            raise ReconciliationBusy(
                "this process stood still for too long and lost its place in the incentive reconciliation; "
                "whoever has it now goes on from the last finished page"
            ) from error
        finally:
            leases.stop()
            self._telemetry.flush()


class _Run:
    """One run, or one shard of it, under its leases."""

    def __init__(
        self,
        owner: IncentiveReconciliation,
        leases: Leases,
        opened: Opened,
        parameters: ReconciliationParameters,
        exclusions: Any,
    ) -> None:
        self._owner = owner
        self._settings = owner._settings
        self._database = owner._database
        self._services = owner._services
        self._telemetry = owner._telemetry
        self._leases = leases
        self._record = record = opened.record
        self._shard = parameters.shard
        self._shares = opened.shares
        self._resumed = opened.resumed
        self._notify = bool(record.parameters.get("notify", True)) and parameters.notify
        self._prisons = tuple(record.parameters.get("prisons", ()))
        self._offender_nos = tuple(record.parameters.get("offender_nos", ()))
        self._exclusions = exclusions
        self._told = ("listing", 0, 0)
        self._snapshot = self._new_snapshot()
        self._log = structlog.get_logger().bind(run_id=record.id, shard=self._shard)

    def go(self) -> ReconciliationOutcome:
        """Lists, reads, and, if this is the last shard, concludes."""
        failure: str | None = None
        try:
            if self._resumed or not (self._record.all_read or self._shard in self._record.finished_shards):
                try:
                    self._read(self._population())
                finally:
                    self._snapshot.stop()
        except (StoreUnavailable, LeaseBusy):
            raise
        except SyncError as error:
            failure = str(error)
            self._log.error("reconciliation-gave-up", reason=failure)
        except Exception:
            events.track_unforeseen(self._telemetry.track)
            self._telemetry.flush()
            raise
        if failure is None:
            with self._writing() as connection:
                self._record = runs.finish_shard(connection, self._record.id, self._shard)
            if not self._record.all_read:
                return ReconciliationOutcome("unfinished shard", None, self._record.id)
        return self._finish(failure)

    def _tell(self, stage: str, done: int, total: int) -> None:
        self._told = (stage, done, total)
        self._owner._progress(stage, done, total)

    def _tick(self, waits_for: str | None = None) -> None:
        """Tells again how far the run is, and what it waits for: whoever follows it may end it by raising."""
        stage, done, total = self._told
        self._owner._progress(f"{stage}, {waits_for}" if waits_for else stage, done, total)

    def _rest(self, seconds: float) -> None:
        """Waits in short steps, within call."""
        while seconds > 0:
            self._owner._sleep(min(seconds, _WAIT_STEP_SECONDS))
            seconds -= _WAIT_STEP_SECONDS
            self._tick()

    def _finish(self, failure: str | None) -> ReconciliationOutcome:
        """Draws and records the result, once: whoever comes second finds it there."""
        with patiently(self._leases, f"{_LEASE}:finish:{self._record.id}", self._rest):
            with self._database.read() as connection:
                record = runs.get_run(connection, self._record.id)
                result = None if record.is_open else runs.load_result(connection, record.id)
            if result is None:
                result = self._conclude(failure)
        return ReconciliationOutcome(result.status, result, self._record.id)

    @contextmanager
    def _writing(self) -> Iterator[Connection]:
        """A transaction of one who still holds the run. Raises `LeaseBusy` when another may have it."""
        with self._database.begin() as connection:
            self._leases.ensure_held()
            yield connection

    def _population(self) -> Listing:
        """Who is to be read: listed by whichever shard comes first, and again when the run is gone on with."""
        with patiently(self._leases, f"{_LEASE}:listing:{self._record.id}", self._rest):
            with self._database.read() as connection:
                known = checkpoints.load_population(connection, self._record.id)
            if known is None:
                listing = self._list()
            elif known.looked_again and (self._record.shards > 1 or not self._resumed):
                return known
            else:
                listing = self._list_again(known)
            with self._writing() as connection:
                checkpoints.save_population(connection, self._record.id, listing)
                if known is None and not self._offender_nos:
                    track = partial(self._telemetry.track_with, connection)
                    events.track_requested(track, listing.total_elements)
            return listing

    def _list(self) -> Listing:
        if self._offender_nos:
            return self._find(self._offender_nos, ())
        listing = list_prisoners(
            self._services.nomis,
            self._settings.reports_incentives_reconciliation_page_size,
            max_page_errors=self._settings.reconciliation_max_page_errors,
            progress=lambda done, total: self._tell("listing", done, total),
            sleep=self._rest,
            # Nobody was read before, and with one shard everyone is to be read here.
            begin=self._snapshot.begin if self._record.shards == 1 else everyone_first,
        )
        # The shards share one list, so it has to be whole before they begin.
        return self._look_again(listing) if self._record.shards > 1 and not listing.looked_again else listing

    def _list_again(self, known: Listing) -> Listing:
        """Everyone listed already stays; people have moved since, so that all pages are read."""
        if self._offender_nos:
            return self._find(known.not_found, known.prisoners)
        return self._look_again(known)

    def _find(self, offender_nos: Sequence[str], known: Sequence[PrisonerId]) -> Listing:
        size = self._settings.reports_incentives_reconciliation_page_size
        chosen = find_bookings(self._services, offender_nos, size)
        prisoners = (*known, *chosen.prisoners)
        return Listing(
            prisoners,
            len(prisoners),
            chosen.failed_pages,
            looked_again=True,
            not_found=chosen.not_found,
            unusable=chosen.unusable,
        )

    def _look_again(self, listing: Listing) -> Listing:
        size = self._settings.reports_incentives_reconciliation_page_size
        return look_again(self._services.nomis, listing, size, self._rest)

    def _read(self, listing: Listing) -> None:
        """Reads everyone of this shard; meanwhile the list is read again for those who moved while it was made."""
        if listing.looked_again or listing.failed_pages:
            self._read_prisoners(listing.prisoners)
            return
        with ThreadPoolExecutor(1, thread_name_prefix="look-again") as beside:
            looking = beside.submit(self._look_again, listing)
            self._read_prisoners(listing.prisoners)
            whole = looking.result()
        if whole.failed_pages:
            # NOMIS may have been away for a while, and is back: everyone was read since.
            whole = self._look_again(replace(whole, failed_pages=()))
        with self._writing() as connection:
            checkpoints.save_population(connection, self._record.id, whole)
        self._read_prisoners(whole.prisoners)

    def _new_snapshot(self) -> Snapshot:
        return Snapshot(
            self._services,
            self._settings.reports_incentives_reconciliation_page_size,
            self._owner._outage_seconds,
            self._tick,
        )

    def _read_prisoners(self, prisoners: Sequence[PrisonerId]) -> None:
        """Reads those of this shard who were not read before; each page is recorded when it is finished."""
        snapshot = self._snapshot
        mine = [each for each in prisoners if each.booking_id % self._record.shards in self._shares]
        read: set[int] = set()
        with self._database.read() as connection:
            next_page = checkpoints.next_page(connection, self._record.id, self._shard)
            for page in checkpoints.load_pages(connection, self._record.id, snapshot.levels, snapshot.prisons):
                readable = [each for each in page.prisoners if each.booking_id not in page.unreadable]
                read.update(each.booking_id for each in readable)
                if readable:
                    snapshot.trust(readable[0])
        left = [each for each in mine if each.booking_id not in read]
        done, unreadable = len(mine) - len(left), 0
        if not left:
            return
        self._told = ("reading", done, len(mine))
        if done:
            self._log.info("reconciliation-resumed", read_before=done, left=len(left))
        # A snapshot is good for one round; until its own begins, it is this run's to stop.
        self._snapshot = self._new_snapshot()
        pages = snapshot.pages(left, next_page)
        try:
            for page in pages:
                with self._writing() as connection:
                    checkpoints.save_page(
                        connection, self._record.id, self._shard, page, snapshot.levels, snapshot.prisons
                    )
                done += len(page.prisoners)
                unreadable += len(page.unreadable.keys() - self._exclusions.keys())
                self._tell("reading", done, len(mine))
                self._check_share(unreadable, len(mine))
        finally:
            pages.close()

    def _check_share(self, unreadable: int, everyone: int) -> None:
        most = self._settings.reconciliation_max_unreadable_percent
        if unreadable >= min(_SHARE_CHECKED_FROM, everyone) and unreadable * 100 > most * everyone:
            raise GivenUp(f"more than {most:g} % of {everyone} prisoners could not be read")

    def _wait(self) -> None:
        """Lets what is in flight arrive, in short steps, so that a run can be stopped meanwhile."""
        left = self._settings.reconciliation_recheck_seconds
        whole = math.ceil(left)
        while True:
            self._owner._sleep(min(left, _WAIT_STEP_SECONDS))
            left -= _WAIT_STEP_SECONDS
            if whole:
                self._tell("waiting", whole - max(math.ceil(left), 0), whole)
            if left <= 0:
                return

    def _conclude(self, failure: str | None) -> ReconciliationResult:
        from reports.engine.recheck import Recheck
        from reports.engine.result_builder import ResultBuilder, RunContext
        from reports.reconciliations.incentives.frame import LevelFrame
        from reports.reconciliations.incentives.levels import Codebook

        levels, prisons = Codebook(), Codebook()
        with self._database.read() as connection:
            listing = checkpoints.load_population(connection, self._record.id) or Listing((), 0)
            frame = LevelFrame.of(
                checkpoints.load_pages(connection, self._record.id, levels, prisons),
                levels,
                prisons,
                {each.booking_id for each in listing.unusable if each.booking_id is not None},
            )
            previous = runs.load_result(connection, self._record.id)
            baseline = history.read_baseline(connection, self._record.started_at)
            trend = history.read_trend(connection, self._record.started_at)
            without = history.read_without_levels(connection, self._record.started_at)
            listed_before = history.read_listed_before(connection, self._record.started_at)
        unbelievable = None
        if not self._offender_nos:
            failure = failure or why_emptied(listing, trend, listed_before)
            unbelievable = why_without_levels(frame, without)
        if unbelievable is not None:
            # No difference is claimed by such levels, no agreement either, and whoever goes on reads everyone again.
            failure, frame = failure or unbelievable, LevelFrame(levels, prisons)
        settings, owner = self._settings, self._owner
        page_size = settings.reports_incentives_reconciliation_page_size
        is_active = ActiveBookingLookup(self._services.nomis, page_size, listing)
        recheck = Recheck(
            self._services,
            timedelta(minutes=settings.reconciliation_in_flight_minutes),
            owner._find_pending,
            owner._clock,
            None if self._offender_nos else is_active,
            baseline,
            owner._outage_seconds if failure is None else _OUTAGE_AFTER_FAILURE_SECONDS,
            self._tick,
        )
        context = RunContext(
            run_id=self._record.id,
            environment=settings.environment_name,
            started_at=self._record.started_at,
            parameters=self._record.parameters,
            prisons=self._prisons,
            listing=listing,
            failure=failure,
            baseline=baseline,
            trend=trend,
            exclusions=self._exclusions,
            near=timedelta(hours=settings.reconciliation_near_hours),
        )
        builder = ResultBuilder(self._services, recheck, context, owner._clock, self._tell)
        result = builder.build(frame, self._wait)
        with self._writing() as connection:
            runs.save_result(connection, result)
            if unbelievable is not None:
                checkpoints.forget_pages(connection, self._record.id)
            # A run that is gone on with in vain has nothing new to tell.
            if previous is None or history.tells_more(result, previous):
                events.track_result(partial(self._telemetry.track_with, connection), result)
                if self._notify:
                    enqueue_report(connection, settings, result)
        self._log.info("reconciliation-finished", status=result.status, **result.counts())
        return result
