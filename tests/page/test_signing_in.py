"""A person signs in with the link of an agent, and other sites gain nothing from it."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import requests
from playwright.sync_api import Browser, expect

from machines_client import Client, NoMachine, Unauthorized
from tests.auth.enforcing import MACHINE, Enforcing, enforcing_server
from tests.certificates import authority
from tests.nginx import TlsProxy
from tests.readme import page as docs_page


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Enforcing]:
    folder = tmp_path_factory.mktemp("guarded")
    with enforcing_server(folder, MACHINES_TRUSTED_PROXIES="127.0.0.1") as guarded:
        yield guarded


def test_a_person_signs_in_and_out(guarded: Enforcing, browser: Browser) -> None:
    with browser.new_context() as context:
        page = context.new_page()
        page.goto(f"{guarded.url}/models")
        expect(page.get_by_role("heading", name="Sign in to machines-server")).to_be_visible()
        expect(page.locator("pre")).to_have_text(f"machines-server login --server {guarded.url}")
        expect(page.get_by_role("button", name="Copy")).to_be_visible()
        page.goto(guarded.run("login"))
        page.get_by_role("button", name="Sign in").click()
        expect(page.get_by_role("link", name=MACHINE).first).to_be_visible()
        page.goto(f"{guarded.url}/models")
        expect(page.get_by_role("heading", name="Where each model is")).to_be_visible()
        guarded.run("logout", "--all")
        expect(page.get_by_role("heading", name="Sign in")).to_be_visible(timeout=20_000)


def test_a_page_of_another_site_cannot_read_what_its_reader_may(guarded: Enforcing, browser: Browser) -> None:
    with browser.new_context() as context:
        page = context.new_page()
        page.goto(guarded.run("login"))
        page.get_by_role("button", name="Sign in").click()
        expect(page.get_by_role("link", name=MACHINE).first).to_be_visible()
        # localhost is another site than 127.0.0.1, served by the same server.
        page.goto(f"{guarded.url.replace('127.0.0.1', 'localhost')}/health")
        script = """async url => {
            try {
                const answer = await fetch(url, {credentials: "include"});
                return await answer.text();
            } catch (error) { return "refused"; }
        }"""
        assert page.evaluate(script, f"{guarded.url}/api/infrastructure") == "refused"
        page.set_content(f'<a href="{guarded.url}/api/infrastructure">go</a>')
        page.get_by_text("go").click()
        page.wait_for_url("**/api/infrastructure")
        assert MACHINE not in page.content()


class Site(NamedTuple):
    """A server that enforces signatures below a path of an nginx with TLS, set up as the docs say."""

    guarded: Enforcing
    proxy: TlsProxy
    authority: Path

    @property
    def url(self) -> str:
        return self.proxy.url("/fleet")

    def client(self, url: str) -> Client:
        return Client(url, agent="me", private_key=self.guarded.agent.private_key)


@pytest.fixture
def site(guarded: Enforcing, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """The same nginx also asks from an address that is not trusted: /stranger."""
    whole, below_a_path = re.findall(r"```nginx\n(.*?)```", docs_page("signatures.md"), re.DOTALL)
    stranger = below_a_path.replace("location /fleet/ {", "location /stranger/ { proxy_bind 127.0.0.2;")
    assert "proxy_bind" in stranger
    server = whole.rstrip().removesuffix("}") + below_a_path + stranger.replace("/fleet;", "/stranger;") + "}"
    server = server.replace("{", "{{").replace("}", "}}")
    for shown, used in (
        ("listen 443 ssl", "listen 127.0.0.1:{port} ssl"),
        ("/etc/ssl/fleet.pem", "{certificate}"),
        ("/etc/ssl/fleet.key", "{key}"),
        ("http://127.0.0.1:3038", guarded.url),
    ):
        assert shown in server
        server = server.replace(shown, used)
    trusted = authority(tmp_path / "authority")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(trusted))
    with TlsProxy(tmp_path / "nginx", trusted, {}, server) as proxy:
        yield Site(guarded, proxy, trusted)


def test_what_is_signed_below_a_path_is_answered_if_the_proxy_is_trusted(site: Site) -> None:
    for url in (site.url, site.proxy.url("")):
        client = site.client(url)
        assert client.machine(MACHINE).name == MACHINE
        assert client.events(limit=1, machine=MACHINE).events
        with pytest.raises(NoMachine):
            client.lease("nowhere")
    with pytest.raises(Unauthorized) as caught:
        site.client(site.proxy.url("/stranger")).infrastructure()
    assert caught.value.reason == "bad_signature"
    # What was signed for the server without the path is something else.
    headers = site.guarded.agent.sign("GET", "/api/infrastructure")
    answer = requests.get(f"{site.url}/api/infrastructure", headers=headers, timeout=20)
    assert (answer.status_code, answer.json()["reason"]) == (401, "bad_signature")


def test_a_person_signs_in_below_a_path(site: Site, browser: Browser) -> None:
    with browser.new_context(ignore_https_errors=True) as context:
        page = context.new_page()
        page.goto(f"{site.url}/models")
        expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
        link = site.guarded.run("login", MACHINES_URL=site.url)
        assert link.startswith(f"{site.url}/login?token=")
        page.goto(link)
        page.get_by_role("button", name="Sign in").click()
        expect(page).to_have_url(f"{site.url}/")
        expect(page.get_by_role("link", name=MACHINE).first).to_be_visible()
        (cookie,) = context.cookies()
        assert (cookie["path"], cookie["secure"], cookie["httpOnly"]) == ("/fleet/", True, True)
        page.goto(f"{site.url}/machines/{MACHINE}")
        expect(page.get_by_role("heading", name=MACHINE, level=1)).to_be_visible()
