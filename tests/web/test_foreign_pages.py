"""What a foreign page can do with this server from a reader's browser: a real Chromium tries."""

from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, Page, Response, sync_playwright

from bench.browser import is_installed, launch
from tests.bodies import gpu_body, http
from tests.fakes import FakeEndpoint, FakeFleet, machine_yaml
from tests.running import RunningServer, wait_for_status
from tests.tools import left_out

MODEL = "llama3.1:70b"
REBOUND, LOCAL = "rebound.example", "box.lan"
PATHS = (
    *("/", "/models", "/static/app.js", "/health", "/health/ready", "/nothing"),
    *("/api/infrastructure", "/api/machines", "/api/machines/secret-name", "/api/events", "/api/leases"),
    f"/api/route?model={MODEL}",
)
ASK = """async ([url, options]) => {
    try {
        const answer = await fetch(url, options);
        return [answer.status, await answer.text()];
    } catch (error) {
        return [0, error.name];
    }
}"""
"""Status and text of an answer, as far as the page may see them."""
SUBMIT = """([url, kind, text]) => {
    const form = Object.assign(document.createElement("form"), {action: url, method: "post", enctype: kind});
    form.append(Object.assign(document.createElement("input"), {name: text, value: ""}));
    document.body.append(form);
    form.submit();
}"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium, for which two names lead to this machine."""
    names = ", ".join(f"MAP {name} 127.0.0.1" for name in (REBOUND, LOCAL))
    with sync_playwright() as playwright:
        if not is_installed(playwright):
            left_out("chromium-headless-shell")
        browser = launch(playwright, f"--host-resolver-rules={names}")
        yield browser
        browser.close()


class Victim:
    """A server with one machine, on which a lease is held."""

    def __init__(self, server: RunningServer) -> None:
        self.server = server
        self.port = urlsplit(server.url).port
        taken = server.post("/api/leases", {"model": MODEL, "ttl_s": 600})
        self.lease = taken.json()["lease"]
        self.before = self.leases()
        assert self.before == [self.lease]

    def leases(self) -> list[str]:
        """Those that are held."""
        return [one["lease"] for one in self.server.get("/api/leases").json()["leases"]]

    def changes(self) -> Iterator[tuple[str, str, Any]]:
        """What would take or end a lease: method, path, body."""
        yield "POST", "/api/leases", f'{{"model": "{MODEL}", "ttl_s": 600}}'
        yield "POST", f"/api/leases/{self.lease}/renew", "{}"
        yield "DELETE", f"/api/leases/{self.lease}", None


@pytest.fixture(scope="module")
def victim(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Victim]:
    """It is the same for all tests here: none may change it."""
    with FakeFleet() as fakes, RunningServer(tmp_path_factory.mktemp("victim")) as server:
        sidecar, ollama = fakes.sidecar(gpu_body(0, used_gb=1)), fakes.ollama(MODEL)
        server.write("one.yaml", machine_yaml("secret-name", sidecar, ollama))
        wait_for_status(server, "secret-name", "online")
        yield Victim(server)


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A page with no memory of others."""
    context = browser.new_context()
    yield context.new_page()
    context.close()


@pytest.fixture
def elsewhere(fakes: FakeFleet) -> FakeEndpoint:
    """A site of somebody else, at another loopback address."""
    page = http(b"<!doctype html><title>elsewhere</title>", "200 OK\r\nContent-Type: text/html")
    return fakes.listen(page, address="127.0.0.2")


def test_a_foreign_page_reads_nothing_and_changes_nothing(
    victim: Victim, page: Page, elsewhere: FakeEndpoint
) -> None:
    arrived: list[Response] = []
    page.on("response", lambda response: arrived.append(response))
    page.goto(elsewhere.url("/page"))
    for path in PATHS:
        assert page.evaluate(ASK, [victim.server.url + path, {}])[0] == 0, path
    for method, path, body in victim.changes():
        url = victim.server.url + path
        for kind in ("application/json", "text/plain"):
            options = {"method": method, "body": body, "headers": {"Content-Type": kind}}
            assert page.evaluate(ASK, [url, options])[0] == 0, path
            if method == "POST":
                page.evaluate(ASK, [url, options | {"mode": "no-cors"}])
        page.evaluate("([url, body]) => navigator.sendBeacon(url, body)", [url, body or ""])
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data"):
        page.goto(elsewhere.url("/page"))
        text = f'{{"model": "{MODEL}", "ttl_s": 600, "holder": "'
        with page.expect_navigation():
            page.evaluate(SUBMIT, [f"{victim.server.url}/api/leases", kind, text])
    assert victim.leases() == victim.before
    posts = [
        one.status
        for one in arrived
        if one.request.method == "POST" and one.url.startswith(victim.server.url)
    ]
    assert len(posts) >= 5  # the browser let them through, and the server refused them
    assert {status // 100 for status in posts} == {4}


def test_a_page_that_rebinds_its_name_to_this_server_reads_nothing_and_changes_nothing(
    victim: Victim, page: Page
) -> None:
    # Its script is there from before; that it runs in an answer of ours changes nothing of its rights.
    page.goto(f"http://{REBOUND}:{victim.port}/nothing")
    claim = {"Sec-Machines-Client": "machines-client/1.0"}  # scripts may not send it
    for headers in ({}, claim):
        for path in PATHS:
            status, text = page.evaluate(ASK, [path, {"headers": headers}])
            assert status == 421, path
            assert "secret-name" not in text
            assert "MACHINES_ALLOWED_HOSTS" in text
        for method, path, body in victim.changes():
            options = {
                "method": method,
                "body": body,
                "headers": headers | {"Content-Type": "application/json"},
            }
            assert page.evaluate(ASK, [path, options])[0] == 421, path
    assert victim.leases() == victim.before


def test_a_name_that_public_dns_cannot_hold_is_answered(victim: Victim, page: Page) -> None:
    answer = page.goto(f"http://{LOCAL}:{victim.port}/api/infrastructure")
    assert answer is not None
    assert answer.status == 200
    assert "secret-name" in answer.text()
