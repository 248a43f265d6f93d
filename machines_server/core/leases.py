"""Leases: what each promises of a machine, and what all of them leave for others."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from machines_server.core.live import Live
from machines_server.core.memory import Share
from machines_server.core.model_names import model_key
from machines_server.core.sample import LoadedModel

SETTLE_S = 2.0
"""For so long after a model is first listed its VRAM may not yet show in a sidecar's sample."""


class Warmth(StrEnum):
    """How near to an answer a model is on a machine."""

    WARM = "warm"
    HALF_WARM = "half_warm"  # in memory, but spilled, busy, about to leave or with too small a context
    LOADING = "loading"  # a lease has it loaded there
    COLD = "cold"


@dataclass(frozen=True, slots=True)
class Lease:
    """A promise to one holder, which ends unless it is renewed; `created_at`, `ends_at` in epoch seconds.

    `model` is what that Ollama calls it. `load_s` is how long a cold one was expected to load, if known.
    """

    id: str
    machine: str
    hostname: str
    port: int
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

    @property
    def is_warm(self) -> bool:
        """Whether the model was in memory when the lease was made."""
        return self.warmth in (Warmth.WARM, Warmth.HALF_WARM)

    def has_arrived(self, live: Live | None, held_since: Mapping[str, float]) -> bool:
        """Whether the model shows up in what was sampled, so that its VRAM is no longer counted as free.

        `held_since`: since when (epoch seconds) each model of that machine has been listed.
        """
        name = listed_as(self.model, self.digest, live.models) if live else None
        if live is None or name is None:
            return False
        since = held_since.get(name)
        return since is None or live.sampled_at is None or live.sampled_at >= since + SETTLE_S


def listed_as(model: str, digest: str | None, listed: Iterable[LoadedModel]) -> str | None:
    """The name under which a model is listed: of several names of one digest Ollama lists only one."""
    key = model_key(model)
    for one in listed:
        if model_key(one.model) == key or (digest and one.digest == digest):
            return one.model
    return None


def promised(leases: Iterable[Lease], live: Live, held_since: Mapping[str, float]) -> Counter[str]:
    """Bytes promised of each GPU (by uuid), of RAM and of what is reclaimable, by the leases on one machine.

    A model that is being loaded is loaded once, however many wait for it.
    """
    total: Counter[str] = Counter()
    loading: dict[str, Counter[str]] = {}
    for lease in leases:
        if lease.is_warm:
            for share in lease.shares:
                total[share.of] += share.size_bytes
        elif not lease.has_arrived(live, held_since):
            most = loading.setdefault(model_key(lease.model), Counter())
            for share in lease.shares:
                most[share.of] = max(most[share.of], share.size_bytes)
    for one in loading.values():
        total.update(one)
    return total
