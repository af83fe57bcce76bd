"""Puts messages straight onto a queue of the program, as SNS would have delivered them."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from concurrent.futures import Future

import orjson

from sandbox.incentives import Incentives, Review
from sandbox.topic import Topic


def send_waiting(reviews: Sequence[Review], incentives: Incentives, topic: Topic, queue: str) -> Future[int]:
    """Send the event of each review to the queue of a name (main or dead letter); the future gives how many."""
    events = [incentives.inserted(review) for review in reviews]
    return topic.work(lambda: _send(topic, queue, events))


def envelope(event: dict[str, object]) -> dict[str, object]:
    """Return the envelope in which SNS delivers an event to a queue."""
    return {
        "Type": "Notification",
        "MessageId": str(uuid.uuid4()),
        "TopicArn": "arn:aws:sns:eu-west-2:000000000000:hmpps-domain-events",
        "Message": orjson.dumps(event).decode(),
        "Timestamp": "2023-05-22T09:14:31.204Z",
        "MessageAttributes": {"eventType": {"Type": "String", "Value": event["eventType"]}},
    }


def _send(topic: Topic, queue: str, events: list[dict[str, object]]) -> int:
    sqs = topic.client("sqs")
    address = sqs.get_queue_url(QueueName=queue)["QueueUrl"]
    for event in events:
        sqs.send_message(QueueUrl=address, MessageBody=orjson.dumps(envelope(event)).decode())
    return len(events)
