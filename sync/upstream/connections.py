"""Connections to one service, kept for the next call, with answers read by the parser of Node.js (`httptools`).

What is added to sockets and parser is the keeping, a limit for the whole of a call, and what is known of a call that
got no answer. Nothing is ever sent twice here.
"""

import http.client
import re
import select
import socket
import ssl
import threading
import time
import zlib
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

_PIECE = 65_536
_ALWAYS = "Accept-Encoding: identity\r\nUser-Agent: prisoner-to-nomis\r\n"
#: Lets zlib tell by itself whether a body is of gzip's or of its own form.
_EITHER_FORM = 32 + zlib.MAX_WBITS
#: The head of an answer may be so long, in bytes, and have so many fields.
_LONGEST_HEAD = 65_536
_MOST_FIELDS = 100
#: A body may have this number of bytes, compressed or not. The largest there are list every mapping of a domain.
LARGEST_BODY = 64 * 1024 * 1024
#: What would end a line of a head, or a word of its first one.
_NOT_IN_FIELD = re.compile(r"[\r\n\0]")
_NOT_IN_TARGET = re.compile(r"[^\x21-\x7e]")


class NotSent(Exception):
    """No connection came about, or the request was none: the service has not seen it. The text says why."""


class TimedOut(Exception):
    """The service did not answer in time; it may have seen the request."""


class ConnectionLost(Exception):
    """The connection ended, or talked nonsense, before the answer was whole; the service may have seen the request."""


class TooLong(Exception):
    """The body of the response is larger than any that is read; the service has seen the request."""

    def __init__(self) -> None:
        super().__init__(f"the body of the response is larger than {LARGEST_BODY // 1024 // 1024} MiB")


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    """A whole answer; `headers` by their names in lower case, `data` is the body, decompressed."""

    status: int
    headers: Mapping[str, str]
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
        name = f"[{host}]" if ":" in host else host
        usual = 443 if context else 80
        self._after_target = f" HTTP/1.1\r\nHost: {name if port == usual else f'{name}:{port}'}\r\n{_ALWAYS}"
        self._idle: deque[_Connection] = deque()
        self._lock = threading.Lock()

    def exchange(self, method: str, target: str, headers: Mapping[str, str], body: bytes | None) -> HttpAnswer:
        """Sends one request and reads its answer, whatever its status.

        Raises `NotSent`, `TimedOut`, `ConnectionLost` or `TooLong`.
        """
        request = self._request(method, target, headers, body)
        connection = self._take()
        kept = False
        try:
            answer = connection.exchange(request)
            kept = connection.reusable
        except TimeoutError as error:
            raise TimedOut("timed out") from error
        except (OSError, http.client.HTTPException, HttpParserError, HttpParserUpgrade, zlib.error) as error:
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

    def _request(self, method: str, target: str, headers: Mapping[str, str], body: bytes | None) -> bytes:
        """A request as it goes out. Raises `NotSent` when it would be no HTTP, such as for a line break."""
        fields = "".join([f"{name}: {value}\r\n" for name, value in headers.items()])
        if body is not None or method in ("POST", "PUT", "PATCH"):
            fields += f"Content-Length: {len(body or b'')}\r\n"
        if _NOT_IN_TARGET.search(target) or any(map(_NOT_IN_FIELD.search, headers.values())):
            raise NotSent("the request is no HTTP: a character that may not be in it")
        try:
            head = f"{method} {target}{self._after_target}{fields}\r\n".encode("latin-1")
        except UnicodeEncodeError as error:
            raise NotSent("the request is no HTTP: a character that may not be in it") from error
        return head + body if body else head

    def _take(self) -> "_Connection":
        """An idle connection that the service has not closed meanwhile, else a new one."""
        while True:
            with self._lock:
                connection = self._idle.pop() if self._idle else None
            if connection is None:
                return _Connection(self._connect(), self._call_seconds)
            if not connection.has_news():
                return connection
            connection.close()

    def _let_go(self, connection: "_Connection", *, kept: bool) -> None:
        if kept:
            with self._lock:
                if len(self._idle) < self._size:
                    self._idle.append(connection)
                    return
        connection.close()

    def _connect(self) -> socket.socket:
        try:
            plain = socket.create_connection((self._host, self._port), self._connect_seconds)
        except OSError as error:
            raise NotSent(_why_not_connected(error)) from error
        try:
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return plain if self._context is None else self._context.wrap_socket(plain, server_hostname=self._host)
        except OSError as error:
            plain.close()
            raise NotSent(_why_not_connected(error)) from error


