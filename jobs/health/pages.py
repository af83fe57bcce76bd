"""The health pages of a scheduler: what they show, put together from the program."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from importlib.metadata import version

import structlog

from jobs.health.metrics import breaker_metrics, run_metrics
from jobs.health.probes import Health, health_checks
from jobs.health.server import HealthPages
from jobs.runtime.application import Application
from sync.settings.loading import SettingsError
from sync.upstream.transport import Transport

NAME = "prisoner-to-nomis"


@contextmanager
def serve_health(application: Application, jobs: Sequence[str], is_ready: Callable[[], bool]) -> Iterator[None]:
    """Serves the health pages for the `with` block; `jobs` are those whose runs are shown.

    Without its port the work goes on, and the log says so: a second scheduler on one machine is no reason to stop.
    """
    settings = application.settings
    with ExitStack() as closing:
        transport = Transport(settings)
        closing.callback(transport.close)
        checks = health_checks(application, transport)
        health = Health(checks, application.seconds_since_progress, is_ready, settings.health_stall_seconds)
        metrics = application.metrics
        if metrics is not None:
            metrics.add(lambda: breaker_metrics(application.breakers.states) if is_ready() else ())
            metrics.add(lambda: run_metrics(application.job_runs, jobs) if is_ready() else ())
        info = {"build": {"name": NAME, "version": version(NAME)}, "environment": settings.environment_name}
        try:
            render = metrics.render if metrics is not None else bytes
            closing.enter_context(HealthPages(settings.health_host, settings.health_port, health, info, render))
        except SettingsError as error:
            structlog.get_logger("jobs.health.pages").warning("health-pages-off", reason=str(error))
        yield
