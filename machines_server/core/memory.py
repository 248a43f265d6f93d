"""What memory of a machine is free, and what is left of it after the promises of leases."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from machines_server.core.leases import RAM, RECLAIMABLE, Share
from machines_server.core.live import Live
from machines_server.core.sample import GIB


class Gpu(NamedTuple):
    """The free bytes of one GPU, and what of them is not promised."""

    uuid: str
    free: int
    left: int


@dataclass(frozen=True, slots=True)
class Memory:
    """The memory of one machine; `gpus` is None when nothing is known of them, and empty when it has none.

    `reclaim_promised`: what leases count on of that which models take that can be evicted.
    """

    gpus: tuple[Gpu, ...] | None
    ram_left: int | None
    reclaim_promised: int = 0

    @property
    def best(self) -> Gpu | None:
        """The GPU with the most left."""
        return max(self.gpus, key=lambda gpu: gpu.left, default=None) if self.gpus else None

    @property
    def free_vram_gb(self) -> float | None:
        """What is left on the best GPU, as the API says it: 0 without a GPU, None if it is not known."""
        if self.gpus is None:
            return None
        return round(self.best.left / GIB, 2) if self.best else 0.0

    @property
    def unpromised_vram_gb(self) -> float:
        """What would be free on the best GPU without any lease."""
        return round(max((gpu.free for gpu in self.gpus or ()), default=0) / GIB, 2)

    def reserve(self, min_free_vram_gb: float) -> tuple[Share, ...]:
        """That much of the best GPU, and never more than it has left."""
        size_bytes = round(min_free_vram_gb * GIB)
        if not self.best or not size_bytes:
            return ()
        return (Share(self.best.uuid, min(size_bytes, self.best.left)),)

    def spread(self, size_bytes: int) -> tuple[Share, ...]:
        """A model of that size: on the GPU that has most left, and what does not fit there on the next."""
        shares = []
        for gpu in sorted(self.gpus or (), key=lambda gpu: -gpu.left):
            part = min(size_bytes, gpu.left)
            if part > 0:
                shares.append(Share(gpu.uuid, part))
            size_bytes -= part
        return tuple(shares)


def memory(live: Live, promised: Mapping[str, int]) -> Memory:
    """The memory of a machine by its latest sample, less what is promised."""
    host, reclaim = live.host, promised.get(RECLAIMABLE, 0)
    if host is None:
        return Memory(None, None)
    ram = host.ram_available_bytes
    ram_left = None if ram is None else max(ram - promised.get(RAM, 0), 0)
    if not host.gpu and host.gpu_unreadable:
        return Memory(None, ram_left, reclaim)
    gpus = (
        Gpu(gpu.uuid, gpu.vram_free_bytes, max(gpu.vram_free_bytes - promised.get(gpu.uuid, 0), 0))
        for gpu in host.gpu
    )
    return Memory(tuple(gpus), ram_left, reclaim)
