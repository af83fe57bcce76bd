"""`reconcile` and `report`: where NOMIS and DPS disagree, and the report of it."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from inspect import Parameter, signature
from typing import TYPE_CHECKING, Annotated, cast

import typer

from jobs.cli.arguments import DryRun, Operator, ReconciliationId, Yes, parse_offender_no, parse_prison_id
from jobs.cli.commands import incentives as incentive_commands
from jobs.cli.commands import support_request
from jobs.cli.completion import complete_channels, complete_reconciled
from jobs.cli.confirmation import confirm, operator_name
from jobs.cli.output import counts_text, duration_text, print_json, print_json_text, print_table, say
from jobs.errors import UsageError, WorkError
from reports.reconciliations.registry import RECONCILIATIONS, Days, Entry

if TYPE_CHECKING:
    from jobs.operations.reconcile import Reconciled
    from reports.delivery.channels import Channel
    from reports.engine.result import Mismatch, ReconciliationResult
    from reports.engine.run import ReconciliationParameters

app = typer.Typer(name="reconcile", help="Find where NOMIS and DPS disagree, why, and fix it.", no_args_is_help=True)
report = typer.Typer(name="report", help="Make or deliver the report of a reconciliation again.", no_args_is_help=True)

#: Mismatches that are listed on the screen; the report has all of them.
_MOST_LISTED = 50
_MOST_UNREAD = 10
_MOST_FIELDS = 3
#: Counts that are shown also when they are zero.
_ALWAYS_SHOWN = ("compared", "mismatches")


_Prison = Annotated[list[str] | None, typer.Option("--prison", metavar="ID", help="Only this prison; repeatable.")]
_Prisoner = Annotated[
    list[str] | None, typer.Option("--prisoner", metavar="OFFENDER_NO", help="Only this prisoner; repeatable.")
]
_Shards = Annotated[int, typer.Option(min=1, max=100, help="The number of parts that the work is divided into.")]
_Shard = Annotated[
    int | None,
    typer.Option(min=0, help="Which of the parts this is, counted from 0; in an Indexed Job that of the pod."),
]
_Resume = Annotated[
    str | None,
    typer.Option(
        metavar="RUN_ID",
        autocompletion=complete_reconciled,
        help="Resume a run that died or was incomplete; `last`: the last one of the past 12 hours with the same "
        "scope, or begin one.",
    ),
]
_Accept = Annotated[
    str | None,
    typer.Option(
        metavar="RUN_ID",
        help="Believe once what this failed run did not: that records, or their levels, are really gone.",
    ),
]
_NoNotify = Annotated[bool, typer.Option("--no-notify", help="Keep the result, but send nothing.")]
_AsJson = Annotated[bool, typer.Option("--json", help="Print the whole result as one JSON object.")]
_DATE = ["%Y-%m-%d"]


def _day_option(name: str, text: str) -> Parameter:
    """The option of a day. Typer goes by the name of the parameter, which must be no keyword."""
    option = typer.Option(name, formats=_DATE, metavar="YYYY-MM-DD", help=text)
    annotation = Annotated[datetime | None, option]
    return Parameter(f"{name[2:]}_day", Parameter.KEYWORD_ONLY, default=None, annotation=annotation)


#: By the days that can be chosen of a reconciliation (`registry.Days`): the options for the first and for the last day.
_DAY_OPTIONS: Mapping[Days, tuple[Parameter, ...]] = {
    "none": (),
    "one": (_day_option("--date", "The day; yesterday by default."),),
    "range": (_day_option("--from", "The first day."), _day_option("--to", "The last day.")),
    "since": (_day_option("--since", "Compare only what NOMIS has created since this day, for services of 2023."),),
}

_HELP = """Compares {title} in NOMIS and DPS.

