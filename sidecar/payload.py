"""The sample that GET /metrics returns, and its JSON."""

import json
from datetime import UTC, datetime
from typing import Literal, NamedTuple, TypedDict

from host_facts.host import HostReading

VERSION = 1


class Gpu(TypedDict):
    """One card or MIG device that could be read; what it does not report is null."""

    index: int
    """As `nvidia-smi` counts, from 0; no other card of the answer may have it."""
    uuid: str
    """The same for as long as the card exists; no other card of the answer may have it."""
    model: str | None
    memory_kind: Literal["dedicated", "unified"]
    """`unified`: the memory is shared with the CPU."""
    vram_total_bytes: int
    vram_used_bytes: int
    """In use, by whatever program."""
    vram_free_bytes: int
    """What can still be allocated; used and free together are at most the total."""
    utilisation: int | None
    """Percent of the time in which it computed."""
    temperature_c: int | None
    """Degrees Celsius."""
    power_w: float | None
    """Watts."""


class UnreadableGpu(TypedDict):
    """One card that could not be read; its index or UUID is null if unknown."""

    index: int | None
    uuid: str | None
    reason: str
    """Why, in a few words for people."""


class Gpus(NamedTuple):
    """All cards of this host at one moment."""

    readable: list[Gpu]
    unreadable: list[UnreadableGpu]


class Sample(HostReading):
    """The body of GET /metrics: the host, null where it could not be read, and its GPUs."""

    version: int
    """Of this format: 1."""
    hostname: str
    """The host's own name; empty if unknown."""
    sampled_at: str
    """When it was measured: RFC 3339 in UTC, with Z."""
    gpu: list[Gpu]
    """All GPUs that could be read; empty on a host without GPUs."""
    gpu_unreadable: list[UnreadableGpu]


def assemble(hostname: str, sampled_at: datetime, host: HostReading, gpus: Gpus) -> Sample:
    """Put a sample together; `sampled_at` must have a time zone."""
    return {
        "version": VERSION,
        "hostname": hostname,
        "sampled_at": sampled_at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        **host,
        "gpu": gpus.readable,
        "gpu_unreadable": gpus.unreadable,
    }


def to_json(value: object) -> bytes:
    """Compact JSON in ASCII; raises ValueError for NaN and infinities, which JSON cannot express."""
    return json.dumps(value, allow_nan=False, separators=(",", ":")).encode()
