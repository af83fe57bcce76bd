"""The runbook on an allocation or attendance that NOMIS has twice: how the second row is found and deleted."""

from collections.abc import Callable

import pytest

from sandbox import Sandbox
from tests.harness.app import App
from tests.harness.commands import Terminal
from tests.harness.duplicates import resolve
from tests.harness.publishing import (
    DpsEvent,
    allocated,
    attended,
    schedule_created,
)


def plant_two_rows(
    app: App, of_schedule: Callable[[Sandbox, DpsEvent], DpsEvent], kind: str, already: int = 0
) -> DpsEvent:
    """Plants an allocation or attendance that NOMIS has twice, with a message about it on the dead letter queue.

    already: how many messages are on that queue. Returns the event of the new message.
    """
    sandbox = app.sandbox
    schedule = schedule_created(sandbox)
    for event in (schedule, allocated(sandbox, schedule)):
        event.publish()
        app.drain("activity")
    event = of_schedule(sandbox, schedule)
    event.publish()
    app.drain("activity")
    number = "id" if kind == "allocation" else "event_id"
    row = sandbox.nomis(kind)[-1][number]
    sandbox.control("POST", f"/nomis/duplicates/{kind}/{row}")
    event.publish()
    app.drain_out("activity")
    assert app.messages("activity") == already + 1
    return event


@pytest.mark.parametrize(
    ("of_schedule", "kind", "number"),
    [(allocated, "allocation", "id"), (attended, "attendance", "event_id")],
    ids=["allocation", "attendance"],
)
def test_second_row_is_deleted_by_its_number(
    app: App, sandbox: Sandbox, of_schedule: Callable[[Sandbox, DpsEvent], DpsEvent], kind: str, number: str
) -> None:
    """While NOMIS has two rows for an allocation or attendance, it refuses to change them.

    There is one alert, and `dlq show` gives advice. Once one row is deleted, the retry succeeds. The finding does not
    name that row, so every text about the deletion gives the command that then closes the finding.
    """
    plant_two_rows(app, of_schedule, kind)
    (alert,) = app.alerts()
    assert f"NOMIS holds two {kind}s for one booking" in alert
    assert f"activity-{kind}-non-unique" in alert
    (message,) = app.read_json("dlq", "show", "activity")
    assert (message["class"], message["attempts"]) == ("repairable", 3)
    assert f"activities delete-{kind}" in message["hint"]
    (finding,) = app.read_json("duplicates", "list")
    kept, duplicate = sorted(each[number] for each in sandbox.nomis(kind))[-2:]
    close = f"prisoner-to-nomis duplicates resolve {finding['id']} --by-hand"
    assert '`duplicates resolve ID --by-hand "deleted NUMBER"`' in message["hint"]
    shown = app.read_json("duplicates", "show", str(finding["id"]))
    assert shown["proposal"].endswith(f" If the finding is open after that, type {close} 'deleted ID'")
    assert (shown["kind"], shown["rows"], shown["surplus"]) == ("non-unique", [kept], None)
    (statement, *_) = shown["sql"]
    assert f"CRS_ACTY_ID = {finding['properties']['nomisCourseActivityId']} AND" in statement
    assert f"  {statement}\n" in app.run_ok("duplicates", "show", str(finding["id"]))
    output = app.run_ok("dlq", "show", "activity")
    assert f"  finding   prisoner-to-nomis duplicates show {finding['id']}\n  SQL       {statement}\n" in output
    assert f"\n  close     {close} 'deleted NUMBER'\n" in output
    assert (message["finding"], message["sql"]) == (finding["id"], shown["sql"])
    unknown = app.run("duplicates", "resolve", str(finding["id"]), "--yes")
    assert (unknown.code, f"known: {kept}" in unknown.out) == (2, True)
    assert "not checked" in app.run_ok("activities", f"delete-{kind}", str(duplicate), "--dry-run")
    assert len(sandbox.nomis(kind)) == 2
    unsure = app.run("activities", f"delete-{kind}", str(duplicate), "--yes")
    assert (unsure.code, "add --unchecked" in unsure.error, len(sandbox.nomis(kind))) == (2, True, 2)
    nobody = app.run("activities", f"delete-{kind}", str(duplicate))
    # The options that the refusal proposes work, as the next command shows.
    assert (nobody.code, "add --yes --unchecked, or" in nobody.errors[-1]) == (2, True)
    output = app.run_ok("activities", f"delete-{kind}", str(duplicate), "--yes", "--unchecked")
    assert "but it accepts unknown numbers too" in output
    assert "to housekeeping" not in output
    assert output.endswith(f" type: {close} 'deleted {duplicate}'\n")
    again = app.run("activities", f"delete-{kind}", str(duplicate), "--yes", "--unchecked")
    assert (again.code, "was deleted by" in again.error) == (1, True)
    app.run_ok("duplicates", "resolve", str(finding["id"]), "--by-hand", f"deleted {duplicate}", "--yes")
    assert [each[number] for each in sandbox.nomis(kind)] == [kept]
    app.run_ok("dlq", "retry-all")
    assert app.drain("activity")["applied"] == 1
    assert (app.messages("activity"), app.read_json("duplicates", "list")) == (0, [])


