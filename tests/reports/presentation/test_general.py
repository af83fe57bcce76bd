"""The report, CSV, email and Slack message of any reconciliation are correct, safe to open, and masked if required."""

from __future__ import annotations

import csv
import io
import re
from datetime import timedelta
from typing import Any
from unicodedata import category

import html5lib
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reports.engine.result import FieldValues, PrisonCount, ReconciliationResult, TrendPoint
from reports.presentation.csv import render_csv
from reports.presentation.email_report import EmailReport, email_report
from reports.presentation.masking import Masking
from reports.presentation.page import render_report
from reports.presentation.slack_report import SlackReport, slack_report
from reports.presentation.text import capital
from reports.presentation.view_parts import value_text
from tests.harness.html import Tags, text_of
from tests.harness.messages import channel_text, thread_text
from tests.harness.results import (
    STARTED,
    allocation_result,
    visit_mismatch,
    visit_result,
    visits_with_everything,
    with_everything,
)

EVIL = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'&"
HOSTILE = "<!channel> & <@U1|x> `code` >\n*Report:* \u202e<https://evil.example|here>"
RESULTS = {
    "everything": visits_with_everything(7),
    "complete": visit_result(3),
    "without differences": visit_result(0),
    "failed": visits_with_everything(2).model_copy(update={"status": "failed", "failure": "NOMIS did not answer"}),
    "failed at once": visit_result(0, status="failed", failure="too old", compared=0, listed=0, prisons=(), trend=()),
    "counts of bookings": allocation_result(),
}


def mail_of(result: ReconciliationResult, *, masked: bool = False) -> EmailReport:
    """The email about a result."""
    return email_report(result, None, "somewhere", Masking(on=masked))


def slack_of(result: ReconciliationResult, *, masked: bool = False) -> SlackReport:
    """The Slack messages about a result."""
    return slack_report(result, None, "somewhere", Masking(on=masked))


def everywhere(value: str) -> ReconciliationResult:
    """A result in which every text from outside is `value`."""
    base = visits_with_everything(1)
    found = base.mismatches[0]
    assert found.diagnosis is not None
    both = (FieldValues(field=value, nomis=value, dps=value), FieldValues(field="status", nomis=value, dps=value))
    texts = dict.fromkeys(("offender_no", "prison_id", "kind", "evidence_missing"), value)
    diagnosis = dict.fromkeys(("cause", "explanation", "action", "request"), value) | {"commands": (value,)}
    evidence = found.evidence[0].model_copy(update=dict.fromkeys(("side", "text", "note"), value))
    bad = found.model_copy(
        update={
            **texts,
            "key": {"reference": value},
            "differences": both,
            "other_fields": both,
            "missing_in": None,
            "diagnosis": found.diagnosis.model_copy(update=diagnosis),
            "evidence": (evidence,),
        }
    )
    record = {**texts, "key": {"reference": value}, "differences": both, "reason": value, "why": value}
    changes: dict[str, Any] = {
        "mismatches": (bad, bad.model_copy(update={"diagnosis": None})),
        "unread": (base.unread[0].model_copy(update={**record, "side": value, "unit": value}),),
        "gaps": (base.gaps[0].model_copy(update={"what": value, "reason": value}),),
        "unconfirmed": (base.unconfirmed[0].model_copy(update=record),),
        "in_flight": (base.in_flight[0].model_copy(update=record),),
        "excluded": (base.excluded[0].model_copy(update=record),),
        "resolved": (base.resolved[0].model_copy(update=record),),
        "fields": tuple(each.model_copy(update={"label": value}) for each in base.fields),
        "kinds": tuple(each.model_copy(update={"label": value}) for each in base.kinds),
    }
    changes |= dict.fromkeys(("title", "counted", "environment", "suspicious"), value)
    return base.model_copy(update=changes)


def test_external_text_never_becomes_markup() -> None:
    """In a report or an email about visits, no text from a service becomes a tag or an attribute."""
    for html in (render_report(everywhere(EVIL)), mail_of(everywhere(EVIL)).html):
        tags = Tags(html)
        assert not [tag for tag, _ in tags.found if tag == "img"]
        assert not [name for _, attributes in tags.found for name in attributes if name.startswith("on")]
        assert sum(tag == "script" for tag, _ in tags.found) == ("<style>" in html)
        assert "alert(2)" in tags.text


