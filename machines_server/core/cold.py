"""Machines that would have to load the model first."""

from collections.abc import Sequence

from machines_server.core.advice import Ask, Candidate, Load, Rejection, as_gb, gb
from machines_server.core.fleet import Fleet
from machines_server.core.leases import Lease, Warmth
from machines_server.core.live import Live
from machines_server.core.loading import LoadTime, Reclaimable, fit, load_time, needed
from machines_server.core.memory import Share
from machines_server.core.model_names import model_key
from machines_server.core.sample import GIB, State, StoredModel
from machines_server.core.spot import Spot
from machines_server.core.times import rfc3339


class Cold:
    """One question to machines that do not hold the model."""

    def __init__(self, ask: Ask, key: str, fleet: Fleet, load_times: Sequence[LoadTime]) -> None:
        """`key` is that of the model's name."""
        self._ask, self._key, self._fleet, self._load_times = ask, key, fleet, load_times
        self._digests = fleet.digests(key)

    def could_load(self, live: Live) -> bool:
        """Whether the model is declared for a machine, or is on its disk."""
        return self._key in live.machine.model_keys or self._fleet.stored(live, self._key) is not None

    def loading(self, spot: Spot) -> Lease | None:
        """The lease for which the model is being loaded there: the first, if there are several."""
        waiting = (
            lease
            for lease in spot.leases
            if not lease.is_warm and (model_key(lease.model) == self._key or lease.digest in self._digests)
        )
        return min(waiting, key=lambda lease: lease.created_at, default=None)

    def ready_in_s(self, spot: Spot, lease: Lease) -> float | None:
        """The seconds until what is being loaded is ready; None is unknown."""
        if lease.load_s is None:
            return None
        return max(lease.load_s - spot.elapsed_s(lease), self._fleet.interval_s)

    def evaluate(self, spot: Spot) -> Candidate | Rejection:
        """What it would take to load the model there, or why it cannot be."""
        if not self.could_load(spot.live):
            reason = f"{self._ask.model} is neither declared for it nor on its disk"
            return spot.rejected("model_not_there", reason)
        stored = self._fleet.stored(spot.live, self._key)
        digests = {stored.digest} if stored and stored.digest else self._digests
        on_disk_bytes = stored.size_bytes if stored else None
        needs_bytes, needs_from = needed(
            self._key, digests, self._ask.min_context, self._fleet.sizes, on_disk_bytes
        )
        load_s, load_from = load_time(spot.name, self._key, needs_bytes or on_disk_bytes, self._load_times)
        load = Load("free", needs_bytes, needs_from, None, (), load_s, load_from)
        if lease := self.loading(spot):
            most = max((share.size_bytes for share in lease.shares), default=0)
            if most < self._ask.min_free_vram_gb * GIB and (
                miss := spot.lacks_vram(self._ask.min_free_vram_gb)
            ):
                return miss
            ready_s = self.ready_in_s(spot, lease)
            reason = f"it is being loaded for a lease{_in_about(ready_s)}"
            return self._candidate(spot, stored, Warmth.LOADING, lease.shares, load, reason)
        if not spot.memory.gpus and (miss := spot.lacks_vram(self._ask.min_free_vram_gb)):
            return miss
        reclaimable = self._reclaimable(spot)
        found = fit(needs_bytes, self._ask.min_free_vram_gb, spot.memory, reclaimable.size_bytes)
        if found is None:
            return self._does_not_fit(spot, load, reclaimable)
        evicts = reclaimable.evicts(found.evicted_bytes)
        load = load._replace(fits=found.fits, reclaimable_bytes=reclaimable.size_bytes, evicts=evicts)
        reason = _REASONS[found.fits].format(", ".join(evicts)) + _in_about(load_s)
        return self._candidate(spot, stored, Warmth.COLD, found.shares, load, reason)

    def _candidate(
        self,
        spot: Spot,
        stored: StoredModel | None,
        warmth: Warmth,
        shares: tuple[Share, ...],
        load: Load,
        reason: str,
    ) -> Candidate:
        library = self._fleet.library(spot.live)
        is_missing = library is not None and stored is None
        if is_missing and library:
            reason += f"; it is declared, but was not on its disk at {rfc3339(library.at)}"
        return Candidate(
            live=spot.live,
            model=self._ask.model,
            digest=stored.digest if stored else None,
            warmth=warmth,
            free_vram_gb=spot.memory.free_vram_gb,
            leases=len(spot.leases),
            reason=reason,
            shares=shares,
            load=load,
            order=(
                is_missing,
                _FITS_BEST_FIRST.index(load.fits),
                not spot.memory.gpus,
                float("inf") if load.load_s is None else round(load.load_s),
                len(spot.leases),
                -(spot.memory.free_vram_gb or 0),
                spot.name,
            ),
        )

    def _does_not_fit(self, spot: Spot, load: Load, reclaimable: Reclaimable) -> Rejection:
        ask, memory = self._ask, spot.memory
        wait_s = spot.until(
            lambda then: fit(load.needs_bytes, ask.min_free_vram_gb, then, reclaimable.size_bytes) is not None
        )
        left = memory.left_bytes
        needs_bytes = load.needs_bytes or 0
        if needs_bytes <= left + reclaimable.size_bytes and (miss := spot.lacks_vram(ask.min_free_vram_gb)):
            return miss
        reason = (
            f"needs {gb(as_gb(needs_bytes))} ({load.needs_from}), has {gb(as_gb(left))} free"
            f" and {gb(as_gb(reclaimable.size_bytes))} reclaimable (GiB)"
        )
        if wait_s is not None:
            return spot.rejected("leased", f"{reason} beside what is leased", wait_s, wait_s)
        code = "not_enough_vram" if memory.gpus else "not_enough_ram"
        return spot.rejected(code, reason, (needs_bytes - left - reclaimable.size_bytes) / GIB)

    def _reclaimable(self, spot: Spot) -> Reclaimable:
        """What models take that nobody has a lease for and that are not at work."""
        live = spot.live
        if live.ollama is not State.OK:
            return Reclaimable()
        idle = []
        for model in live.models:
            expires_s = spot.expires_in_s(model)
            if not spot.is_leased(model) and (expires_s is None or expires_s >= 0):
                idle.append((float("inf") if expires_s is None else expires_s, model.model, model))
        has_gpus = bool(spot.memory.gpus)
        sizes = ((model.size_vram_bytes if has_gpus else model.size_bytes) or 0 for *_, model in idle)
        total = max(sum(sizes) - spot.memory.reclaim_promised, 0)
        return Reclaimable(tuple(model for *_, model in sorted(idle, key=lambda one: one[:2])), total)


_FITS_BEST_FIRST = ("free", "after_eviction", "unknown")
_REASONS = {
    "free": "it can load it into free memory",
    "after_eviction": "it can load it when {} is evicted",
    "unknown": "it may load it, but what that takes or what is free there is not known",
}


def _in_about(seconds: float | None) -> str:
    return "" if seconds is None else f", in about {max(round(seconds), 1)} s"
