"""`drain`: handles the events on the queues once."""

from typing import Annotated

import typer

from jobs.cli.arguments import Queues, parse_queues


def drain(
    queues: Queues = None,
    until_empty: Annotated[
        bool,
        typer.Option("--until-empty", help="Continue with each queue until a receive from it finds nothing."),
    ] = False,
    max_batches: Annotated[
        int | None,
        typer.Option(min=1, help="Maximum number of micro-batches per queue; fewer if the queue empties first."),
    ] = None,
    wait_seconds: Annotated[
        float,
        typer.Option(
            min=0,
            help="Seconds to wait for a service that counts as down before the messages for it go back to the queue.",
        ),
    ] = 30,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object with the totals, overall and for each queue.")
    ] = False,
) -> None:
    """Drains one micro-batch of each chosen queue, in parallel.

    The result counts each message once, by how its last delivery in this drain ended, so the counts add up to the
    number of messages received. JSON and `runs` count deliveries: there, a message that fails and comes back counts
    again. In JSON, some counts have other names, which are in brackets here.

    `applied`: the change is in NOMIS. `superseded` (`coalesced`): a later message about the same record did the work of
    this message. `no change needed` (`ignored`): the event does not change NOMIS. `already created` (`duplicate`): an
    earlier delivery, or another program, has created the record. `mapping to follow` (`retry_queued`): the record is in
    NOMIS, and another message will save its mapping. `switched off` and `unknown type` (`unhandled`): events of this
    type are not handled. `unknown outcome` (`ambiguous`): the response to a creation was lost, and a person has to
    decide; see `creations list`.

    The other messages are on their queues again, and the last lines of the output say when they will be tried again.
    `failed`: the attempt failed. `unreadable`: the message is not valid. After too many such attempts, the message
    moves to the dead letter queue. `deferred`: the message waits for a service or a record, or has not been tried yet;
    this uses up none of its attempts.

    While a service that the messages need counts as down, the command waits for it, for up to --wait-seconds. On a
    terminal, it says so. A message that fails is counted, and the command still exits 0, because the queue's own
    retries and its dead letter queue look after the message. The command exits 1 if the work itself failed: a queue or
    the database could not be reached, or a service counted as down and the messages for it were returned to the
    queue. On SIGTERM, the command finishes the work in progress; a second SIGTERM ends it at once.
    """
    from jobs.cli.drain_text import on_wait, show_drain
    from jobs.operations.drain import DrainParameters, run_drain
    from jobs.runtime.application import open_application

    parameters = DrainParameters(
        parse_queues(queues or []), until_empty or max_batches is not None, max_batches, wait_seconds
    )
    with open_application() as application:
        waits = on_wait(wait_seconds, as_json=as_json)
        show_drain(run_drain(application, parameters, on_wait=waits), as_json=as_json)
