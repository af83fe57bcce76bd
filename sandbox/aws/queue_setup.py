"""Describes the queues and subscriptions of the emulator, and makes them again with one request instead of thirty.

Hundreds of tests begin with the same queues. Moto's server therefore gets the path `/moto-api/queues`: GET describes
the existing queues and subscriptions, and POST makes those in its body that do not exist yet.
"""

from __future__ import annotations

import json
from typing import Any

from moto.core import DEFAULT_ACCOUNT_ID
from moto.moto_api._internal import urls
from moto.sns import models as sns_models
from moto.sqs import models as sqs_models

from sandbox.aws.topic import REGION

#: The attributes that the creator of a queue chooses.
_CHOSEN = ("VisibilityTimeout", "MessageRetentionPeriod", "RedrivePolicy")


def serve_queue_setup() -> None:
    """Adds the path `/moto-api/queues` to moto's server. Call this before the server starts."""
    urls.url_paths["{0}/moto-api/queues"] = _respond


def _respond(request: Any, _url: str, _headers: Any) -> tuple[int, dict[str, str], str]:
    if request.method == "GET":
        return 200, {}, json.dumps(describe())
    make(json.loads(request.data))
    return 200, {}, "{}"


def describe() -> dict[str, Any]:
    """Describes the queues, dead letter queues first, and the subscriptions, in the form that `make` takes."""
    queues = [
        {
            "name": queue.name,
            "attributes": {name: str(queue.attributes[name]) for name in _CHOSEN if queue.attributes[name]},
        }
        for queue in _sqs().queues.values()
    ]
    subscriptions = [
        {
            "topic": each.topic.name,
            "endpoint": each.endpoint,
            "attributes": {"FilterPolicy": each.attributes["FilterPolicy"]},
        }
        for each in _sns().subscriptions.values()
    ]
    return {
        "queues": sorted(queues, key=lambda queue: "RedrivePolicy" in queue["attributes"]),
        "subscriptions": subscriptions,
    }


def make(described: dict[str, Any]) -> None:
    """Makes the queues and subscriptions in `described` that do not exist yet."""
    sqs, sns = _sqs(), _sns()
    for queue in described["queues"]:
        if queue["name"] not in sqs.queues:
            sqs.create_queue(queue["name"], **queue["attributes"])
    for each in described["subscriptions"]:
        topic = sns.create_topic(each["topic"])
        subscription = sns.subscribe(topic.arn, each["endpoint"], "sqs")
        for name, value in each["attributes"].items():
            sns.set_subscription_attributes(subscription.arn, name, value)


def _sqs() -> Any:
    return sqs_models.sqs_backends[DEFAULT_ACCOUNT_ID][REGION]


def _sns() -> Any:
    return sns_models.sns_backends[DEFAULT_ACCOUNT_ID][REGION]
