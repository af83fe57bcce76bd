"""A batch in work: its lanes side by side, each lane one task at a time, until every message has come to its end."""

import queue
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

import structlog

from sync.crew import Crew
from sync.failures import BreakerOpen, LeaseBusy, MessageUnreadable, SyncError, describe_failure
from sync.gather import Lane, Task
from sync.handling import Creation
from sync.outcome import Outcome
from sync.queues.queue import BATCH
from sync.settings import Settings, UpstreamName
from sync.settle import Ended, Settler
from sync.store.database import StoreUnavailable
from sync.store.leases import Leases
from sync.upstream.breaker import Breakers
from sync.work import Workshop

#: How long a message waits in hand for the lease of its entity before it is handed back, and then for how long.
LEASE_WAIT_SECONDS = 30.0
LEASE_RETRY_SECONDS = 0.25
HANDED_BACK_SECONDS = 2
#: How often a message may find its upstream failing again although the ping said it was up, before the message itself
#: is taken to be the cause.
REFUSALS = 5
#: How often work that is held up looks again, and how long what has ended waits for company before it is settled.
_LOOK_SECONDS = 0.25
_COMPANY_SECONDS = 0.02


@dataclass(slots=True, eq=False)
class _LaneInHand:
    """A lane with the tasks that are left.

    `busy_since`: since when its lease is held elsewhere. `refusals`: how often its first task failed as an outage would
    make it fail.
    """

    key: str | None
    tasks: deque[Task]
    not_before: float = 0.0
    busy_since: float | None = None
    refusals: int = 0


