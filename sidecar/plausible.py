"""Removes impossible GPU readings, which drivers may report for a sample or two."""

from collections import Counter
from typing import TypeVar

from sidecar.payload import Gpu, Gpus, UnreadableGpu

MAX_PERCENT, MAX_CELSIUS, MAX_WATTS = 100, 200, 10_000

Number = TypeVar("Number", int, float)


def without_implausible(gpus: Gpus) -> tuple[Gpus, list[str]]:
    """The same cards without implausible readings, and a description of each of those.

    An implausible reading becomes None; a card whose memory or identity is implausible becomes unreadable.
    """
    cards: list[Gpu | UnreadableGpu] = [*gpus.readable, *gpus.unreadable]
    indices, uuids = Counter(card["index"] for card in cards), Counter(card["uuid"] for card in cards)
    readable: list[Gpu] = []
    unreadable, odd = list(gpus.unreadable), []
    for gpu in gpus.readable:
        reason = _implausibility(gpu, indices[gpu["index"]], uuids[gpu["uuid"]])
        if reason is None:
            clean = _without_implausible_readings(gpu)
            readable.append(clean)
            changed = (key for key, value in gpu.items() if clean.get(key) != value)
            odd += [f"GPU {gpu['index']}: its {key} is impossible" for key in changed]
        else:
            unreadable.append({"index": gpu["index"], "uuid": gpu["uuid"] or None, "reason": reason})
            odd.append(f"GPU {gpu['index']}: {reason}")
    return Gpus(readable, unreadable), odd


def _implausibility(gpu: Gpu, same_index: int, same_uuid: int) -> str | None:
    """Why a card cannot be believed at all; the counts include this card."""
    total, used, free = gpu["vram_total_bytes"], gpu["vram_used_bytes"], gpu["vram_free_bytes"]
    if not gpu["uuid"]:
        return "the NVIDIA driver does not report its UUID"
    if same_index > 1:
        return "another card has the same index"
    if same_uuid > 1:
        return "another card has the same UUID"
    if min(total, used, free) < 0 or used + free > total:
        return "the NVIDIA driver reports more used and free memory than there is"
    return None


def _without_implausible_readings(gpu: Gpu) -> Gpu:
    return {
        **gpu,
        "model": gpu["model"] or None,
        "utilisation": _within(gpu["utilisation"], MAX_PERCENT),
        "temperature_c": _within(gpu["temperature_c"], MAX_CELSIUS),
        "power_w": _within(gpu["power_w"], MAX_WATTS),
    }


def _within(value: Number | None, most: int) -> Number | None:
    return value if value is not None and 0 <= value <= most else None
