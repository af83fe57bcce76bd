"""The figures of `jobs.health.figures` as metrics for Prometheus. `status` assesses the same figures."""

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from itertools import product
from typing import Any

from prometheus_client.core import GaugeMetricFamily, Metric

from jobs.health.deadline import ReadResult
from jobs.health.figures import DrainFigures, Figures, ReconciliationFigures, SchedulerFigures
from jobs.runtime.metrics import PREFIX
from reports.delivery.channels import CHANNELS
from sync import clock
from sync.alerting import Severity
from sync.store.creations import OPEN_STATES
from sync.store.findings import FindingKind
from sync.store.outbox import DeliveryState

#: How long callers share the same figures: CloudWatch charges for each request.
CACHE_SECONDS = 30.0
_UNSENT = (DeliveryState.PENDING, DeliveryState.FAILED)


class FigureMetrics:
    """The figures as metrics, read at most once every 30 seconds. Safe to share between threads."""

    def __init__(self, read: Callable[[], Figures], monotonic: Callable[[], float] = time.monotonic) -> None:
        self._read = read
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._read_at = float("-inf")
        self._figures: Figures | None = None

    def collect(self) -> Iterable[Metric]:
        """The metrics of the figures.

        An unknown figure is left out, and the metric `…_figure_unknown` is 1 for that figure.
        """
        with self._lock:
            if self._figures is None or self._monotonic() - self._read_at >= CACHE_SECONDS:
                self._figures = self._read()
                self._read_at = self._monotonic()
            figures = self._figures
        return list(_metrics(figures))


def _metrics(figures: Figures) -> Iterator[Metric]:
    yield from _of_queues(figures)
    yield from _of_schedulers(figures.drains)
    yield from _of_reconciliations(figures.reconciliations)
    if figures.findings.value is not None:
        found = {(str(each.kind), str(each.severity)): each.number for each in figures.findings.value}
        labels = product(map(str, FindingKind), map(str, Severity))
        yield _gauge("open_findings", "Findings that are open.", ("kind", "severity"), labels, found)
    if figures.creations.value is not None:
        unsettled = {(str(each.state),): each.number for each in figures.creations.value}
        states = ((str(each),) for each in sorted(OPEN_STATES))
        help_text = "Creations without a mapping whose NOMIS record exists, or may exist now or later."
        yield _gauge("unsettled_creations", help_text, ("state",), states, unsettled)
    if figures.deliveries.value is not None:
        unsent = {(each.channel, str(each.state)): each.number for each in figures.deliveries.value}
        channels = product(CHANNELS, map(str, _UNSENT))
        help_text = (
            "Deliveries that are waiting (pending), or that are at most three weeks old and were given up on (failed)."
        )
        yield _gauge("unsent_deliveries", help_text, ("channel", "state"), channels, unsent)
    if figures.due_events.value is not None:
        help_text = "Telemetry events that Application Insights has not accepted yet."
        yield _gauge("unsent_telemetry_events", help_text, (), [()], {(): figures.due_events.value})
    yield _unknown(figures)


def _of_queues(figures: Figures) -> Iterator[Metric]:
    messages = GaugeMetricFamily(
        f"{PREFIX}_queue_messages", "Messages on a queue (main) or its DLQ.", labels=["queue", "kind", "state"]
    )
    ages = GaugeMetricFamily(
        f"{PREFIX}_queue_oldest_message_age_seconds",
        "Seconds since the oldest message of a queue (main) or its DLQ was sent, according to CloudWatch.",
        labels=["queue", "kind"],
    )
    for queue, reading in figures.queues.items():
        found = reading.value
        if found is None:
            continue
        for kind, name, counts in (("main", found.name, found.main), ("dlq", found.dlq_name, found.dlq)):
            states = {"waiting": counts.visible, "in flight": counts.in_flight, "delayed": counts.delayed}
            for state, number in states.items():
                messages.add_metric([queue, kind, state], number)
            age = (figures.ages.value or {}).get(name)
            if age is not None:
                ages.add_metric([queue, kind], age if counts.total else 0)
    yield from (messages, ages)


def _of_schedulers(drains: ReadResult[DrainFigures]) -> Iterator[Metric]:
    if drains.value is None:
        return
    heartbeat = GaugeMetricFamily(
        f"{PREFIX}_scheduler_heartbeat_age_seconds",
        "Seconds since the scheduler on a host last recorded its heartbeat.",
        labels=["host"],
    )
    latest: dict[str, SchedulerFigures] = {each.host: each for each in drains.value.schedulers}
    for host, each in latest.items():
        heartbeat.add_metric([host], _age(each.heartbeat_at or each.started_at))
    yield heartbeat


def _of_reconciliations(reconciliations: Mapping[str, ReadResult[ReconciliationFigures]]) -> Iterator[Metric]:
    def family(name: str, help_text: str) -> GaugeMetricFamily:
        return GaugeMetricFamily(f"{PREFIX}_reconciliation_{name}", help_text, labels=["reconciliation"])

    age = family("last_complete_age_seconds", "Seconds since the end of the last complete run for everyone.")
    differences = family("differences", "Records that differ in the last complete run for everyone.")
    expected = family(
        "expected", "1 if the scheduler or a CronJob runs the reconciliation on a schedule, and 0 otherwise."
    )
    unread = family("unread", "Records and lists that the last run for everyone could not read.")
    for name, reading in reconciliations.items():
        found = reading.value
        if found is not None:
            expected.add_metric([name], found.on_schedule)
        if found is not None and found.completed_at is not None:
            age.add_metric([name], _age(found.completed_at))
        if found is not None and found.differences is not None:
            differences.add_metric([name], found.differences)
        if found is not None and found.last_unread is not None:
            unread.add_metric([name], found.last_unread)
    yield from (age, differences, expected, unread)


def _unknown(figures: Figures) -> Metric:
    readings: dict[str, ReadResult[object]] = {
        **{f"queue {queue}": reading for queue, reading in figures.queues.items()},
        **{f"reconciliation {name}": reading for name, reading in figures.reconciliations.items()},
        "ages": figures.ages,
        "schedulers": figures.drains,
        "findings": figures.findings,
        "creations": figures.creations,
        "deliveries": figures.deliveries,
        "telemetry": figures.due_events,
    }
    found = {(name,): 1 for name, reading in readings.items() if reading.unknown is not None}
    help_text = "1 if the figure could not be read, and 0 otherwise."
    return _gauge("figure_unknown", help_text, ("figure",), ((name,) for name in readings), found)


def _gauge(
    name: str,
    help_text: str,
    labels: Sequence[str],
    known: Iterable[tuple[str, ...]],
    values: Mapping[Any, float],
) -> GaugeMetricFamily:
    """A metric family with `values`, and with zero for each `known` combination of labels that has no value."""
    family = GaugeMetricFamily(f"{PREFIX}_{name}", help_text, labels=labels)
    complete: dict[tuple[str, ...], float] = {**dict.fromkeys(known, 0), **values}
    for each, value in complete.items():
        family.add_metric(each, value)
    return family


def _age(moment: datetime) -> float:
    return (clock.now() - moment).total_seconds()
