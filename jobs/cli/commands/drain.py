"""`drain` and `scheduler`: handle the events on the queues, once or continuously."""

from itertools import islice
from typing import TYPE_CHECKING, Annotated

import typer

from jobs.cli.arguments import Queues, parse_queues
from jobs.cli.output import counts_text, duration_text, print_json, say
from jobs.errors import WorkError
from reports.presentation.text import count

if TYPE_CHECKING:
    from jobs.operations.drain import DrainResult

#: How many reasons for failed messages are named at the end of a command; the telemetry has the rest.
_MOST_REASONS = 5


def drain(
    queues: Queues = None,
    until_empty: Annotated[
        bool,
        typer.Option("--until-empty", help="Continue with each named queue until a receive from it finds nothing."),
    ] = False,
    max_batches: Annotated[
        int | None,
        typer.Option(min=1, help="Maximum number of micro-batches per queue; fewer if the queue empties first."),
    ] = None,
    wait_seconds: Annotated[
        float,
        typer.Option(
            min=0, help="Seconds to wait for a service that is down before the messages for it go back to the queue."
        ),
    ] = 30,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object with the totals, overall and for each queue.")
    ] = False,
) -> None:
    """Drains one micro-batch of each named queue, in parallel.

    The counts are of deliveries, so a message that fails and comes back counts again. `coalesced`: a later message
    about the same record did the work of this message. `duplicate`: a second delivery of an event that was already
    handled, which changes nothing in NOMIS. `deferred`: the message waits for a service or a record. `ambiguous`: the
    response to a creation was lost; see `creations list`.

    A message that fails goes back to its queue and is counted; the command still exits 0, because the queue's own
    retries and its dead letter queue look after the message. The command exits 1 if the work itself failed: a queue or
    the database could not be reached, or an upstream service was down and the messages for it were returned to the
    queue. On SIGTERM, the command finishes the work in progress; a second SIGTERM ends it at once.
    """
    from jobs.operations.drain import DrainParameters, run_drain
    from jobs.runtime.application import open_application

    parameters = DrainParameters(
        parse_queues(queues or []), until_empty or max_batches is not None, max_batches, wait_seconds
    )
    with open_application() as application:
        show_drain(run_drain(application, parameters), as_json=as_json)


def show_drain(result: "DrainResult", *, as_json: bool) -> None:
    """Prints what a drain did. Raises `WorkError` when the work itself failed."""
    if as_json:
        print_json({"run": result.run_id, **result.as_dict()})
    else:
        _print_totals(result)
    if result.problem:
        raise WorkError(result.problem)


def _print_totals(result: "DrainResult") -> None:
    totals = result.totals
    seconds, ambiguous = totals.pop("seconds", None), totals.get("ambiguous", 0)
    queues = ", ".join(result.summaries)
    if queues:
        say(f"drained {queues}: {counts_text(totals) or 'nothing received'}; {duration_text(seconds)}")
    else:
        say("drained nothing")
    for reason, number in islice(result.reasons.items(), _MOST_REASONS):
        messages = count(result.failed_messages[reason], "message")
        say(f"{messages} with {count(number, 'failed attempt')}: {reason}", err=True)
    for reason, number in islice(result.deferrals.items(), _MOST_REASONS):
        say(f"{count(number, 'message')} deferred: {reason}", err=True)
    if result.deferrals:
        say("deferred messages are tried again; see: prisoner-to-nomis status", err=True)
    if ambiguous:
        have = f"{count(ambiguous, 'creation')} {'has' if ambiguous == 1 else 'have'}"
        say(f"{have} an unknown outcome; see: prisoner-to-nomis creations list", err=True)
    if len(result.reasons) > _MOST_REASONS:
        say("messages also failed for other reasons; see: prisoner-to-nomis telemetry --name message-failed", err=True)


def scheduler() -> None:
    """Continuously drains queues, redrives DLQs and reconciles.

    It drains a micro-batch of each queue every DRAIN_INTERVAL_SECONDS. In the time zone TZ, it runs each reconciliation
    according to its schedule, such as RECONCILIATION_SCHEDULE, redrives the dead letter queues according to
    HOUSEKEEPING_SCHEDULE, and checks the contracts of the services according to CONTRACTS_SCHEDULE. Each of these jobs
    can be switched off. If the database, a queue or a service is unavailable, the scheduler says so once in the log,
    continues, and recovers without help. Health pages and metrics are served on HEALTH_PORT. On SIGTERM, it finishes
    the work in progress and exits 0; a second SIGTERM ends it at once.
    """
    from jobs.operations.run_scheduler import run_scheduler
    from jobs.runtime.application import open_application
    from jobs.runtime.metrics import Metrics

    with open_application(prepare_database=False, metrics=Metrics(), shows_log=True) as application:
        run_scheduler(application)
