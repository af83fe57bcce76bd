"""The `dlq-housekeeping` job: sends back dead letters that may succeed on a retry.

The job records findings, with alerts, about the messages that it gives up on. It also removes data that has been kept
long enough.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import structlog

from jobs.errors import StopRequested, WorkError
from jobs.health.remedies import QueueFailure, joined_failures
from jobs.operations.dead_letters import check_errors, dead_letter_queue, for_each_queue
from jobs.operations.deliveries import ALERT_SECONDS, send_pending
from jobs.operations.retention import remove_expired
from jobs.runtime.application import Application
from jobs.runtime.job_runs import HOUSEKEEPING_JOB, ActiveRun, Trigger
from jobs.runtime.logging import bound
from reports.presentation.text import count
from sync import clock
from sync.repair.dead_letter_queue import RetryResult
from sync.repair.dead_letters import DeadLetterMessage
from sync.repair.scheduled_redrive import ScheduledRedrive
from sync.store.failed_attempts import forget_redrives
from sync.store.findings import resolve_expired

#: SQS keeps a message for fourteen days at most.
_REDRIVES_KEPT = timedelta(days=30)
_GIVEN_UP_KEPT = timedelta(days=15)
#: The maximum number of messages that one run reads from a queue.
_MOST_MESSAGES = 10_000


@dataclass(slots=True)
class HousekeepingResult:
    """What a redrive of all dead letter queues did.

    given_up: for each queue, how many messages the redrive gave up on. errors: the queues where something failed, with
    the reason.
    """

    results: dict[str, RetryResult] = field(default_factory=dict)
    given_up: dict[str, int] = field(default_factory=dict)
    errors: dict[str, QueueFailure] = field(default_factory=dict)

    def counts(self) -> dict[str, Any]:
        """The result as the ledger of job runs records it."""
        return {
            "found": sum(result.found for result in self.results.values()),
            "retried": sum(len(result.retried) for result in self.results.values()),
            "left": sum(len(result.left) for result in self.results.values()),
            "givenUp": sum(self.given_up.values()),
            "queues": {
                name: {"found": each.found, "retried": len(each.retried)} for name, each in self.results.items()
            },
            "errors": {queue: failure.text for queue, failure in self.errors.items()},
        }


def run_housekeeping(
    application: Application,
    *,
    show: Callable[[HousekeepingResult], None] = lambda _: None,
    trigger: Trigger = Trigger.MANUAL,
    rerun_of: str | None = None,
) -> HousekeepingResult:
    """Redrives all dead letter queues as one recorded run, and sends its alerts at the end.

    show: receives the result, even if something failed. Raises `WorkError` if something failed.
    """
    result = HousekeepingResult()
    with (
        application.job_runs.run(HOUSEKEEPING_JOB, {}, trigger=trigger, rerun_of=rerun_of) as active_run,
        bound(run_id=active_run.id),
    ):
        try:
            housekeep(application, active_run, result)
        finally:
            send_pending(application, ALERT_SECONDS)
            show(result)
    return result


def housekeep_on_schedule(application: Application, active_run: ActiveRun, stop_requested: threading.Event) -> None:
    """Runs the scheduled redrive. Raises `StopRequested` before the next queue once `stop_requested` is set."""
    housekeep(application, active_run, HousekeepingResult(), stop_requested.is_set)


def preview_housekeeping(
    application: Application,
) -> tuple[dict[str, list[DeadLetterMessage]], dict[str, QueueFailure]]:
    """The messages that a run would send back, by queue, and the errors of the queues that could not be read."""

    def preview(queue: str) -> list[DeadLetterMessage]:
        messages = dead_letter_queue(application, queue).peek(_MOST_MESSAGES)
        left = _rules(application, queue).why_left(messages)
        return [message for message in messages if message.message_id not in left]

    return for_each_queue(application, preview)


def housekeep(
    application: Application,
    active_run: ActiveRun,
    result: HousekeepingResult,
    stop_requested: Callable[[], bool] = lambda: False,
) -> None:
    """Sends back the messages that may succeed on a retry, queue by queue, and records the figures in `result`.

    The counts and errors go into `active_run`, even if the work is interrupted. Stops before the next queue once
    `stop_requested` returns true, and raises `StopRequested`, whose text contains the errors so far. A message or
    queue that fails does not stop the work on the others. After the last queue, removes the data that has been kept
    long enough (`jobs.operations.retention`), and raises `WorkError` if anything failed on a queue.
    """

    def redrive(queue: str) -> None:
        if stop_requested():
            return
        rules = _rules(application, queue)
        done = result.results[queue] = dead_letter_queue(application, queue).retry(rules.why_left, most=_MOST_MESSAGES)
        unrecorded = rules.record(application.telemetry)
        result.given_up[queue] = rules.given_up - unrecorded
        problems = [each.reason for each in done.left if each.failed] + ["no finding could be recorded"] * unrecorded
        if problems:
            raise WorkError(f"{count(len(problems), 'message')} failed: {problems[0]}")

    try:
        for_each_queue(application, redrive, result.errors)
    except BaseException:
        _log_errors(result)
        raise
    finally:
        application.telemetry.flush()
        active_run.counts |= result.counts()
    if stop_requested():
        _log_errors(result)
        failed = f"; {joined_failures(result.errors)}" if result.errors else ""
        raise StopRequested(f"stopped before the end of the redrive{failed}")
    with application.database.begin() as connection:
        forget_redrives(connection, clock.now() - _REDRIVES_KEPT)
        resolve_expired(connection, clock.now() - _GIVEN_UP_KEPT)
    removed = remove_expired(application, stop_requested)
    if removed.counts:
        active_run.counts["removed"] = removed.counts
    if removed.reports_kept:
        active_run.counts["reportsNotRemoved"] = removed.reports_kept
    check_errors(result.errors)


def _log_errors(result: HousekeepingResult) -> None:
    """Logs what failed before a redrive was interrupted. If a redrive reaches its end, its error says what failed."""
    log = structlog.get_logger("jobs.operations.housekeeping")
    for queue, failure in result.errors.items():
        log.error("redrive-failed", queue=queue, reason=failure.text)


def _rules(application: Application, queue: str) -> ScheduledRedrive:
    return ScheduledRedrive(application.database, queue, application.settings.housekeeping_max_returns, clock.now())
