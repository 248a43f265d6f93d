"""Leases: what each promises of a machine, and what all of them leave for others."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
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


def promises(
    leases: Iterable[Lease], live: Live | None, held_since: Mapping[str, float]
) -> Iterator[tuple[Lease, tuple[Share, ...]]]:
    """What each lease on one machine promises at present.

    A model that is being loaded is loaded once, however many wait for it: the oldest lease counts. When it
    has arrived its memory is in use, and no longer counted as free.
    """
    loading = set()
    for lease in sorted(leases, key=lambda lease: (lease.created_at, lease.id)):
        if lease.is_warm:
            yield lease, lease.shares
            continue
        key = model_key(lease.model)
        counts = key not in loading and not lease.has_arrived(live, held_since)
        loading.add(key)
        yield lease, lease.shares if counts else ()


def promised(leases: Iterable[Lease], live: Live, held_since: Mapping[str, float]) -> Counter[str]:
    """Bytes that leases on one machine promise of each GPU (by uuid), of RAM and of what is reclaimable."""
    total: Counter[str] = Counter()
    for _, shares in promises(leases, live, held_since):
        for share in shares:
            total[share.of] += share.size_bytes
    return total
