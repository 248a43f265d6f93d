"""The fleet of the pictures in docs/: six believable machines with a day of history."""

import json
import math
import socket
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

from bench.fill import OLLAMA, SIDECAR, Host
from machines_server.core.machine import Machine
from machines_server.core.sample import (
    GpuSample,
    HostSample,
    LoadedModel,
    PollResult,
    RuntimeState,
    Sample,
    State,
)
from tests.bodies import GIB, http
from tests.fakes import FakeFleet
from tests.page.demo_fleet import write_past
from tests.running import RunningServer, wait_for_status

HOUR_S = 3600
BOOTED_DAYS_AGO = 23
OFFLINE_HOURS = 2.2
PAST_HOURS = 24


@dataclass(frozen=True, slots=True)
class ShownModel:
    """A model in memory for `hours`; `leaves_in_s` is None for a pinned one."""

    name: str
    size_gb: float
    on_gpus_gb: tuple[float, ...]
    hours: float
    leaves_in_s: float | None = None


@dataclass(frozen=True, slots=True)
class ShownMachine:
    """A machine of the pictures: what its file declares, and what it measures. Sizes are GiB."""

    name: str
    role: str
    tags: tuple[str, ...]
    gpus: tuple[tuple[str, int], ...]
    models: tuple[ShownModel, ...]
    others: tuple[str, ...] = ()
    ram_gb: tuple[float, int] = (31, 128)
    disk_gb: tuple[float, int] = (611, 1832)
    cpu_count: int = 32
    activity: float = 0.5
    is_unified: bool = False
    is_offline: bool = False


SHOWN = (
    ShownMachine(
        "workstation",
        "gpu-host",
        ("office", "primary"),
        (("NVIDIA GeForce RTX 4090", 24), ("NVIDIA GeForce RTX 4090", 24)),
        (
            ShownModel("llama3.1:70b", 40.9, (20.3, 20.6), 9),
            ShownModel("nomic-embed-text", 0.6, (0.6, 0), 15.5, 1500),
        ),
        ("qwen2.5:32b",),
        activity=0.75,
    ),
    ShownMachine(
        "rack-01",
        "gpu-host",
        ("rack",),
        (("NVIDIA RTX 6000 Ada", 48),),
        (ShownModel("qwen2.5-coder:32b", 22.3, (22.3,), 4.5, 262),),
        ("llama3.1:70b",),
        ram_gb=(58, 256),
        disk_gb=(2840, 7450),
        cpu_count=64,
        activity=0.9,
    ),
    ShownMachine(
        "rack-02",
        "gpu-host",
        ("rack",),
        (("NVIDIA GeForce RTX 3090", 24),),
        (),
        ("qwen2.5:14b", "mistral:7b"),
        ram_gb=(9, 64),
        activity=0.1,
    ),
    ShownMachine(
        "spark",
        "gpu-host",
        ("office",),
        (("NVIDIA GB10", 119),),
        (ShownModel("gpt-oss:120b", 63.4, (63.4,), 20),),
        ram_gb=(74, 119),
        disk_gb=(1460, 3725),
        cpu_count=20,
        activity=0.6,
        is_unified=True,
    ),
    ShownMachine(
        "app-host",
        "cpu-host",
        ("rack",),
        (),
        (ShownModel("llama3.2:3b", 3.4, (), 11, 190),),
        ram_gb=(17, 64),
        disk_gb=(204, 465),
        cpu_count=16,
        activity=0.3,
    ),
    ShownMachine(
        "attic",
        "gpu-host",
        ("home",),
        (("NVIDIA GeForce RTX 3060", 12),),
        (),
        ("qwen2.5:7b",),
        ram_gb=(6, 32),
        is_offline=True,
    ),
)


