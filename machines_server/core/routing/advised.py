"""The latest advice, remembered so that callers without leases do not all go to one machine."""

from typing import NamedTuple

from machines_server.core.routing.answer import Candidate
from machines_server.core.routing.fleet import Fleet
from machines_server.core.routing.leases import Warmth, listed_name
from machines_server.core.routing.question import Question


class Advice(NamedTuple):
    """A machine that was advised for a model at `at` (epoch seconds).

    It has to load that model for `loads_s`, unless that is None. Advice of another process comes without the
    question and its holder.
    """

    machine: str
    model: str
    at: float
    loads_s: float | None = None
    question: Question | None = None
    holder: str = ""

    @classmethod
    def of(cls, question: Question, candidate: Candidate, holder: str, now: float) -> "Advice":
        """The advice to use that candidate."""
        loads_s = None
        if candidate.load and candidate.warmth in (Warmth.COLD, Warmth.LOADING):
            loads_s = candidate.load.load_s or 0.0
        return cls(candidate.state.machine.name, question.model, now, loads_s, question, holder)


def still_counts(advice: Advice, fleet: Fleet, now: float) -> bool:
    """Return whether no sample of its machine reflects the advice yet.

    A sample does if it came later and, where a model has to be loaded, shows that. None counts longer than a
    polling interval, or than loading the model takes.
    """
    state = fleet.state_of(advice.machine)
    if state is None or not advice.at <= now < ends_at(advice, fleet):
        return False
    if advice.loads_s is not None:
        return listed_name(advice.model, None, state.models) is None
    return state.ollama_seen_at is None or state.ollama_seen_at <= advice.at


def ends_at(advice: Advice, fleet: Fleet) -> float:
    """When advice counts no longer, whatever samples show (epoch seconds)."""
    return advice.at + max(fleet.interval_s, advice.loads_s or 0.0)
