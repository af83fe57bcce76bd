"""The parts of a fake service: requests, replies, refusals, routes, and the code that connects them to HTTP.

Handlers are plain functions that read and change the in-memory world. Everything around them (tokens and roles,
latency, faults, the connection pool of NOMIS, the log of requests, the journal of accepted writes) is dealt with here
for all services.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs

import orjson
from aiohttp import web

from sandbox.http.faults import Fault, Faults, drop, respond_badly
from sandbox.http.latency import Latency, ResponseTimer
from sandbox.http.records import RecordedRequest, RecordedWrite, Records
from sandbox.http.routing import Router

JSON_HEADERS = {"Content-Type": "application/json"}
DOCUMENT_PATH = "/v3/api-docs"
NO_QUERY: Mapping[str, list[str]] = {}


class Refused(Exception):
    """A request that the service refuses, with the messages for the error body.

    `user_message` includes the service's prefix (`Bad request: …`); `developer_message`, if not given, is the same
    message without the prefix.
    """

    def __init__(
        self,
        status: int,
        user_message: str,
        developer_message: str | None = None,
        error_code: int | None = None,
        more_info: object | None = None,
    ) -> None:
        super().__init__(user_message)
        self.status = status
        self.user_message = user_message
        self.developer_message = developer_message or user_message.partition(": ")[2] or user_message
        self.error_code = error_code
        self.more_info = more_info

    def body(self) -> dict[str, object]:
        """Returns the error body, in the form common to the HMPPS services."""
        return {
            "status": self.status,
            "errorCode": self.error_code,
            "userMessage": self.user_message,
            "developerMessage": self.developer_message,
            "moreInfo": self.more_info,
        }


@dataclass(frozen=True, slots=True)
class Request:
    """A request, as a handler sees it.

    `headers` ignores the case of names. `client_id` is that of the token, or empty if no token is needed. `arrived` is
    when the request came in, before any latency, by `time.perf_counter`; a real transaction would not see what was
    stored after that moment.
    """

    method: str
    path: str
    query: Mapping[str, list[str]]
    headers: Mapping[str, str]
    body: bytes
    client_id: str
    service: str = "nomis"
    arrived: float = 0.0

    def json(self) -> Any:
        """Returns the decoded body.

        Raises:
            Refused: 400, with the service's prefix, if the body is empty or not JSON.
        """
        try:
            return orjson.loads(self.body)
        except orjson.JSONDecodeError as error:
            prefix = "Bad request: " if self.service == "nomis" else "Validation failure: "
            raise Refused(400, f"{prefix}JSON parse error: {error}") from error

    def first(self, name: str, default: str | None = None) -> str | None:
        """Returns the first value of a query parameter, or the default if the parameter is absent."""
        values = self.query.get(name)
        return values[0] if values else default


@dataclass(frozen=True, slots=True)
class Reply:
    """A response: its status, headers and body (bytes are sent unchanged, None as no body, anything else as JSON)."""

    status: int = 200
    body: object | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Route:
    """One endpoint: a path template such as `/visits/{visitId}`, a handler `(request, **path_params)` and a role.

    `role` is the role that a caller needs, if any. `writes` says whether accepted requests are recorded in the journal.
    `since` and `until` are the months (`2025-06`) in which the endpoint was added and removed. `since` is empty if the
    endpoint has always been there, and `until` is empty if it has not been removed.
    """

    method: str
    template: str
    handler: Callable[..., Reply]
    role: str | None = None
    writes: bool = False
    since: str = ""
    until: str = ""

    def is_there(self, month: str) -> bool:
        """Whether the service had the endpoint in a given month."""
        return self.since <= month and not (self.until and self.until <= month)


@dataclass(frozen=True, slots=True)
class Holder:
    """Who presents a token: the client and its roles."""

    client_id: str
    roles: frozenset[str]


@dataclass(slots=True)
class Load:
    """How many calls a service is handling for one world, and the most that it has handled at once."""

    in_flight: int = 0
    most: int = 0

    def begin(self) -> int:
        """Counts a new call, and returns how many are now in flight."""
        self.in_flight += 1
        self.most = max(self.most, self.in_flight)
        return self.in_flight

    def end(self) -> None:
        """Counts a call as ended."""
        self.in_flight -= 1


class Service:
    """One fake service behind one port.

    Args: name: the name used for faults, logs and the journal. routes: the endpoints. records: the log of requests and
    the journal of accepted writes. faults: the faults that are switched on for any service. holder_of: finds the holder
    of a bearer token for this service, or raises `Refused` 401; None if the service checks no tokens. ping: the path of
    the health ping. pool: how many calls the service can handle at once (it responds to any more with 500); None means
    any number. timer: the timer of the event loop, if the loop also runs other services.
    """

    def __init__(
        self,
        name: str,
        routes: list[Route],
        records: Records,
        faults: Faults,
        holder_of: Callable[[str, str], Holder] | None,
        ping: str = "/health/ping",
        pool: int | None = None,
        timer: ResponseTimer | None = None,
    ) -> None:
        self.name = name
        self.records = records
        self.faults = faults
        self.holder_of = holder_of
        self.ping = ping
        #: Returns the service's OpenAPI document, which needs no token, or None if it has none.
        self.document: Callable[[], dict[str, Any] | None] = lambda: None
        self.pool = pool
        self.latency = Latency(timer or ResponseTimer())
        self.install(routes)

    def install(self, routes: list[Route]) -> None:
        """Replaces the endpoints, for a new world in the same process."""
        self.load = Load()
        self.router: Router[Route] = Router()
        for route in routes:
            self.router.add(route.method, route.template, route)

    def _fault(self, http: web.BaseRequest, body: bytes) -> Fault | None:
        return self.faults.hit(self.name, http.method, http.path, body, http.query_string)

    async def handle(self, http: web.BaseRequest) -> web.StreamResponse:
        """Responds to one HTTP request, applying any fault that is switched on for it."""
        started = time.perf_counter()
        asked, load = self.router, self.load
        try:
            body = await http.read() if http.body_exists else b""
        except ConnectionResetError:
            # The caller died in the middle of its request, so nothing waits for a response.
            return web.Response(status=400)
        fault = self._fault(http, body) if self.faults.any else None
        at_work = load.begin()
        crowded = self.pool is not None and at_work > self.pool
        late = bool(self.latency.seconds) and not crowded and http.path != self.ping
        client_id = ""
        status = 0
        try:
            if late:
                await self.latency.keep(time.perf_counter() - started)
            if fault is not None and fault.prevents_work:
                response = await self._refuse_by(fault, http)
            else:
                if fault is not None and fault.kind == "delay":
                    await fault.keep_waiting()
                if self.router is not asked:
                    # The world that this request was for has been replaced, and the new one must not be changed.
                    status = 503
                    return web.Response(status=status)
                client_id, reply = self._reply(http, body, started, crowded)
                response = await self._respond(reply, fault, http)
            status = response.status
            return response
        finally:
            load.end()
            took = time.perf_counter() - started
            if late and fault is None:
                self.latency.record_call(took)
            trace = http.headers.get("traceparent", "")
            seen = RecordedRequest(
                time.time(), self.name, http.method, http.path_qs, status, client_id, took * 1000, fault, trace
            )
            if self.router is asked:
                self.records.requests.append(seen)

    def _reply(self, http: web.BaseRequest, body: bytes, started: float, crowded: bool) -> tuple[str, Reply]:
        """Returns the id of the client that called (empty if unknown), and the service's reply. Never raises."""
        client_id = ""
        try:
            if http.path == self.ping:
                return client_id, Reply(body={"status": "UP"})
            if http.path == DOCUMENT_PATH and (document := self.document()) is not None:
                return client_id, Reply(body=document)
            if crowded:
                raise Refused(
                    500,
                    "Unexpected error: Unable to acquire JDBC Connection",
                    "HikariPool-1 - Connection is not available, request timed out after 1000ms.",
                )
            holder = None
            if self.holder_of is not None:
                holder = self.holder_of(self.name, http.headers.get("Authorization", ""))
                client_id = holder.client_id
            route, parameters = self._route(http.method, http.path)
            if route.role is not None and (holder is None or route.role not in holder.roles):
                return client_id, Reply(403, {"status": 403, "userMessage": None, "developerMessage": "Access Denied"})
            query = parse_qs(http.query_string, keep_blank_values=True) if http.query_string else NO_QUERY
            request = Request(http.method, http.path, query, http.headers, body, client_id, self.name, started)
            reply = route.handler(request, **parameters)
            if route.writes and reply.status < 400:
                correlation = http.headers.get("X-Correlation-Id", "")
                self.records.journal.append(
                    RecordedWrite(time.time(), self.name, http.method, http.path, body, correlation)
                )
            return client_id, reply
        except Refused as refused:
            return client_id, Reply(refused.status, refused.body())
        except Exception as error:
            traceback.print_exc()
            return client_id, Reply(500, Refused(500, f"Unexpected error: {error}").body())

    def _route(self, method: str, path: str) -> tuple[Route, dict[str, str]]:
        found = self.router.find(path)
        if found is None:
            raise Refused(404, f"Not Found: No handler found for {method} {path}")
        by_method, values = found
        if method not in by_method:
            raise Refused(405, f"Method Not Allowed: Request method '{method}' is not supported")
        route, names = by_method[method]
        return route, dict(zip(names, values, strict=True))

    async def _refuse_by(self, fault: Fault, http: web.BaseRequest) -> web.StreamResponse:
        """Responds or drops the connection, as the fault says, without passing the request to a handler."""
        if fault.kind == "status":
            return to_http(_chosen_reply(fault))
        if fault.kind == "rate_limited":
            slack = {"ok": False, "error": "ratelimited"}
            said = slack if self.name == "slack" else Refused(429, "Too many requests").body()
            return to_http(Reply(429, said, {"Retry-After": str(fault.retry_after)}))
        if fault.kind == "timeout_before_write":
            await fault.keep_waiting()
        return drop(http)

    async def _respond(self, reply: Reply, fault: Fault | None, http: web.BaseRequest) -> web.StreamResponse:
        """Returns the response for a reply, changed by any fault that takes effect after the handler has run."""
        response = to_http(reply)
        if fault is None or fault.kind == "delay":
            return response
        if fault.kind == "status_after_write":
            return to_http(_chosen_reply(fault))
        if fault.kind == "timeout_after_write":
            await fault.keep_waiting()
            return drop(http)
        if fault.kind == "reset_after_write":
            return drop(http)
        return await respond_badly(fault, response, http)


def _chosen_reply(fault: Fault) -> Reply:
    """The reply given when the fault was switched on: status, headers and body (by default, an error body)."""
    if fault.text is not None:
        return Reply(fault.status, fault.text.encode(), fault.headers)
    if fault.body is not None:
        return Reply(fault.status, fault.body, fault.headers)
    return Reply(fault.status, Refused(fault.status, f"Unexpected error: fault {fault.id}").body(), fault.headers)


def to_http(reply: Reply) -> web.Response:
    """Returns the HTTP response for a reply."""
    body = reply.body
    if body is None:
        return web.Response(status=reply.status, headers=reply.headers or None)
    content = body if isinstance(body, bytes) else orjson.dumps(body)
    headers = {**JSON_HEADERS, **reply.headers} if reply.headers else JSON_HEADERS
    return web.Response(body=content, status=reply.status, headers=headers)
