"""Options and arguments that several commands share, and the parsers for the texts that people type."""

import re
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Annotated
from zoneinfo import ZoneInfo

import typer

from jobs.cli.completion import complete_queues, complete_reconciled
from jobs.errors import UsageError
from sync import clock
from sync.settings.queues import QUEUES

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what the command would do, and change nothing.")]
Yes = Annotated[bool, typer.Option("--yes", help="Proceed without asking.")]
Unchecked = Annotated[
    bool,
    typer.Option(
        "--unchecked", help="Continue although the program cannot check NOMIS, because you have checked it yourself."
    ),
]
Operator = Annotated[
    str | None,
    typer.Option(
        "--as",
        metavar="NAME",
        help="Your name, which is recorded. Defaults to the setting OPERATOR, or else to your login name.",
    ),
]
Queue = Annotated[
    str, typer.Argument(metavar="QUEUE", help=f"One of {', '.join(QUEUES)}.", autocompletion=complete_queues)
]
Queues = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[QUEUE]...",
        help=f"{', '.join(QUEUES)}; all queues if you name none.",
        autocompletion=complete_queues,
    ),
]
ReconciliationId = Annotated[
    str,
    typer.Argument(
        metavar="RUN_ID",
        help="The id of a reconciliation run, as `runs list` shows it.",
        autocompletion=complete_reconciled,
    ),
]
OffenderNo = Annotated[str, typer.Argument(metavar="OFFENDER_NO", help="The prisoner number, such as A1234BC.")]

_OFFENDER_NO = re.compile(r"[A-Z]\d{4}[A-Z]{2}")
_PRISON_ID = re.compile(r"[A-Z]{3}")
_AGE = re.compile(r"(\d+)\s*(s|m|h|d|w)")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def parse_offender_no(text: str) -> str:
    """Parses a prisoner number such as A1234BC. Raises `UsageError` for any other text."""
    number = text.strip().upper()
    if not _OFFENDER_NO.fullmatch(number):
        raise UsageError(f"{text!r} is not a valid prisoner number: give one such as A1234BC")
    return number


def parse_prison_id(text: str) -> str:
    """Parses a prison id such as MDI. Raises `UsageError` for any other text."""
    prison = text.strip().upper()
    if not _PRISON_ID.fullmatch(prison):
        raise UsageError(f"{text!r} is not a valid prison id: give three letters such as MDI")
    return prison


def parse_queue(name: str) -> str:
    """Parses the id of a queue. Raises `UsageError` for any other text."""
    return parse_queues([name])[0]


def parse_queues(names: Sequence[str]) -> tuple[str, ...]:
    """The queues in `names`, each once and in the order of `QUEUES`, or all queues if there are no names.

    Raises `UsageError` for an unknown name.
    """
    unknown = [name for name in names if name not in QUEUES]
    if unknown:
        raise UsageError(f"there is no queue {', '.join(unknown)}; QUEUE is one of {', '.join(QUEUES)}")
    return tuple(name for name in QUEUES if not names or name in names)


def parse_time(text: str, zone: ZoneInfo) -> datetime:
    """Parses a date or date-time (in `zone` if it has no offset), or an age such as `30m`, `2h` or `7d`.

    Returns a time with an offset. Raises `UsageError` for anything else.
    """
    age = _AGE.fullmatch(text.strip().lower())
    try:
        if age:
            return clock.now() - timedelta(**{_UNITS[age[2]]: int(age[1])})
        moment = datetime.fromisoformat(text.strip())
    except (ValueError, OverflowError) as error:
        raise UsageError(
            f"{text!r} is not a valid time: give a date-time such as 2023-05-22T04:00, or an age such as 30m, 2h or 7d"
        ) from error
    return moment if moment.tzinfo else moment.replace(tzinfo=zone)
