"""Bytes that a host sent, which nobody vouches for, to samples; or BadAnswerError with the reason."""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

import orjson

from machines_server.core.model_names import model_key
from machines_server.core.sample import (
    GpuSample,
    GpuUnreadable,
    HostSample,
    LoadedModel,
    StoredModel,
)
from machines_server.errors import BadAnswerError
from machines_server.poll import good_answer
from machines_server.poll.good_answer import (
    GPU_RULES,
    HOST_RULES,
    MAX_GPUS,
    MAX_OTHER,
    MAX_TEXT,
    SIDECAR_VERSION,
    VRAM,
    Rule,
)

MAX_MODELS = 1000
MAX_STORED_MODELS = 10_000
_MAX_NUMBER = 2**63 - 1
_NEVER_FROM_YEAR = 2200
"""Ollama's keep-alive of -1 is written as a date some 292 years ahead."""


def parse_sidecar(body: bytes) -> HostSample:
    """The JSON of a sidecar's /metrics."""
    return good_answer.read(body) or explained_sidecar(body)


def explained_sidecar(body: bytes) -> HostSample:
    """The same, by rules that say what is wrong."""
    raw = _object(body)
    version = raw.get("version")
    if type(version) is not int or version != SIDECAR_VERSION:
        raise BadAnswerError(
            f"payload version {_short(version)}, but this server knows version {SIDECAR_VERSION}"
        )
    if "gpu" not in raw:  # an empty list says that there is none; nothing says nothing
        raise BadAnswerError("gpu: missing; is this a sidecar?")
    values = _metrics(raw, HOST_RULES, "")
    values["load_1m"], values["load_5m"], values["load_15m"] = _loads(raw.get("load_avg"))
    _not_more(values, "ram_used_bytes", "ram_total_bytes", "")
    _not_more(values, "disk_used_bytes", "disk_total_bytes", "")
    gpus: list[GpuSample] = []
    unreadable = [_unreadable(one, at) for one, at in _list(raw, "gpu_unreadable", MAX_GPUS)]
    for one, at in _list(raw, "gpu", MAX_GPUS):
        found = _gpu(one, at)
        gpus.append(found) if isinstance(found, GpuSample) else unreadable.append(found)
    uuids = [gpu.uuid for gpu in gpus] + [gpu.uuid for gpu in unreadable if gpu.uuid is not None]
    if len(set(uuids)) < len(uuids):
        raise BadAnswerError("gpu: two entries have the same uuid")
    return HostSample(**values, gpu=tuple(gpus), gpu_unreadable=tuple(unreadable))


def parse_ollama(body: bytes) -> tuple[LoadedModel, ...]:
    """The JSON of Ollama's /api/ps, or of a server that imitates it; sorted by name."""
    raw = _object(body)
    if "models" not in raw:
        raise BadAnswerError("models: missing; is this an Ollama?")
    found: dict[str, LoadedModel] = {}
    for one, at in _list(raw, "models", MAX_MODELS) if raw["models"] is not None else ():
        model = _model(one, at)
        found.setdefault(model_key(model.model), model)
    return tuple(sorted(found.values(), key=lambda model: model.model))


def parse_tags(body: bytes) -> tuple[StoredModel, ...]:
    """The JSON of Ollama's /api/tags, sorted by name.

    Without the models of its cloud, which have a `remote_host`: they are on nobody's disk.
    """
    raw = _object(body)
    if "models" not in raw:
        raise BadAnswerError("models: missing; is this an Ollama?")
    found: dict[str, StoredModel] = {}
    for one, at in _list(raw, "models", MAX_STORED_MODELS) if raw["models"] is not None else ():
        if one.get("remote_host") or one.get("remote_model"):
            continue
        name = _text(one, "model" if one.get("model") else "name", at)
        size = _number(one, "size", at, whole=True) or None
        found.setdefault(model_key(name), StoredModel(name, _digest(one, at), size))
    return tuple(sorted(found.values(), key=lambda model: model.model))


def _gpu(raw: dict[str, Any], at: str) -> GpuSample | GpuUnreadable:
    index, uuid = _index(raw, at), _text(raw, "uuid", at)
    values = _metrics(raw, GPU_RULES, at)
    if any(values[name] is None for name in VRAM):
        return GpuUnreadable(index, uuid, "the sidecar gave no memory reading")
    _not_more(values, "vram_used_bytes", "vram_total_bytes", at)
    _not_more(values, "vram_free_bytes", "vram_total_bytes", at)
    model = None if raw.get("model") is None else _text(raw, "model", at)
    kind = _text(raw, "memory_kind", at)
    return GpuSample(index=index, uuid=uuid, model=model, memory_kind=kind, **values)


def _unreadable(raw: dict[str, Any], at: str) -> GpuUnreadable:
    index = None if raw.get("index") is None else _index(raw, at)
    uuid = None if raw.get("uuid") is None else _text(raw, "uuid", at)
    return GpuUnreadable(index, uuid, _text(raw, "reason", at))


