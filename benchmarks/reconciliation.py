"""Measures the time of the reconciliation of incentives, against a bound and the old schedule, and its memory.

With N prisoners, W calls in flight and L seconds a call, no run that asks NOMIS for each prisoner takes less than the
bound, which is N · L / W seconds. A call takes longer than the latency of its service, because it passes through two
processes and the kernel. So the duration of a single call is measured too, and the share of what is possible with such
calls is printed. The old schedule is that of the replaced service: it read pages of twenty prisoners, one after
another, and both levels of each prisoner by single calls. Run it with `python -m benchmarks.reconciliation`; the
services run in a separate process on loopback.
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
from sync.domains.incentives import dps as incentives_api
from sync.domains.incentives.nomis import current_iep_body
from sync.settings.declaration import Settings
from sync.settings.loading import load_settings
from sync.settings.upstreams import UpstreamName
from sync.store.database import Database
from sync.store.telemetry import Telemetry
from sync.upstream.prisoners import PrisonerId, prisoner_page
from sync.upstream.services import Services

PRISONERS = 5_000
OLD_PAGE = 20
MANY = 100_000
MOST_MEGABYTES = 300


def settings_for(sandbox: Sandbox, folder: str, in_flight: int) -> Settings:
    """The settings of a run against the sandbox, without the wait before the recheck."""
    environment = {
        **sandbox.environment(),
        "DATABASE_URL": f"sqlite:///{folder}/store.db",
        "REPORTS_LOCATION": f"{folder}/reports",
        "RECONCILIATION_RECHECK_SECONDS": "0",
        "RECONCILIATION_CONCURRENCY": str(in_flight),
        "SLACK_TOKEN": "",
    }
    return load_settings(environment)


def call_milliseconds(settings: Settings, sandbox: Sandbox) -> float:
    """The median duration of fifty calls, one at a time, in milliseconds."""
    services = Services(settings)
    took = []
    for prisoner in sandbox.prisoners()[:50]:
        started = time.perf_counter()
        current_iep_body(services.nomis, prisoner["bookingId"])
        took.append(time.perf_counter() - started)
    services.close()
    return 1_000 * statistics.median(took)


def whole_run(settings: Settings) -> tuple[float, float]:
    """Runs the reconciliation of incentives once.

    Returns the seconds until everyone is listed and both levels are read, and the seconds of the whole run.
    """
    from reports.engine.pending_messages import PendingMessages
    from reports.engine.run import ReconciliationRunner
    from reports.engine.run_start import ReconciliationParameters
    from reports.reconciliations.incentives.reconciliation import Incentives

    read_at = 0.0

    def on_progress(stage: str, done: int, total: int) -> None:
        nonlocal read_at
        if stage == "reading" and done == total:
            read_at = time.perf_counter()

    database = Database(settings.database_url)
    database.upgrade()
    services = Services(settings)
    for name in (UpstreamName.NOMIS, UpstreamName.INCENTIVES, UpstreamName.MAPPING):
        services[name].authenticate()
    telemetry = Telemetry(database, structlog.get_logger())
    runner = ReconciliationRunner(
        settings, database, services, telemetry, lambda _domain: PendingMessages(), on_progress, now
    )
    started = time.perf_counter()
    outcome = runner.run(Incentives, f"run-{time.time_ns()}", ReconciliationParameters())
    seconds = time.perf_counter() - started
    services.close()
    database.dispose()
    assert outcome.status == "complete"
    return read_at - started, seconds


def old_schedule_seconds(settings: Settings) -> float:
    """Reads both levels by the old schedule, with this program's client. Returns how many seconds that took."""
    services = Services(settings)
    started = time.perf_counter()
    total = prisoner_page(services.nomis, 0, 1).total_elements
    with ThreadPoolExecutor(2 * OLD_PAGE) as pool:
        for number in range(total // OLD_PAGE + 1):
            _old_page(services, pool, prisoner_page(services.nomis, number, OLD_PAGE).prisoners)
    seconds = time.perf_counter() - started
    services.close()
    return seconds


def _old_page(services: Services, pool: ThreadPoolExecutor, prisoners: tuple[PrisonerId, ...]) -> None:
    reads = [pool.submit(current_iep_body, services.nomis, each.booking_id) for each in prisoners]
    summaries = [pool.submit(_old_summary, services, each.booking_id) for each in prisoners]
    for read in reads:
        read.result()
    for summary in summaries:
        summary.result()


def _old_summary(services: Services, booking_id: int) -> object:
    return incentives_api.booking_summary(services[UpstreamName.INCENTIVES], booking_id, with_details=False)


def schedules(repeats: int) -> None:
    """Prints the times of a run and of the old schedule, and the number of calls for each prisoner."""
    print(f"{PRISONERS:,} prisoners, medians of {repeats}")
    heads = ["latency", "a call ms", "in flight", "bound s", "read s", "share", "of calls", "whole s", "calls each"]
    print("".join(f"{head:>11}" for head in [*heads, "old s", "ratio"]))
    with Sandbox.start(prisoners=PRISONERS, moto=False) as sandbox, tempfile.TemporaryDirectory() as folder:
        for latency in (20, 50):
            sandbox.latency(latency)
            alone = call_milliseconds(settings_for(sandbox, folder, 1), sandbox)
            for in_flight in (40, 64):
                settings = settings_for(sandbox, folder, in_flight)
                sandbox.clear_records()
                runs = [whole_run(settings) for _ in range(repeats)]
                read, whole = (statistics.median(seconds) for seconds in zip(*runs, strict=True))
                log = sandbox.requests()
                calls = len([each for each in log if each["service"] in ("nomis", "incentives")]) / PRISONERS / repeats
                old = old_schedule_seconds(settings)
                bound = PRISONERS * latency / 1_000 / in_flight
                shares = (f"{bound / read:.0%}", f"{bound * alone / latency / read:.0%}")
                times = (f"{bound:.2f}", f"{read:.2f}", *shares, f"{whole:.2f}", f"{calls:.3f}")
                figures = (f"{latency} ms", f"{alone:.1f}", str(in_flight), *times, f"{old:.2f}", f"{old / whole:.2f}")
                print("".join(f"{figure:>11}" for figure in figures), flush=True)


def memory(prisoners: int) -> None:
    """Runs the reconciliation with `prisoners` prisoners in a separate process, and prints its peak memory."""
    with Sandbox.start(prisoners=prisoners, moto=False) as sandbox, tempfile.TemporaryDirectory() as folder:
        Path(folder, "environment").write_text(
            "\n".join(f"{name}={value}" for name, value in sandbox.environment().items()), encoding="utf-8"
        )
        command = [sys.executable, "-m", "benchmarks.reconciliation", "--inside", folder]
        started = time.perf_counter()
        megabytes = float(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])
        seconds = time.perf_counter() - started
    print(
        f"{prisoners:,} prisoners: {megabytes:.0f} MB at most (aim {MOST_MEGABYTES}), {seconds:.0f} s without latency"
    )


def inside(folder: str) -> None:
    """Runs the reconciliation and delivers its report in this process, and prints the peak memory of the process."""
    lines = Path(folder, "environment").read_text(encoding="utf-8").splitlines()
    environment = dict(line.split("=", 1) for line in lines)
    environment |= {"DATABASE_URL": f"sqlite:///{folder}/store.db", "REPORTS_LOCATION": f"{folder}/reports"}
    environment |= {"RECONCILIATION_RECHECK_SECONDS": "0", "SLACK_TOKEN": ""}
    settings = load_settings(environment)
    whole_run(settings)
    from reports.delivery.sender import OutboxSender

    database = Database(settings.database_url)
    OutboxSender(settings, database, lambda: None).send_due()
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def main() -> None:
    """Measures the schedules and the memory, or one of them, and prints the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--only", choices=("schedules", "memory"))
    parser.add_argument("--inside", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(40))
    if arguments.inside:
        inside(arguments.inside)
        return
    if arguments.only != "memory":
        schedules(arguments.repeats)
    if arguments.only != "schedules":
        memory(MANY)


if __name__ == "__main__":
    main()
