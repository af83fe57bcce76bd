"""Lists and reads the prisoners of one shard of a run; every finished page is a checkpoint."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import structlog

from reports.engine import checkpoints
from reports.engine.bookings import find_bookings
from reports.engine.listing import Listing, everyone_first, list_prisoners, relist
from reports.engine.run_registry import wait_for_lease, write_as_holder
from reports.reconciliations.incentives import events
from reports.reconciliations.incentives.snapshot import Snapshot
from sync.failures import SyncError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from reports.engine.run import IncentiveReconciliation
    from reports.engine.run_registry import AcquiredRun
    from sync.store.leases import Leases
    from sync.upstream.prisoners import PrisonerId

#: Prisoners that must have failed before their share counts.
_SHARE_CHECKED_FROM = 20
_WAIT_STEP_SECONDS = 1.0


class RunGaveUp(SyncError):
    """Too much could not be read for the result to be of use."""


class RunProgress:
    """Reports how far a run is to `callback`, which may raise to stop the run."""

    def __init__(self, callback: Callable[[str, int, int], None], sleep: Callable[[float], None]) -> None:
        self._callback = callback
        self._sleep = sleep
        self._last = ("listing", 0, 0)

    def begin(self, stage: str, done: int, total: int) -> None:
        """Sets what is repeated as a sign of life, without reporting it."""
        self._last = (stage, done, total)

    def report(self, stage: str, done: int, total: int) -> None:
        """Reports how much of a stage is done."""
        self.begin(stage, done, total)
        self._callback(stage, done, total)

    def tick(self, waits_for: str | None = None) -> None:
        """Repeats the last report as a sign of life, with what the run waits for."""
        stage, done, total = self._last
        self._callback(f"{stage}, {waits_for}" if waits_for else stage, done, total)

    def sleep(self, seconds: float) -> None:
        """Waits in short steps, each with a sign of life."""
        while seconds > 0:
            self._sleep(min(seconds, _WAIT_STEP_SECONDS))
            seconds -= _WAIT_STEP_SECONDS
            self.tick()


class RunReader:
    """Lists the population of a run and reads the part of one shard."""

    def __init__(
        self,
        reconciliation: IncentiveReconciliation,
        leases: Leases,
        run: AcquiredRun,
        excluded: Collection[int],
        progress: RunProgress,
    ) -> None:
        """`excluded`: bookings that may fail without counting."""
        self._reconciliation = reconciliation
        self._settings = reconciliation.settings
        self._database = reconciliation.database
        self._nomis = reconciliation.services.nomis
        self._page_size = reconciliation.settings.reports_incentives_reconciliation_page_size
        self._leases = leases
        self._run = run
        self._record = run.record
        self._excluded = excluded
        self._progress = progress
        self._snapshot = self._new_snapshot()
        self._log = structlog.get_logger().bind(run_id=run.record.id, shard=run.shard)

    def read(self) -> None:
        """Lists and reads everyone of this shard who was not read before."""
        try:
            self._read_listed(self._population())
        finally:
            self._snapshot.stop()

    def _population(self) -> Listing:
        """The prisoners to read: listed by the first shard, relisted on resume."""
        key = f"reconciliation:part:listing:{self._record.id}"
        with wait_for_lease(self._leases, key, self._progress.sleep):
            with self._database.read() as connection:
                known = checkpoints.load_population(connection, self._record.id)
            if known is None:
                listing = self._list()
            elif known.looked_again and (self._record.shards > 1 or not self._run.resumed):
                return known
            else:
                listing = self._list_again(known)
            with write_as_holder(self._database, self._leases) as connection:
                checkpoints.save_population(connection, self._record.id, listing)
                if known is None and not self._record.offender_nos:
                    track = partial(self._reconciliation.telemetry.track_with, connection)
                    events.track_requested(track, listing.total_elements)
            return listing

    def _list(self) -> Listing:
        if self._record.offender_nos:
            return self._find(self._record.offender_nos, ())
        listing = list_prisoners(
            self._nomis,
            self._page_size,
            max_page_errors=self._settings.reconciliation_max_page_errors,
            progress=partial(self._progress.report, "listing"),
            sleep=self._progress.sleep,
            # With a single shard everyone is read here, so reading can start while the other pages are listed.
            begin=self._snapshot.begin if self._record.shards == 1 else everyone_first,
        )
        # Shards share one list, which must be complete before they begin.
        return self._relist(listing) if self._record.shards > 1 and not listing.looked_again else listing

    def _list_again(self, known: Listing) -> Listing:
        """The known prisoners and those who came since: people have moved, so all pages are read."""
        if self._record.offender_nos:
            return self._find(known.not_found, known.prisoners)
        return self._relist(known)

    def _find(self, offender_nos: Sequence[str], known: Sequence[PrisonerId]) -> Listing:
        found = find_bookings(self._reconciliation.services, offender_nos, self._page_size)
        prisoners = (*known, *found.prisoners)
        return Listing(
            prisoners,
            len(prisoners),
            found.failed_pages,
            looked_again=True,
            not_found=found.not_found,
            unusable=found.unusable,
        )

    def _relist(self, listing: Listing) -> Listing:
        return relist(self._nomis, listing, self._page_size, self._progress.sleep)

    def _read_listed(self, listing: Listing) -> None:
        """Reads everyone of this shard, and meanwhile lists again, for those who moved while the list was made."""
        if listing.looked_again or listing.failed_pages:
            self._read_prisoners(listing.prisoners)
            return
        with ThreadPoolExecutor(1, thread_name_prefix="relist") as executor:
            relisting = executor.submit(self._relist, listing)
            self._read_prisoners(listing.prisoners)
            whole = relisting.result()
        if whole.failed_pages:
            # NOMIS may have been down for a while and is back: everyone was read since.
            whole = self._relist(replace(whole, failed_pages=()))
        with write_as_holder(self._database, self._leases) as connection:
            checkpoints.save_population(connection, self._record.id, whole)
        self._read_prisoners(whole.prisoners)

    def _new_snapshot(self) -> Snapshot:
        return Snapshot(
            self._reconciliation.services,
            self._page_size,
            self._reconciliation.outage_seconds,
            self._progress.tick,
        )

    def _read_prisoners(self, prisoners: Sequence[PrisonerId]) -> None:
        """Reads those of this shard who were not read before, and records each finished page."""
        record, snapshot = self._record, self._snapshot
        mine = [each for each in prisoners if each.booking_id % record.shards in self._run.shares]
        read: set[int] = set()
        with self._database.read() as connection:
            next_page = checkpoints.next_page(connection, record.id, self._run.shard)
            for page in checkpoints.load_pages(connection, record.id, snapshot.levels, snapshot.prisons):
                readable = [each for each in page.prisoners if each.booking_id not in page.failed]
                read.update(each.booking_id for each in readable)
                if readable:
                    snapshot.trust(readable[0])
        left = [each for each in mine if each.booking_id not in read]
        done, failed = len(mine) - len(left), 0
        if not left:
            return
        self._progress.begin("reading", done, len(mine))
        if done:
            self._log.info("reconciliation-resumed", read_before=done, left=len(left))
        # A snapshot serves one round; the next one is made now, so that `read` always has one to stop.
        self._snapshot = self._new_snapshot()
        pages = snapshot.pages(left, next_page)
        try:
            for page in pages:
                with write_as_holder(self._database, self._leases) as connection:
                    checkpoints.save_page(
                        connection, record.id, self._run.shard, page, snapshot.levels, snapshot.prisons
                    )
                done += len(page.prisoners)
                failed += len(page.failed.keys() - self._excluded)
                self._progress.report("reading", done, len(mine))
                self._check_share(failed, len(mine))
        finally:
            pages.close()

    def _check_share(self, failed: int, everyone: int) -> None:
        most = self._settings.reconciliation_max_unreadable_percent
        if failed >= min(_SHARE_CHECKED_FROM, everyone) and failed * 100 > most * everyone:
            raise RunGaveUp(f"more than {most:g} % of {everyone} prisoners could not be read")
