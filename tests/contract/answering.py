"""A server that has seen hosts of every kind come, change and go, so that its answers show everything."""

import json
from dataclasses import dataclass
from typing import Any

import requests

from machines_server.core.past.events import EVENT_TYPES
from tests.bodies import gpu_body, http, ollama_body, sidecar_body
from tests.fakes import FakeFleet, machine_yaml, wait_until
from tests.openapi.description import DESCRIPTION
from tests.running import RunningServer, wait_for_status

MODEL = "llama3.1:70b"
OWN_KEYS = {"rack": {"row": 3}, "note": "Łódź"}
BROKEN_FILE = "name: [\n"


@dataclass
class World:
    """A server that has seen hosts of every kind come, change and go."""

    server: RunningServer
    files: dict[str, dict[str, Any]]

    def get(self, path: str, status: int = 200, **headers: str) -> bytes:
        return self.send("GET", path, status, headers=headers)

    def send(self, method: str, path: str, status: int, **options: Any) -> bytes:
        response = requests.request(method, self.server.url + path, timeout=10, **options)
        assert response.status_code == status, response.text
        DESCRIPTION.check(method, path, response)
        return response.content

    def types_of_events(self) -> set[str]:
        return {one["type"] for one in json.loads(self.get("/api/events?limit=1000"))["events"]}

    def write(self, name: str, text: str, **keys: Any) -> None:
        self.files[name] = json.loads(text) | keys
        self.server.write(f"{name}.yaml", json.dumps(self.files[name]))


def live_through(world: World, fakes: FakeFleet) -> None:
    """Everything that an answer can show happens once."""
    full, busy = fakes.listen(b""), fakes.ollama(MODEL, "phi3:mini")
    cards = gpu_body(0, used_gb=20), gpu_body(1, used_gb=1, power_w=None, model=None)
    unreadable = [{"index": 2, "uuid": None, "reason": "NVML: GPU is lost"}]
    full.answer = http(sidecar_body(*cards, gpu_unreadable=unreadable))
    world.write("full", machine_yaml("full", full, busy, (MODEL, "qwen2.5:7b")), **OWN_KEYS)
    world.write("without_gpu", machine_yaml("without_gpu", fakes.sidecar(), None))
    world.write("without_sidecar", machine_yaml("without_sidecar", None, fakes.ollama()))
    dying = fakes.sidecar(), fakes.ollama()
    world.write("dying", machine_yaml("dying", *dying))
    other = fakes.listen(http(sidecar_body(gpu_body(0, used_gb=1, uuid="GPU-a"))))
    world.write("other", machine_yaml("other", other, None))
    world.write("removed", machine_yaml("removed", fakes.sidecar(), None))
    web = fakes.listen(http(b"<html>"))
    services = [{"name": "web", "port": web.port, "owner": "me"}, {"name": "gone", "port": 1, "path": "/x"}]
    world.write("serving", machine_yaml("serving", fakes.sidecar(), None), services=services)
    for name in world.files:
        wait_for_status(world.server, name, "online")
    wait_until(lambda: world.server.fleet()["full"]["loaded_models"])
    wait_until(lambda: "model_loaded" in world.types_of_events())
    busy.answer = http(ollama_body(MODEL, size_vram=2**30, expires_at="2126-01-01T00:00:00Z"))
    full.answer = http(sidecar_body(*cards, gpu_unreadable=unreadable, uptime_s=3))
    other.answer = http(sidecar_body(gpu_body(0, used_gb=1, uuid="GPU-b"), hostname="another"))
    dying[0].stop()
    wait_for_status(world.server, "dying", "degraded")
    dying[1].stop()
    wait_for_status(world.server, "dying", "offline")
    world.write("full", json.dumps(world.files["full"]), tags=["new"])
    (world.server.machines / "removed.yaml").unlink()
    del world.files["removed"]
    (world.server.machines / "broken.yaml").write_text(BROKEN_FILE)
    wait_until(lambda: world.types_of_events() >= {*EVENT_TYPES} - {"unknown"})
