"""The runbook on creations with an unknown outcome: the alerts, a person's search and two ways to settle a creation."""

import re
from dataclasses import replace
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from sandbox import Sandbox
from sync.clock import now
from sync.settings.queues import QUEUES
from tests.harness.app import App
from tests.harness.commands import Ended, Terminal
from tests.harness.faults import faulty, held
from tests.harness.publishing import (
    DpsEvent,
    adjustment_inserted,
    appointment_created,
    person,
    put_visit,
    review_inserted,
    schedule_created,
    visit_booked,
)
from tests.harness.sandboxes import Caller
from tests.harness.waiting import until

LONDON = ZoneInfo("Europe/London")
MAKERS = {
    "visit": visit_booked,
    "incentive": review_inserted,
    "activity": schedule_created,
    "appointment": appointment_created,
    "sentencing": adjustment_inserted,
}
NUMBERS = {
    "visit": ("visit", "id"),
    "incentive": ("incentive", "sequence"),
    "activity": ("course", "id"),
    "appointment": ("appointment", "event_id"),
    "sentencing": ("adjustment", "id"),
}
#: NOMIS has no route that reads courses, so the command cannot check their numbers.
SURE = {queue: ("--unchecked",) if queue == "activity" else () for queue in MAKERS}


def test_no_domain_is_left_out() -> None:
    """The tables of this module have a row for each queue."""
    assert tuple(MAKERS) == tuple(NUMBERS) == QUEUES


def lose(app: App, event: DpsEvent, *, applied: bool) -> None:
    """Sends a create whose response is lost. `applied` says whether NOMIS applies the create."""
    event.publish()
    with faulty(app.sandbox, "nomis", "POST", kind="reset_after_write" if applied else "reset", times=1):
        app.drain(event.queue)


def _drained_ambiguous(app: App) -> Ended | None:
    drained = app.run("drain", "activity")
    return drained if " unknown outcome 1;" in drained.out else None


def ambiguous(app: App) -> dict[str, object]:
    """Delivers the message again, which does not settle the creation.

    Returns the creation as `creations list` shows it. Checks that `drain` names the command that lists the creation.
    """
    drained = until(lambda: _drained_ambiguous(app), "the message whose create had no response")
    assert drained.errors[-1] == "1 creation has an unknown outcome; see: prisoner-to-nomis creations list"
    (creation,) = app.read_json("creations", "list")
    assert creation["state"] == "ambiguous"
    return dict(creation)


def test_record_that_a_person_found_is_mapped(app: App, sandbox: Sandbox) -> None:
    """If the response to a create is lost, one alert says which command to type.

    Once a person has found the course, the command maps it, and the course is never created again.
    """
    event = schedule_created(sandbox)
    lose(app, event, applied=True)
    creation = ambiguous(app)
    settle = ("creations", "settle", str(creation["id"]))
    (alert,) = app.alerts()
    assert "Nobody can tell whether NOMIS has a new activity in Production" in alert
    assert " ".join(settle) in alert
    assert f"NOMIS did not respond to the request to create activity {event.dps_id}" in alert
    assert "severity serious" in alert
    assert f"a course activity with code {event.dps_id}" in app.run_ok(*settle)
    shown = app.read_json("creations", "show", str(creation["id"]))
    assert (shown["id"], shown["mappedTo"], len(shown["sql"])) == (creation["id"], None, 1)
    assert f"FROM OMS_OWNER.COURSE_ACTIVITIES WHERE CODE = '{event.dps_id}' AND AGY_LOC_ID = " in shown["sql"][0]
    output = app.run_ok("creations", "show", str(creation["id"]))
    assert output == app.run_ok(*settle)
    assert shown["sql"][0] in output
    assert f"NOMIS did not respond to the request to create activity {event.dps_id}" in output
    (course,) = sandbox.nomis("course")
    app.run_ok(*settle, "--nomis-id", str(course["id"]), "--dry-run")
    assert sandbox.mappings("activities") == []
    app.run_ok(*settle, "--nomis-id", str(course["id"]), answer="y\ny\n")
    (mapping,) = sandbox.mappings("activities")
    assert (mapping["activityScheduleId"], mapping["nomisCourseActivityId"]) == (int(event.dps_id), course["id"])
    assert app.read_json("creations", "list") == []
    ((action, target, outcome),) = app.actions()
    assert (action, target, outcome) == (
        "creations settle",
        f"activity {event.dps_id}",
        f"mapped to course activity {course['id']}",
    )
    event.publish()
    assert app.drain("activity")["duplicate"] == 1
    assert len(sandbox.nomis("course")) == 1
    again = app.run(*settle, "--nomis-id", str(course["id"]), "--yes")
    assert (again.code, "there is nothing to settle" in again.error) == (2, True)
    assert " ".join(settle) not in app.run_ok(*settle), "a settled creation has no command that settles it"


