"""A fake of Application Insights' ingestion endpoint, which takes batches of custom events and checks each event."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

import orjson

from sandbox.http.serving import Reply, Request, Route

INSTRUMENTATION_KEY = "00000000-5a4d-4b0c-8a11-000000000000"
ROLE = "hmpps-prisoner-to-nomis-update"
LONGEST_NAME = 150
LONGEST_VALUE = 8_192
LONGEST_EVENT_NAME = 512
LARGEST_ITEM = 64 * 1024
OPERATION = re.compile(r"[0-9a-f]{32}")
TIME = "%Y-%m-%dT%H:%M:%S.%fZ"


def connection_string(address: str) -> str:
    """Returns the connection string of the fake at `address`, a URL such as `http://localhost:8111`."""
    return f"InstrumentationKey={INSTRUMENTATION_KEY};IngestionEndpoint={address}/"


class ApplicationInsights:
    """The events accepted since the last reset, and those to be refused on purpose.

    Attributes: events: the accepted events, as `event_of` returns them. refusals: by event name, the status with which
    events are refused on purpose. With 400, an event is refused every time; with any other status, only the first time.
    """

    def __init__(self) -> None:
        """Starts with no events or refusals."""
        self.events: list[dict[str, Any]] = []
        self.refusals: dict[str, int] = {}
        self._refused: set[tuple[str, str]] = set()

    def clear(self) -> None:
        """Forgets the accepted events and the refusals."""
        self.events.clear()
        self.refusals.clear()
        self._refused.clear()

    def routes(self) -> list[Route]:
        """Returns the one endpoint, which takes batches of events."""
        return [Route("POST", "/v2.1/track", self.track)]

    def track(self, request: Request) -> Reply:
        """Takes a batch of events.

        The status is 200 if all events are accepted, 400 if the batch is malformed or all events are refused with 400,
        and 206 otherwise.
        """
        try:
            items = orjson.loads(request.body)
        except orjson.JSONDecodeError:
            items = None
        if request.headers.get("Content-Type") != "application/json" or not isinstance(items, list) or not items:
            return Reply(400, {"itemsReceived": 0, "itemsAccepted": 0, "errors": []})
        errors = []
        for index, item in enumerate(items):
            fault = fault_of(item)
            status = 400 if fault else self._refusal(item)
            if status:
                errors.append({"index": index, "statusCode": status, "message": fault or "refused on purpose"})
            else:
                self.events.append(event_of(item))
        status = 200 if not errors else 400 if all(each["statusCode"] == 400 for each in errors) else 206
        if status == 400 and len(errors) < len(items):
            status = 206
        return Reply(status, {"itemsReceived": len(items), "itemsAccepted": len(items) - len(errors), "errors": errors})

    def _refusal(self, item: dict[str, Any]) -> int:
        event = event_of(item)
        known = event["name"], str(event["properties"].get("eventId"))
        status = self.refusals.get(event["name"], 0)
        if status != 400 and known in self._refused:
            return 0
        self._refused.add(known)
        return status


def event_of(item: dict[str, Any]) -> dict[str, Any]:
    """Returns an item as a query shows it, with the columns of `customEvents` as keys."""
    data, tags = item["data"]["baseData"], item["tags"]
    return {
        "name": data["name"],
        "timestamp": item["time"],
        "operation_Id": tags.get("ai.operation.id"),
        "cloud_RoleName": tags.get("ai.cloud.role"),
        "properties": data["properties"],
    }


def fault_of(item: Any) -> str | None:
    """Returns what is wrong with an item, or None if it is a correct custom event from the program."""
    if not isinstance(item, dict) or len(orjson.dumps(item)) > LARGEST_ITEM:
        return "not a JSON object, or larger than 64 kB"
    data, tags = item.get("data"), item.get("tags")
    if not isinstance(data, dict) or not isinstance(data.get("baseData"), dict) or not isinstance(tags, dict):
        return "incomplete"
    base = data["baseData"]
    if not isinstance(base.get("properties"), dict):
        return "no properties"
    properties, operation = base["properties"], tags.get("ai.operation.id")
    checks = {
        "kind": item.get("name") == "Microsoft.ApplicationInsights.Event" and data.get("baseType") == "EventData",
        "versions": item.get("ver") == 1 and base.get("ver") == 2,
        "instrumentation key": item.get("iKey") == INSTRUMENTATION_KEY,
        "time": _is_time(item.get("time")),
        "event name": isinstance(base.get("name"), str) and 0 < len(base["name"]) <= LONGEST_EVENT_NAME,
        "role": tags.get("ai.cloud.role") == ROLE and bool(tags.get("ai.cloud.roleInstance")),
        "operation id": operation is None or bool(OPERATION.fullmatch(str(operation))),
        "names of properties": all(0 < len(name) <= LONGEST_NAME for name in properties),
        "values": all(isinstance(each, str) and len(each) <= LONGEST_VALUE for each in properties.values()),
    }
    return next((f"wrong {name}" for name, is_right in checks.items() if not is_right), None)


def _is_time(text: object) -> bool:
    try:
        datetime.strptime(str(text), TIME).replace(tzinfo=UTC)
    except ValueError:
        return False
    return True
