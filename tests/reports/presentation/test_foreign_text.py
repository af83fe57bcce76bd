"""Texts from services do no harm on pages or in emails, CSVs or Slack.

Prisoner numbers and booking ids in these texts are masked if masking is on.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import re
from unicodedata import category

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reports.presentation.alerts import alert_message
from reports.presentation.csv import render_csv
from reports.presentation.email_report import email_report
from reports.presentation.index import render_index
from reports.presentation.masking import Masking
from reports.presentation.page import render_report
from reports.presentation.slack_blocks import LONGEST_MESSAGE
from reports.presentation.slack_report import slack_report
from reports.reconciliations.incentives.result import IncentiveMismatch, IncentiveResult, Side
from reports.reconciliations.incentives.view import COLUMNS
from tests.harness.html import Tags
from tests.harness.messages import attached
from tests.harness.results import STARTED, ended_run, made_result, mismatch, with_everything

EVIL = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'&"


def evil_result() -> IncentiveResult:
    """A result in which every text from outside is HTML that would run a script if it were not escaped."""
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
def test_external_text_never_becomes_markup(page: str) -> None:
    """No text from a service becomes a tag or an attribute in a report, an email or the index."""
    result = evil_result()
    run = ended_run(EVIL, EVIL, title=EVIL, counted=EVIL, parameters={"prisons": [EVIL]})
    html = {
        "report": lambda: render_report(result),
        "email": lambda: email_report(result, None, EVIL, Masking()).html,
        "index": lambda: render_index({"incentives": "Incentive levels"}, [run], {}, "Production", STARTED),
    }[page]()
    tags = Tags(html)
    assert not [tag for tag, _ in tags.found if tag == "img"]
    assert not [name for _, attributes in tags.found for name in attributes if name.startswith("on")]
    scripts = [tag for tag, _ in tags.found if tag == "script"]
    assert len(scripts) == (0 if page == "email" else 1)
    assert "alert(2)" in tags.text


def test_only_the_pages_own_style_and_script_are_allowed() -> None:
    """The content security policy of a report allows only the report's own style and script, by their hashes.

    The report loads nothing from other servers, and has no links to them.
    """
    html = render_report(made_result(3))
    [policy] = [a["content"] for tag, a in Tags(html).found if a.get("http-equiv") == "Content-Security-Policy"]
    assert policy is not None
    assert policy.startswith("default-src 'none'; ")
    for name in ("style", "script"):
        [inline] = re.findall(rf"<{name}>(.*?)</{name}>", html, flags=re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(inline.encode()).digest()).decode()
        assert f"{name}-src 'sha256-{digest}'" in policy
    assert not re.search(r"(?:src|href|action)=[\"']?(?:https?:)?//", html)


@settings(deadline=None, max_examples=60)
@given(st.text(min_size=1, max_size=20), st.sampled_from(["=", "+", "-", "@", "\t", "\r", "", " =", "\0=", "\u202e="]))
def test_no_cell_of_the_csv_is_a_formula(text: str, start: str) -> None:
    """Whatever a service returns, no cell of the CSV begins like a formula, and every row has all columns.

    Control characters other than line breaks are left out.
    """
    bad = mismatch(1, prison_id=start + text, nomis=Side(level=start + text, user_id=start + text, record=1))
    rows = list(
        csv.reader(io.StringIO(render_csv(made_result(0).model_copy(update={"mismatches": (bad,)})), newline=""))
    )
    assert rows[0] == list(COLUMNS)
    assert len(rows) == 2
    assert len(rows[1]) == len(COLUMNS)
    assert not [cell for cell in rows[1] if cell.lstrip().startswith(("=", "+", "-", "@")) or cell.startswith("\n")]
    assert not [cell for cell in rows[1] if {"Cc", "Cf", "Cs"} & set(map(category, cell.replace("\n", "")))]


def test_control_characters_are_removed_from_pages_and_emails() -> None:
    """Escape codes, NULs and direction marks in texts from services are left out of reports and emails."""
    evil = "\x1b[2Jgone\0\x9b\u202eevil"
    bad = mismatch(1, nomis=Side(level="STD", user_id=evil, record=1), evidence_missing=evil)
    result = made_result(0).model_copy(update={"mismatches": (bad,), "failure": evil, "environment": evil})
    email = email_report(result, None, evil, Masking())
    for text in (render_report(result), email.text, email.html):
        assert "gone" in text
        assert not {"Cc", "Cf", "Cs"} & set(map(category, text.replace("\n", "")))


def test_masked_texts_have_no_whole_number() -> None:
    """Masked emails and Slack messages, and their files, contain no whole prisoner number or booking id.

    Numbers inside sentences and commands are masked too.
    """
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
def test_numbers_in_upstream_errors_are_masked(path: str) -> None:
    """With masking on, booking ids and prisoner numbers are masked, however they are written in a service's error."""
    why = f"nomis: GET {path}: status 503: booking 714893 is busy"
    bad = mismatch(1, diagnosis=None, evidence_missing=why)
    result = made_result(0).model_copy(update={"mismatches": (bad,), "status": "failed", "failure": why})
    masking = Masking(on=True)
    slack, mail = slack_report(result, None, "somewhere", masking), email_report(result, None, "somewhere", masking)
    for sent in ("\n".join(each.text for each in slack.posts), attached(slack, "csv"), mail.text, mail.html):
        assert "714893" not in sent
        assert "A4471CK" not in sent
        assert "booking •••••93 is busy" in sent


HOSTILE = "<!channel> & <@U1|x> `code` >\n*Report:* \u202e<https://evil.example|here>"


def without_markup(text: str) -> str:
    """A Slack text without code spans and entities.

    Fails if a code span does not end on the line where it begins.
    """
    for line in text.splitlines():
        assert line.count("`") % 2 == 0, line
    return re.sub(r"&(amp|lt|gt);", "", re.sub(r"`[^`\n]*`", "", text))


@pytest.mark.parametrize("masked", [False, True])
def test_external_text_has_no_effect_in_slack(masked: bool) -> None:
    """In Slack reports and alerts, no text from a service mentions anyone, becomes a link or breaks a line."""
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


def test_no_property_makes_an_alert_too_long_for_slack() -> None:
    """In an alert, text from a service is cut if it is too long for Slack, and the command is kept."""
    payload = {"event": "e", "time": "t", "properties": {"reason": "x" * 100_000}, "command": "prisoner-to-nomis check"}
    text = alert_message(payload, "Production", Masking()).text
    assert len(text) <= LONGEST_MESSAGE
    assert "\n`prisoner-to-nomis check`\n" in text
