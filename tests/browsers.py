"""Chromium for tests: a page of a server, with what went wrong on it and what it asked for.

Tests are skipped where there is no browser, and fail where `CI` is set.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

QUIET = ["--disable-gpu", "--disable-background-networking", "--no-default-browser-check", "--no-sandbox"]
PATIENCE = 30_000  # milliseconds


def missing(what: str) -> Any:
    """Skip the test, or fail it in CI."""
    if os.environ.get("CI"):
        pytest.fail(what)
    pytest.skip(what)


def package(name: str) -> Any:
    """A package of the extra `browser`."""
    try:
        return importlib.import_module(name)
    except ImportError:
        return missing(f"{name} is not installed: pip install 'entropix-edge[browser]'")


@contextlib.contextmanager
def chromium() -> Iterator[Any]:
    """Debian's Chromium, or another system's."""
    playwright = package("playwright.sync_api")
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if found is None:
        missing("Chromium is not installed: apt-get install chromium")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=found, args=QUIET)
        try:
            yield browser
        finally:
            browser.close()


@dataclass
class Opened:
    """A page that is looked at."""

    page: Any
    asked_for: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    def ask(self, question: str = "hello", **settings: object) -> None:
        """Ask, and wait until the reply has ended."""
        self.begin(question, **settings)
        self.ended()

    def begin(self, question: str = "hello", **settings: object) -> None:
        for name, value in settings.items():
            self.page.evaluate(
                "([id, value]) => { document.getElementById(id).value = value }", [f"setting-{name}", value]
            )
        self.page.fill("#question", question)
        self.page.click(".composer .main")

    def press(self, name: str) -> None:
        self.page.get_by_role("button", name=name, exact=True).click()

    def ended(self) -> None:
        self.page.wait_for_selector("button:has-text('Stop'):disabled", timeout=PATIENCE)

    def choose(self, least: int) -> int:
        """Click the first token from a place on that has a text: bytes of half a character have none. Its place."""
        place = next(place for place, text in enumerate(self.texts) if place >= least and text.strip())
        self.page.locator(".reply").last.locator(".t").nth(place).click()
        return place

    def tried(self, count: int) -> None:
        """Wait until so many replies were tried, and the last has ended."""
        self.page.wait_for_function("count => window.entropix.tree.nodes.length === count", arg=count)
        self.ended()

    @property
    def texts(self) -> list[str]:
        """The text of each token of the last reply."""
        found: list[str] = self.page.locator(".reply").last.locator(".t").all_text_contents()
        return found

    @property
    def ids(self) -> list[int]:
        """The ids of the last reply's tokens."""
        found: list[int] = self.page.evaluate("() => window.entropix.tree.current.reply.ids")
        return found


WIDE = {"width": 1360, "height": 900}
FORGET = """() => {
  addEventListener('beforeunload', (event) => event.stopImmediatePropagation(), true);
  sessionStorage.clear();
}"""


@contextlib.contextmanager
def opened(browser: Any, url: str, *, until: str = "#question", **context: Any) -> Iterator[Opened]:
    """A page in a profile of its own; nothing may go wrong on it, and it may ask nothing of any other origin."""
    profile = browser.new_context(**({"viewport": WIDE} | context))
    try:
        with visited(profile.new_page(), url, until) as found:
            yield found
    finally:
        profile.close()


@contextlib.contextmanager
def visited(tab: Any, url: str, until: str = "#question") -> Iterator[Opened]:
    """The page in a tab that is there; watched as `opened` does."""
    with watched(tab) as found:
        tab.goto(url)
        tab.wait_for_selector(until)
        yield found
    origin = url.rstrip("/")
    elsewhere = [each for each in found.asked_for if not each.startswith((f"{origin}/", "blob:", "data:"))]
    assert not elsewhere, "the page asked another origin"


@contextlib.contextmanager
def watched(tab: Any) -> Iterator[Opened]:
    """What is asked for in a tab; nothing may go wrong on it."""
    found = Opened(tab)
    heard = {
        "request": lambda request: found.asked_for.append(request.url),
        "pageerror": lambda error: found.faults.append(str(error)),
        "console": lambda message: found.faults.append(message.text) if message.type == "error" else None,
    }
    tab.set_default_timeout(PATIENCE)
    for name, note in heard.items():
        tab.on(name, note)
    try:
        yield found
    finally:
        for name, note in heard.items():
            tab.remove_listener(name, note)
    assert not found.faults


def forget(tab: Any, url: str) -> None:
    """Leave the page, and forget all that it kept: a new profile would take a second of the processor's time."""
    tab.evaluate(FORGET)
    tab.goto("about:blank")
    session = tab.context.new_cdp_session(tab)
    session.send("Storage.clearDataForOrigin", {"origin": url, "storageTypes": "all"})
    session.detach()
