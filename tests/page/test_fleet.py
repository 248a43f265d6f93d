"""The fleet, as a person looks at it."""

import re

from playwright.sync_api import expect

from tests.fakes import FakeFleet, machine_yaml
from tests.page.conftest import Look, card
from tests.page.demo_fleet import LONG_NAME, MARKUP, NAMED, DemoFleet
from tests.running import RunningServer


def test_every_machine_says_how_it_is_in_word_shape_and_colour(
    look: Look, fleet_server: RunningServer
) -> None:
    page = look(fleet_server).open()
    for name, status in (("workstation", "online"), ("lab-gpu", "degraded"), ("attic", "offline")):
        badge = card(page, name).locator(".badge")
        expect(badge).to_have_text(status)
        expect(badge).to_have_class(re.compile(f"status-{status}"))
        assert badge.locator("svg path").get_attribute("d")
        expect(card(page, name).locator(".since")).to_contain_text("for ")
    shapes = [path.get_attribute("d") for path in page.locator(".counts .badge path").all()]
    assert len(set(shapes)) == len(shapes) == 4


def test_a_card_shows_load_gpus_models_and_the_last_hour(look: Look, fleet_server: RunningServer) -> None:
    page = look(fleet_server).open()
    workstation = card(page, "workstation")
    for text in ("gpu-host", "primary", "12 %", "38 of 128 GiB"):
        expect(workstation).to_contain_text(text)
    gpu = workstation.locator(".gpu").first
    expect(gpu).to_contain_text("18.2 used")
    expect(gpu).to_contain_text("5.8 free of 24 GiB")
    expect(gpu).to_contain_text("47 % busy · 61 °C · 213 W")
    chip = workstation.locator(".chip", has_text="llama3.1:70b")
    expect(chip).to_contain_text("pinned 42 GiB · 10%/90% CPU/GPU · 8,192 ctx")
    expect(workstation.locator(".chip", has_text="nomic-embed-text")).to_contain_text(
        re.compile(r"unloads in \d+\smin")
    )
    expect(
        workstation.get_by_role("img", name=re.compile("Last hour: CPU .*%, highest minute .*%; VRAM"))
    ).to_be_visible()
    expect(card(page, "box-08")).to_contain_text("GPU 1 cannot be read: NVML: GPU is lost")
    expect(card(page, "app-host").locator(".gpu")).to_have_count(0)


def test_what_is_old_is_marked_as_old_with_reason_and_hint(look: Look, fleet_server: RunningServer) -> None:
    page = look(fleet_server).open()
    expect(card(page, "lab-gpu").locator(".old")).to_contain_text(re.compile(r"Values from \d+\s(s|min) ago"))
    expect(card(page, "lab-gpu").locator(".reason").last).to_contain_text("run make run-sidecar on that host")
    expect(card(page, "render-01").locator(".reason").first).to_contain_text("ollama: connection refused")
    since = card(page, "attic").locator(".since")
    expect(since).to_have_attribute("title", re.compile(r"^since \d+ \w+ \d{4}, \d\d:\d\d:\d\d$"))


def test_a_machine_that_is_offline_says_since_when_why_and_what_to_do_once(
    look: Look, fleet_server: RunningServer
) -> None:
    page = look(fleet_server).open()
    attic = card(page, "attic")
    expect(attic.locator(".since")).to_contain_text("for ")
    expect(attic).to_contain_text("Fix: ", use_inner_text=True)
    text = attic.inner_text()
    assert text.count("sidecar and ollama: connection refused") == 1
    assert text.count("connection refused") == 1
    assert re.search(r"Fix: start Ollama there with OLLAMA_HOST=0\.0\.0\.0:\d+; by default it listens", text)
    for stale in ("Values from", "GPU 0", "CPU", "last hour"):
        assert stale not in text
    heights = page.locator("li.card").evaluate_all("cards => cards.map(one => one.offsetHeight)")
    assert attic.evaluate("one => one.offsetHeight") == min(heights) < max(heights)


