"""The page in a browser: how much it loads, and how soon 100 machines are drawn."""

import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from bench.peers import NOT_HERE, is_there
from bench.simulation import simulated
from bench.table import Line, Times, limited, note, server

MACHINES, ROUNDS = 100, 10
DRAWN_MS, FIRST_LOAD_KB = 200, 150
DRAWN_CHECK_INTERVAL_S = 0.7
"""Interval between checks; each check takes time from the page."""
PREFETCH_S = 2.0
"""How long the page stays open, since prefetched files count as well."""
_WATCH = """
new MutationObserver((_, observer) => {
  if (document.querySelectorAll("li.card").length < MACHINES) return;
  observer.disconnect();
  requestAnimationFrame(() => requestAnimationFrame(() => { window.drawnAt = performance.now(); }));
}).observe(document, {childList: true, subtree: true});
""".replace("MACHINES", str(MACHINES))
_DRAWN_MS = """() => {
  const [answer] = performance.getEntriesByName(`${location.origin}/api/infrastructure`);
  return window.drawnAt && window.drawnAt - answer.responseEnd;
}"""


def bench(folder: Path, *, quick: bool) -> list[Line]:
    """Open the page several times, each time with an empty cache."""
    what = f"{MACHINES} machines drawn after their data came"
    has_browser = is_there("chromium-headless-shell") or is_there("chromium")
    if not has_browser or find_spec("playwright") is None:
        return [Line(what, NOT_HERE.format("Chromium or playwright"), "", None, f"<= {DRAWN_MS} ms")]
    from playwright.sync_api import sync_playwright

    from bench.browser import launch

    drawn_ms, loaded_kb = [], 0.0
    with simulated(MACHINES) as fleet, server(folder, fleet.declare(folder / "machines")) as (_, port):
        time.sleep(7)
        note(f"the page with {MACHINES} machines is opened {ROUNDS} times")
        with sync_playwright() as playwright:
            browser = launch(playwright)
            for left in reversed(range(3 if quick else ROUNDS)):
                drawn, loaded_kb = _opened(browser, port, 0.0 if left else PREFETCH_S)
                drawn_ms.append(drawn)
            browser.close()
    times = Times(drawn_ms)
    return [
        limited(what, times.median, "ms", DRAWN_MS, f" median, slowest {max(drawn_ms):.0f} ms"),
        limited(f"first load of the page, {MACHINES} machines", loaded_kb, "kB", FIRST_LOAD_KB),
    ]


def _opened(browser: Any, port: int, stays_s: float) -> tuple[float, float]:
    """Milliseconds from the first answer about the fleet until all is drawn, and kilobytes loaded in all."""
    page = browser.new_page(viewport={"width": 1440, "height": 900})
    page.add_init_script(_WATCH)
    finished: list[Any] = []

    def note_finished(request: Any) -> None:  # playwright sets attributes of its handlers
        finished.append(request)

    page.on("requestfinished", note_finished)
    page.goto(f"http://127.0.0.1:{port}/")
    drawn = None
    while drawn is None:
        time.sleep(DRAWN_CHECK_INTERVAL_S)
        drawn = page.evaluate(_DRAWN_MS)
    page.wait_for_timeout(stays_s * 1000)
    sizes = [request.sizes() for request in list(finished)]
    page.close()
    return drawn, sum(one["responseBodySize"] + one["responseHeadersSize"] for one in sizes) / 1000
