"""Which run a start begins, joins or goes on with, and that no two runs disturb each other.

Whoever works on a run holds a lease that names the run and the shard: shards of one run work side by side, and no other
run begins meanwhile. Looking at single prisoners disturbs nobody.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy import select

from reports.engine import runs
from sync.clock import now
from sync.failures import SyncError
from sync.store.leases import holder_is_gone
from sync.store.tables import leases as lease_rows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from reports.engine.runs import RunRecord
    from sync.store.database import Database
    from sync.store.leases import Leases

#: Starts of the same within this time of each other belong to one run: its shards, and what goes on with it.
STARTED_WITHIN = timedelta(hours=12)
#: In place of a run's id: the newest run of the same parameters, if it is not complete; else a new one.
LAST = "last"
_LEASE = "reconciliation:incentives"
_RUNS = f"{_LEASE}:run:"
_POLL_SECONDS = 0.2


class ReconciliationBusy(SyncError):
    """The same reconciliation is under way elsewhere; this one left it alone."""


class UnknownRun(SyncError):
    """There is no reconciliation of this id, or it cannot be resumed."""


@dataclass(frozen=True, slots=True)
class ReconciliationParameters:
    """What a run looks at: everyone, or some prisons or prisoners; as one of several shards; from where a run died.

    resume: the id of a run to go on with, or `LAST`. Without `notify` the result is kept but nothing is sent.
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
class Opened:
    """A run that is worked on. `shares`: the shards whose prisoners fall to this one; `resumed`: it was begun before.

    A record that is not open is of a run that was complete already: nothing is left to do.
    """

    record: RunRecord
    shares: frozenset[int]
    resumed: bool


def make_sure_of_resuming(database: Database, parameters: ReconciliationParameters) -> None:
    """Raises `UnknownRun` when the run to go on with is none that can be gone on with so."""
    if parameters.resume not in (None, LAST):
        _wanted(database, parameters)


@contextmanager
def opened_run(
    database: Database,
    leases: Leases,
    run_id: str,
    parameters: ReconciliationParameters,
    sleep: Callable[[float], None],
) -> Iterator[Opened]:
    """The run that these parameters mean, `run_id` where a new one begins; kept from others for the `with` block.

    A shard joins the run of the same parameters, or goes on with it when it ended incomplete. Raises `UnknownRun`, and
    `ReconciliationBusy` when another run, or another process at the same shard, is under way.
    """
    with patiently(leases, "reconciliation:opening", sleep):
        found = _wanted(database, parameters)
        if found is not None and found.status == "complete":
            opened, key = Opened(found, frozenset(), resumed=False), None
        else:
            recorded = parameters.recorded() if found is None else found.parameters
            single = runs.Scope.of(recorded) is runs.Scope.PRISONERS
            key = _enter(database, leases, run_id if found is None else found.id, parameters.shard, single=single)
            opened = _begin(database, leases, run_id, parameters, found)
    try:
        yield opened
    finally:
        if key is not None:
            leases.release(key)


@contextmanager
def patiently(leases: Leases, key: str, sleep: Callable[[float], None]) -> Iterator[None]:
    """Holds a lease, waiting for as long as another holds it (a dead holder's lease expires)."""
    while not leases.acquire(key):
        sleep(_POLL_SECONDS)
    try:
        yield
    finally:
        leases.release(key)


def _wanted(database: Database, parameters: ReconciliationParameters) -> RunRecord | None:
    """The run to join or to go on with; None for a new one."""
    with database.read() as connection:
        if parameters.resume not in (None, LAST):
            return _resumable(runs.find_run(connection, parameters.resume), parameters)
        if parameters.shards == 1 and parameters.resume is None:
            return None
        newest = runs.newest_run(connection, parameters.recorded(), now() - STARTED_WITHIN)
    if newest is not None and newest.status == "complete" and parameters.shards == 1:
        return None
    return newest


def _resumable(record: RunRecord | None, parameters: ReconciliationParameters) -> RunRecord:
    if record is None:
        raise UnknownRun(f"there is no reconciliation {parameters.resume}; see: prisoner-to-nomis runs list")
    if parameters.prisons or parameters.offender_nos:
        raise UnknownRun(f"reconciliation {record.id} goes on with those it looked at; name no prison and no prisoner")
    if record.status == "complete":
        raise UnknownRun(f"reconciliation {record.id} is complete; there is nothing to resume")
    if record.shards != parameters.shards:
        raise UnknownRun(
            f"reconciliation {record.id} has {record.shards} shard(s); resume it with --shards {record.shards}"
        )
    return record


def _enter(database: Database, leases: Leases, run_id: str, shard: int, *, single: bool) -> str:
    """Takes the lease of a shard of a run; its key."""
    if single:
        key = f"{_LEASE}:prisoners:{run_id}/{shard}"
    else:
        key = f"{_RUNS}{run_id}/{shard}"
        other = next((each for each in _under_way(database) if each != run_id), None)
        if other is not None:
            raise ReconciliationBusy(f"the incentive reconciliation {other} is under way; this one did nothing")
    if not leases.acquire(key):
        raise ReconciliationBusy("the incentive reconciliation is under way elsewhere; this run did nothing")
    return key


def _under_way(database: Database) -> list[str]:
    """The runs that somebody works on."""
    columns = lease_rows.c
    query = select(columns.key, columns.owner).where(
        columns.key.startswith(_RUNS, autoescape=True), columns.expires_at > now()
    )
    with database.read() as connection:
        rows = connection.execute(query).all()
    return [row.key.removeprefix(_RUNS).rpartition("/")[0] for row in rows if not holder_is_gone(row.owner)]


def _begin(
    database: Database, leases: Leases, run_id: str, parameters: ReconciliationParameters, found: RunRecord | None
) -> Opened:
    shares = frozenset({parameters.shard})
    with database.begin() as connection:
        leases.ensure_held()
        if found is None:
            record = runs.create_run(connection, run_id, parameters.recorded(), parameters.shards)
            return Opened(record, shares, resumed=False)
        if found.is_open:
            resumed = parameters.shards == 1 or parameters.resume is not None
            return Opened(found, shares, resumed=resumed)
        shares = runs.reopen_run(connection, found.id, parameters.shard)
        record = runs.get_run(connection, found.id)
    return Opened(record, shares, resumed=True)
