"""Application Insights: custom events in its envelope, sent in batches to its ingestion endpoint.

The form of the envelope and the meaning of the responses are those of the Breeze protocol (`/v2.1/track`).
"""

import gzip
import socket
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import version
from typing import Any
from urllib.parse import urljoin

import orjson

from sync.settings.parsing import ingestion_parts
from sync.upstream.errors import parse_retry_after
from sync.upstream.http import ConnectionLost, HttpResponse, NotSent, TimedOut, TooLarge, fetch

#: The role name by which the queries of operators find the events, as of the replaced service.
ROLE = "hmpps-prisoner-to-nomis-update"
#: The most events in one request.
BATCH = 500
_PATH = "/v2.1/track"
_SECONDS = 30.0
#: The limits of the service in characters, and of one envelope in bytes.
_LONGEST_EVENT_NAME = 512
_LONGEST_NAME = 150
_LONGEST_VALUE = 8_192
_LARGEST_ENVELOPE = 64_000
_SHORTENED_VALUE = 1_000
#: Statuses of one event, or of a request, after which it may be accepted later: overload, outage, daily quota.
_LATER = frozenset({402, 408, 429, 439, 500, 502, 503, 504})
#: A request of which at least one event is refused for what it is.
_MALFORMED = frozenset({400, 413})


@dataclass(frozen=True, slots=True)
class CustomEvent:
    """An event as it was tracked. `id`: its row; `operation_id`: 32 hexadecimal digits, None outside a trace."""

    id: int
    name: str
    time: datetime
    properties: Mapping[str, str]
    operation_id: str | None


@dataclass(frozen=True, slots=True)
class Accepted:
    """What became of a batch, by the ids of the events; what is in neither is to be sent again.

    refused: those that can never be accepted, with the reason. problem: why something is left, if so. retry_after: how
    many seconds the service asks to wait.
    """

    sent: frozenset[int] = frozenset()
    refused: Mapping[int, str] = field(default_factory=dict)
    problem: str | None = None
    retry_after: float | None = None

    def __or__(self, other: "Accepted") -> "Accepted":
        """Both together."""
        return Accepted(
            self.sent | other.sent,
            {**self.refused, **other.refused},
            self.problem or other.problem,
            self.retry_after or other.retry_after,
        )


class Ingestion:
    """The ingestion endpoint of one Application Insights resource, by its connection string."""

    def __init__(self, connection_string: str, tls: ssl.SSLContext | None = None) -> None:
        self._key, self._endpoint = ingestion_parts(connection_string)
        self._tls = tls

    def send(self, events: Sequence[CustomEvent]) -> Accepted:
        """Sends at most `BATCH` events in one request; never raises.

        A batch that is refused as a whole is sent again in halves, so that one bad event does not keep the others back.
        """
        packed = gzip.compress(orjson.dumps([envelope(event, self._key) for event in events]), 6)
        headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
        try:
            response = self._post(packed, headers)
        except (NotSent, TimedOut, ConnectionLost, TooLarge) as error:
            return Accepted(problem=f"no response: {error}")
        if response.status in (200, 206):
            return _read(response, events)
        if response.status in _MALFORMED:
            if len(events) == 1:
                return Accepted(refused={events[0].id: f"status {response.status}"})
            middle = len(events) // 2
            return self.send(events[:middle]) | self.send(events[middle:])
        retry_after = parse_retry_after(response.headers.get("retry-after"))
        return Accepted(problem=f"status {response.status}", retry_after=retry_after)

    def _post(self, content: bytes, headers: Mapping[str, str]) -> HttpResponse:
        response = self._post_to(self._endpoint, content, headers)
        if response.status in (307, 308):
            # A global endpoint names the one of its region, which is asked directly from now on.
            target = urljoin(self._endpoint + _PATH, response.headers.get("location", ""))
            if target.endswith(_PATH) and target.partition(":")[0] == self._endpoint.partition(":")[0]:
                self._endpoint = target.removesuffix(_PATH)
                response = self._post_to(self._endpoint, content, headers)
        return response

    def _post_to(self, endpoint: str, content: bytes, headers: Mapping[str, str]) -> HttpResponse:
        return fetch("POST", endpoint + _PATH, self._tls, _SECONDS, data=content, headers=dict(headers))


def envelope(event: CustomEvent, instrumentation_key: str) -> dict[str, Any]:
    """An event as Application Insights takes it, within its limits.

    Properties with too long a name are left out, values are cut. `service.version` is added, which queries read, and
    `eventId`: an event that is sent twice, since a process died before it had noted the response, has the same.
    """
    properties = {**event.properties, "service.version": _version(), "eventId": str(event.id)}
    made = _envelope(event, instrumentation_key, properties, _LONGEST_VALUE)
    if len(orjson.dumps(made)) > _LARGEST_ENVELOPE:
        made = _envelope(event, instrumentation_key, properties, _SHORTENED_VALUE)
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
    """What a 200 or 206 says of each event; those of a response that cannot be read are sent again."""
    try:
        body = orjson.loads(response.data)
        errors = {int(each["index"]): int(each["statusCode"]) for each in body.get("errors") or ()}
        if int(body["itemsReceived"]) != len(events) or int(body["itemsAccepted"]) != len(events) - len(errors):
            return Accepted(problem="the response counts other events than were sent")
    except (orjson.JSONDecodeError, AttributeError, KeyError, TypeError, ValueError):
        return Accepted(problem=f"status {response.status}, but not a response of Application Insights")
    sent = frozenset(event.id for number, event in enumerate(events) if number not in errors)
    refused = {
        events[number].id: f"status {status}"
        for number, status in errors.items()
        if number < len(events) and status not in _LATER
    }
    later = sorted({status for status in errors.values() if status in _LATER})
    problem = f"{len(events) - len(sent) - len(refused)} events not accepted yet: status {later[0]}" if later else None
    return Accepted(sent, refused, problem, parse_retry_after(response.headers.get("retry-after")))


@cache
def _version() -> str:
    return version("prisoner-to-nomis")
