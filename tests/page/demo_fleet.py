"""A fleet with something of everything that the page can show, as fake hosts, for tests and screenshots."""

import json
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Protocol

from bench.fill import DEFAULT_RETENTION, Host
from machines_server.core.machine import Machine, Registry
from machines_server.core.sample import Cycle, Sample
from machines_server.store.sqlite.connection import open_writer
from machines_server.store.sqlite.migrate import migrate
from machines_server.store.sqlite.telemetry.rollups import Rollups
from machines_server.store.sqlite.telemetry.samples import SampleWriter
from tests.bodies import GIB, gpu_body, http, sidecar_body
from tests.fakes import FakeEndpoint, FakeFleet
from tests.running import RunningServer, wait_for_status

MARKUP = "<img src=x onerror=alert(1)>"
LONG_NAME = "a_machine_with_a_name_of_sixty_characters_that_never_ends_at"
NAMED = ("workstation", "app-host", "render-01", "spark", "attic", "lab-gpu", LONG_NAME, "box-08")


class DemoFleet:
    """Declares machines at a running server, and knows their endpoints by name."""

    def __init__(self, server: RunningServer, fakes: FakeFleet) -> None:
        self._server, self._fakes = server, fakes
        self.sidecars: dict[str, FakeEndpoint] = {}
        self.ollamas: dict[str, FakeEndpoint] = {}

    def declare(self, count: int, *, wait: bool = True) -> None:
        """Put `count` machines in; those after the first eight are like one of them."""
        for number in range(count):
            name = NAMED[number] if number < len(NAMED) else f"node-{number:03d}"
            self._declare(name, number % len(NAMED), number)
        if not wait:
            return
        for name in self.sidecars:
            wait_for_status(self._server, name, "online", 30)
        if "attic" in self.sidecars:
            self.sidecars["attic"].stop()
            self.ollamas["attic"].stop()
            wait_for_status(self._server, "attic", "offline")
        if "lab-gpu" in self.sidecars:
            self.sidecars["lab-gpu"].stop()
            wait_for_status(self._server, "lab-gpu", "degraded")

    def _declare(self, name: str, kind: int, number: int) -> None:
        told, models, more = _KINDS[kind](number)
        sidecar = json.loads(told)
        for gpu, uuid in zip(sidecar["gpu"], Host(name).gpus, strict=False):  # those of its past
            gpu["uuid"] = uuid
        address = f"127.2.{number // 250}.{1 + number % 250}"
        self.sidecars[name] = self._fakes.listen(http(json.dumps(sidecar).encode()), address)
        self.ollamas[name] = self._fakes.listen(http(json.dumps({"models": models}).encode()), address)
        if name == "render-01":  # as an Ollama that listens on 127.0.0.1 alone looks from here
            self.ollamas[name].stop()
        network = {
            "hostname": address,
            "sidecar_port": self.sidecars[name].port,
            "port": self.ollamas[name].port,
        }
        declared = {"name": name, "role": "gpu-host", "hardware": {}, "network": network, "models": []} | more
        self._server.write(f"{name}.yaml", json.dumps(declared))


def give_past(database: Path, names: tuple[str, ...], hours: float, interval_s: int = 30) -> None:
    """Fill a database with the hours up to now, before a server is started on it."""
    write_past(database, [Host(name) for name in names], hours, interval_s)


class PastHost(Protocol):
    """A host whose past can be written."""

    def machine(self) -> Machine:
        """The host as a machine file declares it."""

    def sample(self, at: float) -> Sample:
        """The sample of the cycle that begins at `at`."""


def write_past(database: Path, hosts: Sequence[PastHost], hours: float, interval_s: int = 30) -> None:
    """As `give_past`, with hosts of the caller's."""
    migrate(database)
    connection = open_writer(database)
    rollups = Rollups(connection, DEFAULT_RETENTION)
    writer = SampleWriter(connection, 3 * interval_s, rollups)
    now = int(time.time())
    writer.write([Registry(tuple(host.machine() for host in hosts), loaded_at=now - hours * 3600)])
    for at in range(now - round(hours * 3600), now - interval_s, interval_s):
        samples = [host.sample(at) for host in hosts]
        writer.write([*samples, Cycle(at, at + 1, interval_s, 2)])
    writer.write([result for sample in samples for result in sample.results.values()])
    while rollups.step(now, 1):
        pass
    connection.close()


