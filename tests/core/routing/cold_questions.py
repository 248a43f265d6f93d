"""Questions for a model that no machine has in memory, and what it takes."""

from typing import Any

from machines_server.core.model_names import model_key
from machines_server.core.routing.answer import Candidate, LoadEstimate, Ranking
from machines_server.core.sample import GIB, ModelSize
from tests.core.routing.fleets import NOW
from tests.core.routing.fleets import ask as ask_fleet

QWEN = "qwen2.5:32b"
KEY = model_key(QWEN)


def took(gb: float, *, context: int | None = 8192, age_s: float = 0, **changes: Any) -> ModelSize:
    """What the model took somewhere before."""
    values: dict[str, Any] = {"model": QWEN, "digest": None, "context_length": context}
    size = {"size_bytes": round(gb * GIB), "size_vram_bytes": None, "seen_at": NOW - age_s}
    return ModelSize(**values | size | changes)


def ask(*args: Any, **changes: Any) -> Ranking:
    question: dict[str, Any] = {"model": QWEN, "cold": True}
    return ask_fleet(*args, **question | changes)


def load_of(candidate: Candidate) -> LoadEstimate:
    assert candidate.load is not None
    return candidate.load


def gbs(candidate: Candidate) -> dict[str, float]:
    return {share.of: share.size_bytes / GIB for share in candidate.shares}
