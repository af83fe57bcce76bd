"""The reports of an unfinished run (page, email and Slack) say what is known and what is not, and give no all-clear."""

from __future__ import annotations

import re

import pytest

from reports.presentation.email_report import email_report
from reports.presentation.index import render_index
from reports.presentation.masking import Masking
from reports.presentation.page import render_report
from reports.presentation.slack_report import slack_report
from reports.reconciliations.incentives.result import IncentiveResult, IncentiveUnread
from sandbox import Sandbox
from tests.harness.html import text_of
from tests.harness.reconciliations import OpenApp, result_of
from tests.harness.results import STARTED, ended_run, made_result, with_everything

CURRENT = "/incentives/booking-id/{b}/current"
#: Words that a hurried reader would mistake for good news, or for a counted figure.
ALL_CLEAR = re.compile(
    r"no prison has|no differences\b|every prisoner has|ha(ve|s|d) the same"
    r"|\b0 (?:new|persisting|resolved|differences|of 0|compared|listed|active)|of 0 compared",
    re.IGNORECASE,
)


def texts(result: IncentiveResult) -> dict[str, str]:
    """The texts of the page, the email and the Slack messages about a run, by the name of the medium."""
    mail = email_report(result, None, "somewhere", Masking())
    slack = slack_report(result, None, "somewhere", Masking())
    return {
        "page": text_of(render_report(result)),
        "email": f"{mail.subject}\n{mail.text}",
        "html email": text_of(mail.html),
        "slack": "\n".join(each.text for each in slack.posts),
    }


def figures(result: IncentiveResult) -> list[tuple[str, str]]:
    """The names and values of the figures at the top of the page."""
    found = re.findall(r"<dt>(.*?)</dt><dd>(?:<a [^>]*>)?([\d,]+)", render_report(result))
    return [(name, figure) for name, figure in found]


def test_the_report_of_a_failed_run_says_to_repeat_it() -> None:
    """The report of a failed run advises repeating the run once all services are up.

    If the data was implausible, it says to check the data first, and gives one command for each result of the check.
    If a run is incomplete only because a requested prisoner was not found, its report does not suggest a resume.
    """
    for where, text in texts(made_result(0, status="failed", failure="nomis is down")).items():
        step = "When `prisoner-to-nomis check` reports that everything is up, run the reconciliation again:"
        assert step in text, where
        assert "prisoner-to-nomis runs rerun run-of-today" in text, where
    why = "no prisoners are listed, but an earlier run listed 2"
    for where, text in texts(made_result(0, status="failed", failure=why, implausible=True)).items():
        again = "If it is wrong, have it corrected, then run the reconciliation again: "
        assert f"{again}prisoner-to-nomis runs rerun run-of-today" in text.replace("`", ""), where
        accept = "If the data is right, accept it once: prisoner-to-nomis reconcile incentives --accept run-of-today"
        assert accept in text.replace("`", ""), where
        assert "reports that everything is up" not in text, where
    no_one = (IncentiveUnread(offender_no="A9999ZZ", booking_id=None, reason="not there"),)
    for where, text in texts(made_result(0, status="incomplete", unread=no_one)).items():
        assert "incomplete: 1 requested prisoner is not among the active prisoners." in text, where
        assert "--resume" not in text, where


def test_a_prison_where_nobody_was_found_gets_no_all_clear() -> None:
    """A prison where nobody was found gets no all-clear in the report, even if another prison has no differences."""
    changes = {"parameters": {"prisons": ["MDI", "XXX"]}, "empty_prisons": ("XXX",)}
    for where, text in texts(made_result(0, status="incomplete", **changes)).items():
        assert not ALL_CLEAR.search(text), where
        assert "incomplete: no active prisoner was found at XXX (is the prison id right?)." in text, where
        assert "Nothing is known about XXX." in text, where
        assert "--resume" not in text, where


def test_the_report_of_a_run_that_compared_nobody_claims_nothing(upstream: Sandbox, open_app: OpenApp) -> None:
    """If nobody could be listed, the report gives the reason in a whole sentence.

    It says that nothing is known, and shows no zeros.
    """
    upstream.fault("nomis", "GET", "/prisoners/ids", kind="status", status=400)
    result = result_of(open_app().reconcile())
    for where, text in texts(result).items():
        assert not ALL_CLEAR.search(text), where
        assert "failed before any prisoner was compared" in text, where
        assert "run failed: the number of active prisoners could not be read" in text, where
        assert "No prisoner was compared, so nothing is known about differences." in text, where
    assert figures(result) == []
    assert "<h2" not in render_report(result)


