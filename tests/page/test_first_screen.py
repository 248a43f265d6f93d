"""What is wrong, and where there is VRAM: both are answered without scrolling, in the tab, and on paper."""

import re

import pytest
from playwright.sync_api import Page, Route, expect

from tests.fakes import FakeFleet
from tests.page.conftest import Look, card
from tests.page.demo_fleet import LONG_NAME, NAMED, DemoFleet
from tests.running import RunningServer

PHONE = {"viewport": {"width": 390, "height": 844}}


def top_of(page: Page, what: str) -> float:
    return float(page.locator(what).first.evaluate("one => one.getBoundingClientRect().top"))


@pytest.mark.parametrize(("screen", "lowest"), [({}, 340), (PHONE, 500)])
def test_the_first_machines_are_on_the_first_screen(
    look: Look, fleet_server: RunningServer, screen: dict[str, object], lowest: int
) -> None:
    page = look(fleet_server, **screen).open()
    expect(card(page, "attic")).to_be_in_viewport()
    assert top_of(page, "li.card") < lowest
    for heading in ("Machines", "VRAM free", "Most free on one GPU", "Models in memory"):
        expect(page.get_by_role("heading", name=heading, exact=True)).to_be_in_viewport()
    expect(page.get_by_role("region", name="Problems")).to_be_in_viewport()


def test_twenty_machines_of_the_dense_table_are_on_a_screen_and_the_others_below_its_headings(
    unhurried_server: RunningServer, fakes: FakeFleet, look: Look
) -> None:
    DemoFleet(unhurried_server, fakes).declare(60, wait=False)
    page = look(unhurried_server).open("/?view=table")
    expect(page.locator(".machine-row")).to_have_count(60)
    expect(page.locator(".machine-row", has_text="online").first).to_be_visible()
    visible = "rows => rows.filter(one => one.getBoundingClientRect().bottom <= innerHeight).length"
    assert page.locator(".machine-row").evaluate_all(visible) >= 20
    page.locator(".machine-row").last.scroll_into_view_if_needed()
    assert page.evaluate("scrollY") > 0
    expect(page.get_by_role("columnheader", name="Machine")).to_be_in_viewport()


def test_high_values_have_a_mark_and_a_colour(look: Look, fleet_server: RunningServer) -> None:
    watched = look(fleet_server)

    def heat(route: Route) -> None:
        answer = route.fetch()
        body = answer.json()
        for machine in body["machines"]:
            if machine["name"] == "workstation":
                machine["telemetry"]["ram_used_gb"] = 125
                machine["telemetry"]["gpu"][0] |= {"vram_used_gb": 23, "temperature_c": 91}
        route.fulfill(response=answer, json=body)

    watched.page.route("**/api/infrastructure", heat)
    page = watched.open()
    workstation = card(page, "workstation")
    for text in ("▲\u202f125 of 128 GiB", "▲\u202f23 used", "▲\u202f91 °C"):
        expect(workstation).to_contain_text(text)
    colour = "one => getComputedStyle(one).backgroundColor"
    hot, cool = workstation.locator(".gpu .bar .used").all()
    assert hot.evaluate(colour) != cool.evaluate(colour)
    expect(page.locator("li.card h2")).to_contain_text(
        ["attic", "lab-gpu", "box-08", "render-01", "workstation"]
    )
    page.get_by_role("button", name="Show all").click()
    problems = page.get_by_role("region", name="Problems")
    expect(problems).to_contain_text("workstation: GPU 0 is at 91 °C")
    expect(problems).to_contain_text("workstation: RAM is 97 % full")


def test_the_filter_for_free_vram_asks_what_the_router_is_asked(
    look: Look, fleet_server: RunningServer
) -> None:
    page = look(fleet_server).open("/?sort=name")
    for size in ("16", "23.2", "58"):
        page.get_by_label("Free on one GPU").fill(size)
        route = fleet_server.get(f"/api/route?min_free_vram_gb={size}&explain=true").json()
        fit = sorted(candidate["name"] for candidate in route["candidates"])
        expect(page.locator("li.card h2")).to_have_text(fit)
    page.get_by_role("link", name="Where would a request go?").click()
    expect(page.locator(".verdict")).to_contain_text("It would go to spark")


