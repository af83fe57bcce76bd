"""The health pages: a small HTTP server beside the scheduler."""

import json
import threading
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

import structlog

from jobs.health.probes import UP, Answer, Health
from sync.settings.loading import SettingsError

_JSON = "application/json"
#: The content type of the text format that Prometheus reads.
_METRICS = "text/plain; version=0.0.4; charset=utf-8"
_REQUEST_SECONDS = 10.0


class HealthPages:
    """Serves `/health`, `/health/liveness`, `/health/readiness`, `/health/ping`, `/info` and `/metrics`.

    Use as a context manager. Raises `SettingsError` when the address cannot be had. `port` 0 takes a free one.
    """

    def __init__(
        self, host: str, port: int, health: Health, info: Mapping[str, Any], metrics: Callable[[], bytes]
    ) -> None:
        pages: dict[str, Callable[[], tuple[int, str, bytes]]] = {
            "/health": lambda: _answer(health.overall()),
            "/health/liveness": lambda: _answer(health.liveness()),
            "/health/readiness": lambda: _answer(health.readiness()),
            "/health/ping": lambda: _answer(Answer(well=True, body={"status": UP})),
            "/info": lambda: _answer(Answer(well=True, body=info)),
            "/metrics": lambda: (200, _METRICS, metrics()),
        }
        try:
            self._server = _Server((host, port), pages)
        except OSError as error:
            raise SettingsError(f"HEALTH_PORT: {host}:{port} cannot be had: {error.strerror}") from error
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, name="health pages", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        structlog.get_logger("jobs.health.probes").info("health-pages-started", port=self.port)
        return self

    def __exit__(self, *_exception: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, address: tuple[str, int], pages: Mapping[str, Callable[[], tuple[int, str, bytes]]]) -> None:
        self.pages = pages
        super().__init__(address, _Handler)

    def handle_error(self, _request: object, client_address: object) -> None:
        # Whoever asked has gone, or broke off: nothing is wrong here.
        structlog.get_logger("jobs.health.probes").debug("health-request-broken", client=str(client_address))


class _Handler(BaseHTTPRequestHandler):
    timeout = _REQUEST_SECONDS
    protocol_version = "HTTP/1.1"
    server_version = "prisoner-to-nomis"
    sys_version = ""
    server: _Server

    def do_GET(self) -> None:
        path = self.path.partition("?")[0].rstrip("/")
        page = self.server.pages.get(path)
        if page is None:
            self._send(*_answer_json(404, {"status": 404, "userMessage": "there is no such page"}))
            return
        try:
            answer = page()
        except Exception:  # whatever it is, the one who asks gets an answer
            structlog.get_logger("jobs.health.probes").exception("health-page-broke", page=path)
            answer = _answer_json(500, {"status": 500, "userMessage": "the page broke; see the log"})
        self._send(*answer)

    def do_HEAD(self) -> None:
        self.do_GET()

    def _send(self, status: int, content_type: str, content: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name is the library's
        """Requests for health are not worth a line each."""


def _answer(answer: Answer) -> tuple[int, str, bytes]:
    return _answer_json(answer.status, answer.body)


def _answer_json(status: int, body: Mapping[str, Any]) -> tuple[int, str, bytes]:
    return status, _JSON, json.dumps(body).encode()