def _model(
    name: str, size_gb: float, vram_gb: float, leaves_in_s: float | None = None, context: int = 8192
) -> dict[str, Any]:
    at = datetime.now(UTC) + timedelta(seconds=leaves_in_s) if leaves_in_s else None
    return {
        "name": name,
        "model": name,
        "size": round(size_gb * GIB),
        "size_vram": round(vram_gb * GIB),
        "digest": f"{sum(name.encode()):064x}",
        "context_length": context,
        "expires_at": at.isoformat() if at else "2318-12-04T10:11:12Z",
    }


_Kind = Callable[[int], tuple[bytes, list[dict[str, Any]], dict[str, Any]]]


def _workstation(_: int) -> tuple[bytes, list[dict[str, Any]], dict[str, Any]]:
    gpus = gpu_body(0, used_gb=18.2), gpu_body(1, used_gb=0.5, utilisation=0, power_w=24, temperature_c=38)
    models = [_model("llama3.1:70b", 42, 38), _model("nomic-embed-text", 0.6, 0.6, 3600)]
    more = {"models": ["llama3.1:70b", "qwen2.5:32b", "nomic-embed-text"], "tags": ["primary", "gpu"]}
    return sidecar_body(*gpus), models, more


def _cpu_only(_: int) -> tuple[bytes, list[dict[str, Any]], dict[str, Any]]:
    ram = {"ram_total_bytes": 64 * GIB, "ram_used_bytes": 12 * GIB, "ram_available_bytes": 52 * GIB}
    body = sidecar_body(cpu_percent=4.0, **ram)
    more = {
        "role": "cpu-host",
        "models": ["phi3:mini", "qwen2.5:3b"],
        "tags": ["secondary", "cpu", "łódź", "東京"],
    }
    return body, [_model("phi3:mini", 3.8, 0, 240)], more


def _render(_: int) -> tuple[bytes, list[dict[str, Any]], dict[str, Any]]:
    gpus = gpu_body(0, used_gb=0, total_gb=48, utilisation=None, power_w=None)
    full = {"disk_total_bytes": 100 * GIB, "disk_used_bytes": 92 * GIB, "disk_available_bytes": 3 * GIB}
    return sidecar_body(gpus, **full), [], {"models": ["llama3.1:70b"], "tags": ["edge"]}


def _spark(_: int) -> tuple[bytes, list[dict[str, Any]], dict[str, Any]]:
    gpu = gpu_body(0, used_gb=60, total_gb=119, memory_kind="unified", model="GB10")
    return (
        sidecar_body(gpu, cpu_percent=71),
        [_model("gpt-oss:120b", 60, 60)],
        {"models": ["gpt-oss:120b"], "role": "Rechenknecht"},
    )


def _attic(_: int) -> tuple[bytes, list[dict[str, Any]], dict[str, Any]]:
    return (
        sidecar_body(gpu_body(0, used_gb=3, total_gb=12)),
        [_model("qwen2.5:7b", 6, 6)],
        {"models": ["qwen2.5:7b"]},
    )


def _lab(_: int) -> tuple[bytes, list[dict[str, Any]], dict[str, Any]]:
    return (
        sidecar_body(gpu_body(0, used_gb=9, total_gb=16)),
        [_model("qwen2.5:7b", 6, 6, 90)],
        {"models": ["qwen2.5:7b"], "tags": ["lab"]},
    )


def _hostile(_: int) -> tuple[bytes, list[dict[str, Any]], dict[str, Any]]:
    gpu = gpu_body(0, used_gb=1, model=MARKUP)
    return sidecar_body(gpu), [_model(MARKUP, 1, 1)], {"role": MARKUP, "tags": [MARKUP], "models": [MARKUP]}


def _broken(number: int) -> tuple[bytes, list[dict[str, Any]], dict[str, Any]]:
    unreadable = [{"index": 1, "uuid": "GPU-x", "reason": "NVML: GPU is lost"}]
    body = sidecar_body(
        gpu_body(0, used_gb=number % 24, utilisation=number % 100),
        gpu_unreadable=unreadable,
        cpu_percent=number % 100,
    )
    return body, [_model("llama3.1:8b", 6, 6)], {"models": ["llama3.1:8b"]}


_KINDS: tuple[_Kind, ...] = (_workstation, _cpu_only, _render, _spark, _attic, _lab, _hostile, _broken)
