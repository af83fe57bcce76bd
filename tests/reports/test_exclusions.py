"""The list of exclusions, from a file or from the setting itself."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from reports.exclusions import Exclusion, read_exclusions
from sync.settings import SettingsError


def test_reads_the_same_from_a_file_and_from_the_setting(tmp_path: Path) -> None:
    """Reason and date may be missing; a heading, remarks and empty lines are passed over."""
    file = tmp_path / "exclusions.csv"
    file.write_text('bookingId,reason,date\n# known\n\n1204417,"merged, see ticket",2023-05-22\n1204418\n')
    expected = {
        1204417: Exclusion(1204417, "merged, see ticket", date(2023, 5, 22)),
        1204418: Exclusion(1204418, "no reason given", None),
    }
    assert read_exclusions(str(file)) == expected
    assert read_exclusions('1204417,"merged, see ticket",2023-05-22; 1204418') == expected


@pytest.mark.parametrize("nothing", [None, "", "  "])
def test_is_empty_without_a_setting(nothing: str | None) -> None:
    """No setting, no exclusions."""
    assert read_exclusions(nothing) == {}


@pytest.mark.parametrize(
    ("setting", "what"),
    [
        ("12x,why", "'12x'"),
        ("12,why,22/05/2023", "22/05/2023"),
        ("/nowhere/list.csv", "nowhere"),
        ("abc,why", "'abc' is no booking id"),
        (f"abc,{'why' * 2000}", "'abc' is no booking id"),
    ],
)
def test_says_in_one_line_what_is_wrong(setting: str, what: str) -> None:
    """A faulty entry is a settings error that names the setting and the entry."""
    with pytest.raises(SettingsError) as caught:
        read_exclusions(setting)
    assert str(caught.value).startswith("RECONCILIATION_EXCLUSIONS: ")
    assert what in str(caught.value)
    assert "\n" not in str(caught.value)
