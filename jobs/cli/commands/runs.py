"""`runs`: the ledger of job runs."""

from typing import Annotated

import typer

app = typer.Typer(name="runs", help="Job runs: what ran, when, why, and how it ended.", no_args_is_help=True)

RunId = Annotated[
    str, typer.Argument(metavar="RUN_ID", help="The id of a run, or enough of its beginning to be the only one.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]


@app.command("list")
def list_runs(
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="How many runs to show.")] = 20,
    job: Annotated[str | None, typer.Option(help="Only runs of this job, such as reconcile-incentives.")] = None,
    as_json: AsJson = False,
) -> None:
    """The last runs, newest first.

    A run whose process died shows as interrupted.
    """
    from jobs.cli.output import counts_text, duration_text, local_time, print_json, print_table
    from jobs.runtime.application import open_application

    with open_application() as application:
        runs = application.job_runs.recent(limit, job)
        if as_json:
            print_json([run.as_dict() for run in runs])
            return
        zone = application.settings.zone
        print_table(
            ("RUN", "JOB", "TRIGGER", "STARTED", "TOOK", "STATUS", "COUNTS"),
            [
                (
                    run.id,
                    run.job,
                    run.trigger,
                    local_time(run.started_at, zone),
                    duration_text(run.duration_seconds),
                    run.status,
                    counts_text(run.shown_counts),
                )
                for run in runs
            ],
            nothing=f"No run of {job} is recorded." if job else "No run is recorded.",
        )


@app.command("show")
def show_run(run_id: RunId, as_json: AsJson = False) -> None:
    """One run whole: parameters, counts, times, error."""
    from jobs.cli.output import duration_text, local_time, pairs_of, print_json, print_pairs
    from jobs.runtime.application import open_application

    with open_application() as application:
        run = application.job_runs.find(run_id)
        if as_json:
            print_json(run.as_dict())
            return
        zone = application.settings.zone
        print_pairs(
            {
                "run": run.id,
                "job": run.job,
                "status": run.status,
                "trigger": run.trigger,
                "rerun of": run.rerun_of,
                "started": local_time(run.started_at, zone),
                "finished": local_time(run.finished_at, zone),
                "took": duration_text(run.duration_seconds),
                "host": run.host,
                "error": run.error,
                **pairs_of("parameter", run.parameters),
                **pairs_of("count", run.shown_counts),
            }
        )


@app.command("rerun")
def rerun_run(run_id: RunId, as_json: AsJson = False) -> None:
    """Repeats a run with the same parameters.

    The repetition is a run of its own, which names the run it repeats.
    """
    from jobs.operations.reruns import rerun
    from jobs.runtime.application import open_application

    with open_application() as application:
        rerun(application, run_id, as_json=as_json)
