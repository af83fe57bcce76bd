"""Opens the queues; with an endpoint of one's own, makes what is missing: topic, queues, DLQs, subscriptions."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sync.queues.aws import Aws
from sync.queues.queue import Queue, QueueUnavailable, answer_of
from sync.settings import QueueSettings, Settings

TOPIC = "hmpps-domain-events"
_FOURTEEN_DAYS = 1_209_600


@dataclass(frozen=True, slots=True)
class QueuePair:
    """A main queue with its dead letter queue."""

    main: Queue
    dlq: Queue


def open_queues(settings: Settings, aws: Aws, event_types: Mapping[str, Iterable[str]]) -> dict[str, QueuePair]:
    """The queues named in `event_types` (queue id → the event types its subscription lets pass), by queue id.

    With the provider `localstack` what is missing is made first. Raises `QueueUnavailable` when one cannot be opened.
    """
    queues = {name: settings.queue(name) for name in event_types}
    if settings.hmpps_sqs_provider != "localstack":
        return {name: _open(queue, aws) for name, queue in queues.items()}
    found = {name: _existing(_main_client(queue, aws), queue.queue_name) for name, queue in queues.items()}
    sns = aws.client("sns")
    topic = answer_of(TOPIC, "create_topic", sns.create_topic, Name=TOPIC)["TopicArn"]
    pairs = {name: _made_whole(settings, queues[name], aws, topic, main) for name, main in found.items()}
    _subscribe(sns, topic, {pairs[name].main: tuple(types) for name, types in event_types.items()})
    return pairs


def _open(queue: QueueSettings, aws: Aws) -> QueuePair:
    return QueuePair(
        _queue(_main_client(queue, aws), queue.queue_name), _queue(_dlq_client(queue, aws), queue.dlq_name)
    )


def _made_whole(settings: Settings, queue: QueueSettings, aws: Aws, topic: str, main: Queue | None) -> QueuePair:
    if main is not None:
        return QueuePair(main, _queue(_dlq_client(queue, aws), queue.dlq_name))
    # One that is there already is given back, since nothing else is wanted of it.
    dlq = _made(_dlq_client(queue, aws), queue.dlq_name, {})
    redrive = {"deadLetterTargetArn": _arn(topic, dlq), "maxReceiveCount": str(settings.hmpps_sqs_max_receive_count)}
    attributes = {
        "VisibilityTimeout": str(settings.hmpps_sqs_visibility_timeout_seconds),
        "MessageRetentionPeriod": str(_FOURTEEN_DAYS),
        "RedrivePolicy": json.dumps(redrive),
    }
    return QueuePair(_made(_main_client(queue, aws), queue.queue_name, attributes), dlq)


def _main_client(queue: QueueSettings, aws: Aws) -> Any:
    return aws.client("sqs", queue.queue_access_key_id, queue.queue_secret_access_key)


def _dlq_client(queue: QueueSettings, aws: Aws) -> Any:
    return aws.client("sqs", queue.dlq_access_key_id, queue.dlq_secret_access_key)


def _queue(client: Any, name: str) -> Queue:
    return Queue(client, name, answer_of(name, "get_queue_url", client.get_queue_url, QueueName=name)["QueueUrl"])


def _existing(client: Any, name: str) -> Queue | None:
    from botocore.exceptions import ClientError

    try:
        return _queue(client, name)
    except QueueUnavailable as error:
        code = error.__cause__.response["Error"]["Code"] if isinstance(error.__cause__, ClientError) else ""
        if "NonExistentQueue" in code or "QueueDoesNotExist" in code:
            return None
        raise


def _made(client: Any, name: str, attributes: dict[str, str]) -> Queue:
    answer = answer_of(name, "create_queue", client.create_queue, QueueName=name, Attributes=attributes)
    return Queue(client, name, answer["QueueUrl"])


def _arn(topic: str, queue: Queue) -> str:
    """The name by which AWS's other services know a queue: an endpoint of one's own has one account and one region."""
    arn, partition, _, region, account, _ = topic.split(":")
    return ":".join((arn, partition, "sqs", region, account, queue.name))


def _subscribe(sns: Any, topic: str, event_types: Mapping[Queue, tuple[str, ...]]) -> None:
    subscribed = _subscribed(sns, topic)
    for queue, types in event_types.items():
        arn = _arn(topic, queue)
        if arn not in subscribed:
            answer_of(
                queue.name,
                "subscribe",
                sns.subscribe,
                TopicArn=topic,
                Protocol="sqs",
                Endpoint=arn,
                Attributes={"FilterPolicy": json.dumps({"eventType": list(types)})},
            )


def _subscribed(sns: Any, topic: str) -> set[str]:
    pages = sns.get_paginator("list_subscriptions_by_topic").paginate(TopicArn=topic)
    return {entry["Endpoint"] for page in pages for entry in page["Subscriptions"]}
