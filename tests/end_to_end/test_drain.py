"""The `drain` command: its effect on NOMIS, its output, and its record in the ledger and the telemetry."""

import signal
from collections.abc import Callable

from benchmarks.forked_command import ForkedCommand
from reports.presentation.text import count
from sandbox import Sandbox
from sync.settings.queues import QUEUES
from tests.harness.app import App
from tests.harness.faults import faulty, held
from tests.harness.publishing import schedule_created, visit_booked
from tests.harness.waiting import LONGEST_SECONDS, until


def test_drain_brings_everything_to_nomis_and_is_in_the_ledger(installed: App, sandbox: Sandbox) -> None:
    """Events on all queues reach NOMIS exactly once, and the summary and the ledger agree.

    The run can be repeated, and its telemetry events are listed in order of time and can be filtered by name.
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
    """If a call is still running at the end of the grace period after SIGTERM, the process ends.

    The message of the call returns to the queue.
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
    assert "visit: nomis is unavailable, or calls to it fail, so the messages wait on the queue" in drained.error
    assert drained.json()["applied"] == 0
    checked = installed.run("check")
    assert checked.code == 1
    assert "down: nomis since" in checked.out
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
        "prisoner-to-nomis: visit, appointment: nomis is unavailable, or calls to it fail, "
        "so the messages wait on the queue"
    )


def test_max_batches_ends_the_drain(installed: App, sandbox: Sandbox) -> None:
    """`--max-batches` limits the number of micro-batches, and the remaining messages stay on the queue."""
    installed.make_queues()
    sandbox.traffic(events=30, queues=["visit"])
    drained = installed.run("drain", "visit", "--max-batches", "2", "--json", DRAIN_BATCH_SIZE="10").json()
    assert (drained["received"], drained["batches"]) == (20, 2)


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
    assert "deferred 3" in drained.out
    tried = counts["reasons"][reason]
    assert counts["reasons"] == {reason: tried}
    failed, *deferred = drained.errors
    assert failed.endswith(f" with {count(tried, 'failed attempt')}: {reason}")
    assert deferred == [
        f"3 messages deferred: {reason}",
        "deferred messages are tried again; see: prisoner-to-nomis status",
    ]
    assert f"{tried} × {reason}" in installed.run("runs", "show", shown["id"]).out
