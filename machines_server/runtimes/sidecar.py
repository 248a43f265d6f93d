"""The sidecar, which reports on its host: good answers are read fast, others carefully."""

from collections import Counter
from collections.abc import Iterable, Mapping
from operator import attrgetter
from typing import Annotated, Any, ClassVar

import msgspec
from msgspec import Meta

from machines_server.core import reasons
from machines_server.core.reasons import Reason, status_code
from machines_server.core.sample import (
    LOADS,
    GpuSample,
    GpuUnreadable,
    HostSample,
    RuntimeState,
    metrics_of,
)
from machines_server.errors import BadAnswerError
from machines_server.runtimes.base import Reading, Runtime
from machines_server.runtimes.fields import MAX_VALUE_CHARACTERS, Fields, Oddities, json_object, short

SIDECAR_VERSION = 1
MAX_GPUS = 256
_MAX_BYTES, MAX_OTHER = 2**50, 10**9
"""The highest accepted value of any metric; sums over an hour stay far within 64 bits."""
Rule = tuple[str, bool, float]
"""The name of a metric, whether it is a whole number, and its maximum."""


def _rules(kind: type[HostSample | GpuSample]) -> tuple[Rule, ...]:
    rules = []
    for metric in metrics_of(kind):
        whole = metric.metadata["unit"] == "bytes"
        if metric.name not in LOADS:
            rules.append(
                (metric.name, whole, metric.metadata["most"] or (_MAX_BYTES if whole else MAX_OTHER))
            )
    return tuple(rules)


HOST_RULES, GPU_RULES = _rules(HostSample), _rules(GpuSample)
HOST_PARTS = (
    ("ram_used_bytes", "ram_total_bytes"),
    ("ram_available_bytes", "ram_total_bytes"),
    ("disk_used_bytes", "disk_total_bytes"),
    ("disk_available_bytes", "disk_total_bytes"),
)
"""Pairs of a metric and its upper bound."""
VRAM = ("vram_total_bytes", "vram_used_bytes", "vram_free_bytes")
_NOT_A_SIDECAR = Reason("gpu: missing; is this a sidecar?", reasons.OTHER_KIND)


class Sidecar(Runtime):
    """This project's sidecar, which any host may run."""

    kind = "sidecar"
    title = "the sidecar"
    port_key = "network.sidecar_port"
    scheme_key = "network.sidecar_scheme"
    path = "/metrics"
    is_signed = True
    start_hint = "run `make run-sidecar` on that host, or set network.sidecar: false"
    hints: ClassVar[Mapping[str, str]] = {
        reasons.UNSIGNED: (
            "set MACHINES_AGENT_ID and MACHINES_PRIVATE_KEY here, copy the public key to"
            " SIDECAR_AUTH_KEYS_DIR there, and compare the clocks"
        ),
        status_code(404): (
            "there is no /metrics: a proxy that serves the sidecar below a path, or another server; declare"
            " the port of the sidecar itself in {file}"
        ),
        status_code(421): (
            "add {hostname} to SIDECAR_ALLOWED_HOSTS there:"
            " something in front of it drops Sec-Machines-Client"
        ),
        reasons.OTHER_VERSION: (
            "this server and that sidecar have versions that do not work together: upgrade the older one"
        ),
    }

    def read(self, body: bytes) -> Reading:
        """Read the JSON of /metrics."""
        sample = read_good_host(body)
        if sample is not None:
            return Reading(RuntimeState(host=sample), _NOTHING_ODD)
        sample, oddities = read_host(body)
        return Reading(RuntimeState(host=sample), oddities)


def read_host(body: bytes) -> tuple[HostSample, Oddities]:
    """Read the JSON of /metrics and note what is wrong with it; raises BadAnswerError."""
    host = json_object(body)
    version = host.raw.get("version")
    if type(version) is not int or version != SIDECAR_VERSION:
        text = f"payload version {short(version)}, but this server knows version {SIDECAR_VERSION}"
        raise BadAnswerError(Reason(text, reasons.OTHER_VERSION))
    if "gpu" not in host.raw:  # only an empty list means that there are no GPUs
        raise BadAnswerError(_NOT_A_SIDECAR)
    values = _metrics(host, HOST_RULES)
    values.update(zip(LOADS, _loads(host), strict=True))
    for part, whole in HOST_PARTS:
        if values[part] is not None and values[whole] is not None and values[part] > values[whole]:
            host.note(part, f"{values[part]} is more than {whole}, {values[whole]}")
            values[part] = None
    gpus: list[GpuSample] = []
    unreadable = [_unreadable(card) for card in host.entries("gpu_unreadable", MAX_GPUS)]
    for card in host.entries("gpu", MAX_GPUS):
        gpu = _gpu(card)
        gpus.append(gpu) if isinstance(gpu, GpuSample) else unreadable.append(gpu)
    distinct, ambiguous = _without_duplicates(gpus, unreadable)
    for duplicate in ambiguous:
        host.oddities.note("gpu", f"GPU {duplicate.index}: {duplicate.reason}")
    hostname = host.name("hostname") if host.raw.get("hostname") != "" else None
    sample = HostSample(
        **values, gpu=tuple(distinct), gpu_unreadable=(*unreadable, *ambiguous), hostname=hostname
    )
    return sample, host.oddities


