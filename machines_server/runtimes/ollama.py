"""Ollama and servers that imitate its API: the models in memory and on disk."""

import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import ClassVar, NamedTuple

from machines_server.core import reasons
from machines_server.core.model_names import is_cloud_key, model_key
from machines_server.core.reasons import Reason, status_code
from machines_server.core.sample import LoadedModel, RuntimeState, StoredModel
from machines_server.core.text import clip
from machines_server.errors import BadAnswerError
from machines_server.runtimes.base import Reading, Runtime, Stored
from machines_server.runtimes.fields import Fields, Oddities, json_object, short

MAX_MODELS = 1000
MAX_STORED_MODELS = 10_000
TOLERANCE_S, TOLERANCE_SHARE = 0.25, 0.25
"""How much the move of `expires_at` may differ from the time between two polls, in seconds and as a share of
that time. Ollama's own answers are within 50 ms; the rest allows for the network and for this server."""
_REMEMBERED_BYTES = 2**16
_SHA256 = re.compile("[0-9a-f]{64}")
_NEVER_FROM_YEAR = 2200
"""Ollama writes a keep-alive of -1 as a date about 292 years ahead."""
_NOT_AN_OLLAMA = Reason("models: missing; is this an Ollama?", reasons.OTHER_KIND)


class LoadedModels(NamedTuple):
    """What /api/ps lists, sorted by name."""

    models: tuple[LoadedModel, ...]
    expiries: dict[str, float]
    """When each model expires (exact epoch seconds), by the key of its name."""
    oddities: Oddities


class _Answer(NamedTuple):
    """An answer, and when it arrived (monotonic)."""

    body: bytes
    at: float
    listed: LoadedModels
    unmarked: Reading
    reading: Reading


