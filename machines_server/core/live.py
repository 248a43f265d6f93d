"""What stands of a machine now, by its latest polls and the clock; and that as the live keys of the API."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any, NamedTuple

from machines_server.core.hints import hint
from machines_server.core.memory import Memory
from machines_server.core.model_names import spelled_as
from machines_server.core.registry import Endpoint, Machine
from machines_server.core.sample import Answer, HostSample, LoadedModel, State, telemetry
from machines_server.core.status import BUSY_GRACE_S, NOT_ASKED, NOT_YET, Verdict, is_fresh, judge
from machines_server.core.times import rfc3339


class Latest(NamedTuple):
    """How the latest poll of one endpoint ended; `answer` and clock are as old as `answered_at` says."""

    url: str
    state: State
    reason: str | None
    polled_at: float
    answered_at: float | None
    answer: Answer | None
    clock_ahead_s: float | None = None


@dataclass(eq=False)
class Live:
    """What stands of one machine now; times are epoch seconds, and None is unknown. Nothing changes it.

    `host` is the latest sample and as old as `sampled_at`. `models` is what its Ollama holds, empty unless it
    said so; `ollama` is how that was asked, None if it was not asked lately, or if there is none.
    """

    machine: Machine
    verdict: Verdict
    host: HostSample | None
    sampled_at: float | None
    last_seen: float | None
    ollama: State | None
    ollama_reason: str | None
    models: tuple[LoadedModel, ...]
    clock_ahead_s: float = 0.0
    """How far the clock of its host is before ours, by which it says when models leave memory."""

    @cached_property
    def memory(self) -> Memory:
        """Its memory, as if nothing of it was promised."""
        return Memory(self.host, {})

    @cached_property
    def sampled_at_text(self) -> str | None:
        """When it was sampled, as the API says it."""
        return rfc3339(self.sampled_at)

    @property
    def loaded_models(self) -> list[str]:
        """The names of what is held, as the machine's file spells them, sorted."""
        return sorted({spelled_as(model.model, self.machine.models) for model in self.models})


def what_stands(
    machine: Machine,
    latest: Mapping[Endpoint, Latest],
    poller_fault: str | None,
    now: float,
    limit_s: float,
) -> Live:
    """Polls older than `limit_s` do not speak for the present, nor does any while `poller_fault` says why."""
    urls = machine.endpoints
    latest = {one: found for one, found in latest.items() if urls.get(one) == found.url}
    fresh = {one: found for one, found in latest.items() if is_fresh(found.polled_at, now, limit_s)}
    verdict = judge(urls.keys(), fresh, poller_fault, before=latest.keys())
    sidecar = latest.get(Endpoint.SIDECAR)
    ollama = None if poller_fault else fresh.get(Endpoint.OLLAMA)
    unasked = NOT_ASKED if Endpoint.OLLAMA in latest else NOT_YET
    return Live(
        machine=machine,
        verdict=verdict,
        host=sidecar.answer if sidecar and isinstance(sidecar.answer, HostSample) else None,
        sampled_at=sidecar.answered_at if sidecar else None,
        last_seen=max((found.answered_at or 0 for found in latest.values()), default=0) or None,
        ollama=ollama.state if ollama else None,
        ollama_reason=ollama.reason if ollama else poller_fault or unasked,
        models=_held(ollama, now),
        clock_ahead_s=(ollama and ollama.clock_ahead_s) or 0.0,
    )


def live_keys(live: Live) -> dict[str, Any]:
    """The live keys as JSON can hold them."""
    return {
        "status": live.verdict.status,
        "status_reason": live.verdict.reason,
        "sampled_at": live.sampled_at_text,
        "last_seen": rfc3339(live.last_seen),
        "telemetry": telemetry(live.host) if live.host else {},
        "loaded_models": live.loaded_models,
        "ollama": _ollama(live),
    }


def changes_at(latest: Mapping[Endpoint, Latest], now: float, limit_s: float) -> float:
    """When what stands would next change by the clock alone, in epoch seconds."""
    moment = float("inf")
    for found in latest.values():
        moment = min(moment, _edge(found.polled_at, limit_s, now))
        if found.state is State.BUSY and found.answered_at is not None:
            moment = min(moment, _edge(found.answered_at, BUSY_GRACE_S, now))
    return moment


def _edge(at: float, span_s: float, now: float) -> float:
    """When `at` next begins or ceases to be fresh: the clock may have been set back behind it."""
    if now <= at - span_s:
        return at - span_s
    return at + span_s if now <= at + span_s else float("inf")


def _held(ollama: Latest | None, now: float) -> tuple[LoadedModel, ...]:
    if ollama is None or not isinstance(ollama.answer, tuple):
        return ()
    stands = ollama.state is State.OK or (
        ollama.state is State.BUSY and is_fresh(ollama.answered_at, now, BUSY_GRACE_S)
    )
    return ollama.answer if stands else ()


def _ollama(live: Live) -> dict[str, Any]:
    machine, message = live.machine, live.ollama_reason
    if not machine.has_ollama:
        return {"state": "disabled", "message": None, "models": []}
    if live.ollama and message and (advice := hint(machine, Endpoint.OLLAMA, live.ollama, message)):
        message = f"{message}: {advice}"
    models = [_public_model(model, live) for model in live.models]
    return {"state": live.ollama, "message": message, "models": models}


def _public_model(model: LoadedModel, live: Live) -> dict[str, Any]:
    return {
        "name": spelled_as(model.model, live.machine.models),
        "model": model.model,
        "digest": model.digest,
        "size_bytes": model.size_bytes,
        "size_vram_bytes": model.size_vram_bytes,
        "processor": model.processor,
        "context_length": model.context_length,
        "expires_at": _by_our_clock(model.expires_at, live.clock_ahead_s),
    }


def _by_our_clock(moment: str | None, ahead_s: float) -> str | None:
    """A moment (RFC 3339) that a host told by its own clock, to the second, by ours."""
    if moment is None or not ahead_s:
        return moment
    ours = datetime.fromisoformat(moment) - timedelta(seconds=round(ahead_s))
    return ours.replace(tzinfo=None).isoformat(timespec="seconds") + "Z"
