"""Connections to one service, kept for the next call, over the HTTP client of the standard library.

What is added to `http.client` is the keeping, a limit for the whole of a call, and what is known of a call that got no
answer. Nothing is ever sent twice here.
"""

import http.client
import select
import socket
import ssl
import threading
import time
import zlib
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from email.message import Message

_PIECE = 65_536
_USER_AGENT = "prisoner-to-nomis"
#: Lets zlib tell by itself whether a body is of gzip's or of its own form.
_EITHER_FORM = 32 + zlib.MAX_WBITS


class NotSent(Exception):
    """No connection came about, or the request was none: the service has not seen it. The text says why."""


class TimedOut(Exception):
    """The service did not answer in time; it may have seen the request."""


class ConnectionLost(Exception):
    """The connection ended, or talked nonsense, before the answer was whole; the service may have seen the request."""


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    """A whole answer; `headers` finds names in any case, `data` is the body, decompressed."""

    status: int
    headers: Message
    data: bytes


class Connections:
    """Connections to one host. Safe to share between threads.

    `size`: how many idle ones are kept. `context`: how TLS is spoken, None for plain HTTP. `connect_seconds` is the
    limit for a connection to come about, `call_seconds` that of a call over it.
    """

    def __init__(
        self,
        host: str,
        port: int,
        context: ssl.SSLContext | None,
        size: int,
        connect_seconds: float,
        call_seconds: float,
    ) -> None:
        self._host = host
        self._port = port
        self._context = context
        self._size = size
        self._connect_seconds = connect_seconds
        self._call_seconds = call_seconds
        self._idle: deque[http.client.HTTPConnection] = deque()
        self._lock = threading.Lock()

    def exchange(self, method: str, target: str, headers: Mapping[str, str], body: bytes | None) -> HttpAnswer:
        """Sends one request and reads its answer, whatever its status.

        Raises `NotSent`, `TimedOut` or `ConnectionLost`.
        """
        connection = self._take()
        kept = False
        try:
            _prepare(connection, method, target, headers, body)
            answer = self._exchange(connection, body)
            # The library closes a connection that must not be used again.
            kept = connection.sock is not None
        except TimeoutError as error:
            raise TimedOut("timed out") from error
        except (OSError, http.client.HTTPException, zlib.error) as error:
            raise ConnectionLost(type(error).__name__) from error
        finally:
            self._let_go(connection, kept=kept)
        return answer

    def close(self) -> None:
        """Closes the idle connections."""
        with self._lock:
            idle, self._idle = self._idle, deque()
        for connection in idle:
            connection.close()

    def _exchange(self, connection: http.client.HTTPConnection, body: bytes | None) -> HttpAnswer:
        spoken = connection.sock
        deadline = time.monotonic() + self._call_seconds
        spoken.settimeout(self._call_seconds)
        connection.endheaders(body)
        response = connection.getresponse()
        pieces = []
        while piece := response.read1(_PIECE):
            pieces.append(piece)
            # A body that drips never falls silent: the limit is that of the whole call.
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                raise TimeoutError
            spoken.settimeout(remaining)
        if response.length:
            raise http.client.IncompleteRead(b"", response.length)
        response.close()
        return HttpAnswer(response.status, response.msg, _decompressed(b"".join(pieces), response.msg))

    def _take(self) -> http.client.HTTPConnection:
        """An idle connection that the service has not closed meanwhile, else a new one."""
        while True:
            with self._lock:
                connection = self._idle.pop() if self._idle else None
            if connection is None:
                return self._connect()
            if not _has_news(connection.sock):
                return connection
            connection.close()

    def _let_go(self, connection: http.client.HTTPConnection, *, kept: bool) -> None:
        if kept:
            with self._lock:
                if len(self._idle) < self._size:
                    self._idle.append(connection)
                    return
        connection.close()

    def _connect(self) -> http.client.HTTPConnection:
        connection = self._new_connection()
        # What was sent over a lost connection may have been read, so none is made anew in silence.
        connection.auto_open = 0
        try:
            connection.connect()
        except OSError as error:
            connection.close()
            raise NotSent(_why_not_connected(error)) from error
        return connection

    def _new_connection(self) -> http.client.HTTPConnection:
        if self._context is None:
            return http.client.HTTPConnection(self._host, self._port, timeout=self._connect_seconds)
        return http.client.HTTPSConnection(self._host, self._port, timeout=self._connect_seconds, context=self._context)


def _prepare(
    connection: http.client.HTTPConnection, method: str, target: str, headers: Mapping[str, str], body: bytes | None
) -> None:
    """Puts the head of a request together. Raises `NotSent` when it would be no HTTP, such as for a line break."""
    try:
        connection.putrequest(method, target)
        connection.putheader("User-Agent", _USER_AGENT)
        for name, value in headers.items():
            connection.putheader(name, value)
        if body is not None or method in ("POST", "PUT", "PATCH"):
            connection.putheader("Content-Length", str(len(body or b"")))
    except (ValueError, http.client.InvalidURL) as error:
        connection.close()
        raise NotSent(f"the request is no HTTP ({type(error).__name__})") from error


def _has_news(idle: socket.socket) -> bool:
    """Whether the other side has closed an idle connection, or said something unasked."""
    poll = select.poll()
    poll.register(idle, select.POLLIN)
    return bool(poll.poll(0))


def _why_not_connected(error: OSError) -> str:
    if isinstance(error, TimeoutError):
        return "timed out"
    if isinstance(error, socket.gaierror):
        return "host not found"
    if isinstance(error, ConnectionRefusedError):
        return "connection refused"
    return f"connection lost ({type(error).__name__})"


def _decompressed(data: bytes, headers: Message) -> bytes:
    encoding = headers.get("Content-Encoding", "identity").lower()
    if not data or encoding == "identity":
        return data
    if encoding in ("gzip", "x-gzip", "deflate"):
        return zlib.decompress(data, wbits=_EITHER_FORM)
    raise http.client.HTTPException(f"unknown encoding {encoding}")
