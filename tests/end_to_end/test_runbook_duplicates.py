"""The runbook on duplicates: a planted duplicate causes an alert and is resolved, and NOMIS is correct afterwards."""

import re

from sandbox import Sandbox
from sync.domains.appointments.rules import MAPPINGS as APPOINTMENT_MAPPINGS
from sync.settings.queues import QUEUES
from tests.harness.app import App, open_application
from tests.harness.commands import Terminal
from tests.harness.duplicates import resolve
from tests.harness.faults import faulty
from tests.harness.publishing import (
    DpsEvent,
    adjustment_inserted,
    appointment_created,
    review_inserted,
    schedule_created,
    visit_booked,
)
from tests.harness.sandboxes import Caller

LOOK_UPS = {
    "visit": "/mapping/visits/vsipId/",
    "incentive": "/mapping/incentives/incentive-id/",
    "activity": "/mapping/activities/activity-schedule-id/",
    "appointment": "/mapping/appointments/appointment-instance-id/",
    "sentencing": "/mapping/sentencing/adjustments/adjustment-id/",
}


def test_no_domain_is_left_out() -> None:
    """The table of this module has a row for each queue."""
    assert tuple(LOOK_UPS) == QUEUES


def plant(app: App, event: DpsEvent) -> int:
    """Creates a record twice, as two independent installations would. Returns the number of the resulting finding."""
    event.publish()
    app.drain(event.queue)
    app.use_new_database("second")
    event.publish()
    with faulty(app.sandbox, "mapping", "GET", LOOK_UPS[event.queue], kind="status", status=404, times=1):
        assert app.drain(event.queue)["duplicate"] == 1
    (finding,) = app.read_json("duplicates", "list")
    return int(finding["id"])


def test_duplicate_visit_is_cancelled(app: App, sandbox: Sandbox) -> None:
    """Of two NOMIS visits for the same DPS visit, `duplicates resolve` cancels the unmapped one with the outcome ADMIN.

    It reads the visit again to verify the cancellation, and records the action.
    """
    event = visit_booked(sandbox)
    finding = plant(app, event)
    (alert,) = app.alerts()
    assert "To NOMIS synchronisation duplicate visit detected in Production" in alert
    assert f"prisoner-to-nomis duplicates show {finding}" in alert
    assert f"NOMIS has two records of visit {event.dps_id} of prisoner {event.prisoner_id} at " in alert
    assert "A sentenced prisoner loses a visit in the week of the duplicate" in alert
    first, second = sorted(each["id"] for each in sandbox.nomis("visit"))
    shown = app.read_json("duplicates", "show", str(finding))
    assert (shown["verdict"], shown["severity"], shown["obstacles"]) == ("surplus", "serious", [])
    assert (shown["surplusNomisId"], shown["mappedNomisId"]) == (str(second), str(first))
    assert shown["surplus"] == shown["mapped"]
    assert f"visit {second} is one too many. A sentenced prisoner loses a visit" in shown["text"]
    (listed,) = app.read_json("duplicates", "list")
    assert listed["offenderNo"] == event.prisoner_id
    assert f"{finding}   {event.prisoner_id}   visit" in app.run_ok("duplicates", "list")
    resolve_it = f"Next: prisoner-to-nomis duplicates resolve {finding} --dry-run"
    assert app.run_ok("duplicates", "show", str(finding)).splitlines()[-1] == resolve_it
    assert re.search(r"done and verified: cancel visit \d+ with the outcome ADMIN\b", resolve(app, finding))
    assert "Next: " not in app.run_ok("duplicates", "show", str(finding))
    states = {each["id"]: (each["status"], each["outcome"]) for each in sandbox.nomis("visit")}
    assert states == {first: ("SCH", None), second: ("CANC", "ADMIN")}
    ((action, target, outcome),) = app.actions()
    assert (action, target) == ("duplicates resolve", f"visit {second}")
    assert outcome.startswith("done and verified")
    (closed,) = app.read_json("duplicates", "list", "--all")
    assert closed["status"] == "resolved"
    assert closed["resolvedBy"]
    again = app.run("duplicates", "resolve", str(finding), "--yes")
    assert (again.code, "already resolved" in again.error) == (2, True)


