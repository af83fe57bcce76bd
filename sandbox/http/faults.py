"""Faults that can be switched on for chosen requests, with counts of the requests that they have affected."""

from __future__ import annotations

import asyncio
import gzip
import random
import re
import socket
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field

from aiohttp import web

BEFORE_WORK = frozenset({"status", "rate_limited", "timeout_before_write", "reset"})
AFTER_WORK = frozenset(
    {
        "delay",
        "status_after_write",
        "timeout_after_write",
        "reset_after_write",
        "truncated",
        "trickle",
        "empty",
        "gzip",
        "chunked",
        "html",
    }
)
KINDS = BEFORE_WORK | AFTER_WORK
TEMPLATE_PARAMETER = re.compile(r"\{[A-Za-z]\w*\}")


@dataclass(slots=True)
class Fault:
    """One fault: which requests it affects, how many times, and what it does to them.

    `containing` is text that the body must contain, and `query` is a parameter (`page=2`) that the query string must
    have.

    Kinds that keep the request from the service: `status`, `rate_limited`, `timeout_before_write` and `reset`. Kinds
    that take effect after the service has done the work: `status_after_write`, `timeout_after_write`,
    `reset_after_write`, `truncated`, `trickle`, `empty`, `gzip`, `chunked` and `html`. `delay` lets the request through
    after a delay.

    `status` and `status_after_write` respond with `status`, `headers` and a body: `text` unchanged, or `body` as JSON,
    or else the service's own error body.

    With `until_released`, `delay` and the time-outs keep requests waiting until the fault is released or switched off.
    """

    id: int
    service: str
    method: str
    path: str | None
    kind: str
    times: int | None = None
    probability: float = 1.0
    seed: int | None = None
    skip: int = 0
    containing: str | None = None
    query: str | None = None
    status: int = 503
    body: object | None = None
    text: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    ms: float = 0.0
    hold: float = 30.0
    retry_after: float = 1
    until_released: bool = False
    hits: int = 0
    passed: int = 0
    _pattern: re.Pattern[str] | None = field(default=None, repr=False)
    _random: random.Random = field(default_factory=random.Random, repr=False)
    _released: asyncio.Event = field(default_factory=asyncio.Event, repr=False)

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"unknown kind of fault {self.kind!r}: it must be one of {', '.join(sorted(KINDS))}")
        self._pattern = None if self.path is None else path_pattern(self.path)
        self._random = random.Random(self.id if self.seed is None else self.seed)

    @property
    def prevents_work(self) -> bool:
        """Whether the fault keeps requests from the service."""
        return self.kind in BEFORE_WORK

    @property
    def seconds(self) -> float:
        """How many seconds a `delay` (`ms`) or a time-out (`hold`) keeps a request waiting."""
        return self.ms / 1000 if self.kind == "delay" else self.hold

    async def keep_waiting(self) -> None:
        """Keeps a request waiting for as long as the fault says."""
        if self.until_released:
            await self._released.wait()
        else:
            await asyncio.sleep(self.seconds)

    def release(self) -> None:
        """With `until_released`, releases the requests that are waiting; later requests do not wait."""
        self._released.set()

    def meets(self, service: str, method: str, path: str, body: bytes, query: str = "") -> bool:
        """Returns whether the fault affects this request.

        Counts the request in `hits` if so, and in `passed` if it matches but is spared because of `skip` or
        `probability`.
        """
        if self.service not in ("*", service) or self.method not in ("*", method):
            return False
        if self._pattern is not None and self._pattern.search(path) is None:
            return False
        if self.containing is not None and self.containing.encode() not in body:
            return False
        if self.query is not None and self.query not in query.split("&"):
            return False
        if self.times is not None and self.hits >= self.times:
            return False
        if self.passed < self.skip or (self.probability < 1.0 and self._random.random() >= self.probability):
            self.passed += 1
            return False
        self.hits += 1
        return True

    def view(self) -> dict[str, object]:
        """Returns the fault as the control API shows it."""
        return {
            "id": self.id,
            "service": self.service,
            "method": self.method,
            "path": self.path,
            "kind": self.kind,
            "times": self.times,
            "probability": self.probability,
            "hits": self.hits,
        }


