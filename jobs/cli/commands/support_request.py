"""`report request`: one request to the NOMIS support team for all differences that only they can fix."""

from typing import Annotated

import typer

from jobs.cli.arguments import AsJson, ReconciliationId
from jobs.cli.output import print_json, say
from jobs.errors import UsageError


def request(
    run_id: ReconciliationId,
    cause: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Only differences of this cause; its text, or a part of it that no other cause has.",
        ),
    ] = None,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV to attach, instead of a text to paste.")] = False,
    as_json: AsJson = False,
) -> None:
    """Writes one request to NOMIS support for all records of a run.

    For differences that only they can fix. Names the prisoner, the booking, the NOMIS records and what to change; where
    the records have to be looked up in NOMIS, the SQL comes with it. Sends nothing.
    """
    from jobs.operations.bulk import records_of_cause
    from jobs.operations.report_delivery import find_result
    from jobs.runtime.application import open_application
    from reports.presentation.support_request import request_csv, request_rows, request_text

    if as_csv and as_json:
        raise UsageError("give either --csv or --json")
    with open_application() as application:
        result = find_result(application, run_id)
    rows = request_rows(records_of_cause(result, cause))
    if not rows:
        among = "" if cause is None else f" of the cause {cause!r}"
        raise UsageError(f"run {result.run_id} has no difference{among} that NOMIS support has to fix")
    if as_json:
        print_json(rows)
        return
    for line in (request_csv(rows) if as_csv else request_text(result, rows)).splitlines():
        say(line)
