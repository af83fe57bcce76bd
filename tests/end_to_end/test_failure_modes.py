"""The page about failure modes describes every mode, and names only tests that exist."""

import re
from collections import Counter
from pathlib import Path
from string import ascii_lowercase

ROOT = Path(__file__).resolve().parents[2]
DOCUMENT = ROOT / "doc" / "failure-modes.md"


def test_every_failure_mode_has_a_heading_and_names_a_test() -> None:
    """The page about failure modes has F01 to F38 and their variants in order, without gaps.

    Each section says what happens and names a test.
    """
    modes = re.findall(r"^### (F\d\d\w?): .+\n((?:(?!#).*\n)*)", DOCUMENT.read_text(), re.MULTILINE)
    names = [name for name, _ in modes]
    variants = Counter(name[:3] for name in names)
    assert list(variants) == [f"F{number:02}" for number in range(1, 39)]
    assert names == [name + letter for name, number in variants.items() for letter in ["", *ascii_lowercase][:number]]
    for name, section in modes:
        assert re.search(r"^- (?!`tests/)", section, re.MULTILINE), name
        assert re.search(r"^- `tests/.*::test_", section, re.MULTILINE), name


def test_the_page_fits_on_a_phone() -> None:
    """The page about failure modes has no tables, and no heading takes more than three lines on a phone."""
    lines = DOCUMENT.read_text().splitlines()
    assert [line for line in lines if line.startswith("|") or (line.startswith("#") and len(line) > 100)] == []


def test_every_test_that_is_named_exists() -> None:
    """Every test named on the page about failure modes exists."""
    named = set(re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", DOCUMENT.read_text()))
    assert len(named) > 50
    missing = [f"{path}::{name}" for path, name in sorted(named) if not _defines(path, name)]
    assert missing == []


def _defines(path: str, name: str) -> bool:
    file = ROOT / path
    return file.is_file() and re.search(rf"^def {name}\(", file.read_text(), re.MULTILINE) is not None
