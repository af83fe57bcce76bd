"""The resyncs proposed by the reconciliation of adjustments remove the differences for which they are proposed."""

from __future__ import annotations

import json
import shlex
from typing import Any

from reports.reconciliations.adjustments import causes
from sandbox import Sandbox
from tests.harness.app import App


def reconcile(app: App) -> dict[int, dict[str, Any]]:
    """Runs the reconciliation of adjustments, and returns the differences by booking."""
    result = json.loads(app.run_ok("reconcile", "adjustments", "--no-notify", "--json"))
    return {each["bookingId"]: each for each in result["mismatches"]}


def test_resyncs_remove_the_differences_that_they_are_proposed_for(app: App, sandbox: Sandbox) -> None:
    """After the proposed resyncs, the only remaining differences in adjustments are those that no resync can fix.

    They concern adjustments that DPS does not have, has on another booking, or does not list for the prisoner.
    """
    sandbox.reset(prisoners=40, plant=["adjustments"], every_cause=True)
    before = reconcile(app)
    commands = [
        shlex.split(command)[1:]
        for each in before.values()
        for command in each["diagnosis"]["commands"]
        if " resync " in command
    ]
    assert len(commands) == len(before) - 3
    for command in commands:
        assert "read again: NOMIS agrees with DPS" in app.run_ok(*command, "--yes", "--as", "jane")
    after = {each["diagnosis"]["cause"] for each in reconcile(app).values()}
    assert after == {cause.name for cause in (causes.NOT_IN_DPS, causes.ON_OTHER_BOOKING, causes.UNLISTED_IN_DPS)}