def test_a_lease_takes_its_part_of_the_free_vram(
    shared_server: RunningServer, fakes: FakeFleet, look: Look
) -> None:
    DemoFleet(shared_server, fakes).declare(1)
    page = look(shared_server).open()
    expect(card(page, "workstation")).to_contain_text("23.5 free of 24 GiB")
    answer = shared_server.post("/api/leases", {"model": "llama3.1:70b", "min_free_vram_gb": 4})
    assert answer.status_code == 201
    gpu = card(page, "workstation").locator(".gpu").nth(1)
    expect(gpu).to_contain_text("4 leased")
    expect(gpu).to_contain_text("19.5 free of 24 GiB")
    assert gpu.locator(".bar .leased").evaluate("part => part.style.width").startswith("16.6")


def test_the_filter_lives_in_the_url(look: Look, fleet_server: RunningServer) -> None:
    page = look(fleet_server).open()
    expect(page.locator("li.card")).to_have_count(len(NAMED))
    page.get_by_label("Search").fill("llama3.1:70b")
    expect(page.locator("li.card")).to_have_count(2)
    expect(page.get_by_text("2 of 8 machines")).to_be_visible()
    page.get_by_label("Tag").select_option("primary")
    expect(page.locator("li.card")).to_have_count(1)
    assert "q=llama3.1%3A70b" in page.url
    assert "tag=primary" in page.url
    page.reload()
    expect(page.locator("li.card h2")).to_have_text(["workstation"])
    page.get_by_label("Search").fill("nothing like that")
    expect(page.get_by_text("No machine matches the filter")).to_be_visible()
    page = look(fleet_server).open("/?role=cpu-host")
    expect(page.locator("li.card h2")).to_have_text(["app-host"])
    page.locator("select[name=role]").select_option("")
    page.get_by_role("button", name="1 offline").click()
    expect(page.locator("li.card h2")).to_have_text(["attic"])
    assert "status=offline" in page.url


def test_machines_are_sorted_as_asked(look: Look, fleet_server: RunningServer) -> None:
    page = look(fleet_server).open()
    worst_first = ["attic", "lab-gpu", "box-08", "render-01", LONG_NAME, "app-host", "spark", "workstation"]
    expect(page.locator("li.card h2")).to_have_text(worst_first)
    page.get_by_label("Sort by").select_option("Free VRAM")
    by_vram = ["spark", "render-01", "workstation", LONG_NAME, "box-08", "app-host", "attic", "lab-gpu"]
    expect(page.locator("li.card h2")).to_have_text(by_vram)
    assert "sort=vram" in page.url
    page.get_by_label("Sort by").select_option("Name")
    expect(page.locator("li.card h2")).to_have_text(sorted(NAMED))
    page.get_by_label("Sort by").select_option("Worst first")
    expect(page.locator("li.card h2")).to_have_text(worst_first)
    assert "sort" not in page.url


def test_a_dense_table_has_one_line_a_machine_with_its_card_below(
    look: Look, fleet_server: RunningServer
) -> None:
    page = look(fleet_server).open()
    page.get_by_role("button", name="Dense table").click()
    row = page.get_by_role("row", name=re.compile("workstation"))
    for text in ("online", "gpu-host", "12 %", "23.5", "19/48", "47 %", "61 °C", "30 %", "llama3.1:70b"):
        expect(row).to_contain_text(text)
    heights = page.locator(".machine-row").evaluate_all("rows => rows.map(one => one.offsetHeight)")
    assert all(28 <= height <= 32 for height in heights)
    figures = page.locator("td.number").evaluate_all(
        "cells => cells.map(getComputedStyle).map(one => one.textAlign + ' ' + one.fontVariantNumeric)"
    )
    assert set(figures) == {"right tabular-nums"}
    page.get_by_role("button", name="Details of workstation").click()
    details = card(page, "workstation")
    for text in ("primary", "23.5 free of 24 GiB", "0.5 used", "38 °C", "24 W", "10%/90% CPU/GPU", "pinned"):
        expect(details).to_contain_text(text)
    with page.expect_response("**/api/infrastructure"):
        pass
    expect(details).to_be_visible()
    page.get_by_role("button", name="Details of workstation").click()
    expect(page.locator("li.card")).to_have_count(0)
    expect(row.get_by_role("cell").nth(9)).to_have_text(re.compile(r"^\d+(\.\d)?\s%$"))
    assert "view=table" in page.url
    page.reload()
    expect(page.get_by_role("row")).to_have_count(1 + len(NAMED))