def test_record_that_a_person_did_not_find_is_created(app: App, sandbox: Sandbox) -> None:
    """`creations settle --not-created` sends the event again, which creates the record once."""
    lose(app, schedule_created(sandbox), applied=False)
    creation = ambiguous(app)
    assert sandbox.nomis("course") == []
    app.let_creates_end()
    app.run_ok("creations", "settle", str(creation["id"]), "--not-created", "--yes")
    assert app.drain("activity")["applied"] == 1
    assert (len(sandbox.nomis("course")), len(sandbox.mappings("activities"))) == (1, 1)
    assert app.read_json("creations", "list") == []


def test_create_that_may_be_under_way_is_not_declared_not_created(app: App, sandbox: Sandbox) -> None:
    """`creations settle --not-created` is refused while the create may still be under way, and nothing is sent again.

    NOMIS may apply such a create after the person's search.
    """
    event = schedule_created(sandbox)
    event.publish()
    with held(sandbox, "nomis", "POST", "/activities") as hold:
        app.drain("activity", API_TIMEOUT_SECONDS="1")
        creation = ambiguous(app)
        settle = ("creations", "settle", str(creation["id"]), "--yes")
        assert sandbox.nomis("course") == []
        early = app.run(*settle, "--not-created")
        assert (early.code, "may still be under way in NOMIS: wait" in early.error) == (1, True)
        (not_before,) = [line.split() for line in early.out.splitlines() if line.startswith("not before")]
        until_then = datetime.fromisoformat(f"{not_before[2]} {not_before[3].rstrip(',')}").replace(tzinfo=LONDON)
        wait_seconds = int(re.findall(r"wait (\d+) s, since NOMIS could add the record", early.error)[0])
        assert abs(until_then - now() - timedelta(seconds=wait_seconds)) < timedelta(seconds=2)
        assert app.drain("activity")["received"] == 0
        hold.release()
        (course,) = until(lambda: sandbox.nomis("course"), "the create that was under way")
    app.run_ok(*settle, "--nomis-id", str(course["id"]), "--unchecked")
    assert [each["nomisCourseActivityId"] for each in sandbox.mappings("activities")] == [course["id"]]


def lose_create_of_mapped_record(app: App, event: DpsEvent, *, applied: bool) -> str:
    """Sends a create that gets no response. Then another installation creates and maps a record for the same event.

    Returns the id of the open creation.
    """
    lose(app, event, applied=applied)
    app.use_new_database("second")
    event.publish()
    # The message that caused the create is also received, and now counts as a duplicate.
    assert app.drain("activity")["applied"] == 1
    app.use_database("app")
    event.publish()
    app.drain("activity")
    (creation,) = app.read_json("creations", "list")
    assert creation["state"] == "ambiguous"
    return str(creation["id"])


def test_a_second_record_of_a_mapping_becomes_a_duplicate(app: App, sandbox: Sandbox) -> None:
    """If a person finds a second record as well as the mapped one, the second record is listed as a duplicate.

    `duplicates resolve` deletes it.
    """
    event = schedule_created(sandbox)
    creation = lose_create_of_mapped_record(app, event, applied=True)
    duplicate, mapped = sorted(each["id"] for each in sandbox.nomis("course"))
    assert f"nomisCourseActivityId={mapped}" in app.run_ok("creations", "settle", creation)
    output = app.run_ok("creations", "settle", creation, "--nomis-id", str(duplicate), "--yes", "--unchecked")
    assert "is a duplicate of the mapped record" in output
    assert app.read_json("creations", "list") == []
    (finding,) = app.read_json("duplicates", "list")
    assert finding["properties"]["duplicateNomisCourseActivityId"] == str(duplicate)
    app.run_ok("duplicates", "resolve", str(finding["id"]), "--yes")
    assert [each["id"] for each in sandbox.nomis("course")] == [mapped]
    assert [each[0] for each in app.actions()] == ["creations settle", "duplicates resolve"]


def test_a_creation_with_only_the_mapped_record_is_closed(app: App, sandbox: Sandbox) -> None:
    """If a person finds no record other than the mapped one, the creation is closed and nothing is created."""
    event = schedule_created(sandbox)
    creation = lose_create_of_mapped_record(app, event, applied=False)
    (course,) = sandbox.nomis("course")
    app.let_creates_end()
    output = app.run_ok("creations", "settle", creation, "--not-created", "--yes")
    assert f"mapped to course activity {course['id']}" in output
    assert app.read_json("creations", "list") == []
    app.drain_out("activity")
    assert sandbox.nomis("course") == [course]


