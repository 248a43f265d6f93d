"""Fleets as routing sees them, made without files and polls."""

from collections.abc import Mapping, Sequence
from typing import Any

from machines_server.core.memory import Share
from machines_server.core.routing.answer import Ranking
from machines_server.core.routing.fleet import Fleet
from machines_server.core.routing.leases import Lease, Warmth
from machines_server.core.routing.loading import LoadTime
from machines_server.core.routing.question import Question
from machines_server.core.routing.ranking import rank
from machines_server.core.sample import (
    GIB,
    GpuSample,
    HostSample,
    Library,
    LoadedModel,
    State,
    StoredModel,
)
from machines_server.core.state import MachineState
from machines_server.core.status import Status, Verdict
from machines_server.core.times import rfc3339
from tests.core.machines import a_machine

NOW = 1_800_000_000.0
LLAMA = "llama3.1:70b"


def a_model(
    name: str = LLAMA, *, gb: float = 40, on_gpu: float = 1.0, expires_s: float | None = None, **changes: Any
) -> LoadedModel:
    """A model of `gb` GiB in memory, that part of it on GPUs; it is unloaded in `expires_s`, or never."""
    values: dict[str, Any] = {
        "model": name,
        "digest": None,
        "size_bytes": round(gb * GIB),
        "size_vram_bytes": round(gb * on_gpu * GIB),
        "context_length": 8192,
        "expires_at": None if expires_s is None else rfc3339(NOW + expires_s),
    }
    return LoadedModel(**values | changes)


def on_cpu(name: str = LLAMA, *, gb: float = 2) -> LoadedModel:
    """A model in the memory of a host without GPU."""
    return a_model(name, gb=gb, on_gpu=0)


def a_live(
    name: str,
    free_gb: Sequence[float] | None = (20.0,),
    models: Sequence[LoadedModel] = (),
    *,
    status: Status = Status.ONLINE,
    reason: str | None = None,
    ollama: State | None = State.OK,
    ram_gb: float = 64,
    clock_ahead_s: float = 0.0,
    declares: Sequence[str] = (),
    **machine: Any,
) -> MachineState:
    """What stands of a machine with so much free on each of its 24 GiB GPUs; None: it has no sidecar."""
    host = None
    if free_gb is not None:
        gpus = [
            GpuSample(
                number,
                f"{name}-{number}",
                None,
                "dedicated",
                24 * GIB,
                24 * GIB - round(free * GIB),
                round(free * GIB),
            )
            for number, free in enumerate(free_gb)
        ]
        host = HostSample(ram_available_bytes=round(ram_gb * GIB), gpu=tuple(gpus))
    return MachineState(
        machine=a_machine(name, has_sidecar=host is not None, models=tuple(declares), **machine),
        verdict=Verdict(status, reason),
        host=host,
        sampled_at=NOW - 1 if host else None,
        last_seen=NOW - 1,
        ollama=ollama if status is Status.ONLINE and machine.get("has_ollama", True) else None,
        ollama_reason=None if ollama is State.OK else "no answer within 2 s on an open connection",
        models=tuple(models),
        clock_ahead_s=clock_ahead_s,
    )


def a_fleet(
    *lives: MachineState, on_disk: Mapping[str, Sequence[StoredModel]] | None = None, **changes: Any
) -> Fleet:
    """A fleet of those; `on_disk` by name of machine."""
    libraries = {}
    for live in lives:
        if on_disk and live.machine.name in on_disk:
            url = live.machine.url or ""
            models = tuple(on_disk[live.machine.name])
            libraries[live.machine.name.casefold()] = Library(live.machine.name, url, NOW - 60, models)
    return Fleet(states=lives, libraries=libraries, **changes)


def a_lease(
    machine: str,
    shares: dict[str, float] | None = None,
    *,
    model: str = LLAMA,
    warmth: Warmth = Warmth.WARM,
    ends_in_s: float = 60,
    age_s: float = 0,
    load_s: float | None = None,
    is_exclusive: bool = False,
) -> Lease:
    """A lease that promises so many GiB of what is named (the uuid of the first GPU is MACHINE-0)."""
    return Lease(
        id=f"{machine}/{ends_in_s}/{age_s}",
        machine=machine,
        hostname="127.0.0.1",
        port=11434,
        url="http://127.0.0.1:11434",
        credential=None,
        model=model,
        digest=None,
        warmth=warmth,
        shares=tuple(Share(of, round(gb * GIB)) for of, gb in (shares or {}).items()),
        holder="somebody",
        ttl_s=60,
        created_at=NOW - age_s,
        ends_at=NOW + ends_in_s,
        ends_in_s=ends_in_s,
        load_s=load_s,
        is_exclusive=is_exclusive,
    )


def ask(
    fleet: Fleet,
    *leases: Lease,
    model: str = LLAMA,
    load_times: Sequence[LoadTime] = (),
    **question: Any,
) -> Ranking:
    """The ranking for a model."""
    return rank(Question(model, **question), fleet, leases, load_times, NOW)


def names(ranking: Ranking) -> list[str]:
    """The candidates in their order."""
    return [one.state.machine.name for one in ranking.candidates]


def codes(ranking: Ranking) -> dict[str, str]:
    """The rejections in their order."""
    return {one.name: one.code for one in ranking.rejected}


def only(ranking: Ranking) -> Any:
    """The only candidate."""
    (one,) = ranking.candidates
    return one
