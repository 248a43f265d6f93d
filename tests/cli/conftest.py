"""A running server with a fleet that has every kind of fault, for tests that only read."""

from collections.abc import Iterator

import pytest

from tests.bodies import gpu_body, http, tags_body
from tests.fakes import FakeFleet, machine_yaml, wait_until
from tests.running import RunningServer, wait_for_status

LLAMA, LONG = "llama3.1:70b", "nogpu-with-a-very-long-name"


@pytest.fixture(scope="session")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """Machines that are online, offline, and online without an Ollama; one has much that is not ASCII."""
    with FakeFleet() as fakes, RunningServer(tmp_path_factory.mktemp("fleet")) as server:
        gone = fakes.ollama()
        gone.stop()
        ollama = fakes.ollama(LLAMA, "nomic-embed-text:latest")
        ollama.answers["/api/tags"] = http(
            tags_body((LLAMA, "1" * 64, 40 * 2**30), ("qwen2.5:7b", "2" * 64, 4 * 2**30))
        )
        gpus = gpu_body(0, used_gb=3), gpu_body(1, used_gb=20, total_gb=48, model="大きいGPU")
        text = machine_yaml("workstation", fakes.sidecar(*gpus), ollama, (LLAMA, "qwen2.5:7b"))
        server.write("workstation.yaml", text.replace('"role": "', '"tags": ["大", "fast"], "role": "Büro '))
        server.write(
            f"{LONG}.yaml", machine_yaml(LONG, fakes.sidecar(address="127.0.0.3"), gone, ("phi3:mini",))
        )
        server.write("attic.yaml", machine_yaml("attic", gone, gone, ("phi3:mini",)))
        server.write("broken.yaml", "name: broken\nrole: [x\n")
        wait_for_status(server, "workstation", "online")
        wait_for_status(server, LONG, "online")
        wait_for_status(server, "attic", "offline")
        wait_until(
            lambda: any(
                one["on_disk"] and one["loaded"] for one in server.get("/api/models").json()["models"]
            )
        )
        wait_until(
            lambda: server.get("/api/machines/workstation/history?metric=cpu_percent").json()["series"][0][
                "points"
            ]
        )
        reserved = {"model": LLAMA, "ttl_s": 3600, "holder": "night watch", "min_free_vram_gb": 2}
        assert server.post("/api/leases", reserved).status_code == 201
        yield server


def knows_disk(server: RunningServer) -> bool:
    """Whether the server has asked a machine what is on its disk, and what is loaded."""
    models = server.get("/api/models").json()["models"]
    return any(one["on_disk"] and one["loaded"] for one in models)
