"""Models, events, problems, the headers and the weight of the page."""

import gzip
import json
import re
from http.client import HTTPConnection
from urllib.parse import urlsplit

import pytest
import requests
from playwright.sync_api import Route, expect

from tests.bodies import GIB, http, tags_body
from tests.fakes import FakeFleet, machine_yaml, wait_until
from tests.page.conftest import Look
from tests.page.demo_fleet import MARKUP, NAMED
from tests.running import RunningServer

FIRST_LOAD_BYTES = 150_000


def test_a_model_says_where_it_is_and_where_it_could_run(look: Look, fleet_server: RunningServer) -> None:
    page = look(fleet_server).open("/models")
    row = page.get_by_role("row", name=re.compile(r"^llama3\.1:70b"))
    expect(row).to_contain_text("workstation 23.5 GiB free")
    expect(row).to_contain_text("render-01 48 GiB free")
    expect(page.locator("main")).to_contain_text(MARKUP)
    page.get_by_label("Search").fill("phi3")
    expect(page.locator(".scroll tbody tr")).to_have_count(1)


def test_what_is_on_a_disk_could_be_loaded_there(
    shared_server: RunningServer, fakes: FakeFleet, look: Look
) -> None:
    ollama = fakes.ollama()
    ollama.answers["/api/tags"] = http(tags_body(("mistral:7b", "d1", 4 * GIB)))
    shared_server.write("box.yaml", machine_yaml("box", fakes.sidecar(), ollama))
    wait_until(lambda: "mistral:7b" in shared_server.get("/api/models").text)
    page = look(shared_server).open("/models")
    expect(
        page.get_by_role("row", name=re.compile("^mistral:7b")).get_by_role("cell").nth(1)
    ).to_contain_text("box")
    page.close()


def test_of_many_places_of_a_model_a_few_are_shown_and_the_rest_is_folded(
    shared_server: RunningServer, look: Look
) -> None:
    network = {"hostname": "127.9.9.9", "sidecar": False}
    for number in range(12):
        declared = {
            "name": f"box-{number}",
            "role": "r",
            "hardware": {},
            "network": network,
            "models": ["olmo2"],
        }
        shared_server.write(f"box-{number}.yaml", json.dumps(declared))
    page = look(shared_server).open("/models")
    row = page.get_by_role("row", name=re.compile("^olmo2"))
    places = row.get_by_role("link", name=re.compile("^box-"))
    expect(places).to_have_count(3)
    expect(row).to_contain_text("12 machines")
    row.get_by_text("9 more").click()
    expect(places).to_have_count(12)
    with page.expect_response("**/api/infrastructure"):
        pass
    expect(places).to_have_count(12)


def test_a_server_without_machines_has_no_empty_tables(server: RunningServer, look: Look) -> None:
    page = look(server).open("/models")
    expect(page.locator("main")).to_contain_text(
        "No models: none is declared or on a disk, and none was ever loaded."
    )
    expect(page.get_by_role("table")).to_have_count(0)
    page = look(server).open("/events")
    expect(page.locator("main")).to_contain_text("No events yet.")


def test_where_would_a_request_go_now(look: Look, fleet_server: RunningServer) -> None:
    watched = look(fleet_server)
    page = watched.open("/models?model=llama3.1:70b")
    expect(page.locator(".verdict")).to_contain_text(
        "It would go to workstation, where the model is in memory"
    )
    expect(page.get_by_role("table", name="Candidates, best first")).to_contain_text("23.5 GiB")
    rejected = page.get_by_role("table", name="Rejected, nearest miss first")
    expect(rejected.get_by_role("row", name=re.compile("^attic"))).to_contain_text("offline")
    page.get_by_label("Free VRAM, GiB").fill("500")
    page.get_by_role("button", name="Where would it go?").click()
    expect(page.locator(".verdict")).to_contain_text("No suitable machine")
    expect(rejected.get_by_role("row", name=re.compile("^workstation"))).to_contain_text(
        "needs 500.0 GiB, has 23.5"
    )
    assert "min_free_vram_gb=500" in page.url
    watched.complaints = [
        one for one in watched.complaints if "503" not in one
    ]  # the browser's word for "nobody fits"


