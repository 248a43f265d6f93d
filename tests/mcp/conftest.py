"""A server that anybody may query, one that answers signed requests, and a fleet on both."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.auth.agents import Agents
from tests.bodies import gpu_body, http, ollama_body
from tests.fakes import FakeFleet, machine_yaml, wait_until
from tests.mcp.agents import Entrance
from tests.running import RunningServer

MODEL, OTHER = "llama3.1:70b", "nomic-embed-text"


@pytest.fixture(scope="package")
def fleet() -> Iterator[dict[str, str]]:
    """Machine files by name."""
    with FakeFleet() as fakes:
        big = fakes.sidecar(gpu_body(0, used_gb=20), gpu_body(1, used_gb=3))
        embedding = fakes.listen(http(ollama_body(OTHER, digest="e" * 64)))  # no other model has it
        yield {
            "big": machine_yaml("big", big, fakes.ollama(MODEL), (MODEL,)),
            "small": machine_yaml("small", fakes.sidecar(gpu_body(0, used_gb=1)), embedding, (OTHER,)),
            "bare": machine_yaml("bare", fakes.sidecar(), None),
        }


def serve(folder: Path, fleet: dict[str, str], **settings: str) -> RunningServer:
    server = RunningServer(folder, **settings)
    for name, text in fleet.items():
        server.write(f"{name}.yaml", text)
    return server


@pytest.fixture(scope="package")
def open_server(tmp_path_factory: pytest.TempPathFactory, fleet: dict[str, str]) -> Iterator[RunningServer]:
    """A server with AUTH_MODE=off."""
    with serve(tmp_path_factory.mktemp("open"), fleet) as server:
        wait_until(lambda: server.get("/api/route", params={"model": MODEL}).ok)
        wait_until(lambda: {one["status"] for one in server.fleet().values()} == {"online"})
        yield server


@pytest.fixture(scope="package")
def signed(tmp_path_factory: pytest.TempPathFactory, fleet: dict[str, str]) -> Iterator[dict[str, Entrance]]:
    """Ways into a server that enforces, by agent: `reader` may not take leases, "" does not sign."""
    folder = tmp_path_factory.mktemp("signed")
    agents = Agents(folder)
    settings = {"AUTH_MODE": "enforce", "AUTH_KEYS_DIR": str(agents.public), "AUTH_WRITERS": "writer,other"}
    with serve(folder, fleet, **settings) as server:
        entrances = {
            name: Entrance(server.url, agent=agents.add(name)) for name in ("writer", "other", "reader")
        }
        wait_until(lambda: not entrances["reader"].call("pick_machine", model=MODEL).is_error)
        yield entrances | {"": Entrance(server.url)}
