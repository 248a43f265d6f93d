"""The page stays true by itself: it asks again, stops when nobody looks, and says when nobody answers."""

import re

import pytest
from playwright.sync_api import expect

from tests.fakes import FakeFleet
from tests.page.conftest import Look, card
from tests.page.demo_fleet import DemoFleet
from tests.running import RunningServer, wait_for_status

HIDE = """hidden => {
    Object.defineProperty(document, "hidden", {value: hidden, configurable: true});
    document.dispatchEvent(new Event("visibilitychange"));
}"""


def test_it_asks_with_an_etag_at_the_poll_interval(look: Look, fleet_server: RunningServer) -> None:
    watched = look(fleet_server)
    page = watched.open()
    with page.expect_request(
        lambda one: one.url.endswith("/api/infrastructure") and "if-none-match" in one.headers
    ):
        pass
    expect(page.locator("#age")).to_have_text(re.compile(r"As of \d\ss ago"))


def test_while_it_is_hidden_nobody_is_asked(look: Look, fleet_server: RunningServer) -> None:
    watched = look(fleet_server)
    page = watched.open()
    page.evaluate(HIDE, True)
    page.wait_for_timeout(500)  # what is under way ends
    asked = watched.asked("/api/infrastructure")
    page.wait_for_timeout(2500)
    assert watched.asked("/api/infrastructure") == asked
    with page.expect_request("**/api/infrastructure"):
        page.evaluate(HIDE, False)


def test_a_change_of_status_is_shown_and_told_to_screen_readers(
    shared_server: RunningServer, fakes: FakeFleet, look: Look
) -> None:
    demo = DemoFleet(shared_server, fakes)
    demo.declare(2)
    page = look(shared_server).open()
    expect(page.locator("#announce")).to_be_empty()
    demo.sidecars["app-host"].stop()
    demo.ollamas["app-host"].stop()
    expect(card(page, "app-host").locator(".badge")).to_have_text("offline")
    expect(page.get_by_role("status").filter(has_text="app-host is offline")).to_be_attached()


def test_focus_stays_where_it_is_while_values_change(look: Look, fleet_server: RunningServer) -> None:
    page = look(fleet_server).open()
    workstation = card(page, "workstation")
    for what in (
        workstation.get_by_role("link", name="workstation", exact=True),
        workstation.locator(".chip a").first,
        page.locator(".counts button").first,
    ):
        what.focus()
        with page.expect_response("**/api/infrastructure"):
            pass
        page.wait_for_timeout(200)
        expect(what).to_be_focused()
    page.locator(".counts button").first.press("Enter")
    expect(page.locator(".counts button").first).to_be_focused()


@pytest.mark.parametrize("path", ["leases", "events*", "health"])
def test_a_question_that_fails_hides_nothing_else(look: Look, fleet_server: RunningServer, path: str) -> None:
    watched = look(fleet_server)
    answer = {"error": "store_unavailable", "message": "The database cannot be used: made up."}
    address = f"**/{path}" if path == "health" else f"**/api/{path}"
    watched.page.route(address, lambda route: route.fulfill(status=503, json=answer))
    page = watched.open()
    expect(card(page, "workstation")).to_be_visible()
    expect(page.get_by_role("alert")).to_be_hidden()
    expect(page.get_by_role("region", name="Problems")).to_contain_text(
        "The database cannot be used: made up."
    )
    watched.complaints = [one for one in watched.complaints if "503" not in one]


def test_a_question_for_which_there_are_too_many_is_asked_again(
    look: Look, fleet_server: RunningServer
) -> None:
    watched = look(fleet_server)
    answer = {"error": "too_many_questions", "message": "Too many questions of the past are asked at once."}
    refused = {"status": 429, "headers": {"Retry-After": "1"}, "json": answer}
    watched.page.route("**/api/models", lambda route: route.fulfill(**refused), times=1)
    said = "document.body?.innerText.includes('Too many questions')"
    watched.page.add_init_script(
        f"new MutationObserver(() => (window.hasSaid ||= {said}))"
        ".observe(document, {subtree: true, childList: true, characterData: true});"
    )
    page = watched.open("/models")
    expect(page.get_by_role("region", name="Models")).to_contain_text("llama3.1:70b")
    assert not page.evaluate("window.hasSaid")
    watched.complaints = [one for one in watched.complaints if "429" not in one]


def test_while_the_server_is_away_nothing_counts_on(look: Look, fleet_server: RunningServer) -> None:
    watched = look(fleet_server)
    watched.page.clock.install()
    page = watched.open()
    chip = card(page, "workstation").locator(".chip", has_text="nomic-embed-text")
    expect(chip).to_contain_text(re.compile(r"unloads in \d+\smin"))
    expect(page.locator(".latest .event").first).to_be_visible()
    page.route("**/api/**", lambda route: route.abort())
    page.route("**/health", lambda route: route.abort())
    expect(page.get_by_role("alert")).to_be_visible()
    expect(page).to_have_title("(!) Fleet · machines")
    expect(page.locator("#age")).to_have_text(re.compile(r"As of \d\d:\d\d:\d\d"))
    said = page.locator("body").inner_text()
    with page.expect_request("**/api/infrastructure"):
        page.clock.fast_forward("03:00:00")
    with page.expect_request("**/api/infrastructure"):
        pass  # what the one before has failed to learn has been shown
    assert page.locator("body").inner_text() == said
    page.close()
    watched.complaints = [one for one in watched.complaints if not one.endswith("ERR_FAILED")]


def test_a_server_that_dies_is_said_and_its_return_is_seen(
    server: RunningServer, fakes: FakeFleet, look: Look
) -> None:
    DemoFleet(server, fakes).declare(1)
    watched = look(server)
    watched.page.route("**/static/pages/models.js", lambda route: route.abort())
    with watched.page.expect_event("requestfinished", lambda request: request.url.endswith("machine.css")):
        page = watched.open()  # other pages are fetched ahead, and this is the last of that one
    page.wait_for_timeout(300)
    banner = page.get_by_role("alert")
    expect(banner).to_be_hidden()
    server.__exit__(None, None, None)
    expect(banner).to_contain_text("The server has been unreachable since")
    expect(card(page, "workstation")).to_be_visible()
    page.get_by_role("link", name="workstation").first.click()
    expect(page.get_by_role("heading", name="Endpoints")).to_be_visible()
    page.get_by_role("link", name="Models").click()
    expect(page.locator("main")).to_contain_text("This page could not be loaded")
    page.unroute("**/static/pages/models.js")
    with server:
        expect(page.get_by_role("heading", name="Where each model is")).to_be_visible(timeout=10_000)
        wait_for_status(server, "workstation", "online")
        expect(banner).to_be_hidden()
        expect(page.locator("#age")).to_have_text(re.compile(r"As of \d\ss ago"))
        page.close()
    refused = ("ERR_FAILED", "ERR_CONNECTION_REFUSED", "ERR_CONNECTION_RESET", "ERR_EMPTY_RESPONSE")
    watched.complaints = [one for one in watched.complaints if not one.endswith(refused)]
    server.__enter__()  # the fixture ends it once more