def test_who_looks_for_free_vram_sees_the_most_first(look: Look, fleet_server: RunningServer) -> None:
    page = look(fleet_server).open()
    sort = page.get_by_label("Sort by")
    expect(sort).to_have_value("status")
    page.get_by_label("Free on one GPU").fill("16")
    expect(page.locator("li.card h2")).to_have_text(["spark", "workstation", LONG_NAME, "box-08"])
    expect(sort).to_have_value("vram")
    sort.select_option("Worst first")
    expect(page.locator("li.card h2")).to_have_text(["box-08", LONG_NAME, "spark", "workstation"])
    assert "sort=status" in page.url
    page.get_by_label("Free on one GPU").fill("")
    expect(page.locator("li.card h2").first).to_have_text("attic")


def test_a_single_problem_is_shown_whole_without_a_button(look: Look, fleet_server: RunningServer) -> None:
    page = look(fleet_server, viewport={"width": 700, "height": 900}).open("/machines/attic")
    problems = page.get_by_role("region", name="Problems")
    expect(problems).to_contain_text("1 problem")
    expect(problems.get_by_role("listitem")).to_have_count(1)
    expect(problems.get_by_role("button")).to_have_count(0)
    assert problems.get_by_role("listitem").evaluate("one => one.scrollWidth <= one.clientWidth")


def test_the_filters_fit_one_row_of_1200_px(look: Look, fleet_server: RunningServer) -> None:
    page = look(fleet_server, viewport={"width": 1200, "height": 800}).open()
    controls = page.locator(".filter .controls > *").all()
    boxes = [one.bounding_box() for one in controls]
    middles = {round((box["y"] + box["height"] / 2) / 10) for box in boxes if box}
    assert len(boxes) == 8
    assert max(middles) - min(middles) <= 1


def test_back_undoes_a_filter(look: Look, fleet_server: RunningServer) -> None:
    page = look(fleet_server).open()
    expect(page.locator("li.card")).to_have_count(len(NAMED))
    page.get_by_label("Search").press_sequentially("attic")
    expect(page.locator("li.card")).to_have_count(1)
    page.go_back()
    expect(page.locator("li.card")).to_have_count(len(NAMED))
    page.go_forward()
    expect(page.locator("li.card")).to_have_count(1)
    expect(page.get_by_label("Search")).to_have_value("attic")


def test_the_tab_shows_the_worst_status(shared_server: RunningServer, fakes: FakeFleet, look: Look) -> None:
    demo = DemoFleet(shared_server, fakes)
    demo.declare(2)
    page = look(shared_server).open()
    icon = page.locator("link[rel=icon]")
    expect(page).to_have_title("Fleet · machines")
    expect(icon).to_have_attribute("href", re.compile("/static/icon.svg$"))
    demo.sidecars["app-host"].stop()
    demo.ollamas["app-host"].stop()
    expect(page).to_have_title("(1) Fleet · machines")
    expect(icon).to_have_attribute("href", re.compile("/static/icon-offline.svg$"))
    assert shared_server.get("/static/icon-offline.svg").headers["Content-Type"].startswith("image/svg+xml")
    page.get_by_role("link", name="Events", exact=True).click()
    expect(page).to_have_title("(1) Events · machines")


@pytest.mark.parametrize("path", ["/", "/?view=table"])
def test_on_paper_nothing_is_cut_off_and_bars_have_their_colours(
    look: Look, fleet_server: RunningServer, path: str
) -> None:
    page = look(fleet_server).open(path)
    page.locator(".bar .used").first.wait_for(state="attached")
    page.emulate_media(media="print")
    positions = "ones => ones.map(one => getComputedStyle(one).position)"
    assert set(page.locator(".top, thead th").evaluate_all(positions)) == {"static"}
    adjust = "ones => ones.map(one => getComputedStyle(one).printColorAdjust)"
    assert set(page.locator(".bar, .bar > span").evaluate_all(adjust)) == {"exact"}
    cut_off = "ones => ones.filter(one => one.scrollWidth > one.clientWidth + 1).map(one => one.outerHTML)"
    for width in (700, 1100):
        page.set_viewport_size({"width": width, "height": 900})
        assert page.locator("main :is(th, td), .problems li").evaluate_all(cut_off) == []
    expect(page.get_by_role("region", name="Problems").get_by_role("listitem")).to_have_count(6)
    expect(page.get_by_role("button", name="Add machine")).to_be_hidden()


