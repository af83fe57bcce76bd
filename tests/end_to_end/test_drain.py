"""The `drain` command: its effect on NOMIS, its output, and its record in the ledger and the telemetry."""

import re
import signal
import sqlite3
from collections.abc import Callable
from datetime import timedelta

from benchmarks.forked_command import ForkedCommand
from sandbox import Sandbox
from sync.clock import now
from sync.settings.queues import QUEUES
from tests.harness.app import App
from tests.harness.faults import faulty, held
from tests.harness.publishing import schedule_created, visit_booked
from tests.harness.terminals import on_terminal
from tests.harness.waiting import LONGEST_SECONDS, until

#: A body as NOMIS sends it. Without its status it would count as the response of a gateway.
REFUSAL = {"status": 400, "userMessage": "No room"}
#: What tries a waiting message again; the command follows.
BY = "by a scheduler or with:"


def test_drain_brings_everything_to_nomis_and_is_in_the_ledger(installed: App, sandbox: Sandbox) -> None:
    """Events on all queues reach NOMIS exactly once, and the summary and the ledger agree.

    The run can be repeated, and its telemetry events are listed in chronological order and can be filtered by name.
    """
    installed.make_queues()
    planned = sandbox.traffic(events=40, seed=3)
    drained = installed.run_as_installed("drain", "--until-empty", "--json")
    assert drained.code == 0, drained.err
    printed = drained.json()
    assert printed["received"] == planned["messages"]
    assert {name: each["received"] for name, each in printed["queues"].items()} == {
        **dict.fromkeys(printed["queues"], 0),
        **planned["by_queue"],
    }
    assert sandbox.verify()["problems"] == []

    shown = installed.run("runs", "show", printed["run"], "--json").json()
    assert (shown["job"], shown["trigger"], shown["status"]) == ("drain", "manual", "success")
    assert shown["counts"]["received"] == planned["messages"]
    assert shown["parameters"]["untilEmpty"] is True

    again = installed.run("runs", "rerun", printed["run"])
    assert again.code == 0
    assert again.out.startswith(f"drained {', '.join(QUEUES)}: nothing received")
    newest = installed.run("runs", "list", "--json", "--limit", "1").json()[0]
    assert (newest["trigger"], newest["rerunOf"], newest["parameters"]) == (
        "rerun",
        printed["run"],
        shown["parameters"],
    )

    events = installed.run("telemetry", "--json").lines()
    assert all(set(event) == {"name", "time", "properties"} for event in events)
    assert [event["time"] for event in events] == sorted(event["time"] for event in events)
    booked = installed.run("telemetry", "--json", "--name", "visit-create-success", "--since", "1h").lines()
    assert booked == [event for event in events if event["name"] == "visit-create-success"]
    assert booked != []


def test_sigterm_after_the_last_event_is_not_a_failure(
    installed: App, sandbox: Sandbox, running: Callable[..., ForkedCommand]
) -> None:
    """If SIGTERM arrives when only an alert remains to be sent, the alert is sent and the ledger records a success."""
    installed.make_queues()
    schedule_created(sandbox).publish()
    with faulty(sandbox, "nomis", "POST", kind="reset", times=1):
        lost = installed.run("drain", "activity")
        assert lost.code == 0
        assert "creations list" not in lost.err
    queue = installed.main_queue("activity")
    until(lambda: queue.counts().visible, "the message that waited for its service")
    with held(sandbox, "slack", path="/api/chat.postMessage") as alert:
        process = running("drain", "activity")
        alert.wait_for_request()
        process.send_signal(signal.SIGTERM)
    assert process.wait(LONGEST_SECONDS) == 0
    assert len(sandbox.slack()["messages"]) == 1
    newest = installed.run("runs", "list", "--json", "--limit", "1").json()[0]
    assert (newest["status"], newest["counts"]["ambiguous"]) == ("success", 1)


