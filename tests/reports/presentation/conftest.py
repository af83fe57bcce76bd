"""A browser for the tests of the pages. One test after another uses its tabs."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.harness.chromium import chromium


class Tabs:
    """The tabs of one browser.

    They are reused, since opening a new tab takes ten times as long as opening a page in an open tab.
    """

    def __init__(self, browser: Any) -> None:
        self._browser = browser
        self._contexts: dict[bool, Any] = {}
        self._idle: dict[bool, list[Any]] = {True: [], False: []}
        self._in_use: list[tuple[bool, Any]] = []
        #: What the pages logged, their errors, and their requests to other servers.
        self.complaints: list[str] = []

    def open(self, file: Path, fragment: str = "", width: int = 1280, height: int = 900, *, script: bool = True) -> Any:
        """Opens a file in a tab that the test is not yet using, and returns the tab.

        `fragment` is added to the address of the file. `script` says whether scripts run.
        """
        tab = self._idle[script].pop() if self._idle[script] else self._new(script)
        self._in_use.append((script, tab))
        tab.set_viewport_size({"width": width, "height": height})
        tab.goto(f"{file.as_uri()}{fragment}")
        return tab

    def finish(self) -> list[str]:
        """Empties the tabs in use. Returns the pages' log messages, errors and requests to other servers."""
        complaints, self.complaints = self.complaints, []
        for script, tab in self._in_use:
            tab.emulate_media(media="null", color_scheme="null")
            tab.goto("about:blank")
            self._idle[script].append(tab)
        self._in_use.clear()
        return complaints

    def _new(self, script: bool) -> Any:
        if script not in self._contexts:
            self._contexts[script] = self._browser.new_context(java_script_enabled=script)
        tab = self._contexts[script].new_page()
        tab.on("console", lambda message: self.complaints.append(message.text))
        tab.on("pageerror", lambda error: self.complaints.append(str(error)))
        tab.on("request", lambda asked: self._check(asked.url))
        return tab

    def _check(self, url: str) -> None:
        # A page may save its own data, which has a `blob:` address.
        if not url.startswith(("file:", "blob:")):
            self.complaints.append(url)


@pytest.fixture(scope="module")
def browser_tabs() -> Iterator[Tabs]:
    """The tabs of Chromium, if it is installed.

    The browser and the event loop of its driver run only during the tests of one module.
    """
    program = chromium(os.environ)
    from playwright.sync_api import sync_playwright

    options = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=[*options, "--disable-component-update"])
        yield Tabs(browser)
        browser.close()


@pytest.fixture
def tabs(browser_tabs: Tabs) -> Iterator[Tabs]:
    """Empty tabs. A page that logs anything, has an error, or sends a request to another server, fails the test."""
    yield browser_tabs
    assert browser_tabs.finish() == []