def test_charts_are_as_wide_as_the_paper_and_what_can_be_clicked_is_left_out(
    look: Look, fleet_server: RunningServer
) -> None:
    page = look(fleet_server).open("/machines/workstation")
    page.locator(".charts canvas").first.wait_for()
    page.emulate_media(media="print")
    too_wide = """charts => {
      document.querySelector("main").style.width = "600px";  // charts have no time to be drawn anew
      const right = (element) => element.getBoundingClientRect().right;
      return charts.filter((one) => right(one.querySelector("canvas")) > right(one) + 1).length;
    }"""
    assert page.locator("figure.chart").evaluate_all(too_wide) == 0
    edges = "ones => ones.map(one => one.getBoundingClientRect()).map(box => [box.left, box.top, box.bottom])"
    charts = page.locator("figure.chart").evaluate_all(edges)
    assert len({round(left) for left, _, _ in charts}) == 2  # columns
    ((_, events, _),) = page.get_by_role("heading", name="Events").evaluate_all(edges)
    assert max(bottom for _, _, bottom in charts) <= events
    headings = "ones => ones.map(one => getComputedStyle(one).breakAfter)"
    assert set(page.locator("main :is(h2, h3, h4)").evaluate_all(headings)) == {"avoid"}  # none ends a sheet
    for name in ("1 h", "Copy", "Show"):
        expect(page.get_by_role("button", name=name, exact=True)).to_be_hidden()
    expect(page.get_by_role("link", name="Download CSV")).to_be_hidden()
    expect(page.locator(".brand span")).to_be_visible()
    time = page.locator("#age").evaluate("one => getComputedStyle(one, '::after').content")
    assert re.search(r"\d{1,2} \w+ \d{4}, \d\d:\d\d:\d\d", time)


def test_paper_is_light_and_charts_are_drawn_for_it(look: Look, fleet_server: RunningServer) -> None:
    page = look(fleet_server, color_scheme="dark").open("/machines/workstation")
    chart = page.locator(".charts canvas").first
    chart.wait_for()
    background = "one => getComputedStyle(one).backgroundColor"
    width = "one => Math.round(one.getBoundingClientRect().width)"
    card = page.locator("figure.chart").first
    dark, wide = card.evaluate(background), chart.evaluate(width)
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert card.evaluate(background) == "rgb(255, 255, 255)"
    assert page.locator(".charts").first.evaluate("one => one.offsetWidth") < 720  # as on a sheet
    assert page.locator(".charts canvas").first.evaluate(width) < wide
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert card.evaluate(background) == dark
    assert page.locator(".charts canvas").first.evaluate(width) == wide


def test_a_wide_screen_has_more_of_the_recent_events(look: Look, fleet_server: RunningServer) -> None:
    page = look(fleet_server).open()
    visible = page.locator(".latest .event:visible")
    expect(visible).to_have_count(5)
    page.set_viewport_size({"width": 2560, "height": 1440})
    expect(visible).to_have_count(20)
    begins = "ones => new Set(ones.map(one => Math.round(one.getBoundingClientRect().left))).size"
    assert page.locator(".latest .event > a:not(.moment)").evaluate_all(begins) == 1  # below each other


def test_on_a_tablet_the_head_is_one_line_and_names_are_whole(
    look: Look, fleet_server: RunningServer
) -> None:
    page = look(fleet_server, viewport={"width": 768, "height": 1024}).open("/?view=table")
    expect(page.get_by_role("link", name="workstation").last).to_be_visible()
    assert page.locator(".top").evaluate("one => one.offsetHeight") < 60
    cut = "ones => ones.filter(one => one.scrollWidth > one.clientWidth).map(one => one.textContent)"
    assert page.locator("tbody th.name").evaluate_all(cut) == [LONG_NAME]


def test_adding_a_machine_is_always_in_reach(look: Look, fleet_server: RunningServer) -> None:
    page = look(fleet_server).open("/events")
    page.get_by_role("button", name="Add machine").click()
    dialog = page.get_by_role("dialog", name="Add a machine")
    expect(dialog).to_contain_text("name: workstation")
    expect(dialog).to_contain_text("make run-sidecar")
    expect(dialog.locator("code", has_text=str(fleet_server.machines))).to_be_visible()
    expect(dialog.get_by_role("button", name="Copy the file")).to_be_visible()
    page.keyboard.press("Escape")
    expect(dialog).to_have_count(0)
    expect(page.get_by_role("button", name="Add machine")).to_be_focused()
