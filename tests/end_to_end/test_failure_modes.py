"""The table of failure modes names every mode, and only tests that exist."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOCUMENT = ROOT / "doc" / "failure-modes.md"


def test_every_failure_mode_has_a_row_that_names_a_test() -> None:
    """F01 to F33, with the variants of some, stand in the table once and in order, each with at least one test."""
    rows = re.findall(r"^\| (F\d\d\w?) \|.*$", DOCUMENT.read_text(), re.MULTILINE)
    assert rows == sorted(set(rows))
    assert {f"F{number:02}" for number in range(1, 34)} <= set(rows)
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