def test_a_handler_that_hangs_does_not_hold_the_process(
    installed: App, sandbox: Sandbox, running: Callable[..., ForkedCommand]
) -> None:
    """If a call is still running at the end of the grace period after SIGTERM, the process ends anyway.

    The message that the call was made for returns to the queue.
    """
    installed.make_queues()
    visit_booked(sandbox).publish()
    with held(sandbox, "nomis", "POST") as create:
        process = running("drain", "visit", DRAIN_GRACE_SECONDS="0.1", API_TIMEOUT_SECONDS="600")
        create.wait_for_request()
        process.send_signal(signal.SIGTERM)
        assert process.wait(LONGEST_SECONDS) == 0
        assert installed.main_queue("visit").counts().visible == 1
    newest = installed.run("runs", "list", "--json", "--limit", "1").json()[0]
    assert (newest["status"], newest["counts"]["deferred"]) == ("success", 1)


def test_failed_message_does_not_fail_the_command(installed: App, sandbox: Sandbox) -> None:
    """A message that fails is counted as failed, but the drain still succeeds."""
    installed.make_queues()
    sandbox.traffic(events=3, queues=["appointment"], vanished=1)
    drained = installed.run("drain", "appointment", "--json")
    assert drained.code == 0
    assert (drained.json()["received"], drained.json()["failed"]) == (4, 1)


def test_service_that_is_down_fails_the_command_and_loses_nothing(installed: App, sandbox: Sandbox) -> None:
    """While NOMIS is down, the drain returns its messages to the queue and exits 1.

    Once NOMIS is up, all of them are applied.
    """
    installed.make_queues()
    sandbox.traffic(events=30, queues=["visit"])
    sandbox.fault("nomis", kind="status", status=503)
    drained = installed.run_process("drain", "visit", "--json", "--wait-seconds", "0.5")
    assert drained.code == 1
    assert "visit: nomis counts as down, so the messages wait on the queue" in drained.error
    assert drained.json()["applied"] == 0
    checked = installed.run("check")
    assert checked.code == 1
    assert re.search(
        r"nomis has counted as down since \d\d \w+ \d\d:\d\d, so the messages wait on their queues", checked.out
    )
    # Nothing is received now, and the result has the time that the drain waited.
    again = installed.run("drain", "visit", "--json", "--wait-seconds", "0.5").json()
    assert (again["received"], again["seconds"] >= 0.5, again["queues"]["visit"]["seconds"] >= 0.5) == (0, True, True)
    sandbox.clear_faults()
    # The outcome of a create that was sent when NOMIS went down is unknown until the longest possible call has ended.
    installed.let_creates_end()

    def all_applied() -> bool:
        # The messages that failed during the outage are hidden on the queue for some seconds.
        assert installed.run("drain", "visit", "--until-empty").code == 0
        return not sandbox.verify()["problems"]

    until(all_applied, "every visit in NOMIS")


def test_an_outage_is_named_once_for_all_queues(installed: App, sandbox: Sandbox) -> None:
    """If the outage of one service stops the drain of several queues, the command says so once and names the queues."""
    installed.make_queues()
    sandbox.traffic(events=20, queues=["visit", "appointment"])
    with faulty(sandbox, "nomis", kind="status", status=503):
        # The breaker opens for both queues, whichever of them has the failing calls.
        drained = installed.run("drain", "visit", "appointment", "--until-empty", "--wait-seconds", "0.5")
    assert drained.code == 1
    assert drained.errors[-1] == (
        "prisoner-to-nomis: visit, appointment: nomis counts as down, so the messages wait on the queue"
    )
    received, deferred = _numbers(drained.out, r"received (\d+) messages in \d+ batch.*: deferred (\d+); ")
    assert received == deferred
    waits = f"wait on their queues; they are tried again after the outage, {BY}"
    assert f"{received} messages {waits} prisoner-to-nomis drain visit appointment" in drained.errors


def test_max_batches_ends_the_drain(installed: App, sandbox: Sandbox) -> None:
    """`--max-batches` limits the number of micro-batches, and the remaining messages stay on the queue."""
    installed.make_queues()
    sandbox.traffic(events=40, queues=["visit"])
    drained = installed.run("drain", "visit", "--max-batches", "2", "--json", DRAIN_BATCH_SIZE="10").json()
    assert (drained["received"], drained["batches"], drained["onQueue"]) == (20, 2, 20)
    third = installed.run("drain", "visit", "--max-batches", "1", DRAIN_BATCH_SIZE="10")
    again = f"10 messages wait on the queue; they can be tried again now, {BY} prisoner-to-nomis drain visit"
    assert again in third.err


