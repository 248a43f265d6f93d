"""What one poll of an endpoint learns: a RuntimeState, and the PollResult around it.

The fields made by `metric()` are the metric catalogue: the rules for answers of hosts, the statements of the
store and the metrics of the history follow from them. CONTRIBUTING.md lists what else a new metric needs. A
value that may be `int | float` is kept as the host sent it: 61 does not become 61.0.

Classes whose instances are made at each poll are not frozen, because making a frozen one takes twice as long.
Treat them as immutable all the same.
"""

from collections.abc import Mapping
from dataclasses import Field, dataclass, field, fields
from enum import StrEnum
from math import floor
from typing import Any

from machines_server.core.machine import Endpoint
from machines_server.core.model_names import model_key
from machines_server.core.text import printable

GIB = 2**30


class State(StrEnum):
    """How one poll of one endpoint ended."""

    OK = "ok"
    BUSY = "busy"  # it accepted the connection but did not answer in time, as Ollama does while it loads
    UNREACHABLE = "unreachable"
    ERROR = "error"  # it answered, but not with what was requested
    UNASKED = "unasked"  # this server could not poll it for lack of a credential, which says nothing about it


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
    vram_total_bytes: int = metric("bytes", "total GPU memory")
    vram_used_bytes: int = metric("bytes", "GPU memory in use")
    vram_free_bytes: int = metric("bytes", "free GPU memory")
    utilisation: int | float | None = metric(
        "percent", "share of the time in which the GPU was busy", most=100
    )
    temperature_c: int | float | None = metric("celsius", "temperature of the GPU", most=200)
    power_w: int | float | None = metric("watts", "power drawn by the GPU", most=10_000)


@dataclass(frozen=True, slots=True)
class GpuUnreadable:
    """One GPU that exists but could not be read."""

    index: int | None
    uuid: str | None
    reason: str


LOADS = ("load_1m", "load_5m", "load_15m")
"""The metrics that hosts report as one list, `load_avg`."""


@dataclass(slots=True)
class HostSample:
    """What a sidecar reported about its host."""

    cpu_percent: int | float | None = metric(
        "percent", "CPU time that was not idle, over all cores", most=100
    )
    load_1m: int | float | None = metric("processes", "load average over 1 minute")
    load_5m: int | float | None = metric("processes", "load average over 5 minutes")
    load_15m: int | float | None = metric("processes", "load average over 15 minutes")
    ram_used_bytes: int | None = metric("bytes", "memory in use")
    ram_total_bytes: int | None = metric("bytes", "total memory")
    ram_available_bytes: int | None = metric("bytes", "memory that new work can take without swapping")
    disk_used_bytes: int | None = metric("bytes", "the file system that holds the host's data: in use")
    disk_total_bytes: int | None = metric("bytes", "the file system that holds the host's data: total size")
    disk_available_bytes: int | None = metric("bytes", "what a user can still write there")
    uptime_s: int | float | None = metric("seconds", "time since the host was started")
    gpu: tuple[GpuSample, ...] = ()
    gpu_unreadable: tuple[GpuUnreadable, ...] = ()
    hostname: str | None = None
    """The host's own name."""


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """One model that a model server holds in memory."""

    model: str
    digest: str | None = None
    size_bytes: int | None = None
    size_vram_bytes: int | None = None
    context_length: int | None = None
    expires_at: str | None = None  # RFC 3339, UTC; None is never
    is_working: bool = False  # on the request that loaded it

    @property
    def gpu_fraction(self) -> float | None:
        """The fraction of its memory that is on GPUs, from 0 to 1; None is unknown."""
        size, vram = self.size_bytes, self.size_vram_bytes
        if size is None or vram is None or vram > size:
            return None
        return vram / size if vram else 0.0

    @property
    def processor(self) -> str:
        """Where it runs, in the words of `ollama ps`."""
        fraction, size, vram = self.gpu_fraction, self.size_bytes, self.size_vram_bytes
        if fraction is None or size is None or vram is None:
            return "unknown"
        if fraction in (0, 1):
            return f"100% {'GPU' if fraction else 'CPU'}"
        cpu = floor((size - vram) / size * 100 + 0.5)  # halves go up, as in Go; round() makes them even
        return f"{cpu}%/{100 - cpu}% CPU/GPU"


@dataclass(frozen=True, slots=True)
class StoredModel:
    """One model that a model server can load from disk, or whose requests it forwards to a cloud."""

    model: str
    digest: str | None = None
    size_bytes: int | None = None
    is_remote: bool = False


