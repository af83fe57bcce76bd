"""The calls to one SQS queue: receive, delete, change visibility, send and count.

Batch calls return status 200 even if some entries failed, so the `Failed` entries of each response are tried again.

SQS itself does not say how old the oldest message is. Only a receive shows when a message was sent, but a receive also
hides the message, and on a main queue it uses up one of the message's attempts. CloudWatch publishes the age of the
oldest message on each queue once a minute, and reading it there does not affect any message (`oldest_ages`).
"""

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import structlog

from sync.clock import now
from sync.errors import SyncError
from sync.settings import times

#: The maximum number of entries in a batch call, and of messages in a receive.
BATCH = 10
#: The longest possible delay of a sent message, in seconds.
_MOST_DELAY_SECONDS = 900
#: How many times a batch call is tried; each further attempt has only the entries that have failed so far.
_TRIES = 4


class QueueUnavailable(SyncError):
    """AWS did not respond, or refused the call.

    queue: the SQS name of the queue, or the name of the topic. call: the call, such as `get_queue_url`. code: the error
    code of AWS or, without a response, the name of the client's error. responded: whether AWS responded.
    """

    recoverable = True

    def __init__(self, queue: str, call: str, code: str, *, responded: bool = True) -> None:
        super().__init__(f"queue {queue}: {call}: {code}")
        self.queue = queue
        self.call = call
        self.code = code
        self.responded = responded

    @property
    def is_missing(self) -> bool:
        """Whether SQS responded that the queue does not exist."""
        return "NonExistentQueue" in self.code or "QueueDoesNotExist" in self.code


@dataclass(frozen=True, slots=True)
class Message:
    """A received message. `receive_count` includes this receive.

    `sent_at` and `first_received_at` come from the SQS clock. `received_at` is the time of this receive on the
    monotonic clock of this machine.
    """

    message_id: str
    receipt_handle: str
    body: str
    receive_count: int
    sent_at: datetime | None = None
    attributes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    first_received_at: datetime | None = None
    received_at: float = 0.0


@dataclass(frozen=True, slots=True)
class QueueCounts:
    """The approximate numbers of messages in each state, as reported by SQS."""

    visible: int
    in_flight: int
    delayed: int

    @property
    def total(self) -> int:
        """The number of messages in the three states together."""
        return self.visible + self.in_flight + self.delayed


class Queue:
    """A main queue or a dead letter queue, accessed with a boto3 SQS client. It is safe to share between threads.

    `recreate`: creates the queue again if a call finds that it is missing; the call is then repeated. If `recreate` is
    None, a missing queue is an error.
    """

    def __init__(self, client: Any, name: str, url: str, recreate: Callable[[], object] | None = None) -> None:
        self._client = client
        self._recreate = recreate
        self.name = name
        self.url = url

    def receive(self, most: int = BATCH, wait_seconds: int = 0, visibility_seconds: int | None = None) -> list[Message]:
        """Receives up to `most` (≤ 10) messages; waits up to `wait_seconds` (≤ 20) for the first one.

        `visibility_seconds`: how long the messages are hidden, or None for the queue's own timeout. Raises
        `QueueUnavailable`.
        """
        options: dict[str, Any] = {} if visibility_seconds is None else {"VisibilityTimeout": visibility_seconds}
        response = self._call(
            "receive_message",
            MaxNumberOfMessages=most,
            WaitTimeSeconds=wait_seconds,
            AttributeNames=["ApproximateReceiveCount", "SentTimestamp", "ApproximateFirstReceiveTimestamp"],
            MessageAttributeNames=["All"],
            **options,
        )
        received_at = time.monotonic()
        return [_message(entry, received_at) for entry in response.get("Messages", ())]

    def delete(self, messages: Sequence[Message]) -> list[Message]:
        """Deletes messages in batches of ten. Returns those that could not be deleted after several attempts."""
        return self._in_batches("delete_message_batch", messages, lambda _message: {})

    def change_visibility(self, messages: Sequence[Message], seconds: int) -> list[Message]:
        """Makes messages visible `seconds` from now, or 12 hours from now if that is sooner.

        Returns the messages whose visibility could not be changed after several attempts.
        """
        hidden = max(0, min(int(seconds), times.MOST_VISIBILITY_SECONDS))
        return self._in_batches(
            "change_message_visibility_batch", messages, lambda _message: {"VisibilityTimeout": hidden}
        )

    def send(self, body: str, attributes: Mapping[str, Mapping[str, Any]] | None = None) -> str:
        """Sends one message and returns its id. Raises `QueueUnavailable`."""
        response = self._call("send_message", MessageBody=body, MessageAttributes=dict(attributes or {}))
        return str(response["MessageId"])

    def copy(
        self, messages: Sequence[Message], attributes: Callable[[Message], Mapping[str, Any]], delay_seconds: int
    ) -> list[Message]:
        """Sends copies of messages. The receive count of each copy starts at zero.

        Each copy is delivered after `delay_seconds`, or after 15 minutes if that is sooner. `attributes` returns the
        attributes for the copy of a message. Returns the messages that could not be copied after several attempts.
        """
        delay = max(0, min(delay_seconds, _MOST_DELAY_SECONDS))
        left: list[Message] = []
        for batch in _batches(messages):
            left.extend(
                self._batch(
                    "send_message_batch",
                    batch,
                    lambda message: {
                        "MessageBody": message.body,
                        "MessageAttributes": dict(attributes(message)),
                        "DelaySeconds": delay,
                    },
                    with_handle=False,
                )
            )
        return left

    def counts(self) -> QueueCounts:
        """The approximate numbers of messages on the queue, by state. Raises `QueueUnavailable`."""
        names = ("", "NotVisible", "Delayed")
        wanted = [f"ApproximateNumberOfMessages{name}" for name in names]
        response = self._call("get_queue_attributes", AttributeNames=wanted)["Attributes"]
        return QueueCounts(*(int(response.get(name, 0)) for name in wanted))

    def max_receives(self) -> int | None:
        """The number of receives after which SQS moves a message to the dead letter queue; None if there is no DLQ.

        Raises `QueueUnavailable`.
        """
        response = self._call("get_queue_attributes", AttributeNames=["RedrivePolicy"])
        policy = response.get("Attributes", {}).get("RedrivePolicy")
        return int(json.loads(policy)["maxReceiveCount"]) if policy else None

    def _in_batches(
        self, call: str, messages: Sequence[Message], extra: Callable[[Message], dict[str, Any]]
    ) -> list[Message]:
        left: list[Message] = []
        for batch in _batches(messages):
            left.extend(self._batch(call, batch, extra))
        return left

    def _batch(
        self,
        call: str,
        batch: Sequence[Message],
        extra: Callable[[Message], dict[str, Any]],
        *,
        with_handle: bool = True,
    ) -> list[Message]:
        todo = list(batch)
        for number in range(_TRIES):
            if number:
                time.sleep(times.SQS_RETRY_SECONDS * number)
            entries = [
                {
                    "Id": str(place),
                    **({"ReceiptHandle": message.receipt_handle} if with_handle else {}),
                    **extra(message),
                }
                for place, message in enumerate(todo)
            ]
            try:
                response = self._call(call, Entries=entries)
            except QueueUnavailable:
                continue
            todo = [todo[int(failed["Id"])] for failed in response.get("Failed", ())]
            if not todo:
                return []
        return todo

    def _call(self, name: str, **arguments: Any) -> dict[str, Any]:
        method = getattr(self._client, name)
        try:
            return call_aws(self.name, name, method, QueueUrl=self.url, **arguments)
        except QueueUnavailable as error:
            if self._recreate is None or not error.is_missing:
                raise
            structlog.get_logger("sync.queues.queue").warning("queue-missing", queue=self.name, reason=str(error))
            self._recreate()
        return call_aws(self.name, name, method, QueueUrl=self.url, **arguments)


