"""`reconcile`: finds, explains and fixes differences between NOMIS and DPS."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from jobs.cli.arguments import parse_offender_no, parse_prison_id
from jobs.cli.commands import incentives as incentive_commands
from jobs.cli.completion import complete_reconciled
from jobs.cli.confirmation import confirm
from jobs.cli.output import duration_text, print_json, print_table, say
from jobs.cli.reconciliation_text import show_interrupted, show_reconciliation
from jobs.errors import UsageError
from reports.reconciliations.registry import RECONCILIATIONS, Days, Entry

if TYPE_CHECKING:
    from jobs.runtime.application import Application
    from reports.engine.run_start import ReconciliationParameters

app = typer.Typer(
    name="reconcile", help="Find, explain and fix differences between NOMIS and DPS.", no_args_is_help=True
)

_Prison = Annotated[list[str] | None, typer.Option("--prison", metavar="ID", help="Only this prison; repeatable.")]
_Prisoner = Annotated[
    list[str] | None, typer.Option("--prisoner", metavar="OFFENDER_NO", help="Only this prisoner; repeatable.")
]
_Shards = Annotated[int, typer.Option(min=1, max=100, help="The number of parts that the run is divided into.")]
_Shard = Annotated[
    int | None,
    typer.Option(
        min=0, help="The number of this part, counted from 0; by default 0 or, in an Indexed Job, the index of the pod."
    ),
]
_Resume = Annotated[
    str | None,
    typer.Option(
        metavar="RUN_ID",
        autocompletion=complete_reconciled,
        help="Resume a run that was interrupted, was incomplete or failed. `last` means the latest run of the past 12 "
        "hours with the same scope; if that run is complete, or if no such run exists, a new run "
        "begins.",
    ),
]
_Accept = Annotated[
    str | None,
    typer.Option(
        metavar="RUN_ID",
        help="Accept, once, that the records or levels whose absence made run RUN_ID fail are really gone.",
    ),
]
_Yes = Annotated[bool, typer.Option("--yes", help="With --accept: do not ask for confirmation.")]
_NoNotify = Annotated[bool, typer.Option("--no-notify", help="Keep the result, but send no report or alert.")]
_AsJson = Annotated[bool, typer.Option("--json", help="Print the whole result as one JSON object.")]
_DATE = ["%Y-%m-%d"]
_DAY = "YYYY-MM-DD"
_Date = Annotated[
    datetime | None,
    typer.Option("--date", formats=_DATE, metavar=_DAY, help="The day to compare; yesterday by default."),
]
_From = Annotated[
    datetime | None, typer.Option("--from", formats=_DATE, metavar=_DAY, help="The first day to compare.")
]
_To = Annotated[datetime | None, typer.Option("--to", formats=_DATE, metavar=_DAY, help="The last day to compare.")]
_Since = Annotated[
    datetime | None,
    typer.Option(
        "--since",
        formats=_DATE,
        metavar=_DAY,
        help="Compare only bookings with a record that NOMIS created on or after this day; works only with the 2023 "
        "versions of the services.",
    ),
]
#: The parameters of `reconcile` that choose days, by what a reconciliation supports.
_DAY_OPTIONS: Mapping[Days, frozenset[str]] = {
    "none": frozenset(),
    "one": frozenset({"date_day"}),
    "range": frozenset({"from_day", "to_day"}),
    "since": frozenset({"since_day"}),
}
_ALL_DAY_OPTIONS = frozenset[str]().union(*_DAY_OPTIONS.values())

_HELP = """Compares {title} in NOMIS and DPS.

