"""Runs for chosen prisons and prisoners, and runs whose list is empty."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from reports.engine.run_start import ReconciliationParameters
from reports.presentation.summary import next_steps
from sandbox import Sandbox
from sync.settings import times
from sync.upstream.breaker import set_breaker
from tests.harness.reconciliations import (
    OpenApp,
    planted_causes,
    result_of,
)


def test_a_run_over_one_prison_counts_only_its_prisoners(upstream: Sandbox, open_app: OpenApp) -> None:
    """A run for one prison counts only the prisoners of that prison, including those without a NOMIS record."""
    upstream.reset(prisoners=400, mismatches={"2": 6, "7": 6})
    prison = next(each["prisonId"] for each in planted_causes(upstream) if each["cause"] == 2)
    expected = {each["bookingId"] for each in planted_causes(upstream) if each["prisonId"] == prison}
    result = result_of(open_app().reconcile(ReconciliationParameters(prisons=(prison,))))
    assert {each.booking_id for each in result.mismatches} == expected
    assert {each.prison_id for each in result.prisons} <= {prison, None}
    assert result.compared == sum(each["prisonId"] == prison for each in upstream.prisoners())


def test_a_chosen_prison_without_prisoners_makes_the_run_incomplete(upstream: Sandbox, open_app: OpenApp) -> None:
    """If a chosen prison has no prisoners, the run is incomplete and names the prison.

    This holds even if prisoners of another chosen prison were compared.
    """
    upstream.reset(prisoners=100)
    there = upstream.prisoners()[0]["prisonId"]
    app = open_app()
    alone = result_of(app.reconcile(ReconciliationParameters(prisons=("XXX",))))
    assert (alone.status, alone.compared, alone.empty_prisons) == ("incomplete", 0, ("XXX",))
    both = result_of(app.reconcile(ReconciliationParameters(prisons=(there, "XXX"))))
    assert (both.status, both.empty_prisons) == ("incomplete", ("XXX",))
    assert both.compared > 0
    assert result_of(app.reconcile(ReconciliationParameters(prisons=(there,)))).status == "complete"


def test_a_list_that_is_suddenly_empty_fails_the_run(upstream: Sandbox, open_app: OpenApp) -> None:
    """If nobody is listed although an earlier run listed prisoners, the run fails and resolves no difference.

    The report gives the command that accepts the empty list.
    """
    upstream.reset(prisoners=20, mismatches={"7": 2})
    app = open_app()
    assert result_of(app.reconcile()).status == "complete"
    upstream.reset(prisoners=0)
    emptied = result_of(app.reconcile())
    assert (emptied.status, emptied.resolved) == ("failed", ())
    assert emptied.failure == "no prisoners are listed, but an earlier run listed 20"
    accept = f"prisoner-to-nomis reconcile incentives --accept {emptied.run_id}"
    assert [each.command for each in next_steps(emptied)] == [
        f"prisoner-to-nomis runs rerun {emptied.run_id}",
        accept,
    ]


def test_a_list_that_empties_during_the_run_resolves_nothing(upstream: Sandbox, open_app: OpenApp) -> None:
    """If the list is empty at the recheck or when a run is resumed, no prisoner counts as released.

    Nor does any difference count as resolved.
    """
    upstream.reset(prisoners=40, mismatches={"7": 2})
    app = open_app(reports_incentives_reconciliation_page_size="10", reconciliation_recheck_seconds="1")
    everyone = [each["offenderNo"] for each in upstream.prisoners()]

    def empty(_seconds: float = 0) -> None:
        for offender_no in everyone:
            upstream.release(offender_no)

    relisted = result_of(app.reconcile(sleep=empty))
    assert (relisted.released, len(relisted.mismatches)) == ((), 2)

    upstream.reset(prisoners=40, mismatches={"7": 2})
    booking_id = upstream.prisoners()[3]["bookingId"]
    upstream.fault("nomis", "GET", f"/incentives/booking-id/{booking_id}/current$", status=400)
    begun = app.reconcile(run_id="begun")
    assert begun.status == "incomplete"
    upstream.clear_faults()
    empty()
    resumed = result_of(app.reconcile(ReconciliationParameters(resume="begun")))
    assert (resumed.status, resumed.resolved) == ("failed", ())
    assert resumed.failure == "no prisoners are listed, but this run had found 40 before"


def test_a_prison_is_empty_only_if_everybody_was_read(upstream: Sandbox, open_app: OpenApp) -> None:
    """A prison does not count as empty while a prisoner is unread, since that prisoner may be there."""
    upstream.reset(prisoners=60)
    prison = upstream.prisoners()[0]["prisonId"]
    upstream.fault("nomis", "GET", "/incentives/booking-id/{b}/current", kind="status", status=400)
    patient = open_app(reconciliation_max_unreadable_percent="100")
    result = result_of(patient.reconcile(ReconciliationParameters(prisons=(prison,))))
    assert result.status == "incomplete"
    assert result.empty_prisons == ()


def test_a_run_over_an_empty_environment_is_complete(upstream: Sandbox, open_app: OpenApp) -> None:
    """In an environment without prisoners, there is nothing to compare, so a run is complete."""
    upstream.reset(prisoners=0)
    result = result_of(open_app().reconcile())
    assert (result.status, result.compared) == ("complete", 0)


def test_a_single_prisoner_is_compared_with_or_without_a_review(upstream: Sandbox, open_app: OpenApp) -> None:
    """A run for chosen prisoners compares each of them, with or without a DPS review.

    An unknown prisoner number counts as unread, and the run is incomplete.
    """
    upstream.reset(prisoners=100, mismatches={"3": 1, "7": 1})
    wanted = tuple(each["offenderNo"] for each in planted_causes(upstream))
    app = open_app()
    outcome = app.reconcile(ReconciliationParameters(offender_nos=(*wanted, "Z9999ZZ")))
    result = result_of(outcome)
    assert {each.offender_no for each in result.mismatches} == set(wanted)
    assert [each.offender_no for each in result.unread] == ["Z9999ZZ"]
    assert outcome.status == "incomplete"
    assert app.events("requested") == []


@pytest.mark.parametrize("case", ["no review", "search", "summary"])
def test_a_run_for_chosen_prisoners_that_waits_can_be_stopped(
    upstream: Sandbox, open_app: OpenApp, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    """While a run looks up a chosen prisoner and a service is down, it says what it waits for, and can be stopped.

    This holds for the whole list of active prisoners, for the search of one page, and for the summary of the reviews.
    """
    monkeypatch.setattr(times, "PING_SECONDS", 0.0)
    upstream.reset(prisoners=20)
    app = open_app(with_breakers=True)
    chosen = "Z9999ZZ" if case == "no review" else upstream.prisoners()[0]["offenderNo"]
    service = "incentives" if case == "summary" else "nomis"
    upstream.fault(service, kind="status", status=503)
    with app.database.begin() as connection:
        set_breaker(connection, service, "open", opened_at=datetime(2023, 5, 22, 8, 30, tzinfo=UTC))
    longest = "90 s" if case == "no review" else "10 min"

    def stop(stage: str, _done: int, _total: int) -> None:
        if "waiting" in stage:
            assert stage == f"listing, waiting up to {longest}: {service} has counted as down since 22 May 09:30"
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        app.reconcile(ReconciliationParameters(offender_nos=(chosen,)), progress=stop, outage_seconds=600)