def test_a_click_on_a_head_of_the_table_sorts_by_it_and_another_turns_it_round(
    look: Look, fleet_server: RunningServer
) -> None:
    page = look(fleet_server).open("/?view=table")
    machines = page.get_by_role("rowheader")
    head = page.get_by_role("columnheader", name="Free, GiB")
    head.get_by_role("button").click()
    expect(machines.first).to_have_text("spark")
    expect(head).to_have_attribute("aria-sort", "descending")
    expect(page.get_by_label("Sort by")).to_have_value("vram")
    head.get_by_role("button").click()
    expect(machines.last).to_have_text("spark")
    expect(head).to_have_attribute("aria-sort", "ascending")
    assert "sort=-vram" in page.url
    page.reload()
    expect(machines.last).to_have_text("spark")
    page.get_by_role("button", name="Machine", exact=True).click()
    expect(machines).to_have_text(sorted(NAMED))
    expect(page.locator("th[aria-sort]")).to_have_text("Machine")
    page.get_by_role("button", name="Status", exact=True).click()
    expect(machines.first).to_have_text("attic")
    assert "sort" not in page.url
    for column, order, first in (
        ("Disk", "disk", "render-01"),
        ("GPU", "gpu", LONG_NAME),
        ("CPU", "cpu", "spark"),
    ):
        page.get_by_role("columnheader", name=column, exact=True).get_by_role("button").click()
        expect(machines.first).to_have_text(first)
        expect(page.get_by_label("Sort by")).to_have_value(order)
    cut = "ones => ones.filter(one => one.scrollWidth > one.clientWidth).map(one => one.textContent)"
    assert page.locator(".dense thead th").evaluate_all(cut) == []
    expect(machines.last).to_have_text("attic")  # nothing is known of it


def test_the_summary_says_where_vram_is_free_and_the_latest_events(
    look: Look, fleet_server: RunningServer
) -> None:
    page = look(fleet_server).open()
    summary = page.get_by_role("region", name="Summary")
    free = summary.locator("div", has=page.get_by_role("heading", name="VRAM free")).first
    expect(free).to_contain_text(re.compile(r"\d+\sGiB of \d+\sGiB"))
    expect(free.locator(".bar .used")).to_have_attribute("style", re.compile(r"width: \d"))
    sizes = "ones => ones.map(one => parseFloat(getComputedStyle(one).fontSize))"
    largest = free.locator("b").first.evaluate("one => parseFloat(getComputedStyle(one).fontSize)")
    assert largest == max(page.locator("main *").evaluate_all(sizes))
    expect(summary.get_by_role("listitem").first).to_have_text("59 GiB spark GPU 0")
    summary.get_by_role("button", name=re.compile("^llama3.1:70b .1$")).click()
    expect(page.locator(".card")).to_have_count(1)
    page.locator("select[name=model]").select_option("any")
    expect(card(page, "spark")).to_be_visible()
    expect(page.locator(".latest .event").first).to_be_visible()
    page.locator(".latest .event .moment").first.click()
    page.wait_for_url(re.compile("/machines/.*from="))


def test_foreign_text_is_shown_as_text(look: Look, fleet_server: RunningServer) -> None:
    page = look(fleet_server).open()
    hostile = card(page, LONG_NAME)
    for part in (".about", ".chip", ".gpu-name"):
        expect(hostile.locator(part).first).to_contain_text(MARKUP)
    assert page.locator("main img").count() == 0


def test_the_first_visit_explains_how_to_add_a_machine(
    shared_server: RunningServer, fakes: FakeFleet, look: Look
) -> None:
    watched = look(shared_server, permissions=["clipboard-read", "clipboard-write"])
    watched.page.goto(shared_server.url)
    page = watched.page
    expect(page.get_by_role("heading", name="No machines yet: add one in three steps")).to_be_visible()
    expect(page.locator(".welcome ol > li")).to_have_count(3)
    expect(page.locator(".welcome")).to_contain_text("make run-sidecar")
    expect(page.locator(".welcome")).to_contain_text(f"in {shared_server.machines} on the server")
    page.get_by_role("button", name="Copy the file").click()
    expect(page.get_by_role("button", name="Copied")).to_be_visible()
    assert page.evaluate("navigator.clipboard.readText()").startswith("# workstation.yaml\nname: workstation")
    DemoFleet(shared_server, fakes).declare(1)
    expect(card(page, "workstation")).to_be_visible()
    expect(page.get_by_text("three steps")).to_have_count(0)