Differences are read again before they count, marked as new, persisting or resolved, and explained. Without
--no-notify the report is delivered. Mismatches are a result, not a failure: a complete run exits 0 with any
number of them, an incomplete one exits 1. SIGTERM or Ctrl+C stops it soon, even while it waits for a service; what
is finished is kept, and the run can be resumed from there.
"""


def _add_command(entry: Entry) -> None:
    """Adds `reconcile NAME`, with the options for the days that can be chosen."""

    def reconcile(
        *,
        prison: _Prison = None,
        prisoner: _Prisoner = None,
        shards: _Shards = 1,
        shard: _Shard = None,
        resume: _Resume = None,
        accept: _Accept = None,
        no_notify: _NoNotify = False,
        as_json: _AsJson = False,
        **days: datetime | None,
    ) -> None:
        parameters = _parameters(entry, prison, prisoner, [days[each.name] for each in _DAY_OPTIONS[entry.days]])
        chosen = replace(parameters, shards=shards, resume=resume, accept=accept, notify=not no_notify)
        _reconcile(entry, chosen, shard, as_json=as_json)

    own = signature(reconcile)
    options = [each for each in own.parameters.values() if each.kind is not Parameter.VAR_KEYWORD]
    # Typer reads the options from the signature, to which those of the days belong.
    reconcile.__signature__ = own.replace(parameters=[*_DAY_OPTIONS[entry.days], *options])  # type: ignore[attr-defined]
    app.command(entry.name, help=_HELP.format(title=entry.title[:1].lower() + entry.title[1:]))(reconcile)


for _entry in RECONCILIATIONS.values():
    _add_command(_entry)


def _parameters(
    entry: Entry, prison: list[str] | None, prisoner: list[str] | None, days: list[datetime | None]
) -> "ReconciliationParameters":
    """What a run is to cover. Raises `UsageError`."""
    from reports.engine.run import ReconciliationParameters

    if prisoner and not entry.by_prisoner:
        raise UsageError(f"{entry.title.lower()} are listed by prison: choose with --prison, not with --prisoner")
    first, *rest = [None if day is None else day.date() for day in days] or [None]
    last = rest[0] if rest else first if entry.days == "one" else None
    if first is not None and last is not None and first > last:
        raise UsageError(f"--from {first} is after --to {last}")
    return ReconciliationParameters(
        prisons=tuple(dict.fromkeys(map(parse_prison_id, prison or ()))),
        offender_nos=tuple(dict.fromkeys(map(parse_offender_no, prisoner or ()))),
        from_date=first,
        to_date=last,
    )


def _reconcile(entry: Entry, parameters: "ReconciliationParameters", shard: int | None, *, as_json: bool) -> None:
    from jobs.cli.output import live_progress
    from jobs.operations.reconcile import run_reconciliation
    from jobs.runtime.application import open_application
    from reports.engine.run import LAST

    shards, resume = parameters.shards, parameters.resume
    if parameters.is_partial and resume not in (None, LAST):
        raise UsageError("--resume keeps what the resumed run covers: leave out --prison and --prisoner, and days")
    if parameters.accept is not None and (parameters.is_partial or resume is not None):
        raise UsageError("--accept is for a new run over everyone: leave out --prison, --prisoner, days and --resume")
    with open_application() as application:
        if shard is None:
            shard = (application.settings.job_completion_index or 0) if shards > 1 else 0
        if not 0 <= shard < shards:
            raise UsageError(f"there is no shard {shard} of {shards}: --shard counts from 0 to --shards less one")
        with live_progress() as progress:
            done = run_reconciliation(application, entry, replace(parameters, shard=shard), progress)
        show_reconciliation(done, as_json=as_json)


@app.command("list")
def list_reconciliations(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON array.")] = False,
) -> None:
    """Lists the reconciliations.

    When each runs, how its last run over everyone ended, and how long ago the last complete one was.
    """
    from jobs.operations.reconcile import overview
    from jobs.runtime.application import open_application

    with open_application() as application:
        rows = overview(application)
    if as_json:
        print_json([each.as_dict() for each in rows])
        return
    table = [
        (
            each.name,
            each.schedule if each.scheduled else f"{each.schedule}, not by the scheduler",
            each.last_run or "never",
            each.status or "",
            "" if each.differences is None else each.differences,
            "never" if each.complete_age_seconds is None else f"{duration_text(each.complete_age_seconds)} ago",
        )
        for each in rows
    ]
    print_table(("RECONCILIATION", "SCHEDULE", "LAST RUN", "STATUS", "DIFFERENCES", "LAST COMPLETE"), table)


app.command("explain")(incentive_commands.explain)
app.add_typer(incentive_commands.fix)


def show_reconciliation(done: "Reconciled", *, as_json: bool) -> None:
    """Prints what was found, and where the report is. Raises `WorkError` when the run or its report is incomplete."""
    outcome, delivered = done.outcome, done.delivered
    if outcome.result is None and as_json:
        print_json({"runId": outcome.run_id, "status": outcome.status})
    elif outcome.result is None:
        say(f"{outcome.run_id}: this shard is done, others are still at work")
    elif as_json:
        print_json_text(outcome.result.to_json())
    else:
        _print_result(outcome.result)
    if delivered.place is not None and not as_json:
        say(f"report: {delivered.place}")
    for line in delivered.late:
        say(line, err=True)
    if done.problem:
        raise WorkError(done.problem)


def _print_result(result: "ReconciliationResult") -> None:
    say(f"{result.run_id} {result.status}: {counts_text(result.counts(), always=_ALWAYS_SHOWN)}")
    if result.mismatches:
        _print_mismatches(result)
    unread = [f"{each.offender_no or each.unit}: {each.reason}" for each in result.unread]
    unread += [f"{each.what}: {each.reason}" for each in result.gaps]
    for line in unread[:_MOST_UNREAD]:
        say(line)
    if len(unread) > _MOST_UNREAD:
        say(f"and {len(unread) - _MOST_UNREAD} more that could not be read")


def _print_mismatches(result: "ReconciliationResult") -> None:
    rows = [
        (
            row,
            each.offender_no,
            each.booking_id,
            each.prison_id,
            each.kind,
            _differences(each),
            each.standing,
            _cause(each),
        )
        for row, each in result.rows[:_MOST_LISTED]
    ]
    print_table(("ROW", "PRISONER", "BOOKING", "PRISON", "KIND", "DIFFERENCES", "STANDING", "PROBABLE CAUSE"), rows)
    if len(result.mismatches) > _MOST_LISTED:
        say(f"and {len(result.mismatches) - _MOST_LISTED} more in the report")


def _differences(mismatch: "Mismatch") -> str:
    parts = [f"{each.field}: NOMIS {_shown(each.nomis)}, DPS {_shown(each.dps)}" for each in mismatch.differences]
    more = len(parts) - _MOST_FIELDS
    return "; ".join([*parts[:_MOST_FIELDS], f"{more} more"] if more > 0 else parts)


def _cause(mismatch: "Mismatch") -> str | None:
    found = mismatch.diagnosis
    if found is None:
        return mismatch.evidence_missing
    number = getattr(found, "number", None)
    return found.cause if number is None else f"{number}. {found.cause}"


def _shown(value: object) -> str:
    return "none" if value is None else str(value)


@report.command("render")
def render(run_id: ReconciliationId) -> None:
    """Makes the report of a run again, in REPORTS_LOCATION.

    Prints where it is.
    """
    from jobs.operations.report_delivery import render_report
    from jobs.runtime.application import open_application

    with open_application() as application:
        say(render_report(application, run_id))


report.command("request")(support_request.request)


@report.command("send")
def send(
    run_id: ReconciliationId,
    to: Annotated[
        list[str] | None,
        typer.Option(
            metavar="CHANNEL",
            help="slack, email or archive; may be repeated. All that are set up by default.",
            autocompletion=complete_channels,
        ),
    ] = None,
    dry_run: DryRun = False,
    yes: Yes = False,
    operator: Operator = None,
) -> None:
    """Delivers the report of a run once more.

    Shows what goes where and asks first; that it was sent is recorded.
    """
    from jobs.operations.report_delivery import plan_sending, send_report
    from jobs.runtime.application import open_application

    channels = parse_channels(to or [])
    with open_application() as application:
        who = operator_name(application.settings, operator)
        plan = plan_sending(application, run_id, channels)
        say(f"the report of {plan.result.run_id} ({plan.result.status}) goes to {', '.join(plan.channels)}")
        if plan.before:
            last = plan.before[0]
            say(f"it was sent by hand before, last by {last.who} at {last.time:%d/%m/%Y %H:%M:%S} UTC")
        if confirm(f"This sends it to {', '.join(plan.channels)}. Continue?", yes=yes, dry_run=dry_run):
            send_report(application, plan, who)
            say("sent")


def parse_channels(names: list[str]) -> "tuple[Channel, ...]":
    """The named channels, each once. Raises `UsageError` for other names."""
    from reports.delivery.channels import CHANNELS

    unknown = [name for name in names if name not in CHANNELS]
    if unknown:
        raise UsageError(f"there is no channel {', '.join(unknown)}; --to takes {', '.join(CHANNELS)}")
    return tuple(cast("Channel", name) for name in dict.fromkeys(names))
