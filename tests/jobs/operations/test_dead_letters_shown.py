"""What the `dlq` commands print about dead letters."""

import json
import re
import sqlite3
from datetime import datetime
from pathlib import Path

import pytest

from sandbox import Sandbox
from sync.events.envelope import write_domain_event
from sync.settings.queues import QUEUES
from tests.harness.app import App, make_app
from tests.harness.dead_letters import BOOKED, TIME, deliver_until_dead, put_on_dlq
from tests.harness.faults import faulty


@pytest.fixture
def app(sandbox: Sandbox, tmp_path: Path, sqlite_template: Path) -> App:
    """An installation whose queues are created on first use."""
    return make_app(sandbox, tmp_path, sqlite_template)


@pytest.mark.parametrize("command", ["show", "retry", "purge"])
def test_unknown_queue_is_bad_usage(app: App, command: str) -> None:
    """A command on a queue that does not exist is bad usage, and the error names the existing queues."""
    done = app.run("dlq", command, "prisons")
    assert (done.code, done.out) == (2, "")
    assert done.error.endswith(f"QUEUE is one of {', '.join(QUEUES)}")


def test_empty_queues_are_listed_as_such(app: App) -> None:
    """`dlq list` shows every queue, even one whose dead letter queue is empty.

    For such a queue, `dlq show` says that the dead letter queue is empty.
    """
    states = app.read_json("dlq", "list")
    assert [state["queue"] for state in states] == list(QUEUES)
    assert {(state["messagesOnDlq"], state["oldest"]) for state in states} == {(0, None)}
    assert "The dead letter queue of visit is empty." in app.run_ok("dlq", "show", "visit")


def test_showing_dead_letters_hides_none(app: App) -> None:
    """Two `dlq show` commands in a row show the same messages, oldest first, so no message stays hidden.

    `--limit` limits the number of messages, and `--message` chooses one by its id. An unknown id is bad usage.
    """
    put_on_dlq(app, *(f"visit-{number}" for number in range(12)))
    first = app.read_json("dlq", "show", "visit")
    assert [each["ids"]["reference"] for each in first] == [f"visit-{number}" for number in range(12)]
    assert app.read_json("dlq", "show", "visit") == first
    assert len(json.loads(app.run_ok("dlq", "show", "visit", "--limit", "3", "--json"))) == 3
    assert app.messages("visit") == 12
    wanted = first[7]["messageId"]
    (one,) = json.loads(app.run_ok("dlq", "show", "visit", "--message", wanted, "--json"))
    assert one == first[7]
    unknown = app.run("dlq", "show", "visit", "--message", "no-such-id")
    assert (unknown.code, "holds no message no-such-id" in unknown.error) == (2, True)


def test_a_message_without_a_recorded_failure_has_one_text(app: App) -> None:
    """`dlq list` and `dlq show` give the same meaning and the same advice for the class `unknown`.

    The advice is to wait, since housekeeping sends such messages back. `status` names the class too.
    """
    put_on_dlq(app, "visit-1")
    meaning = "no failure was recorded: the process died, or a person put the message on the queue"
    advice = "wait. Housekeeping sends the message back. To send it back sooner, run `dlq retry QUEUE`"
    assert f"unknown: {meaning}. What to do: {advice}.\n" in app.run_ok("dlq", "list")
    one = app.run_ok("dlq", "show", "visit")
    put_on_dlq(app, "visit-2")
    for shown in (one, app.run_ok("dlq", "show", "visit")):
        assert f"  failed    {meaning}\n" in shown
        assert f"  advice    {advice}\n" in shown
    assert "  2 of class unknown\n" in app.run("status").out


def test_reasons_fit_one_message_and_several(app: App) -> None:
    """The reason why messages stay on the DLQ is worded correctly both for one message and for several."""
    dlq = app.queues()["visit"].dlq
    dlq.send("no JSON")
    assert "  unreadable: a retry alone does not help (class unreadable)\n" in app.run_ok(
        "dlq", "retry-all", "--as", "A"
    )
    dlq.send("no JSON either")
    dlq.send("nor this")
    output = app.run_ok("dlq", "retry-all", "--as", "A")
    assert "  left 2 messages: a retry alone does not help (class unreadable); see: " in output
    assert re.search(r"  left \S+  unreadable: housekeeping gave up: `dlq show` says what to do\n", output)


