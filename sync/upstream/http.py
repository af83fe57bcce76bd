"""HTTP with urllib3, within the limits that calls between services need.

Pings, and the calls that fetch tokens and documents, use the requests library instead. Neither library limits how long
a whole response may take or how large a body may be, and neither reports whether a request was certainly not sent. This
module does all three. It sends nothing twice, follows no redirects and uses no proxy.
"""

import socket
import ssl
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from http.client import HTTPMessage
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
from sync.upstream.sockets import PlainSocket, TlsSocket

#: The largest body that is read, in bytes, whether compressed or not. The longest responses list all mappings of a
#: domain.
MAX_BODY_BYTES = 64 * 1024 * 1024
_PIECE_BYTES = 1024 * 1024
#: Methods whose requests state the length of their body even if they have no body.
_WITH_BODY = frozenset({"POST", "PUT", "PATCH"})
_USER_AGENT = "prisoner-to-nomis"
#: Made once: with `retries=False`, urllib3 makes such an object for each call, which takes a tenth of the call's CPU
#: time.
_NO_RETRIES = urllib3.Retry(False)


class NotSent(Exception):
    """The service has not seen the request: no connection was made, or the request is not valid HTTP."""


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
    """A whole response; `headers` ignores the case of names, and `data` is the decompressed body."""

    status: int
    headers: Mapping[str, str] | HTTPMessage
    data: bytes


class _PlainConnection(HTTPConnection):
    response_class = HeadResponse

    def connect(self) -> None:
        """Connects within the time limit. Raises `NotSent`."""
        with _connecting(self):
            super().connect()
            self.sock = PlainSocket(fileno=self.sock.detach())


class _TlsConnection(HTTPSConnection):
    response_class = HeadResponse

    def connect(self) -> None:
        """Connects within the time limit and verifies the certificate. Raises `NotSent`."""
        with _connecting(self):
            super().connect()


class _Pool(urllib3.HTTPConnectionPool):
    """A pool of urllib3 connections over which `send` writes each request in one piece and reads the whole response.

    urllib3 keeps, checks and drops the connections. Its own code for making a request would take twice as much CPU time
    as this class: it writes the header fields one by one, and copies the response into objects that `send` does not
    need.
    """

    def _make_request(  # type: ignore[override]
        self,
        conn: HTTPConnection,
        method: str,
        url: str,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        *,
        preload_content: bool = True,
        **options: Any,
    ) -> HttpResponse | urllib3.BaseHTTPResponse:
        if not preload_content:
            # The requests library made this request. It reads urllib3's response itself.
            return super()._make_request(conn, method, url, body, headers, preload_content=False, **options)
        if conn.sock is None:
            conn.connect()
        else:
            conn.sock.settimeout(conn.timeout)
        # A service may respond and close the connection before it has received everything.
        with suppress(BrokenPipeError, ConnectionResetError):
            conn.sock.sendall(_request(conn, method, url, headers or {}, body))
        with closing(HeadResponse(conn.sock, method=method)) as response:
            response.begin()
            if response.will_close:
                # The response keeps the socket open until its end.
                conn.close()
            return _whole(response)


class _PlainPool(_Pool):
    ConnectionCls = _PlainConnection


class _TlsPool(_Pool, urllib3.HTTPSConnectionPool):
    ConnectionCls = _TlsConnection


def _request(
    connection: HTTPConnection, method: str, target: str, headers: Mapping[str, str], body: bytes | None
) -> bytes:
    """The bytes of a request. `send` has already checked the characters of the target and the headers."""
    host = f"[{connection.host}]" if ":" in connection.host else connection.host
    if connection.port != connection.default_port:
        host = f"{host}:{connection.port}"
    fields = {"Host": host, "Accept-Encoding": "identity", **headers}
    if body is not None or method in _WITH_BODY:
        fields["Content-Length"] = str(len(body or b""))
    lines = [f"{method} {target} HTTP/1.1", *[f"{name}: {value}" for name, value in fields.items()], "", ""]
    return "\r\n".join(lines).encode("ascii") + (body or b"")


def _whole(response: HeadResponse) -> HttpResponse:
    """Reads the body of `response`, and returns the whole response.

    Reads it in one go if it is not compressed and its stated length is within the limit, and otherwise in pieces.
    Raises `TooLarge`. Raises `ConnectionLost` for a provisional response, and for one that states two different
    lengths, since it is not known where that response ends.
    """
    if len(set(response.headers.get_all("content-length", ()))) > 1:
        raise ConnectionLost("two lengths")
    if response.length is None or response.length > MAX_BODY_BYTES or "content-encoding" in response.headers:
        headers = urllib3.HTTPHeaderDict(response.headers.items())
        return _read(
            urllib3.HTTPResponse(response, headers, response.status, preload_content=False, original_response=response)
        )
    _refuse_provisional(response.status)
    return HttpResponse(response.status, response.headers, response.read())


def tls_context(ca_bundle: str | None) -> ssl.SSLContext:
    """A TLS context that verifies certificates against `ca_bundle`, or against the system's if that is None."""
    context = ssl.create_default_context(cafile=ca_bundle)
    context.sslsocket_class = TlsSocket
    return context


