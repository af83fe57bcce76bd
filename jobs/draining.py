"""The `drain` job: micro-batches of some queues, side by side, as one run of the ledger."""

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import TYPE_CHECKING, Any, Self

import structlog

from jobs.composition import Program
from jobs.endings import WorkError, ending_of
from jobs.ledger import RunInHand, Trigger
from jobs.logging import bound, traces_wanted
from jobs.output import counts_text, duration_text, print_json
from jobs.queue_names import read_queues
from jobs.signals import stopping
from sync.drain import BatchSummary, UpstreamsDown
from sync.queues.aws import queue_remedy
from sync.queues.queue import QueueUnavailable
from sync.settings import QUEUES, SettingsError

if TYPE_CHECKING:
    from sync.drain import Drain

JOB = "drain"
#: How long the end of a command waits for its alerts to be sent.
ALERT_SECONDS = 5.0


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
        return cls(read_queues(names), until_empty or max_batches is not None, max_batches, wait_seconds)

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
    """

    summaries: Mapping[str, "BatchSummary"]
    errors: Mapping[str, str]
    remedies: Sequence[str] = ()

    @property
    def totals(self) -> dict[str, Any]:
        """The counts over all queues; the seconds are those of the slowest."""
        if not self.summaries:
            return {}
        totals = reduce(add, self.summaries.values()).as_dict()
        totals.pop("queue", None)
        return totals | {"seconds": round(max(summary.seconds for summary in self.summaries.values()), 3)}

    def as_dict(self) -> dict[str, Any]:
        """The totals, and the same for each queue."""
        return {
            **self.totals,
            "queues": {name: summary.as_dict() for name, summary in self.summaries.items()},
            "errors": dict(self.errors),
        }


def run_drain(
    program: Program,
    parameters: DrainParameters,
    *,
    as_json: bool = False,
    trigger: Trigger = Trigger.MANUAL,
    rerun_of: str | None = None,
) -> None:
    """Drains, records the run, and prints what was done. Raises `WorkError` when the work itself failed."""
    with (
        program.ledger.run(JOB, parameters.as_dict(), trigger=trigger, rerun_of=rerun_of) as in_hand,
        bound(run_id=in_hand.id),
    ):
        result = drain_queues(program, parameters)
        in_hand.counts.update(result.as_dict())
        program.telemetry.flush()
        send_waiting(program, ALERT_SECONDS)
        _print(in_hand, result, as_json=as_json)
        _judge(result)


def send_waiting(program: Program, seconds: float) -> None:
    """Sends what waits in the outbox, for `seconds` at most; the rest stays there for the next sender."""
    log = structlog.get_logger("jobs.draining")
    try:
        counts = program.outbox.flush(seconds)
    except Exception as error:  # they are kept, and the work they tell of is done
        log.warning("deliveries-kept", reason=ending_of(error)[1])
    else:
        if counts.later:
            log.warning(
                "deliveries-kept", count=counts.later, reason="they are sent by the scheduler or the next command"
            )


def drain_queues(program: Program, parameters: DrainParameters) -> DrainResult:
    """Drains the queues side by side, one thread each; SIGTERM finishes what is in work.

    Raises `SettingsError` when a setting that all of them need cannot be used.
    """
    drains: dict[str, Drain] = {}
    summaries: dict[str, BatchSummary] = {}
    errors: dict[str, str] = {}
    remedies: dict[str, str] = {}
    wrong_settings: list[SettingsError] = []
    asked = threading.Event()

    def drain(queue: str) -> None:
        with bound(queue=queue):
            try:
                drains[queue] = program.open_drain(queue, parameters.wait_seconds)
                if not asked.is_set():
                    summaries[queue] = _drain(drains[queue], parameters)
            except UpstreamsDown as error:
                summaries[queue] = error.summary
                errors[queue] = str(error)
            except SettingsError as error:
                wrong_settings.append(error)
            except Exception as error:  # one queue out of reach must not stop the others
                errors[queue] = ending_of(error)[1]
                if isinstance(error, QueueUnavailable):
                    remedies[queue] = queue_remedy(program.settings, queue, error)
                structlog.get_logger("jobs.draining").error(
                    "drain-failed", reason=errors[queue], exc_info=traces_wanted()
                )

    def stop() -> None:
        asked.set()
        for one in list(drains.values()):
            one.stop()

    threads = [threading.Thread(target=drain, args=(queue,), name=f"drain {queue}") for queue in parameters.queues]
    with stopping(stop):
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    if wrong_settings:
        raise wrong_settings[0]
    done = {name: summaries[name] for name in parameters.queues if name in summaries}
    return DrainResult(done, errors, tuple(dict.fromkeys(remedies.values())))


def _drain(drain: "Drain", parameters: DrainParameters) -> "BatchSummary":
    return drain.run_until_empty(parameters.max_batches) if parameters.until_empty else drain.run_batch()


def _print(in_hand: RunInHand, result: DrainResult, *, as_json: bool) -> None:
    if as_json:
        print_json({"run": in_hand.id, **result.as_dict()})
        return
    import typer

    totals = result.totals
    seconds = totals.pop("seconds", None)
    queues = ", ".join(result.summaries)
    typer.echo(
        f"drained {queues}: {counts_text(totals) or 'nothing received'}; {duration_text(seconds)}"
        if queues
        else "drained nothing"
    )


def _judge(result: DrainResult) -> None:
    """Raises `WorkError` when the work itself failed; messages that failed one by one are their queue's business."""
    problems = [f"{queue}: {reason}" for queue, reason in result.errors.items()]
    if problems:
        raise WorkError("; ".join([*problems, *result.remedies]))
