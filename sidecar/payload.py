"""The shape of one sample, as GET /metrics promises it, and its JSON bytes."""

import json
from datetime import UTC, datetime
from typing import Literal, NamedTuple, TypedDict

VERSION = 1


class Gpu(TypedDict):
    """One card or MIG device that could be read; what the card does not tell is None."""

    index: int
    uuid: str
    model: str | None
    memory_kind: Literal["dedicated", "unified"]
    vram_total_bytes: int
    vram_used_bytes: int
    vram_free_bytes: int
    utilisation: int | None
    temperature_c: int | None
    power_w: float | None


class UnreadableGpu(TypedDict):
    """One card that could not be read, and why; its place or its UUID is None when nobody knows it."""

    index: int | None
    uuid: str | None
    reason: str


class Gpus(NamedTuple):
    """All cards of this host at one moment."""

    readable: list[Gpu]
    unreadable: list[UnreadableGpu]


class HostReading(TypedDict):
    """The host without its GPUs; what could not be read is None."""

    window_s: float | None
    cpu_percent: float | None
    load_avg: list[float] | None
    cpu_count: int | None
    ram_total_bytes: int | None
    ram_used_bytes: int | None
    ram_available_bytes: int | None
    disk_total_bytes: int | None
    disk_used_bytes: int | None
    uptime_s: int | None


class Sample(HostReading):
    """The body of GET /metrics."""

    version: int
    hostname: str
    sampled_at: str
    gpu: list[Gpu]
    gpu_unreadable: list[UnreadableGpu]


def assemble(hostname: str, sampled_at: datetime, host: HostReading, gpus: Gpus) -> Sample:
    """One sample out of its parts; `sampled_at` is aware."""
    return {
        "version": VERSION,
        "hostname": hostname,
        "sampled_at": sampled_at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        **host,
        "gpu": gpus.readable,
        "gpu_unreadable": gpus.unreadable,
    }


def to_json(value: object) -> bytes:
    """`value` as compact UTF-8 JSON; ValueError for NaN and infinities, which JSON has no form for."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
