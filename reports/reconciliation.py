"""The weekly incentive reconciliation: a run from the listing of prisoners to its result, resumable and in shards.

Every finished page is a checkpoint. Whoever ends last, of the shards of a run, draws its result, once.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal

import structlog

from reports import checkpoints, events, history
from reports.chosen import find_chosen
from reports.deliver import enqueue_report
from reports.exclusions import read_exclusions
from reports.listing import Listing, StillListed, list_pages, list_prisoners, look_again
from reports.reading import OUTAGE_SECONDS
from reports.snapshot import Snapshot
from sync.failures import SyncError
from sync.store.database import StoreUnavailable
from sync.store.leases import Leases

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from reports.checkpoints import RunRecord
    from reports.result import ReconciliationResult
    from reports.waiting import Peek
    from sync.settings import Settings
    from sync.store.database import Database
    from sync.telemetry import Telemetry
    from sync.upstream.nomis_prisoners import PrisonerId
    from sync.upstream.services import Services

#: Shards started within this time of each other belong to one run.
SHARDS_START_WITHIN = timedelta(hours=12)
#: The lease of a run over everyone, and what the leases of its parts begin with.
LEASE = "reconciliation:incentives"
_SHARE_CHECKED_FROM = 20
_POPULATION_POLL_SECONDS = 0.2
_WAIT_STEP_SECONDS = 1.0
#: How long the second look of a run that gave up waits for a service that is down.
_OUTAGE_AFTER_FAILURE_SECONDS = 5.0


class ReconciliationBusy(SyncError):
    """The same reconciliation is under way elsewhere; this one left without doing anything."""


class UnknownRun(SyncError):
    """There is no reconciliation of this id, or it cannot be resumed."""


class GivenUp(SyncError):
    """Too much could not be read for the result to be worth anything."""


@dataclass(frozen=True, slots=True)
class ReconciliationParameters:
    """What a run looks at: everyone, or some prisons or prisoners; as one of several shards; from where a run died.

    Without `notify` the result is kept but nothing is sent.
    """

    prisons: tuple[str, ...] = ()
    offender_nos: tuple[str, ...] = ()
    shards: int = 1
    shard: int = 0
    resume: str | None = None
    notify: bool = True

    def recorded(self) -> dict[str, Any]:
        """What makes two runs the same, as plain JSON."""
        return {
            "prisons": list(self.prisons),
            "offender_nos": list(self.offender_nos),
            "shards": self.shards,
            "notify": self.notify,
        }


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
        peek: Peek,
        progress: Callable[[str, int, int], None],
        clock: Callable[[], datetime],
        sleep: Callable[[float], None] = time.sleep,
        outage_seconds: float = OUTAGE_SECONDS,
    ) -> None:
        self._settings = settings
        self._database = database
        self._services = services
        self._telemetry = telemetry
        self._peek = peek
        self._progress = progress
        self._clock = clock
        self._sleep = sleep
        self._outage_seconds = outage_seconds

    def run(self, run_id: str, parameters: ReconciliationParameters) -> ReconciliationOutcome:
        """Runs it under the id `run_id`; a shard joins the open run of the same parameters, whatever its id.

        A run that gives up, or fails in a foreseen way, ends as `failed` with what it has. Raises
        `ReconciliationBusy` when the same is under way elsewhere, `UnknownRun`, `SettingsError` and
        `StoreUnavailable`.
        """
        if not 0 <= parameters.shard < parameters.shards:
            raise UnknownRun(f"there is no shard {parameters.shard} of {parameters.shards}; shards count from 0")
        exclusions = read_exclusions(self._settings.reconciliation_exclusions)
        leases = Leases(self._database, f"reconciliation {run_id}", self._settings.lease_seconds)
        leases.start_renewing()
        try:
            with self._alone(leases, parameters):
                record = self._open(leases, run_id, parameters)
                return _Run(self, leases, record, parameters, exclusions).go()
        finally:
            leases.stop()
            self._telemetry.flush()

    @contextmanager
    def _alone(self, leases: Leases, parameters: ReconciliationParameters) -> Iterator[None]:
        """Keeps a second run out; looking at single prisoners disturbs nobody."""
        if parameters.offender_nos and not parameters.resume:
            yield
            return
        key = LEASE if parameters.shards == 1 else f"{LEASE}:{parameters.shard}/{parameters.shards}"
        if not leases.acquire(key):
            raise ReconciliationBusy("the incentive reconciliation is under way elsewhere; this run did nothing")
        try:
            yield
        finally:
            leases.release(key)

    def _open(self, leases: Leases, run_id: str, parameters: ReconciliationParameters) -> RunRecord:
        if parameters.resume is not None:
            return self._reopen(parameters.resume, parameters)
        if parameters.shards == 1:
            with self._database.begin() as connection:
                return checkpoints.create_run(connection, run_id, parameters.recorded(), 1)
        with _patiently(leases, f"{LEASE}:opening", self._sleep), self._database.begin() as connection:
            wanted = parameters.recorded()
            for record in checkpoints.open_runs(connection, self._clock() - SHARDS_START_WITHIN):
                if dict(record.parameters) == wanted:
                    return record
            return checkpoints.create_run(connection, run_id, wanted, parameters.shards)

    def _reopen(self, run_id: str, parameters: ReconciliationParameters) -> RunRecord:
        with self._database.begin() as connection:
            record = checkpoints.find_run(connection, run_id)
            if record is None:
                raise UnknownRun(f"there is no reconciliation {run_id}; see: prisoner-to-nomis runs list")
            if record.status == "complete":
                raise UnknownRun(f"reconciliation {run_id} is complete; there is nothing to resume")
            if record.shards != parameters.shards:
                raise UnknownRun(
                    f"reconciliation {run_id} has {record.shards} shard(s); resume it with --shards {record.shards}"
                )
            if not record.is_open:
                checkpoints.reopen_run(connection, run_id)
                record = checkpoints.find_run(connection, run_id)
        assert record is not None
        return record


class _Run:
    """One run, or one shard of it, under its leases."""

    def __init__(
        self,
        owner: IncentiveReconciliation,
        leases: Leases,
        record: RunRecord,
        parameters: ReconciliationParameters,
        exclusions: Any,
    ) -> None:
        self._owner = owner
        self._settings = owner._settings
        self._database = owner._database
        self._services = owner._services
        self._telemetry = owner._telemetry
        self._leases = leases
        self._record = record
        self._shard = parameters.shard
        self._notify = bool(record.parameters.get("notify", True)) and parameters.notify
        self._prisons = tuple(record.parameters.get("prisons", ()))
        self._offender_nos = tuple(record.parameters.get("offender_nos", ()))
        self._exclusions = exclusions
        self._not_found: tuple[str, ...] = ()
        self._to_look_again = False
        self._log = structlog.get_logger().bind(run_id=record.id, shard=self._shard)

    def go(self) -> ReconciliationOutcome:
        """Lists, reads, and, if this is the last shard, concludes."""
        failure: str | None = None
        listing = Listing((), 0)
        try:
            if not (self._record.all_read or self._shard in self._record.finished_shards):
                listing = self._population()
                self._read(listing)
        except StoreUnavailable:
            raise
        except SyncError as error:
            failure = str(error)
            self._log.error("reconciliation-gave-up", reason=failure)
        except Exception:
            events.track_unforeseen(self._telemetry)
            self._telemetry.flush()
            raise
        if failure is None:
            with self._database.begin() as connection:
                self._record = checkpoints.finish_shard(connection, self._record.id, self._shard)
            if not self._record.all_read:
                return ReconciliationOutcome("unfinished shard", None, self._record.id)
        return self._finish(failure)

    def _finish(self, failure: str | None) -> ReconciliationOutcome:
        """Draws and records the result, once: whoever comes second finds it there."""
        with _patiently(self._leases, f"{LEASE}:finish:{self._record.id}", self._owner._sleep):
            with self._database.read() as connection:
                record = checkpoints.find_run(connection, self._record.id)
                result = None if record is None or record.is_open else checkpoints.load_result(connection, record.id)
            if result is None:
                result = self._conclude(failure)
        return ReconciliationOutcome(result.status, result, self._record.id)

    def _population(self) -> Listing:
        """Who is to be read: listed by whichever shard comes first, and by nobody else unless that one dies."""
        with _patiently(self._leases, f"{LEASE}:listing:{self._record.id}", self._owner._sleep):
            with self._database.read() as connection:
                known = checkpoints.load_population(connection, self._record.id)
            if known is None:
                listing = self._list()
                if not self._offender_nos:
                    events.track_requested(self._telemetry, listing.total_elements)
            elif known.failed_pages:
                listing = self._list_again(known)
            else:
                return known
            with self._database.begin() as connection:
                checkpoints.save_population(connection, self._record.id, listing)
            return listing

    def _list(self) -> Listing:
        size = self._settings.reports_incentives_reconciliation_page_size
        if self._offender_nos:
            chosen = find_chosen(self._services, self._offender_nos, size)
            self._not_found = chosen.not_found
            return Listing(chosen.prisoners, len(chosen.prisoners))
        listing = list_prisoners(
            self._services.nomis,
            size,
            max_page_errors=self._settings.reconciliation_max_page_errors,
            progress=lambda done, total: self._owner._progress("listing", done, total),
            sleep=self._owner._sleep,
        )
        if listing.failed_pages or listing.looked_again:
            return listing
        if self._record.shards > 1:
            # The shards share one list, so it has to be whole before they begin.
            return look_again(self._services.nomis, listing, size, self._owner._sleep)
        self._to_look_again = True
        return listing

    def _list_again(self, known: Listing) -> Listing:
        """Tries the pages once more that failed before; everyone listed already stays."""
        size = self._settings.reports_incentives_reconciliation_page_size
        found, failures = list_pages(self._services.nomis, size, [each.page for each in known.failed_pages])
        prisoners = {each.booking_id: each for each in (*known.prisoners, *found)}
        ordered = tuple(prisoners[booking_id] for booking_id in sorted(prisoners))
        return Listing(ordered, known.total_elements, tuple(failures), known.repeats, known.found_again)

    def _read(self, listing: Listing) -> None:
        """Reads everyone of this shard; meanwhile the list is read again for those who moved while it was made."""
        with ThreadPoolExecutor(1, thread_name_prefix="look-again") as beside:
            looking = beside.submit(self._look_again, listing) if self._to_look_again else None
            self._read_prisoners(listing.prisoners)
            if looking is None:
                return
            whole = looking.result()
        known = {each.booking_id for each in listing.prisoners}
        if any(each.booking_id not in known for each in whole.prisoners):
            with self._database.begin() as connection:
                checkpoints.save_population(connection, self._record.id, whole)
            self._read_prisoners(whole.prisoners)

    def _look_again(self, listing: Listing) -> Listing:
        size = self._settings.reports_incentives_reconciliation_page_size
        return look_again(self._services.nomis, listing, size, self._owner._sleep)

    def _read_prisoners(self, prisoners: Sequence[PrisonerId]) -> None:
        """Reads those of this shard who were not read before; each page is recorded when it is finished."""
        snapshot = Snapshot(
            self._services,
            self._settings.reconciliation_concurrency,
            self._settings.reports_incentives_reconciliation_page_size,
            self._owner._outage_seconds,
        )
        mine = [each for each in prisoners if each.booking_id % self._record.shards == self._shard]
        read: set[int] = set()
        next_page = 0
        with self._database.read() as connection:
            for page in checkpoints.load_pages(
                connection, self._record.id, snapshot.levels, snapshot.prisons, self._shard
            ):
                next_page = max(next_page, page.number + 1)
                read |= {each.booking_id for each in page.prisoners} - page.unreadable.keys()
        left = [each for each in mine if each.booking_id not in read]
        done, unreadable = len(mine) - len(left), 0
        if done:
            self._log.info("reconciliation-resumed", read_before=done, left=len(left))
        pages = snapshot.pages(left, next_page)
        try:
            for page in pages:
                with self._database.begin() as connection:
                    checkpoints.save_page(
                        connection, self._record.id, self._shard, page, snapshot.levels, snapshot.prisons
                    )
                done += len(page.prisoners)
                unreadable += len(page.unreadable)
                self._owner._progress("reading", done, len(mine))
                self._check_share(unreadable, len(mine))
        finally:
            pages.close()

    def _check_share(self, unreadable: int, everyone: int) -> None:
        most = self._settings.reconciliation_max_unreadable_percent
        if unreadable >= min(_SHARE_CHECKED_FROM, everyone) and unreadable * 100 > most * everyone:
            raise GivenUp(f"{unreadable} of {everyone} prisoners could not be read, more than {most:g} %")

    def _wait(self) -> None:
        """Lets what is in flight arrive, in short steps, so that a run can be stopped meanwhile."""
        left = whole = self._settings.reconciliation_recheck_seconds
        while True:
            self._owner._sleep(min(left, _WAIT_STEP_SECONDS))
            left -= _WAIT_STEP_SECONDS
            if left <= 0:
                return
            self._owner._progress("waiting", round(whole - left), round(whole))

    def _conclude(self, failure: str | None) -> ReconciliationResult:
        from reports.conclude import Circumstances, Conclusion
        from reports.gathered import Gathered
        from reports.levels import Codebook
        from reports.recheck import Recheck

        levels, prisons = Codebook(), Codebook()
        with self._database.read() as connection:
            listing = checkpoints.load_population(connection, self._record.id) or Listing((), 0)
            gathered = Gathered.of(
                checkpoints.load_pages(connection, self._record.id, levels, prisons), levels, prisons
            )
            baseline = history.read_baseline(connection, self._record.started_at)
            trend = history.read_trend(connection, self._record.started_at)
        settings, owner = self._settings, self._owner
        page_size = settings.reports_incentives_reconciliation_page_size
        still_listed = StillListed(self._services.nomis, page_size, listing.total_elements)
        recheck = Recheck(
            self._services,
            settings.reconciliation_concurrency,
            timedelta(minutes=settings.reconciliation_in_flight_minutes),
            owner._peek,
            owner._clock,
            None if self._offender_nos else still_listed,
            owner._outage_seconds if failure is None else _OUTAGE_AFTER_FAILURE_SECONDS,
        )
        about = Circumstances(
            run_id=self._record.id,
            environment=settings.environment_name,
            started_at=self._record.started_at,
            parameters=self._record.parameters,
            prisons=self._prisons,
            listing=listing,
            not_found=self._not_found,
            failure=failure,
            baseline=baseline,
            trend=trend,
            exclusions=self._exclusions,
            near=timedelta(hours=settings.reconciliation_near_hours),
        )
        conclusion = Conclusion(self._services, recheck, about, owner._clock, owner._progress)
        result = conclusion.draw(gathered, self._wait)
        events.track_result(self._telemetry, result)
        self._telemetry.flush()
        with self._database.begin() as connection:
            checkpoints.save_result(connection, result)
            if self._notify:
                enqueue_report(connection, settings, result)
        self._log.info("reconciliation-finished", status=result.status, **result.counts())
        return result


@contextmanager
def _patiently(leases: Leases, key: str, sleep: Callable[[float], None]) -> Iterator[None]:
    """Holds a lease, waiting for as long as another holds it (a dead holder's lease expires)."""
    while not leases.acquire(key):
        sleep(_POPULATION_POLL_SECONDS)
    try:
        yield
    finally:
        leases.release(key)
