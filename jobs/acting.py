"""Acting on the outside world: who does it, whether they mean it, and that it is recorded."""

import getpass
import sys
from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import typer

from jobs.endings import UsageError, WorkError

if TYPE_CHECKING:
    from sync.settings import Settings
    from sync.store.actions import Acting
    from sync.store.database import Database

YES_HELP = "Do it without asking."
DRY_RUN_HELP = "Say what would be done, and change nothing."
AS_HELP = "Who you are, for the record; OPERATOR where not given, else your login name."
#: The account that the image runs as: everybody who works in a pod has it, so it names nobody.
SERVICE_ACCOUNT = "appuser"
_LONGEST_NAME = 100
_NO_ANSWER = "no answer to the question: add --yes, or --dry-run to see what would be done"


def who_acts(settings: "Settings", named: str | None, *, dry_run: bool = False) -> str:
    """The name of the person that runs the command: as `named`, else OPERATOR, else the login name.

    Raises `UsageError` where none of them names a person, save for a dry run, of which nothing is recorded.
    """
    account = _account()
    for name in (named, settings.operator, account):
        person = " ".join((name or "").split())[:_LONGEST_NAME]
        if person and person != SERVICE_ACCOUNT:
            return person
    if dry_run:
        return account
    raise UsageError(
        f"say who you are, which is recorded: --as NAME, or OPERATOR=NAME ({account or 'this account'} names nobody)"
    )


def agreed(question: str, *, yes: bool, dry_run: bool) -> bool:
    """Whether to go on: asks unless `yes`; False for a dry run, which is said. A person's no ends the command.

    Raises `UsageError` where nobody can answer.
    """
    if dry_run:
        typer.echo("dry run: nothing was changed")
        return False
    if not yes:
        _ask(question, err=False)
    return True


def agreed_if_asked(question: str, *, yes: bool) -> None:
    """Asks where somebody can answer, unless `yes`: without a terminal the command goes on. A no ends the command."""
    if not yes and sys.stdin is not None and sys.stdin.isatty():
        # The answer on stdout is for whoever reads it.
        _ask(question, err=True)


def _ask(question: str, *, err: bool) -> None:
    if sys.stdin is None:
        raise UsageError(_NO_ANSWER)
    try:
        typer.confirm(question, abort=True, err=err)
    except typer.Abort as stopped:
        # A no, Ctrl+C and the end of the input all come as this one.
        if not isinstance(stopped.__context__, EOFError):
            raise
        typer.echo(err=err)  # ends the line of the question
        raise UsageError(_NO_ANSWER) from None


def acting(
    database: "Database", who: str, action: str, target: str, details: Mapping[str, Any] | None = None
) -> "AbstractContextManager[Acting]":
    """Records the action that the block does, well or not, with the reason of a failure."""
    from sync.failures import SyncError
    from sync.store.actions import recorded

    return recorded(database, who, action, target, details, told=(SyncError, WorkError))


def _account() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):
        # A container may run under a number that has no name.
        return ""
