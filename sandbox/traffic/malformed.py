"""Messages that change nothing: each is malformed, about a record that no service has, or of an unknown type."""

from __future__ import annotations

import random
import uuid
from datetime import datetime
from typing import TYPE_CHECKING, Final

import orjson

from sandbox.aws.topic import domain_event
from sandbox.traffic.steps import Step

if TYPE_CHECKING:
    from sandbox.domains import Domain

KINDS: Final = ("not_json", "no_message", "message_not_json", "no_id", "null_id", "no_event_type")
FIRST_UNKNOWN_ID: Final = 900_000_000
UNKNOWN_PRISONER: Final = "A0000AA"


def envelope(event: dict[str, object] | str, message_id: str | None = None) -> str:
    """The SQS body that SNS would make from an event (or from any string)."""
    message = event if isinstance(event, str) else orjson.dumps(event).decode()
    body: dict[str, object] = {
        "Type": "Notification",
        "MessageId": message_id or str(uuid.uuid4()),
        "TopicArn": "arn:aws:sns:eu-west-2:000000000000:hmpps-domain-events",
        "Message": message,
        "SignatureVersion": "1",
    }
    if isinstance(event, dict) and "eventType" in event:
        body["MessageAttributes"] = {"eventType": {"Type": "String", "Value": event["eventType"]}}
    return orjson.dumps(body).decode()


def write_malformed(domain: Domain, number: int, chance: random.Random, moment: datetime) -> tuple[str, str]:
    """Returns the kind and the body of a malformed message for the queue of a domain; `number` selects the kind."""
    kind = KINDS[number % len(KINDS)]
    message_id = str(uuid.UUID(int=chance.getrandbits(128), version=4))
    if kind == "not_json":
        return kind, "this is not JSON"
    if kind == "no_message":
        return kind, orjson.dumps({"Type": "Notification", "MessageId": message_id}).decode()
    if kind == "message_not_json":
        return kind, envelope("{half an event", message_id)
    creation = domain.events[0]
    information = {} if kind == "no_id" else dict.fromkeys(creation.key)
    event = domain_event(creation.name, information, UNKNOWN_PRISONER if domain.names_prisoner else None, moment)
    if kind == "no_event_type":
        del event["eventType"]
    return kind, envelope(event, message_id)


def vanished(domain: Domain, chance: random.Random) -> Step:
    """The creation event of a record that no service has, as if its creation had been rolled back."""
    creation = domain.events[0]
    dps_id: int | str = FIRST_UNKNOWN_ID + chance.randrange(1_000_000)
    if creation.is_text:
        dps_id = str(uuid.UUID(int=chance.getrandbits(128), version=4))
    information: dict[str, object] = dict.fromkeys(creation.key, dps_id)
    prisoner_id = UNKNOWN_PRISONER if domain.names_prisoner else None
    return Step(creation.kind, dps_id, "vanished", creation.name, information, prisoner_id=prisoner_id)


def unknown(domain: Domain, chance: random.Random) -> Step:
    """An event of a type that nobody handles, about a record that no service has."""
    step = vanished(domain, chance)
    step.kind, step.event_type = "unknown", domain.unknown_event
    return step