class _Connection:
    """One connection, whose answers are read by its parser; that calls the methods whose names begin with `on_`.

    `seconds` is the limit of a call.
    """

    __slots__ = (
        "_body",
        "_body_bytes",
        "_complete",
        "_head_bytes",
        "_headers",
        "_incoming",
        "_parser",
        "_seconds",
        "_socket",
        "_status",
        "_surplus",
        "reusable",
    )

    def __init__(self, connected: socket.socket, seconds: float) -> None:
        self._socket = connected
        self._seconds = seconds
        connected.settimeout(seconds)
        self._incoming = select.poll()
        self._incoming.register(connected, select.POLLIN)
        # One for all answers: parser and reader know each other, which only the collector of garbage can part.
        self._parser = HttpResponseParser(self)
        self._begin()

    def _begin(self) -> None:
        #: 0 until the whole head is there.
        self._status = 0
        self._headers: dict[str, str] = {}
        self._body: list[bytes] = []
        self._body_bytes = 0
        self._head_bytes = 0
        self._surplus = False
        self._complete = False
        #: Whether the connection may carry another call.
        self.reusable = False

    def exchange(self, request: bytes) -> HttpAnswer:
        """Sends a request and reads the answer. Raises what `Connections.exchange` translates."""
        deadline = time.monotonic() + self._seconds
        self._begin()
        self._socket.sendall(request)
        self._take(self._socket.recv(_PIECE))
        if not self._complete:
            self._read_on(deadline)
        return HttpAnswer(self._status, self._headers, _decompressed(b"".join(self._body), self._headers))

    def has_news(self) -> bool:
        """Whether the other side has closed the idle connection, or said something unasked."""
        return bool(self._incoming.poll(0))

    def close(self) -> None:
        """Ends the connection."""
        self._socket.close()

    def _read_on(self, deadline: float) -> None:
        while not self._complete:
            # A body that drips never falls silent: the limit is that of the whole call.
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                raise TimeoutError
            self._socket.settimeout(remaining)
            self._take(self._socket.recv(_PIECE))
        self._socket.settimeout(self._seconds)

    def _take(self, piece: bytes) -> None:
        """Reads on; an empty piece is the end of the connection.

        Raises `HttpParserError` or `http.client.HTTPException` when this is no answer, or not a whole one.
        """
        if not piece:
            self._end()
            return
        if not self._status:
            self._head_bytes += len(piece)
            if self._head_bytes > _LONGEST_HEAD:
                raise http.client.LineTooLong("the head of an answer")
        try:
            self._parser.feed_data(piece)
        except HttpParserError:
            # What comes after a whole answer is nobody's; it is not used, and neither is the connection.
            if not self._complete:
                raise
            self._surplus = True
        if self._body_bytes > LARGEST_BODY:
            raise TooLong
        if self._surplus:
            self.reusable = False

    def on_message_begin(self) -> None:
        self._surplus = self._complete

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._complete:
            return
        if len(self._headers) >= _MOST_FIELDS:
            raise http.client.HTTPException(f"more than {_MOST_FIELDS} fields")
        self._headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        if not self._complete:
            self._status = self._parser.get_status_code()

    def on_body(self, data: bytes) -> None:
        if not self._complete:
            self._body_bytes += len(data)
            self._body.append(data)

    def on_message_complete(self) -> None:
        if self._complete:
            return
        if self._status < 200:
            # Provisional: the answer is still to come.
            self._status = 0
            self._headers.clear()
            return
        self._complete = True
        self.reusable = self._parser.should_keep_alive()

    def _end(self) -> None:
        """The connection has ended, and with it a body that has no length."""
        if not self._status or "content-length" in self._headers or "transfer-encoding" in self._headers:
            raise http.client.IncompleteRead(b"")
        self._complete = True


def _why_not_connected(error: OSError) -> str:
    if isinstance(error, TimeoutError):
        return "timed out"
    if isinstance(error, socket.gaierror):
        return "host not found"
    if isinstance(error, ConnectionRefusedError):
        return "connection refused"
    return f"connection lost ({type(error).__name__})"


def _decompressed(data: bytes, headers: Mapping[str, str]) -> bytes:
    encoding = headers.get("content-encoding", "identity").lower()
    if not data or encoding == "identity":
        return data
    if encoding in ("gzip", "x-gzip", "deflate"):
        reader = zlib.decompressobj(wbits=_EITHER_FORM)
        plain = reader.decompress(data, LARGEST_BODY + 1)
        if len(plain) > LARGEST_BODY:
            raise TooLong
        if not reader.eof:
            raise zlib.error("the compressed body breaks off")
        return plain
    raise http.client.HTTPException(f"unknown encoding {encoding}")
