"""Which machine to use: GET /api/route, and the advice in answers of POST /api/leases."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from machines_server.contract.encoding import encode
from machines_server.contract.units import Count, Gib, Moment, Port, Seconds, gib
from machines_server.core.routing.answer import (
    Candidate,
    EstimateSource,
    Fits,
    Ranking,
    Rejection,
    RejectionCode,
)
from machines_server.core.routing.leases import Warmth
from machines_server.core.text import clip, printable
from machines_server.errors import NoMachineError

MAX_REJECTION_CHARACTERS = 500
"""The limit for a reason, which may quote requests, files and hosts."""

Reason = Annotated[str, Meta(description="One sentence for people.")]


class CandidateMachine(Struct, frozen=True, gc=False):
    """A machine that is fit; the keys after `reason` are absent unless it has to load the model."""

    name: str
    hostname: str
    port: Port
    url: str
    """Of its Ollama, with scheme and the path of a proxy, if any."""
    credential: str | None
    """The name of the credential that requests to it need; null if none."""
    model: str | None
    """The name to send to its Ollama; null if no model was asked for."""
    warm: bool | None
    """Whether the model is in memory: its `warmth` is warm or half_warm. Null if no model was asked for."""
    warmth: Warmth | None
    """Null if no model was asked for."""
    free_vram_gb: Gib | None
    """What leases leave free on its best GPU; null if unknown."""
    leases: Count
    """How many leases are on it."""
    sampled_at: Moment | None
    """When its memory was measured; null if never."""
    reason: Reason
    fits: Fits | UnsetType = UNSET
    needs_gb: Gib | UnsetType | None = UNSET
    """How much memory the model will take; null if unknown."""
    needs_from: EstimateSource | UnsetType = UNSET
    reclaimable_vram_gb: Gib | UnsetType | None = UNSET
    """How much memory evicting idle models would free; null if that was not requested."""
    evicts: Sequence[str] | UnsetType = UNSET
    """The models that would have to be evicted."""
    load_s: Seconds | UnsetType | None = UNSET
    """How long loading takes, to a tenth; null if unknown."""
    load_from: EstimateSource | UnsetType = UNSET
    load_uncertainty_s: Seconds | UnsetType | None = UNSET
    """How much too long a learned `load_s` may be; null if not learned."""


class RejectedMachine(Struct, frozen=True, gc=False):
    """A machine that is not fit, and why."""

    name: str
    code: RejectionCode
    reason: Reason


class Best(Struct, frozen=True, kw_only=True):
    """The machine to use, the first candidate."""

    machine: str
    """Its name."""
    hostname: str
    port: Port
    url: str
    """Of its Ollama, with scheme and the path of a proxy, if any."""
    credential: str | None
    """The name of the credential that requests to it need; null if none."""
    model: str | None
    """The name to send to its Ollama; null if no model was asked for."""
    warm: bool | None
    """Whether the model is in memory; null if no model was asked for."""


class Route(Best, frozen=True, kw_only=True):
    """GET /api/route: the machine to use, and every other machine."""

    candidates: Sequence[CandidateMachine]
    """Best first."""
    rejected: Sequence[RejectedMachine]
    """Nearest miss first."""


class NoMachine(Struct, frozen=True, kw_only=True):
    """No machine is fit."""

    error: Literal["no_machine"] = "no_machine"
    message: str
    """A sentence for people that says what to do."""
    rejected: Sequence[RejectedMachine]
    """Nearest miss first."""
    retry_after_s: Seconds | None
    """When retrying may help, also the header Retry-After; null if it will not."""
    did_you_mean: Sequence[str]
    """Similar names, the closest first; empty unless no machine has the model."""


_CandidateJson = tuple[Candidate, bytes]
"""A candidate and its JSON."""


class RouteJson:
    """The JSON of a ranking that has candidates, which may be given in several orders."""

    def __init__(self, ranking: Ranking, before: "RouteJson | None" = None) -> None:
        """The JSON of an earlier ranking, `before`, saves work: what has not changed is taken from it."""
        known: Mapping[str, _CandidateJson] = before._known if before else {}
        self._known: Mapping[str, _CandidateJson] = {
            one.state.machine.name: _known_json(one, known) for one in ranking.candidates
        }
        self._candidates = ranking.candidates
        self._jsons = [json for _, json in self._known.values()]
        self._rejected_json = encode([rejected_machine(one) for one in ranking.rejected])
        self.size_bytes = sum(map(len, self._jsons)) + len(self._rejected_json)
        """The size of the parts."""

    def of(self, places: Sequence[int]) -> bytes:
        """The JSON of a Route with the candidates at those places, in that order."""
        first = self._candidates[places[0]]
        machine = first.state.machine
        best = Best(
            machine=machine.name,
            hostname=machine.hostname,
            port=machine.port,
            url=machine.url,
            credential=machine.credential,
            model=first.model,
            warm=first.is_warm,
        )
        # Joined once: an answer about a thousand machines has 300 kB.
        parts = [self._jsons[place] for place in places]
        parts[0] = b'%s,"candidates":[%s' % (encode(best)[:-1], parts[0])
        parts[-1] = b'%s],"rejected":%s}' % (parts[-1], self._rejected_json)
        return b",".join(parts)


def _known_json(candidate: Candidate, known: Mapping[str, _CandidateJson]) -> _CandidateJson:
    one = known.get(candidate.state.machine.name)
    return one if one and one[0] is candidate else (candidate, encode(candidate_machine(candidate)))


def no_machine(error: NoMachineError) -> NoMachine:
    """The answer when no machine is fit."""
    return NoMachine(
        message=printable(str(error)),
        rejected=[rejected_machine(one) for one in error.rejected],
        retry_after_s=error.retry_after_s,
        did_you_mean=error.did_you_mean,
    )


def candidate_machine(candidate: Candidate) -> CandidateMachine:
    """A candidate in the units of the API."""
    machine, warmth, load = candidate.state.machine, candidate.warmth, candidate.load
    # In the order of the fields: msgspec takes four times as long to match as many names.
    always = (
        machine.name,
        machine.hostname,
        machine.port,
        machine.url,
        machine.credential,
        candidate.model,
        candidate.is_warm,
        warmth,
        candidate.free_vram_gb,
        candidate.leases,
        candidate.state.sampled_at_text,
        reason_text(candidate.reason),
    )
    if load is None:
        return CandidateMachine(*always)
    return CandidateMachine(
        *always,
        fits=load.fits,
        needs_gb=gib(load.needs_bytes),
        needs_from=load.needs_from,
        reclaimable_vram_gb=gib(load.reclaimable_bytes),
        evicts=load.evicts,
        load_s=_tenths(load.load_s),
        load_from=load.load_from,
        load_uncertainty_s=_tenths(load.load_uncertainty_s),
    )


def rejected_machine(rejection: Rejection) -> RejectedMachine:
    """A rejection as the API returns it."""
    return RejectedMachine(rejection.name, rejection.code, reason_text(rejection.reason))


def reason_text(reason: str) -> str:
    """A reason shortened and made safe to print, since others may have written parts of it."""
    return printable(clip(reason, MAX_REJECTION_CHARACTERS))


def _tenths(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 1)