def test_of_many_candidates_the_best_are_shown_and_the_rejections_are_within_reach(
    look: Look, fleet_server: RunningServer
) -> None:
    watched = look(fleet_server)

    def many(route: Route) -> None:
        answer = route.fetch()
        body = answer.json()
        (first, *_) = body["candidates"]
        body["candidates"] = [first | {"name": f"node-{number}"} for number in range(25)]
        route.fulfill(response=answer, json=body)

    watched.page.route("**/api/route?*", many)
    page = watched.open("/models?model=llama3.1:70b")
    rows = page.get_by_role("table", name="Candidates, best first").locator("tbody tr:visible")
    expect(rows).to_have_count(6)
    page.get_by_role("button", name="Show all 25 candidates").click()
    expect(rows).to_have_count(25)
    with page.expect_response("**/api/route?*"):
        pass
    expect(rows).to_have_count(25)
    page.get_by_role("button", name="Show fewer candidates").click()
    expect(rows).to_have_count(6)


@pytest.mark.parametrize("width", [390, 768])
def test_no_table_is_wider_than_a_narrow_screen(look: Look, fleet_server: RunningServer, width: int) -> None:
    page = look(fleet_server, viewport={"width": width, "height": 844}).open("/models?model=llama3.1:70b")
    expect(page.get_by_role("region", name="Candidates, best first")).to_contain_text("workstation")
    expect(page.get_by_role("region", name="Models")).to_contain_text("qwen2.5:32b")
    wider = "ones => ones.filter(one => one.scrollWidth > one.clientWidth).map(one => one.ariaLabel)"
    assert page.locator(".scroll").evaluate_all(wider) == []


def test_problems_stand_where_people_look(look: Look, fleet_server: RunningServer) -> None:
    page = look(fleet_server).open()
    problems = page.get_by_role("region", name="Problems")
    problems.get_by_role("button", name="Show all").click()
    lines = problems.get_by_role("listitem")
    expect(lines.first).to_have_text(
        re.compile(r"^offline attic since \d\d:\d\d:\d\d: sidecar and ollama: connection refused$")
    )
    for text in (
        "broken.yaml:2",
        "lab-gpu since",
        "render-01: Ollama: connection refused: start Ollama there with OLLAMA_HOST=0.0.0.0",
        "render-01: the disk is 97 % full",
        "box-08: GPU 1 cannot be read",
    ):
        expect(problems).to_contain_text(text)
    expect(lines).to_have_count(6)
    page.get_by_role("button", name="Show less").click()
    expect(lines).to_have_count(2)
    assert {line.evaluate("one => one.offsetHeight <= 24") for line in lines.all()} == {True}


def test_many_problems_are_folded_and_stay_open_for_who_opened_them(
    shared_server: RunningServer, look: Look
) -> None:
    for number in range(7):
        shared_server.write(f"broken{number}.yaml", "name: broken\nrole: [")
    page = look(shared_server).open()
    problems = page.get_by_role("region", name="Problems")
    expect(problems.get_by_role("listitem")).to_have_count(2)
    problems.get_by_role("button", name="Show all").click()
    expect(problems.get_by_role("listitem")).to_have_count(7)
    shared_server.write("seventh.yaml", machine_yaml("seventh", None, None))
    expect(page.locator("li.card")).to_have_count(1)
    expect(problems.get_by_role("listitem")).to_have_count(8)
    expect(problems.get_by_role("button", name="Show less")).to_be_focused()


def test_moments_in_what_the_server_says_are_in_the_zone_of_the_reader(
    look: Look, fleet_server: RunningServer
) -> None:
    watched = look(fleet_server)

    def stall(route: Route) -> None:
        answer = route.fetch()
        body = answer.json()
        message = "the poller is stalled; the last poll cycle ended at 2026-07-01T22:30:05.123Z"
        body["poller"] |= {"state": "stalled", "message": message}
        body["machines"][0] |= {"status": "unknown", "status_reason": message}
        route.fulfill(response=answer, json=body)

    watched.page.route("**/api/infrastructure", stall)
    page = watched.open()
    there = "the last poll cycle ended at 2 Jul 2026, 00:30:05"
    expect(page.get_by_role("region", name="Problems")).to_contain_text(there)
    expect(page.locator(".card .reason", has_text=there)).to_be_visible()


