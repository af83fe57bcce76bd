"""The reconciliations of activities: the differences that they find, and the commands that fix these differences."""

from __future__ import annotations

import shlex
from datetime import timedelta
from typing import Any

import pytest

from sandbox import Sandbox
from sandbox.clock import london_today
from tests.harness.app import App

#: The kinds of difference that no command fixes: a person has to fix them, or NOMIS refuses the change.
UNMENDED = {
    "moved, still open in DPS",
    "moved, still open in NOMIS",
    "booking not in NOMIS",
    "payroll ran",
    "paid on another booking",
}


def reset(app: App, **options: Any) -> Sandbox:
    """Resets the sandbox to a world with planted differences in allocations and attendances."""
    plant = ["allocations", "suspended-allocations", "attendances"]
    app.sandbox.reset(prisoners=60, prisons=20, plant=plant, every_cause=True, **options)
    app.forget_queues()
    app.make_queues()
    return app.sandbox


def keys(found: list[dict[str, Any]]) -> list[tuple[str | int, ...]]:
    """The keys of the differences, sorted."""
    return sorted(tuple(each["key"].values()) for each in found)


@pytest.mark.parametrize("name", ["allocations", "suspended-allocations", "attendances"])
def test_planted_differences_of_activities_are_found_and_fixed(app: App, name: str) -> None:
    """Exactly the planted differences are reported.

    The proposed resyncs fix all except those that no command can fix.
    """
    planted = [each for each in reset(app).planted()["reconciliations"][name] if each["outcome"] == "reported"]
    result = app.read_json("reconcile", name, "--no-notify")
    assert (result["status"], result["unread"], result["gaps"]) == ("complete", [], [])
    assert keys(result["mismatches"]) == sorted(tuple(each["key"]) for each in planted)
    assert len({each["diagnosis"]["cause"] for each in result["mismatches"]}) > 1
    commands = [command for each in result["mismatches"] for command in each["diagnosis"]["commands"]]
    for command in commands:
        if " resync " in command:
            ended = app.run(*shlex.split(command)[1:], "--yes", "--as", "A. Operator")
            for_people = ("Prisoner is at prison", "nothing is left to synchronise")
            assert ended.code == 0 or any(words in ended.err for words in for_people)
    left = app.read_json("reconcile", name, "--no-notify")
    assert keys(left["mismatches"]) == sorted(tuple(each["key"]) for each in planted if each["cause"] in UNMENDED)


def test_records_in_flight_or_late_are_not_mismatches(app: App) -> None:
    """An allocation with a message on the dead letter queue is in flight, and both sides agree on it after the redrive.

    A record that arrives before the recheck is not reported.
    """
    sandbox = reset(app, in_flight=1, in_flight_seconds=0)
    planted = sandbox.planted()["reconciliations"]["allocations"]
    by_outcome = {each["outcome"]: tuple(each["key"]) for each in planted}
    assert sandbox.send_waiting(app.queues()["activity"].dlq.name, "activity") == 1
    result = app.read_json("reconcile", "allocations", "--no-notify")
    assert keys(result["inFlight"]) == [by_outcome["in flight"]]
    assert by_outcome["settles"] not in keys(result["mismatches"])
    assert result["settledOnRecheck"] == 1
    assert "dlq retry activity" in result["inFlight"][0]["why"]
    app.run_ok("dlq", "retry", "activity")
    assert app.drain("activity")["applied"] == 1
    again = app.read_json("reconcile", "allocations", "--no-notify")
    assert again["inFlight"] == []
    assert keys(again["mismatches"]) == keys(result["mismatches"])


def test_only_attendances_of_the_chosen_day_and_prison_are_compared(app: App) -> None:
    """`--date` limits the comparison to one day, and `--prison` to one prison."""
    reset(app)
    day = (london_today() - timedelta(days=2)).isoformat()
    result = app.read_json("reconcile", "attendances", "--date", day, "--no-notify")
    assert (result["status"], result["mismatches"]) == ("complete", [])
    assert {each["date"] for each in app.telemetry("activity-attendance-reconciliation-report-success")} == {day}
    nothing = app.run("reconcile", "attendances", "--date", day, "--prison", "MDI", "--no-notify")
    assert (nothing.code, "no booking was found at MDI (is the prison id right?)" in nothing.err) == (1, True)


def test_no_prisoner_can_be_chosen(app: App) -> None:
    """`--prisoner` is refused for suspended allocations, and the message names the option to use instead.

    The services list suspended allocations only by prison.
    """
    ended = app.run("reconcile", "suspended-allocations", "--prisoner", "A1234BC", "--no-notify")
    assert ended.code == 2
    assert "suspended allocations are listed by prison: choose with --prison" in ended.err
