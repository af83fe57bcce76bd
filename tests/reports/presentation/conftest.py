"""A browser for the tests of the pages."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest

from tests.harness.chromium import chromium


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium, if it is installed. It runs only during these tests, since the loop of its driver runs meanwhile."""
    program = chromium(os.environ)
    from playwright.sync_api import sync_playwright

    options = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=program, args=[*options, "--disable-component-update"])
        yield opened
        opened.close()
