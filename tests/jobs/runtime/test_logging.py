"""Log lines, including those of libraries: their fields, their formats and what they leave out."""

import io
import json
import logging
from collections.abc import Iterator
from typing import Literal

import pytest
import structlog
from structlog.testing import capture_logs

from jobs.runtime.logging import bound, configure_logging, failure_log, log_failure, traces_wanted
from reports.presentation.masking import Masking
from sandbox import Sandbox
from sync.errors import SyncError
from sync.tracing import trace_of
from tests.harness.app import App
from tests.harness.publishing import put_visit


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    yield
    root.handlers = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def logged(stream: io.StringIO) -> list[dict[str, object]]:
    """The lines of `stream`, parsed as JSON."""
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_log_lines_have_the_bound_fields() -> None:
    """A log line has a message, a level, a time in UTC, its own fields, and the fields bound by the code around it."""
    stream = io.StringIO()
    configure_logging("json", "INFO", stream)
    with bound(run_id="20230522-040000-ab12", queue="visit"):
        structlog.get_logger("somewhere").info("batch", received=3)
    (line,) = logged(stream)
    assert line["message"] == "batch"
    assert line["level"] == "info"
    assert str(line["timestamp"]).endswith("Z")
    assert (line["run_id"], line["queue"], line["received"]) == ("20230522-040000-ab12", "visit", 3)


def test_libraries_log_in_the_same_form() -> None:
    """A library's warning is logged as a JSON line, too.

    Less important messages of a talkative library are not logged, even if the level is DEBUG.
    """
    stream = io.StringIO()
    configure_logging("json", "DEBUG", stream)
    logging.getLogger("botocore.session").info("small talk")
    logging.getLogger("botocore.session").warning("no answer from %s", "sqs")
    (line,) = logged(stream)
    assert (line["message"], line["level"]) == ("no answer from sqs", "warning")


def test_exceptions_stay_on_one_line() -> None:
    """A traceback is a field of its log line. The text of the error is not logged, since it may contain anything."""
    stream = io.StringIO()
    configure_logging("json", "INFO", stream)
    try:
        int("a comment")
    except ValueError:
        structlog.get_logger("somewhere").exception("failed")
    (line,) = logged(stream)
    assert str(line["exception"]).splitlines()[-1].startswith("ValueError at test_logging.py:")
    assert "literal for int" not in str(line["exception"])


def test_the_level_decides_what_is_logged() -> None:
    """Messages below the set level are not logged. DEBUG adds full tracebacks."""
    stream = io.StringIO()
    configure_logging("json", "WARNING", stream)
    structlog.get_logger("somewhere").info("batch")
    assert stream.getvalue() == ""
    assert not traces_wanted()
    configure_logging("console", "DEBUG", stream)
    assert traces_wanted()


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_masking_hides_prisoner_numbers_and_booking_ids(log_format: Literal["json", "console"]) -> None:
    """With masking on, prisoner numbers and booking ids in texts and fields keep only their last two characters."""
    stream = io.StringIO()
    configure_logging(log_format, "INFO", stream, Masking(on=True))
    log = structlog.get_logger("somewhere")
    log.info(
        "read", offenders=["A1234BC"], properties={"offenderNo": "A1234BC", "bookingId": "714893"}, booking_id=714893
    )
    differences = {"A1234BC": "STD:BAS", "A1243BC": "BAS:STD", "A1324BC": 3, "G1234ZZ": "ENH:BAS"}
    log.info("report", properties=differences)
    logging.getLogger("library").warning("GET %s", "/prisoners/A1234BC/bookings/714893")
    text = "prisoner A1234BC, booking 714893"
    try:
        raise SyncError(text)
    except SyncError:
        log.exception("failed", received=714893)
    written = stream.getvalue()
    assert "A1234" not in written
    assert written.count("BC") == 7
    assert written.count("714893") == 1
    if log_format == "json":
        first, report, *_ = logged(stream)
        assert (first["offenders"], first["booking_id"]) == (["•••••BC"], "•••••93")
        assert first["properties"] == {"offenderNo": "•••••BC", "bookingId": "•••••93"}
        # Prisoners whose masked numbers are equal stay apart, each with its own value.
        assert report["properties"] == {
            "•••••BC": "STD:BAS",
            "•••••BC (2)": "BAS:STD",
            "•••••BC (3)": 3,
            "•••••ZZ": "ENH:BAS",
        }


def test_log_of_a_command_is_masked_by_the_setting(app: App, sandbox: Sandbox) -> None:
    """Prisoner numbers are masked in the log of a drain only if the setting for masking is on."""
    numbers = [each["offenderNo"] for each in sandbox.prisoners()]
    for masked in (True, False):
        sandbox.traffic(events=3, queues=["visit"], seed=2 + masked)
        log = app.run("drain", "visit", LOG_LEVEL="INFO", LOGS_MASK_PRISONERS=str(masked).lower()).err
        assert "visit-create-success" in log
        assert any(number in log for number in numbers) is not masked


