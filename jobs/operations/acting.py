"""Acting on the outside world: who does it, whether they mean it, and that it is recorded."""

import getpass
import secrets
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import typer

from jobs.cli.exit_codes import OutcomeUnknown, UsageError, WorkError, one_line
from jobs.cli.output import plain, say
from jobs.runtime.signals import breaking_off

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from jobs.runtime.application import Application
    from sync.settings.declaration import Settings
    from sync.store.actions import ActionState

YES_HELP = "Do it without asking."
UNCHECKED_HELP = "You looked in NOMIS yourself: go on although nothing here can check it."
DRY_RUN_HELP = "Say what would be done, and change nothing."
AS_HELP = "Who you are, for the record; OPERATOR where not given, else your login name."
#: The account that the image runs as: everybody who works in a pod has it, so it names nobody.
SERVICE_ACCOUNT = "appuser"
_LONGEST_NAME = 100
_NO_ANSWER = "no answer to the question: add --yes, or --dry-run to see what would be done"


def operator_name(settings: "Settings", named: str | None) -> str:
    """The name of the person that runs the command: as `named`, else OPERATOR, else the login name.

    Raises `UsageError` where none of them names a person.
    """
    person = find_operator_name(settings, named)
    if person is None:
        account = _account() or "this account"
        raise UsageError(f"say who you are, which is recorded: --as NAME, or OPERATOR=NAME ({account} names nobody)")
    return person


def find_operator_name(settings: "Settings", named: str | None) -> str | None:
    """The same; None where a scheduled job runs the command, and no person."""
    for name in (named, settings.operator, _account()):
        person = " ".join((name or "").split())[:_LONGEST_NAME]
        if person and person != SERVICE_ACCOUNT:
            return person
    return None


def confirm(question: str, *, yes: bool, dry_run: bool) -> bool:
    """Whether to go on: asks unless `yes`; False for a dry run, which is said. A person's no ends the command.

    Raises `UsageError` where nobody can answer.
    """
    if dry_run:
        say("dry run: nothing was changed")
        return False
    if not yes:
        _ask(question, err=False)
    return True


def confirm_unchecked(question: str, unchecked: str, *, yes: bool, dry_run: bool, accepted: bool) -> bool:
    """Asks twice about what nobody checked, as the sentence `unchecked` says.

    With `yes` the option --unchecked (`accepted`) takes the place of the second question; raises `UsageError` without.
    """
    say(f"not checked: {unchecked}")
    if yes and not accepted:
        raise UsageError(f"{unchecked}; look there, then add --unchecked")
    if not confirm(question, yes=yes, dry_run=dry_run):
        return False
    if not accepted:
        _ask(f"{unchecked}. Go on all the same?", err=False)
    return True


def confirm_on_terminal(question: str, *, yes: bool) -> None:
    """Asks where somebody can answer, unless `yes`: without a terminal the command goes on. A no ends the command."""
    if not yes and sys.stdin is not None and sys.stdin.isatty():
        # The answer on stdout is for whoever reads it.
        _ask(question, err=True)


def _ask(question: str, *, err: bool) -> None:
    if sys.stdin is None:
        raise UsageError(_NO_ANSWER)
    try:
        typer.confirm(plain(question), abort=True, err=err)
    except typer.Abort as stopped:
        # A no, Ctrl+C and the end of the input all come as this one.
        if not isinstance(stopped.__context__, EOFError):
            raise
        say(err=err)  # ends the line of the question
        raise UsageError(_NO_ANSWER) from None


@dataclass(slots=True)
class OngoingAction:
    """An action under way: what is recorded of it when it ends well, and what is written in the same transaction."""

    outcome: str = "done"
    details: dict[str, Any] = field(default_factory=dict)
    also: list[Callable[["Connection"], object]] = field(default_factory=list)


@contextmanager
def recorded_action(
    application: "Application", who: str, action: str, target: str, details: Mapping[str, Any] | None = None
) -> Iterator[OngoingAction]:
    """Records the action that the block does: as started before the block, and how it ended after it.

    Nothing is sent when it cannot be recorded: the block does not begin then (`StoreUnavailable`). A signal breaks the
    block off, which is recorded as an unknown outcome. Raises the error of the block, and `WorkError` when it was
    broken off, or when its end could not be recorded.
    """
    from sync.store.actions import ActionState, finish_action, start_action
    from sync.store.database import StoreUnavailable

    ongoing = OngoingAction(details=dict(details or {}))
    lease = f"action:{secrets.token_hex(8)}"
    failed: BaseException | None = None
    state: ActionState = ActionState.DONE
    with application.leases.held(lease), breaking_off() as signals:
        with application.database.begin() as connection:
            number = start_action(connection, who, action, target, ongoing.details, lease)
        try:
            with signals.raised():
                yield ongoing
        except BaseException as error:
            failed = error
            state, ongoing.outcome = _ending(error)
        also = ongoing.also if failed is None else []
        try:
            with application.database.begin() as connection:
                for write in also:
                    write(connection)
                finish_action(connection, number, state, ongoing.outcome, ongoing.details)
        except StoreUnavailable as unavailable:
            raise WorkError(
                f"{action} {target}: {ongoing.outcome}; that could not be recorded, so `actions` shows it as "
                f"started: {one_line(unavailable)}"
            ) from failed
    if failed is None:
        return
    if not isinstance(failed, Exception):
        raise WorkError(f"{action} {target}: {ongoing.outcome}; see `prisoner-to-nomis actions`") from failed
    raise failed


def _ending(error: BaseException) -> "tuple[ActionState, str]":
    """State and outcome of an action that `error` ended. Of unexpected errors only the kind: a text may hold anything.

    Whatever is not known to have had no effect counts as unknown.
    """
    from sync.failures import SyncError, UpstreamError
    from sync.queues.queue import QueueUnavailable
    from sync.store.actions import ActionState
    from sync.store.database import StoreUnavailable

    if not isinstance(error, Exception):
        return ActionState.UNKNOWN, "unknown: stopped in the middle, so it may have been done"
    if isinstance(error, UsageError):
        return ActionState.REFUSED, f"refused: {one_line(error)}"
    if isinstance(error, OutcomeUnknown):
        return ActionState.UNKNOWN, f"unknown: {one_line(error)}"
    if isinstance(error, UpstreamError) and error.outcome_unknown:
        return ActionState.UNKNOWN, f"unknown: no certain answer, so it may have been done: {one_line(error)}"
    if isinstance(error, UpstreamError) and error.status is not None and error.method != "GET":
        return ActionState.REFUSED, f"refused: {one_line(error)}"
    if isinstance(error, QueueUnavailable | StoreUnavailable):
        return ActionState.UNKNOWN, f"unknown: broke off, so part of it may have been done: {one_line(error)}"
    if isinstance(error, SyncError | WorkError):
        return ActionState.FAILED, f"failed: {one_line(error)}"
    return ActionState.UNKNOWN, f"unknown: {type(error).__name__}"


def _account() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):
        # A container may run under a number that has no name.
        return ""
