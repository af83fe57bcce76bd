"""Records what operators do to other systems: each action before it begins, and again when it ends."""

import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from jobs.errors import OutcomeUnknown, UsageError, WorkError
from jobs.runtime.signals import interruptible
from sync.errors import SyncError, UpstreamError, one_line
from sync.queues.queue import QueueUnavailable
from sync.store.actions import ActionState, finish_action, start_action
from sync.store.database import StoreUnavailable

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from jobs.runtime.application import Application


@dataclass(slots=True)
class OngoingAction:
    """An action in progress.

    outcome, details: recorded when the action ends. If it fails, the outcome is taken from the error. also: functions
    to call in the transaction that records the end, but only if the action succeeds.
    """

    outcome: str = "done"
    details: dict[str, Any] = field(default_factory=dict)
    also: list[Callable[["Connection"], object]] = field(default_factory=list)


@contextmanager
def recorded_action(
    application: "Application", who: str, action: str, target: str, details: Mapping[str, Any] | None = None
) -> Iterator[OngoingAction]:
    """Records the action that the block carries out: first its start, then its outcome.

    who: the name of the operator. action: the command, such as `dlq retry`. target: the record or queue that it acts
    on. details: further facts to record.

    If the start cannot be recorded, `StoreUnavailable` is raised, the block does not begin, and nothing is sent. If a
    signal interrupts the block, the outcome is recorded as unknown. Raises the error of the block, or `WorkError` if
    the block was interrupted or its end could not be recorded.
    """
    ongoing = OngoingAction(details=dict(details or {}))
    lease = f"action:{secrets.token_hex(8)}"
    failed: BaseException | None = None
    state: ActionState = ActionState.DONE
    with application.leases.held(lease), interruptible() as interruption:
        with application.database.begin() as connection:
            number = start_action(connection, who, action, target, ongoing.details, lease)
        try:
            with interruption.allowed():
                yield ongoing
        except BaseException as error:
            failed = error
            state, ongoing.outcome = _outcome_of(error)
        also = ongoing.also if failed is None else []
        try:
            with application.database.begin() as connection:
                for write in also:
                    write(connection)
                finish_action(connection, number, state, ongoing.outcome, ongoing.details)
        except StoreUnavailable as unavailable:
            raise WorkError(
                f"{action} {target}: {ongoing.outcome}; the outcome could not be recorded, so `actions` shows the "
                f"action as started: {one_line(unavailable)}"
            ) from failed
    if failed is None:
        return
    if not isinstance(failed, Exception):
        raise WorkError(f"{action} {target}: {ongoing.outcome}; see `prisoner-to-nomis actions`") from failed
    raise failed


def _outcome_of(error: BaseException) -> tuple[ActionState, str]:
    """The state and the outcome of an action that `error` ended.

    If the action may have had an effect, its outcome is unknown. Only the type of an unexpected error is recorded,
    since its text may hold anything.
    """
    if not isinstance(error, Exception):
        return ActionState.UNKNOWN, "unknown: stopped midway, so it may have been done"
    if isinstance(error, UsageError):
        return ActionState.REFUSED, f"refused: {one_line(error)}"
    if isinstance(error, OutcomeUnknown):
        return ActionState.UNKNOWN, f"unknown: {one_line(error)}"
    if isinstance(error, UpstreamError) and error.outcome_unknown:
        return ActionState.UNKNOWN, f"unknown: no certain response, so it may have been done: {one_line(error)}"
    if isinstance(error, UpstreamError) and error.status is not None and error.method != "GET":
        return ActionState.REFUSED, f"refused: {one_line(error)}"
    if isinstance(error, QueueUnavailable | StoreUnavailable):
        return ActionState.UNKNOWN, f"unknown: interrupted, so part of it may have been done: {one_line(error)}"
    if isinstance(error, SyncError | WorkError):
        return ActionState.FAILED, f"failed: {one_line(error)}"
    return ActionState.UNKNOWN, f"unknown: {type(error).__name__}"
