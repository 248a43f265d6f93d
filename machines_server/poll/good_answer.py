"""The quick way for what a sidecar says when all is well: checked and built by msgspec, in C.

Every host says so once a cycle; read in Python, it took an eighth of the CPU of polling. What is not plainly
good is left to `parse.py`, which can say what is wrong with it; both have the limits of the catalogue.
"""

from operator import attrgetter
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from machines_server.core.sample import GpuSample, HostSample, metrics_of

SIDECAR_VERSION = 1
MAX_GPUS = 256
MAX_TEXT = 512
_MAX_BYTES, MAX_OTHER = 2**50, 10**9
"""The most that we believe of any metric; sums over an hour stay far within 64 bits."""
Rule = tuple[str, bool, float]
"""Name, whether it is a whole number, and the most that it can be."""


def _rules(kind: type[HostSample | GpuSample]) -> tuple[Rule, ...]:
    rules = []
    for one in metrics_of(kind):
        whole = one.metadata["unit"] == "bytes"
        if not one.name.startswith("load_"):
            rules.append((one.name, whole, one.metadata["most"] or (_MAX_BYTES if whole else MAX_OTHER)))
    return tuple(rules)


HOST_RULES, GPU_RULES = _rules(HostSample), _rules(GpuSample)
VRAM = ("vram_total_bytes", "vram_used_bytes", "vram_free_bytes")


def _number(most: float, *, whole: bool) -> Any:
    integer: Any = Annotated[int, Meta(ge=0, le=int(most))]
    return integer if whole else integer | Annotated[float, Meta(ge=0, le=float(most))]


def _field(rule: Rule) -> tuple[str, Any] | tuple[str, Any, None]:
    name, whole, most = rule
    kind = _number(most, whole=whole)
    return (name, kind) if name in VRAM else (name, kind | None, None)


_Text = Annotated[str, Meta(min_length=1, max_length=MAX_TEXT)]
_Load: Any = _number(MAX_OTHER, whole=False)
_Gpu: Any = msgspec.defstruct(
    "_Gpu",
    [
        ("index", Annotated[int, Meta(ge=0, le=MAX_GPUS)]),
        ("uuid", _Text),
        ("model", _Text | None, None),
        ("memory_kind", _Text),
        *map(_field, GPU_RULES),
    ],
    kw_only=True,
    forbid_unknown_fields=True,
)
_Answer = msgspec.defstruct(
    "_Answer",
    [
        ("version", int),
        ("gpu", Annotated[list[_Gpu], Meta(max_length=MAX_GPUS)]),
        ("gpu_unreadable", Annotated[list[Any], Meta(max_length=0)], []),
        ("load_avg", tuple[_Load, _Load, _Load] | None, None),
        ("hostname", str | None, None),
        ("sampled_at", str | None, None),
        ("window_s", _number(MAX_OTHER, whole=False) | None, None),
        ("cpu_count", _number(MAX_OTHER, whole=True) | None, None),
        *map(_field, HOST_RULES),
    ],
    kw_only=True,
    forbid_unknown_fields=True,  # of what it passes over msgspec does not look at all
)
_decode: Any = msgspec.json.Decoder(_Answer).decode
_UNKNOWN_LOADS = (None, None, None)
_host_values = attrgetter(*(name for name, *_ in HOST_RULES))
_gpu_values = attrgetter("index", "uuid", "model", "memory_kind", *(name for name, *_ in GPU_RULES))


def read(body: bytes) -> HostSample | None:
    """The sample, or None for what needs a closer look: it may be good all the same."""
    try:
        raw = _decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    if raw.version != SIDECAR_VERSION:
        return None
    gpus = [GpuSample(*_gpu_values(gpu)) for gpu in raw.gpu]
    cpu, *rest = _host_values(raw)
    # In the order of the catalogue.
    values: list[Any] = [cpu, *(raw.load_avg or _UNKNOWN_LOADS), *rest, tuple(gpus)]
    sample = HostSample(*values)
    return sample if _adds_up(sample) else None


def _adds_up(sample: HostSample) -> bool:
    for used, total in (
        (sample.ram_used_bytes, sample.ram_total_bytes),
        (sample.disk_used_bytes, sample.disk_total_bytes),
    ):
        if used is not None and total is not None and used > total:
            return False
    for gpu in sample.gpu:
        if max(gpu.vram_used_bytes, gpu.vram_free_bytes) > gpu.vram_total_bytes:
            return False
        if not (gpu.uuid.isprintable() and gpu.memory_kind.isprintable() and (gpu.model or "").isprintable()):
            return False
    return len({gpu.uuid for gpu in sample.gpu}) == len(sample.gpu)
