"""A small HTTP server for the pages of health, next to the scheduler."""

import json
import threading
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

import structlog

from sync.settings.loading import SettingsError

_JSON = "application/json"
#: The content type of the text format that Prometheus reads.
_METRICS = "text/plain; version=0.0.4; charset=utf-8"
_REQUEST_SECONDS = 10.0

#: A page: its HTTP status and JSON body.
Page = Callable[[], tuple[int, Mapping[str, Any]]]
_Content = tuple[int, str, bytes]


class HealthServer:
    """Serves JSON `pages` by their paths, and `/metrics`; use as a context manager.

    Raises `SettingsError` when the address is not available. `port` 0 picks a free one.
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
        structlog.get_logger("jobs.health.server").info("health-pages-started", port=self.port)
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
        # Client disconnected; not an error.
        structlog.get_logger("jobs.health.server").debug("health-request-broken", client=str(client_address))


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
        except Exception:  # the client gets a response whatever it is
            structlog.get_logger("jobs.health.server").exception("health-page-broke", page=path)
            content = _json(500, {"status": 500, "userMessage": "the page broke; see the log"})
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
        """Requests for health are not worth a line each."""


def _json(status: int, body: Mapping[str, Any]) -> _Content:
    return status, _JSON, json.dumps(body).encode()
