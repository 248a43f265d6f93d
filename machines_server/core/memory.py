"""How much memory of a machine is free, and how much of that is not promised to leases."""

from collections.abc import Mapping
from typing import NamedTuple

from machines_server.core.sample import GIB, GpuSample, HostSample

_NONE_RESERVED: Mapping[str, int] = {}
RAM = "ram"
RECLAIMABLE = "reclaimable"
"""The memory of models that could be evicted, on any GPU."""


class Share(NamedTuple):
    """A part of the memory that a lease promises: `of` is the UUID of a GPU, RAM, or RECLAIMABLE.

    What a model takes is promised until it is loaded; what was requested besides, `until_end` of the lease.
    """

    of: str
    size_bytes: int
    until_end: bool = False


class Headroom(NamedTuple):
    """The GiB that must be free in addition to a model: on one GPU, and of RAM."""

    vram_gb: float = 0.0
    ram_gb: float = 0.0


class GpuMemory(NamedTuple):
    """The memory of one GPU.

    `free_bytes` are neither in use nor reserved for the owner, `left_bytes` are also not promised to a lease,
    and `overdrawn_bytes` are promised beyond what is free.
    """

    uuid: str
    free_bytes: int
    left_bytes: int
    used_bytes: int
    overdrawn_bytes: int

    @property
    def reclaimable_bytes(self) -> int:
        """The most that evictions could free for others."""
        return max(self.used_bytes - self.overdrawn_bytes, 0)


class Memory:
    """The memory of one machine in a sample, less what leases are promised.

    `gpus` is None if they are unknown, and empty if the machine has none. `best` is the GPU with
    the most memory left, and `free_vram_gb` (GiB, as the API gives it) is how much that is: 0 without a GPU,
    None if it is unknown.
    """

    __slots__ = (
        "best",
        "free_vram_gb",
        "gpus",
        "promised_reclaimable_bytes",
        "ram_left_bytes",
        "ram_overdrawn_bytes",
        "ram_used_bytes",
    )

    def __init__(
        self,
        host: HostSample | None,
        promised: Mapping[str, int],
        reserved: Mapping[str, int] = _NONE_RESERVED,
        *,
        has_unmeasured_gpus: bool = False,
    ) -> None:
        """`promised` has the bytes that leases are promised, by the `of` of their shares.

        `reserved` has the bytes that owners keep free on each GPU, by UUID.
        """
        self.gpus: tuple[GpuMemory, ...] | None = None
        self.ram_left_bytes: int | None = None
        self.ram_used_bytes: int | None = None
        self.ram_overdrawn_bytes = 0
        self.promised_reclaimable_bytes = promised.get(RECLAIMABLE, 0)
        self.best: GpuMemory | None = None
        self.free_vram_gb: float | None = None
        if host is None:
            return
        if host.ram_available_bytes is not None:
            left = host.ram_available_bytes - promised.get(RAM, 0)
            self.ram_left_bytes, self.ram_overdrawn_bytes = max(left, 0), max(-left, 0)
            if host.ram_total_bytes is not None:
                self.ram_used_bytes = host.ram_total_bytes - host.ram_available_bytes
        if host.gpu or not (host.gpu_unreadable or has_unmeasured_gpus):
            self.gpus = tuple(
                _gpu_memory(gpu, promised.get(gpu.uuid, 0), reserved.get(gpu.uuid, 0)) for gpu in host.gpu
            )
            self.best = max(self.gpus, key=_left_bytes, default=None)
            self.free_vram_gb = round(self.best.left_bytes / GIB, 2) if self.best else 0.0

    def reclaimable_bytes(self, evictable_bytes: int, kept_bytes: int) -> int:
        """How many bytes evictions can free if the evictable models report `evictable_bytes`.

        `kept_bytes` is the memory of the other models. The result never exceeds what is in use.
        """
        used, overdrawn = self.ram_used_bytes, self.ram_overdrawn_bytes
        if self.gpus:
            used = sum(gpu.used_bytes for gpu in self.gpus)
            overdrawn = sum(gpu.overdrawn_bytes for gpu in self.gpus)
        if used is not None:
            evictable_bytes = min(evictable_bytes, used - kept_bytes)
        return max(evictable_bytes - overdrawn - self.promised_reclaimable_bytes, 0)

    @property
    def unpromised_vram_gb(self) -> float:
        """The GiB that would be free on the best GPU if there were no leases."""
        return round(max((gpu.free_bytes for gpu in self.gpus or ()), default=0) / GIB, 2)

    @property
    def left_bytes(self) -> int:
        """The memory left on all GPUs together, or in RAM if there is no GPU."""
        return sum(gpu.left_bytes for gpu in self.gpus) if self.gpus else self.ram_left_bytes or 0

    def spread(self, size_bytes: int) -> tuple[Share, ...]:
        """The shares for `size_bytes`, taken first from the GPU with the most memory left."""
        if self.best is None or size_bytes <= 0:
            return ()
        if size_bytes <= self.best.left_bytes:
            return (Share(self.best.uuid, size_bytes),)
        shares = []
        for gpu in sorted(self.gpus or (), key=lambda gpu: -gpu.left_bytes):
            part = min(size_bytes, gpu.left_bytes)
            if part > 0:
                shares.append(Share(gpu.uuid, part))
            size_bytes -= part
        return tuple(shares)

    def shares_of(self, headroom: Headroom) -> tuple[Share, ...]:
        """The shares for what must be free, of the best GPU and of the RAM, at most what is left."""
        shares = []
        if self.best and headroom.vram_gb:
            size_bytes = min(round(headroom.vram_gb * GIB), self.best.left_bytes)
            shares.append(Share(self.best.uuid, size_bytes, until_end=True))
        if headroom.ram_gb:
            size_bytes = min(round(headroom.ram_gb * GIB), self.ram_left_bytes or 0)
            shares.append(Share(RAM, size_bytes, until_end=True))
        return tuple(shares)

    @property
    def free_ram_gb(self) -> float | None:
        """The GiB of RAM left; None if unknown."""
        return None if self.ram_left_bytes is None else round(self.ram_left_bytes / GIB, 2)


def _gpu_memory(gpu: GpuSample, promised: int, reserved: int) -> GpuMemory:
    free = gpu.vram_free_bytes - reserved
    left = free - promised
    return GpuMemory(gpu.uuid, max(free, 0), max(left, 0), gpu.vram_used_bytes, max(-left, 0))


def _left_bytes(gpu: GpuMemory) -> int:
    return gpu.left_bytes
