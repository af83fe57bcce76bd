"""The drain of one queue: receive, read, gather, apply, settle.

A micro-batch is gathered whole, so that updates of one record can be coalesced; its lanes are then worked side by side,
and messages are settled as their lanes get along. A heartbeat keeps every message in hand hidden meanwhile.
"""

import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from types import TracebackType
from typing import Any, Self

import structlog

from sync.domains.declaration import Domain
from sync.failures import SyncError
from sync.outage_log import OutageLog
from sync.pipeline.acknowledge import OnSettled, Settler
from sync.pipeline.batch import BatchWork
from sync.pipeline.coalesce import gather
from sync.pipeline.crew import Crew
from sync.pipeline.handler import Workshop
from sync.queues.heartbeat import Heartbeat
from sync.queues.queue import BATCH, Message, Queue, QueueUnavailable
from sync.settings.declaration import Settings, UpstreamName
from sync.store.database import Database
from sync.store.leases import Leases
from sync.store.telemetry import Telemetry
from sync.upstream.breaker import Breakers

#: The longest a batch is gathered, and the long poll for its first message, in seconds.
GATHER_SECONDS = 20.0
FIRST_WAIT_SECONDS = 1
#: How often a drain that waits for an upstream looks again.
_LOOK_SECONDS = 0.25


@dataclass(frozen=True, slots=True)
class BatchSummary:
    """What became of the messages of a batch; every received message is in exactly one of the counts."""

    queue: str
    received: int = 0
    applied: int = 0
    coalesced: int = 0
    ignored: int = 0
    duplicate: int = 0
    retry_queued: int = 0
    switched_off: int = 0
    unhandled: int = 0
    ambiguous: int = 0
    failed: int = 0
    unreadable: int = 0
    deferred: int = 0
    batches: int = 0
    seconds: float = 0.0

    def __add__(self, other: "BatchSummary") -> "BatchSummary":
        """Both together; the queue is named when it is the same."""
        name = self.queue if self.queue == other.queue else "all"
        mine, theirs = asdict(self), asdict(other)
        return BatchSummary(name, **{key: mine[key] + theirs[key] for key in mine if key != "queue"})

    def as_dict(self) -> dict[str, Any]:
        """The counts by name, for JSON; seconds with three decimals."""
        return {**asdict(self), "seconds": round(self.seconds, 3)}


class UpstreamsDown(SyncError):
    """What the work needs stayed down for longer than the drain was to wait; the messages are back on the queue.

    `summary` tells what became of the messages until then.
    """

    recoverable = True

    def __init__(self, services: Iterable[str], summary: BatchSummary) -> None:
        super().__init__(f"{', '.join(services)} did not answer; the messages wait on the queue")
        self.summary = summary