def call_aws(queue: str, call: str, function: Callable[..., dict[str, Any]], **arguments: Any) -> dict[str, Any]:
    """Calls `function`, which makes an AWS call, and returns its response.

    Raises `QueueUnavailable`, which names `queue` and `call`, if the call fails.
    """
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        return function(**arguments)
    except ClientError as error:
        code = error.response.get("Error", {}).get("Code", "")
        raise QueueUnavailable(queue, call, code) from error
    except BotoCoreError as error:
        raise QueueUnavailable(queue, call, type(error).__name__, responded=False) from error


def _message(entry: Mapping[str, Any], received_at: float) -> Message:
    attributes = entry.get("Attributes", {})
    return Message(
        message_id=entry["MessageId"],
        receipt_handle=entry["ReceiptHandle"],
        body=entry["Body"],
        receive_count=int(attributes.get("ApproximateReceiveCount", 1)),
        sent_at=_time(attributes.get("SentTimestamp")),
        attributes=entry.get("MessageAttributes", {}),
        first_received_at=_time(attributes.get("ApproximateFirstReceiveTimestamp")),
        received_at=received_at,
    )


def _time(milliseconds: str | None) -> datetime | None:
    return None if milliseconds is None else datetime.fromtimestamp(int(milliseconds) / 1000, UTC)


def _batches(messages: Sequence[Message]) -> Iterator[Sequence[Message]]:
    for start in range(0, len(messages), BATCH):
        yield messages[start : start + BATCH]


#: CloudWatch gets the figures from SQS once a minute, with a delay of a few minutes.
_PERIOD_SECONDS = 60
_SPAN = timedelta(minutes=15)


class AgesUnavailable(SyncError):
    """CloudWatch did not respond, or refused the call. The text says why."""


def oldest_ages(cloudwatch: Any, names: Sequence[str]) -> dict[str, float]:
    """The age in seconds of the oldest message on each queue, by the SQS name of the queue; 0 for an empty queue.

    A queue without a recent figure, such as one that has not been used for six hours, is left out. `cloudwatch` is a
    boto3 client with the permission `cloudwatch:GetMetricData`. Raises `AgesUnavailable`.
    """
    from botocore.exceptions import BotoCoreError, ClientError

    moment = now()
    queries = [
        {
            "Id": f"queue{number}",
            "MetricStat": {
                "Metric": {
                    "Namespace": "AWS/SQS",
                    "MetricName": "ApproximateAgeOfOldestMessage",
                    "Dimensions": [{"Name": "QueueName", "Value": name}],
                },
                "Period": _PERIOD_SECONDS,
                "Stat": "Maximum",
            },
        }
        for number, name in enumerate(names)
    ]
    try:
        response = cloudwatch.get_metric_data(
            MetricDataQueries=queries, StartTime=moment - _SPAN, EndTime=moment, ScanBy="TimestampDescending"
        )
    except ClientError as error:
        code = error.response.get("Error", {}).get("Code", "")
        raise AgesUnavailable(f"CloudWatch: GetMetricData: {code}") from error
    except BotoCoreError as error:
        raise AgesUnavailable(f"CloudWatch: GetMetricData: {type(error).__name__}") from error
    values = {each["Id"]: each["Values"] for each in response["MetricDataResults"]}
    found = {name: values.get(f"queue{number}") for number, name in enumerate(names)}
    return {name: float(newest_first[0]) for name, newest_first in found.items() if newest_first}
