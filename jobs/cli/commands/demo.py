"""`demo`: the whole system against the sandbox."""

from pathlib import Path
from typing import Annotated

import typer


def demo(
    directory: Annotated[
        Path, typer.Option("--dir", metavar="DIR", help="Where everything is written; made if it is missing.")
    ] = Path("demo-out"),
    prisoners: Annotated[int, typer.Option(min=50, max=200_000, help="Prisoners in the embedded world.")] = 2000,
    events: Annotated[int, typer.Option(min=0, max=100_000, help="Domain events to publish.")] = 500,
    seed: Annotated[int, typer.Option(help="The same seed gives the same world and the same events.")] = 1,
    latency_ms: Annotated[int, typer.Option(min=0, max=10_000, help="How long each fake service takes to answer.")] = 0,
    no_open: Annotated[bool, typer.Option("--no-open", help="Do not open the report in a browser.")] = False,
) -> None:
    """Shows the whole system at work in an embedded world.

    It needs no setting, no server and no network. Fake HMPPS services over real HTTP, an SQS/SNS emulator and SQLite
    are started; events are published and drained, the weekly reconciliation is run, and its reports are written under
    DIR. At the end a table says what happened. Exits 1 if a planted mismatch was not found, if anything is in NOMIS
    twice, not at all or wrongly, or if it was stopped by Ctrl+C or SIGTERM.
    """
    from jobs.runtime.signals import ending_at_once

    with ending_at_once("the demo"):
        from jobs.demo.demo import DemoOptions, run_demo

        run_demo(DemoOptions(directory, prisoners, events, seed, latency_ms, open_report=not no_open))
