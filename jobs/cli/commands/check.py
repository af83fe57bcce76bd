"""`check`: is everything there that the program needs?"""

from typing import Annotated

import typer

from jobs.cli.output import say

_BEGIN = (
    "prisoner-to-nomis: nothing is set up here: set the variables of doc/settings.md, or try the embedded world: "
    "prisoner-to-nomis demo, python -m sandbox"
)


def check(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of lines.")] = False,
) -> None:
    """Checks whether everything that the program needs is there.

    Settings, database, queues, dead letter queues, every upstream service, the credentials for it, breakers, the list
    of exclusions, the place of the reports, Slack and email. One line each: `ok`, or `DOWN` and what to change; what is
    switched off is `ok` and says `off`. Exits 1 if anything is down, 2 if a setting cannot be read.
    """
    from jobs.cli.exit_codes import WORK_FAILED
    from jobs.cli.output import print_json
    from jobs.operations.check import check_everything, nothing_is_set_up
    from jobs.runtime.application import open_application

    with open_application(prepare_database=False) as application:
        findings = check_everything(application)
        bare = nothing_is_set_up(application.settings)
    width = max(len(finding.name) for finding in findings)
    if as_json:
        print_json(
            {"ok": all(finding.ok for finding in findings), "checks": [finding.as_dict() for finding in findings]}
        )
    else:
        for finding in findings:
            say(f"{finding.name.ljust(width)}  {'ok' if finding.ok else 'DOWN'}  {finding.detail}".rstrip())
        if bare:
            say(_BEGIN, err=True)
    if not all(finding.ok for finding in findings):
        raise typer.Exit(WORK_FAILED)
