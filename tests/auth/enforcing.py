"""A server that enforces signatures, and the agent `me` that it knows."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.auth.agents import Agent, Agents, Answer, send
from tests.fakes import FakeFleet, machine_yaml, wait_until
from tests.running import RunningServer, command

MACHINE = "secret-machine"
"""The only machine of its fleet."""


class Enforcing:
    """A running server that answers signed requests only."""

    def __init__(self, server: RunningServer, agents: Agents, agent: Agent, token: Path) -> None:
        self.server, self.agents, self.agent, self.token = server, agents, agent, token
        self.url, self.port = server.url, int(server.settings["MACHINES_PORT"])

    def get(self, target: str) -> Answer:
        """The answer to a signed GET."""
        return send(self.port, "GET", target, self.agent.sign("GET", target))

    def run(self, *words: str, **variables: str) -> str:
        """What a command of the agent prints."""
        who = {"MACHINES_AGENT_ID": self.agent.name, "MACHINES_PRIVATE_KEY": str(self.agent.private_key)}
        done = command(*words, **{"MACHINES_URL": self.url} | who | variables)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()


@contextmanager
def enforcing_server(folder: Path, **settings: str) -> Iterator[Enforcing]:
    """A server with AUTH_MODE=enforce and one machine, once that is online."""
    agents = Agents(folder)
    agent = agents.add("me")
    token = folder / "metrics.token"
    token.touch(0o600)
    enforce = {
        "AUTH_MODE": "enforce",
        "AUTH_KEYS_DIR": str(agents.public),
        "MACHINES_METRICS_TOKEN_FILE": str(token),
    }
    settings = enforce | settings
    with FakeFleet() as fakes, RunningServer(folder, **settings) as server:
        server.write("one.yaml", machine_yaml(MACHINE, fakes.sidecar(), fakes.ollama()))
        enforcing = Enforcing(server, agents, agent, token)
        wait_until(lambda: b'"online"' in enforcing.get("/api/infrastructure").body)
        yield enforcing
