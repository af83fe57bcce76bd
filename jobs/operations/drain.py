"""The `drain` job: drains queues in micro-batches, with one thread per queue, and records this as one run."""

import contextlib
import itertools
import threading
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import reduce
from operator import add
from typing import TYPE_CHECKING, Any, Self

import structlog

from jobs.health.remedies import QueueFailure, joined_failures, queue_failure
from jobs.operations.deliveries import ALERT_SECONDS, send_pending
from jobs.runtime.application import Application
from jobs.runtime.job_runs import DRAIN_JOB, RunStatus, Trigger
from jobs.runtime.logging import bound, traces_wanted
from jobs.runtime.signals import stopping
from sync.pipeline.drain import BatchSummary
from sync.pipeline.outages import OnWait, UpstreamsUnavailable
from sync.pipeline.task_end import ReturnedMessage
from sync.queues.queue import QueueCounts, QueueUnavailable
from sync.settings.loading import SettingsError
from sync.settings.queues import QUEUES
from sync.store.database import StoreUnavailable
from sync.store.waiting_messages import due_later

if TYPE_CHECKING:
    from sync.pipeline.drain import Drain


@dataclass(frozen=True, slots=True)
class DrainParameters:
    """The options of a drain.

    until_empty: whether to drain each queue until it is empty; otherwise, one micro-batch is drained from each queue.
    max_batches: the maximum number of micro-batches per queue with `until_empty`, or None for no maximum. wait_seconds:
    how long to wait for a service that is down before the messages are returned to the queue.
    """

    queues: tuple[str, ...] = QUEUES
    until_empty: bool = False
    max_batches: int | None = None
    wait_seconds: float = 30.0

    def as_dict(self) -> dict[str, Any]:
        """The parameters as the ledger of job runs records them."""
        return {
            "queues": list(self.queues),
            "untilEmpty": self.until_empty,
            "maxBatches": self.max_batches,
            "waitSeconds": self.wait_seconds,
        }

    @classmethod
    def from_dict(cls, recorded: Mapping[str, Any]) -> Self:
        """The parameters of an earlier run, as the ledger recorded them."""
        return cls(tuple(recorded["queues"]), recorded["untilEmpty"], recorded["maxBatches"], recorded["waitSeconds"])


@dataclass(frozen=True, slots=True)
class DrainResult:
    """The result of the drains.

    errors: the queues whose drain failed, with the reason. reasons: why messages failed, with the number of failed
    attempts for each reason, the most frequent first. deferrals: why messages were deferred, with the number of
    deliveries for each reason, the most frequent first. returned: the messages that are on their queues again, each
    once. outages: the queues whose drain ended because of an outage. on_queue: the numbers of messages on each drained
    queue after the drain; a queue that did not respond is left out. due_later: by queue, the known times at which
    messages from earlier drains are tried next, if these times have not come yet; only queues with such messages are
    included.
    """

    run_id: str
    summaries: Mapping[str, BatchSummary]
    errors: Mapping[str, QueueFailure]
    reasons: Mapping[str, int] = field(default_factory=dict)
    deferrals: Mapping[str, int] = field(default_factory=dict)
    returned: Sequence[ReturnedMessage] = ()
    outages: Collection[str] = ()
    on_queue: Mapping[str, QueueCounts] = field(default_factory=dict)
    due_later: Mapping[str, Sequence[datetime]] = field(default_factory=dict)

    @property
    def totals(self) -> dict[str, Any]:
        """The counts for all queues together. The seconds are those of the slowest queue."""
        if not self.summaries:
            return {}
        totals = reduce(add, self.summaries.values()).as_dict()
        totals.pop("queue", None)
        return totals | {"seconds": round(max(summary.seconds for summary in self.summaries.values()), 3)}

    @property
    def next_attempt_at(self) -> datetime | None:
        """The earliest known time at which a waiting message is tried next, aware; None if no such time is known."""
        returned = (each.due_at for each in self.returned if not each.is_dead)
        return min(itertools.chain(returned, *self.due_later.values()), default=None)

    @property
    def problem(self) -> str | None:
        """Why drains failed, on one line that gives each reason once, or None if no drain failed.

        Failures of individual messages are not included, because those messages are tried again.
        """
        return joined_failures(self.errors) or None

    def as_dict(self) -> dict[str, Any]:
        """The totals, the same figures for each queue, the errors, and the reasons for failures and deferrals."""
        return {
            **self.totals,
            "queues": {name: summary.as_dict() for name, summary in self.summaries.items()},
            "errors": {queue: failure.reason for queue, failure in self.errors.items()},
            "reasons": dict(self.reasons),
            "deferrals": dict(self.deferrals),
        }


