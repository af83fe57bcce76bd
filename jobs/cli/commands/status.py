"""`status`: the whole system on one screen, and what needs a person."""

import textwrap
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Annotated

import typer

from jobs.cli.output import print_json, say
from jobs.errors import WORK_FAILED
from reports.presentation.text import count

if TYPE_CHECKING:
    from jobs.operations.status import StatusReport
    from jobs.operations.status_lines import Need, StatusLine

_WIDTH = 80
#: What marks a line that needs a person.
_MARK = "!"
_INDENT = "    "
_CLOSED = "closed"
#: The name of the line for creations with an unknown outcome, each of which also has a finding.
_AMBIGUOUS = "ambiguous"
_ONLY_AMBIGUOUS = "only those about ambiguous creations are open"


def status(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of the screen.")] = False,
) -> None:
    """Shows the state of everything, on one screen.

    It shows queues and dead letters, schedulers, the latest runs of each reconciliation, breakers, what messages wait
    for, open findings, creations that are not settled, and deliveries that have not been sent. A line about something
    that needs a person begins with `!`, and the command to type follows below it. A part that cannot be read is shown
    as unknown, and needs a person too. If the database does not exist yet or cannot be read, one line says so instead
    of the parts that are in it. The command exits 1 if a person is needed, and 0 otherwise. It only reads, and changes
    nothing.
    """
    from jobs.health.check import advice_to_begin
    from jobs.operations.status import read_status
    from jobs.runtime.application import open_application

    with open_application(prepare_database=False) as application:
        found = read_status(application)
        advice = advice_to_begin(application.settings)
    if as_json:
        print_json(found.as_dict())
    else:
        for line in _screen(found, f"{found.at.astimezone(found.zone):%d %b %Y %H:%M}"):
            say(line)
        if advice is not None:
            say(f"prisoner-to-nomis: {advice}", err=True)
    if found.needs:
        raise typer.Exit(WORK_FAILED)


def _screen(status: "StatusReport", at: str) -> list[str]:
    number = len(status.needs)
    verdict = f"{count(number, 'thing')} need{'s' if number == 1 else ''} a person" if number else "all is well"
    screen = [f"prisoner-to-nomis, {status.environment}, {at}: {verdict}"]
    short = False
    for section in _sections(status):
        lines = list(section)
        if not lines:
            continue
        # No empty line separates sections of one line each.
        if not (short and len(lines) == 1):
            screen.append("")
        screen += lines
        short = len(lines) == 1
    return screen


def _sections(status: "StatusReport") -> Iterable[Iterable[str]]:
    shown: set[Need] = set()
    table, parts = partial(_table, status, shown), status.parts
    yield from (
        chain(
            table(("QUEUE", "WAITING", "IN FLIGHT", "OLDEST", "DEAD", "OLDEST"), parts["queues"], _queue),
            _why_no_ages(status),
        ),
        _database(status, shown),
        table(("SCHEDULER", "UP FOR", "HEARTBEAT", "LAST BATCH"), parts["schedulers"], partial(_scheduler, status)),
        table(
            ("RECONCILIATION", "LAST COMPLETE", "DIFFERENCES", "NEW", "LAST RUN"),
            parts["reconciliations"],
            partial(_reconciliation, status),
        ),
        table(
            ("BREAKER", "STATE", "SINCE"),
            [each for each in parts["breakers"] if each.values.get("state") != _CLOSED],
            lambda each: (each.values["state"], _ago(status, each.values["openedAt"])),
            nothing="all closed",
        ),
    )
    yield table(
        ("WAITING FOR", "MESSAGES", "SINCE", "NEXT ATTEMPT"), parts["waits"], partial(_wait, status), nothing="nothing"
    )
    findings = _other_findings(status)
    hidden = len(findings) < len(parts["findings"])
    for heading, lines, names, nothing in (
        (
            "FINDING",
            findings,
            ("severity", "open"),
            _ONLY_AMBIGUOUS if hidden else "none is open",
        ),
        ("CREATION", parts["creations"], ("number",), "all are settled"),
    ):
        headings = (heading, *(name.upper() for name in names), "OLDEST")
        yield table(headings, lines, partial(_counts, status, names), nothing=nothing)
    yield table(
        ("DELIVERY", "STATE", "NUMBER", "OLDEST", "NEXT ATTEMPT"),
        parts["deliveries"],
        lambda each: (*_counts(status, ("state", "number"), each), _next_attempt(status, each)),
        nothing="all are sent",
    )


def _database(status: "StatusReport", shown: "set[Need]") -> Iterable[str]:
    """If the database cannot be read, says so once for all the parts that are unknown for that reason."""
    unread = (line for lines in status.parts.values() for line in lines if _is_in_unread_database(status, line))
    line = next(unread, None)
    if line is not None:
        yield f"{_MARK} DATABASE  cannot be read; what is not shown here is unknown"
        yield from _new_needs(shown, line)


def _is_in_unread_database(status: "StatusReport", line: "StatusLine") -> bool:
    return status.database_unknown is not None and line.unknown == status.database_unknown


def _other_findings(status: "StatusReport") -> "list[StatusLine]":
    """The findings to list. Those about ambiguous creations are left out if the status lists the creations anyway."""
    shown = {line.name for line in status.parts["creations"]}
    return [line for line in status.parts["findings"] if line.name != _AMBIGUOUS or _AMBIGUOUS not in shown]


def _why_no_ages(status: "StatusReport") -> Iterable[str]:
    if status.ages_unknown is not None and any(each.values.get("waiting") for each in status.parts["queues"]):
        yield from _wrapped(f"The age of waiting messages is unknown: {status.ages_unknown}", "  ")


