"""The state of a machine now, from its latest polls and the clock."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property

from machines_server.core.cards import used_by
from machines_server.core.host_services import LiveService, PolledService, live_services
from machines_server.core.machine import Machine
from machines_server.core.memory import Memory
from machines_server.core.model_names import spelled_as
from machines_server.core.sample import HostSample, LoadedModel, State
from machines_server.core.snapshot import Latest
from machines_server.core.status import BUSY_GRACE_S, NOT_ASKED, NOT_YET, Verdict, is_fresh, judge
from machines_server.core.times import rfc3339

_NO_SERVICES: Mapping[str, PolledService] = {}


@dataclass(eq=False)
class MachineState:
    """The state of one machine now, never changed; times are epoch seconds, and None is unknown.

    `host` is the latest sample, from `sampled_at`. `models` are those in memory of its model server, empty if
    unknown; `ollama` is the outcome of its latest poll, None without a recent poll or a model server.
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
    """How far the clock of its host is ahead of ours; the expiry of models is by that clock."""
    ollama_seen_at: float | None = None
    """When its model server last answered."""
    ollama_hint: str | None = None
    """How to fix the failure of its model server."""
    up_since: float | None = None
    """The time since which no poll has found its model server down."""
    used_vram: bool = False
    """Whether the last model that it loaded took GPU memory."""
    services: tuple[LiveService, ...] = ()
    """The other services on its host."""

    @cached_property
    def ollama_host(self) -> HostSample | None:
        """The sample with only the cards that its model server uses."""
        return used_by(self.machine, self.host) if self.host else None

    @cached_property
    def parts(self) -> tuple[str, ...]:
        """Identifiers of its host: the URLs of its endpoints, and the UUIDs of its cards."""
        cards = (gpu.uuid for gpu in self.host.gpu) if self.host else ()
        return (*(endpoint.url for endpoint in self.machine.endpoints.values()), *cards)

    @cached_property
    def memory(self) -> Memory:
        """The memory that its model server can use, before leases."""
        return Memory(self.ollama_host, {}, has_unmeasured_gpus=bool(self.unmeasured_gpus))

    @cached_property
    def unmeasured_gpus(self) -> str | None:
        """The evidence for GPUs that its sidecar does not measure (AMD, Apple), or None."""
        if self.host is None or self.host.gpu or self.host.gpu_unreadable:
            return None
        if any(model.size_vram_bytes for model in self.models):
            return "its Ollama has models in GPU memory"
        if self.used_vram:
            return "its Ollama has had models in GPU memory"
        return "its file declares some" if self.machine.declares_gpus else None

    @cached_property
    def sampled_at_text(self) -> str | None:
        """`sampled_at` in the form of the API."""
        return rfc3339(self.sampled_at)

    def expires_at(self, model: LoadedModel) -> float | None:
        """When one of its models expires, in epoch seconds by our clock; None if never."""
        if model.expires_at is None:
            return None
        return datetime.fromisoformat(model.expires_at).timestamp() - self.clock_ahead_s

    @property
    def loaded_models(self) -> list[str]:
        """The names of its models in memory, as its file spells them, sorted."""
        return sorted({spelled_as(model.model, self.machine.models) for model in self.models})


def machine_state(
    machine: Machine,
    latest: Mapping[str, Latest],
    poller_fault: str | None,
    now: float,
    limit_s: float,
    *,
    used_vram: bool = False,
    services: Mapping[str, PolledService] = _NO_SERVICES,
) -> MachineState:
    """The state of a machine from its latest polls, by kind of endpoint, and of its `services`, by name.

    Polls older than `limit_s` do not count, and none counts while there is a `poller_fault`.
    """
    declared = machine.endpoints
    latest = {
        kind: poll for kind, poll in latest.items() if kind in declared and declared[kind].url == poll.url
    }
    fresh = {kind: poll for kind, poll in latest.items() if is_fresh(poll.polled_at, now, limit_s)}
    host = latest.get(machine.sidecar.kind) if machine.sidecar else None
    served = machine.model_server and machine.model_server.kind
    last = latest.get(served) if served else None
    current = fresh.get(served) if served and not poller_fault else None
    return MachineState(
        machine=machine,
        verdict=judge(declared.values(), fresh, poller_fault, before=latest.keys()),
        host=host.answer.host if host and host.answer else None,
        sampled_at=host.answered_at if host else None,
        last_seen=max((poll.answered_at or 0 for poll in latest.values()), default=0) or None,
        ollama=current.state if current and current.state is not State.UNASKED else None,
        ollama_reason=current.reason if current else poller_fault or (NOT_ASKED if last else NOT_YET),
        ollama_hint=current.hint if current else None,
        models=_models_held(current, now),
        clock_ahead_s=(current and current.clock_ahead_s) or 0.0,
        ollama_seen_at=last.answered_at if last else None,
        up_since=current.up_since if current else None,
        used_vram=used_vram,
        services=live_services(machine.services, services, poller_fault),
    )


def changes_at(latest: Mapping[str, Latest], now: float, limit_s: float) -> float:
    """When the state next changes without a poll, in epoch seconds."""
    earliest = float("inf")
    for poll in latest.values():
        earliest = min(earliest, _edge(poll.polled_at, limit_s, now))
        if poll.state is State.BUSY and poll.answered_at is not None:
            earliest = min(earliest, _edge(poll.answered_at, BUSY_GRACE_S, now))
    return earliest


def _edge(at: float, span_s: float, now: float) -> float:
    """When `at` next becomes fresh or stale; it lies ahead of `now` if the clock was set back."""
    if now <= at - span_s:
        return at - span_s
    return at + span_s if now <= at + span_s else float("inf")


def _models_held(poll: Latest | None, now: float) -> tuple[LoadedModel, ...]:
    """The models of a recent poll; while the server is busy its last list stays valid for a while."""
    if poll is None or poll.answer is None or poll.answer.models is None:
        return ()
    is_valid = poll.state is State.OK or (
        poll.state is State.BUSY and is_fresh(poll.answered_at, now, BUSY_GRACE_S)
    )
    return poll.answer.models if is_valid else ()
