"""A lane in work: its tasks one after the other, and what a failure means for those that follow."""

import math
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import structlog

from sync.creation.creation import Creation
from sync.creation.protocol import GracePeriod
from sync.failures import BreakerOpen, Failure, LeaseBusy, MalformedMessage, SyncError, UpstreamError, describe_failure
from sync.pipeline.acknowledge import Ended
from sync.pipeline.awaited import CreationAwaited
from sync.pipeline.coalesce import Task
from sync.pipeline.event_age import seconds_until_old_enough
from sync.pipeline.handler import Workshop
from sync.pipeline.outcome import Outcome
from sync.queues.requeue import WaitsFor, seconds_waited
from sync.settings.declaration import Settings, UpstreamName
from sync.store.database import StoreUnavailable
from sync.store.leases import Leases
from sync.tracing import traced
from sync.upstream.breaker import Breakers

#: How long a message waits in hand for the lease of its entity, before it waits on the queue, and how often it asks.
LEASE_WAIT_SECONDS = 10.0
LEASE_RETRY_SECONDS = 1.0
#: How long a message waits at most for a service that is away, or fails what is tried: longer than outages last.
LONGEST_OUTAGE_SECONDS = 1_800.0
#: How long it waits at most for credentials to be put right, which takes a person.
LONGEST_REFUSED_SECONDS = 43_200.0
#: How often it is looked whether the database is there again.
_STORE_SECONDS = 1.0
#: How long a task that met an outage waits at least before it is tried again.
_OUTAGE_SECONDS = 0.25


@dataclass(slots=True, eq=False)
class LaneInHand:
    """A lane with the tasks that are left.

    `not_before`: the moment (monotonic) before which it is not tried again. `busy_since`: since when its lease is held
    elsewhere. `store_away`: it waits for the database. `young`: the event of its first task is too young to be read.
    """

    key: str | None
    tasks: deque[Task]
    not_before: float = 0.0
    busy_since: float | None = None
    store_away: bool = False
    young: bool = False


#: Told of the tasks of a lane that came to their end, and of those that are left; False when the lane was handed back
#: meanwhile, so that none of its tasks is ours any more.
End = Callable[[LaneInHand, Sequence[Ended], deque[Task]], bool]


