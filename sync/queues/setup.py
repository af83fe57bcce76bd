"""Opens the queues, and creates any missing topic, queue, DLQ or subscription at a local endpoint."""

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from sync.queues.aws import Aws
from sync.queues.queue import Queue, QueueUnavailable, call_aws
from sync.settings.declaration import Settings

TOPIC = "hmpps-domain-events"
_FOURTEEN_DAYS = 1_209_600


@dataclass(frozen=True, slots=True)
class QueuePair:
    """A main queue with its dead letter queue."""

    main: Queue
    dlq: Queue


class QueueOpener:
    """Opens queues by id. Safe to share between threads.

    With the provider `localstack`, it also creates missing queues, and re-creates any queue that disappears later.
    `event_types` is called with a queue id, and returns the event types that the queue's subscription lets through.
    """

    def __init__(self, settings: Settings, aws: Aws, event_types: Callable[[str], Iterable[str]]) -> None:
        self._settings = settings
        self._aws = aws
        self._event_types = event_types
        self._topic: _Topic | None = None

    def open(self, name: str) -> QueuePair:
        """Opens the main queue and the DLQ for a queue id. Raises `QueueUnavailable` if either cannot be opened."""
        queue = self._settings.queue(name)
        main_client = self._aws.client("sqs", queue.queue_access_key_id, queue.queue_secret_access_key)
        dlq_client = self._aws.client("sqs", queue.dlq_access_key_id, queue.dlq_secret_access_key)
        if self._settings.hmpps_sqs_provider != "localstack":
            return QueuePair(_look_up(main_client, queue.queue_name), _look_up(dlq_client, queue.dlq_name))

        def again() -> QueuePair:
            return self.open(name)

        main = _find(main_client, queue.queue_name, again)
        # If the queue is missing, the topic may be missing too, even if this process has already created it.
        topic = self._topic_of_events(anew=main is None)
        # Creating a DLQ that exists returns it, since the call sets no attributes.
        dlq = _create(dlq_client, queue.dlq_name, {}, again)
        if main is None:
            main = _create(main_client, queue.queue_name, self._attributes(topic.arn_of(dlq)), again)
        topic.subscribe(main, self._event_types(name))
        return QueuePair(main, dlq)

    def _topic_of_events(self, *, anew: bool) -> "_Topic":
        # Threads that get here at the same time each create the topic, so that none waits for another if SNS is slow.
        topic = None if anew else self._topic
        if topic is None:
            topic = self._topic = _Topic(self._aws.client("sns"))
        return topic

    def _attributes(self, dlq_arn: str) -> dict[str, str]:
        redrive = {"deadLetterTargetArn": dlq_arn, "maxReceiveCount": str(self._settings.hmpps_sqs_max_receive_count)}
        return {
            "VisibilityTimeout": str(self._settings.hmpps_sqs_visibility_timeout_seconds),
            "MessageRetentionPeriod": str(_FOURTEEN_DAYS),
            "RedrivePolicy": json.dumps(redrive),
        }


class _Topic:
    """The topic of the domain events, created if it does not exist."""

    def __init__(self, sns: Any) -> None:
        self._sns = sns
        self._arn: str = call_aws(TOPIC, "create_topic", sns.create_topic, Name=TOPIC)["TopicArn"]

    def arn_of(self, queue: Queue) -> str:
        """The ARN of a queue, derived from that of the topic: a local endpoint has only one account and one region."""
        arn, partition, _, region, account, _ = self._arn.split(":")
        return ":".join((arn, partition, "sqs", region, account, queue.name))

    def subscribe(self, queue: Queue, event_types: Iterable[str]) -> None:
        """Subscribes `queue` to the topic for events of `event_types`, unless it is already subscribed."""
        arn = self.arn_of(queue)
        if arn in self._subscribed:
            return
        call_aws(
            queue.name,
            "subscribe",
            self._sns.subscribe,
            TopicArn=self._arn,
            Protocol="sqs",
            Endpoint=arn,
            Attributes={"FilterPolicy": json.dumps({"eventType": list(event_types)})},
        )

    @cached_property
    def _subscribed(self) -> set[str]:
        pages = self._sns.get_paginator("list_subscriptions_by_topic").paginate(TopicArn=self._arn)
        listed = call_aws(TOPIC, "list_subscriptions_by_topic", pages.build_full_result)
        return {entry["Endpoint"] for entry in listed["Subscriptions"]}


def _look_up(client: Any, name: str, again: Callable[[], object] | None = None) -> Queue:
    response = call_aws(name, "get_queue_url", client.get_queue_url, QueueName=name)
    return Queue(client, name, response["QueueUrl"], again)


def _find(client: Any, name: str, again: Callable[[], object]) -> Queue | None:
    try:
        return _look_up(client, name, again)
    except QueueUnavailable as error:
        if error.is_missing:
            return None
        raise


def _create(client: Any, name: str, attributes: dict[str, str], again: Callable[[], object]) -> Queue:
    response = call_aws(name, "create_queue", client.create_queue, QueueName=name, Attributes=attributes)
    return Queue(client, name, response["QueueUrl"], again)
