"""The runbook on resyncs: the command writes the current DPS state of one record to NOMIS and verifies it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from sandbox import Sandbox
from sandbox.population.people import FIRST_PERSON
from sync.domains.registry import DOMAINS, resync_kinds
from tests.harness.app import App
from tests.harness.faults import faulty
from tests.harness.publishing import (
    DpsEvent,
    adjustment_inserted,
    allocated,
    appointment_created,
    attended,
    person,
    schedule_created,
    visit_booked,
)
from tests.harness.sandboxes import Caller

Make = Callable[[Sandbox], DpsEvent]

#: The kinds with separate mappings, each with the DPS event that creates a record, its NOMIS name, and the domain of
#: its mappings.
MAPPED: dict[str, tuple[Make, str, str]] = {
    "visit": (visit_booked, "visit", "visits"),
    "activity": (schedule_created, "course", "activities"),
    "appointment": (appointment_created, "appointment", "appointments"),
    "adjustment": (adjustment_inserted, "adjustment", "adjustments"),
}
#: For each kind, a change in DPS, and the field of the NOMIS record that shows it, with its new value.
CHANGES: dict[str, tuple[dict[str, object], str, object]] = {
    "visit": ({"start": "2023-06-02T14:30:00"}, "start", "2023-06-02T14:30:00"),
    "activity": ({"capacity": 7}, "capacity", 7),
    "appointment": ({"start": "09:15"}, "start", "09:15:00"),
    "adjustment": ({"days": 21}, "days", 21),
}
#: For each kind, the telemetry event of the replaced service, and its property with the DPS id.
TRACKED = {
    "visit": ("to-nomis-synch-visit-resynchronisation-repair", "visitId"),
    "adjustment": ("to-nomis-synch-adjustment-repair", "adjustmentId"),
    "allocation": ("activity-allocation-requested", "dpsAllocationId"),
    "attendance": ("activity-attendance-requested", "dpsAttendanceId"),
}


def change(sandbox: Sandbox, kind: str, event: DpsEvent, values: dict[str, object]) -> None:
    """Changes the DPS record without publishing an event."""
    entity, key = ("schedule", "id") if kind == "activity" else (kind, "reference" if kind == "visit" else "id")
    dps_id: object = int(event.dps_id) if event.dps_id.isdigit() else event.dps_id
    sandbox.put(entity, **{key: dps_id}, **values)


def in_step(app: App, kind: str) -> DpsEvent:
    """Creates a record in DPS and handles its event, so that NOMIS has the record too. Returns the event."""
    event = MAPPED[kind][0](app.sandbox)
    event.publish()
    assert app.drain(event.queue)["applied"] == 1
    return event


def writes(sandbox: Sandbox) -> int:
    """The number of writes that NOMIS has received."""
    return len(sandbox.journal("nomis"))


def test_no_kind_is_left_out() -> None:
    """Each kind is in a table of this module, and `CHANGES` has a row for each kind with separate mappings."""
    assert {*MAPPED, *TRACKED} == set(resync_kinds())
    assert CHANGES.keys() == MAPPED.keys()


@pytest.mark.parametrize("kind", MAPPED)
def test_record_without_mapping_is_created_once(app: App, sandbox: Sandbox, kind: str) -> None:
    """If the event of a record was lost, a resync creates the record in NOMIS, maps it and reads it again if possible.

    If the event arrives after all, it changes nothing.
    """
    make, noun, domain = MAPPED[kind]
    event = make(sandbox)
    output = app.run_ok("resync", kind, event.dps_id, "--yes", "--as", "jane")
    assert "create: it is " in output
    readable = resync_kinds()[kind][1].readable
    checked = (
        "NOMIS agrees with DPS" if readable else "it is mapped; only the reconciliation shows whether NOMIS agrees"
    )
    assert output.endswith(f"read again: {checked}\n")
    assert ("cannot be read individually" in output) != readable
    ((made,), (mapping,)) = sandbox.nomis(noun), sandbox.mappings(domain)
    assert f"in NOMIS as {DOMAINS[domain].repair.noun} {made.get('event_id', made.get('id'))}" in output
    assert made.get("event_id", made.get("id")) in mapping.values()
    (action,) = app.read_json("actions")
    assert (action["who"], action["action"], action["target"]) == ("jane", "resync", f"{kind} {event.dps_id}")
    assert (action["state"], action["details"]["left"]) == ("done", [])
    event.publish()
    assert app.drain(event.queue)["duplicate"] == 1
    assert len(sandbox.nomis(noun)) == 1


@pytest.mark.parametrize("kind", MAPPED)
def test_mapped_record_is_updated(app: App, sandbox: Sandbox, kind: str) -> None:
    """If a change in DPS had no event, a resync writes it to the existing NOMIS record, and adds no record."""
    event, (values, field, expected) = in_step(app, kind), CHANGES[kind]
    change(sandbox, kind, event, values)
    output = app.run_ok("resync", kind, event.dps_id, "--yes")
    assert "updated in NOMIS" in output
    (made,) = sandbox.nomis(MAPPED[kind][1])
    assert made[field] == expected


@pytest.mark.parametrize("kind", TRACKED)
def test_resyncs_track_the_events_of_the_replaced_service(app: App, sandbox: Sandbox, kind: str) -> None:
    """A resync tracks the same telemetry event as the replaced service, with the DPS id of the record."""
    event = in_step(app, kind) if kind in MAPPED else row(app, kind)
    app.run_ok("resync", kind, event.dps_id, "--yes")
    name, field = TRACKED[kind]
    (tracked,) = app.telemetry(name)
    assert tracked[field] == event.dps_id
    if kind in MAPPED:
        assert tracked["offenderNo"] == person(sandbox).offender_no


def row(app: App, kind: str) -> DpsEvent:
    """An unsent event about an allocation to a mapped schedule, or about an attendance whose allocation is in NOMIS."""
    schedule = in_step(app, "activity")
    allocation = allocated(app.sandbox, schedule)
    if kind == "allocation":
        return allocation
    allocation.publish()
    assert app.drain("activity")["applied"] == 1
    return attended(app.sandbox, schedule)


def test_a_resync_writes_and_ends_an_allocation(app: App, sandbox: Sandbox) -> None:
    """A resync writes a new allocation to NOMIS, and another resync ends it there after it has ended in DPS.

    NOMIS has no route that reads allocations, so the command shows "create or update" and the id from NOMIS.
    """
    event = row(app, "allocation")
    output = app.run_ok("resync", "allocation", event.dps_id, "--yes")
    (made,) = sandbox.nomis("allocation")
    assert "effect     create or update: it is ACTIVE in DPS" in output
    assert f"written to NOMIS (nomisAllocationId={made['id']})" in output
    change(sandbox, "allocation", event, {"status": "ENDED", "end": "2023-06-30"})
    app.run_ok("resync", "allocation", event.dps_id, "--yes")
    (ended,) = sandbox.nomis("allocation")
    assert (ended["id"], ended["end"], ended["end_reason"]) == (made["id"], "2023-06-30", "PRG_END")
    assert len(app.telemetry("activity-allocation-success")) == 2


def test_attendance_is_created_and_updated(app: App, sandbox: Sandbox) -> None:
    """Before it writes an attendance, `resync` checks whether NOMIS has it.

    The command says "create" or "update" accordingly.
    """
    event = row(app, "attendance")
    created = app.read_json("resync", "attendance", event.dps_id, "--yes")
    change(sandbox, "attendance", event, {"status": "COMPLETED", "reason": "ATTENDED", "issue_payment": True})
    updated = app.read_json("resync", "attendance", event.dps_id, "--yes")
    assert (created["effect"], created["nomis"], created["verified"]) == ("create", None, True)
    assert (updated["effect"], updated["nomis"], updated["verified"]) == ("update", {"status": "SCH"}, True)
    (made,) = sandbox.nomis("attendance")
    assert (made["status"], made["outcome"], made["paid"]) == ("COMP", "ATT", True)
    assert len(app.telemetry("activity-attendance-create-success")) == 1
    assert len(app.telemetry("activity-attendance-update-success")) == 1


def test_a_paid_attendance_is_refused(app: App, sandbox: Sandbox) -> None:
    """If NOMIS refuses to change a paid attendance, `resync` exits 1 and quotes NOMIS.

    It says that nothing is left to synchronise.
    """
    event = row(app, "attendance")
    output = app.run_ok("resync", "attendance", event.dps_id, "--yes")
    assert "read again: its status is correct; NOMIS shows neither its outcome nor its pay" in output
    (made,) = sandbox.nomis("attendance")
    sandbox.control("POST", f"/nomis/paid/{made['event_id']}")
    change(sandbox, "attendance", event, {"status": "COMPLETED", "reason": "REFUSED"})
    refused = app.run("resync", "attendance", event.dps_id, "--yes")
    assert (refused.code, "paid" in refused.error) == (1, True)
    assert "nothing is left to synchronise" in refused.error
    assert app.read_json("actions")[0]["state"] == "refused"


@pytest.mark.parametrize("kind", ["allocation", "attendance"])
def test_an_allocation_or_attendance_without_its_course_is_not_written(app: App, sandbox: Sandbox, kind: str) -> None:
    """If NOMIS lacks the course of an allocation or attendance, `resync` writes nothing.

    It names the command that writes the course.
    """
    schedule = schedule_created(sandbox)
    allocation = allocated(sandbox, schedule)
    event = allocation if kind == "allocation" else attended(sandbox, schedule)
    refused = app.run("resync", kind, event.dps_id, "--yes")
    assert (refused.code, f"run `resync activity {schedule.dps_id}` first" in refused.error) == (1, True)
    app.run_ok("resync", "activity", schedule.dps_id, "--yes")
    app.run_ok("resync", "allocation", allocation.dps_id, "--yes")
    app.run_ok("resync", kind, event.dps_id, "--yes")
    assert len(sandbox.nomis(kind)) == 1


CANCELLED: dict[str, tuple[dict[str, object], str]] = {
    "visit": ({"status": "CANCELLED", "outcome": "VISITOR_CANCELLED"}, "visit-cancelled-success"),
    "appointment": ({"cancelled": True}, "appointment-cancel-success"),
}


@pytest.mark.parametrize("kind", CANCELLED)
def test_a_visit_cancelled_in_dps_is_cancelled_in_nomis(app: App, sandbox: Sandbox, kind: str) -> None:
    """If the event of a cancellation was lost, a resync cancels the visit or appointment in NOMIS.

    A second resync does nothing.
    """
    event, (values, telemetry) = in_step(app, kind), CANCELLED[kind]
    change(sandbox, kind, event, values)
    output = app.run_ok("resync", kind, event.dps_id, "--yes")
    (made,) = sandbox.nomis(kind)
    assert (made["status"], "cancel: it is cancelled in DPS" in output) == ("CANC", True)
    assert len(app.telemetry(telemetry)) == 1
    before = writes(sandbox)
    assert "nothing: it is cancelled on both sides" in app.run_ok("resync", kind, event.dps_id, "--yes")
    assert (writes(sandbox), len(app.actions())) == (before, 1)


def test_the_restriction_of_a_visit_is_compared_too(app: App, sandbox: Sandbox) -> None:
    """A resync writes a changed visit restriction to NOMIS, where the visit's room shows the restriction."""
    event = in_step(app, "visit")
    change(sandbox, "visit", event, {"restriction": "CLOSED"})
    differences = app.read_json("resync", "visit", event.dps_id, "--dry-run")["differences"]
    assert differences == ["restriction OPEN in NOMIS, CLOSED in DPS"]
    assert app.read_json("resync", "visit", event.dps_id, "--yes")["verified"]
    assert app.read_json("resync", "visit", event.dps_id, "--dry-run")["differences"] == []


