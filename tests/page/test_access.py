"""For everybody: screen readers, keyboards, small and large screens, light and dark."""

from typing import Any, Literal

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from tests.fakes import FakeFleet
from tests.page.conftest import Look
from tests.page.demo_fleet import NAMED, DemoFleet
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
SCHEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")


def findings(page: Page) -> list[Any]:
    """What axe-core finds, however small: rule, and the elements."""
    found = Axe().run(page, options={"resultTypes": ["violations"]}).response["violations"]
    return [(one["id"], [node["html"][:200] for node in one["nodes"]][:3]) for one in found]


def expect_no_findings(page: Page) -> None:
    """Ask axe-core on every width and in both themes."""
    for width in (360, 768, 1440):
        page.set_viewport_size({"width": width, "height": 900})
        for scheme in SCHEMES:
            page.emulate_media(color_scheme=scheme)
            page.wait_for_timeout(200)  # charts take on their new size and colours
            assert findings(page) == [], (width, scheme)


@pytest.mark.parametrize("path", PAGES)
def test_axe_finds_nothing(look: Look, fleet_server: RunningServer, path: str) -> None:
    page = look(fleet_server, bypass_csp=True, reduced_motion="reduce").open(path)
    page.locator("main :is(h1, h2)").first.wait_for(state="attached")
    expect_no_findings(page)


@pytest.mark.parametrize("name", ["Add machine", "Keyboard shortcuts", "Details of attic"])
def test_axe_finds_nothing_in_what_a_button_opens(look: Look, fleet_server: RunningServer, name: str) -> None:
    page = look(fleet_server, bypass_csp=True, reduced_motion="reduce").open("/?view=table")
    page.get_by_role("button", name="Show all").click()
    page.get_by_role("button", name=name).click()
    expect_no_findings(page)


@pytest.mark.parametrize("path", PAGES)
def test_no_page_is_wider_than_the_screen(look: Look, fleet_server: RunningServer, path: str) -> None:
    page = look(fleet_server).open(path)
    for width in (360, 768, 3840):
        page.set_viewport_size({"width": width, "height": 900})
        page.wait_for_timeout(200)
        assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_the_dense_table_scrolls_with_the_page_below_its_headings(
    unhurried_server: RunningServer, fakes: FakeFleet, look: Look
) -> None:
    DemoFleet(unhurried_server, fakes).declare(60, wait=False)
    page = look(unhurried_server).open("/?view=table")
    expect(page.locator(".machine-row")).to_have_count(60)
    page.locator(".machine-row").last.scroll_into_view_if_needed()
    assert page.evaluate("scrollY") > 0
    expect(page.get_by_role("columnheader", name="Machine")).to_be_in_viewport()


def test_all_can_be_done_with_the_keyboard(look: Look, fleet_server: RunningServer) -> None:
    page = look(fleet_server).open()
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to content")).to_be_focused()
    seen = set()
    for _ in range(60):
        page.keyboard.press("Tab")
        seen.add(page.evaluate("document.activeElement.name || document.activeElement.textContent"))
    assert {
        "Models",
        "Events",
        "q",
        "role",
        "tag",
        "status",
        "model",
        "sort",
        "min_free_vram_gb",
        "Dense table",
        *NAMED[:2],
    } <= seen
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
