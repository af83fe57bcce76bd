"""What the log says of repeated work that fails."""

from structlog.testing import capture_logs

from jobs.runtime.failure_log import FailureLog
from sync.failures import SyncError


def test_each_reason_is_logged_once_in_an_outage() -> None:
    """The first failure, each other reason, and the recovery; no flood where the reason never stays the same."""
    outage = FailureLog("drain of visit")
    with capture_logs() as logs:
        for reason in ("away", "away", "no such queue", "away", *(f"port {number}" for number in range(100))):
            outage.failed(SyncError(reason))
        outage.worked()
        outage.worked()
        outage.failed(SyncError("no such queue"))
    told = [(each["event"], each.get("reason")) for each in logs]
    assert told[:2] == [("work-failing", "away"), ("work-fails-otherwise", "no such queue")]
    assert len(told) == 12
    assert told[-2:] == [("work-succeeds-again", None), ("work-failing", "no such queue")]
    assert outage.reason == "no such queue"
