"""Helpers to reserve leases in tests."""

from collections.abc import Sequence
from typing import Any

from machines_server.core.routing.answer import Candidate
from machines_server.core.routing.fleet import Fleet
from machines_server.core.routing.leases import Lease
from machines_server.core.routing.question import Question
from machines_server.core.routing.ranking import evaluated_again
from machines_server.errors import NoMachineError
from machines_server.store.api import Leases
from machines_server.store.values import LeaseRequest, LeaseSnapshot
from tests.core.routing.fleets import LLAMA, NOW, a_fleet, a_live, a_model, ask

WARM = a_fleet(a_live("one", [10], [a_model()]))
COLD = a_fleet(a_live("one", [24], declares=[LLAMA]))


class First:
    """Chooses the best machine of a fleet in view of all leases; implements Chooser."""

    def __init__(self, fleet: Fleet, **question: Any) -> None:
        self._fleet, self._question = fleet, question

    def candidates(self, known: LeaseSnapshot) -> Sequence[Candidate]:
        leases = *known.leases, *known.released
        found = ask(self._fleet, *leases, load_times=known.load_times, **self._question)
        if not found.candidates:
            raise NoMachineError("none is fit", found.rejected, None)
        return found.candidates

    def again(self, candidate: Candidate, on_host: LeaseSnapshot) -> Candidate | None:
        leases = *on_host.leases, *on_host.released
        question = Question(**{"model": LLAMA, **self._question})
        result = evaluated_again(candidate, question, self._fleet, leases, on_host.load_times, NOW)
        return result if isinstance(result, Candidate) else None


def reserve(
    leases: Leases,
    fleet: Fleet = WARM,
    *,
    ttl_s: float = 60,
    key: str | None = None,
    text: str = "t",
    holder: str = "me",
    address: str = "192.0.2.1",
    **question: Any,
) -> Lease:
    request = LeaseRequest(holder, ttl_s, address, key, text.encode())
    return leases.reserve(fleet, request, First(fleet, **question))
