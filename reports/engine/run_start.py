"""Decides whether an invocation starts, joins or resumes a run, and keeps runs from interfering with each other.

Each process holds a lease that names its run and shard. The shards of one run work in parallel, and no other run of the
reconciliation begins while they do. Runs for chosen prisoners can begin at any time, and do not keep other runs from
beginning.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy import select

from reports.engine import runs
from sync.clock import now
from sync.errors import SyncError
from sync.store.leases import holder_is_gone
from sync.store.tables import leases as lease_rows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from sqlalchemy import Connection

    from reports.engine.runs import RunRecord
    from sync.store.database import Database
    from sync.store.leases import Leases

#: Invocations with the same parameters within this time belong to one run: they are its shards, or resume it.
_STARTED_WITHIN = timedelta(hours=12)
#: Instead of a run id: the newest run with the same parameters if it is not complete, otherwise a new run.
LAST = "last"
_POLL_SECONDS = 0.2


class ReconciliationBusy(SyncError):
    """The same reconciliation is in progress elsewhere; nothing was done."""


class UnknownRun(SyncError):
    """There is no such run or shard, or the run cannot be resumed or accepted."""


@dataclass(frozen=True, slots=True)
class ReconciliationParameters:
    """The parameters of an invocation: what the run covers, which shard to read, and which run to resume or accept.

    prisons: prison codes; offender_nos: prisoner numbers; both are empty for everyone. from_date, to_date: the first
    and the last day (London); None for the first or last day that the reconciliation covers by default. shards: how
    many shards the run has. shard: the number of the shard to read, counted from 0. resume: the id of the run to
    resume, `LAST`, or None. accept: the id of a run that failed because the data that it read was implausible, and
    whose data is now accepted, or None. notify: whether the result is sent.
    """

    prisons: tuple[str, ...] = ()
    offender_nos: tuple[str, ...] = ()
    from_date: date | None = None
    to_date: date | None = None
    shards: int = 1
    shard: int = 0
    resume: str | None = None
    accept: str | None = None
    notify: bool = True

    @property
    def is_partial(self) -> bool:
        """Whether prisons, prisoners or days were chosen."""
        return bool(self.prisons or self.offender_nos) or (self.from_date, self.to_date) != (None, None)

    def recorded(self, window: tuple[date, date] | None = None) -> dict[str, Any]:
        """The parameters that the invocations of one run share, as plain JSON.

        window: the first and the last day to cover if none are chosen, or None for a reconciliation without days.
        """
        recorded: dict[str, Any] = {
            "prisons": list(self.prisons),
            "offender_nos": list(self.offender_nos),
            "shards": self.shards,
            "notify": self.notify,
        }
        chosen = (self.from_date, self.to_date)
        if window is not None or chosen != (None, None):
            first, last = chosen if window is None else (self.from_date or window[0], self.to_date or window[1])
            days = {"from_date": first and first.isoformat(), "to_date": last and last.isoformat()}
            recorded |= days | {"days_chosen": chosen != (None, None)}
        return recorded if self.accept is None else recorded | {"accept": self.accept}


@dataclass(frozen=True, slots=True)
class AcquiredRun:
    """A run, or a shard of it, that this process holds.

    record: the run as recorded; if it is not open, the run is already complete. shard: the number of this process's
    shard. shares: the numbers of the shards whose units this process reads. resumed: whether this process resumes the
    run; false if it only joins an open run as a shard.
    """

    record: RunRecord
    shard: int
    shares: frozenset[int]
    resumed: bool


def check_named_run(database: Database, name: str, parameters: ReconciliationParameters) -> None:
    """Raises `UnknownRun` if `parameters` name a run that cannot be resumed with them, or that cannot be accepted.

    A command can call this before it records a run. `acquire_run` raises the same errors under its lease.
    """
    if parameters.resume not in (None, LAST):
        _find_resumable(database, name, parameters, parameters.recorded())
    if parameters.accept is not None:
        _check_acceptable(database, name, parameters.accept)


def _check_acceptable(database: Database, name: str, run_id: str) -> None:
    with database.read() as connection:
        record = runs.find_run(connection, run_id)
        if record is None or record.reconciliation != name or record.is_open:
            raise UnknownRun(f"{run_id} is not a run of {name} that has ended; see: prisoner-to-nomis runs list")
        refused = runs.result_content(connection, run_id).get("implausible", False)
        _, complete = runs.last_runs(connection, name)
    if not refused:
        raise UnknownRun(f"reconciliation {run_id} read nothing implausible, so there is nothing to accept")
    if complete is not None and complete.started_at > record.started_at:
        raise UnknownRun(f"a later run, {complete.run_id}, is complete, so there is nothing left to accept")


@contextmanager
def acquire_run(
    database: Database,
    leases: Leases,
    run_id: str,
    name: str,
    parameters: ReconciliationParameters,
    window: tuple[date, date] | None,
    sleep: Callable[[float], None],
) -> Iterator[AcquiredRun]:
    """Holds a run of the reconciliation `name`, or a shard of the run, during the `with` block.

    A new run gets the id `run_id`, and covers the days of `window` if none are chosen. A shard joins the newest recent
    run (`_STARTED_WITHIN`) that has the same parameters, or resumes that run if it ended incomplete or failed. sleep:
    waits for the given number of seconds. Raises `UnknownRun` if the run to resume or to accept cannot be resumed or
    accepted, and `ReconciliationBusy` if another run of the reconciliation, or the same shard in another process, is in
    progress.
    """
    recorded = parameters.recorded(window)
    with wait_for_lease(leases, f"{_lease(name)}:opening", sleep):
        if parameters.accept is not None:
            _check_acceptable(database, name, parameters.accept)
        found = _find_resumable(database, name, parameters, recorded)
        if found is not None and found.status == "complete":
            run, key = AcquiredRun(found, parameters.shard, frozenset(), resumed=False), None
        else:
            covered = recorded if found is None else found.parameters
            single = runs.Coverage.of(covered) is runs.Coverage.PRISONERS
            key = _enter(database, leases, name, run_id if found is None else found.id, parameters.shard, single=single)
            run = _begin(database, leases, name, run_id, parameters, recorded, found)
    try:
        yield run
    finally:
        if key is not None:
            leases.release(key)


@contextmanager
def wait_for_lease(leases: Leases, key: str, sleep: Callable[[float], None]) -> Iterator[None]:
    """Holds the lease `key` during the `with` block, after waiting until no other holder has it."""
    while not leases.acquire(key):
        sleep(_POLL_SECONDS)
    try:
        yield
    finally:
        leases.release(key)


@contextmanager
def write_as_holder(database: Database, leases: Leases) -> Iterator[Connection]:
    """A transaction for the holder of `leases`. Raises `LeaseBusy` if another process may now hold one of them."""
    with database.begin() as connection:
        leases.ensure_held()
        yield connection


def _find_resumable(
    database: Database, name: str, parameters: ReconciliationParameters, recorded: Mapping[str, Any]
) -> RunRecord | None:
    """The run to join or to resume, or None for a new run."""
    with database.read() as connection:
        if parameters.resume not in (None, LAST):
            return _check_resumable(runs.find_run(connection, parameters.resume), name, parameters)
        if parameters.shards == 1 and parameters.resume is None:
            return None
        newest = runs.newest_run(connection, name, recorded, now() - _STARTED_WITHIN)
    if newest is not None and newest.status == "complete" and parameters.shards == 1:
        return None
    return newest


def _check_resumable(record: RunRecord | None, name: str, parameters: ReconciliationParameters) -> RunRecord:
    if record is None:
        raise UnknownRun(f"there is no reconciliation {parameters.resume}; see: prisoner-to-nomis runs list")
    if record.reconciliation != name:
        resume = runs.resume_command(record.reconciliation, record.id, record.shards)
        raise UnknownRun(f"{record.id} is a run of {record.reconciliation}; resume it with: {resume}")
    if parameters.prisons or parameters.offender_nos:
        raise UnknownRun(
            f"a resumed run covers the same prisoners as before: resume {record.id} without --prison and --prisoner"
        )
    if (parameters.from_date, parameters.to_date) != (None, None):
        raise UnknownRun(f"a resumed run covers the same days as before: resume {record.id} without dates")
    if record.status == "complete":
        raise UnknownRun(f"reconciliation {record.id} is complete; there is nothing to resume")
    if record.shards != parameters.shards:
        raise UnknownRun(
            f"reconciliation {record.id} has {_shards(record.shards)}; resume it with --shards {record.shards}"
        )
    return record


def _shards(number: int) -> str:
    return "1 shard" if number == 1 else f"{number} shards"


def _lease(name: str) -> str:
    """The prefix of a reconciliation's lease keys."""
    return f"reconciliation:{name}"


