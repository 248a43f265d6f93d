"""The page that compares machines, and shows the VRAM free in the fleet."""

import csv
import re
from datetime import datetime

from playwright.sync_api import Locator, Page, Route, expect

from tests.page.conftest import Look
from tests.running import RunningServer

BOTH = "/compare?machine=workstation&machine=app-host"


def chart(page: Page, title: str) -> Locator:
    """The chart with that heading."""
    return page.locator("figure", has=page.get_by_role("heading", name=re.compile(f"^{title}")))


def test_machines_are_chosen_and_each_metric_has_one_chart(look: Look, fleet_server: RunningServer) -> None:
    page = look(fleet_server).open()
    page.get_by_role("link", name="Compare", exact=True).click()
    expect(page.locator("main")).to_contain_text("Choose two to six machines")
    machines = page.get_by_label("Machines", exact=True)
    for name in ("workstation", "app-host"):
        machines.select_option(name)
    page.wait_for_url(f"**{BOTH}&span=24h")
    expect(page.locator("figure")).to_have_count(4)
    image = chart(page, "CPU").get_by_role("img")
    expect(image).to_have_attribute(
        "aria-label", re.compile(r"workstation: latest \d+.*; app-host: latest \d+")
    )
    expect(chart(page, "VRAM used on all GPUs").locator("li")).to_have_count(2)
    page.get_by_label("Metrics", exact=True).select_option("power_w")
    expect(chart(page, "Power of all GPUs")).to_be_visible()
    page.get_by_role("button", name="Remove CPU, %").click()
    expect(chart(page, "CPU")).to_have_count(0)
    assert "metric=power_w" in page.url
    page.go_back()
    expect(chart(page, "CPU")).to_be_visible()
    page.go_back()
    expect(chart(page, "Power")).to_have_count(0)


def test_no_more_than_six_machines_are_compared(look: Look, fleet_server: RunningServer) -> None:
    names = ("workstation", "app-host", "render-01", "spark", "attic", "lab-gpu")
    page = look(fleet_server).open("/compare?" + "&".join(f"machine={name}" for name in names))
    expect(page.get_by_label("Machines", exact=True)).to_be_disabled()
    expect(chart(page, "CPU").locator("li")).to_have_text([re.compile(f"^{name} ") for name in names])
    page.get_by_role("button", name="Remove spark").click()
    expect(page.get_by_label("Machines", exact=True)).to_be_enabled()
    expect(chart(page, "CPU").locator("li")).to_have_count(5)


def test_dragging_and_buttons_choose_the_range_of_all_charts(look: Look, fleet_server: RunningServer) -> None:
    page = look(fleet_server).open(f"{BOTH}&span=24h")
    expect(chart(page, "CPU")).to_be_visible()
    page.get_by_role("button", name="1 h", exact=True).click()
    page.wait_for_url("**&span=1h")
    over = chart(page, "CPU").locator(".u-over")
    over.scroll_into_view_if_needed()
    box = over.bounding_box()
    assert box
    page.mouse.move(box["x"] + box["width"] * 0.2, box["y"] + 40)
    expect(chart(page, "CPU").locator("p").first).not_to_have_text("latest averages")
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.7, box["y"] + 40, steps=4)
    page.mouse.up()
    page.wait_for_url(re.compile(r"from=\d+&to=\d+"))
    page.go_back()
    page.wait_for_url("**&span=1h")


