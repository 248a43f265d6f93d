"""What it takes to load a model: how much memory, whether that can be had, and how long it lasts."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Literal, NamedTuple

from machines_server.core.memory import RAM, RECLAIMABLE, Memory, Share
from machines_server.core.model_names import model_key
from machines_server.core.sample import GIB, LoadedModel, ModelSize

MEMORY_PER_DISK = 1.25
"""A model in memory by its size on disk: weights, KV cache and graph. In the example of Ollama's own API
documentation mistral 7B takes 5.14 GB, from a file of 4.11 GB."""
LOAD_BYTES_PER_S = GIB
"""How fast a model is loaded where none was yet seen to be."""
LATEST_LOADS = 5
"""The median of so many is what the next load is expected to last."""

Known = Literal["learned", "estimated", "unknown"]
Fits = Literal["free", "after_eviction", "unknown"]


class LoadTime(NamedTuple):
    """How long a model once took to load on a machine; oldest first in a sequence."""

    machine: str
    key: str
    size_bytes: int | None
    load_s: float


def needed(
    key: str, digests: set[str], min_context: int, sizes: Iterable[ModelSize], on_disk_bytes: int | None
) -> tuple[int | None, Known]:
    """The bytes that a model will take: as it took before anywhere, else by its size on disk.

    With a context asked for, only stays with at least that much count, and of them the smallest; without
    one, the latest.
    """
    same = [
        size
        for size in sizes
        if (size.digest in digests if size.digest and digests else model_key(size.model) == key)
    ]
    if not min_context and same:
        return max(same, key=lambda size: size.seen_at).size_bytes, "learned"
    wide = [(size.context_length, -size.seen_at, size.size_bytes) for size in same if size.context_length]
    if enough := [one for one in wide if one[0] >= min_context]:
        return min(enough)[2], "learned"
    if on_disk_bytes:
        return round(on_disk_bytes * MEMORY_PER_DISK), "estimated"
    return None, "unknown"


def load_time(
    machine: str, key: str, size_bytes: int | None, seen: Sequence[LoadTime]
) -> tuple[float | None, Known]:
    """The seconds that a load will last: as it did there before, else by its size and how others did."""
    here = [one for one in seen if one.machine.casefold() == machine.casefold()]
    if same := [one.load_s for one in here if one.key == key]:
        return median(same[-LATEST_LOADS:]), "learned"
    if not size_bytes:
        return None, "unknown"
    rates = [one.size_bytes / one.load_s for one in here if one.size_bytes and one.load_s > 0]
    return size_bytes / (median(rates[-LATEST_LOADS:]) if rates else LOAD_BYTES_PER_S), "estimated"


@dataclass(frozen=True, slots=True)
class Reclaimable:
    """The models that could be evicted, the one that leaves soonest first, and what they would give back."""

    models: tuple[LoadedModel, ...] = ()
    size_bytes: int = 0

    def evicts(self, missing_bytes: int) -> tuple[str, ...]:
        """Which of them would have to go for that much."""
        names = []
        for model in self.models:
            if missing_bytes <= 0:
                break
            names.append(model.model)
            missing_bytes -= model.size_vram_bytes or model.size_bytes or 0
        return tuple(names)


class Fit(NamedTuple):
    """Whether a model fits, and what of the machine it would take."""

    fits: Fits
    shares: tuple[Share, ...] = ()
    evicted_bytes: int = 0


def fit(
    needs_bytes: int | None, min_free_vram_gb: float, memory: Memory, reclaimable_bytes: int
) -> Fit | None:
    """Whether a model of that size fits, or None if it does not; a size of None is not known.

    On GPUs it may be spread over several, as Ollama does; `min_free_vram_gb` is what one of them must have.
    """
    if memory.gpus is None:
        return Fit("unknown")
    best = memory.best
    if best is None:
        return _fit_ram(needs_bytes, memory, reclaimable_bytes)
    min_bytes = round(min_free_vram_gb * GIB)
    short_bytes = (needs_bytes or 0) - memory.left_bytes
    if (memory.free_vram_gb or 0) < min_free_vram_gb:
        short_bytes = max(short_bytes, min_bytes - best.left)
    shares = memory.spread(max(needs_bytes or 0, min_bytes))
    if short_bytes <= 0:
        return Fit("unknown" if needs_bytes is None else "free", shares)
    if short_bytes <= reclaimable_bytes:
        return Fit("after_eviction", (*shares, Share(RECLAIMABLE, short_bytes)), short_bytes)
    return None


def _fit_ram(needs_bytes: int | None, memory: Memory, reclaimable_bytes: int) -> Fit | None:
    if needs_bytes is None or memory.ram_left is None:
        return Fit("unknown")
    short_bytes = needs_bytes - memory.ram_left
    if short_bytes <= 0:
        return Fit("free", (Share(RAM, needs_bytes),))
    if short_bytes <= reclaimable_bytes:
        return Fit(
            "after_eviction", (Share(RAM, memory.ram_left), Share(RECLAIMABLE, short_bytes)), short_bytes
        )
    return None
