"""The report of a finished reconciliation, made or delivered again."""

import secrets
from functools import partial
from typing import cast

from jobs.cli.exit_codes import UsageError, WorkError
from jobs.cli.output import say
from jobs.operations.acting import confirm, operator_name, recorded_action
from jobs.runtime.application import Application
from reports.delivery.archive import open_archive, store_index, store_report
from reports.delivery.channels import CHANNELS, Channel, enqueue_channel, is_set_up
from reports.engine import runs
from reports.engine.result import ReconciliationResult
from sync.store.actions import Action, actions_on

_ACTION = "report send"
_DELIVERY_SECONDS = 60.0
_SETTINGS = {"slack": "SLACK_TOKEN", "email": "SMTP_URL and REPORTS_EMAIL_TO", "archive": "REPORTS_LOCATION"}


def render_report(application: Application, run_id: str) -> None:
    """Writes the report of a run, and the index, into the archive again, and says where.

    Raises `ArchiveUnavailable`.
    """
    result = find_result(application, run_id)
    archive = open_archive(application.settings, lambda: application.aws.client("s3"))
    place = store_report(archive, result)
    with application.database.read() as connection:
        ended = runs.ended_runs(connection)
    store_index(archive, ended, application.settings.environment_name)
    say(place)


def send_report(
    application: Application, run_id: str, channels: tuple[Channel, ...], *, named: str | None, dry_run: bool, yes: bool
) -> None:
    """Delivers the report of a run once more. Raises `WorkError` when it cannot be delivered now."""
    who = operator_name(application.settings, named)
    result = find_result(application, run_id)
    wanted = channels or tuple(channel for channel in CHANNELS if is_set_up(application.settings, channel))
    for channel in wanted:
        if not is_set_up(application.settings, channel):
            raise UsageError(f"{channel} is off: set {_SETTINGS[channel]}")
    say(f"the report of {result.run_id} ({result.status}) goes to {', '.join(wanted)}")
    target = f"reconciliation {result.run_id}"
    before = _sent(application, target)
    if before:
        say(f"it was sent by hand before, last by {before[0].who} at {before[0].time:%d/%m/%Y %H:%M:%S} UTC")
    if not confirm("Send it?", yes=yes, dry_run=dry_run):
        return
    again = secrets.token_hex(4)
    finished = result.finished_at.isoformat()
    details = {"channels": list(wanted)}
    with application.leases.held(f"write:report:{result.run_id}"):
        _check_not_sent_since(application, target, before)
        with recorded_action(application, who, _ACTION, target, details) as ongoing:
            ongoing.outcome = "queued"
            for channel in wanted:
                ongoing.also.append(
                    partial(enqueue_channel, run_id=result.run_id, channel=channel, again=again, finished=finished)
                )
    counts = application.outbox.flush(_DELIVERY_SECONDS)
    if counts.given_up or counts.later:
        raise WorkError(
            f"{counts.later} deliveries wait for the next sender and {counts.given_up} cannot be made; the log says why"
        )
    say("sent")


def _sent(application: Application, target: str) -> list[Action]:
    """Who sent it by hand before, the last one first."""
    with application.database.read() as connection:
        return [each for each in actions_on(connection, _ACTION, target) if each.may_have_been_done]


def _check_not_sent_since(application: Application, target: str, before: list[Action]) -> None:
    now = _sent(application, target)
    if now and now[0].id not in {each.id for each in before}:
        raise WorkError(f"{now[0].who} sent it while you were asked: nothing was sent a second time")


def parse_channels(names: list[str]) -> tuple[Channel, ...]:
    """The named channels, each once. Raises `UsageError` for other names."""
    unknown = [name for name in names if name not in CHANNELS]
    if unknown:
        raise UsageError(f"there is no channel {', '.join(unknown)}; --to takes {', '.join(CHANNELS)}")
    return tuple(cast("Channel", name) for name in dict.fromkeys(names))


def find_result(application: Application, run_id: str) -> ReconciliationResult:
    """The result of a reconciliation, by its id or that of the run of the ledger. Raises `UsageError` without one."""
    with application.database.read() as connection:
        result = runs.load_result(connection, run_id)
    if result is None:
        run = application.job_runs.find(run_id)
        with application.database.read() as connection:
            result = runs.load_result(connection, str(run.counts.get("reconciliation", run.id)))
    if result is None:
        raise UsageError(f"run {run_id} has no result of a reconciliation; see `prisoner-to-nomis runs list`")
    return result
