"""The main ways through the page in Firefox; everything else is tested in Chromium."""

import re
from collections.abc import Iterator

import pytest

from tests.fakes import wait_until
from tests.page.demo_fleet import NAMED
from tests.page.firefox import Firefox
from tests.running import RunningServer


@pytest.fixture(scope="module")
def firefox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Firefox]:
    """One Firefox for all tests here, of whose pages none has complained."""
    with Firefox(tmp_path_factory.mktemp("firefox")) as running:
        yield running
        assert running.complaints() == []


def link(name: str) -> str:
    """The XPath of a link with that text."""
    return f"//a[normalize-space()='{name}']"


def button(name: str) -> str:
    """The XPath of a visible button that begins with that text."""
    return f"//button[starts-with(normalize-space(), '{name}') and not(@hidden)]"


def test_the_fleet_is_shown_and_filtered(firefox: Firefox, fleet_server: RunningServer) -> None:
    firefox.open(fleet_server.url)
    cards = "return document.querySelectorAll('li.card').length"
    wait_until(lambda: firefox.run(cards) == len(NAMED))
    firefox.wait_for("As of", "#age")
    firefox.fill("//input[@name='q']", "workstation")
    wait_until(lambda: firefox.run(cards) == 1)


def test_a_machine_has_charts_and_dragging_chooses_a_range(
    firefox: Firefox, fleet_server: RunningServer
) -> None:
    firefox.open(f"{fleet_server.url}/machines/workstation?span=24h")
    firefox.wait_for("Models in memory, on any of the GPUs")
    drawn = """
        const canvas = document.querySelector(".chart canvas");
        if (!canvas) return 0;
        const {data} = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
        return data.filter((value, at) => at % 4 === 3 && value > 0).length;
    """
    wait_until(lambda: firefox.run(drawn) > 1000)
    firefox.drag("(//*[contains(@class, 'u-over')])[1]", 0.6, 0.9)
    wait_until(lambda: re.search(r"from=\d+&to=\d+", firefox.run("return location.search")))
    firefox.command("WebDriver:Back")
    wait_until(lambda: firefox.run("return location.search") == "?span=24h")
    firefox.wait_for("Config in effect")


def test_events_are_filtered_and_lead_to_a_machine(firefox: Firefox, fleet_server: RunningServer) -> None:
    firefox.open(f"{fleet_server.url}/events")
    firefox.wait_for("was added")
    firefox.click("//select[@aria-label='Types']/option[@value='offline']")
    wait_until(lambda: firefox.run("return location.search") == "?type=offline")
    badges = (
        "return [...new Set([...document.querySelectorAll('.event .badge')].map((one) => one.innerText))]"
    )
    wait_until(lambda: firefox.run(badges) == ["offline"])
    firefox.click("(//*[@class='event']//a[@class='moment'])[1]")
    wait_until(lambda: "/machines/" in firefox.run("return location.pathname"))


def test_machines_are_compared(firefox: Firefox, fleet_server: RunningServer) -> None:
    firefox.open(fleet_server.url)
    firefox.click(link("Compare"))
    for name in NAMED[:2]:
        firefox.click(f"//select[@aria-label='Machines']/option[@value='{name}']")
    firefox.wait_for("VRAM free in the fleet")
    wait_until(lambda: firefox.run("return document.querySelectorAll('.chart canvas').length") == 4)


def test_a_lease_is_released(firefox: Firefox, fleet_server: RunningServer) -> None:
    wanted = {"model": "llama3.1:70b", "holder": "firefox", "ttl_s": 600}
    assert fleet_server.post("/api/leases", wanted).status_code == 201
    firefox.open(f"{fleet_server.url}/leases")
    firefox.click(f"//tr{button('Release')}")
    firefox.click(f"//dialog{button('Release it')}")
    firefox.wait_for("No leases.")
    assert fleet_server.get("/api/leases").json()["total"] == 0


def test_models_and_the_theme(firefox: Firefox, fleet_server: RunningServer) -> None:
    firefox.open(f"{fleet_server.url}/models")
    firefox.wait_for("llama3.1:70b")
    ground = "return getComputedStyle(document.body).backgroundColor"
    before = firefox.run(ground)
    for theme in ("system", "light"):
        firefox.click(button(f"Theme: {theme}"))
    firefox.wait_for("Theme: dark", "#theme")
    assert firefox.run(ground) != before