class Faults:
    """All faults that are switched on; of those that would affect a request, only the first takes effect."""

    def __init__(self) -> None:
        self._faults: list[Fault] = []
        self._next_id = 1

    @property
    def any(self) -> bool:
        """Whether any fault is switched on; if none is, requests need not be compared with faults."""
        return bool(self._faults)

    def add(
        self, service: str = "*", method: str = "*", path: str | None = None, kind: str = "status", **parameters: object
    ) -> Fault:
        """Switches a fault on.

        Raises:
            ValueError: the kind is unknown, or `path` is neither a path template nor a regular expression.
            TypeError: a parameter is unknown.
        """
        fault = Fault(self._next_id, service, method.upper(), path, kind, **parameters)  # type: ignore[arg-type]
        self._next_id += 1
        self._faults.append(fault)
        return fault

    def hit(self, service: str, method: str, path: str, body: bytes, query: str = "") -> Fault | None:
        """Returns the fault that affects a request, or None."""
        for fault in self._faults:
            if fault.meets(service, method, path, body, query):
                return fault
        return None

    def release(self, fault_id: int) -> None:
        """Releases the requests that a fault with `until_released` keeps waiting.

        Raises:
            ValueError: no fault with this id is switched on.
        """
        for fault in self._faults:
            if fault.id == fault_id:
                fault.release()
                return
        raise ValueError(f"there is no fault {fault_id}")

    def clear(self) -> None:
        """Switches all faults off, and releases the requests that those with `until_released` keep waiting."""
        for fault in self._faults:
            fault.release()
        self._faults.clear()

    def views(self) -> list[dict[str, object]]:
        """Returns all faults that are switched on, each as the control API shows it."""
        return [fault.view() for fault in self._faults]


def path_pattern(path: str) -> re.Pattern[str]:
    """Returns the pattern for a path template (`/visits/{id}`) or for a regular expression.

    A template matches whole paths, and a regular expression matches any part of a path.

    Raises:
        ValueError: `path` is neither.
    """
    try:
        if TEMPLATE_PARAMETER.search(path):
            return re.compile("^" + TEMPLATE_PARAMETER.sub("[^/]+", path) + "$")
        return re.compile(path)
    except re.error as error:
        raise ValueError(f"the path {path!r} of a fault is not a regular expression: {error}") from error


NO_LINGER = struct.pack("ii", 1, 0)
DRIPS = 20


def drop(http: web.BaseRequest) -> web.StreamResponse:
    """Resets the connection; the returned object serves only to put status 0 into the log of requests."""
    transport = http.transport
    if transport is not None:
        raw = transport.get_extra_info("socket")
        if raw is not None:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, NO_LINGER)
        transport.abort()
    return Dropped()


class Dropped(web.Response):
    """Stands for a response that is not sent, or not sent in full."""

    @property
    def status(self) -> int:
        """Always 0, which shows in the log of requests that no complete response was sent."""
        return 0


async def respond_badly(fault: Fault, response: web.Response, http: web.BaseRequest) -> web.StreamResponse:
    """Returns the response as the fault changes it; a truncated, slow or chunked one is sent before this returns."""
    body = bytes(response.body) if isinstance(response.body, bytes) else b""
    headers = {"Content-Type": response.content_type}
    if fault.kind == "empty":
        return web.Response(status=response.status)
    if fault.kind == "html":
        page = b"<html><body><h1>502 Bad Gateway</h1></body></html>"
        return web.Response(body=page, status=response.status, headers={"Content-Type": "text/html"})
    if fault.kind == "gzip":
        return web.Response(
            body=gzip.compress(body), status=response.status, headers={**headers, "Content-Encoding": "gzip"}
        )
    stream = web.StreamResponse(status=response.status, headers=headers)
    if fault.kind == "chunked":
        stream.enable_chunked_encoding()
    else:
        stream.content_length = max(len(body), 1)
    await stream.prepare(http)
    if fault.kind == "truncated":
        await stream.write(body[: len(body) // 2])
        return drop(http)
    size = max(1, len(body) // DRIPS)
    for start in range(0, len(body), size):
        await stream.write(body[start : start + size])
        if fault.kind == "trickle":
            await asyncio.sleep((fault.ms or 50) / 1000)
    await stream.write_eof()
    return stream
