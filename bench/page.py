"""The page in a browser: how much it loads at first, and how soon 100 machines are drawn."""

import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from bench.peers import NOT_HERE, is_there
from bench.simulation import simulated
from bench.table import Line, Times, limited, note, server

MACHINES, ROUNDS = 100, 10
DRAWN_MS, FIRST_LOAD_KB = 200, 150
LOOK_S = 0.7
"""Seldom: the page is at work meanwhile, and a look takes part of its time."""
AHEAD_S = 2.0
"""What it then fetches for other pages counts as well."""
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
    """Open the page anew some times, each in a browser that has cached nothing."""
    what = f"{MACHINES} machines drawn after their data came"
    if not is_there("chromium") or find_spec("playwright") is None:
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
                drawn, loaded_kb = _opened(browser, port, 0.0 if left else AHEAD_S)
                drawn_ms.append(drawn)
            browser.close()
    times = Times(drawn_ms)
    return [
        limited(what, times.median, "ms", DRAWN_MS, f" median, slowest {max(drawn_ms):.0f} ms"),
        limited(f"first load of the page, {MACHINES} machines", loaded_kb, "kB", FIRST_LOAD_KB),
    ]


def _opened(browser: Any, port: int, stays_s: float) -> tuple[float, float]:
    """Milliseconds from the first answer about the fleet until all is drawn; kilobytes until it is closed."""
    page = browser.new_page(viewport={"width": 1440, "height": 900})
    page.add_init_script(_WATCH)
    sizes = []
    page.on("requestfinished", lambda request: sizes.append(request.sizes()))
    page.goto(f"http://127.0.0.1:{port}/")
    drawn = None
    while drawn is None:
        time.sleep(LOOK_S)
        drawn = page.evaluate(_DRAWN_MS)
    time.sleep(stays_s)
    page.close()
    return drawn, sum(one["responseBodySize"] + one["responseHeadersSize"] for one in sizes) / 1000
