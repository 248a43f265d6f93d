"""The page of events: days and clock times, filters, moments, and pages without end."""

import re
import time
from collections.abc import Iterator
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from playwright.sync_api import Page, expect

from tests.bodies import http, ollama_body
from tests.fakes import FakeFleet, machine_yaml, wait_until
from tests.page.conftest import UNHURRIED, Look
from tests.page.demo_fleet import LONG_NAME, DemoFleet
from tests.page.pasts import give_outages
from tests.running import RunningServer, wait_for_status

STEP_S = 600
CHANGES = 280
HERE = ZoneInfo("Europe/Warsaw")


@pytest.fixture(scope="module")
def eventful_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server whose workstation was offline and online in turns for two days."""
    folder = tmp_path_factory.mktemp("events")
    last = int(time.time()) - 3600
    times = range(last - CHANGES * STEP_S, last, STEP_S)
    outages = [(at, at + STEP_S) for at in times[1::2]]
    give_outages(folder / "var" / "telemetry.db", "workstation", times, outages)
    with FakeFleet() as fakes, RunningServer(folder, **UNHURRIED) as server:
        DemoFleet(server, fakes).declare(2)
        yield server


def all_events(server: RunningServer, query: str) -> list[dict[str, Any]]:
    """The events of the API, in one page."""
    answer = server.get(f"/api/events?limit=10000&{query}").json()
    assert not answer["truncated"]
    return list(answer["events"])


def choose(page: Page, label: str, *values: str) -> None:
    """Add these to what is chosen, one by one."""
    for value in values:
        page.get_by_label(label, exact=True).select_option(value)


def test_events_have_a_day_a_clock_time_and_an_age(look: Look, eventful_server: RunningServer) -> None:
    page = look(eventful_server).open("/events?machine=workstation&type=offline")
    newest = all_events(eventful_server, "machine=workstation&type=offline")[0]
    at = datetime.fromisoformat(newest["at"]).astimezone(HERE)
    day = page.get_by_role("heading", level=2).first
    expect(day).to_contain_text(f"{at.day} {at:%B %Y}")
    expect(page.locator(".event").first).to_have_text(
        re.compile(rf"^{at:%H:%M:%S} workstation .*offline.* 1\sh.* ago$")
    )


@pytest.mark.parametrize("path", ["/events", "/machines/workstation"])
def test_a_clock_with_am_and_pm_stays_in_its_line_and_column(
    look: Look, eventful_server: RunningServer, path: str
) -> None:
    page = look(eventful_server, locale="en-US").open(path)
    event = page.locator(".day .event").filter(has_text=re.compile("[AP]M")).first
    event.wait_for()
    moment, age = event.locator(".moment"), event.locator(".age-of")
    moment.evaluate("one => { one.textContent = '12:38:48 PM' }")  # as wide as a time can be
    row, of_moment, of_age = (one.bounding_box() for one in (event, moment, age))
    assert row
    assert of_moment
    assert of_age
    assert of_moment["height"] < 30
    assert row["height"] < 1.5 * of_moment["height"]
    ends_at = moment.evaluate(
        """one => {
            const content = document.createRange();
            content.selectNodeContents(one);
            return content.getBoundingClientRect().right;
        }"""
    )
    assert ends_at < of_age["x"]


def test_older_events_are_paged_to_the_very_first(look: Look, eventful_server: RunningServer) -> None:
    page = look(eventful_server).open("/events?machine=workstation&type=offline&type=online")
    older = page.get_by_role("button", name="Older events")
    shown = page.locator(".event")
    expect(shown).to_have_count(100)
    expected = len(all_events(eventful_server, "machine=workstation&type=offline,online"))
    for count in (200, expected):
        older.click()
        expect(shown).to_have_count(count)
    expect(older).to_be_hidden()
    assert page.get_by_role("heading", level=2).count() >= 2


def test_what_happened_stands_below_each_other(look: Look, fleet_server: RunningServer) -> None:
    page = look(fleet_server).open("/events")
    expect(page.locator(".event", has_text=LONG_NAME).first).to_be_visible()
    for part in (".moment", ".age-of", "a:not(.moment)", ".what"):
        edge = "right" if part == ".age-of" else "left"
        edges = f"ones => ones.map(one => Math.round(one.getBoundingClientRect().{edge}))"
        assert len(set(page.locator(f".event > {part}").evaluate_all(edges))) == 1, part


def test_types_of_events_have_shapes_and_the_day_stays_in_sight(
    look: Look, eventful_server: RunningServer
) -> None:
    page = look(eventful_server).open("/events?machine=workstation")
    expect(page.locator(".event")).to_have_count(100)
    shape = "one => getComputedStyle(one, '::before').content"
    assert page.locator(".what.model_loaded").first.evaluate(shape).startswith('"+"')
    assert page.locator(".what.offline svg").first.is_visible()
    top = page.locator(".top").evaluate("one => one.getBoundingClientRect().bottom")
    page.mouse.wheel(0, 900)
    wait_until(lambda: page.evaluate("scrollY") > 500)
    at_the_top = "(ones, top) => ones.findIndex(one => one.getBoundingClientRect().bottom > top + 60)"
    number = page.locator(".day").evaluate_all(at_the_top, top)  # the second one, soon after midnight
    day = page.locator(".day").nth(number).locator("h2")
    expect(day).to_be_in_viewport()
    assert abs(day.evaluate("one => one.getBoundingClientRect().top") - top) < 4
    page.emulate_media(media="print")
    expect(day).to_have_css("position", "static")
    page.emulate_media(media="screen")
    page.set_viewport_size({"width": 390, "height": 844})
    ends = "ones => new Set(ones.map(one => Math.round(one.getBoundingClientRect().right))).size"
    assert page.locator(".event > .age-of").evaluate_all(ends) == 1


def test_what_happened_at_a_moment(look: Look, eventful_server: RunningServer) -> None:
    page = look(eventful_server).open("/events?machine=workstation&type=offline")
    expect(page.locator(".event")).to_have_count(100)
    moment = time.time() - 36 * 3600
    typed = datetime.fromtimestamp(moment, HERE).strftime("%Y-%m-%dT%H:%M")
    page.get_by_label("What happened at").fill(typed)
    page.get_by_role("button", name="Show").click()
    at = int(datetime.fromisoformat(typed).replace(tzinfo=HERE).timestamp())
    page.wait_for_url(f"**/events?machine=workstation&type=offline&at={at}")
    page.reload()
    line = page.locator(".moment-line")
    expect(line).to_be_in_viewport()
    expect(page.get_by_label("What happened at")).to_have_value(typed)
    before, since = (
        line.locator(f"xpath={axis}::li[1]//time") for axis in ("following-sibling", "preceding-sibling")
    )
    first_since = all_events(eventful_server, f"machine=workstation&type=offline&from={at}")[-1]
    last_before = all_events(eventful_server, f"machine=workstation&type=offline&to={at}")[0]
    expect(since).to_have_attribute("datetime", first_since["at"])
    expect(before).to_have_attribute("datetime", last_before["at"])
    page.get_by_role("button", name="Latest events").click()
    expect(line).to_have_count(0)
    page.go_back()
    expect(line).to_be_visible()


def test_a_moment_says_what_was_in_memory(look: Look, fleet_server: RunningServer) -> None:
    moments = [round(time.time()) - hours * 3600 for hours in (2, 3, 4)]
    at, models = next(
        (at, held)
        for at in moments
        if (held := fleet_server.get(f"/api/models?from={at}&to={at + 1}").json()["models"])
        and any("workstation" in one["resident_on"] for one in held)
    )
    held_on = {one["model"]: one["resident_on"] for one in models if one["resident_on"]}
    page = look(fleet_server).open(f"/events?at={at}")
    line = page.locator(".moment-line")
    expect(line).to_contain_text("In memory at this time:")
    expect(line.get_by_role("listitem")).to_have_text(
        [f"{model} on {', '.join(machines)}" for model, machines in held_on.items()]
    )
    choose(page, "Machines", "workstation")
    expect(line.get_by_role("listitem")).to_have_text(["llama3.1:70b on workstation"])
    page.goto(f"{fleet_server.url}/events?at={at - 30 * 86_400}")
    expect(line).to_contain_text("No model was seen in memory at this time.")


def test_pages_after_a_moment_lead_to_now(look: Look, eventful_server: RunningServer) -> None:
    at = int(time.time()) - 60 * 3600
    page = look(eventful_server).open(f"/events?machine=workstation&type=offline&type=online&at={at}")
    newer = page.get_by_role("button", name="Newer events")
    expected = len(all_events(eventful_server, "machine=workstation&type=offline,online"))
    for count in (200, expected):
        newer.click()
        expect(page.locator(".event")).to_have_count(count)
    expect(newer).to_be_hidden()


def test_events_are_filtered_by_several_machines_and_types(
    look: Look, eventful_server: RunningServer
) -> None:
    page = look(eventful_server).open("/events")
    choose(page, "Machines", "workstation", "app-host")
    choose(page, "Types", "model_loaded", "machine_added")
    page.wait_for_url("**/events?machine=workstation&machine=app-host&type=model_loaded&type=machine_added")
    words = "machine=workstation,app-host&type=model_loaded,machine_added"
    expect(page.locator(".event")).to_have_count(min(100, len(all_events(eventful_server, words))))
    expect(page.locator(".event", has_text="app-host").first).to_be_visible()
    page.get_by_role("button", name="Remove workstation").click()
    expect(page.locator(".event", has_text="workstation")).to_have_count(0)
    page.go_back()
    expect(page.get_by_role("button", name="Remove workstation")).to_be_visible()
    expect(page.locator(".event", has_text="workstation").first).to_be_visible()


def test_an_event_leads_to_its_machine_at_that_time(look: Look, eventful_server: RunningServer) -> None:
    page = look(eventful_server).open("/events?type=offline")
    page.locator(".event .moment").first.click()
    page.wait_for_url(re.compile(r"/machines/workstation\?from=\d+&to=\d+"))
    page.go_back()
    expect(page.get_by_role("heading", name="Events")).to_be_visible()


def test_new_events_appear_by_themselves_and_older_ones_stay(
    shared_server: RunningServer, fakes: FakeFleet, look: Look
) -> None:
    ollama = fakes.ollama("llama3.1:8b", "phi3:mini")
    shared_server.write("nova.yaml", machine_yaml("nova", fakes.sidecar(), ollama))
    wait_for_status(shared_server, "nova", "online")
    page = look(shared_server).open("/events?machine=nova")
    added = page.locator(".event", has_text="was added")
    expect(added).to_have_count(1)
    ollama.answer = http(ollama_body())
    expect(page.locator(".event", has_text="unloaded")).to_have_count(2)
    expect(added).to_have_count(1)


def test_why_events_cannot_be_shown_is_said(look: Look, eventful_server: RunningServer) -> None:
    watched = look(eventful_server)
    page = watched.open("/events?machine=nobody")
    expect(page.locator("main")).to_contain_text("There is no machine named")
    page.get_by_role("button", name="Remove nobody").click()
    expect(page.locator(".event").first).to_be_visible()
    watched.complaints = [one for one in watched.complaints if "404" not in one]
