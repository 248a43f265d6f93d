"""Takes screenshots of the page with a demonstration fleet: `make screenshots`.

With a folder and a number of machines it takes screenshots of every page there, in light and dark, on a phone
and on a desktop, for review.
"""

import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

from playwright.sync_api import Browser, sync_playwright

from bench.browser import launch
from tests.fakes import FakeFleet
from tests.page.demo_fleet import DemoFleet, give_past
from tests.running import RunningServer

ColorScheme = Literal["light", "dark"]
COLOR_SCHEMES: tuple[ColorScheme, ...] = ("light", "dark")
DRAWING_S = 2.5
"""How long to wait for sparklines and charts."""
DOCS = Path(__file__).parent.parent / "docs"
WINDOW_SIZES = {"desktop": (1440, 900), "phone": (360, 780)}
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
        give_past(
            root / "var" / "telemetry.db", ("workstation", "render-01", "spark", "attic", "lab-gpu"), hours=24
        )
        with RunningServer(root, MACHINES_POLL_INTERVAL_S="5", MACHINES_POLL_TIMEOUT_S="2") as server:
            DemoFleet(server, fakes).declare(count)
            lease = {"model": "llama3.1:70b", "min_free_vram_gb": 4, "holder": "reviewer", "ttl_s": 600}
            server.post("/api/leases", lease)
            browser = launch(playwright)
            for page, scheme, size, file in _plan(folder):
                _take(browser, server.url + PAGES[page], scheme, size, file)
            browser.close()


def _plan(folder: Path | None) -> list[tuple[str, ColorScheme, str, Path]]:
    if folder is None:
        return [
            ("fleet", "light", "desktop", DOCS / "fleet.png"),
            ("fleet", "dark", "desktop", DOCS / "fleet-dark.png"),
            ("machine", "light", "desktop", DOCS / "machine.png"),
        ]
    return [
        (page, scheme, size, folder / f"{page}-{scheme}-{size}.png")
        for page in PAGES
        for scheme in COLOR_SCHEMES
        for size in WINDOW_SIZES
    ]


def _take(browser: Browser, url: str, scheme: ColorScheme, size: str, file: Path) -> None:
    width, height = WINDOW_SIZES[size]
    page = browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)
    page.goto(url)
    page.wait_for_selector("main :is(h1, h2):visible")
    time.sleep(DRAWING_S)
    page.screenshot(path=file, full_page=file.parent == DOCS or "/machines/" in url or "/compare" in url)
    page.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else None, int(sys.argv[2]) if len(sys.argv) > 2 else 6)
