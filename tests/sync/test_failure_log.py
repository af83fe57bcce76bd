"""The log says when an operation starts to fail and when it recovers."""

import time

from structlog.testing import capture_logs

from sync.failure_log import FailureLog


def test_an_outage_and_its_end_are_logged_once() -> None:
    """The beginning and the end of each outage are logged once, the end with the number of failures."""
    with capture_logs() as logs:
        failure_log = FailureLog("here", "began", "ended", queue="visit")
        failure_log.worked()
        for _ in range(2):
            for _ in range(100):
                failure_log.failed("no response", 3)
            failure_log.worked()
            failure_log.worked()
    logged = [(each["event"], each["log_level"], each.get("reason"), each.get("failures")) for each in logs]
    assert logged == [("began", "warning", "no response", None), ("ended", "info", None, 300)] * 2
    assert {each["queue"] for each in logs} == {"visit"}


def test_a_late_success_does_not_end_an_outage() -> None:
    """A call that began before the outage and succeeds during it does not end the outage.

    The outage is logged only once.
    """
    with capture_logs() as logs:
        failure_log = FailureLog("here", "began", "ended")
        before = time.monotonic()
        failure_log.failed("no response")
        failure_log.worked(before)
        failure_log.failed("no response")
        failure_log.worked(time.monotonic())
    assert [(each["event"], each.get("failures")) for each in logs] == [("began", None), ("ended", 2)]
