"""One SQS queue: receive, delete, change visibility, send, count.

Batch calls answer 200 although single entries failed, so every answer's `Failed` entries are looked at and tried again.
"""

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import structlog

from sync.failures import SyncError
from sync.settings import times

#: SQS takes at most so many entries in a batch call, and gives at most so many messages in a receive.
BATCH = 10
#: The longest time a message can be hidden for, in seconds.
MOST_VISIBILITY_SECONDS = 43_200
#: The longest delay of a message that is sent, in seconds.
MOST_DELAY_SECONDS = 900
#: A batch call is made at most so often, for the entries that are left, with a pause that grows between.
_TRIES = 4


class QueueUnavailable(SyncError):
    """SQS did not answer, or refused; the text names the queue and the call."""

    recoverable = True


@dataclass(frozen=True, slots=True)
class Message:
    """A received message. `receive_count` includes this receive.

    `sent_at` and `first_received_at` are by the clock of SQS; `received_at` is the monotonic clock's, at this receive.
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
    """SQS's approximate numbers."""

    visible: int
    in_flight: int
    delayed: int

    @property
    def total(self) -> int:
        """All messages that are on the queue in whatever state."""
        return self.visible + self.in_flight + self.delayed


class Queue:
    """A main queue or a dead letter queue, over a boto3 SQS client. Safe to share between threads.

    `make_again` makes the queue where it is found to be missing, and its topic and DLQ with it; None: it is not made.
    """

    def __init__(self, client: Any, name: str, url: str, make_again: Callable[[], object] | None = None) -> None:
        self._client = client
        self._make_again = make_again
        self.name = name
        self.url = url

    def receive(self, most: int = BATCH, wait_seconds: int = 0, visibility_seconds: int | None = None) -> list[Message]:
        """Up to `most` (≤ 10) messages, waiting for the first one up to `wait_seconds` (≤ 20).

        `visibility_seconds`: how long they are hidden; the queue's own time where None. Raises `QueueUnavailable`.
        """
        options: dict[str, Any] = {} if visibility_seconds is None else {"VisibilityTimeout": visibility_seconds}
        answer = self._call(
            "receive_message",
            MaxNumberOfMessages=most,
            WaitTimeSeconds=wait_seconds,
            AttributeNames=["ApproximateReceiveCount", "SentTimestamp", "ApproximateFirstReceiveTimestamp"],
            MessageAttributeNames=["All"],
            **options,
        )
        received_at = time.monotonic()
        return [_message(entry, received_at) for entry in answer.get("Messages", ())]

    def delete(self, messages: Sequence[Message]) -> list[Message]:
        """Deletes messages in batches of ten; those that could not be deleted after several tries are given back."""
        return self._in_batches("delete_message_batch", messages, lambda _message: {})

    def change_visibility(self, messages: Sequence[Message], seconds: int) -> list[Message]:
        """Lets messages come again after `seconds`; those for which it failed after several tries are given back."""
        hidden = max(0, min(int(seconds), MOST_VISIBILITY_SECONDS))
        return self._in_batches(
            "change_message_visibility_batch", messages, lambda _message: {"VisibilityTimeout": hidden}
        )

    def send(self, body: str, attributes: Mapping[str, Mapping[str, Any]] | None = None) -> str:
        """Sends one message and returns its id. Raises `QueueUnavailable`."""
        answer = self._call("send_message", MessageBody=body, MessageAttributes=dict(attributes or {}))
        return str(answer["MessageId"])

    def copy(
        self, messages: Sequence[Message], attributes: Callable[[Message], Mapping[str, Any]], delay_seconds: int
    ) -> list[Message]:
        """Sends copies of messages, which come after `delay_seconds` and have been received by nobody yet.

        `attributes` gives those of a copy. The messages of which none could be sent after several tries are given back.
        """
        delay = max(0, min(delay_seconds, MOST_DELAY_SECONDS))
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
        """How many messages there are, by SQS's approximate numbers. Raises `QueueUnavailable`."""
        names = ("", "NotVisible", "Delayed")
        wanted = [f"ApproximateNumberOfMessages{name}" for name in names]
        answer = self._call("get_queue_attributes", AttributeNames=wanted)["Attributes"]
        return QueueCounts(*(int(answer.get(name, 0)) for name in wanted))

    def max_receives(self) -> int | None:
        """After how many receives a message goes to a dead letter queue, None where there is none.

        Raises `QueueUnavailable`.
        """
        answer = self._call("get_queue_attributes", AttributeNames=["RedrivePolicy"])
        policy = answer.get("Attributes", {}).get("RedrivePolicy")
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
                answer = self._call(call, Entries=entries)
            except QueueUnavailable:
                continue
            todo = [todo[int(failed["Id"])] for failed in answer.get("Failed", ())]
            if not todo:
                return []
        return todo

    def _call(self, name: str, **arguments: Any) -> dict[str, Any]:
        method = getattr(self._client, name)
        try:
            return answer_of(self.name, name, method, QueueUrl=self.url, **arguments)
        except QueueUnavailable as error:
            if self._make_again is None or not is_missing(error):
                raise
            structlog.get_logger("sync.queues.queue").warning("queue-missing", queue=self.name, reason=str(error))
            self._make_again()
        return answer_of(self.name, name, method, QueueUrl=self.url, **arguments)


def is_missing(error: QueueUnavailable) -> bool:
    """Whether the queue is not there, by what SQS answered."""
    response = getattr(error.__cause__, "response", None)
    code = response.get("Error", {}).get("Code", "") if isinstance(response, dict) else ""
    return "NonExistentQueue" in code or "QueueDoesNotExist" in code


def answer_of(queue: str, call: str, function: Callable[..., dict[str, Any]], **arguments: Any) -> dict[str, Any]:
    """What AWS answers to a call about a queue. Raises `QueueUnavailable`, which names queue and call."""
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        return function(**arguments)
    except ClientError as error:
        code = error.response.get("Error", {}).get("Code", "")
        raise QueueUnavailable(f"queue {queue}: {call}: {code}") from error
    except BotoCoreError as error:
        raise QueueUnavailable(f"queue {queue}: {call}: {type(error).__name__}") from error


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
