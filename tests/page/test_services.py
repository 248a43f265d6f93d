"""The services on a host, on the page of its machine and at the command line, while they come and go."""

import json
from collections.abc import Iterator

import pytest
from playwright.sync_api import expect

from tests.bodies import http
from tests.fakes import FakeFleet, machine_yaml, wait_until
from tests.page.conftest import Look
from tests.running import RunningServer, command


@pytest.fixture(scope="module")
def fakes() -> Iterator[FakeFleet]:
    with FakeFleet() as fakes:
        yield fakes


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    with RunningServer(tmp_path_factory.mktemp("services")) as server:
        yield server


def test_services_come_and_go_everywhere(look: Look, server: RunningServer, fakes: FakeFleet) -> None:
    web = fakes.listen(http(b"<html>"))
    services = [{"name": "web", "port": web.port, "description": "a page", "owner": "me"}, {"name": "x"}]
    declared = json.loads(machine_yaml("one", fakes.sidecar(), None)) | {"services": services}
    server.write("one.yaml", json.dumps(declared))

    def status() -> tuple[str, str | None] | None:
        found = server.get("/api/services").json()["services"].get("web")
        return found and (found["status"], found["machine"])

    wait_until(lambda: status() == ("active", "one"))
    page = look(server).open("/machines/one")
    expect(page.locator(".service")).to_have_count(1)
    expect(page.locator(".service.is-active")).to_contain_text("active web a page, changed")
    expect(page.locator(".service.is-active .badge.status-online svg")).to_be_visible()
    web.stop()
    wait_until(lambda: status() == ("inactive", "one"))
    expect(page.locator(".service.is-inactive")).to_contain_text("inactive web a page: connection refused")
    shown = command("show", "one", MACHINES_URL=server.url).stdout
    assert "inactive" in shown
    assert "connection refused" in shown
    assert "owner me" in shown
    assert "since 20" not in shown.partition("File one.yaml")[2]
    told = command("events", "--type", "service_up,service_down", MACHINES_URL=server.url).stdout
    assert "one service web answers" in told
    assert (
        "one service web does not answer (connection re" in told
    )  # reset, if it was being asked as it ended
    page = look(server).open("/events")
    expect(page.locator("main")).to_contain_text("one service web does not answer (connection re")
