"""Opens the queues; with an endpoint of one's own, makes what is missing: topic, queues, DLQs, subscriptions."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sync.queues.aws import Aws
from sync.queues.queue import Queue, QueueUnavailable
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
    if settings.hmpps_sqs_provider == "localstack":
        for name, types in event_types.items():
            _make(settings, aws, settings.queue(name), tuple(types))
    return {name: _open(settings.queue(name), aws) for name in event_types}


def _open(queue: QueueSettings, aws: Aws) -> QueuePair:
    main = _queue(aws, queue.queue_name, queue.queue_access_key_id, queue.queue_secret_access_key)
    dlq = _queue(aws, queue.dlq_name, queue.dlq_access_key_id, queue.dlq_secret_access_key)
    return QueuePair(main, dlq)


def _queue(aws: Aws, name: str, access_key_id: str | None, secret_access_key: str | None) -> Queue:
    client = aws.client("sqs", access_key_id, secret_access_key)
    return Queue(client, name, _answer(name, "get_queue_url", client.get_queue_url, QueueName=name)["QueueUrl"])


def _make(settings: Settings, aws: Aws, queue: QueueSettings, event_types: tuple[str, ...]) -> None:
    sqs, sns = aws.client("sqs"), aws.client("sns")
    visibility = str(settings.hmpps_sqs_visibility_timeout_seconds)
    if _exists(sqs, queue.queue_name):
        arn = _arn(sqs, queue.queue_name)
    else:
        if not _exists(sqs, queue.dlq_name):
            _answer(queue.dlq_name, "create_queue", sqs.create_queue, QueueName=queue.dlq_name)
        redrive = {
            "deadLetterTargetArn": _arn(sqs, queue.dlq_name),
            "maxReceiveCount": str(settings.hmpps_sqs_max_receive_count),
        }
        attributes = {
            "VisibilityTimeout": visibility,
            "MessageRetentionPeriod": str(_FOURTEEN_DAYS),
            "RedrivePolicy": json.dumps(redrive),
        }
        _answer(queue.queue_name, "create_queue", sqs.create_queue, QueueName=queue.queue_name, Attributes=attributes)
        arn = _arn(sqs, queue.queue_name)
    topic = _answer(TOPIC, "create_topic", sns.create_topic, Name=TOPIC)["TopicArn"]
    if not _subscribed(sns, topic, arn):
        _answer(
            queue.queue_name,
            "subscribe",
            sns.subscribe,
            TopicArn=topic,
            Protocol="sqs",
            Endpoint=arn,
            Attributes={"FilterPolicy": json.dumps({"eventType": list(event_types)})},
        )


def _exists(sqs: Any, name: str) -> bool:
    from botocore.exceptions import ClientError

    try:
        _answer(name, "get_queue_url", sqs.get_queue_url, QueueName=name)
    except QueueUnavailable as error:
        cause = error.__cause__
        if isinstance(cause, ClientError) and "NonExistentQueue" in cause.response.get("Error", {}).get("Code", ""):
            return False
        if isinstance(cause, ClientError) and "QueueDoesNotExist" in cause.response.get("Error", {}).get("Code", ""):
            return False
        raise
    return True


def _arn(sqs: Any, name: str) -> str:
    url = _answer(name, "get_queue_url", sqs.get_queue_url, QueueName=name)["QueueUrl"]
    attributes = _answer(
        name, "get_queue_attributes", sqs.get_queue_attributes, QueueUrl=url, AttributeNames=["QueueArn"]
    )
    return str(attributes["Attributes"]["QueueArn"])


def _subscribed(sns: Any, topic: str, queue_arn: str) -> bool:
    pages = sns.get_paginator("list_subscriptions_by_topic").paginate(TopicArn=topic)
    return any(entry["Endpoint"] == queue_arn for page in pages for entry in page["Subscriptions"])


def _answer(name: str, call: str, function: Any, **arguments: Any) -> dict[str, Any]:
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        answer: dict[str, Any] = function(**arguments)
    except ClientError as error:
        code = error.response.get("Error", {}).get("Code", "")
        raise QueueUnavailable(f"queue {name}: {call}: {code}") from error
    except BotoCoreError as error:
        raise QueueUnavailable(f"queue {name}: {call}: {type(error).__name__}") from error
    return answer
