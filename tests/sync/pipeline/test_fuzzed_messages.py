"""Mangled messages break nothing: each is acknowledged, or fails with a reason."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import orjson

from sandbox import Sandbox
from sync.domains.registry import DOMAINS
from sync.pipeline.coalesce import coalesce
from sync.queues.queue import Message, Queue
from tests.harness.app import open_application
from tests.harness.pipeline import last_failure, settle


def test_ten_thousand_fuzzed_messages_break_nothing() -> None:
    """Each of 10,000 mangled messages is in one task. If a message cannot be understood, its task gives the reason."""
    chance = random.Random(20230522)
    messages = [Message(f"id-{n}", f"handle-{n}", fuzzed(chance), receive_count=1) for n in range(10_000)]
    groups = coalesce(messages, DOMAINS["visits"])
    tasks = [task for group in groups for task in group.tasks]
    assert sorted(each.message_id for task in tasks for each in task.messages) == sorted(m.message_id for m in messages)
    malformed = [task.malformed for task in tasks if task.malformed is not None]
    assert 1_000 < len(malformed) < 10_000
    assert all(str(each) for each in malformed)


def test_each_fuzzed_message_is_acknowledged_or_a_dead_letter_with_its_reason(sandbox: Sandbox, tmp_path: Path) -> None:
    """Each of 300 mangled messages is acknowledged or becomes a dead letter with a recorded reason."""
    chance = random.Random(20230523)
    with open_application(
        sandbox.environment(), f"sqlite:///{tmp_path}/fuzz.db", HMPPS_SQS_MAX_RECEIVE_COUNT="1"
    ) as application:
        pair, drain = application.queue_pair("visit"), application.open_drain("visit")
        for _ in range(300):
            pair.main.send(fuzzed(chance))
        done = settle(drain, pair.main)
        settled = done.received - done.failed - done.unreadable - done.deferred
        dead = _ids_of(pair.dlq)
        assert len(dead) + settled == 300
        assert len(dead) > 30
        for message_id in dead:
            failure = last_failure(application.database, queue="visit", message_id=message_id)
            assert failure is not None
            assert failure.failure.reason


def fuzzed(chance: random.Random) -> str:
    """The body of a message about a visit event, mangled at random.

    It may be cut off, have a wrong character, or have missing or wrong fields.
    """
    event: dict[str, Any] = {
        "eventType": chance.choice(["prison-visit.booked", "prison-visit.changed", "prison-visit.cancelled", "other"]),
        "occurredAt": "2023-05-22T10:00:00+01:00",
        "prisonerId": "A1234BC",
        "additionalInformation": {"reference": f"zz-{chance.randrange(1000)}"},
    }
    _mangle(event, chance)
    if isinstance(event.get("additionalInformation"), dict):
        _mangle(event["additionalInformation"], chance)
    envelope: dict[str, Any] = {"Type": "Notification", "MessageId": "sns", "Message": orjson.dumps(event).decode()}
    _mangle(envelope, chance)
    text = orjson.dumps(envelope).decode()
    if chance.random() < 0.2:
        text = text[: chance.randrange(1, len(text))]
    if chance.random() < 0.2:
        place = chance.randrange(len(text))
        text = text[:place] + chance.choice('{}[]",:0e\\é☃𝄞') + text[place + 1 :]
    return text


def _mangle(values: dict[str, Any], chance: random.Random) -> None:
    strange: list[Any] = [
        None,
        "",
        " ",
        0,
        -1,
        10**18,
        1.5,
        True,
        [],
        {},
        [[[]]],
        "x" * 3000,
        "\u0000",
        "☃",
        "null",
        "1e999",
    ]
    for name in list(values):
        fate = chance.random()
        if fate < 0.05:
            del values[name]
        elif fate < 0.15:
            values[name] = chance.choice(strange)


def _ids_of(queue: Queue) -> set[str]:
    found: set[str] = set()
    while messages := queue.receive(visibility_seconds=300):
        found.update(each.message_id for each in messages)
    return found
