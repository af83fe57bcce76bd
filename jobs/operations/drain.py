"""The `drain` job: micro-batches of some queues, side by side, as one run of the ledger."""

import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from itertools import islice
from operator import add
from typing import TYPE_CHECKING, Any, Self

import structlog

from jobs.cli.exit_codes import WorkError, exit_code_for
from jobs.cli.output import counts_text, duration_text, print_json, say
from jobs.cli.queue_names import parse_queues
from jobs.runtime.application import Application
from jobs.runtime.job_runs import ActiveRun, Trigger
from jobs.runtime.logging import bound, traces_wanted
from jobs.runtime.signals import stopping
from sync.pipeline.drain import BatchSummary, UpstreamsDown
from sync.queues.aws import queue_remedy
from sync.queues.queue import QueueUnavailable
from sync.settings.declaration import QUEUES
from sync.settings.loading import SettingsError

if TYPE_CHECKING:
    from sync.pipeline.drain import Drain

JOB = "drain"
#: How long the end of a command waits for its alerts to be sent.
ALERT_SECONDS = 5.0
#: Reasons of failed messages that are named at the end of a command; the rest is in the telemetry.
_MOST_REASONS = 5


@dataclass(frozen=True, slots=True)
class DrainParameters:
    """What a drain was asked for. `max_batches` is for each queue; with it the drain goes on until empty as well.

    `wait_seconds`: how long a service that is down is waited for before its messages are handed back.
    """

    queues: tuple[str, ...] = QUEUES
    until_empty: bool = False
    max_batches: int | None = None
    wait_seconds: float = 30.0

    @classmethod
    def of(
        cls, names: Sequence[str], *, until_empty: bool, max_batches: int | None = None, wait_seconds: float = 30.0
    ) -> Self:
        """The parameters with the named queues (all where none is named). Raises `UsageError` for other names."""
        return cls(parse_queues(names), until_empty or max_batches is not None, max_batches, wait_seconds)

    def as_dict(self) -> dict[str, Any]:
        """The parameters as the ledger keeps them."""
        return {
            "queues": list(self.queues),
            "untilEmpty": self.until_empty,
            "maxBatches": self.max_batches,
            "waitSeconds": self.wait_seconds,
        }

    @classmethod
    def from_dict(cls, kept: Mapping[str, Any]) -> Self:
        """The parameters of an earlier run."""
        return cls.of(
            kept["queues"],
            until_empty=kept["untilEmpty"],
            max_batches=kept["maxBatches"],
            wait_seconds=kept["waitSeconds"],
        )


@dataclass(frozen=True, slots=True)
class DrainResult:
    """What the drains of the queues did.

    `errors` has the queues whose drain broke off, with the reason on one line; `remedies` says what may mend that.
    `reasons`: why messages failed, and how many for each reason, the most frequent first.
    """

    summaries: Mapping[str, "BatchSummary"]
    errors: Mapping[str, str]
    remedies: Sequence[str] = ()
    reasons: Mapping[str, int] = field(default_factory=dict)

    @property
    def totals(self) -> dict[str, Any]:
        """The counts over all queues; the seconds are those of the slowest."""
        if not self.summaries:
            return {}
        totals = reduce(add, self.summaries.values()).as_dict()
        totals.pop("queue", None)
        return totals | {"seconds": round(max(summary.seconds for summary in self.summaries.values()), 3)}

    def as_dict(self) -> dict[str, Any]:
        """The totals, the same for each queue, and why things went wrong."""
        return {
            **self.totals,
            "queues": {name: summary.as_dict() for name, summary in self.summaries.items()},
            "errors": dict(self.errors),
            "reasons": dict(self.reasons),
        }


def run_drain(
    application: Application,
    parameters: DrainParameters,
    *,
    as_json: bool = False,
    trigger: Trigger = Trigger.MANUAL,
    rerun_of: str | None = None,
) -> None:
    """Drains, records the run, and prints what was done; SIGTERM finishes what is in work, and all that follows.

    Raises `WorkError` when the work itself failed.
    """
    drains = _Drains(application, parameters)
    with (
        stopping(drains.stop),
        application.job_runs.run(JOB, parameters.as_dict(), trigger=trigger, rerun_of=rerun_of) as active_run,
        bound(run_id=active_run.id),
    ):
        result = drains.run()
        active_run.counts.update(result.as_dict())
        application.telemetry.flush()
        send_waiting(application, ALERT_SECONDS)
        _print(active_run, result, as_json=as_json)
        _judge(result)