def test_a_duplicate_visit_that_is_already_cancelled_is_only_recorded(app: App, sandbox: Sandbox) -> None:
    """If somebody has already cancelled the duplicate visit, `duplicates resolve` only closes the finding."""
    finding = plant(app, visit_booked(sandbox))
    visit = max(sandbox.nomis("visit"), key=lambda each: int(each["id"]))
    path = f"/prisoners/{visit['offender_no']}/visits/{visit['id']}/cancel"
    operator_call(app, path)
    shown = app.run_ok("duplicates", "show", str(finding))
    assert re.search(r"^to do +close the finding, without a change in NOMIS: visit", shown, re.MULTILINE)
    resolve(app, finding)
    assert sorted(each["status"] for each in sandbox.nomis("visit")) == ["CANC", "SCH"]


def operator_call(app: App, path: str) -> None:
    """Cancels a visit as another user."""
    response = Caller(app.sandbox).call("nomis", "PUT", path, json={"outcome": "VISCANC"})
    assert response.status_code == 200


def test_duplicate_adjustment_is_deleted(app: App, sandbox: Sandbox) -> None:
    """Of two NOMIS adjustments for the same DPS adjustment, `duplicates resolve` deletes the unmapped one."""
    finding = plant(app, adjustment_inserted(sandbox))
    assert "duplicate sentencing adjustment detected" in app.alerts()[0]
    first, second = sorted(each["id"] for each in sandbox.nomis("adjustment"))
    assert f"delete adjustment {second} KEY-DATE" in resolve(app, finding)
    assert [each["id"] for each in sandbox.nomis("adjustment")] == [first]


def change_adjustment(app: App, number: int, days: int) -> None:
    """Changes a key-date adjustment as another user."""
    body = {
        "adjustmentTypeCode": "ADA",
        "adjustmentDate": "2023-05-20",
        "adjustmentFromDate": "2023-05-20",
        "adjustmentDays": days,
        "comment": None,
        "active": True,
    }
    response = Caller(app.sandbox).call("nomis", "PUT", f"/key-date-adjustments/{number}", json=body)
    assert response.status_code == 200


def test_adjustment_that_is_not_a_proven_duplicate_stays(app: App, sandbox: Sandbox) -> None:
    """If two adjustments differ in the number of days, the unmapped one is deleted only with `--although-different`."""
    finding = str(plant(app, adjustment_inserted(sandbox)))
    first, second = sorted(each["id"] for each in sandbox.nomis("adjustment"))
    change_adjustment(app, second, 7)
    shown = app.read_json("duplicates", "show", finding)
    assert shown["unproved"] == ["the two records differ in days (7 and 14)"]
    assert shown["proposal"].startswith(f"compare both records, since adjustment {second} KEY-DATE is not proved to be")
    assert "--although-different" in shown["proposal"]
    refused = app.run("duplicates", "resolve", finding, "--yes")
    assert (refused.code, "differ in days (7 and 14)" in refused.error) == (1, True)
    assert "--although-different" in refused.error
    assert [each["id"] for each in sandbox.nomis("adjustment")] == [first, second]
    assert app.actions() == []
    output = app.run_ok("duplicates", "resolve", finding, "--although-different", answer="y\n")
    assert "Although the two records differ in days (7 and 14), this will delete adjustment" in output
    assert [each["id"] for each in sandbox.nomis("adjustment")] == [first]
    (action,) = app.actions()
    assert action[2].endswith("although the two records differ in days (7 and 14)")


def test_adjustment_that_changes_before_the_confirmation_stays(app: App, sandbox: Sandbox) -> None:
    """After the confirmation, both records are compared again.

    An adjustment that has changed in the meantime is not deleted.
    """
    finding = str(plant(app, adjustment_inserted(sandbox)))
    both = sorted(each["id"] for each in sandbox.nomis("adjustment"))

    slow = Terminal("y\n", before=lambda: change_adjustment(app, both[1], 7))
    refused = app.run("duplicates", "resolve", finding, answer=slow)
    assert (refused.code, "differ in days (7 and 14)" in refused.error) == (1, True)
    assert sorted(each["id"] for each in sandbox.nomis("adjustment")) == both


def test_duplicate_appointment_is_deleted(app: App, sandbox: Sandbox) -> None:
    """Of two NOMIS appointments for the same DPS appointment, `duplicates resolve` deletes the unmapped one.

    Unlike the replaced service, the program sends an alert about the duplicate.
    """
    finding = plant(app, appointment_created(sandbox))
    assert "duplicate appointment detected" in app.alerts()[0]
    (listed,) = app.read_json("duplicates", "list")
    assert "offenderNo" not in listed["properties"]
    assert re.fullmatch(r"[A-Z]\d{4}[A-Z]{2}", listed["offenderNo"]), "the prisoner number is read from NOMIS"
    first, second = sorted(each["event_id"] for each in sandbox.nomis("appointment"))
    assert f"delete appointment {second}" in resolve(app, finding)
    assert [each["event_id"] for each in sandbox.nomis("appointment")] == [first]


