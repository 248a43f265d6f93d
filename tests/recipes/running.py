"""The recipes, a fleet for them, and how they are run."""

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import requests

from tests.bodies import gpu_body
from tests.fakes import FakeFleet, wait_until
from tests.readme import ROOT
from tests.recipes.fake_ollama import FakeOllama
from tests.running import RunningServer, clean_environment

RECIPES = ROOT / "docs" / "recipes"
LLAMA, PHI = "llama3.1:70b", "phi3:mini"
NO_REASON = "The first one: it does not say why."
SCATTERED = "Because air scatters blue light more than red."


@dataclass
class Fleet:
    """`workstation` (tag gpu) has LLAMA in the memory of its GPU, `office` (tag cpu) has PHI in its RAM."""

    server: RunningServer
    workstation: FakeOllama
    office: FakeOllama

    def run(self, *words: str | Path, **environment: str) -> str:
        """Run a recipe to its end, and return its output; it must succeed and leave no lease."""
        done = subprocess.run(
            words,
            env=clean_environment(**{"MACHINES_URL": self.server.url} | environment),
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert self.holders() == []
        return done.stdout

    def holders(self) -> list[str]:
        """Who holds a lease now."""
        return [lease["holder"] for lease in self.server.get("/api/leases").json()["leases"]]

    def release(self, lease: str) -> None:
        """End a lease that a recipe leaves to its end."""
        assert requests.delete(f"{self.server.url}/api/leases/{lease}", timeout=60).ok


@contextmanager
def running_fleet(folder: Path) -> Iterator[Fleet]:
    server = RunningServer(folder)

    def holders() -> list[str]:
        return fleet.holders()

    with (
        FakeFleet() as fakes,
        FakeOllama(LLAMA, SCATTERED, holders) as workstation,
        FakeOllama(PHI, NO_REASON, holders, size_vram=0, digest="2" * 63 + "1") as office,
        server,
    ):
        fleet = Fleet(server, workstation, office)
        for name, tag, ollama, gpus in (
            ("workstation", "gpu", workstation, [gpu_body(0, used_gb=4)]),
            ("office", "cpu", office, []),
        ):
            ports = {"port": ollama.port, "sidecar_port": fakes.sidecar(*gpus).port}
            network = {"hostname": "127.0.0.1"} | ports
            file = {"name": name, "role": "test", "hardware": {}, "network": network, "models": []}
            server.write(f"{name}.yaml", json.dumps(file | {"tags": [tag]}))
        wait_until(lambda: sum(bool(one.get("loaded_models")) for one in server.fleet().values()) == 2)
        yield fleet