def test_refused_credentials_name_the_settings(installed: App, sandbox: Sandbox) -> None:
    """If credentials are refused, the messages wait, and the lines below the counts name the settings to correct."""
    installed.make_queues()
    sandbox.traffic(events=3, queues=["visit"])
    reason = "hmpps-auth: status 401: no token for the client of nomis; set SYSTEM_CLIENT_ID and SYSTEM_CLIENT_SECRET"
    drained = installed.run("drain", "visit", SYSTEM_CLIENT_SECRET="wrong")
    assert drained.code == 0
    shown = installed.run("runs", "list", "--json", "--limit", "1").json()[0]
    counts = shown["counts"]
    assert (counts["failed"], counts["deferred"]) == (0, 3)
    assert "received 3 messages in 1 batch: deferred 3; " in drained.out
    tried = counts["reasons"][reason]
    assert counts["reasons"] == {reason: tried}
    some = "" if tried == 3 else f", {tried} of them"
    assert drained.errors == [
        f"3 messages deferred{some} after a failed call: {reason}",
        f"3 messages wait on the queue; they are tried again in 2 s, {BY} prisoner-to-nomis drain visit",
    ]
    assert f"{tried} × {reason}" in installed.run("runs", "show", shown["id"]).out


def _numbers(text: str, pattern: str) -> list[int]:
    """The numbers in the groups of `pattern`, which must match within `text`."""
    found = re.search(pattern, text)
    assert found is not None, text
    return [int(each) for each in found.groups()]


def test_a_terminal_shows_that_the_drain_waits(installed: App, sandbox: Sandbox) -> None:
    """On a terminal, while the drain waits for a service, one line says so for all queues together.

    Once the service is up, the drain continues. Without a terminal, or with `--json`, the line is not printed.
    """
    installed.make_queues()
    sandbox.traffic(events=20, queues=["visit", "appointment"])
    drain = ("drain", "visit", "appointment", "--wait-seconds")
    line = "waiting up to {} s: nomis counts as down"
    with faulty(sandbox, "nomis", kind="status", status=503):
        for piped in (installed.run(*drain, "0.5"), installed.run(*drain, "0.5", "--json")):
            assert "waiting up to" not in piped.err
        with on_terminal(installed, *drain, "0.5", "--json") as as_json:
            assert (as_json.wait(), "waiting up to" in as_json.shown) == (1, False)
    with faulty(sandbox, "nomis", kind="status", status=503), on_terminal(installed, *drain, "60") as command:
        until(lambda: line.format(60) in command.shown, "the line that says that the drain waits")
        sandbox.clear_faults()
        assert command.wait() == 0, command.shown
    assert command.shown.count(line.format(60)) == 1
    assert "receiving-" not in command.shown
    assert "drained visit, appointment: " in command.shown.partition(line.format(60))[2]


def test_the_result_says_what_happens_to_the_messages(installed: App, sandbox: Sandbox) -> None:
    """Each message counts once, by its last delivery. Its error, and when it is tried again, follow the counts.

    A creation that is published again counts as already created. The list of runs counts each delivery separately.
    """
    installed.make_queues()
    first, refused = visit_booked(sandbox), visit_booked(sandbox)
    first.publish()
    installed.drain("visit")
    for event in (first, refused):
        event.publish()
    waits = {"HMPPS_SQS_ERROR_VISIBILITY_TIMEOUT": "0,30"}
    with faulty(sandbox, "nomis", "POST", "/visits$", kind="status", status=400, body=REFUSAL):
        drained = installed.run("drain", "visit", "--until-empty", **waits)
    reason = "nomis: status 400: No room"
    assert drained.out.startswith("drained visit: received 2 messages in ")
    assert ": already created 1, failed 1; " in drained.out
    failed, next_attempt = drained.errors
    assert failed == f"1 message failed: {reason}"
    (seconds,) = _numbers(
        next_attempt, r"^1 message waits on the queue; it is tried again in (\d+) s, by a scheduler or with: "
    )
    assert 25 <= seconds <= 30
    assert next_attempt.endswith("prisoner-to-nomis drain visit")
    run = installed.run("runs", "list", "--limit", "1")
    assert "already created 1, failed 2" in run.out, "`runs` counts deliveries"


