"""An unusual message is handled if its meaning is clear. Otherwise, it is deleted or fails.

Other messages are not affected.
"""

from __future__ import annotations

import json

import pytest

from jobs.runtime.application import Application
from sandbox import Sandbox
from sync.domains.registry import unknown_switches
from sync.events.envelope import write_mapping_retry
from sync.repair.hints import hint
from sync.store.telemetry import read_events
from tests.harness.app import open_application
from tests.harness.pipeline import BOOKED, CHANGED, failure_of, send, tracked
from tests.harness.publishing import put_visit


@pytest.fixture(scope="session")
def running_sandbox(unpatched_sandbox: Sandbox) -> Sandbox:
    """A sandbox whose moto lacks the patches that make it faster."""
    return unpatched_sandbox


@pytest.fixture
def settings() -> dict[str, str]:
    """Settings that hide a message for one minute after its first failure, and for two minutes after each later one."""
    return {"HMPPS_SQS_ERROR_VISIBILITY_TIMEOUT": "60,120"}


def test_an_event_without_a_required_field_fails_alone(sandbox: Sandbox, application: Application) -> None:
    """An event without a required field is recorded as malformed, with its type and SNS id.

    Other messages are handled.
    """
    put_visit(sandbox, "aa-aa")
    queue = application.queue_pair("visit").main
    bad = send(queue, CHANGED, "bb", additionalInformation={})
    send(queue, BOOKED, "aa-aa")
    summary = application.open_drain("visit").run_batch()
    assert (summary.applied, summary.unreadable) == (1, 1)
    found = failure_of(application, bad)
    assert found is not None
    assert (found.event_type, found.sns_message_id) == (CHANGED, "sns-bb-0")
    assert "reference is missing" in found.failure.reason
    assert tracked(application) == {"visit-create-success": 1, "message-failed": 1}


def test_messages_of_unknown_types_are_acknowledged_and_tracked(sandbox: Sandbox, application: Application) -> None:
    """A message of an unknown type is deleted. Its id and type are tracked. A type that is too long is shortened."""
    queue = application.queue_pair("visit").main
    named = send(queue, "prison-visit.renamed", "aa")
    long = send(queue, "prison-visit." + "\x00" + "x" * 5_000, "bb")
    other = queue.send(json.dumps({"Type": "SubscriptionConfirmation", "Message": "hello"}))
    summary = application.open_drain("visit").run_batch()
    assert summary.unhandled == summary.received == 3
    assert queue.counts().total == 0
    assert tracked(application) == {"message-unhandled": 3}
    found = {each["properties"]["messageId"]: each["properties"] for each in read_events(application.database)}
    assert found[named] == {
        "queue": "visit",
        "messageId": named,
        "eventType": "prison-visit.renamed",
    }
    assert found[other]["eventType"] == "SubscriptionConfirmation"
    assert len(found[long]["eventType"]) == 120
    assert "\x00" not in found[long]["eventType"]


@pytest.mark.parametrize("event_type", ["incentives.iep-review.inserted", " Incentives.IEP-review.inserted\n"])
def test_an_event_of_another_queue_fails(sandbox: Sandbox, application: Application, event_type: str) -> None:
    """An event on the wrong queue would be lost if it were deleted, so it fails. The reason names the right queue."""
    queue = application.queue_pair("visit").main
    message_id = send(queue, event_type, "aa")
    summary = application.open_drain("visit").run_batch()
    assert (summary.failed, summary.unhandled) == (1, 0)
    found = failure_of(application, message_id)
    assert found is not None
    assert "belongs on the incentive queue" in found.failure.reason
    assert not found.failure.recoverable
    assert "incentive queue" in hint(found.event_type, found.failure)