def test_on_a_phone_the_machines_come_before_the_filter(look: Look, fleet_server: RunningServer) -> None:
    phone = {"viewport": {"width": 360, "height": 780}}
    page = look(fleet_server, **phone).open()
    expect(page.get_by_label("Search")).to_be_hidden()
    page.get_by_text("Filter and sort").click()
    page.get_by_label("Search").fill("workstation")
    expect(page.locator("li.card")).to_have_count(1)
    page = look(fleet_server, **phone).open("/?q=workstation")
    expect(page.get_by_label("Search")).to_have_value("workstation")


def test_every_answer_of_the_page_is_locked_down(fleet_server: RunningServer) -> None:
    pages = ("/", "/models", "/events", "/compare", "/leases", "/machines/workstation")
    for path in (*pages, "/static/icon.svg"):
        headers = fleet_server.get(path).headers
        assert headers["Content-Security-Policy"].startswith("default-src 'self';")
        assert "unsafe" not in headers["Content-Security-Policy"]
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["X-Frame-Options"] == "DENY"
        assert headers["Referrer-Policy"] == "same-origin"
    for path, content_type in (("/static/app.js", "text/javascript"), ("/static/style.css", "text/css")):
        headers = fleet_server.get(path).headers
        assert headers["Content-Type"] == f"{content_type}; charset=utf-8"
        assert headers["X-Content-Type-Options"] == "nosniff"  # so that no browser takes it for a page
        assert "Content-Security-Policy" not in headers
    assert fleet_server.get("/").headers["Content-Type"] == "text/html; charset=utf-8"
    assert fleet_server.get("/static/nothing.js").json()["error"] == "not_found"
    for path in ("/static/../api.py", "/static/%2e%2e/api.py", "/static/..%2fapi.py", "/static//etc/passwd"):
        connection = HTTPConnection(fleet_server.url.removeprefix("http://"), timeout=5)
        connection.request("GET", path)  # requests would tidy the path up
        assert connection.getresponse().status == 404
        connection.close()


def test_files_are_sent_packed_or_not_and_not_twice(fleet_server: RunningServer) -> None:
    url = fleet_server.url + "/static/app.js"
    packed = requests.get(url, headers={"Accept-Encoding": "gzip"}, stream=True, timeout=60)
    plain = requests.get(url, headers={"Accept-Encoding": "identity"}, timeout=60)
    assert gzip.decompress(packed.raw.read()) == plain.content
    again = requests.get(url, headers={"If-None-Match": plain.headers["ETag"]}, timeout=60)
    assert (again.status_code, again.content) == (304, b"")


def test_the_first_load_is_light(look: Look, fleet_server: RunningServer) -> None:
    watched = look(fleet_server)
    page = watched.open()
    expect(page.locator("li.card .spark svg").first).to_be_visible()
    first = {urlsplit(one.url).path: one for one in reversed(watched.requests)}
    sizes = [one.sizes() for one in first.values() if one.response()]
    assert sum(one["responseBodySize"] + one["responseHeadersSize"] for one in sizes) < FIRST_LOAD_BYTES


def test_back_before_a_page_is_loaded_shows_the_page_before(look: Look, fleet_server: RunningServer) -> None:
    page, held = look(fleet_server).page, list[Route]()
    page.route("**/pages/machine.js*", lambda route: held.append(route))
    page.goto(f"{fleet_server.url}/")
    page.get_by_role("link", name="workstation", exact=True).first.click()
    page.wait_for_url("**/machines/workstation")
    wait_until(lambda: page.evaluate("location.href") and held)
    page.go_back()
    page.wait_for_url(f"{fleet_server.url}/")
    with page.expect_response("**/pages/machine.js*") as loaded:
        for route in held:
            route.continue_()
    loaded.value.finished()
    page.evaluate("import('/static/pages/machine.js').then(() => new Promise(done => setTimeout(done, 100)))")
    expect(page.locator("li.card")).to_have_count(len(NAMED))
