"""The docstring of each package in `sync` and `reports`, and of `jobs.operations`, lists the package's modules."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SYNC = ROOT / "sync"
REPORTS = [ROOT / "reports" / name for name in ("delivery", "engine", "presentation")]
#: Domain packages are left out: `sync/domains/__init__.py` describes their modules.
PACKAGES = sorted({SYNC, *(each.parent for each in SYNC.glob("*/__init__.py")), *REPORTS, ROOT / "jobs" / "operations"})


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.name)
def test_a_package_docstring_names_each_module(package: Path) -> None:
    """A package's docstring names each of its modules, and its list has only modules and packages that exist."""
    text = (package / "__init__.py").read_text(encoding="utf-8")
    modules = {each.stem for each in package.glob("*.py")} - {"__init__"}
    listed = set(re.findall(r"^- `(\w+)`:", text, re.MULTILINE))
    packages = {each.parent.name for each in package.glob("*/__init__.py")}
    assert modules <= set(re.findall(r"`(\w+)`", text))
    assert listed <= modules | packages