@pytest.mark.parametrize(
    "event_type",
    [
        f"{BOOKED} ",
        f"\t{BOOKED}\n",
        f"\ufeff{BOOKED}\xa0",
        f"\u2060{BOOKED}\u200d",
        f"{BOOKED}\xad\x07",
        "prison-visit.\u200bbooked",
        BOOKED.upper(),
    ],
)
def test_spaces_and_case_of_an_event_type_are_ignored(
    sandbox: Sandbox, application: Application, event_type: str
) -> None:
    """An event type is recognised despite extra spaces, invisible characters or a different letter case."""
    who = put_visit(sandbox, "blank")
    send(application.queue_pair("visit").main, event_type, "blank", prisonerId=who)
    assert application.open_drain("visit").run_batch().applied == 1
    assert tracked(application) == {"visit-create-success": 1}


@pytest.mark.parametrize("more", [{}, {"Type": "visit"}], ids=["bare", "with its own Type"])
def test_raw_message_delivery_is_read(sandbox: Sandbox, application: Application, more: dict[str, str]) -> None:
    """With raw message delivery, the event is read from the body itself, even if the event has a field `Type`."""
    who = put_visit(sandbox, "raw")
    event = {
        "eventType": BOOKED,
        "occurredAt": "2023-05-22T10:00:00+01:00",
        "prisonerId": who,
        "additionalInformation": {"reference": "raw"},
        **more,
    }
    attributes = {"eventType": {"DataType": "String", "StringValue": BOOKED}}
    application.queue_pair("visit").main.send(json.dumps(event), attributes)
    assert application.open_drain("visit").run_batch().applied == 1
    assert tracked(application) == {"visit-create-success": 1}


def test_the_case_of_an_envelope_is_ignored(sandbox: Sandbox, application: Application) -> None:
    """A notification or mapping retry is read even if its `Type` is in another letter case.

    If it were not recognised, it would be deleted.
    """
    who = put_visit(sandbox, "envelope")
    event = {"eventType": BOOKED, "occurredAt": "2023-05-22T10:00:00+01:00", "prisonerId": who}
    message = json.dumps({**event, "additionalInformation": {"reference": "envelope"}})
    queue, drain = application.queue_pair("visit").main, application.open_drain("visit")
    queue.send(json.dumps({"Type": "notification", "Message": message}))
    assert drain.run_batch().applied == 1
    retry = json.loads(write_mapping_retry({"nomisId": "987", "vsipId": "other"}, {}))
    queue.send(json.dumps({**retry, "Type": retry["Type"].lower()}))
    assert drain.run_batch().applied == 1
    assert tracked(application) == {"visit-create-success": 1, "visit-retry-success": 1}


def test_a_failed_mapping_retry_is_tracked(sandbox: Sandbox, application: Application) -> None:
    """A mapping retry that fails is tracked with its mapping. Additional keys in its message do no harm."""
    body = json.loads(write_mapping_retry({"nomisId": "7", "vsipId": "x"}, {}))
    body["Message"] = json.dumps({**json.loads(body["Message"]), "entityName": "VISIT"})
    application.queue_pair("visit").main.send(json.dumps(body))
    sandbox.fault("mapping", "POST", kind="status", status=400, body={"status": 400, "userMessage": "broken"})
    assert application.open_drain("visit").run_batch().failed == 1
    application.telemetry.flush()
    (failure,) = [each for each in read_events(application.database) if each["name"] == "create-mapping-retry-failure"]
    assert json.loads(failure["properties"]["retryMessage"]) == {"nomisId": "7", "vsipId": "x"}


def test_a_switch_may_name_the_queue(sandbox: Sandbox, url: str) -> None:
    """`feature.event.<queue>.<type>` works like `feature.event.<type>`, and does not count as an unknown switch."""
    settings = {"FEATURE_EVENT_VISIT_PRISON_VISIT_BOOKED": "false"}
    with open_application(sandbox.environment(), url, **settings) as application:
        send(application.queue_pair("visit").main, BOOKED, "off")
        assert application.open_drain("visit").run_batch().switched_off == 1
        assert unknown_switches(application.settings) == {}
