"""HTTP by urllib3, and by requests for tokens and pings, with the limits that a call between services needs.

Neither library limits the time of a whole response or the size of a body, nor says whether a request was certainly not
sent; this module adds these three. Nothing here is sent twice, no redirect is followed and no proxy is used.
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

#: The largest body that is read, in bytes, compressed or not. The longest responses list all mappings of a domain.
MAX_BODY_BYTES = 64 * 1024 * 1024
_PIECE_BYTES = 1024 * 1024
#: Methods whose requests state the length of their body even if they have none.
_WITH_BODY = frozenset({"POST", "PUT", "PATCH"})
_USER_AGENT = "prisoner-to-nomis"
#: Made once: `retries=False` would make one for each call, which takes a tenth of its CPU time.
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
    headers: Mapping[str, str] | HTTPMessage
    data: bytes


class _PlainConnection(HTTPConnection):
    response_class = HeadResponse

    def connect(self) -> None:
        """Connects; raises `NotSent`."""
        with _connecting(self):
            super().connect()
            self.sock = PlainSocket(fileno=self.sock.detach())


class _TlsConnection(HTTPSConnection):
    response_class = HeadResponse

    def connect(self) -> None:
        """Connects and verifies the certificate; raises `NotSent`."""
        with _connecting(self):
            super().connect()


class _Pool(urllib3.HTTPConnectionPool):
    """Connections of urllib3 over which `send` makes each request in one piece and reads its response at once.

    urllib3 keeps, checks and drops the connections. Its own way of making a request writes field by field and copies
    the response into objects that `send` does not need, which takes twice the CPU time.
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
            # A request made by the library requests, which reads urllib3's response itself.
            return super()._make_request(conn, method, url, body, headers, preload_content=False, **options)
        if conn.sock is None:
            conn.connect()
        else:
            conn.sock.settimeout(conn.timeout)
        # A service may respond, and close the connection, before it has received everything.
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
    """The bytes of a request, whose characters `send` has checked."""
    host = f"[{connection.host}]" if ":" in connection.host else connection.host
    if connection.port != connection.default_port:
        host = f"{host}:{connection.port}"
    fields = {"Host": host, "Accept-Encoding": "identity", **headers}
    if body is not None or method in _WITH_BODY:
        fields["Content-Length"] = str(len(body or b""))
    lines = [f"{method} {target} HTTP/1.1", *[f"{name}: {value}" for name, value in fields.items()], "", ""]
    return "\r\n".join(lines).encode("ascii") + (body or b"")


def _whole(response: HeadResponse) -> HttpResponse:
    """Reads the body of a response: at once if its length is known and it is not compressed, or else in pieces.

    Raises `ConnectionLost` for a response with two lengths: where it ends, and the next one begins, is unknown.
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
    """How TLS is spoken: certificates are verified against `ca_bundle`, or else those of the system."""
    context = ssl.create_default_context(cafile=ca_bundle)
    context.sslsocket_class = TlsSocket
    return context


def connection_pool(base_url: str, tls: ssl.SSLContext | None, size: int, seconds: float) -> urllib3.HTTPConnectionPool:
    """Connections to the host of `base_url`, at most `size` of them kept. Safe to share between threads.

    `seconds` limits each call from the making of a connection to the end of the response.
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
        raise NotSent("the request is not valid HTTP: it has a character that is not allowed")
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
    """One request over a separate connection, for tokens and pings; `options` are those of `requests`.

    `seconds` limits the response, and so does `CONNECT_SECONDS` the connection before it. Raises as `send` does.
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
    """Makes the library requests use the connections of this module."""

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
    """Raises `ConnectionLost` for a provisional response: the real one may still follow on this connection.

    http.client skips those with the status 100, and no others.
    """
    if status < 200:
        raise ConnectionLost(f"status {status}")


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
        """None even if the ping is not offered: the calls themselves then show whether the service is up."""
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
