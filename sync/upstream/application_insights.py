"""Sends custom events to the ingestion endpoint of Application Insights, in batches.

The envelopes and responses follow the Breeze protocol (`/v2.1/track`).
"""

import gzip
import socket
import ssl
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache, cached_property
from importlib.metadata import version
from typing import Any
from urllib.parse import urljoin

import orjson

from sync.settings.parsing import ingestion_parts
from sync.upstream.error_bodies import parse_retry_after
from sync.upstream.http import ConnectionLost, HttpResponse, NotSent, TimedOut, TooLarge, fetch, tls_context

#: The role name by which operators' queries find the events. The replaced service used the same name.
ROLE = "hmpps-prisoner-to-nomis-update"
#: The maximum number of events in one request.
BATCH = 500
#: The longest that one request may take, in seconds.
LONGEST_SECONDS = 30.0
_PATH = "/v2.1/track"
#: The limits of the service: names in characters, one envelope in bytes.
_LONGEST_EVENT_NAME = 512
_LONGEST_NAME = 150
_LARGEST_ENVELOPE = 64_000
#: Values are cut to the first of these lengths that makes the envelope small enough. The first length is the limit of
#: the service.
_LONGEST_VALUES = (8_192, 1_000, 100)
#: Statuses of an event or a request that may be accepted later: overload, outage or daily quota.
_LATER = frozenset({402, 408, 429, 439, 500, 502, 503, 504})
#: Statuses of a request in which at least one event is refused because of its content.
_MALFORMED = frozenset({400, 413})
_UNEXPLAINED = "refused without a reason"
_WRONG_KEY = "the instrumentation key is not known"


@dataclass(frozen=True, slots=True)
class CustomEvent:
    """A tracked event.

    id: the id of its row in the database. operation_id: 32 hexadecimal digits, or None outside a trace.
    """

    id: int
    name: str
    time: datetime
    properties: Mapping[str, str]
    operation_id: str | None


@dataclass(frozen=True, slots=True)
class Accepted:
    """What became of the events of a batch. Events in neither `sent` nor `refused` must be sent again.

    sent: the ids of the events that were accepted. refused: why an event can never be accepted, by its id. problem: why
    some events must be sent again, or None. retry_after: the wait that the service asks for, in seconds, or None.
    """

    sent: frozenset[int] = frozenset()
    refused: Mapping[int, str] = field(default_factory=dict)
    problem: str | None = None
    retry_after: float | None = None

    def __or__(self, other: "Accepted") -> "Accepted":
        """The results of two batches as one."""
        return Accepted(
            self.sent | other.sent,
            {**self.refused, **other.refused},
            self.problem or other.problem,
            self.retry_after or other.retry_after,
        )


class Ingestion:
    """The ingestion endpoint of one Application Insights resource, as its connection string specifies it."""

    def __init__(self, connection_string: str) -> None:
        self._key, self._configured = ingestion_parts(connection_string)
        self._endpoint = self._configured

    def send(
        self,
        events: Sequence[CustomEvent],
        seconds: float = LONGEST_SECONDS,
        stop_requested: Callable[[], bool] = lambda: False,
    ) -> Accepted:
        """Sends `events`, of which there may be at most `BATCH`. Never raises. Each request takes at most `seconds`.

        A batch that is refused without a reason is sent again in halves, so that one bad event does not hold back the
        others. No more halves are sent once `stop_requested` returns true. If every event is refused without a reason,
        the events are assumed not to be at fault, and none of them counts as refused.
        """
        accepted = self._send(events, seconds, stop_requested)
        if len(accepted.refused) == len(events) and set(accepted.refused.values()) == {_UNEXPLAINED}:
            return Accepted(problem=f"every event is {_UNEXPLAINED}")
        return accepted

    @property
    def endpoint(self) -> str:
        """The address in the connection string."""
        return self._configured

    def ping(self, seconds: float) -> str | None:
        """Returns None if the endpoint responds within `seconds` without a server error, or else the problem.

        No event is sent, so a ping does not show whether the instrumentation key is known.
        """
        tls = self._tls if self._configured.startswith("https:") else None
        try:
            response = fetch("GET", self._configured + _PATH, tls, seconds)
        except (NotSent, TimedOut, ConnectionLost, TooLarge, ValueError) as error:
            return f"no response: {error}"
        return f"status {response.status}" if response.status >= 500 else None

    def _send(self, events: Sequence[CustomEvent], seconds: float, stop_requested: Callable[[], bool]) -> Accepted:
        packed = gzip.compress(orjson.dumps([envelope(event, self._key) for event in events]), 6)
        headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
        try:
            response = self._post(packed, headers, seconds)
        except (NotSent, TimedOut, ConnectionLost, TooLarge, ValueError) as error:
            # The endpoint of the region may no longer exist, so the next call uses the configured endpoint.
            self._endpoint = self._configured
            return Accepted(problem=f"no response: {error}")
        if response.status in (200, 206):
            return _read(response, events)
        if response.status in _MALFORMED:
            accepted = _read(response, events)
            if accepted.refused or accepted.problem == _WRONG_KEY:
                return accepted
            if len(events) == 1:
                return Accepted(refused={events[0].id: _UNEXPLAINED})
            return self._send_halves(events, seconds, stop_requested)
        retry_after = parse_retry_after(response.headers.get("retry-after"))
        return Accepted(problem=f"status {response.status}", retry_after=retry_after)

    def _send_halves(
        self, events: Sequence[CustomEvent], seconds: float, stop_requested: Callable[[], bool]
    ) -> Accepted:
        middle, accepted = len(events) // 2, Accepted()
        for half in (events[:middle], events[middle:]):
            if accepted.problem is None and not stop_requested():
                accepted |= self._send(half, seconds, stop_requested)
        return accepted

    def _post(self, content: bytes, headers: Mapping[str, str], seconds: float) -> HttpResponse:
        response = self._post_to(self._endpoint, content, headers, seconds)
        if response.status in (307, 308):
            # A global endpoint redirects to a regional one, which is called directly from now on.
            target = urljoin(self._endpoint + _PATH, response.headers.get("location", ""))
            if target.endswith(_PATH) and target.partition(":")[0] == self._endpoint.partition(":")[0]:
                self._endpoint = target.removesuffix(_PATH)
                response = self._post_to(self._endpoint, content, headers, seconds)
        return response

    def _post_to(self, endpoint: str, content: bytes, headers: Mapping[str, str], seconds: float) -> HttpResponse:
        tls = self._tls if endpoint.startswith("https:") else None
        return fetch("POST", endpoint + _PATH, tls, seconds, data=content, headers=dict(headers))

    @cached_property
    def _tls(self) -> ssl.SSLContext:
        return tls_context(None)


