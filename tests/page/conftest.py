"""A browser, a fleet to look at, and a page that complains of nothing."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Page,
    Request,
    expect,
    sync_playwright,
)

from bench.browser import CHROMIUM, launch
from tests.fakes import FakeFleet
from tests.page.demo_fleet import NAMED, DemoFleet, give_past
from tests.running import RunningServer


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """One browser for all tests here; it ends before others begin."""
    if CHROMIUM is None:
        pytest.skip("Chromium is not installed, and the page cannot be looked at without a browser")
    with sync_playwright() as playwright:
        browser = launch(playwright)
        yield browser
        browser.close()


@pytest.fixture(scope="package")
def fleet_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server with eight machines of all kinds and a past of six hours; tests only look at it."""
    folder = tmp_path_factory.mktemp("page")
    (folder / "var").mkdir()
    give_past(folder / "var" / "telemetry.db", NAMED[:2], hours=6)
    with FakeFleet() as fakes, RunningServer(folder) as server:
        DemoFleet(server, fakes).declare(len(NAMED))
        server.write("broken.yaml", "name: broken\nrole: [")
        yield server


class Watched:
    """A page whose complaints and requests are kept."""

    def __init__(self, context: BrowserContext, url: str) -> None:
        self.page: Page = context.new_page()
        self.page.set_default_timeout(10_000)
        self.url = url
        self.complaints: list[str] = []
        self.requests: list[Request] = []
        self.page.on("console", self._hear)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request))

    def _hear(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(message.text)

    def open(self, path: str = "/") -> Page:
        """The page, once it shows what the server says."""
        self.page.goto(self.url + path)
        expect(self.page.locator("#age")).to_contain_text("As of")
        return self.page

    def asked(self, path: str) -> int:
        """How often that path was asked for."""
        return sum(request.url.removeprefix(self.url).partition("?")[0] == path for request in self.requests)


Look = Callable[..., Watched]


@pytest.fixture
def look(browser: Browser) -> Iterator[Look]:
    """Opens pages; at the end none has complained, nor asked another host.

    A test names it last, so that its pages are closed before its server ends.
    """
    watched: list[Watched] = []
    contexts: list[BrowserContext] = []

    def open_at(server: RunningServer, **options: Any) -> Watched:
        settings = {
            "viewport": {"width": 1440, "height": 900},
            "locale": "en-GB",
            "timezone_id": "Europe/Warsaw",
        }
        contexts.append(browser.new_context(**(settings | options)))
        watched.append(Watched(contexts[-1], server.url))
        return watched[-1]

    yield open_at
    for context in contexts:
        context.close()
    for one in watched:
        assert one.complaints == []
        assert [request.url for request in one.requests if not request.url.startswith(one.url)] == []
