"""Confirmation: who runs a command that changes something, and whether they mean it."""

import getpass
import sys
from typing import TYPE_CHECKING

import typer

from jobs.cli.output import say
from jobs.errors import UsageError
from reports.presentation.text import plain

if TYPE_CHECKING:
    from sync.settings.declaration import Settings

#: The account that the image runs as: everybody who works in a pod has this account, so it names nobody.
SERVICE_ACCOUNT = "appuser"
_LONGEST_NAME = 100
_NO_ANSWER = "no answer to the question: add {flags}"
_OR_DRY_RUN = ", or --dry-run to see what the command would do"


def operator_name(settings: "Settings", given: str | None) -> str:
    """The name of the person who runs the command: `given`, or else OPERATOR, or else the login name.

    Raises `UsageError` if none of them names a person.
    """
    person = find_operator_name(settings, given)
    if person is None:
        account = _account() or "this account"
        raise UsageError(f"give your name, which is recorded: --as NAME, or OPERATOR=NAME ({account} names nobody)")
    return person


def find_operator_name(settings: "Settings", given: str | None) -> str | None:
    """The name that `operator_name` would return, or None if no person is named, as in a scheduled job."""
    for name in (given, settings.operator, _account()):
        person = " ".join((name or "").split())[:_LONGEST_NAME]
        if person and person != SERVICE_ACCOUNT:
            return person
    return None


def confirm(question: str, *, yes: bool, dry_run: bool | None) -> bool:
    """Asks whether to proceed, unless `yes` is set, and returns True. Declining ends the command.

    For a dry run, it says that nothing was changed, and returns False. `dry_run` is None if the command has no dry run.
    Raises `UsageError` if there is no terminal to ask on.
    """
    if dry_run:
        say("dry run: nothing was changed")
        return False
    if not yes:
        _ask(question, err=False, flags="--yes", has_dry_run=dry_run is not None)
    return True


def confirm_unchecked(question: str, unchecked: str, *, yes: bool, dry_run: bool, accepted: bool) -> bool:
    """Asks twice about a change that the program could not check, as the sentence `unchecked` explains.

    With `yes`, the first question is not asked; with `accepted` (the option --unchecked), the second is not. Returns
    False for a dry run, and True otherwise. Declining ends the command. Raises `UsageError` for `yes` without
    `accepted`, or if there is no terminal to ask on.
    """
    say(f"not checked: {unchecked}")
    if yes and not accepted:
        raise UsageError(f"{unchecked}; check NOMIS, then add --unchecked")
    if dry_run:
        return confirm(question, yes=yes, dry_run=True)
    if not yes:
        _ask(question, err=False, flags="--yes --unchecked")
    if not accepted:
        _ask(f"{unchecked}. Proceed anyway?", err=False, flags="--yes --unchecked")
    return True


def confirm_on_terminal(question: str, *, yes: bool) -> None:
    """On a terminal, asks whether to proceed, unless `yes` is set. Declining ends the command.

    Without a terminal, the command proceeds.
    """
    if not yes and sys.stdin is not None and sys.stdin.isatty():
        # Stdout is for the result, which a program may read.
        _ask(question, err=True, flags="--yes")


def _ask(question: str, *, err: bool, flags: str, has_dry_run: bool = True) -> None:
    """Asks `question`. If there is nobody to answer, raises a `UsageError` that proposes `flags`."""
    advice = _NO_ANSWER.format(flags=flags) + (_OR_DRY_RUN if has_dry_run else "")
    if sys.stdin is None:
        raise UsageError(advice)
    try:
        typer.confirm(plain(question), abort=True, err=err)
    except typer.Abort as stopped:
        # Typer raises this for a no, Ctrl+C and the end of the input alike.
        if not isinstance(stopped.__context__, EOFError):
            raise
        say(err=err)  # ends the line of the question
        raise UsageError(advice) from None


def _account() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):
        # A container may run under a user id that has no name.
        return ""
