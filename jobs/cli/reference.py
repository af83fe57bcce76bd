"""The reference pages for settings and commands, and the generated tables of the runbook, made from the code.

`python -m jobs.cli.reference --write` writes them below `doc/`; `--check` exits 1 if a page is out of date. Each
generated table of the runbook stands between the lines `<!-- made by make docs: NAME -->` and `<!-- end -->`.
"""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer.main

from jobs.cli.app import PROGRAM, app
from jobs.cli.output import duration_text
from jobs.operations.schedule import SCHEDULE
from reports.engine.exclusions import exclusions_variable
from reports.reconciliations.registry import RECONCILIATIONS, Entry
from sync.domains.registry import DOMAINS
from sync.repair.dead_letter_report import NO_FAILURE_HINT, UNFINISHED_HINT, FailureClass
from sync.repair.hints import ADVICE, ROUTING
from sync.settings.declaration import variables
from sync.settings.queues import QUEUE_VARIABLES, QUEUES
from sync.settings.variables import feature_variable

DOCUMENTS = Path("doc")
_RUNBOOK = "runbook.md"
_WIDTH = 100
_SETTINGS_HEAD = """\
# Settings

The settings are environment variables. An empty variable counts as unset. If a value is wrong, every command exits 2
and prints, for each wrong value, a line that says what to change. `prisoner-to-nomis check` tests the settings.
`make docs` generates this page from the code.

| variable | default | meaning |
| --- | --- | --- |
"""
_QUEUES_HEAD = """
## For each queue

`<QUEUE>` is one of {queues}.

| variable | default | meaning |
| --- | --- | --- |
"""
_RECONCILIATIONS_HEAD = """
## For each reconciliation

The exclusions list the records with a known difference. Their setting contains the name of a CSV file with the columns
`key,reason,date`, or the lines of such a file, separated by `;`. A key consists of the values that identify a record,
joined by `/`, or of one of these values with its name, such as `bookingId=1204417`.

| variable | default | meaning |
| --- | --- | --- |
"""
_LIBRARIES_HEAD = """
## Read by the libraries

These variables are not settings of the program. The libraries that call AWS, Slack and PostgreSQL read them from the
environment, as their documentation describes.

| variable | default | meaning |
| --- | --- | --- |
"""
_LIBRARY_ROWS = (
    (
        "AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN",
        "",
        "provider `aws`: the keys of the process; only the keys of a queue take precedence over them",
    ),
    (
        "AWS_ROLE_ARN, AWS_WEB_IDENTITY_TOKEN_FILE, AWS_ROLE_SESSION_NAME",
        "",
        "provider `aws`: the web identity, which Kubernetes sets",
    ),
    (
        "AWS_PROFILE, AWS_CONFIG_FILE, AWS_SHARED_CREDENTIALS_FILE",
        "",
        "provider `aws`: a profile of the AWS configuration; ignored with `localstack`",
    ),
    (
        "AWS_ENDPOINT_URL, AWS_ENDPOINT_URL_SQS",
        "",
        "provider `aws`: other addresses for AWS, such as VPC endpoints; ignored with `localstack`",
    ),
    ("AWS_CA_BUNDLE", "", "certificate authorities for AWS, with either provider"),
    (
        "AWS_EC2_METADATA_DISABLED",
        "`false`",
        "provider `aws`: with `true`, keys are not read from the instance metadata",
    ),
    (
        "HTTP_PROXY, HTTPS_PROXY, NO_PROXY",
        "",
        "proxies for Slack, and for AWS with provider `aws`; no HMPPS service is called through a proxy",
    ),
    (
        "PGSSLMODE, PGSSLROOTCERT, PGPASSFILE, PGAPPNAME",
        "",
        "the variables of libpq, used if `DATABASE_URL` is a PostgreSQL address without the same parameters",
    ),
)
_FEATURES_HEAD = """
## For each event type

If one of these variables is `false`, events of its type are acknowledged but not handled, so NOMIS never gets the
changes that they announce.

| variable | default | event type |
| --- | --- | --- |
"""
_COMMANDS_HEAD = """\
# Commands

Every command exits 0 on success, 1 if the work itself failed, and 2 on bad usage or bad settings. An error is one
line on stderr, or one line for each wrong setting. Commands that change an external system ask for confirmation, take
`--dry-run` and `--yes`, and are recorded with the operator and the time. Without a terminal to ask on, they do nothing
and exit 2 unless `--yes` or `--dry-run` is given. `dlq retry` and `dlq retry-all` ask for confirmation only on a
terminal, and proceed without one.

`make docs` generates this page from the code.
"""
_SCHEDULE_HEAD = """
## Scheduled jobs

If the switch of a job is on, the scheduler runs the job. Otherwise, a CronJob runs the command of the job. A missed run
still begins if no more than the time in the last column has passed since it was due.

| job | command | schedule | switch | still begins within |
| --- | --- | --- | --- | --- |
"""


