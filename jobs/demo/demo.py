"""The `demo` command: runs the whole program against the sandbox, from the first event to the report.

This is the only module of the program that uses the sandbox.
"""

import importlib.util
import json
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jobs.cli.output import live_progress, print_table, say
from jobs.demo.earlier_runs import store_earlier_reports
from jobs.demo.earlier_weeks import record_earlier_weeks
from jobs.demo.outcome import DemoOutcome, Findings, table_lines
from jobs.errors import StopRequested, UsageError, WorkError, exit_code_for
from jobs.operations.deliveries import export_telemetry, send_pending
from jobs.operations.reconcile import ProgressCallback, parameters_as_dict, reconcile
from jobs.runtime.application import Application, open_application
from jobs.runtime.logging import bound
from jobs.runtime.signals import stopping
from reports.engine.result import ReconciliationResult
from reports.engine.run_start import ReconciliationParameters
from reports.reconciliations.incentives.result import NAME, IncentiveResult
from reports.reconciliations.registry import RECONCILIATIONS, Entry
from sync.settings.loading import forget_proxies, has_display
from sync.settings.queues import QUEUES
from sync.store.telemetry import read_events

if TYPE_CHECKING:
    from sandbox import Sandbox
    from sync.pipeline.drain import Drain

#: The longest wait for alerts and reports to be delivered.
_DELIVERY_SECONDS = 30.0
#: A message that is not handled within this time will never be handled.
_DRAIN_SECONDS = 600
#: The share of the events that arrive twice, and the share that arrive in the wrong order.
_TWICE, _OUT_OF_ORDER = 0.06, 0.03
_EXCLUDED = 2
#: How many planted differences are only in flight, and for how many seconds: they end before they are read again.
_IN_FLIGHT, _IN_FLIGHT_SECONDS = 2, 0.5
_HANDLED = ("applied", "coalesced", "ignored", "duplicate", "retry_queued", "switched_off", "unhandled", "ambiguous")


@dataclass(frozen=True, slots=True)
class DemoOptions:
    """The options of a demo. latency_ms: how long each fake service takes to respond, in milliseconds."""

    directory: Path
    prisoners: int
    events: int
    seed: int
    latency_ms: int
    open_report: bool


def run_demo(options: DemoOptions) -> None:
    """Runs the demo and prints its result.

    Raises `WorkError` if a stage fails or the result is wrong, and `UsageError` if the sandbox is not installed or the
    folder cannot be used. Signals are handled while the demo drains and reconciles; at other times, they are left to
    the caller.
    """
    if any(importlib.util.find_spec(name) is None for name in ("aiohttp", "moto")):
        raise UsageError("the demo needs the sandbox: pip install 'prisoner-to-nomis[sandbox]'")
    from sandbox import Sandbox

    folder = options.directory.resolve()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for left in folder.glob("demo.db*"):
            left.unlink()
        log = (folder / "demo.log").open("w", encoding="utf-8")
    except OSError as error:
        raise UsageError(f"--dir {options.directory}: {error.strerror}") from error
    started = time.monotonic()
    options_of_sandbox: dict[str, Any] = {"every_cause": True, "excluded": _EXCLUDED, "plant": ["all"]}
    options_of_sandbox |= {"in_flight": _IN_FLIGHT, "in_flight_seconds": _IN_FLIGHT_SECONDS}
    forget_proxies()
    with (
        log,
        live_progress(every_seconds=10) as progress,
        Sandbox.start(options.prisoners, options.seed, options.latency_ms, **options_of_sandbox) as sandbox,
        open_application(_environment(sandbox, folder), log_to=log) as application,
    ):
        outcome = _Demo(options, folder, sandbox, application, progress).run(started)
    _show(outcome, open_report=options.open_report)


def _environment(sandbox: "Sandbox", folder: Path) -> dict[str, str]:
    """The settings of the demo: those of the sandbox, with everything written below `folder` and with short waits."""
    excluded = sandbox.planted()["excludedBookings"]
    return {
        **sandbox.environment(),
        "DATABASE_URL": f"sqlite:///{folder / 'demo.db'}",
        "REPORTS_LOCATION": str(folder / "reports"),
        "ENVIRONMENT_NAME": "the demo",
        "HMPPS_SQS_ERROR_VISIBILITY_TIMEOUT": "1,1,2",
        "HMPPS_SQS_MAX_RECEIVE_COUNT": "50",
        "DRAIN_GRACE_SECONDS": "1",
        "CREATION_SETTLING_SECONDS": "1",
        "RECONCILIATION_RECHECK_SECONDS": "0.6",
        "RECONCILIATION_EXCLUSIONS": ";".join(f"{booking},known for years,2023-05-01" for booking in excluded),
        "LOG_FORMAT": "json",
        "APPLICATIONINSIGHTS_CONNECTION_STRING": sandbox.connection_string(),
    }


