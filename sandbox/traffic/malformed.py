"""Messages that come to nothing: unreadable ones, those about records that are nowhere, those of unknown types."""

from __future__ import annotations

import random
import uuid
from datetime import datetime
from typing import Final

import orjson

from sandbox.topic import domain_event
from sandbox.traffic.steps import Step

CREATIONS: Final = {
    "visit": ("visit", "prison-visit.booked", "reference"),
    "incentive": ("incentive", "incentives.iep-review.inserted", "id"),
    "activity": ("activity", "activities.activity-schedule.created", "activityScheduleId"),
    "appointment": ("appointment", "appointments.appointment-instance.created", "appointmentInstanceId"),
    "sentencing": ("adjustment", "release-date-adjustments.adjustment.inserted", "id"),
}
UNKNOWN: Final = {
    "visit": "prison-visit.extended",
    "incentive": "incentives.iep-review.updated",
    "activity": "activities.activity-schedule.extended",
    "appointment": "appointments.appointment-instance.uncancelled",
    "sentencing": "release-date-adjustments.adjustment.recalculated",
}
KINDS: Final = ("not_json", "no_message", "message_not_json", "no_id", "null_id", "no_event_type")
FIRST_NOWHERE: Final = 900_000_000


def envelope(event: dict[str, object] | str, message_id: str | None = None) -> str:
    """The SQS body that SNS would make of an event (or of any text)."""
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


def write_malformed(queue: str, number: int, chance: random.Random, moment: datetime) -> tuple[str, str]:
    """One broken message for a queue: which kind it is (they take turns) and its body."""
    kind = KINDS[number % len(KINDS)]
    _, event_type, key = CREATIONS[queue]
    message_id = str(uuid.UUID(int=chance.getrandbits(128), version=4))
    if kind == "not_json":
        return kind, "this is not JSON"
    if kind == "no_message":
        return kind, orjson.dumps({"Type": "Notification", "MessageId": message_id}).decode()
    if kind == "message_not_json":
        return kind, envelope("{half an event", message_id)
    event = domain_event(
        event_type, {} if kind == "no_id" else {key: None}, "A0000AA" if queue == "visit" else None, moment
    )
    if kind == "no_event_type":
        del event["eventType"]
    return kind, envelope(event, message_id)


def vanished(queue: str, chance: random.Random) -> Step:
    """The creation event of a record that no service has, as a change that was rolled back leaves it."""
    domain, event_type, key = CREATIONS[queue]
    number = FIRST_NOWHERE + chance.randrange(1_000_000)
    dps_id: int | str = number
    prisoner = None
    if domain == "visit":
        dps_id, prisoner = f"zz-{number}", "A0000AA"
    if domain == "adjustment":
        dps_id = str(uuid.UUID(int=chance.getrandbits(128), version=4))
    return Step(domain, dps_id, "vanished", event_type, {key: dps_id}, prisoner_id=prisoner)


def unknown(queue: str, chance: random.Random) -> Step:
    """An event of a type that nobody handles, about a record that is nowhere."""
    step = vanished(queue, chance)
    step.kind, step.event_type = "unknown", UNKNOWN[queue]
    return step