def settings_page() -> str:
    """Every setting, with its default and meaning, as Markdown."""
    rows = "".join(_row(each.name, each.default, each.meaning) for each in variables())
    queues = ", ".join(f"`{queue.upper()}`" for queue in QUEUES)
    per_queue = "".join(_row(each.name, each.default, each.meaning) for each in QUEUE_VARIABLES)
    switches = [
        _row(feature_variable(event_type), "`true`", f"`{event_type}`")
        for domain in DOMAINS.values()
        for event_type in domain.handlers
    ]
    own = [each for entry in RECONCILIATIONS.values() if entry.name != "incentives" for each in _settings_of(entry)]
    delete_all = _row("FEATURE_EVENT_DELETEALL", "`false`", "none: allows `delete-all`, in development only")
    return (
        _SETTINGS_HEAD
        + rows
        + _QUEUES_HEAD.format(queues=queues)
        + per_queue
        + (_RECONCILIATIONS_HEAD + "".join(own) if own else "")
        + _LIBRARIES_HEAD
        + "".join(_row(*row) for row in _LIBRARY_ROWS)
        + _FEATURES_HEAD
        + "".join(switches)
        + delete_all
    )


def _settings_of(entry: Entry) -> tuple[str, ...]:
    """The table rows for the settings of one reconciliation. The first table has those of `incentives`."""
    title = entry.title.lower()
    return (
        _row(
            entry.schedule_setting,
            f"`{entry.cron}`",
            f"cron expression for the reconciliation of {title}, in `TZ`",
        ),
        _row(
            entry.switch_setting,
            "`SCHEDULER_RECONCILIATION`",
            f"whether the scheduler reconciles {title} (false: a CronJob does)",
        ),
        _row(exclusions_variable(entry.name), "", f"exclusions for the reconciliation of {title}"),
    )


def commands_page() -> str:
    """The scheduled jobs, and every command with its help, as Markdown."""
    sections = [f"\n## {' '.join(path)}\n\n```\n{_help(command, path)}\n```\n" for path, command in _commands()]
    return _COMMANDS_HEAD + _schedule() + "".join(sections)


def _schedule() -> str:
    rows = (
        f"| {job.name} | `{' '.join(job.command)}` | `{job.setting}` | `{job.switch}` "
        f"| {duration_text(job.catch_up.total_seconds())} |\n"
        for job in SCHEDULE
    )
    return _SCHEDULE_HEAD + "".join(rows)


def pages() -> dict[str, str]:
    """The generated pages, and the runbook with its generated tables, by file name."""
    runbook = _with_tables((DOCUMENTS / _RUNBOOK).read_text(encoding="utf-8"))
    return {"settings.md": settings_page(), "commands.md": commands_page(), _RUNBOOK: runbook}


def _tables() -> dict[str, str]:
    """The generated tables of the runbook, each by the name in the line above it."""
    classes = "".join(f"| `{each}` | {each.meaning} | {each.action} |\n" for each in FailureClass)
    failures = [(each.when, each.text) for each in (ROUTING, *ADVICE)]
    rows = [
        ("any error, or none, if NOMIS may have the record without a mapping", UNFINISHED_HINT),
        *failures,
        ("none was recorded", NO_FAILURE_HINT),
    ]
    advice = "".join(f"| {when} | {text} |\n" for when, text in rows)
    return {
        "dead letter classes": f"| class | what it means | what to do |\n| --- | --- | --- |\n{classes}",
        "dead letter advice": f"| the last error | the advice |\n| --- | --- |\n{advice}",
    }


def _with_tables(page: str) -> str:
    """The page with its current tables. Raises `ValueError` if the page has no place for a table."""
    for name, table in _tables().items():
        begin = f"<!-- made by make docs: {name} -->\n"
        before, found, rest = page.partition(begin)
        _, ended, after = rest.partition("<!-- end -->")
        if not (found and ended):
            raise ValueError(f"the page has no place for the table of {name}")
        page = f"{before}{begin}{table}{ended}{after}"
    return page


def _row(name: str, default: str, meaning: str) -> str:
    names = ", ".join(f"`{each}`" for each in name.split(", "))
    cell = meaning.replace("|", r"\|")
    return f"| {names} | {default} | {cell} |\n"


def _commands() -> Iterator[tuple[tuple[str, ...], Any]]:
    yield from _below(typer.main.get_command(app), (PROGRAM,))


def _below(group: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from _below(command, (*path, name))
        else:
            yield (*path, name), command


def _help(command: Any, path: tuple[str, ...]) -> str:
    context = command.context_class(
        command, info_name=" ".join(path), terminal_width=_WIDTH, max_content_width=_WIDTH, help_option_names=["--help"]
    )
    return "\n".join(line.rstrip() for line in command.get_help(context).strip().splitlines())


def main(arguments: list[str] | None = None) -> int:
    """Writes the pages, or checks them. Returns 1 if a page is out of date."""
    parser = argparse.ArgumentParser(description="Write or check the reference pages.")
    group = parser.add_mutually_exclusive_group(required=True)
    group.add_argument("--write", action="store_true", help="write the pages")
    group.add_argument("--check", action="store_true", help="exit 1 unless the pages are up to date")
    chosen = parser.parse_args(arguments)
    stale = []
    for name, text in pages().items():
        file = DOCUMENTS / name
        if chosen.write:
            file.write_text(text, encoding="utf-8")
        elif not file.exists() or file.read_text(encoding="utf-8") != text:
            stale.append(str(file))
    if stale:
        sys.stderr.write(f"{', '.join(stale)}: out of date; run `make docs`\n")
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
