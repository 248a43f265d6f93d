"""Many fake hosts in one process: each has an address of its own with a sidecar and an Ollama.

`python -m bench.fleet COUNT SIDECAR_PORT OLLAMA_PORT` says `ready` and ends when its standard input does.
"""

import asyncio
import json
import random
import resource
import sys
from collections.abc import Iterable
from functools import partial

import click

GIB = 2**30
VARIANTS = 16
"""Different answers of each kind, so that values change as those of real hosts do."""
SERIES = 18


def address(number: int) -> str:
    """The loopback address of a host."""
    return f"127.1.{number // 250}.{1 + number % 250}"


def machine_file(number: int, sidecar_port: int, ollama_port: int) -> str:
    """The file that declares a host; JSON is YAML."""
    network = {"hostname": address(number), "port": ollama_port, "sidecar_port": sidecar_port}
    machine = {"name": f"host{number}", "role": "bench", "hardware": {"gpu": [{"vram_gb": 24}] * 2}}
    return json.dumps(machine | {"network": network, "models": ["llama3.1:70b", "phi3:mini"]})


def prometheus_config(count: int, ports: Iterable[int], interval_s: int, timeout_s: int) -> str:
    """A Prometheus that scrapes both endpoints of every host; JSON is YAML."""
    targets = [f"{address(number)}:{port}" for number in range(count) for port in ports]
    jobs = [{"job_name": "hosts", "static_configs": [{"targets": targets}]}]
    times = {"scrape_interval": f"{interval_s}s", "scrape_timeout": f"{timeout_s}s"}
    return json.dumps({"global": times, "scrape_configs": jobs})


def _sidecar(chance: random.Random) -> bytes:
    gpus = []
    for index in range(2):
        used = chance.randrange(24 * GIB)
        gpus.append(
            {
                "index": index,
                "uuid": f"GPU-{index}",
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
    body = {
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
        "disk_used_bytes": chance.randrange(8000 * GIB),
        "uptime_s": 12345,
        "gpu": gpus,
        "gpu_unreadable": [],
    }
    return _http(json.dumps(body).encode(), "application/json")


def _ollama(chance: random.Random) -> bytes:
    model = {
        "name": "llama3.1:70b",
        "model": "llama3.1:70b",
        "size": 40 * GIB,
        "digest": "a" * 64,
        "expires_at": f"2318-12-04T10:11:{chance.randrange(60):02d}.123456789Z",
        "size_vram": 40 * GIB,
        "context_length": 8192,
    }
    return _http(json.dumps({"models": [model]}).encode(), "application/json")


def _text(chance: random.Random) -> bytes:
    lines = [f"# TYPE bench_metric_{number} gauge\nbench_metric_{number} {chance.uniform(0, 1e6):.3f}\n"
             for number in range(SERIES)]  # fmt: skip
    return _http("".join(lines).encode(), "text/plain; version=0.0.4")


def _http(body: bytes, kind: str) -> bytes:
    return f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


class _Endpoint(asyncio.Protocol):
    """Answers one connection: JSON to those who want the sidecar's or Ollama's, else Prometheus's text."""

    def __init__(self, json_answers: list[bytes], text_answers: list[bytes]) -> None:
        self._json, self._text = json_answers, text_answers
        self._received = b""
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._received += data
        if self._received.endswith(b"\r\n\r\n"):
            wants_json = self._received.startswith(b"GET /api/ps") or b"application/json" in self._received
            self._received = b""
            self._transport.write(random.choice(self._json if wants_json else self._text))


async def _serve(count: int, sidecar_port: int, ollama_port: int) -> None:
    chance = random.Random(1)
    text = [_text(chance) for _ in range(VARIANTS)]
    loop = asyncio.get_running_loop()
    for port, make in ((sidecar_port, _sidecar), (ollama_port, _ollama)):
        answers = [make(chance) for _ in range(VARIANTS)]
        for number in range(count):
            await loop.create_server(partial(_Endpoint, answers, text), address(number), port)
    click.echo("ready")
    await loop.run_in_executor(None, sys.stdin.read)


@click.command()
@click.argument("count", type=int)
@click.argument("sidecar_port", type=int)
@click.argument("ollama_port", type=int)
def main(count: int, sidecar_port: int, ollama_port: int) -> None:
    """Be COUNT hosts."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    asyncio.run(_serve(count, sidecar_port, ollama_port))


if __name__ == "__main__":
    main()