def test_a_message_that_succeeds_in_the_end_counts_as_applied(installed: App, sandbox: Sandbox) -> None:
    """If a message fails once and is applied later in the same drain, the result does not list the failure."""
    installed.make_queues()
    visit_booked(sandbox).publish()
    with faulty(sandbox, "nomis", "POST", "/visits$", kind="status", status=400, body=REFUSAL, times=1):
        drained = installed.run("drain", "visit", "--until-empty", HMPPS_SQS_ERROR_VISIBILITY_TIMEOUT="0")
    assert re.search(r"received 1 message in 2 batches: applied 1; ", drained.out)
    assert drained.errors == []


def test_a_drain_says_which_messages_of_earlier_drains_wait(installed: App, sandbox: Sandbox) -> None:
    """A drain that receives nothing still says when messages from an earlier drain are tried again."""
    installed.make_queues()
    visit_booked(sandbox).publish()
    with faulty(sandbox, "nomis", "POST", kind="status", status=503):
        installed.run("drain", "visit")
    with sqlite3.connect(installed.database) as connection:
        late = (now() + timedelta(seconds=300)).replace(tzinfo=None).isoformat(" ")
        connection.execute("UPDATE waiting_messages SET next_attempt_at = ?", (late,))
    drained = installed.run("drain", "incentive", "visit")
    assert "nothing received" in drained.out
    (seconds,) = _numbers(
        drained.error, r"^1 message waits on the queue; it is tried again in (\d) min \d+ s, by a scheduler or with: "
    )
    assert seconds in (4, 5)
    assert installed.run("drain", "incentive").errors == []


def test_a_drain_counts_messages_that_failed_in_earlier_drains(installed: App, sandbox: Sandbox) -> None:
    """A drain that receives nothing counts the failed messages of an earlier drain, which are hidden for a while."""
    installed.make_queues()
    for _ in range(3):
        visit_booked(sandbox).publish()
    hidden = {"HMPPS_SQS_ERROR_VISIBILITY_TIMEOUT": "60"}
    with faulty(sandbox, "nomis", "POST", "/visits$", kind="status", status=400, body=REFUSAL):
        installed.run("drain", "visit", **hidden)
    drained = installed.run("drain", "visit", **hidden)
    assert "nothing received" in drained.out
    waits = f"3 messages wait on the queue; they are tried again later, {BY} prisoner-to-nomis drain visit"
    assert drained.errors == [waits]
    assert installed.run("drain", "visit", "--json", **hidden).json()["onQueue"] == 3


def test_the_last_attempt_of_a_message_is_announced(installed: App, sandbox: Sandbox) -> None:
    """If the last attempt of a message fails, the output says when it becomes a dead letter, and how to show it."""
    installed.make_queues()
    visit_booked(sandbox).publish()
    with faulty(sandbox, "nomis", "POST", "/visits$", kind="status", status=400, body=REFUSAL):
        drained = installed.run("drain", "visit", "--until-empty", HMPPS_SQS_ERROR_VISIBILITY_TIMEOUT="0,0,60")
    (seconds,) = _numbers(
        drained.errors[-1],
        r"^1 message has used up its attempts; the next drain in (\d+) s or later moves it to the dead letter queue; ",
    )
    assert 55 <= seconds <= 60
    assert drained.errors[-1].endswith("; then see: prisoner-to-nomis dlq show visit")
    visit_booked(sandbox).publish()
    with faulty(sandbox, "nomis", "POST", "/visits$", kind="status", status=400, body=REFUSAL):
        at_once = installed.run("drain", "visit", "--until-empty", HMPPS_SQS_ERROR_VISIBILITY_TIMEOUT="0")
    moved = "the next drain moves it to the dead letter queue, unless this one has already done so; then see: "
    assert f"1 message has used up its attempts; {moved}prisoner-to-nomis dlq show visit" in at_once.errors
