"""Each imported package is declared in `pyproject.toml` for the part of the program that imports it."""

import ast
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
#: The extras of an installation that runs the code in each folder.
EXTRAS = {
    "jobs": (),
    "reports": (),
    "sync": (),
    "templates": (),
    "sandbox": ("sandbox",),
    "tests": ("sandbox", "dev"),
    "benchmarks": ("sandbox", "dev", "bench"),
}
OWN = {*EXTRAS, "prisoner_to_nomis"}


def declared(extras: tuple[str, ...]) -> set[str]:
    """The distributions that are declared for an installation with `extras`."""
    texts = [*PROJECT["dependencies"], *(each for extra in extras for each in PROJECT["optional-dependencies"][extra])]
    return {canonicalize_name(Requirement(text).name) for text in texts}


def imported(folder: Path) -> dict[str, set[str]]:
    """The third-party packages that the files below `folder` import, each with the files that import it."""
    found: dict[str, set[str]] = {}
    for file in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            names: list[str] = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names = [node.module]
            for name in names:
                found.setdefault(name.partition(".")[0], set()).add(str(file.relative_to(ROOT)))
    return {name: files for name, files in found.items() if name not in sys.stdlib_module_names and name not in OWN}


@pytest.mark.parametrize("folder", EXTRAS)
def test_every_import_is_declared(folder: str) -> None:
    """Each third-party package that the files of a folder import is declared.

    It is not enough that another dependency installs the package: a later version of that dependency may not do so.
    """
    distributions = packages_distributions()
    known = declared(EXTRAS[folder])
    missing = {
        name: sorted(files)[:3]
        for name, files in imported(ROOT / folder).items()
        # A module that is not installed, such as some that benchmarks use, is assumed to have its distribution's name.
        if not {canonicalize_name(each) for each in distributions.get(name, (name,))} & known
    }
    assert missing == {}
