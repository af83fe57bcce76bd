"""The fixes against the sandbox: planned, done once, recorded, verified; and the explanation of one prisoner."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest

from reports import fixes
from reports.explain import UnknownPrisoner, explain
from reports.waiting import nothing_waits
from sandbox import Sandbox
from sync.clock import now
from sync.failures import RuleError, UpstreamError
from sync.store.actions import list_actions
from sync.store.telemetry import read_events
from tests.reports.conftest import OpenOffice

NEAR = timedelta(hours=24)


def planted(world: Sandbox, row: int) -> dict[str, Any]:
    """The prisoner with this cause."""
    return next(each for each in world.planted()["mismatches"] if each["cause"] == row)


@pytest.mark.parametrize("row", [3, 4])
def test_a_missed_arrival_is_published_again(world: Sandbox, office: OpenOffice, row: int) -> None:
    """As the diagnosis proposes it: DPS then has its review, and the level of that is what NOMIS is to get."""
    world.reset(prisoners=60, mismatches={str(row): 1})
    opened = office()
    offender_no = planted(world, row)["offenderNo"]
    arrival = fixes.propose_received(opened.services, nothing_waits, offender_no, NEAR)
    assert arrival is not None
    plan = fixes.plan_received(opened.services, offender_no, arrival.prison_id, arrival.reason, arrival.occurred_at)
    assert plan.objection is None
    assert plan.request == f"prisoner-search: PUT /events/prisoner/received/{offender_no}"
    assert world.journal("prisoner-search") == []
    before = explain(opened.services, opened.database, nothing_waits, offender_no, NEAR, now())
    fixes.apply_received(opened.services, opened.database, plan, "operator")
    assert len(world.journal("prisoner-search")) == 1
    after = explain(opened.services, opened.database, nothing_waits, offender_no, NEAR, now())
    reviews = [[each for each in told.mismatch.evidence if each.side == "DPS"] for told in (before, after)]
    assert len(reviews[1]) == len(reviews[0]) + 1
    assert reviews[1][0].at == arrival.occurred_at
    again = fixes.plan_received(opened.services, offender_no, arrival.prison_id, arrival.reason, arrival.occurred_at)
    assert again.objection is not None
    with opened.database.read() as connection:
        [action] = list_actions(connection)
    assert (action.who, action.action, action.outcome) == ("operator", "reconcile fix received", "done")


@pytest.mark.parametrize("row", [2, 6])
def test_the_dps_level_is_written_again(world: Sandbox, office: OpenOffice, row: int) -> None:
    """One more record in NOMIS, both sides agree when read again, and the event says what was written."""
    world.reset(prisoners=60, mismatches={str(row): 1})
    opened = office()
    who = planted(world, row)
    plan = fixes.plan_repair(opened.services, who["offenderNo"])
    assert (plan.objection, plan.dps_level, plan.booking_id) == (None, who["dps"], who["bookingId"])
    sequence = fixes.apply_repair(opened.services, opened.database, opened.telemetry, plan, "operator")
    assert len(world.journal("nomis")) == 1
    assert fixes.verify(opened.services, who["offenderNo"], who["bookingId"]).mended
    [event] = [each["properties"] for each in read_events(opened.database, "incentives-repair")]
    assert event["nomisIncentiveSequence"] == str(sequence)
    assert (event["offenderNo"], event["iep"]) == (who["offenderNo"], who["dps"])
    assert fixes.plan_repair(opened.services, who["offenderNo"]).objection == f"both sides have {who['dps']} already"


def test_a_repair_that_would_not_become_current_is_objected_to(world: Sandbox, office: OpenOffice) -> None:
    """A NOMIS record of a later day would stay current whatever is written."""
    world.reset(prisoners=60, mismatches={"7": 1})
    plan = fixes.plan_repair(office().services, planted(world, 7)["offenderNo"])
    assert "would not become current" in str(plan.objection)


def test_refuses_what_makes_no_sense(world: Sandbox, office: OpenOffice) -> None:
    """A reason without a review, a prisoner without one, and nobody at all are said in words."""
    world.reset(prisoners=60, mismatches={"3": 1})
    services = office().services
    moment = datetime.fromisoformat("2023-05-20T15:22:00")
    offender_no = planted(world, 3)["offenderNo"]
    with pytest.raises(RuleError, match="RETURN_FROM_COURT makes no review"):
        fixes.plan_received(services, offender_no, "LEI", "RETURN_FROM_COURT", moment)
    with pytest.raises(RuleError, match="no review in DPS"):
        fixes.plan_repair(services, offender_no)
    with pytest.raises(UnknownPrisoner, match="Z9999ZZ"):
        fixes.plan_repair(services, "Z9999ZZ")
    early = fixes.plan_received(services, offender_no, "LEI", "NEW_ADMISSION", moment)
    assert "would not become current" in str(early.objection)


def test_records_an_attempt_that_failed(world: Sandbox, office: OpenOffice) -> None:
    """Who tried what is kept although it did not work; comments of reviews are not."""
    world.reset(prisoners=60, mismatches={"2": 1})
    opened = office()
    plan = fixes.plan_repair(opened.services, planted(world, 2)["offenderNo"])
    world.fault("nomis", "POST", kind="status", status=400)
    with pytest.raises(UpstreamError):
        fixes.apply_repair(opened.services, opened.database, opened.telemetry, plan, "operator")
    with opened.database.read() as connection:
        [action] = list_actions(connection)
    assert action.outcome.startswith("failed: nomis: POST")
    assert "comments" not in action.details["body"]


def test_verifying_waits_for_the_other_side(world: Sandbox, office: OpenOffice) -> None:
    """Reads again until both agree, but no longer than told."""
    world.reset(prisoners=60, in_flight=1, in_flight_seconds=0.5, mismatch_rate=0)
    who = world.planted()["mismatches"][0]
    services = office().services
    assert not fixes.verify(services, who["offenderNo"], who["bookingId"]).mended
    assert fixes.verify(services, who["offenderNo"], who["bookingId"], within_seconds=20).mended


def test_explains_one_prisoner_with_whole_histories(world: Sandbox, office: OpenOffice) -> None:
    """Cause and evidence as in the report; of somebody whose levels agree the histories alone."""
    world.reset(prisoners=60, mismatches={"5": 1})
    opened = office()
    told = explain(opened.services, opened.database, nothing_waits, planted(world, 5)["offenderNo"], NEAR, now())
    assert not told.equal
    assert told.mismatch.diagnosis is not None
    assert told.mismatch.diagnosis.number == 5
    assert {row.side for row in told.mismatch.evidence} == {"NOMIS", "DPS"}
    assert [row.current for row in told.mismatch.evidence].count(True) == 2
    differing = {each["offenderNo"] for each in world.planted()["mismatches"]}
    agreeing = next(each["offenderNo"] for each in world.prisoners() if each["offenderNo"] not in differing)
    equal = explain(opened.services, opened.database, nothing_waits, agreeing, NEAR, now())
    assert equal.equal
    assert equal.mismatch.diagnosis is None