def send_waiting(application: Application, seconds: float) -> None:
    """Sends what waits in the outbox, for `seconds` at most; the rest stays there for the next sender."""
    log = structlog.get_logger("jobs.operations.drain")
    try:
        counts = application.outbox.flush(seconds)
    except Exception as error:  # they are kept, and the work they tell of is done
        log.warning("deliveries-kept", reason=exit_code_for(error)[1])
    else:
        if counts.later:
            log.warning(
                "deliveries-kept", count=counts.later, reason="they are sent by the scheduler or the next command"
            )


class _Drains:
    """The drains of the queues, side by side, one thread each. `stop` may be called from any thread."""

    def __init__(self, application: Application, parameters: DrainParameters) -> None:
        self._application = application
        self._parameters = parameters
        self._asked = threading.Event()
        self._drains: dict[str, Drain] = {}
        self._summaries: dict[str, BatchSummary] = {}
        self._errors: dict[str, str] = {}
        self._remedies: dict[str, str] = {}
        self._wrong_settings: list[SettingsError] = []

    def run(self) -> DrainResult:
        """Drains, and says what was done. Raises `SettingsError` when a setting that all need cannot be used."""
        queues = self._parameters.queues
        threads = [threading.Thread(target=self._drain, args=(queue,), name=f"drain {queue}") for queue in queues]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if self._wrong_settings:
            raise self._wrong_settings[0]
        done = {name: self._summaries[name] for name in queues if name in self._summaries}
        reasons: Counter[str] = reduce(add, (drain.reasons for drain in self._drains.values()), Counter())
        return DrainResult(
            done, self._errors, tuple(dict.fromkeys(self._remedies.values())), dict(reasons.most_common())
        )

    def stop(self) -> None:
        """Finishes what is in work; nothing more is received."""
        self._asked.set()
        for one in list(self._drains.values()):
            one.stop()

    def _drain(self, queue: str) -> None:
        with bound(queue=queue):
            try:
                drain = self._drains[queue] = self._application.open_drain(queue, self._parameters.wait_seconds)
                if not self._asked.is_set():
                    self._summaries[queue] = self._batches(drain)
            except UpstreamsDown as error:
                self._summaries[queue] = error.summary
                self._errors[queue] = str(error)
            except SettingsError as error:
                self._wrong_settings.append(error)
            except Exception as error:  # one queue out of reach must not stop the others
                self._errors[queue] = exit_code_for(error)[1]
                if isinstance(error, QueueUnavailable):
                    self._remedies[queue] = queue_remedy(self._application.settings, queue, error)
                structlog.get_logger("jobs.operations.drain").error(
                    "drain-failed", reason=self._errors[queue], exc_info=traces_wanted()
                )

    def _batches(self, drain: "Drain") -> BatchSummary:
        asked = self._parameters
        return drain.run_until_empty(asked.max_batches) if asked.until_empty else drain.run_batch()


def _print(active_run: ActiveRun, result: DrainResult, *, as_json: bool) -> None:
    if as_json:
        print_json({"run": active_run.id, **result.as_dict()})
        return

    totals = result.totals
    seconds = totals.pop("seconds", None)
    queues = ", ".join(result.summaries)
    say(
        f"drained {queues}: {counts_text(totals) or 'nothing received'}; {duration_text(seconds)}"
        if queues
        else "drained nothing"
    )
    for reason, number in islice(result.reasons.items(), _MOST_REASONS):
        say(f"{number} attempts failed: {reason}", err=True)
    if len(result.reasons) > _MOST_REASONS:
        say("and for other reasons; see: prisoner-to-nomis telemetry --name message-failed", err=True)


def _judge(result: DrainResult) -> None:
    """Raises `WorkError` when the work itself failed; messages that failed one by one are their queue's business."""
    problems = [f"{queue}: {reason}" for queue, reason in result.errors.items()]
    if problems:
        raise WorkError("; ".join([*problems, *result.remedies]))
