"""The scheduler's health pages and the server for them: the probes and the metrics, for Kubernetes and for people."""

import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, wait
from contextlib import closing, contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import version
from typing import Any, Self

import structlog

from jobs.health.figure_metrics import FigureMetrics
from jobs.health.figures import read_figures
from jobs.health.probes import CALL_SECONDS, Probe, ProbeResult, list_probes, result_of
from jobs.runtime.application import Application
from jobs.runtime.metrics import breaker_metrics, run_metrics
from sync.settings.loading import SettingsError
from sync.upstream.services import Services

NAME = "prisoner-to-nomis"
UP, DOWN = "UP", "DOWN"
#: How long callers share the same results, and how long a part may take to respond.
CACHE_SECONDS = 2.0
DEADLINE_SECONDS = CALL_SECONDS


@dataclass(frozen=True, slots=True)
class HealthResponse:
    """The response to a request for a health page: 200 if all is well, and 503 otherwise."""

    ok: bool
    body: Mapping[str, Any]

    @property
    def status(self) -> int:
        """The HTTP status: 200, or 503 if something is down."""
        return 200 if self.ok else 503


@dataclass(frozen=True, slots=True)
class Liveness:
    """The state of the process itself.

    is_ready: returns whether work is being done. progress: returns, for each queue, the seconds since its drain last
    made progress; a drain counts as hanging if this is more than `stall_seconds`.
    """

    is_ready: Callable[[], bool]
    progress: Callable[[], Mapping[str, float]]
    stall_seconds: float

    def alive(self) -> HealthResponse:
        """Down if a drain hangs, which only a restart can fix, and never because something else is unavailable."""
        hanging = {queue: round(seconds) for queue, seconds in self.progress().items() if seconds > self.stall_seconds}
        body: dict[str, Any] = {"status": DOWN if hanging else UP}
        if hanging:
            body["components"] = {
                f"{queue}-drain": {"status": DOWN, "details": {"secondsSinceProgress": seconds}}
                for queue, seconds in hanging.items()
            }
        return HealthResponse(not hanging, body)

    def ready(self) -> HealthResponse:
        """Up once the database is available and the drains have started, until a stop is requested."""
        ready = self.is_ready()
        return HealthResponse(ready, {"status": UP if ready else DOWN})


