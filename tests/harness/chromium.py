"""The browser in which the tests open pages."""

from __future__ import annotations

import shutil
from collections.abc import Mapping

import pytest


def chromium(environment: Mapping[str, str]) -> str:
    """The path of the browser's executable.

    If there is no browser, the test is skipped. If `CI` is set, the test fails instead, since otherwise nobody would
    notice that it did not run.
    """
    names = ("chromium", "chromium-browser")
    found = (shutil.which(name, path=environment.get("PATH")) for name in names)
    program = environment.get("CHROMIUM") or next(filter(None, found), None)
    if program is not None:
        return program
    missing = "no Chromium on this machine: install it, or name it in CHROMIUM"
    if environment.get("CI", "").lower() in ("", "0", "false"):
        pytest.skip(missing)
    pytest.fail(missing)