def test_list_counts_the_reasons_of_all_messages(app: App) -> None:
    """`dlq list` reads every message, so its counts by class and by reason add up to the number of messages.

    Messages with the same reason are listed together.
    """
    deliver_until_dead(app, *(f"gone-{number}" for number in range(13)))
    put_on_dlq(app, "died-1", "died-2")
    app.queues()["visit"].dlq.send("no json")
    (state, *_) = app.read_json("dlq", "list")
    assert (state["messagesOnDlq"], state["messagesRead"]) == (16, 16)
    assert state["classes"] == {"unrecoverable": 13, "unknown": 2, "unreadable": 1}
    assert [(each["messages"], each["class"]) for each in state["reasons"]] == [
        (13, "unrecoverable"),
        (2, "unknown"),
        (1, "unreadable"),
    ]
    assert state["reasons"][0]["reason"].startswith("visits: status 404")
    output = app.run_ok("dlq", "list")
    assert "unrecoverable 13, unknown 2, unreadable 1" in output
    assert "visit  13        unrecoverable  visits: status 404" in output
    assert "unreadable: the message is not valid. What to do: housekeeping gives up on the message." in output
    assert "read" not in output.partition("Next")[2]


def test_a_queue_that_takes_too_long_is_read_in_part(app: App) -> None:
    """If not all messages can be read in time, the output says how many were read and how many SQS reports."""
    put_on_dlq(app, *(f"visit-{number}" for number in range(12)))
    assert "visit: 10 of about 12 read" in app.run_ok("dlq", "list", "--seconds", "0")
    assert "visit: 10 of about 12 read" in app.run_ok("dlq", "show", "visit", "--seconds", "0")
    assert app.messages("visit") == 12


def test_messages_with_the_same_reason_are_shown_together(app: App) -> None:
    """`dlq show` shows messages with the same reason together, with their number, some ids and the advice.

    `--all` shows each message separately.
    """
    deliver_until_dead(app, *(f"gone-{number}" for number in range(5)))
    put_on_dlq(app, "died")
    grouped = app.run_ok("dlq", "show", "visit")
    assert f"5 messages  {BOOKED}  unrecoverable" in grouped
    assert grouped.count("DPS has no such record") == 1
    assert grouped.count("reference=gone-") == 3
    assert "and 2 more: prisoner-to-nomis dlq show visit --all" in grouped
    assert "about     prisonerId=A1234BC reference=died" in grouped
    each = app.run_ok("dlq", "show", "visit", "--all")
    assert each.count("DPS has no such record") == 5
    assert {f"reference=gone-{number}" in each for number in range(5)} == {True}
    assert "visit: 2 of about 6 read" in app.run_ok("dlq", "show", "visit", "--all", "--limit", "2")


def test_the_remark_about_a_single_message_is_in_the_singular(app: App) -> None:
    """If a single message has just been sent back, the remark about it is in the singular."""
    put_on_dlq(app, "visit-1")
    app.run_ok("dlq", "retry-all", "--as", "jane.smith")
    app.settings["HMPPS_SQS_ERROR_VISIBILITY_TIMEOUT"] = "1,10,60,600"
    output = app.run_ok("dlq", "list")
    assert "visit: 1 message was sent back at " in output
    assert "it may be on the main queue; if it fails, it comes back here." in output


def test_an_empty_queue_after_a_redrive_has_a_remark(app: App, sandbox: Sandbox) -> None:
    """If messages have just been sent back, `dlq list` and `dlq show` say how many there were, and when.

    They also say until when the messages may be on the main queue. After that time, the remark disappears.
    """
    put_on_dlq(app, "visit-1", "visit-2")
    assert "sent back at" not in app.run_ok("dlq", "list")
    app.run_ok("dlq", "retry-all", "--as", "jane.smith")
    app.settings["HMPPS_SQS_ERROR_VISIBILITY_TIMEOUT"] = "1,10,60,600"
    (state, other, *_) = app.read_json("dlq", "list")
    assert (state["messagesOnDlq"], state["sentBack"]["messages"], other["sentBack"]) == (0, 2, None)
    at, until = (datetime.fromisoformat(state["sentBack"][name]) for name in ("at", "until"))
    assert (until - at).total_seconds() == 11 + 120, (
        "the waits before two more attempts, and the time that an attempt takes"
    )
    for command in (("list",), ("show", "visit")):
        output = app.run_ok("dlq", *command)
        assert f"visit: 2 messages were sent back at {at:%H:%M:%S}. Until {until:%H:%M:%S} they may be" in output
    app.settings["HMPPS_SQS_ERROR_VISIBILITY_TIMEOUT"] = "0"
    with faulty(sandbox, "visits", "GET", "/visits/", kind="status", status=504):
        app.drain_out("visit")
    waits = app.run_ok("dlq", "show", "visit")
    assert "2 of them until" in waits
    with sqlite3.connect(app.database) as connection:
        connection.execute("UPDATE job_runs SET finished_at = '2023-05-22 09:00:00'")
    assert "sent back at" not in app.run_ok("dlq", "list")