def test_no_line_is_drawn_across_a_gap_in_which_another_machine_has_values(
    look: Look, fleet_server: RunningServer
) -> None:
    watched = look(fleet_server)

    def one_with_a_gap(route: Route) -> None:
        answer = route.fetch()
        body = answer.json()
        began, ended = (datetime.fromisoformat(body[key]).timestamp() for key in ("from", "to"))
        times = range(int(began), int(ended), body["step_s"])
        for machine, value in zip(body["machines"], (10, 90), strict=True):
            kept = [at for at in times if value == 10 or not 0.3 < (at - began) / (ended - began) < 0.7]
            points = [[at, value, value, value, 1] for at in kept]
            machine["series"] = [{"metric": "cpu_percent", "unit": "%", "gpu": None, "points": points}]
        route.fulfill(response=answer, json=body)

    watched.page.route(re.compile(r"/api/history\?.*machine="), one_with_a_gap)
    page = watched.open(f"{BOTH}&metric=cpu_percent&span=24h")
    expect(chart(page, "CPU").get_by_role("img")).to_have_attribute(
        "aria-label", re.compile("app-host: latest 90")
    )
    # How many pixels of the second line's colour are in each tenth of the width.
    tenths = """canvas => {
        const { width, height } = canvas;
        const { data } = canvas.getContext("2d").getImageData(0, 0, width, height);
        const counts = Array(10).fill(0);
        for (let place = 0; place < data.length; place += 4)
            if (data[place] > 150 && data[place + 2] < 80 && data[place + 3] > 200)
                counts[Math.floor((((place / 4) % width) / width) * 10)] += 1;
        return counts;
    }"""
    counts = chart(page, "CPU").locator("canvas").evaluate(tenths)
    assert all([*counts[1:3], counts[8]])
    assert counts[4:6] == [0, 0]


def test_what_is_free_in_the_fleet(look: Look, fleet_server: RunningServer) -> None:
    page = look(fleet_server).open("/compare?span=1h")
    free = chart(page, "VRAM free in the fleet")
    expect(free.locator("li").nth(0)).to_have_text(re.compile(r"^all GPUs together \d+"))
    expect(free.locator("li").nth(1)).to_have_text(re.compile(r"^GPU with the most \d+"))


def test_a_link_to_this_moment_keeps_what_is_compared(look: Look, fleet_server: RunningServer) -> None:
    permissions = ["clipboard-read", "clipboard-write"]
    page = look(fleet_server, permissions=permissions).open(f"{BOTH}&metric=power_w&span=1h")
    expect(chart(page, "Power")).to_be_visible()
    page.get_by_role("button", name="Copy link to this moment").click()
    expect(page.get_by_role("button", name="Copied")).to_be_visible()
    link = page.evaluate("navigator.clipboard.readText()")
    assert re.fullmatch(re.escape(fleet_server.url + BOTH) + r"&metric=power_w&from=\d+&to=\d+", link)
    with page.expect_download() as download:
        page.get_by_role("link", name="Download CSV").click()
    head = next(csv.reader(download.value.path().read_text().splitlines()))
    assert {"workstation"} <= {name.partition(" ")[0].partition(":")[0] for name in head}


def test_the_page_of_a_machine_leads_here(look: Look, fleet_server: RunningServer) -> None:
    page = look(fleet_server).open("/machines/workstation?span=7d")
    page.get_by_role("link", name="Compare with other machines").click()
    page.wait_for_url("**/compare?machine=workstation&span=7d")
    expect(page.locator("main")).to_contain_text("Choose another machine")
    expect(chart(page, "CPU")).to_be_visible()


def test_an_unknown_machine_is_said(look: Look, fleet_server: RunningServer) -> None:
    watched = look(fleet_server)
    page = watched.open("/compare?machine=nobody&machine=workstation")
    expect(page.locator("main")).to_contain_text("There is no machine named")
    page.get_by_role("button", name="Remove nobody").click()
    expect(chart(page, "CPU")).to_be_visible()
    watched.complaints = [one for one in watched.complaints if "404" not in one]


def test_a_machine_without_values_is_said(look: Look, fleet_server: RunningServer) -> None:
    page = look(fleet_server).open(
        "/compare?machine=workstation&machine=render-01&metric=power_w&metric=cpu_percent&span=1h"
    )
    power = chart(page, "Power of all GPUs")
    expect(power.locator("li", has_text="render-01")).to_contain_text("no data in this time range")
    expect(power.locator("li", has_text="workstation")).not_to_contain_text("no data")
    page.get_by_role("button", name="Remove workstation").click()
    expect(power).to_contain_text("No machine reported this in the time range.")
    expect(power.locator("canvas")).to_be_hidden()
    expect(chart(page, "CPU").locator("canvas")).to_be_visible()
