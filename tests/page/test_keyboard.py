"""Keys that work on every page."""

import re

import pytest
from playwright.sync_api import expect

from tests.page.conftest import Look
from tests.running import RunningServer


@pytest.mark.parametrize("path", ["/?sort=name", "/?sort=name&view=table", "/?sort=name&q=a"])
@pytest.mark.parametrize("width", [390, 1440])
def test_the_first_machine_is_five_tabs_away(
    look: Look, fleet_server: RunningServer, path: str, width: int
) -> None:
    page = look(fleet_server, viewport={"width": width, "height": 900}).open(path)
    machine = page.locator("main :is(.card, .machine-row)").first
    for _ in range(5):
        page.keyboard.press("Tab")
    expect(machine.locator(":focus")).to_have_count(1)
    page.keyboard.press("Shift+Tab")
    expect(machine.locator(":focus")).to_have_count(0)
    page.keyboard.press("Tab")
    expect(machine.locator(":focus")).to_have_count(1)


def test_the_skip_link_goes_to_the_first_machine(look: Look, fleet_server: RunningServer) -> None:
    page = look(fleet_server).open()
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to content")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="attic").get_by_role("link")).to_be_focused()


def test_arrow_keys_move_within_what_tab_stops_at_once(look: Look, fleet_server: RunningServer) -> None:
    page = look(fleet_server).open()

    def walk(key: str, steps: int) -> list[str]:
        names = []
        for _ in range(steps):
            page.keyboard.press(key)
            names.append(page.evaluate("document.activeElement.name || document.activeElement.innerText"))
        return names

    walk("Tab", 2)
    expect(page.get_by_role("link", name="Fleet", exact=True)).to_be_focused()
    assert walk("ArrowRight", 4) == ["Models", "Events", "Compare", "Leases"]
    assert walk("ArrowRight", 4) == ["Theme: system", "?", "Add machine", "Add machine"]
    assert walk("Home", 1) == ["machines-server"]
    assert walk("Tab", 1) == ["Show all"]
    walk("Tab", 1)
    search = page.get_by_label("Search")
    expect(search).to_be_focused()
    page.keyboard.type("a")
    walk("ArrowLeft", 1)  # the caret
    expect(search).to_be_focused()
    walk("ArrowRight", 1)
    page.keyboard.press("Backspace")
    filters = ["min_free_vram_gb", "role", "tag", "status", "model", "sort", "Dense table"]
    assert walk("ArrowRight", 7) == filters
    walk("ArrowLeft", 8)
    assert "offline" in "".join(walk("ArrowLeft", 12))
    page.keyboard.press("Tab")
    page.keyboard.press("Shift+Tab")
    assert page.evaluate("document.activeElement.closest('.summary') !== null")  # where it was


def test_j_and_k_go_through_the_machines_and_enter_opens_one(look: Look, fleet_server: RunningServer) -> None:
    for path in ("/?sort=name", "/?sort=name&view=table"):
        page = look(fleet_server).open(path)
        machine = page.locator("main .machines a:focus")
        for key, name in (("j", "a_machine_with"), ("j", "app-host"), ("j", "attic"), ("k", "app-host")):
            page.keyboard.press(key)
            expect(machine).to_have_text(re.compile(f"^{name}"))
        page.keyboard.press("Enter")
        page.wait_for_url("**/machines/app-host")


def test_a_slash_searches_and_letters_that_are_typed_are_no_keys(
    look: Look, fleet_server: RunningServer
) -> None:
    page = look(fleet_server, viewport={"width": 390, "height": 844}).open()
    page.keyboard.press("/")
    search = page.get_by_label("Search")
    expect(search).to_be_focused()
    page.keyboard.type("jg?/")
    expect(search).to_have_value("jg?/")
    expect(page.get_by_role("dialog")).to_have_count(0)


def test_g_and_a_letter_open_a_page(look: Look, fleet_server: RunningServer) -> None:
    page = look(fleet_server).open()
    for letter, heading in (("m", "Models"), ("e", "Events"), ("f", "Fleet")):
        page.keyboard.press("g")
        page.keyboard.press(letter)
        expect(page.get_by_role("heading", name=heading, exact=True, level=1)).to_be_attached()
    page.keyboard.press("g")
    page.keyboard.press("x")
    page.keyboard.press("m")
    expect(page.get_by_role("heading", name="Fleet", exact=True, level=1)).to_be_attached()


def test_a_question_mark_lists_the_keys(look: Look, fleet_server: RunningServer) -> None:
    page = look(fleet_server).open()
    page.keyboard.press("?")
    dialog = page.get_by_role("dialog", name="Keyboard shortcuts")
    for text in ("Search", "Next machine", "Previous machine", "Models", "Events"):
        expect(dialog).to_contain_text(text)
    dialog.get_by_role("button", name="Close").click()
    expect(dialog).to_have_count(0)
    page.get_by_role("button", name="Keyboard shortcuts").click()
    expect(dialog).to_be_visible()
