"""The question that an agent asks, and the answer: who can do it, in which order, and why not the others."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from machines_server.core.leases import Warmth
from machines_server.core.live import Live
from machines_server.core.memory import Share
from machines_server.core.sample import GIB


@dataclass(frozen=True, slots=True)
class Ask:
    """A model, and what a machine must offer to be fit for it.

    `exclude` has case-folded names; `where` are paths into the machine's file with the value that must stand
    there; `cold` allows a machine that must load the model first.
    """

    model: str
    min_free_vram_gb: float = 0.0
    min_context: int = 0
    role: str | None = None
    tags: tuple[str, ...] = ()
    exclude: frozenset[str] = frozenset()
    where: tuple[tuple[str, str], ...] = ()
    cold: bool = False


class Rejection(NamedTuple):
    """Why a machine is not fit; `missing` is by how much, so that the nearest miss can come first."""

    name: str
    code: str
    reason: str
    missing: float = 0.0
    retry_after_s: float | None = None

    def as_json(self) -> dict[str, Any]:
        """In the form of the API."""
        return {"name": self.name, "code": self.code, "reason": self.reason}


class Load(NamedTuple):
    """What it takes to load a model on a machine, each with how we know it; None is unknown."""

    fits: str
    needs_bytes: int | None
    needs_from: str
    reclaimable_bytes: int | None
    evicts: tuple[str, ...]
    load_s: float | None
    load_from: str


class Candidate(NamedTuple):
    """A machine that is fit, what is free there, and what a lease would promise of it."""

    live: Live
    model: str
    digest: str | None
    warmth: Warmth
    free_vram_gb: float | None
    leases: int
    reason: str
    shares: tuple[Share, ...]
    order: tuple[Any, ...]
    """Its place among the candidates for the same question: the least comes first."""
    load: Load | None = None

    def as_json(self) -> dict[str, Any]:
        """In the form of the API."""
        machine = self.live.machine
        body = {
            "name": machine.name,
            "hostname": machine.hostname,
            "port": machine.port,
            "url": machine.url,
            "model": self.model,
            "warm": self.warmth in (Warmth.WARM, Warmth.HALF_WARM),
            "warmth": self.warmth,
            "free_vram_gb": self.free_vram_gb,
            "leases": self.leases,
            "sampled_at": self.live.sampled_at_text,
            "reason": self.reason,
        }
        return body | _load_as_json(self.load) if self.load else body


@dataclass(frozen=True, slots=True)
class Advice:
    """Candidates, best first; rejections, nearest miss first; when to ask again if waiting can help."""

    candidates: Sequence[Candidate]
    rejected: Sequence[Rejection]
    retry_after_s: float | None = None


def stands_at(declared: Any, path: str) -> Iterator[Any]:
    """The values at a dotted path of a machine's file; a list stands for each of its entries."""
    if isinstance(declared, list):
        for one in declared:
            yield from stands_at(one, path)
    elif not path:
        yield declared
    elif isinstance(declared, Mapping):
        for key, value in declared.items():
            if path == key or path.startswith(f"{key}."):
                yield from stands_at(value, path[len(key) + 1 :])


def as_text(value: Any) -> str:
    """A value of a machine's file as one writes it in a query: true, 128, warsaw."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _load_as_json(load: Load) -> dict[str, Any]:
    return {
        "fits": load.fits,
        "needs_gb": as_gb(load.needs_bytes),
        "needs_from": load.needs_from,
        "reclaimable_vram_gb": as_gb(load.reclaimable_bytes),
        "evicts": list(load.evicts),
        "load_s": None if load.load_s is None else round(load.load_s, 1),
        "load_from": load.load_from,
    }


def as_gb(size_bytes: int | None) -> float | None:
    """Bytes as the API says them: GiB, to two decimals."""
    return None if size_bytes is None else round(size_bytes / GIB, 2)


def gb(amount: float | None) -> str:
    """An amount of GiB for people: 4.0, 0.25; as exact as it was asked for."""
    return str(round(amount or 0.0, 6))
