"""`runs`, `actions` and `telemetry`: what jobs and people did, and what happened to records."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from jobs.cli.arguments import AsJson, parse_time
from jobs.cli.completion import complete_jobs, complete_runs
from jobs.cli.output import counts_text, duration_text, local_time, pairs_of, print_json, print_pairs, print_table, say
from jobs.errors import UsageError

if TYPE_CHECKING:
    from jobs.runtime.job_runs import JobRun
    from sync.store.actions import Action

runs = typer.Typer(name="runs", help="Job runs: what ran, when, why, and how it ended.", no_args_is_help=True)

RunId = Annotated[
    str,
    typer.Argument(
        metavar="RUN_ID",
        help="The id of a run, or an unambiguous prefix of it.",
        autocompletion=complete_runs,
    ),
]


@runs.command("list")
def list_runs(
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="How many runs to show.")] = 20,
    job: Annotated[
        str | None,
        typer.Option(help="Only runs of this job, such as reconcile-incentives.", autocompletion=complete_jobs),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Lists the latest runs, newest first.

    A run whose process died is shown as interrupted. If the last run of a reconciliation was interrupted, the output
    says how far that run had got, and gives the command that resumes it.
    """
    from jobs.cli.reconciliation_text import show_interrupted
    from jobs.runtime.application import open_application
    from reports.engine.interrupted_runs import last_interrupted
    from reports.reconciliations.registry import entry_of_job

    with open_application() as application:
        recent = application.job_runs.recent(limit, job)
        zone = application.settings.zone
        entries = filter(None, map(entry_of_job, dict.fromkeys(run.job for run in recent)))
        interrupted = () if as_json else [last_interrupted(application.database, entry.name) for entry in entries]
    if as_json:
        print_json([run.as_dict() for run in recent])
        return
    print_table(
        ("RUN", "JOB", "TRIGGER", "STARTED", "TOOK", "STATUS", "COUNTS"),
        [
            (
                run.id,
                run.job,
                run.trigger,
                local_time(run.started_at, zone),
                duration_text(run.duration_seconds),
                run.shown_status,
                counts_text(_counts(run)),
            )
            for run in recent
        ],
        nothing=f"No runs of {job} are recorded." if job else "No runs are recorded.",
    )
    for each in filter(None, interrupted):
        show_interrupted(each, zone)


@runs.command("show")
def show_run(run_id: RunId, as_json: AsJson = False) -> None:
    """Shows one run in full: its parameters, counts, times and error.

    If the run was interrupted and can be resumed, the output says how far it had got, and which command resumes it.
    """
    from jobs.cli.reconciliation_text import show_interrupted
    from jobs.runtime.application import open_application
    from jobs.runtime.job_runs import RunStatus
    from reports.engine.interrupted_runs import find_interrupted
    from reports.engine.run_start import LAST

    with open_application() as application:
        run = application.job_runs.find(run_id)
        zone = application.settings.zone
        interrupted = None
        if run.status == RunStatus.INTERRUPTED:
            resumed = run.parameters.get("resume")
            # A run whose process was killed has no counts.
            begun = str(run.counts.get("reconciliation") or (run.id if resumed in (None, LAST) else resumed))
            interrupted = find_interrupted(application.database, begun)
    if as_json:
        print_json(run.as_dict())
        return
    print_pairs(
        {
            "run": run.id,
            "job": run.job,
            "status": run.shown_status,
            "trigger": run.trigger,
            "rerun of": run.rerun_of,
            "started": local_time(run.started_at, zone),
            "finished": local_time(run.finished_at, zone),
            "took": duration_text(run.duration_seconds),
            "host": run.host,
            "error": run.error,
            **pairs_of("parameter", run.parameters),
            **pairs_of("count", _counts(run)),
        }
    )
    if interrupted is not None:
        show_interrupted(interrupted, zone)


def _counts(run: "JobRun") -> Mapping[str, Any]:
    """The counts of a run as people see them. Those of a drain have the same names as in the output of `drain`."""
    from jobs.cli.drain_text import in_words
    from jobs.runtime.job_runs import DRAIN_JOB

    return in_words(run.shown_counts) if run.job == DRAIN_JOB else run.shown_counts


