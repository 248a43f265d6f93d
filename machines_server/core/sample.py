"""What one poll of a host tells: HostSample, GpuSample, LoadedModel, and PollResult around them.

The fields made by `metric()` are the metric catalogue: the columns of the database, the keys of the JSON
and the metrics of the history follow from them, so a new metric is one line here and one migration. What may
be `int | float` is kept as the host said it: 61 does not become 61.0.

What each poll makes anew is not frozen, though nothing changes it: to make a frozen one takes twice as long.
"""

from collections.abc import Mapping
from dataclasses import Field, dataclass, field, fields
from enum import StrEnum
from math import floor
from typing import Any

from machines_server.core.model_names import model_key
from machines_server.core.registry import Endpoint

GIB = 2**30


class State(StrEnum):
    """How one poll of one endpoint ended."""

    OK = "ok"
    BUSY = "busy"  # it holds our connection open and does not answer: Ollama does so while it loads
    UNREACHABLE = "unreachable"
    ERROR = "error"  # it answered, but not with what was asked for


def metric(unit: str, about: str, *, most: float | None = None) -> Any:
    """A field that is measured over time; None is unknown, and no metric is below 0 or above `most`."""
    return field(default=None, metadata={"unit": unit, "about": about, "most": most})


@dataclass(slots=True)
class GpuSample:
    """One GPU, or one MIG device, that could be read."""

    index: int
    uuid: str
    model: str | None
    memory_kind: str
    vram_total_bytes: int = metric("bytes", "GPU memory in all")
    vram_used_bytes: int = metric("bytes", "GPU memory in use")
    vram_free_bytes: int = metric("bytes", "GPU memory that can be had")
    utilisation: int | float | None = metric(
        "percent", "share of the time in which the GPU computed", most=100
    )
    temperature_c: int | float | None = metric("celsius", "temperature of the GPU")
    power_w: int | float | None = metric("watts", "power drawn by the GPU")


@dataclass(frozen=True, slots=True)
class GpuUnreadable:
    """One GPU that is there and could not be read."""

    index: int | None
    uuid: str | None
    reason: str


@dataclass(slots=True)
class HostSample:
    """What a sidecar said of its host."""

    cpu_percent: int | float | None = metric(
        "percent", "CPU time that was not idle, over all cores", most=100
    )
    load_1m: int | float | None = metric("processes", "load average over 1 minute")
    load_5m: int | float | None = metric("processes", "load average over 5 minutes")
    load_15m: int | float | None = metric("processes", "load average over 15 minutes")
    ram_used_bytes: int | None = metric("bytes", "memory in use")
    ram_total_bytes: int | None = metric("bytes", "memory in all")
    ram_available_bytes: int | None = metric("bytes", "memory that new work can have without swapping")
    disk_used_bytes: int | None = metric("bytes", "system disk in use")
    disk_total_bytes: int | None = metric("bytes", "system disk in all")
    uptime_s: int | float | None = metric("seconds", "time since the host was started")
    gpu: tuple[GpuSample, ...] = ()
    gpu_unreadable: tuple[GpuUnreadable, ...] = ()


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """One model that an Ollama holds in memory, as its /api/ps said."""

    model: str
    digest: str | None = None
    size_bytes: int | None = None
    size_vram_bytes: int | None = None
    context_length: int | None = None
    expires_at: str | None = None  # RFC 3339, UTC; None is never

    @property
    def processor(self) -> str:
        """Where it runs, in the words of `ollama ps`."""
        size, vram = self.size_bytes, self.size_vram_bytes
        if size is None or vram is None or vram > size:
            return "unknown"
        if vram == 0:
            return "100% CPU"
        if vram == size:
            return "100% GPU"
        cpu = floor((size - vram) / size * 100 + 0.5)  # halves go up, as in Go; round() makes them even
        return f"{cpu}%/{100 - cpu}% CPU/GPU"


