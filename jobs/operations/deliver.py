"""The report of a run on its way: whether there is a place for it, and what became of it."""

import hashlib
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import structlog

from jobs.cli.exit_codes import UsageError, exit_code_for
from jobs.cli.output import say
from jobs.operations.drain import send_waiting
from jobs.runtime.application import Application
from reports.delivery.archive import ArchiveUnavailable, open_archive, report_path
from reports.delivery.channels import Channel, report_deliveries
from reports.delivery.email import refusals
from reports.engine.result import ReconciliationResult
from reports.engine.run_registry import ReconciliationBusy, ReconciliationParameters, UnknownRun
from reports.reconciliations.incentives.events import NOT_RUN
from sync import clock
from sync.store import outbox
from sync.store.database import StoreUnavailable
from sync.store.outbox import Delivery, DeliveryState

#: How long a delivery that another process has taken in hand is waited for, and how often it is looked at.
_ELSEWHERE_SECONDS = 60.0
_LOOK_SECONDS = 0.2
#: Characters of the reason in an alert.
_MOST_REASON = 1_000


def make_sure_of_the_archive(application: Application) -> None:
    """Raises `SettingsError`, before any work, when the report could not be kept where `REPORTS_LOCATION` says.

    An archive that is only away for the moment is logged; the report waits for it.
    """
    try:
        open_archive(application.settings, lambda: application.aws.client("s3")).probe()
    except ArchiveUnavailable as error:
        structlog.get_logger("jobs.operations.deliver").warning("archive-away", reason=str(error))


@contextmanager
def failure_alerted(
    application: Application, parameters: ReconciliationParameters, send_seconds: float = 0
) -> Iterator[None]:
    """Alerts Slack when the `with` block, which runs a reconciliation, raises: such a run has no report.

    One alert a day for one reason, however many pods and attempts fail with it; none with `--no-notify`. What is no
    failure of the run (another is under way, there is nothing to resume) is not alerted. The alert is sent here, for
    `send_seconds` at most, or by the scheduler.
    """
    try:
        yield
    except (ReconciliationBusy, UnknownRun, UsageError):
        raise
    except Exception as error:
        if parameters.notify:
            try:
                _alert(application, error)
            except StoreUnavailable as away:
                structlog.get_logger("jobs.operations.deliver").error("alert-not-kept", reason=str(away))
            else:
                if send_seconds:
                    send_waiting(application, send_seconds)
        raise


def _alert(application: Application, error: Exception) -> None:
    moment = clock.now()
    _code, reason = exit_code_for(error)
    payload = {
        "kind": "alert",
        "event": NOT_RUN,
        "time": moment.isoformat(timespec="milliseconds"),
        "properties": {"reason": reason[:_MOST_REASON]},
        "domain": "incentives",
        "severity": "high",
        "command": "prisoner-to-nomis runs list --job reconcile-incentives",
    }
    same = hashlib.sha256(reason.encode(errors="replace")).hexdigest()[:16]
    day = moment.astimezone(application.settings.zone).date()
    with application.database.begin() as connection:
        outbox.enqueue(connection, f"{NOT_RUN}:{day}:{same}", "slack", payload)


@dataclass(frozen=True, slots=True)
class Delivered:
    """What became of the report of a run.

    place: where it is kept, None when it is not. shortfall: why it is not, None when it is or was not to be kept.
    late: a line for each channel of people that it has not reached.
    """

    place: str | None = None
    shortfall: str | None = None
    late: tuple[str, ...] = ()

    def show(self, *, as_json: bool) -> None:
        """Says on stdout where the report is (stdout is JSON's alone where that is printed), on stderr what is late."""
        if self.place is not None and not as_json:
            say(f"report: {self.place}")
        for line in self.late:
            say(line, err=True)


def report_delivered(application: Application, result: ReconciliationResult | None) -> Delivered:
    """What became of the report of a run, once every channel was tried; one in other hands is waited for."""
    if result is None:
        return Delivered()
    deliveries = _tried(application, result)
    missing = {
        channel: _missing(result.run_id, channel, delivery)
        for channel, delivery in deliveries.items()
        if delivery.state is not DeliveryState.SENT
    }
    shortfall = missing.pop("archive", None)
    email = deliveries.get("email")
    refused = {} if email is None or "email" in missing else refusals(email.progress)
    unsent = tuple(f"{result.run_id} was not sent to {address}: {reason}" for address, reason in refused.items())
    kept = "archive" in deliveries and shortfall is None
    place = report_path(application.settings, result.run_id) if kept else None
    return Delivered(place, shortfall, (*missing.values(), *unsent))


def _tried(application: Application, result: ReconciliationResult) -> Mapping[Channel, Delivery]:
    deadline = time.monotonic() + _ELSEWHERE_SECONDS
    while True:
        with application.database.read() as connection:
            deliveries = report_deliveries(connection, result)
        if time.monotonic() > deadline or not any(map(_in_other_hands, deliveries.values())):
            return deliveries
        time.sleep(_LOOK_SECONDS)


def _in_other_hands(delivery: Delivery) -> bool:
    return delivery.state is DeliveryState.PENDING and delivery.attempts > 0 and delivery.last_error is None


def _missing(run_id: str, channel: Channel, delivery: Delivery) -> str:
    what = f"the report of {run_id} has not gone to {channel}: {delivery.last_error or 'nobody has sent it yet'}"
    if delivery.state is DeliveryState.PENDING:
        return f"{what}; the next command or the scheduler tries again"
    return f"{what}; it was given up: report send {run_id} --to {channel}"