@runs.command("rerun")
def rerun(run_id: RunId, as_json: AsJson = False) -> None:
    """Repeats a run with the same parameters.

    The repetition is a new run, recorded with the id of the run that it repeats.
    """
    from jobs.cli.commands.contracts import show_check
    from jobs.cli.drain_text import on_wait, show_drain
    from jobs.cli.output import live_progress
    from jobs.cli.reconciliation_text import show_reconciliation
    from jobs.operations import contracts
    from jobs.operations.drain import DrainParameters, run_drain
    from jobs.operations.housekeeping import run_housekeeping
    from jobs.operations.reconcile import parameters_from_dict, run_reconciliation
    from jobs.runtime.application import open_application
    from jobs.runtime.job_runs import CONTRACTS_JOB, DRAIN_JOB, HOUSEKEEPING_JOB, Trigger
    from reports.reconciliations.registry import entry_of_job

    with open_application() as application:
        earlier = application.job_runs.find(run_id)
        if earlier.job == DRAIN_JOB:
            parameters = DrainParameters.from_dict(earlier.parameters)
            waits = on_wait(parameters.wait_seconds, as_json=as_json)
            drained = run_drain(application, parameters, trigger=Trigger.RERUN, rerun_of=earlier.id, on_wait=waits)
            show_drain(drained, as_json=as_json)
        elif (entry := entry_of_job(earlier.job)) is not None:
            again = parameters_from_dict(earlier.parameters)
            with live_progress() as progress:
                done = run_reconciliation(
                    application, entry, again, progress, trigger=Trigger.RERUN, rerun_of=earlier.id
                )
            show_reconciliation(done, as_json=as_json)
        elif earlier.job == HOUSEKEEPING_JOB:
            run_housekeeping(application, trigger=Trigger.RERUN, rerun_of=earlier.id)
        elif earlier.job == CONTRACTS_JOB:
            named = earlier.parameters.get("services", contracts.SERVICES)
            services = [each for each in contracts.SERVICES if each in named]
            probe = bool(earlier.parameters.get("probe", False))
            checked = contracts.run_contracts_check(
                application, services, probe=probe, trigger=Trigger.RERUN, rerun_of=earlier.id
            )
            show_check(checked, as_json=as_json, notified=True)
        else:
            raise UsageError(f"a run of {earlier.job} cannot be repeated; start a new one")


def actions(
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="How many actions to show.")] = 20,
    as_json: AsJson = False,
) -> None:
    """Lists people's latest actions, and says how they ended.

    It shows who did what, when, and to which record or queue. The state of an action is started, done, failed, refused
    or unknown. An action whose state remains started was stopped midway: check NOMIS or the queue to see whether it was
    done.
    """
    from jobs.runtime.application import open_application
    from sync.store.actions import list_actions

    with open_application() as application:
        with application.database.read() as connection:
            found = list_actions(connection, limit)
        zone = application.settings.zone
    if as_json:
        print_json([_as_json(action) for action in found])
        return
    print_table(
        ("WHEN", "WHO", "ACTION", "TARGET", "STATE", "OUTCOME"),
        [(local_time(each.time, zone), each.who, each.action, each.target, each.state, each.outcome) for each in found],
        nothing="No actions are recorded.",
    )


def _as_json(action: "Action") -> dict[str, object]:
    return {
        "id": action.id,
        "time": action.time.isoformat(timespec="seconds"),
        "who": action.who,
        "action": action.action,
        "target": action.target,
        "details": dict(action.details),
        "outcome": action.outcome,
        "state": action.state,
        "finishedAt": None if action.finished_at is None else action.finished_at.isoformat(timespec="seconds"),
    }


def telemetry(
    name: Annotated[str | None, typer.Option(help="Only events with this name.")] = None,
    since: Annotated[
        str | None,
        typer.Option(
            metavar="WHEN",
            help=(
                "Only events since this time: a date or date-time (in TZ if it has no offset), or an age such as 30m, "
                "2h or 7d."
            ),
        ),
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, metavar="N", help="Only the newest N events.")] = None,
    as_json: Annotated[
        bool,
        typer.Option("--json", help="Print each event as one line of JSON, with its name, time (UTC) and properties."),
    ] = False,
) -> None:
    """Lists the custom events that were tracked, oldest first."""
    from datetime import datetime

    from jobs.runtime.application import open_application
    from sync.store.telemetry import read_events

    with open_application() as application:
        zone = application.settings.zone
        start = parse_time(since, zone) if since else None
        found = False
        for event in read_events(application.database, name, start, limit):
            found = True
            if as_json:
                print_json(event)
                continue
            when = local_time(datetime.fromisoformat(event["time"]), zone)
            properties = " ".join(f"{key}={value}" for key, value in event["properties"].items())
            say(f"{when}  {event['name']}  {properties}".rstrip())
        if not found and not as_json:
            say("No such events were tracked." if name or since else "No events were tracked.")