def test_an_id_is_the_same_however_it_is_written(app: App, sandbox: Sandbox) -> None:
    """DPS also accepts an id in capitals or with leading zeros. Such an id does not lead to a second record."""
    event = in_step(app, "adjustment")
    assert app.read_json("resync", "adjustment", event.dps_id.upper(), "--yes")["id"] == event.dps_id
    assert len(sandbox.nomis("adjustment")) == 1
    appointment = in_step(app, "appointment")
    assert app.read_json("resync", "appointment", f"00{appointment.dps_id}", "--yes")["id"] == appointment.dps_id


def test_a_cancelled_visit_is_never_created(app: App, sandbox: Sandbox) -> None:
    """A visit that was cancelled in DPS before it reached NOMIS is not written to NOMIS."""
    event = visit_booked(sandbox)
    change(sandbox, "visit", event, {"status": "CANCELLED"})
    assert "nothing: it is cancelled and not mapped to a NOMIS visit" in app.run_ok("resync", "visit", event.dps_id)
    assert sandbox.nomis("visit") == []


def test_cancelled_appointment_without_mapping_is_written_as_cancelled(app: App, sandbox: Sandbox) -> None:
    """If a cancelled appointment has no mapping, a resync creates it in NOMIS as a cancelled appointment.

    NOMIS and DPS both list cancelled appointments.
    """
    event = appointment_created(sandbox)
    change(sandbox, "appointment", event, {"cancelled": True})
    app.run_ok("resync", "appointment", event.dps_id, "--yes")
    (made,) = sandbox.nomis("appointment")
    assert (made["status"], len(sandbox.mappings("appointments"))) == ("CANC", 1)


