"""The runbook on creations whose outcome nobody can tell: alerted, looked up by a person, and settled either way."""

import pytest

from sandbox import Sandbox
from tests.harness.faults import faulty
from tests.harness.operating import Operator, Terminal, operator
from tests.harness.publishing import (
    Told,
    adjustment_inserted,
    appointment_created,
    review_inserted,
    schedule_created,
    visit_booked,
)
from tests.harness.sandboxes import Caller
from tests.harness.waiting import until

__all__ = ["operator"]

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
#: NOMIS has no read of courses, which is said.
SURE = {queue: ("--unchecked",) if queue == "activity" else () for queue in MAKERS}


def lose(operator: Operator, told: Told, *, applied: bool) -> None:
    """A create whose answer never comes; whether NOMIS applied it is only known there."""
    told.publish()
    with faulty(operator.sandbox, "nomis", "POST", kind="reset_after_write" if applied else "reset", times=1):
        operator.drain(told.queue)


def ambiguous(operator: Operator) -> dict[str, object]:
    """Delivers the message again, which no look-up can help; the creation as it is listed."""
    until(lambda: operator.drain("activity")["ambiguous"], "the message whose create got no answer")
    (creation,) = operator.reads("creations", "list")
    assert creation["state"] == "ambiguous"
    return dict(creation)


def test_record_that_is_there_is_mapped(operator: Operator, sandbox: Sandbox) -> None:
    """One alert says what to type; the course that a person found is mapped, and never made again."""
    told = schedule_created(sandbox)
    lose(operator, told, applied=True)
    creation = ambiguous(operator)
    settle = ("creations", "settle", str(creation["id"]))
    (alert,) = operator.alerts()
    assert "Nobody can tell whether NOMIS has a new activity in Production" in alert
    assert " ".join(settle) in alert
    assert "severity serious" in alert
    assert f"a course activity with code {told.dps_id}" in operator.does(*settle)
    (course,) = sandbox.nomis("course")
    operator.does(*settle, "--nomis-id", str(course["id"]), "--dry-run")
    assert sandbox.mappings("activities") == []
    operator.does(*settle, "--nomis-id", str(course["id"]), answer="y\ny\n")
    (mapping,) = sandbox.mappings("activities")
    assert (mapping["activityScheduleId"], mapping["nomisCourseActivityId"]) == (int(told.dps_id), course["id"])
    assert operator.reads("creations", "list") == []
    ((action, target, outcome),) = operator.actions()
    assert (action, target, outcome) == (
        "creations settle",
        f"activity {told.dps_id}",
        f"mapped to course activity {course['id']}",
    )
    told.publish()
    assert operator.drain("activity")["duplicate"] == 1
    assert len(sandbox.nomis("course")) == 1
    again = operator.run(*settle, "--nomis-id", str(course["id"]), "--yes")
    assert (again.code, "needs no settling" in again.complaint) == (2, True)
    assert " ".join(settle) not in operator.does(*settle), "what is settled is not proposed to be settled"


def test_record_that_is_not_there_is_created(operator: Operator, sandbox: Sandbox) -> None:
    """What a person did not find is created by sending the event again, once."""
    lose(operator, schedule_created(sandbox), applied=False)
    creation = ambiguous(operator)
    assert sandbox.nomis("course") == []
    operator.does("creations", "settle", str(creation["id"]), "--not-created", "--yes")
    assert operator.drain("activity")["applied"] == 1
    assert (len(sandbox.nomis("course")), len(sandbox.mappings("activities"))) == (1, 1)
    assert operator.reads("creations", "list") == []


def doubt_beside_a_mapping(operator: Operator, told: Told, *, applied: bool) -> str:
    """A create without an answer, whose record another installation made and mapped meanwhile; the open creation."""
    lose(operator, told, applied=applied)
    operator.use_database("second")
    told.publish()
    # The message whose create was lost is received with it, and is a duplicate by then.
    assert operator.drain("activity")["applied"] == 1
    operator.use_database_again("operator")
    told.publish()
    operator.drain("activity")
    (creation,) = operator.reads("creations", "list")
    assert creation["state"] == "ambiguous"
    return str(creation["id"])


