"""The report, its index and the CSV: correct, and safe to open whatever external text they contain."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import re
from collections.abc import Callable
from datetime import timedelta
from unicodedata import category

import html5lib
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reports.engine.result import PrisonCount, TrendPoint
from reports.engine.runs import EndedRun
from reports.presentation.alerts import alert_message
from reports.presentation.chart import draw_trend
from reports.presentation.csv import render_csv
from reports.presentation.email_report import email_report
from reports.presentation.index import render_index
from reports.presentation.masking import Masking
from reports.presentation.page import render_report
from reports.presentation.slack_blocks import LONGEST_MESSAGE
from reports.presentation.slack_report import slack_report
from reports.reconciliations.incentives.result import IncentiveMismatch, IncentiveResult, Side
from reports.reconciliations.incentives.view import COLUMNS
from reports.reconciliations.results import parse_result
from tests.harness.html import Tags
from tests.harness.messages import attached, channel_text, thread_text
from tests.harness.results import STARTED, ended_run, made_result, mismatch, with_everything

EVIL = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'&"


def index_of(*runs: EndedRun) -> str:
    """The index of these runs, an hour after the first of them."""
    return render_index({"incentives": "Incentive levels"}, runs, {}, "Production", STARTED + timedelta(hours=1))


def rows_of(result: IncentiveResult) -> dict[int, str]:
    """The prisoner of each row of the page, by the number that links to the row."""
    found = re.findall(
        r'<tbody class="one" id="([^"]+)".*?<a href="#([^"]+)">(\d+)</a></td><th scope="row">(\S+)',
        render_report(result),
        flags=re.DOTALL,
    )
    assert all(anchor == target for anchor, target, _, _ in found)
    return {int(number): prisoner for _, _, number, prisoner in found}


def evil_result() -> IncentiveResult:
    """A run in which every external text tries to be markup."""
    base = with_everything(1)
    side = Side(level=EVIL, at=STARTED, prison_id=EVIL, origin=EVIL, user_id=EVIL, record=1)
    found = base.mismatches[0]
    assert found.diagnosis is not None
    bad = found.model_copy(
        update={
            "offender_no": EVIL,
            "prison_id": EVIL,
            "nomis": side,
            "dps": side,
            "evidence_missing": EVIL,
            "diagnosis": found.diagnosis.model_copy(update={"cause": EVIL, "explanation": EVIL, "commands": (EVIL,)}),
            "evidence": (found.evidence[0].model_copy(update={"note": EVIL, "user_id": EVIL, "origin": EVIL}),),
        }
    )
    unread = base.unread[0].model_copy(update={"reason": EVIL})
    changes = {"mismatches": (bad,), "unread": (unread,), "environment": EVIL, "failure": EVIL}
    return base.model_copy(update={**changes, "status": "failed"})


@pytest.mark.parametrize("page", ["report", "email", "index"])
def test_escapes_everything_from_outside(page: str) -> None:
    """No text becomes a tag or an attribute on any page."""
    result = evil_result()
    html = {
        "report": lambda: render_report(result),
        "email": lambda: email_report(result, None, EVIL, Masking()).html,
        "index": lambda: index_of(ended_run(EVIL, EVIL, title=EVIL, counted=EVIL, parameters={"prisons": [EVIL]})),
    }[page]()
    tags = Tags(html)
    assert not [tag for tag, _ in tags.found if tag == "img"]
    assert not [name for _, attributes in tags.found for name in attributes if name.startswith("on")]
    scripts = [tag for tag, _ in tags.found if tag == "script"]
    assert len(scripts) == (0 if page == "email" else 1)
    assert "alert(2)" in tags.text


def test_lets_nothing_be_loaded_or_run_but_its_own() -> None:
    """The policy names the page's own style and script by their hashes, and nothing else."""
    html = render_report(made_result(3))
    [policy] = [a["content"] for tag, a in Tags(html).found if a.get("http-equiv") == "Content-Security-Policy"]
    assert policy is not None
    assert policy.startswith("default-src 'none'; ")
    for name in ("style", "script"):
        [inline] = re.findall(rf"<{name}>(.*?)</{name}>", html, flags=re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(inline.encode()).digest()).decode()
        assert f"{name}-src 'sha256-{digest}'" in policy
    assert not re.search(r"(?:src|href|action)=[\"']?(?:https?:)?//", html)


def test_says_on_the_first_screen_what_matters() -> None:
    """The first screen says how many of how many differ, how many are new, where, and which levels."""
    text = " ".join(Tags(render_report(made_result(3))).text.split())
    for part in (
        "3 of 87,012 prisoners had different incentive levels in NOMIS and in DPS",
        "Run of 22 May 2023 at 04:00",
        "of 87,012 compared",
        "3 of 4 prisons have differences",
        "45,000",
    ):
        assert part in text


