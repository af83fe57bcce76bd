"""The runbook on dead letter queues, outages of the mapping service and emergency switches."""

import json
from pathlib import Path

from sandbox import Sandbox
from tests.harness.app import App
from tests.harness.faults import faulty
from tests.harness.publishing import appointment_created, review_inserted, visit_booked
from tests.harness.waiting import until


def test_the_housekeeping_retries_a_recoverable_failure(app: App, sandbox: Sandbox) -> None:
    """A message that fails while a service is down becomes a dead letter. `dlq show` shows the cause.

    The message succeeds after the next redrive.
    """
    event = visit_booked(sandbox)
    event.publish()
    with faulty(sandbox, "visits", "GET", "/visits/", kind="status", status=504):
        for _ in range(3):
            app.drain("visit")
        assert app.drain("visit")["received"] == 0
    (state, *_) = app.read_json("dlq", "list")
    assert (state["queue"], state["messagesOnDlq"], state["types"]) == ("visit", 1, {"prison-visit.booked": 1})
    assert state["oldest"]
    (message,) = app.read_json("dlq", "show", "visit")
    assert (message["class"], message["attempts"], message["returns"]) == ("recoverable", 3, 0)
    assert message["ids"]["reference"] == event.dps_id
    error = message["lastError"]
    assert (error["step"], error["service"], error["status"]) == ("read visit", "visits", 504)
    assert "leave the message" in message["hint"]
    app.run_ok("dlq", "retry-all")
    assert app.drain("visit")["applied"] == 1
    assert len(sandbox.nomis("visit")) == 1
    found = {"dlq-name": "hmpps_prisoner_to_nomis_visit_dlq", "messages-found": "1", "messages-retried": "1"}
    assert app.telemetry("RetryDLQ") == [found]
    (run,) = [run for run in app.read_json("runs", "list") if run["job"] == "dlq-housekeeping"]
    assert (run["status"], run["counts"]["retried"]) == ("success", 1)


def test_unrecoverable_failure_is_exported_and_purged(app: App, sandbox: Sandbox, tmp_path: Path) -> None:
    """`dlq show` says why a message can never succeed.

    If the operator confirms, `dlq purge` writes the message to a file and removes it from the queue.
    """
    sandbox.publish("prison-visit.booked", {"reference": "rolled-back"}, "A1234BC")
    app.drain_out("visit")
    shown = app.run_ok("dlq", "show", "visit")
    assert "DPS has no such record" in shown
    assert "unrecoverable" in shown
    assert "0 of 1 message sent back" in app.run_ok("dlq", "retry", "visit", "--recoverable")
    refused = app.run("dlq", "purge", "visit", answer="n\n")
    assert (refused.code, app.messages("visit")) == (1, 1)
    export = tmp_path / "noted.json"
    app.run_ok("dlq", "purge", "visit", "--export", str(export), "--yes")
    assert app.messages("visit") == 0
    (noted,) = json.loads(export.read_text())
    assert (noted["type"], noted["ids"]["reference"]) == ("prison-visit.booked", "rolled-back")
    assert app.telemetry("PurgeQueue") == [{"queue-name": "hmpps_prisoner_to_nomis_visit_dlq", "messages-found": "1"}]


def test_appointment_in_a_cell_is_refused_with_advice(app: App, sandbox: Sandbox) -> None:
    """If NOMIS refuses an appointment because it is in a cell, the dead letter is unrecoverable.

    The advice is to inform the prison.
    """
    appointment_created(sandbox, in_cell=True).publish()
    app.drain_out("appointment")
    (message,) = app.read_json("dlq", "show", "appointment")
    assert message["class"] == "unrecoverable"
    assert "in a cell: inform the prison" in message["hint"]


def test_mapping_retries_survive_a_purge(app: App, sandbox: Sandbox) -> None:
    """`dlq purge` refuses to remove a mapping retry.

    Once the mapping service is back, the retry saves the mapping of the record that NOMIS already has.
    """
    event = visit_booked(sandbox)
    event.publish()
    with faulty(sandbox, "mapping", "POST", kind="status", status=400, body={"status": 400, "userMessage": "broken"}):
        app.drain_out("visit")
    (message,) = app.read_json("dlq", "show", "visit")
    assert (message["type"], message["ids"]["vsipId"]) == ("RETRY_CREATE_MAPPING", event.dps_id)
    refused = app.run("dlq", "purge", "visit", "--yes")
    assert (refused.code, "holds 1 mapping retry" in refused.error, app.messages("visit")) == (2, True, 1)
    app.run_ok("dlq", "retry", "visit")
    assert app.drain("visit")["applied"] == 1
    assert [mapping["vsipId"] for mapping in sandbox.mappings("visits")] == [event.dps_id]
    assert len(sandbox.nomis("visit")) == 1


def test_mapping_retries_are_purged_only_with_the_option(app: App, sandbox: Sandbox) -> None:
    """With `--include-retries`, `dlq purge` exports and removes mapping retries too."""
    visit_booked(sandbox).publish()
    with faulty(sandbox, "mapping", "POST", kind="status", status=400):
        app.drain_out("visit")
    output = app.run_ok("dlq", "purge", "visit", "--include-retries", "--yes")
    assert app.messages("visit") == 0
    (export,) = (app.folder / "reports" / "dlq").glob("visit-*.json")
    assert str(export) in output
    assert json.loads(export.read_text())[0]["type"] == "RETRY_CREATE_MAPPING"


def test_event_type_is_switched_off(app: App, sandbox: Sandbox) -> None:
    """While the switch of an event type is off, events of this type are acknowledged and lost.

    Once the switch is on again, new events are handled.
    """
    visit_booked(sandbox).publish()
    assert app.drain("visit", FEATURE_EVENT_PRISON_VISIT_BOOKED="false")["switched_off"] == 1
    assert sandbox.nomis("visit") == []
    visit_booked(sandbox).publish()
    assert app.drain("visit")["applied"] == 1


def test_messages_wait_while_the_client_lacks_its_role(app: App, sandbox: Sandbox) -> None:
    """Messages stay on their queue while the client lacks a required role, and are handled once the role is granted."""
    review_inserted(sandbox).publish()
    sandbox.grant("nomis", ["NOMIS_VISITS"])
    for _ in range(4):
        assert app.drain("incentive")["failed"] == 0
    assert {each["status"] for each in app.telemetry("message-failed")} == {"403"}
    assert app.read_json("dlq", "show", "incentive") == []
    sandbox.grant("nomis", ["NOMIS_VISITS", "NOMIS_INCENTIVES", "NOMIS_ACTIVITIES"])
    until(lambda: app.drain("incentive")["applied"], "the message comes again")
    assert sandbox.verify()["problems"] == []