@pytest.mark.parametrize("queue", MAKERS)
def test_every_domain_can_be_settled_either_way(app: App, sandbox: Sandbox, queue: str) -> None:
    """In each domain, a record is created if a person declares it missing, and is mapped if a person finds it."""
    first, second = MAKERS[queue](sandbox), MAKERS[queue](sandbox)
    for event, applied in ((first, False), (second, True)):
        lose(app, event, applied=applied)
        app.queues()[queue].main.delete(app.queues()[queue].main.receive())
    kind, number = NUMBERS[queue]
    made = max(sandbox.nomis(kind), key=lambda each: each.get("created") or each[number])[number]
    listed = {each["dpsId"]: str(each["id"]) for each in app.read_json("creations", "list")}
    app.run_ok("creations", "settle", listed[second.dps_id], "--nomis-id", str(made), "--yes", *SURE[queue])
    before = len(sandbox.nomis(kind))
    app.let_creates_end()
    app.run_ok("creations", "settle", listed[first.dps_id], "--not-created", "--yes")
    assert app.drain(queue)["applied"] == 1
    assert len(sandbox.nomis(kind)) == before + 1
    assert app.read_json("creations", "list") == []


def test_wrong_record_is_refused(app: App, sandbox: Sandbox) -> None:
    """`creations settle` refuses a NOMIS record that is already mapped, does not exist or belongs to another prisoner.

    It also refuses `--nomis-id` together with `--not-created`.
    """
    other = visit_booked(sandbox)
    other.publish()
    app.drain("visit")
    (mapped,) = sandbox.nomis("visit")
    event = visit_booked(sandbox)
    lose(app, event, applied=False)
    (creation,) = app.read_json("creations", "list")
    settle = ("creations", "settle", str(creation["id"]), "--yes", "--nomis-id")
    taken = app.run(*settle, str(mapped["id"]))
    assert (taken.code, f"is mapped to {other.dps_id}" in taken.error) == (1, True)
    missing = app.run(*settle, "999999")
    assert (missing.code, "NOMIS has no visit 999999" in missing.error) == (1, True)
    elsewhere = person(sandbox, 7)
    reference = f"{event.dps_id}-elsewhere"
    put_visit(sandbox, reference, prisoner_id=elsewhere.offender_no, prison_id=elsewhere.prison_id)
    lose(
        app,
        replace(event, information={"reference": reference}, dps_id=reference, prisoner_id=elsewhere.offender_no),
        applied=True,
    )
    (unmapped,) = [each["id"] for each in sandbox.nomis("visit") if each["id"] != mapped["id"]]
    foreign = app.run(*settle, str(unmapped))
    assert (foreign.code, f"belongs to offenderNo {elsewhere.offender_no}, not" in foreign.error) == (1, True)
    both = app.run(*settle, "1", "--not-created")
    assert both.code == 2
    assert [mapping["vsipId"] for mapping in sandbox.mappings("visits")] == [other.dps_id]


def test_a_number_that_cannot_be_checked_is_asked_about_twice(app: App, sandbox: Sandbox) -> None:
    """`creations settle` asks twice about a number that it cannot check, and does not claim to have found the record.

    `creations reopen` deletes the mapping to a wrong number, so that the right number can be given.
    """
    event = schedule_created(sandbox)
    lose(app, event, applied=True)
    number = str(ambiguous(app)["id"])
    settle = ("creations", "settle", number, "--nomis-id", "999")
    unsure = app.run(*settle, "--yes")
    assert (unsure.code, "add --unchecked" in unsure.error, "found" in unsure.out) == (2, True, False)
    assert app.run(*settle, "--yes", "--dry-run").code == 2
    assert app.run(*settle, answer="y\n").code == 2
    assert sandbox.mappings("activities") == []
    output = app.run_ok(*settle, "--yes", "--unchecked", "--as", "joe")
    assert "nobody has checked that course activity 999 exists" in output
    shown = app.run_ok("creations", "reopen", number, "--dry-run")
    assert "was mapped to course activity 999 by joe" in shown
    assert len(sandbox.mappings("activities")) == 1
    app.run_ok("creations", "reopen", number, "--yes", "--as", "jane")
    assert sandbox.mappings("activities") == []
    (creation,) = app.read_json("creations", "list")
    assert creation["state"] == "ambiguous"
    event.publish()
    assert app.drain("activity")["ambiguous"] == 1
    (course,) = sandbox.nomis("course")
    app.run_ok("creations", "settle", number, "--nomis-id", str(course["id"]), "--yes", "--unchecked")
    assert [each["nomisCourseActivityId"] for each in sandbox.mappings("activities")] == [course["id"]]
    assert [each[0] for each in app.actions()] == ["creations settle", "creations reopen", "creations settle"]


