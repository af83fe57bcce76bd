"""HTTP by urllib3, and by requests for tokens and pings, with the limits that a call between services needs.

Neither library limits the time of a whole response or the size of a body, nor says whether a request was certainly not
sent; this module adds these three. Nothing here is sent twice, no redirect is followed and no proxy is used.
"""

import math
import socket
import ssl
import struct
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import orjson
import requests
import urllib3
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import ClosedPoolError, DecodeError, HTTPError, ReadTimeoutError

from sync.settings.upstreams import CONNECT_SECONDS
from sync.upstream.response_head import HeadResponse

#: The largest body that is read, in bytes, compressed or not. The longest responses list all mappings of a domain.
MAX_BODY_BYTES = 64 * 1024 * 1024
#: A timeout of a socket that is longer than the one asked for by a twentieth at most is left as it is.
_CLOSE_ENOUGH = 1.05
_PIECE_BYTES = 1024 * 1024
_USER_AGENT = "prisoner-to-nomis"
#: Made once: `retries=False` makes one for each call, which is a tenth of its CPU.
_NO_RETRIES = urllib3.Retry(False)


class NotSent(Exception):
    """No connection was made, or the request is not valid HTTP: the service has not seen it. The text says why."""


class TimedOut(Exception):
    """The response was not complete in time; the service may have seen the request."""


class ConnectionLost(Exception):
    """The connection ended, or the response was malformed; the service may have seen the request."""


class TooLarge(Exception):
    """The body of the response exceeds the limit; the service has seen the request."""

    def __init__(self) -> None:
        super().__init__(f"the body of the response is larger than {MAX_BODY_BYTES // 1024 // 1024} MiB")


@dataclass(frozen=True, slots=True)
class HttpResponse:
    """A whole response; `headers` ignores case, `data` is the decompressed body."""

    status: int
    headers: Mapping[str, str]
    data: bytes


class _TotalTimeout(socket.socket):
    """A socket whose timeout limits everything that is sent or received from when it was set, not each piece of it.

    A server that sends or takes some bytes now and then never exceeds a timeout for each piece.
    """

    _deadline = math.inf
    _first_piece = True
    #: The limit of a single piece, in seconds.
    _limit: float | None = None

    def settimeout(self, value: float | None) -> None:
        """Sets the limit for all that follows, in seconds."""
        self._deadline = math.inf if value is None else time.monotonic() + value
        self._first_piece = True
        # urllib3 sets what is left of the limit before each send and each response: two system calls for a call.
        if value is None or self._limit is None or not value <= self._limit <= value * _CLOSE_ENOUGH:
            self._limit_piece(value)

    def recv_into(self, *args: Any) -> int:
        """Receives within what is left of the limit; raises `TimeoutError` when it has passed."""
        self._limit_next_piece()
        return super().recv_into(*args)

    def send(self, *args: Any) -> int:
        """Sends within what is left of the limit; raises `TimeoutError` when it has passed."""
        self._limit_next_piece()
        return super().send(*args)

    def _limit_next_piece(self) -> None:
        if self._first_piece:
            # The limit was set just now, and most requests and responses are one piece.
            self._first_piece = False
        elif self._deadline < math.inf:
            remaining = self._deadline - time.monotonic()
            if remaining <= 0:
                raise TimeoutError("timed out")
            self._limit_piece(remaining)

    def _limit_piece(self, seconds: float | None) -> None:
        self._limit = seconds
        super().settimeout(seconds)


class _TotalTimeoutTls(_TotalTimeout, ssl.SSLSocket):
    """The same over TLS."""


class _TotalTimeoutPlain(_TotalTimeout):
    """The same without TLS, where the kernel can keep the limit.

    Python waits for the socket and then receives, and threads queue for the interpreter after each of the two: with 64
    messages in flight that costs a drain a twentieth.
    """

    def recv_into(self, *args: Any) -> int:
        """Receives within the limit; raises `TimeoutError` when it has passed."""
        try:
            return super().recv_into(*args)
        except BlockingIOError as error:
            raise TimeoutError("timed out") from error

    def send(self, *args: Any) -> int:
        """Sends within the limit; raises `TimeoutError` when it has passed."""
        try:
            return super().send(*args)
        except BlockingIOError as error:
            raise TimeoutError("timed out") from error

    def sendall(self, data: Any, *args: Any) -> None:
        """Sends everything within the limit; the kernel limits each piece alone, and begins anew with the next."""
        left = memoryview(data)
        while left:
            left = left[self.send(left, *args) :]

    def _limit_piece(self, seconds: float | None) -> None:
        if self._limit is None:
            self.setblocking(True)
        self._limit = seconds
        # No time at all would be no limit.
        microseconds = 0 if seconds is None else max(1, int(seconds * 1_000_000))
        limit = struct.pack("@ll", *divmod(microseconds, 1_000_000))
        self.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
        self.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)