def test_surplus_record_beside_a_mapping_ends_with_the_duplicates(operator: Operator, sandbox: Sandbox) -> None:
    """The record that a person found beside the mapped one becomes a finding, which `duplicates resolve` mends."""
    told = schedule_created(sandbox)
    creation = doubt_beside_a_mapping(operator, told, applied=True)
    surplus, mapped = sorted(each["id"] for each in sandbox.nomis("course"))
    assert f"nomisCourseActivityId={mapped}" in operator.does("creations", "settle", creation)
    said = operator.does("creations", "settle", creation, "--nomis-id", str(surplus), "--yes", "--unchecked")
    assert "surplus beside the mapped record" in said
    assert operator.reads("creations", "list") == []
    (finding,) = operator.reads("duplicates", "list")
    assert finding["properties"]["duplicateNomisCourseActivityId"] == str(surplus)
    operator.does("duplicates", "resolve", str(finding["id"]), "--yes")
    assert [each["id"] for each in sandbox.nomis("course")] == [mapped]
    assert [each[0] for each in operator.actions()] == ["creations settle", "duplicates resolve"]


def test_nothing_beside_a_mapping_closes_the_doubt(operator: Operator, sandbox: Sandbox) -> None:
    """Where a person finds nothing beside the mapped record, the doubt is closed and nothing is created."""
    told = schedule_created(sandbox)
    creation = doubt_beside_a_mapping(operator, told, applied=False)
    (course,) = sandbox.nomis("course")
    said = operator.does("creations", "settle", creation, "--not-created", "--yes")
    assert f"mapped to course activity {course['id']}" in said
    assert operator.reads("creations", "list") == []
    operator.drain_out("activity")
    assert sandbox.nomis("course") == [course]


@pytest.mark.parametrize("queue", MAKERS)
def test_every_domain_can_be_settled_either_way(operator: Operator, sandbox: Sandbox, queue: str) -> None:
    """In each domain: a record said not to be there is made of the event sent again; the one found is mapped."""
    first, second = MAKERS[queue](sandbox), MAKERS[queue](sandbox)
    for told, applied in ((first, False), (second, True)):
        lose(operator, told, applied=applied)
        operator.queues()[queue].main.delete(operator.queues()[queue].main.receive())
    kind, number = NUMBERS[queue]
    made = max(sandbox.nomis(kind), key=lambda each: each.get("created") or each[number])[number]
    listed = {each["dpsId"]: str(each["id"]) for each in operator.reads("creations", "list")}
    operator.does("creations", "settle", listed[second.dps_id], "--nomis-id", str(made), "--yes", *SURE[queue])
    before = len(sandbox.nomis(kind))
    operator.does("creations", "settle", listed[first.dps_id], "--not-created", "--yes")
    assert operator.drain(queue)["applied"] == 1
    assert len(sandbox.nomis(kind)) == before + 1
    assert operator.reads("creations", "list") == []


def test_wrong_record_is_refused(operator: Operator, sandbox: Sandbox) -> None:
    """A NOMIS record of another prisoner, one that is mapped already, and one that is not there are all refused."""
    other = visit_booked(sandbox)
    other.publish()
    operator.drain("visit")
    (mapped,) = sandbox.nomis("visit")
    told = visit_booked(sandbox)
    lose(operator, told, applied=False)
    (creation,) = operator.reads("creations", "list")
    settle = ("creations", "settle", str(creation["id"]), "--yes", "--nomis-id")
    taken = operator.run(*settle, str(mapped["id"]))
    assert (taken.code, f"is mapped to {other.dps_id}" in taken.complaint) == (1, True)
    missing = operator.run(*settle, "999999")
    assert (missing.code, "NOMIS has no visit 999999" in missing.complaint) == (1, True)
    both = operator.run(*settle, "1", "--not-created")
    assert both.code == 2
    assert [mapping["vsipId"] for mapping in sandbox.mappings("visits")] == [other.dps_id]


def test_what_nothing_can_check_is_said_asked_twice_and_taken_back(operator: Operator, sandbox: Sandbox) -> None:
    """A wrong number is not called found; with the way back its mapping goes, and the right one can be given."""
    told = schedule_created(sandbox)
    lose(operator, told, applied=True)
    number = str(ambiguous(operator)["id"])
    settle = ("creations", "settle", number, "--nomis-id", "999")
    unsure = operator.run(*settle, "--yes")
    assert (unsure.code, "add --unchecked" in unsure.complaint, "found" in unsure.out) == (2, True, False)
    assert operator.run(*settle, "--yes", "--dry-run").code == 2
    assert operator.run(*settle, answer="y\n").code == 2
    assert sandbox.mappings("activities") == []
    said = operator.does(*settle, "--yes", "--unchecked", "--as", "joe")
    assert "nobody checked that course activity 999 exists" in said
    shown = operator.does("creations", "reopen", number, "--dry-run")
    assert "was mapped to course activity 999 by joe" in shown
    assert len(sandbox.mappings("activities")) == 1
    operator.does("creations", "reopen", number, "--yes", "--as", "jane")
    assert sandbox.mappings("activities") == []
    (creation,) = operator.reads("creations", "list")
    assert creation["state"] == "ambiguous"
    told.publish()
    assert operator.drain("activity")["ambiguous"] == 1
    (course,) = sandbox.nomis("course")
    operator.does("creations", "settle", number, "--nomis-id", str(course["id"]), "--yes", "--unchecked")
    assert [each["nomisCourseActivityId"] for each in sandbox.mappings("activities")] == [course["id"]]
    assert [each[0] for each in operator.actions()] == ["creations settle", "creations reopen", "creations settle"]


