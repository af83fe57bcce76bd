"""What a reader can do with a report in a real browser: filter rows with links, share addresses, save and print."""

from __future__ import annotations

import codecs
import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from reports.engine.result import ReconciliationResult
from reports.presentation.csv import render_csv
from reports.presentation.masking import Masking
from reports.presentation.page import render_report
from reports.reconciliations.incentives.result import IncentiveResult, MatrixCell
from tests.harness.results import made_result, visit_result, with_everything
from tests.reports.presentation.conftest import Tabs

pytestmark = pytest.mark.browser
#: For every link with a number that filters: its filter, its number, and how many rows the filter leaves.
LINKS = """async () => {
    const found = [];
    for (const link of document.querySelectorAll("a[data-filter]")) {
        if (!/^[0-9,]+$/.test(link.textContent)) { continue; }
        const heard = new Promise((done) => addEventListener("hashchange", done, { once: true }));
        const news = link.hash !== location.hash && link.dataset.filter;
        link.click();
        if (news) { await heard; }
        const shown = document.querySelectorAll("tbody.one:not([hidden])").length;
        found.push([link.dataset.filter, Number(link.textContent.replace(",", "")), shown]);
    }
    return found;
}"""
SHOWN = "tbody.one:not([hidden])"
#: Pairs of levels in NOMIS and in DPS, each with the number of prisoners who have them.
PAIRS: dict[tuple[str | None, str | None], int] = {
    ("STD", "ENH"): 20,
    ("BAS", "ENH"): 9,
    ("STD", None): 5,
    ("ENH", "STD"): 11,
    (None, "BAS"): 3,
}


def levels_result() -> IncentiveResult:
    """A result with the pairs of levels in `PAIRS`, at several prisons and with several causes, new and persisting."""
    base = made_result(sum(PAIRS.values()))
    pairs = [pair for pair, number in PAIRS.items() for _ in range(number)]
    mismatches = []
    for each, (nomis, dps) in zip(base.mismatches, pairs, strict=True):
        side = each.nomis
        assert side is not None
        sides = {"nomis": nomis and side.model_copy(update={"level": nomis})}
        sides |= {"dps": dps and side.model_copy(update={"level": dps, "origin": "REVIEW"})}
        mismatches.append(each.model_copy(update=sides))
    matrix = tuple(MatrixCell(nomis_level=nomis, dps_level=dps, count=n) for (nomis, dps), n in PAIRS.items())
    return base.model_copy(update={"mismatches": tuple(mismatches), "matrix": matrix})


@pytest.fixture
def pages(tabs: Tabs, tmp_path: Path) -> Callable[..., Any]:
    """A function that opens the page of a result as a saved file, without any other files."""

    def visit(result: ReconciliationResult, fragment: str = "", masking: Masking | None = None) -> Any:
        saved = tmp_path / f"{result.run_id}.html"
        page = render_report(result, masking, attached=True) if masking else render_report(result, attached=True)
        saved.write_text(page, encoding="utf-8")
        return tabs.open(saved, fragment)

    return visit


@pytest.mark.parametrize("result", [levels_result(), visit_result(40)], ids=lambda each: each.title)
def test_every_figure_links_to_the_rows_that_it_counts(pages: Any, result: ReconciliationResult) -> None:
    """If a reader of a report follows a number that is a link, as many rows are left as the number says.

    Such numbers count rows by standing, prison, age, team and cause. In the report on incentives they also count them
    by level, and in other reports by kind and field.
    """
    found = pages(result).evaluate(LINKS)
    assert [each for each in found if each[1] != each[2]] == []
    filters = {name.split("=")[0] for query, _, _ in found for name in query.split("&")}
    own = {"nomis", "dps", "direction"} if isinstance(result, IncentiveResult) else {"kind", "field"}
    assert filters == {"", "standing", "prison", "age", "who", "cause"} | own


def test_a_pair_of_levels_links_only_to_its_differences(pages: Any) -> None:
    """In the table of levels in a report, the linked number for a pair of levels is that of reported differences only.

    The number of excluded differences and differences in flight follows a plus sign, without a link.
    """
    result = levels_result()
    more: dict[tuple[str | None, str | None], int] = {("STD", "ENH"): 1, ("BAS", "STD"): 2}
    matrix = tuple(
        MatrixCell(nomis_level=nomis, dps_level=dps, count=PAIRS.get((nomis, dps), 0) + more.get((nomis, dps), 0))
        for nomis, dps in PAIRS.keys() | more.keys()
    )
    page = pages(result.model_copy(update={"matrix": matrix, "in_flight": with_everything().in_flight}))
    assert [each for each in page.evaluate(LINKS) if each[1] != each[2]] == []
    cells = {" ".join(text.split()) for text in page.locator(".matrix td.differs").all_inner_texts()}
    assert {"20 + 1", "+ 2"} < cells
    assert "after a plus sign, prisoners whose difference is excluded or in flight" in page.inner_text("main")


def test_the_name_of_a_level_filters_exactly(pages: Any) -> None:
    """`NOMIS STD`, clicked or typed, filters the rows of a report by that level, not by those two words.

    The address of the page shows the same rows to another reader.
    """
    result = levels_result()
    number = sum(each.nomis_level == "STD" for each in result.mismatches)
    page = pages(result)
    page.click(".matrix th a >> text=NOMIS STD")
    assert page.locator(SHOWN).count() == number
    assert page.inner_text("#find-count") == f"Showing {number} of {len(result.mismatches)}: NOMIS STD"
    assert page.evaluate("location.hash") == "#nomis=STD"
    sent = pages(result, "#nomis=STD")
    assert sent.inner_text("#find-count") == page.inner_text("#find-count")
    page.click("#find-all")
    assert page.locator(SHOWN).count() == len(result.mismatches)
    assert page.evaluate("location.hash") == ""
    page.fill("#find-text", "nomis std")
    assert page.locator(SHOWN).count() == number
    page.fill("#find-text", "new lei")
    assert page.evaluate("location.hash") == "#find=new+lei"
    sent = pages(result, "#prison=LEI&find=new")
    assert sent.locator(SHOWN).count() == page.locator(SHOWN).count() > 0
    assert sent.input_value("#find-text") == "new"


