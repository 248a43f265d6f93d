"""Which models an Ollama could evict to make room, and how much memory that would free."""

from collections.abc import Sequence

from machines_server.core.model_names import model_key
from machines_server.core.routing.fleet import Fleet
from machines_server.core.routing.leases import Lease, is_leased, listed_name
from machines_server.core.routing.loading import Evictable
from machines_server.core.routing.placement import Placement, is_in_use
from machines_server.core.sample import LoadedModel, State
from machines_server.core.state import MachineState


def find_evictable(placement: Placement, fleet: Fleet) -> Evictable:
    """The idle models and their memory, at most what is in use less the memory of other models."""
    state, has_gpus = placement.state, bool(placement.memory.gpus)
    if state.ollama is not State.OK:
        return Evictable()
    idle = idle_models(placement, placement.leases)
    idle_bytes = _taken_bytes(idle, on_gpu=has_gpus)
    kept_bytes = _taken_bytes(state.models, on_gpu=has_gpus) - idle_bytes
    others = fleet.others_on_host(state)
    kept_bytes += sum(_taken_beside_bytes(state, other, on_gpu=has_gpus) for other in others)
    return Evictable(tuple(idle), placement.memory.reclaimable_bytes(idle_bytes, kept_bytes))


def idle_models(placement: Placement, leases: Sequence[Lease]) -> list[LoadedModel]:
    """The models that neither serve a request nor are leased; those that expire first come first."""
    idle = []
    for model in placement.state.models:
        expires_in_s = placement.expires_in_s(model)
        if not is_in_use(model, expires_in_s) and not is_leased(model, leases):
            idle.append((float("inf") if expires_in_s is None else expires_in_s, model.model, model))
    return [model for *_, model in sorted(idle, key=lambda entry: entry[:2])]


def evictions_needed(state: MachineState, leases: Sequence[Lease]) -> int:
    """How many models must be evicted before its Ollama may load one more."""
    limit = state.machine.max_loaded_models
    if limit is None:
        return 0
    loading = {
        model_key(lease.model)
        for lease in leases
        if not lease.is_warm and listed_name(lease.model, lease.digest, state.models) is None
    }
    return max(len(state.models) + len(loading) + 1 - limit, 0)


def _taken_beside_bytes(state: MachineState, other: MachineState, *, on_gpu: bool) -> int:
    """The bytes that another Ollama on the same host certainly takes from the memory of this one."""
    if (
        other.machine.url == state.machine.url
    ):  # a second file for the same Ollama, which lists the same models
        return 0
    taken = _taken_bytes(other.models, on_gpu=on_gpu)
    if on_gpu:
        ours = {gpu.uuid for gpu in state.ollama_host.gpu} if state.ollama_host else set()
        used_bytes = {"ours": 0, "theirs": 0}
        for gpu in other.ollama_host.gpu if other.ollama_host else ():
            used_bytes["ours" if gpu.uuid in ours else "theirs"] += gpu.vram_used_bytes
        taken = min(taken - used_bytes["theirs"], used_bytes["ours"])
    return max(taken, 0)


def _taken_bytes(models: Sequence[LoadedModel], *, on_gpu: bool) -> int:
    return sum((model.size_vram_bytes if on_gpu else model.size_bytes) or 0 for model in models)
