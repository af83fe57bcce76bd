"""The report, the index, the CSV and the messages give the right facts about a run, in valid pages."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable
from datetime import timedelta

import html5lib
import pytest

from reports.engine.result import PrisonCount, TrendPoint
from reports.engine.runs import EndedRun
from reports.presentation.alerts import alert_message
from reports.presentation.chart import draw_trend
from reports.presentation.csv import render_csv
from reports.presentation.email_report import email_report
from reports.presentation.index import render_index
from reports.presentation.masking import Masking
from reports.presentation.page import render_report
from reports.presentation.slack_report import slack_report
from reports.presentation.text import capital
from reports.reconciliations.incentives.result import IncentiveResult
from reports.reconciliations.incentives.view import COLUMNS
from reports.reconciliations.results import parse_result
from tests.harness.html import Tags, text_of
from tests.harness.messages import channel_text, thread_text
from tests.harness.results import STARTED, ended_run, made_result, mismatch, with_everything


def index_of(*runs: EndedRun) -> str:
    """The index of these runs, made an hour after the first sample run began."""
    return render_index({"incentives": "Incentive levels"}, runs, {}, "Production", STARTED + timedelta(hours=1))


def rows_of(result: IncentiveResult) -> dict[int, str]:
    """The prisoners in the rows of the report, by row number. Each number must link to its own row."""
    found = re.findall(
        r'<tbody class="one" id="([^"]+)".*?<a href="#([^"]+)">(\d+)</a></td><th scope="row">(\S+)',
        render_report(result),
        flags=re.DOTALL,
    )
    assert all(anchor == target for anchor, target, _, _ in found)
    return {int(number): prisoner for _, _, number, prisoner in found}


def test_a_report_begins_with_the_main_figures() -> None:
    """A report begins with the number of prisoners compared, the number with different levels, and the time of the run.

    These figures come before the list of contents. The parts after the list say how many prisons have differences, and
    how many prisoners have each pair of levels.
    """
    beginning, _, parts = text_of(render_report(made_result(3))).partition(" Contents ")
    for figure in (
        "3 of 87,012 prisoners had different incentive levels in NOMIS and in DPS; 2 were new",
        "Run of 22 May 2023 at 04:00",
        "Different3 of 87,012 compared",
        "New2 since 15 May 2023",
        "Persisting1 known from earlier runs",
    ):
        assert figure in beginning
    assert "3 of 4 prisons have differences" in parts
    assert (
        "DPS BAS DPS STD DPS ENH DPS none "
        "NOMIS BAS – – 2 + 1 – NOMIS STD – 45,000 – – NOMIS ENH – – 41,997 – NOMIS none – – – 12 |"
    ) in parts


def test_an_unfinished_run_does_not_seem_a_success() -> None:
    """The report of an incomplete run says that the run is incomplete, and how to resume it.

    The report of a failed run says that the run failed, and why.
    """
    incomplete = Tags(render_report(with_everything(0))).text
    assert "This run is incomplete: " in incomplete
    assert "--resume run-of-today" in incomplete
    assert "Every prisoner has the same level" not in incomplete
    failed = Tags(render_report(made_result(0, status="failed", failure="nomis is down"))).text
    assert "the reconciliation failed" in failed
    assert "nomis is down" in failed


def test_the_page_gives_the_scope_and_the_duration() -> None:
    """A report names the chosen prisons by their ids, and gives the duration of the run in words."""
    part = made_result(3, parameters={"prisons": ["MDI", "LEI"]}, finished_at=STARTED + timedelta(seconds=1))
    assert "22 May 2023 at 04:00, covering only MDI and LEI. It took 1 second." in Tags(render_report(part)).text
    assert "22 May 2023 at 04:00. It took 9 minutes." in Tags(render_report(made_result(3))).text


def test_a_prisoner_without_a_nomis_record_belongs_to_no_prison() -> None:
    """In a report, prisoners without a NOMIS record, whose prison is unknown, share a separate row.

    In the table of prisons, this row does not count as a prison.
    """
    made = made_result(3)
    nowhere = PrisonCount(prison_id=None, compared=9, mismatches=1, new=1)
    page = Tags(render_report(made.model_copy(update={"prisons": (*made.prisons, nowhere)}))).text
    assert "3 of 4 prisons have differences" in page
    assert "unknown" in page


def test_a_run_that_compared_nobody_has_no_link_to_differences() -> None:
    """The index has no link to the CSV of a run that compared nobody.

    It does have a link to the CSV of a run that compared somebody, even if nothing differed.
    """
    lines = [
        ended_run("looked", compared=5, mismatches=0, new=0),
        ended_run("failed", "failed", compared=0, mismatches=0, new=0),
    ]
    page = index_of(*lines)
    assert ("looked/mismatches.csv" in page, "failed/mismatches.csv" in page) == (True, False)


def test_uncounted_differences_are_mentioned() -> None:
    """A report without mismatches still mentions differences in flight and excluded differences."""
    everything = with_everything(0)
    aside = {"in_flight": everything.in_flight, "excluded": everything.excluded}
    page = " ".join(Tags(render_report(made_result(0, **aside))).text.split())
    assert "no difference was found among 87,012 prisoners, apart from 1 in flight and 1 excluded" in page
    assert "Nothing differs apart from 1 in flight and 1 excluded." in page
    assert "the same" not in page
    assert "3 April 2023" in page


def test_an_excluded_record_that_could_not_be_read_does_not_agree() -> None:
    """If an excluded record could not be read, the report does not say that the systems agree about everyone.

    The report also mentions differences in flight and excluded differences.
    """
    everything = with_everything(0)
    unread = everything.excluded[0].model_copy(update={"unread": "NOMIS responded with 400"})
    alone = " ".join(Tags(render_report(made_result(0, excluded=(unread,)))).text.split())
    assert "1 excluded prisoner could not be read." in alone
    assert "No difference was found among the 87,012 prisoners compared." in alone
    aside = {"in_flight": everything.in_flight, "excluded": (*everything.excluded, unread)}
    page = " ".join(Tags(render_report(made_result(0, **aside))).text.split())
    assert "compared, apart from 1 in flight and 1 excluded. Nothing is known about" in page


@pytest.mark.parametrize("number", [0, 1, 3, 400])
def test_every_mismatch_is_shown_with_its_evidence(number: int) -> None:
    """A report has a row for every mismatch, with the probable cause, how to fix it, and the history on both sides.

    Both histories are in one table, which starts with the newest record.
    """
    result = made_result(number)
    mismatches = [
        each.model_copy(
            update={"evidence": tuple(row.model_copy(update={"note": each.offender_no}) for row in each.evidence)}
        )
        for each in result.mismatches
    ]
    page = render_report(result.model_copy(update={"mismatches": tuple(mismatches)}))
    pieces = re.findall(r'<tbody class="one".*?</details>', page, flags=re.DOTALL)
    rows = {re.findall(r'<th scope="row">(\S+)', piece)[0]: text_of(piece) for piece in pieces}
    assert len(pieces) == number
    assert rows.keys() == {each.offender_no for each in mismatches}
    for each in mismatches:
        row, found = rows[each.offender_no], each.diagnosis
        assert found is not None
        for part in (capital(found.cause), found.explanation, found.action, found.request or "", *found.commands):
            assert part in row
        assert row.endswith(
            "When Side Level Prison Made by Record Remarks "
            f"20 May 2023 at 15:22:07 NOMIS BAS – OIDITRAN sequence 7 current; {each.offender_no} "
            f"2 March 2023 at 09:00:00 DPS ENH – REVIEW review 70 {each.offender_no} |"
        )


def test_runs_on_one_day_are_shown_with_their_times() -> None:
    """If runs in the trend began on the same day, their times are shown, with seconds if the minute is the same too.

    For other runs, only the day is shown.
    """
    base = made_result(3)
    later = [STARTED + timedelta(hours=5), STARTED + timedelta(hours=5, seconds=20)]
    points = [
        TrendPoint(run_id=f"again-{number}", started_at=moment, compared=87_012, mismatches=number)
        for number, moment in enumerate(later)
    ]
    result = made_result(3, run_id="again-1", started_at=later[1], trend=(*base.trend[-4:], *points))
    trend = draw_trend(result.trend)
    assert [(bar.label, bar.time) for bar in trend.bars] == [
        ("1 May", ""),
        ("8 May", ""),
        ("15 May", ""),
        ("22 May", "04:00"),
        ("22 May", "09:00:00"),
        ("22 May", "09:00:20"),
    ]
    assert trend.text.endswith(
        "15 May 2023: 13; 22 May 2023 at 04:00: 3; 22 May 2023 at 09:00:00: 0; 22 May 2023 at 09:00:20: 1."
    )
    page = Tags(render_report(result)).text
    assert all(time in page for time in ("22 May 2023 at 09:00:00", "22 May 2023 at 09:00:20"))
    assert "since 22 May 2023 at 09:00:00" in page
    assert trend.height > draw_trend(base.trend[-4:]).height


def test_each_run_in_the_index_has_a_separate_name() -> None:
    """In the index, the links to two runs have different names, even if the runs began in the same minute."""
    moments = [STARTED + timedelta(seconds=40), STARTED, STARTED - timedelta(hours=1)]
    lines = [ended_run(f"run-{number}", started_at=moment) for number, moment in enumerate(moments)]
    named = re.findall(r'<th scope="row"><a href="[^"]*report.html">([^<]+)</a>', index_of(*lines))
    assert named == ["22 May 2023 at 04:00:40", "22 May 2023 at 04:00:00", "22 May 2023 at 03:00"]


def test_the_csv_keeps_its_columns() -> None:
    """The CSV of incentive levels keeps its columns in this order: the analysts' spreadsheets rely on it."""
    assert ",".join(COLUMNS) == (
        "run_id,offender_no,booking_id,prison_id,nomis_level,dps_level,standing,since,nomis_date_time,nomis_prison_id,"
        "nomis_audit_module,nomis_user_id,nomis_sequence,dps_date_time,dps_prison_id,dps_review_type,dps_user_id,"
        "dps_review_id,cause_number,cause,confidence,right_side,explanation,action,commands,request,row,evidence_missing"
    )
    [_, row] = list(csv.reader(io.StringIO(render_csv(made_result(1)))))
    assert dict(zip(COLUMNS, row, strict=True))["nomis_date_time"] == "2023-05-20T15:22:00"


