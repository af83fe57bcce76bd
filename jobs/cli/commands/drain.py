"""`drain`: micro-batches of the queues, now."""

from typing import Annotated

import typer

QUEUE_HELP = "visit, incentive, activity, appointment or sentencing; all of them where none is named."


def drain(
    queues: Annotated[list[str] | None, typer.Argument(metavar="[QUEUE]...", help=QUEUE_HELP)] = None,
    until_empty: Annotated[
        bool, typer.Option("--until-empty", help="Go on until a receive of every named queue comes back empty.")
    ] = False,
    max_batches: Annotated[
        int | None,
        typer.Option(min=1, help="At most so many micro-batches of each queue, or fewer if it is empty before."),
    ] = None,
    wait_seconds: Annotated[
        float,
        typer.Option(min=0, help="How long a service that is down is waited for before its messages are handed back."),
    ] = 30,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object: totals, and the same for each queue.")
    ] = False,
) -> None:
    """Drains one micro-batch of each named queue, side by side.

    A message that fails goes back to its queue and is counted; the command still exits 0, because the queue's own
    retries and its dead letter queue look after it. It exits 1 when the work itself failed: a queue or the database
    could not be reached, or an upstream service is down and its messages were handed back. SIGTERM finishes the work
    in hand; a second one ends at once.
    """
    from jobs.operations.drain import DrainParameters, run_drain
    from jobs.runtime.application import open_application

    parameters = DrainParameters.of(
        queues or [], until_empty=until_empty, max_batches=max_batches, wait_seconds=wait_seconds
    )
    with open_application() as application:
        run_drain(application, parameters, as_json=as_json)