@pytest.mark.parametrize("kind", CANCELLED)
def test_a_visit_cancelled_only_in_nomis_needs_the_prison(app: App, sandbox: Sandbox, kind: str) -> None:
    """If a visit or appointment is cancelled only in NOMIS, `resync` writes nothing and says what to do.

    No event can reinstate it.
    """
    event = in_step(app, kind)
    (made,) = sandbox.nomis(kind)
    if kind == "visit":
        path = f"/prisoners/{event.prisoner_id}/visits/{made['id']}/cancel"
        Caller(sandbox).call("nomis", "PUT", path, {"outcome": "ADMIN"}).raise_for_status()
    else:
        Caller(sandbox).call("nomis", "PUT", f"/appointments/{made['event_id']}/cancel").raise_for_status()
    before = writes(sandbox)
    refused = app.run("resync", kind, event.dps_id, "--yes")
    assert (refused.code, "it cannot be scheduled again" in refused.error) == (1, True)
    assert writes(sandbox) == before


@pytest.mark.parametrize("kind", ["appointment", "adjustment"])
def test_a_record_deleted_in_dps_is_deleted_after_confirmation(app: App, sandbox: Sandbox, kind: str) -> None:
    """If a record is deleted in DPS, a confirmed resync deletes the NOMIS record and its mapping."""
    event = in_step(app, kind)
    sandbox.drop(kind, event.dps_id)
    no = app.run("resync", kind, event.dps_id, answer="n\n")
    assert (no.code, len(sandbox.nomis(kind)), f"This will delete {kind} {event.dps_id}" in no.out) == (1, 1, True)
    assert "delete: it has been deleted in DPS" in app.run_ok("resync", kind, event.dps_id, answer="y\n")
    assert (sandbox.nomis(kind), sandbox.mappings(MAPPED[kind][2])) == ([], [])
    event.publish()
    app.drain_out(event.queue)
    assert sandbox.nomis(kind) == []