def _without_duplicates(
    gpus: list[GpuSample], unreadable: list[GpuUnreadable]
) -> tuple[list[GpuSample], list[GpuUnreadable]]:
    """The cards with a unique index and UUID, and the others as unreadable."""
    cards: list[GpuSample | GpuUnreadable] = [*gpus, *unreadable]
    indices, uuids = Counter(card.index for card in cards), Counter(card.uuid for card in cards)
    distinct, ambiguous = [], []
    for gpu in gpus:
        if indices[gpu.index] > 1:
            ambiguous.append(GpuUnreadable(gpu.index, gpu.uuid, "another card has the same index"))
        elif uuids[gpu.uuid] > 1:
            ambiguous.append(GpuUnreadable(gpu.index, gpu.uuid, "another card has the same UUID"))
        else:
            distinct.append(gpu)
    return distinct, ambiguous


def _gpu(raw: Fields) -> GpuSample | GpuUnreadable:
    index, uuid = _index(raw), raw.required_name("uuid")
    if raw.raw.get("index") is None:
        raw.note("index", "missing")
    values = _metrics(raw, GPU_RULES)
    model, kind = raw.description("model"), raw.description("memory_kind")
    if index is None or uuid is None:
        missing = "index" if index is None else "UUID"
        return GpuUnreadable(index, uuid, f"the sidecar did not report its {missing}")
    if any(values[name] is None for name in VRAM):
        return GpuUnreadable(index, uuid, "the sidecar gave no memory reading")
    if values["vram_used_bytes"] + values["vram_free_bytes"] > values["vram_total_bytes"]:
        reason = "used and free memory are more than its total"
        raw.note("vram_used_bytes", reason)
        return GpuUnreadable(index, uuid, reason)
    return GpuSample(index=index, uuid=uuid, model=model, memory_kind=kind or "unknown", **values)


def _unreadable(raw: Fields) -> GpuUnreadable:
    reason = raw.description("reason") or "the sidecar gave no reason"
    return GpuUnreadable(_index(raw), raw.name("uuid"), reason)


def _metrics(raw: Fields, rules: Iterable[Rule]) -> dict[str, Any]:
    return {name: raw.number(name, whole=whole, most=most) for name, whole, most in rules}


def _index(raw: Fields) -> int | None:
    index: int | None = raw.number("index", whole=True, most=MAX_GPUS)
    return index


def _loads(host: Fields) -> tuple[Any, Any, Any]:
    value = host.raw.get("load_avg")
    if value is None:
        return None, None, None
    if not isinstance(value, list) or len(value) != 3:
        host.note("load_avg", f"{short(value)} is not a list of three numbers")
        return None, None, None
    one, five, fifteen = (host.checked("load_avg", load, most=MAX_OTHER) for load in value)
    return one, five, fifteen


def _number(most: float, *, whole: bool) -> Any:
    integer: Any = Annotated[int, Meta(ge=0, le=int(most))]
    return integer if whole else integer | Annotated[float, Meta(ge=0, le=float(most))]


def _field(rule: Rule) -> tuple[str, Any] | tuple[str, Any, None]:
    name, whole, most = rule
    kind = _number(most, whole=whole)
    return (name, kind) if name in VRAM else (name, kind | None, None)


_Text = Annotated[str, Meta(min_length=1, max_length=MAX_VALUE_CHARACTERS)]
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
        ("hostname", Annotated[str, Meta(max_length=MAX_VALUE_CHARACTERS)] | None, None),
        ("sampled_at", str | None, None),
        ("window_s", _number(MAX_OTHER, whole=False) | None, None),
        ("cpu_count", _number(MAX_OTHER, whole=True) | None, None),
        *map(_field, HOST_RULES),
    ],
    kw_only=True,
    forbid_unknown_fields=True,  # msgspec does not check fields that it skips
)
_decode: Any = msgspec.json.Decoder(_Answer).decode
_NOTHING_ODD = Oddities()
_UNKNOWN_LOADS = (None, None, None)
_LOADS_AT = [metric.name for metric in metrics_of(HostSample)].index(LOADS[0])
_host_values = attrgetter(*(name for name, *_ in HOST_RULES))
_gpu_values = attrgetter("index", "uuid", "model", "memory_kind", *(name for name, *_ in GPU_RULES))


def read_good_host(body: bytes) -> HostSample | None:
    """Read a clearly good answer, checked by msgspec in C; None if `read_host` must check it.

    Every host sends an answer in each cycle, and reading them in Python took an eighth of the CPU of polling.
    """
    try:
        raw = _decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    if raw.version != SIDECAR_VERSION:
        return None
    gpus = [GpuSample(*_gpu_values(gpu)) for gpu in raw.gpu]
    metrics = _host_values(raw)
    loads = raw.load_avg or _UNKNOWN_LOADS
    # By position, in the order of the fields: naming them takes several times as long.
    values: list[Any] = [
        *metrics[:_LOADS_AT],
        *loads,
        *metrics[_LOADS_AT:],
        tuple(gpus),
        (),
        raw.hostname or None,
    ]
    sample = HostSample(*values)
    return sample if _adds_up(sample) else None


def _adds_up(sample: HostSample) -> bool:
    """Return whether no reading contradicts another; HOST_PARTS is spelled out for speed."""
    ram, disk = sample.ram_total_bytes, sample.disk_total_bytes
    if ram is not None and ((sample.ram_used_bytes or 0) > ram or (sample.ram_available_bytes or 0) > ram):
        return False
    if disk is not None and (
        (sample.disk_used_bytes or 0) > disk or (sample.disk_available_bytes or 0) > disk
    ):
        return False
    if sample.hostname is not None and not sample.hostname.isprintable():
        return False
    last = -1
    for gpu in sample.gpu:
        if gpu.index <= last or gpu.vram_used_bytes + gpu.vram_free_bytes > gpu.vram_total_bytes:
            return False
        if not (gpu.uuid.isprintable() and gpu.memory_kind.isprintable() and (gpu.model or "").isprintable()):
            return False
        last = gpu.index
    return len({gpu.uuid for gpu in sample.gpu}) == len(sample.gpu)