class Drain:
    """Drains one queue. Use as a context manager; `stop` may be called from any thread.

    `upstreams` are the services without which no message of the queue can be handled. `hold_seconds`: how long messages
    are held in hand while one of them is down before they are handed back; None: until it is up again.
    `receivers`: receives made side by side once a queue proves to be full. `on_settled` is told of each message.
    """

    def __init__(
        self,
        domain: Domain,
        main: Queue,
        settings: Settings,
        workshop: Workshop,
        leases: Leases,
        telemetry: Telemetry,
        database: Database,
        breakers: Breakers,
        upstreams: Sequence[UpstreamName],
        *,
        hold_seconds: float | None = None,
        receivers: int = 4,
        on_settled: OnSettled | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.queue = domain.queue
        self._domain = domain
        self._main = main
        self._settings = settings
        self._workshop = workshop
        self._leases = leases
        self._breakers = breakers
        self._upstreams = tuple(upstreams)
        self._hold_seconds = hold_seconds
        self._receivers = receivers
        self._monotonic = monotonic
        self._heartbeat = Heartbeat(main, settings.hmpps_sqs_visibility_timeout_seconds)
        self._settler = Settler(
            domain.queue, main, self._heartbeat, settings, telemetry, database, self._most_receives, on_settled
        )
        self._database = database
        self._crew = Crew(settings.drain_concurrency, f"work {domain.queue}")
        self._receiving = ThreadPoolExecutor(receivers + 1, thread_name_prefix=f"receive {domain.queue}")
        self._stopping = threading.Event()
        self._stop_at: float | None = None
        self._paused = False
        self._redrive_policy = self._trouble("redrive-policy-not-read", "redrive-policy-read-again")
        self._company = self._trouble("receive-failed", "receive-works-again")
        self._max_receives: int | None = None
        self._down_since: float | None = None
        self._progressed_at = monotonic()
        self._log = structlog.get_logger("sync.pipeline.drain")
        self._heartbeat.__enter__()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends the threads; nothing is in hand any more."""
        self._crew.close()
        self._receiving.shutdown(wait=True)
        self._heartbeat.__exit__()

    def stop(self) -> None:
        """No further receive; work in hand is finished or, past `DRAIN_GRACE_SECONDS`, handed back at once."""
        if not self._stopping.is_set():
            self._stop_at = self._monotonic() + self._settings.drain_grace_seconds
            self._stopping.set()

    @property
    def reasons(self) -> Counter[str]:
        """Why messages failed in this drain, and how many for each reason."""
        return self._settler.reasons.counts()

    def seconds_since_progress(self) -> float:
        """Since something last came to an end here, or was waited for because an upstream is down; grows in a hang."""
        return self._monotonic() - self._progressed_at

    def run_batch(self) -> BatchSummary:
        """One micro-batch. Raises `QueueUnavailable`, and `UpstreamsDown` when held up longer than `hold_seconds`."""
        started = self._monotonic()
        if not self._upstreams_up():
            return BatchSummary(self.queue)
        summary = self._work(self._gather(), started)
        if self._hold_seconds is not None and summary.deferred and not self._breakers.all_up(self._upstreams):
            raise UpstreamsDown(self._breakers.not_up(self._upstreams), summary)
        return summary

    def run_until_empty(self, max_batches: int | None = None) -> BatchSummary:
        """Micro-batches until a receive comes back empty (or `max_batches`); the next is gathered during the work.

        Raises as `run_batch` does.
        """
        total = BatchSummary(self.queue)
        ahead: Future[list[Message]] | None = None
        try:
            while not self._stopping.is_set() and (max_batches is None or total.batches < max_batches):
                started = self._monotonic()
                if ahead is None and not self._upstreams_up():
                    continue
                messages = self._gather() if ahead is None else ahead.result()
                fresh = ahead is None
                ahead = None
                up = self._breakers.all_up(self._upstreams)
                if not messages and fresh and (up or self._hold_seconds is None):
                    break
                if messages and up and (max_batches is None or total.batches + 1 < max_batches):
                    ahead = self._receiving.submit(self._gather)
                total += self._work(messages, started)
                self._give_up_on_what_stays_down()
        except UpstreamsDown as error:
            error.summary = total + error.summary
            raise
        finally:
            self._hand_back(ahead)
        return total

    def _upstreams_up(self) -> bool:
        """Whether receiving makes sense; an upstream that is down is pinged, and waited for as the drain was told.

        Without a limit it is waited for as long as the pause between two batches lasts, so that it is known soon that
        it is up, and whoever asked has the word now and then.
        """
        since = self._monotonic()
        while not self._stopping.is_set():
            self._note_progress()
            if self._breakers.probe(self._upstreams):
                self._say_paused(False)
                return True
            self._say_paused(True)
            self._give_up_on_what_stays_down()
            if self._hold_seconds is None and self._monotonic() - since > self._settings.drain_interval_seconds:
                return False
            self._stopping.wait(_LOOK_SECONDS)
        return False

    def _give_up_on_what_stays_down(self) -> None:
        """Raises `UpstreamsDown` when not all upstreams were known to be up for longer than the drain was to wait."""
        moment = self._monotonic()
        if self._breakers.all_up(self._upstreams):
            self._down_since = None
            return
        self._down_since = moment if self._down_since is None else self._down_since
        if self._hold_seconds is not None and moment - self._down_since > self._hold_seconds:
            self._down_since = None
            raise UpstreamsDown(self._breakers.not_up(self._upstreams), BatchSummary(self.queue))

    def _trouble(self, begins: str, ends: str) -> OutageLog:
        return OutageLog("sync.pipeline.drain", begins, ends, queue=self.queue)

    def _most_receives(self) -> int:
        """After how many receives a message goes to the dead letter queue: as the queue says, asked once."""
        if self._max_receives is None:
            try:
                told = self._main.max_receives()
            except QueueUnavailable as error:
                self._redrive_policy.failed(str(error))
                return self._settings.hmpps_sqs_max_receive_count
            self._redrive_policy.worked()
            self._max_receives = sys.maxsize if told is None else told
        return self._max_receives

    def _note_progress(self) -> None:
        self._progressed_at = self._monotonic()

    def _say_paused(self, paused: bool) -> None:
        if paused != self._paused:
            self._paused = paused
            down = self._breakers.open_services(self._upstreams)
            self._log.warning("receiving-paused" if paused else "receiving-resumed", queue=self.queue, down=down)

    def _gather(self) -> list[Message]:
        """Receives until nothing comes, the batch is full, or it took long enough; all are in hand from then on.

        While an upstream is only being tried one message is received, since one at a time may try.

        Raises `QueueUnavailable`, and `StoreUnavailable` before anything is received: with the database away each
        receive would only bring its messages nearer to the dead letter queue.
        """
        self._database.ping(writing=True)
        if self._breakers.trying(self._upstreams):
            return self._receive(FIRST_WAIT_SECONDS, most=1)
        messages: list[Message] = []
        deadline = self._monotonic() + GATHER_SECONDS
        wait = FIRST_WAIT_SECONDS
        while len(messages) < self._settings.drain_batch_size and self._monotonic() < deadline:
            if self._stopping.is_set():
                break
            receives = [self._receiving.submit(self._receive, wait) for _ in range(self._receivers if messages else 1)]
            received: list[list[Message]] = []
            for receive in receives:
                try:
                    received.append(receive.result())
                except QueueUnavailable as error:
                    if not messages and len(receives) == 1:
                        raise
                    # What was received is worked; the next batch meets the error again if it lasts.
                    self._company.failed(str(error))
                    received.append([])
                else:
                    self._company.worked()
            messages.extend(message for some in received for message in some)
            if not all(received):
                break
            wait = 0
        return messages

    def _receive(self, wait_seconds: int, most: int = BATCH) -> list[Message]:
        messages = self._main.receive(most, wait_seconds, self._settings.hmpps_sqs_visibility_timeout_seconds)
        self._heartbeat.hold(messages)
        self._note_progress()
        return messages

    def _hand_back(self, ahead: "Future[list[Message]] | None") -> None:
        """Puts a batch that was gathered ahead back on the queue, at once to be had by others."""
        if ahead is None:
            return
        try:
            messages = ahead.result()
        except SyncError as error:
            self._log.warning("receive-failed", queue=self.queue, reason=str(error))
            return
        self._settler.hand_back(messages)

    def _work(self, messages: list[Message], started: float) -> BatchSummary:
        if not messages:
            return BatchSummary(self.queue)
        batch = BatchWork(
            self.queue,
            gather(messages, self._domain),
            crew=self._crew,
            settings=self._settings,
            workshop=self._workshop,
            settler=self._settler,
            leases=self._leases,
            breakers=self._breakers,
            upstreams=self._upstreams,
            hold_seconds=self._hold_seconds,
            stop_at=lambda: self._stop_at,
            on_progress=self._note_progress,
            monotonic=self._monotonic,
        )
        try:
            outcomes = batch.run()
        finally:
            # Whatever happened, nothing stays hidden for longer than its visibility lasts.
            self._heartbeat.let_go(messages)
        seconds = self._monotonic() - started
        counts = {outcome.value: number for outcome, number in outcomes.items()}
        summary = BatchSummary(self.queue, received=len(messages), batches=1, seconds=seconds, **counts)
        if batch.gave_up:
            away: list[str] = ["the database"] if batch.store_away else []
            away.extend(self._breakers.not_up(self._upstreams))
            raise UpstreamsDown(away or self._upstreams, summary)
        return summary
