"""HTTP servers for services that the sandbox does not have."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

#: How often a server checks whether it is to end, in seconds. By default, each server would end half a second late.
_POLL_SECONDS = 0.01


@contextmanager
def served(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    """Serves `handler` on a free port during the `with` block, and yields the address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    Thread(target=partial(server.serve_forever, _POLL_SECONDS), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
