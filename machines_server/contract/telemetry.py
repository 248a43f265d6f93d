"""Measurements of a host: `telemetry` of a machine, and GET /api/system."""

from collections.abc import Sequence

from msgspec import UNSET, Struct, UnsetType, structs

from machines_server.contract.units import Celsius, Gib, Moment, Percent, Processes, Seconds, Watts, gib
from machines_server.core.sample import GpuSample, HostSample
from machines_server.core.times import rfc3339


class Gpu(Struct, frozen=True, gc=False):
    """A GPU or a MIG device; null means unknown."""

    index: int
    uuid: str
    model: str | None
    memory_kind: str
    """`dedicated`, `unified` (shared with the CPU) or `unknown`."""
    vram_total_gb: Gib | None
    vram_used_gb: Gib | None
    vram_free_gb: Gib | None
    """What can still be allocated."""
    utilisation: Percent | None
    """The share of the time in which it was busy."""
    temperature_c: Celsius | None
    power_w: Watts | None


class UnreadableGpu(Struct, frozen=True, gc=False):
    """A GPU that could not be read, and why; null means unknown."""

    index: int | None
    uuid: str | None
    reason: str


class Telemetry(Struct, frozen=True):
    """The latest sample of a host; null means unknown.

    Before the first sample all keys are absent; later only `gpu` and `gpu_unreadable` may be.
    """

    cpu_percent: Percent | UnsetType | None = UNSET
    ram_used_gb: Gib | UnsetType | None = UNSET
    ram_total_gb: Gib | UnsetType | None = UNSET
    ram_available_gb: Gib | UnsetType | None = UNSET
    disk_used_gb: Gib | UnsetType | None = UNSET
    disk_total_gb: Gib | UnsetType | None = UNSET
    disk_available_gb: Gib | UnsetType | None = UNSET
    uptime_s: Seconds | UnsetType | None = UNSET
    load_avg: tuple[Processes | None, Processes | None, Processes | None] | UnsetType = UNSET
    """The averages over 1, 5 and 15 minutes."""
    gpu: Sequence[Gpu] | UnsetType = UNSET
    """Absent on a host without GPUs."""
    gpu_unreadable: Sequence[UnreadableGpu] | UnsetType = UNSET
    """Absent if all GPUs could be read."""


class System(Telemetry, frozen=True, kw_only=True):
    """GET /api/system: the host that the server runs on; all keys but those of GPUs are present."""

    hostname: str
    timestamp: Moment
    """When it was measured."""


_NO_TELEMETRY = Telemetry()


def telemetry(sample: HostSample | None) -> Telemetry:
    """A sample in the units of the API; empty if there is none."""
    if sample is None:
        return _NO_TELEMETRY
    unreadable = [UnreadableGpu(gpu.index, gpu.uuid, gpu.reason) for gpu in sample.gpu_unreadable]
    return Telemetry(
        cpu_percent=sample.cpu_percent,
        ram_used_gb=gib(sample.ram_used_bytes),
        ram_total_gb=gib(sample.ram_total_bytes),
        ram_available_gb=gib(sample.ram_available_bytes),
        disk_used_gb=gib(sample.disk_used_bytes),
        disk_total_gb=gib(sample.disk_total_bytes),
        disk_available_gb=gib(sample.disk_available_bytes),
        uptime_s=sample.uptime_s,
        load_avg=(sample.load_1m, sample.load_5m, sample.load_15m),
        gpu=[_gpu(gpu) for gpu in sample.gpu] if sample.gpu or unreadable else UNSET,
        gpu_unreadable=unreadable or UNSET,
    )


def system(sample: HostSample, hostname: str, at: float) -> System:
    """This host's measurements at `at`, in epoch seconds."""
    return System(hostname=hostname, timestamp=rfc3339(at), **structs.asdict(telemetry(sample)))


def _gpu(gpu: GpuSample) -> Gpu:
    return Gpu(
        index=gpu.index,
        uuid=gpu.uuid,
        model=gpu.model,
        memory_kind=gpu.memory_kind,
        vram_total_gb=gib(gpu.vram_total_bytes),
        vram_used_gb=gib(gpu.vram_used_bytes),
        vram_free_gb=gib(gpu.vram_free_bytes),
        utilisation=gpu.utilisation,
        temperature_c=gpu.temperature_c,
        power_w=gpu.power_w,
    )