def _enter(database: Database, leases: Leases, name: str, run_id: str, shard: int, *, single: bool) -> str:
    """Takes the lease for a run's shard, and returns the key of the lease. Raises `ReconciliationBusy`.

    single: whether the run covers only chosen prisoners, and so may begin while other runs are in progress.
    """
    if single:
        key = f"{_lease(name)}:prisoners:{run_id}/{shard}"
    else:
        key = f"{_lease(name)}:run:{run_id}/{shard}"
        other = next((each for each in _under_way(database, name) if each != run_id), None)
        if other is not None:
            raise ReconciliationBusy(f"reconciliation {other} of {name} is in progress; nothing was done")
    if not leases.acquire(key):
        raise ReconciliationBusy(f"the reconciliation of {name} is in progress elsewhere; nothing was done")
    return key


def _under_way(database: Database, name: str) -> list[str]:
    """The ids of the runs of the reconciliation `name` on which live processes are working.

    Runs for chosen prisoners are not among them.
    """
    prefix = f"{_lease(name)}:run:"
    return [key.removeprefix(prefix).rpartition("/")[0] for key in _live_leases(database, prefix)]


def is_under_way(database: Database, record: RunRecord) -> bool:
    """Whether a live process is working on a run, or on one of its shards."""
    prefix = _lease(record.reconciliation)
    return any(_live_leases(database, f"{prefix}:{kind}:{record.id}/") for kind in ("run", "prisoners"))


def _live_leases(database: Database, prefix: str) -> list[str]:
    """The lease keys that begin with `prefix` and whose lease has a live holder."""
    columns = lease_rows.c
    query = select(columns.key, columns.owner).where(
        columns.key.startswith(prefix, autoescape=True), columns.expires_at > now()
    )
    with database.read() as connection:
        rows = connection.execute(query).all()
    return [row.key for row in rows if not holder_is_gone(row.owner)]


def _begin(
    database: Database,
    leases: Leases,
    name: str,
    run_id: str,
    parameters: ReconciliationParameters,
    recorded: Mapping[str, Any],
    found: RunRecord | None,
) -> AcquiredRun:
    shares = frozenset({parameters.shard})
    with database.begin() as connection:
        leases.ensure_held()
        if found is None:
            record = runs.create_run(connection, name, run_id, recorded, parameters.shards)
            return AcquiredRun(record, parameters.shard, shares, resumed=False)
        if found.is_open:
            resumed = parameters.shards == 1 or parameters.resume is not None
            return AcquiredRun(found, parameters.shard, shares, resumed=resumed)
        shares = runs.reopen_run(connection, found.id, parameters.shard)
        record = runs.get_run(connection, found.id)
    return AcquiredRun(record, parameters.shard, shares, resumed=True)