def test_a_row_that_cannot_be_checked_is_asked_about_twice(app: App, sandbox: Sandbox) -> None:
    """`activities delete-allocation` asks twice, because it cannot check the row.

    It does not claim that the row existed.
    """
    once = app.run("activities", "delete-allocation", "99", answer="y\n")
    assert (once.code, app.actions(), sandbox.journal("nomis")) == (2, [], [])
    output = app.run_ok("activities", "delete-allocation", "99", answer="y\ny\n")
    assert "nobody has checked that allocation 99 exists" in output
    assert "succeeds" not in output
    assert "Leave the failed message to housekeeping" in output
    (action,) = app.read_json("actions")
    assert "allocation 99" in action["details"]["unchecked"]


def test_a_deleted_row_may_belong_to_one_of_several_findings(app: App, sandbox: Sandbox) -> None:
    """If several findings are open, `activities delete-allocation` says how to find and close the right one.

    If the finding names the deleted row, it is closed, and the output names no command.
    """
    for _ in range(2):
        plant_two_rows(app, allocated, "allocation", already=len(app.read_json("duplicates", "list")))
    findings = app.read_json("duplicates", "list")
    assert len(findings) == 2
    (named,) = app.read_json("duplicates", "show", str(findings[0]["id"]))["rows"]
    output = app.run_ok("activities", "delete-allocation", "99", "--yes", "--unchecked")
    assert "2 findings about allocations are open" in output
    close = "prisoner-to-nomis duplicates resolve ID --by-hand 'deleted 99'"
    assert output.endswith(f" type: {close}, with the id of its finding in `prisoner-to-nomis duplicates list`\n")
    output = app.run_ok("activities", "delete-allocation", str(named), "--yes", "--unchecked")
    assert output.endswith("Leave the failed message to housekeeping: a retry shows whether the deletion helped\n")
    assert [each["id"] for each in app.read_json("duplicates", "list")] == [findings[1]["id"]]


def test_a_row_that_another_operator_deleted_is_left(app: App, sandbox: Sandbox) -> None:
    """If another operator deletes the row before the confirmation, `activities delete-attendance` deletes nothing."""
    delete = ("activities", "delete-attendance", "99")

    def another_deletes() -> None:
        app.run_ok(*delete, "--yes", "--unchecked", "--as", "joe")

    late = app.run(*delete, "--unchecked", "--as", "jane", answer=Terminal("y\n", another_deletes))
    assert (late.code, "was deleted by joe" in late.error) == (1, True)
    assert len(sandbox.journal("nomis")) == 1


def test_a_second_row_in_the_telemetry_is_proposed(app: App, sandbox: Sandbox) -> None:
    """If the telemetry names both rows, `duplicates resolve` deletes the newer row and keeps the older one.

    If NOMIS gets a second row again, there is another alert.
    """
    event = plant_two_rows(app, allocated, "allocation")
    (finding,) = app.read_json("duplicates", "list")
    first, second = sorted(each["id"] for each in sandbox.nomis("allocation"))
    properties = {**finding["properties"], "nomisAllocationId": str(second)}
    remember(app, "activity-allocation-success", properties)
    assert app.read_json("duplicates", "show", str(finding["id"]))["rows"] == [first, second]
    resolve(app, finding["id"])
    assert [each["id"] for each in sandbox.nomis("allocation")] == [first]
    assert ("duplicates resolve", f"allocation {second}", "NOMIS accepted the deletion") in app.actions()
    again = app.run("activities", "delete-allocation", str(second), "--yes", "--unchecked")
    assert (again.code, "was deleted by" in again.error) == (1, True)
    sandbox.control("POST", f"/nomis/duplicates/allocation/{first}")
    event.publish()
    app.drain("activity")
    assert len(app.alerts()) == 2, "a pair that recurs after its fix is alerted again"


def remember(app: App, name: str, properties: dict[str, str]) -> None:
    """Tracks a telemetry event, as another process of the program would."""
    import structlog

    from sync.store.database import Database
    from sync.store.telemetry import Telemetry

    database = Database(app.settings["DATABASE_URL"])
    telemetry = Telemetry(database, structlog.get_logger())
    telemetry.track(name, properties)
    telemetry.flush()
    database.dispose()
