"""The index: a card with the state of each reconciliation, and the list of runs."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

from reports.engine.result import Diagnosis
from reports.presentation.index import render_index
from reports.presentation.page import render_report
from reports.presentation.what_to_do import what_to_do
from tests.harness.html import text_of
from tests.harness.results import STARTED, ended_run, made_result, visit_mismatch, visit_result


def index_of(*runs: Any, titles: dict[str, str] | None = None, hours: int = 1) -> str:
    """The index of these runs, made `hours` hours after the first sample run began."""
    return render_index(titles or {}, runs, {}, "Production", STARTED + timedelta(hours=hours))


def cards_of(page: str) -> list[str]:
    """The text of each card in an index."""
    return [text_of(card) for card in re.findall(r'<li class="card.*?</li>', page, flags=re.DOTALL)]


def test_every_reconciliation_has_a_card() -> None:
    """The index has a card for each reconciliation, even for one that has never run, in the order of the registry.

    A card has the state and the figures of the last run, and the age of the last complete run.
    """
    visits: dict[str, Any] = {"reconciliation": "visits", "title": "Visits", "counted": "visits", "compared": 40_120}
    earlier = {"started_at": STARTED - timedelta(days=2), "finished_at": STARTED - timedelta(days=2)}
    runs = [
        ended_run("v-2", "incomplete", **visits | {"unread": 4, "gaps": 1, "mismatches": 1}),
        ended_run(mismatches=0, new=0),
        ended_run("v-1", **visits | earlier),
    ]
    titles = {"incentives": "Incentive levels", "visits": "Visits", "attendances": "Attendances"}
    page = index_of(*runs, titles=titles)
    levels, of_visits, attendances = cards_of(page)
    assert levels == (
        "Incentive levels Agrees 0 of 87,012 prisoners differ "
        "Last complete run 22 May 2023 at 04:09, 51 minutes before this page was made"
    )
    assert of_visits == (
        "Visits Incomplete 1 of 40,120 visits differs, 4 and 1 part of the list could not be read "
        "Last complete run 20 May 2023 at 04:00, 2 days before this page was made"
    )
    assert attendances == "Attendances Not run yet No complete run yet"
    assert 'href="visits/v-2/report.html"' in page
    assert 'href="run-of-today/report.html"' in page


def test_a_partial_run_does_not_change_a_card() -> None:
    """A run for one prison is listed in the index, but does not affect the card of its reconciliation."""
    page = index_of(ended_run("one-prison", parameters={"prisons": ["MDI"]}, mismatches=9), ended_run(mismatches=0))
    [card] = cards_of(page)
    assert "0 of 87,012" in card
    assert "only MDI" in text_of(page)


def test_a_failed_run_that_compared_nothing_has_no_figure() -> None:
    """The card of a failed run that compared nothing has no figures, since a zero would look like good news."""
    [card] = cards_of(index_of(ended_run("bad", "failed", compared=0, mismatches=0, new=0)))
    assert card == "Incentive levels Failed No prisoners were compared No complete run yet"


def test_screen_readers_read_the_figures_of_the_small_trend() -> None:
    """Screen readers read the figures of the trend on a card, from the oldest to the newest.

    Runs that failed, or could not read part of the list of records, are left out.
    """
    outcomes: tuple[dict[str, Any], ...] = ({}, {"status": "failed"}, {"status": "incomplete", "gaps": 1}, {}, {})
    runs = [
        ended_run(
            f"run-{number}",
            started_at=STARTED - timedelta(weeks=number),
            mismatches=number,
            new=number // 2,
            resolved=1,
            **changes,
        )
        for number, changes in enumerate(outcomes)
    ]
    [label] = re.findall(r'<svg class="spark" role="img" aria-label="([^"]*)"', index_of(*runs))
    assert label == (
        "Differences found in 3 runs, oldest first: "
        "24 April 2023: 4 (2 new, 1 resolved); 1 May 2023: 3 (1 new, 1 resolved); 22 May 2023: 0 (0 new, 1 resolved)."
    )


def test_a_card_says_what_to_do_first() -> None:
    """A card says what to do first, who does it, for how many differences, and whether there is more to do.

    A difference that needs no action is not counted. If nothing differs, the card says nothing about actions.
    """
    result = made_result(12)
    page = render_index({}, [ended_run(result.run_id)], {result.run_id: result}, "Production", STARTED)
    [card] = cards_of(page)
    first = what_to_do(result).actions[0]
    assert f"{first.who}: {first.what} 4 differences, 2 new; 2 more things to do." in card
    nothing = Diagnosis(cause="x", confidence="high", right_side="DPS", action="Do nothing.", who="nobody")
    idle = visit_mismatch(1, diagnosis=nothing)
    partly = visit_result(0, mismatches=(visit_mismatch(0), idle))
    [card] = cards_of(render_index({}, [ended_run(partly.run_id)], {partly.run_id: partly}, "Production", STARTED))
    assert "Write the current state of the visit to NOMIS. 1 new difference." in card
    assert "more thing" not in card
    agrees = made_result(0)
    [card] = cards_of(render_index({}, [ended_run(mismatches=0)], {agrees.run_id: agrees}, "Production", STARTED))
    assert "This team" not in card


def test_reports_link_back_to_the_index() -> None:
    """Every report has a link to the index, including a report in the folder of a reconciliation."""
    assert 'href="../index.html"' in render_report(made_result(1))
    assert 'href="../../index.html"' in render_report(visit_result(1))