@pytest.mark.parametrize("kind", ["visit", "activity"])
def test_a_record_deleted_in_dps_without_an_event_still_differs(app: App, sandbox: Sandbox, kind: str) -> None:
    """If a visit or activity is deleted in DPS, it stays in NOMIS, since no event deletes it there.

    `resync` exits 1, because the systems still differ.
    """
    event = in_step(app, kind)
    sandbox.drop("schedule" if kind == "activity" else kind, event.dps_id)
    gone = app.run("resync", kind, event.dps_id, "--yes")
    assert (gone.code, "stays in NOMIS" in gone.error) == (1, True)
    assert len(sandbox.nomis(MAPPED[kind][1])) == 1


@pytest.mark.parametrize("kind", ["visit", "activity", "allocation", "attendance", "appointment", "adjustment"])
def test_an_unknown_record_is_refused(app: App, sandbox: Sandbox, kind: str) -> None:
    """For an unknown id, `resync` exits 1 and says that nothing was written. It records no action."""
    unknown = "b1b9c9d0-0000-4000-8000-999999999999" if kind == "adjustment" else "999999"
    missing = app.run("resync", kind, unknown, "--yes")
    assert (missing.code, "nothing was written: " in missing.error) == (1, True)
    assert (writes(sandbox), app.actions()) == (0, [])


@pytest.mark.parametrize("kind", ["appointment", "adjustment"])
def test_record_that_nomis_lost_is_created_again(app: App, sandbox: Sandbox, kind: str) -> None:
    """If NOMIS no longer has the mapped record, a resync deletes the mapping and creates the record again."""
    event = in_step(app, kind)
    (made,) = sandbox.nomis(kind)
    path = f"/appointments/{made['event_id']}" if kind == "appointment" else f"/key-date-adjustments/{made['id']}"
    Caller(sandbox).call("nomis", "DELETE", path).raise_for_status()
    (stale,) = sandbox.mappings(MAPPED[kind][2])
    assert "which NOMIS does not have" in app.run_ok("resync", kind, event.dps_id, "--yes")
    (fresh,) = sandbox.mappings(MAPPED[kind][2])
    assert fresh != stale
    assert len(sandbox.nomis(kind)) == 1


@pytest.mark.parametrize("kind", ["visit", "appointment"])
def test_record_that_another_program_created_is_mapped(app: App, sandbox: Sandbox, kind: str) -> None:
    """If another process died between the create and the mapping, `resync` finds the record in NOMIS and maps it."""
    make, noun, domain = MAPPED[kind]
    event = make(sandbox)
    event.publish()
    with faulty(sandbox, "mapping", "POST", kind="reset"):
        app.drain(event.queue)
    app.queues()[event.queue].main.delete(app.queues()[event.queue].main.receive())
    (made,) = sandbox.nomis(noun)
    app.use_new_database("second")
    app.run_ok("resync", kind, event.dps_id, "--yes")
    assert sandbox.nomis(noun) == [made]
    assert len(sandbox.mappings(domain)) == 1


