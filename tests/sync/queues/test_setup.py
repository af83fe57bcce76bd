"""Queues are opened by name. On a local endpoint, missing queues are created once."""

from __future__ import annotations

import json
from typing import Any

import pytest
from structlog.testing import capture_logs

from sandbox import Sandbox
from sync.domains.registry import event_types
from sync.queues.aws import Aws
from sync.queues.queue import QueueUnavailable
from sync.queues.setup import TOPIC, QueueOpener, QueuePair
from sync.settings.declaration import Settings
from sync.settings.loading import load_settings
from sync.settings.queues import QUEUES


@pytest.fixture(scope="session")
def running_sandbox(unpatched_sandbox: Sandbox) -> Sandbox:
    """A sandbox whose moto lacks the patches that make it faster."""
    return unpatched_sandbox


def settings(sandbox: Sandbox, **more: str) -> Settings:
    """The settings of the sandbox, with those in `more`."""
    return load_settings({**sandbox.environment(), **more})


def open_all(chosen: Settings, aws: Aws) -> dict[str, QueuePair]:
    """Opens every queue with its DLQ. Returns the pairs by queue id."""
    opener = QueueOpener(chosen, aws, event_types)
    return {queue: opener.open(queue) for queue in QUEUES}


def subscriptions(aws: Aws) -> list[dict[str, Any]]:
    """The subscriptions of the topic, each with its attributes."""
    sns = aws.client("sns")
    topic = sns.create_topic(Name=TOPIC)["TopicArn"]
    found = sns.list_subscriptions_by_topic(TopicArn=topic)["Subscriptions"]
    return [sns.get_subscription_attributes(SubscriptionArn=each["SubscriptionArn"])["Attributes"] for each in found]


def test_missing_queues_are_created_once(sandbox: Sandbox) -> None:
    """After all five queues have been opened twice, each has a DLQ and only one subscription to its event types."""
    chosen = settings(sandbox)
    aws = Aws(chosen)
    for _ in range(2):
        pairs = open_all(chosen, aws)
    assert all(pair.main.max_receives() == 3 and pair.dlq.max_receives() is None for pair in pairs.values())
    filters = [json.loads(each["FilterPolicy"])["eventType"] for each in subscriptions(aws)]
    assert sorted(map(sorted, filters)) == sorted(sorted(event_types(queue)) for queue in QUEUES)


def test_lost_queues_are_created_again(sandbox: Sandbox) -> None:
    """If an endpoint loses everything, opening a queue creates the topic, queue and subscription, and events arrive."""
    chosen = settings(sandbox)
    opener = QueueOpener(chosen, Aws(chosen), event_types)
    opener.open("visit")
    sandbox.reset(prisoners=20)
    queue = opener.open("incentive").main
    sandbox.publish("incentives.level.changed", {"incentiveLevel": "STD"})
    assert len(queue.receive()) == 1


@pytest.mark.parametrize("first", ["receive", "counts", "send", "dlq"])
def test_an_endpoint_that_restarts_empty_is_set_up_again(sandbox: Sandbox, first: str) -> None:
    """If an endpoint restarts empty, the first call creates the queues, topic and subscription again.

    The missing queue is logged.
    """
    chosen = settings(sandbox)
    pair = QueueOpener(chosen, Aws(chosen), event_types).open("incentive")
    sandbox.reset(prisoners=20)
    with capture_logs() as logs:
        if first == "dlq":
            assert pair.dlq.counts().total == 0
        elif first == "send":
            pair.main.send("a message")
        else:
            assert (pair.main.receive() if first == "receive" else pair.main.counts().total) in ([], 0)
    (logged,) = (each for each in logs if each["event"] == "queue-missing")
    assert "NonExistentQueue" in logged["reason"]
    sandbox.publish("incentives.level.changed", {"incentiveLevel": "STD"})
    assert len(pair.main.receive()) == (2 if first == "send" else 1)
    assert pair.main.max_receives() == 3
    assert pair.dlq.counts().total == 0


