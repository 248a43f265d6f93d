"""Estimates for loading a model: the memory it needs, whether it fits, and how long it takes."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import NamedTuple

from machines_server.core.memory import RAM, RECLAIMABLE, GpuMemory, Headroom, Memory, Share
from machines_server.core.routing.answer import EstimateSource, Fits
from machines_server.core.sample import GIB, LoadedModel, ModelSize

MEMORY_PER_DISK = 1.25
"""A model's size in memory (weights, KV cache and graph) as a multiple of its size on disk. In the example of
Ollama's own API documentation mistral 7B takes 5.14 GB, from a file of 4.11 GB."""
DEFAULT_LOAD_BYTES_PER_S = GIB
"""The assumed speed of a machine without any measured load."""
ROUNDING_BYTES = GIB // 200
"""How much requested memory may be missing, since callers are told GiB with two decimals."""
LATEST_LOADS = 5
"""The expected load time is the median of this many loads."""


class LoadTime(NamedTuple):
    """The time of one past load of a model; sequences of these are oldest first."""

    machine: str
    key: str
    size_bytes: int | None
    load_s: float


def needed_bytes(
    machine: str, sizes: Sequence[ModelSize], min_context: int, on_disk_bytes: int | None
) -> tuple[int | None, EstimateSource]:
    """The bytes that a model will take on a machine, estimated from the known `sizes`.

    Sizes on that machine come first, then sizes on others, then the size on disk; the last two are raised to
    what it took with a smaller context. With `min_context`, only sizes with at least that context count, and
    of these the smallest; otherwise the latest.
    """
    here = [size for size in sizes if size.machine and size.machine.casefold() == machine.casefold()]
    if size_bytes := _bytes_taken(here, min_context):
        return size_bytes, "learned"
    smaller = [size for size in here or sizes if size.context_length and size.context_length < min_context]
    least_bytes = max((size.size_bytes for size in smaller), default=0)
    if size_bytes := _bytes_taken(sizes, min_context):
        return max(size_bytes, least_bytes), "learned_elsewhere"
    if on_disk_bytes or least_bytes:
        return max(round((on_disk_bytes or 0) * MEMORY_PER_DISK), least_bytes), "estimated"
    return None, "unknown"


def _bytes_taken(sizes: Sequence[ModelSize], min_context: int) -> int | None:
    """The size with the smallest sufficient context, or the latest if no context is asked for."""
    if not min_context:
        return max(sizes, key=lambda size: size.seen_at).size_bytes if sizes else None
    sufficient = [
        (size.context_length, -size.seen_at, size.size_bytes)
        for size in sizes
        if size.context_length and size.context_length >= min_context
    ]
    return min(sufficient)[2] if sufficient else None


def expected_load_s(
    machine: str, key: str, size_bytes: int | None, measured: Sequence[LoadTime]
) -> tuple[float | None, EstimateSource]:
    """The seconds that a load will take, from earlier loads there, or from its size and usual speed."""
    here = [load for load in measured if load.machine.casefold() == machine.casefold()]
    if same_model := [load.load_s for load in here if load.key == key]:
        return median(same_model[-LATEST_LOADS:]), "learned"
    if not size_bytes:
        return None, "unknown"
    speeds = [load.size_bytes / load.load_s for load in here if load.size_bytes and load.load_s > 0]
    speed = median(speeds[-LATEST_LOADS:]) if speeds else DEFAULT_LOAD_BYTES_PER_S
    return size_bytes / speed, "estimated"


@dataclass(frozen=True, slots=True)
class Evictable:
    """The models that an Ollama could evict, in order of expiry, and what that frees."""

    models: tuple[LoadedModel, ...] = ()
    size_bytes: int = 0

    def to_evict(self, missing_bytes: int, at_least: int = 0) -> tuple[str, ...]:
        """The names of the models to evict to free that many bytes, and at least `at_least` models."""
        names: list[str] = []
        for model in self.models:
            if missing_bytes <= 0 and len(names) >= at_least:
                break
            names.append(model.model)
            missing_bytes -= model.size_vram_bytes or model.size_bytes or 0
        return tuple(names)


