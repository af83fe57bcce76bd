"""The runbook on differences: an operator types the proposed commands, and the next run finds what is left."""

from __future__ import annotations

import json
import shlex
from typing import Any

import pytest

from reports.reconciliations.registry import RECONCILIATIONS
from tests.harness.app import App

#: The number of planted differences that the proposed resyncs fix, by reconciliation.
FIXED = {
    "allocations": 3,
    "suspended-allocations": 2,
    "attendances": 2,
    "appointments": 12,
    "adjustments": 7,
    "visits": 9,
}


def compare(app: App, name: str) -> list[dict[str, Any]]:
    """Runs a reconciliation to completion, and returns the differences that it finds."""
    result = json.loads(app.run_ok("reconcile", name, "--no-notify", "--json"))
    assert result["status"] == "complete"
    return list(result["mismatches"])


def test_no_reconciliation_is_left_out() -> None:
    """The table of this module has every reconciliation except the one for incentives, which has separate fixes."""
    assert FIXED.keys() == RECONCILIATIONS.keys() - {"incentives"}


@pytest.mark.parametrize("name", FIXED)
def test_the_proposed_resyncs_fix_the_differences(app: App, name: str) -> None:
    """If all resyncs that are proposed for a difference succeed, the next run no longer finds the difference.

    It finds all other differences again, and no new ones.
    """
    app.sandbox.reset(prisoners=60, prisons=20, plant=[name], every_cause=True)
    found = {json.dumps(each["key"]): each for each in compare(app, name)}
    refused: set[str] = set()
    resynchronised: set[str] = set()
    for key, difference in found.items():
        commands = [shlex.split(line)[1:] for line in (difference["diagnosis"] or {"commands": []})["commands"]]
        resyncs = [command for command in commands if command[0] == "resync"]
        codes = {app.run(*command, "--yes", "--unchecked").code for command in resyncs}
        if resyncs:
            (resynchronised if codes == {0} else refused).add(key)
    left = {json.dumps(each["key"]) for each in compare(app, name)}
    assert left == found.keys() - resynchronised
    assert refused <= left
    assert len(resynchronised) == FIXED[name]
