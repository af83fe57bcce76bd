"""A small, fast SQS on an event loop: the JSON protocol of boto3, standard queues with visibility and receive counts.

An emulator of the whole of AWS gets slower as a queue gets longer, so its speed would be measured instead of that of
the drain. Entries of batch calls can be made to fail, which no emulator does.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import orjson

from benchmarks.stub_http import Call, Response

_CONTENT_TYPE = "application/x-amz-json-1.0"
_VISIBILITY_SECONDS = 30


@dataclass(slots=True)
class _Message:
    id: str
    body: str
    sent_at: int
    receives: int = 0
    receipt: str | None = None


@dataclass(slots=True)
class _Queue:
    url: str
    visible: deque[_Message] = field(default_factory=deque)
    hidden: dict[str, _Message] = field(default_factory=dict)
    deadlines: list[tuple[float, str, _Message]] = field(default_factory=list)
    hidden_until: dict[str, float] = field(default_factory=dict)
    waiting: deque[tuple[asyncio.Future[Response], dict[str, Any]]] = field(default_factory=deque)


class StubSqs:
    """Handles calls of boto3's SQS client, as the handler of a server of `benchmarks.stub_http`.

    `fails` is called for each entry of a batch call, with its action and its number since the start (from 1). An entry
    for which it returns true is returned as `Failed` and has no effect. `seconds` is the time that each call takes.
    Queues are created when their address is requested.
    """

    def __init__(self, fails: Callable[[str, int], bool] | None = None, seconds: float = 0.0) -> None:
        self._fails = fails
        self._seconds = seconds
        self._queues: dict[str, _Queue] = {}
        self._numbers = itertools.count(1)
        self.calls: Counter[str] = Counter()
        self.entries: Counter[str] = Counter()
        self._actions: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
            "GetQueueUrl": self._get_queue_url,
            "CreateQueue": self._get_queue_url,
            "SendMessage": self._send_message,
            "SendMessageBatch": lambda body: self._batch("SendMessageBatch", body, self._send_entry),
            "DeleteMessageBatch": lambda body: self._batch("DeleteMessageBatch", body, self._delete),
            "ChangeMessageVisibilityBatch": lambda body: self._batch(
                "ChangeMessageVisibilityBatch", body, self._change_visibility
            ),
            "GetQueueAttributes": self._attributes,
        }

    def __call__(self, call: Call) -> Response | asyncio.Future[Response]:
        """Handles one call."""
        action = call.headers["x-amz-target"].partition(".")[2]
        body = orjson.loads(call.body)
        self.calls[action] += 1
        if action == "ReceiveMessage":
            return self._receive_message(body)
        found = self._actions.get(action)
        if found is None:
            return Response(orjson.dumps({"__type": "InvalidAction"}), 400, content_type=_CONTENT_TYPE)
        return self._respond(found(body))

    def fill(self, name: str, bodies: list[str]) -> None:
        """Puts messages on a queue. Call it before the server runs, or on its loop."""
        queue = self._queue(f"/{name}")
        queue.visible.extend(self._message(body) for body in bodies)

    def left(self, name: str) -> int:
        """How many messages are on a queue, including hidden ones."""
        queue = self._queue(f"/{name}")
        return len(queue.visible) + len(queue.hidden)

    def _respond(self, body: dict[str, Any]) -> Response:
        return Response(orjson.dumps(body), delay=self._seconds, content_type=_CONTENT_TYPE)

    def _get_queue_url(self, body: dict[str, Any]) -> dict[str, Any]:
        return {"QueueUrl": self._queue(f"http://stub/{body['QueueName']}").url}

    def _queue(self, url: str) -> _Queue:
        name = url.rsplit("/", 1)[1]
        if name not in self._queues:
            self._queues[name] = _Queue(f"http://stub/{name}")
        return self._queues[name]

    def _message(self, body: str) -> _Message:
        return _Message(f"message-{next(self._numbers)}", body, int(time.time() * 1000))

    def _send_message(self, body: dict[str, Any]) -> dict[str, Any]:
        message = self._message(body["MessageBody"])
        queue = self._queue(body["QueueUrl"])
        queue.visible.append(message)
        self._wake(queue)
        return {"MessageId": message.id}

    def _send_entry(self, queue: _Queue, entry: dict[str, Any]) -> None:
        queue.visible.append(self._message(entry["MessageBody"]))
        self._wake(queue)

    def _receive_message(self, body: dict[str, Any]) -> Response | asyncio.Future[Response]:
        queue = self._queue(body["QueueUrl"])
        wait = body.get("WaitTimeSeconds", 0)
        self._reappear(queue)
        if queue.visible or not wait:
            return self._give(queue, body)
        loop = asyncio.get_running_loop()
        later: asyncio.Future[Response] = loop.create_future()
        queue.waiting.append((later, body))
        deadline = loop.time() + wait
        loop.call_later(min(wait, 0.1), self._poll_again, queue, later, body, deadline)
        return later

    def _poll_again(
        self, queue: _Queue, later: asyncio.Future[Response], body: dict[str, Any], deadline: float
    ) -> None:
        """Ends a long poll once a hidden message has become visible again, or once the time of the poll is over."""
        if later.done():
            return
        self._reappear(queue)
        loop = asyncio.get_running_loop()
        if queue.visible or loop.time() >= deadline:
            later.set_result(self._give(queue, body))
        else:
            loop.call_later(0.1, self._poll_again, queue, later, body, deadline)

    def _wake(self, queue: _Queue) -> None:
        while queue.waiting and queue.visible:
            later, body = queue.waiting.popleft()
            if not later.done():
                later.set_result(self._give(queue, body))

    def _give(self, queue: _Queue, body: dict[str, Any]) -> Response:
        seconds = body.get("VisibilityTimeout", _VISIBILITY_SECONDS)
        messages: list[dict[str, Any]] = []
        while queue.visible and len(messages) < body.get("MaxNumberOfMessages", 1):
            message = queue.visible.popleft()
            message.receives += 1
            message.receipt = f"{message.id}/{message.receives}"
            self._hide(queue, message, seconds)
            attributes = {"ApproximateReceiveCount": str(message.receives), "SentTimestamp": str(message.sent_at)}
            messages.append(
                {
                    "MessageId": message.id,
                    "ReceiptHandle": message.receipt,
                    "Body": message.body,
                    "Attributes": attributes,
                }
            )
        return self._respond({"Messages": messages} if messages else {})

    def _hide(self, queue: _Queue, message: _Message, seconds: float) -> None:
        assert message.receipt is not None
        until = time.monotonic() + seconds
        queue.hidden[message.receipt] = message
        queue.hidden_until[message.receipt] = until
        heapq.heappush(queue.deadlines, (until, message.receipt, message))

    def _reappear(self, queue: _Queue) -> None:
        now = time.monotonic()
        while queue.deadlines and queue.deadlines[0][0] <= now:
            until, receipt, message = heapq.heappop(queue.deadlines)
            if queue.hidden_until.get(receipt) == until:
                del queue.hidden[receipt], queue.hidden_until[receipt]
                queue.visible.append(message)

    def _batch(
        self, action: str, body: dict[str, Any], work: Callable[[_Queue, dict[str, Any]], None]
    ) -> dict[str, Any]:
        queue = self._queue(body["QueueUrl"])
        successful, failed = [], []
        for entry in body["Entries"]:
            self.entries[action] += 1
            if self._fails is not None and self._fails(action, self.entries[action]):
                failed.append({"Id": entry["Id"], "SenderFault": False, "Code": "InternalError"})
            else:
                work(queue, entry)
                successful.append({"Id": entry["Id"], "MessageId": entry["Id"], "MD5OfMessageBody": ""})
        return {"Successful": successful, "Failed": failed}

    def _delete(self, queue: _Queue, entry: dict[str, Any]) -> None:
        queue.hidden.pop(entry["ReceiptHandle"], None)
        queue.hidden_until.pop(entry["ReceiptHandle"], None)

    def _change_visibility(self, queue: _Queue, entry: dict[str, Any]) -> None:
        message = queue.hidden.get(entry["ReceiptHandle"])
        if message is not None:
            self._hide(queue, message, entry["VisibilityTimeout"])
            self._reappear(queue)
            self._wake(queue)

    def _attributes(self, body: dict[str, Any]) -> dict[str, Any]:
        queue = self._queue(body["QueueUrl"])
        self._reappear(queue)
        counts = {
            "ApproximateNumberOfMessages": str(len(queue.visible)),
            "ApproximateNumberOfMessagesNotVisible": str(len(queue.hidden)),
            "ApproximateNumberOfMessagesDelayed": "0",
        }
        return {"Attributes": counts}