Records that differ are read again before they count as differences. Differences are marked as new, persisting or
resolved, and their causes are looked up. Unless --no-notify is given, the report is delivered. Differences are a
result, not a failure: a complete run exits 0 with any number of them. An incomplete or failed run exits 1. While
a service counts as down, the run waits for it, for up to ten minutes, and its progress says so. SIGTERM or Ctrl+C stops
the run promptly, even while it waits for a service. What has been read is kept, and the run can be resumed.
"""


class _ReconcileCommand(TyperCommand):
    """The command `reconcile NAME`, which offers only the options that the reconciliation supports.

    An unsupported `--prisoner` is hidden rather than left out, since the error that it causes says what to use instead.
    """

    def __init__(self, name: str, *, params: list[Any], **more: Any) -> None:
        entry = RECONCILIATIONS[name]
        left_out = _ALL_DAY_OPTIONS - _DAY_OPTIONS[entry.days]
        for each in params:
            if each.name == "prisoner" and not entry.by_prisoner:
                each.hidden = True
        super().__init__(name, params=[each for each in params if each.name not in left_out], **more)


def reconcile(
    context: typer.Context,
    *,
    date_day: _Date = None,
    from_day: _From = None,
    to_day: _To = None,
    since_day: _Since = None,
    prison: _Prison = None,
    prisoner: _Prisoner = None,
    shards: _Shards = 1,
    shard: _Shard = None,
    resume: _Resume = None,
    accept: _Accept = None,
    yes: _Yes = False,
    no_notify: _NoNotify = False,
    as_json: _AsJson = False,
) -> None:
    """Runs the reconciliation that the command is named after."""
    from reports.engine.run_start import ReconciliationParameters

    entry = RECONCILIATIONS[str(context.command.name)]
    if prisoner and not entry.by_prisoner:
        raise UsageError(f"{entry.title.lower()} are listed by prison: choose with --prison, not with --prisoner")
    first, last = (
        None if day is None else day.date() for day in (date_day or from_day or since_day, date_day or to_day)
    )
    if first is not None and last is not None and first > last:
        raise UsageError(f"--from {first} is after --to {last}")
    parameters = ReconciliationParameters(
        prisons=tuple(dict.fromkeys(map(parse_prison_id, prison or ()))),
        offender_nos=tuple(dict.fromkeys(map(parse_offender_no, prisoner or ()))),
        from_date=first,
        to_date=last,
        shards=shards,
        resume=resume,
        accept=accept,
        notify=not no_notify,
    )
    if accept is not None and as_json and not yes:
        raise UsageError("the command cannot ask about --accept when it prints JSON: add --yes")
    _reconcile(entry, parameters, shard, yes=yes, as_json=as_json)


for _entry in RECONCILIATIONS.values():
    _title = _entry.title[:1].lower() + _entry.title[1:]
    app.command(_entry.name, cls=_ReconcileCommand, help=_HELP.format(title=_title))(reconcile)


def _reconcile(
    entry: Entry, parameters: "ReconciliationParameters", shard: int | None, *, yes: bool, as_json: bool
) -> None:
    from jobs.cli.output import live_progress
    from jobs.operations.reconcile import run_reconciliation
    from jobs.runtime.application import open_application
    from reports.engine.run_start import LAST

    shards, resume = parameters.shards, parameters.resume
    if parameters.is_partial and resume not in (None, LAST):
        raise UsageError("a resumed run keeps its scope: leave out --prison, --prisoner and days")
    if parameters.accept is not None and (parameters.is_partial or resume is not None):
        raise UsageError("--accept is for a new run for everyone: leave out --prison, --prisoner, days and --resume")
    with open_application() as application:
        if shard is None:
            shard = (application.settings.job_completion_index or 0) if shards > 1 else 0
        if not 0 <= shard < shards:
            raise UsageError(f"there is no shard {shard} of {shards}: --shard ranges from 0 to --shards minus one")
        if parameters.accept is not None and not as_json:
            _confirm_accept(application, entry, parameters, yes=yes)
        with live_progress() as progress:
            done = run_reconciliation(application, entry, replace(parameters, shard=shard), progress)
        show_reconciliation(done, as_json=as_json)


def _confirm_accept(
    application: "Application", entry: Entry, parameters: "ReconciliationParameters", *, yes: bool
) -> None:
    """Shows why the run named by --accept failed, and asks for confirmation."""
    from jobs.operations.reconcile import failure_to_accept

    say(f"run {parameters.accept} failed: {failure_to_accept(application, entry, parameters)}")
    confirm(
        "This begins a new run for everyone. The run accepts that the missing records or levels are really gone, and "
        "resolves their differences. Later runs are compared with it. Continue?",
        yes=yes,
        dry_run=None,
    )


@app.command("list")
def list_reconciliations(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON array.")] = False,
) -> None:
    """Lists the reconciliations.

    It shows when each reconciliation runs, how its last run for everyone ended, and how long ago its last complete run
    ended. If the last run was interrupted, it shows how far that run had got, and the command that resumes it.
    """
    from jobs.operations.reconcile import overview
    from jobs.runtime.application import open_application

    with open_application() as application:
        rows, zone = overview(application), application.settings.zone
    if as_json:
        print_json([each.as_dict() for each in rows])
        return
    table = [
        (
            each.name,
            each.schedule if each.scheduled else f"{each.schedule}, not run by the scheduler",
            each.last_run or "never",
            each.status or "",
            "" if each.differences is None else each.differences,
            "never" if each.complete_age_seconds is None else f"{duration_text(each.complete_age_seconds)} ago",
        )
        for each in rows
    ]
    print_table(("RECONCILIATION", "SCHEDULE", "LAST RUN", "STATUS", "DIFFERENCES", "LAST COMPLETE"), table)
    for each in rows:
        if each.interrupted is not None:
            show_interrupted(each.interrupted, zone)


app.command("explain")(incentive_commands.explain)
app.add_typer(incentive_commands.fix)
