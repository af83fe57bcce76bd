"""Handles the tasks of one message group in order, and decides what the failure of a task means for those behind it.

A thread handles a group for one turn and returns a `GroupResult`: the tasks that ended, and those that remain.
"""

import math
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from enum import Enum, auto

import structlog

from sync.creation.creation import Creation
from sync.creation.protocol import CreateUnderWay
from sync.errors import BreakerOpen, Failure, LeaseBusy, MalformedMessage, SyncError, UpstreamError, describe_failure
from sync.events.context import Outcome
from sync.pipeline.coalesce import MessageGroup, Task
from sync.pipeline.early_events import CreationAwaited, seconds_until_old_enough
from sync.pipeline.handle import handle, start_context
from sync.pipeline.outages import is_outage
from sync.pipeline.queue_context import DrainControl, QueueContext
from sync.pipeline.task_end import TaskEnd
from sync.queues.requeue import WaitsFor
from sync.settings import times
from sync.store.database import StoreUnavailable
from sync.tracing import traced


class Missing(Enum):
    """What a parked group waits for in the batch, while its messages are kept hidden.

    `WaitsFor` is the counterpart for a message that waits on the queue.
    """

    SERVICE = auto()
    DATABASE = auto()
    #: The lease of the group's record, which another thread or process holds.
    LEASE = auto()
    #: The age of its first event, which is so recent that the publisher may not have committed the change.
    AGE = auto()


@dataclass(frozen=True, slots=True, eq=False)
class Parked:
    """A group that cannot be handled now. `retry_at`: when to try it again, on the monotonic clock."""

    group: MessageGroup
    missing: Missing
    retry_at: float


@dataclass(frozen=True, slots=True)
class GroupResult:
    """The tasks that ended in a turn. The other tasks can be handled at once (`rest`) or have to wait (`parked`)."""

    ended: tuple[TaskEnd, ...] = ()
    rest: MessageGroup | None = None
    parked: Parked | None = None


