"""The HTTP responses of fake hosts, built in advance so that sending them costs little."""

import json
import random
from datetime import UTC, datetime
from email.utils import formatdate
from functools import cache, lru_cache
from typing import Any

from bench.scripts import MODEL, OTHER_MODEL
from machines_server.core.sample import GIB

VARIANTS = 16
"""How many different responses of each kind there are, so that values change as on real hosts."""
SERIES = 18
MODEL_BYTES = {MODEL: 40 * GIB, OTHER_MODEL: 3 * GIB}
LEAVES_IN_S = 3600
"""How long a model stays in memory on a host whose clock is wrong, in seconds."""
DIGESTS = {MODEL: "a" * 64, OTHER_MODEL: "b" * 64}


def address(number: int) -> str:
    """The loopback address of a host."""
    return f"127.1.{number // 250}.{1 + number % 250}"


def machine_file(number: int, sidecar_port: int, ollama_port: int) -> str:
    """The file that declares a host; JSON is YAML."""
    network = {"hostname": address(number), "port": ollama_port, "sidecar_port": sidecar_port}
    machine = {"name": f"host{number}", "role": "bench", "hardware": {"gpu": [{"vram_gb": 24}] * 2}}
    return json.dumps(machine | {"network": network, "models": [MODEL, OTHER_MODEL]})


ANY_HOST = b"GPU-000000"
"""The beginning of a GPU's UUID, which a host replaces with its own number."""


@cache
def sidecar_answers() -> list[bytes]:
    """Responses of a sidecar with two GPUs."""
    return [_http(_sidecar(random.Random(number)), "application/json") for number in range(VARIANTS)]


@lru_cache(maxsize=256)
def ollama_answer(models: tuple[str, ...], clock_ahead_s: float, now_s: int) -> bytes:
    """The response of an Ollama that holds `models`; its Date header and expiry times show a wrong clock."""
    leaves_at = datetime.fromtimestamp(now_s + clock_ahead_s + LEAVES_IN_S, UTC).isoformat()
    listed = [
        {
            "name": model,
            "model": model,
            "size": MODEL_BYTES[model],
            "digest": DIGESTS[model],
            "expires_at": leaves_at if clock_ahead_s else "2318-12-04T10:11:12.123456789Z",
            "size_vram": MODEL_BYTES[model],
            "context_length": 8192,
        }
        for model in models
    ]
    date = formatdate(now_s + clock_ahead_s, usegmt=True) if clock_ahead_s else None
    return _http({"models": listed}, "application/json", date)


@cache
def tags_answer() -> bytes:
    """The response of an Ollama that lists the models on its disk."""
    listed = [
        {"name": model, "model": model, "size": size, "digest": DIGESTS[model]}
        for model, size in MODEL_BYTES.items()
    ]
    return _http({"models": listed}, "application/json")


@cache
def text_answers() -> list[bytes]:
    """What Prometheus and VictoriaMetrics scrape: as many series as our two responses have values."""
    chance = random.Random(1)
    return [
        _http(
            "".join(
                f"# TYPE bench_metric_{number} gauge\nbench_metric_{number} {chance.uniform(0, 1e6):.3f}\n"
                for number in range(SERIES)
            ),
            "text/plain; version=0.0.4",
        )
        for _ in range(VARIANTS)
    ]


def _sidecar(chance: random.Random) -> dict[str, Any]:
    gpus = []
    for index in range(2):
        used = chance.randrange(24 * GIB)
        gpus.append(
            {
                "index": index,
                "uuid": f"{ANY_HOST.decode()}-{index}",
                "model": "24GB consumer GPU",
                "memory_kind": "dedicated",
                "vram_total_bytes": 24 * GIB,
                "vram_used_bytes": used,
                "vram_free_bytes": 24 * GIB - used,
                "utilisation": chance.randrange(101),
                "temperature_c": chance.randrange(40, 80),
                "power_w": round(chance.uniform(30, 400), 1),
            }
        )
    used = chance.randrange(128 * GIB)
    disk = chance.randrange(8000 * GIB)
    return {
        "version": 1,
        "hostname": "host",
        "sampled_at": "2026-11-23T17:00:00.123Z",
        "window_s": 1.0,
        "cpu_percent": round(chance.uniform(0, 100), 1),
        "load_avg": [round(chance.uniform(0, 32), 2) for _ in range(3)],
        "cpu_count": 32,
        "ram_total_bytes": 128 * GIB,
        "ram_used_bytes": used,
        "ram_available_bytes": 128 * GIB - used,
        "disk_total_bytes": 8000 * GIB,
        "disk_used_bytes": disk,
        "disk_available_bytes": 8000 * GIB - disk,
        "uptime_s": 12345,
        "gpu": gpus,
        "gpu_unreadable": [],
    }


def _http(body: str | dict[str, Any], kind: str, date: str | None = None) -> bytes:
    content = (body if isinstance(body, str) else json.dumps(body)).encode()
    head = f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {len(content)}\r\n"
    return (head + (f"Date: {date}\r\n" if date else "") + "\r\n").encode() + content
