"""Domain events in the form that each publisher gives them, and the topic that delivers them to the queues."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import datetime
from typing import Any

import orjson

from sandbox.clock import LONDON, london_now

DESCRIPTIONS = {
    "prison-visit.booked": "Prison Visit Booked",
    "prison-visit.changed": "Prison Visit Changed",
    "prison-visit.cancelled": "Prison Visit Cancelled",
    "incentives.iep-review.inserted": "An IEP review has been added",
    "incentives.level.changed": "An incentive level has been changed",
    "incentives.levels.reordered": "Incentive levels have been re-ordered",
    "incentives.prison-level.changed": "Incentive level in a prison has been updated",
    "prisoner-offender-search.prisoner.received": "A prisoner has been received into a prison",
    "release-date-adjustments.adjustment.inserted": "An adjustment has been created",
    "release-date-adjustments.adjustment.updated": "An adjustment has been updated",
    "release-date-adjustments.adjustment.deleted": "An adjustment has been deleted",
}


def domain_event(
    event_type: str,
    additional_information: dict[str, object] | None,
    prisoner_id: str | None = None,
    occurred_at: datetime | None = None,
) -> dict[str, object]:
    """Returns a decoded event, with `version` and `occurredAt` (a London time) as the publisher writes them.

    The publishers of activities and appointments write a local time without an offset, and the version as the text `1`.
    The other publishers write the time with an offset, and the version as the number 1 (visits and prisoner search) or
    as the text `1.0` (the rest).
    """
    moment = occurred_at or london_now()
    if event_type.startswith(("activities.", "appointments.")):
        version: object = "1"
        written = moment.replace(tzinfo=None).isoformat()
    else:
        version = 1 if event_type.startswith(("prison-visit.", "prisoner-offender-search.")) else "1.0"
        written = (moment if moment.tzinfo else moment.replace(tzinfo=LONDON)).isoformat()
    event: dict[str, object] = {
        "eventType": event_type,
        "version": version,
        "description": DESCRIPTIONS.get(event_type, f"Event {event_type}"),
        "occurredAt": written,
        "additionalInformation": additional_information,
    }
    if prisoner_id is not None:
        event["prisonerId"] = prisoner_id
    return event


TOPIC_NAME = "hmpps-domain-events"
BATCH = 10
REGION = "eu-west-2"
KEYS = {"aws_access_key_id": "sandbox", "aws_secret_access_key": "sandbox"}


class Topic:
    """Publishes events in the order of their arrival, in a separate thread, so that no HTTP response waits for SNS.

    Args:
        endpoint_url: the address of the SNS and SQS emulator, or None in a sandbox that has no queues.
    """

    def __init__(self, endpoint_url: str | None) -> None:
        """Stores the address; the connection is made when the first event is published."""
        self.endpoint_url = endpoint_url
        self.failed = 0
        self._sns: Any = None
        self._arn = ""
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="topic")

    def client(self, service: str) -> Any:
        """Returns a client for one AWS service of the emulator (`sns` or `sqs`)."""
        import boto3

        return boto3.session.Session().client(service, region_name=REGION, endpoint_url=self.endpoint_url, **KEYS)

    def forget(self) -> None:
        """Forgets the topic's ARN, as the emulator may have been reset. The next publication makes the topic again."""
        self._arn = ""

    def publish(self, event: dict[str, object]) -> Future[int]:
        """Publishes one decoded event, in the topic's thread."""
        return self.publish_all([event])

    def publish_all(self, events: Iterable[dict[str, object]]) -> Future[int]:
        """Publishes events in order, ten at a time, in the topic's thread.

        The result of the returned future is the number of events that were accepted.
        """
        return self.work(lambda: self.send(list(events)))

    def work(self, task: Callable[[], int]) -> Future[int]:
        """Runs a task in the topic's thread, after all tasks that were submitted before it."""
        return self._thread.submit(task)

    def close(self) -> None:
        """Ends the thread; tasks that it has not begun are dropped."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    def send(self, events: list[dict[str, object]]) -> int:
        """Publishes events in order, immediately.

        Call this only in the topic's thread (see `work`). Returns how many events were accepted.
        """
        if self.endpoint_url is None:
            return 0
        if self._sns is None:
            self._sns = self.client("sns")
        taken = 0
        for start in range(0, len(events), BATCH):
            entries = [entry(str(place), event) for place, event in enumerate(events[start : start + BATCH])]
            response = self._publish(entries)
            taken += len(response["Successful"])
            self.failed += len(response.get("Failed", []))
        return taken

    def send_waiting(self, events: Sequence[dict[str, object]], queue: str) -> Future[int]:
        """Sends events straight to a queue (main or dead letter) in the topic's thread.

        The result of the returned future is the number of events that were sent.
        """
        return self.work(lambda: self._send_waiting(events, queue))

    def _send_waiting(self, events: Sequence[dict[str, object]], queue: str) -> int:
        sqs = self.client("sqs")
        address = sqs.get_queue_url(QueueName=queue)["QueueUrl"]
        for event in events:
            sqs.send_message(QueueUrl=address, MessageBody=orjson.dumps(envelope(event)).decode())
        return len(events)

    def _publish(self, entries: list[dict[str, object]]) -> dict[str, Any]:
        """Publishes one batch; creates the topic first if its ARN is not known or it no longer exists."""
        known = self._arn
        if not known:
            self._arn = self._sns.create_topic(Name=TOPIC_NAME)["TopicArn"]
        try:
            return dict(self._sns.publish_batch(TopicArn=self._arn, PublishBatchRequestEntries=entries))
        except self._sns.exceptions.NotFoundException:
            if not known:
                raise
            self.forget()
            return self._publish(entries)


def entry(entry_id: str, event: dict[str, object]) -> dict[str, object]:
    """Returns one entry of a batch: the event as text, with its type as the attribute by which subscriptions filter."""
    attribute = {"DataType": "String", "StringValue": str(event["eventType"])}
    return {"Id": entry_id, "Message": orjson.dumps(event).decode(), "MessageAttributes": {"eventType": attribute}}


def envelope(event: dict[str, object]) -> dict[str, object]:
    """Returns the envelope in which SNS delivers an event to a queue."""
    return {
        "Type": "Notification",
        "MessageId": str(uuid.uuid4()),
        "TopicArn": "arn:aws:sns:eu-west-2:000000000000:hmpps-domain-events",
        "Message": orjson.dumps(event).decode(),
        "Timestamp": "2023-05-22T09:14:31.204Z",
        "MessageAttributes": {"eventType": {"Type": "String", "Value": event["eventType"]}},
    }
