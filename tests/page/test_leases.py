"""The page of leases: who holds what until when, and how a lease is released."""

import re

import pytest
from playwright.sync_api import Page, expect

from tests.fakes import FakeFleet
from tests.page.conftest import Look
from tests.page.demo_fleet import DemoFleet
from tests.running import RunningServer, wait_for_status


@pytest.fixture
def leased(shared_server: RunningServer, fakes: FakeFleet) -> RunningServer:
    """A server with one machine, on which somebody has a lease."""
    DemoFleet(shared_server, fakes).declare(1)
    wait_for_status(shared_server, "workstation", "online")
    wanted = {"model": "llama3.1:70b", "min_free_vram_gb": 4, "holder": "night shift", "ttl_s": 600}
    assert shared_server.post("/api/leases", wanted).status_code == 201
    return shared_server


def release(page: Page, answer: str) -> None:
    """Press the button of the only lease and answer the question."""
    page.get_by_role("button", name=re.compile("^Release the lease")).click()
    page.get_by_role("dialog").get_by_role("button", name=answer).click()


def test_who_holds_what_until_when(leased: RunningServer, look: Look) -> None:
    page = look(leased).open()
    page.get_by_role("link", name="Leases", exact=True).click()
    row = page.get_by_role("row", name=re.compile("^workstation"))
    expect(row).to_contain_text("llama3.1:70b")
    expect(row).to_contain_text("night shift")
    expect(row).to_contain_text(re.compile(r"4\sGiB of GPU 1"))
    expect(row).to_contain_text(re.compile(r"\d\d:\d\d:\d\d in (9|10)\smin"))
    expect(row).to_contain_text(re.compile(r"\d\d:\d\d:\d\d \d+\ss ago"))
    expect(page.locator("main")).to_contain_text(
        re.compile(r"1 lease reserves 4\sGiB of VRAM on 1 machine\.")
    )
    expect(page.locator("main")).to_contain_text("No lease expired without being released")
    button = row.get_by_role("button")
    line = button.evaluate("one => one.offsetHeight")
    page.set_viewport_size({"width": 960, "height": 844})
    assert button.evaluate("one => one.offsetHeight") == line  # its word is not broken
    page.emulate_media(media="print")
    expect(button).to_be_hidden()


@pytest.mark.parametrize("width", [390, 768])
def test_on_a_narrow_screen_a_lease_is_read_and_released_without_scrolling_sideways(
    leased: RunningServer, look: Look, width: int
) -> None:
    page = look(leased, viewport={"width": width, "height": 844}).open("/leases")
    for text in ("night shift", "llama3.1:70b"):
        expect(page.locator("td", has_text=text)).to_be_in_viewport(ratio=1)
    expect(page.get_by_role("button", name=re.compile("^Release the lease"))).to_be_in_viewport(ratio=1)
    holder = page.locator("td", has_text="night shift")
    assert holder.evaluate("one => getComputedStyle(one, '::before').content").startswith('"Holder: "')
    assert page.locator(".scroll").evaluate("one => one.scrollWidth - one.clientWidth") == 0


def test_a_lease_is_released_after_a_question(leased: RunningServer, look: Look) -> None:
    page = look(leased).open("/leases")
    release(page, "Keep it")
    expect(page.get_by_role("row", name=re.compile("^workstation"))).to_be_visible()
    assert leased.get("/api/leases").json()["total"] == 1
    release(page, "Release it")
    expect(page.locator("main")).to_contain_text("No leases.")
    expect(page.locator("main")).to_contain_text("pick MODEL --lease -- COMMAND")
    assert leased.get("/api/leases").json()["total"] == 0


def test_why_a_lease_was_not_released_is_said(leased: RunningServer, look: Look) -> None:
    watched = look(leased)
    page = watched.open("/leases")
    answer = {"error": "store_unavailable", "message": "The database cannot be used: made up."}
    page.route("**/api/leases/*", lambda route: route.fulfill(status=503, json=answer))
    release(page, "Release it")
    expect(page.get_by_role("alert").filter(has_text="was not released")).to_contain_text("made up")
    expect(page.get_by_role("row", name=re.compile("^workstation"))).to_be_visible()
    watched.complaints = [one for one in watched.complaints if "503" not in one]


def test_the_list_follows_what_others_do(leased: RunningServer, look: Look) -> None:
    page = look(leased).open("/leases")
    (lease,) = leased.get("/api/leases").json()["leases"]
    expect(page.get_by_role("row", name=re.compile("^workstation"))).to_be_visible()
    leased.post("/api/leases", {"model": "nomic-embed-text", "holder": "day shift", "ttl_s": 60})
    expect(page.get_by_role("row", name=re.compile("day shift"))).to_be_visible()
    assert leased.post(f"/api/leases/{lease['lease']}/renew", {"ttl_s": 3600}).ok
    expect(page.get_by_role("row", name=re.compile("night shift"))).to_contain_text(
        re.compile(r"in (1\sh|59\smin)")
    )


def test_leases_that_nobody_releases_are_counted_and_are_a_problem(
    server: RunningServer, fakes: FakeFleet, look: Look
) -> None:
    DemoFleet(server, fakes).declare(1)
    for _ in range(5):
        assert server.post("/api/leases", {"model": "llama3.1:70b", "ttl_s": 1}).status_code == 201
    page = look(server).open("/leases")
    expect(page.locator("main")).to_contain_text("5 leases expired without being released")
    expect(page.get_by_role("region", name="Problems")).to_contain_text("leases: 5 expired")


def test_nothing_counts_down_while_the_server_is_away(leased: RunningServer, look: Look) -> None:
    watched = look(leased)
    pages = [watched.open("/leases"), watched.page.context.new_page()]
    pages[1].goto(leased.url + "/machines/workstation")
    remaining = (
        pages[0].locator(".remaining"),
        pages[1].locator("section.card", has_text="night shift").locator("li"),
    )
    for page, left in zip(pages, remaining, strict=True):
        expect(left).to_contain_text("min")
        page.route("**/api/**", lambda route: route.abort())
        expect(page.get_by_role("alert").first).to_contain_text("unreachable")
    before = [left.inner_text() for left in remaining]
    for page in pages:
        page.clock.install()
        page.clock.fast_forward(300_000)
        with page.expect_request("**/api/infrastructure"):
            page.clock.run_for(3_000)
    assert [left.inner_text() for left in remaining] == before
    for page in pages:
        page.close()
    watched.complaints = [one for one in watched.complaints if not one.endswith("ERR_FAILED")]
