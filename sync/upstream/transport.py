"""HTTP to the upstream services, and the only place that makes HTTP sessions.

Calls, tokens and pings all go through `sync.upstream.connections`: none follows a redirect, and each has a limit of
time and of size.
"""

import re
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol
from urllib.parse import quote, urlencode, urlsplit

import orjson

from sync.failures import LeaseBusy, NeverAccepted, NotUnderstood, UpstreamError
from sync.settings.declaration import CONNECT_SECONDS, Settings, UpstreamName
from sync.tracing import trace_headers
from sync.upstream.connections import ConnectionLost, Connections, HttpAnswer, NotSent, TimedOut, TooLong
from sync.upstream.errors import is_error_body, may_have_been_applied, own_words, parse_error_body, parse_retry_after
from sync.upstream.in_flight import InFlight
from sync.upstream.tokens import TokenSource, authorities

_PING_PATH = "/health/ping"
#: Responses to a ping of a service that does not offer it, or not to us.
_NO_PING_STATUSES = frozenset({401, 403, 404, 405})
#: What JSON writes as two escapes, and one of the two without the other; two backslashes are one character.
_ESCAPES = re.compile(
    rb"\\\\|\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(?P<half>\\u[dD][89a-fA-F][0-9a-fA-F]{2})"
)


@dataclass(frozen=True, slots=True)
class Refusal:
    """A 500 that means that the service can never take this request: a part of its text, and what to say instead."""

    text: str
    reason: str


class CallObserver(Protocol):
    """Something told of every call: the breaker, the metrics, the adaptive limit."""

    def before_call(self, service: UpstreamName) -> None:
        """May raise `BreakerOpen`: the call is then not made."""
        ...

    def after_call(self, service: UpstreamName, method: str, error: UpstreamError | None, seconds: float) -> None:
        """Told how the call ended and how long it took, in seconds."""
        ...

    def not_called(self, service: UpstreamName) -> None:
        """Told that the call was not made after all, so that it shows nothing of the service."""
        ...


