"""Failed attempts to handle messages are counted by reason."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync.errors import (
    MOST_REASONS,
    OTHERS,
    BreakerOpen,
    Failure,
    FailureCounts,
    LeaseBusy,
    RuleError,
    UpstreamError,
    describe_failure,
    fingerprint,
)


def refused(message: str) -> Failure:
    """The failure of a call that was refused with status 404 and `message`."""
    return describe_failure(UpstreamError("nomis", "GET", "/x/1", status=404, message=message))


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (
            UpstreamError("appointments", "GET", "/x/1", status=404, message="Instance 900138871 not found"),
            "appointments: status 404: Instance … not found",
        ),
        (
            UpstreamError("mapping", "GET", "/x/1", status=None, message="no connection within 5.0 s"),
            "mapping: no connection within … s",
        ),
        (
            UpstreamError("visits", "GET", "/x", status=404, message="<b>\r\nnot\x00there"),
            "visits: status 404: <b> not there",
        ),
        (BreakerOpen("nomis"), "nomis counts as down, so it was not called"),
        (LeaseBusy("visit:re-ko-zo-pa"), "visit:… is being handled elsewhere"),
        (LeaseBusy("incentive:1234"), "… is being handled elsewhere"),
        (RuleError("no outcome for A1234BC"), "no outcome for …"),
        (UpstreamError("nomis", "POST", "/x", status=400, message="x" * 5000), f"nomis: status 400: {'x' * 300}"),
    ],
)
def test_a_reason_is_one_line_without_ids(error: Exception, reason: str) -> None:
    """The reason for a failure is one line without words that differ between records, such as ids.

    A long reason is cut.
    """
    assert fingerprint(describe_failure(error)) == reason


def test_failures_with_the_same_reason_are_counted_together() -> None:
    """Failures whose reasons differ only in ids are counted together."""
    reasons = FailureCounts()
    for number in range(50):
        reasons.add(refused(f"Prisoner A{number:04}BC not found"))
    reasons.add(refused("no such prison"))
    assert reasons.counts() == {"nomis: status 404: Prisoner … not found": 50, "nomis: status 404: no such prison": 1}


def test_the_number_of_reasons_is_bounded() -> None:
    """Only the first `MOST_REASONS` reasons are counted separately. All other reasons are counted together."""
    reasons = FailureCounts()
    for number in range(500):
        reasons.add(refused("a" * (number % 100)))
    counted = reasons.counts()
    assert len(counted) == MOST_REASONS + 1
    assert (counted.total(), counted[OTHERS]) == (500, 500 - 5 * MOST_REASONS)


@given(st.text())
def test_any_text_can_be_kept_and_shown(message: str) -> None:
    """The reason for a failure has no control characters, and nothing that JSON or a database rejects."""
    reason = fingerprint(refused(message))
    assert not any(ord(each) < 32 for each in reason)
    assert "\\u0000" not in json.dumps(reason)
    reason.encode()