def test_masked_rows_are_identified_by_their_number() -> None:
    """Slack, the email, the CSV and the report use the same row numbers, by which masked prisoners can be found.

    Prisoner numbers are masked without asterisks, since asterisks make text bold in Slack.
    """
    result = made_result(30)
    rows = {number: each.offender_no for number, each in result.rows}
    assert sorted(rows) == list(range(1, 31))
    assert rows_of(result) == rows
    plain = csv.DictReader(io.StringIO(render_csv(result)))
    assert {int(each["row"]): each["offender_no"] for each in plain} == rows
    masking = Masking(on=True)
    slack, mail = slack_report(result, None, "somewhere", masking), email_report(result, None, "somewhere", masking)
    lines = re.findall(r"^(\d+) · \*(\S+)\* booking", thread_text(slack), flags=re.MULTILINE)
    first = {row: f"•••••{rows[row][-2:]}" for row in range(1, 21)}
    assert {int(number): masked for number, masked in lines} == first
    mailed = re.findall(r"^(\d+)\. (•\S+)", mail.text, flags=re.MULTILINE)
    assert {int(number): masked for number, masked in mailed} == first
    assert "in the same rows" in channel_text(slack)
    assert "in the same rows" in mail.text
    assert "in the same rows" not in channel_text(slack_report(result, None, "somewhere", Masking()))