def test_a_malformed_message_is_shown_with_its_reason(app: App) -> None:
    """A malformed message is shown as unreadable, with the reason and the advice to inform the publisher."""
    app.queues()["visit"].dlq.send("this is no JSON")
    (message,) = app.read_json("dlq", "show", "visit")
    assert (message["type"], message["class"], message["body"]) == ("unreadable", "unreadable", "this is no JSON")
    assert "not valid JSON" in message["problem"]
    assert "inform the publisher's team" in message["hint"]


def test_a_malformed_mapping_retry_is_not_purged(app: App) -> None:
    """A retry whose mapping cannot be read still counts as a mapping retry, so a purge of its queue is refused."""
    app.queues()["visit"].dlq.send('{"Type": "RETRY_CREATE_MAPPING", "Message": "{}"}')
    (message,) = app.read_json("dlq", "show", "visit")
    assert (message["type"], "has no mapping" in message["problem"]) == ("RETRY_CREATE_MAPPING", True)
    assert app.run("dlq", "purge", "visit", "--yes").code == 2


def test_a_failure_without_a_service_shows_only_step_and_reason(app: App) -> None:
    """If a message failed before any call to a service, `dlq show` names only the step and the reason."""
    app.queues()["visit"].main.send(write_domain_event(BOOKED, {}, "A1234BC", TIME))
    app.drain_out("visit")
    shown = app.run_ok("dlq", "show", "visit")
    assert "at read event: prison-visit.booked: additionalInformation.reference is missing" in shown


def test_the_beginning_of_an_id_names_a_message(app: App) -> None:
    """`dlq retry` and `dlq purge` accept the beginning of a message's id if no other id begins with it.

    A beginning that several ids share, or an empty one, is refused before anything happens.
    """
    put_on_dlq(app, *(f"visit-{number}" for number in range(17)))
    ids = sorted(each["messageId"] for each in app.read_json("dlq", "show", "visit"))
    first = next(each[0] for each in ids if sum(other[0] == each[0] for other in ids) > 1)
    for command in (("retry",), ("retry", "--dry-run"), ("purge", "--yes")):
        several = app.run("dlq", command[0], "visit", "--message", first, *command[1:])
        assert (several.code, f"message ids begin with {first}" in several.error) == (2, True)
        none = app.run("dlq", command[0], "visit", "--message", "", *command[1:])
        assert (none.code, "holds no message" in none.error) == (2, True)
    assert (app.messages("visit"), app.actions()) == (17, [])
    assert "1 of 17 messages sent back" in app.run_ok("dlq", "retry", "visit", "--message", ids[0][:20])
    output = app.run_ok("dlq", "purge", "visit", "--message", ids[1][:20], "--yes")
    assert "1 message removed" in output
    assert "15 other messages stay" in output
    assert "since the list was made" not in output
    assert app.messages("visit") == 15
    assert ids[1] not in {each["messageId"] for each in app.read_json("dlq", "show", "visit")}


def test_no_text_of_a_message_controls_the_terminal(app: App) -> None:
    """The types and ids of messages are printed without control characters. The JSON has the original texts."""
    evil = "\x1b]0;title\x07\x9b2J\u202eA1234BC\nforged"
    dlq = app.queues()["visit"].dlq
    dlq.send(write_domain_event("prison-visit.booked", {"reference": evil}, evil, "x"))
    dlq.send(write_domain_event(evil, {"reference": evil}, "A1234BC", "x"))
    commands = (("show", "visit"), ("list",), ("purge", "visit", "--dry-run"), ("retry", "visit", "--dry-run"))
    for command in commands:
        shown = app.run_ok("dlq", *command)
        assert all(each.isprintable() for each in shown.replace("\n", ""))
        assert not any(line.startswith("forged") for line in shown.splitlines())
    assert evil in {each["ids"].get("reference") for each in app.read_json("dlq", "show", "visit")}