def run_drain(
    application: Application,
    parameters: DrainParameters,
    *,
    trigger: Trigger = Trigger.MANUAL,
    rerun_of: str | None = None,
    on_wait: OnWait = lambda _line: None,
) -> DrainResult:
    """Drains the queues, sends the alerts and records the run.

    `on_wait` is called, with a line for people, when a drain begins to wait for an outage to end; the drains of several
    queues call it from their threads, often with the same line.

    On SIGTERM, the drains receive no more messages, but finish those in flight. Raises `SettingsError` if a setting
    that every queue needs cannot be used.
    """
    drains = _Drains(application, parameters, on_wait)
    with (
        stopping(drains.stop),
        application.job_runs.run(DRAIN_JOB, parameters.as_dict(), trigger=trigger, rerun_of=rerun_of) as active_run,
        bound(run_id=active_run.id),
    ):
        result = drains.run(active_run.id)
        active_run.counts.update(result.as_dict())
        application.telemetry.flush()
        send_pending(application, ALERT_SECONDS)
        if result.problem:
            active_run.status, active_run.error = RunStatus.FAILED, result.problem
    return result


class _Drains:
    """The drains of the queues, each in its own thread. `stop` may be called from any thread."""

    def __init__(self, application: Application, parameters: DrainParameters, on_wait: OnWait) -> None:
        self._application = application
        self._parameters = parameters
        self._on_wait = on_wait
        self._stop_requested = threading.Event()
        self._drains: dict[str, Drain] = {}
        self._summaries: dict[str, BatchSummary] = {}
        self._errors: dict[str, QueueFailure] = {}
        self._outages: set[str] = set()
        self._wrong_settings: list[SettingsError] = []

    def run(self, run_id: str) -> DrainResult:
        """Drains the queues. Raises `SettingsError` if a setting that all queues need cannot be used."""
        queues = self._parameters.queues
        threads = [threading.Thread(target=self._drain, args=(queue,), name=f"drain {queue}") for queue in queues]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if self._wrong_settings:
            raise self._wrong_settings[0]
        done = {name: self._summaries[name] for name in queues if name in self._summaries}
        reasons: Counter[str] = reduce(add, (drain.failures.counts() for drain in self._drains.values()), Counter())
        deferrals: Counter[str] = reduce(add, (drain.deferrals for drain in self._drains.values()), Counter())
        return DrainResult(
            run_id,
            done,
            {name: self._errors[name] for name in queues if name in self._errors},
            dict(reasons.most_common()),
            dict(deferrals.most_common()),
            tuple(each for drain in self._drains.values() for each in drain.returned.values()),
            self._outages,
            self._on_queue(),
            self._due_later(),
        )

    def _on_queue(self) -> dict[str, QueueCounts]:
        # For a queue that does not respond, the messages that the drain returned are counted instead.
        found = {}
        for name in self._drains:
            with contextlib.suppress(QueueUnavailable):
                found[name] = self._application.queue_pair(name).main.counts()
        return found

    def _due_later(self) -> dict[str, list[datetime]]:
        """By queue, when messages from earlier drains are tried next; empty if the database is unavailable."""
        try:
            with self._application.database.read() as connection:
                times = {name: due_later(connection, name, drain.returned) for name, drain in self._drains.items()}
        except StoreUnavailable:
            return {}
        return {name: each for name, each in times.items() if each}

    def stop(self) -> None:
        """Makes the drains receive no more messages, and end once the messages in flight are finished."""
        self._stop_requested.set()
        for one in list(self._drains.values()):
            one.stop()

    def _drain(self, queue: str) -> None:
        with bound(queue=queue):
            try:
                wait_seconds = self._parameters.wait_seconds
                drain = self._drains[queue] = self._application.open_drain(queue, wait_seconds, self._on_wait)
                if not self._stop_requested.is_set():
                    self._run_batches(drain)
                    self._summaries[queue] = drain.summary
            except UpstreamsUnavailable as error:
                self._summaries[queue] = drain.summary
                self._errors[queue] = QueueFailure(str(error))
                self._outages.add(queue)
            except SettingsError as error:
                self._wrong_settings.append(error)
            except Exception as error:  # one unavailable queue must not stop the other queues
                if queue in self._drains and self._drains[queue].summary.received:
                    self._summaries[queue] = self._drains[queue].summary
                failure = self._errors[queue] = queue_failure(self._application.settings, error)
                structlog.get_logger("jobs.operations.drain").error(
                    "drain-failed", reason=failure.reason, exc_info=traces_wanted()
                )

    def _run_batches(self, drain: "Drain") -> None:
        if self._parameters.until_empty:
            drain.run_until_empty(self._parameters.max_batches)
        else:
            drain.run_batch()
