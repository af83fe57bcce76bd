"""The table of failure modes names every mode, and only tests that exist."""

import re
from collections import Counter
from pathlib import Path
from string import ascii_lowercase

ROOT = Path(__file__).resolve().parents[2]
DOCUMENT = ROOT / "doc" / "failure-modes.md"


def test_every_failure_mode_has_a_row_that_names_a_test() -> None:
    """F01 to F38, with the variants of some, stand in the table in order and without a gap, each with a test."""
    rows = re.findall(r"^\| (F\d\d\w?) \|.*$", DOCUMENT.read_text(), re.MULTILINE)
    variants = Counter(row[:3] for row in rows)
    assert list(variants) == [f"F{number:02}" for number in range(1, 39)]
    assert rows == [name + letter for name, number in variants.items() for letter in ["", *ascii_lowercase][:number]]
    for line in DOCUMENT.read_text().splitlines():
        if line.startswith("| F"):
            assert "::test_" in line, line


def test_every_test_that_is_named_exists() -> None:
    """A test that is renamed or removed makes its row a lie."""
    named = set(re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", DOCUMENT.read_text()))
    assert len(named) > 50
    missing = [f"{path}::{name}" for path, name in sorted(named) if not _defines(path, name)]
    assert missing == []


def _defines(path: str, name: str) -> bool:
    file = ROOT / path
    return file.is_file() and re.search(rf"^def {name}\(", file.read_text(), re.MULTILINE) is not None