def connection_pool(base_url: str, tls: ssl.SSLContext | None, size: int, seconds: float) -> urllib3.HTTPConnectionPool:
    """A pool that keeps at most `size` connections to the host of `base_url`. Safe to share between threads.

    `seconds` limits each call as a whole: connecting (if necessary), the request and the response.
    """
    parts = urlsplit(base_url)
    assert parts.hostname is not None
    timeout = urllib3.Timeout(connect=seconds, read=seconds)
    if parts.scheme == "https":
        return _TlsPool(parts.hostname, parts.port, maxsize=size, timeout=timeout, ssl_context=tls)
    return _PlainPool(parts.hostname, parts.port, maxsize=size, timeout=timeout)


def send(
    pool: urllib3.HTTPConnectionPool, method: str, target: str, headers: Mapping[str, str], body: bytes | None
) -> HttpResponse:
    """Sends one request and reads its response, whatever the status.

    Raises `NotSent`, `TimedOut`, `ConnectionLost` or `TooLarge`.
    """
    texts = "".join((target, *headers, *headers.values()))
    if " " in target or not (texts.isascii() and texts.isprintable()):
        raise NotSent("the request is not valid HTTP: it contains a character that is not allowed")
    try:
        response: Any = pool.urlopen(
            method,
            target,
            body,
            {"User-Agent": _USER_AGENT, **headers},
            retries=_NO_RETRIES,
            redirect=False,
            assert_same_host=False,
        )
    except ClosedPoolError as error:
        raise NotSent("the connections are closed") from error
    except (HTTPError, OSError) as error:
        raise _failure(error) from error
    assert isinstance(response, HttpResponse)
    return response


def fetch(method: str, url: str, tls: ssl.SSLContext | None, seconds: float, **options: Any) -> HttpResponse:
    """Sends one ping, or fetches one token or document, over its own connection.

    `options` are those of `requests`. `seconds` limits the time for the whole response. Before that, connecting may
    take `seconds` or `CONNECT_SECONDS`, whichever is less. Raises the same errors as `send`.
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
    """Makes the requests library use the connections of this module."""

    def __init__(self, tls: ssl.SSLContext | None) -> None:
        self._tls = tls
        super().__init__()

    def init_poolmanager(self, *args: Any, **options: Any) -> None:
        """Sets up the pools of this module for both schemes."""
        super().init_poolmanager(*args, **options, ssl_context=self._tls)
        self.poolmanager.pool_classes_by_scheme = {"http": _PlainPool, "https": _TlsPool}

    def cert_verify(self, *_args: Any) -> None:
        """Leaves the verification to the TLS context; the requests library would add its own certificates."""


@contextmanager
def _connecting(connection: HTTPConnection) -> Iterator[None]:
    """Limits the time to connect. Raises `NotSent` for any failure, since the request has not been sent by then."""
    whole, started = connection.timeout, time.monotonic()
    assert isinstance(whole, int | float)
    # A separate connect timeout in urllib3 would also apply to every request over a kept connection.
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
    _refuse_provisional(response.status)
    pieces, size = [], 0
    for piece in response.stream(_PIECE_BYTES, decode_content=True):
        size += len(piece)
        if size > MAX_BODY_BYTES:
            response.close()
            raise TooLarge
        pieces.append(piece)
    return HttpResponse(response.status, response.headers, b"".join(pieces))


def _refuse_provisional(status: int) -> None:
    """Raises `ConnectionLost` for the status of a provisional response: the real one may follow on this connection.

    `http.client` itself skips only provisional responses with status 100.
    """
    if status < 200:
        raise ConnectionLost(f"status {status}")


def _failure(error: BaseException) -> Exception:
    """The error that this module raises for `error`, which urllib3 or requests raised on an open connection.

    Where these libraries wrap one error in another, the inner error is the last argument of the outer one.
    """
    while not isinstance(error, ReadTimeoutError | TimeoutError | DecodeError):
        if not (error.args and isinstance(error.args[-1], Exception)):
            return ConnectionLost(type(error).__name__)
        error = error.args[-1]
    return ConnectionLost("DecodeError") if isinstance(error, DecodeError) else TimedOut("timed out")


_PING_PATH = "/health/ping"
#: Statuses of a service that does not offer the ping, or does not offer it to us.
_NOT_OFFERED = frozenset({401, 403, 404, 405})


@dataclass(frozen=True, slots=True)
class Health:
    """The result of a ping.

    status: the status of the response, or None if there was no response. problem: why the service counts as down, or
    None if it is up.
    """

    status: int | None
    problem: str | None

    @property
    def problem_unless_not_offered(self) -> str | None:
        """As `problem`, but None if the service does not offer the ping.

        Only calls can then show whether the service is up.
        """
        return None if self.status in _NOT_OFFERED else self.problem


def ping(base_url: str, tls: ssl.SSLContext | None, seconds: float) -> Health:
    """Requests `{base_url}/health/ping` without a token; never raises. `seconds` limits the ping as in `fetch`."""
    try:
        response = fetch("GET", base_url.rstrip("/") + _PING_PATH, tls, seconds)
    except (NotSent, TimedOut, ConnectionLost, TooLarge) as error:
        return Health(None, str(error))
    if response.status != 200:
        return Health(response.status, f"status {response.status}")
    if not _says_up(response.data):
        return Health(200, 'status 200, but the response does not say "status": "UP"')
    return Health(200, None)


def _says_up(data: bytes) -> bool:
    """Whether `data` is the health response of a service that is up, and not a page from some other server."""
    try:
        body = orjson.loads(data)
    except orjson.JSONDecodeError:
        return False
    return isinstance(body, dict) and body.get("status") == "UP"