def _model(raw: dict[str, Any], at: str) -> LoadedModel:
    name = _text(raw, "model" if raw.get("model") else "name", at)
    # A size of 0 is one that the server does not know; a missing size_vram is 0 where the size is known.
    size = _number(raw, "size", at, whole=True) or None
    vram = _number(raw, "size_vram", at, whole=True)
    return LoadedModel(
        model=name,
        digest=_digest(raw, at),
        size_bytes=size,
        size_vram_bytes=(vram or 0) if size else (vram or None),
        context_length=_number(raw, "context_length", at, whole=True) or None,
        expires_at=_expiry(raw, at),
    )


def _digest(raw: dict[str, Any], at: str) -> str | None:
    digest = _text(raw, "digest", at).removeprefix("sha256:") if raw.get("digest") else ""
    return digest if digest.strip("0") else None


def _expiry(raw: dict[str, Any], at: str) -> str | None:
    if not raw.get("expires_at"):
        return None
    text = _text(raw, "expires_at", at)
    try:
        when = datetime.fromisoformat(text)
        if when.tzinfo is None:  # some look-alikes leave the zone out, and ours is not theirs
            when = when.replace(tzinfo=UTC)
        if when.year == 1 or when.year >= _NEVER_FROM_YEAR:
            return None
        return when.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="seconds") + "Z"
    except (ValueError, OverflowError):
        raise BadAnswerError(f"{at}expires_at: {_short(text)} is not an RFC 3339 time") from None


def _object(body: bytes) -> dict[str, Any]:
    if body.startswith(b"\x1f\x8b"):
        raise BadAnswerError("a compressed answer, which was not asked for")
    try:
        raw = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise BadAnswerError(_no_json(body) or f"no valid JSON ({error.msg})") from None
    if not isinstance(raw, dict):
        raise BadAnswerError("JSON, but not an object")
    return raw


def _no_json(body: bytes) -> str | None:
    """What it is that is not JSON, if that can be told."""
    begin = body.lstrip()[:1]
    if begin == b"<":
        return "HTML, not JSON"
    try:
        body.decode()
    except UnicodeDecodeError:
        return (
            None
            if begin in (b"{", b"[")
            else "no valid JSON, perhaps a compressed answer, which was not asked for"
        )
    return None


def _list(raw: dict[str, Any], key: str, most: int) -> Iterable[tuple[dict[str, Any], str]]:
    found = raw.get(key, [])
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        raise BadAnswerError(f"{key}: not a list of objects")
    if len(found) > most:
        raise BadAnswerError(f"{key}: {len(found)} entries, more than {most}")
    return [(one, f"{key}[{number}].") for number, one in enumerate(found)]


def _metrics(raw: dict[str, Any], rules: Iterable[Rule], at: str) -> dict[str, Any]:
    return {name: _number(raw, name, at, whole=whole, most=most) for name, whole, most in rules}


def _number(raw: dict[str, Any], key: str, at: str, *, whole: bool = False, most: float = _MAX_NUMBER) -> Any:
    """A number from 0 to `most`; a missing or null one is None, unknown."""
    value = raw.get(key)
    if value is None:
        return None
    if type(value) is not int and (whole or type(value) is not float):
        raise BadAnswerError(f"{at}{key}: {_short(value)} is not a{' whole' if whole else ''} number")
    if not 0 <= value <= most:
        raise BadAnswerError(f"{at}{key}: {_short(value)} is out of range")
    return value


def _index(raw: dict[str, Any], at: str) -> int:
    index: int | None = _number(raw, "index", at, whole=True, most=MAX_GPUS)
    if index is None:
        raise BadAnswerError(f"{at}index: missing")
    return index


def _loads(value: object) -> tuple[Any, Any, Any]:
    if value is None:
        return None, None, None
    if not isinstance(value, list) or len(value) != 3:
        raise BadAnswerError("load_avg: not a list of three numbers")
    one, five, fifteen = (_number({"load_avg": load}, "load_avg", "", most=MAX_OTHER) for load in value)
    return one, five, fifteen


def _text(raw: dict[str, Any], key: str, at: str) -> str:
    value = raw.get(key)
    if not isinstance(value, str) or not value:
        raise BadAnswerError(f"{at}{key}: {_short(value)} is not a text")
    if len(value) > MAX_TEXT:
        raise BadAnswerError(f"{at}{key}: longer than {MAX_TEXT} characters")
    if not value.isprintable():
        raise BadAnswerError(f"{at}{key}: {_short(value)} has control characters")
    return value


def _not_more(values: dict[str, Any], part: str, whole: str, at: str) -> None:
    if values[part] is not None and values[whole] is not None and values[part] > values[whole]:
        raise BadAnswerError(f"{at}{part}: more than {whole}")


def _short(value: object) -> str:
    if isinstance(value, list | dict):  # its repr may be a megabyte, or deeper than Python can go
        return "a list" if isinstance(value, list) else "an object"
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
