"""Errors of services, queues and the database come with what to change; a shared reason is given once."""

from __future__ import annotations

import pytest

from jobs.health.remedies import joined_errors, with_remedy
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
            QueueUnavailable("queue hmpps_prisoner_to_nomis_visit_dlq: get_queue_url: InvalidClientTokenId"),
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


def test_a_reason_that_queues_share_is_given_once() -> None:
    """Queues with the same reason are joined, without their names. Missing queues keep their names."""
    keys = "get_queue_url: NoCredentialsError; set HMPPS_SQS_QUEUES_{}_QUEUE_ACCESS_KEY_ID"
    missing = "queue {}: get_queue_url: AWS.SimpleQueueService.NonExistentQueue"
    errors = {
        "visit": f"queue v: {keys.format('VISIT')}",
        "activity": f"queue a: {keys.format('ACTIVITY')}",
        "incentive": missing.format("i"),
        "sentencing": missing.format("s"),
    }
    assert joined_errors(errors) == (
        f"visit, activity: {keys.format('<QUEUE>')}; "
        f"incentive: {missing.format('i')}; sentencing: {missing.format('s')}"
    )
    assert joined_errors({"visit": errors["visit"]}) == f"visit: {errors['visit']}"