def test_each_row_has_an_address_that_opens_it(pages: Any) -> None:
    """The address of a row in a report opens the row with its evidence, even if a filter had hidden the row.

    Going back in the browser restores the filter.
    """
    page = pages(levels_result(), "#dps=BAS")
    hidden = page.locator("tbody.one[hidden]").first
    anchor = hidden.get_attribute("id")
    page.evaluate("anchor => { location.hash = anchor; }", anchor)
    page.wait_for_selector(f"[id='{anchor}'] details[open]")
    assert page.is_visible(f"[id='{anchor}'] .inside")
    assert page.get_attribute(f"[id='{anchor}'] .row a", "href") == f"#{anchor}"
    page.go_back()
    page.wait_for_function("document.querySelectorAll('tbody.one:not([hidden])').length === 3")


def test_the_page_saves_rows_of_its_csv(pages: Any, tmp_path: Path) -> None:
    """A reader of a report can save, as a CSV, the rows with one cause or the visible rows.

    The saved rows are in the order of the CSV, even if the page is sorted differently.
    """
    result = levels_result()
    [heading, *lines] = list(csv.reader(render_csv(result).splitlines()))
    page = pages(result)
    page.click("#mismatches thead button >> text=Prisoner")
    page.click("#mismatches thead button >> text=Prisoner")
    page.evaluate("location.hash = '#nomis=ENH'")
    page.wait_for_selector("#find-all:visible")
    cause = "the-prisoner-was-received-twice-in-nomis"
    for link, suffix, column, value in (
        (f"a[data-csv={cause}]", f"-{cause}", "cause_number", "5"),
        ("#find-csv", "-filtered", "nomis_level", "ENH"),
    ):
        with page.expect_download() as downloading:
            page.click(link)
        assert downloading.value.suggested_filename == f"incentive-mismatches-run-of-today{suffix}.csv"
        downloading.value.save_as(tmp_path / "saved.csv")
        saved = list(csv.reader((tmp_path / "saved.csv").read_text(encoding="utf-8-sig").splitlines()))
        place = heading.index(column)
        assert saved == [heading, *(line for line in lines if line[place] == value)]
        assert len(saved) > 2


def test_a_masked_page_saves_masked_differences(pages: Any, tmp_path: Path) -> None:
    """The data packed into a masked page is masked, so the rows that a reader saves from the page are masked too."""
    result = made_result(12, run_id="masked")
    page = pages(result, masking=Masking(on=True))
    with page.expect_download() as downloading:
        page.click("#find-csv")
    downloading.value.save_as(tmp_path / "saved.csv")
    saved = (tmp_path / "saved.csv").read_text(encoding="utf-8-sig")
    assert (tmp_path / "saved.csv").read_bytes().startswith(codecs.BOM_UTF8)
    assert saved.count("\n") == 13
    for each in result.mismatches:
        assert each.offender_no not in saved
        assert str(each.booking_id) not in saved
        assert each.offender_no.lower() not in page.content()


def test_evidence_is_printed_on_request(pages: Any) -> None:
    """A report is printed without evidence or, on request, with the evidence for the visible rows.

    Afterwards, the page is as it was before.
    """
    page = pages(levels_result(), "#dps=BAS")
    page.emulate_media(media="print")
    page.evaluate("""window.print = () => {
        dispatchEvent(new Event("beforeprint"));
        window.printed = [...document.querySelectorAll("details")].filter((each) => each.checkVisibility())
            .map((each) => [each.open, Boolean(each.closest("tbody.one"))]);
        dispatchEvent(new Event("afterprint"));
    }""")
    for button, evidence in (("#print", 0), ("#print-evidence", 3)):
        page.evaluate("selector => document.querySelector(selector).click()", button)
        printed = page.evaluate("window.printed")
        assert all(is_open for is_open, _ in printed)
        assert sum(of_row for _, of_row in printed) == evidence
        assert len(printed) - evidence > 0
    assert page.evaluate("document.querySelectorAll('details[open]').length") == 0


@pytest.mark.parametrize("result", [with_everything(3), visit_result(3)], ids=lambda each: each.title)
def test_dark_mode_has_enough_contrast(pages: Any, result: ReconciliationResult) -> None:
    """In dark mode, every text of a report has enough contrast.

    The bars of new and persisting differences differ in colour from the page and from each other.
    """
    from axe_playwright_python.base import AXE_FILE_PATH

    page = pages(result)
    page.emulate_media(color_scheme="dark")
    page.evaluate("document.querySelectorAll('details').forEach((each) => { each.open = true; })")
    page.evaluate(Path(AXE_FILE_PATH).read_text(encoding="utf-8"))
    found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    assert [(each["id"], each["nodes"][0]["html"][:200]) for each in found["violations"]] == []
    fill = "name => getComputedStyle(document.querySelector(`rect.${name}`)).fill"
    new, persisting = (page.evaluate(fill, name) for name in ("new", "persisting"))
    assert len({new, persisting, page.evaluate("getComputedStyle(document.body).backgroundColor")}) == 3
