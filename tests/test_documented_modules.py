"""The modules that are named on the hand-written pages of `doc/` exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("jobs", "reports", "sync", "sandbox", "tests", "benchmarks")
#: These pages are written by `make docs`.
GENERATED = {"commands.md", "events.md", "settings.md"}
PAGES = sorted(each for each in (ROOT / "doc").glob("*.md") if each.name not in GENERATED)
#: The domain and the reconciliation that `architecture.md` adds as examples.
EXAMPLES = re.compile(r"certificates|pay_bands")
FILES = [each.relative_to(ROOT) for package in PACKAGES for each in (ROOT / package).rglob("*.py")]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_each_named_module_exists(page: Path) -> None:
    """Each file and each dotted module named on a page exists."""
    named = set(re.findall(r"`([^`\n]+)`", page.read_text(encoding="utf-8")))
    files = {file for name in named for file in re.findall(r"(?:[\w*]+/)*[\w*]+\.py\b", name)}
    dotted = {name for name in named if re.fullmatch(rf"(?:{'|'.join(PACKAGES)})(?:\.[a-z_0-9]+)+", name)}
    missing = {file for file in files if not _file_exists(file)} | {name for name in dotted if not _module_exists(name)}
    assert sorted(each for each in missing if not EXAMPLES.search(each)) == []


def _file_exists(name: str) -> bool:
    """Whether a file exists whose path ends with `name`.

    A name without a folder, such as `reads.py`, means a file outside `tests`, unless it begins with `test_`.
    """
    in_tests = "/" in name or name.startswith("test_")
    return any(file.match(name) for file in FILES if in_tests or file.parts[0] != "tests")


def _module_exists(name: str) -> bool:
    path = ROOT / name.replace(".", "/")
    return path.is_dir() or path.with_suffix(".py").is_file()
