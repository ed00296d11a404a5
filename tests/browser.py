"""Headless Chromium for the tests, with the network cut unless a page is served on loopback."""

import contextlib
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, Page, Request, Route, sync_playwright

_PATIENCE = 120_000  # ms until something that does not happen is a failure, also on a busy machine


@dataclass
class Watched:
    """A page, its network requests, and the errors in its console."""

    page: Page
    asked: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)


@contextlib.contextmanager
def chromium() -> Iterator[Browser]:
    """This machine's Chromium or Chrome; the test is skipped if there is none."""
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if not found:
        pytest.skip("no Chromium is installed (Debian: chromium)")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        try:
            yield browser
        finally:
            browser.close()


@contextlib.contextmanager
def watch(browser: Browser, width: int, height: int = 900) -> Iterator[Watched]:
    """A page of that width in px that can reach files and this machine, and nothing else."""
    context = browser.new_context(viewport={"width": width, "height": height})
    context.set_default_timeout(_PATIENCE)
    watched = Watched(context.new_page())

    def pass_on(route: Route, request: Request) -> None:
        address = urlsplit(request.url)
        if address.scheme in ("file", "data", "blob") or address.hostname in ("127.0.0.1", "localhost"):
            route.continue_()
        else:
            watched.asked.append(request.url)
            route.abort()

    context.route("**/*", pass_on)
    watched.page.on(
        "console",
        lambda message: watched.complaints.append(message.text) if message.type in ("error", "warning") else None,
    )
    watched.page.on("pageerror", lambda error: watched.complaints.append(str(error)))
    try:
        yield watched
    finally:
        context.close()


def wait_until(page: Page, condition: str) -> None:
    """Waits for a condition in JavaScript.

    A page's Content-Security-Policy blocks Playwright's wait_for_function, except where the condition holds at once.
    """
    deadline = time.monotonic() + _PATIENCE / 1000
    while not page.evaluate(condition):
        assert time.monotonic() < deadline, condition
        page.wait_for_timeout(50)


def address(file: Path) -> str:
    return file.resolve().as_uri()
