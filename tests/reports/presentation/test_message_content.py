"""Files that are sent with messages need no other files.

If masking is on, prisoner numbers and booking ids are masked in these files.
"""

from __future__ import annotations

import gzip
import re

from reports.engine.result import EvidenceRow
from reports.presentation.masking import Masking
from reports.presentation.message_content import report_files
from tests.harness.results import made_result, visit_mismatch, visit_result, visits_with_everything


def test_a_masked_page_has_no_whole_number_anywhere() -> None:
    """A masked page has no whole prisoner number or booking id in any cell, attribute, sentence or command.

    The same is true of the CSV that is packed into the page, and of the CSV that is sent with the page.
    """
    for result in (made_result(30), visits_with_everything(30)):
        [page, sheet] = report_files(result, Masking(on=True), page=True)
        packed = re.findall(r"[0-9a-f]{400,}", page.content)
        assert packed
        shown = [page.content, sheet.content, *(gzip.decompress(bytes.fromhex(each)).decode() for each in packed)]
        for each in result.mismatches:
            assert not [text for text in shown if str(each.offender_no) in text or str(each.booking_id) in text]
        assert all("•••••" in text for text in shown)


def test_a_masked_page_keeps_its_figures() -> None:
    """A short booking id is not masked in the text of a masked page, since a figure on the page may be equal to it."""
    odd = visit_mismatch(0, booking_id=3, evidence=(EvidenceRow(side="DPS", text="visit 1300000 of 3 visitors"),))
    [page, _] = report_files(visit_result(0, mismatches=(odd,)), Masking(on=True), page=True)
    assert "of 3 visitors" in page.content
    assert "40,120" in page.content


def test_a_page_that_is_sent_needs_no_other_file() -> None:
    """A page that is sent with a message loads no other files and has no links to other files."""
    [page, _] = report_files(made_result(3), Masking(), page=True)
    links = re.findall(r'(?:href|src)="([^"]*)"', page.content)
    assert links
    assert not [link for link in links if not link.startswith(("#", "data:"))]