def test_only_a_mapping_by_a_person_can_be_deleted(app: App, sandbox: Sandbox) -> None:
    """`creations reopen` refuses to delete a mapping that the program saved."""
    event = schedule_created(sandbox)
    event.publish()
    app.drain("activity")
    (created,) = app.read_json("creations", "list", "--all")
    refused = app.run("creations", "reopen", str(created["id"]), "--yes")
    assert (refused.code, "no mapping that a person saved" in refused.error) == (2, True)
    assert app.run("creations", "reopen", str(created["id"]), "--dry-run").code == 2
    assert len(sandbox.mappings("activities")) == 1


def change(app: App, queue: str, made: dict[str, object]) -> None:
    """Changes the record in NOMIS as another user."""
    if queue == "sentencing":
        path = f"/key-date-adjustments/{made['id']}"
        body: dict[str, object] = {"adjustmentTypeCode": "ADA", "adjustmentDate": "2023-05-20", "adjustmentDays": 99}
        body |= {"adjustmentFromDate": "2023-05-20", "comment": None, "active": True}
    else:
        path = f"/appointments/{made['event_id']}"
        body = {"eventDate": "2023-07-01", "startTime": "08:15", "endTime": "08:45", "eventSubType": "MEDO"}
        body |= {"internalLocationId": made["location_id"]}
    Caller(app.sandbox).call("nomis", "PUT", path, json=body)


@pytest.mark.parametrize("queue", ["appointment", "sentencing"])
def test_a_record_that_differs_from_the_request_is_not_mapped(app: App, sandbox: Sandbox, queue: str) -> None:
    """`creations settle` refuses to map a NOMIS record that differs from the request.

    With `--although-different`, it maps the record, and records the differences.
    """
    lose(app, MAKERS[queue](sandbox), applied=True)
    kind, number = NUMBERS[queue]
    (made,) = sandbox.nomis(kind)
    change(app, queue, made)
    (creation,) = app.read_json("creations", "list")
    settle = ("creations", "settle", str(creation["id"]), "--nomis-id", str(made[number]), "--yes")
    refused = app.run(*settle)
    assert (refused.code, "--although-different maps it anyway" in refused.error) == (1, True)
    assert app.run(*settle, "--dry-run").code == 1
    assert app.actions() == []
    app.run_ok(*settle, "--although-different")
    (action,) = app.read_json("actions")
    assert action["details"]["differences"]


def test_another_visit_of_the_same_prisoner_is_not_mapped(app: App, sandbox: Sandbox) -> None:
    """`creations settle` refuses a NOMIS visit whose comment names another DPS visit."""
    first, second = visit_booked(sandbox), visit_booked(sandbox)
    queue = app.queues()["visit"].main
    for event in (first, second):
        lose(app, event, applied=True)
        queue.delete(until(queue.receive, "the message is visible again"))
    listed = {each["dpsId"]: str(each["id"]) for each in app.read_json("creations", "list")}
    of_second = max(each["id"] for each in sandbox.nomis("visit"))
    wrong = app.run("creations", "settle", listed[first.dps_id], "--nomis-id", str(of_second), "--yes")
    assert (wrong.code, f"does not name {first.dps_id}" in wrong.error) == (1, True)
    assert sandbox.mappings("visits") == []


def test_a_creation_that_another_operator_settled_is_left(app: App, sandbox: Sandbox) -> None:
    """After the confirmation, `creations settle` reads the creation again.

    It changes nothing if another operator has settled the creation, whichever way the command would settle it.
    """
    queue = app.queues()["activity"].main
    for _ in range(2):
        lose(app, schedule_created(sandbox), applied=False)
    for _ in range(2):
        queue.delete(until(queue.receive, "the message is visible again"))
    app.let_creates_end()
    ways = ("--not-created",), ("--nomis-id", "999", "--unchecked")
    for creation, late in zip(app.read_json("creations", "list"), ways, strict=True):
        settle = ("creations", "settle", str(creation["id"]))

        def another_settles(settle: tuple[str, ...] = settle) -> None:
            app.run_ok(*settle, "--not-created", "--yes", "--as", "joe")

        refused = app.run(*settle, *late, answer=Terminal("y\n", another_settles))
        assert (refused.code, "now abandoned" in refused.error) == (1, True)
    assert sandbox.mappings("activities") == []
    assert [each["who"] for each in app.read_json("actions")] == ["joe", "joe"]
    assert app.drain("activity")["received"] == 2
