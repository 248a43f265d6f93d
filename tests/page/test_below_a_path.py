"""The page below a path of a proxy: the real nginx, which strips the path before it asks the server."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.fakes import FakeFleet, machine_yaml
from tests.page.conftest import Look
from tests.page.proxy import Proxy
from tests.running import RunningServer, wait_for_status

PREFIXES = {
    "strips": ("/fleet", ""),
    "strips-and-tells": ("/fleet", "proxy_set_header X-Forwarded-Prefix /fleet;"),
    "deep-and-odd": ("/tools/static/machines", ""),
}


@pytest.fixture(scope="module")
def proxied(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server with the machine `one.lab` that trusts a proxy on this machine."""
    folder = tmp_path_factory.mktemp("proxied")
    with FakeFleet() as fakes, RunningServer(folder, MACHINES_TRUSTED_PROXIES="127.0.0.1") as server:
        server.write("one.yaml", machine_yaml("one.lab", fakes.sidecar(), fakes.ollama()))
        wait_for_status(server, "one.lab", "online")
        yield server


@pytest.fixture(params=PREFIXES)
def proxy(request: pytest.FixtureRequest, tmp_path: Path, proxied: RunningServer) -> Iterator[Proxy]:
    """That server behind nginx."""
    prefix, headers = PREFIXES[request.param]
    with Proxy(tmp_path, proxied.url, prefix, headers) as running:
        yield running


def test_links_addresses_choices_and_charts_are_all_below_the_path(proxy: Proxy, look: Look) -> None:
    watched = look(proxy)
    page = watched.open("/")
    nav = page.get_by_role("navigation")
    for name, path in {"Models": "/models", "Events": "/events", "Fleet": "/"}.items():
        nav.get_by_role("link", name=name).click()
        expect(page).to_have_url(proxy.url + path)
        expect(nav.get_by_role("link", name=name)).to_have_attribute("aria-current", "page")
    page.locator("#main").get_by_role("link", name="one.lab").first.click()
    expect(page).to_have_url(f"{proxy.url}/machines/one.lab")
    heading = page.get_by_role("heading", name="one.lab", level=1)
    expect(heading).to_be_visible()
    nav.get_by_role("link", name="Models").click()
    expect(page.get_by_role("heading", name="Models", level=1)).to_be_visible()
    page.get_by_label("Search").fill("none")
    expect(page).to_have_url(f"{proxy.url}/models?q=none")
    page.go_back()
    expect(page).to_have_url(f"{proxy.url}/models")
    expect(page.get_by_label("Search")).to_have_value("")
    page.go_back()
    expect(heading).to_be_visible()
    page.reload()
    expect(page.locator(".uplot").first).to_be_visible()
    page.get_by_role("link", name="machines-server").click()
    expect(page).to_have_url(f"{proxy.url}/")
    watched.open("/events")
    watched.open("/machines/one.lab")
    with page.expect_download() as download:
        page.get_by_role("link", name="Download CSV").click()
    assert download.value.url.startswith(f"{proxy.url}/api/machines/one.lab/history?")
    assert watched.asked("/static/vendor/uPlot.iife.min.js") > 0
    assert watched.asked("/static/machine.css") > 0