def test_only_what_a_person_mapped_is_taken_back(operator: Operator, sandbox: Sandbox) -> None:
    """A mapping that the program saved stays, as does one that the mapping service cannot delete."""
    told = schedule_created(sandbox)
    told.publish()
    operator.drain("activity")
    (created,) = operator.reads("creations", "list", "--all")
    refused = operator.run("creations", "reopen", str(created["id"]), "--yes")
    assert (refused.code, "no person mapped it" in refused.complaint) == (2, True)
    assert operator.run("creations", "reopen", str(created["id"]), "--dry-run").code == 2
    assert len(sandbox.mappings("activities")) == 1


def change(operator: Operator, queue: str, made: dict[str, object]) -> None:
    """Somebody else changes the record in NOMIS."""
    if queue == "sentencing":
        path = f"/key-date-adjustments/{made['id']}"
        body: dict[str, object] = {"adjustmentTypeCode": "ADA", "adjustmentDate": "2023-05-20", "adjustmentDays": 99}
        body |= {"adjustmentFromDate": "2023-05-20", "comment": None, "active": True}
    else:
        path = f"/appointments/{made['event_id']}"
        body = {"eventDate": "2023-07-01", "startTime": "08:15", "endTime": "08:45", "eventSubType": "MEDO"}
        body |= {"internalLocationId": made["location_id"]}
    Caller(operator.sandbox).call("nomis", "PUT", path, json=body)


@pytest.mark.parametrize("queue", ["appointment", "sentencing"])
def test_a_record_that_is_not_what_was_asked_for_is_not_mapped(
    operator: Operator, sandbox: Sandbox, queue: str
) -> None:
    """What NOMIS can read is compared with the request; a person who knows better says so, which is recorded."""
    lose(operator, MAKERS[queue](sandbox), applied=True)
    kind, number = NUMBERS[queue]
    (made,) = sandbox.nomis(kind)
    change(operator, queue, made)
    (creation,) = operator.reads("creations", "list")
    settle = ("creations", "settle", str(creation["id"]), "--nomis-id", str(made[number]), "--yes")
    refused = operator.run(*settle)
    assert (refused.code, "--although-different maps it all the same" in refused.complaint) == (1, True)
    assert operator.run(*settle, "--dry-run").code == 1
    assert operator.actions() == []
    operator.does(*settle, "--although-different")
    (action,) = operator.reads("actions")
    assert action["details"]["differences"]


def test_another_visit_of_the_same_prisoner_is_not_mapped(operator: Operator, sandbox: Sandbox) -> None:
    """The comment of a visit names its DPS visit."""
    first, second = visit_booked(sandbox), visit_booked(sandbox)
    for told in (first, second):
        lose(operator, told, applied=True)
        operator.queues()["visit"].main.delete(operator.queues()["visit"].main.receive())
    listed = {each["dpsId"]: str(each["id"]) for each in operator.reads("creations", "list")}
    of_second = max(each["id"] for each in sandbox.nomis("visit"))
    wrong = operator.run("creations", "settle", listed[first.dps_id], "--nomis-id", str(of_second), "--yes")
    assert (wrong.code, f"does not name {first.dps_id}" in wrong.complaint) == (1, True)
    assert sandbox.mappings("visits") == []


def test_what_another_settles_while_one_thinks_is_left(operator: Operator, sandbox: Sandbox) -> None:
    """Either way of settling it looks again after the yes."""
    lose(operator, schedule_created(sandbox), applied=False)
    number = str(ambiguous(operator)["id"])

    def another_settles() -> None:
        operator.does("creations", "settle", number, "--not-created", "--yes", "--as", "joe")

    late = operator.run("creations", "settle", number, "--not-created", answer=Terminal("y\n", another_settles))
    assert (late.code, "abandoned now" in late.complaint) == (1, True)
    assert operator.drain("activity")["received"] == 1
    assert len(operator.actions()) == 1
