"""The report in a real browser: with the keyboard, on a small screen, with a screen reader, and without scripts."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from reports.delivery.archive import Folder, store_index, store_report
from reports.engine.result import EvidenceRow, ReconciliationResult
from reports.presentation.email_report import email_report
from reports.presentation.index import run_folder
from reports.presentation.masking import Masking
from reports.reconciliations.incentives.result import MatrixCell
from tests.harness.chromium import chromium
from tests.harness.results import (
    STARTED,
    allocation_result,
    ended_run,
    made_result,
    visit_result,
    visits_with_everything,
    with_everything,
)
from tests.reports.presentation.conftest import Tabs

pytestmark = pytest.mark.browser
#: The widths of screens, from a desktop to a small phone.
SCREENS = (1280, 1000, 800, 768, 400, 390, 320)
LEVELS = ("BAS", "STD", "ENH", "EN2", None)
#: The names of regions whose table is wider than the region.
CUT = """[...document.querySelectorAll(".scroll")]
    .filter(each => each.scrollWidth > each.clientWidth).map(each => each.getAttribute("aria-label"))"""
#: The texts of the page that are outside the screen.
OUTSIDE = """[...document.querySelectorAll("main td, main th, main p, main a, main dd")]
    .filter(each => each.getBoundingClientRect().right > innerWidth + 1 && !each.closest(".visually-hidden"))
    .map(each => each.textContent)"""
FAILED_AT_ONCE = made_result(
    0, status="failed", failure="nomis is down", total=0, listed=0, compared=0, prisons=(), matrix=(), trend=()
)
#: The values of the first field of a difference, and the label that the page puts before a value.
FIELDS = ".inside .sides tbody tr:first-child td"
LABEL = """cell => getComputedStyle(cell, "::before").content.replace(/["\\s]/g, "")"""
SHOWN = "tbody.one:not([hidden])"
FIRST = "tbody.one:not([hidden]) > tr:first-child > th"


def with_long_ids() -> ReconciliationResult:
    """A result whose evidence names records by long ids without a space where a line could break."""
    evidence = (
        EvidenceRow(side="NOMIS", text="SENTENCE 33018: RSR, 30 days", note=f"mapped to {UUID(int=2**127)}"),
        EvidenceRow(side="DPS", text=f"{UUID(int=2**127)}: RESTORATION_OF_ADDITIONAL_DAYS_AWARDED, 17 days"),
    )
    result = visits_with_everything(3)
    changed = tuple(each.model_copy(update={"evidence": evidence}) for each in result.mismatches)
    return result.model_copy(update={"mismatches": changed})


@pytest.fixture
def open_page(tabs: Tabs, tmp_path: Path) -> Callable[..., Any]:
    """A function that opens a page in a tab: the report of a result, or another page of the archive that holds it."""

    def visit(result: ReconciliationResult, width: int = 1280, *, script: bool = True, page: str = "") -> Any:
        archive = Folder(tmp_path)
        store_report(archive, result)
        line = ended_run(
            result.run_id,
            result.status,
            reconciliation=result.reconciliation,
            title=result.title,
            counted=result.counted,
            compared=result.compared,
            mismatches=len(result.mismatches),
            new=result.new,
        )
        store_index(archive, [line], {}, "Production", STARTED)
        report = f"{run_folder(result.reconciliation, result.run_id)}/report.html"
        return tabs.open(tmp_path / (page or report), width=width, script=script)

    return visit


@pytest.mark.parametrize(
    "result",
    [
        with_everything(0),
        with_everything(3),
        FAILED_AT_ONCE,
        visits_with_everything(3),
        visit_result(0),
        allocation_result(),
    ],
    ids=lambda each: f"{each.title} {each.status} {len(each.mismatches)}",
)
def test_the_report_has_no_accessibility_fault(open_page: Any, result: ReconciliationResult) -> None:
    """The accessibility checker Axe finds no fault in a report with all details opened, on screens of three widths."""
    from axe_playwright_python.base import AXE_FILE_PATH

    page = open_page(result)
    page.evaluate("document.querySelectorAll('details').forEach(each => each.open = true)")
    page.evaluate(Path(AXE_FILE_PATH).read_text(encoding="utf-8"))
    for width in (1280, 800, 390):
        page.set_viewport_size({"width": width, "height": 900})
        found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
        faults = [(width, each["id"], each["nodes"][0]["html"][:200]) for each in found["violations"]]
        assert faults == []


@pytest.mark.parametrize(
    ("result", "screens"),
    [
        (with_everything(0), SCREENS),
        (with_everything(3), SCREENS),
        (with_everything(120), (1280, 320)),
        (visits_with_everything(3), SCREENS),
        (visits_with_everything(120), (1280, 320)),
        (allocation_result(), SCREENS),
        (with_long_ids(), SCREENS),
    ],
    ids=lambda each: f"{each.title} {len(each.mismatches)}" if isinstance(each, ReconciliationResult) else "",
)
def test_the_report_is_not_wider_than_the_screen(
    open_page: Any, result: ReconciliationResult, screens: tuple[int, ...]
) -> None:
    """A report with all details opened is not wider than the screen.

    Only tables in their own regions may scroll sideways.
    """
    page = open_page(result)
    page.evaluate("document.querySelectorAll('details').forEach(each => each.open = true)")
    for width in screens:
        page.set_viewport_size({"width": width, "height": 900})
        assert page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("width", [390, 1280])
def test_a_phone_shows_the_side_of_each_value(open_page: Any, width: int) -> None:
    """On a phone, a report shows the name of the side before each value of a difference.

    A wide screen has a column for each side instead.
    """
    page = open_page(visit_result(1), width)
    page.click("tbody.one summary")
    shown = page.evaluate(f"[...document.querySelectorAll('{FIELDS}')].map({LABEL})")
    assert shown == (["NOMIS", "DPS"] if width == 390 else ["none", "none"])


def test_tables_with_the_usual_levels_need_no_scrolling(open_page: Any) -> None:
    """Tables with the five usual levels need no scrolling on screens of at least 390 pixels.

    Tables with all seven levels need none on screens of at least 600 pixels.
    """
    counts = tuple(
        MatrixCell(nomis_level=row, dps_level=column, count=21_000 if row == column else 7)
        for row in LEVELS
        for column in LEVELS
    )
    page = open_page(with_everything(12).model_copy(update={"matrix": counts}))
    for width in SCREENS:
        page.set_viewport_size({"width": width, "height": 900})
        assert width < 390 or (width, page.evaluate(CUT)) == (width, [])
    rare = tuple(MatrixCell(nomis_level=code, dps_level=code, count=9_000) for code in ("ENT", "EN3"))
    page = open_page(with_everything(12).model_copy(update={"matrix": (*counts, *rare)}))
    for width in SCREENS:
        page.set_viewport_size({"width": width, "height": 900})
        assert width < 600 or (width, page.evaluate(CUT)) == (width, [])


def test_tables_of_a_general_report_fit_a_phone(open_page: Any) -> None:
    """Kinds, fields, prisons and uncounted records in a report on visits are fully visible, even on a small phone."""
    page = open_page(visits_with_everything(12))
    for width in SCREENS:
        page.set_viewport_size({"width": width, "height": 900})
        assert (width, page.evaluate(CUT), page.evaluate(OUTSIDE)) == (width, [], [])


def test_the_index_fits_every_screen(open_page: Any) -> None:
    """Each run in the index is fully visible without scrolling sideways.

    On a phone, each run is a card with labelled figures.
    """
    page = open_page(made_result(3), page="index.html")
    for width in SCREENS:
        page.set_viewport_size({"width": width, "height": 900})
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert (width, page.evaluate(CUT), page.evaluate(OUTSIDE)) == (width, [], [])
    shown = page.evaluate("""[...document.querySelectorAll("tbody td")].map(each => [
        getComputedStyle(each, "::before").content.replaceAll('"', ""), each.innerText.trim()])""")
    assert ["Compared", "87,012"] in shown
    assert ["Different", "3"] in shown
    assert page.locator("tbody td").last.bounding_box()["height"] < 40


def test_the_index_has_no_accessibility_fault(open_page: Any) -> None:
    """The accessibility checker Axe finds no fault in the index.

    The list of runs and the cards both link to the report, which links back to the index.
    """
    from axe_playwright_python.base import AXE_FILE_PATH

    page = open_page(made_result(3), 400, page="index.html")
    page.evaluate(Path(AXE_FILE_PATH).read_text(encoding="utf-8"))
    assert page.evaluate("axe.run(document)")["violations"] == []
    page.click("tbody a >> nth=0")
    assert page.inner_text("h1").startswith("On 22 May 2023, 3 of 87,012")
    page.click("text=All runs")
    page.click(".card a >> nth=0")
    assert page.inner_text("h1").startswith("On 22 May 2023, 3 of 87,012")


def test_the_ages_in_the_index_follow_the_clock_of_the_reader(open_page: Any) -> None:
    """The index gives the ages of runs by the clock of the reader's computer.

    Without scripts, the index gives the ages that the runs had when the index was made.
    """
    page = open_page(visit_result(3), page="index.html", script=False)
    card = page.inner_text(".card >> text=Official visits >> xpath=../..")
    assert "less than a minute before this page was made" in card
    page = open_page(visit_result(3), page="index.html")
    assert re.search(r"Last complete run 22 May 2023 at 04:09, \d+ days ago", page.inner_text(".cards"))


def test_typed_words_filter_the_rows(open_page: Any) -> None:
    """Words that are typed in any order filter the rows of a report, and the number of rows left is announced.

    Escape shows all rows again.
    """
    result = made_result(40)
    page = open_page(result)
    page.focus("#find-text")
    page.keyboard.type("lei new")
    expected = [each for each in result.mismatches if each.prison_id == "LEI" and each.standing == "new"]
    assert page.locator(SHOWN).count() == len(expected)
    assert page.inner_text("#find-count") == f"Showing {len(expected)} of 40"
    assert page.get_attribute("#find-count", "aria-live") == "polite"
    page.keyboard.press("Escape")
    assert page.locator(SHOWN).count() == 40
    page.keyboard.type(result.mismatches[7].offender_no.lower())
    assert page.inner_text(FIRST).startswith(result.mismatches[7].offender_no)


def test_a_general_report_is_filtered_and_sorted(open_page: Any) -> None:
    """Typed words filter the rows of a report on visits by kind and by whether the difference is new.

    Rows are sorted by the visible text of a column, or chronologically if the column holds times.
    """
    result = visit_result(40)
    page = open_page(result)
    page.focus("#find-text")
    page.keyboard.type("not cancelled new")
    expected = [each for each in result.mismatches if each.kind == "not-cancelled-in-nomis" and each.standing == "new"]
    assert page.locator(SHOWN).count() == len(expected)
    page.keyboard.press("Escape")
    page.click("#mismatches thead button >> text=Difference")
    kinds = page.locator("tbody.one > tr:first-child > td:nth-child(4)").all_inner_texts()
    assert kinds == sorted(kinds)
    page.click("#mismatches thead button >> text=Since")
    since = page.locator("tbody.one > tr:first-child > td.since").all_inner_texts()
    assert since == ["20 May 2023"] * 20 + ["New"] * 20
    page.click("#mismatches thead button >> text=Visit")
    names = [text.split()[0] for text in page.locator(FIRST).all_inner_texts()]
    assert names == sorted(names)


def test_the_keyboard_sorts_the_table_both_ways(open_page: Any) -> None:
    """The rows of a report can be sorted in either direction with the keyboard, and the evidence moves with its row.

    Screen readers can announce the order.
    """
    result = made_result(40)
    page = open_page(result)
    page.focus("#print-evidence")
    for heading in ("Row", "Prisoner"):
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.textContent").startswith(heading)
    page.keyboard.press("Enter")
    numbers = [text.split()[0] for text in page.locator(FIRST).all_inner_texts()]
    assert numbers == sorted(numbers)
    assert page.locator("#mismatches thead th[aria-sort=ascending]").count() == 1
    page.keyboard.press("Enter")
    numbers = [text.split()[0] for text in page.locator(FIRST).all_inner_texts()]
    assert numbers == sorted(numbers, reverse=True)
    assert page.locator("#mismatches thead th[aria-sort=descending]").count() == 1
    summaries = [text.split()[-1] for text in page.locator("tbody.one summary").all_inner_texts()]
    assert summaries == numbers


def test_the_keyboard_opens_the_evidence(open_page: Any) -> None:
    """In a report, the evidence and the command for a difference are behind a summary, which Enter opens."""
    result = made_result(3)
    page = open_page(result)
    page.focus("tbody.one summary >> nth=0")
    page.keyboard.press("Enter")
    details = page.inner_text("tbody.one details[open]")
    assert "What to do" in details
    assert re.search(r"prisoner-to-nomis reconcile fix received A\d{4}[A-Z]{2}", details)
    assert "20 May 2023 at 15:22:07" in details


def test_the_report_works_without_scripts(open_page: Any) -> None:
    """Without scripts, all content of a report can be read, and controls that need a script are not shown."""
    page = open_page(made_result(3), script=False)
    assert page.locator("tbody.one").count() == 3
    assert not page.is_visible("#find")
    assert page.locator("#mismatches thead button").count() == 0
    page.click("tbody.one summary >> nth=0")
    assert page.is_visible("text=What to do")


def test_the_summary_comes_before_the_differences(open_page: Any) -> None:
    """In a report with hundreds of differences, what to do, the pictures and the causes come before the differences.

    The list of differences begins within the first three screens.
    """
    page = open_page(made_result(400))
    parts = ("#todo", "#trend", "#levels", "#causes", "#all")
    tops = [page.locator(what).bounding_box()["y"] for what in parts]
    assert tops == sorted(tops)
    assert tops[-1] < 3 * 900


@pytest.mark.parametrize(
    ("result", "most"), [(made_result(400), 33), (visit_result(400), 48)], ids=["one value", "several values"]
)
def test_all_rows_and_the_open_evidence_are_printed(open_page: Any, result: ReconciliationResult, most: int) -> None:
    """A report with four hundred differences is printed with all its rows.

    Evidence is printed only if it was open.
    """
    page = open_page(result)
    page.click("tbody.one summary >> nth=0")
    count_open = "document.querySelectorAll('details[open]').length"
    paper = page.pdf(format="A4")
    assert 5 < len(re.findall(rb"/Type\s*/Page[^s]", paper)) < most
    assert page.evaluate(count_open) == 1
    page.emulate_media(media="print")
    assert page.is_visible("tbody.one details[open] .inside")
    assert page.locator("tr.more:visible").count() == 1
    page.set_viewport_size({"width": 718, "height": 1046})
    assert page.evaluate("getComputedStyle(document.querySelector('#mismatches')).display") == "table"
    sizes = "selector => parseFloat(getComputedStyle(document.querySelector(selector)).fontSize)"
    assert page.evaluate(sizes, ".evidence td") <= page.evaluate(sizes, "body") < 14


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("result", [with_everything(12), visits_with_everything(12)], ids=lambda each: each.title)
def test_an_email_fits_a_phone(tabs: Tabs, tmp_path: Path, masked: bool, result: ReconciliationResult) -> None:
    """In an email, long commands and requests are wrapped, so nobody has to scroll sideways on a phone."""
    html = email_report(result, None, "s3://a-bucket/a-prefix", Masking(on=masked)).html
    (tmp_path / "email.html").write_text(html, encoding="utf-8")
    page = tabs.open(tmp_path / "email.html", width=360, height=800)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360


def test_sorting_by_row_number_restores_the_first_order(open_page: Any) -> None:
    """A report shows the numbers of its rows, and sorting by them restores the original order."""
    page = open_page(made_result(12))
    numbers = "tbody.one > tr:first-child > td.row"
    page.click("#mismatches thead button >> text=Prisoner")
    assert page.locator(numbers).all_inner_texts() != [str(number) for number in range(1, 13)]
    page.click("#mismatches thead button >> text=Row")
    assert page.locator(numbers).all_inner_texts() == [str(number) for number in range(1, 13)]


def test_the_first_screen_shows_the_figures_and_what_to_do(open_page: Any) -> None:
    """On an ordinary screen, the headline, the figures and what to do are visible in a report without scrolling."""
    page = open_page(made_result(400))
    for what in ("h1", ".figures", "#todo", ".actions > li:first-child code"):
        box = page.locator(what).bounding_box()
        assert box["y"] + box["height"] <= 900


@pytest.mark.parametrize(
    ("ci", "ends"),
    [
        ("true", pytest.fail.Exception),
        ("1", pytest.fail.Exception),
        ("", pytest.skip.Exception),
        ("false", pytest.skip.Exception),
    ],
)
def test_a_missing_browser_fails_the_tests_on_a_build_server(
    tmp_path: Path, ci: str, ends: type[BaseException]
) -> None:
    """On a build server, a missing browser fails the tests, since otherwise nobody would notice that they were skipped.

    Elsewhere, the tests are skipped.
    """
    with pytest.raises(ends, match="no Chromium"):
        chromium({"PATH": str(tmp_path), "CI": ci})
    assert chromium({"PATH": str(tmp_path), "CI": ci, "CHROMIUM": "/opt/chromium"}) == "/opt/chromium"
