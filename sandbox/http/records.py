"""What is recorded about the fake services: the requests that came in, and the writes that were accepted."""

from __future__ import annotations

from collections import deque
from datetime import UTC, datetime
from typing import NamedTuple

import orjson

from sandbox.http.faults import Fault

REQUESTS_KEPT = 300_000


class RecordedRequest(NamedTuple):
    """A request that came in; `status` is 0 if no complete response was sent (the connection was dropped)."""

    time: float
    service: str
    method: str
    path: str
    status: int
    client_id: str
    duration_ms: float
    fault: Fault | None
    traceparent: str = ""

    def view(self) -> dict[str, object]:
        """Returns the request as the control API shows it."""
        return {
            "time": instant(self.time),
            "service": self.service,
            "method": self.method,
            "path": self.path,
            "status": self.status,
            "client_id": self.client_id,
            "duration_ms": round(self.duration_ms, 3),
            "fault": None if self.fault is None else self.fault.id,
            "traceparent": self.traceparent,
        }


class RecordedWrite(NamedTuple):
    """A write that a service accepted, with its original body and the `X-Correlation-Id` of the caller, if any."""

    time: float
    service: str
    method: str
    path: str
    body: bytes
    correlation_id: str

    def view(self) -> dict[str, object]:
        """Returns the write as the control API shows it."""
        return {
            "time": instant(self.time),
            "service": self.service,
            "method": self.method,
            "path": self.path,
            "body": readable(self.body),
            "correlation_id": self.correlation_id,
        }


class Records:
    """The log of requests (the newest 300,000) and the journal of accepted writes (all of them)."""

    def __init__(self) -> None:
        self.requests: deque[RecordedRequest] = deque(maxlen=REQUESTS_KEPT)
        self.journal: list[RecordedWrite] = []

    def clear(self) -> None:
        """Empties the log and the journal."""
        self.requests.clear()
        self.journal.clear()


def instant(seconds: float) -> str:
    """Returns an epoch time (in seconds) as a UTC date and time in ISO 8601 format."""
    return datetime.fromtimestamp(seconds, UTC).isoformat()


def readable(body: bytes) -> object:
    """Returns a body as decoded JSON if it is JSON, otherwise as text, or None if it is empty."""
    if not body:
        return None
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        return body.decode("utf-8", "replace")