def test_the_report_of_a_run_that_gave_up_shows_what_it_saw(upstream: Sandbox, open_app: OpenApp) -> None:
    """The report of a failed run says how many prisoners the run compared, how many differ, and how many are unread."""
    upstream.reset(prisoners=300)
    upstream.fault("nomis", "GET", CURRENT, kind="status", status=400, probability=0.5, seed=3)
    result = result_of(open_app().reconcile())
    assert result.compared > 0
    assert result.mismatches == ()
    for where, text in texts(result).items():
        assert not ALL_CLEAR.search(text), where
        assert f"failed after it had compared {result.compared} of 300 prisoners" in text, where
        assert "there may be more differences" in text, where
        assert f"{len(result.unread)} could not be read" in text or where == "page", where
    assert figures(result) == [
        ("Compared", str(result.compared)),
        ("Different", "0"),
        ("Could not be read", str(len(result.unread))),
    ]
    page = texts(result)["page"]
    assert f"No difference was found among the {result.compared} prisoners compared" in page
    assert "of 300 before the run failed" in page


def test_the_differences_of_a_failed_run_are_not_a_total() -> None:
    """All differences that a failed run found are shown, and their number cannot be mistaken for the total."""
    result = made_result(3, status="failed", failure="nomis is down", compared=900, trend=made_result(3).trend[:-1])
    for where, text in texts(result).items():
        assert "failed; before that it found 3 differences among 900 of 87,012 prisoners" in text, where
        assert "2 new, 1 persisting" in text or where == "page", where
        assert not ALL_CLEAR.search(text), where
    assert figures(result) == [("Compared", "900"), ("Different", "3"), ("New", "2"), ("Persisting", "1")]
    assert "3 of 4 prisons have differences among the prisoners compared" in texts(result)["page"]


def test_the_headline_mentions_a_missing_page(upstream: Sandbox, open_app: OpenApp) -> None:
    """If a page of the list is missing and no levels on the other pages differ, the headline says both."""
    upstream.reset(prisoners=200)
    upstream.fault("nomis", "GET", "/prisoners/ids", kind="status", status=400, query="page=1")
    result = result_of(open_app().reconcile())
    assert (result.status, result.mismatches) == ("incomplete", ())
    for where, text in texts(result).items():
        assert re.search(r"Incomplete: on \d+ \w+ \d{4}, no difference was found among 150 prisoners", text), where
        assert "1 page of prisoners could not be read" in text, where
        assert not ALL_CLEAR.search(text), where
    assert ("Could not be read", "1") in figures(result)


def test_the_headline_of_an_incomplete_run_begins_with_incomplete() -> None:
    """The headline of an incomplete run begins with "Incomplete".

    The subject of the email says "incomplete" before the figures, since some people read only the subject.
    """
    result = with_everything(3)
    for where, text in texts(result).items():
        assert "Incomplete: on 22 May 2023, 3 of 87,012 prisoners had different incentive levels" in text, where
    assert texts(result)["email"].startswith("Incentive levels, Production: incomplete, 3 differences, 2 new (medium)")
    alone = made_result(0, status="incomplete", compared=1, unread=result.unread)
    no_one = made_result(0, status="incomplete", compared=0, unread=result.unread, prisons=(), matrix=())
    for where, text in texts(alone).items():
        assert "no difference was found among 1 prisoner" in text, where
        assert not ALL_CLEAR.search(text), where
    for where, text in texts(no_one).items():
        assert "Incomplete: on 22 May 2023, no prisoner was compared" in text, where
        assert not ALL_CLEAR.search(text), where


def test_a_complete_run_over_nobody_is_not_an_all_clear() -> None:
    """If a complete run found no prisoners, the report says so, and does not say that all levels are the same."""
    no_one = made_result(0, compared=0, total=0, listed=0, prisons=(), matrix=())
    for where, text in texts(no_one).items():
        assert "no prisoner was compared" in text, where
        assert not ALL_CLEAR.search(text), where


@pytest.mark.parametrize("status", ["failed", "incomplete"])
def test_the_trend_of_an_unfinished_run_does_not_show_it(status: str) -> None:
    """If an unfinished run is not in the trend, its page says so and highlights no bar.

    The page of a complete run highlights the bar of that run.
    """
    result = made_result(3, status=status, failure="nomis is down", trend=made_result(3).trend[:-1])
    assert 'class="day now"' not in render_report(result)
    assert "This run is not in the trend" in texts(result)["page"]
    assert 'class="day now"' in render_report(made_result(3))
    assert "This run is not in the trend" not in texts(made_result(3))["page"]


def test_the_index_shows_dashes_for_a_run_that_compared_nobody() -> None:
    """For a failed run that compared nobody, the index shows dashes, which screen readers read as "not known".

    For an incomplete run, the index gives the number of missing parts of the run's list.
    """
    none = {"compared": 0, "mismatches": 0, "new": 0}
    runs = [ended_run("a", "failed", **none), ended_run("b", "incomplete", **none | {"compared": 150, "gaps": 1})]
    page = render_index({}, runs, {}, "Production", STARTED)
    [first, second] = re.findall(r"<tr>\s*<th scope=\"row\".*?</tr>", page, flags=re.DOTALL)
    assert text_of(first).count("not known") == 4
    assert not re.search(r">\s*0\s*<", first)
    assert "1 part of the list" in text_of(second)
