"""HTTP/1.1 over kept connections, and no more of it than calls between services need.

General HTTP libraries spend ten times the work of a call on what such calls never use; with many calls in flight from
one process that, not the services, is what limits it. This knows bodies by length, in chunks and up to the end of the
connection, compressed ones too; it follows no redirect, keeps no cookie and uses no proxy.
"""

import http.client
import select
import socket
import ssl
import threading
import zlib
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from io import BufferedReader

#: A line of the head of an answer may be so long, and there may be so many.
_LONGEST_LINE = 65_536
_MOST_HEADERS = 200
_ALWAYS = ("User-Agent: prisoner-to-nomis", "Accept-Encoding: identity")
_WITHOUT_BODY = frozenset({204, 304})


class NotSent(Exception):
    """No connection came about: the service has not seen the request. The text says why."""


class TimedOut(Exception):
    """The service did not answer in time; it may have seen the request."""


class ConnectionLost(Exception):
    """The connection ended, or talked nonsense, before the answer was whole; the service may have seen the request."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer; `headers` by lower-case names, `data` is the body, decompressed."""

    status: int
    headers: Mapping[str, str]
    data: bytes


class Connections:
    """Connections to one host, kept for the next call. Safe to share between threads.

    `size`: how many idle ones are kept. `context`: how TLS is spoken, None for plain HTTP. Time-outs are in seconds;
    `read_seconds` is the longest silence within an answer.
    """

    def __init__(
        self,
        host: str,
        port: int,
        context: ssl.SSLContext | None,
        size: int,
        connect_seconds: float,
        read_seconds: float,
    ) -> None:
        self._host = host
        self._port = port
        self._context = context
        self._size = size
        self._connect_seconds = connect_seconds
        self._read_seconds = read_seconds
        name = f"[{host}]" if ":" in host else host
        usual = 443 if context else 80
        self._host_header = name if port == usual else f"{name}:{port}"
        self._idle: deque[_Connection] = deque()
        self._lock = threading.Lock()

    def exchange(self, method: str, target: str, headers: Mapping[str, str], body: bytes | None) -> Answer:
        """Sends one request and reads its answer, whatever its status.

        Raises `NotSent`, `TimedOut` or `ConnectionLost`.
        """
        request = self._request(method, target, headers, body)
        connection = self._take()
        try:
            answer, reusable = connection.exchange(request, bodiless=method == "HEAD")
        except TimeoutError as error:
            connection.close()
            raise TimedOut("timed out") from error
        except (OSError, ValueError, http.client.HTTPException, zlib.error) as error:
            connection.close()
            raise ConnectionLost(type(error).__name__) from error
        except BaseException:
            connection.close()
            raise
        if reusable:
            self._keep(connection)
        else:
            connection.close()
        return answer

    def close(self) -> None:
        """Closes the idle connections."""
        with self._lock:
            idle, self._idle = self._idle, deque()
        for connection in idle:
            connection.close()

    def _request(self, method: str, target: str, headers: Mapping[str, str], body: bytes | None) -> bytes:
        lines = [f"{method} {target} HTTP/1.1", f"Host: {self._host_header}", *_ALWAYS]
        lines.extend(f"{name}: {value}" for name, value in headers.items())
        if body is not None or method in ("POST", "PUT", "PATCH"):
            lines.append(f"Content-Length: {len(body or b'')}")
        if any("\r" in line or "\n" in line for line in lines):
            raise ValueError("a line break in the head of a request")
        return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + (body or b"")

    def _take(self) -> "_Connection":
        """An idle connection that the service has not closed meanwhile, else a new one."""
        while True:
            with self._lock:
                connection = self._idle.pop() if self._idle else None
            if connection is None:
                return self._connect()
            if connection.is_alive():
                return connection
            connection.close()

    def _keep(self, connection: "_Connection") -> None:
        with self._lock:
            if len(self._idle) < self._size:
                self._idle.append(connection)
                return
        connection.close()

    def _connect(self) -> "_Connection":
        try:
            plain = socket.create_connection((self._host, self._port), timeout=self._connect_seconds)
        except TimeoutError as error:
            raise NotSent("timed out") from error
        except socket.gaierror as error:
            raise NotSent("host not found") from error
        except OSError as error:
            raise NotSent("connection refused") from error
        try:
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            spoken = plain if self._context is None else self._context.wrap_socket(plain, server_hostname=self._host)
            spoken.settimeout(self._read_seconds)
        except OSError as error:
            plain.close()
            reason = "timed out" if isinstance(error, TimeoutError) else f"connection lost ({type(error).__name__})"
            raise NotSent(reason) from error
        return _Connection(spoken)