class BatchWork:
    """Works the lanes of one batch of one queue.

    `crew` works the lanes. `hold_seconds`: how long tasks are held in hand while an upstream is down before they are
    handed back; None holds them until it is up. `stop_at` gives the moment when the time of grace ends, None while
    nobody asked to stop.
    """

    def __init__(
        self,
        queue_name: str,
        lanes: Sequence[Lane],
        *,
        crew: Crew,
        settings: Settings,
        workshop: Workshop,
        settler: Settler,
        leases: Leases,
        breakers: Breakers,
        upstreams: Sequence[UpstreamName],
        hold_seconds: float | None,
        stop_at: Callable[[], float | None],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._name = queue_name
        self._crew = crew
        self._concurrency = settings.drain_concurrency
        self._settings = settings
        self._workshop = workshop
        self._settler = settler
        self._leases = leases
        self._breakers = breakers
        self._upstreams = tuple(upstreams)
        self._hold_seconds = hold_seconds
        self._stop_at = stop_at
        self._monotonic = monotonic
        # The longest lanes first, so that none of them is left over at the end.
        longest_first = sorted(lanes, key=lambda lane: -len(lane.tasks))
        self._ready = deque(_LaneInHand(lane.key, deque(lane.tasks)) for lane in longest_first)
        self._held_up: list[_LaneInHand] = []
        self._in_work: set[_LaneInHand] = set()
        self._back: queue.Queue[Ended | _LaneInHand | Future[Counter[Outcome]]] = queue.Queue()
        self._ended: list[Ended] = []
        self._ended_since = 0.0
        self._settling: Future[Counter[Outcome]] | None = None
        self._abandoning = threading.Lock()
        self._abandoned = False
        self._down_since: float | None = None
        self._outcomes: Counter[Outcome] = Counter()
        self._log = structlog.get_logger("sync.batch")
        #: Whether tasks were handed back because an upstream stayed down for longer than `hold_seconds`.
        self.gave_up = False

    def run(self) -> Counter[Outcome]:
        """Works until every message is settled, or the time of grace is over; the outcomes counted by message."""
        with ThreadPoolExecutor(1, thread_name_prefix=f"settle {self._name}") as settling:
            while self._ready or self._held_up or self._in_work or self._ended or self._settling:
                self._put_to_work()
                self._take_back()
                self._settle(settling)
                stop_at = self._stop_at()
                if stop_at is not None:
                    # What waits for others may wait long; what can be worked is worked while there is time.
                    self._hand_back(self._held_up)
                    if self._monotonic() >= stop_at:
                        self._hand_back(self._ready)
                        self._abandon()
                elif self.gave_up or self._down_for_too_long():
                    self.gave_up = True
                    self._hand_back(self._held_up)
                    self._hand_back(self._ready)
        return self._outcomes

    def _put_to_work(self) -> None:
        if self._held_up and self._stop_at() is None:
            up = self._breakers.probe(self._upstreams)
            self._down_since = None if up else self._down_since or self._monotonic()
            moment = self._monotonic()
            due = [lane for lane in self._held_up if moment >= lane.not_before and (up or lane.busy_since is not None)]
            self._held_up = [lane for lane in self._held_up if lane not in due]
            self._ready.extendleft(reversed(due))
        elif not self._held_up:
            self._down_since = None
        # One message at a time finds out whether an upstream is really up again.
        most = 1 if self._breakers.trying(self._upstreams) else self._concurrency
        while self._ready and len(self._in_work) < most:
            lane = self._ready.popleft()
            self._in_work.add(lane)
            self._crew.submit(partial(self._run_lane, lane))

    def _take_back(self) -> None:
        """Takes what has come back from the workers and the settling; waits a moment for the first of it."""
        wait = _COMPANY_SECONDS if self._ended and not self._settling else _LOOK_SECONDS
        with suppress(queue.Empty):
            self._take(self._back.get(timeout=wait))
            while True:
                self._take(self._back.get_nowait())

    def _take(self, back: "Ended | _LaneInHand | Future[Counter[Outcome]]") -> None:
        if isinstance(back, Ended):
            self._end_soon(back)
        elif isinstance(back, _LaneInHand):
            self._in_work.discard(back)
            if back.tasks and not self._abandoned:
                self._held_up.append(back)
        else:
            self._settling = None
            self._outcomes += back.result()

    def _end_soon(self, ended: Ended) -> None:
        if not self._ended:
            self._ended_since = self._monotonic()
        self._ended.append(ended)

    def _settle(self, settling: ThreadPoolExecutor) -> None:
        """Settles what has ended, in company where some is near; in its own thread, so that nobody waits for SQS."""
        if self._settling or not self._ended:
            return
        busy = bool(self._in_work)
        if busy and len(self._ended) < BATCH and self._monotonic() - self._ended_since < _COMPANY_SECONDS:
            return
        ended, self._ended = self._ended, []
        self._settling = settling.submit(self._settler.settle, ended)
        self._settling.add_done_callback(self._back.put)

    def _hand_back(self, lanes: "deque[_LaneInHand] | list[_LaneInHand]") -> None:
        """Puts the tasks of lanes that are not in work back on the queue, at once to be had by others."""
        for lane in lanes:
            for task in lane.tasks:
                self._end_soon(Ended(task, Outcome.DEFERRED, wait_seconds=0))
        lanes.clear()

    def _abandon(self) -> None:
        """The time of grace is over: what is still in work is handed back; whoever has it next finds its effects."""
        with self._abandoning:
            self._abandoned = True
        with suppress(queue.Empty):
            while True:
                self._take(self._back.get_nowait())
        self._hand_back(list(self._in_work))
        self._in_work.clear()

    def _down_for_too_long(self) -> bool:
        if self._hold_seconds is None or self._down_since is None:
            return False
        return self._monotonic() - self._down_since > self._hold_seconds

    def _run_lane(self, lane: _LaneInHand) -> None:
        """Works a lane as far as it goes now; it comes back without tasks when it is finished."""
        key = None if lane.key is None else f"{self._name}:{lane.key}"[:200]
        held = False
        try:
            held = key is not None and self._leases.acquire(key)
            if key is not None and not held:
                raise LeaseBusy(key)
            while lane.tasks and not self._abandoned and self._run_task(lane):
                pass
        except LeaseBusy as error:
            self._wait_for_lease(lane, error)
        except BaseException as error:  # whatever it is, no message is left without an end
            if not isinstance(error, StoreUnavailable):
                self._log.exception("lane-broke", queue=self._name)
            self._end_rest(lane, Outcome.FAILED, error)
        finally:
            if held and key is not None:
                self._leases.release(key)
            self._back.put(lane)

    def _run_task(self, lane: _LaneInHand) -> bool:
        """Works the first task of the lane; False when the lane is held up."""
        task = lane.tasks[0]
        if task.handler is not None and self._breakers.open_services(self._upstreams):
            return False
        work = self._workshop.begin()
        try:
            outcome = self._workshop.work(task, work)
        except MessageUnreadable as error:
            self._end(lane, Ended(task, Outcome.UNREADABLE, describe_failure(error, work.trail.step)))
        except LeaseBusy:
            raise
        except Exception as error:  # the message's failure alone, whatever it is
            return self._failed(lane, task, error, work.trail.step)
        else:
            lane.busy_since = None
            self._end(lane, Ended(task, outcome))
        return True

    def _failed(self, lane: _LaneInHand, task: Task, error: Exception, step: str) -> bool:
        recoverable = isinstance(error, SyncError) and error.recoverable
        if recoverable and self._is_outage(lane, error):
            # An outage costs delay only: the task stays in hand and is tried again when the upstream is up.
            lane.not_before = self._monotonic() + _LOOK_SECONDS
            return False
        if not isinstance(error, SyncError):
            self._log.error("handler-broke", queue=self._name, event_type=task.event_type, exc_info=error)
        self._end(lane, Ended(task, Outcome.FAILED, describe_failure(error, step)))
        if isinstance(task.handler, Creation):
            self._defer_followers(lane, task, recoverable=recoverable)
        return True

    def _is_outage(self, lane: _LaneInHand, error: Exception) -> bool:
        if isinstance(error, StoreUnavailable):
            return False
        if isinstance(error, BreakerOpen):
            return True
        if not self._breakers.open_services(self._upstreams):
            return False
        # A message that fails each time it tries a service whose ping says it is up may be the only one that does.
        lane.refusals += 1
        return lane.refusals < REFUSALS

    def _defer_followers(self, lane: _LaneInHand, failed: Task, *, recoverable: bool) -> None:
        """After a creation that failed, hands back what could not succeed before it, for as long as it waits itself.

        Updates need the record, whatever the creation failed of. Other creations of the lane must come after it, but
        only if it has a chance: what needs a person must not keep them back. What would go to the dead letter queue at
        its next receive is tried all the same, so that nothing ends there untried.
        """
        waits = self._settings.event_visibility_timeouts(self._name, failed.event_type or "")
        wait = waits[min(failed.message.receive_count, len(waits)) - 1]
        last = self._settings.hmpps_sqs_max_receive_count
        with self._abandoning:
            if self._abandoned:
                return
            kept: deque[Task] = deque()
            for task in lane.tasks:
                follows = recoverable or not isinstance(task.handler, Creation)
                if follows and all(message.receive_count < last for message in task.messages):
                    self._back.put(Ended(task, Outcome.DEFERRED, wait_seconds=wait))
                else:
                    kept.append(task)
            lane.tasks = kept

    def _wait_for_lease(self, lane: _LaneInHand, error: LeaseBusy) -> None:
        moment = self._monotonic()
        lane.busy_since = lane.busy_since if lane.busy_since is not None else moment
        lane.not_before = moment + LEASE_RETRY_SECONDS
        if moment - lane.busy_since >= LEASE_WAIT_SECONDS:
            self._log.info("lease-busy", queue=self._name, key=error.key)
            while lane.tasks:
                self._end(lane, Ended(lane.tasks[0], Outcome.DEFERRED, wait_seconds=HANDED_BACK_SECONDS))

    def _end_rest(self, lane: _LaneInHand, outcome: Outcome, error: BaseException) -> None:
        while lane.tasks:
            self._end(lane, Ended(lane.tasks[0], outcome, describe_failure(error)))

    def _end(self, lane: _LaneInHand, ended: Ended) -> None:
        """Notes that the first task of a lane has come to its end; one that was handed back has another already."""
        with self._abandoning:
            if not self._abandoned:
                lane.tasks.popleft()
                lane.refusals = 0
                self._back.put(ended)
            else:
                lane.tasks = deque()