@pytest.mark.parametrize("result", RESULTS.values(), ids=RESULTS)
@pytest.mark.parametrize("compared", [0, 1, 40])
def test_texts_use_both_forms_of_a_noun(result: ReconciliationResult, compared: int) -> None:
    """In every text about a run, a noun with an irregular plural has the right form.

    This holds whether no record, one record or several were compared.
    """
    nouns = {"counted": "diary entries", "counted_singular": "diary entry", "compared": compared}
    entries = result.model_copy(update=nouns)
    for text in (
        text_of(render_report(entries)),
        mail_of(entries).text,
        "\n".join(each.text for each in slack_of(entries).posts),
    ):
        assert re.search("diary entr(y|ies)", text)
        assert not re.search(r"(?i)entrie\b|entrys\b|(?<![\d,])(?<!of )1 diary entries|([2-9]|\d\d) diary entry", text)


@pytest.mark.parametrize("masked", [False, True])
def test_external_text_has_no_effect_in_slack(masked: bool) -> None:
    """In a Slack report on visits, no text from a service mentions anyone, becomes a link or breaks a line."""
    report = slack_of(everywhere(HOSTILE), masked=masked)
    for text in (each.text for each in report.posts):
        for line in text.splitlines():
            assert line.count("`") % 2 == 0, line
            assert not line.lstrip().startswith("*Report:*")
        assert not re.search("[<>&`\u202e]", re.sub(r"&(amp|lt|gt);", "", re.sub(r"`[^`\n]*`", "", text)))


@settings(deadline=None, max_examples=60)
@given(st.text(min_size=1, max_size=20), st.sampled_from(["=", "+", "-", "@", "\t", "\r", "", " =", "\0=", "\u202e="]))
def test_no_cell_of_the_csv_is_a_formula(text: str, start: str) -> None:
    """Whatever a service returns, no cell of the CSV begins like a formula, and every row has all columns.

    Control characters other than line breaks are left out.
    """
    rows = list(csv.reader(io.StringIO(render_csv(everywhere(start + text)), newline="")))
    assert len(rows) == 4
    assert {len(row) for row in rows} == {len(rows[0])}
    cells = [cell for row in rows[1:] for cell in row]
    assert not [cell for cell in cells if cell.lstrip().startswith(("=", "+", "-", "@")) or cell.startswith("\n")]
    assert not [cell for cell in cells if {"Cc", "Cf", "Cs"} & set(map(category, cell.replace("\n", "")))]


def test_masked_texts_have_no_whole_number() -> None:
    """With masking on, emails, Slack messages and their files contain no whole prisoner number or booking id."""
    number, booking = "A4471CK", 714893
    hidden = visit_mismatch(
        1,
        key={"booking_id": booking, "offender_no": number, "reference": number},
        offender_no=number,
        booking_id=booking,
        differences=(
            FieldValues(field="booking_id", nomis=booking, dps=714894),
            FieldValues(field="prisoner", nomis=number, dps=f"/bookings/{booking}"),
        ),
        evidence_missing=f"GET /visits/{number}: booking {booking} is busy",
    )
    for result in (visits_with_everything(30), visit_result(0, mismatches=(hidden,)), allocation_result()):
        mail, slack = mail_of(result, masked=True), slack_of(result, masked=True)
        parts = [each.text for each in slack.posts] + [mail.subject, mail.text, mail.html]
        parts += [each.content for each in (*slack.files, *mail.files)]
        sent = "\n".join(parts)
        for each in result.mismatches:
            assert each.offender_no is None or each.offender_no not in sent
            assert str(each.booking_id) not in sent
        assert str(booking) not in sent
        assert "714894" not in sent
        assert "•••••" in sent


