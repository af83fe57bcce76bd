"""A lane in work: its tasks one after the other, and what a failure means for those that follow."""

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import structlog

from sync.awaited import CreationAwaited, Pause
from sync.event_age import seconds_until_old_enough
from sync.failures import BreakerOpen, LeaseBusy, MessageUnreadable, SyncError, UpstreamError, describe_failure
from sync.gather import Task
from sync.handling import Creation
from sync.outcome import Outcome
from sync.settings import Settings, UpstreamName
from sync.settle import Ended
from sync.store.database import StoreUnavailable
from sync.store.leases import Leases
from sync.upstream.breaker import Breakers
from sync.work import Workshop

#: How long a message waits in hand for the lease of its entity before it is handed back, and then for how long.
LEASE_WAIT_SECONDS = 30.0
LEASE_RETRY_SECONDS = 1.0
HANDED_BACK_SECONDS = 2
#: How often a message may find its upstream failing again although the ping said it was up, before the message itself
#: is taken to be the cause.
REFUSALS = 3
#: What a service, or a gateway before it, answers that can take no call at present, whatever the call.
_AWAY_STATUSES = frozenset({429, 502, 503})
#: How long a message is held at most by a service that answers pings, and so to others: longer than outages last.
LONGEST_HOLD_SECONDS = 1_800.0
#: How often it is looked whether the database is there again.
_STORE_SECONDS = 1.0
#: How long a task that met an outage waits at least before it is tried again.
_OUTAGE_SECONDS = 0.25


@dataclass(slots=True, eq=False)
class LaneInHand:
    """A lane with the tasks that are left.

    `busy_since`: since when its lease is held elsewhere. `refusals`: how often its first task failed as an outage would
    make it fail, and `refused_since` when it first did. `store_away`: it waits for the database. `young`: the event of
    its first task is too young to be read.
    """

    key: str | None
    tasks: deque[Task]
    not_before: float = 0.0
    busy_since: float | None = None
    refusals: int = 0
    refused_since: float | None = None
    store_away: bool = False
    young: bool = False


#: Told of the tasks of a lane that came to their end, and of those that are left; False when the lane was handed back
#: meanwhile, so that none of its tasks is ours any more.
End = Callable[[LaneInHand, Sequence[Ended], deque[Task]], bool]


