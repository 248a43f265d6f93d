"""Leases: POST and GET /api/leases, POST /api/leases/LEASE/renew, DELETE /api/leases/LEASE."""

from collections import Counter
from collections.abc import Sequence

from msgspec import UNSET, Struct, UnsetType, structs

from machines_server.contract.routing import (
    CandidateMachine,
    RejectedMachine,
    candidate_machine,
    rejected_machine,
)
from machines_server.contract.units import Count, Gib, Moment, Port, Seconds, gib
from machines_server.core.memory import RAM, RECLAIMABLE, Share
from machines_server.core.routing.answer import Ranking
from machines_server.core.routing.leases import Lease, broken_reason
from machines_server.core.state import MachineState
from machines_server.core.times import rfc3339


class PromisedGpu(Struct, frozen=True, gc=False):
    """The memory of one GPU that a lease promises."""

    uuid: str
    index: int | None
    """Null while no sidecar reports the GPU."""
    vram_gb: Gib


class HeldLease(Struct, frozen=True, kw_only=True):
    """GET /api/leases/LEASE, and a lease that was renewed or released, or is in the list of all."""

    lease: str
    """The name of the lease in its paths."""
    machine: str
    hostname: str
    port: Port
    url: str
    """Of the machine's Ollama, with scheme and the path of a proxy, if any."""
    credential: str | None
    """The name of the credential that requests to it need; null if none."""
    model: str
    """The name to send to its Ollama."""
    warm: bool
    """Whether the model was in memory when the lease was granted."""
    holder: str
    """Who holds it; empty if no holder was named."""
    agent: str | UnsetType = UNSET
    """The agent that signed the request for it; absent if none did."""
    exclusive: bool
    """Whether it is the only lease on its host."""
    ttl_s: Seconds
    """How long the lease lasts from when it is granted or renewed."""
    created_at: Moment
    expires_at: Moment
    gpus: Sequence[PromisedGpu]
    """The GPU memory that the lease promises now; empty if none."""
    ram_gb: Gib | UnsetType = UNSET
    """The RAM that the lease promises now; absent if none."""
    reclaimable_gb: Gib | UnsetType = UNSET
    """The memory of models to be evicted that the lease promises now; absent if none."""
    broken: str | None
    """Why the machine can no longer be used, in a sentence for people; null if it can."""


class GrantedLease(HeldLease, frozen=True, kw_only=True):
    """POST /api/leases, with status 201: a lease and the advice behind it, as in GET /api/route."""

    candidates: Sequence[CandidateMachine]
    """Best first; empty if the request repeats one whose lease was already granted."""
    rejected: Sequence[RejectedMachine]
    """Nearest miss first; empty if the request repeats one whose lease was already granted."""


class Leases(Struct, frozen=True):
    """GET /api/leases: all active leases."""

    leases: Sequence[HeldLease]
    """Sorted by expiry, the earliest first."""
    total: Count
    expired_10m: Count
    """How many expired in the last ten minutes without being released."""


def held_lease(lease: Lease, shares: Sequence[Share], state: MachineState | None, now: float) -> HeldLease:
    """A lease that now promises `shares`, on a machine in that state; `now` is in epoch seconds."""
    size_bytes = Counter[str]()
    for of, part_bytes, _ in shares:
        size_bytes[of] += part_bytes
    ram_bytes, reclaimable_bytes = size_bytes.pop(RAM, None), size_bytes.pop(RECLAIMABLE, None)
    return HeldLease(
        lease=lease.id,
        machine=lease.machine,
        hostname=lease.hostname,
        port=lease.port,
        url=lease.url,
        credential=lease.credential,
        model=lease.model,
        warm=lease.is_warm,
        holder=lease.holder,
        agent=lease.agent or UNSET,
        exclusive=lease.is_exclusive,
        ttl_s=lease.ttl_s,
        created_at=rfc3339(lease.created_at),
        expires_at=rfc3339(lease.ends_at),
        gpus=[_promised_gpu(uuid, size, state) for uuid, size in size_bytes.items()],
        ram_gb=UNSET if ram_bytes is None else gib(ram_bytes),
        reclaimable_gb=UNSET if reclaimable_bytes is None else gib(reclaimable_bytes),
        broken=broken_reason(lease, state, now),
    )


def granted_lease(held: HeldLease, ranking: Ranking | None) -> GrantedLease:
    """A lease with the ranking behind it, which is None unless this request granted it."""
    candidates, rejected = (ranking.candidates, ranking.rejected) if ranking else ((), ())
    return GrantedLease(
        candidates=[candidate_machine(one) for one in candidates],
        rejected=[rejected_machine(one) for one in rejected],
        **structs.asdict(held),
    )


def _promised_gpu(uuid: str, size_bytes: int, state: MachineState | None) -> PromisedGpu:
    gpus = state.host.gpu if state and state.host else ()
    index = next((gpu.index for gpu in gpus if gpu.uuid == uuid), None)
    return PromisedGpu(uuid, index, gib(size_bytes))
