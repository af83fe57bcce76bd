"""What keeps failing is in the log when it begins and when it is over."""

from structlog.testing import capture_logs

from sync.trouble import Trouble


def test_a_trouble_is_told_once_and_its_end_with_the_number_of_failures() -> None:
    """However often it fails; and the next one again."""
    with capture_logs() as logs:
        trouble = Trouble("here", "away", "back", queue="visit")
        trouble.worked()
        for _ in range(2):
            for _ in range(100):
                trouble.failed("no answer", 3)
            trouble.worked()
            trouble.worked()
    told = [(each["event"], each["log_level"], each.get("reason"), each.get("failures")) for each in logs]
    assert told == [("away", "warning", "no answer", None), ("back", "info", None, 300)] * 2
    assert {each["queue"] for each in logs} == {"visit"}
