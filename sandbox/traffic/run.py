"""Publishes planned traffic through the topic, in the topic's thread, while the services respond as usual."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from sandbox.aws.topic import BATCH
from sandbox.traffic.malformed import envelope
from sandbox.traffic.plan import Item, Planned, TrafficRequest, plan

if TYPE_CHECKING:
    from sandbox.aws.topic import Topic
    from sandbox.world import World


class Publication:
    """Traffic that is being published: how many messages have been sent, whether publication is over, and any error."""

    def __init__(self, world: World, planned: Planned) -> None:
        """Takes the traffic that was planned in this world."""
        self._world, self._planned = world, planned
        self._urls: dict[str, str] = {}
        self._sqs: Any = None
        self.sent = 0
        self.finished = threading.Event()
        self.error: str | None = None

    def run(self) -> int:
        """Makes the changes and publishes the events, in order; returns how many messages were sent."""
        topic = self._world.topic
        try:
            for batch in _batches(self._planned.items):
                self._send(topic, batch)
        except Exception as error:
            self.error = f"{type(error).__name__}: {error}"
            raise
        finally:
            self.finished.set()
        return self.sent

    def view(self) -> dict[str, object]:
        """The progress, as the control API shows it."""
        return {"done": self.finished.is_set(), "sent": self.sent, "error": self.error}

    def _send(self, topic: Topic | None, batch: list[Item]) -> None:
        events = []
        for item in batch:
            for change in item.changes:
                change()
            if item.event is not None:
                self._note(item)
                if not item.copies:
                    events.append(item.event)
        if topic is None or topic.endpoint_url is None:
            return
        if events:
            self.sent += topic.send(events)
        for item in batch:
            if item.copies or item.body is not None:
                self._send_without_sns(topic, item)

    def _note(self, item: Item) -> None:
        step = item.step
        if item.event is None or step is None or step.kind in {"vanished", "unknown"}:
            return
        entity = self._world.published.note(item.event)
        if entity is not None and step.refused:
            entity.refused = True

    def _send_without_sns(self, topic: Topic, item: Item) -> None:
        """Puts an item on its queue without SNS: a malformed message, or one or more copies of the same delivery."""
        if self._sqs is None:
            self._sqs = topic.client("sqs")
        url = self._urls.get(item.queue)
        if url is None:
            name = self._planned.request.queue_name(item.queue)
            url = self._urls[item.queue] = self._sqs.get_queue_url(QueueName=name)["QueueUrl"]
        body = item.body if item.body is not None else envelope(item.event or {}, str(uuid.uuid4()))
        for _ in range(item.copies or 1):
            self._sqs.send_message(QueueUrl=url, MessageBody=body)
            self.sent += 1


def start(world: World, body: dict[str, object]) -> dict[str, object]:
    """Plans traffic and begins to publish it; returns what was planned. `progress` shows when all is published.

    Raises:
        ValueError: a parameter is invalid, or the world has no active prisoner for traffic.
    """
    request = TrafficRequest.read(body)
    planned = plan(world, request)
    publication = Publication(world, planned)
    world.publications.append(publication)
    if world.topic is None:
        publication.run()
    else:
        world.topic.work(publication.run)
    return planned.view()


def progress(world: World) -> dict[str, object]:
    """The progress of this world's latest traffic; `done` is also true if there has been no traffic."""
    if not world.publications:
        return {"done": True, "sent": 0, "error": None}
    return world.publications[-1].view()


def _batches(items: list[Item]) -> Iterator[list[Item]]:
    """Yields batches of up to ten items; an item that is sent without SNS has its own batch, to keep the order."""
    batch: list[Item] = []
    for item in items:
        alone = bool(item.copies) or item.body is not None
        if batch and (alone or len(batch) == BATCH):
            yield batch
            batch = []
        if alone:
            yield [item]
        else:
            batch.append(item)
    if batch:
        yield batch
