"""A browser, a fleet to look at, and a page that must log nothing."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import pytest
from playwright.sync_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Locator,
    Page,
    Request,
    expect,
    sync_playwright,
)

from bench.browser import is_installed, launch
from tests.fakes import FakeFleet
from tests.page.demo_fleet import NAMED, DemoFleet, give_past
from tests.running import RunningServer
from tests.tools import left_out

expect.set_options(timeout=30_000)

UNHURRIED = {"MACHINES_POLL_INTERVAL_S": "2", "MACHINES_POLL_TIMEOUT_S": "1.5"}
"""Settings with which the fleet stays as it is while browsers need all of the machine."""


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """One browser for all tests here; it ends before others begin."""
    with sync_playwright() as playwright:
        if not is_installed(playwright):
            left_out("chromium-headless-shell")
        browser = launch(playwright)
        yield browser
        browser.close()


@pytest.fixture(scope="package")
def fleet_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server with eight machines of all kinds and a past of six hours; tests only look at it."""
    folder = tmp_path_factory.mktemp("page")
    (folder / "var").mkdir()
    give_past(folder / "var" / "telemetry.db", NAMED[:2], hours=6)
    with FakeFleet() as fakes, RunningServer(folder, **UNHURRIED) as server:
        DemoFleet(server, fakes).declare(len(NAMED))
        server.write("broken.yaml", "name: broken\nrole: [")
        yield server


@pytest.fixture(scope="package")
def server_of_module(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """The server behind `shared_server`: one for all tests here."""
    with RunningServer(tmp_path_factory.mktemp("shared")) as running:
        yield running


@pytest.fixture
def unhurried_server(tmp_path: Path) -> Iterator[RunningServer]:
    """A running server that polls many machines in time beside a browser, and knows none yet."""
    settings = {"MACHINES_POLL_INTERVAL_S": "10", "MACHINES_POLL_TIMEOUT_S": "9"}
    with RunningServer(tmp_path, **settings) as running:
        yield running


class Site(Protocol):
    """What is looked at."""

    url: str


class Watched:
    """A page whose complaints and requests are kept."""

    def __init__(self, context: BrowserContext, url: str) -> None:
        self.page: Page = context.new_page()
        self.page.set_default_timeout(30_000)
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


def card(page: Page, name: str) -> Locator:
    """What a page of the fleet shows of one machine."""
    return page.locator("li.card", has=page.get_by_role("link", name=name, exact=True))


Look = Callable[..., Watched]


@pytest.fixture
def look(browser: Browser) -> Iterator[Look]:
    """Opens pages; at the end none has complained, nor asked another host.

    A test names it last, so that its pages are closed before its server ends.
    """
    watched: list[Watched] = []
    contexts: list[BrowserContext] = []

    def open_at(site: Site, **options: Any) -> Watched:
        settings = {
            "viewport": {"width": 1440, "height": 900},
            "locale": "en-GB",
            "timezone_id": "Europe/Warsaw",
        }
        contexts.append(browser.new_context(**(settings | options)))
        watched.append(Watched(contexts[-1], site.url))
        return watched[-1]

    yield open_at
    for one in watched:
        if not one.page.is_closed():
            one.page.unroute_all(behavior="ignoreErrors")  # some may still wait for the server
    for context in contexts:
        context.close()
    for one in watched:
        assert one.complaints == []
        assert [request.url for request in one.requests if not request.url.startswith(one.url)] == []