class ServiceClient:
    """Calls to one upstream service, with its own token and a limit of calls in flight over the whole process."""

    def __init__(
        self,
        name: UpstreamName,
        base_url: str,
        connections: Connections,
        tokens: TokenSource,
        in_flight: InFlight,
        observers: tuple[CallObserver, ...] = (),
        may_write: Callable[[], None] = lambda: None,
    ) -> None:
        self.name = name
        self._prefix = urlsplit(base_url).path.rstrip("/")
        self._connections = connections
        self._tokens = tokens
        self._in_flight = in_flight
        self._observers = observers
        self._may_write = may_write

    def call(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, object] | None = None,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        none_on_404: bool = False,
        refusal: Refusal | None = None,
        no_look_up: bool = False,
    ) -> Any:
        """One call; the decoded JSON answer, None for the empty body of a write.

        With `none_on_404` it is None for a 404 that is the service's own word (see `UpstreamError.absent`), and for
        nothing else: a read whose answer is empty or `null` is `NotUnderstood`, never "there is none".
        `path` begins with `/` and is quoted already (see `segment`). A token that the service refuses is renewed once.
        A read whose connection was lost is tried once more; whether to repeat a write is for those to say who know what
        it does. Raises `UpstreamError`, or before the call `BreakerOpen`, or `LeaseBusy` where it is a write and the
        lease that allows it has run out; `NeverAccepted` for a response that is the known `refusal` of such a request.
        `no_look_up` says of a write that nobody can find out later whether it was applied, so that a 500 counts as
        rolled back where it may (see `may_have_been_applied`).
        """
        for observer in self._observers:
            observer.before_call(self.name)
        content = None if body is None else orjson.dumps(body)
        started = time.perf_counter()
        try:
            response = self._send(method, path, query, content, headers)
            answer = self._answer(method, path, response, none_on_404, refusal, no_look_up)
        except LeaseBusy:
            for observer in self._observers:
                observer.not_called(self.name)
            raise
        except UpstreamError as error:
            error.reword(own_words(error.message, body))
            error.query = _query(query)
            self._tell(method, error, started)
            raise
        except Exception as caught:  # whatever an answer can bring about, it is that of this call
            broken = self._no_answer(method, path, f"broke with {type(caught).__name__}")
            self._tell(method, broken, started)
            raise broken from caught
        self._tell(method, None, started)
        return answer

    def _tell(self, method: str, error: UpstreamError | None, started: float) -> None:
        seconds = time.perf_counter() - started
        for observer in self._observers:
            observer.after_call(self.name, method, error, seconds)

    def authenticate(self) -> None:
        """Makes sure that HMPPS Auth gives this client a token; raises `NoToken` else."""
        self._tokens.token()

    def authorities(self) -> frozenset[str] | None:
        """What this client may do (`ROLE_…`), by its token; None if the token does not say. Raises `NoToken`."""
        return authorities(self._tokens.token())

    def _send(
        self,
        method: str,
        path: str,
        query: Mapping[str, object] | None,
        content: bytes | None,
        headers: Mapping[str, str] | None,
    ) -> HttpAnswer:
        token = self._tokens.token()
        response = self._attempt(method, path, query, content, headers, token)
        if response.status == 401:
            self._tokens.discard(token)
            said = parse_error_body(response.data)
            # A page in place of the service's own word does not say that a write has not come through.
            if method == "GET" or said.from_service or said.empty:
                response = self._attempt(method, path, query, content, headers, self._tokens.token())
        elif response.status == 403:
            # The next call has a new token: a role that is given to the client meanwhile is not in this one.
            self._tokens.discard(token)
        return response

    def _attempt(
        self,
        method: str,
        path: str,
        query: Mapping[str, object] | None,
        content: bytes | None,
        headers: Mapping[str, str] | None,
        token: str,
    ) -> HttpAnswer:
        url = self._prefix + path
        if query:
            url += "?" + _query(query)
        sent = {"Authorization": f"Bearer {token}", "Accept": "application/json", **trace_headers()}
        if content is not None:
            sent["Content-Type"] = "application/json"
        if headers:
            sent.update(headers)
        tries = 2 if method == "GET" else 1
        while True:
            tries -= 1
            try:
                with self._in_flight:
                    if method != "GET":
                        self._may_write()
                    return self._connections.exchange(method, url, sent, content)
            except NotSent as error:
                raise UpstreamError(
                    self.name, method, path, status=None, message=str(error), unreachable=True
                ) from error
            except (TimedOut, TooLong) as error:
                raise self._no_answer(method, path, str(error)) from error
            except ConnectionLost as error:
                # An idle connection that the service closed fails on its next use: try that once on a fresh one.
                if not tries:
                    raise self._no_answer(method, path, f"connection lost ({error})") from error

    def _no_answer(self, method: str, path: str, reason: str) -> UpstreamError:
        """The error of a call that was sent and whose answer, if there was one, is not known."""
        return UpstreamError(self.name, method, path, status=None, message=reason, outcome_unknown=method != "GET")

    def _answer(
        self,
        method: str,
        path: str,
        response: HttpAnswer,
        none_on_404: bool,
        refusal: Refusal | None,
        no_look_up: bool,
    ) -> Any:
        status = response.status
        if 200 <= status < 300:
            try:
                decoded = _decoded(response.data) if response.data else None
            except orjson.JSONDecodeError as invalid:
                raise self._no_answer(method, path, "the response is not valid JSON") from invalid
            if decoded is None and (method == "GET" or none_on_404):
                raise NotUnderstood(self.name, method, path, status=status, message="the response is empty")
            if is_error_body(decoded):
                raise self._no_answer(method, path, f"status {status} with the body of an error")
            return decoded
        body = parse_error_body(response.data)
        if refusal is not None and status == 500 and refusal.text in body.texts:
            message = f"{refusal.reason}: {body.message}"
            raise NeverAccepted(self.name, method, path, status=status, message=message, from_service=body.from_service)
        error = UpstreamError(
            self.name,
            method,
            path,
            status=status,
            message=body.message,
            outcome_unknown=method != "GET" and may_have_been_applied(status, body, no_look_up=no_look_up),
            more_info=body.more_info,
            retry_after=parse_retry_after(response.headers.get("retry-after")),
            from_service=body.from_service and not body.no_route,
            error_code=body.error_code,
        )
        if none_on_404 and error.absent:
            return None
        raise error