class Fit(NamedTuple):
    """How a model fits on a machine, and the shares of memory that it would take."""

    fits: Fits
    shares: tuple[Share, ...] = ()
    evicted_bytes: int = 0


def fit(needs_bytes: int | None, headroom: Headroom, memory: Memory, evictable_bytes: int) -> Fit | None:
    """How a model of that size (None if unknown) fits into the memory with room besides, or None.

    It may be spread over several GPUs: Ollama fills the one with the most memory left first. What is free
    beside it must be on one GPU.
    """
    if memory.gpus is None:
        return Fit("unknown", memory.shares_of(headroom))
    if not memory.gpus:
        return _fit_ram(needs_bytes, round(headroom.ram_gb * GIB), memory, evictable_bytes)
    model = memory.spread(needs_bytes or 0)
    asked = memory.shares_of(Headroom(ram_gb=headroom.ram_gb))
    missing_for_model = max((needs_bytes or 0) - memory.left_bytes, 0)
    missing_beside = 0
    if headroom.vram_gb:
        room = _room_beside(model, round(headroom.vram_gb * GIB), memory.gpus)
        if room is None:
            return None
        asked, missing_beside = (room.share, *asked), room.missing_bytes
    return _fitting(needs_bytes, (*model, *asked), missing_for_model, missing_beside, evictable_bytes)


class _Room(NamedTuple):
    """Memory of one GPU besides a model, and how much more of it must be freed first."""

    share: Share
    missing_bytes: int


def _room_beside(model: Sequence[Share], size_bytes: int, gpus: Sequence[GpuMemory]) -> _Room | None:
    """The GPU with that much free besides a model with those shares, or where it can be freed."""
    taken = {share.of: share.size_bytes for share in model}
    best: _Room | None = None
    for gpu in gpus:
        left_bytes = min(gpu.left_bytes - taken.get(gpu.uuid, 0), size_bytes)
        missing_bytes = _missing(size_bytes - left_bytes)
        is_possible = missing_bytes <= gpu.reclaimable_bytes
        if is_possible and (best is None or missing_bytes < best.missing_bytes):
            best = _Room(Share(gpu.uuid, left_bytes, until_end=True), missing_bytes)
    return best


def _fit_ram(needs_bytes: int | None, asked_bytes: int, memory: Memory, evictable_bytes: int) -> Fit | None:
    left_bytes = memory.ram_left_bytes
    if left_bytes is None:
        return Fit("unknown", (Share(RAM, asked_bytes, until_end=True),) if asked_bytes else ())
    model = Share(RAM, min(needs_bytes or 0, left_bytes))
    beside = Share(RAM, min(asked_bytes, left_bytes - model.size_bytes), until_end=True)
    shares = [share for share in (model, beside) if share.size_bytes]
    missing = (needs_bytes or 0) - model.size_bytes, _missing(asked_bytes - beside.size_bytes)
    return _fitting(needs_bytes, shares, *missing, evictable_bytes)


def _missing(size_bytes: int) -> int:
    """How much of the requested memory is missing, apart from rounding."""
    return size_bytes if size_bytes > ROUNDING_BYTES else 0


def _fitting(
    needs_bytes: int | None,
    shares: Sequence[Share],
    missing_for_model: int,
    missing_beside: int,
    evictable_bytes: int,
) -> Fit | None:
    """The fit if `shares` can be promised and that much is missing for the model and besides it."""
    missing_bytes = missing_for_model + missing_beside
    if not missing_bytes:
        return Fit("unknown" if needs_bytes is None else "free", tuple(shares))
    if missing_bytes > evictable_bytes:
        return None
    evicted = Share(RECLAIMABLE, missing_for_model), Share(RECLAIMABLE, missing_beside, until_end=True)
    shares = [share for share in (*shares, *evicted) if share.size_bytes]
    return Fit("after_eviction", tuple(shares), missing_bytes)
