"""The live keys of a machine: what its latest polls say of it now."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from machines_server.core.hints import hint
from machines_server.core.model_names import spelled_as
from machines_server.core.registry import Endpoint, Machine
from machines_server.core.sample import Answer, HostSample, LoadedModel, State, telemetry
from machines_server.core.status import BUSY_GRACE_S, Seen, is_fresh, judge
from machines_server.core.times import rfc3339


@dataclass(frozen=True, slots=True)
class Latest:
    """How the latest poll of one endpoint ended; `answer` is as old as `answered_at` says."""

    url: str
    state: State
    reason: str | None
    polled_at: float
    answered_at: float | None
    answer: Answer | None


def live_keys(
    machine: Machine,
    latest: Mapping[Endpoint, Latest],
    poller_fault: str | None,
    now: float,
    limit_s: float,
) -> dict[str, Any]:
    """The live keys as JSON can hold them; polls older than `limit_s` do not speak for the present."""
    urls = machine.endpoints
    latest = {one: found for one, found in latest.items() if urls.get(one) == found.url}
    fresh = {one: found for one, found in latest.items() if is_fresh(found.polled_at, now, limit_s)}
    verdict = judge(
        frozenset(urls),
        {one: Seen(found.state, found.reason) for one, found in fresh.items()},
        poller_fault,
    )
    ollama = _ollama(machine, None if poller_fault else fresh.get(Endpoint.OLLAMA), poller_fault, now)
    sidecar = latest.get(Endpoint.SIDECAR)
    return {
        "status": verdict.status,
        "status_reason": verdict.reason,
        "sampled_at": rfc3339(sidecar.answered_at) if sidecar else None,
        "last_seen": rfc3339(max((found.answered_at or 0 for found in latest.values()), default=0) or None),
        "telemetry": telemetry(sidecar.answer) if sidecar and isinstance(sidecar.answer, HostSample) else {},
        "loaded_models": sorted({model["name"] for model in ollama["models"]}),
        "ollama": ollama,
    }


def changes_at(latest: Mapping[Endpoint, Latest], now: float, limit_s: float) -> float:
    """When the live keys would next change by the clock alone, in epoch seconds."""
    spans = [(found.polled_at, limit_s) for found in latest.values()]
    spans += [
        (found.answered_at, BUSY_GRACE_S)
        for found in latest.values()
        if found.state is State.BUSY and found.answered_at is not None
    ]
    # A stamp that the clock was set back behind counts from `span` before it until `span` after it.
    moments = [moment for at, span in spans for moment in (at - span, at + span)]
    return min((moment for moment in moments if moment >= now), default=float("inf"))


def _ollama(machine: Machine, found: Latest | None, fault: str | None, now: float) -> dict[str, Any]:
    if not machine.has_ollama:
        return {"state": "disabled", "message": None, "models": []}
    if found is None:
        return {"state": None, "message": fault or "not polled yet", "models": []}
    message = found.reason
    if message and (advice := hint(machine, Endpoint.OLLAMA, found.state, message)):
        message = f"{message}: {advice}"
    stands = found.state is State.OK or (
        found.state is State.BUSY and is_fresh(found.answered_at, now, BUSY_GRACE_S)
    )
    listed = found.answer if stands and isinstance(found.answer, tuple) else ()
    models = [_public_model(model, spelled_as(model.model, machine.models)) for model in listed]
    return {"state": found.state, "message": message, "models": models}


def _public_model(model: LoadedModel, name: str) -> dict[str, Any]:
    return {
        "name": name,
        "model": model.model,
        "digest": model.digest,
        "size_bytes": model.size_bytes,
        "size_vram_bytes": model.size_vram_bytes,
        "processor": model.processor,
        "context_length": model.context_length,
        "expires_at": model.expires_at,
    }
