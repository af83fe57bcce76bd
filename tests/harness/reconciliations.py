"""Runs reconciliations with the parts of the composition root, against a sandbox without queues."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reports.delivery.channels import enqueue_channel
from reports.delivery.sender import OutboxSender
from reports.engine import checkpoints, runs
from reports.engine.pending_messages import PendingMessages
from reports.engine.reconciliation import Reconciliation
from reports.engine.run import ReconciliationOutcome
from reports.engine.run_start import ReconciliationParameters
from reports.engine.units import Scope
from reports.reconciliations.incentives.reconciliation import Incentives
from reports.reconciliations.incentives.result import IncentiveMismatch, IncentiveResult
from sandbox import Sandbox
from sync.clock import now
from sync.domains.declaration import Domain
from sync.domains.incentives import dps as incentives_api
from sync.settings.declaration import Settings
from sync.settings.loading import load_settings
from sync.settings.upstreams import UpstreamName
from sync.store.telemetry import read_events
from tests.harness.queueless_application import QueuelessApplication

if TYPE_CHECKING:
    from reports.engine.pending_messages import FindPendingMessages

_RUN_NUMBERS = itertools.count(1)


class ReportsApp(QueuelessApplication):
    """The parts of the program that run reconciliations and deliver reports. `stages` collects reported progress."""

    def __init__(self, settings: Settings, *, with_breakers: bool = False) -> None:
        super().__init__(settings, with_breakers=with_breakers)
        self.stages: list[tuple[str, int, int]] = []

    def reconcile(
        self,
        parameters: ReconciliationParameters | None = None,
        *,
        run_id: str | None = None,
        find_pending: FindPendingMessages = lambda _domain: PendingMessages(),
        kind: type[Reconciliation] = Incentives,
        progress: Callable[[str, int, int], None] | None = None,
        outage_seconds: float = 5.0,
        sleep: Callable[[float], None] = lambda _seconds: None,
    ) -> ReconciliationOutcome:
        """Runs the reconciliation `kind`. By default, all waits are skipped."""
        runner = replace(
            self.reconciliations(progress or (lambda *stage: self.stages.append(stage))),
            find_pending=find_pending,
            sleep=sleep,
            outage_seconds=outage_seconds,
        )
        return runner.run(kind, run_id or f"run-{next(_RUN_NUMBERS)}", parameters or ReconciliationParameters())

    def events(self, name: str) -> list[Mapping[str, str]]:
        """The properties of each tracked event `incentives-reports-reconciliation-<name>`, oldest first."""
        self.telemetry.flush()
        return [each["properties"] for each in read_events(self.database, f"incentives-reports-reconciliation-{name}")]

    def sender(self, clock: Callable[[], datetime] = now, make_s3: Callable[[], Any] = lambda: None) -> OutboxSender:
        """A sender for the deliveries that are waiting in the outbox."""
        return OutboxSender(self.settings, self.database, make_s3, clock)


class Clock:
    """A clock that a test moves forward."""

    def __init__(self) -> None:
        self._ahead = timedelta()

    def __call__(self) -> datetime:
        """The current time by this clock."""
        return now() + self._ahead

    def forward(self, seconds: float) -> None:
        """Moves the clock forward by `seconds`."""
        self._ahead += timedelta(seconds=seconds)


#: Opens the parts of the program with further settings, always with the same database.
OpenApp = Callable[..., ReportsApp]


@contextmanager
def open_reports_app(
    environment: Mapping[str, str], folder: Path, database_url: str, *, with_breakers: bool = False, **settings: str
) -> Iterator[ReportsApp]:
    """The parts of the program, for the `with` block, with the settings in `environment` and `settings`.

    The names in `settings` are in lower case. Reports are kept below `folder`.
    """
    values = {
        **environment,
        "DATABASE_URL": database_url,
        "REPORTS_LOCATION": str(folder / "reports"),
        "RECONCILIATION_RECHECK_SECONDS": "0",
        "REPORTS_INCENTIVES_RECONCILIATION_PAGE_SIZE": "50",
        "LEASE_SECONDS": "5",
        **{name.upper(): value for name, value in settings.items()},
    }
    app = ReportsApp(load_settings(values), with_breakers=with_breakers)
    try:
        yield app
    finally:
        app.close()


def causes(mismatches: tuple[IncentiveMismatch, ...]) -> dict[int, int]:
    """For each mismatch that has a diagnosis, the number of its cause, by booking."""
    return {each.booking_id: each.diagnosis.number for each in mismatches if each.diagnosis}


CURRENT = "/incentives/booking-id/{b}/current"


def result_of(outcome: ReconciliationOutcome) -> IncentiveResult:
    """The result in `outcome`, which must be a result of the incentive reconciliation."""
    assert isinstance(outcome.result, IncentiveResult)
    return outcome.result


def incentives(app: ReportsApp) -> Incentives:
    """The incentive reconciliation, with the whole population as its scope."""
    return Incentives(app.services, app.settings, Scope())


def listed_bookings(app: ReportsApp, run_id: str) -> set[int]:
    """The bookings that a run has listed."""
    with app.database.read() as connection:
        population = checkpoints.load_population(connection, run_id)
    assert population is not None
    return {booking for unit in population.units for booking in unit.content["bookings"]}


def read_bookings(app: ReportsApp, run_id: str) -> set[int]:
    """The bookings whose levels a run has read."""
    with app.database.read() as connection:
        read = checkpoints.load_units(connection, run_id, incentives(app))
    return {int(each) for each in read.frame["booking_id"]}


@contextmanager
def at_work(app: ReportsApp, parameters: ReconciliationParameters, run_id: str) -> Iterator[None]:
    """Runs a reconciliation in another thread.

    The reconciliation is reading prisoners throughout the `with` block, and ends after the block.
    """
    reading, go_on = threading.Event(), threading.Event()

    def wait(stage: str, _done: int, _total: int) -> None:
        if stage == "reading":
            reading.set()
            assert go_on.wait(60)

    with ThreadPoolExecutor(1) as pool:
        run = pool.submit(app.reconcile, parameters, run_id=run_id, progress=wait)
        try:
            assert reading.wait(60)
            yield
        finally:
            go_on.set()
        run.result()


HALF, OTHER_HALF = (ReconciliationParameters(shards=2, shard=shard) for shard in (0, 1))


def kept(app: ReportsApp, result: IncentiveResult, *channels: str) -> IncentiveResult:
    """Stores a result as a run does, puts its report into the outbox for each of `channels`, and returns the result."""
    with app.database.begin() as connection:
        runs.create_run(connection, result.reconciliation, result.run_id, {}, 1)
        runs.save_result(connection, result)
        for channel in channels:
            enqueue_channel(connection, result.run_id, channel, finished="now")  # type: ignore[arg-type]
    return result


def planted_causes(upstream: Sandbox) -> list[dict[str, Any]]:
    """The planted differences whose `cause` is the number of a row of the decision table."""
    return [each for each in upstream.planted()["mismatches"] if isinstance(each["cause"], int)]


def pending_on_dlq(upstream: Sandbox, app: ReportsApp) -> FindPendingMessages:
    """A stand-in for the search for pending messages.

    It reports that there are messages on the dead letter queue about the reviews planted for row 1 of the decision
    table.
    """
    waiting = [each["bookingId"] for each in planted_causes(upstream) if each["cause"] == 1]

    def find_pending(_domain: Domain) -> PendingMessages:
        summaries = [
            incentives_api.booking_summary(app.services[UpstreamName.INCENTIVES], booking_id) for booking_id in waiting
        ]
        return PendingMessages(
            on_dlq=frozenset(f"incentive:{each.id}" for each in summaries if each is not None and each.id is not None)
        )

    return find_pending


def reconciled(app: ReportsApp, **parameters: Any) -> IncentiveResult:
    """Runs the incentive reconciliation with these parameters, and returns the result."""
    return result_of(app.reconcile(ReconciliationParameters(**parameters)))
