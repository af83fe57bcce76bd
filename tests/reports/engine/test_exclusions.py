"""Exclusions are read from the setting `RECONCILIATION_EXCLUSIONS`, or from the file that the setting names."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from reports.engine.exclusions import Exclusion, read_exclusions
from sync.settings.loading import SettingsError

MERGED = Exclusion(1204417, "merged, see ticket", date(2023, 5, 22))
KNOWN = Exclusion(1204418, "known since May", None)
BOTH = {1204417: MERGED, 1204418: KNOWN}
ENTRIES = '1204417,"merged, see ticket",2023-05-22\n1204418,known since May\n'


@pytest.mark.parametrize(
    "content",
    [
        ENTRIES,
        "bookingId,reason,date\n# known\n\n" + ENTRIES,
        "# known ones\nbookingId,reason,date\n" + ENTRIES,
        "\n\nBooking ID,Reason,Date\n" + ENTRIES,
        "\ufeffbookingId,reason,date\n" + ENTRIES,
        ENTRIES.replace("\n", "\r\n"),
        ENTRIES.replace("\n", "\r"),
        ENTRIES.replace("known since May", "known since May,,"),
        ENTRIES.replace(',"', ', "'),
    ],
)
@pytest.mark.parametrize("name", ["exclusions.csv", "2023-exclusions.csv", "1204417", "known, old; exclusions.csv"])
def test_a_file_may_have_remarks_and_any_line_endings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str, name: str
) -> None:
    """A file of exclusions may have any name, a heading, comments, any line endings and a byte order mark."""
    monkeypatch.chdir(tmp_path)
    Path(name).write_bytes(content.encode())
    assert read_exclusions(name) == BOTH
    assert read_exclusions(f" {tmp_path / name}\n") == BOTH


@pytest.mark.parametrize(
    "setting",
    [
        '1204417,"merged, see ticket",2023-05-22; 1204418,known since May',
        '1204417,"merged, see ticket",2023-05-22;1204418,known since May;',
        ENTRIES,
        "bookingId,reason,date;" + ENTRIES.replace("\n", ";"),
        "\ufeff" + ENTRIES.replace("\n", "\r\n"),
    ],
)
def test_the_setting_may_contain_the_entries(setting: str) -> None:
    """The setting for exclusions may contain the entries themselves, on separate lines or separated by semicolons."""
    assert read_exclusions(setting) == BOTH


def test_a_semicolon_in_quotes_belongs_to_the_reason() -> None:
    """In the setting for exclusions, a semicolon within quotes is part of a reason and does not separate entries."""
    read = read_exclusions('1204417,"merged; see ticket";1204418,known')
    assert {each.key: each.reason for each in read.values()} == {
        1204417: "merged; see ticket",
        1204418: "known",
    }


def test_a_long_setting_is_not_a_file_name() -> None:
    """A long list of exclusions in the setting is not mistaken for the name of a file."""
    assert len(read_exclusions(";".join(f"{number},known" for number in range(1, 3_000)))) == 2_999


@pytest.mark.parametrize("nothing", [None, "", "  ", "# 1204417,later", "\ufeff"])
def test_there_are_no_exclusions_without_a_setting(nothing: str | None) -> None:
    """If the setting for exclusions is absent or blank, or contains only a comment, there are no exclusions."""
    assert read_exclusions(nothing) == {}


FAULTY = [
    ("12x,why", "'12x' is not a booking id"),
    ("0,why", "'0' is not a booking id"),
    ("-5,why", "'-5' is not a booking id"),
    ("²,why", "'²' is not a booking id"),
    ("١٢٠٤٤١٧,why", "'١٢٠٤٤١٧' is not a booking id"),
    ("１２,why", "'１２' is not a booking id"),
    ("9" * 19 + ",why", "is not a booking id"),
    ("9" * 5_000 + ",why", "is not a booking id"),
    ("1204417", "booking 1204417 has no reason"),
    ("1204417;1204418", "entry 1: booking 1204417 has no reason"),
    ("1204417,,2023-05-22", "booking 1204417 has no reason"),
    ("1204417,1204418", "'1204418' is not a reason"),
    ("1204417,1204418,1204419", "'1204418' is not a reason"),
    ("1,204,417,why", "'204' is not a reason"),
    ("1204417,A1234BC", "'A1234BC' is not a reason"),
    ("1204417,null", "'null' is not a reason"),
    ("1204417,N/A", "'N/A' is not a reason"),
    ("1204417,why;1204418,so;1204417,because", "entry 3: booking 1204417 is on the list twice"),
    ("1204417,2023-05-22", "'2023-05-22' is not a reason"),
    ("12,why,22/05/2023", "'22/05/2023' is not a date"),
    ("12,why,2023-02-30", "'2023-02-30' is not a date"),
    ("12,merged, see ticket", "needs double quotes"),
    ("12,why,2023-05-22,more", "has 4 values"),
    ("12,why\n13,why,22.05.2023", "entry 2: "),
    ('12,"why', "quote that is not closed"),
    ('12,"why\n13,b"', "quote that is not closed"),
    ('12,"why;13,because;14,so', "quote that is not closed"),
    ("12,why;bookingId,reason,date", "'bookingId' is not a booking id"),
    ("12,\x07why", "characters that cannot be shown"),
    ("/nowhere/list.csv", "nowhere"),
    ("2023-exclusions.csv", "the file '2023-exclusions.csv' cannot be read"),
    ("²", "cannot be read"),
    ("12\x00,why", "is not a booking id"),
    ("abc,why", "'abc' is not a booking id"),
    (f"abc,{'why' * 2000}", "'abc' is not a booking id"),
]


@pytest.mark.parametrize(("setting", "what"), FAULTY)
def test_an_invalid_entry_is_named_with_a_correct_example(setting: str, what: str) -> None:
    """If an entry on the list of exclusions is invalid, or a file cannot be read, a `SettingsError` is raised.

    The error names the setting, says what is wrong, and shows an example of a correct entry.
    """
    with pytest.raises(SettingsError) as caught:
        read_exclusions(setting)
    text = str(caught.value)
    assert text.startswith("RECONCILIATION_EXCLUSIONS: ")
    assert what in text
    assert "such as: 1204417,merged by hand,2023-05-22" in text
    assert text.isprintable()
    assert len(text) < 400


@pytest.mark.parametrize(
    ("content", "line", "what"),
    [
        ('1204417,"merged\n1204418,known\n', 1, "quote that is not closed"),
        ('1204416,known\n1204417,"merged\n1204418,"known"\n', 2, "quote that is not closed"),
        ('# the "old ones\n1204417,"known"\n1204418,"merged\n', 3, "quote that is not closed"),
        ('# the "old ones\n1204417,known\n1204418\n', 3, "booking 1204418 has no reason"),
        ("1204417,known\n1204418\n", 2, "booking 1204418 has no reason"),
        ("1204417;merged;2023-05-22\n", 1, "is not a booking id"),
    ],
)
def test_an_invalid_line_of_a_file_is_named(tmp_path: Path, content: str, line: int, what: str) -> None:
    """If a line of a file of exclusions is invalid, the error names that line and says what is wrong.

    A quotation mark affects only its own line: if it is not closed, no other line becomes invalid. In a comment, a
    quotation mark is ignored.
    """
    file = tmp_path / "exclusions.csv"
    file.write_text(content)
    with pytest.raises(SettingsError, match=f": line {line} of .*{what}.*such as: 1204417"):
        read_exclusions(str(file))


@pytest.mark.parametrize("encoding", ["utf-16", "latin-1"])
def test_a_file_in_another_encoding_is_refused(tmp_path: Path, encoding: str) -> None:
    """A file of exclusions that a spreadsheet saved in an encoding other than UTF-8 is refused."""
    file = tmp_path / "exclusions.csv"
    file.write_text("1204417,überführt\n", encoding=encoding)
    with pytest.raises(SettingsError, match="not UTF-8 text"):
        read_exclusions(str(file))
