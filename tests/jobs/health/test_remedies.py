"""Errors of services, queues and the database come with what to change; a shared reason is given once."""

from __future__ import annotations

import pytest

from jobs.health.remedies import QueueFailure, joined_failures, queue_failure, with_remedy
from sync.errors import BreakerOpen, NoToken, RuleError, UpstreamError
from sync.queues.queue import QueueUnavailable
from sync.settings.loading import load_settings
from sync.store.database import StoreUnavailable

VISIT_KEYS = [
    f"HMPPS_SQS_QUEUES_VISIT_{key}"
    for key in ("QUEUE_ACCESS_KEY_ID", "QUEUE_SECRET_ACCESS_KEY", "DLQ_ACCESS_KEY_ID", "DLQ_SECRET_ACCESS_KEY")
]


def upstream(status: int | None, *, from_service: bool = True, service: str = "visits") -> UpstreamError:
    """An error of a service."""
    return UpstreamError(service, "GET", "/visits/1", status=status, message="refused", from_service=from_service)


@pytest.mark.parametrize(
    ("error", "remedy"),
    [
        (upstream(None), "wait until the service is up, or set API_BASE_URL_VISITS"),
        (upstream(502, from_service=False), "wait until the service is up, or set API_BASE_URL_VISITS"),
        (upstream(401), "check VISITS_CLIENT_ID and VISITS_CLIENT_SECRET, and the roles of the client"),
        (
            upstream(403, service="nomis"),
            "check SYSTEM_CLIENT_ID and SYSTEM_CLIENT_SECRET, and the roles of the client",
        ),
        (BreakerOpen("mapping"), "wait until the service is up, or set API_BASE_URL_MAPPING"),
        (
            NoToken("hmpps-auth", "POST", "/oauth/token", status=None, message="connection refused"),
            "wait until the service is up, or set API_BASE_URL_OAUTH",
        ),
        (StoreUnavailable("the database is locked"), "set DATABASE_URL, or start the database"),
        (
            QueueUnavailable("hmpps_prisoner_to_nomis_visit_dlq", "get_queue_url", "InvalidClientTokenId"),
            f"AWS in eu-west-2 rejected the keys; set {', '.join(VISIT_KEYS)}, or give the process a web identity",
        ),
    ],
)
def test_an_error_comes_with_what_to_change(error: Exception, remedy: str) -> None:
    """The text of an error is followed by the settings to change, or by the service to wait for."""
    assert with_remedy(load_settings({}), error, str(error)) == f"{error}; {remedy}"


@pytest.mark.parametrize(
    "error",
    [
        upstream(404),
        upstream(400),
        upstream(None, service="slack"),
        NoToken("hmpps-auth", "POST", "/oauth/token", status=401, message="no token; set VISITS_CLIENT_ID"),
        RuleError("no such code"),
    ],
)
def test_an_error_without_a_setting_stays_as_it_is(error: Exception) -> None:
    """The text of an error stays as it is if it says what to change, or if no setting can help."""
    assert with_remedy(load_settings({}), error, str(error)) == str(error)


def test_an_error_about_the_topic_names_the_settings_of_any_queue() -> None:
    """If a call about the topic fails, the settings to change are named with `<QUEUE>`."""
    error = QueueUnavailable("hmpps-domain-events", "create_topic", "InternalFailure")
    remedy = "check HMPPS_SQS_QUEUES_<QUEUE>_QUEUE_NAME and HMPPS_SQS_QUEUES_<QUEUE>_DLQ_NAME, or try again later"
    assert with_remedy(load_settings({}), error, str(error)).endswith(f"refused the call; {remedy}")


def test_a_reason_that_queues_share_is_given_once() -> None:
    """Queues with the same reason are joined, without their names. Missing queues keep their names."""
    settings = load_settings({})

    def unavailable(queue: str, code: str) -> QueueFailure:
        return queue_failure(settings, QueueUnavailable(settings.queue(queue).queue_name, "get_queue_url", code))

    missing = "AWS.SimpleQueueService.NonExistentQueue"
    failures = {
        "visit": unavailable("visit", "InternalFailure"),
        "activity": unavailable("activity", "InternalFailure"),
        "incentive": unavailable("incentive", missing),
        "sentencing": unavailable("sentencing", missing),
    }
    refused = "AWS in eu-west-2 refused the call; check HMPPS_SQS_QUEUES_{0}_QUEUE_NAME and "
    refused += "HMPPS_SQS_QUEUES_{0}_DLQ_NAME, or try again later"
    no_queue = "queue hmpps_prisoner_to_nomis_{0}_queue: get_queue_url: " + missing + "; eu-west-2 has no such queue; "
    no_queue += "set HMPPS_SQS_QUEUES_{1}_QUEUE_NAME and HMPPS_SQS_QUEUES_{1}_DLQ_NAME, or create the queue"
    assert joined_failures(failures) == (
        f"visit, activity: get_queue_url: InternalFailure; {refused.format('<QUEUE>')}; "
        f"incentive: {no_queue.format('incentive', 'INCENTIVE')}; "
        f"sentencing: {no_queue.format('sentencing', 'SENTENCING')}"
    )
    assert joined_failures({"visit": failures["visit"]}) == (
        "visit: queue hmpps_prisoner_to_nomis_visit_queue: get_queue_url: InternalFailure; " + refused.format("VISIT")
    )
