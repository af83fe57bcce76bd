"""A batch in work: its lanes side by side, until every message has come to its end."""

import queue
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress

from sync.pipeline.acknowledge import Ended, Settler
from sync.pipeline.coalesce import Lane, Task
from sync.pipeline.crew import Crew
from sync.pipeline.groups import LaneInHand, LaneWorker
from sync.pipeline.handler import Workshop
from sync.pipeline.outcome import Outcome
from sync.queues.queue import BATCH
from sync.settings.declaration import Settings, UpstreamName
from sync.store.leases import Leases
from sync.upstream.breaker import Breakers

#: How often work that is held up looks again, and how long what has ended waits for company before it is settled.
_LOOK_SECONDS = 0.25
_COMPANY_SECONDS = 0.02
#: The least time between two messages of a queue that try an upstream which is not known to be up.
_TRIAL_SECONDS = 0.5


class BatchWork:
    """Works the lanes of one batch of one queue.

    `crew` works the lanes. `hold_seconds`: how long tasks are held in hand while an upstream is down before they are
    handed back; None holds them until it is up. `stop_at` gives the moment when the time of grace ends, None while
    nobody asked to stop. `on_progress` is told when tasks came to an end, and while an upstream or the database is
    waited for.
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
        on_progress: Callable[[], None] = lambda: None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._name = queue_name
        self._crew = crew
        self._concurrency = settings.drain_concurrency
        self._settler = settler
        self._breakers = breakers
        self._upstreams = tuple(upstreams)
        self._hold_seconds = hold_seconds
        self._stop_at = stop_at
        self._on_progress = on_progress
        self._monotonic = monotonic
        self._worker = LaneWorker(queue_name, settings, workshop, leases, breakers, upstreams, self._end, monotonic)
        # The lock guards what workers and dispatcher share: lanes ready, held up and in work, and who is at work.
        self._lock = threading.Lock()
        # The longest lanes first, so that none of them is left over at the end.
        longest_first = sorted(lanes, key=lambda lane: -len(lane.tasks))
        self._ready = deque(LaneInHand(lane.key, deque(lane.tasks)) for lane in longest_first)
        self._held_up: list[LaneInHand] = []
        self._in_work: set[LaneInHand] = set()
        self._workers = 0
        self._abandoned = False
        #: What has ended, a settling that is done, or None from a worker that found nothing more to do.
        self._back: queue.SimpleQueue[Sequence[Ended] | Future[Counter[Outcome]] | None] = queue.SimpleQueue()
        self._ended: list[Ended] = []
        self._settling: Future[Counter[Outcome]] | None = None
        self._settled_at = monotonic()
        self._down_since: float | None = None
        self._next_trial = 0.0
        self._outcomes: Counter[Outcome] = Counter()
        #: Whether tasks were handed back because an upstream stayed down for longer than `hold_seconds`.
        self.gave_up = False
        #: Whether work waits for the database, or did when it was given up.
        self.store_away = False

    def run(self) -> Counter[Outcome]:
        """Works until every message is settled, or the time of grace is over; the outcomes counted by message."""
        with ThreadPoolExecutor(1, thread_name_prefix=f"settle {self._name}") as settling:
            while self._unfinished():
                self._look_at_held_up()
                self._put_to_work()
                self._take_back()
                self._settle(settling)
                stop_at = self._stop_at()
                if stop_at is not None:
                    # What waits for others may wait long; what can be worked is worked while there is time.
                    self._hand_back(self._take_held_up(lambda lane: not lane.young))
                    if self._monotonic() >= stop_at:
                        self._hand_back(self._held_up)
                        self._hand_back(self._ready)
                        self._abandon()
                elif self.gave_up or self._down_for_too_long():
                    self.gave_up = True
                    self._hand_back(self._held_up)
                    self._hand_back(self._ready)
        return self._outcomes

    def _unfinished(self) -> bool:
        with self._lock:
            at_work = self._ready or self._held_up or self._in_work
        return bool(at_work or self._ended or self._settling or not self._back.empty())

    def _look_at_held_up(self) -> None:
        if not self._held_up:
            self._down_since = None
        elif self._stop_at() is not None:
            moment = self._monotonic()
            due = self._take_held_up(lambda lane: lane.young and moment >= lane.not_before)
            with self._lock:
                self._ready.extendleft(reversed(due))
        else:
            up = self._breakers.probe(self._upstreams)
            moment = self._monotonic()
            # A ping alone is no end of an outage: a service that answers it may fail every call.
            self.store_away = any(lane.store_away for lane in self._held_up)
            well = up and not self.store_away and not self._breakers.trying(self._upstreams)
            self._down_since = None if well else self._down_since or moment
            if not up or self.store_away:
                self._on_progress()
            due = self._take_held_up(lambda lane: moment >= lane.not_before and (up or lane.busy_since is not None))
            with self._lock:
                self._ready.extendleft(reversed(due))

    def _take_held_up(self, wanted: Callable[[LaneInHand], bool]) -> list[LaneInHand]:
        """The held up lanes that are wanted; they are held up no longer."""
        with self._lock:
            taken = [lane for lane in self._held_up if wanted(lane)]
            self._held_up[:] = [lane for lane in self._held_up if lane not in taken]
        return taken

    def _put_to_work(self) -> None:
        """Has as many threads at work as there are lanes for; each takes lane after lane by itself."""
        with self._lock:
            missing = min(len(self._ready), self._concurrency - self._workers)
            # One message at a time finds out whether an upstream is really up again, with a pause in which others may.
            if self._breakers.trying(self._upstreams):
                moment = self._monotonic()
                missing = min(missing, 1 - self._workers) if moment >= self._next_trial else 0
                self._next_trial = moment + _TRIAL_SECONDS if missing > 0 else self._next_trial
            self._workers += max(0, missing)
        for _ in range(missing):
            self._crew.submit(self._work)

    def _work(self) -> None:
        """Works lanes until none is ready; what one thread of the crew does."""
        lane: LaneInHand | None = None
        while True:
            with self._lock:
                if lane is not None:
                    self._in_work.discard(lane)
                    if lane.tasks and not self._abandoned:
                        self._held_up.append(lane)
                # Who has tried an upstream that is not known to be up lets others try.
                done = self._breakers.trying(self._upstreams) and (lane is not None or self._workers > 1)
                if not self._ready or done:
                    self._workers -= 1
                    break
                lane = self._ready.popleft()
                self._in_work.add(lane)
            self._worker.run(lane)
        self._back.put(None)

    def _end(self, lane: LaneInHand, ended: Sequence[Ended], left: deque[Task]) -> bool:
        """Notes how tasks of a lane in work ended; a lane that was handed back has another end already."""
        with self._lock:
            if self._abandoned:
                lane.tasks = deque()
                return False
            lane.tasks = left
            self._back.put(ended)
            return True

    def _take_back(self) -> None:
        """Takes what has come back from the workers and the settling; waits a moment for the first of it."""
        with suppress(queue.Empty):
            self._take(self._back.get(timeout=_LOOK_SECONDS))
            if self._in_work:
                # What else ends meanwhile is settled along, and the workers need nobody to give them lanes.
                time.sleep(_COMPANY_SECONDS)
            while True:
                self._take(self._back.get_nowait())

    def _take(self, back: Sequence[Ended] | Future[Counter[Outcome]] | None) -> None:
        if isinstance(back, Future):
            self._settling = None
            self._outcomes += back.result()
        elif back is not None:
            self._ended.extend(back)
            self._on_progress()

    def _settle(self, settling: ThreadPoolExecutor) -> None:
        """Settles what has ended, in a thread of its own, so that nobody waits for SQS."""
        if self._settling is not None or not self._ended:
            return
        # Full batches of ten while more is on its way, but nothing waits for long.
        number = len(self._ended)
        if self._in_work and self._monotonic() - self._settled_at < _LOOK_SECONDS:
            number -= number % BATCH
        if number:
            ended, self._ended = self._ended[:number], self._ended[number:]
            self._settled_at = self._monotonic()
            self._settling = settling.submit(self._settler.settle, ended)
            self._settling.add_done_callback(self._back.put)

    def _hand_back(self, lanes: deque[LaneInHand] | list[LaneInHand]) -> None:
        """Puts the tasks of lanes that are not in work back on the queue, at once to be had by others."""
        with self._lock:
            tasks = [task for lane in lanes for task in lane.tasks]
            lanes.clear()
        self._ended.extend(Ended(task, Outcome.DEFERRED, wait_seconds=0) for task in tasks)

    def _abandon(self) -> None:
        """The time of grace is over: what is still in work is handed back; whoever has it next finds its effects."""
        with self._lock:
            self._abandoned = True
            left = list(self._in_work)
            self._in_work.clear()
        self._hand_back(left)

    def _down_for_too_long(self) -> bool:
        if self._hold_seconds is None or self._down_since is None:
            return False
        return self._monotonic() - self._down_since > self._hold_seconds