def test_messages_about_an_incomplete_run_have_the_command_to_resume_it() -> None:
    """The report of an incomplete run, and the messages about it, have the command that resumes it.

    Messages about a complete run do not.
    """
    command = "prisoner-to-nomis reconcile incentives --resume run-of-today"
    result = with_everything(3)
    mail = email_report(result, None, "somewhere", Masking())
    for sent in (
        channel_text(slack_report(result, None, "somewhere", Masking())),
        mail.text,
        mail.html,
        render_report(result),
    ):
        assert command in sent
    sharded = result.model_copy(update={"parameters": {"shards": 4}})
    assert f"{command} --shards 4" in channel_text(slack_report(sharded, None, "somewhere", Masking()))
    assert "--resume" not in channel_text(slack_report(made_result(3), None, "somewhere", Masking()))


def test_messages_have_the_request_to_nomis_support() -> None:
    """If only NOMIS support can fix a difference, Slack and the email have the text of the request to send."""
    result = made_result(3)
    [asked] = [each for each in result.mismatches if each.diagnosis and each.diagnosis.request]
    assert asked.diagnosis is not None
    assert asked.diagnosis.request is not None
    mail = email_report(result, None, "somewhere", Masking())
    for sent in (thread_text(slack_report(result, None, "somewhere", Masking())), mail.text, mail.html):
        assert asked.diagnosis.request in sent


