"""HTTP to the upstream services, and the only place that makes HTTP sessions.

Calls go through `sync.upstream.connections`, which costs a small part of the CPU of a call through `requests` and so
lets one process keep many calls in flight. Tokens and pings, which are few, go through `requests`.
"""

import ssl
import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol
from urllib.parse import quote, urlencode, urlsplit

import orjson
import requests

from sync.failures import LeaseBusy, NeverAccepted, NotUnderstood, UpstreamError
from sync.settings import CONNECT_SECONDS, Settings, UpstreamName
from sync.tracing import trace_headers
from sync.upstream.connections import ConnectionLost, Connections, HttpAnswer, NotSent, TimedOut
from sync.upstream.error_codes import read_error_code
from sync.upstream.in_flight import InFlight
from sync.upstream.messages import own_words
from sync.upstream.tokens import TokenSource

#: A gateway that gave up waiting says nothing about what the service behind it did.
_OUTCOME_UNKNOWN_STATUSES = frozenset({502, 504})
#: What a service answers that is down, or that a gateway answers for it.
_DOWN_STATUSES = frozenset({500, 502, 503, 504})


class CallObserver(Protocol):
    """Something told of every call: the breaker, the metrics, the adaptive limit."""

    def before_call(self, service: UpstreamName) -> None:
        """May raise `BreakerOpen`: the call is then not made."""
        ...

    def after_call(self, service: UpstreamName, method: str, error: UpstreamError | None, seconds: float) -> None:
        """Told how the call ended and how long it took, in seconds."""
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
        refusal: str | None = None,
    ) -> Any:
        """One call; the decoded JSON answer, None for the empty body of a write.

        With `none_on_404` it is None for a 404 that is the service's own word (see `UpstreamError.absent`), and for
        nothing else: a read whose answer is empty or `null` is `NotUnderstood`, never "there is none".
        `path` begins with `/` and is quoted already (see `segment`). A refused token is renewed once. A read whose
        connection was lost is tried once more; whether to repeat a write is for those to say who know what it does.
        Raises `UpstreamError`, or before the call `BreakerOpen`, or `LeaseBusy` where it is a write and the lease that
        allows it has run out. `refusal` says why the service can never take this request, where it is known to answer
        500 to such: that then is `NeverAccepted`, and no sign of an outage.
        """
        for observer in self._observers:
            observer.before_call(self.name)
        content = None if body is None else orjson.dumps(body)
        started = time.perf_counter()
        try:
            answer = self._answer(method, path, self._send(method, path, query, content, headers), none_on_404)
        except LeaseBusy:
            # Nothing was sent, so there is nothing to tell of the service.
            raise
        except UpstreamError as caught:
            caught.reword(own_words(caught.message, body))
            error = caught
            if refusal is not None and caught.status == 500:
                error = NeverAccepted(self.name, method, path, status=500, message=f"{refusal}: {caught.message}")
            self._tell(method, error, started)
            raise error from caught.__cause__
        except Exception as caught:  # whatever an answer can bring about, it is that of this call
            error = self._no_answer(method, path, f"broke with {type(caught).__name__}")
            self._tell(method, error, started)
            raise error from caught
        self._tell(method, None, started)
        return answer

    def _tell(self, method: str, error: UpstreamError | None, started: float) -> None:
        seconds = time.perf_counter() - started
        for observer in self._observers:
            observer.after_call(self.name, method, error, seconds)

    def authenticate(self) -> None:
        """Makes sure that HMPPS Auth gives this client a token; raises `UpstreamError` (`hmpps-auth`) else."""
        self._tokens.token()

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
            response = self._attempt(method, path, query, content, headers, self._tokens.token())
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
            url += "?" + urlencode({key: value for key, value in query.items() if value is not None}, doseq=True)
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
            except TimedOut as error:
                raise self._no_answer(method, path, str(error)) from error
            except ConnectionLost as error:
                # An idle connection that the service closed fails on its next use: try that once on a fresh one.
                if not tries:
                    raise self._no_answer(method, path, f"connection lost ({error})") from error

    def _no_answer(self, method: str, path: str, reason: str) -> UpstreamError:
        """The error of a call that was sent and whose answer, if there was one, is not known."""
        return UpstreamError(self.name, method, path, status=None, message=reason, outcome_unknown=method != "GET")

    def _answer(self, method: str, path: str, response: HttpAnswer, none_on_404: bool) -> Any:
        status = response.status
        data = response.data
        if 200 <= status < 300:
            try:
                decoded = orjson.loads(data) if data else None
            except orjson.JSONDecodeError as error:
                raise self._no_answer(method, path, "the answer is not valid JSON") from error
            if decoded is None and (method == "GET" or none_on_404):
                raise NotUnderstood(self.name, method, path, status=status, message="the answer is empty")
            return decoded
        message, more_info, from_service = _error_body(data)
        if status == 404 and none_on_404 and from_service:
            return None
        raise UpstreamError(
            self.name,
            method,
            path,
            status=status,
            message=message,
            outcome_unknown=method != "GET" and status in _OUTCOME_UNKNOWN_STATUSES,
            more_info=more_info,
            retry_after=_retry_after(response.headers.get("retry-after")),
            from_service=from_service,
            error_code=read_error_code(data),
        )


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
        self._session = requests.Session()
        # Certificates come from the settings and there are no proxies, so a call does not search the environment.
        self._session.trust_env = False
        if settings.api_ca_bundle:
            self._session.verify = settings.api_ca_bundle
        self._open: list[Connections] = []

    def client(self, name: UpstreamName) -> ServiceClient:
        """A client of `name` with its own connections, token and limit of calls in flight."""
        settings = self._settings
        upstream = settings.upstream(name)
        tokens = TokenSource(settings.api_base_url_oauth, upstream, self._session, settings.api_timeout_seconds)
        in_flight = InFlight(settings.reconciliation_concurrency)
        return ServiceClient(
            name,
            upstream.base_url,
            self._connections(upstream.base_url),
            tokens,
            in_flight,
            self._observers,
            self._may_write,
        )

    def ping(self, name: UpstreamName, timeout_seconds: float = 5.0) -> str | None:
        """Asks `{base}/health/ping`; None when the service is up, else why it is taken to be down."""
        status = self._health(name, timeout_seconds)
        if isinstance(status, str):
            return status
        return None if status == 200 else f"status {status}"

    def reach(self, name: UpstreamName, timeout_seconds: float = 5.0) -> str | None:
        """Whether calls are worth trying: None unless `{base}/health/ping` has no answer, or a failing server's.

        A service whose ping is not there or not open to us answers all the same; the calls themselves then tell.
        """
        status = self._health(name, timeout_seconds)
        if isinstance(status, str):
            return status
        return f"status {status}" if status in _DOWN_STATUSES else None

    def _health(self, name: UpstreamName, timeout_seconds: float) -> int | str:
        """The status of the health ping, or why there is none."""
        try:
            response = self._session.get(
                f"{self._settings.upstream(name).base_url}/health/ping", timeout=timeout_seconds
            )
        except requests.RequestException as error:
            return type(error).__name__
        return response.status_code

    def close(self) -> None:
        """Closes all connections."""
        for connections in self._open:
            connections.close()
        self._session.close()

    def _connections(self, base_url: str) -> Connections:
        parts, settings = urlsplit(base_url), self._settings
        assert parts.hostname is not None
        secure = parts.scheme == "https"
        connections = Connections(
            parts.hostname,
            parts.port or (443 if secure else 80),
            ssl.create_default_context(cafile=settings.api_ca_bundle) if secure else None,
            settings.reconciliation_concurrency,
            min(CONNECT_SECONDS, settings.api_timeout_seconds),
            settings.api_timeout_seconds,
        )
        self._open.append(connections)
        return connections


def segment(value: object) -> str:
    """`value` as one segment of a path."""
    return quote(str(value), safe="")


def _error_body(data: bytes) -> tuple[str, object | None, bool]:
    """The message and `moreInfo` of an error body, and whether it is that of an HMPPS service.

    Theirs is a JSON object with `status` and `userMessage` or `developerMessage`. Of any other text the start is the
    message.
    """
    try:
        body = orjson.loads(data) if data else None
    except orjson.JSONDecodeError:
        return data[:200].decode("utf-8", "replace"), None, False
    if not isinstance(body, dict):
        return "", None, False
    from_service = "status" in body and ("userMessage" in body or "developerMessage" in body)
    texts = (body.get(name) for name in ("userMessage", "developerMessage", "error_description", "error"))
    return next((str(text) for text in texts if text), ""), body.get("moreInfo"), from_service


def _retry_after(value: str | None) -> float | None:
    try:
        return None if value is None else max(0.0, float(value))
    except ValueError:
        return None
