"""The fleet whose answers are recorded: machines in every state, for every reason of routing advice."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.bodies import GIB, gpu_body, http, ollama_body, sha, sidecar_body, tags_body
from tests.fakes import FakeFleet, wait_until
from tests.replay.machine_files import BROKEN, ODD
from tests.replay.scene import SETTLED_S, Scene
from tests.running import RunningServer

LLAMA, QWEN, PHI, CLOUD = "llama3.1:70b", "qwen2.5:32b", "phi3:mini", "gpt-oss:120b-cloud"
SETTINGS = {
    "MACHINES_POLL_INTERVAL_S": "2",
    "MACHINES_POLL_TIMEOUT_S": "1.5",
    "MACHINES_ALLOWED_HOSTS": "listed.example.com,.example.org",
    "MACHINES_TRUSTED_PROXIES": "127.0.0.7",
    "MACHINES_LOG_LEVEL": "warning",
}
STATUSES = {
    "alpha": "online",
    "bravo": "online",
    "charlie": "online",
    "delta": "degraded",
    "echo": "offline",
    "foxtrot": "online",
    "golf": "online",
    "hotel": "offline",
    "india": "online",
    "juliett": "online",
    "kilo": "offline",
    "lima": "online",
    "mike": "online",
    "november": "online",
    "oscar": "online",
    "papa": "online",
    "quebec": "online",
    "romeo": "online",
    "sierra": "online",
    "tango": "offline",
    "uniform": "online",
    "odd": "offline",
    "norway": "offline",
    "twin": "offline",
}
OLLAMA_STATES = {"india": "busy", "juliett": "error", "kilo": "error", "echo": "unreachable"}
ON_DISK = {"alpha", "bravo", "lima", "mike", "november", "oscar", "papa"}
LOADED = {
    *("alpha", "bravo", "charlie", "delta", "golf", "november", "papa", "quebec", "sierra"),
    "uniform",
}
_DISK = {"disk_total_bytes": 500 * GIB, "disk_used_bytes": 450 * GIB, "disk_available_bytes": 25 * GIB}


@contextmanager
def running_scene(folder: Path) -> Iterator[Scene]:
    """The whole fleet, polled, and its server."""
    with FakeFleet() as fakes:
        server = RunningServer(folder, **SETTINGS)
        scene = Scene(server, fakes)
        _declare_holders(scene)
        _declare_failures(scene)
        _declare_cold(scene)
        _declare_odd(scene)
        for file, text in (ODD | BROKEN).items():
            (server.machines / file).write_bytes(text.encode() if isinstance(text, str) else text)
        with server:
            settle(scene)
            yield scene


def settle(scene: Scene) -> None:
    """Wait until all that the hosts say has been heard."""
    wait_until(lambda: scene.statuses() == STATUSES, SETTLED_S)
    wait_until(lambda: _is_heard(scene), SETTLED_S)


def _is_heard(scene: Scene) -> bool:
    states = {name: machine["ollama"]["state"] for name, machine in scene.server.fleet().items()}
    if any(states[name] != state for name, state in OLLAMA_STATES.items()):
        return False
    models = scene.server.get("/api/models").json()["models"]
    on_disk = {name for model in models for name in model["on_disk"]}
    loaded = {name for model in models for name in model["loaded"]}
    return on_disk == ON_DISK and loaded == LOADED


def _models(*models: dict[str, Any]) -> bytes:
    return json.dumps({"models": [*models]}).encode()


def _model(name: str, gb: float = 4, *, on_gpu: float = 1.0, **more: Any) -> dict[str, Any]:
    size = round(gb * GIB)
    values = {"name": name, "model": name, "digest": sha(name), "size": size}
    values |= {
        "size_vram": round(size * on_gpu),
        "context_length": 8192,
        "expires_at": "2318-12-04T10:11:12Z",
    }
    return values | more


def _gpus(name: str, *used_gb: float, **changes: Any) -> list[dict[str, Any]]:
    return [
        gpu_body(index, used_gb=gb, uuid=f"GPU-{name}-{index}", **changes) for index, gb in enumerate(used_gb)
    ]


def _declare_holders(scene: Scene) -> None:
    scene.host(
        "alpha",
        sidecar_body(*_gpus("alpha", 18.25, 0.5)),
        _models(_model(LLAMA, 40), _model("nomic-embed-text:latest", 0.5)),
        on_disk=tags_body(
            (LLAMA, sha(LLAMA), 40 * GIB), ("nomic-embed-text:latest", sha("nomic-embed-text:latest"), GIB)
        ),
        models=[LLAMA, "nomic-embed-text", QWEN],
        hardware={"gpu": [{"model": "24GB consumer GPU", "vram_gb": 24}, {"vram_gb": 24}], "ram_gb": 128},
        tags=["primary", "gpu"],
        site="warsaw",
        contact={"owner": "ops", "on_call": [{"name": "A"}, {"name": "B", "phone": None}]},
    )
    scene.host(
        "bravo",
        sidecar_body(*_gpus("bravo", 14), cpu_percent=71, load_avg=[9, 8.5, 8]),
        _models(_model(LLAMA, 40, on_gpu=0.5, context_length=2048)),
        on_disk=tags_body((LLAMA, sha(LLAMA), 40 * GIB), (PHI, sha(PHI), 2 * GIB)),
        models=[LLAMA, PHI],
        tags=["gpu"],
        site="krakow",
        hardware={"gpu": [{"vram_gb": 24}]},
    )
    scene.host(
        "charlie",
        sidecar_body(ram_total_bytes=16 * GIB, ram_used_bytes=12 * GIB, ram_available_bytes=4 * GIB),
        _models(_model(PHI, 3.5, on_gpu=0)),
        role="cpu-host",
        models=[PHI],
        tags=["cpu", "łódź", "東京"],
    )
    scene.host(
        "golf", b"", _models(_model("qwen2.5:7b", 6)), network={"sidecar": False}, models=["qwen2.5:7b"]
    )
    scene.host(
        "sierra",
        sidecar_body(*_gpus("sierra", 10)),
        _models(_model("mixtral:8x7b", 8, expires_at="2020-01-01T00:00:00Z")),
    )
    scene.host(
        "uniform",
        sidecar_body(*_gpus("uniform", 2)),
        _models({"name": CLOUD, "model": CLOUD, "size": 0, "digest": sha(CLOUD), "size_vram": 0}),
        on_disk=json.dumps(
            {
                "models": [
                    {"name": CLOUD, "model": CLOUD, "size": 384, "digest": sha(CLOUD)}
                    | {"remote_host": "https://ollama.com:443", "remote_model": "gpt-oss:120b"}
                ]
            }
        ).encode(),
        models=[CLOUD],
    )


def _declare_failures(scene: Scene) -> None:
    scene.host("delta", None, ollama_body(LLAMA), models=[LLAMA], tags=["gpu"])
    scene.host("echo", None, None, models=[LLAMA])
    scene.host("foxtrot", sidecar_body(**_DISK), b"", network={"ollama": False}, role="storage")
    scene.host("hotel", b"", b"", network={"ollama": False, "sidecar": False})
    scene.host("india", sidecar_body(*_gpus("india", 8)), b"", models=[LLAMA])
    scene.ollamas["india"].answer = None
    scene.host("juliett", sidecar_body(*_gpus("juliett", 8)), b"", models=[LLAMA])
    scene.ollamas["juliett"].answer = http(b"oops", "500 Internal Server Error")
    scene.host("kilo", b"cpu 1\n", b"<!doctype html><title>log in</title>", models=[])
    scene.host("tango", b"{}", b"{}", models=[])


def _declare_cold(scene: Scene) -> None:
    scene.host(
        "mike",
        sidecar_body(*_gpus("mike", 1, 1)),
        _models(),
        on_disk=tags_body((QWEN, sha(QWEN), 12 * GIB)),
        models=[QWEN],
        limits={"reserve_vram_gb": 4, "max_loaded_models": 1},
    )
    scene.host(
        "november",
        sidecar_body(*_gpus("november", 22)),
        _models(_model("codellama:34b", 20)),
        on_disk=tags_body((QWEN, sha(QWEN), 12 * GIB), ("codellama:34b", sha("codellama:34b"), 19 * GIB)),
    )
    gpu = gpu_body(
        0, used_gb=60, total_gb=119, uuid="GPU-lima-0", memory_kind="unified", utilisation=None, power_w=None
    )
    scene.host(
        "lima",
        sidecar_body(
            gpu,
            gpu_body(1, used_gb=1, uuid="GPU-lima-1", temperature_c=4294967295),
            gpu_unreadable=[{"index": 2, "uuid": "GPU-lima-2", "reason": "NVML: GPU is lost"}],
            cpu_percent=None,
            uptime_s=None,
        ),
        _models(),
        on_disk=tags_body(("deepseek-r1:671b", sha("deepseek"), 400 * GIB)),
        models=["deepseek-r1:671b", "not-pulled:1b"],
        network={"gpus": [0, "GPU-lima-1"]},
    )


def _declare_odd(scene: Scene) -> None:
    scene.host(
        "papa",
        sidecar_body(*_gpus("papa", 4)),
        _models(_model("mine:latest", 4, digest=sha("shared")), _model("shared:1b", 4, digest=sha("shared"))),
        on_disk=tags_body(("mine:latest", sha("shared"), 4 * GIB), ("shared:1b", sha("shared"), 4 * GIB)),
    )
    scene.host(
        "quebec",
        sidecar_body(*_gpus("papa", 4)),
        _models(_model("other:1b", 3)),
        network={"gpu": [0], "sidecar_prot": 1},
    )
    scene.host(
        "romeo",
        sidecar_body(*_gpus("romeo", 1)),
        _models(_model("<b>odd\u202e name</b>", 1)),
        status="retired",
        telemetry={"mine": 1},
        api_key="hidden",
        notes={"password": "x", "max_tokens": 4096},
        services=[{"name": "grafana", "port": 1, "path": "/login"}],
        runtimes=[{"name": "chat", "kind": "vllm", "port": 8000, "models": ["m"]}],
    )
    scene.host(
        "oscar",
        sidecar_body(),
        _models(),
        on_disk=tags_body(("deepseek-r1:671b", sha("deepseek"), 400 * GIB)),
        models=["phi3"],
        tags=["secondary"],
        site="warsaw",
    )
