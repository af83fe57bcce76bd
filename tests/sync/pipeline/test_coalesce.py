"""A batch is sorted into groups, each in the order of its events. Updates are coalesced if that is harmless."""

import json
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync.creation.creation import Creation
from sync.domains.declaration import Coalesce, Update
from sync.domains.registry import DOMAINS
from sync.events.envelope import DomainEvent
from sync.pipeline.coalesce import Task, coalesce
from sync.queues.queue import Message

VISIT = DOMAINS["visits"]
START = datetime(2023, 5, 22, 10, tzinfo=UTC)
EVENTS = ("prison-visit.booked", "prison-visit.changed", "prison-visit.cancelled")


def body(event_type: str, reference: str, minute: int) -> str:
    """The body of a notification about a visit event that occurs `minute` minutes after `START`."""
    event = {
        "eventType": event_type,
        "occurredAt": (START + timedelta(minutes=minute)).isoformat(),
        "prisonerId": "A1234BC",
        "additionalInformation": {"reference": reference},
    }
    return json.dumps({"Type": "Notification", "MessageId": "sns", "Message": json.dumps(event)})


def message(number: int, text: str) -> Message:
    """A message with the body `text`, and with an id and a receipt handle made from `number`."""
    return Message(f"id-{number}", f"handle-{number}", text, receive_count=1, sent_at=START)


visit_events = st.tuples(st.sampled_from(EVENTS), st.sampled_from(["aa", "bb", "cc"]), st.integers(0, 20))


@given(st.lists(visit_events, max_size=40))
def test_every_message_is_in_exactly_one_task(events: list[tuple[str, str, int]]) -> None:
    """Whatever events arrive, each message is in exactly one task."""
    messages = [message(number, body(*event)) for number, event in enumerate(events)]
    groups = coalesce(messages, VISIT)
    settled = [one.message_id for group in groups for task in group.tasks for one in task.messages]
    assert sorted(settled) == sorted(one.message_id for one in messages)


@given(st.lists(visit_events, min_size=1, max_size=40))
def test_a_group_keeps_the_order_in_which_events_occurred(events: list[tuple[str, str, int]]) -> None:
    """In a group, the creations come first, followed by the updates in the order in which their events occurred."""
    messages = [message(number, body(*event)) for number, event in enumerate(events)]
    for group in coalesce(messages, VISIT):
        kinds = [isinstance(task.handler, Update) for task in group.tasks]
        assert kinds == sorted(kinds)
        times = [_occurred_at(task) for task in group.tasks if isinstance(task.handler, Update)]
        assert times == sorted(times)


def _occurred_at(task: Task) -> datetime:
    assert isinstance(task.content, DomainEvent)
    return task.content.required_occurred_at()


@given(st.lists(visit_events, max_size=40))
def test_only_the_latest_of_coalesced_updates_is_handled(events: list[tuple[str, str, int]]) -> None:
    """Creations and cancellations are never coalesced. Of coalesced updates, only the latest is handled."""
    messages = [message(number, body(*event)) for number, event in enumerate(events)]
    for group in coalesce(messages, VISIT):
        for task in group.tasks:
            for coalesced in task.coalesced:
                assert isinstance(coalesced.handler, Update)
                assert coalesced.handler.coalesce is Coalesce.LATEST
                assert coalesced.handler is task.handler
                assert _occurred_at(coalesced) <= _occurred_at(task)


def test_updates_around_a_cancellation_are_not_coalesced() -> None:
    """Two changes of a visit with a cancellation between them stay separate."""
    messages = [
        message(1, body("prison-visit.changed", "aa", 1)),
        message(2, body("prison-visit.cancelled", "aa", 2)),
        message(3, body("prison-visit.changed", "aa", 3)),
    ]
    (group,) = coalesce(messages, VISIT)
    assert [task.event_type for task in group.tasks] == [
        "prison-visit.changed",
        "prison-visit.cancelled",
        "prison-visit.changed",
    ]


def test_two_creations_are_not_coalesced() -> None:
    """A creation that is delivered twice is handled twice, so that the second attempt finds what the first created."""
    messages = [message(number, body("prison-visit.booked", "aa", 0)) for number in (1, 2)]
    (group,) = coalesce(messages, VISIT)
    assert [isinstance(task.handler, Creation) for task in group.tasks] == [True, True]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no json",
        "[]",
        '{"Type": "Notification"}',
        '{"Type": "Notification", "Message": "{"}',
        '{"Type": "Notification", "Message": "{}"}',
        '{"Type": "RETRY_CREATE_MAPPING", "Message": "{}"}',
        json.dumps({"Type": "Notification", "Message": json.dumps({"eventType": "prison-visit.booked"})}),
        body("prison-visit.cancelled", "..", 0),
        body("prison-visit.booked", ".", 0),
    ],
)
def test_a_malformed_message_is_a_separate_group(text: str) -> None:
    """A malformed message forms a separate group, whose task gives the reason. Other messages are not affected."""
    groups = coalesce([message(1, text), message(2, body("prison-visit.booked", "aa", 0))], VISIT)
    assert [group.tasks[0].malformed is not None for group in groups] == [True, False]


@given(st.text(max_size=200))
def test_any_text_becomes_a_task(text: str) -> None:
    """Any text becomes a task that has either a message type or the reason why the text is malformed."""
    (group,) = coalesce([message(1, text)], VISIT)
    assert group.tasks[0].malformed is not None or group.tasks[0].message_type is not None


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=8,
)


@given(
    st.sampled_from([event for domain in DOMAINS.values() for event in domain.handlers]),
    st.dictionaries(st.sampled_from(["reference", "id", "allocationId", "nomsNumber", "source"]), json_values),
    json_values,
    json_values,
)
def test_an_event_with_any_fields_becomes_one_task(
    event_type: str, information: object, occurred_at: object, prisoner: object
) -> None:
    """Whatever the fields of an event contain, the event becomes one task in one group, whichever domain reads it."""
    event = {
        "eventType": event_type,
        "occurredAt": occurred_at,
        "prisonerId": prisoner,
        "additionalInformation": information,
    }
    text = json.dumps({"Type": "Notification", "Message": json.dumps(event)})
    for domain in DOMAINS.values():
        (group,) = coalesce([message(1, text)], domain)
        assert len(group.tasks) == 1
