"""Takes screenshots of the page with a demonstration fleet: `make screenshots`.

With a folder and a number of machines it takes screenshots of every page there, in light and dark, on a phone
and on a desktop, for review.
"""

import json
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

from playwright.sync_api import Browser, Route, sync_playwright

from bench.browser import launch
from tests.fakes import FakeFleet
from tests.page.demo_fleet import DemoFleet, give_past
from tests.running import RunningServer
from tools.showcase import Showcase

ColorScheme = Literal["light", "dark"]
COLOR_SCHEMES: tuple[ColorScheme, ...] = ("light", "dark")
DRAWING_S = 6
"""How long to wait for sparklines, charts and availability."""
DOCS = Path(__file__).parent.parent / "docs"
WINDOW_SIZES = {"desktop": (1440, 900), "docs": (1200, 800), "phone": (360, 780)}
PAGES = {
    "fleet": "/",
    "table": "/?view=table",
    "models": "/models?model=llama3.1:70b",
    "machine": "/machines/workstation?span=24h",
    "events": "/events",
    "leases": "/leases",
    "compare": "/compare?machine=workstation&machine=spark&machine=lab-gpu&span=24h",
}


def main(folder: Path | None, count: int) -> None:
    """Take the screenshots of the documentation, or all into `folder`."""
    with TemporaryDirectory() as temporary, FakeFleet() as fakes, sync_playwright() as playwright:
        root = Path(temporary)
        (root / "var").mkdir()
        database = root / "var" / "telemetry.db"
        showcase = Showcase(time.time())
        if folder is None:
            showcase.write_past(database)
        else:
            give_past(database, ("workstation", "render-01", "spark", "attic", "lab-gpu"), hours=24)
        with RunningServer(root, MACHINES_POLL_INTERVAL_S="5", MACHINES_POLL_TIMEOUT_S="2") as server:
            if folder is None:
                showcase.declare(server, fakes)
            else:
                DemoFleet(server, fakes).declare(count)
            model = "qwen2.5-coder:32b" if folder is None else "llama3.1:70b"
            lease = {"model": model, "min_free_vram_gb": 8, "holder": "nightly review", "ttl_s": 600}
            server.post("/api/leases", lease).raise_for_status()
            browser = launch(playwright)
            for page, scheme, size, file in _plan(folder):
                _take(browser, server.url + PAGES[page], scheme, size, file, showcase)
            browser.close()
        showcase.close()


def _plan(folder: Path | None) -> list[tuple[str, ColorScheme, str, Path]]:
    if folder is None:
        return [
            ("fleet", "light", "docs", DOCS / "fleet.png"),
            ("fleet", "dark", "docs", DOCS / "fleet-dark.png"),
            ("machine", "light", "docs", DOCS / "machine.png"),
        ]
    return [
        (page, scheme, size, folder / f"{page}-{scheme}-{size}.png")
        for page in PAGES
        for scheme in COLOR_SCHEMES
        for size in ("desktop", "phone")
    ]


def _take(browser: Browser, url: str, scheme: ColorScheme, size: str, file: Path, showcase: Showcase) -> None:
    width, height = WINDOW_SIZES[size]
    page = browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme, locale="en-GB")
    if file.parent == DOCS:
        page.route("**/api/**", lambda route: _answer_prettily(route, showcase))
        page.route("**/health", lambda route: _answer_prettily(route, showcase))
    page.goto(url)
    page.wait_for_selector("main :is(h1, h2):visible")
    page.wait_for_timeout(1000 * DRAWING_S)
    page.screenshot(path=file, full_page=file.parent == DOCS or "/machines/" in url or "/compare" in url)
    page.unroute_all(behavior="ignoreErrors")
    page.close()


def _answer_prettily(route: Route, showcase: Showcase) -> None:
    """Leave out artefacts of the pictures: odd addresses, warnings, and events of this server's start."""
    answer = route.fetch(url=route.request.url.replace("limit=20", "limit=200"))
    text = showcase.prettify(answer.text())
    if "json" in answer.headers.get("content-type", ""):
        body = json.loads(text)
        if "warnings" in body:
            body["warnings"] = []
        if "events" in body:
            body["events"] = [one for one in body["events"] if showcase.is_past(one["at"])][:20]
        text = json.dumps(body)
    route.fulfill(response=answer, body=text)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else None, int(sys.argv[2]) if len(sys.argv) > 2 else 6)
