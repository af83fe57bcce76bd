"""Follows the delivery of a reconciliation's report, writes the report again, and sends it again."""

import hashlib
import secrets
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import structlog

from jobs.errors import UsageError, WorkError, exit_code_for
from jobs.operations.deliveries import send_pending
from jobs.operations.recorded_actions import recorded_action
from jobs.runtime.application import Application
from reports.delivery.archive import ArchiveUnavailable, open_archive, report_path, store_index, store_report
from reports.delivery.channels import CHANNELS, Channel, enqueue_channel, is_set_up, report_deliveries
from reports.delivery.email import refusals
from reports.delivery.slack import refused_parts
from reports.engine import runs
from reports.engine.result import ReconciliationResult
from reports.engine.run_start import ReconciliationBusy, ReconciliationParameters, UnknownRun
from reports.reconciliations.registry import Entry
from reports.reconciliations.results import load_result, newest_results
from sync import clock
from sync.alerting import Severity, command
from sync.clock import LONDON
from sync.store import outbox
from sync.store.actions import Action, actions_on
from sync.store.database import StoreUnavailable
from sync.store.outbox import Delivery, DeliveryState

SEND = "report send"
#: How long to wait for a delivery that another process is making, and how often to poll it.
_ELSEWHERE_SECONDS = 60.0
_POLL_SECONDS = 0.2
#: How long sending a report again may take.
_DELIVERY_SECONDS = 60.0
#: The maximum number of characters of the reason that an alert shows.
_MOST_REASON = 1_000
_SETTINGS = {"slack": "SLACK_TOKEN", "email": "SMTP_URL and REPORTS_EMAIL_TO", "archive": "REPORTS_LOCATION"}


def check_archive(application: Application) -> None:
    """Before a reconciliation begins, raises `SettingsError` if its report could not be kept at `REPORTS_LOCATION`.

    If the archive is only temporarily unavailable, this is logged, and the report is archived later.
    """
    try:
        open_archive(application.settings, lambda: application.aws.client("s3")).probe()
    except ArchiveUnavailable as error:
        structlog.get_logger("jobs.operations.report_delivery").warning("archive-away", reason=str(error))


@contextmanager
def failure_alerted(
    application: Application, entry: Entry, parameters: ReconciliationParameters, send_seconds: float = 0
) -> Iterator[None]:
    """Sends an alert to Slack if the block, which runs a reconciliation, fails, since such a run has no report.

    One alert a day is sent for each reason, however many pods and attempts fail for that reason. No alert is sent with
    `--no-notify`, or if the run itself did not fail (another run is under way, or there is nothing to resume).
    send_seconds: how long this function may take to send the alert; with 0, the scheduler sends it.
    """
    try:
        yield
    except (ReconciliationBusy, UnknownRun, UsageError):
        raise
    except Exception as error:
        if parameters.notify:
            try:
                _alert(application, entry, error)
            except StoreUnavailable as unavailable:
                structlog.get_logger("jobs.operations.report_delivery").error("alert-not-kept", reason=str(unavailable))
            else:
                if send_seconds:
                    send_pending(application, send_seconds)
        raise


def _alert(application: Application, entry: Entry, error: Exception) -> None:
    moment = clock.now()
    _code, reason = exit_code_for(error)
    payload = {
        "kind": "alert",
        "event": entry.not_run,
        "time": moment.isoformat(timespec="milliseconds"),
        "properties": {"reason": reason[:_MOST_REASON]},
        "domain": entry.name,
        "severity": Severity.SERIOUS,
        "command": command("reconcile", entry.name, "--resume=last"),
    }
    same = hashlib.sha256(reason.encode(errors="replace")).hexdigest()[:16]
    day = moment.astimezone(application.settings.zone).date()
    with application.database.begin() as connection:
        outbox.enqueue(connection, f"{entry.not_run}:{day}:{same}", "slack", payload)


@dataclass(frozen=True, slots=True)
class Delivered:
    """What happened to the report of a run.

    place: where the report is archived, or None if it is not. shortfall: why it is not archived although it should be,
    or None. late: a line for each channel, other than the archive, that the report has not reached, for each email
    address that was refused, and for each part of the report that Slack refused.
    """

    place: str | None = None
    shortfall: str | None = None
    late: tuple[str, ...] = ()


def report_delivered(application: Application, result: ReconciliationResult | None) -> Delivered:
    """What has happened to the report of a run in every channel.

    Waits, for a limited time, for deliveries that other processes are making.
    """
    if result is None:
        return Delivered()
    deliveries = _tried_deliveries(application, result)
    missing = {
        channel: _missing(result.run_id, channel, delivery)
        for channel, delivery in deliveries.items()
        if delivery.state is not DeliveryState.SENT
    }
    shortfall = missing.pop("archive", None)
    email = deliveries.get("email")
    refused = {} if email is None or "email" in missing else refusals(email.progress)
    unsent = [f"{result.run_id} was not sent to {address}: {reason}" for address, reason in refused.items()]
    slack = deliveries.get("slack")
    parts = {} if slack is None else refused_parts(slack.progress)
    unsent += [f"Slack refused a part of the report of {result.run_id} ({part}): {why}" for part, why in parts.items()]
    archived = "archive" in deliveries and shortfall is None
    place = report_path(application.settings, result) if archived else None
    return Delivered(place, shortfall, (*missing.values(), *unsent))


