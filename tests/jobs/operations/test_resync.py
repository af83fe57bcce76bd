"""The `resync` command writes each record only once, despite other operators, messages and crashes."""

from __future__ import annotations

import pytest

from sandbox import Sandbox
from tests.harness.app import App
from tests.harness.commands import Terminal
from tests.harness.faults import faulty, held
from tests.harness.publishing import DpsEvent, adjustment_inserted, appointment_created, put_visit, visit_booked

POSTS = {"visit": "/prisoners/.*/visits", "adjustment": ".*/adjustments"}


def resync(kind: str, event: DpsEvent, who: str = "jane") -> list[str]:
    """The arguments with which the operator `who` resyncs the record of `event`."""
    return ["resync", kind, event.dps_id, "--yes", "--as", who]


def made(sandbox: Sandbox) -> tuple[int, int]:
    """The number of visits in NOMIS, and the number of mappings of visits."""
    return len(sandbox.nomis("visit")), len(sandbox.mappings("visits"))


def test_concurrent_resyncs_write_once(app: App, sandbox: Sandbox) -> None:
    """While NOMIS handles one operator's resync, another operator's resync of the same record writes nothing."""
    event = visit_booked(sandbox)
    with held(sandbox, "nomis", "POST", POSTS["visit"]) as hold:
        first = app.start(*resync("visit", event))
        hold.wait_for_request()
        second = app.run(*resync("visit", event, "joe"))
        hold.release()
        assert first.wait() == 0
    assert (second.code, made(sandbox)) == (1, (1, 1))
    assert [action["who"] for action in app.read_json("actions")] == ["jane"]


@pytest.mark.parametrize("mapped", [False, True], ids=["create", "update"])
def test_a_resync_by_another_operator_is_not_repeated(app: App, sandbox: Sandbox, mapped: bool) -> None:
    """A resync is planned again after the confirmation, so it does not repeat another operator's resync."""
    event = visit_booked(sandbox)
    if mapped:
        event.publish()
        app.drain("visit")

    def another() -> None:
        app.run_ok(*resync("visit", event, "joe"))

    late = app.run("resync", "visit", event.dps_id, "--as", "jane", answer=Terminal("y\n", another))
    assert (late.code, "changed before you confirmed" in late.error) == (1, True)
    assert made(sandbox) == (1, 1)
    assert len(sandbox.journal("nomis")) == (2 if mapped else 1)
    assert [action["who"] for action in app.read_json("actions")] == ["joe"]


def test_an_event_during_a_resync_creates_no_second_record(app: App, sandbox: Sandbox) -> None:
    """An event that is published during the resync of its record waits until the resync releases the record's lease.

    When the event is handled later, it creates no second record.
    """
    event = visit_booked(sandbox)
    with held(sandbox, "nomis", "POST", POSTS["visit"]) as hold:
        first = app.start(*resync("visit", event))
        hold.wait_for_request()
        drain = app.start("drain", "visit", "--until-empty")
        event.publish()
        hold.release()
        assert (first.wait(), drain.wait()) == (0, 0)
    app.drain_out("visit")
    assert made(sandbox) == (1, 1)


def test_the_next_resync_saves_a_mapping_that_a_crash_lost(app: App, sandbox: Sandbox) -> None:
    """If a resync crashes before it saves its mapping, the next resync saves the mapping and creates nothing."""
    event = visit_booked(sandbox)
    with held(sandbox, "mapping", "POST", kind="timeout_before_write") as hold:
        crashed = app.start(*resync("visit", event))
        hold.wait_for_request()
        crashed.kill()
    assert made(sandbox) == (1, 0)
    assert "create: NOMIS already has the record, so only its mapping is saved" in app.run_ok(*resync("visit", event))
    assert made(sandbox) == (1, 1)


@pytest.mark.parametrize("kind", ["visit", "adjustment"])
def test_the_next_resync_maps_a_record_created_during_a_crash(app: App, sandbox: Sandbox, kind: str) -> None:
    """After a crash during the create, a resync is refused while the request may still be under way.

    A later resync maps the record that NOMIS created.
    """
    event = visit_booked(sandbox) if kind == "visit" else adjustment_inserted(sandbox)
    with held(sandbox, "nomis", "POST", POSTS[kind], kind="timeout_after_write") as hold:
        crashed = app.start(*resync(kind, event))
        hold.wait_for_request()
        crashed.kill()
        early = app.run(*resync(kind, event))
        assert (early.code, "may still be under way in NOMIS: wait" in early.error) == (1, True)
    app.let_creates_end()
    app.run_ok(*resync(kind, event))
    assert len(sandbox.nomis(kind)) == 1
    assert len(sandbox.mappings(f"{kind}s")) == 1
    assert [action["state"] for action in app.read_json("actions")] == ["done", "started"]


def test_lost_response_is_an_unknown_outcome(app: App, sandbox: Sandbox) -> None:
    """If the response to a create is lost, the outcome of the resync is recorded as unknown.

    The next resync finds the record in NOMIS and maps it.
    """
    event = visit_booked(sandbox)
    with faulty(sandbox, "nomis", "POST", kind="reset_after_write", times=1):
        assert app.run(*resync("visit", event)).code == 1
    app.let_creates_end()
    app.run_ok(*resync("visit", event))
    assert [action["state"] for action in app.read_json("actions")] == ["done", "unknown"]
    assert made(sandbox) == (1, 1)


def test_a_mapping_that_cannot_be_saved_is_retried(app: App, sandbox: Sandbox) -> None:
    """If a resync cannot save the mapping of its record, a mapping retry saves it later, as after an event."""
    event = visit_booked(sandbox)
    with faulty(sandbox, "mapping", "POST", kind="status", status=503):
        output = app.run_ok(*resync("visit", event))
    assert "its mapping could not be saved" in output
    assert made(sandbox) == (1, 0)
    app.drain_out("visit")
    assert made(sandbox) == (1, 1)


def test_a_refusal_by_nomis_is_recorded(app: App, sandbox: Sandbox) -> None:
    """If NOMIS refuses a resync, the error quotes the reason, and the action is recorded as refused.

    The failure of the create is also tracked as a telemetry event. Once the data is corrected, the resync succeeds.
    """
    event = visit_booked(sandbox)
    put_visit(sandbox, event.dps_id, person_ids=[999_999_999])
    refused = app.run(*resync("visit", event))
    assert (refused.code, "does not exist" in refused.error) == (1, True)
    assert [action["state"] for action in app.read_json("actions")] == ["refused"]
    assert len(app.telemetry("visit-create-failed")) == 1
    put_visit(sandbox, event.dps_id)
    app.run_ok(*resync("visit", event))
    assert made(sandbox) == (1, 1)


def test_a_partial_resync_has_an_unknown_outcome(app: App, sandbox: Sandbox) -> None:
    """If a resync creates a cancelled appointment but fails to cancel it, the outcome of the resync is unknown.

    The next resync only cancels the appointment.
    """
    event = appointment_created(sandbox)
    sandbox.put("appointment", id=int(event.dps_id), cancelled=True)
    with faulty(sandbox, "nomis", "PUT", kind="status", status=400):
        failed = app.run(*resync("appointment", event))
    assert (failed.code, "created was handled, but the next event failed" in failed.error) == (1, True)
    assert [each["status"] for each in sandbox.nomis("appointment")] == ["SCH"]
    app.run_ok(*resync("appointment", event))
    assert [each["status"] for each in sandbox.nomis("appointment")] == ["CANC"]
    assert [action["state"] for action in app.read_json("actions")] == ["done", "unknown"]