def envelope(event: CustomEvent, instrumentation_key: str) -> dict[str, Any]:
    """An event in the form that Application Insights accepts, within its limits.

    Properties whose names are too long are left out, and long values are cut. Two properties are added:
    `service.version`, which queries use, and `eventId`, by which duplicates can be found: an event is sent twice if a
    process dies before it has recorded the response.
    """
    properties = {**event.properties, "service.version": _version(), "eventId": str(event.id)}
    for longest_value in _LONGEST_VALUES:
        made = _envelope(event, instrumentation_key, properties, longest_value)
        if len(orjson.dumps(made)) <= _LARGEST_ENVELOPE:
            break
    return made


def _envelope(
    event: CustomEvent, instrumentation_key: str, properties: Mapping[str, str], longest_value: int
) -> dict[str, Any]:
    tags = {"ai.cloud.role": ROLE, "ai.cloud.roleInstance": socket.gethostname(), "ai.application.ver": _version()}
    if event.operation_id is not None:
        tags["ai.operation.id"] = event.operation_id
    kept = {name: value[:longest_value] for name, value in properties.items() if len(name) <= _LONGEST_NAME}
    data = {"ver": 2, "name": event.name[:_LONGEST_EVENT_NAME], "properties": kept, "measurements": {}}
    return {
        "ver": 1,
        "name": "Microsoft.ApplicationInsights.Event",
        "time": event.time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        "sampleRate": 100.0,
        "iKey": instrumentation_key,
        "tags": tags,
        "data": {"baseType": "EventData", "baseData": data},
    }


def _read(response: HttpResponse, events: Sequence[CustomEvent]) -> Accepted:
    """What `response` says about each of `events`. If it cannot be read, all events have to be sent again."""
    try:
        body = orjson.loads(response.data)
        listed = body.get("errors") or ()
        errors = {int(each["index"]): int(each["statusCode"]) for each in listed}
        received, accepted = int(body["itemsReceived"]), int(body["itemsAccepted"])
        if (
            received != len(events)
            or accepted != len(events) - len(errors)
            or not errors.keys() <= set(range(received))
        ):
            return Accepted(problem="the counts in the response do not match the events that were sent")
        if any("instrumentation key" in str(each.get("message")).lower() for each in listed):
            return Accepted(problem=_WRONG_KEY)
    except (orjson.JSONDecodeError, AttributeError, KeyError, TypeError, ValueError):
        return Accepted(problem=f"status {response.status}, but not a response from Application Insights")
    sent = frozenset(event.id for number, event in enumerate(events) if number not in errors)
    refused = {events[number].id: f"status {status}" for number, status in errors.items() if status not in _LATER}
    later = sorted({status for status in errors.values() if status in _LATER})
    problem = (
        f"events not accepted yet: {len(events) - len(sent) - len(refused)} (status {later[0]})" if later else None
    )
    return Accepted(sent, refused, problem, parse_retry_after(response.headers.get("retry-after")))


@cache
def _version() -> str:
    return version("prisoner-to-nomis")