def test_adjustment_that_nomis_may_have_is_asked_about_twice(app: App, sandbox: Sandbox) -> None:
    """If NOMIS has an unmapped adjustment like the one in DPS, `resync` asks twice before it creates another.

    The two have the same type and number of days, and may be the same adjustment.
    """
    event, who = adjustment_inserted(sandbox), person(sandbox)
    body = {"adjustmentTypeCode": "ADA", "adjustmentDate": "2023-05-01", "adjustmentFromDate": "2023-05-01"}
    path = f"/prisoners/booking-id/{who.booking_id}/adjustments"
    Caller(sandbox).call("nomis", "POST", path, {**body, "adjustmentDays": 14, "active": True}).raise_for_status()
    command = ["resync", "adjustment", event.dps_id, "--yes"]
    for more in ([], ["--dry-run"], ["--json"]):
        unsure = app.run(*command, *more)
        assert (unsure.code, "add --unchecked" in unsure.error) == (2, True)
    assert app.run("resync", "adjustment", event.dps_id, answer="y\nn\n").code == 1
    assert sandbox.mappings("adjustments") == []
    app.run_ok(*command, "--unchecked")
    assert (len(sandbox.nomis("adjustment")), len(sandbox.mappings("adjustments"))) == (2, 1)


def test_services_of_2023_are_enough_for_a_resync(app: App, sandbox: Sandbox) -> None:
    """A resync works with the 2023 services.

    They cannot list the adjustments in NOMIS, so `resync` asks twice before it creates an adjustment.
    """
    sandbox.reset(generation="2023")
    app.forget_queues()
    app.make_queues()
    for kind in MAPPED:
        sure = ["--unchecked"] if kind == "adjustment" else []
        event = MAPPED[kind][0](sandbox)
        app.run_ok("resync", kind, event.dps_id, "--yes", *sure)
        change(sandbox, kind, event, CHANGES[kind][0])
        app.run_ok("resync", kind, event.dps_id, "--yes")
        if kind in CANCELLED:
            change(sandbox, kind, event, CANCELLED[kind][0])
            app.run_ok("resync", kind, event.dps_id, "--yes")
            assert [each["status"] for each in sandbox.nomis(kind)] == ["CANC"]


def test_a_difference_after_the_write_is_a_failure(app: App, sandbox: Sandbox) -> None:
    """If the sides still differ after the write, for example in a visit's prison, `resync` says so and exits 1."""
    event = in_step(app, "visit")
    other = next(each["prisonId"] for each in sandbox.prisoners() if each["prisonId"] != person(sandbox).prison_id)
    change(sandbox, "visit", event, {"prison_id": other})
    ended = app.run("resync", "visit", event.dps_id, "--yes")
    assert (ended.code, f"{other} in DPS" in ended.error) == (1, True)
    (action,) = app.read_json("actions")
    assert (action["state"], len(action["details"]["left"])) == ("done", 1)


def test_visitors_are_read_again_too(app: App, sandbox: Sandbox) -> None:
    """A resync compares the visitors of a visit on both sides, and writes the DPS visitors to NOMIS."""
    event, visitors = in_step(app, "visit"), [FIRST_PERSON, FIRST_PERSON + 1]
    change(sandbox, "visit", event, {"person_ids": visitors})
    output = app.run_ok("resync", "visit", event.dps_id, "--yes")
    assert f"visitors none in NOMIS, {visitors[0]}, {visitors[1]} in DPS" in output
    assert [each["person_ids"] for each in sandbox.nomis("visit")] == [visitors]


def test_a_dry_run_shows_the_effect(app: App, sandbox: Sandbox) -> None:
    """A dry run of `resync` shows both sides, their differences, the effect and the events.

    It writes and records nothing.
    """
    event = in_step(app, "visit")
    change(sandbox, "visit", event, {"end": "2023-06-02T15:30:00"})
    before = writes(sandbox)
    output = app.run_ok("resync", "visit", event.dps_id, "--dry-run")
    assert "end 2023-06-02T15:00:00 in NOMIS, 2023-06-02T15:30:00 in DPS" in output
    assert "dry run: nothing was changed" in output
    shown: dict[str, Any] = app.read_json("resync", "visit", event.dps_id, "--dry-run")
    (made,) = sandbox.nomis("visit")
    assert (shown["effect"], shown["events"], shown["mappedTo"]) == (
        "update",
        ["prison-visit.changed"],
        [str(made["id"])],
    )
    assert shown["dps"]["end"] == "2023-06-02T15:30:00"
    assert "outcome" not in shown
    assert (writes(sandbox), app.actions()) == (before, [])
