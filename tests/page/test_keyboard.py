"""Keys that work on every page."""

import re

from playwright.sync_api import expect

from tests.page.conftest import Look
from tests.running import RunningServer


def test_the_first_machine_is_five_tabs_away_or_less(look: Look, fleet_server: RunningServer) -> None:
    page = look(fleet_server).open()
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to content")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="attic").get_by_role("link")).to_be_focused()


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