def test_never_looks_like_success_when_it_was_not_one() -> None:
    """An incomplete run and a failed run say so first, and what to do."""
    incomplete = Tags(render_report(with_everything(0))).text
    assert "This run is incomplete: " in incomplete
    assert "--resume run-of-today" in incomplete
    assert "Every prisoner has the same level" not in incomplete
    failed = Tags(render_report(made_result(0, status="failed", failure="nomis is down"))).text
    assert "the reconciliation failed" in failed
    assert "nomis is down" in failed


def test_says_whom_it_looked_at_and_how_long() -> None:
    """The page gives the ids of the prisons, and the duration in words."""
    part = made_result(3, parameters={"prisons": ["MDI", "LEI"]}, finished_at=STARTED + timedelta(seconds=1))
    assert "22 May 2023 at 04:00, covering only MDI and LEI. It took 1 second." in Tags(render_report(part)).text
    assert "22 May 2023 at 04:00. It took 9 minutes." in Tags(render_report(made_result(3))).text


def test_a_prisoner_without_a_nomis_record_belongs_to_no_prison() -> None:
    """Such prisoners have a separate row, which does not count as a prison."""
    made = made_result(3)
    nowhere = PrisonCount(prison_id=None, compared=9, mismatches=1, new=1)
    page = Tags(render_report(made.model_copy(update={"prisons": (*made.prisons, nowhere)}))).text
    assert "3 of 4 prisons have differences" in page
    assert "unknown" in page


def test_links_differences_only_of_a_run_that_looked() -> None:
    """The list of a run that compared nobody would be empty, and would look like good news."""
    lines = [
        ended_run("looked", compared=5, mismatches=0, new=0),
        ended_run("failed", "failed", compared=0, mismatches=0, new=0),
    ]
    page = index_of(*lines)
    assert ("looked/mismatches.csv" in page, "failed/mismatches.csv" in page) == (True, False)


def test_differences_that_do_not_count_are_not_agreement() -> None:
    """A page without mismatches still mentions differences in flight and excluded ones."""
    everything = with_everything(0)
    aside = {"in_flight": everything.in_flight, "excluded": everything.excluded}
    page = " ".join(Tags(render_report(made_result(0, **aside))).text.split())
    assert "no difference was found among 87,012 prisoners, apart from 1 in flight and 1 excluded" in page
    assert "Nothing differs apart from 1 in flight and 1 excluded." in page
    assert "the same" not in page
    assert "3 April 2023" in page


@pytest.mark.parametrize("number", [0, 1, 3, 400])
def test_shows_every_mismatch_with_its_evidence(number: int) -> None:
    """Every mismatch is shown with its cause, its command and both histories."""
    result = made_result(number)
    page = Tags(render_report(result))
    assert sorted(rows_of(result).values()) == sorted(each.offender_no for each in result.mismatches)
    for each in result.mismatches:
        assert each.diagnosis is not None
        assert each.diagnosis.commands[0] in page.text


def test_tells_runs_of_one_day_apart() -> None:
    """If two points of the trend share a day, or even a minute, each shows its time. Other points stay short."""
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


def test_tells_runs_of_one_minute_apart_in_the_index() -> None:
    """Each run has a separate name for its link."""
    moments = [STARTED + timedelta(seconds=40), STARTED, STARTED - timedelta(hours=1)]
    lines = [ended_run(f"run-{number}", started_at=moment) for number, moment in enumerate(moments)]
    named = re.findall(r'<th scope="row"><a href="[^"]*report.html">([^<]+)</a>', index_of(*lines))
    assert named == ["22 May 2023 at 04:00:40", "22 May 2023 at 04:00:00", "22 May 2023 at 03:00"]


@settings(deadline=None, max_examples=60)
@given(st.text(min_size=1, max_size=20), st.sampled_from(["=", "+", "-", "@", "\t", "\r", "", " =", "\0=", "\u202e="]))
def test_no_cell_of_the_csv_is_a_formula(text: str, start: str) -> None:
    """Whatever a service returns, no cell begins like a formula, and every row has all columns."""
    bad = mismatch(1, prison_id=start + text, nomis=Side(level=start + text, user_id=start + text, record=1))
    rows = list(
        csv.reader(io.StringIO(render_csv(made_result(0).model_copy(update={"mismatches": (bad,)})), newline=""))
    )
    assert rows[0] == list(COLUMNS)
    assert len(rows) == 2
    assert len(rows[1]) == len(COLUMNS)
    assert not [cell for cell in rows[1] if cell.lstrip().startswith(("=", "+", "-", "@")) or cell.startswith("\n")]
    assert not [cell for cell in rows[1] if {"Cc", "Cf", "Cs"} & set(map(category, cell.replace("\n", "")))]


