"""The options of all reconciliations except the one for incentives, and the list of all reconciliations."""

from __future__ import annotations

from datetime import timedelta

import pytest

from reports.reconciliations.registry import RECONCILIATIONS
from sandbox import Sandbox
from sync.clock import london_now
from tests.harness.app import App


def test_each_reconciliation_is_a_command_and_is_listed_after_its_run(installed: App, sandbox: Sandbox) -> None:
    """`reconcile allocations` finds differences, and says who has to act on each.

    `reconcile list` shows this run, and shows that the other reconciliations have never run.
    """
    sandbox.reset(prisoners=60, prisons=24, plant=["allocations"], every_cause=True)
    installed.make_queues()
    run = installed.run("reconcile", "allocations", "--json")
    assert run.code == 0, run.err
    result = run.json()
    assert (result["reconciliation"], result["status"]) == ("allocations", "complete")
    assert {each["diagnosis"]["who"] for each in result["mismatches"]} == {"this team", "the DPS team"}
    rows = {each["name"]: each for each in installed.run("reconcile", "list", "--json").json()}
    assert rows.keys() == RECONCILIATIONS.keys()
    row = rows.pop("allocations")
    assert (row["lastRun"], row["status"], row["differences"]) == (
        result["runId"],
        "complete",
        len(result["mismatches"]),
    )
    assert 0 <= row["lastCompleteAgeSeconds"] < 600
    assert {each["lastRun"] for each in rows.values()} == {None}
    assert "allocations" in installed.run("reconcile", "list").out


def test_a_day_is_chosen_for_attendances(installed: App, sandbox: Sandbox) -> None:
    """The day that is chosen with `--date` is recorded with the run, and a repeat of the run uses the same day.

    A run for a chosen day is not shown as the last run of the reconciliation.
    """
    sandbox.reset(prisoners=60, prisons=24, plant=["attendances"], every_cause=True)
    installed.make_queues()
    day = (london_now().date() - timedelta(days=3)).isoformat()
    run = installed.run("reconcile", "attendances", "--date", day, "--no-notify", "--json")
    assert run.code == 0, run.err
    assert (run.json()["parameters"]["from_date"], run.json()["parameters"]["to_date"]) == (day, day)
    again = installed.run("runs", "rerun", run.json()["runId"], "--json")
    assert again.json()["parameters"]["from_date"] == day
    # This is not a run for everyone, so later runs are not compared with it.
    rows = {each["name"]: each for each in installed.run("reconcile", "list", "--json").json()}
    assert rows["attendances"]["lastRun"] is None


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("attendances", "--date", "20/08/2026"), "--date"),
        (("visits", "--from", "2026-08-21", "--to", "2026-08-20"), "--from 2026-08-21 is after --to 2026-08-20"),
        (("visits", "--resume", "20260101-000000-abcd", "--from", "2026-08-21"), "leave out"),
        (("balances",), "balances"),
    ],
)
def test_options_that_do_not_fit_together_are_bad_usage(
    installed: App, arguments: tuple[str, ...], complaint: str
) -> None:
    """If arguments are wrong or do not fit together, `reconcile` exits 2 with a message about them."""
    run = installed.run("reconcile", *arguments)
    assert (run.code, complaint in run.err) == (2, True)


def test_a_run_is_resumed_only_by_the_command_that_began_it(installed: App, sandbox: Sandbox) -> None:
    """`--resume` refuses a run of another reconciliation, and names the command that resumes that run."""
    sandbox.reset(prisoners=60)
    installed.make_queues()
    ended = installed.run("reconcile", "adjustments", "--no-notify", "--json").json()
    wrong = installed.run("reconcile", "visits", "--resume", ended["runId"])
    assert wrong.code == 2
    assert f"prisoner-to-nomis reconcile adjustments --resume {ended['runId']}" in wrong.err