def _tried_deliveries(application: Application, result: ReconciliationResult) -> Mapping[Channel, Delivery]:
    deadline = time.monotonic() + _ELSEWHERE_SECONDS
    while True:
        with application.database.read() as connection:
            deliveries = report_deliveries(connection, result)
        if time.monotonic() > deadline or not any(map(_in_another_process, deliveries.values())):
            return deliveries
        time.sleep(_POLL_SECONDS)


def _in_another_process(delivery: Delivery) -> bool:
    return delivery.state is DeliveryState.PENDING and delivery.attempts > 0 and delivery.last_error is None


def _missing(run_id: str, channel: Channel, delivery: Delivery) -> str:
    what = f"the report of {run_id} has not been sent to {channel}: {delivery.last_error or 'no attempt has ended'}"
    if delivery.state is DeliveryState.PENDING:
        at = f"{delivery.next_attempt_at.astimezone(LONDON):%d %b %H:%M}"
        return f"{what}; the scheduler, or the first drain or reconcile after {at}, will try again"
    again = command("report", "send", run_id, "--to", channel)
    return f"{what}; the program no longer tries to send it; type: {again}"


def render_report(application: Application, run_id: str) -> str:
    """Writes the report of a run, and the index, into the archive again. Returns the location of the report.

    Raises `ArchiveUnavailable`.
    """
    result = find_result(application, run_id)
    archive = open_archive(application.settings, lambda: application.aws.client("s3"))
    place = store_report(archive, result)
    with application.database.read() as connection:
        ended = runs.ended_runs(connection)
        newest = newest_results(connection, ended)
    store_index(archive, ended, newest, application.settings.environment_name, clock.now())
    return place


@dataclass(frozen=True, slots=True)
class Sending:
    """A report that is to be sent again.

    channels: where it goes. before: the earlier actions that sent it by hand, the latest first.
    """

    result: ReconciliationResult
    channels: tuple[Channel, ...]
    before: tuple[Action, ...]

    @property
    def target(self) -> str:
        """The reconciliation, as the action records it."""
        return f"reconciliation {self.result.run_id}"


def plan_sending(application: Application, run_id: str, channels: tuple[Channel, ...]) -> Sending:
    """Plans to send a report to `channels` or, if none are given, to all channels that are set up.

    Raises `UsageError` if a channel is off, or if there is no such report.
    """
    result = find_result(application, run_id)
    wanted = channels or tuple(channel for channel in CHANNELS if is_set_up(application.settings, channel))
    for channel in wanted:
        if not is_set_up(application.settings, channel):
            raise UsageError(f"{channel} is off: set {_SETTINGS[channel]}")
    return Sending(result, wanted, _sent_before(application, result.run_id))


def send_report(application: Application, plan: Sending, who: str) -> None:
    """Sends the report again, and records this under the name `who`.

    Raises `WorkError` if somebody has sent the report since the plan was made, or if the delivery fails.
    """
    result = plan.result
    again, finished = secrets.token_hex(4), result.finished_at.isoformat()
    with application.leases.held(f"write:report:{result.run_id}"):
        now = _sent_before(application, result.run_id)
        if now and now[0].id not in {each.id for each in plan.before}:
            raise WorkError(f"{now[0].who} sent the report before you confirmed: nothing was sent a second time")
        details = {"channels": list(plan.channels)}
        with recorded_action(application, who, SEND, plan.target, details) as ongoing:
            ongoing.outcome = "queued"
            for channel in plan.channels:
                ongoing.also.append(
                    partial(enqueue_channel, run_id=result.run_id, channel=channel, again=again, finished=finished)
                )
    application.outbox.flush(_DELIVERY_SECONDS)
    with application.database.read() as connection:
        deliveries = report_deliveries(connection, result, again)
    late = [
        _missing(result.run_id, channel, delivery)
        for channel, delivery in deliveries.items()
        if delivery.state is not DeliveryState.SENT
    ]
    if late:
        raise WorkError("; ".join(late))


def _sent_before(application: Application, run_id: str) -> tuple[Action, ...]:
    with application.database.read() as connection:
        sent = actions_on(connection, SEND, f"reconciliation {run_id}")
    return tuple(each for each in sent if each.may_have_been_done)


def find_result(application: Application, run_id: str) -> ReconciliationResult:
    """The result of a reconciliation, by its id or the id of its job run. Raises `UsageError` if there is none."""
    with application.database.read() as connection:
        result = load_result(connection, run_id)
    if result is None:
        run = application.job_runs.find(run_id)
        with application.database.read() as connection:
            result = load_result(connection, str(run.counts.get("reconciliation", run.id)))
    if result is None:
        raise UsageError(f"run {run_id} has no reconciliation result; see `prisoner-to-nomis runs list`")
    return result