def test_a_missing_dead_letter_queue_is_created(sandbox: Sandbox) -> None:
    """If the main queue exists but its DLQ is missing, the DLQ is created."""
    chosen = settings(sandbox)
    aws = Aws(chosen)
    pair = QueueOpener(chosen, aws, event_types).open("visit")
    aws.client("sqs").delete_queue(QueueUrl=pair.dlq.url)
    assert pair.dlq.counts().total == 0
    assert QueueOpener(chosen, aws, event_types).open("visit").dlq.url == pair.dlq.url


def test_queues_are_created_with_the_settings(sandbox: Sandbox) -> None:
    """A new queue has the visibility timeout and receive limit from the settings.

    It keeps messages for fourteen days.
    """
    chosen = settings(sandbox, HMPPS_SQS_MAX_RECEIVE_COUNT="5", HMPPS_SQS_VISIBILITY_TIMEOUT_SECONDS="77")
    aws = Aws(chosen)
    pair = QueueOpener(chosen, aws, event_types).open("visit")
    attributes = aws.client("sqs").get_queue_attributes(QueueUrl=pair.main.url, AttributeNames=["All"])["Attributes"]
    assert (attributes["VisibilityTimeout"], attributes["MessageRetentionPeriod"]) == ("77", "1209600")
    redrive = json.loads(attributes["RedrivePolicy"])
    assert int(redrive["maxReceiveCount"]) == 5
    assert redrive["deadLetterTargetArn"].endswith(":hmpps_prisoner_to_nomis_visit_dlq")


def test_an_existing_dead_letter_queue_is_kept(sandbox: Sandbox) -> None:
    """If only the DLQ exists, its main queue is created, and the DLQ keeps its attributes."""
    chosen = settings(sandbox)
    aws = Aws(chosen)
    sqs = aws.client("sqs")
    name = chosen.queue("visit").dlq_name
    url = sqs.create_queue(QueueName=name, Attributes={"VisibilityTimeout": "7"})["QueueUrl"]
    pair = QueueOpener(chosen, aws, event_types).open("visit")
    assert pair.dlq.url == url
    kept = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
    assert kept["VisibilityTimeout"] == "7"
    redrive = sqs.get_queue_attributes(QueueUrl=pair.main.url, AttributeNames=["RedrivePolicy"])["Attributes"]
    assert json.loads(redrive["RedrivePolicy"])["deadLetterTargetArn"] == kept["QueueArn"]


def test_events_reach_only_the_queue_of_their_domain(sandbox: Sandbox) -> None:
    """An event arrives in an SNS envelope on the queue of its domain, and on no other queue."""
    chosen = settings(sandbox)
    pairs = open_all(chosen, Aws(chosen))
    sandbox.publish("incentives.level.changed", {"incentiveLevel": "STD"})
    (message,) = pairs["incentive"].main.receive()
    assert json.loads(message.body)["Type"] == "Notification"
    assert [name for name in QUEUES if pairs[name].main.counts().total] == ["incentive"]


def test_a_queue_has_the_name_in_the_settings(sandbox: Sandbox) -> None:
    """A queue whose name is configured is opened by that name."""
    names = {
        "HMPPS_SQS_QUEUES_VISIT_QUEUE_NAME": "team-prod-visit-queue",
        "HMPPS_SQS_QUEUES_VISIT_DLQ_NAME": "team-prod-visit-dlq",
    }
    chosen = settings(sandbox, **names)
    pair = QueueOpener(chosen, Aws(chosen), event_types).open("visit")
    assert (pair.main.name, pair.dlq.name) == tuple(names.values())


def test_a_missing_queue_of_aws_is_an_error(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the provider `aws`, a missing queue is not created, and the error names it."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", sandbox.emulator_url)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    chosen = load_settings({"HMPPS_SQS_PROVIDER": "aws"})
    aws = Aws(chosen)
    with pytest.raises(QueueUnavailable, match=r"^queue hmpps_prisoner_to_nomis_visit_queue: get_queue_url: "):
        QueueOpener(chosen, aws, event_types).open("visit")
    assert aws.client("sqs").list_queues().get("QueueUrls", []) == []