class _Demo:
    """One demo, with a running sandbox and application."""

    def __init__(
        self,
        options: DemoOptions,
        folder: Path,
        sandbox: "Sandbox",
        application: Application,
        progress: ProgressCallback,
    ) -> None:
        self._options = options
        self._folder = folder
        self._sandbox = sandbox
        self._application = application
        self._progress = progress
        self._stop_requested = threading.Event()
        self._lock = threading.Lock()
        self._drains: list[Drain] = []
        self._drained: Counter[str] = Counter()
        self._errors: list[str] = []

    def run(self, started: float) -> DemoOutcome:
        """Publishes events, drains the queues, verifies NOMIS, reconciles, and returns the outcome.

        `started` is the reading of the monotonic clock when the demo began.
        """
        for queue in QUEUES:
            self._application.queue_pair(queue)
        traffic = self._publish()
        with stopping(self._stop):
            self._drain(int(traffic["messages"]))
        verification = self._sandbox.verify()
        for queue in QUEUES:
            self._sandbox.send_waiting(self._application.settings.queue(queue).dlq_name, queue)
        earlier = record_earlier_weeks(self._application, self._sandbox.prisoners(), self._sandbox.planted())
        with stopping(self._stop):
            results = {name: self._reconcile(entry) for name, entry in RECONCILIATIONS.items()}
        store_earlier_reports(self._application, earlier, results)
        incentives = results.pop(NAME)
        assert isinstance(incentives, IncentiveResult)
        slack, planted = self._sandbox.slack(), self._sandbox.planted()
        (self._folder / "slack.json").write_text(json.dumps(slack, indent=1), encoding="utf-8")
        (self._folder / "slack.txt").write_text(slack_text(slack["messages"]), encoding="utf-8")
        return DemoOutcome(
            traffic=traffic,
            drained=self._drained,
            planted=planted["mismatches"],
            bulk_differs=len(planted["bulkDiffers"]),
            truth=verification,
            result=incentives,
            earlier=earlier[NAME],
            others=[
                Findings(result, planted["reconciliations"][name], earlier[name]) for name, result in results.items()
            ],
            tracked=Counter(event["name"] for event in read_events(self._application.database)),
            accepted=self._accepted(),
            slack=len(slack["messages"]),
            slack_file=str(self._folder / "slack.txt"),
            report=str(self._folder / "reports" / incentives.run_id / "report.html"),
            overview=str(self._folder / "reports" / "index.html"),
            seconds=time.monotonic() - started,
        )

    def _accepted(self) -> Counter[str]:
        """How many events of each name Application Insights has accepted, counting each event once."""
        export_telemetry(self._application, _DELIVERY_SECONDS)
        events = {event["properties"]["eventId"]: event["name"] for event in self._sandbox.custom_events()}
        return Counter(events.values())

    def _stop(self) -> None:
        """Ends the current stage.

        Each drain receives no more messages, and soon returns to its queue those that it has not handled.
        """
        say("stopping; press Ctrl+C again to end at once", err=True)
        with self._lock:
            self._stop_requested.set()
            drains = list(self._drains)
        for drain in drains:
            drain.stop()

    def _publish(self) -> dict[str, Any]:
        """Makes the services change records and publish events, and arranges for some of the drains' calls to fail."""
        events = self._options.events
        self._progress("publishing events", 0, events)
        twice, out_of_order = round(events * _TWICE), round(events * _OUT_OF_ORDER)
        traffic = self._sandbox.traffic(events, self._options.seed, duplicates=twice, out_of_order=out_of_order)
        self._progress("publishing events", events, events)
        # Courses are left out: NOMIS cannot show whether it has a course, so a person would have to decide.
        self._sandbox.fault("nomis", method="POST", path=r"^/(?!activities$)", kind="status", status=503, times=3)
        self._sandbox.fault("mapping", method="POST", kind="reset_after_write", times=2)
        self._sandbox.fault("nomis", method="POST", path=r"/visits$", kind="reset_after_write", times=1)
        return traffic

    def _drain(self, messages: int) -> None:
        """Drains all queues at the same time until every message is handled."""
        deadline = time.monotonic() + _DRAIN_SECONDS
        arguments = [(queue, deadline, messages) for queue in QUEUES]
        threads = [threading.Thread(target=self._drain_queue, args=each, name=f"drain {each[0]}") for each in arguments]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if self._stop_requested.is_set():
            raise StopRequested("stopped while draining")
        self._application.telemetry.flush()
        send_pending(self._application, _DELIVERY_SECONDS)
        if self._errors:
            raise WorkError("; ".join(self._errors))
        self._progress("draining", messages, messages)

    def _drain_queue(self, queue: str, deadline: float, messages: int) -> None:
        with bound(queue=queue):
            try:
                drain = self._application.open_drain(queue)
                with self._lock:
                    self._drains.append(drain)
                pair = self._application.queue_pair(queue)
                while not self._stop_requested.is_set():
                    summary = drain.run_batch()
                    self._count(summary.as_dict(), messages)
                    if not summary.received and not pair.main.counts().total:
                        return
                    if time.monotonic() > deadline:
                        raise WorkError(f"{queue}: messages were not handled within {_DRAIN_SECONDS} s")
            except Exception as error:  # reported at the end, when the other queues are done
                self._errors.append(f"{queue}: {exit_code_for(error)[1]}")

    def _count(self, counts: dict[str, Any], messages: int) -> None:
        with self._lock:
            self._drained.update({name: value for name, value in counts.items() if isinstance(value, int)})
            handled = sum(self._drained[name] for name in _HANDLED)
        self._progress("draining", min(handled, messages - 1), messages)

    def _reconcile(self, entry: Entry) -> ReconciliationResult:
        parameters = ReconciliationParameters()
        with (
            self._application.job_runs.run(entry.job, parameters_as_dict(parameters)) as active_run,
            bound(run_id=active_run.id),
        ):
            outcome = reconcile(
                self._application,
                entry,
                active_run,
                parameters,
                self._stop_requested,
                lambda stage, done, total: self._progress(f"{entry.name}, {stage}", done, total),
            )
            send_pending(self._application, _DELIVERY_SECONDS)
        assert outcome.result is not None
        return outcome.result


