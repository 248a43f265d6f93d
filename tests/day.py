"""A server and hosts that answer as told, and what the server then advises."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

from tests.bodies import GIB, gpu_body, http, sha, sidecar_body, tags_body
from tests.fakes import FakeFleet, wait_until
from tests.running import RunningServer

LLAMA, QWEN = "llama3.1:70b", "qwen2.5:32b"
Story = list[tuple[str, str]]


class Host:
    """One machine of the fleet, told what to say."""

    def __init__(self, day: "Day", name: str, used_gb: list[float] | None, **declared: Any) -> None:
        self.day, self.name = day, name
        self.sidecar = day.fakes.sidecar()
        self.ollama = day.fakes.ollama()
        self.ollama.answers["/api/tags"] = http(tags_body())
        if used_gb is not None:
            self.uses(*used_gb)
        network = {"hostname": "127.0.0.1", "port": self.ollama.port, "sidecar_port": self.sidecar.port}
        self.declared = {
            "name": name,
            "role": "test",
            "hardware": {},
            "models": [],
            "network": network,
        } | declared
        self.declare()

    def declare(self, **changes: Any) -> None:
        """Write the machine's file."""
        self.declared |= changes
        self.day.server.write(f"{self.name}.yaml", json.dumps(self.declared))

    def uses(self, *used_gb: float) -> None:
        """So much VRAM is used on each GPU of 24 GiB."""
        gpus = (gpu_body(index, used_gb=gb, uuid=f"{self.name}-{index}") for index, gb in enumerate(used_gb))
        self.sidecar.answer = http(sidecar_body(*gpus))

    def holds(self, *models: dict[str, Any]) -> None:
        """What Ollama lists from now on."""
        self.ollama.answer = http(json.dumps({"models": models}).encode())

    def stores(self, *models: tuple[str, str, int]) -> None:
        """What is on its disk."""
        self.ollama.answers["/api/tags"] = http(tags_body(*models))


def loaded(
    name: str = LLAMA, *, gb: float = 20, on_gpu: float = 1.0, leaves_in_s: float = 3600, **more: Any
) -> dict[str, Any]:
    """A model as /api/ps lists it."""
    leaves = datetime.now(UTC) + timedelta(seconds=leaves_in_s)
    values = {"name": name, "model": name, "digest": sha(name), "size": round(gb * GIB)}
    values |= {
        "size_vram": round(gb * on_gpu * GIB),
        "context_length": 8192,
        "expires_at": leaves.isoformat(),
    }
    return values | more


class Day:
    """A server, its hosts, and what it advises."""

    def __init__(self, server: RunningServer, fakes: FakeFleet) -> None:
        self.server, self.fakes = server, fakes

    def asked(self, model: str = LLAMA, **question: Any) -> dict[str, Any]:
        """The answer now, by machine: `best`, then the warmth, or the code, of each."""
        body = self.server.get("/api/route", params={"model": model} | question).json()
        self.body: dict[str, Any] = body
        found = {one["name"]: one["code"] for one in body["rejected"]}
        found |= {one["name"]: one["warmth"] for one in body.get("candidates", ())}
        return {"best": body.get("machine")} | found

    def becomes(self, expected: dict[str, Any], model: str = LLAMA, **question: Any) -> dict[str, Any]:
        """Wait until that is the answer, and give it whole."""
        try:
            wait_until(lambda: self.asked(model, **question) == expected)
        except AssertionError:
            raise AssertionError(f"not {expected} but {self.asked(model, **question)}: {self.body}") from None
        return self.body

    def is_polled_since(self, name: str, moment: str) -> None:
        """Wait until a whole poll of a machine has begun after that moment."""
        seen: set[str] = set()

        def is_polled() -> bool:
            seen.add(self.server.fleet()[name]["sampled_at"])
            return sum(at > moment for at in seen) > 1

        wait_until(is_polled)

    def reason(self, name: str) -> str:
        """Why the last answer put that machine where it is."""
        everyone = [*self.body.get("candidates", ()), *self.body["rejected"]]
        found: str = next(one["reason"] for one in everyone if one["name"] == name)
        return found

    def story(self) -> Story:
        """All events, oldest first."""
        events = self.server.get("/api/events", params={"limit": 500}).json()["events"]
        return [(one["machine"], one["type"]) for one in reversed(events)]