@dataclass(frozen=True, slots=True)
class Library:
    """The models that one machine can serve; `at` is when its Ollama was asked, in epoch seconds."""

    machine: str
    url: str
    at: float
    models: tuple[StoredModel, ...]
    has_listed: bool = field(default=False, compare=False)
    """Whether it has ever listed a model: some servers that imitate Ollama always return an empty list."""
    by_key: Mapping[str, StoredModel] = field(init=False, repr=False, compare=False)
    """The models by the key of their names."""
    remote: frozenset[str] = field(init=False, repr=False, compare=False)
    """The keys of the models whose requests it forwards to a cloud."""
    size_of: Mapping[str, int | None] = field(init=False, repr=False, compare=False)
    """Bytes on disk by digest; None if unknown or contradictory."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "by_key", {model_key(one.model): one for one in self.models})
        remote = frozenset(key for key, one in self.by_key.items() if one.is_remote)
        object.__setattr__(self, "remote", remote)
        size_of: dict[str, int | None] = {}
        for one in self.models:
            if one.digest and not one.is_remote:
                is_same = size_of.setdefault(one.digest, one.size_bytes) == one.size_bytes
                size_of[one.digest] = one.size_bytes if is_same else None
        object.__setattr__(self, "size_of", size_of)


@dataclass(frozen=True, slots=True)
class UnchangedLibrary:
    """A library that was requested again and has not changed; the fields are those of Library."""

    machine: str
    url: str
    at: float


@dataclass(frozen=True, slots=True)
class ModelSize:
    """How much memory a model took when a machine loaded it; `seen_at` in epoch seconds."""

    model: str
    digest: str | None
    context_length: int | None
    size_bytes: int
    size_vram_bytes: int | None
    seen_at: float
    machine: str | None = None
    """The name of the machine; None for a size recorded before names were kept."""
    key: str = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "key", model_key(self.model))


@dataclass(slots=True)
class RuntimeState:
    """What an endpoint answered. What its kind never reports is None; an empty tuple means no models."""

    host: HostSample | None = None
    models: tuple[LoadedModel, ...] | None = None


@dataclass(slots=True)
class PollResult:
    """One poll of one endpoint: the answer, or the reason why there is none.

    `at` is the server's wall clock when the poll ended, in epoch seconds; `took_s` is how long it lasted;
    `clock_ahead_s` is how far the host's clock is ahead of the server's, if known. `hint` tells the operator
    how to fix a failure, and `code` is that of its reason.
    """

    machine: str
    endpoint: Endpoint
    state: State
    at: float
    took_s: float
    reason: str | None = None
    answer: RuntimeState | None = None
    clock_ahead_s: float | None = None
    hint: str | None = None
    code: str | None = None

    def __post_init__(self) -> None:
        """Escape control characters: a reason may quote the host, and a hint may quote the name of a file."""
        if self.reason is not None:
            self.reason = printable(self.reason)
        if self.hint is not None:
            self.hint = printable(self.hint)


@dataclass(slots=True)
class Sample:
    """What one cycle learned about one machine: the result of each of its endpoints, by kind."""

    machine: str
    results: Mapping[str, PollResult]
    host_result: PollResult | None = field(init=False, repr=False, compare=False)
    """The result of the endpoint that reports the host."""
    at: float = field(init=False, repr=False, compare=False)
    """When the host was sampled, or, if it was not, when the last of the polls ended; epoch seconds."""

    def __post_init__(self) -> None:
        self.host_result = None
        for result in self.results.values():
            if result.endpoint.reports_host:
                self.host_result = result
        if self.host_result and self.host_result.state is State.OK:
            self.at = self.host_result.at
        else:
            self.at = max(result.at for result in self.results.values())

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
    """The metrics of this kind of sample, in the order of its fields."""
    return tuple(one for one in fields(kind) if "unit" in one.metadata)


THOUSANDTHS = 1000


def scale(one: Field[Any]) -> int:
    """The factor that makes a metric the integer that is stored: 1 for bytes, else 1000."""
    return 1 if one.metadata["unit"] == "bytes" else THOUSANDTHS


def public_name(name: str) -> str:
    """The name of a metric in the API: bytes are shown as GiB."""
    return name.removesuffix("_bytes") + "_gb" if name.endswith("_bytes") else name


def public_value(name: str, value: float | None) -> float | None:
    """The value of a metric in the API: bytes become GiB, rounded to two decimals."""
    return round(value / GIB, 2) if value is not None and name.endswith("_bytes") else value
