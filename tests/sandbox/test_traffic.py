"""Traffic: the same seed gives the same events, planted faults are listed, and everything reaches the queues."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import boto3
import pytest

from sandbox import Sandbox, SandboxError
from sandbox.domains import DOMAINS, EVENT_TYPES
from sandbox.options import Options
from sandbox.traffic.plan import Planned, TrafficRequest, plan
from sandbox.traffic.run import Publication
from sandbox.traffic.steps import Step
from sandbox.world import World

NOW = datetime(2026, 5, 22, 10, 0, 0, 1)  # noqa: DTZ001 - the services write local times
SESSION = "activities.scheduled-instance.amended"
#: By queue, how the types of its events begin.
PREFIXES = {domain.queue: f"{domain.events[0].name.partition('.')[0]}." for domain in DOMAINS}


def planned(events: int = 300, seed: int = 1, **more: Any) -> Planned:
    """Traffic planned for a new world of 150 prisoners."""
    return plan(
        World(Options(prisoners=150, seed=5)), TrafficRequest.read({"events": events, "seed": seed, **more}), NOW
    )


def contents(traffic: Planned) -> list[object]:
    """For each item of `traffic`, in order: its event, or its body if it has no event."""
    return [item.event or item.body for item in traffic.items]


def test_the_seed_decides_the_events() -> None:
    """In equal worlds, the same seed gives the same traffic, and another seed gives other events."""
    more = {"duplicates": 8, "out_of_order": 5, "malformed": 6, "vanished": 2, "refused": 2, "chains": 2}
    first, second, third = planned(**more), planned(**more), planned(seed=2, **more)
    assert contents(first) == contents(second)
    assert first.view() == second.view()
    assert contents(first) != contents(third)


def test_only_the_requested_queues_get_events() -> None:
    """By default, all queues get events. If a request names queues, only those queues get events.

    The number of events is exactly the requested number.
    """
    everything = planned(events=400)
    assert set(everything.view()["by_queue"]) == set(PREFIXES)  # type: ignore[call-overload]
    assert len(everything.items) == 400
    some = planned(events=50, queues=["visit", "sentencing"])
    types = {item.step.event_type for item in some.items if item.step is not None}
    assert {kind.partition(".")[0] for kind in types} == {"prison-visit", "release-date-adjustments"}


def test_times_rise_in_the_format_of_their_publisher() -> None:
    """The events of a record have ascending times.

    The times in events of the activities API are local, and all other times have an offset.
    """
    last: dict[object, datetime] = {}
    for item in planned().items:
        assert item.event is not None
        assert item.step is not None
        text = str(item.event["occurredAt"])
        moment = datetime.fromisoformat(text)
        local = item.step.event_type.startswith(("activities.", "appointments."))
        assert (moment.tzinfo is None) == local
        if item.step.domain == "visit":
            assert len(text.partition(".")[2].partition("+")[0]) == 7
        assert item.step.entity not in last or last[item.step.entity] < moment
        last[item.step.entity] = moment


def test_duplicates_are_planted_and_listed() -> None:
    """For half of the requested duplicates, an event is published twice. For the others, a message is delivered twice.

    Each duplicate is listed.
    """
    traffic = planned(duplicates=10)
    view = traffic.view()
    duplicates: Any = view["duplicates"]
    assert [len(duplicates[kind]) for kind in ("published_twice", "delivered_twice")] == [5, 5]
    assert view["messages"] == 310
    assert sum(item.copies == 2 for item in traffic.items) == 5
    events = Counter(json.dumps(item.event, sort_keys=True) for item in traffic.items)
    assert sorted(events.values())[-6:] == [1, 2, 2, 2, 2, 2]


def test_swapped_pairs_are_published_in_the_wrong_order() -> None:
    """The requested number of event pairs, each about one record, are published in the wrong order and listed.

    The changes of both events are made, in the right order, before the first of them is published.
    """
    traffic = planned(out_of_order=6)
    last: dict[object, tuple[str, Step, list[Any]]] = {}
    pairs: list[tuple[str, object, str]] = []
    changes: list[Any] = []
    for item in traffic.items:
        assert item.event is not None
        assert item.step is not None
        text = str(item.event["occurredAt"])
        later, first, made_before = last.get(item.step.entity, ("", item.step, []))
        if text < later:
            assert made_before == [each.change for each in (item.step, first) if each.change is not None]
            assert item.changes == []
            changes.append(made_before)
            pairs.append((first.event_type, item.step.dps_id, item.step.event_type))
        last[item.step.entity] = text, item.step, item.changes
    assert max(map(len, changes)) == 2
    listed = [(each["eventType"], each["dps_id"], each["before"]) for each in traffic.out_of_order.found]
    assert len(listed) == 6
    assert Counter(listed) == Counter(pairs)


def test_messages_that_cannot_be_handled_are_listed() -> None:
    """Malformed, vanished, refused and unknown messages are planned in addition to the events, and listed by kind."""
    view = planned(malformed=6, vanished=3, refused=2, unknown=4).view()
    assert view["messages"] == 300 + 6 + 3 + 2 + 4
    malformed: Any = view["malformed"]
    assert {each["kind"] for each in malformed} == {
        "not_json",
        "no_message",
        "message_not_json",
        "no_id",
        "null_id",
        "no_event_type",
    }
    assert [len(view[kind]) for kind in ("vanished", "refused", "unknown")] == [3, 2, 4]  # type: ignore[arg-type]


@pytest.mark.parametrize("body", [{"event": 5}, {"queues": ["visits"]}, {"queues": []}, {"events": -1}])
def test_impossible_requests_are_refused(body: dict[str, object]) -> None:
    """A request with an unknown field, an unknown queue, no queue or a negative number is refused with a reason."""
    with pytest.raises(ValueError, match=r"traffic|queue|negative"):
        TrafficRequest.read(body)


def test_changes_are_made_when_their_event_is_published() -> None:
    """Before its event is published, a new visit is not in DPS.

    Once all events are published, new visits and schedules are in DPS.
    """
    world = World(Options(prisoners=150, seed=5))
    traffic = plan(world, TrafficRequest(events=300))
    new = [item.step for item in traffic.items if item.step is not None and item.step.kind == "create"]
    visits = {step.dps_id for step in new if step.domain == "visit"}
    schedules = {step.dps_id for step in new if step.domain == "activity"}
    assert visits
    assert not visits & set(world.visits.visits)
    Publication(world, traffic).run()
    assert visits <= set(world.visits.visits)
    assert schedules <= set(world.activities.schedules)


@pytest.fixture
def queues(sandbox: Sandbox) -> Iterator[dict[str, Any]]:
    """The five queues with their subscriptions: a client under `sqs`, and each queue's address under the queue's id."""
    keys = {"aws_access_key_id": "x", "aws_secret_access_key": "y", "region_name": "eu-west-2"}
    session = boto3.session.Session(**keys)
    sns, sqs = (session.client(name, endpoint_url=sandbox.emulator_url) for name in ("sns", "sqs"))
    topic = sns.create_topic(Name="hmpps-domain-events")["TopicArn"]
    made: dict[str, Any] = {"sqs": sqs}
    for queue, prefix in PREFIXES.items():
        url = sqs.create_queue(QueueName=f"hmpps_prisoner_to_nomis_{queue}_queue")["QueueUrl"]
        arn = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
        types = [kind for kind in (*EVENT_TYPES, SESSION) if kind.startswith(prefix)]
        policy = json.dumps({"eventType": types})
        sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn, Attributes={"FilterPolicy": policy})
        made[queue] = url
    yield made
    sns.close()
    sqs.close()


def received(queues: dict[str, Any], queue: str) -> list[dict[str, Any]]:
    """Receives all messages on a queue, and returns their bodies, decoded if possible."""
    bodies: list[dict[str, Any]] = []
    while True:
        found = queues["sqs"].receive_message(QueueUrl=queues[queue], MaxNumberOfMessages=10).get("Messages", [])
        if not found:
            return bodies
        for message in found:
            try:
                bodies.append(json.loads(message["Body"]))
            except ValueError:
                bodies.append({"unreadable": message["Body"]})


def test_everything_reaches_the_queues(sandbox: Sandbox, queues: dict[str, Any]) -> None:
    """Every queue gets the planned number of messages. The two messages of a double delivery have the same SNS id."""
    view = sandbox.traffic(events=60, seed=3, duplicates=4, malformed=5, unknown=2)
    assert view["sent"] == view["messages"]
    bodies = {queue: received(queues, queue) for queue in PREFIXES}
    assert {queue: len(found) for queue, found in bodies.items() if found} == view["by_queue"]
    types = {json.loads(body["Message"])["eventType"] for body in bodies["incentive"] if "Message" in body}
    assert "incentives.iep-review.updated" in types
    ids = Counter(body["MessageId"] for found in bodies.values() for body in found if "MessageId" in body)
    assert sorted(ids.values())[-2:] == [2, 2]
    assert [body for body in bodies["visit"] if "unreadable" in body] == [{"unreadable": "this is not JSON"}]


def test_a_failing_publication_is_reported(sandbox: Sandbox) -> None:
    """If traffic cannot be published, the request fails with an error that says so."""
    with pytest.raises(SandboxError, match="failed after"):
        sandbox.traffic(events=5, queues=["visit"], malformed=1, queue_names={"visit": "nowhere"})
