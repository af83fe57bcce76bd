"""Lists the units of a run and reads those of one shard; each finished unit is recorded as a checkpoint."""

from __future__ import annotations

import math
import queue
import threading
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import structlog

from reports.engine import checkpoints
from reports.engine.frame import typed
from reports.engine.parallel_reader import failed_read, get_with_heartbeat
from reports.engine.plausibility import check_unread_share
from reports.engine.reconciliation import ServiceTooOld
from reports.engine.run_start import wait_for_lease, write_as_holder
from reports.engine.shared_reads import ReadingStopped, SharedReads, service_too_old
from reports.engine.telemetry import track_event
from reports.engine.units import Reading
from sync.errors import SyncError, UpstreamError
from sync.tracing import TracedThreads

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence, Set

    from reports.engine.exclusions import Exclusions
    from reports.engine.reconciliation import Reconciliation
    from reports.engine.run import ReconciliationRunner
    from reports.engine.run_start import AcquiredRun
    from reports.engine.units import Population, Unit, UnreadRecord
    from sync.store.leases import Leases

#: How many units are read at the same time: enough to keep calls in flight, but few enough to limit the results
#: that wait to be recorded.
_UNITS_AT_ONCE = 20
_WAIT_STEP_SECONDS = 1.0


class RunProgress:
    """Reports the progress of a run to `callback`, which may raise to stop the run. Safe to share between threads."""

    def __init__(self, callback: Callable[[str, int, int], None], sleep: Callable[[float], None]) -> None:
        self._callback = callback
        self._sleep = sleep
        self._last = ("listing", 0, 0)
        self._waits_for: str | None = None
        self._lock = threading.RLock()

    def begin(self, stage: str, done: int, total: int) -> None:
        """Sets the stage and the figures that `tick` repeats, without reporting them."""
        self._last = (stage, done, total)

    def report(self, stage: str, done: int, total: int) -> None:
        """Reports how much of a stage is done, and how much there is in total."""
        with self._lock:
            self.begin(stage, done, total)
            self.tick()

    def tick(self, waits_for: str | None = None) -> None:
        """Repeats the last report, to show that the run is alive.

        waits_for: what the run is waiting for, which is added to the stage; None if the run is not waiting.
        """
        with self._lock:
            self._waits_for = waits_for
            self._repeat()

    def _repeat(self) -> None:
        with self._lock:
            stage, done, total = self._last
            self._callback(f"{stage}, {self._waits_for}" if self._waits_for else stage, done, total)

    def sleep(self, seconds: float) -> None:
        """Waits for `seconds` in short steps, and after each repeats the last report with what the run waits for."""
        for _ in self._steps(seconds):
            self._repeat()

    def wait(self, stage: str, seconds: float) -> None:
        """Waits for `seconds` in short steps, and after each reports the progress of `stage`, in whole seconds."""
        for left in self._steps(seconds):
            self.report(stage, math.ceil(seconds) - math.ceil(left), math.ceil(seconds))

    def _steps(self, seconds: float) -> Iterator[float]:
        """Waits for `seconds` in steps of at most a second, and yields after each how many seconds are left."""
        while seconds > 0:
            self._sleep(min(seconds, _WAIT_STEP_SECONDS))
            seconds = max(seconds - _WAIT_STEP_SECONDS, 0.0)
            yield seconds


