"""A failed message gets the advice that the runbook lists for its kind of failure."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync.clock import now
from sync.domains.registry import DOMAINS
from sync.errors import Failure
from sync.events.envelope import write_domain_event
from sync.queues.queue import Message
from sync.repair.dead_letter_report import WORTH_A_RETRY, DeadLetterReport, FailureClass
from sync.repair.dead_letters import read_dead_letter
from sync.repair.hints import RECOVERABLE, UNREADABLE, UNRECOVERABLE, hint
from sync.store.failed_attempts import FailedAttempt

ALLOCATED = "activities.prisoner.allocated"
ATTENDED = "activities.prisoner.attendance-amended"


def failure(**changes: Any) -> Failure:
    """The failure of a call to NOMIS, with the fields in `changes` replaced."""
    values: dict[str, Any] = {
        "step": "update visit",
        "service": "nomis",
        "method": "PUT",
        "path": "/prisoners/A1234BC/visits/1",
        "status": 500,
        "reason": "Unexpected error",
        "recoverable": True,
    }
    return Failure(**{**values, **changes})


NON_UNIQUE = "Unexpected error: query did not return a unique result: 2"


@pytest.mark.parametrize(
    ("event_type", "changes", "words"),
    [
        (ALLOCATED, {"path": "/activities/1/allocation", "reason": NON_UNIQUE}, "delete-allocation"),
        (ATTENDED, {"path": "/activities/1/booking/2/attendance", "reason": NON_UNIQUE}, "delete-attendance"),
        (ATTENDED, {"path": "/activities/1/booking/2/attendance-status", "reason": NON_UNIQUE}, "delete-attendance"),
        (ATTENDED, {"path": "/x/attendance", "status": 400, "reason": "has already been paid"}, "payroll"),
        (ALLOCATED, {"path": "/x/allocation", "status": 400, "reason": "Prisoner is at prison=LEI"}, "transferred"),
        (ALLOCATED, {"path": "/x/allocation", "status": 400, "reason": "id=1 has expired"}, "has ended"),
        ("activities.activity-schedule.created", {"service": "mapping", "path": "/mapping/activities", "status": 400},
         "duplicates list"),
        ("prison-visit.changed", {"service": "mapping", "status": 404}, "never created in NOMIS"),
        ("activities.scheduled-instance.amended", {"status": 404}, "second delivery"),
        ("activities.activity-schedule.amended", {"status": 400}, "NOMIS refuses"),
        ("prison-visit.booked", {"service": "visits", "status": 404}, "DPS has no such record"),
        ("appointments.appointment-instance.created",
         {"reason": "NOMIS accepts no appointment without a location, …", "recoverable": False}, "in a cell"),
        ("prison-visit.booked", {"status": 403}, "credentials"),
        ("prison-visit.booked", {"service": "hmpps-auth", "status": 401}, "credentials"),
        ("prison-visit.booked", {"service": "hmpps-auth", "status": 200, "recoverable": True}, "credentials"),
    ],
)  # fmt: skip
def test_each_failure_in_the_runbook_has_its_advice(event_type: str, changes: dict[str, Any], words: str) -> None:
    """A failure of a kind that the runbook lists gets the advice that the runbook gives for that kind."""
    changes = {"recoverable": changes.get("status", 500) >= 500, **changes}
    assert words in hint(event_type, failure(**changes))


@pytest.mark.parametrize("status", [400, 404, 409, 500, 503, None])
def test_a_mapping_retry_must_not_be_purged(status: int | None) -> None:
    """The advice on a failed mapping retry is to run `dlq retry` and never to purge the message.

    The status makes no difference.
    """
    advice = hint("RETRY_CREATE_MAPPING", failure(service="mapping", path="/mapping/visits", status=status))
    assert "never purge" in advice
    assert "dlq retry" in advice


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504, None])
def test_outages_are_recoverable(status: int | None) -> None:
    """If a call gets 408, 429, a 5xx or no response, the advice is to leave the message to housekeeping."""
    assert hint("prison-visit.changed", failure(status=status)) == RECOVERABLE


def test_a_404_of_a_gateway_is_recoverable() -> None:
    """The advice after a gateway's 404, which proves nothing, is to leave the message to housekeeping."""
    assert hint("prison-visit.changed", failure(service="mapping", status=404, recoverable=True)) == RECOVERABLE


def test_an_attendance_without_its_allocation_is_recoverable() -> None:
    """If NOMIS refuses an attendance because its allocation does not exist yet, the message counts as recoverable."""
    reason = "Bad request: Offender program profile for booking 1 and course 2 does not exist"
    path = "/activities/2/booking/1/attendance"
    refused = failure(path=path, status=400, recoverable=False, reason=reason)
    message = read_dead_letter(Message("one", "", write_domain_event(ATTENDED, {"attendanceId": 1}), 3))
    attempt = FailedAttempt(now(), "activity", "one", None, ATTENDED, None, 3, refused)
    assert DeadLetterReport(message, attempt, 1, 0).failure_class is FailureClass.RECOVERABLE
    assert "succeeds" in hint(ATTENDED, refused)


def test_refusals_are_permanent() -> None:
    """If no other advice fits a refusal, the advice is to correct the data and retry, or to purge the message."""
    assert hint("prison-visit.changed", failure(status=400, recoverable=False)) == UNRECOVERABLE


def test_broken_rules_and_malformed_messages_are_distinguished() -> None:
    """The advice on a message that breaks a rule differs from the advice on a malformed message."""
    rule = failure(service=None, method=None, path=None, status=None, recoverable=False, reason="no NOMIS visit type")
    assert "rule" in hint("prison-visit.booked", rule)
    assert hint(None, failure(service=None, status=None, recoverable=False, step="read event")) == UNREADABLE


@given(
    event_type=st.sampled_from(sorted(event for domain in DOMAINS.values() for event in domain.handlers)) | st.none(),
    service=st.sampled_from(["nomis", "mapping", "visits", "activities", "hmpps-auth"]) | st.none(),
    path=st.sampled_from(["/x/allocation", "/x/attendance", "/mapping/activities", "/visits/1"]),
    status=st.sampled_from([301, 400, 401, 403, 404, 405, 408, 409, 413, 423, 429, 500, 502, 503]) | st.none(),
    reason=st.sampled_from(["", "paid", "prison", "expired", "without a location", "no such record", NON_UNIQUE]),
    step=st.sampled_from(["read event", "update visit"]),
)
def test_recoverable_messages_must_not_be_purged(event_type: str | None, **failed: Any) -> None:
    """The advice on a recoverable failure to handle an event never mentions a purge, whichever call failed."""
    assert "purge" not in hint(event_type, failure(**failed, recoverable=True))


@pytest.mark.parametrize("name", FailureClass)
def test_the_advice_says_what_the_housekeeping_does(name: FailureClass) -> None:
    """For exactly the classes of failures worth a retry, the action says that housekeeping sends the message back.

    Only the actions for unrecoverable and unreadable messages mention a purge.
    """
    assert ("Housekeeping sends the message back" in name.action) is (name in WORTH_A_RETRY)
    assert ("purge" in name.action) is (name in (FailureClass.UNRECOVERABLE, FailureClass.UNREADABLE))
