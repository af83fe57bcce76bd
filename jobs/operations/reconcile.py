"""The `reconcile incentives` job: a run of the reconciliation as a run of the ledger."""

import re
import threading
from collections.abc import Mapping, Sequence
from typing import Any

from jobs.cli.exit_codes import StopRequested, UsageError, WorkError
from jobs.cli.output import counts_text, print_json, print_json_text, print_table, say
from jobs.cli.progress import ProgressCallback, live_progress
from jobs.operations.deliver import failure_alerted, make_sure_of_the_archive, report_delivered
from jobs.operations.drain import send_waiting
from jobs.runtime.application import Application
from jobs.runtime.job_runs import SCOPE, ActiveRun, Status, Trigger
from jobs.runtime.logging import bound
from jobs.runtime.signals import stopping
from reports.engine.result import ReconciliationResult
from reports.engine.run import LAST, ReconciliationOutcome, ReconciliationParameters, UnknownRun
from reports.engine.run_registry import make_sure_of_resuming
from reports.engine.runs import Scope, find_run
from reports.presentation import summary
from sync.proposed import command

JOB = "reconcile-incentives"
_OFFENDER_NO = re.compile(r"[A-Z]\d{4}[A-Z]{2}")
_PRISON_ID = re.compile(r"[A-Z]{3}")
_STATUSES = {
    "complete": Status.SUCCESS,
    "incomplete": Status.INCOMPLETE,
    "failed": Status.FAILED,
    "unfinished shard": Status.SUCCESS,
}
#: The scope of the run of a shard that leaves the result to others.
_ONE_SHARD = "one shard"
#: How long the end of a run waits for its report to be delivered.
_DELIVERY_SECONDS = 60.0
#: Mismatches that are listed on the screen; the report has all of them.
_MOST_LISTED = 50
_MOST_UNREAD = 10
#: Counts that say something also when they are zero.
_ALWAYS_TOLD = ("compared", "mismatches")


def parse_offender_no(text: str) -> str:
    """A prisoner number such as A1234BC. Raises `UsageError`."""
    if not _OFFENDER_NO.fullmatch(text.strip().upper()):
        raise UsageError(f"{text!r} is no prisoner number: give one such as A1234BC")
    return text.strip().upper()


def parse_prison_id(text: str) -> str:
    """A prison id such as MDI. Raises `UsageError`."""
    if not _PRISON_ID.fullmatch(text.strip().upper()):
        raise UsageError(f"{text!r} is no prison id: give three letters such as MDI")
    return text.strip().upper()


def read_parameters(
    prisons: Sequence[str], prisoners: Sequence[str], shards: int, shard: int, resume: str | None, *, notify: bool
) -> ReconciliationParameters:
    """The parameters as a person gave them. Raises `UsageError` for those that make no sense."""
    if not 0 <= shard < shards:
        raise UsageError(f"there is no shard {shard} of {shards}: --shard counts from 0 to --shards less one")
    if resume not in (None, LAST) and (prisons or prisoners):
        raise UsageError("--resume goes on with those whom the run looked at: leave out --prison and --prisoner")
    return ReconciliationParameters(
        prisons=tuple(dict.fromkeys(parse_prison_id(prison) for prison in prisons)),
        offender_nos=tuple(dict.fromkeys(parse_offender_no(prisoner) for prisoner in prisoners)),
        shards=shards,
        shard=shard,
        resume=resume,
        notify=notify,
    )


def parameters_as_dict(parameters: ReconciliationParameters) -> dict[str, Any]:
    """The parameters as the ledger keeps them."""
    return {
        "prisons": list(parameters.prisons),
        "prisoners": list(parameters.offender_nos),
        "shards": parameters.shards,
        "shard": parameters.shard,
        "resume": parameters.resume,
        "notify": parameters.notify,
    }


def parameters_from_dict(kept: Mapping[str, Any]) -> ReconciliationParameters:
    """The parameters of an earlier run, to run it again from its beginning."""
    return read_parameters(
        kept.get("prisons", ()),
        kept.get("prisoners", ()),
        kept.get("shards", 1),
        kept.get("shard", 0),
        None,
        notify=kept.get("notify", True),
    )


