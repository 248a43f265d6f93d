"""What memory of a machine is free, and what is left of it after the promises of leases."""

from collections.abc import Mapping
from typing import NamedTuple

from machines_server.core.sample import GIB, HostSample

RAM = "ram"
RECLAIMABLE = "reclaimable"
"""Not the memory of one GPU, but what models that could be evicted take."""


class Share(NamedTuple):
    """A part of what a lease promises: `of` is a GPU's uuid, RAM, or RECLAIMABLE."""

    of: str
    size_bytes: int


class Gpu(NamedTuple):
    """The free bytes of one GPU, and what of them is not promised."""

    uuid: str
    free: int
    left: int


class Memory:
    """The memory of one machine by a sample, less the bytes that are promised of each part of it.

    `gpus` is None when nothing is known of them, and empty when it has none; `best` is the one that has most
    left, and `free_vram_gb` what that is, as the API says it: 0 without a GPU, None if it is not known.
    `reclaim_promised`: what leases count on of that which models take that can be evicted.
    """

    __slots__ = ("best", "free_vram_gb", "gpus", "ram_left", "reclaim_promised")

    def __init__(self, host: HostSample | None, promised: Mapping[str, int]) -> None:
        self.gpus: tuple[Gpu, ...] | None = None
        self.ram_left: int | None = None
        self.reclaim_promised = promised.get(RECLAIMABLE, 0)
        self.best: Gpu | None = None
        self.free_vram_gb: float | None = None
        if host is None:
            return
        if host.ram_available_bytes is not None:
            self.ram_left = max(host.ram_available_bytes - promised.get(RAM, 0), 0)
        if host.gpu or not host.gpu_unreadable:
            self.gpus = tuple(
                Gpu(
                    gpu.uuid,
                    gpu.vram_free_bytes,
                    max(gpu.vram_free_bytes - promised.get(gpu.uuid, 0), 0)
                    if promised
                    else gpu.vram_free_bytes,
                )
                for gpu in host.gpu
            )
            self.best = max(self.gpus, key=_left, default=None)
            self.free_vram_gb = round(self.best.left / GIB, 2) if self.best else 0.0

    @property
    def unpromised_vram_gb(self) -> float:
        """What would be free on the best GPU without any lease."""
        return round(max((gpu.free for gpu in self.gpus or ()), default=0) / GIB, 2)

    @property
    def left_bytes(self) -> int:
        """What is left on all GPUs together; of RAM if there is none."""
        return sum(gpu.left for gpu in self.gpus) if self.gpus else self.ram_left or 0

    def spread(self, size_bytes: int) -> tuple[Share, ...]:
        """So much: on the GPU that has most left, and what does not fit there on the next."""
        if self.best is None or size_bytes <= 0:
            return ()
        if size_bytes <= self.best.left:
            return (Share(self.best.uuid, size_bytes),)
        shares = []
        for gpu in sorted(self.gpus or (), key=lambda gpu: -gpu.left):
            part = min(size_bytes, gpu.left)
            if part > 0:
                shares.append(Share(gpu.uuid, part))
            size_bytes -= part
        return tuple(shares)

    def reserve(self, min_free_vram_gb: float) -> tuple[Share, ...]:
        """That much of the best GPU, and never more than it has left."""
        return self.spread(min(round(min_free_vram_gb * GIB), self.best.left)) if self.best else ()


def _left(gpu: Gpu) -> int:
    return gpu.left