def test_no_text_steers_a_page_or_an_email() -> None:
    """Escapes, NULs and direction changes in texts of the services are removed."""
    evil = "\x1b[2Jgone\0\x9b\u202eevil"
    bad = mismatch(1, nomis=Side(level="STD", user_id=evil, record=1), evidence_missing=evil)
    result = made_result(0).model_copy(update={"mismatches": (bad,), "failure": evil, "environment": evil})
    email = email_report(result, None, evil, Masking())
    for text in (render_report(result), email.text, email.html):
        assert "gone" in text
        assert not {"Cc", "Cf", "Cs"} & set(map(category, text.replace("\n", "")))


def test_keeps_the_columns_that_people_rely_on() -> None:
    """Spreadsheets rely on the heading of the CSV."""
    assert ",".join(COLUMNS) == (
        "run_id,offender_no,booking_id,prison_id,nomis_level,dps_level,standing,since,nomis_date_time,nomis_prison_id,"
        "nomis_audit_module,nomis_user_id,nomis_sequence,dps_date_time,dps_prison_id,dps_review_type,dps_user_id,"
        "dps_review_id,cause_number,cause,confidence,right_side,explanation,action,commands,request,row,evidence_missing"
    )
    [_, row] = list(csv.reader(io.StringIO(render_csv(made_result(1)))))
    assert dict(zip(COLUMNS, row, strict=True))["nomis_date_time"] == "2023-05-20T15:22:00"


def test_leaves_nothing_unmasked() -> None:
    """Masked messages contain no whole prisoner number, even inside a sentence or a command."""
    result = made_result(30)
    masking = Masking(on=True)
    slack = slack_report(result, None, "somewhere", masking)
    mail = email_report(result, None, "somewhere", masking)
    sent = "\n".join(
        [each.text for each in slack.posts]
        + [each.content for each in (*slack.files, *mail.files)]
        + [mail.subject, mail.text, mail.html]
    )
    numbers: tuple[IncentiveMismatch, ...] = result.mismatches
    assert not [each.offender_no for each in numbers if each.offender_no in sent or str(each.booking_id) in sent]


@pytest.mark.parametrize(
    "path",
    [
        "/incentives/booking-id/714893/current",
        "/iep/reviews/booking/714893?with-details=true",
        "/mapping/incentives/nomis-booking-id/714893/nomis-incentive-sequence/1",
        '/bookings: {"bookingId":714893}',
        "/prisoners/A4471CK",
    ],
)
def test_masks_what_upstream_errors_name(path: str) -> None:
    """Paths and responses of services name bookings in different ways, and two digits of each are left."""
    why = f"nomis: GET {path}: status 503: booking 714893 is busy"
    bad = mismatch(1, diagnosis=None, evidence_missing=why)
    result = made_result(0).model_copy(update={"mismatches": (bad,), "status": "failed", "failure": why})
    masking = Masking(on=True)
    slack, mail = slack_report(result, None, "somewhere", masking), email_report(result, None, "somewhere", masking)
    for sent in ("\n".join(each.text for each in slack.posts), attached(slack, "csv"), mail.text, mail.html):
        assert "714893" not in sent
        assert "A4471CK" not in sent
        assert "booking •••••93 is busy" in sent


def test_masked_lines_are_found_in_the_report_by_their_row() -> None:
    """Slack, email, CSV and report use the same row numbers, without asterisks, which Slack removes."""
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


def test_says_in_every_message_how_an_incomplete_run_is_resumed() -> None:
    """The message has the command with the run's id and number of shards. Other runs need no resuming."""
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


def test_gives_the_request_where_only_nomis_support_can_fix() -> None:
    """No command fixes such a difference, so Slack and the email have the request too."""
    result = made_result(3)
    [asked] = [each for each in result.mismatches if each.diagnosis and each.diagnosis.request]
    assert asked.diagnosis is not None
    assert asked.diagnosis.request is not None
    mail = email_report(result, None, "somewhere", Masking())
    for sent in (thread_text(slack_report(result, None, "somewhere", Masking())), mail.text, mail.html):
        assert asked.diagnosis.request in sent


def test_says_in_the_csv_why_evidence_is_missing() -> None:
    """The row explains why the cells of a cause are empty."""
    result = made_result(0).model_copy(update={"mismatches": (mismatch(1, diagnosis=None, evidence_missing="busy"),)})
    [row] = csv.DictReader(io.StringIO(render_csv(result)))
    assert (row["cause"], row["evidence_missing"]) == ("", "busy")