class _Connection:
    def __init__(self, connected: socket.socket) -> None:
        self._socket = connected
        self._reader = connected.makefile("rb")
        self._poll = select.poll()
        self._poll.register(connected, select.POLLIN)

    def is_alive(self) -> bool:
        """Whether the other side has neither closed the connection nor said anything unasked."""
        return not self._poll.poll(0)

    def exchange(self, request: bytes, *, bodiless: bool) -> tuple[Answer, bool]:
        """The answer, and whether the connection may be used again."""
        self._socket.sendall(request)
        version, status, headers = _read_head(self._reader)
        data, whole = (b"", True) if bodiless or status in _WITHOUT_BODY else _read_body(self._reader, headers)
        connection = headers.get("connection", "").lower()
        kept = "keep-alive" in connection if version == b"HTTP/1.0" else "close" not in connection
        return Answer(status, headers, _decompressed(data, headers)), whole and kept

    def close(self) -> None:
        self._reader.close()
        self._socket.close()


def _read_head(reader: BufferedReader) -> tuple[bytes, int, dict[str, str]]:
    """Version, status and headers of the answer; provisional answers are passed over."""
    while True:
        line = _line(reader)
        version, _, rest = line.partition(b" ")
        if not version.startswith(b"HTTP/1.") or not rest[:3].isdigit():
            raise http.client.BadStatusLine(repr(line[:50]))
        status = int(rest[:3])
        headers: dict[str, str] = {}
        while (line := _line(reader)) != b"":
            name, colon, value = line.partition(b":")
            if not colon or len(headers) >= _MOST_HEADERS:
                raise http.client.HTTPException("the head of the answer is no HTTP")
            headers[name.decode("latin-1").lower()] = value.strip().decode("latin-1")
        if status >= 200:
            return version, status, headers


def _line(reader: BufferedReader) -> bytes:
    line = reader.readline(_LONGEST_LINE)
    if not line:
        raise http.client.RemoteDisconnected("no answer")
    if not line.endswith(b"\n"):
        raise http.client.IncompleteRead(line)
    return line.rstrip(b"\r\n")


def _read_body(reader: BufferedReader, headers: Mapping[str, str]) -> tuple[bytes, bool]:
    """The body, and whether its end was told by anything but the end of the connection."""
    if "chunked" in headers.get("transfer-encoding", "").lower():
        return b"".join(_chunks(reader)), True
    length = headers.get("content-length")
    if length is None:
        return reader.read(), False
    return _exactly(reader, int(length)), True


def _chunks(reader: BufferedReader) -> list[bytes]:
    chunks = []
    while size := int(_line(reader).partition(b";")[0], 16):
        chunks.append(_exactly(reader, size))
        _line(reader)
    while _line(reader) != b"":
        pass
    return chunks


def _exactly(reader: BufferedReader, length: int) -> bytes:
    if length < 0:
        raise http.client.HTTPException("a negative length")
    data = reader.read(length)
    if len(data) < length:
        raise http.client.IncompleteRead(data, length - len(data))
    return data


def _decompressed(data: bytes, headers: Mapping[str, str]) -> bytes:
    encoding = headers.get("content-encoding", "identity").lower()
    if not data or encoding == "identity":
        return data
    if encoding in ("gzip", "x-gzip"):
        return zlib.decompress(data, wbits=16 + zlib.MAX_WBITS)
    if encoding == "deflate":
        return zlib.decompress(data)
    raise http.client.HTTPException(f"unknown encoding {encoding}")