class HealthPage:
    """Probes all components at the same time, once for all callers. Safe to share between threads.

    A component is down if one of its probes fails or is late. Probes without a component are left out.
    """

    def __init__(
        self,
        probes: Sequence[Probe],
        deadline_seconds: float = DEADLINE_SECONDS,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._probes = [probe for probe in probes if probe.component is not None]
        self._deadline_seconds = deadline_seconds
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._asked: dict[str, Future[ProbeResult]] = {}
        self._response_at = float("-inf")
        self._response = HealthResponse(ok=False, body={"status": DOWN})

    def overall(self) -> HealthResponse:
        """The state of every component, and whether all are up. They are probed at most once every two seconds."""
        with self._lock:
            if self._monotonic() - self._response_at >= CACHE_SECONDS:
                components = self._ask()
                ok = all(component["status"] == UP for component in components.values())
                self._response = HealthResponse(ok, {"status": UP if ok else DOWN, "components": components})
                self._response_at = self._monotonic()
            return self._response

    def _ask(self) -> dict[str, dict[str, Any]]:
        for probe in self._probes:
            # A part is not probed again while its previous probe is still running.
            if probe.name not in self._asked or self._asked[probe.name].done():
                self._asked[probe.name] = probe.start()
        wait(self._asked.values(), self._deadline_seconds)
        components: dict[str, dict[str, Any]] = {}
        for probe in self._probes:
            result = result_of(self._asked[probe.name], self._deadline_seconds)
            component = components.setdefault(str(probe.component), {"status": UP, "details": {}})
            component["details"] |= result.details
            if not result.ok:
                component["status"] = DOWN
        return {name: each if each["details"] else {"status": each["status"]} for name, each in components.items()}


@contextmanager
def serve_health(application: Application, jobs: Sequence[str], is_ready: Callable[[], bool]) -> Iterator[None]:
    """Serves the health pages during the block; the metrics show the runs of `jobs`.

    If the port cannot be used, the log says so and the work continues: a second scheduler on one machine is not a
    reason to stop.
    """
    settings, metrics = application.settings, application.metrics
    liveness = Liveness(is_ready, application.seconds_since_progress, settings.health_stall_seconds)
    if metrics is not None:
        metrics.add(lambda: breaker_metrics(application.breakers.states) if is_ready() else ())
        metrics.add(lambda: run_metrics(application.job_runs, jobs) if is_ready() else ())
        figure_metrics = FigureMetrics(lambda: read_figures(application, DEADLINE_SECONDS))
        metrics.add(lambda: figure_metrics.collect() if is_ready() else ())
        metrics.name_build(version(NAME), settings.environment_name)
    info = {"build": {"name": NAME, "version": version(NAME)}, "environment": settings.environment_name}
    with closing(Services(settings)) as services:
        page = HealthPage(list_probes(application, services))
        render = metrics.render if metrics is not None else bytes
        try:
            server = HealthServer(
                settings.health_host, settings.health_port, health_pages(page, liveness, info), render
            )
        except SettingsError as error:
            structlog.get_logger("jobs.health.page").warning("health-pages-off", reason=str(error))
            yield
            return
        with server:
            yield


def health_pages(
    page: HealthPage, liveness: Liveness, info: Mapping[str, Any]
) -> dict[str, Callable[[], tuple[int, Mapping[str, Any]]]]:
    """A function for each page, by the path of the page. Each function returns the HTTP status and the body."""

    def of(response: HealthResponse) -> tuple[int, Mapping[str, Any]]:
        return response.status, response.body

    return {
        "/health": lambda: of(page.overall()),
        "/health/liveness": lambda: of(liveness.alive()),
        "/health/readiness": lambda: of(liveness.ready()),
        "/health/ping": lambda: (200, {"status": UP}),
        "/info": lambda: (200, info),
    }


_JSON = "application/json"
#: The content type of the text format that Prometheus reads.
_METRICS = "text/plain; version=0.0.4; charset=utf-8"
_REQUEST_SECONDS = 10.0

#: A page: its HTTP status and JSON body.
Page = Callable[[], tuple[int, Mapping[str, Any]]]
_Content = tuple[int, str, bytes]


class HealthServer:
    """A context manager that serves the JSON `pages` at their paths, and `metrics` at `/metrics`.

    With `port` 0, it picks a free port. Raises `SettingsError` if the address is not available.
    """

    def __init__(self, host: str, port: int, pages: Mapping[str, Page], metrics: Callable[[], bytes]) -> None:
        try:
            self._server = _Server((host, port), pages, metrics)
        except OSError as error:
            raise SettingsError(f"HEALTH_PORT: {host}:{port} is not available: {error.strerror}") from error
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, name="health pages", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        structlog.get_logger("jobs.health.page").info("health-pages-started", port=self.port)
        return self

    def __exit__(self, *_exception: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, address: tuple[str, int], pages: Mapping[str, Page], metrics: Callable[[], bytes]) -> None:
        self.pages = pages
        self.metrics = metrics
        super().__init__(address, _Handler)

    def handle_error(self, _request: object, client_address: object) -> None:
        # The client disconnected, which is not an error.
        structlog.get_logger("jobs.health.page").debug("health-request-broken", client=str(client_address))


class _Handler(BaseHTTPRequestHandler):
    timeout = _REQUEST_SECONDS
    protocol_version = "HTTP/1.1"
    server_version = "prisoner-to-nomis"
    sys_version = ""
    server: _Server

    def do_GET(self) -> None:
        path = self.path.partition("?")[0].rstrip("/")
        try:
            content = self._content(path)
        except Exception:  # the client gets a response whatever the error is
            structlog.get_logger("jobs.health.page").exception("health-page-broke", page=path)
            content = _json(500, {"status": 500, "userMessage": "the page failed; see the log"})
        self._send(*content)

    def do_HEAD(self) -> None:
        self.do_GET()

    def _content(self, path: str) -> _Content:
        if path == "/metrics":
            return 200, _METRICS, self.server.metrics()
        page = self.server.pages.get(path)
        if page is None:
            return _json(404, {"status": 404, "userMessage": "there is no such page"})
        return _json(*page())

    def _send(self, status: int, content_type: str, content: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name is the library's
        """Does nothing: requests for health pages are not logged."""


def _json(status: int, body: Mapping[str, Any]) -> _Content:
    return status, _JSON, json.dumps(body).encode()