class LaneWorker:
    """Works lanes of one queue. Safe to share between threads, each with a lane of its own."""

    def __init__(
        self,
        queue_name: str,
        settings: Settings,
        workshop: Workshop,
        leases: Leases,
        breakers: Breakers,
        upstreams: Sequence[UpstreamName],
        end: End,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._name = queue_name
        self._settings = settings
        self._workshop = workshop
        self._leases = leases
        self._breakers = breakers
        self._upstreams = tuple(upstreams)
        self._end = end
        self._monotonic = monotonic
        self._log = structlog.get_logger("sync.pipeline.groups")

    def run(self, lane: LaneInHand) -> None:
        """Works a lane as far as it goes now. What is left is held up: by a lease, an outage, or a very young event."""
        key = None if lane.key is None else f"{self._name}:{lane.key}"
        lane.store_away = False
        if self._is_young(lane):
            return
        try:
            if key is None:
                self._run(lane)
            else:
                with self._leases.held(key):
                    self._run(lane)
        except LeaseBusy as error:
            self._wait_for_lease(lane, error)
        except StoreUnavailable as error:
            self._wait_for_store(lane, error)
        except BaseException as error:  # whatever it is, no message is left without an end
            self._log.exception("lane-broke", queue=self._name)
            failure = describe_failure(error)
            self._end(lane, [Ended(task, Outcome.FAILED, failure) for task in lane.tasks], deque())

    def _run(self, lane: LaneInHand) -> None:
        while lane.tasks and self._run_task(lane):
            pass

    def _run_task(self, lane: LaneInHand) -> bool:
        """Works the first task of the lane; False when the lane is held up, or handed back."""
        task = lane.tasks[0]
        if task.handler is not None and self._breakers.open_services(self._upstreams):
            return False
        if self._is_young(lane):
            return False
        context = self._workshop.begin()
        try:
            with self._breakers.working_on(task.entity or task.message.message_id), traced(task.traceparent):
                outcome = self._workshop.work(task, context)
        except MalformedMessage as error:
            return self._end_first(lane, Ended(task, Outcome.UNREADABLE, describe_failure(error, context.current_step)))
        except (LeaseBusy, StoreUnavailable):
            raise
        except CreationAwaited as error:
            return self._await_creation(lane, error, context.current_step)
        except Exception as error:  # the message's failure alone, whatever it is
            return self._failed(lane, task, error, context.current_step)
        lane.busy_since = None
        return self._end_first(lane, Ended(task, outcome))

    def _is_young(self, lane: LaneInHand) -> bool:
        """Whether the lane waits since what its first task would read may not be committed by its publisher yet."""
        wait = 0.0
        if lane.tasks and lane.tasks[0].handler is not None:
            age = self._settings.event_minimum_age_seconds
            wait = max(seconds_until_old_enough(message, age) for message in lane.tasks[0].messages)
        lane.young = wait > 0
        if lane.young:
            lane.not_before = self._monotonic() + wait
        return lane.young

    def _end_first(self, lane: LaneInHand, ended: Ended) -> bool:
        return self._end(lane, [ended], deque(list(lane.tasks)[1:]) if len(lane.tasks) > 1 else deque())

    def _failed(self, lane: LaneInHand, task: Task, error: Exception, step: str) -> bool:
        if isinstance(error, BreakerOpen):
            # Nothing was tried: the task stays in hand until the service is up.
            lane.not_before = self._monotonic() + _OUTAGE_SECONDS
            return False
        failure = describe_failure(error, step)
        recoverable = isinstance(error, SyncError) and error.recoverable
        if recoverable and self._is_outage(task, error):
            # It costs delay only. On the queue, where it keeps nobody waiting who has not been tried yet.
            return self._end(lane, _waiting(lane.tasks, WaitsFor.SERVICE, failure), deque())
        if not isinstance(error, SyncError):
            self._log.error("handler-broke", queue=self._name, event_type=task.event_type, exc_info=error)
        if isinstance(task.handler, Creation):
            # The next attempt asks NOMIS first, which mostly has the record.
            deferred, left = self._followers(lane, task, recoverable=recoverable)
            return self._end(lane, [Ended(task, Outcome.FAILED, failure), *deferred], left)
        least = self._seconds_in_doubt(error)
        return self._end_first(lane, Ended(task, Outcome.FAILED, failure, least_seconds=least))

    def _is_outage(self, task: Task, error: Exception) -> bool:
        """Whether it is the service that failed, and not the record, as far as can be told."""
        if not isinstance(error, UpstreamError):
            return False
        waited = seconds_waited(task.message, WaitsFor.SERVICE)
        if error.credentials_refused:
            return waited < LONGEST_REFUSED_SECONDS
        doubted = error.unavailable or not self._breakers.all_up(self._upstreams)
        return doubted and waited < LONGEST_OUTAGE_SECONDS

    def _seconds_in_doubt(self, error: Exception) -> int:
        """For how long the next attempt of a change would only wait until this one is over, in whole seconds.

        It comes after that: a message that waits for a lease comes as a copy, and the copy does not know of the attempt
        that failed. One that fails so each time would go round for ever.
        """
        if not isinstance(error, UpstreamError) or not error.under_way:
            return 0
        return math.ceil(self._settings.longest_call_seconds + self._settings.creation_settling_seconds)

    def _followers(self, lane: LaneInHand, failed: Task, *, recoverable: bool) -> tuple[list[Ended], deque[Task]]:
        """After a creation that failed: what is handed back, for as long as the creation waits, and what is tried.

        Updates need the record, whatever the creation failed of. Other creations of the lane must come after it, but
        only if it has a chance: what needs a person must not keep them back.
        """
        waits = self._settings.event_visibility_timeouts(self._name, failed.event_type or "")
        wait = waits[min(failed.message.receive_count, len(waits)) - 1]
        deferred: list[Ended] = []
        left: deque[Task] = deque()
        for task in list(lane.tasks)[1:]:
            if recoverable or not isinstance(task.handler, Creation):
                deferred.append(Ended(task, Outcome.DEFERRED, wait_seconds=wait))
            else:
                left.append(task)
        return deferred, left

    def _await_creation(self, lane: LaneInHand, error: CreationAwaited, step: str) -> bool:
        """All of the lane needs the record, so all of it waits: on the queue, since its creation may be there too."""
        missing = describe_failure(error.missing, step)
        return self._end(lane, _waiting(lane.tasks, WaitsFor.CREATION, missing), deque())

    def _wait_for_lease(self, lane: LaneInHand, error: LeaseBusy) -> None:
        moment = self._monotonic()
        lane.busy_since = lane.busy_since if lane.busy_since is not None else moment
        lane.not_before = moment + LEASE_RETRY_SECONDS
        in_hand = LEASE_WAIT_SECONDS - (moment - lane.busy_since)
        if in_hand > 0 and (error.free_in is None or error.free_in <= in_hand):
            return
        # It may be long: neither its receives nor the others of its batch must be spent on that.
        self._log.info("lease-busy", queue=self._name, key=error.key, tasks=len(lane.tasks))
        seconds = None if error.free_in is None else math.ceil(error.free_in)
        if isinstance(error, GracePeriod):
            # It comes again itself, so that its receives count: a create that always fails so would go round for ever.
            first, *others = lane.tasks
            ended = [Ended(first, Outcome.DEFERRED, wait_seconds=seconds)]
            self._end(lane, ended + (_waiting(others, WaitsFor.LEASE, wait_seconds=seconds) if others else []), deque())
            return
        self._end(lane, _waiting(lane.tasks, WaitsFor.LEASE, wait_seconds=seconds), deque())

    def _wait_for_store(self, lane: LaneInHand, error: StoreUnavailable) -> None:
        """Without the database nothing is begun: the lane stays in hand until it is there again."""
        self._log.debug("database-unavailable", queue=self._name, reason=str(error), messages=len(lane.tasks))
        lane.store_away = True
        lane.not_before = self._monotonic() + _STORE_SECONDS


def _waiting(
    tasks: Iterable[Task], waits_for: WaitsFor, failure: Failure | None = None, wait_seconds: int | None = None
) -> list[Ended]:
    """All of them wait, so long where it is known; `failure` is that of the first."""
    first, *others = tasks
    return [
        Ended(first, Outcome.DEFERRED, failure, wait_seconds, waits_for),
        *(Ended(task, Outcome.DEFERRED, None, wait_seconds, waits_for) for task in others),
    ]