def test_duplicate_activity_is_deleted_although_the_service_says_400(app: App, sandbox: Sandbox) -> None:
    """A second course is recognised as a duplicate, although the mapping service responds with 400.

    `duplicates resolve` deletes the unmapped course.
    """
    finding = plant(app, schedule_created(sandbox))
    assert "duplicate activity detected" in app.alerts()[0]
    first, second = sorted(each["id"] for each in sandbox.nomis("course"))
    assert f"course activity {second}" in resolve(app, finding)
    assert [each["id"] for each in sandbox.nomis("course")] == [first]


def test_duplicate_incentive_with_the_same_level_needs_no_change(app: App, sandbox: Sandbox) -> None:
    """Two incentive records with the same level do no harm, so `duplicates resolve` changes nothing in NOMIS.

    `duplicates show` gives the text of a request to the support team.
    """
    event = review_inserted(sandbox)
    finding = plant(app, event)
    shown = app.read_json("duplicates", "show", str(finding))
    assert shown["severity"] == "low"
    assert shown["proposal"].startswith(
        "close the finding, without a change in NOMIS: both records have the same level"
    )
    assert "they do no harm" in shown["proposal"]
    booking, sequence = shown["surplusNomisId"].split()
    assert f"delete the IEP record with sequence {sequence} of prisoner" in shown["supportRequest"]
    assert f"booking {booking}" in shown["supportRequest"]
    before = sandbox.nomis("incentive")
    resolve(app, finding)
    assert sandbox.nomis("incentive") == before


def test_duplicate_incentive_with_another_level_stays_open(app: App, sandbox: Sandbox) -> None:
    """If the levels of two incentive records differ, the finding stays open until a person closes it.

    No service can delete an IEP record.
    """
    finding = plant(app, review_inserted(sandbox))
    booking, sequence = app.read_json("duplicates", "show", str(finding))["surplusNomisId"].split()
    sandbox.delete_nomis_incentive(int(booking), int(sequence))
    prison = sandbox.prisoners()[0]["prisonId"]
    body = {"iepLevel": "ENH", "iepDateTime": "2023-05-22T10:14:31", "prisonId": prison}
    path = f"/prisoners/booking-id/{booking}/incentives"
    assert Caller(sandbox).call("nomis", "POST", path, json={**body, "userId": None}).status_code == 201
    shown = app.read_json("duplicates", "show", str(finding))
    assert (shown["surplus"]["level"], shown["mapped"]["level"]) == ("ENH", "BAS")
    assert "the records differ in level" in shown["proposal"]
    refused = app.run("duplicates", "resolve", str(finding), "--yes")
    assert (refused.code, "--by-hand" in refused.error) == (1, True)
    assert [each["id"] for each in app.read_json("duplicates", "list")] == [finding]
    app.run_ok("duplicates", "resolve", str(finding), "--by-hand", "deleted by the support team", "--yes")
    assert app.read_json("duplicates", "list") == []


def test_mapped_records_are_never_deleted(app: App, sandbox: Sandbox) -> None:
    """If both NOMIS records of a finding are mapped, they count as unrelated. `duplicates resolve` deletes neither."""
    finding = plant(app, appointment_created(sandbox))
    second = max(each["event_id"] for each in sandbox.nomis("appointment"))
    body = {"appointmentInstanceId": 999_999, "nomisEventId": second}
    assert Caller(sandbox).call("mapping", "POST", "/mapping/appointments", json=body).status_code == 201
    refused = app.run("duplicates", "resolve", str(finding), "--yes")
    assert (refused.code, f"appointment {second} is mapped to 999999" in refused.error) == (1, True)
    assert "close the finding with --by-hand" in refused.error
    shown = app.read_json("duplicates", "show", str(finding))
    assert (shown["verdict"], shown["surplus"]["bookingId"]) == ("unrelated", shown["mapped"]["bookingId"])
    assert len(sandbox.nomis("appointment")) == 2
    assert app.actions() == []