class _Connection(HTTPConnection):
    """Sends the head and the body of a request together: one packet and one system call instead of two."""

    response_class = HeadResponse
    _pieces: list[bytes] | None = None

    def request(self, *args: Any, **options: Any) -> None:
        """Sends a request."""
        pieces: list[bytes] = []
        self._pieces = pieces
        try:
            super().request(*args, **options)
        finally:
            self._pieces = None
        self.send(b"".join(pieces))

    def send(self, data: Any) -> None:
        """Sends, or keeps what belongs to the request that is being put together."""
        if self._pieces is None:
            super().send(data)
        else:
            self._pieces.append(data)


class _PlainConnection(_Connection):
    def connect(self) -> None:
        """Connects; raises `NotSent`."""
        with _connecting(self):
            super().connect()
            self.sock = _TotalTimeoutPlain(fileno=self.sock.detach())


class _TlsConnection(_Connection, HTTPSConnection):
    def connect(self) -> None:
        """Connects and verifies the certificate; raises `NotSent`."""
        with _connecting(self):
            super().connect()


class _PlainPool(urllib3.HTTPConnectionPool):
    ConnectionCls = _PlainConnection


class _TlsPool(urllib3.HTTPSConnectionPool):
    ConnectionCls = _TlsConnection


def tls_context(ca_bundle: str | None) -> ssl.SSLContext:
    """How TLS is spoken: certificates are verified against `ca_bundle`, or else those of the system."""
    context = ssl.create_default_context(cafile=ca_bundle)
    context.sslsocket_class = _TotalTimeoutTls
    return context


def connection_pool(base_url: str, tls: ssl.SSLContext | None, size: int, seconds: float) -> urllib3.HTTPConnectionPool:
    """Connections to the host of `base_url`, at most `size` of them kept. Safe to share between threads.

    `seconds` limits each call from the making of a connection to the end of the response.
    """
    parts = urlsplit(base_url)
    assert parts.hostname is not None
    timeout = urllib3.Timeout(total=seconds)
    if parts.scheme == "https":
        return _TlsPool(parts.hostname, parts.port, maxsize=size, timeout=timeout, ssl_context=tls)
    return _PlainPool(parts.hostname, parts.port, maxsize=size, timeout=timeout)


def send(
    pool: urllib3.HTTPConnectionPool, method: str, target: str, headers: Mapping[str, str], body: bytes | None
) -> HttpResponse:
    """Sends one request and reads its response, whatever the status.

    Raises `NotSent`, `TimedOut`, `ConnectionLost` or `TooLarge`.
    """
    # urllib3 would encode such characters of a target, and lets a header continue on the next line.
    texts = "".join((target, *headers.values()))
    if " " in target or not (texts.isascii() and texts.isprintable()):
        raise NotSent("the request is not valid HTTP: it has a character that is not allowed")
    try:
        response = pool.urlopen(
            method,
            target,
            body,
            {"User-Agent": _USER_AGENT, **headers},
            retries=_NO_RETRIES,
            assert_same_host=False,
            preload_content=False,
        )
        return _read(response)
    except ClosedPoolError as error:
        raise NotSent("the connections are closed") from error
    except (HTTPError, OSError) as error:
        raise _failure(error) from error


def fetch(method: str, url: str, tls: ssl.SSLContext | None, seconds: float, **options: Any) -> HttpResponse:
    """One request over a separate connection, for tokens and pings; `options` are those of `requests`.

    `seconds` limits the response, and so does `CONNECT_SECONDS` the connection before it. Raises as `send`.
    """
    with requests.Session() as session:
        session.trust_env = False
        session.headers.update({"User-Agent": _USER_AGENT, "Accept": "application/json", "Accept-Encoding": "identity"})
        adapter = _Adapter(tls)
        session.mount("http://", adapter)
        session.mount("https://", adapter)
        timeout = (min(CONNECT_SECONDS, seconds), seconds)
        try:
            response = session.request(method, url, allow_redirects=False, stream=True, timeout=timeout, **options)
            return _read(response.raw)
        except (HTTPError, OSError) as error:
            raise _failure(error) from error