class GroupRunner:
    """Handles the groups of one queue. It is safe to share between threads if each thread has its own group."""

    def __init__(self, queue_context: QueueContext, control: DrainControl) -> None:
        self._queue_context = queue_context
        self._control = control
        self._log = structlog.get_logger("sync.pipeline.group_runner")

    def run(self, group: MessageGroup) -> GroupResult:
        """Handles a group until all its tasks have ended, it has to wait, or its turn is over. Never raises."""
        try:
            # The age of the event is checked before the lease is taken, since the check costs nothing.
            if (young := self._park_if_young(group)) is not None:
                return young
            with nullcontext() if group.key is None else self._queue_context.entity_held(group.key):
                return self._run(group)
        except LeaseBusy as error:
            return self._wait_for_lease(group, error)
        except StoreUnavailable as error:
            return self._wait_for_database(group, error)
        except BaseException as error:  # whatever the error is, every task must end
            self._log.exception("group-failed", queue=self._queue_context.queue)
            failure = describe_failure(error)
            return GroupResult(tuple(TaskEnd(task, Outcome.FAILED, failure) for task in group.tasks))

    def _run(self, group: MessageGroup) -> GroupResult:
        ended: tuple[TaskEnd, ...] = ()
        turn_ends = time.monotonic() + times.GROUP_TURN_SECONDS
        while True:
            result = self._run_first(group)
            ended += result.ended
            if result.rest is None or self._control.stopping or time.monotonic() >= turn_ends:
                return replace(result, ended=ended)
            group = result.rest

    def _run_first(self, group: MessageGroup) -> GroupResult:
        """Handles the first task of a group."""
        queue_context, task = self._queue_context, group.tasks[0]
        breakers, upstreams = queue_context.breakers, queue_context.upstreams
        if task.handler is not None and breakers.open_services(upstreams):
            return _park(group, Missing.SERVICE, 0)
        if task.handler is not None and breakers.tried_elsewhere(upstreams):
            # The task is not started, since each attempt would repeat everything before the call to the unavailable
            # service.
            return _park(group, Missing.SERVICE, times.UPSTREAM_POLL_SECONDS)
        if (young := self._park_if_young(group)) is not None:
            return young
        context = start_context(queue_context, task.properties)
        try:
            with breakers.working_on(task.entity or task.message.message_id), traced(task.trace):
                outcome = handle(queue_context, task, context)
        except LeaseBusy as error:
            return self._wait_for_lease(group, error)
        except StoreUnavailable as error:
            return self._wait_for_database(group, error)
        except BreakerOpen:
            # The service was not called, so the task need not go back to the queue.
            return _park(group, Missing.SERVICE, times.UPSTREAM_POLL_SECONDS)
        except MalformedMessage as error:
            failure = describe_failure(error, context.current_step)
            return _end_first(group, TaskEnd(task, Outcome.UNREADABLE, failure))
        except CreationAwaited as error:
            # The whole group needs the record, and its creation may be on the queue too.
            missing = describe_failure(error.missing, context.current_step)
            return GroupResult(_wait_on_queue(group.tasks, WaitsFor.CREATION, missing))
        except Exception as error:  # whatever the error is, only this message fails
            return self._fail(group, error, context.current_step)
        return _end_first(group, TaskEnd(task, outcome))

    def _park_if_young(self, group: MessageGroup) -> GroupResult | None:
        """Parks a group if its first event is so recent that the publisher may not have committed the change yet.

        Returns None if the group does not have to be parked.
        """
        task, minimum = group.tasks[0], self._queue_context.settings.event_minimum_age_seconds
        if task.handler is None:
            return None
        seconds = max(seconds_until_old_enough(message, minimum) for message in task.messages)
        return _park(group, Missing.AGE, seconds) if seconds > 0 else None

    def _fail(self, group: MessageGroup, error: Exception, step: str) -> GroupResult:
        """Decides what the failure of the first task means for that task and for the others in the group."""
        task, failure = group.tasks[0], describe_failure(error, step)
        if isinstance(error, SyncError):
            if is_outage(error, task.message, self._queue_context):
                # The task waits on the queue, so that it does not hold up messages that have not been tried yet.
                return GroupResult(_wait_on_queue(group.tasks, WaitsFor.SERVICE, failure))
        else:
            self._log.error(
                "handler-error", queue=self._queue_context.queue, event_type=task.event_type, exc_info=error
            )
        if isinstance(task.handler, Creation):
            # The next attempt first checks whether NOMIS has the record.
            return self._fail_creation(group, failure)
        return _end_first(
            group, TaskEnd(task, Outcome.FAILED, failure, least_seconds=self._seconds_of_unknown_outcome(error))
        )

    def _fail_creation(self, group: MessageGroup, failure: Failure) -> GroupResult:
        """Ends a failed creation. The tasks that depend on it wait on the queue for as long as it does.

        Updates need the record, so they always wait. Other creations in the group wait only if the failed one may still
        succeed: a creation that fails until a person acts must not hold them up.
        """
        first, *others = group.tasks
        wait = self._queue_context.seconds_after_failure(first.event_type, first.message)
        ended, rest = [TaskEnd(first, Outcome.FAILED, failure)], []
        for task in others:
            if isinstance(task.handler, Creation) and not failure.recoverable:
                rest.append(task)
            else:
                ended.append(TaskEnd(task, Outcome.DEFERRED, wait_seconds=wait, cause=failure))
        return GroupResult(tuple(ended), replace(group, tasks=tuple(rest)) if rest else None)

    def _seconds_of_unknown_outcome(self, error: Exception) -> int:
        """The number of whole seconds for which the failed request may still be under way; 0 if it cannot be.

        The next attempt is made after that time. If it were made earlier, the message would wait for a lease and be
        replaced by a copy, whose receive count does not include the failed attempt. A message that fails each time
        would then never become a dead letter.
        """
        if not isinstance(error, UpstreamError) or not error.under_way:
            return 0
        return math.ceil(self._queue_context.settings.longest_request_seconds)

    def _wait_for_lease(self, group: MessageGroup, error: LeaseBusy) -> GroupResult:
        """Parks a group whose lease is held elsewhere, or returns it to the queue if the wait would be too long."""
        moment = time.monotonic()
        since = moment if group.busy_since is None else group.busy_since
        left = times.LEASE_WAIT_SECONDS - (moment - since)
        if left > 0 and (error.free_in is None or error.free_in <= left):
            return _park(replace(group, busy_since=since), Missing.LEASE, times.LEASE_POLL_SECONDS)
        self._log.info("lease-busy", queue=self._queue_context.queue, key=error.key, tasks=len(group.tasks))
        seconds = None if error.free_in is None else math.ceil(error.free_in)
        if not isinstance(error, CreateUnderWay):
            return GroupResult(_wait_on_queue(group.tasks, WaitsFor.LEASE, wait_seconds=seconds))
        # The first message itself is delivered again, so that the receives in which it was tried add up. If a copy
        # replaced it each time, a creation that always fails would never end. At its last receive, a single copy allows
        # one more check in NOMIS.
        first, *others = group.tasks
        ended = TaskEnd(first, Outcome.DEFERRED, wait_seconds=seconds, failure_at_last_receive=describe_failure(error))
        return GroupResult((ended, *_wait_on_queue(others, WaitsFor.LEASE, wait_seconds=seconds)))

    def _wait_for_database(self, group: MessageGroup, error: StoreUnavailable) -> GroupResult:
        self._log.debug(
            "database-unavailable", queue=self._queue_context.queue, reason=str(error), messages=len(group.tasks)
        )
        return _park(group, Missing.DATABASE, times.DATABASE_POLL_SECONDS)


def _park(group: MessageGroup, missing: Missing, seconds: float) -> GroupResult:
    return GroupResult(parked=Parked(group, missing, time.monotonic() + seconds))


def _end_first(group: MessageGroup, end: TaskEnd) -> GroupResult:
    others = group.tasks[1:]
    return GroupResult((end,), MessageGroup(group.key, others) if others else None)


def _wait_on_queue(
    tasks: Sequence[Task], waits_for: WaitsFor, failure: Failure | None = None, wait_seconds: int | None = None
) -> tuple[TaskEnd, ...]:
    """A `TaskEnd` for each of `tasks`. They wait on the queue, for `wait_seconds` if that is set.

    failure: how the first task failed, or None if it did not fail.
    """
    return tuple(
        TaskEnd(task, Outcome.DEFERRED, None if number else failure, wait_seconds, waits_for, cause=failure)
        for number, task in enumerate(tasks)
    )
