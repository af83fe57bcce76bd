"""The runbook on creations whose outcome nobody can tell: alerted, looked up by a person, and settled either way."""

import pytest

from sandbox import Sandbox
from tests.faults import faulty
from tests.operating import Operator, operator
from tests.publishing import (
    Told,
    adjustment_inserted,
    appointment_created,
    review_inserted,
    schedule_created,
    visit_booked,
)

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


def lose(operator: Operator, told: Told, *, applied: bool) -> None:
    """A create whose answer never comes; whether NOMIS applied it is only known there."""
    told.publish()
    with faulty(operator.sandbox, "nomis", "POST", kind="reset_after_write" if applied else "reset", times=1):
        operator.drain(told.queue)


def ambiguous(operator: Operator) -> dict[str, object]:
    """Delivers the message again, which no look-up can help; the creation as it is listed."""
    assert operator.drain("activity")["ambiguous"] == 1
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
    operator.does(*settle, "--nomis-id", str(course["id"]), answer="y\n")
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
    said = operator.does("creations", "settle", creation, "--nomis-id", str(surplus), "--yes")
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
    assert operator.drain("activity")["received"] == 0
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
    operator.does("creations", "settle", listed[second.dps_id], "--nomis-id", str(made), "--yes")
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
