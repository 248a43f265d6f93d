"""A person signs in with the link of an agent, and other sites gain nothing from it."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from tests.auth.agents import Agents
from tests.fakes import FakeFleet, machine_yaml
from tests.running import RunningServer, command


class Guarded:
    """A server that enforces signatures, and how its agent asks it."""

    def __init__(self, server: RunningServer, key: Path) -> None:
        self.url = server.url
        self._variables = {
            "MACHINES_URL": server.url,
            "MACHINES_AGENT_ID": "me",
            "MACHINES_PRIVATE_KEY": str(key),
        }

    def run(self, *words: str) -> str:
        """What a command prints."""
        done = command(*words, **self._variables)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    folder = tmp_path_factory.mktemp("guarded")
    agents = Agents(folder)
    agent = agents.add("me")
    settings = {"AUTH_MODE": "enforce", "AUTH_KEYS_DIR": str(agents.public)}
    with FakeFleet() as fakes, RunningServer(folder, **settings) as server:
        server.write("one.yaml", machine_yaml("secret-machine", fakes.sidecar(), fakes.ollama()))
        yield Guarded(server, agent.private_key)


def test_a_person_signs_in_and_out(guarded: Guarded, browser: Browser) -> None:
    with browser.new_context() as context:
        page = context.new_page()
        page.goto(f"{guarded.url}/models")
        expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
        page.goto(guarded.run("login"))
        page.get_by_role("button", name="Sign in").click()
        expect(page.get_by_role("link", name="secret-machine").first).to_be_visible()
        page.goto(f"{guarded.url}/models")
        expect(page.get_by_role("heading", name="Where each model is")).to_be_visible()
        guarded.run("logout", "--all")
        expect(page.get_by_role("heading", name="Sign in")).to_be_visible(timeout=20_000)


def test_a_page_of_another_site_cannot_read_what_its_reader_may(guarded: Guarded, browser: Browser) -> None:
    with browser.new_context() as context:
        page = context.new_page()
        page.goto(guarded.run("login"))
        page.get_by_role("button", name="Sign in").click()
        expect(page.get_by_role("link", name="secret-machine").first).to_be_visible()
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
        assert "secret-machine" not in page.content()