def test_the_csv_says_why_evidence_is_missing() -> None:
    """If the evidence for a difference could not be read, its row in the CSV gives the reason."""
    result = made_result(0).model_copy(update={"mismatches": (mismatch(1, diagnosis=None, evidence_missing="busy"),)})
    [row] = csv.DictReader(io.StringIO(render_csv(result)))
    assert (row["cause"], row["evidence_missing"]) == ("", "busy")


def test_a_result_survives_a_round_trip_through_json() -> None:
    """A result is the same after a round trip through JSON, in which names are in camelCase."""
    result = with_everything(30)
    text = result.to_json(indent=1)
    assert parse_result(text) == result
    assert '"offenderNo"' in text
    assert "offender_no" not in text


@pytest.mark.parametrize(
    ("event", "title"),
    [
        ("incentives-reports-reconciliation-not-run", "The incentive reconciliation could not run in Production"),
        ("x-not-run", "A reconciliation could not run in Production: x-not-run"),
        ("x", "To NOMIS synchronisation needs attention in Production: x"),
    ],
)
def test_each_alert_has_the_text_of_the_runbook(event: str, title: str) -> None:
    """An alert has the title that the runbook has for its event, or else a general title."""
    assert alert_message({"event": event, "time": "t"}, "Production", Masking()).text.startswith(f"*{title}*\n")


def with_failure() -> IncentiveResult:
    """The result of a failed run, with everything that its page can show."""
    return with_everything().model_copy(update={"status": "failed", "failure": "NOMIS did not answer"})


#: Functions that make each page in each of its states, with everything that it may show.
PAGES: dict[str, Callable[[], str]] = {
    "report": lambda: render_report(with_everything()),
    "report without differences": lambda: render_report(made_result(0)),
    "report of a failed run": lambda: render_report(with_failure()),
    "index": lambda: index_of(ended_run()),
    "index without runs": index_of,
    "email": lambda: email_report(with_everything(), "https://reports.example/", "somewhere", Masking()).html,
}


#: Elements that are parts of a table anyway, for which a role would be wrong or redundant.
TABLE_PARTS = {"table", "caption", "thead", "tbody", "tr", "th", "td"}


@pytest.mark.parametrize("name", PAGES)
def test_pages_are_valid(name: str) -> None:
    """A strict parser finds no fault in a report, the index or an email.

    Table parts have no roles, ids are unique, and every label refers to an element. Only the email has layout tables,
    which old mail clients need. They have `role="presentation"`.
    """
    page = PAGES[name]()
    html5lib.HTMLParser(strict=True).parse(page)
    tags = Tags(page).found
    roles = {(tag, attributes["role"]) for tag, attributes in tags if "role" in attributes and tag in TABLE_PARTS}
    assert roles <= ({("table", "presentation")} if name == "email" else set())
    assert ("output", "status") not in {(tag, attributes.get("role")) for tag, attributes in tags}
    ids = [attributes["id"] for _tag, attributes in tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    for attribute in ("aria-labelledby", "for", "headers", "aria-controls"):
        named = {each for _tag, attributes in tags for each in (attributes.get(attribute) or "").split()}
        assert named <= set(ids)
