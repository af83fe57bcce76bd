"""Measures the memory of the reconciliation of adjustments, and compares its time with that of the old schedule.

The old schedule is that of the replaced service. It read pages of twenty bookings one after another, so the slowest
booking of a page held up the next page. Run it with `python -m benchmarks.adjustments`; the services run in a separate
process on loopback.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import structlog

from sandbox import Sandbox
from sync.clock import now
from sync.domains.adjustments import dps as adjustments_api
from sync.domains.adjustments import nomis as nomis_adjustments
from sync.settings.declaration import Settings
from sync.settings.loading import load_settings
from sync.settings.upstreams import UpstreamName
from sync.store.database import Database
from sync.store.telemetry import Telemetry
from sync.upstream.prisoners import PrisonerId, latest_bookings
from sync.upstream.services import Services

BOOKINGS = 5_000
IN_FLIGHT = 40
OLD_PAGE = 20
MANY = 100_000
MOST_MEGABYTES = 400


def settings_for(environment: dict[str, str], folder: str) -> Settings:
    """The settings of a run, without the wait before the recheck."""
    return load_settings(
        {
            **environment,
            "DATABASE_URL": f"sqlite:///{folder}/store.db",
            "REPORTS_LOCATION": f"{folder}/reports",
            "RECONCILIATION_RECHECK_SECONDS": "0",
            "RECONCILIATION_CONCURRENCY": str(IN_FLIGHT),
            "SLACK_TOKEN": "",
        }
    )


def whole_run(settings: Settings) -> tuple[float, int]:
    """Runs the reconciliation of adjustments once. Returns how many seconds it took, and the number of mismatches."""
    from reports.engine.pending_messages import PendingMessages
    from reports.engine.run import ReconciliationRunner
    from reports.engine.run_start import ReconciliationParameters
    from reports.reconciliations.adjustments.reconciliation import Adjustments

    database = Database(settings.database_url)
    database.upgrade()
    services = Services(settings)
    telemetry = Telemetry(database, structlog.get_logger())
    runner = ReconciliationRunner(
        settings, database, services, telemetry, lambda _domain: PendingMessages(), lambda *_report: None, now
    )
    started = time.perf_counter()
    outcome = runner.run(Adjustments, f"run-{time.time_ns()}", ReconciliationParameters())
    seconds = time.perf_counter() - started
    services.close()
    database.dispose()
    assert outcome.status == "complete"
    assert outcome.result is not None
    return seconds, len(outcome.result.mismatches)


def old_schedule_seconds(settings: Settings) -> float:
    """Reads the bookings by the old schedule, with this program's client. Returns how many seconds that took."""
    services = Services(settings)
    started = time.perf_counter()
    key, read = 0, 0
    with ThreadPoolExecutor(OLD_PAGE) as pool:
        while page := latest_bookings(services.nomis, key, OLD_PAGE, active_only=True):
            read += sum(pool.map(lambda each: _old_booking(services, each), page))
            key = page[-1].booking_id
    seconds = time.perf_counter() - started
    services.close()
    assert read == BOOKINGS
    return seconds


def _old_booking(services: Services, booking: PrisonerId) -> int:
    nomis_adjustments.booking_adjustments(services.nomis, booking.booking_id, active_only=True)
    adjustments_api.person_adjustments(services[UpstreamName.SENTENCE_ADJUSTMENTS], booking.offender_no)
    return 1


def schedules(repeats: int) -> None:
    """Prints how many seconds a whole run and the old schedule take, and the ratio of the two."""
    print(f"{BOOKINGS:,} bookings, {IN_FLIGHT} calls in flight to each service, medians of {repeats}")
    print(f"{'latency':>9}{'bound s':>9}{'whole s':>9}{'old s':>9}{'ratio':>9}{'found':>9}")
    with Sandbox.start(prisoners=BOOKINGS, moto=False, plant=["adjustments"], every_cause=True) as sandbox:
        for latency in (20, 50):
            sandbox.latency(latency)
            with tempfile.TemporaryDirectory() as folder:
                settings = settings_for(sandbox.environment(), folder)
                runs = [whole_run(settings) for _ in range(repeats)]
                old = statistics.median(old_schedule_seconds(settings) for _ in range(repeats))
            whole = statistics.median(seconds for seconds, _ in runs)
            bound = BOOKINGS * latency / 1_000 / IN_FLIGHT
            figures = (f"{bound:.2f}", f"{whole:.2f}", f"{old:.2f}", f"{old / whole:.2f}", str(runs[0][1]))
            print(f"{latency:>6} ms" + "".join(f"{figure:>9}" for figure in figures), flush=True)


def memory(bookings: int) -> None:
    """Runs the reconciliation for `bookings` bookings in a separate process, and prints its peak memory."""
    with (
        Sandbox.start(prisoners=bookings, moto=False, plant=["adjustments"]) as sandbox,
        tempfile.TemporaryDirectory() as folder,
    ):
        lines = [f"{name}={value}" for name, value in sandbox.environment().items()]
        Path(folder, "environment").write_text("\n".join(lines), encoding="utf-8")
        command = [sys.executable, "-m", "benchmarks.adjustments", "--inside", folder]
        started = time.perf_counter()
        found, megabytes = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-2:]
        seconds = time.perf_counter() - started
    print(
        f"{bookings:,} bookings: {float(megabytes):.0f} MB at most (aim {MOST_MEGABYTES}), {found} mismatches, "
        f"{seconds:.0f} s without latency"
    )
    if float(megabytes) > MOST_MEGABYTES:
        sys.exit("too much memory")


def inside(folder: str) -> None:
    """Runs the reconciliation in this process, and prints the number of mismatches and the process's peak memory."""
    lines = Path(folder, "environment").read_text(encoding="utf-8").splitlines()
    _, found = whole_run(settings_for(dict(line.split("=", 1) for line in lines), folder))
    print(found, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def main() -> None:
    """Measures the schedules and the memory, or one of them, and prints the figures.

    Exits with 1 if the run takes too much memory.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--bookings", type=int, default=MANY, help="bookings in the run whose memory is measured")
    parser.add_argument("--only", choices=("schedules", "memory"))
    parser.add_argument("--inside", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    structlog.configure(
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        wrapper_class=structlog.make_filtering_bound_logger(40),
    )
    if arguments.inside:
        inside(arguments.inside)
        return
    if arguments.only != "memory":
        schedules(arguments.repeats)
    if arguments.only != "schedules":
        memory(arguments.bookings)


if __name__ == "__main__":
    main()
