"""A small HTTP server on an event loop, fast enough not to distort what is measured against it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from dataclasses import dataclass

_REASONS = {200: b"OK", 400: b"Bad Request", 404: b"Not Found"}


@dataclass(frozen=True, slots=True)
class Call:
    """A request: its method, its path as sent, its headers by their names in lower case, and its body."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Response:
    """A response that is sent `delay` seconds after its request."""

    body: bytes = b"{}"
    status: int = 200
    delay: float = 0.0
    content_type: str = "application/json"


#: Gives the response to a call: at once, or later through a future of the loop on which the server runs.
Handler = Callable[[Call], "Response | asyncio.Future[Response]"]


class _Connection(asyncio.Protocol):
    def __init__(self, handler: Handler, loop: asyncio.AbstractEventLoop) -> None:
        self._handler = handler
        self._loop = loop
        self._buffer = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while True:
            head, found, rest = self._buffer.partition(b"\r\n\r\n")
            if not found:
                return
            first, *lines = head.decode("latin-1").split("\r\n")
            headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
            length = int(headers.get("content-length", "0"))
            if len(rest) < length:
                return
            self._buffer = rest[length:]
            method, path, _ = first.split(" ", 2)
            self._respond(Call(method, path, headers, rest[:length]))

    def _respond(self, call: Call) -> None:
        response = self._handler(call)
        if isinstance(response, asyncio.Future):
            response.add_done_callback(lambda done: self._send(done.result()))
        elif response.delay:
            self._loop.call_later(response.delay, self._send, response)
        else:
            self._send(response)

    def _send(self, response: Response) -> None:
        head = b"HTTP/1.1 %d %b\r\nContent-Type: %b\r\nContent-Length: %d\r\n\r\n"
        reason, content_type = _REASONS.get(response.status, b"-"), response.content_type.encode()
        values = (response.status, reason, content_type, len(response.body))
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(head % values + response.body)


async def serve(handler: Handler, host: str = "127.0.0.1", port: int = 0) -> asyncio.Server:
    """Serves `handler` on the running loop. Port 0 chooses a free port."""
    loop = asyncio.get_running_loop()
    return await loop.create_server(lambda: _Connection(handler, loop), host, port, backlog=512)


class ServerThread:
    """A server on its own loop in a thread. It has a `url` inside its `with` block."""

    def __init__(self, handler: Handler) -> None:
        self._handler = handler
        self._ready = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="stub server", daemon=True)
        self.url = ""

    def __enter__(self) -> ServerThread:
        self._thread.start()
        self._ready.wait(10)
        return self

    def __exit__(self, *_exception: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(serve(self._handler))
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        self._ready.set()
        self._loop.run_forever()
        server.close()
        for task in asyncio.all_tasks(self._loop):
            task.cancel()
        self._loop.close()
