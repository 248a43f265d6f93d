"""Evaluates the machines that would have to load the model first."""

from collections.abc import Sequence, Set
from zlib import crc32

from machines_server.core.memory import Share
from machines_server.core.model_names import is_cloud_key, model_key
from machines_server.core.routing.answer import (
    Candidate,
    Fits,
    LoadEstimate,
    Rejection,
    RejectionCode,
    format_gb,
)
from machines_server.core.routing.eviction import evictions_needed, find_evictable, idle_models
from machines_server.core.routing.fleet import Fleet
from machines_server.core.routing.leases import Lease, Warmth
from machines_server.core.routing.loading import Evictable, LoadTime, expected_load_s, fit, needed_bytes
from machines_server.core.routing.placement import Placement
from machines_server.core.routing.question import Question
from machines_server.core.routing.versions import Version
from machines_server.core.sample import GIB, ModelSize, State, StoredModel
from machines_server.core.state import MachineState
from machines_server.core.text import clip, clip_list
from machines_server.core.times import rfc3339

DEFAULT_LOAD_S = 30.0
"""How long a load is assumed to take if that is unknown."""
OVERDUE_FACTOR = 2
"""A load that takes this many times longer than expected is assumed to have failed."""


class ColdEvaluation:
    """Evaluates machines that do not hold the model, for one question."""

    def __init__(
        self,
        question: Question,
        key: str,
        versions: Set[Version],
        fleet: Fleet,
        load_times: Sequence[LoadTime],
    ) -> None:
        """`key` is the key of the model's name, `versions` are all its versions in the fleet."""
        self._question, self._key, self._fleet, self._load_times = question, key, fleet, load_times
        self._versions = versions
        self._sizes: list[ModelSize] | None = None

    def could_load(self, state: MachineState) -> bool:
        """Return whether a machine declares the model or has it on disk; a cloud model is never loaded."""
        is_declared = self._key in state.machine.model_keys and not is_cloud_key(self._key)
        return is_declared or self._fleet.stored_model(state, self._key) is not None

    def load_in_progress(self, placement: Placement) -> Lease | None:
        """The lease for which the machine appears to be loading the model."""
        cold = (lease for lease in self._leases_awaiting_load(placement) if lease.warmth is Warmth.COLD)
        return next((lease for lease in cold if self._may_be_loading(placement, lease)), None)

    def _leases_awaiting_load(self, placement: Placement) -> list[Lease]:
        """The leases that wait for the model to be loaded there, oldest first."""
        waiting = [
            lease
            for lease in (*placement.leases, *placement.unseen)
            if not lease.is_warm
            and (
                model_key(lease.model) == self._key
                or self._fleet.version_on(placement.state, lease.digest) in self._versions
            )
        ]
        return sorted(waiting, key=lambda lease: lease.created_at)

    def _may_be_loading(self, placement: Placement, lease: Lease) -> bool:
        """Return whether the load for a lease may still be running: Ollama stayed up and it is not overdue.

        While its Ollama is busy no load is overdue, since that is what loading looks like.
        """
        up_since = placement.state.up_since
        if up_since is not None and up_since > lease.created_at:
            return False
        limit_s = OVERDUE_FACTOR * (DEFAULT_LOAD_S if lease.load_s is None else lease.load_s)
        is_busy = placement.state.ollama is State.BUSY
        return is_busy or placement.age_s(lease) <= limit_s + 2 * self._fleet.interval_s

    def ready_in_s(self, placement: Placement, lease: Lease) -> float | None:
        """The seconds until the model of a lease is loaded; None if unknown."""
        if lease.load_s is None:
            return None
        return max(lease.load_s - placement.age_s(lease), self._fleet.interval_s)

    def evaluate(self, placement: Placement) -> Candidate | Rejection:
        """The machine as a candidate for loading the model, or why it cannot load it."""
        if not self.could_load(placement.state):
            reason = f"{clip(self._question.model)} is neither declared for it nor on its disk"
            return placement.reject(RejectionCode.MODEL_NOT_THERE, reason)
        stored = self._fleet.stored_model(placement.state, self._key)
        load = self._estimate(placement, stored)
        in_progress = self.load_in_progress(placement)
        if lease := in_progress or next(iter(self._leases_awaiting_load(placement)), None):
            return self._join(placement, stored, load, lease, is_loading=in_progress is not None)
        return self._load_anew(placement, stored, load)

    def _estimate(self, placement: Placement, stored: StoredModel | None) -> LoadEstimate:
        on_disk_bytes = stored.size_bytes if stored else None
        sizes = self._sizes_for(placement.state, stored)
        needs_bytes, needs_from = needed_bytes(
            placement.name, sizes, self._question.min_context, on_disk_bytes
        )
        load_s, load_from = expected_load_s(
            placement.name, self._key, needs_bytes or on_disk_bytes, self._load_times
        )
        uncertainty_s = self._fleet.interval_s if load_from == "learned" else None
        fits: Fits = "unknown" if needs_bytes is None else "free"
        return LoadEstimate(fits, needs_bytes, needs_from, None, (), load_s, load_from, uncertainty_s)

    def _join(
        self,
        placement: Placement,
        stored: StoredModel | None,
        load: LoadEstimate,
        lease: Lease,
        *,
        is_loading: bool,
    ) -> Candidate | Rejection:
        """Share the memory promised to a lease on the same model, which is loaded only once.

        What is requested besides the model is taken from what that lease leaves.
        """
        if rejection := placement.lacks_room(self._question.headroom):
            return rejection
        of_model = (share for share in lease.shares if not share.until_end)
        shares = (*of_model, *placement.memory.shares_of(self._question.headroom))
        if is_loading:
            reason = f"it is being loaded for a lease{_ready_in(self.ready_in_s(placement, lease))}"
            return self._candidate(placement, stored, Warmth.LOADING, shares, load, reason)
        reason = f"memory for it is promised to a lease that has not loaded it{_ready_in(load.load_s)}"
        return self._candidate(placement, stored, Warmth.COLD, shares, load, reason)

    def _load_anew(
        self, placement: Placement, stored: StoredModel | None, load: LoadEstimate
    ) -> Candidate | Rejection:
        """Load the model into memory that is free, or that evictions can free."""
        headroom, memory = self._question.headroom, placement.memory
        if not memory.gpus and (rejection := placement.lacks_vram(headroom.vram_gb)):
            return rejection
        # On a host without GPU the model takes RAM as well, so both are checked together.
        shares_ram = memory.gpus == () and memory.ram_left_bytes is not None
        if not shares_ram and (rejection := placement.lacks_ram(headroom.ram_gb)):
            return rejection
        evictable = find_evictable(placement, self._fleet)
        fitting = fit(load.needs_bytes, headroom, memory, evictable.size_bytes)
        if fitting is None:
            return self._does_not_fit(placement, load, evictable)
        needed = evictions_needed(placement.state, (*placement.leases, *placement.unseen))
        if needed > len(evictable.models):
            return self._has_too_many_models(placement)
        evicts = evictable.to_evict(fitting.evicted_bytes, needed)
        fits = "after_eviction" if evicts and fitting.fits == "free" else fitting.fits
        load = load._replace(fits=fits, reclaimable_bytes=evictable.size_bytes, evicts=evicts)
        reason = _REASONS[fits].format(clip_list(evicts)) + _ready_in(load.load_s)
        return self._candidate(placement, stored, Warmth.COLD, fitting.shares, load, reason)

    def _sizes_for(self, state: MachineState, stored: StoredModel | None) -> list[ModelSize]:
        """The known sizes of the version on this machine's disk, or of any version if it has none."""
        if self._sizes is None:
            self._sizes = self._fleet.sizes_of(self._key, self._versions)
        on_disk = self._fleet.version_on(state, stored.digest) if stored else None
        digests = {version.digest for version in ({on_disk} if on_disk else self._versions)}
        return [size for size in self._sizes if not (size.digest and digests) or size.digest in digests]

    def _candidate(
        self,
        placement: Placement,
        stored: StoredModel | None,
        warmth: Warmth,
        shares: tuple[Share, ...],
        load: LoadEstimate,
        reason: str,
    ) -> Candidate:
        state, free_vram_gb = placement.state, placement.memory.free_vram_gb
        library = self._fleet.library_of(state)
        is_missing = library is not None and stored is None
        if is_missing and library:
            reason += f"; the model is declared for it, but was not on its disk at {rfc3339(library.at)}"
        return Candidate(
            state=state,
            model=self._question.model,
            digest=stored.digest if stored and self._fleet.version_on(state, stored.digest) else None,
            warmth=warmth,
            free_vram_gb=free_vram_gb,
            leases=len(placement.leases),
            reason=reason,
            shares=shares,
            load=load,
            preference=(
                is_missing,
                _FITS_BEST_FIRST.index(load.fits),
                not placement.memory.gpus,
                float("inf") if load.load_s is None else round(load.load_s),
            ),
            tiebreak=(-(free_vram_gb or 0), self._turn(placement.name), placement.name),
        )

    def _turn(self, machine: str) -> int:
        """The place of a machine among equals, which differs from model to model.

        Servers that do not know each other's advice then send different models to different machines.
        """
        return crc32(f"{self._key} {machine}".encode())

    def _does_not_fit(self, placement: Placement, load: LoadEstimate, evictable: Evictable) -> Rejection:
        headroom, memory = self._question.headroom, placement.memory
        wait_s = placement.wait_s(
            lambda left: fit(load.needs_bytes, headroom, left, evictable.size_bytes) is not None
        )
        needs_bytes = load.needs_bytes or 0
        beside_gb = headroom.vram_gb if memory.gpus else headroom.ram_gb
        where = " on one GPU" if memory.gpus else ""
        asked = f" and {format_gb(beside_gb)} GiB beside it{where}" if beside_gb else ""
        best = ""
        if beside_gb and len(memory.gpus or ()) > 1:
            best = f" ({format_gb(memory.free_vram_gb)} GiB of it on its best GPU)"
        reason = (
            f"needs {_gib(needs_bytes)} GiB ({load.needs_from}){asked},"
            f" has {_gib(memory.left_bytes)} GiB free{best} and {_gib(evictable.size_bytes)} GiB reclaimable"
        )
        if wait_s is not None:
            return placement.reject_until(f"{reason} after leases", wait_s)
        code = RejectionCode.NOT_ENOUGH_VRAM if memory.gpus else RejectionCode.NOT_ENOUGH_RAM
        missing_bytes = needs_bytes - memory.left_bytes - evictable.size_bytes
        return placement.reject(code, reason, max(missing_bytes / GIB + beside_gb, 0.0))

    def _has_too_many_models(self, placement: Placement) -> Rejection:
        """The rejection of a machine with the most models it may hold, none of which can be evicted."""
        state = placement.state
        reason = (
            f"it holds at most {state.machine.max_loaded_models} models at a time,"
            " and each of them is leased or in use"
        )
        by_end = sorted((*placement.leases, *placement.unseen), key=lambda lease: lease.ends_in_s)
        for ended, lease in enumerate(by_end, 1):
            rest = by_end[ended:]
            if evictions_needed(state, rest) <= len(idle_models(placement, rest)):
                return placement.reject_until(reason, lease.ends_in_s)
        return placement.reject(RejectionCode.BUSY, reason, retry_after_s=self._fleet.interval_s)


_FITS_BEST_FIRST = ("free", "after_eviction", "unknown")
_REASONS = {
    "free": "it can load it into free memory",
    "after_eviction": "it can load it after evicting {}",
    "unknown": "it may be able to load it (how much memory is needed or free is unknown)",
}


def _ready_in(seconds: float | None) -> str:
    return "" if seconds is None else f", ready in about {max(round(seconds), 1)} s"


def _gib(size_bytes: int) -> str:
    return f"{round(size_bytes / GIB, 2)}"
