"""Calls to the upstream services: when a call is repeated, and what a response, or the lack of one, means."""

import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import quote, urlencode, urlsplit

import orjson
from urllib3 import HTTPConnectionPool

from sync.errors import LeaseBusy, NeverAccepted, NotUnderstood, UpstreamError
from sync.settings.upstreams import UpstreamName
from sync.tracing import trace_headers
from sync.upstream.concurrency_limit import ConcurrencyLimit
from sync.upstream.error_bodies import (
    is_error_body,
    may_have_been_applied,
    own_words,
    parse_error_body,
    parse_retry_after,
)
from sync.upstream.http import (
    ConnectionLost,
    HttpResponse,
    NotSent,
    TimedOut,
    TooLarge,
    send,
)
from sync.upstream.tokens import TokenSource, authorities

#: Statuses that may mean that the service is overloaded, and the statuses for which its `Retry-After` counts.
_OVERLOADED = frozenset({429, 500, 503})
_ASKS_TO_WAIT = frozenset({429, 503})
#: In JSON: an escaped backslash, a pair of escapes for one character (surrogates), and one half of a pair on its own.
_ESCAPES = re.compile(
    rb"\\\\|\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(?P<half>\\u[dD][89a-fA-F][0-9a-fA-F]{2})"
)


@dataclass(frozen=True, slots=True)
class Refusal:
    """Describes a response with status 500 which means that the service can never accept the request.

    text: the part of the service's message by which such a response is recognised. reason: what the error says before
    that message.
    """

    text: str
    reason: str


class CallObserver(Protocol):
    """Observes every call, as the breakers and the metrics do."""

    def before_call(self, service: UpstreamName) -> bool:
        """Returns whether an outage of the service has only just ended. Raises `BreakerOpen` to prevent the call."""
        ...

    def after_call(self, service: UpstreamName, method: str, error: UpstreamError | None, seconds: float) -> None:
        """Records how the call ended and how long it took, in seconds."""
        ...

    def not_called(self, service: UpstreamName) -> None:
        """Records that the call was not made after all, so it shows nothing about the service."""
        ...