def run_reconciliation(
    application: Application,
    parameters: ReconciliationParameters,
    *,
    as_json: bool = False,
    trigger: Trigger = Trigger.MANUAL,
    rerun_of: str | None = None,
) -> ReconciliationOutcome:
    """Reconciles, records the run, delivers what is to be delivered, and prints what was found.

    Raises `WorkError` when the run is not complete, its report is not kept, or it was asked to stop, and `UsageError`
    for a run that cannot be resumed.
    """
    try:
        make_sure_of_resuming(application.database, parameters)
    except UnknownRun as error:
        raise UsageError(str(error)) from error
    asked = threading.Event()
    kept = parameters_as_dict(parameters)
    try:
        with failure_alerted(application, parameters, _DELIVERY_SECONDS):
            if parameters.notify:
                make_sure_of_the_archive(application)
            with (
                application.job_runs.run(JOB, kept, trigger=trigger, rerun_of=rerun_of) as active_run,
                bound(run_id=active_run.id),
                stopping(asked.set),
            ):
                with live_progress() as progress:
                    outcome = reconcile(application, active_run, parameters, asked, progress)
                send_waiting(application, _DELIVERY_SECONDS)
                delivered = report_delivered(application, outcome.result)
                active_run.error = active_run.error or delivered.shortfall
    except StopRequested as error:
        raise WorkError(str(error)) from None
    _print(outcome, as_json=as_json)
    delivered.show(as_json=as_json)
    problems = [delivered.shortfall] if delivered.shortfall else []
    if outcome.status not in ("complete", "unfinished shard"):
        assert outcome.result is not None
        ended = "failed" if outcome.status == "failed" else "is incomplete"
        problems.insert(0, f"reconciliation {outcome.run_id} {ended}: {_shortfall(outcome.result)}")
    if problems:
        raise WorkError("; ".join(problems))
    return outcome


def reconcile(
    application: Application,
    active_run: ActiveRun,
    parameters: ReconciliationParameters,
    asked: threading.Event,
    progress: ProgressCallback,
) -> ReconciliationOutcome:
    """One run; its counts and status are put into `active_run`. Raises `StopRequested` soon after `asked` is set."""

    def watched(stage: str, done: int, total: int) -> None:
        progress(stage, done, total)
        if asked.is_set():
            again = command("reconcile", "incentives", "--resume", parameters.resume or active_run.id)
            raise StopRequested(f"stopped while {stage}; go on with: {again}")

    active_run.counts[SCOPE] = _scope(application, parameters)
    outcome = application.reconciliation(watched).run(active_run.id, parameters)
    active_run.counts["reconciliation"] = outcome.run_id
    if outcome.status == "unfinished shard":
        active_run.counts[SCOPE] = _ONE_SHARD
    active_run.status = _STATUSES[outcome.status]
    if outcome.result is not None:
        active_run.counts |= outcome.result.counts()
        active_run.error = None if outcome.status == "complete" else _shortfall(outcome.result)
    return outcome


def _scope(application: Application, parameters: ReconciliationParameters) -> str:
    """Whom the run looks at: everyone, prisons or prisoners; a resumed run looks at those of its beginning."""
    begun = None
    if parameters.resume not in (None, LAST):
        with application.database.read() as connection:
            begun = find_run(connection, parameters.resume)
    chosen = {"offender_nos": parameters.offender_nos, "prisons": parameters.prisons}
    return Scope.of(chosen if begun is None else begun.parameters)


def _shortfall(result: ReconciliationResult) -> str:
    """Why a run is not complete, on one line."""
    return result.failure or summary.shortfall(result)


def _print(outcome: ReconciliationOutcome, *, as_json: bool) -> None:
    result = outcome.result
    if result is None:
        told = {"runId": outcome.run_id, "status": outcome.status}
        print_json(told) if as_json else say(f"{outcome.run_id}: this shard is done, others are still at work")
    elif as_json:
        print_json_text(result.to_json())
    else:
        say(f"{result.run_id} {result.status}: {counts_text(result.counts(), always=_ALWAYS_TOLD)}")
        _print_mismatches(result)
        _print_unread(result)


def _print_unread(result: ReconciliationResult) -> None:
    missing = [f"{each.offender_no}: {each.reason}" for each in result.unread]
    missing += [f"page {each.page} of prisoners: {each.reason}" for each in result.unread_pages]
    for line in missing[:_MOST_UNREAD]:
        say(line)
    if len(missing) > _MOST_UNREAD:
        say(f"and {len(missing) - _MOST_UNREAD} more that could not be read")


def _print_mismatches(result: ReconciliationResult) -> None:
    if not result.mismatches:
        return
    rows = [
        (
            row,
            each.offender_no,
            each.booking_id,
            each.prison_id,
            each.nomis_level,
            each.dps_level,
            each.standing,
            f"{each.diagnosis.number}. {each.diagnosis.cause}" if each.diagnosis else each.evidence_missing,
        )
        for row, each in result.rows[:_MOST_LISTED]
    ]
    print_table(("ROW", "PRISONER", "BOOKING", "PRISON", "NOMIS", "DPS", "STANDING", "PROBABLE CAUSE"), rows)
    if len(result.mismatches) > _MOST_LISTED:
        say(f"and {len(result.mismatches) - _MOST_LISTED} more in the report")
