"""A running server and the fake hosts it polls, by name."""

import json
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.bodies import http, tags_body
from tests.fakes import FakeEndpoint, FakeFleet, wait_until
from tests.replay.masks import Masks
from tests.running import RunningServer

SETTLED_S = 60.0


def listen(fakes: FakeFleet, address: str, taken: set[int]) -> FakeEndpoint:
    """An endpoint on a port that none is on, on no address: answers are masked by their ports."""
    while (endpoint := fakes.listen(http(b""), address)).port in taken:
        endpoint.stop()
    taken.add(endpoint.port)
    return endpoint


class Scene:
    """The server, its hosts by name, and what of its answers is masked."""

    def __init__(self, server: RunningServer, fakes: FakeFleet) -> None:
        self.server, self._fakes = server, fakes
        self.masks = Masks(has_new_events=True)
        self.sidecars: dict[str, FakeEndpoint] = {}
        self.ollamas: dict[str, FakeEndpoint] = {}
        self._ports: set[int] = set()
        self.masks.name(str(server.machines), "folder of the files")
        self.masks.name(server.url.removeprefix("http://"), "server")

    def host(
        self,
        name: str,
        sidecar: bytes | None,
        ollama: bytes | None,
        *,
        on_disk: bytes | None = None,
        network: dict[str, Any] | None = None,
        **declared: Any,
    ) -> None:
        """A machine, whose endpoints send those bodies; None is a port that refuses connections."""
        number = len(self.sidecars) + 1
        ports = {}
        for what, known, answer in (("sidecar", self.sidecars, sidecar), ("ollama", self.ollamas, ollama)):
            endpoint = listen(self._fakes, f"127.8.0.{number}", self._ports)
            endpoint.answer = http(answer or b"")
            known[name] = endpoint
            ports[what] = endpoint.port
            self.masks.name_port(endpoint.port, f"{what} of {name}")
            if answer is None:
                endpoint.stop()
        self.ollamas[name].answers["/api/tags"] = http(on_disk or tags_body())
        where = {"hostname": f"127.8.0.{number}", "port": ports["ollama"], "sidecar_port": ports["sidecar"]}
        file = {"name": name, "role": "gpu-host", "hardware": {}, "network": where | (network or {})}
        self.declare(name, file | {"models": []} | declared)

    def declare(self, name: str, file: dict[str, Any]) -> None:
        """Write the file of a machine."""
        self.server.write(f"{name}.yaml", json.dumps(file, ensure_ascii=False, indent=1))

    def declared(self, name: str) -> dict[str, Any]:
        """What its file says."""
        found: dict[str, Any] = json.loads((self.server.machines / f"{name}.yaml").read_text())
        return found

    def statuses(self) -> dict[str, str]:
        """What is said of each machine now."""
        return {name: machine["status"] for name, machine in self.server.fleet().items()}

    def wait_for(self, **expected: str) -> None:
        """Wait until those machines have those statuses."""
        wait_until(lambda: expected.items() <= self.statuses().items(), SETTLED_S)

    def wait_for_events(self, machine: str, *types: str) -> None:
        """Wait until those are the latest events of a machine, newest first."""

        def latest() -> tuple[str, ...]:
            events = self.server.get(f"/api/events?machine={machine}&limit={len(types)}").json()
            return tuple(event["type"] for event in events.get("events", ()))

        wait_until(lambda: latest() == types, SETTLED_S)

    @contextmanager
    def frozen_poller(self) -> Iterator[None]:
        """Meanwhile nobody polls."""
        poller = self.server.poller_pid()
        os.kill(poller, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(poller, signal.SIGCONT)