def test_two_hundred_machines_are_all_there_and_stay_quick_to_filter(
    unhurried_server: RunningServer, fakes: FakeFleet, look: Look
) -> None:
    DemoFleet(unhurried_server, fakes).declare(200, wait=False)
    page = look(unhurried_server).open()
    expect(page.locator("li.card")).to_have_count(200)
    problems = page.get_by_role("region", name="Problems")
    problems.get_by_role("button", name="Show all").click()
    expect(problems).to_contain_text(re.compile(r"box-08(, node-\d+){7} and 17 more: GPU 1 cannot be read"))
    page.get_by_label("Search").fill("node-199")
    expect(page.locator("li.card")).to_have_count(1)


def test_what_no_page_makes_in_the_url_is_passed_over(look: Look, fleet_server: RunningServer) -> None:
    page = look(fleet_server).open("/?sort=toString&view=nonsense")
    expect(page.locator("li.card")).to_have_count(len(NAMED))
    expect(page.get_by_label("Sort by")).to_have_value("status")
    page = look(fleet_server).open("/events?to=now")
    expect(page.locator(".event").first).to_be_visible()


def test_the_dense_table_says_why_and_stays_one_after_a_machine(
    look: Look, fleet_server: RunningServer
) -> None:
    page = look(fleet_server).open("/machines/workstation")
    page.get_by_role("link", name="Fleet", exact=True).click()
    page.get_by_role("button", name="Dense table").click()
    row = page.get_by_role("row", name=re.compile("attic"))
    expect(row).to_contain_text("sidecar and ollama: connection refused")
    for stale in ("°C", "/12", "12 %"):
        expect(row).not_to_contain_text(stale)


def test_the_choice_of_the_table_is_kept(look: Look, fleet_server: RunningServer) -> None:
    page = look(fleet_server).open()
    page.get_by_role("button", name="Dense table").click()
    page.get_by_role("link", name="Events", exact=True).click()
    page.get_by_role("link", name="Fleet", exact=True).click()
    expect(page.locator(".machine-row")).to_have_count(len(NAMED))
    page.get_by_role("button", name="Dense table").click()
    page.goto(fleet_server.url)
    expect(page.locator("li.card")).to_have_count(len(NAMED))


def test_a_card_says_how_available_the_machine_was(look: Look, fleet_server: RunningServer) -> None:
    page = look(fleet_server).open()
    uptime = card(page, "attic").locator(".uptime")
    expect(uptime).to_have_text(re.compile(r"^\d+(\.\d)?\s% up in 24 h$"))
    expect(uptime).to_have_attribute("title", "1 outage")


def test_a_machine_without_readings_has_no_empty_sparkline(
    shared_server: RunningServer, fakes: FakeFleet, look: Look
) -> None:
    shared_server.write("bare.yaml", machine_yaml("bare", None, fakes.ollama("phi3:mini")))
    page = look(shared_server).open()
    expect(card(page, "bare")).to_contain_text("phi3:mini")
    expect(card(page, "bare").locator(".spark, .legend").locator("visible=true")).to_have_count(0)


def test_cards_are_as_tall_as_their_content_and_their_bars_begin_and_end_together(
    look: Look, fleet_server: RunningServer
) -> None:
    page = look(fleet_server).open("/?sort=name")
    page.locator(".spark svg").first.wait_for()
    empty = """cards => cards.map(card => card.getBoundingClientRect().bottom -
        Math.max(...[...card.children].map(part => part.getBoundingClientRect().bottom)))"""
    assert max(page.locator("li.card").evaluate_all(empty)) < 20
    workstation = card(page, "workstation")
    ends = "ones => new Set(ones.map(one => one.getBoundingClientRect().right)).size"
    assert workstation.locator(".gauge .bar").evaluate_all(ends) == 1
    chip = workstation.locator(".chip").first
    tops = "one => [...one.children].map(part => Math.round(part.getBoundingClientRect().top / 8))"
    name, until, details = chip.evaluate(tops)
    assert name == until < details  # until when it stays is beside its name
    expect(workstation.locator(".vram-line")).to_be_visible()