class _Adapter(HTTPAdapter):
    """Gives requests the connections of this module."""

    def __init__(self, tls: ssl.SSLContext | None) -> None:
        self._tls = tls
        super().__init__()

    def init_poolmanager(self, *args: Any, **options: Any) -> None:
        """Makes the pools."""
        super().init_poolmanager(*args, **options, ssl_context=self._tls)
        self.poolmanager.pool_classes_by_scheme = {"http": _PlainPool, "https": _TlsPool}

    def cert_verify(self, *_args: Any) -> None:
        """Leaves the verification to the context; requests would add its own certificates."""


@contextmanager
def _connecting(connection: HTTPConnection) -> Iterator[None]:
    """Limits the time to connect, with every failure as `NotSent`: the request goes out afterwards."""
    whole, started = connection.timeout, time.monotonic()
    assert isinstance(whole, int | float)
    # urllib3 would give a separate limit for connecting to each request over a kept connection too.
    connection.timeout = min(CONNECT_SECONDS, whole)
    try:
        yield
    except (HTTPError, OSError) as error:
        raise NotSent(_why_not_connected(error.__cause__ or error)) from error
    finally:
        connection.timeout = whole
    connection.sock.settimeout(max(0.001, whole - (time.monotonic() - started)))


def _why_not_connected(error: BaseException) -> str:
    if isinstance(error, TimeoutError):
        return "timed out"
    if isinstance(error, socket.gaierror):
        return "host not found"
    if isinstance(error, ConnectionRefusedError):
        return "connection refused"
    return f"connection lost ({type(error).__name__})"


def _read(response: urllib3.BaseHTTPResponse) -> HttpResponse:
    if response.status < 200:
        # http.client skips 100 alone. The real response to this request may still follow on this connection.
        response.close()
        raise ConnectionLost(f"status {response.status}")
    length = response.length_remaining
    if length is not None and length <= MAX_BODY_BYTES and "content-encoding" not in response.headers:
        # Most responses: the size is known, and one read costs a tenth less CPU for each call than reading in pieces.
        return HttpResponse(response.status, response.headers, response.read())
    pieces, size = [], 0
    for piece in response.stream(_PIECE_BYTES, decode_content=True):
        size += len(piece)
        if size > MAX_BODY_BYTES:
            response.close()
            raise TooLarge
        pieces.append(piece)
    return HttpResponse(response.status, response.headers, b"".join(pieces))


def _failure(error: BaseException) -> Exception:
    """What an error of either library means once the connection was made; they wrap each other as the last argument."""
    while not isinstance(error, ReadTimeoutError | TimeoutError | DecodeError):
        if not (error.args and isinstance(error.args[-1], Exception)):
            return ConnectionLost(type(error).__name__)
        error = error.args[-1]
    return ConnectionLost("DecodeError") if isinstance(error, DecodeError) else TimedOut("timed out")


_PING_PATH = "/health/ping"
#: Responses of a service that does not offer the ping, or not to us.
_NOT_OFFERED = frozenset({401, 403, 404, 405})


@dataclass(frozen=True, slots=True)
class Health:
    """The result of a ping: the status of the response, if there was one, and why the service counts as down, if so."""

    status: int | None
    problem: str | None

    @property
    def problem_unless_not_offered(self) -> str | None:
        """None also if the ping is not offered: the calls themselves then show whether the service is up."""
        return None if self.status in _NOT_OFFERED else self.problem


def ping(base_url: str, tls: ssl.SSLContext | None, seconds: float) -> Health:
    """Asks `{base_url}/health/ping`, without a token; never raises."""
    try:
        response = fetch("GET", base_url.rstrip("/") + _PING_PATH, tls, seconds)
    except (NotSent, TimedOut, ConnectionLost, TooLarge) as error:
        return Health(None, str(error))
    if response.status != 200:
        return Health(response.status, f"status {response.status}")
    if not _says_up(response.data):
        return Health(200, 'status 200, but not the health of a service ("status": "UP")')
    return Health(200, None)


def _says_up(data: bytes) -> bool:
    """Whether this is the health of a service that is up, and not the page of another server in its place."""
    try:
        body = orjson.loads(data)
    except orjson.JSONDecodeError:
        return False
    return isinstance(body, dict) and body.get("status") == "UP"
