"""The runbook on the delete-all commands, which are for development only."""

import pytest

from sandbox import Sandbox
from tests.harness.app import App
from tests.harness.faults import faulty
from tests.harness.publishing import appointment_created, schedule_created

ALLOWED = {"FEATURE_EVENT_DELETEALL": "true", "ENVIRONMENT_NAME": "dev"}


@pytest.mark.parametrize("group", ["activities", "appointments"])
def test_delete_all_refuses_without_its_switch_and_in_production(app: App, group: str) -> None:
    """The delete-all commands are refused unless their switch is on. In production, they are always refused."""
    off = app.run(group, "delete-all", "--yes", ENVIRONMENT_NAME="dev")
    assert (off.code, "FEATURE_EVENT_DELETEALL=true" in off.error) == (2, True)
    production = app.run(group, "delete-all", "--yes", FEATURE_EVENT_DELETEALL="true")
    assert (production.code, "never runs in Production" in production.error) == (2, True)


def test_all_activities_are_deleted(app: App, sandbox: Sandbox) -> None:
    """`activities delete-all` deletes every mapped course with its mapping, and tracks an event about each course.

    A dry run deletes nothing. After the deletion, a new event creates the course again.
    """
    event = schedule_created(sandbox)
    event.publish()
    app.drain("activity")
    (course,) = sandbox.nomis("course")
    app.run_ok("activities", "delete-all", "--dry-run", **ALLOWED)
    assert sandbox.nomis("course") == [course]
    app.run_ok("activities", "delete-all", answer="y\n", **ALLOWED)
    assert (sandbox.nomis("course"), sandbox.mappings("activities")) == ([], [])
    properties = {"activityScheduleId": event.dps_id, "nomisCourseActivityId": str(course["id"])}
    assert app.telemetry("activity-DELETE-ALL-success") == [properties]
    event.publish()
    assert app.drain("activity")["applied"] == 1


def test_delete_all_continues_after_errors(app: App, sandbox: Sandbox) -> None:
    """If `appointments delete-all` cannot delete an appointment, it reports this and leaves the mapping.

    It still deletes the other appointments, and exits 1.
    """
    for event in (appointment_created(sandbox), appointment_created(sandbox)):
        event.publish()
    app.drain("appointment")
    first = min(each["event_id"] for each in sandbox.nomis("appointment"))
    with faulty(sandbox, "nomis", "DELETE", f"/appointments/{first}", kind="status", status=400):
        done = app.run("appointments", "delete-all", "--yes", **ALLOWED)
    assert (done.code, "1 of 2 records could not be deleted" in done.error) == (1, True)
    assert [each["event_id"] for each in sandbox.nomis("appointment")] == [first]
    assert [each["nomisEventId"] for each in sandbox.mappings("appointments")] == [first]
    (failed,) = app.telemetry("appointment-DELETE-ALL-failed")
    assert failed["nomisEventId"] == str(first)
    assert len(app.telemetry("appointment-DELETE-ALL-success")) == 1
