"""A server that enforces signatures, and its agents."""

from collections.abc import Iterator

import pytest

from tests.auth.agents import Agent, Agents, Answer, send
from tests.fakes import FakeFleet, machine_yaml, wait_until
from tests.running import RunningServer


class Enforcing:
    """A running server with one machine, that answers signed requests only."""

    def __init__(self, server: RunningServer, agents: Agents, agent: Agent) -> None:
        self.server, self.agents, self.agent = server, agents, agent
        self.port = int(server.settings["MACHINES_PORT"])

    def get(self, target: str) -> Answer:
        """The answer to a signed GET."""
        return send(self.port, "GET", target, self.agent.sign("GET", target))


@pytest.fixture(scope="module")
def enforcing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Enforcing]:
    """A server with AUTH_MODE=enforce that knows the agent `me`."""
    folder = tmp_path_factory.mktemp("enforcing")
    agents = Agents(folder)
    agent = agents.add("me")
    settings = {"AUTH_MODE": "enforce", "AUTH_KEYS_DIR": str(agents.public)}
    with FakeFleet() as fakes, RunningServer(folder, **settings) as server:
        server.write("secret-machine.yaml", machine_yaml("secret-machine", fakes.sidecar(), fakes.ollama()))
        enforcing = Enforcing(server, agents, agent)
        wait_until(lambda: b'"online"' in enforcing.get("/api/infrastructure").body)
        yield enforcing
