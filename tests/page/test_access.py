"""For everybody: screen readers, keyboards, small and large screens, light and dark."""

from typing import Any, Literal

import pytest
from axe_playwright_python.base import AXE_SCRIPT
from playwright.sync_api import Page, expect

from tests.page.conftest import Look
from tests.page.demo_fleet import NAMED
from tests.running import RunningServer

PAGES = (
    "/",
    "/?view=table",
    "/models?model=llama3.1:70b",
    "/events",
    "/leases",
    "/compare?machine=workstation&machine=app-host&span=1h",
    "/machines/workstation?span=1h",
)
WIDTHS = (360, 768, 1440)


def findings(page: Page, part: str = "", **options: Any) -> list[Any]:
    """What axe-core finds, however small, on the page or in the part with that selector: rule, elements."""
    if not page.evaluate("'axe' in window"):
        page.evaluate(AXE_SCRIPT)
    found = page.evaluate(
        "([part, options]) => axe.run(part || document, options)",
        [part, {"reporter": "no-passes", "preload": False} | options],
    )
    return [(one["id"], [node["html"][:200] for node in one["nodes"]][:3]) for one in found["violations"]]


def resize(page: Page, width: int) -> None:
    """Change the width of the page, and wait until it is laid out anew."""
    page.set_viewport_size({"width": width, "height": 900})
    page.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")


def expect_no_findings(page: Page, part: str = "") -> None:
    """Ask axe-core on every width and in both themes, which differ in nothing but colours."""
    for width in WIDTHS:
        page.emulate_media(color_scheme="light")
        resize(page, width)
        assert findings(page, part) == [], width
        page.emulate_media(color_scheme="dark")
        assert findings(page, part, runOnly=["color-contrast"]) == [], (width, "dark")


@pytest.mark.parametrize("path", PAGES)
def test_axe_finds_nothing_and_no_page_is_wider_than_the_screen(
    look: Look, fleet_server: RunningServer, path: str
) -> None:
    page = look(fleet_server, bypass_csp=True, reduced_motion="reduce").open(path)
    page.locator("main :is(h1, h2)").first.wait_for(state="attached")
    expect_no_findings(page)
    for width in (*WIDTHS, 3840):
        resize(page, width)
        assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_axe_finds_nothing_in_the_page_about_the_api(look: Look, fleet_server: RunningServer) -> None:
    page = look(fleet_server, bypass_csp=True).page
    page.goto(f"{fleet_server.url}/docs")
    # Colours do not depend on the width, and on so long a page axe takes long to compare them.
    for width in WIDTHS:
        resize(page, width)
        assert findings(page, rules={"color-contrast": {"enabled": False}}) == [], width
    schemes: tuple[Literal["light", "dark"], ...] = ("light", "dark")
    for scheme in schemes:
        page.emulate_media(color_scheme=scheme)
        assert findings(page, runOnly=["color-contrast"]) == [], scheme


def test_the_page_about_the_api_needs_no_script(look: Look, fleet_server: RunningServer) -> None:
    page = look(fleet_server, java_script_enabled=False, viewport={"width": 360, "height": 900}).page
    page.goto(f"{fleet_server.url}/docs")
    page.get_by_role("link", name="POST /api/leases", exact=True).click()
    expect(page.get_by_role("heading", name="POST /api/leases", exact=True)).to_be_in_viewport()


def test_axe_finds_nothing_in_what_a_button_opens(look: Look, fleet_server: RunningServer) -> None:
    page = look(fleet_server, bypass_csp=True, reduced_motion="reduce").open("/?view=table")
    page.get_by_role("button", name="Show all").click()
    for name, part in (
        ("Details of attic", "main"),
        ("Add machine", "dialog"),
        ("Keyboard shortcuts", "dialog"),
    ):
        page.get_by_role("button", name=name).click()
        page.locator(part).wait_for()
        assert findings(page, rules={"color-contrast": {"enabled": False}}) == [], name
        expect_no_findings(page, part)
        page.keyboard.press("Escape")


def test_all_can_be_done_with_the_keyboard(look: Look, fleet_server: RunningServer) -> None:
    page = look(fleet_server).open()
    seen = set()
    while True:  # every stop of the Tab key, and what the arrow keys reach from it
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement === document.body"):
            break
        in_group = page.evaluate("document.activeElement.closest('[data-tab-group]') !== null")
        page.keyboard.press("Home")
        for _ in range(20 if in_group else 1):
            seen.add(page.evaluate("document.activeElement.name || document.activeElement.innerText"))
            page.keyboard.press("ArrowRight")
    filters = {"q", "role", "tag", "status", "model", "sort", "min_free_vram_gb", "Dense table"}
    assert {"Skip to content", "Models", "Events", "Add machine", "Show all"} <= seen
    assert filters <= seen
    assert {*NAMED} <= seen
    page.get_by_role("link", name="workstation", exact=True).first.press("Enter")
    page.wait_for_url("**/machines/workstation")
    page.go_back()
    expect(page.locator("li.card")).to_have_count(len(NAMED))


def test_the_theme_is_chosen_and_kept(look: Look, fleet_server: RunningServer) -> None:
    page = look(fleet_server, color_scheme="light").open()
    ground = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(ground)
    page.get_by_role("button", name="Theme: system").click()
    page.get_by_role("button", name="Theme: light").click()
    expect(page.get_by_role("button", name="Theme: dark")).to_be_visible()
    assert page.evaluate(ground) != light
    page.reload()
    expect(page.get_by_role("button", name="Theme: dark")).to_be_visible()


def test_nothing_moves_for_those_who_ask_for_that(look: Look, fleet_server: RunningServer) -> None:
    page = look(fleet_server, reduced_motion="reduce").open()
    page.wait_for_selector(".bar .used")
    moving = "one => getComputedStyle(one).transitionDuration !== '0s'"
    assert page.evaluate(f"[...document.querySelectorAll('*')].filter({moving}).length") == 0


def test_times_are_in_the_zone_of_the_reader(look: Look, fleet_server: RunningServer) -> None:
    titles = []
    for zone in ("Europe/Warsaw", "Asia/Tokyo"):
        page = look(fleet_server, timezone_id=zone).open("/events")
        moment = page.locator(".event time").last
        titles.append((moment.get_attribute("datetime"), moment.get_attribute("title")))
    assert titles[0][0] == titles[1][0]
    assert titles[0][1] != titles[1][1]
