"""The log says when work starts to fail and when it recovers."""

import time

from structlog.testing import capture_logs

from sync.outage_log import OutageLog


def test_an_outage_is_logged_once_and_its_end_with_the_number_of_failures() -> None:
    """An outage is logged once, however often the work fails, and its end is logged; a later outage is logged again."""
    with capture_logs() as logs:
        outage_log = OutageLog("here", "began", "ended", queue="visit")
        outage_log.worked()
        for _ in range(2):
            for _ in range(100):
                outage_log.failed("no response", 3)
            outage_log.worked()
            outage_log.worked()
    logged = [(each["event"], each["log_level"], each.get("reason"), each.get("failures")) for each in logs]
    assert logged == [("began", "warning", "no response", None), ("ended", "info", None, 300)] * 2
    assert {each["queue"] for each in logs} == {"visit"}


def test_what_began_before_an_outage_does_not_end_it() -> None:
    """The late success of work that began before an outage does not end it, so the outage is logged only once."""
    with capture_logs() as logs:
        outage_log = OutageLog("here", "began", "ended")
        before = time.monotonic()
        outage_log.failed("no response")
        outage_log.worked(before)
        outage_log.failed("no response")
        outage_log.worked(time.monotonic())
    assert [(each["event"], each.get("failures")) for each in logs] == [("began", None), ("ended", 2)]
