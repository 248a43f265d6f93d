"""Which machine to use for a model, and why not the others.

A machine that holds the model in memory comes before all that would have to load it: that takes 10 to 60 s.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from math import ceil

from machines_server.core.advice import Advice, Ask, Candidate, Rejection, gb
from machines_server.core.cold import Cold
from machines_server.core.fleet import Fleet
from machines_server.core.leases import Lease, Warmth
from machines_server.core.live import Live
from machines_server.core.loading import LoadTime
from machines_server.core.model_names import model_key, same_model
from machines_server.core.sample import LoadedModel, State
from machines_server.core.spot import Spot, unfit, unreachable

EXPIRES_SOON_S = 30.0
"""A model that leaves within so long may be gone when the request comes."""

NEAREST_FIRST = (
    "leased",
    "loading",
    "busy",
    "not_enough_vram",
    "not_enough_ram",
    "vram_unknown",
    "where",
    "tag",
    "role",
    "model_not_loaded",
    "model_not_there",
    "ollama_error",
    "ollama_unreachable",
    "no_ollama",
    "degraded",
    "unknown",
    "offline",
    "excluded",
)
"""The codes of rejections, the nearest miss first."""
_NEARNESS = {code: rank for rank, code in enumerate(NEAREST_FIRST)}


def advise(
    ask: Ask, fleet: Fleet, leases: Sequence[Lease], load_times: Sequence[LoadTime], now: float
) -> Advice:
    """Rank a fleet for a question; `now` in epoch seconds.

    Machines that hold the model: truly warm before half warm, then those with VRAM to spare, then fewest
    leases, then most free VRAM on one GPU, then by name. Without any, if the question allows it, those that
    can load it: into free memory, by evicting, not known whether; with a GPU first, then the shortest load.
    """
    router = _Router(ask, fleet, leases, load_times, now)
    found = [router.evaluate(live) for live in fleet.lives]
    if ask.cold and not any(isinstance(one, Candidate) for one in found):
        found = [router.evaluate_cold(live, one) for live, one in zip(fleet.lives, found, strict=True)]
    candidates = sorted((one for one in found if isinstance(one, Candidate)), key=lambda one: one.order)
    rejected = [one for one in found if isinstance(one, Rejection)]
    if candidates:
        return Advice(candidates, sorted(rejected, key=_nearness))
    far = router.would_not_do_either()
    rejected.sort(key=lambda one: (one.name in far, *_nearness(one)))
    waits = [one.retry_after_s for one in rejected if one.retry_after_s is not None]
    return Advice((), rejected, max(ceil(min(waits)), 1) if waits else None)


def _nearness(one: Rejection) -> tuple[int, float, str]:
    return _NEARNESS[one.code], one.missing, one.name


class _Router:
    """One question to one fleet."""

    def __init__(
        self,
        ask: Ask,
        fleet: Fleet,
        leases: Sequence[Lease],
        load_times: Sequence[LoadTime],
        now: float,
    ) -> None:
        self._ask, self._fleet, self._now = ask, fleet, now
        self._rest = fleet, leases, load_times, now
        key = model_key(ask.model)
        self._holders = fleet.holders(key)
        self._cold = Cold(ask, key, fleet, load_times)
        self._leases: dict[str, list[Lease]] = {}
        for lease in leases:
            self._leases.setdefault(lease.machine.casefold(), []).append(lease)

    def evaluate(self, live: Live) -> Candidate | Rejection:
        """A machine that holds the model, or why it is not fit."""
        if miss := unfit(self._ask, live) or unreachable(live, self._fleet.known_in_s):
            return miss
        model = self._holders.get(live.machine.name)
        if model is None:
            return self._not_loaded(live)
        spot = self._spot(live)
        return spot.lacks_vram(self._ask.min_free_vram_gb) or self._warm(spot, model)

    def evaluate_cold(self, live: Live, found: Candidate | Rejection) -> Candidate | Rejection:
        """A machine that could load the model; what else keeps it from being fit stands as it was found."""
        if isinstance(found, Rejection) and found.code in ("model_not_loaded", "loading"):
            return self._cold.evaluate(self._spot(live))
        return found

    def would_not_do_either(self) -> set[str]:
        """The machines that more than their file keeps from being fit."""
        if not (self._ask.role is not None or self._ask.tags or self._ask.where):
            return set()
        other = _Router(replace(self._ask, role=None, tags=(), where=()), *self._rest)
        far = set()
        for live in self._fleet.lives:
            if unfit(self._ask, live):
                found = other.evaluate(live)
                if self._ask.cold:
                    found = other.evaluate_cold(live, found)
                if isinstance(found, Rejection):
                    far.add(live.machine.name)
        return far

    def _not_loaded(self, live: Live) -> Rejection:
        name, could_load = live.machine.name, self._cold.could_load(live)
        if self._leases_on(live) and (lease := self._cold.loading(spot := self._spot(live))):
            ready_s = self._cold.ready_in_s(spot, lease)
            retry_s = self._fleet.interval_s if ready_s is None else ready_s
            return spot.rejected("loading", "it is being loaded there for a lease", retry_s, retry_s)
        if live.ollama is State.BUSY and could_load:
            reason = "its Ollama is busy: it usually loads a model then"
            return Rejection(name, "busy", reason, retry_after_s=self._fleet.interval_s)
        if could_load:
            return Rejection(name, "model_not_loaded", _COULD_LOAD)
        return Rejection(name, "model_not_loaded", _CANNOT_LOAD, 1.0)

    def _warm(self, spot: Spot, model: LoadedModel) -> Candidate:
        ask, live = self._ask, spot.live
        free = spot.memory.free_vram_gb
        half = [*self._half_warm(spot, model)]
        where = "in memory" if spot.memory.gpus is None else f"in memory, {gb(free)} GiB free on its best GPU"
        if spot.memory.gpus == ():
            where = "in memory of a host without GPU"
        stored = self._fleet.stored(live, model_key(ask.model))
        is_known_there = same_model(ask.model, model.model) or stored is not None
        return Candidate(
            live=live,
            model=ask.model if is_known_there else model.model,
            digest=model.digest,
            warmth=Warmth.HALF_WARM if half else Warmth.WARM,
            free_vram_gb=free,
            leases=len(spot.leases),
            reason=f"{where}, but {' and '.join(half)}" if half else where,
            shares=spot.memory.reserve(ask.min_free_vram_gb),
            order=(bool(half), not free, len(spot.leases), -(free or 0), spot.name),
        )

    def _half_warm(self, spot: Spot, model: LoadedModel) -> Iterator[str]:
        """What keeps a model that is in memory from being truly warm."""
        if spot.memory.gpus != () and model.processor != "100% GPU":
            unknown = model.processor == "unknown"
            yield "how much of it is on a GPU is not known" if unknown else f"it runs {model.processor}"
        wants = self._ask.min_context
        if wants and model.context_length is None:
            yield "its context is not known"
        elif wants and model.context_length is not None and model.context_length < wants:
            yield f"with a context of {model.context_length}, so that it would be loaded anew"
        expires_s = spot.expires_in_s(model)
        if expires_s is not None and expires_s < 0:
            yield "it is at work"
        elif expires_s is not None and expires_s < EXPIRES_SOON_S:
            yield f"it leaves in {round(expires_s)} s"
        if spot.live.ollama is State.BUSY:
            yield "its Ollama is busy"

    def _spot(self, live: Live) -> Spot:
        return Spot(live, self._leases_on(live), self._fleet.since(live), self._now)

    def _leases_on(self, live: Live) -> Sequence[Lease]:
        return self._leases.get(live.machine.name.casefold(), ())


_COULD_LOAD = "the model is not in its memory; with cold=true it could load it"
_CANNOT_LOAD = "the model is not in its memory, and is neither declared for it nor on its disk"