class ShowcaseHost:
    """The past and the present of one such machine, as functions of the time; `now` is epoch seconds."""

    def __init__(self, shown: ShownMachine, now: float) -> None:
        self._shown, self._now = shown, now
        self._host = Host(shown.name)
        self._phase = sum(shown.name.encode())

    def machine(self) -> Machine:
        """The host as a machine file declares it."""
        return self._host.machine()

    def sample(self, at: float) -> Sample:
        """The sample of the cycle that begins at `at`."""
        is_offline = self._shown.is_offline and at > self._now - OFFLINE_HOURS * HOUR_S
        state = State.UNREACHABLE if is_offline else State.OK
        reason = "no answer within 2 s on an open connection" if is_offline else None
        results = {}
        for endpoint in (SIDECAR, OLLAMA):
            facts = (
                RuntimeState(host=self.host(at))
                if endpoint is SIDECAR
                else RuntimeState(models=self._models(at))
            )
            results[endpoint.kind] = PollResult(
                self._shown.name, endpoint, state, at + 0.01, 0.01, reason, None if is_offline else facts
            )
        return Sample(self._shown.name, results)

    def held(self, at: float) -> list[ShownModel]:
        """The models that are in memory at a time."""
        return [one for one in self._shown.models if at > self._now - one.hours * HOUR_S]

    def _models(self, at: float) -> tuple[LoadedModel, ...]:
        return tuple(
            LoadedModel(one["name"], one["digest"], one["size"], one["size_vram"], 8192, one["expires_at"])
            for one in self.ollama(at)
        )

    def ollama(self, at: float) -> list[dict[str, Any]]:
        """What /api/ps of its Ollama lists."""
        return [
            {
                "name": one.name,
                "model": one.name,
                "digest": f"{sum(one.name.encode()):064x}",
                "size": round(one.size_gb * GIB),
                "size_vram": round(sum(one.on_gpus_gb) * GIB),
                "context_length": 8192,
                "expires_at": "2318-12-04T10:11:12Z"
                if one.leaves_in_s is None
                else (datetime.now(UTC) + timedelta(seconds=one.leaves_in_s)).isoformat(),
            }
            for one in self.held(at)
        ]

    def _busy(self, at: float, index: int) -> float:
        """How busy something is, from 0 to 1: bursts of some minutes, more of them by day."""
        slow = 0.5 + 0.5 * math.sin(at / 9100 + self._phase + index)
        fast = 0.5 + 0.5 * math.sin(at / 410 + 3 * self._phase + 2 * index) * math.sin(
            at / 1370 + self._phase
        )
        noise = Random(f"{self._phase} {index} {at // 60}").gauss(0, 0.22)  # noqa: S311  for pictures
        share = self._shown.activity * (0.35 + 0.5 * slow + 0.6 * (fast - 0.5)) + noise
        return min(1.0, max(0.0, share))

    def host(self, at: float) -> HostSample:
        """What its sidecar measures at a time."""
        shown = self._shown
        cpu = round(3 + 45 * self._busy(at, 7), 1)
        used, total = (round(size * GIB) for size in shown.ram_gb)
        used += round(GIB * 1.5 * math.sin(at / 2900 + self._phase))
        disk_used, disk_total = (round(size * GIB) for size in shown.disk_gb)
        load = cpu * shown.cpu_count / 100
        return HostSample(
            cpu_percent=cpu,
            load_1m=round(load, 2),
            load_5m=round(load * 0.9, 2),
            load_15m=round(load * 0.8, 2),
            ram_used_bytes=used,
            ram_total_bytes=total,
            ram_available_bytes=total - used,
            disk_used_bytes=disk_used,
            disk_total_bytes=disk_total,
            disk_available_bytes=disk_total - disk_used,
            uptime_s=round(at - self._now + BOOTED_DAYS_AGO * 24 * HOUR_S),
            gpu=tuple(self._gpu(at, index) for index in range(len(shown.gpus))),
        )

    def _gpu(self, at: float, index: int) -> GpuSample:
        model, total_gb = self._shown.gpus[index]
        held = self.held(at)
        busy = self._busy(at, index) if held else 0.0
        used = round((0.4 + sum(one.on_gpus_gb[index] for one in held)) * GIB)
        return GpuSample(
            index=index,
            uuid=self._host.gpus[index],
            model=model,
            memory_kind="unified" if self._shown.is_unified else "dedicated",
            vram_total_bytes=total_gb * GIB,
            vram_used_bytes=used,
            vram_free_bytes=total_gb * GIB - used,
            utilisation=round(96 * busy),
            temperature_c=round(37 + 33 * busy),
            power_w=round(24 + 290 * busy, 1),
        )

    def sidecar(self) -> bytes:
        """What its sidecar answers now."""
        host = asdict(self.host(self._now))
        load = [host.pop(f"load_{minutes}m") for minutes in (1, 5, 15)]
        more = {
            "version": 1,
            "hostname": self._shown.name,
            "sampled_at": datetime.now(UTC).isoformat(),
            "window_s": 1.0,
            "cpu_count": self._shown.cpu_count,
            "load_avg": load,
            "gpu_unreadable": [],
        }
        return json.dumps(host | more).encode()


class Showcase:
    """The fleet of the pictures at a running server."""

    def __init__(self, now: float, shown: Sequence[ShownMachine] = SHOWN) -> None:
        self._shown = shown
        self._hosts = {one.name: ShowcaseHost(one, now) for one in shown}
        self._now = now
        self._silent: list[socket.socket] = []
        self._pretty: dict[str, str] = {}

    def write_past(self, database: Path) -> None:
        """Write the last day, before a server is started on it."""
        write_past(database, list(self._hosts.values()), PAST_HOURS)

    def declare(self, server: RunningServer, fakes: FakeFleet) -> None:
        """Put the machines in, and wait until they are polled."""
        for number, shown in enumerate(self._shown, 1):
            host, address = self._hosts[shown.name], f"127.3.0.{number}"
            if shown.is_offline:
                self._silent += [socket.create_server((address, 0)) for _ in range(2)]  # they never answer
                sidecar_port, port = (one.getsockname()[1] for one in self._silent)
            else:
                sidecar_port = fakes.listen(http(host.sidecar()), address).port
                models = json.dumps({"models": host.ollama(self._now)}).encode()
                port = fakes.listen(http(models), address).port
            self._pretty |= {str(sidecar_port): "3039", str(port): "11434", address: f"{shown.name}.lan"}
            declared = {
                "name": shown.name,
                "role": shown.role,
                "hardware": {"gpu": [{"model": model, "vram_gb": size} for model, size in shown.gpus]},
                "network": {"hostname": address, "sidecar_port": sidecar_port, "port": port},
                "models": [*(one.name for one in shown.models), *shown.others],
                "tags": list(shown.tags),
            }
            server.write(f"{shown.name}.yaml", json.dumps(declared))
        for shown in self._shown:
            wait_for_status(server, shown.name, "offline" if shown.is_offline else "online", 30)

    def is_past(self, at: str) -> bool:
        """Whether an event (RFC 3339) belongs to the written past, not to this server's start."""
        return datetime.fromisoformat(at).timestamp() < self._now - 60

    def prettify(self, text: str) -> str:
        """A text of the server with the addresses and ports that a real fleet would have."""
        for made_up, pretty in self._pretty.items():
            text = text.replace(made_up, pretty)
        return text

    def close(self) -> None:
        """Close the sockets of what is offline."""
        for one in self._silent:
            one.close()
