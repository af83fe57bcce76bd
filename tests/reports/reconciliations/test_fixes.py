"""Fixes for differences in the sandbox: how they are planned, refused and verified. Differences are also explained."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest

from reports.engine.pending_messages import PendingMessages
from reports.reconciliations.incentives import fixes
from reports.reconciliations.incentives.bookings import UnknownPrisoner
from reports.reconciliations.incentives.mismatches import explain_prisoner
from sandbox import Sandbox
from sync.clock import now
from sync.errors import RuleError
from tests.harness.reconciliations import OpenApp, reconciled

NEAR = timedelta(hours=24)


def planted(upstream: Sandbox, row: int) -> dict[str, Any]:
    """A planted difference whose cause is in row `row` of the decision table."""
    return next(each for each in upstream.planted()["mismatches"] if each["cause"] == row)


def test_a_repair_behind_a_later_record_has_an_objection(upstream: Sandbox, open_app: OpenApp) -> None:
    """There is an objection to a repair if a NOMIS record from a later day would stay current."""
    upstream.reset(prisoners=60, mismatches={"7": 1})
    plan = fixes.plan_repair(open_app().services, planted(upstream, 7)["offenderNo"])
    assert "would not become current" in str(plan.objection)


def test_fixes_that_are_not_possible_are_refused(upstream: Sandbox, open_app: OpenApp) -> None:
    """A repair is refused if the prisoner is unknown or has no review in DPS.

    A received event is refused if its reason leads to no review. There is an objection to a received event that is
    dated before the current record.
    """
    upstream.reset(prisoners=60, mismatches={"3": 1})
    services = open_app().services
    moment = datetime.fromisoformat("2023-05-20T15:22:00")
    offender_no = planted(upstream, 3)["offenderNo"]
    with pytest.raises(RuleError, match="RETURN_FROM_COURT leads to no review"):
        fixes.plan_received(services, offender_no, "LEI", "RETURN_FROM_COURT", moment)
    with pytest.raises(RuleError, match="no review in DPS"):
        fixes.plan_repair(services, offender_no)
    with pytest.raises(UnknownPrisoner, match="Z9999ZZ"):
        fixes.plan_repair(services, "Z9999ZZ")
    early = fixes.plan_received(services, offender_no, "LEI", "NEW_ADMISSION", moment)
    assert "would not become current" in str(early.objection)


def test_the_verification_waits_for_both_sides(upstream: Sandbox, open_app: OpenApp) -> None:
    """The verification of a fix reads both sides until they agree or the time limit is reached."""
    upstream.reset(prisoners=60, in_flight=1, in_flight_seconds=0.5, mismatch_rate=0)
    who = upstream.planted()["mismatches"][0]
    services = open_app().services
    assert not fixes.verify(services, who["offenderNo"], who["bookingId"]).equal
    assert fixes.verify(services, who["offenderNo"], who["bookingId"], within_seconds=20).equal


def test_an_explanation_has_the_complete_histories(upstream: Sandbox, open_app: OpenApp) -> None:
    """An explanation of a difference gives its cause and the evidence from both sides, including each current record.

    If the levels agree, there is no diagnosis.
    """
    upstream.reset(prisoners=60, mismatches={"5": 1})
    app = open_app()
    offender_no = planted(upstream, 5)["offenderNo"]
    explained = explain_prisoner(app.services, app.database, PendingMessages, offender_no, NEAR, now())
    assert not explained.equal
    assert explained.mismatch.diagnosis is not None
    assert explained.mismatch.diagnosis.number == 5
    assert {row.side for row in explained.mismatch.evidence} == {"NOMIS", "DPS"}
    assert [row.current for row in explained.mismatch.evidence].count(True) == 2
    differing = {each["offenderNo"] for each in upstream.planted()["mismatches"]}
    agreeing = next(each["offenderNo"] for each in upstream.prisoners() if each["offenderNo"] not in differing)
    equal = explain_prisoner(app.services, app.database, PendingMessages, agreeing, NEAR, now())
    assert equal.equal
    assert equal.mismatch.diagnosis is None


def test_an_explanation_does_not_propose_itself(upstream: Sandbox, open_app: OpenApp) -> None:
    """For an unknown cause, the report proposes the command that explains the difference.

    The explanation has the same diagnosis, but proposes no command.
    """
    upstream.reset(prisoners=60, mismatches={"10": 1})
    app = open_app()
    offender_no = planted(upstream, 10)["offenderNo"]
    [reported] = reconciled(app).mismatches
    explain = f"prisoner-to-nomis reconcile explain {offender_no}"
    assert reported.diagnosis is not None
    assert reported.diagnosis.commands == (explain,)
    explained = explain_prisoner(app.services, app.database, PendingMessages, offender_no, NEAR, now())
    assert explained.mismatch.diagnosis == reported.diagnosis.model_copy(update={"commands": ()})
