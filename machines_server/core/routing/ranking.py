"""Which machine to use for a model, and why the others are not fit.

Machines with the model in memory come before those that would have to load it, which takes 10 to 60 s.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from math import ceil

from machines_server.core.memory import Memory
from machines_server.core.model_names import model_key
from machines_server.core.routing.answer import (
    Candidate,
    Evaluated,
    Evaluations,
    Ranking,
    Rejection,
    RejectionCode,
    format_gb,
)
from machines_server.core.routing.cold import ColdEvaluation
from machines_server.core.routing.fleet import Fleet
from machines_server.core.routing.leases import Lease, Warmth
from machines_server.core.routing.loading import LoadTime
from machines_server.core.routing.placement import (
    EXPIRES_SOON_S,
    Placement,
    expiry_changes_at,
    is_in_use,
    unavailable,
)
from machines_server.core.routing.preference import best_first
from machines_server.core.routing.promised_memory import PromisedMemory
from machines_server.core.routing.question import Question, mismatch
from machines_server.core.routing.versions import name_to_request, version_of
from machines_server.core.sample import LoadedModel, State
from machines_server.core.state import MachineState


def rank(
    question: Question,
    fleet: Fleet,
    leases: Sequence[Lease],
    load_times: Sequence[LoadTime],
    now: float,
    before: Ranking | None = None,
    pause: Callable[[], object] = bool,
) -> Ranking:
    """Rank the machines of a fleet for a question; `now` in epoch seconds.

    Machines with the model in memory are ordered by warmth, free VRAM or none, fewest leases, most free VRAM
    on one GPU, and name. If there are none and the question allows it, machines that can load the model are
    ordered by how it fits (free memory, eviction, unknown), with a GPU first, then by load time.

    An earlier ranking, `before`, saves work: machines for which nothing has changed are not evaluated again.
    `pause` is called after each one that is.
    """
    ranker = _Ranker(question, fleet, leases, load_times, now, pause)
    known = before.evaluations if before else Evaluations()
    if known.basis != ranker.basis or known.at > now:
        known = Evaluations()
    warm = evaluated = ranker.evaluated(known.warm, ranker.evaluate)
    cold: Mapping[str, Evaluated] = {}
    if question.cold and not any(isinstance(one.result, Candidate) for one in warm.values()):
        cold = evaluated = ranker.evaluated(
            known.cold, lambda state: ranker.evaluate_cold(state, warm[state.machine.name].result)
        )
    evaluations = Evaluations(ranker.basis, now, warm, cold)
    results = [one.result for one in evaluated.values()]
    candidates = best_first(
        [result for result in results if isinstance(result, Candidate)], model_key(question.model)
    )
    rejected = [result for result in results if isinstance(result, Rejection)]
    if candidates:
        return Ranking(candidates, sorted(rejected, key=_nearest_first), evaluations=evaluations)
    unfit_anyway = ranker.unfit_without_file_constraints()
    rejected.sort(key=lambda rejection: (rejection.name in unfit_anyway, *_nearest_first(rejection)))
    waits = [rejection.retry_after_s for rejection in rejected if rejection.retry_after_s is not None]
    return Ranking((), rejected, max(ceil(min(waits)), 1) if waits else None, evaluations)


def evaluated_again(
    candidate: Candidate,
    question: Question,
    fleet: Fleet,
    leases: Sequence[Lease],
    load_times: Sequence[LoadTime],
    now: float,
) -> Candidate | Rejection:
    """A candidate of `rank` given other leases; those on its host are enough."""
    ranker = _Ranker(question, fleet, leases, load_times, now)
    result = ranker.evaluate(candidate.state)
    may_load = question.cold and candidate.is_warm is False
    return ranker.evaluate_cold(candidate.state, result) if may_load else result


def _nearest_first(rejection: Rejection) -> tuple[int, float, str]:
    return rejection.code.nearness, rejection.missing, rejection.name


class _Ranker:
    """Evaluates the machines of one fleet for one question."""

    def __init__(
        self,
        question: Question,
        fleet: Fleet,
        leases: Sequence[Lease],
        load_times: Sequence[LoadTime],
        now: float,
        pause: Callable[[], object] = bool,
    ) -> None:
        self._pause = pause
        self._question, self._fleet, self._now = question, fleet, now
        self._context = fleet, leases, load_times, now
        self._key = model_key(question.model)
        versions = fleet.versions(self._key)
        self._versions, self._cloud_proxies = versions, fleet.cloud_proxies(self._key)
        self._cold = ColdEvaluation(question, self._key, versions, fleet, load_times)
        self._promised = PromisedMemory(leases, fleet)
        self.basis = (
            question,
            fleet.interval_s,
            fleet.next_poll_s,
            fleet.reserved_bytes,
            fleet.sizes,
            versions,
            load_times,
        )
        """What the evaluation of every machine depends on."""

    def evaluated(
        self, known: Mapping[str, Evaluated], evaluate: Callable[[MachineState], Candidate | Rejection]
    ) -> dict[str, Evaluated]:
        """The result for each machine, by name; taken from `known` where nothing has changed."""
        evaluated = {}
        for state in self._fleet.states:
            one = known.get(state.machine.name)
            if one is None or not self._is_valid(one, state):
                one = self._keep(evaluate(state), state)
                self._pause()
            evaluated[state.machine.name] = one
        return evaluated

    def _is_valid(self, one: Evaluated, state: MachineState) -> bool:
        key = state.machine.name.casefold()
        return (
            one.state is state
            and self._now < one.changes_at
            and one.library is self._fleet.libraries.get(key)
            and one.held_since == self._fleet.held_since.get(key)
            and not self._depends_on_others(state)
        )

    def _keep(self, result: Candidate | Rejection, state: MachineState) -> Evaluated:
        key = state.machine.name.casefold()
        changes_at = self._now if self._depends_on_others(state) else expiry_changes_at(state, self._now)
        libraries, held_since = self._fleet.libraries, self._fleet.held_since
        return Evaluated(result, state, libraries.get(key), held_since.get(key), changes_at)

    def _depends_on_others(self, state: MachineState) -> bool:
        """Return whether the result for that machine depends on leases or on other machines of its host."""
        return bool(self._fleet.others_on_host(state) or self._promised.leases_affecting(state))

    def evaluate(self, state: MachineState) -> Candidate | Rejection:
        """Return the machine as a candidate if it has the model in memory, or why it is not fit."""
        question = self._question
        if rejection := mismatch(question, state.machine) or unavailable(state, self._fleet.next_poll_s):
            return rejection
        placement = self._placement(state)
        return self._unless_taken(placement, self._with_room(placement))

    def _unless_taken(self, placement: Placement, result: Candidate | Rejection) -> Candidate | Rejection:
        """The result, or a rejection if only leases rule out a machine that would be fit."""
        if isinstance(result, Candidate):
            return placement.taken(exclusive=self._question.exclusive) or result
        return result

    def _with_room(self, placement: Placement) -> Candidate | Rejection:
        question, state = self._question, placement.state
        if not question.model:
            return placement.lacks_room(question.headroom) or self._without_model(placement)
        if state.machine.name in self._cloud_proxies:
            return self._cloud_proxy(placement)
        model = self._fleet.held_model(state, self._key, self._versions)
        return self._not_loaded(placement) if model is None else self._loaded(placement, model)

    def _loaded(self, placement: Placement, model: LoadedModel) -> Candidate | Rejection:
        state, fleet, question = placement.state, self._fleet, self._question
        library, since = fleet.library_of(state), fleet.held_since_on(state).get(model.model)
        name = name_to_request(question.model, self._key, model, since, library)
        if name is None:
            return placement.reject(RejectionCode.MODEL_NOT_LOADED, _DELETED)
        digest = model.digest if version_of(model.digest, library) else None
        return placement.lacks_room(question.headroom) or self._warm(placement, model, name, digest)

    def evaluate_cold(self, state: MachineState, result: Candidate | Rejection) -> Candidate | Rejection:
        """The machine as a candidate if it can load the model; else `result`, that of `evaluate`."""
        if isinstance(result, Rejection) and result.code in CURED_BY_LOADING:
            placement = self._placement(state)
            return self._unless_taken(placement, self._cold.evaluate(placement))
        return result

    def unfit_without_file_constraints(self) -> set[str]:
        """The machines that would not be fit even without role, tags and `where` in the question."""
        question = self._question
        if not (question.role is not None or question.tags or question.where):
            return set()
        other = _Ranker(replace(question, role=None, tags=(), where=()), *self._context)
        unfit = set()
        for state in self._fleet.states:
            if mismatch(question, state.machine):
                result = other.evaluate(state)
                if question.cold:
                    result = other.evaluate_cold(state, result)
                if isinstance(result, Rejection):
                    unfit.add(state.machine.name)
        return unfit

    def _not_loaded(self, placement: Placement) -> Rejection:
        could_load, interval_s = self._cold.could_load(placement.state), self._fleet.interval_s
        if lease := self._cold.load_in_progress(placement):
            ready_s = self._cold.ready_in_s(placement, lease)
            retry_s = interval_s if ready_s is None else ready_s
            reason = "it is being loaded there for a lease"
            return placement.reject(RejectionCode.LOADING, reason, retry_s, retry_s)
        if placement.state.ollama is State.BUSY and could_load:
            reason = "its Ollama is busy, usually because it is loading a model"
            return placement.reject(RejectionCode.BUSY, reason, retry_after_s=interval_s)
        if could_load:
            return placement.reject(RejectionCode.MODEL_NOT_LOADED, _COULD_LOAD)
        return placement.reject(RejectionCode.MODEL_NOT_LOADED, _CANNOT_LOAD, 1.0)

    def _without_model(self, placement: Placement) -> Candidate:
        """Return a candidate for work of any kind."""
        is_busy, free = placement.state.ollama is State.BUSY, placement.memory.free_vram_gb
        reason = _free_memory(placement.memory)
        return Candidate(
            state=placement.state,
            model=None,
            digest=None,
            warmth=None,
            free_vram_gb=free,
            leases=len(placement.leases),
            reason=f"{reason}, but its Ollama is busy" if is_busy else reason,
            shares=placement.memory.shares_of(self._question.headroom),
            preference=(is_busy, not free),
            tiebreak=(-(free or 0), placement.name),
        )

    def _cloud_proxy(self, placement: Placement) -> Candidate:
        """A candidate whose model runs in a cloud, so a lease promises no memory."""
        is_busy = placement.state.ollama is State.BUSY
        reason = "it forwards requests for the model to a cloud"
        return Candidate(
            state=placement.state,
            model=self._question.model,
            digest=None,
            warmth=Warmth.HALF_WARM if is_busy else Warmth.WARM,
            free_vram_gb=placement.memory.free_vram_gb,
            leases=len(placement.leases),
            reason=f"{reason}, but its Ollama is busy" if is_busy else reason,
            shares=(),
            preference=(is_busy, False),
            tiebreak=(0, placement.name),
        )

    def _warm(self, placement: Placement, model: LoadedModel, name: str, digest: str | None) -> Candidate:
        memory = placement.memory
        free = memory.free_vram_gb
        drawbacks = [*self._drawbacks(placement, model)]
        reason = "in memory of a host without GPU" if memory.gpus == () else "in memory"
        if memory.gpus:
            reason += f", {_free_memory(memory)}"
        return Candidate(
            state=placement.state,
            model=name,
            digest=digest,
            warmth=Warmth.HALF_WARM if drawbacks else Warmth.WARM,
            free_vram_gb=free,
            leases=len(placement.leases),
            reason=f"{reason}, but {' and '.join(drawbacks)}" if drawbacks else reason,
            shares=memory.shares_of(self._question.headroom),
            preference=(bool(drawbacks), not free),
            tiebreak=(-(free or 0), placement.name),
        )

    def _drawbacks(self, placement: Placement, model: LoadedModel) -> Iterator[str]:
        """What makes a model that is in memory only half warm."""
        on_gpu = model.gpu_fraction
        if placement.memory.gpus != () and on_gpu != 1:
            yield (
                "how much of it is on a GPU is not known" if on_gpu is None else f"it runs {model.processor}"
            )
        min_context = self._question.min_context
        if min_context and model.context_length is None:
            yield "its context is not known"
        elif min_context and model.context_length is not None and model.context_length < min_context:
            yield f"its context of {model.context_length} is too small, so that it would be reloaded"
        expires_in_s = placement.expires_in_s(model)
        if is_in_use(model, expires_in_s):
            yield "it is in use"
        elif expires_in_s is not None and expires_in_s < EXPIRES_SOON_S:
            yield f"it will be unloaded in {round(expires_in_s)} s"
        if placement.state.ollama is State.BUSY:
            yield "its Ollama is busy"

    def _placement(self, state: MachineState) -> Placement:
        return Placement(state, self._promised, self._now)


def _free_memory(memory: Memory) -> str:
    """The free memory of a machine, in words."""
    if memory.gpus:
        return f"{format_gb(memory.free_vram_gb)} GiB free on its best GPU"
    if memory.gpus is None:
        return "its free GPU memory is unknown"
    if memory.free_ram_gb is None:
        return "a host without GPU"
    return f"{format_gb(memory.free_ram_gb)} GiB of RAM free on a host without GPU"


CURED_BY_LOADING = (RejectionCode.MODEL_NOT_LOADED, RejectionCode.LOADING)
"""The rejections of machines that may be fit if they may load the model first."""
_COULD_LOAD = "the model is not in its memory, but declared for it or on its disk"
_DELETED = "the model is in its memory, but was deleted from its disk: its Ollama would not find it"
_CANNOT_LOAD = "the model is not in its memory, and is neither declared for it nor on its disk"