class Ollama(Runtime):
    """Ollama's API; also marks the models that still serve the request that loaded them.

    While such a request runs, `expires_at` is always one keep-alive from now, so it moves with the clock.
    Later requests do not move it.
    """

    kind = "ollama"
    title = "Ollama"
    port_key = "network.port"
    path = "/api/ps"
    library_path = "/api/tags"
    needs_date = True
    start_hint = "start Ollama there with OLLAMA_HOST=0.0.0.0:{port}; by default it listens only on 127.0.0.1"
    local_start_hint = "start Ollama, or set network.ollama: false"
    busy_hint = "it is usually loading a model"
    hints: ClassVar[Mapping[str, str]] = {
        status_code(403): (
            "an Ollama that serves 127.0.0.1 refuses Host headers that it does not know, as a proxy or tunnel"
            " passes them on: make that send Host: localhost, or set OLLAMA_HOST=0.0.0.0 there;"
            " or the proxy refuses this server"
        ),
        status_code(404): (
            "there is no /api/ps: a proxy that serves Ollama below a path (network.path in {file}), an Ollama"
            " before 0.1.38, or another server; declare where Ollama is in {file}"
        ),
    }
    """403 comes from `allowedHostsMiddleware` in Ollama's server/routes.go; we send no Origin."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._before: _Answer | None = None

    def read(self, body: bytes) -> Reading:
        """Read the JSON of /api/ps; the same bytes give the same state object."""
        before = self._before
        if before and before.body is body:  # several machines share the URL
            return before.reading
        if before and before.body == body:  # no expiry moved, so no model serves its first request
            answer = before._replace(body=body, reading=before.unmarked)
        else:
            at, listed = self._clock(), read_ps(body)
            reading = unmarked = Reading(RuntimeState(models=listed.models), listed.oddities)
            if before and (working := _moving_with_clock(before, listed, at)):
                reading = Reading(RuntimeState(models=_marked(listed.models, working)), listed.oddities)
            answer = _Answer(body if len(body) <= _REMEMBERED_BYTES else b"", at, listed, unmarked, reading)
        self._before = answer
        return answer.reading

    def read_library(self, body: bytes) -> Stored:
        """Read the JSON of /api/tags."""
        return read_tags(body)


def read_ps(body: bytes) -> LoadedModels:
    """Read the JSON of /api/ps; raises BadAnswerError."""
    answer = json_object(body)
    by_key: dict[str, LoadedModel] = {}
    expiries: dict[str, float] = {}
    for name, raw in _models(answer, MAX_MODELS):
        key = model_key(name)
        if key in by_key:
            continue
        expires = _expiry(raw)
        if expires is not None:
            expiries[key] = expires.timestamp()
        by_key[key] = _loaded_model(name, raw, _public_expiry(expires))
    models = tuple(sorted(by_key.values(), key=lambda model: model.model))
    return LoadedModels(models, expiries, answer.oddities)


def read_tags(body: bytes) -> Stored:
    """Read the JSON of /api/tags; raises BadAnswerError.

    Models with a `remote_host` run in Ollama's cloud and are not on disk.
    """
    answer = json_object(body)
    by_key: dict[str, StoredModel] = {}
    for name, raw in _models(answer, MAX_STORED_MODELS):
        key, size = model_key(name), raw.number("size", whole=True) or None
        is_remote = bool(raw.raw.get("remote_host") or raw.raw.get("remote_model")) or is_cloud_key(key)
        by_key.setdefault(key, StoredModel(name, _digest(raw), size, is_remote))
    models = tuple(sorted(by_key.values(), key=lambda model: model.model))
    return Stored(models, answer.oddities)


def _moving_with_clock(before: _Answer, listed: LoadedModels, at: float) -> set[str]:
    """The keys of the models whose expiry moved by the time since the previous answer."""
    elapsed_s = at - before.at
    tolerance_s = min(TOLERANCE_S, TOLERANCE_SHARE * elapsed_s)
    expiries_before = before.listed.expiries
    return {
        key
        for key, expires_at in listed.expiries.items()
        if key in expiries_before and abs(expires_at - expiries_before[key] - elapsed_s) < tolerance_s
    }


def _marked(models: tuple[LoadedModel, ...], working: set[str]) -> tuple[LoadedModel, ...]:
    """The models, with those marked that have a key in `working`."""
    return tuple(
        replace(model, is_working=True) if model_key(model.model) in working else model for model in models
    )


def _models(answer: Fields, most: int) -> Iterator[tuple[str, Fields]]:
    """The models that an answer lists, each with its name."""
    if "models" not in answer.raw:
        raise BadAnswerError(_NOT_AN_OLLAMA)
    for model in answer.entries("models", most) if answer.raw["models"] is not None else ():
        if model.raw.get("model"):
            name = model.name("model") or model.name("name")
        else:
            name = model.required_name("name")
        if name is not None:
            model.at = f"{clip(name)}: "
            yield name, model


def _loaded_model(name: str, raw: Fields, expires_at: str | None) -> LoadedModel:
    # A size of 0 is unknown to the server; a missing size_vram means 0 if the size is known.
    size = raw.number("size", whole=True) or None
    vram = raw.number("size_vram", whole=True)
    if vram is None and size and raw.raw.get("size_vram") is None:
        vram = 0
    return LoadedModel(
        model=name,
        digest=_digest(raw),
        size_bytes=size,
        size_vram_bytes=vram if size else vram or None,
        context_length=raw.number("context_length", whole=True) or None,
        expires_at=expires_at,
    )


def _digest(raw: Fields) -> str | None:
    """A SHA-256 in hex, or None for anything else and for a placeholder of one repeated digit."""
    digest = (raw.name("digest") or "" if raw.raw.get("digest") else "").removeprefix("sha256:").lower()
    return digest if _SHA256.fullmatch(digest) and len(set(digest)) > 1 else None


def _expiry(raw: Fields) -> datetime | None:
    text = raw.name("expires_at") if raw.raw.get("expires_at") else None
    if text is None:
        return None
    try:
        when = datetime.fromisoformat(text)
        if when.tzinfo is None:  # some imitations omit the zone, and ours may differ
            when = when.replace(tzinfo=UTC)
        return when.astimezone(UTC) if _is_expiry(when) else when
    except (ValueError, OverflowError):
        raw.note("expires_at", f"{short(text)} is not an RFC 3339 time")
        return None


def _is_expiry(when: datetime) -> bool:
    """Return whether a time is a real expiry; year 1 means none, and a year far ahead means never."""
    return when.year != 1 and when.year < _NEVER_FROM_YEAR


def _public_expiry(when: datetime | None) -> str | None:
    if when is None or not _is_expiry(when):
        return None
    return when.replace(tzinfo=None).isoformat(timespec="seconds") + "Z"
