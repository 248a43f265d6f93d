"""The page of one machine: present, past, file."""

import csv
import io
import re

from playwright.sync_api import Page, expect

from tests.fakes import FakeFleet
from tests.page.conftest import Look
from tests.page.demo_fleet import LONG_NAME, MARKUP, DemoFleet
from tests.running import RunningServer, wait_for_status


def charts(page: Page, what: str) -> list[str]:
    """The texts that stand for the charts of that kind."""
    page.locator(".chart canvas").first.wait_for()
    texts = (one.get_attribute("aria-label") or "" for one in page.locator(".chart [role=img]").all())
    return [text for text in texts if what in text]


def test_the_present_says_how_each_endpoint_is(look: Look, fleet_server: RunningServer) -> None:
    page = look(fleet_server).open("/machines/render-01")
    for text in ("render-01", "online", "gpu-host", "edge", "connection refused", "OLLAMA_HOST", "48 free"):
        expect(page.locator("main")).to_contain_text(text)
    page = look(fleet_server).open("/machines/workstation")
    for text in ("llama3.1:70b", "10%/90% CPU/GPU", "8,192", "pinned", "18.2 used"):
        expect(page.locator("main")).to_contain_text(text)


def test_what_is_selected_to_be_copied_stays_selected(look: Look, fleet_server: RunningServer) -> None:
    page = look(fleet_server).open("/machines/render-01")
    facts = page.locator(".facts", has_text="OLLAMA_HOST")
    facts.evaluate("one => getSelection().selectAllChildren(one)")
    selected = "getSelection().toString().length"
    before, at = page.evaluate(selected), facts.locator("time").first.get_attribute("datetime")
    expect(facts.locator("time").first).not_to_have_attribute("datetime", at or "")
    assert page.evaluate(selected) >= before - 2 > 0  # "9 s ago" is shorter than "10 s ago"


def test_charts_tell_of_load_and_of_each_gpu(look: Look, fleet_server: RunningServer) -> None:
    page = look(fleet_server).open("/machines/workstation?span=24h")
    assert len(charts(page, "CPU")) == 1
    for what, least in (("VRAM", 2), ("tilisation", 2), ("emperature", 2), ("ower", 2)):
        assert len(charts(page, what)) >= least, what
    assert "maximum" in charts(page, "CPU")[0]
    expect(page.locator(".residency").first).to_contain_text("llama3.1:70b")
    assert page.locator(".residency svg.band path").first.get_attribute("d")


def test_spans_live_in_the_url_and_dragging_chooses_one(look: Look, fleet_server: RunningServer) -> None:
    page = look(fleet_server).open("/machines/workstation?span=24h")
    charts(page, "CPU")
    for name, text in (("1h", "1 h"), ("7d", "7 d"), ("30d", "30 d"), ("1y", "1 y"), ("24h", "24 h")):
        button = page.get_by_role("button", name=text, exact=True)
        button.click()
        expect(button).to_have_attribute("aria-pressed", "true")
        assert f"span={name}" in page.url
    over = page.locator(".chart .u-over").first
    over.scroll_into_view_if_needed()
    box = over.bounding_box()
    assert box
    page.mouse.move(box["x"] + box["width"] * 0.8, box["y"] + 40)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.95, box["y"] + 40, steps=4)
    page.mouse.up()
    page.wait_for_url(re.compile(r"from=\d+&to=\d+"))
    expect(page.get_by_role("button", name="24 h", exact=True)).to_have_attribute("aria-pressed", "false")
    page.go_back()
    page.wait_for_url(re.compile("span=24h"))
    expect(page.get_by_role("button", name="24 h", exact=True)).to_have_attribute("aria-pressed", "true")


def test_the_same_numbers_stand_in_a_table_and_in_a_file(look: Look, fleet_server: RunningServer) -> None:
    page = look(fleet_server).open("/machines/workstation?span=1h")
    charts(page, "CPU")
    page.get_by_text("The same data as a table").click()
    expect(page.locator("details").get_by_role("columnheader").first).to_be_visible()
    expect(page.locator("details tbody tr").nth(30)).to_be_attached()
    with page.expect_download() as download:
        page.get_by_role("link", name=re.compile("CSV")).click()
    rows = list(csv.reader(io.StringIO(download.value.path().read_text())))
    assert rows[0][0] == "time"
    assert len(rows) > 30


def test_availability_events_and_file_of_the_machine(look: Look, fleet_server: RunningServer) -> None:
    page = look(fleet_server).open("/machines/attic?span=1h")
    expect(page.get_by_role("region", name="Availability")).to_contain_text(
        re.compile(r"Answered [\d.]+ % of the time")
    )
    expect(page.get_by_role("region", name="Events")).to_contain_text("offline")
    page = look(fleet_server).open(f"/machines/{LONG_NAME}")
    expect(page.locator("pre")).to_contain_text(f"name: {LONG_NAME}")
    expect(page.locator("pre")).to_contain_text(MARKUP)
    assert page.locator("main img").count() == 0


def test_who_has_a_lease_for_how_much_and_how_long(
    server: RunningServer, fakes: FakeFleet, look: Look
) -> None:
    DemoFleet(server, fakes).declare(1)
    wait_for_status(server, "workstation", "online")
    wanted = {"model": "llama3.1:70b", "min_free_vram_gb": 4, "holder": "night shift", "ttl_s": 600}
    assert server.post("/api/leases", wanted).status_code == 201
    page = look(server).open("/machines/workstation")
    expect(page.locator("section", has=page.get_by_role("heading", name="Leases"))).to_contain_text(
        re.compile(r"llama3.1:70b for night shift: 4\sGiB of GPU 1, expires in (9|10)\smin")
    )


def test_an_unknown_machine_is_said_and_a_removed_one_keeps_its_past(
    server: RunningServer, fakes: FakeFleet, look: Look
) -> None:
    DemoFleet(server, fakes).declare(2)
    watched = look(server)
    page = watched.open("/machines/nobody")
    expect(page.get_by_role("heading", name="No such machine")).to_be_visible()
    watched.complaints = [one for one in watched.complaints if "404" not in one]  # the browser's word for it
    page = watched.open("/machines/app-host?span=1h")
    charts(page, "CPU")
    (server.machines / "app-host.yaml").unlink()
    expect(page.locator("main")).to_contain_text("No file declares this machine any more")
    expect(page.locator(".chart").first).to_be_visible()
    watched.complaints = [one for one in watched.complaints if "404" not in one]