def _show(outcome: DemoOutcome, *, open_report: bool) -> None:
    """Prints the tables. Opens the report if `open_report` is set and there is a terminal and a desktop.

    Raises `WorkError`, and opens nothing, if anything is wrong.
    """
    say()
    for line in table_lines([("WHAT", "FIGURE"), *outcome.rows()]):
        say(line)
    say()
    print_table(("LOOK NEXT AT", "WHERE"), outcome.places())
    problems = outcome.problems()
    if problems:
        raise WorkError("; ".join(problems))
    if open_report and sys.stdout.isatty() and has_display():
        import webbrowser

        webbrowser.open(Path(outcome.report).as_uri())


_INDENT = "    "


def slack_text(messages: Sequence[Mapping[str, Any]]) -> str:
    """The messages in order, each below its channel. The replies to a message are indented below it."""
    replies: dict[str, list[Mapping[str, Any]]] = {}
    for each in messages:
        if each["thread_ts"]:
            replies.setdefault(each["thread_ts"], []).append(each)
    lines: list[str] = []
    for each in messages:
        if each["thread_ts"]:
            continue
        lines += [f"[{each['channel']}]", *_lines(each), ""]
        for reply in replies.get(each["ts"], ()):
            lines += [*(f"{_INDENT}{line}" for line in _lines(reply)), ""]
    return "\n".join(lines)


def _lines(message: Mapping[str, Any]) -> list[str]:
    """The lines that people read: the text in the blocks, or the plain text of a message without blocks."""
    texts = list(_texts(message["blocks"])) or [str(message["text"])]
    return [line for text in texts for line in text.splitlines()]


def _texts(part: Any) -> Iterator[str]:
    if isinstance(part, list):
        for each in part:
            yield from _texts(each)
    elif isinstance(part, dict):
        for name, value in part.items():
            if name == "text" and isinstance(value, str):
                yield value
            else:
                yield from _texts(value)