@dataclass(frozen=True, slots=True)
class StoredModel:
    """One model on the disk of a host, as its /api/tags said."""

    model: str
    digest: str | None = None
    size_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Library:
    """The models on the disk of one machine; `at` is when its Ollama said so, in epoch seconds."""

    machine: str
    url: str
    at: float
    models: tuple[StoredModel, ...]
    by_key: Mapping[str, StoredModel] = field(init=False, repr=False, compare=False)
    """The same by the key of their names."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "by_key", {model_key(one.model): one for one in self.models})


@dataclass(frozen=True, slots=True)
class ModelSize:
    """What a model took in memory when it was loaded somewhere; `seen_at` in epoch seconds."""

    model: str
    digest: str | None
    context_length: int | None
    size_bytes: int
    size_vram_bytes: int | None
    seen_at: float


Answer = HostSample | tuple[LoadedModel, ...]


@dataclass(slots=True)
class PollResult:
    """One poll of one endpoint: the answer, or the reason why there is none.

    `at` is the server's wall clock when the poll ended, in epoch seconds; `took_s` how long it lasted;
    `clock_ahead_s` how far the host's clock is before the server's, if it said so.
    """

    machine: str
    endpoint: Endpoint
    url: str
    state: State
    at: float
    took_s: float
    reason: str | None = None
    answer: Answer | None = None
    clock_ahead_s: float | None = None


@dataclass(slots=True)
class Sample:
    """What one cycle learned of one machine: how the poll of each of its endpoints ended."""

    machine: str
    results: Mapping[Endpoint, PollResult]

    @property
    def at(self) -> float:
        """When the sidecar answered, or if it did not, when the last of the polls ended; epoch seconds."""
        sidecar = self.results.get(Endpoint.SIDECAR)
        if sidecar and sidecar.state is State.OK:
            return sidecar.at
        return max(result.at for result in self.results.values())

    @property
    def poll_s(self) -> float:
        """How long the slowest poll lasted."""
        return max(result.took_s for result in self.results.values())

    @property
    def up(self) -> bool:
        """Whether any endpoint answered."""
        return any(result.state is State.OK for result in self.results.values())


@dataclass(frozen=True, slots=True)
class Cycle:
    """One finished poll cycle: when it began and ended (epoch seconds), and the settings it ran with."""

    started_at: float
    ended_at: float
    interval_s: float
    timeout_s: float


def metrics_of(kind: type[HostSample | GpuSample]) -> tuple[Field[Any], ...]:
    """The part of the catalogue that a sample of this kind has, in the order of its fields."""
    return tuple(one for one in fields(kind) if "unit" in one.metadata)


THOUSANDTHS = 1000


def scale(one: Field[Any]) -> int:
    """What a metric is multiplied by to be kept as an integer: 1 for bytes, else 1000."""
    return 1 if one.metadata["unit"] == "bytes" else THOUSANDTHS


def public_name(name: str) -> str:
    """The name of a metric in the API: bytes are shown as GiB."""
    return name.removesuffix("_bytes") + "_gb" if name.endswith("_bytes") else name


def public_value(name: str, value: float | None) -> float | None:
    """The value of a metric in the API: bytes become GiB, rounded to two decimals."""
    return round(value / GIB, 2) if value is not None and name.endswith("_bytes") else value


def telemetry(sample: HostSample) -> dict[str, Any]:
    """A sample in the form of the API: sizes in GiB; `gpu` only for a host that has one."""
    body = _public(sample, _HOST_NAMES)
    body["load_avg"] = [body.pop("load_1m"), body.pop("load_5m"), body.pop("load_15m")]
    if sample.gpu or sample.gpu_unreadable:
        body["gpu"] = [_identity(gpu) | _public(gpu, _GPU_NAMES) for gpu in sample.gpu]
    if sample.gpu_unreadable:
        body["gpu_unreadable"] = [
            {"index": gpu.index, "uuid": gpu.uuid, "reason": gpu.reason} for gpu in sample.gpu_unreadable
        ]
    return body


def _identity(gpu: GpuSample) -> dict[str, Any]:
    return {"index": gpu.index, "uuid": gpu.uuid, "model": gpu.model, "memory_kind": gpu.memory_kind}


def _public(sample: HostSample | GpuSample, names: Mapping[str, str]) -> dict[str, Any]:
    return {public: public_value(name, getattr(sample, name)) for name, public in names.items()}


_HOST_NAMES = {one.name: public_name(one.name) for one in metrics_of(HostSample)}
_GPU_NAMES = {one.name: public_name(one.name) for one in metrics_of(GpuSample)}
