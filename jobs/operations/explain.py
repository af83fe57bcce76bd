"""One prisoner's difference: explained, and mended by the two fixes that this program makes itself."""

from datetime import datetime, timedelta
from functools import partial

from jobs.cli.exit_codes import UsageError, WorkError
from jobs.cli.output import print_json, print_pairs, print_table, say
from jobs.operations import fix as fixing
from jobs.operations.acting import confirm, operator_name
from jobs.runtime.application import Application
from reports.engine.result import Mismatch
from reports.reconciliations.incentives import fixes
from reports.reconciliations.incentives.explain import Explanation, explain
from reports.reconciliations.incentives.fixes import Plan
from sync import clock
from sync.clock import LONDON
from sync.proposed import command as proposed


def explain_prisoner(application: Application, offender_no: str, *, as_json: bool) -> None:
    """Prints both levels, why they differ, both histories, and what mends it. Raises `SyncError`."""
    found = explain(
        application.services,
        application.database,
        application.pending_incentive_messages,
        offender_no,
        near(application),
        clock.now(),
    )
    if as_json:
        print_json({"equal": found.equal, **found.mismatch.model_dump(mode="json", by_alias=True)})
    else:
        _print_explanation(found)


def fix_received(
    application: Application,
    offender_no: str,
    prison_id: str | None,
    reason: str | None,
    occurred_at: datetime | None,
    *,
    named: str | None,
    wait_seconds: float,
    dry_run: bool,
    yes: bool,
    force: bool,
) -> None:
    """Publishes a received event again; what is not given is taken from the diagnosis.

    Raises `UsageError` when something is missing that the diagnosis does not propose, or nobody is named, `WorkError`
    when something speaks against it, and `SyncError`.
    """
    who = operator_name(application.settings, named)
    if prison_id is None or reason is None or occurred_at is None:
        proposed = fixes.propose_received(
            application.services, application.pending_incentive_messages, offender_no, near(application)
        )
        if proposed is None:
            raise UsageError(
                f"the diagnosis of {offender_no} proposes no received event; see `reconcile explain {offender_no}`, or "
                "give --prison, --reason and --occurred-at"
            )
        prison_id, reason = prison_id or proposed.prison_id, reason or proposed.reason
        occurred_at = occurred_at or proposed.occurred_at
    plan_now = partial(fixing.plan_received, application, offender_no, prison_id, reason, occurred_at)
    plan = plan_now()
    if _may_go_on(plan, "Publish it? Every consumer of received events acts on it.", dry_run, yes, force):
        fixing.publish_received(application, plan, plan_now, who, force=force)
        say("published; DPS makes a review of it, which reaches NOMIS through the incentive queue")
        _verify(application, plan, wait_seconds)


def repair_incentive(
    application: Application,
    offender_no: str,
    *,
    named: str | None,
    wait_seconds: float,
    dry_run: bool,
    yes: bool,
    force: bool,
) -> None:
    """Writes the current DPS level of a prisoner to NOMIS again. Raises `UsageError`, `WorkError` and `SyncError`."""
    who = operator_name(application.settings, named)
    plan_now = partial(fixing.plan_repair, application, offender_no)
    plan = plan_now()
    if _may_go_on(plan, "Write it to NOMIS?", dry_run, yes, force):
        sequence = fixing.write_repair(application, plan, plan_now, who, force=force)
        say(f"written to NOMIS as sequence {sequence} of booking {plan.booking_id}")
        _verify(application, plan, wait_seconds)


def parse_arrival(text: str) -> datetime:
    """The real time of an arrival, local to London where it has no offset. Raises `UsageError`."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise UsageError(f"{text!r} is no time: give the time of the arrival such as 2023-05-20T15:22:00") from error
    arrival = (moment if moment.tzinfo is None else moment.astimezone(LONDON)).replace(tzinfo=LONDON)
    if arrival > clock.now():
        # NOMIS goes by the latest date: nothing that happens until then would count.
        raise UsageError(f"{text} is in the future: give the real time of the arrival")
    return arrival


def parse_reason(text: str) -> str:
    """The reason of a received event that makes DPS write a review. Raises `UsageError`."""
    reason = text.strip().upper()
    if reason not in fixes.REASONS:
        raise UsageError(f"{text!r} makes no review: give one of {', '.join(fixes.REASONS)}")
    return reason


def near(application: Application) -> timedelta:
    """How near in time two records of one event lie."""
    return timedelta(hours=application.settings.reconciliation_near_hours)


def _may_go_on(plan: Plan, question: str, dry_run: bool, yes: bool, force: bool) -> bool:
    """Shows the plan and whether it may be carried out. Raises `WorkError` when something speaks against it."""
    print_pairs(
        {
            "prisoner": f"{plan.offender_no}, booking {plan.booking_id}",
            "now": f"NOMIS {plan.nomis_level or 'none'}, DPS {plan.dps_level or 'none'}",
            "request": plan.request,
            **{f"  {name}": value for name, value in plan.body.items()},
        }
    )
    if plan.objection:
        say(f"objection: {plan.objection}")
        if not force:
            raise WorkError(f"nothing was sent: {plan.objection}; --force sends it all the same")
    return confirm(question, yes=yes, dry_run=dry_run)


def _verify(application: Application, plan: Plan, wait_seconds: float) -> None:
    """Reads both sides again, for a while, and says what is there now."""
    if plan.booking_id is None:
        return
    seen = fixes.verify(application.services, plan.offender_no, plan.booking_id, wait_seconds)
    if seen.mended:
        say(f"both sides have {seen.dps_level or 'no level'} now")
    else:
        levels = f"NOMIS {seen.nomis_level or 'none'}, DPS {seen.dps_level or 'none'}"
        again = proposed("reconcile", "incentives", "--prisoner", plan.offender_no, "--no-notify")
        say(f"they still differ ({levels}); look again when the queue is drained: {again}")


def _print_explanation(found: Explanation) -> None:
    mismatch = found.mismatch
    say(f"prisoner {mismatch.offender_no}, booking {mismatch.booking_id}")
    levels = f"NOMIS {mismatch.nomis_level or 'none'}, DPS {mismatch.dps_level or 'none'}"
    say(f"{levels}: {'both sides agree' if found.equal else f'{mismatch.standing} difference'}")
    diagnosis = mismatch.diagnosis
    if diagnosis is not None:
        say("")
        print_pairs(
            {
                "cause": f"{diagnosis.number}. {diagnosis.cause} (confidence {diagnosis.confidence})",
                "right side": diagnosis.right_side,
                "because": diagnosis.explanation,
                "what to do": diagnosis.action,
            }
        )
        for command in diagnosis.commands:
            say(f"  {command}")
        if diagnosis.request:
            say(f"  {diagnosis.request}")
    say("")
    _print_evidence(mismatch)


def _print_evidence(mismatch: Mismatch) -> None:
    print_table(
        ("SIDE", "WHEN", "LEVEL", "PRISON", "ORIGIN", "RECORD", "NOTE"),
        [
            (
                row.side,
                f"{row.at:%Y-%m-%d %H:%M:%S}",
                f"{row.level}{' (current)' if row.current else ''}",
                row.prison_id,
                row.origin,
                row.record,
                row.note,
            )
            for row in mismatch.evidence
        ],
    )
