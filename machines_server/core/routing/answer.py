"""The answer to a question: fit machines, best first, and why the others are not fit."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Literal, NamedTuple, Self

from machines_server.core.memory import Share
from machines_server.core.routing.leases import Warmth
from machines_server.core.sample import Library
from machines_server.core.state import MachineState

EstimateSource = Literal["learned", "learned_elsewhere", "estimated", "unknown"]
Fits = Literal["free", "after_eviction", "unknown"]


class RejectionCode(StrEnum):
    """Why a machine is not fit, with a `meaning` for docs/routing.md; the nearest miss comes first."""

    meaning: str
    nearness: int
    """0 for the nearest miss."""

    def __new__(cls, code: str, meaning: str) -> Self:
        """Number the codes in the order in which they are listed."""
        member = str.__new__(cls, code)
        member._value_ = code
        member.meaning, member.nearness = meaning, len(cls.__members__)
        return member

    LEASED = "leased", "leases hold what the request needs"
    LOADING = "loading", "the model is being loaded there for a lease"
    BUSY = "busy", "its Ollama is busy"
    NOT_ENOUGH_VRAM = "not_enough_vram", "too little free GPU memory"
    NOT_ENOUGH_RAM = "not_enough_ram", "too little free RAM"
    VRAM_UNKNOWN = "vram_unknown", "how much GPU memory is free is unknown"
    RAM_UNKNOWN = "ram_unknown", "how much RAM is free is unknown"
    WHERE = "where", "its file lacks a requested value"
    TAG = "tag", "it lacks a tag"
    ROLE = "role", "it has another role"
    MODEL_NOT_LOADED = "model_not_loaded", "the model is not in its memory"
    MODEL_NOT_THERE = "model_not_there", "the model is neither declared for it nor on its disk"
    OLLAMA_ERROR = "ollama_error", "its Ollama gave an answer that cannot be used"
    OLLAMA_UNREACHABLE = "ollama_unreachable", "its Ollama cannot be reached"
    NO_OLLAMA = "no_ollama", "no Ollama is declared for it"
    DEGRADED = "degraded", "its sidecar does not answer"
    UNKNOWN = "unknown", "its current state is unknown"
    OFFLINE = "offline", "it does not answer"
    EXCLUDED = "excluded", "the request excludes it"


class Rejection(NamedTuple):
    """Why a machine is not fit; `missing` is by how much, to sort near misses first."""

    name: str
    code: RejectionCode
    reason: str
    missing: float = 0.0
    retry_after_s: float | None = None
    """How many seconds until it may be fit; None if waiting does not help."""


class LoadEstimate(NamedTuple):
    """The cost of loading a model on a machine, and the source of each figure; None is unknown."""

    fits: Fits
    needs_bytes: int | None
    needs_from: EstimateSource
    reclaimable_bytes: int | None
    evicts: tuple[str, ...]
    load_s: float | None
    load_from: EstimateSource
    load_uncertainty_s: float | None = None
    """How much shorter the load may be, since a poll sees a model up to one interval late."""


class Candidate(NamedTuple):
    """A fit machine, its free memory, and what a lease on it would promise.

    `model` and `warmth` are None if no model is asked for.
    """

    state: MachineState
    model: str | None
    digest: str | None
    warmth: Warmth | None
    free_vram_gb: float | None
    leases: int
    reason: str
    shares: tuple[Share, ...]
    preference: tuple[Any, ...]
    """Compared first among the candidates for one question, then `leases`, then `tiebreak`; least is best."""
    tiebreak: tuple[Any, ...]
    load: LoadEstimate | None = None

    @property
    def is_warm(self) -> bool | None:
        """Whether the model is in memory; None if no model is asked for."""
        return self.warmth.is_in_memory if self.warmth else None


class Evaluated(NamedTuple):
    """The result for a machine, what it is based on, and when it may change although that does not."""

    result: Candidate | Rejection
    state: MachineState
    library: Library | None
    held_since: Mapping[str, float] | None
    changes_at: float
    """Epoch seconds."""


class Evaluations(NamedTuple):
    """The result for each machine `at` (epoch seconds), by name; `basis` is what all results depend on.

    `warm` has the results for the model in memory; `cold` those with loading allowed, if it was tried.
    """

    basis: tuple[Any, ...] = ()
    at: float = 0.0
    warm: Mapping[str, Evaluated] = MappingProxyType({})
    cold: Mapping[str, Evaluated] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Ranking:
    """Candidates, best first; rejections, nearest miss first; when to ask again, None if that is no use.

    `evaluations` save work when the question is asked again.
    """

    candidates: Sequence[Candidate]
    rejected: Sequence[Rejection]
    retry_after_s: float | None = None
    evaluations: Evaluations = field(default=Evaluations(), compare=False, repr=False)


def format_gb(amount_gb: float | None) -> str:
    """An amount of GiB for people, as precise as in the question: 4.0, 0.25."""
    return str(round(amount_gb or 0.0, 6))