class Transport:
    """Makes the clients of the upstream services. Close it at the end.

    `may_write` is asked before each write is sent; it raises `LeaseBusy` when the lease that allows it has run out.
    """

    def __init__(
        self,
        settings: Settings,
        observers: tuple[CallObserver, ...] = (),
        may_write: Callable[[], None] = lambda: None,
    ) -> None:
        self._settings = settings
        self._observers = observers
        self._may_write = may_write
        self._open: list[Connections] = []

    def client(self, name: UpstreamName) -> ServiceClient:
        """A client of `name` with its own connections, token and limit of calls in flight."""
        settings = self._settings
        upstream = settings.upstream(name)
        oauth = settings.upstream(UpstreamName.OAUTH).base_url
        return ServiceClient(
            name,
            upstream.base_url,
            self._kept(upstream.base_url),
            TokenSource(oauth, upstream, self._kept(oauth)),
            InFlight(settings.reconciliation_concurrency),
            self._observers,
            self._may_write,
        )

    def ping(self, name: UpstreamName, timeout_seconds: float = 5.0) -> str | None:
        """Asks `{base}/health/ping`; None when the service says that it is up, else why it is taken to be down."""
        return self._health(name, timeout_seconds)[1]

    def reach(self, name: UpstreamName, timeout_seconds: float = 5.0) -> str | None:
        """Whether calls are worth trying: None if `ping` is, or if the service's ping is not there or not open to us.

        The calls themselves then show whether it is up.
        """
        status, reason = self._health(name, timeout_seconds)
        return None if status in _NO_PING_STATUSES else reason

    def _health(self, name: UpstreamName, timeout_seconds: float) -> tuple[int | None, str | None]:
        """The status of the health ping, None without a response, and why the service is taken to be down, if it is."""
        base_url = self._settings.upstream(name).base_url
        connections = self._connect(base_url, 0, timeout_seconds)
        path = urlsplit(base_url).path.rstrip("/") + _PING_PATH
        try:
            response = connections.exchange("GET", path, {"Accept": "application/json"}, None)
        except (NotSent, TimedOut, ConnectionLost, TooLong) as error:
            return None, str(error)
        if response.status != 200:
            return response.status, f"status {response.status}"
        return 200, None if _says_up(response.data) else 'status 200, but not the health of a service ("status": "UP")'

    def close(self) -> None:
        """Closes all connections."""
        for connections in self._open:
            connections.close()

    def _kept(self, base_url: str) -> Connections:
        """Connections that are closed at the end."""
        settings = self._settings
        connections = self._connect(base_url, settings.reconciliation_concurrency, settings.api_timeout_seconds)
        self._open.append(connections)
        return connections

    def _connect(self, base_url: str, size: int, call_seconds: float) -> Connections:
        parts = urlsplit(base_url)
        assert parts.hostname is not None
        secure = parts.scheme == "https"
        return Connections(
            parts.hostname,
            parts.port or (443 if secure else 80),
            self._tls if secure else None,
            size,
            min(CONNECT_SECONDS, call_seconds),
            call_seconds,
        )

    @cached_property
    def _tls(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=self._settings.api_ca_bundle)


def _query(query: Mapping[str, object] | None) -> str:
    return urlencode({key: value for key, value in (query or {}).items() if value is not None}, doseq=True)


def segment(value: object) -> str:
    """`value` as one segment of a path."""
    return quote(str(value), safe="")


def _decoded(data: bytes) -> Any:
    """JSON, read also where a text of it was cut within a character, as Java cuts: that half is left out.

    Raises `orjson.JSONDecodeError`.
    """
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError:
        whole = _ESCAPES.sub(lambda found: b"" if found["half"] else found[0], data)
        if whole == data:
            raise
        return orjson.loads(whole)


def _says_up(data: bytes) -> bool:
    """Whether this is the health of a service that is up, and not the page of somebody who answers for it."""
    try:
        body = orjson.loads(data)
    except orjson.JSONDecodeError:
        return False
    return isinstance(body, dict) and body.get("status") == "UP"
