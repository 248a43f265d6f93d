"""The page of one machine: present, past, file."""

import csv
import io
import re
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.fakes import FakeFleet
from tests.page.conftest import UNHURRIED, Look
from tests.page.demo_fleet import LONG_NAME, MARKUP, DemoFleet
from tests.page.pasts import give_outages
from tests.running import RunningServer, wait_for_status

HOUR_S = 3600
OUTAGE_HOURS_AGO = (30, 28)
MOBILE: dict[str, Any] = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}


@pytest.fixture(scope="module")
def outage_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server whose workstation was offline for two hours yesterday."""
    folder = tmp_path_factory.mktemp("outage")
    now = int(time.time())
    began, ended = (now - hours * HOUR_S for hours in OUTAGE_HOURS_AGO)
    times = range(now - 40 * HOUR_S, now - 60, 60)
    give_outages(folder / "var" / "telemetry.db", "workstation", times, [(began, ended)])
    with FakeFleet() as fakes, RunningServer(folder, **UNHURRIED) as server:
        DemoFleet(server, fakes).declare(1)
        yield server


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
    lane = page.get_by_role("region", name="Models in memory over time")
    expect(lane).to_contain_text("llama3.1:70b")
    assert lane.locator("svg.band path").first.get_attribute("d")


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


def test_availability_is_a_strip_and_outages_are_told_in_words(
    look: Look, outage_server: RunningServer
) -> None:
    page = look(outage_server).open("/machines/workstation?span=7d")
    availability = page.get_by_role("region", name="Availability")
    expect(availability.locator(".strip rect.down, .strip rect.partly").first).to_be_attached()
    for kind in ("up", "unpolled"):
        expect(availability.locator(f".strip rect.{kind}").first).to_be_attached()
    expect(availability).to_contain_text(re.compile(r"One outage, of (2\sh|1\sh 59\smin)\."))
    (event,) = outage_server.get("/api/events?machine=workstation&type=offline").json()["events"]
    at = datetime.fromisoformat(event["at"]).astimezone(ZoneInfo("Europe/Warsaw"))
    outage = availability.locator(".outages li")
    expect(outage).to_have_text(re.compile(rf"{at:%H:%M:%S}.*: offline for .*connection refused"))
    expect(page.locator("main")).to_contain_text("Shaded: offline. Dashed lines: the host was rebooted")
    outage.get_by_role("link").click()
    page.wait_for_url(re.compile(r"from=\d+&to=\d+"))
    expect(availability.locator(".outages li")).to_have_count(1)


def test_outages_are_shaded_on_the_charts(look: Look, outage_server: RunningServer) -> None:
    page = look(outage_server).open("/machines/workstation?span=7d")
    charts(page, "CPU")
    reddish = """one => {
        const {data} = one.getContext("2d").getImageData(0, 0, one.width, one.height);
        let found = 0;
        for (let at = 0; at < data.length; at += 4)
            if (data[at + 3] > 20 && data[at] > data[at + 2] + 60) found += 1;
        return found;
    }"""
    assert page.locator(".chart canvas").first.evaluate(reddish) > 100
    page = look(outage_server).open("/machines/workstation?span=1h")
    charts(page, "CPU")
    assert page.locator(".chart canvas").first.evaluate(reddish) == 0


def test_the_charts_of_a_gpu_are_one_row_on_a_desk(look: Look, outage_server: RunningServer) -> None:
    page = look(outage_server).open("/machines/workstation?span=24h")
    charts(page, "CPU")
    group = page.locator(".group").nth(1).locator(".chart")
    expect(group).to_have_count(4)
    place = "one => [one.getBoundingClientRect().top, one.getBoundingClientRect().width]"
    assert len({one.evaluate(place)[0] for one in group.all()}) == 1
    lane = page.get_by_role("region", name="Models in memory over time")
    assert lane.evaluate(place)[1] == page.locator(".machine").evaluate(place)[1]


def touched_chart(page: Page) -> tuple[Locator, Callable[..., None]]:
    """The first chart, and a function that drags a finger across it: from and to as shares of its size."""
    charts(page, "CPU")
    over = page.locator(".chart .u-over").first
    over.evaluate("one => one.scrollIntoView({block: 'center'})")
    box = over.bounding_box()
    assert box
    session = page.context.new_cdp_session(page)

    def touch(kind: str, *places: tuple[float, float]) -> None:
        points = [{"x": box["x"] + box["width"] * x, "y": box["y"] + box["height"] * y} for x, y in places]
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    def drag(start: tuple[float, float], end: tuple[float, float], steps: int = 8) -> None:
        touch("touchStart", start)
        for step in range(1, steps + 1):
            done = step / steps
            touch("touchMove", (start[0] + (end[0] - start[0]) * done, start[1] + (end[1] - start[1]) * done))
        touch("touchEnd")

    return over, drag


def test_a_finger_selects_a_range_as_the_mouse_does(look: Look, outage_server: RunningServer) -> None:
    page = look(outage_server, **MOBILE).open("/machines/workstation?span=24h")
    _, drag = touched_chart(page)
    drag((0.3, 0.5), (0.7, 0.5))
    page.wait_for_url(re.compile(r"from=\d+&to=\d+"))
    found = re.search(r"from=(\d+)&to=(\d+)", page.url)
    assert found
    assert 0.3 * 24 < (int(found[2]) - int(found[1])) / HOUR_S < 0.5 * 24
    page.go_back()
    page.wait_for_url(re.compile("span=24h"))


def test_a_finger_that_scrolls_selects_nothing(look: Look, outage_server: RunningServer) -> None:
    page = look(outage_server, **MOBILE).open("/machines/workstation?span=24h")
    over, drag = touched_chart(page)
    before = page.evaluate("scrollY")
    drag((0.5, 0.8), (0.55, -1.2))
    page.wait_for_function("before => scrollY !== before", arg=before)
    expect(over.locator(".u-select")).to_have_css("width", "0px")
    assert "span=24h" in page.url


def test_a_link_to_this_moment_has_both_ends_of_the_range(look: Look, outage_server: RunningServer) -> None:
    permissions = {"permissions": ["clipboard-read", "clipboard-write"]}
    page = look(outage_server, **permissions).open("/machines/workstation?span=1h")
    charts(page, "CPU")
    page.get_by_role("button", name="Copy link to this moment").click()
    expect(page.get_by_role("button", name="Copied")).to_be_visible()
    link = page.evaluate("navigator.clipboard.readText()")
    found = re.fullmatch(rf"{outage_server.url}/machines/workstation\?from=(\d+)&to=(\d+)", link)
    assert found
    assert int(found[2]) - int(found[1]) == HOUR_S
    page.goto(link)
    expect(page.locator(".chart").first).to_be_visible()


def test_where_copying_is_not_allowed_the_link_is_shown(look: Look, outage_server: RunningServer) -> None:
    watched = look(outage_server)
    watched.page.add_init_script("Object.defineProperty(navigator, 'clipboard', {value: undefined})")
    page = watched.open("/machines/workstation?span=1h")
    charts(page, "CPU")
    page.get_by_role("button", name="Copy link to this moment").click()
    expect(page.get_by_label("Link to this moment")).to_have_value(re.compile(r"\?from=\d+&to=\d+$"))
    assert "from=" in page.evaluate("getSelection().toString()")


def test_a_broken_file_is_told_on_the_page_of_its_machine(
    shared_server: RunningServer, fakes: FakeFleet, look: Look
) -> None:
    DemoFleet(shared_server, fakes).declare(1)
    page = look(shared_server).open("/machines/workstation")
    expect(page.get_by_role("region", name="Config in effect")).to_contain_text("role: gpu-host")
    assert page.locator(".broken-file").all_inner_texts() == ["", ""]
    shared_server.write("workstation.yaml", "name: workstation\nrole: [")
    for said in page.locator(".broken-file").all():
        expect(said).to_contain_text("workstation.yaml has an error in line 2")
        expect(said).to_contain_text("Its last valid version is still in effect.")
    expect(page.get_by_role("region", name="Config in effect")).to_contain_text("role: gpu-host")


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
    # What is the same for the whole page is said once, at the top.
    expect(page.get_by_role("region", name="Events").get_by_role("link", name="attic")).to_have_count(0)
    expect(page.locator(".machine-head")).to_contain_text(re.compile(r"Values from \d+\s(s|min) ago"))
    expect(page.get_by_role("link", name="Fleet", exact=True)).to_have_attribute("aria-current", "true")
    chart = page.locator(".chart").first
    expect(chart.locator(".readout")).to_have_text(re.compile(r"^latest .*min.max .* to .*$"))
    height = chart.evaluate("one => one.offsetHeight")
    chart.locator(".u-over").hover()
    expect(chart.locator(".readout")).to_have_text(re.compile(r"^(average|nothing recorded)"))
    assert chart.evaluate("one => one.offsetHeight") == height
    page = look(fleet_server).open(f"/machines/{LONG_NAME}")
    expect(page.locator("pre")).to_contain_text(f"name: {LONG_NAME}")
    expect(page.locator("pre")).to_contain_text(MARKUP)
    assert page.locator("main img").count() == 0


def test_who_has_a_lease_for_how_much_and_how_long(
    shared_server: RunningServer, fakes: FakeFleet, look: Look
) -> None:
    DemoFleet(shared_server, fakes).declare(1)
    wait_for_status(shared_server, "workstation", "online")
    wanted = {"model": "llama3.1:70b", "min_free_vram_gb": 4, "holder": "night shift", "ttl_s": 600}
    assert shared_server.post("/api/leases", wanted).status_code == 201
    page = look(shared_server).open("/machines/workstation")
    expect(page.locator("section", has=page.get_by_role("heading", name="Leases"))).to_contain_text(
        re.compile(r"llama3.1:70b for night shift: 4\sGiB of GPU 1, expires in (9|10)\smin")
    )


def test_an_unknown_machine_is_said_and_a_removed_one_keeps_its_past(
    shared_server: RunningServer, fakes: FakeFleet, look: Look
) -> None:
    DemoFleet(shared_server, fakes).declare(2)
    watched = look(shared_server)
    page = watched.open("/machines/nobody")
    expect(page.get_by_role("heading", name="No such machine")).to_be_visible()
    watched.complaints = [one for one in watched.complaints if "404" not in one]  # the browser's word for it
    page = watched.open("/machines/app-host?span=1h")
    charts(page, "CPU")
    (shared_server.machines / "app-host.yaml").unlink()
    expect(page.locator("main")).to_contain_text("This machine is no longer declared")
    expect(page.locator(".chart").first).to_be_visible()
    watched.complaints = [one for one in watched.complaints if "404" not in one]