def _queue(line: "StatusLine") -> tuple[str, ...]:
    from jobs.operations.status_lines import age_text

    values = line.values
    ages = [values["oldestSeconds"], values["oldestDeadSeconds"]]
    oldest, oldest_dead = ("-" if each is None else age_text(each) for each in ages)
    # A message that waits for its next attempt is a delayed copy.
    return str(values["waiting"] + values["delayed"]), str(values["inFlight"]), oldest, str(values["dead"]), oldest_dead


def _scheduler(status: "StatusReport", line: "StatusLine") -> tuple[str, ...]:
    values = line.values
    if "lastDrainAt" in values:
        return "-", "-", f"by drain, {_ago(status, values['lastDrainAt'])}"
    batch = values["lastBatch"]
    last = "none yet" if batch is None else f"{batch['received']} of {batch['queue']}, {_ago(status, batch['endedAt'])}"
    return _age(status, values["startedAt"]), _ago(status, values["heartbeatAt"]), last


def _reconciliation(status: "StatusReport", line: "StatusLine") -> tuple[str, ...]:
    values = line.values
    last = values["lastStatus"] or ("-" if values["scheduled"] else "not scheduled here")
    figures = ("-" if values[name] is None else f"{values[name]:,}" for name in ("differences", "new"))
    return _ago(status, values["completedAt"]), *figures, last


def _wait(status: "StatusReport", line: "StatusLine") -> tuple[str, ...]:
    return str(line.values["number"]), _ago(status, line.values["since"]), _next_attempt(status, line)


def _next_attempt(status: "StatusReport", line: "StatusLine") -> str:
    """The time of the next attempt, in the zone of the status; `due` if that time has come, `-` if none is planned."""
    if line.values["nextAttemptAt"] is None:
        return "-"
    next_at = datetime.fromisoformat(line.values["nextAttemptAt"])
    return f"{next_at.astimezone(status.zone):%H:%M:%S}" if next_at > status.at else "due"


def _counts(status: "StatusReport", names: tuple[str, ...], line: "StatusLine") -> tuple[str, ...]:
    return *(str(line.values[name]) for name in names), _ago(status, line.values["oldestAt"])


def _table(
    status: "StatusReport",
    shown: set["Need"],
    headings: Sequence[str],
    lines: "Sequence[StatusLine]",
    cells: "Callable[[StatusLine], tuple[str, ...]]",
    nothing: str = "",
) -> Iterable[str]:
    """Formats a part as aligned columns: each row with its mark, and below the row what a person has to do.

    The reason for a need that is already in `shown` is not repeated: if several lines have the same need, only the
    first gives the reason. A part that is unknown for a single reason is one line, or is left out if it is unknown
    because the database cannot be read. `nothing` is shown for a part without lines.
    """
    unknown = {line.unknown for line in lines}
    if not lines:
        yield f"  {headings[0]}  {nothing}"
    elif all(_is_in_unread_database(status, line) for line in lines):
        return
    elif len(unknown) == 1 and None not in unknown:
        yield f"{_MARK} {headings[0]}  unknown"
        yield from _new_needs(shown, lines[0])
    else:
        rows = [(line.name, *(cells(line) if line.unknown is None else ("unknown",))) for line in lines]
        for line, row in zip((None, *lines), _aligned([tuple(headings), *rows]), strict=True):
            yield f"{_MARK if line is not None and line.needs else ' '} {row}"
            if line is not None:
                yield from _dead_letters(status, line)
                yield from _new_needs(shown, line)


def _aligned(rows: Sequence[tuple[str, ...]]) -> Iterable[str]:
    """Aligns cells in columns: figures to the right, and texts to the left. The first row has the headings."""
    columns = range(len(rows[0]))
    widths = [max(len(row[column]) for row in rows if column < len(row)) for column in columns]
    figures = [
        all(row[column][:1].isdecimal() or row[column] == "-" for row in rows[1:] if column < len(row))
        for column in columns
    ]
    for row in rows:
        cells = zip(row, widths, figures, strict=False)
        yield "  ".join(cell.rjust(width) if right else cell.ljust(width) for cell, width, right in cells).rstrip()


def _dead_letters(status: "StatusReport", line: "StatusLine") -> Iterable[str]:
    """Says how many dead letters are in each class, and how many housekeeping gave up on or has just sent back."""
    values = line.values
    # Without the words "of class", only the name of this class would be misunderstood.
    parts = [
        f"{number} of class {name}" if name == "unknown" else f"{number} {name}"
        for name, number in values.get("classes", {}).items()
    ]
    if values.get("givenUp"):
        parts.append(f"{values['givenUp']} given up on")
    if sent_back := values.get("sentBack"):
        parts.append(f"{sent_back['messages']} sent back {_ago(status, sent_back['at'])} (may fail again)")
    if parts:
        yield from _wrapped(", ".join(parts), _INDENT)


def _new_needs(shown: set["Need"], line: "StatusLine") -> Iterable[str]:
    """Each need of a line as text: the reason, unless an earlier line has the same need, and the command to type."""
    for need in line.needs:
        text = f"{_INDENT}{need.reason}: {need.command}"
        if need not in shown and len(text) <= _WIDTH:
            yield text
        else:
            # A command stays on one line, so that it can be copied.
            yield from () if need in shown else _wrapped(f"{need.reason}:", _INDENT)
            yield f"{_INDENT}{need.command}"
        shown.add(need)


def _wrapped(text: str, indent: str) -> list[str]:
    return textwrap.wrap(text, _WIDTH, initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False)


def _ago(status: "StatusReport", moment: str | None) -> str:
    return "never" if moment is None else f"{_age(status, moment)} ago"


def _age(status: "StatusReport", moment: str) -> str:
    from jobs.operations.status_lines import age_text

    return age_text((status.at - datetime.fromisoformat(moment)).total_seconds())
