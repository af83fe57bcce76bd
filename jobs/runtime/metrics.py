"""Metrics for Prometheus: messages, calls, breakers, runs and mismatches. They contain no personal data."""

from collections.abc import Callable, Iterable, Iterator, Mapping

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Histogram,
    Info,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from jobs.runtime.job_runs import EVERYONE, SCOPE, JobRun, JobRuns
from sync import clock
from sync.errors import UpstreamError
from sync.events.context import Outcome
from sync.settings.upstreams import UpstreamName
from sync.store.database import StoreUnavailable
from sync.upstream.breaker_rules import BreakerState

PREFIX = "prisoner_to_nomis"
#: The only count of a run that has its own metric.
_MISMATCHES = "mismatches"
_LATENCIES = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_ATTEMPTS = (1, 2, 3, 4, 6, 10, 20)
_BREAKER_VALUES = {BreakerState.CLOSED: 0.0, BreakerState.HALF_OPEN: 0.5, BreakerState.OPEN: 1.0}


class Metrics:
    """Counts messages and calls since the process began. It is safe to share between threads."""

    def __init__(self) -> None:
        # The start time of the process makes the creation times of the counters superfluous.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self._registry = CollectorRegistry(auto_describe=False)
        ProcessCollector(registry=self._registry)
        self._messages = Counter(
            f"{PREFIX}_messages",
            "Messages by queue and outcome.",
            ("queue", "outcome"),
            registry=self._registry,
        )
        self._attempts = Histogram(
            f"{PREFIX}_message_receives",
            "How many times a message had been received when it reached its outcome.",
            ("queue", "outcome"),
            buckets=_ATTEMPTS,
            registry=self._registry,
        )
        self._calls = Histogram(
            f"{PREFIX}_upstream_call_seconds",
            "How long calls to upstream services took.",
            ("service", "method", "result"),
            buckets=_LATENCIES,
            registry=self._registry,
        )

    def name_build(self, version: str, environment: str) -> None:
        """Sets the metric that says which version runs in which environment."""
        info = Info(f"{PREFIX}_build", "The running version and its environment.", registry=self._registry)
        info.info({"version": version, "environment": environment})

    def before_call(self, _service: UpstreamName) -> bool:
        """Counts nothing: the call has not ended."""
        return False

    def after_call(self, service: UpstreamName, method: str, error: UpstreamError | None, seconds: float) -> None:
        """Counts a call and its duration, by service, method and result (`ok`, the HTTP status, or `no answer`)."""
        result = "ok" if error is None else "no answer" if error.status is None else str(error.status)
        self._calls.labels(service, method, result).observe(seconds)

    def not_called(self, service: UpstreamName) -> None:
        """Counts nothing: the call was not made."""

    def message_ended(self, queue: str, outcome: Outcome, receive_count: int) -> None:
        """Counts a message of `queue` that has reached `outcome` after being received `receive_count` times."""
        self._messages.labels(queue, outcome).inc()
        self._attempts.labels(queue, outcome).observe(receive_count)

    def add(self, collect: Callable[[], Iterable[Metric]]) -> None:
        """Adds metrics that `collect` reads each time the page of metrics is requested."""
        self._registry.register(_Collected(collect))

    def render(self) -> bytes:
        """All metrics in the text format of Prometheus."""
        return generate_latest(self._registry)


class _Collected(Collector):
    """Metrics that are read on request."""

    def __init__(self, collect: Callable[[], Iterable[Metric]]) -> None:
        self._collect = collect

    def collect(self) -> Iterable[Metric]:
        """The current metrics."""
        return self._collect()


def breaker_metrics(states: Callable[[], Mapping[UpstreamName, BreakerState]]) -> Iterator[Metric]:
    """The metric of the state of each service's breaker: 0 means closed, 0.5 half-open, and 1 open."""
    family = GaugeMetricFamily(
        f"{PREFIX}_breaker_state",
        "Whether a service counts as down: 0 no, 0.5 being tried, 1 yes.",
        labels=["service"],
    )
    for service, state in states().items():
        family.add_metric([service], _BREAKER_VALUES[state])
    yield family


def run_metrics(job_runs: JobRuns, jobs: Iterable[str]) -> Iterator[Metric]:
    """The metrics of each job: the status of its last run, and the age and mismatches of its last successful run.

    Only runs for everyone count. A run that checks a single difference again, for example, does not. The metrics
    are missing while the database is unavailable.
    """
    status = GaugeMetricFamily(
        f"{PREFIX}_run_status", "1 for the status of a job's last run for everyone.", labels=["job", "status", SCOPE]
    )
    age = GaugeMetricFamily(
        f"{PREFIX}_last_success_age_seconds",
        "Seconds since the end of a job's last successful run for everyone.",
        labels=["job", SCOPE],
    )
    mismatches = GaugeMetricFamily(
        f"{PREFIX}_mismatches",
        "Records that differed in a job's last successful run for everyone.",
        labels=["job", SCOPE],
    )
    try:
        for job in jobs:
            last = job_runs.last_over_everyone(job)
            if last is not None:
                status.add_metric([job, last.status, EVERYONE], 1)
            success = job_runs.last_success(job)
            if success is not None:
                _add_success(success, age, mismatches)
    except StoreUnavailable:
        # The health page shows that the database is unavailable; the other metrics are still worth having.
        return
    yield from (status, age, mismatches)


def _add_success(run: JobRun, age: GaugeMetricFamily, mismatches: GaugeMetricFamily) -> None:
    if run.finished_at is not None:
        age.add_metric([run.job, EVERYONE], (clock.now() - run.finished_at).total_seconds())
    if isinstance(run.counts.get(_MISMATCHES), int):
        mismatches.add_metric([run.job, EVERYONE], run.counts[_MISMATCHES])