def test_console_lines_are_plain_without_a_terminal() -> None:
    """Without a terminal, the console format has no colour codes."""
    stream = io.StringIO()
    configure_logging("console", "INFO", stream)
    structlog.get_logger("somewhere").info("batch", received=3)
    assert "batch" in stream.getvalue()
    assert "received=3" in stream.getvalue()
    assert "\x1b" not in stream.getvalue()


def test_skipped_ticks_are_not_logged() -> None:
    """APScheduler's warnings about skipped ticks are not logged, but its errors are."""
    stream = io.StringIO()
    configure_logging("json", "INFO", stream)
    log = logging.getLogger("apscheduler.scheduler")
    log.warning("maximum number of running instances reached")
    log.error("a job broke")
    assert [line["message"] for line in logged(stream)] == ["a job broke"]


TRACE = "0af7651916cd43dd8448eb211c80319c"


@pytest.mark.parametrize("raw", [False, True])
def test_trace_of_a_message_is_kept_and_passed_on(app: App, sandbox: Sandbox, raw: bool) -> None:
    """While a message is handled, log lines have its operation id, and calls to services pass on its trace.

    A message without a trace is given a new trace.
    """
    traceparent = f"00-{TRACE}-b7ad6b7169203331-01"
    who = put_visit(sandbox, "traced")
    event = {"eventType": "prison-visit.booked", "occurredAt": "2023-05-22T10:00:00Z", "prisonerId": who}
    message = json.dumps({**event, "additionalInformation": {"reference": "traced"}})
    queue = app.queues()["visit"].main
    if raw:
        queue.send(message, {"traceparent": {"DataType": "String", "StringValue": traceparent}})
    else:
        attributes = {"traceparent": {"Type": "String", "Value": traceparent}}
        queue.send(json.dumps({"Type": "Notification", "Message": message, "MessageAttributes": attributes}))
    put_visit(sandbox, "untraced")
    queue.send(json.dumps({**event, "additionalInformation": {"reference": "untraced"}}))
    sandbox.clear_records()
    done = app.run("drain", "visit", LOG_LEVEL="INFO")
    lines = [json.loads(line) for line in done.err.splitlines() if line.startswith("{")]
    found = {line["properties"]["visitId"]: line.get("operation_id") for line in lines if "create-success" in str(line)}
    made = found.pop("untraced")
    assert found == {"traced": TRACE}
    calls = [(each["path"], each["traceparent"]) for each in sandbox.requests()]
    assert {trace for path, trace in calls if path.endswith("/traced")} == {traceparent}
    (own,) = {trace for path, trace in calls if path.endswith("/untraced")}
    assert own.startswith(f"00-{made}-")


@pytest.mark.parametrize(
    "written",
    [
        "",
        f"00-{'0' * 32}-b7ad6b7169203331-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"ff-{TRACE}-b7ad6b7169203331-01",
        f"00-{TRACE.upper()}-b7ad6b7169203331-01",
        f"00-{TRACE}-b7ad6b7169203331-01\r\nX: y",
    ],
)
def test_an_invalid_trace_is_replaced(written: str) -> None:
    """A trace that W3C Trace Context does not allow is ignored.

    The message is given the trace that it would be given if it had come without one.
    """
    made = trace_of("message", written)
    assert made == trace_of("message")
    assert trace_of("another", made) == made


def test_log_lines_do_not_control_the_terminal() -> None:
    """Text from outside, in messages, values and tracebacks, reaches the terminal without control characters."""
    stream = io.StringIO()
    configure_logging("console", "INFO", stream)
    try:
        raise ValueError("\x1b]0;title\x07\u202e")
    except ValueError:
        structlog.get_logger("somewhere").exception("failed", reason="\x1b[2J", ids={"a": "\x1b[2J"})
    logging.getLogger("library").warning("said \x1b[31m")
    assert "ValueError" in stream.getvalue()
    assert all(each.isprintable() for each in stream.getvalue().replace("\n", ""))


def test_each_reason_is_logged_once_in_an_outage() -> None:
    """In an outage, each of up to ten different reasons is logged once, and so is the recovery.

    An error text that changes with every attempt does not flood the log.
    """
    failures = failure_log("drain of visit")
    with capture_logs() as logs:
        for reason in ("away", "away", "no such queue", "away", *(f"port {number}" for number in range(100))):
            log_failure(failures, SyncError(reason))
        failures.worked()
        failures.worked()
        log_failure(failures, SyncError("no such queue"))
    logged_events = [(each["event"], each.get("reason")) for each in logs]
    assert logged_events[:2] == [("work-failing", "away"), ("work-fails-otherwise", "no such queue")]
    assert len(logged_events) == 12
    assert logged_events[-2:] == [("work-succeeds-again", None), ("work-failing", "no such queue")]
    assert failures.reason == "no such queue"