class LaneWorker:
    """Works lanes of one queue. Safe to share between threads, each with a lane of its own.

    `max_receives`: a message that was received so often and is handed back goes to the dead letter queue.
    """

    def __init__(
        self,
        queue_name: str,
        settings: Settings,
        workshop: Workshop,
        leases: Leases,
        breakers: Breakers,
        upstreams: Sequence[UpstreamName],
        end: End,
        max_receives: int,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._name = queue_name
        self._settings = settings
        self._workshop = workshop
        self._leases = leases
        self._breakers = breakers
        self._upstreams = tuple(upstreams)
        self._end = end
        self._max_receives = max_receives
        self._monotonic = monotonic
        self._log = structlog.get_logger("sync.lanes")

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
        work = self._workshop.begin()
        try:
            outcome = self._workshop.work(task, work)
        except MessageUnreadable as error:
            return self._end_first(lane, Ended(task, Outcome.UNREADABLE, describe_failure(error, work.trail.step)))
        except (LeaseBusy, StoreUnavailable):
            raise
        except CreationAwaited as error:
            return self._await_creation(lane, error, work.trail.step)
        except Exception as error:  # the message's failure alone, whatever it is
            return self._failed(lane, task, error, work.trail.step)
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
        lane.refusals, lane.refused_since = 0, None
        return self._end(lane, [ended], deque(list(lane.tasks)[1:]) if len(lane.tasks) > 1 else deque())

    def _failed(self, lane: LaneInHand, task: Task, error: Exception, step: str) -> bool:
        recoverable = isinstance(error, SyncError) and error.recoverable
        if recoverable and self._is_outage(lane, error):
            # An outage costs delay only: the task stays in hand and is tried again when the upstream is up.
            lane.not_before = self._monotonic() + _OUTAGE_SECONDS
            return False
        if not isinstance(error, SyncError):
            self._log.error("handler-broke", queue=self._name, event_type=task.event_type, exc_info=error)
        ended = Ended(task, Outcome.FAILED, describe_failure(error, step))
        if not isinstance(task.handler, Creation):
            return self._end_first(lane, ended)
        deferred, left = self._followers(lane, task, recoverable=recoverable)
        lane.refusals, lane.refused_since = 0, None
        return self._end(lane, [ended, *deferred], left)

    def _is_outage(self, lane: LaneInHand, error: Exception) -> bool:
        if isinstance(error, BreakerOpen):
            return True
        if not self._breakers.open_services(self._upstreams):
            return False
        moment = self._monotonic()
        lane.refused_since = lane.refused_since if lane.refused_since is not None else moment
        if _is_away(error):
            return moment - lane.refused_since < LONGEST_HOLD_SECONDS
        # A message that fails each time it tries a service whose ping says it is up may be the only one that does.
        lane.refusals += 1
        return lane.refusals < REFUSALS

    def _followers(self, lane: LaneInHand, failed: Task, *, recoverable: bool) -> tuple[list[Ended], deque[Task]]:
        """After a creation that failed: what is handed back, for as long as the creation waits, and what is tried.

        Updates need the record, whatever the creation failed of. Other creations of the lane must come after it, but
        only if it has a chance: what needs a person must not keep them back. What would go to the dead letter queue at
        its next receive is tried all the same, so that nothing ends there untried.
        """
        waits = self._settings.event_visibility_timeouts(self._name, failed.event_type or "")
        wait = waits[min(failed.message.receive_count, len(waits)) - 1]
        deferred: list[Ended] = []
        left: deque[Task] = deque()
        for task in list(lane.tasks)[1:]:
            follows = recoverable or not isinstance(task.handler, Creation)
            if follows and self._may_be_handed_back(task):
                deferred.append(Ended(task, Outcome.DEFERRED, wait_seconds=wait))
            else:
                left.append(task)
        return deferred, left

    def _await_creation(self, lane: LaneInHand, error: CreationAwaited, step: str) -> bool:
        """All of the lane needs the record, so all of it waits: on the queue, since its creation may be there too."""
        pause = Pause(error.pause_seconds, describe_failure(error.missing, step))
        return self._end(lane, [Ended(task, Outcome.DEFERRED, pause=pause) for task in lane.tasks], deque())

    def _wait_for_lease(self, lane: LaneInHand, error: LeaseBusy) -> None:
        moment = self._monotonic()
        lane.busy_since = lane.busy_since if lane.busy_since is not None else moment
        lane.not_before = moment + LEASE_RETRY_SECONDS
        if moment - lane.busy_since < LEASE_WAIT_SECONDS:
            return
        # What nobody could try goes to no dead letter queue: at its last receive it waits in hand, however long.
        kept = deque(task for task in lane.tasks if not self._may_be_handed_back(task))
        ended = [
            Ended(task, Outcome.DEFERRED, wait_seconds=HANDED_BACK_SECONDS) for task in lane.tasks if task not in kept
        ]
        self._log.info("lease-busy", queue=self._name, key=error.key, handed_back=len(ended), kept=len(kept))
        lane.busy_since = moment
        if ended:
            self._end(lane, ended, kept)

    def _wait_for_store(self, lane: LaneInHand, error: StoreUnavailable) -> None:
        """Without the database nothing is begun: the lane stays in hand until it is there again."""
        self._log.warning("database-away", queue=self._name, reason=str(error), messages=len(lane.tasks))
        lane.store_away = True
        lane.not_before = self._monotonic() + _STORE_SECONDS

    def _may_be_handed_back(self, task: Task) -> bool:
        return all(message.receive_count < self._max_receives for message in task.messages)


def _is_away(error: Exception) -> bool:
    """Whether a service can take no call at all: then it is certainly not the message that is to blame."""
    if not isinstance(error, UpstreamError):
        return False
    # Without an answer to a request that was never sent there was nobody to answer.
    return error.status in _AWAY_STATUSES or (error.status is None and error.unreachable)
