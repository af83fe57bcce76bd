"""Handles message groups in parallel, until every message is acknowledged or returned to the queue.

A group is ready, running or parked. Each turn of a group is a future; its result says which tasks ended and which
remain (`sync.pipeline.group_runner`). Only the thread that runs the batch decides what happens next.

In a drain that works until its queue is empty, the groups of the next batch join the current batch as soon as threads
are free, so that a slow record holds up only its own messages. No batch joins while the current batch has at least
`DRAIN_BATCH_SIZE` messages. A group that joins waits until every earlier group of the same entity has ended. The
scheduler ends each batch before it begins the next.
"""

import itertools
import math
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from queue import Empty, Queue, SimpleQueue  # noqa: TID251 - the SimpleQueue is never read with a timeout
from typing import Any

from sync.events.context import Outcome
from sync.pipeline.acknowledge import Acknowledger
from sync.pipeline.coalesce import MessageGroup
from sync.pipeline.group_runner import GroupResult, GroupRunner, Missing, Parked
from sync.pipeline.outages import OutageWatch
from sync.pipeline.queue_context import DrainControl, QueueContext
from sync.pipeline.task_end import TaskEnd
from sync.queues.queue import BATCH
from sync.settings import times


class Batch:
    """The message groups of a batch and of the batches that join it. `run` may be called only once."""

    def __init__(
        self, queue_context: QueueContext, acknowledger: Acknowledger, outage: OutageWatch, control: DrainControl
    ) -> None:
        self._queue_context = queue_context
        self._threads = queue_context.settings.drain_concurrency
        self._runner = GroupRunner(queue_context, control)
        self._acknowledger = acknowledger
        self._outage = outage
        self._control = control
        self._ready: deque[MessageGroup] = deque()
        self._running: dict[Future[GroupResult], MessageGroup] = {}
        #: The finished futures whose results have not been taken yet.
        self._done: Queue[Future[Any]] = Queue()
        self._parked: list[Parked] = []
        #: For each entity with a group in the batch: its later groups, which wait for the first one to end.
        self._followers: dict[str | None, deque[MessageGroup]] = {}
        #: When the first message was received, on the monotonic clock. That message may already have been acknowledged.
        self._first_received_at = math.inf
        #: The groups that found the database unavailable and have not used it successfully since.
        self._barred: set[MessageGroup] = set()
        self._ended: list[TaskEnd] = []
        self._acknowledging: Future[Counter[Outcome]] | None = None
        self._acknowledged_at = time.monotonic()
        #: The number of messages that were acknowledged or returned, by outcome.
        self.outcomes: Counter[Outcome] = Counter()
        #: Whether groups were returned to the queue because an outage lasted too long.
        self.gave_up = False

    def run(self, groups: Iterable[MessageGroup], more: Callable[[], Iterable[MessageGroup]]) -> None:
        """Handles groups until each message is acknowledged or returned to the queue; `outcomes` counts the messages.

        `more` is called when few groups are ready. It returns the groups of the next batch, or none.
        """
        queue = self._queue_context.queue
        workers = Workers(self._threads, f"work {queue}")
        acknowledging = ThreadPoolExecutor(1, thread_name_prefix=f"acknowledge {queue}")
        self._add(groups)
        try:
            while self._ready or self._running or self._parked or self._ended or self._acknowledging:
                self._unpark()
                # A few more groups are submitted than there are threads, so that no thread waits for its next group.
                self._start(workers, self._threads + self._threads // 4 + 1)
                self._collect()
                self._acknowledge(acknowledging)
                if self._control.stopping:
                    self._wind_down()
                elif self.gave_up or (self._parked and self._outage.too_long()):
                    self.gave_up = True
                    self._return_parked(lambda _parked: True)
                    self._return_ready()
                else:
                    self._replace_long_hidden()
                    if self._takes_more():
                        self._add(more())
        finally:
            acknowledging.shutdown()
            for future in self._running:
                future.cancel()
            workers.close()

    def _takes_more(self) -> bool:
        """Whether the next batch may join: it may if threads will soon be idle and no group waits for an outage to end.

        No batch joins while this batch has at least `DRAIN_BATCH_SIZE` messages, since each of them has to be kept
        hidden.
        """
        if len(self._ready) >= self._threads or not self._outage.all_up():
            return False
        if any(each.missing in (Missing.SERVICE, Missing.DATABASE) for each in self._parked):
            return False
        groups = (*self._ready, *self._running.values(), *(each.group for each in self._parked))
        here = itertools.chain(groups, *self._followers.values())
        messages = sum(len(task.messages) for group in here for task in group.tasks)
        return messages < self._queue_context.settings.drain_batch_size

    def _add(self, groups: Iterable[MessageGroup]) -> None:
        # The longest groups start first, so that the batch does not end with one thread still busy with a long group.
        for group in sorted(groups, key=lambda group: -len(group.tasks)):
            self._first_received_at = min(self._first_received_at, _first_received_at(group))
            if group.entity in self._followers:
                self._followers[group.entity].append(group)
                continue
            if group.entity is not None:
                self._followers[group.entity] = deque()
            self._ready.append(group)

    def _unpark(self) -> None:
        """Makes parked groups ready once they no longer have to wait."""
        self._outage.note()
        if not self._parked:
            return
        # After a stop, groups that wait for a service are not tried again, but returned.
        services_usable = self._outage.all_up() if self._control.stopping else self._outage.services_usable()
        if not services_usable or any(each.missing is Missing.DATABASE for each in self._parked):
            if not self._control.stopping and not self._outage.too_long():
                self._outage.announce()
            # Waiting for an outage to end does not count as a hang.
            self._control.note_progress()
        moment = time.monotonic()
        due = self._take_parked(
            lambda each: moment >= each.retry_at and (services_usable or each.missing is Missing.LEASE)
        )
        self._ready.extendleft(reversed(due))

    def _start(self, workers: "Workers", most: int) -> None:
        if not self._ready:
            return
        for _ in range(min(len(self._ready), self._outage.groups_to_start(len(self._running), most))):
            group = self._ready.popleft()
            future = workers.submit(partial(self._runner.run, group))
            self._running[future] = group
            future.add_done_callback(self._done.put)

    def _collect(self) -> None:
        """Collects the results of finished turns; waits a moment if there are none yet."""
        if not (self._running or self._acknowledging or self._ready or self._parked):
            return
        try:
            done = [self._done.get(timeout=times.POLL_SECONDS)]
        except Empty:
            return
        if self._running:
            # Turns that end during this pause are acknowledged together with the first one.
            time.sleep(times.ACKNOWLEDGE_POLL_SECONDS)
        while not self._done.empty():
            done.append(self._done.get())
        for future in done:
            group = self._running.pop(future, None)
            if group is None:
                # The future is that of an acknowledgement, or of a group that was returned after the grace period.
                continue
            result = future.result()
            self._note_database(group, result)
            self._take(group, result)

    def _note_database(self, group: MessageGroup, result: GroupResult) -> None:
        """Notes whether the database is available, if the turn shows that.

        A turn shows that the database is available again only if its group had found the database unavailable.
        """
        missing = None if result.parked is None else result.parked.missing
        if result.parked is not None and missing is Missing.DATABASE:
            self._barred.discard(group)
            self._barred.add(result.parked.group)
            self._outage.note_database(available=False)
        elif group in self._barred:
            if missing in (Missing.SERVICE, Missing.AGE) and not result.ended:
                # The group was parked before it needed the database.
                return
            self._barred.clear()
            self._outage.note_database(available=True)

    def _take(self, group: MessageGroup, result: GroupResult) -> None:
        if result.ended:
            self._ended.extend(result.ended)
            self._control.note_progress()
        if result.rest is not None:
            self._ready.appendleft(result.rest)
        elif result.parked is not None:
            self._parked.append(result.parked)
        elif group.entity is not None:
            followers = self._followers.pop(group.entity)
            if followers:
                self._ready.append(followers.popleft())
                self._followers[group.entity] = followers

    def _acknowledge(self, acknowledging: ThreadPoolExecutor) -> None:
        """Acknowledges the messages of finished tasks in a separate thread, so that no group waits for SQS."""
        if self._acknowledging is not None:
            if not self._acknowledging.done():
                return
            self.outcomes += self._acknowledging.result()
            self._acknowledging = None
        # While groups are running, only full batches of ten are acknowledged, unless the last acknowledgement was too
        # long ago.
        number = len(self._ended)
        if self._running and time.monotonic() - self._acknowledged_at < times.ACKNOWLEDGE_SECONDS:
            number -= number % BATCH
        if number:
            ended, self._ended = self._ended[:number], self._ended[number:]
            self._acknowledged_at = time.monotonic()
            self._acknowledging = acknowledging.submit(self._acknowledger.acknowledge, ended)
            self._acknowledging.add_done_callback(self._done.put)

    def _wind_down(self) -> None:
        """Finishes the groups that can be handled during the grace period, and returns the rest to the queue.

        After the grace period, a group that is still running is returned too; the next handler of its messages finds
        the work that was done.
        """
        is_outage = not self._outage.all_up()
        self._return_parked(lambda each: is_outage or each.missing is not Missing.AGE)
        if is_outage:
            # Groups that are ready to try a service would wait for each other's trials.
            self._return_ready()
        if self._control.grace_over:
            self._return_parked(lambda _parked: True)
            self._return_ready()
            for future in self._running:
                future.cancel()
            self._return(list(self._running.values()))
            self._running.clear()

    def _replace_long_hidden(self) -> None:
        """Replaces messages with copies if SQS cannot keep them hidden for much longer, whatever they wait for."""
        oldest = time.monotonic() - times.LONGEST_HIDDEN_SECONDS
        if self._first_received_at >= oldest:
            return
        groups = self._take_parked(lambda each: _first_received_at(each.group) < oldest)
        groups += [group for group in self._ready if _first_received_at(group) < oldest]
        self._ready = deque(group for group in self._ready if _first_received_at(group) >= oldest)
        self._return(groups, is_copied=True)
        rest = (*self._ready, *self._running.values(), *(each.group for each in self._parked))
        followers = itertools.chain.from_iterable(self._followers.values())
        self._first_received_at = min(map(_first_received_at, (*rest, *followers)), default=math.inf)

    def _return_parked(self, wanted: Callable[[Parked], bool]) -> None:
        self._return(self._take_parked(wanted))

    def _return_ready(self) -> None:
        self._return(self._ready)
        self._ready.clear()

    def _take_parked(self, wanted: Callable[[Parked], bool]) -> list[MessageGroup]:
        taken = [each for each in self._parked if wanted(each)]
        self._parked = [each for each in self._parked if each not in taken]
        return [each.group for each in taken]

    def _return(self, groups: Iterable[MessageGroup], *, is_copied: bool = False) -> None:
        """Returns groups to the queue, from which their messages can be received again at once.

        Later groups of the same entities are returned too, since they must not be handled before the earlier ones.
        """
        self._ended.extend(
            TaskEnd(task, Outcome.DEFERRED, wait_seconds=0, is_copied=is_copied)
            for group in groups
            for each in (group, *self._followers.pop(group.entity, ()))
            for task in each.tasks
        )


def _first_received_at(group: MessageGroup) -> float:
    """When the first message of the group was received, on the monotonic clock."""
    return min(message.received_at for task in group.tasks for message in task.messages)


class Workers:
    """A pool of up to `size` daemon threads, started as needed. Only one thread may submit calls.

    `ThreadPoolExecutor` is not used here, because the interpreter waits on exit for the threads of such a pool, even if
    a handler hangs in a call long after the grace period. The interpreter does not wait for daemon threads: such a
    handler ends with the process, and the next handler of its message finds the work that was done.
    """

    def __init__(self, size: int, name: str) -> None:
        self._size = size
        self._name = name
        self._threads = 0
        self._idle = threading.Semaphore(0)
        self._calls: SimpleQueue[tuple[Future[GroupResult], Callable[[], GroupResult]] | None] = SimpleQueue()

    def submit(self, call: Callable[[], GroupResult]) -> Future[GroupResult]:
        """Submits a call, which is made as soon as a thread is free. Returns a future for its result or error."""
        future: Future[GroupResult] = Future()
        self._calls.put((future, call))
        if self._threads < self._size and not self._idle.acquire(blocking=False):
            self._threads += 1
            name = f"{self._name} {self._threads}"
            threading.Thread(target=self._work, name=name, daemon=True).start()
        return future

    def close(self) -> None:
        """Ends each thread once there are no calls left. Does not wait for the threads."""
        for _ in range(self._threads):
            self._calls.put(None)

    def _work(self) -> None:
        while (submitted := self._calls.get()) is not None:
            future, call = submitted
            if future.set_running_or_notify_cancel():
                try:
                    result = call()
                except BaseException as error:  # whatever the error is, the batch has to see it
                    future.set_exception(error)
                else:
                    future.set_result(result)
            self._idle.release()
