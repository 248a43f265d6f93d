"""Leases: the memory that each promises, and what ends it early."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

from machines_server.core.memory import Share
from machines_server.core.model_names import model_key
from machines_server.core.sample import LoadedModel, State
from machines_server.core.state import MachineState
from machines_server.core.status import Status, is_fresh

VRAM_SETTLE_S = 2.0
"""A sample taken sooner than this after a model is first listed may not show its VRAM as used yet."""

OLLAMA_GRACE_S = 60.0
"""How long a lease survives while its Ollama does not answer, long enough for a restart."""


class Warmth(StrEnum):
    """How close a machine is to answering with a model."""

    WARM = "warm"
    HALF_WARM = "half_warm"  # in memory, but spilled, busy, about to leave or with too small a context
    LOADING = "loading"  # being loaded for a lease
    COLD = "cold"

    @property
    def is_in_memory(self) -> bool:
        """Whether the model is in memory, warm or half warm."""
        return self in _IN_MEMORY


_IN_MEMORY = frozenset({Warmth.WARM, Warmth.HALF_WARM})


@dataclass(frozen=True, slots=True)
class Lease:
    """A promise to one holder that ends unless renewed; `created_at` and `ends_at` are epoch seconds.

    `url` is that of its Ollama, and `credential` names what requests there need. `model` is its name there.
    `load_s` is how long a cold model was expected to load, if known.
    An `is_exclusive` lease is the only one on its host. A lease with `released_at` (epoch seconds) has ended,
    but its model may have been loaded since the machine was last sampled. `agent` signed the request.
    """

    id: str
    machine: str
    hostname: str
    port: int
    url: str
    credential: str | None
    model: str
    digest: str | None
    warmth: Warmth
    shares: tuple[Share, ...]
    holder: str
    ttl_s: float
    created_at: float
    ends_at: float
    ends_in_s: float
    load_s: float | None = None
    is_exclusive: bool = False
    released_at: float | None = None
    agent: str | None = None

    @property
    def is_warm(self) -> bool:
        """Whether the model was in memory when the lease was granted."""
        return self.warmth.is_in_memory

    def shares_promised(self, *, for_model: bool) -> tuple[Share, ...]:
        """The shares still promised: for its model if `for_model`, and beside it until it is released."""
        return tuple(
            share for share in self.shares if (self.released_at is None if share.until_end else for_model)
        )

    def is_loaded(
        self, state: MachineState | None, held_since: Mapping[str, float], sampled_at: float | None = None
    ) -> bool:
        """Return whether a sample already shows the model's VRAM as used.

        `held_since` has the epoch seconds at which each model of that machine was first listed. `sampled_at`
        is the time of the sample; None for the machine's own, since the sample may be that of another
        machine on the same host.
        """
        name = listed_name(self.model, self.digest, state.models) if state else None
        if state is None or name is None:
            return False
        since = held_since.get(name)
        sampled_at = state.sampled_at if sampled_at is None else sampled_at
        return since is None or sampled_at is None or sampled_at >= since + VRAM_SETTLE_S


def may_be_unseen(lease: Lease, state: MachineState, held_since: Mapping[str, float]) -> bool:
    """Whether a released lease has left a model in memory that the latest sample cannot show yet."""
    if listed_name(lease.model, lease.digest, state.models) is not None:
        return not lease.is_loaded(state, held_since)
    return state.ollama_seen_at is None or state.ollama_seen_at <= (lease.released_at or 0.0)


def listed_name(model: str, digest: str | None, listed: Iterable[LoadedModel]) -> str | None:
    """The name under which a model is listed, or None; Ollama lists one name for each digest."""
    key = model_key(model)
    for loaded in listed:
        if model_key(loaded.model) == key or (digest and loaded.digest == digest):
            return loaded.model
    return None


def is_leased(model: LoadedModel, leases: Iterable[Lease]) -> bool:
    """Return whether any of the leases is on the model."""
    return any(listed_name(lease.model, lease.digest, (model,)) for lease in leases)


def broken_reason(lease: Lease, state: MachineState | None, now: float) -> str | None:
    """Why the machine of a lease can no longer be used; None if it can, or if that is unknown."""
    if state is None:
        return "its machine file was removed"
    is_offline = state.verdict.status is Status.OFFLINE
    if is_offline and state.machine.sidecar:
        return f"it is offline ({state.verdict.reason})"
    if state.machine.url != lease.url:
        return "its address was changed"
    if is_offline or state.ollama in (State.UNREACHABLE, State.ERROR):
        answered_at = max(state.ollama_seen_at or 0.0, lease.created_at)
        if not is_fresh(answered_at, now, OLLAMA_GRACE_S):
            return f"its Ollama has not answered for over {OLLAMA_GRACE_S:g} s ({state.ollama_reason})"
    return None


def promised_shares(
    leases: Iterable[Lease],
    state: MachineState | None,
    held_since: Mapping[str, float],
    sampled_at: float | None = None,
) -> Iterator[tuple[Lease, tuple[Share, ...]]]:
    """Each lease on one machine with the shares it promises beyond the memory in use at `sampled_at`.

    A model is loaded once, however many leases wait for it and under whichever names, so only the oldest of
    them promises its memory. Once the model is loaded, that is in use; what was requested besides it stays
    promised.
    """
    loading: set[str] = set()
    for lease in sorted(leases, key=lambda lease: (lease.created_at, lease.id)):
        if lease.is_warm:
            yield lease, lease.shares
            continue
        identities = {model_key(lease.model), lease.digest or model_key(lease.model)}
        is_first = loading.isdisjoint(identities)
        loading |= identities
        counts = is_first and not lease.is_loaded(state, held_since, sampled_at)
        yield lease, lease.shares_promised(for_model=counts)