@pytest.mark.parametrize(
    ("places", "others"), [(13, "The other prison with differences"), (14, "The other 2 prisons with differences")]
)
def test_prisons_beyond_the_twelfth_are_counted_in_words(places: int, others: str) -> None:
    """A report sums up the prisons with differences beyond the twelfth under one heading.

    The heading gives their number, or is in the singular if there is only one.
    """
    prisons = tuple(PrisonCount(prison_id=f"P{n:02}", compared=9, mismatches=1, new=0) for n in range(places))
    assert others in text_of(render_report(visit_result(places, prisons=prisons)))
    alone = (PrisonCount(prison_id="LEI", compared=9, mismatches=0, new=0),)
    assert "Visits compared in 1 prison" in text_of(render_report(visit_result(0, prisons=alone)))


def test_an_email_without_a_known_cause_has_no_table_of_causes() -> None:
    """An email has a heading for causes only if the cause of at least one difference is known."""
    unknown, known = mail_of(allocation_result()), mail_of(visit_result(1))
    for mail, shown in ((unknown, False), (known, True)):
        assert ("BY CAUSE" in mail.text, "By cause" in mail.html) == (shown, shown)


@pytest.mark.parametrize("name", RESULTS)
def test_pages_are_valid(name: str) -> None:
    """A strict parser finds no fault in the report or the email of a run, however the run ended.

    In a report, ids are unique, and every label refers to an element.
    """
    page = render_report(RESULTS[name])
    for html in (page, mail_of(RESULTS[name]).html):
        html5lib.HTMLParser(strict=True).parse(html)
    tags = Tags(page).found
    ids = [attributes["id"] for _tag, attributes in tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    named = {each for _tag, attributes in tags for each in (attributes.get("aria-labelledby") or "").split()}
    assert named <= set(ids)


@pytest.mark.parametrize("result", [visits_with_everything(400), with_everything(400)], ids=lambda each: each.title)
def test_a_large_report_is_below_a_megabyte(result: ReconciliationResult) -> None:
    """The report on four hundred differences with their evidence is smaller than a megabyte.

    So is the email about them.
    """
    assert len(render_report(result).encode()) < 1_000_000
    assert len(mail_of(result).html.encode()) < 1_000_000


def test_both_values_of_each_differing_field_are_shown() -> None:
    """For each difference, a report shows both values of each field that differs, the cause and what to do.

    For a side without the record, it shows "none".
    """
    result = visit_result(3)
    page = render_report(result)
    rows = re.findall(r'<tbody class="one".*?</details></td></tr>', page, flags=re.DOTALL)
    shown = {re.search(r'<th scope="row">(\S+)', row)[1]: text_of(row) for row in rows}  # type: ignore[index]
    missing, differs, not_cancelled = (each.key["reference"] for each in result.mismatches)
    assert "not in NOMIS none Start 25 May 2023 at 10:00 Status BOOKED" in shown[str(missing)]
    start, end = "Start 25 May 2023 at 09:30 25 May 2023 at 10:00", "End none 25 May 2023 at 11:00"
    assert start in shown[str(differs)]
    assert end in shown[str(differs)]
    assert "Room VISITS-SOC Main hall" in shown[str(differs)]
    assert "not cancelled in NOMIS Status SCH Status CANCELLED" in shown[str(not_cancelled)]
    for each in result.mismatches:
        assert each.diagnosis is not None
        text = shown[str(each.key["reference"])]
        for part in (capital(each.diagnosis.cause), each.diagnosis.action, *each.diagnosis.commands, each.offender_no):
            assert str(part) in text


def test_the_page_counts_kinds_fields_prisons_and_causes() -> None:
    """A report counts differences by kind, prison and cause.

    Differences in records that both sides have are also counted by field.
    """
    text = text_of(render_report(visit_result(7)))
    for part in (
        "How the visits differ Kind Different New not in NOMIS 3 2 different in details 2 1",
        "Field Different New End 2 1 Start 2 1 Status 2 1 Visitors 2 1",
        "2 of 3 prisons have differences",
        "This team: Write the current state of the visit to NOMIS. 7 differences, 4 new; the oldest has been open",
        "22 May 2023 at 04:00, covering 21 May 2023 to 26 June 2023. It took 4 minutes.",
        "40,120 visits, 40,120 compared.",
    ):
        assert part in text


@pytest.mark.parametrize(
    ("result", "headline"),
    [
        (visit_result(3), "3 of 40,120 visits differed between NOMIS and DPS; 2 were new"),
        (visit_result(1), "1 of 40,120 visits was not in NOMIS; it was new"),
        (visit_result(0), "NOMIS and DPS agreed on all 40,120 visits"),
        (visit_result(0, compared=1), "NOMIS and DPS agreed on the visit"),
        (
            visit_result(0, status="incomplete"),
            "Incomplete: on 22 May 2023, no difference was found among 40,120 visits",
        ),
        (visit_result(0, compared=0), "no visit was compared"),
        (allocation_result(), "3 of 1,204 bookings differed between NOMIS and DPS"),
    ],
)
def test_page_email_and_slack_have_the_same_headline(result: ReconciliationResult, headline: str) -> None:
    """The page, the email and the Slack message have the same headline.

    The headline says what was compared, for example visits.
    """
    mail = mail_of(result)
    for text in (text_of(render_report(result)), mail.text, text_of(mail.html), channel_text(slack_of(result))):
        assert headline in text


def test_suspicious_or_missing_parts_come_first() -> None:
    """The page, the email and the first Slack message say what could not be read and why the run is suspicious.

    A person has to look into that first, so the fixes come later. The first Slack message also gives the severity.
    """
    result = visits_with_everything(3)
    mail = mail_of(result)
    for text in (text_of(render_report(result)), mail.text, text_of(mail.html), channel_text(slack_of(result))):
        words = " ".join(text.split())
        *warnings, fixes = (
            words.index(part)
            for part in (
                "1 visit, prison LEI and 1 part of the list of visits could not be read",
                "prisoner-to-nomis reconcile official-visits --resume visits-of-today",
                "suspicious: 1,204 of 40,120 differ, more than 2%: look for one common cause first.",
                "This team",
            )
        )
        assert max(warnings) < fixes
    assert "Severity *serious*: act now." in channel_text(slack_of(result))
    assert "Severity *medium*: act today." in channel_text(slack_of(visit_result(3)))
    assert "Severity *info*: nothing to do." in channel_text(slack_of(visit_result(0)))


def test_a_record_is_named_by_its_key_or_its_prisoner() -> None:
    """In Slack, a visit is named by its reference and its prisoner.

    A count of allocations is named by its prisoner or, if the prisoner is unknown, by its booking.
    """
    thread = f"{thread_text(slack_of(visit_result(1)))}\n{thread_text(slack_of(allocation_result()))}"
    assert "1 · *bq-te-00-00* B0000AA, booking 1300000 · HEI · not in NOMIS: NOMIS *none*, DPS *Start " in thread
    assert "1 · *C0000AA* booking 1204417 · LEI · allocated in NOMIS only: NOMIS *1*, DPS *none* · new" in thread
    assert "3 · *booking 1204418* · LEI · allocated in DPS only: NOMIS *none*, DPS *2* · new" in thread
    names = [each.name for each in slack_of(visit_result(1)).files]
    assert names == ["official-visits-report-visits-of-today.html", "official-visits-mismatches-visits-of-today.csv"]


def test_a_record_on_one_side_shows_some_of_its_values() -> None:
    """If only one side has a record, Slack shows the first three of its values.

    The prisoner and the booking are not among these, since they are named already. The side that has the record is
    never shown as "none".
    """
    shown = {"prisoner": "B0000AA", "booking": 1_300_000}
    values = {**shown, "start": "10:00", "end": "11:00", "status": "BOOKED", "room": "1"}
    fields = tuple(FieldValues(field=name, dps=value) for name, value in values.items())
    alone = {"missing_in": "NOMIS", "kind": "nomis-visit-missing"}
    first_three = "NOMIS *none*, DPS *Start 10:00; End 11:00; Status BOOKED*"
    for changes, sides in (
        ({**alone, "differences": fields}, first_three),
        ({**alone, "differences": (), "other_fields": fields}, first_three),
        ({**alone, "differences": (), "other_fields": ()}, "NOMIS *none*, DPS *present*"),
        ({"missing_in": None, "differences": (), "other_fields": fields}, "NOMIS *present*, DPS *present*"),
    ):
        result = visit_result(1, mismatches=(visit_mismatch(0, **changes),))
        assert f": {sides} · new" in thread_text(slack_of(result))
    page = render_report(visit_result(1, mismatches=(visit_mismatch(0, **alone, differences=fields),)))
    assert '<th scope="row">Room</th><td>none</td><td>1</td>' in page


def test_each_number_in_a_key_is_named() -> None:
    """If a key has several columns, Slack shows each number in the key after the name of its column.

    This holds even if only one of the columns has a number.
    """
    for key, name in (({"nomis_id": 7, "dps_id": 8}, "NOMIS id 7, DPS id 8"), ({"nomis_id": 7}, "NOMIS id 7")):
        result = visit_result(1, mismatches=(visit_mismatch(0, key=key),), key_columns=("nomis_id", "dps_id"))
        assert f"1 · *{name}* B0000AA" in thread_text(slack_of(result))


def test_rows_have_the_same_numbers_everywhere() -> None:
    """Slack, the email, the CSV and the report give each mismatch the same row number."""
    result = visits_with_everything(30)
    expected = {number: each.key["reference"] for number, each in result.rows}
    page = re.findall(r'<td class="row"><a href="#[^"]+">(\d+)</a></td><th scope="row">(\S+)', render_report(result))
    assert {int(number): name for number, name in page} == expected
    lines = [row for row in csv.DictReader(io.StringIO(render_csv(result))) if row["row"]]
    assert {int(row["row"]): row["reference"] for row in lines} == expected
    slack = re.findall(r"^(\d+) · \*(\S+)\*", thread_text(slack_of(result)), flags=re.MULTILINE)
    first = {row: expected[row] for row in range(1, 21)}
    assert {int(number): name for number, name in slack} == first
    mail = re.findall(r"^(\d+)\. (\S+) ", mail_of(result).text, flags=re.MULTILINE)
    assert {int(number): name for number, name in mail} == first


def test_the_csv_has_both_values_of_every_field() -> None:
    """For every field, the CSV has the values of both sides, unformatted, even if they are equal.

    It also has the cause, the right side and the fix.
    """
    rows = {row["kind"]: row for row in csv.DictReader(io.StringIO(render_csv(visit_result(3))))}
    row = rows["details-differ"]
    assert (row["nomis_start"], row["dps_start"]) == ("2023-05-25T09:30:00", "2023-05-25T10:00:00")
    assert (row["nomis_end"], row["dps_end"], row["nomis_room"]) == ("", "2023-05-25T11:00:00", "VISITS-SOC")
    assert row["fix"] == f"prisoner-to-nomis resync visit {row['reference']}"
    assert (row["right_side"], row["cause"]) == (
        "DPS",
        "the changed event was lost, or the visit was changed in NOMIS",
    )
    heading = render_csv(allocation_result()).splitlines()[0]
    assert heading == (
        "run_id,offender_no,booking_id,prison_id,kind,standing,since,nomis_count,dps_count,cause,right_side,fix,row,"
        "evidence_missing"
    )


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "none"),
        (True, "yes"),
        (False, "no"),
        (1_204_417, "1204417"),
        ("2023-05-25", "25 May 2023"),
        ("2023-05-25T09:30:00", "25 May 2023 at 09:30"),
        ("2023-05-25T09:30:07", "25 May 2023 at 09:30:07"),
        ("2023-99-25", "2023-99-25"),
        ("09:30", "09:30"),
        ("", ""),
    ],
)
def test_values_are_shown_as_people_read_them(value: Any, text: str) -> None:
    """In a report, a date is written like "25 May 2023", and is followed by its time if it has one.

    A boolean is "yes" or "no", and a missing value is "none". Other values are unchanged.
    """
    assert value_text(value) == text


def test_the_trend_of_a_result_is_drawn_for_every_reconciliation() -> None:
    """The report of every reconciliation has a trend, and the last bar of the trend is that of the current run."""
    points = (TrendPoint(run_id="before", started_at=STARTED - timedelta(days=1), compared=5, mismatches=2),)
    result = visit_result(1)
    page = render_report(result.model_copy(update={"trend": (*points, result.trend[-1])}))
    assert page.count('class="day now"') == 1
    assert "21 May 2023: 2; 22 May 2023: 1." in page