class RunReader:
    """Lists the population of a run, and reads the units of one shard."""

    def __init__(
        self,
        runner: ReconciliationRunner,
        reconciliation: Reconciliation,
        leases: Leases,
        run: AcquiredRun,
        exclusions: Exclusions,
        progress: RunProgress,
    ) -> None:
        """exclusions: the list of exclusions; its records do not count towards the share of unread records."""
        self._runner = runner
        self._reconciliation = reconciliation
        self._settings = runner.settings
        self._database = runner.database
        self._leases = leases
        self._run = run
        self._record = run.record
        self._exclusions = exclusions
        self._progress = progress
        self._reads = SharedReads(
            runner.services,
            runner.outage_seconds,
            progress.sleep,
            progress.tick,
            partial(progress.report, "listing"),
            self._begin,
            self._settings.zone,
        )
        self._pool = TracedThreads(_UNITS_AT_ONCE, thread_name_prefix="unit")
        self._results: queue.Queue[tuple[Unit, Reading | BaseException]] = queue.Queue()
        #: The units whose reading began before all units were listed.
        self._begun: dict[str, Unit] = {}
        self._log = structlog.get_logger().bind(run_id=run.record.id, shard=run.shard)

    def read(self) -> None:
        """Lists the population, and reads what is still unread in the units of this shard.

        Raises `SyncError` if the population cannot be listed, if a service is too old, or if too much is unread.
        """
        try:
            population = self._reconciliation.listed = self._population()
            if not population.moving:
                self._read_units(population)
                return
            with TracedThreads(1, thread_name_prefix="listing-again") as executor:
                again = executor.submit(self._listed_again, population)
                self._read_units(population, repeat=False)
                population = again.result()
            if population.gaps:
                # Everything else has been read in the meantime, so a service that was down may be back.
                population = self._listed_again(population)
            with write_as_holder(self._database, self._leases) as connection:
                checkpoints.save_population(connection, self._record.id, population)
            self._read_units(population)
        except UpstreamError as error:
            raise service_too_old(error) or error from error
        finally:
            self._pool.shutdown(wait=False, cancel_futures=True)
            self._reads.stop()
            self._pool.shutdown()

    def _population(self) -> Population:
        """The population of the run, as listed by the first shard to begin.

        It is listed again if it may have changed, for example because the run is resumed.
        """
        with wait_for_lease(self._leases, f"reconciliation:part:listing:{self._record.id}", self._progress.sleep):
            with self._database.read() as connection:
                known = checkpoints.load_population(connection, self._record.id)
            shared = self._record.shards > 1
            if known is None:
                population = self._reconciliation.population(self._reads)
                if shared and population.moving:
                    # Shards share one list, which must be complete before they begin.
                    population = self._listed_again(population)
            elif known.moving or (self._run.resumed and not shared):
                population = self._listed_again(known)
            else:
                return known
            with write_as_holder(self._database, self._leases) as connection:
                checkpoints.save_population(connection, self._record.id, population)
                if known is None and not self._record.scope.offender_nos:
                    track = partial(self._runner.telemetry.track_with, connection)
                    track_event(track, self._reconciliation.events().requested(population))
            return population

    def _listed_again(self, population: Population) -> Population:
        return replace(self._reconciliation.listed_again(population, self._reads), moving=False)

    def _read_units(self, population: Population, *, repeat: bool = True) -> None:
        """Reads what is still unread in the units of this shard, and records each unit when it is finished.

        repeat: whether unread records are tried once more at the end, except those of units that were read before this
        call.
        """
        record, shards = self._record, self._record.shards
        mine = [unit for place, unit in enumerate(population.units) if place % shards in self._run.shares]
        with self._database.read() as connection:
            read_before = checkpoints.unread_by_unit(connection, record.id)
            number = checkpoints.next_number(connection, record.id, self._run.shard)
        left = [found for unit in mine if (found := self._left(unit, read_before)) is not None]
        total, to_read = sum(unit.size for unit in mine), sum(unit.size for unit, _ in left)
        done = total - to_read
        if not left:
            return
        self._progress.begin("reading", done, total)
        if done:
            self._log.info("reconciliation-resumed", read_before=done, left=to_read)
        fresh = {unit.id for unit, _ in left} - read_before.keys() if repeat else set()
        failed: dict[str, int] = {}
        down: str | None = None
        for place, (unit, reading, part) in enumerate(self._readings(left, fresh)):
            with write_as_holder(self._database, self._leases) as connection:
                checkpoints.save_unit(
                    connection, record.id, self._run.shard, number + place, unit.id, reading, part=part
                )
            done += 0 if unit.id in failed else unit.size
            failed[unit.id] = self._unread_records(unit, reading)
            self._progress.report("reading", done, total)
            down = next((each.reason for each in reading.unread if each.network), down)
            check_unread_share(sum(failed.values()), total, self._reconciliation.counted, self._settings, down)

    def _left(self, unit: Unit, read_before: Mapping[str, Sequence[UnreadRecord] | None]) -> tuple[Unit, bool] | None:
        """What is still unread of `unit`, as a unit, and whether this is only a part of `unit`; None if all was read.

        read_before: the units that were read before, as `checkpoints.unread_by_unit` returns them.
        """
        if unit.id not in read_before:
            return unit, False
        unread = read_before[unit.id]
        if unread is None:
            return unit, False
        if not unread:
            return None
        part = self._reconciliation.unread_part(unit, unread)
        return (unit, False) if part is None else (part, True)

    def _begin(self, unit: Unit) -> None:
        """Begins to read a unit before all units are listed, unless several shards share the units."""
        if self._record.shards == 1:
            self._begun[unit.id] = unit
            self._pool.submit(self._read, unit)

    def _read(self, unit: Unit) -> None:
        try:
            self._results.put((unit, self._reconciliation.read(unit, self._reads)))
        except BaseException as error:  # of any kind, as the reader waits for a result and not for the thread
            self._results.put((unit, error))

    def _readings(self, units: Sequence[tuple[Unit, bool]], repeated: Set[str]) -> Iterator[tuple[Unit, Reading, bool]]:
        """Reads units in parallel, and yields each with its reading when it is finished.

        Units that failed as a whole are tried once more at the end, and so are the unread records of the units whose
        ids are in `repeated`. units: each unit, and whether it is only a part of a listed unit; this flag is yielded
        too.
        """
        again: list[tuple[Unit, bool]] = []
        read: set[str] = set()
        for unit, found, part in self._read_all(units):
            if not isinstance(found, Reading):
                self._unread_unit(unit, found)  # raises if the error concerns the whole run
                again.append((unit, part))
                continue
            yield unit, found, part
            read.add(unit.id)
            left = self._left(unit, {unit.id: checkpoints.single_records(found.unread, found.gaps)})
            if left is not None and unit.id in repeated:
                again.append((left[0], left[1] or part))
        for unit, found, part in self._read_all(again):
            if isinstance(found, Reading):
                yield unit, found, part
            elif unit.id not in read:
                yield unit, self._unread_unit(unit, found), part

    def _read_all(self, units: Sequence[tuple[Unit, bool]]) -> Iterator[tuple[Unit, Reading | BaseException, bool]]:
        """Reads units in parallel, and yields each with its reading or its error when it is finished.

        units: each unit, and whether it is only a part of a listed unit; this flag is yielded too.
        """
        for unit, _ in units:
            if self._begun.pop(unit.id, None) != unit:
                self._pool.submit(self._read, unit)
        left = {unit.id: (unit, part) for unit, part in units}
        while left:
            unit, found = get_with_heartbeat(self._results, self._progress.tick, self._reads)
            if unit.id in left and left[unit.id][0] == unit:
                # A unit that was begun early may not be part of the final population.
                yield unit, found, left.pop(unit.id)[1]

    def _unread_unit(self, unit: Unit, error: BaseException) -> Reading:
        """The reading of a unit that failed as a whole. Raises an error if `error` concerns the whole run."""
        if isinstance(error, ServiceTooOld | ReadingStopped) or not isinstance(error, Exception):
            raise error
        if isinstance(error, UpstreamError) and (too_old := service_too_old(error)):
            raise too_old from error
        if not isinstance(error, SyncError):
            self._log.error("unit-not-understood", unit=unit.id, exc_info=error)
        unread = tuple(self._reconciliation.unread_unit(unit, failed_read(error)))
        return Reading(typed(self._reconciliation, []), unread)

    def _unread_records(self, unit: Unit, reading: Reading) -> int:
        """How many records of a unit could not be read, not counting records on the list of exclusions."""
        return sum(
            (1 if each.key else unit.size)
            for each in reading.unread
            if not each.key or self._exclusions.find(each.key) is None
        )