def test_goes_to_json_and_back() -> None:
    """The result is the same after a round trip through JSON, with camelCase names."""
    result = with_everything(30)
    text = result.to_json(indent=1)
    assert parse_result(text) == result
    assert '"offenderNo"' in text
    assert "offender_no" not in text


HOSTILE = "<!channel> & <@U1|x> `code` >\n*Report:* \u202e<https://evil.example|here>"


def without_markup(text: str) -> str:
    """A Slack text without its own code spans and entities. Every span is closed on its line."""
    for line in text.splitlines():
        assert line.count("`") % 2 == 0, line
    return re.sub(r"&(amp|lt|gt);", "", re.sub(r"`[^`\n]*`", "", text))


@pytest.mark.parametrize("masked", [False, True])
def test_no_foreign_text_acts_in_slack(masked: bool) -> None:
    """A number, level, prison or text of a service mentions no user and makes no link or line break."""
    found = mismatch(2).diagnosis
    assert found is not None
    hostile = found.model_copy(update=dict.fromkeys(("cause", "action", "request"), HOSTILE) | {"commands": (HOSTILE,)})
    side = mismatch(2).nomis
    assert side is not None
    everywhere = {"offender_no": HOSTILE, "prison_id": HOSTILE, "nomis": side.model_copy(update={"level": HOSTILE})}
    mismatches = (
        mismatch(1, **everywhere, diagnosis=hostile),
        mismatch(2, **everywhere, diagnosis=None, evidence_missing=HOSTILE),
    )
    changes = {"environment": HOSTILE, "status": "failed", "failure": HOSTILE, "run_id": HOSTILE}
    result = made_result(2).model_copy(update={"mismatches": mismatches, **changes})
    masking = Masking(on=masked)
    report = slack_report(result, HOSTILE, HOSTILE, masking)
    payload = {
        "event": HOSTILE,
        "time": HOSTILE,
        "properties": {HOSTILE: HOSTILE, "offenderNo": HOSTILE, "bookingId": HOSTILE},
        "domain": HOSTILE,
        "severity": HOSTILE,
        "command": HOSTILE,
        "link": HOSTILE,
    }
    for text in (*(each.text for each in report.posts), alert_message(payload, HOSTILE, masking).text):
        without_our_link = re.sub(r"<[^<>|\s]+\|Open the report>", "", text)
        assert not re.search("[<>&`\u202e]", without_markup(without_our_link))
        assert not any(line.lstrip().startswith("*Report:*") for line in text.splitlines())


@pytest.mark.parametrize(
    ("event", "title"),
    [
        ("incentives-reports-reconciliation-not-run", "The incentive reconciliation could not run in Production"),
        ("x-not-run", "A reconciliation could not run in Production: x-not-run"),
        ("x", "To NOMIS synchronisation needs attention in Production: x"),
    ],
)
def test_alerts_are_known_by_their_text(event: str, title: str) -> None:
    """The runbook leads from the text to the action. An event without a separate text has a general one."""
    assert alert_message({"event": event, "time": "t"}, "Production", Masking()).text.startswith(f"*{title}*\n")


def test_no_property_makes_an_alert_too_long_for_slack() -> None:
    """A text of a service is cut, and the command above it is still there."""
    payload = {"event": "e", "time": "t", "properties": {"reason": "x" * 100_000}, "command": "prisoner-to-nomis check"}
    text = alert_message(payload, "Production", Masking()).text
    assert len(text) <= LONGEST_MESSAGE
    assert "\n`prisoner-to-nomis check`\n" in text


def with_failure() -> IncentiveResult:
    """A result with everything that a page may show, of a run that failed."""
    return with_everything().model_copy(update={"status": "failed", "failure": "NOMIS did not answer"})


#: Makes each page in its different states, with everything that it may show.
PAGES: dict[str, Callable[[], str]] = {
    "report": lambda: render_report(with_everything()),
    "report without differences": lambda: render_report(made_result(0)),
    "report of a failed run": lambda: render_report(with_failure()),
    "index": lambda: index_of(ended_run()),
    "index without runs": index_of,
    "email": lambda: email_report(with_everything(), "https://reports.example/", "somewhere", Masking()).html,
}

#: What elements of these names are already, so that a role as well is wrong or idle.
TABLE_PARTS = {"table", "caption", "thead", "tbody", "tr", "th", "td"}


@pytest.mark.parametrize("name", PAGES)
def test_pages_are_valid(name: str) -> None:
    """A strict parser finds no fault, table parts have no roles, ids are unique, and every label refers to an element.

    The email is for old mail clients, which need `role="presentation"` for layout tables.
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