class ServiceClient:
    """Makes calls to one upstream service, with its own token and within the process's `limit` for the service."""

    def __init__(
        self,
        name: UpstreamName,
        base_url: str,
        connections: HTTPConnectionPool,
        tokens: TokenSource,
        limit: ConcurrencyLimit,
        observers: tuple[CallObserver, ...] = (),
        may_write: Callable[[], None] = lambda: None,
    ) -> None:
        self.name = name
        self.limit = limit
        self._prefix = urlsplit(base_url).path.rstrip("/")
        self._connections = connections
        self._tokens = tokens
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
        may_lack_route: bool = False,
    ) -> Any:
        """Makes one call. Returns the decoded JSON of the response, or None for the empty body of a write.

        `path` begins with `/` and is already quoted (see `segment`). With `none_on_404`, the result is None for a 404
        from the service itself (see `UpstreamError.absent`), and for nothing else. An empty or `null` response to a
        read, or to any call with `none_on_404`, raises `NotUnderstood`. If the service refuses the token with a 401,
        the call is repeated once with a new token. If the connection is lost, a read is repeated once. A write is then
        not repeated, since only the caller knows whether that is safe.

        Raises `UpstreamError`, which is `NeverAccepted` if the response matches `refusal`. Without sending the request,
        raises `BreakerOpen` if the service counts as down, or `LeaseBusy` if the lease for a write has expired.
        `no_look_up` means that nobody can find out later whether the write was applied, so the write counts as not
        applied wherever the response allows it (see `may_have_been_applied`). `may_lack_route` means that the caller
        has a different route for other versions of the service, so a missing route (`no_route`) does not count as an
        outage.
        """
        just_back = [observer.before_call(self.name) for observer in self._observers]
        if any(just_back):
            self.limit.restart()
        content = None if body is None else orjson.dumps(body)
        started = time.perf_counter()
        try:
            response = self._send(method, path, query, content, headers)
            result = self._decode(method, path, response, none_on_404, refusal, no_look_up)
        except LeaseBusy:
            for observer in self._observers:
                observer.not_called(self.name)
            raise
        except UpstreamError as error:
            error.reword(own_words(error.message, body))
            error.query = _query(query)
            self._notify(method, None if may_lack_route and error.no_route else error, started)
            raise
        except Exception as caught:  # whatever the response causes, only this call fails
            broken = self._no_response(method, path, f"failed with {type(caught).__name__}")
            self._notify(method, broken, started)
            raise broken from caught
        self._notify(method, None, started)
        return result

    def _notify(self, method: str, error: UpstreamError | None, started: float) -> None:
        seconds = time.perf_counter() - started
        for observer in self._observers:
            observer.after_call(self.name, method, error, seconds)

    def authenticate(self) -> None:
        """Checks that HMPPS Auth gives this client a token. Raises `NoToken` if it does not."""
        self._tokens.token()

    def authorities(self) -> frozenset[str] | None:
        """The authorities (`ROLE_…`) in this client's token, or None if the token is not a JWT. Raises `NoToken`."""
        return authorities(self._tokens.token())

    def _send(
        self,
        method: str,
        path: str,
        query: Mapping[str, object] | None,
        content: bytes | None,
        headers: Mapping[str, str] | None,
    ) -> HttpResponse:
        token = self._tokens.token()
        response = self._send_with(token, method, path, query, content, headers)
        if response.status == 401:
            self._tokens.discard(token)
            refusal = parse_error_body(response.data)
            # If another server wrote the response, a write may still have reached the service, so it is not repeated.
            if method == "GET" or refusal.from_service or refusal.empty:
                response = self._send_with(self._tokens.token(), method, path, query, content, headers)
        elif response.status == 403:
            # The next call fetches a new token, since a role that has been granted in the meantime is not in the
            # current token.
            self._tokens.discard(token)
        return response

    def _send_with(
        self,
        token: str,
        method: str,
        path: str,
        query: Mapping[str, object] | None,
        content: bytes | None,
        headers: Mapping[str, str] | None,
    ) -> HttpResponse:
        target = self._prefix + path
        if query:
            target += "?" + _query(query)
        sent = {"Authorization": f"Bearer {token}", "Accept": "application/json", **trace_headers()}
        if content is not None:
            sent["Content-Type"] = "application/json"
        if headers:
            sent.update(headers)
        attempts = 2 if method == "GET" else 1
        while True:
            attempts -= 1
            try:
                return self._send_in_turn(method, target, sent, content)
            except NotSent as error:
                raise UpstreamError(
                    self.name, method, path, status=None, message=str(error), unreachable=True
                ) from error
            except (TimedOut, TooLarge) as error:
                raise self._no_response(method, path, str(error)) from error
            except ConnectionLost as error:
                # The service may close a kept connection while the request is on its way, so try a new connection.
                if not attempts:
                    raise self._no_response(method, path, f"connection lost ({error})") from error

    def _send_in_turn(
        self, method: str, target: str, headers: Mapping[str, str], content: bytes | None
    ) -> HttpResponse:
        """Sends the request when the limit allows it, and lets the limit know how the service responded."""
        with self.limit:
            if method != "GET":
                self._may_write()
            started = time.perf_counter()
            response = send(self._connections, method, target, headers, content)
        if response.status in _OVERLOADED:
            asks_to_wait = response.status in _ASKS_TO_WAIT
            self.limit.on_throttled(parse_retry_after(response.headers.get("retry-after")) if asks_to_wait else None)
        elif response.status < 500:
            # The times of writes differ too much to show how fast the service is.
            self.limit.on_success(time.perf_counter() - started if method == "GET" else None)
        return response

    def _no_response(self, method: str, path: str, reason: str) -> UpstreamError:
        """The error for a call that was sent but whose response did not arrive or could not be read."""
        return UpstreamError(self.name, method, path, status=None, message=reason, outcome_unknown=method != "GET")

    def _decode(
        self,
        method: str,
        path: str,
        response: HttpResponse,
        none_on_404: bool,
        refusal: Refusal | None,
        no_look_up: bool,
    ) -> Any:
        status = response.status
        if 200 <= status < 300:
            try:
                decoded = _decoded(response.data) if response.data else None
            except orjson.JSONDecodeError as invalid:
                raise self._no_response(method, path, "the response is not valid JSON") from invalid
            if decoded is None and (method == "GET" or none_on_404):
                raise NotUnderstood(self.name, method, path, status=status, message="the response is empty")
            if is_error_body(decoded):
                raise self._no_response(method, path, f"status {status} with the body of an error")
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
            no_route=status == 404 and body.no_route,
        )
        if none_on_404 and error.absent:
            return None
        raise error


def _query(query: Mapping[str, object] | None) -> str:
    return urlencode({key: value for key, value in (query or {}).items() if value is not None}, doseq=True)


def segment(value: object) -> str:
    """`value` as one segment of a path. Colons, as in a time, are not quoted: they have no special meaning there."""
    return str(value) if type(value) is int else quote(str(value), safe=":")


def _decoded(data: bytes) -> Any:
    """Decodes JSON. If Java cut a string in the middle of a character, the half character is left out.

    Raises `orjson.JSONDecodeError`.
    """
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError:
        whole = _ESCAPES.sub(lambda found: b"" if found["half"] else found[0], data)
        if whole == data:
            raise
        return orjson.loads(whole)
