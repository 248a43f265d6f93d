"""A running server that knows two machines, for tests of clients."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from machines_client import Client
from tests.bodies import gpu_body
from tests.fakes import FakeEndpoint, FakeFleet, machine_yaml, wait_until
from tests.running import RunningServer, wait_for_status

LLAMA = "llama3.1:70b"


@dataclass
class Two:
    """A server that knows two machines which hold the model: `more` has more VRAM free than `less`."""

    server: RunningServer
    client: Client
    more: FakeEndpoint
    less: FakeEndpoint


@contextmanager
def two_machines(folder: Path) -> Iterator[Two]:
    # A long interval: a host that dies stays online for the server meanwhile.
    settings = {"MACHINES_POLL_INTERVAL_S": "600", "MACHINES_POLL_TIMEOUT_S": "30"}
    server, ollamas = RunningServer(folder, **settings), dict[str, FakeEndpoint]()
    with FakeFleet() as fakes:
        for name, used in (("more", 4), ("less", 14)):
            ollamas[name] = fakes.ollama(LLAMA)
            sidecar = fakes.sidecar(gpu_body(0, used_gb=used))
            server.write(f"{name}.yaml", machine_yaml(name, sidecar, ollamas[name]))
        with server:
            for name in ollamas:
                wait_for_status(server, name, "online")
                wait_until(lambda name=name: server.fleet()[name]["loaded_models"])  # type: ignore[misc]  # bound by default
            yield Two(server, Client(server.url), **ollamas)