def test_two_claims_are_left_to_a_person(app: App, sandbox: Sandbox) -> None:
    """If two DPS records claim one NOMIS record, nothing is deleted. A person can close the finding with a note."""
    event = visit_booked(sandbox)
    event.publish()
    app.drain("visit")
    (visit,) = sandbox.nomis("visit")
    mapping = {"nomisId": str(visit["id"]), "vsipId": "another-visit", "label": None, "mappingType": "ONLINE"}
    from sync.events.envelope import write_mapping_retry

    app.queues()["visit"].main.send(write_mapping_retry(mapping, {"visitId": "another-visit"}))
    assert app.drain("visit")["duplicate"] == 1
    (finding,) = app.read_json("duplicates", "list")
    shown = app.read_json("duplicates", "show", str(finding["id"]))
    assert (shown["verdict"], shown["mappedDpsId"]) == ("two claims", event.dps_id)
    assert shown["meaning"].startswith("two DPS records claim one NOMIS record: delete nothing in NOMIS and ")
    assert shown["proposal"].startswith("delete nothing in NOMIS and investigate. If the existing mapping is ")
    refused = app.run("duplicates", "resolve", str(finding["id"]), "--yes")
    assert (refused.code, "investigate" in refused.error) == (1, True)
    app.run_ok("duplicates", "resolve", str(finding["id"]), "--by-hand", "DPS merged the two visits", "--yes")
    assert app.actions()[-1][2] == "closed by hand: DPS merged the two visits"


def test_a_mapping_from_before_a_refresh_can_be_replaced(app: App, sandbox: Sandbox) -> None:
    """After a data refresh, NOMIS may assign an id again.

    If the old mapping of the id is deleted and the event of the new record is published again, the new mapping is
    saved. No record is created.
    """
    first, event = appointment_created(sandbox), appointment_created(sandbox)
    first.publish()
    app.drain("appointment")
    (known,) = sandbox.mappings("appointments")
    stale = {"appointmentInstanceId": 1, "nomisEventId": int(known["nomisEventId"]) + 1}
    with open_application(app.settings, app.settings["DATABASE_URL"]) as application:
        application.services.mapping.call("POST", "/mapping/appointments", body=stale)
    event.publish()
    assert app.drain("appointment")["duplicate"] == 1
    (finding,) = app.read_json("duplicates", "list")
    shown = app.read_json("duplicates", "show", str(finding["id"]))
    assert (shown["verdict"], shown["mappedDpsId"]) == ("two claims", "1")
    assert "published again, which saves the refused mapping" in shown["meaning"]
    with open_application(app.settings, app.settings["DATABASE_URL"]) as application:
        APPOINTMENT_MAPPINGS.delete(application.services.mapping, 1)
    shown = app.read_json("duplicates", "show", str(finding["id"]))
    assert "event published again, which saves the refused mapping" in shown["meaning"]
    made_before = len(sandbox.nomis("appointment"))
    event.publish()
    assert app.drain("appointment")["failed"] == 0
    assert len(sandbox.nomis("appointment")) == made_before == 2
    assert event.dps_id in {str(each["appointmentInstanceId"]) for each in sandbox.mappings("appointments")}
    app.run_ok("duplicates", "resolve", str(finding["id"]), "--yes")
    assert app.read_json("duplicates", "list") == []


def test_a_duplicate_that_another_operator_resolved_is_left(app: App, sandbox: Sandbox) -> None:
    """If another operator resolves the finding before the confirmation, `duplicates resolve` deletes nothing.

    It records no action either.
    """
    finding = str(plant(app, appointment_created(sandbox)))
    before = len(sandbox.journal("nomis"))

    def another_resolves() -> None:
        app.run_ok("duplicates", "resolve", finding, "--yes", "--as", "joe")

    late = app.run("duplicates", "resolve", finding, "--as", "jane", answer=Terminal("y\n", another_resolves))
    assert (late.code, "was resolved by joe before you confirmed" in late.error) == (1, True)
    assert len(sandbox.journal("nomis")) == before + 1
    assert [each["who"] for each in app.read_json("actions")] == ["joe"]


def test_a_deletion_that_could_not_be_verified_is_unknown(app: App, sandbox: Sandbox) -> None:
    """If a deletion cannot be verified, the finding stays open.

    The outcome of the deletion is recorded as unknown, not as failed.
    """
    finding = str(plant(app, appointment_created(sandbox)))
    before = len(sandbox.nomis("appointment"))
    with faulty(sandbox, "nomis", "GET", "/appointments/{id}", kind="status", status=500, skip=4):
        done = app.run("duplicates", "resolve", finding, "--yes")
    assert (done.code, len(sandbox.nomis("appointment"))) == (1, before - 1)
    (action,) = app.read_json("actions")
    assert (action["state"], "was sent, but its effect is not verified" in action["outcome"]) == ("unknown", True)
    assert "nothing done: NOMIS has no appointment" in app.run_ok("duplicates", "resolve", finding, "--yes")
